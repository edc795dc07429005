"""Time that LiveDenoise takes of the RunEngine's thread, per document.

    python -m tests.benchmarks.runengine_thread [--events 500]

Three kinds: events whose frames are the datum of an Eiger series (resource, datum and event
together), stream_datum documents, and events with an inline 4M frame (uint16, 70,000 ROI pixels),
of which the pixels are gathered. The worker computes meanwhile, as it does in a run, though for
references its reading is left out: nothing is on disk.
"""

from __future__ import annotations

import argparse
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import event_model
import numpy as np

from xpcs_live_denoise import LiveDenoise, RoiMap, Settings
from xpcs_live_denoise.sinks.memory import MemorySink

SHAPE_4M = (2167, 2070)
N_PIXELS = 70_000


def rois_4m() -> RoiMap:
    """Return ten rings of about 70,000 pixels altogether, as wide as they are at CHX."""
    radii = np.linspace(100, 100 + 9 * 60, 10)
    center = (1100.0, 1000.0)
    width = N_PIXELS / (2 * np.pi * radii.sum())
    return RoiMap.rings(SHAPE_4M, center, np.column_stack([radii, radii + width]))


def begin(live: LiveDenoise, **key: Any) -> Any:
    """Send start and descriptor; return the run and its stream."""
    run = event_model.compose_run(uid=str(uuid.uuid4()), metadata={"acquire period": "0.01"})
    data_key = {"source": "test", "dtype": "array", "shape": list(SHAPE_4M), **key}
    stream = run.compose_descriptor(name="primary", data_keys={"eiger_image": data_key})
    live("start", run.start_doc)
    live("descriptor", stream.descriptor_doc)
    return run, stream


def datums(run: Any, stream: Any, n: int) -> Iterator[list[tuple[str, Any]]]:
    """Yield the documents of one event each, whose frames are a datum."""
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


def stream_datums(run: Any, stream: Any, n: int) -> Iterator[list[tuple[str, Any]]]:
    """Yield one stream_datum each."""
    resource = run.compose_stream_resource(
        mimetype="application/x-hdf5",
        uri="file://localhost/none/a.h5",
        data_key="eiger_image",
        parameters={"dataset": "/entry/data/data"},
    )
    first = [("stream_resource", resource.stream_resource_doc)]
    for number in range(n):
        doc = resource.compose_stream_datum(
            {"start": number, "stop": number + 1}, descriptor=stream.descriptor_doc
        )
        yield [*first, ("stream_datum", doc)]
        first = []


def inline(_: Any, stream: Any, n: int) -> Iterator[list[tuple[str, Any]]]:
    """Yield one event each that holds a frame."""
    frames = np.random.default_rng(0).poisson(0.3, (8, *SHAPE_4M)).astype(np.uint16)
    for number in range(n):
        frame = frames[number % len(frames)]
        event = stream.compose_event(
            data={"eiger_image": frame}, timestamps={"eiger_image": 0.0}, validate=False
        )
        yield [("event", event)]


def measure(
    documents: Callable[..., Iterator[list[tuple[str, Any]]]], n: int, pause_s: float, **key: Any
) -> np.ndarray[Any, Any]:
    """Return the seconds of each event, sent `pause_s` apart."""
    live = LiveDenoise(
        Settings(detector="eiger", denoise=False), rois=rois_4m(), sinks=[MemorySink]
    )
    run, stream = begin(live, **key)
    live.prepare()
    while not live.status:  # the run begins on the worker's thread
        time.sleep(0.01)
    seconds = []
    for some in documents(run, stream, n):
        before = time.perf_counter()
        for name, doc in some:
            live(name, doc)
        seconds.append(time.perf_counter() - before)
        time.sleep(pause_s)
    live.close(0)
    return np.array(seconds)


def main(arguments: list[str] | None = None) -> None:
    """Print the median and the 95 % quantile of each kind."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=500)
    n = parser.parse_args(arguments).events
    logging.disable()  # every file is missing
    kinds: list[tuple[str, Any, int, dict[str, Any]]] = [
        ("resource/datum/event", datums, n, {"external": "FILESTORE:"}),
        ("stream_datum", stream_datums, n, {"external": "STREAM:"}),
        ("inline 4M frame, 70,000 ROI pixels", inline, min(n, 200), {}),
    ]
    for title, documents, n_events, key in kinds:
        seconds = measure(documents, n_events, 0.01, **key)
        median, most = np.quantile(seconds, [0.5, 0.95]) * 1e3
        print(f"{title}: median {median:.3f} ms, 95 % below {most:.3f} ms ({n_events} events)")


if __name__ == "__main__":
    main()
