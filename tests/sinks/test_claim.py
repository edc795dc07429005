"""Claims: of several processes that may write a derived run one does."""

import uuid

import pytest

from xpcs_live_denoise.errors import ResultInUseError
from xpcs_live_denoise.records.run import RunEnd, Status
from xpcs_live_denoise.sinks import Claim, ClaimedSink, ClaimTimes, TiledSink

ALIVE = ClaimTimes(beat_s=0.05, dead_s=1.0, settle_s=0.05)
SILENT = ClaimTimes(beat_s=1000.0, dead_s=1.0, settle_s=0.05)  # as a process that died elsewhere
END = RunEnd(raw_exit_status="success", analysis_exit_status="success", reason="", status=Status())


@pytest.fixture
def claimed(tiled_client, synthetic):
    """Return a function that makes a claimed sink of one and the same derived run."""
    run, uid, claims = synthetic(), str(uuid.uuid4()), []

    def claimed(times):
        claims.append(Claim(times))
        sink = TiledSink(run.info, client=tiled_client, uid=uid, claim=claims[-1])
        return ClaimedSink(sink, claims[-1])

    yield claimed, run, uid
    for claim in claims:
        claim.release()


def test_a_run_that_a_living_process_writes_is_left_to_it(claimed, tiled_client):
    make, run, uid = claimed
    first, second = make(ALIVE), make(ALIVE)
    first.write(run.publication(0, 30))
    second.write(run.publication(0, 30))
    assert isinstance(second.why, ResultInUseError)
    assert "is being computed by another job (process" in str(second.why)
    second.finish(END)
    assert not second.is_stored
    assert "stop" not in tiled_client["processed"][uid].metadata
    first.write(run.result())
    first.finish(END)
    assert first.is_stored
    assert tiled_client["processed"][uid].metadata["stop"]["exit_status"] == "success"


def test_a_run_whose_process_gives_no_sign_of_life_is_taken_over(claimed, tiled_client):
    make, run, uid = claimed
    dead, heir = make(SILENT), make(ALIVE)
    dead.write(run.publication(0, 30))
    heir.write(run.publication(0, 30))
    heir.write(run.result())
    heir.finish(END)
    assert heir.is_stored
    assert tiled_client["processed"][uid].metadata["n_frames"] == run.n_frames
    dead.write(run.publication(30, 60))
    assert dead.why is None or isinstance(dead.why, ResultInUseError)


def test_an_analysis_that_failed_without_frames_leaves_nothing(claimed, tiled_client):
    make, run, uid = claimed
    sink = make(ALIVE)
    sink.write(run.publication(0, 30, status=Status(n_seen=30, n_skipped=30)))
    sink.finish(
        RunEnd(
            raw_exit_status="success",
            analysis_exit_status="fail",
            reason="No frames.",
            status=Status(),
        )
    )
    assert str(sink.why) == "No frames. Nothing was stored."
    assert uid not in tiled_client["processed"]
