"""Stored runs with several streams of frames, and the times of their events."""

import uuid

import event_model
import numpy as np
import pytest
from bluesky_tiled_plugins import TiledWriter

from tests.support.file_roots import ANYWHERE
from xpcs_live_denoise.sources import TiledDocuments
from xpcs_live_denoise.sources.documents import RunDocuments

KEY = {"source": "test", "dtype": "array", "shape": [4, 6], "dtype_numpy": "<i8"}
BEGAN = 1.7e9


def stored(client, streams):
    """Store a run of streams (name, number of frames); return its uid."""
    run = event_model.compose_run(
        uid=str(uuid.uuid4()), time=BEGAN, metadata={"detectors": ["cam"]}
    )
    writer = TiledWriter(client["raw"], batch_size=1)
    writer("start", run.start_doc)
    for number, (name, n_frames) in enumerate(streams):
        stream = run.compose_descriptor(
            name=name, data_keys={"cam_image": KEY}, time=BEGAN + number
        )
        writer("descriptor", stream.descriptor_doc)
        for n in range(n_frames):
            time = BEGAN + 2 + 0.2 * n
            frame = np.full((4, 6), n).tolist()
            event = stream.compose_event(
                data={"cam_image": frame}, timestamps={"cam_image": time}, time=time
            )
            writer("event", event)
    writer("stop", run.compose_stop())
    return run.start_doc["uid"]


@pytest.mark.parametrize(
    ("setting", "chosen", "n_frames"), [(None, "primary", 12), ("dark", "dark", 2)]
)
def test_the_series_of_a_stored_run_is_chosen_as_live(tiled_client, setting, chosen, n_frames):
    uid = stored(tiled_client, [("dark", 2), ("primary", 12)])
    source = TiledDocuments(
        tiled_client["raw"], uid, data_key="cam_image", roots=ANYWHERE, stream=setting
    )
    documents = list(source.new_documents())
    run = RunDocuments(
        dict(documents)["start"], detector="cam", data_key="cam_image", stream=setting
    )
    references = [one for name, doc in documents[1:] for one in run.receive(name, doc)]
    assert [(chosen in one.path, one.n_frames) for one in references] == [(True, n_frames)]
    assert "left out:" in run.left_out
    if chosen == "primary":
        assert run.times.spacing().period_s == pytest.approx(0.2)
