"""What a run says of frames that it has not analysed."""

import gc
import time
import weakref

import bluesky.plans as bp
import numpy as np

from tests.support.live_runs import (  # noqa: F401 - two of them are fixtures
    SHAPE,
    composed_run,
    engine,
    series,
    subscribe,
)
from xpcs_live_denoise import RoiMap, save_rois
from xpcs_live_denoise.live.run import Notes, what_is_missing
from xpcs_live_denoise.records.run import Status
from xpcs_live_denoise.simulation import SimulatedCamera, SimulatedEiger, fly_series, recorded


def test_the_reason_for_missing_frames_is_theirs_whatever_else_was_told():
    notes = Notes("abc")
    notes.add("No document tells the frame period.")
    notes.add("No  such file.", missing=True)
    notes.add("Another file is cut off.", missing=True)
    status = Status(n_seen=9, n_processed=7, n_skipped=2, message="All that was told.")
    told = what_is_missing(status, notes.why_missing, 9)
    assert told == "2 of 9 frames could not be had. No such file."
    assert list(notes)[1] == "No such file."


def test_without_a_reason_of_its_own_the_status_tells():
    status = Status(n_seen=9, n_processed=7, n_skipped=2, message="2 frames came too late.")
    told = what_is_missing(status, "", None)
    assert told == "2 of 9 frames could not be had. 2 frames came too late."
    assert what_is_missing(Status(n_seen=9, n_processed=9), "", 9) == ""


def test_the_stop_of_a_run_with_a_gap_tells_of_the_gap(subscribe):
    live, sinks = subscribe()
    _, send, stop = composed_run(live)  # nothing tells the frame period: that is a note, too
    for frame in series(6):
        send(frame)
    send(series(1)[0, : SHAPE[0] // 2])
    stop()
    assert live.wait(30)
    reason = sinks[0].end.reason
    assert reason.startswith("1 of 7 frames could not be had. Frames: got shape"), reason


def test_nothing_of_a_run_that_is_over_stays_in_memory(subscribe):
    live, sinks = subscribe()
    uid, send, stop = composed_run(live)
    for frame in series(6):
        send(frame)
    stop()
    assert live.wait(30)
    c2, sink = weakref.ref(sinks[0].result.c2), weakref.ref(sinks.pop())
    deadline = time.monotonic() + 10
    # A thread that has said that it is done may hold its last record for a moment.
    while (c2() is not None or sink() is not None) and time.monotonic() < deadline:
        time.sleep(0.01)
        gc.collect()
    assert c2() is None
    assert sink() is None
    assert live.status[uid].n_processed == 6


def test_a_file_of_another_shape_is_told_once_and_first(engine, subscribe, caplog, tmp_path):
    live, sinks = subscribe(rois=RoiMap.from_labels(np.ones((5, 5), int)), block_bytes=40_000)
    detector = SimulatedEiger(
        recorded(series(60)), tmp_path, n_frames=60, name="cam", frame_rate_hz=500
    )
    engine(fly_series(detector))
    assert live.wait(120)
    (sink,) = sinks
    message = sink.result.status.message
    assert message.startswith("Frames: got shape")
    assert "No contrast" not in message
    assert message.count("expected (k, 5, 5)") == caplog.text.count("expected (k, 5, 5)") == 1


def test_weights_that_are_not_there_cost_a_note_not_the_run(engine, subscribe):
    live, sinks = subscribe(denoise=True, weights="nowhere", ensemble=None)
    engine(bp.count([SimulatedCamera(recorded(series(60)), name="cam")], num=60))
    assert live.wait(120)
    (sink,) = sinks
    assert sink.end.analysis_exit_status == "success"
    assert sink.result.status.n_processed == 60
    assert "Nothing denoised: Ensemble nowhere" in sink.result.status.message
    assert sink.result.denoised is None
    assert "bayes" in sink.result.gamma.source


def test_the_roi_file_of_a_run_is_that_which_its_plan_names(subscribe, tmp_path):
    save_rois(RoiMap.rings(SHAPE, (15, 20), [(3, 9)]), tmp_path / "iso.npz")
    azimuths = [(-45, 45), (45, 135)]
    save_rois(RoiMap.sectors(SHAPE, (15, 20), [(3, 9)], azimuths), tmp_path / "qphi.npz")
    files = {name: tmp_path / f"{name}.npz" for name in ("iso", "qphi")}
    ended = []
    for analysis in ("qphi", "iso", "other"):
        live, sinks = subscribe(rois=None, roi_files=files)
        _, send, stop = composed_run(live, analysis=analysis)
        for frame in series(6):
            send(frame)
        stop()
        assert live.wait(30)
        ended.append(sinks[-1])
    assert ended[0].info.phi_deg == (0.0, 90.0)
    rows = ended[0].result.gamma
    assert set(zip(rows.roi.tolist(), rows.phi_deg.tolist(), strict=True)) == {(1, 0.0), (2, 90.0)}
    assert ended[1].info.phi_deg == ()
    assert "expected one of those in the setting `rois`: iso, qphi" in ended[2].end.reason
