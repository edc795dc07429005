"""The spool: one folder a run with one owner at a time, and what a feed makes of it."""

import dataclasses
import errno
import logging
import shutil
import stat
import subprocess
import sys

import numpy as np
import pytest

from tests.support.identical import assert_identical
from xpcs_live_denoise.config import Settings
from xpcs_live_denoise.errors import SpoolInUseError
from xpcs_live_denoise.live import outbox as guarded_spool
from xpcs_live_denoise.live import outbox as sink_feed
from xpcs_live_denoise.live.outbox import SinkFeed, SpooledTiled
from xpcs_live_denoise.records.results import Publication, Result
from xpcs_live_denoise.records.run import RunEnd, Status
from xpcs_live_denoise.sinks import spool
from xpcs_live_denoise.sinks.memory import MemorySink
from xpcs_live_denoise.sinks.spool import RunSpool, SpooledRun, spooled_folders

END = RunEnd(raw_exit_status="success", analysis_exit_status="success", reason="", status=Status())
AWAY = ConnectionError("server is away")


@pytest.fixture
def no_pause(monkeypatch):
    monkeypatch.setattr(sink_feed, "FIRST_PAUSE_S", 0.0)


def feed_with_spool(run, root, sink):
    """A feed whose sink is given, with the spool that a session would have."""
    settings = Settings(detector="eiger", spool=root)
    feed = SinkFeed(SpooledTiled(settings, lambda info, uid, created: sink), run.raw_uid)
    feed.info = run.info
    return feed


def news(run, start, stop, **fields):
    """A publication as the analysis makes it: every row that the feed may lack."""
    return run.publication(start, stop, bands=(), **fields)


def records_in(root):
    (folder,) = spooled_folders(root)
    with SpooledRun(folder) as run:
        return run.info, list(run.records())


# --- the folder ----------------------------------------------------------------------------


def test_a_run_is_read_back_in_the_order_a_sink_wants(tmp_path, synthetic):
    run = synthetic()
    box = RunSpool(tmp_path / "spool", run.info, uid="derived", time=5.0, path="lab/processed")
    pieces = [run.publication(0, 10), run.publication(10, 20)]
    for piece in pieces:
        box.put(piece)
    box.put_end(None, None, END)
    box.close()
    (folder,) = spooled_folders(tmp_path / "spool")
    assert folder.name == f"{run.raw_uid}-derived"
    with SpooledRun(folder) as stored:
        assert_identical(stored.info, run.info)
        assert (stored.uid, stored.time, stored.path) == ("derived", 5.0, "lab/processed")
        assert_identical(list(stored.records()), [*pieces, END])


def test_a_final_result_takes_the_place_of_the_publications(tmp_path, synthetic):
    run = synthetic()
    box = RunSpool(tmp_path, run.info, uid="derived", time=5.0, path="processed")
    box.put(run.publication(0, 10))
    facts = run.publication(0, 10, c2=None, bands=(), gamma=None, metadata={"late": 1})
    box.put_end(facts, run.result(), END)
    assert_identical(box.result(), run.result())
    box.close()
    assert_identical(records_in(tmp_path)[1], [facts, run.result(), END])


def test_nobody_else_may_look_into_the_spool(tmp_path, synthetic):
    box = RunSpool(tmp_path / "spool", synthetic().info, uid="derived", time=5.0, path="processed")
    box.put(synthetic().publication(0, 5))
    box.close()
    for path in (tmp_path / "spool", *(tmp_path / "spool").rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_uid_from_a_document_cannot_leave_the_spool(tmp_path, synthetic):
    info = dataclasses.replace(synthetic().info, start={"uid": "../../etc/" + "x" * 500})
    box = RunSpool(tmp_path / "spool", info, uid="derived", time=5.0, path="processed")
    box.put(synthetic().publication(0, 5))
    box.close()
    assert box.folder.resolve().parent == (tmp_path / "spool").resolve()
    assert records_in(tmp_path / "spool")[0].uid == info.uid


def test_only_one_process_has_a_run_and_a_dead_one_does_not_count(tmp_path, synthetic):
    box = RunSpool(tmp_path, synthetic().info, uid="derived", time=5.0, path="processed")
    box.put(synthetic().publication(0, 5))
    take = (
        "import pathlib, sys\n"
        "from xpcs_live_denoise.sinks.spool import SpooledRun\n"
        "SpooledRun(pathlib.Path(sys.argv[1]))\n"
    )
    call = [sys.executable, "-c", take, str(box.folder)]
    refused = subprocess.run(call, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 1
    assert "SpoolInUseError" in refused.stderr
    box.close()
    # The child takes it and ends without a word: its lock goes with it.
    assert subprocess.run(call, timeout=60, check=False).returncode == 0
    SpooledRun(box.folder).__exit__()


def test_what_is_delivered_is_gone_and_its_lock_with_it(tmp_path, synthetic):
    box = RunSpool(tmp_path, synthetic().info, uid="derived", time=5.0, path="processed")
    box.put(synthetic().publication(0, 5))
    box.clear()
    assert list(tmp_path.iterdir()) == []
    box.put(synthetic().publication(5, 9))  # the next time that the server is away
    with pytest.raises(SpoolInUseError, match="another process has it"):
        SpooledRun(box.folder)
    box.close()
    assert [record.n_frames for record in records_in(tmp_path)[1]] == [9]


# --- the feed ------------------------------------------------------------------------------


def test_a_sink_that_answers_costs_no_write_to_the_disk(tmp_path, synthetic):
    run = synthetic()
    feed = feed_with_spool(run, tmp_path / "spool", MemorySink(run.info))
    feed.write(news(run, 0, 20))
    feed.finish(run.result(), END)
    assert not (tmp_path / "spool").exists()


def test_every_publication_of_an_outage_is_on_disk_at_once_and_no_row_twice(tmp_path, synthetic):
    run = synthetic()
    sink = MemorySink(run.info, failures=(AWAY,) * 99)
    feed = feed_with_spool(run, tmp_path, sink)
    feed.write(news(run, 0, 10))
    for stop in (20, 35):  # in the pause between two attempts
        feed.write(news(run, 0, stop, gamma=run.gamma(range(stop - 10, stop))))
    assert len(sink.failed) == 1
    feed._opened_spool.close()  # as the end of the process would
    info, pieces = records_in(tmp_path)
    assert_identical(info, run.info)
    assert [(p.c2.start, p.c2.stop) for p in pieces] == [(0, 10), (10, 20), (20, 35)]
    for piece in pieces:
        np.testing.assert_array_equal(
            piece.c2.values, run.c2[:, piece.c2.start : piece.c2.stop, : piece.c2.stop]
        )
    assert [len(piece.gamma) for piece in pieces] == [20, 20, 20]


def test_a_sink_that_is_back_gets_everything_once_and_the_files_go(tmp_path, synthetic, no_pause):
    run = synthetic()
    sink = MemorySink(run.info, failures=(AWAY, AWAY))
    feed = feed_with_spool(run, tmp_path, sink)
    feed.write(news(run, 0, 10))
    feed.write(news(run, 0, 20, gamma=None))
    assert spooled_folders(tmp_path)
    feed.write(news(run, 0, 30, gamma=run.gamma(range(10, 30))))
    (all_news,) = sink.publications
    assert (all_news.c2.start, all_news.c2.stop) == (0, 30)
    assert len(all_news.gamma) == 2 * 30
    assert list(tmp_path.iterdir()) == []


def test_a_result_waits_on_disk_and_not_in_memory(tmp_path, synthetic, no_pause):
    run = synthetic()
    sink = MemorySink(run.info, failures=(AWAY, AWAY))
    feed = feed_with_spool(run, tmp_path, sink)
    feed.write(news(run, 0, 20, metadata={"later_descriptors": ["other"]}))
    result = run.result()
    feed.finish(result, END)
    assert feed._result is None
    feed.retry()
    assert not feed.delivering
    assert sink.result is not result
    assert_identical(sink.result, result)
    (facts,) = sink.publications
    assert facts.metadata == {"later_descriptors": ["other"]}
    assert (facts.c2, facts.gamma, facts.bands, facts.n_frames) == (None, None, (), 0)
    assert sink.end is END
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_a_result_keeps_what_was_published_before(tmp_path, synthetic, no_pause):
    run = synthetic()
    sink = MemorySink(run.info, failures=(AWAY,))
    feed = feed_with_spool(run, tmp_path, sink)
    feed.write(news(run, 0, 20))
    failed = dataclasses.replace(END, analysis_exit_status="fail")
    feed.finish(None, failed)
    assert [record.c2.stop for record in sink.publications] == [20]
    assert (sink.result, sink.end) == (None, failed)


def test_a_session_that_ends_says_where_the_results_lie(tmp_path, synthetic, caplog):
    run = synthetic()
    feed = feed_with_spool(run, tmp_path, MemorySink(run.info, failures=(AWAY,) * 9))
    feed.finish(run.result(), END)
    feed.abandon()
    assert f"They are kept in {tmp_path}" in caplog.text
    assert "xpcs-live-denoise deliver" in caplog.text
    assert "server is away" in caplog.text
    assert_identical(records_in(tmp_path)[1], [run.result(), END])


def test_a_run_that_did_not_end_is_left_to_others_when_its_session_does(tmp_path, synthetic):
    run = synthetic()
    feed = feed_with_spool(run, tmp_path, MemorySink(run.info, failures=(AWAY,) * 9))
    feed.write(news(run, 0, 20))
    with pytest.raises(SpoolInUseError):
        records_in(tmp_path)
    feed.abandon()
    assert [record.n_frames for record in records_in(tmp_path)[1]] == [20]


def test_results_with_a_spool_are_offered_for_as_long_as_it_takes(
    tmp_path, synthetic, no_pause, monkeypatch
):
    monkeypatch.setattr(sink_feed, "GIVE_UP_S", 0.0)
    run = synthetic()
    sink = MemorySink(run.info, failures=(AWAY,) * 5)
    feed = feed_with_spool(run, tmp_path, sink)
    feed.finish(run.result(), END)
    for _ in range(5):
        assert feed.delivering
        feed.retry()
    assert not feed.delivering
    assert sink.end is END


@pytest.mark.parametrize("fault", ["no room", "read only", "another's file"])
def test_a_disk_that_refuses_is_told_once_and_costs_nothing(
    tmp_path, synthetic, no_pause, monkeypatch, caplog, fault
):
    run = synthetic()
    root = tmp_path / "spool"
    if fault == "no room":
        free = shutil.disk_usage(tmp_path)._replace(free=spool.LEAST_FREE_BYTES - 1)
        monkeypatch.setattr(spool.shutil, "disk_usage", lambda path: free)
    elif fault == "read only":  # root may write anywhere, so that a mode would not do

        def refuse(*_):
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(spool.RunSpool, "_write", refuse)
    else:
        root.write_text("no folder")
    monkeypatch.setattr(guarded_spool, "PAUSE_S", 0.0)
    sink = MemorySink(run.info, failures=(AWAY,) * 3)
    feed = feed_with_spool(run, root, sink)
    with caplog.at_level(logging.WARNING):
        for stop in (10, 20, 30, 40):
            feed.write(news(run, 0, stop, gamma=run.gamma(range(stop - 10, stop))))
        feed.finish(run.result(), END)
    assert caplog.text.count("cannot be kept on disk") == 1
    (all_news,) = sink.publications
    assert (len(all_news.gamma), all_news.c2.values.shape) == (2 * 40, (2, 40, 40))
    assert sink.result is not None


def test_a_disk_that_gets_room_again_is_given_what_it_missed(tmp_path, synthetic, monkeypatch):
    run = synthetic()
    monkeypatch.setattr(guarded_spool, "PAUSE_S", 0.0)
    full = shutil.disk_usage(tmp_path)._replace(free=0)
    feed = feed_with_spool(run, tmp_path, MemorySink(run.info, failures=(AWAY,) * 9))
    with monkeypatch.context() as patch:
        patch.setattr(spool.shutil, "disk_usage", lambda path: full)
        feed.write(news(run, 0, 10))
    feed.write(news(run, 0, 20, gamma=run.gamma(range(10, 20))))
    feed._opened_spool.close()
    (piece,) = records_in(tmp_path)[1]
    assert (piece.c2.start, piece.c2.stop, len(piece.gamma)) == (0, 20, 40)


def test_an_hour_without_a_server_holds_every_row_of_c2_and_no_covered_band(synthetic):
    run = synthetic(n_frames=60)
    feed = SinkFeed(lambda info: MemorySink(info, failures=(AWAY,) * 99), "abc")
    feed.info = run.info
    for stop in range(21, 61):
        feed.write(run.publication(20, stop))  # bands [10, stop): each covers those before
    joined = feed._backlog.joined()
    assert [(band.start, band.stop) for band in joined.bands] == [(10, 60)]
    held = [piece.c2 for piece in feed._backlog.pieces]
    assert held == [None] * 40
    assert isinstance(joined, Publication)
    assert not isinstance(joined, Result)
    assert joined.c2.values.shape == (2, 40, 60)
