"""A run composed with event_model, for tests of what reads documents."""

from __future__ import annotations

import contextlib
from typing import Any

import event_model
import numpy as np
import pytest

from tests.support.file_roots import ANYWHERE
from xpcs_live_denoise.sources.documents import DocumentsByRun, RunDocuments
from xpcs_live_denoise.sources.frames import FrameReader

IMAGE_KEY = "eiger_image"


class ComposedRun:
    """Composes the documents of a run and passes them through the router to a RunDocuments."""

    def __init__(self, **metadata: Any) -> None:
        self.bundle = event_model.compose_run(metadata=metadata)
        self.documents = RunDocuments(self.bundle.start_doc, detector="eiger", data_key=IMAGE_KEY)
        self.references: list[Any] = []
        self.router = DocumentsByRun(lambda start: self._receive)
        self.router("start", self.bundle.start_doc)

    def _receive(self, name: str, doc: Any) -> None:
        self.references.extend(self.documents.receive(name, doc))

    def describe(self, *, name: str = "primary", configuration: Any = None, **keys: Any) -> Any:
        stream = self.bundle.compose_descriptor(
            name=name, data_keys=keys, configuration=configuration or {}
        )
        self.router("descriptor", stream.descriptor_doc)
        return stream

    def event(self, stream: Any, value: Any, key: str = IMAGE_KEY) -> None:
        self.router("event", stream.compose_event(data={key: value}, timestamps={key: 0.0}))

    def asset(self, spec: str, *, path: str = "data/abc", root: str = "/", **options: Any) -> Any:
        bundle = self.bundle.compose_resource(
            spec=spec, root=root, resource_path=path, resource_kwargs=options
        )
        self.router("resource", bundle.resource_doc)
        return bundle

    def event_of(self, stream: Any, asset: Any, *, datum_first: bool = True, **where: Any) -> Any:
        """Send an event whose frames are a datum, and that datum; return the datum."""
        datum = asset.compose_datum(datum_kwargs=where)
        event = stream.compose_event(
            data={IMAGE_KEY: datum["datum_id"]},
            timestamps={IMAGE_KEY: 0.0},
            filled={IMAGE_KEY: False},
            validate=False,
        )
        documents = [("datum", datum), ("event", event)]
        for name, doc in documents if datum_first else documents[1:]:
            self.router(name, doc)
        return datum

    def resource(
        self, *, key: str = IMAGE_KEY, uri: str = "file://localhost/data/a.h5", **parameters
    ):
        mimetype = parameters.pop("mimetype", "application/x-hdf5")
        bundle = self.bundle.compose_stream_resource(
            mimetype=mimetype,
            uri=uri,
            data_key=key,
            parameters={"dataset": "/entry/data/data", **parameters},
        )
        self.router("stream_resource", bundle.stream_resource_doc)
        return bundle

    def datum(
        self, resource: Any, stream: Any, start: int, stop: int, *, seq_num: int | None = None
    ) -> None:
        first = start + 1 if seq_num is None else seq_num
        doc = resource.compose_stream_datum(
            indices={"start": start, "stop": stop},
            seq_nums={"start": first, "stop": first + stop - start},
            descriptor=stream.descriptor_doc,
        )
        self.router("stream_datum", doc)


@pytest.fixture
def Run():
    """The class ComposedRun; keywords become metadata of the start document."""
    return ComposedRun


@pytest.fixture
def frames():
    """30 frames of counts."""
    return np.random.default_rng(7).poisson(3.0, (30, 4, 6)).astype("u2")


@pytest.fixture
def reader():
    """A FrameReader that soon gives up."""
    with contextlib.closing(FrameReader(roots=ANYWHERE, timeout_s=0.05)) as reader:
        yield reader


@pytest.fixture
def patient_reader():
    """A FrameReader that waits."""
    with contextlib.closing(FrameReader(roots=ANYWHERE, timeout_s=30.0)) as reader:
        yield reader
