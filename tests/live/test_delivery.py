"""The delivery thread of a destination: what its sinks get, in which order, and after failures."""

import dataclasses
import itertools
import logging
import threading
import time
import tracemalloc

import numpy as np
import pytest

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.live.delivery import (
    DeliveryThread,
    Published,
    RunDeliveries,
    RunDelivery,
    what_is_left,
)
from xpcs_live_denoise.live.outbox import Timings
from xpcs_live_denoise.live.worker import Worker
from xpcs_live_denoise.records.results import C2Rows, Publication, Result
from xpcs_live_denoise.records.run import Delivery, DeliveryState, RunEnd, Status

END = RunEnd(raw_exit_status="success", analysis_exit_status="success", reason="", status=Status())
QUICK = Timings(first_pause_s=0.01, longest_pause_s=0.02)


class Recorder:
    """A sink that fails as often as it is told, and waits for `gate` before each record."""

    def __init__(self, failures=0, error=None, gate=None):
        self.failures = failures
        self.error = error or ConnectionError("server is away")
        self.gate = gate
        self.asked = threading.Event()
        self.records, self.end = [], None

    def write(self, record):
        self.asked.set()
        if self.gate is not None:
            assert self.gate.wait(20)
        if self.failures:
            self.failures -= 1
            raise self.error
        self.records.append(record)

    def finish(self, end):
        self.end = end


def until(condition, timeout=10):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.002)


@pytest.fixture
def thread_to():
    """Return a function that makes the thread of a destination."""
    made = []

    def thread_to(destination, timings=QUICK):
        worker = Worker(queue_bytes=1, tick_s=1.0)
        worker.close(0)  # nothing is computed here
        made.append(DeliveryThread(destination, timings=timings, worker=worker))
        return made[-1]

    yield thread_to
    for thread in made:
        thread.begin_close(0)
        thread.join(10)


def started(thread, run):
    """The delivery of a run that has begun."""
    delivery = RunDelivery(run.raw_uid, thread)
    delivery.begin(run.info)
    return delivery


def piece(start, stop):
    full = np.arange(stop * stop, dtype=float).reshape(stop, stop)
    full = (full + full.T)[None]  # C2 is symmetric
    rows = C2Rows(start=start, stop=stop, values=full[:, start:])
    return Publication(n_frames=stop, c2=rows, band=None, gamma=None, status=Status())


def test_the_sink_is_made_once_and_only_when_there_is_something_to_write(thread_to, synthetic):
    made, sink = [], Recorder()
    run = synthetic()
    delivery = started(thread_to(lambda info: made.append(info) or sink), run)
    assert made == []
    for start, stop in ((0, 3), (3, 5)):
        delivery.put(run.publication(start, stop))
        until(lambda: delivery.state.state is DeliveryState.DELIVERED)
    assert [info.uid for info in made] == [run.raw_uid]
    assert [record.n_frames for record in sink.records] == [3, 5]


def test_what_a_sink_could_not_take_comes_again_with_what_came_since(thread_to, synthetic, caplog):
    gate, run = threading.Event(), synthetic()
    sink = Recorder(failures=1, gate=gate)
    delivery = started(thread_to(lambda info: sink), run)
    with caplog.at_level(logging.WARNING):
        delivery.put(run.publication(0, 10))
        assert sink.asked.wait(5)
        delivery.put(run.publication(10, 30))
        gate.set()
        until(lambda: sink.records)
    (record,) = sink.records
    assert (record.c2.start, record.c2.stop) == (0, 30)
    np.testing.assert_array_equal(record.c2.values, run.c2[:, :30, :30])
    assert sorted(set(record.gamma.age_frame)) == list(range(30))
    assert caplog.text.count("cannot be published") == 1
    assert "server is away" in caplog.text
    until(lambda: caplog.text.count("publishing again, nothing was lost") == 1)


def test_rows_that_follow_each_other_become_one_block_of_c2():
    whole = piece(0, 9).c2
    parts = []
    for start, stop in ((2, 3), (3, 7), (7, 9)):
        parts.append(C2Rows(start=start, stop=stop, values=whole.values[:, start:stop, :stop]))
    joined = C2Rows.concatenate(parts)
    assert (joined.start, joined.stop) == (2, 9)
    np.testing.assert_array_equal(joined.values, whole.values[:, 2:])


def test_put_never_waits_for_the_destination(thread_to, synthetic):
    gate, run = threading.Event(), synthetic()
    sink = Recorder(gate=gate)
    delivery = started(thread_to(lambda info: sink), run)
    began = time.monotonic()
    for stop in range(1, 41):
        delivery.put(run.publication(stop - 1, stop))
    delivery.finish(run.result(), END)
    assert time.monotonic() - began < 2
    assert not delivery.done
    assert delivery.state == Delivery(state=DeliveryState.WAITING)
    gate.set()
    until(lambda: delivery.done)
    assert isinstance(sink.records[-1], Result)


def test_provisional_rows_are_dropped_once_the_result_waits(thread_to, synthetic):
    gate, run = threading.Event(), synthetic()
    sink = Recorder(gate=gate)
    delivery = started(thread_to(lambda info: sink), run)
    delivery.put(run.publication(0, 10))
    assert sink.asked.wait(5)  # this one is on its way
    delivery.put(run.publication(10, 20))
    result = run.result()
    delivery.finish(result, END)
    gate.set()
    until(lambda: delivery.done)
    assert [record.n_frames for record in sink.records[:-1]] == [10]
    assert sink.records[-1] is result
    assert sink.end is END


def test_rows_of_the_band_that_a_long_result_lacks_go_before_it(thread_to, synthetic):
    gate, run = threading.Event(), synthetic(n_frames=90, map_frames=20)
    sink = Recorder(gate=gate)
    delivery = started(thread_to(lambda info: sink), run)
    delivery.put(run.publication(0, 10))
    assert sink.asked.wait(5)  # this one is on its way
    for start in range(10, 90, 20):
        delivery.put(run.publication(start, start + 20))
    result = run.result()
    delivery.finish(result, END)
    gate.set()
    until(lambda: delivery.done)
    _, kept, last = sink.records
    assert last is result
    assert result.band.start == 60
    assert (kept.c2, kept.gamma, kept.picture) == (None, None, None)
    rows = run.band(kept.band.start, kept.band.stop)
    assert (rows.start, rows.stop) == (0, 60)
    np.testing.assert_array_equal(kept.band.denoised, rows.denoised)


def test_what_is_taken_back_of_a_long_series_are_all_rows_in_parts_that_take_no_memory(
    thread_to, synthetic
):
    run, sink = synthetic(n_frames=90, map_frames=20), Recorder()
    deliveries = RunDeliveries([started(thread_to(lambda info: sink), run)])
    for start in (0, 45):
        deliveries.put(run.publication(start, start + 45))
    until(lambda: sink.records and sink.records[-1].n_frames == 90)
    before = len(sink.records)
    deliveries.take_back(Status(message="Another series."))
    until(lambda: len(sink.records) > before and sink.records[-1].band is not None)
    taken = sink.records[before:]
    (rows,) = [one.c2 for one in taken if one.c2 is not None]
    (band,) = [one.band for one in taken if one.band is not None]
    assert (rows.start, rows.stop, rows.frames_per_bin) == (0, 12, 8)
    assert (band.start, band.stop) == (0, 90)
    assert np.isnan(rows.values).all()
    assert np.isnan(band.denoised).all()
    (gamma,) = [one.gamma for one in taken if one.gamma is not None]
    assert set(gamma.reason) == {"another_series"}


def test_a_publication_that_takes_long_is_made_less_often_while_frames_wait(synthetic, monkeypatch):
    run, clock = synthetic(n_frames=90), [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    deliveries = RunDeliveries([])

    def due(n_frames, frames_wait):
        return deliveries.is_due(n_frames, window=50, period_s=0.5, frames_wait=frames_wait)

    assert due(10, frames_wait=True)  # the first
    deliveries.put(run.publication(0, 10), cost_s=0.3)
    clock[0] += 0.6
    assert due(20, frames_wait=False)
    assert not due(20, frames_wait=True)
    assert due(50, frames_wait=True)  # the first window is complete
    clock[0] += 0.7
    assert due(20, frames_wait=True)
    assert not due(10, frames_wait=False)  # nothing is new
    deliveries.put(run.publication(10, 20), cost_s=0.01)
    clock[0] += 0.4
    assert not due(30, frames_wait=True)
    clock[0] += 0.2
    assert due(30, frames_wait=True)
    deliveries.put(run.publication(20, 30), cost_s=60.0)
    clock[0] += 4.9
    assert not due(40, frames_wait=True)
    clock[0] += 0.2
    assert due(40, frames_wait=True)  # somebody watches


def test_of_rows_that_were_published_no_more_is_kept_than_which_they_are(synthetic):
    run, published = synthetic(n_frames=90), Published()
    table = run.publication(0, 90).gamma
    first = run.publication(0, 90)
    published.add(first)
    tracemalloc.start()
    try:
        for _ in range(200):
            again = table.select(np.arange(len(table)))
            published.add(dataclasses.replace(first, c2=None, band=None, gamma=again))
        n_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert n_bytes < 200 * (100 * len(table) + 2000)
    gone = next(published.taken_back(Status())).gamma
    assert len(gone) == 201 * len(table)
    for name in ("roi", "q_inv_angstrom", "age_s", "age_frame", "source", "width"):
        np.testing.assert_array_equal(getattr(gone, name), np.tile(getattr(table, name), 201))
    assert np.isnan([gone.relaxation_rate, gone.beta]).all()
    assert set(gone.reason) == {"another_series"}
    assert not gone.recommended.any()


def test_a_run_without_a_result_keeps_what_was_published(thread_to, synthetic):
    run, failed = synthetic(), dataclasses.replace(END, analysis_exit_status="fail")
    sink = Recorder(failures=1)
    delivery = started(thread_to(lambda info: sink), run)
    delivery.put(run.publication(0, 20))
    delivery.finish(None, failed)
    until(lambda: delivery.done)
    assert [record.n_frames for record in sink.records] == [20]
    assert sink.end is failed


def test_a_factory_that_fails_is_tried_again(thread_to, synthetic):
    sink, attempts, run = Recorder(), [], synthetic()

    def factory(info):
        attempts.append(info)
        if len(attempts) == 1:
            raise ConnectionError("server is down")
        return sink

    delivery = started(thread_to(factory), run)
    delivery.put(run.publication(0, 3))
    delivery.finish(None, END)
    until(lambda: delivery.done)
    assert len(attempts) == 2
    assert sink.end is END


def test_what_a_user_must_put_right_is_told_apart_and_offered_again_all_the_same(
    thread_to, synthetic
):
    sink = Recorder(failures=10**6, error=InvalidInputError("this holds raw runs"))
    run = synthetic()
    delivery = started(thread_to(lambda info: sink), run)
    delivery.put(run.publication(0, 3))
    refused = Delivery(state=DeliveryState.REFUSED, reason="this holds raw runs")
    until(lambda: delivery.state == refused)
    assert delivery.state.note == "Not stored: this holds raw runs"
    sink.error = ConnectionError("server  is\naway")
    until(lambda: delivery.state.note == "Not stored yet: server is away")
    sink.failures = 0
    delivery.finish(run.result(), END)
    until(lambda: delivery.done)
    assert delivery.state == Delivery()
    assert sink.end is END


def test_between_two_attempts_a_destination_is_left_alone_longer_and_longer(thread_to, synthetic):
    times, run = [], synthetic()

    def factory(info):
        times.append(time.monotonic())
        raise ConnectionError("server is down")

    thread = thread_to(factory, Timings(first_pause_s=0.1, longest_pause_s=0.4))
    delivery = started(thread, run)
    delivery.put(run.publication(0, 3))
    until(lambda: len(times) == 5)
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    for pause, least in zip(pauses, (0.1, 0.2, 0.4, 0.4), strict=True):
        assert pause >= least


def test_a_run_that_is_measured_goes_before_runs_that_wait(thread_to, synthetic):
    gate, order = threading.Event(), []

    class Noting(Recorder):
        def __init__(self, info):
            super().__init__(gate=gate)
            self.uid = info.uid

        def write(self, record):
            super().write(record)
            order.append(self.uid)

    thread = thread_to(Noting)
    runs = [synthetic(seed=number) for number in range(4)]
    first, *ended, measured = [started(thread, run) for run in runs]
    first.put(runs[0].publication(0, 5))  # holds the thread
    for delivery, run in zip(ended, runs[1:3], strict=True):
        delivery.finish(run.result(), END)
    measured.put(runs[3].publication(0, 5))
    gate.set()
    until(lambda: all(delivery.done for delivery in ended))
    assert order == [runs[0].raw_uid, runs[3].raw_uid, runs[1].raw_uid, runs[2].raw_uid]


def test_what_takes_one_run_again_is_offered_the_others_at_once(thread_to, synthetic):
    away = threading.Event()

    class Server(Recorder):
        def write(self, record):
            if not away.is_set():
                raise ConnectionError("server is away")
            super().write(record)

    thread = thread_to(lambda info: Server(), Timings(first_pause_s=5, longest_pause_s=5))
    runs = [synthetic(seed=number) for number in range(2)]
    old, new = (started(thread, run) for run in runs)
    for delivery, run in ((old, runs[0]), (new, runs[1])):
        delivery.put(run.publication(0, 5))
        until(lambda delivery=delivery: delivery.state.reason)
    away.set()
    new.finish(None, END)  # at once
    until(lambda: old.state.state is DeliveryState.DELIVERED, timeout=3)


def test_a_sink_without_a_spool_is_given_up_some_time_after_the_end(thread_to, synthetic, caplog):
    attempts, run = [], synthetic()

    def broken(info):
        attempts.append(info)
        raise TypeError("no sink")

    thread = thread_to(broken, dataclasses.replace(QUICK, give_up_s=0.1))
    delivery = started(thread, run)
    delivery.put(run.publication(0, 3))
    until(lambda: len(attempts) > 20)  # while the run goes on it may come any time
    delivery.finish(run.result(), END)
    until(lambda: delivery.done)
    assert delivery.state.note == "Not stored yet: no sink"
    message = f"Run {run.raw_uid}: the final results could not be stored. Not stored yet: no sink"
    until(lambda: caplog.text.count(message) == 1)
    assert "replay" in caplog.text
    n_attempts = len(attempts)
    time.sleep(0.1)
    assert len(attempts) == n_attempts
    assert list(thread.runs) == []


def test_a_thread_that_closes_delivers_what_waits(thread_to, synthetic):
    gate, run = threading.Event(), synthetic()
    sink = Recorder(gate=gate)
    thread = thread_to(lambda info: sink)
    delivery = started(thread, run)
    delivery.put(run.publication(0, 10))
    delivery.finish(run.result(), END)
    thread.begin_close(5)
    gate.set()
    assert thread.join(10)
    assert delivery.done
    assert sink.end is END
    assert what_is_left([thread], []) == []


def test_a_thread_that_closes_gives_up_what_fails_when_its_time_is_over(
    thread_to, synthetic, caplog
):
    run = synthetic()
    thread = thread_to(lambda info: Recorder(failures=10**6))
    delivery = started(thread, run)
    delivery.finish(run.result(), END)
    thread.begin_close(0.1)
    assert not thread.join(10)
    assert f"Run {run.raw_uid}: the final results could not be stored." in caplog.text


def test_a_destination_that_never_had_anything_is_closed_at_once(thread_to):
    thread = thread_to(lambda info: Recorder())
    thread.begin_close(None)
    assert thread.join(None)
