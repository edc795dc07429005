"""The in-memory sink."""

import pytest

from xpcs_live_denoise.records.run import RunEnd, Status
from xpcs_live_denoise.sinks.memory import MemorySink


def test_memory_sink_keeps_every_record_in_order(synthetic):
    run = synthetic()
    sink = MemorySink(run.info)
    news = [run.publication(0, 10), run.publication(10, 20)]
    for record in (*news, run.result()):
        sink.write(record)
    end = RunEnd(
        raw_exit_status="success", analysis_exit_status="success", reason="", status=Status()
    )
    sink.finish(end)
    assert [p is q for p, q in zip(sink.publications, news, strict=True)] == [True, True]
    assert sink.result is not None
    assert sink.end is end
    assert sink.info.uid == run.raw_uid


def test_memory_sink_fails_as_often_as_asked_and_keeps_nothing_of_it(synthetic):
    run = synthetic()
    sink = MemorySink(run.info, failures=(ConnectionError("away"),))
    with pytest.raises(ConnectionError, match="away"):
        sink.write(run.publication(0, 10))
    assert sink.publications == []
    sink.write(run.publication(0, 20))
    assert [p.n_frames for p in sink.publications] == [20]
    assert [p.n_frames for p in sink.failed] == [10]
