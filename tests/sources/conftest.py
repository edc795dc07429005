"""A run composed with event_model, for tests of what reads documents."""

from __future__ import annotations

from typing import Any

import event_model
import pytest

from xpcs_live_denoise.sources.documents import RunDocuments

IMAGE_KEY = "eiger_image"


class ComposedRun:
    """Composes the documents of a run and passes them through a RunRouter to a RunDocuments."""

    def __init__(self, **metadata: Any) -> None:
        self.bundle = event_model.compose_run(metadata=metadata)
        self.documents = RunDocuments(self.bundle.start_doc, detector="eiger", data_key=IMAGE_KEY)
        self.references: list[Any] = []
        self.router = event_model.RunRouter([lambda name, start: ([self._receive], [])])
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

    def datum(self, resource: Any, stream: Any, start: int, stop: int) -> None:
        doc = resource.compose_stream_datum(
            indices={"start": start, "stop": stop},
            seq_nums={"start": start + 1, "stop": stop + 1},
            descriptor=stream.descriptor_doc,
        )
        self.router("stream_datum", doc)


@pytest.fixture
def Run():
    """The class ComposedRun; keywords become metadata of the start document."""
    return ComposedRun
