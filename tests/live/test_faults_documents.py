"""What goes wrong with files and documents during a run, and what the result then says."""

from __future__ import annotations

import itertools
import os
import threading
import time

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import event_model
import h5py
import numpy as np
import pytest
from bluesky.utils import RunEngineInterrupted

from tests.support.live_runs import (  # noqa: F401 - two of them are fixtures
    SHAPE,
    assert_same_result,
    composed_run,
    engine,
    offline,
    series,
    subscribe,
)
from xpcs_live_denoise.live import Timings
from xpcs_live_denoise.simulation import SimulatedCamera, recorded

DATASET = "/entry/data/data"


class StreamedRun:
    """A run of stream documents made by hand, whose file the test has in its hands."""

    def __init__(self, live, path, *, swmr=True):
        self.live = live
        self.run = event_model.compose_run(metadata={"acquire period": 0.01})
        key = {"source": "t", "dtype": "array", "shape": list(SHAPE), "external": "STREAM:"}
        self.stream = self.run.compose_descriptor(name="primary", data_keys={"cam_image": key})
        self.resource = self.run.compose_stream_resource(
            mimetype="application/x-hdf5",
            uri=f"file://localhost{path}",
            data_key="cam_image",
            parameters={"dataset": DATASET, "swmr": swmr},
        )
        live("start", self.run.start_doc)
        live("descriptor", self.stream.descriptor_doc)
        live("stream_resource", self.resource.stream_resource_doc)

    def announce(self, start, stop):
        doc = self.resource.compose_stream_datum(
            indices={"start": start, "stop": stop},
            seq_nums={"start": start + 1, "stop": stop + 1},
            descriptor=self.stream.descriptor_doc,
        )
        self.live("stream_datum", doc)

    def wait_processed(self, n):
        uid = self.run.start_doc["uid"]
        deadline = time.monotonic() + 30
        while self.live.status[uid].n_processed < n:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def stop(self):
        self.live("stop", self.run.compose_stop())
        assert self.live.wait(30)


IMPATIENT = Timings(read_s=0.1)


def write(path, frames):
    with h5py.File(path, "w") as file:
        file.create_dataset(DATASET, data=frames, chunks=(1, *SHAPE))


# --- files --------------------------------------------------------------------------------------


def test_a_file_that_vanishes_becomes_a_gap(subscribe, tmp_path):
    live, sinks = subscribe(timings=IMPATIENT)
    frames = series(60)
    write(tmp_path / "a.h5", frames)
    run = StreamedRun(live, tmp_path / "a.h5")
    run.announce(0, 55)
    run.wait_processed(55)
    (tmp_path / "a.h5").unlink()
    run.announce(55, 60)
    run.stop()
    result = sinks[0].result
    assert result.status.skipped == ((55, 60),)
    assert "No such file" in result.status.message
    np.testing.assert_allclose(result.c2[:, :55, :55], offline(frames[:55]).c2, rtol=1e-5)
    assert "5 of 60 frames could not be had" in sinks[0].end.reason


def test_a_file_that_was_cut_off_gives_what_it_still_holds(subscribe, tmp_path):
    live, sinks = subscribe(timings=IMPATIENT)
    frames = series(60)
    write(tmp_path / "a.h5", frames)
    with h5py.File(tmp_path / "a.h5") as file:
        end = file[DATASET].id.get_chunk_info_by_coord((57, 0, 0)).byte_offset
    os.truncate(tmp_path / "a.h5", end)
    run = StreamedRun(live, tmp_path / "a.h5", swmr=False)
    run.announce(0, 60)
    run.stop()
    status = sinks[0].result.status
    # HDF5 may refuse the whole file; it may not make frames up.
    assert status.n_processed in (0, 57)
    assert status.n_skipped == 60 - status.n_processed
    assert "cannot be read" in status.message


def test_a_file_that_grows_more_slowly_than_its_documents_say_loses_nothing(subscribe, tmp_path):
    live, sinks = subscribe()
    frames = series(60)
    begun = threading.Event()

    def detector():
        with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
            dataset = file.create_dataset(
                DATASET, (0, *SHAPE), "u2", maxshape=(None, *SHAPE), chunks=(1, *SHAPE)
            )
            file.swmr_mode = True
            for index, frame in enumerate(frames):
                dataset.resize(index + 1, axis=0)
                dataset[index] = frame
                dataset.flush()
                begun.set()
                time.sleep(0.005)

    thread = threading.Thread(target=detector)
    thread.start()
    begun.wait(10)
    run = StreamedRun(live, tmp_path / "a.h5")
    for start in range(0, 60, 20):
        run.announce(start, start + 20)
    run.stop()
    thread.join()
    assert sinks[0].result.status.n_skipped == 0
    assert_same_result(sinks[0].result, offline(frames))


def test_a_file_outside_the_roots_is_a_gap_that_says_so(subscribe, tmp_path):
    (tmp_path / "allowed").mkdir()
    live, sinks = subscribe(file_roots=[tmp_path / "allowed"])
    write(tmp_path / "a.h5", series(10))
    write(tmp_path / "allowed/a.h5", series(10))
    run = StreamedRun(live, tmp_path / "a.h5")
    run.announce(0, 10)
    run.stop()
    assert "file_roots" in sinks[0].end.status.message
    assert sinks[0].result.status.n_processed == 0
    run = StreamedRun(live, tmp_path / "allowed/a.h5")
    run.announce(0, 10)
    run.stop()
    assert sinks[1].result.status.n_processed == 10


# --- runs ---------------------------------------------------------------------------------------


def test_two_interleaved_runs_each_give_their_result(subscribe):
    live, sinks = subscribe()
    first, second = series(60, seed=1), series(60, seed=2)
    (one, send_one, stop_one), (two, send_two, stop_two) = (
        composed_run(live, **{"acquire period": 0.01}) for _ in range(2)
    )
    for a, b in zip(first, second, strict=True):
        send_one(a)
        send_two(b)
    stop_one()
    stop_two()
    assert live.wait(30)
    results = {sink.info.uid: sink.result for sink in sinks}
    assert_same_result(results[one], offline(first))
    assert_same_result(results[two], offline(second))


def test_events_that_were_rewound_by_a_pause_count_once(engine, subscribe):
    live, sinks = subscribe()
    frames = series(66)
    camera = SimulatedCamera(recorded(frames), name="cam")
    pauses = [20, 40]

    @bpp.run_decorator(md={"detectors": ["cam"], "acquire period": 0.01})
    def plan():
        for index in range(60):
            if index % 2 == 0:
                yield from bps.checkpoint()
            yield from bps.trigger_and_read([camera])
            if pauses and index == pauses[0]:
                pauses.pop(0)
                yield from bps.pause()

    events = []
    engine.subscribe(lambda name, doc: events.append(doc["seq_num"]), "event")
    with pytest.raises(RunEngineInterrupted):
        engine(plan())
    with pytest.raises(RunEngineInterrupted):
        engine.resume()
    engine.resume()
    assert live.wait(30)
    assert len(events) > len(set(events)) == 60  # the RunEngine did repeat some
    (sink,) = sinks
    assert sink.result.c2.shape == (2, 60, 60)
    assert sink.result.status.n_processed == 60
    # The frame of each repeated event is the one that was taken first.
    taken, repeated = [], set()
    for frame, number in enumerate(events):
        if number not in repeated:
            taken.append(frame)
        repeated.add(number)
    assert_same_result(sink.result, offline(frames[taken]))


@pytest.mark.parametrize(("how", "status"), [("abort", "abort"), ("stop", "success")])
def test_a_run_that_is_ended_from_a_pause_keeps_what_it_has(engine, subscribe, how, status):
    live, sinks = subscribe()
    frames = series(60)
    camera = SimulatedCamera(recorded(frames), name="cam")

    @bpp.run_decorator(md={"detectors": ["cam"], "acquire period": 0.01})
    def plan():
        for _ in range(55):
            yield from bps.checkpoint()
            yield from bps.trigger_and_read([camera])
        yield from bps.pause()

    with pytest.raises(RunEngineInterrupted):
        engine(plan())
    getattr(engine, how)()
    assert live.wait(30)
    (sink,) = sinks
    assert sink.end.raw_exit_status == status
    assert sink.end.analysis_exit_status == "success"
    assert_same_result(sink.result, offline(frames[:55]))


# --- documents ----------------------------------------------------------------------------------


def test_events_that_a_network_lost_are_gaps_in_their_places(subscribe):
    live, sinks = subscribe()
    frames = series(60)
    documents = []
    _, send, stop = composed_run(lambda name, doc: documents.append((name, doc)))
    for frame in frames:
        send(frame)
    stop()
    lost = {7, 8, 30}
    for name, doc in documents:
        if name != "event" or doc["seq_num"] not in lost:
            live(name, doc)
    assert live.wait(30)
    status = sinks[0].result.status
    assert status.skipped == ((6, 8), (29, 30))
    assert status.n_processed == 57
    assert "did not get here" in status.message


def test_frames_larger_than_the_settings_allow_are_gaps_and_not_copied(subscribe):
    live, sinks = subscribe(queue_bytes=1000, block_bytes=1000)
    _, send, stop = composed_run(live)
    for frame in series(3):
        send(frame)  # 2400 bytes each
    stop()
    assert live.wait(30)
    status = sinks[0].result.status
    assert (status.n_processed, status.n_skipped) == (0, 3)
    assert "Frames of 2400 bytes each" in status.message
    assert "queue_bytes" in status.message


def test_documents_in_the_wrong_order_or_twice_or_of_nobody_change_nothing(subscribe):
    live, sinks = subscribe()
    frames = series(60)
    documents = []
    _, send, stop = composed_run(lambda name, doc: documents.append((name, doc)))
    for frame in frames:
        send(frame)
    stop()
    start, descriptor, *events, end = documents
    live(*end)  # a stop before its start
    live(*descriptor)
    live(*events[0])
    live(*start)
    live(*start)
    live(*events[0])  # before its descriptor
    live(*descriptor)
    for event in events:
        live(*event)
        live(*event)
        live("no such document", event[1])
        live("event", {**event[1], "descriptor": "unknown"})
    live(*end)
    live(*end)
    live(*events[0])  # after the stop
    assert live.wait(30)
    (sink,) = sinks
    assert sink.result.status.n_processed == 60
    assert sink.result.status.n_skipped == 0
    assert sink.end.raw_exit_status == "success"
    np.testing.assert_allclose(sink.result.c2, offline(frames).c2, rtol=1e-5)


@pytest.mark.parametrize("seconds", [-1e9, 0.0, 1e18, float("nan"), float("inf"), None, "now"])
def test_times_in_documents_do_not_matter(subscribe, seconds):
    live, sinks = subscribe()
    frames = series(55)

    def with_another_clock(name, doc):
        live(name, {**doc, "time": seconds} if "time" in doc else doc)

    _, send, stop = composed_run(with_another_clock, **{"acquire period": 0.01})
    for frame in frames:
        send(frame)
    stop()
    assert live.wait(30)
    assert_same_result(sinks[0].result, offline(frames))


def test_a_wall_clock_that_jumps_does_not_matter(subscribe, monkeypatch):
    live, sinks = subscribe()
    frames = series(60)
    now, jumps = time.time(), itertools.cycle([0.0, -1e6, 1e9, 5.0, -1e9])
    monkeypatch.setattr(time, "time", lambda: now + next(jumps))
    _, send, stop = composed_run(live, **{"acquire period": 0.01})
    for frame in frames:
        send(frame)
    stop()
    assert live.wait(30)
    (sink,) = sinks
    assert_same_result(sink.result, offline(frames))
    assert 0 <= sink.result.status.lag_s < 30
