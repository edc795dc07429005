"""The progress bar of a series, with its analysis beside it."""

import threading
import time

import bluesky.plans as bp
from bluesky.run_engine import RunEngine

from tests.support.live_runs import ROIS, SHAPE, composed_run, engine, series, subscribe  # noqa: F401
from xpcs_live_denoise import LiveDenoise, Settings
from xpcs_live_denoise.live.progress import SeriesProgress
from xpcs_live_denoise.simulation import SimulatedClassicEiger, recorded


class Bars:
    """Stands for bluesky's manager: watches what it is given."""

    def __init__(self):
        self.updates = []
        self.cleared = 0

    def __call__(self, status_objs):
        if status_objs is None:
            self.cleared += 1
            return
        for status in status_objs:
            if not status.done:
                status.watch(lambda **update: self.updates.append(update))


def until(condition, deadline_s=20):
    end = time.monotonic() + deadline_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def test_a_series_shows_its_frames_and_how_far_the_analysis_is_behind(tmp_path):
    frames = series(60)
    detector = SimulatedClassicEiger(
        recorded(frames),
        tmp_path,
        name="cam",
        n_frames=60,
        images_per_file=10,
        frame_rate_hz=30,
    )
    live = LiveDenoise(
        Settings(detector="cam", denoise=False, publish_period_s=0.05),
        rois=ROIS,
        sinks=[],
        device=detector,
    )
    bars = Bars()
    run_engine = RunEngine({}, context_managers=[])
    run_engine.subscribe(live)
    run_engine.waiting_hook = SeriesProgress(live, manager=bars)
    run_engine(bp.count([detector]))
    assert live.wait(20)
    counted = [update for update in bars.updates if "current" in update]  # the last says "done"
    of_detector = [update for update in counted if update["name"] == "cam"]
    assert [update["current"] for update in of_detector] == [0, 10, 20, 30, 40, 50, 60]
    assert {update["target"] for update in of_detector} == {60}
    of_analysis = [update for update in bars.updates if "behind" in update["name"]]
    assert of_analysis
    assert of_analysis[-1]["current"] >= 10
    assert bars.cleared
    assert live.close(10)


def test_nothing_is_shown_beside_a_wait_that_has_no_run():
    live = LiveDenoise(Settings(detector="cam"), rois=ROIS, sinks=[])
    bars = Bars()
    hook = SeriesProgress(live, manager=bars)
    hook([])
    hook(None)
    assert bars.updates == []
    assert live.close(5)


def test_the_reports_end_with_the_wait(subscribe):
    live, _ = subscribe()
    uid, send, stop = composed_run(live, shape=SHAPE)
    send(series(3)[0])
    assert until(lambda: uid in live.running)
    bars = Bars()
    hook = SeriesProgress(live, manager=bars)
    hook([])
    assert until(lambda: bars.updates)
    hook(None)
    stop()
    assert live.wait(10)
    assert live.running == {}
    assert until(lambda: not [t for t in threading.enumerate() if t.name == "xpcs progress"], 5)
