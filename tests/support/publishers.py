"""Publishers and receivers of documents that end with their test, and a run to send."""

import time

import event_model
import numpy as np
import pytest

from xpcs_live_denoise.sources.remote.publisher import DocumentPublisher
from xpcs_live_denoise.sources.remote.receiver import RemoteDocuments


@pytest.fixture
def receive():
    """Return a function that starts a receiver that binds; it collects in `.documents`."""
    made = []

    def receive(address=0, bind=True, **options):
        documents = []
        receiver = RemoteDocuments(
            address, lambda name, doc: documents.append((name, doc)), bind=bind, **options
        )
        receiver.documents = documents
        made.append(receiver)
        return receiver.start()

    yield receive
    for receiver in made:
        receiver.stop()


@pytest.fixture
def publish():
    """Return a function that makes a publisher that somebody listens to."""
    made = []

    def publish(address, **options):
        made.append(DocumentPublisher(address, **{"connect_s": 60, **options}))
        return made[-1]

    yield publish
    for publisher in made:
        publisher.close()


def wait_for(condition, timeout=60.0):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def a_run():
    """Return documents of every kind that the event model has for a run."""
    run = event_model.compose_run(metadata={"sample": "gel", "nested": {"q": [0.1, None, True]}})
    key = {"source": "test", "dtype": "array", "shape": [2, 3]}
    stream = run.compose_descriptor(name="primary", data_keys={"cam_image": key})
    frame = np.arange(6, dtype=np.uint16).reshape(2, 3)
    event = stream.compose_event(data={"cam_image": frame}, timestamps={"cam_image": 0.0})
    resource = run.compose_resource(
        spec="AD_EIGER2", root="/", resource_path="a", resource_kwargs={"images_per_file": 10}
    )
    datum = resource.compose_datum(datum_kwargs={"seq_id": 3})
    streamed = run.compose_stream_resource(
        mimetype="application/x-hdf5", uri="file://localhost/a.h5", data_key="cam_image",
        parameters={"dataset": "entry"},
    )  # fmt: skip
    stream_datum = streamed.compose_stream_datum(
        indices={"start": 0, "stop": 5},
        seq_nums={"start": 1, "stop": 6},
        descriptor=stream.descriptor_doc,
    )
    return [
        ("start", run.start_doc),
        ("descriptor", stream.descriptor_doc),
        ("resource", resource.resource_doc),
        ("datum", datum),
        ("event", event),
        ("event_page", event_model.pack_event_page(event)),
        ("datum_page", event_model.pack_datum_page(datum)),
        ("stream_resource", streamed.stream_resource_doc),
        ("stream_datum", stream_datum),
        ("stop", run.compose_stop()),
    ]
