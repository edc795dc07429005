"""The web page in a real browser, against a real Tiled server; once from the command line."""

import contextlib
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.support.served_page import Served
from tests.support.tiled_servers import Server
from tests.support.written import end, publish
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
        line = process.stdout.readline()
        assert "XPCS live at" in line, line + process.stdout.read()
        return line.split()[-1]

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


def test_the_page_follows_a_live_run_through_a_restart_to_its_end(
    tmp_path, synthetic, browser, page
):
    run = synthetic(start={"sample": SAMPLE})
    with Server(tmp_path) as server:
        address = page(server)
        browser.get(address)
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
