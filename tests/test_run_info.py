"""What a run says of frames that it has not analysed."""

from tests.live_runs import (  # noqa: F401 - two of them are fixtures
    SHAPE,
    composed_run,
    engine,
    series,
    subscribe,
)
from xpcs_live_denoise.notes import Notes
from xpcs_live_denoise.records import Status
from xpcs_live_denoise.run_info import what_is_missing


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
    status = Status(n_seen=9, n_processed=7, n_skipped=2, message="There is room for 7 frames.")
    told = what_is_missing(status, "", None)
    assert told == "2 of 9 frames could not be had. There is room for 7 frames."
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
    live, _ = subscribe()
    uid, send, stop = composed_run(live)
    for frame in series(6):
        send(frame)
    stop()
    assert live.wait(30)
    run = live._runs[uid]
    assert (run.roi_map, run.picture) == (None, None)
    assert [feed._sink for feed in run._feeds] == [None]
    assert live.status[uid].n_processed == 6
