"""The spool: one folder a run with one owner at a time, and what a delivery makes of it."""

import dataclasses
import json
import logging
import shutil
import stat
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from tests.support.identical import assert_identical
from xpcs_live_denoise.config import Settings
from xpcs_live_denoise.errors import InvalidInputError, SpoolInUseError
from xpcs_live_denoise.live.delivery import DeliveryThread, RunDelivery, what_is_left
from xpcs_live_denoise.live.outbox import Outbox, Timings
from xpcs_live_denoise.live.worker import Worker
from xpcs_live_denoise.records.run import RunEnd, Status
from xpcs_live_denoise.sinks import TiledDestination
from xpcs_live_denoise.sinks.memory import MemorySink
from xpcs_live_denoise.sinks.spool import Spool, read_record, spooled_folders, write_record

END = RunEnd(raw_exit_status="success", analysis_exit_status="success", reason="", status=Status())
AWAY = ConnectionError("server is away")
QUICK = Timings(first_pause_s=0.02, longest_pause_s=0.02, disk_pause_s=0.0)


def until(condition, timeout=10):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.002)


class Destination(TiledDestination):
    """Tiled with a spool, but the sink is given and no server is asked."""

    def __init__(self, root, sink):
        super().__init__(Settings(detector="eiger", spool=root))
        self.memory = sink

    def sink(self, spool, *, path=None):
        return self.memory

    def probe(self):
        pass


class Gated(MemorySink):
    """A sink that waits for `gate` before each record."""

    def __init__(self, info, **fields):
        super().__init__(info, **fields)
        self.asked, self.gate = threading.Event(), threading.Event()

    def write(self, record):
        self.asked.set()
        assert self.gate.wait(20)
        super().write(record)


@pytest.fixture
def delivery_to():
    """Return a function that makes a thread with a spool, and the delivery of a run."""
    made = []

    def delivery_to(run, root, sink, timings=QUICK):
        worker = Worker(queue_bytes=1, tick_s=1.0)
        worker.close(0)
        thread = DeliveryThread(Destination(root, sink), timings=timings, worker=worker)
        made.append(thread)
        delivery = RunDelivery(run.raw_uid, thread)
        delivery.begin(run.info)
        return thread, delivery

    yield delivery_to
    for thread in made:
        thread.begin_close(0)
        thread.join(10)


def records_in(root):
    (folder,) = spooled_folders(root)
    with Spool.open(folder) as run:
        return run.info, list(run.records())


def files_in(root, kind="publication"):
    return sorted(root.glob(f"*/*-{kind}.npz"))


# --- the folder ----------------------------------------------------------------------------


def test_a_run_is_read_back_in_the_order_a_sink_wants(tmp_path, synthetic):
    run = synthetic()
    box = Spool(tmp_path / "spool", run.info, uid="derived", time=5.0, path="lab/processed")
    pieces = [run.publication(0, 10), run.publication(10, 20)]
    for piece in pieces:
        box.put(piece)
    box.put_end(None, END)
    box.close()
    (folder,) = spooled_folders(tmp_path / "spool")
    assert folder.name == f"{run.raw_uid}-derived"
    with Spool.open(folder) as stored:
        assert_identical(stored.info, run.info)
        assert (stored.uid, stored.time, stored.path) == ("derived", 5.0, "lab/processed")
        assert_identical(list(stored.records()), [*pieces, END])


def test_a_final_result_takes_the_place_of_the_publications(tmp_path, synthetic):
    run = synthetic()
    box = Spool(tmp_path, run.info, uid="derived", time=5.0, path="processed")
    box.put(run.publication(0, 10))
    end = box.put_end(run.result(), END)
    assert_identical(read_record(end)["result"], run.result())
    box.close()
    assert_identical(records_in(tmp_path)[1], [run.result(), END])


def test_a_damaged_end_is_said_with_what_to_do(tmp_path, synthetic):
    box = Spool(tmp_path, synthetic().info, uid="derived", time=5.0, path="processed")
    box.put_end(None, END).write_bytes(b"no zip at all")
    with pytest.raises(InvalidInputError, match=r"cannot be read .* replay UID"):
        list(box.records())
    box.close()


def test_a_spool_of_an_earlier_version_can_still_be_delivered(tmp_path, synthetic):
    run = synthetic()
    box = Spool(tmp_path, run.info, uid="derived", time=5.0, path="processed")
    path = box.put(run.publication(0, 10))
    box.put_end(None, END)
    box.close()
    with np.load(path) as stored:
        arrays = dict(stored)
    text = json.loads(arrays["json"].tobytes())
    text["fields"]["metadata"] = {"later_descriptors": ["other"]}  # a field that there was
    arrays["json"] = np.frombuffer(json.dumps(text).encode(), np.uint8)
    np.savez(path, **arrays)
    write_record(box.folder / "0000001-end.npz", {"facts": None, "result": None, "end": END})
    assert_identical(records_in(tmp_path)[1], [run.publication(0, 10), END])


def test_of_a_long_series_rows_of_the_band_that_the_result_lacks_stay_in_the_spool(
    tmp_path, synthetic
):
    run = synthetic(n_frames=90, map_frames=20)
    box = Outbox(Destination(tmp_path, None), timings=QUICK)
    box.begin(run.info)
    for start in range(0, 90, 30):
        box.put(run.publication(start, start + 30), on_disk=start < 60)
    result = run.result()
    assert result.band.start == 60
    box.put_end(result, END, on_disk=True)
    kept = box.read(box.first())  # by the session itself
    assert (kept.c2, kept.gamma) == (None, None)
    assert_identical(kept.band, run.band(0, 60))
    box.close()
    *rows, last, end = records_in(tmp_path)[1]  # by another process
    assert [(one.band.start, one.band.stop) for one in rows] == [(0, 30), (20, 60), (50, 60)]
    assert all(one.c2 is None and one.gamma is None for one in rows)
    assert_identical([last, end], [result, END])


def test_a_result_of_before_the_band_can_still_be_delivered(tmp_path, synthetic):
    run = synthetic()
    result = run.result()
    path = tmp_path / "record.npz"
    write_record(path, result)
    with np.load(path) as stored:
        arrays = dict(stored)
    text = json.loads(arrays["json"].tobytes())
    for name in ("band", "frames_per_bin"):
        del text["fields"][name]
    text["fields"]["c2"] = text["fields"].pop("map_values")
    del text["fields"]["denoised"]["fields"]["reached"]
    arrays["json"] = np.frombuffer(json.dumps(text).encode(), np.uint8)
    np.savez(path, **arrays)
    again = read_record(path)
    for name in ("c2", "denoised", "spread"):
        np.testing.assert_array_equal(getattr(again.band, name), getattr(result.band, name))
    np.testing.assert_array_equal(again.c2, result.c2)
    np.testing.assert_array_equal(again.denoised.reached, result.denoised.reached)


def test_nobody_else_may_look_into_the_spool(tmp_path, synthetic):
    box = Spool(tmp_path / "spool", synthetic().info, uid="derived", time=5.0, path="processed")
    box.put(synthetic().publication(0, 5))
    box.close()
    for path in (tmp_path / "spool", *(tmp_path / "spool").rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_uid_from_a_document_cannot_leave_the_spool(tmp_path, synthetic):
    info = dataclasses.replace(synthetic().info, start={"uid": "../../etc/" + "x" * 500})
    box = Spool(tmp_path / "spool", info, uid="derived", time=5.0, path="processed")
    box.put(synthetic().publication(0, 5))
    box.close()
    assert box.folder.resolve().parent == (tmp_path / "spool").resolve()
    assert records_in(tmp_path / "spool")[0].uid == info.uid


def test_only_one_process_has_a_run_and_a_dead_one_does_not_count(tmp_path, synthetic):
    box = Spool(tmp_path, synthetic().info, uid="derived", time=5.0, path="processed")
    box.put(synthetic().publication(0, 5))
    take = (
        "import pathlib, sys\n"
        "from xpcs_live_denoise.sinks.spool import Spool\n"
        "Spool.open(pathlib.Path(sys.argv[1]))\n"
    )
    call = [sys.executable, "-c", take, str(box.folder)]
    refused = subprocess.run(call, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 1
    assert "SpoolInUseError" in refused.stderr
    box.close()
    # The child takes it and ends without a word: its lock goes with it.
    assert subprocess.run(call, timeout=60, check=False).returncode == 0
    Spool.open(box.folder).close()


def test_what_is_delivered_is_gone_and_its_lock_with_it(tmp_path, synthetic):
    box = Spool(tmp_path, synthetic().info, uid="derived", time=5.0, path="processed")
    box.put(synthetic().publication(0, 5))
    box.clear()
    assert list(tmp_path.iterdir()) == []
    box.put(synthetic().publication(5, 9))  # the next time that the server is away
    with pytest.raises(SpoolInUseError, match="another process has it"):
        Spool.open(box.folder)
    box.close()
    assert [record.n_frames for record in records_in(tmp_path)[1]] == [9]


# --- what waits in an outbox ---------------------------------------------------------------


@pytest.fixture
def outbox(tmp_path, synthetic):
    """The outbox of a run that has begun, with little room in memory."""
    run = synthetic()
    box = Outbox(Destination(tmp_path / "spool", None), timings=QUICK, most_bytes=80_000)
    box.begin(run.info)
    yield run, box
    box.close()


def test_beyond_its_bytes_an_outbox_writes_to_the_disk_and_forgets(outbox, tmp_path):
    run, box = outbox
    box.put(run.publication(0, 10), on_disk=False)
    assert not (tmp_path / "spool").exists()
    for stop in range(20, 61, 10):
        box.put(run.publication(stop - 10, stop), on_disk=False)
    assert files_in(tmp_path / "spool")
    numbers = []
    while pieces := box.first():
        numbers.append(len(pieces))
        publication = box.read(pieces)
        assert publication.c2.stop <= 60
        box.delivered(pieces)
    assert len(numbers) > 1, "no more than the bound is read at once"
    assert sum(numbers) == 6
    assert list((tmp_path / "spool").iterdir()) == []


def test_what_failed_is_read_again_with_what_came_since(outbox):
    run, box = outbox
    box.put(run.publication(0, 10), on_disk=False)
    box.put(run.publication(10, 20), on_disk=True)
    before = list(box.first())
    box.put(run.publication(20, 21), on_disk=True)
    assert list(box.first())[:2] == before
    joined = box.read(before)
    np.testing.assert_array_equal(joined.c2.values, run.c2[:, :20, :20])


def test_pieces_whose_place_a_result_has_taken_are_not_read(outbox):
    run, box = outbox
    box.put(run.publication(0, 10), on_disk=True)
    pieces = box.first()
    box.put_end(run.result(), END, on_disk=True)
    assert box.read(pieces) is None
    assert list(box.first()) == []
    assert_identical(box.read_result(), run.result())


def test_rows_of_the_band_that_come_again_are_kept_once(synthetic):
    run = synthetic(n_frames=60)
    box = Outbox(MemorySink, timings=QUICK)
    box.begin(run.info)
    for stop in range(21, 61):
        box.put(run.publication(20, stop, c2=None), on_disk=True)  # bands [10, stop)
    joined = box.read(box.first())
    assert (joined.band.start, joined.band.stop) == (10, 60)


# --- the delivery with a spool -------------------------------------------------------------


def test_a_sink_that_answers_costs_no_write_to_the_disk(tmp_path, synthetic, delivery_to):
    run = synthetic()
    _, delivery = delivery_to(run, tmp_path / "spool", MemorySink(run.info))
    delivery.put(run.publication(0, 20))
    delivery.finish(run.result(), END)
    until(lambda: delivery.done)
    assert not (tmp_path / "spool").exists()


def test_every_publication_of_an_outage_is_on_disk_at_once_and_no_row_twice(
    tmp_path, synthetic, delivery_to
):
    run = synthetic()
    sink = MemorySink(run.info, failures=(AWAY,) * 99)
    thread, delivery = delivery_to(run, tmp_path, sink, Timings())
    delivery.put(run.publication(0, 10))
    until(lambda: len(files_in(tmp_path)) == 1)
    for start, stop in ((10, 20), (20, 35)):  # in the pause between two attempts
        delivery.put(run.publication(start, stop))
        assert len(files_in(tmp_path)) == 2 + (start == 20)
    assert len(sink.failed) == 1
    with pytest.raises(SpoolInUseError):
        records_in(tmp_path)
    thread.begin_close(0)
    assert thread.join(10), "the run had not ended: nothing of it was lost"
    info, pieces = records_in(tmp_path)
    assert_identical(info, run.info)
    assert [(p.c2.start, p.c2.stop) for p in pieces] == [(0, 10), (10, 20), (20, 35)]
    for piece in pieces:
        np.testing.assert_array_equal(
            piece.c2.values, run.c2[:, piece.c2.start : piece.c2.stop, : piece.c2.stop]
        )
    assert [len(piece.gamma) for piece in pieces] == [20, 20, 30]


def test_while_a_request_hangs_everything_is_kept_on_disk(tmp_path, synthetic, delivery_to):
    run = synthetic()
    sink = Gated(run.info)
    thread, delivery = delivery_to(run, tmp_path, sink, Timings(slow_s=0.05))
    delivery.put(run.publication(0, 10))
    assert sink.asked.wait(5)
    until(lambda: thread.is_slow)
    assert not files_in(tmp_path)
    delivery.put(run.publication(10, 20))
    assert len(files_in(tmp_path)) == 2, "what is on its way, too"
    delivery.finish(run.result(), END)
    assert files_in(tmp_path, "end")
    thread.begin_close(0)
    assert not thread.join(0.1)
    assert str(tmp_path) in what_is_left([thread], [run.raw_uid])[0]
    with pytest.raises(SpoolInUseError):  # nobody else may write while an answer may still come
        Spool.open(spooled_folders(tmp_path)[0])
    sink.gate.set()
    until(lambda: delivery.done)
    assert_identical(sink.result, run.result())
    until(lambda: list(tmp_path.iterdir()) == [])


def test_a_close_keeps_on_disk_what_only_the_memory_had(tmp_path, synthetic, delivery_to):
    run = synthetic()
    sink = Gated(run.info)
    thread, delivery = delivery_to(run, tmp_path, sink)
    delivery.put(run.publication(0, 10))
    assert sink.asked.wait(5)
    delivery.finish(run.result(), END)
    assert not spooled_folders(tmp_path)
    thread.begin_close(0)
    assert not thread.join(0.1)
    assert files_in(tmp_path, "end")
    sink.gate.set()
    until(lambda: delivery.done)


def test_a_sink_that_is_back_gets_everything_once_and_the_files_go(
    tmp_path, synthetic, delivery_to
):
    run = synthetic()
    sink = MemorySink(run.info, failures=(AWAY,) * 3)
    _, delivery = delivery_to(run, tmp_path, sink)
    for start, stop in ((0, 10), (10, 20), (20, 30)):
        delivery.put(run.publication(start, stop))
    until(lambda: delivery.outbox.is_empty)
    rows = [(piece.c2.start, piece.c2.stop) for piece in sink.publications]
    assert (rows[0][0], rows[-1][1]) == (0, 30)
    assert sum(len(piece.gamma) for piece in sink.publications) == 2 * 30
    until(lambda: list(tmp_path.iterdir()) == [])


def test_a_result_waits_on_disk_and_not_in_memory(tmp_path, synthetic, delivery_to):
    run = synthetic()
    sink = MemorySink(run.info, failures=(AWAY, AWAY))
    _, delivery = delivery_to(run, tmp_path, sink)
    delivery.put(run.publication(0, 20))
    until(lambda: sink.failed)
    result = run.result()
    delivery.finish(result, END)
    until(lambda: delivery.done)
    assert sink.result is not result
    assert_identical(sink.result, result)
    assert sink.publications == []
    assert sink.end == END
    assert list(tmp_path.iterdir()) == []


def test_a_session_that_ends_says_where_the_results_lie(tmp_path, synthetic, caplog, delivery_to):
    run = synthetic()
    sink = MemorySink(run.info, failures=(AWAY,) * 99)
    thread, delivery = delivery_to(run, tmp_path, sink, Timings())
    delivery.finish(run.result(), END)
    until(lambda: files_in(tmp_path, "end"))
    thread.begin_close(0)
    assert not thread.join(10)
    assert f"They are kept in {tmp_path}" in caplog.text
    assert "xpcs-live-denoise deliver" in caplog.text
    assert "server is away" in caplog.text
    assert_identical(records_in(tmp_path)[1], [run.result(), END])


def test_results_with_a_spool_are_offered_for_as_long_as_it_takes(tmp_path, synthetic, delivery_to):
    run = synthetic()
    sink = MemorySink(run.info, failures=(AWAY,) * 5)
    timings = dataclasses.replace(QUICK, give_up_s=0.0)
    _, delivery = delivery_to(run, tmp_path, sink, timings)
    delivery.finish(run.result(), END)
    until(lambda: delivery.done)
    assert len(sink.failed) == 5
    assert sink.end == END


@pytest.mark.parametrize("fault", ["no room", "another's file"])
def test_a_disk_that_refuses_is_told_once_and_costs_nothing(
    tmp_path, synthetic, monkeypatch, caplog, fault, delivery_to
):
    run, root = synthetic(), tmp_path / "spool"
    if fault == "no room":
        full = shutil.disk_usage(tmp_path)._replace(free=0)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    else:
        root.write_text("no folder")
    sink = MemorySink(run.info, failures=(AWAY,) * 4)
    with caplog.at_level(logging.WARNING):
        _, delivery = delivery_to(run, root, sink)
        for stop in (10, 20, 30, 40):
            delivery.put(run.publication(stop - 10, stop))
        until(lambda: delivery.outbox.is_empty)
        delivery.finish(run.result(), END)
        until(lambda: delivery.done)
    assert caplog.text.count("cannot be kept on disk") == 1
    assert sum(len(piece.gamma) for piece in sink.publications) == 2 * 40
    assert sink.publications[-1].c2.stop == 40
    assert sink.result is not None


def test_a_disk_that_gets_room_again_is_given_what_it_missed(tmp_path, outbox, monkeypatch):
    run, box = outbox
    full = shutil.disk_usage(tmp_path)._replace(free=0)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: full)
        box.put(run.publication(0, 10), on_disk=True)
    assert not files_in(tmp_path / "spool")
    box.put(run.publication(10, 20), on_disk=True)
    box.close()
    pieces = records_in(tmp_path / "spool")[1]
    assert [(piece.c2.start, piece.c2.stop) for piece in pieces] == [(0, 10), (10, 20)]
