"""The web page in a real browser, against a real Tiled server; once from the command line."""

import contextlib
import dataclasses
import os
import re
import shutil
import subprocess
import sys
import time
import uuid

import numpy as np
import pytest

from tests.support.served_page import Served
from tests.support.tiled_servers import Server
from tests.support.written import end, publish
from xpcs_live_denoise import views
from xpcs_live_denoise.records.results import Picture
from xpcs_live_denoise.sinks.run import TiledSink

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="no browser: apt-get install chromium chromium-driver"
    ),
]
COMMAND = (sys.executable, "-m", "xpcs_live_denoise", "view")
DEADLINE_S = 120
SAMPLE = "<script>document.title='taken over'</script>gel"
# Under the ROI that the page shows first, the middle one.
PICTURE = Picture(mean=np.full((4, 5), 2.5), labels=np.full((4, 5), 2), binning=1, n_frames=20)


@pytest.fixture(scope="module")
def browser():
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_argument("--window-size=1400,1040")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(caplog):
    """Return a function that serves the page of a server and returns its address."""
    with contextlib.ExitStack() as stack:
        yield lambda server: stack.enter_context(Served(server)).address
        # Not after its end, which cuts off the browser's connection.
        faults = [record for record in caplog.get_records("call") if record.exc_info]
    assert not faults


@pytest.fixture
def command():
    """Return a function that starts the command `view` and returns its address."""
    started = []

    def start(server, *arguments, **variables):
        process = subprocess.Popen(
            [*COMMAND, server.uri, "--no-browser", *arguments],
            env={**os.environ, "TILED_API_KEY": server.api_key, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        told = ""
        for line in process.stdout:  # until it ends: warnings may come first
            told += line
            if "XPCS live at" in line:
                return line.split()[-1]
        raise AssertionError(told)

    yield start
    for process in started:
        process.terminate()
        text = process.communicate(timeout=DEADLINE_S)[0]
        assert "Traceback" not in text, text


def until(browser, condition, told):
    """Wait until what the browser shows meets a condition."""
    from selenium.common.exceptions import JavascriptException

    def met():
        try:
            return condition()
        except JavascriptException:
            return False  # between two pages there is nothing to ask

    deadline = time.monotonic() + DEADLINE_S
    while not met():
        if time.monotonic() > deadline:
            errors = [entry["message"] for entry in browser.get_log("browser")][-5:]
            body = browser.execute_script("return document.body.innerText")
            raise AssertionError(f"{told}: not within {DEADLINE_S} s.\n{body}\n{errors}")
        time.sleep(0.1)


def text(browser, name):
    return browser.execute_script(
        "return document.getElementById(arguments[0])?.innerText ?? ''", name
    )


def entries(browser, plot, glyph=0, column="x"):
    """Return how many entries a column of a plot has (of an image: its edge), as drawn."""
    return browser.execute_script(
        """
        const plot = Bokeh.documents[0]?.get_model_by_name(arguments[0]);
        const data = plot?.renderers[arguments[1]].data_source.data[arguments[2]] ?? [];
        return arguments[2] === "image" ? (data[0]?.shape?.[0] ?? 0) : data.length;
        """,
        *(plot, glyph, column),
    )


class Pointer:
    """The mouse, at places of a plot's frame: fractions from its left and its top."""

    def __init__(self, browser):
        self._browser = browser

    def _at(self, plot, place):
        left, top, width, height = self._browser.execute_script(
            """
            const view = Bokeh.index.find_one(Bokeh.documents[0].get_model_by_name(arguments[0]));
            const { left, top } = view.el.getBoundingClientRect(), frame = view.frame.bbox;
            return [left + frame.left, top + frame.top, frame.width, frame.height];
            """,
            plot,
        )
        return int(left + place[0] * width), int(top + place[1] * height)

    def _perform(self, *steps):
        from selenium.webdriver.common.action_chains import ActionChains

        chain = ActionChains(self._browser, duration=50)
        mouse = chain.w3c_actions.pointer_action
        for step in steps:
            if isinstance(step, str):
                getattr(mouse, step)()
            else:
                mouse.move_to_location(*step)
        chain.perform()

    def move(self, plot, place):
        self._perform(self._at(plot, place))

    def click(self, plot, place):
        self._perform(self._at(plot, place), "click")

    def drag(self, plot, start, end):
        middle = tuple((a + b) / 2 for a, b in zip(start, end, strict=True))
        first, between, last = (self._at(plot, place) for place in (start, middle, end))
        self._perform(first, "pointer_down", between, last, "pointer_up")


def shown_times(browser):
    """Return from when to when raw C2 is shown, s."""
    return browser.execute_script(
        "const { x_range } = Bokeh.documents[0].get_model_by_name('c2_raw');"
        "return [x_range.start, x_range.end]"
    )


def chosen_roi(browser):
    """Return the index of the ROI that is shown."""
    return browser.execute_script("return document.getElementById('roi').selectedIndex")


def keys(browser, *pressed):
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).send_keys(*pressed).perform()


@pytest.mark.soak
def test_the_page_follows_a_live_run_through_a_restart_to_its_end(
    tmp_path, synthetic, browser, page
):
    run = synthetic(start={"sample": SAMPLE})
    with Server(tmp_path) as server:
        address = page(server)
        browser.get(f"{address}?newest")
        until(browser, lambda: "No runs yet" in browser.page_source, "the empty list")
        sink = TiledSink(run.info, client=server.client())
        # It opens by itself: the page shows the newest.
        publish(sink, run.publication(0, 20, picture=PICTURE))
        until(browser, lambda: text(browser, "frames") == "20 of 60 frames", "20 frames")
        until(browser, lambda: entries(browser, "c2_raw", column="image") == 20, "C2 of 20")
        title = f"Scan 7 · {run.raw_uid[:8]} · {SAMPLE}"
        assert text(browser, "title") == title
        assert browser.title == f"{title} – XPCS live"
        publish(sink, run.publication(20, 30))
        until(browser, lambda: entries(browser, "c2_denoised", column="image") == 30, "C2 of 30")
        until(browser, lambda: text(browser, "frames") == "30 of 60 frames", "30 frames")

        server.stop()
        until(browser, lambda: "No connection to the Tiled" in text(browser, "notice"), "a notice")
        assert entries(browser, "c2_raw", column="image") == 30
        server.start()
        publish(sink, run.publication(30, 50))
        until(browser, lambda: not text(browser, "notice"), "no notice")
        until(browser, lambda: entries(browser, "c2_raw", column="image") == 50, "C2 of 50")

        end(sink, run.result())
        until(browser, lambda: text(browser, "state") == "finished", "the end")
        until(browser, lambda: entries(browser, "c2_raw", column="image") == 60, "C2 of 60")
        # Raw rows of the final result, and denoised ones.
        until(browser, lambda: entries(browser, "gamma", glyph=1) == 60, "Gamma of 60 ages")
        until(browser, lambda: entries(browser, "gamma", glyph=3) == 60, "denoised Gamma")
        until(browser, lambda: "2.5 /px/frame" in text(browser, "items"), "counts")
        until(browser, lambda: "150 counts/px" in text(browser, "items"), "the dose")

        browser.get(f"{address}?run={run.raw_uid}")  # a late opener, by the raw run's uid
        until(browser, lambda: entries(browser, "c2_denoised", column="image") == 60, "C2")
        until(browser, lambda: entries(browser, "gamma", glyph=1) == 60, "Gamma(t)")
        until(browser, lambda: text(browser, "frames") == "60 frames", "its frames")
        severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        assert not severe


CUT_OFF = """
const context = document.createElement("canvas").getContext("2d");
const names = arguments[0].filter((name) => {
  const plot = Bokeh.documents[0].get_model_by_name(name), { frame } = Bokeh.index.find_one(plot);
  const { title } = plot, { left, width } = frame.bbox;
  context.font = `bold ${title.text_font_size} ${title.text_font}`;
  const wide = Math.max(...title.text.split("\\n").map((line) => context.measureText(line).width));
  return plot.outer_width > 100 && left + wide > plot.outer_width;  // I(q) is hidden
});
return names;
"""


def test_titles_fit_their_panels_and_legends_hide_no_points(browser, page, tiled_server, synthetic):
    run = synthetic(n_frames=60, n_roi=2, start={"scan_id": 77})
    client = tiled_server.client()
    sink = TiledSink(run.info, client=client)
    end(sink, run.result())
    client.context.close()
    before = browser.get_window_size()
    browser.set_window_size(900, 1000)
    try:
        browser.get(f"{page(tiled_server)}?run={run.raw_uid}")
        until(browser, lambda: entries(browser, "c2_raw", column="image") == 60, "C2")
        names = [*views.PANELS]
        until(browser, lambda: browser.execute_script(CUT_OFF, names) == [], "whole titles")
        below = "return Bokeh.documents[0].get_model_by_name('gamma').below.map((it) => it.type)"
        assert "Legend" in browser.execute_script(below)
    finally:
        browser.set_window_size(before["width"], before["height"])


def test_roi_and_toggle_are_chosen_with_mouse_or_keys(tiled_server, synthetic, browser, page):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    run = synthetic()
    client = tiled_server.client()
    sink = TiledSink(run.info, client=client)
    end(sink, run.result())
    browser.get(f"{page(tiled_server)}?run={run.raw_uid}")

    def title(plot):
        return browser.execute_script(
            "return Bokeh.documents[0].get_model_by_name(arguments[0]).title.text", plot
        )

    until(browser, lambda: entries(browser, "c2_raw", column="image") == 60, "C2")
    assert title("c2_raw") == "Raw C2, ROI 2"  # the middle one
    rois = "return document.getElementById('roi').options.length"
    until(browser, lambda: browser.execute_script(rois) == 2, "two ROIs to choose from")
    body = browser.find_element(By.TAG_NAME, "body")
    body.send_keys(Keys.ARROW_RIGHT)
    until(browser, lambda: title("c2_raw") == "Raw C2, ROI 1", "ROI 1")
    until(browser, lambda: title("gamma") == "Γ(t), ROI 1", "Gamma of ROI 1")
    body.send_keys(Keys.ARROW_RIGHT)
    until(browser, lambda: title("c2_raw") == "Raw C2, ROI 2", "ROI 2 again")
    shown = {
        name: browser.find_element(By.CSS_SELECTOR, f".plot.{name}") for name in ("raw", "denoised")
    }
    body.send_keys("d")
    assert [plot.is_displayed() for plot in shown.values()] == [True, False]
    browser.find_element(By.CSS_SELECTOR, "[value=denoised]").click()
    assert [plot.is_displayed() for plot in shown.values()] == [False, True]
    # News replace the list; the focus stays on the run.
    browser.execute_script("document.querySelector('#runs a').focus()")
    ActionChains(browser).send_keys(Keys.ENTER).perform()
    until(browser, lambda: browser.current_url.endswith(f"?run={sink.uid}"), "a link to the run")
    client.context.close()


@pytest.mark.soak
def test_a_zoom_stays_while_the_run_grows_and_ends_with_the_roi(
    tiled_server, tiled_client, synthetic, browser, page
):
    from selenium.webdriver.common.keys import Keys

    run = synthetic()
    sink = TiledSink(run.info, client=tiled_client)
    publish(sink, run.publication(0, 40))
    browser.get(f"{page(tiled_server)}?run={run.raw_uid}")
    until(browser, lambda: entries(browser, "c2_raw", column="image") == 40, "C2 of 40")
    until(browser, lambda: shown_times(browser) == [0, 20], "all of it")
    Pointer(browser).drag("c2_raw", (0.25, 0.25), (0.75, 0.75))
    until(browser, lambda: shown_times(browser)[0] > 2, "a part of it")
    zoomed = shown_times(browser)
    publish(sink, run.publication(40, 50))
    until(browser, lambda: entries(browser, "c2_raw", column="image") == 50, "C2 of 50")
    assert shown_times(browser) == zoomed
    keys(browser, Keys.ARROW_RIGHT)
    until(browser, lambda: chosen_roi(browser) == 0, "the other ROI")
    until(browser, lambda: shown_times(browser) == [0, 25], "all of the other ROI")
    end(sink, run.result())


@pytest.mark.soak
def test_a_click_chooses_the_roi_and_one_tooltip_tells_the_nearest_point(
    tiled_server, tiled_client, synthetic, browser, page
):
    from selenium.webdriver.common.by import By

    run = synthetic()
    info = dataclasses.replace(run.info, time_unit="frame", q_inv_angstrom=(0.01, 0.02))
    halves = dataclasses.replace(PICTURE, labels=np.repeat([[1, 1, 0, 2, 2]], 4, axis=0))
    sink = TiledSink(info, client=tiled_client)
    end(sink, dataclasses.replace(run.result(), picture=halves, info=info))
    browser.get(f"{page(tiled_server)}?run={run.raw_uid}")
    until(browser, lambda: chosen_roi(browser) == 1, "the middle ROI")
    until(browser, lambda: entries(browser, "gamma", glyph=1) == 60, "Gamma of 60 ages")
    pointer = Pointer(browser)
    pointer.click("detector", (0.1, 0.5))
    until(browser, lambda: chosen_roi(browser) == 0, "the ROI under the pointer")
    browser.find_elements(By.CSS_SELECTOR, "#strip span")[1].click()
    until(browser, lambda: chosen_roi(browser) == 1, "the ROI of the strip")

    def told():
        # Raw and denoised points lie beside each other: one tooltip tells of one of them.
        pointer.move("gamma", (0.5, 0.52))
        pointer.move("gamma", (0.5, 0.5))
        return text(browser, "tip").count("1/frame") == 1

    until(browser, told, "a tooltip")
    assert re.search(r"age \d+(\.\d+)? frames", text(browser, "tip"))
    for _ in range(2):  # to dark and back
        browser.find_element(By.ID, "dark").click()
        until(browser, lambda: edge_is_clean(browser), "no line at the edge of a plot")


def edge_is_clean(browser):
    """Return whether the first pixels of a plot have one colour."""
    first, third = browser.execute_script(
        """
        const plot = Bokeh.documents[0].get_model_by_name("c2_raw");
        const { canvas } = Bokeh.index.find_one(plot).canvas_view.primary;
        const row = Math.round(canvas.height / 2);
        return [0, 2].map((x) => [...canvas.getContext("2d").getImageData(x, row, 1, 1).data]);
        """
    )
    return all(abs(a - b) < 8 for a, b in zip(first[:3], third[:3], strict=True))


@pytest.mark.soak
def test_the_list_is_filtered_by_keys_alone(tiled_server, tiled_client, synthetic, browser, page):
    from selenium.webdriver.common.keys import Keys

    word = uuid.uuid4().hex[:8]
    runs = [synthetic(n_frames=3, n_roi=1, start={"sample": f"gel {word} {k}"}) for k in range(2)]
    sinks = [TiledSink(run.info, client=tiled_client) for run in runs]
    end(sinks[0], runs[0].result(denoised=False))
    info = dataclasses.replace(runs[0].info, analysed_by="replay")
    end(TiledSink(info, client=tiled_client), runs[0].result(denoised=False))
    end(sinks[1], runs[1].result(denoised=False))
    browser.get(f"{page(tiled_server)}?newest")
    until(browser, lambda: word in text(browser, "runs"), "the list")
    keys(browser, "/", word.upper(), " replay")
    until(browser, lambda: text(browser, "found").startswith("1 of "), "one run")
    keys(browser, *[Keys.BACKSPACE] * len(" replay"))
    until(browser, lambda: text(browser, "found").startswith("3 of "), "three runs")
    keys(browser, Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ENTER)
    until(browser, lambda: browser.current_url.endswith(sinks[0].uid), "the third run")
    until(browser, lambda: "live (eiger)" in text(browser, "others"), "both results of the run")
    assert "replay (eiger)" in text(browser, "others")
    keys(browser, "/", Keys.ESCAPE)
    assert not text(browser, "found")


def test_an_unknown_run_is_told_on_the_page(tiled_server, browser, page):
    browser.get(f"{page(tiled_server)}?run=<img src=x onerror=document.title='hit'>")
    until(browser, lambda: "no result in /processed" in text(browser, "error"), "the error")
    assert browser.title == "XPCS live"


def test_a_key_opens_the_page_in_the_browser(tiled_server, browser, command, tmp_path):
    from selenium.webdriver.common.by import By

    key = "visitors have to know this"
    file = tmp_path / "key"
    file.write_text(key + "\n")
    file.chmod(0o600)
    address = command(
        tiled_server, "--host", "0.0.0.0", "--key-file", file, XPCS_VIEW_KEY="another"
    )
    address = address.replace("0.0.0.0", "127.0.0.1")
    browser.get(f"{address}?run=x")
    browser.find_element(By.ID, "key").send_keys(key + "\n")
    until(browser, lambda: "Run x: no result" in text(browser, "error"), "the page")
    browser.delete_all_cookies()
    browser.get(f"{address}?key={key.replace(' ', '+')}&run=x")
    until(browser, lambda: "Run x: no result" in text(browser, "error"), "the page, by a link")
    assert "key" not in browser.current_url
    assert key not in browser.page_source
    assert tiled_server.api_key not in browser.page_source
