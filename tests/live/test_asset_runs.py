"""Runs whose events name datums, live: classic ophyd with an area detector's file plugin."""

import time

import event_model
import h5py
import numpy as np
import pytest

from tests.support.live_runs import (  # noqa: F401 - two of them are fixtures
    SHAPE,
    assert_same_result,
    engine,
    offline,
    series,
    subscribe,
)


def write(path, frames):
    with h5py.File(path, "w") as file:
        file.create_dataset("/entry/data/data", data=frames, chunks=(1, *SHAPE))


@pytest.mark.parametrize("restricted", [False, True], ids=["anywhere", "below a root"])
@pytest.mark.parametrize("spec", ["AD_HDF5", "AD_HDF5_SWMR"])
@pytest.mark.parametrize("per_event", [1, 10])
def test_frames_come_while_the_run_goes_on(subscribe, tmp_path, spec, per_event, restricted):
    live, sinks = subscribe(file_roots=[tmp_path] if restricted else None)
    frames = series(60)
    write(tmp_path / "a.h5", frames)
    run = event_model.compose_run(metadata={"acquire period": 0.01})
    key = {"source": "t", "dtype": "array", "shape": list(SHAPE), "external": "FILESTORE:"}
    stream = run.compose_descriptor(name="primary", data_keys={"cam_image": key})
    resource = run.compose_resource(
        spec=spec,
        root=str(tmp_path),
        resource_path="a.h5",
        resource_kwargs={"frame_per_point": per_event},
    )
    live("start", run.start_doc)
    live("descriptor", stream.descriptor_doc)
    live("resource", resource.resource_doc)
    for point in range(60 // per_event):
        datum = resource.compose_datum(datum_kwargs={"point_number": point})
        live("datum", datum)
        event = stream.compose_event(
            data={"cam_image": datum["datum_id"]},
            timestamps={"cam_image": 0.0},
            filled={"cam_image": False},
            validate=False,
        )
        live("event", event)
    uid, deadline = run.start_doc["uid"], time.monotonic() + 60
    while not (sinks and any(news.gamma is not None for news in sinks[0].publications)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert live.status[uid].n_skipped == 0
    live("stop", run.compose_stop())
    assert live.wait(60)
    assert_same_result(sinks[0].result, offline(frames))
    assert np.isfinite(sinks[0].result.c2).all()
