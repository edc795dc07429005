"""A followed series that is paused, aborted or stopped, with a real RunEngine."""

import time

import bluesky.plans as bp
import pytest
from bluesky.utils import RunEngineInterrupted

from tests.support.followed_runs import at_frame, changed, eiger, followed, never  # noqa: F401 - a fixture
from tests.support.live_runs import (  # noqa: F401 - two of them are fixtures
    assert_same_result,
    engine,
    offline,
    series,
    subscribe,
)


def test_a_run_that_is_paused_and_resumed_in_the_exposure_says_how_to_replay(
    engine, subscribe, eiger
):
    detector = eiger(series(300), n_frames=100)
    live, sinks = followed(subscribe, detector)
    pausing = at_frame(live, 20, engine.request_pause)
    with pytest.raises(RunEngineInterrupted):
        engine(bp.count([detector]))
    pausing.join()
    (uid,) = engine.resume()
    assert live.wait(30)
    (sink,) = sinks
    assert sink.end.raw_exit_status == "success"
    assert sink.end.analysis_exit_status == "fail"
    assert f"xpcs-live-denoise replay {uid}" in sink.end.reason


def test_an_aborted_run_gives_what_was_written(engine, subscribe, eiger):
    frames = series(200)
    detector = eiger(frames, frame_rate_hz=100)
    live, sinks = followed(subscribe, detector)

    aborting = at_frame(live, 60, lambda: engine.abort("enough"))
    with pytest.raises(RunEngineInterrupted):
        engine(bp.count([detector]))
    aborting.join()
    assert live.wait(30)
    (sink,) = sinks
    n = sink.result.status.n_processed
    assert 60 <= n < 200
    assert_same_result(sink.result, offline(frames[:n]))
    assert sink.end.raw_exit_status == "abort"


def test_a_stopped_run_has_its_last_file_and_says_how_much_was_announced(engine, subscribe, eiger):
    frames, over = series(200), []

    def write_after_the_stop(write, second_frames):
        # The files of a stopped series come when the documents are over.
        deadline = time.monotonic() + 20
        while not over and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.3)
        write(second_frames)
        over.append(2)

    # On a machine that is late the series would have gone on to its third file before the stop.
    files = changed({2: write_after_the_stop, 3: never})
    detector = eiger(frames, images_per_file=50, make_files=files)
    live, sinks = followed(subscribe, detector)
    engine.subscribe(lambda *_: over.append("stop"), "stop")

    def stop():
        with pytest.raises(RunEngineInterrupted):
            engine(bp.count([detector]))
        engine.stop()

    pausing = at_frame(live, 50, engine.request_pause)
    stop()
    pausing.join()
    assert live.wait(30)
    (sink,) = sinks
    assert over == ["stop", 2]
    n = sink.result.status.n_processed
    assert 50 < n <= 100
    assert_same_result(sink.result, offline(frames[:n]))
    assert (sink.end.raw_exit_status, sink.end.analysis_exit_status) == ("success", "success")
    assert sink.end.reason == f"{n} of 200 announced frames came."
