"""What LiveDenoise takes of the RunEngine's thread, per document."""

from __future__ import annotations

import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeAlias

import event_model
import numpy as np

from xpcs_live_denoise.config import Settings
from xpcs_live_denoise.live import LiveDenoise
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.sinks import MemorySink

from .case import Case, ring_map
from .contest import Contestant, Numbers, Section

SHAPE_4M = (2167, 2070)
PAUSE_S = 0.01
# Documents of one event each.
Documents: TypeAlias = Iterator[list[tuple[str, Any]]]


@contextlib.contextmanager
def runengine_thread(case: Case, shape: tuple[int, int] = SHAPE_4M) -> Iterator[Section]:
    """Make the section of documents that refer to frames, and of frames in events.

    The worker computes meanwhile. What is referred to is not on disk: reading is left out.
    """
    n_events = 5 if case.quick else 100
    rois = rings_in(case.n_pixels, case.n_rois, shape)
    kinds: list[tuple[str, Callable[..., Documents], dict[str, Any]]] = [
        ("stream_datum", stream_datums, {"external": "STREAM:"}),
        ("resource, datum, event", datums, {"external": "FILESTORE:"}),
        ("event with a 4M frame", inline, {}),
    ]
    contestants = [
        Contestant(name=name, run=partial(_measure, rois, make, n_events, key))
        for name, make, key in kinds
    ]
    title = f"The RunEngine's thread: {case.n_pixels:,} ROI pixels of a 4M detector"
    logging.disable()  # every file is missing
    try:
        yield Section(title=title, contestants=contestants, repeats=1, compared=False)
    finally:
        logging.disable(logging.NOTSET)


def rings_in(n_pixels: int, n_rois: int, shape: tuple[int, int]) -> RoiMap:
    """Return rings around the middle of a larger detector; at most a quarter of its pixels."""
    most = min(shape) ** 2 // 4
    small = ring_map(min(n_pixels, most), min(n_rois, most)).label_array
    labels = np.zeros(shape, np.int64)
    top, left = ((edge - inner) // 2 for edge, inner in zip(shape, small.shape, strict=True))
    labels[top : top + small.shape[0], left : left + small.shape[1]] = small
    return RoiMap.from_labels(labels)


def _measure(
    rois: RoiMap, documents: Callable[..., Documents], n_events: int, key: dict[str, Any]
) -> Numbers:
    """Return the median and the 95 % quantile of the times of events, sent in a steady pace."""
    settings = Settings(detector="eiger", denoise=False)
    live = LiveDenoise(settings, rois=rois, sinks=[MemorySink], report=None)
    seconds: list[float] = []
    try:
        run, stream = begin_run(live, rois.shape, PAUSE_S, **key)
        while not live.status:  # the run begins on the worker's thread
            time.sleep(0.01)
        for some in documents(run, stream, n_events):
            before = time.perf_counter()
            for name, doc in some:
                live(name, doc)
            seconds.append(time.perf_counter() - before)
            time.sleep(PAUSE_S)
    finally:
        live.close(10)
    median, most = np.quantile(seconds, [0.5, 0.95]) * 1e6
    return {("median of a frame", "us"): float(median), ("95 % below", "us"): float(most)}


def begin_run(
    live: LiveDenoise, shape: tuple[int, int], frame_time_s: float, **key: Any
) -> tuple[Any, Any]:
    """Send start and descriptor of a run; return the run and its stream."""
    metadata = {"acquire period": str(frame_time_s)}
    run: Any = event_model.compose_run(uid=str(uuid.uuid4()), metadata=metadata)
    data_key = {"source": "bench", "dtype": "array", "shape": list(shape), **key}
    stream: Any = run.compose_descriptor(name="primary", data_keys={"eiger_image": data_key})
    live("start", run.start_doc)
    live("descriptor", stream.descriptor_doc)
    return run, stream


def datums(run: Any, stream: Any, n: int) -> Documents:
    """Yield events whose frames are a datum of an Eiger series."""
    asset = run.compose_resource(
        spec="AD_EIGER2", root="/", resource_path="none/abc", resource_kwargs={"images_per_file": 1}
    )
    first = [("resource", asset.resource_doc)]
    for number in range(n):
        datum = asset.compose_datum(datum_kwargs={"seq_id": number + 1})
        event = stream.compose_event(
            data={"eiger_image": datum["datum_id"]},
            timestamps={"eiger_image": 0.0},
            filled={"eiger_image": False},
        )
        yield [*first, ("datum", datum), ("event", event)]
        first = []


def stream_datums(
    run: Any,
    stream: Any,
    n: int,
    *,
    path: str = "/none/a.h5",
    dataset: str = "/entry/data/data",
    frames_each: int = 1,
) -> Documents:
    """Yield stream_datum documents of frames in an HDF5 file."""
    resource = run.compose_stream_resource(
        mimetype="application/x-hdf5",
        uri=f"file://localhost{path}",
        data_key="eiger_image",
        parameters={"dataset": dataset},
    )
    first = [("stream_resource", resource.stream_resource_doc)]
    for start in range(0, n, frames_each):
        indices = {"start": start, "stop": min(n, start + frames_each)}
        doc = resource.compose_stream_datum(indices, descriptor=stream.descriptor_doc)
        yield [*first, ("stream_datum", doc)]
        first = []


def inline(_: Any, stream: Any, n: int) -> Documents:
    """Yield events that hold a frame."""
    shape = stream.descriptor_doc["data_keys"]["eiger_image"]["shape"]
    frames = np.random.default_rng(0).poisson(0.3, (4, *shape)).astype(np.uint16)
    for number in range(n):
        event = stream.compose_event(
            data={"eiger_image": frames[number % len(frames)]},
            timestamps={"eiger_image": 0.0},
            validate=False,
        )
        yield [("event", event)]
