"""A followed series that is paused, aborted or stopped, with a real RunEngine."""

import re
import time

import bluesky.plans as bp
import numpy as np
import pytest
from bluesky.utils import RunEngineInterrupted

from tests.support.followed_runs import (  # noqa: F401 - one is a fixture
    at_frame,
    changed,
    eiger,
    followed,
    frames_in,
    never,
    paused,
    pausing,
)
from tests.support.live_runs import (  # noqa: F401 - two of them are fixtures
    assert_same_result,
    engine,
    offline,
    series,
    subscribe,
)


def names_the_left_series(sink, left, taken):
    """Whether the status says which series was left for which."""
    message = sink.end.status.message
    return bool(re.search(rf"_{taken}\b.*_{left}\b.* left out", message))


@pytest.mark.parametrize("whole", [False, True], ids=["broken off", "whole"])
def test_a_run_that_is_paused_and_resumed_has_the_frames_of_the_series_the_event_names(
    engine, subscribe, eiger, tmp_path, whole
):
    detector = eiger(series(300), n_frames=100, make_files=pausing(engine, (1, 3)))
    live, sinks = followed(subscribe, detector)
    paused(lambda: engine(bp.count([detector])))
    while whole and len(list((tmp_path / "raw").glob("*_1_data_*.h5"))) < 5:
        time.sleep(0.05)
    engine.resume()
    assert live.wait(30)
    (sink,) = sinks
    frames = frames_in(tmp_path / "raw", 2)
    assert len(frames) == 100
    assert_same_result(sink.result, offline(frames))
    status = sink.result.status
    assert (status.n_seen, status.n_processed, status.n_skipped) == (100, 100, 0)
    assert sink.end.analysis_exit_status == "success"
    assert names_the_left_series(sink, left=1, taken=2)
    assert live.n_faults == 0


def test_what_was_published_of_a_series_that_is_left_is_taken_back(engine, subscribe, eiger):
    detector = eiger(series(300), n_frames=140)
    live, sinks = followed(subscribe, detector)
    at_frame(live, 80, engine.request_pause)
    paused(lambda: engine(bp.count([detector])))
    engine.resume()
    assert live.wait(30)
    published = sinks[0].publications
    back = next(k for k, one in enumerate(published) if k and np.isnan(one.c2.values).all())
    before, (taken_back, *after) = published[:back], published[back:]
    assert taken_back.n_frames == taken_back.c2.stop == before[-1].n_frames >= 80
    if taken_back.band is None:  # it came by itself, not joined with that of the map
        band = after.pop(0).band
        assert (band.start, band.stop) == (0, taken_back.n_frames)
        assert np.isnan(band.c2).all()
    rows = {(r, a, s) for one in before if one.gamma for r, a, s in keys(one.gamma)}
    assert rows == set(keys(taken_back.gamma))
    assert not taken_back.gamma.recommended.any()
    assert set(taken_back.gamma.reason) == {"another_series"}
    assert after[0].c2.start == 0


def keys(gamma):
    return zip(gamma.roi, gamma.age_frame, gamma.source, strict=True)


def test_a_run_that_is_paused_twice_has_the_frames_of_the_last_series(
    engine, subscribe, eiger, tmp_path
):
    detector = eiger(series(300), n_frames=80, make_files=pausing(engine, (1, 1), (2, 2)))
    live, sinks = followed(subscribe, detector)
    paused(lambda: engine(bp.count([detector])))
    paused(engine.resume)
    engine.resume()
    assert live.wait(30)
    assert_same_result(sinks[0].result, offline(frames_in(tmp_path / "raw", 3)))
    assert sinks[0].end.analysis_exit_status == "success"


def test_a_run_that_is_aborted_after_it_was_resumed_has_the_frames_of_the_second_series(
    engine, subscribe, eiger, tmp_path
):
    detector = eiger(series(300), n_frames=100, make_files=pausing(engine, (1, 2), (2, 2)))
    live, sinks = followed(subscribe, detector)
    paused(lambda: engine(bp.count([detector])))
    paused(engine.resume)
    engine.abort("enough")
    assert live.wait(30)
    (sink,) = sinks
    frames = frames_in(tmp_path / "raw", 2)
    assert 20 <= len(frames) < 100
    np.testing.assert_allclose(sink.result.c2, offline(frames).c2, rtol=1e-5)
    assert names_the_left_series(sink, left=1, taken=2)


def test_a_point_of_several_that_is_paused_is_taken_again_and_the_others_stay(
    engine, subscribe, eiger, tmp_path
):
    detector = eiger(series(300), n_frames=50, make_files=pausing(engine, (2, 1)))
    live, sinks = followed(subscribe, detector)
    paused(lambda: engine(bp.count([detector], num=3)))
    engine.resume()
    assert live.wait(30)
    points = [frames_in(tmp_path / "raw", sequence_id) for sequence_id in (1, 3, 4)]
    assert_same_result(sinks[0].result, offline(np.concatenate(points)))
    assert names_the_left_series(sinks[0], left=2, taken=3)


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
