"""How fast the web page is: `python -m tests.benchmarks.web_page`, on a machine with Chromium.

Prints the time from opening the page to its first plot, and from a publication to its drawing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

from tests.conftest import SyntheticRun
from xpcs_live_denoise.catalog.server import EmbeddedServer
from xpcs_live_denoise.sinks.run import TiledSink

N_FRAMES, N_ROI, STEP, OPENINGS, UPDATES = 400, 5, 10, 4, 10
FIRST_PLOT = """
const done = arguments[0];
const look = () => {
  const plot = window.Bokeh?.documents?.[0]?.get_model_by_name("c2_raw");
  const image = plot?.renderers[0].data_source.data.image;
  if (document.querySelector("#plots.ready") && image?.[0]?.length) {
    requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now())));
  } else setTimeout(look, 10);
};
look();
"""
WATCH = """
window.seen = [];
const source = Bokeh.documents[0].get_model_by_name("c2_raw").renderers[0].data_source;
source.properties.data.change.connect(() => {
  const size = source.data.dw[0];
  requestAnimationFrame(() => window.seen.push([Date.now() / 1000, size]));
});
"""


def browser():
    """Return a headless Chromium."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,1040"):
        options.add_argument(argument)
    return webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))


def measure(driver, address: str, run: SyntheticRun, sink: TiledSink) -> None:
    """Open the page some times, then publish and watch."""
    for opening in range(OPENINGS):
        driver.get(address)
        milliseconds = driver.execute_async_script(FIRST_PLOT)
        print(f"opening {opening + 1}: first plot after {milliseconds / 1000:.2f} s")
    driver.execute_script(WATCH)
    frame_time_s = run.info.frame_time_s
    for start in range(N_FRAMES // 2, N_FRAMES // 2 + UPDATES * STEP, STEP):
        begun = time.time()
        sink.write(run.publication(start, start + STEP))
        written = time.time()
        time.sleep(0.5)
        size, deadline = (start + STEP) * frame_time_s, time.time() + 30
        while size not in (shown := {s: t for t, s in driver.execute_script("return seen")}):
            assert time.time() < deadline, "the update never came"
            time.sleep(0.02)
        print(
            f"{start + STEP} frames: written in {written - begun:.2f} s, "
            f"drawn {shown[size] - written:.2f} s later"
        )


def main() -> None:
    """Start everything, measure, print."""
    print("load of the machine:", *(f"{load:.1f}" for load in os.getloadavg()))
    run = SyntheticRun(n_frames=N_FRAMES, n_expected=N_FRAMES, n_roi=N_ROI)
    with tempfile.TemporaryDirectory() as folder, EmbeddedServer(folder) as server:
        sink = TiledSink(run.info, client=server.client())
        sink.write(run.publication(0, N_FRAMES // 2))
        page = subprocess.Popen(
            [sys.executable, "-m", "xpcs_live_denoise", "view", server.uri, "--no-browser"],
            env={**os.environ, "TILED_API_KEY": server.api_key},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert page.stdout is not None
        driver = browser()
        try:
            measure(driver, page.stdout.readline().split()[-1], run, sink)
        finally:
            driver.quit()
            page.terminate()
            page.wait()


if __name__ == "__main__":
    main()
