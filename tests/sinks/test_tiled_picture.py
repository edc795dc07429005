"""The stream `image` of a derived run, written and read back."""

import dataclasses

import numpy as np
import pytest

from xpcs_live_denoise import results
from xpcs_live_denoise.errors import ResultNotFoundError
from xpcs_live_denoise.records.results import Picture
from xpcs_live_denoise.records.run import RunEnd, Status
from xpcs_live_denoise.sinks.run import TiledSink

END = RunEnd(raw_exit_status="success", analysis_exit_status="success", reason="", status=Status())
SHAPE = (30, 41)


def picture(n_frames, shape=SHAPE):
    labels = np.zeros(shape, np.int64)
    labels[5:9] = 2
    mean = np.full(shape, n_frames, np.float64)
    mean[0, 0] = np.nan
    return Picture(mean=mean, labels=labels, binning=3, n_frames=n_frames)


def test_a_picture_is_there_with_the_first_frames_and_overwritten_later(tiled_client, synthetic):
    run = synthetic()
    sink = TiledSink(run.info, client=tiled_client, picture_period_s=0.0)
    sink.write(run.publication(0, 10))
    with pytest.raises(ResultNotFoundError, match="no picture of the detector; expected"):
        results(tiled_client, run.raw_uid).image()
    for n_frames in (10, 20):
        sink.write(run.publication(n_frames, n_frames + 5, picture=picture(n_frames)))
        result = results(tiled_client, run.raw_uid)
        mean, labels = result.image()
        assert mean.dtype == np.float32
        assert labels.dtype == np.int32
        np.testing.assert_array_equal(mean, picture(n_frames).mean.astype(np.float32))
        np.testing.assert_array_equal(labels, picture(n_frames).labels)
        assert mean.attrs == {"binning": 3, "n_frames": n_frames}
        # Three pixels of the detector a pixel: the first one's centre is pixel 1.
        assert mean["row"].values.tolist()[:3] == [1, 4, 7]
        assert mean["col"].values[-1] == 41 * 3 - 2
        assert result.validate(fix_errors=False, raise_on_error=True)
    plain = result["image"].read()
    assert set(plain.indexes) == {"row", "col"}
    assert plain["image"].sel(row=4, col=7).item() == mean[1, 2]


def test_the_picture_of_a_run_that_ended_is_one_event_and_two_arrays(tiled_client, synthetic):
    run = synthetic()
    sink = TiledSink(run.info, client=tiled_client)
    sink.write(run.publication(0, 10, picture=picture(10)))
    sink.write(dataclasses.replace(run.result(), picture=picture(30)))
    sink.finish(END)
    result = results(tiled_client, run.raw_uid)
    assert result.image()[0].attrs["n_frames"] == 30
    assert result.metadata["stop"]["num_events"]["image"] == 1
    assert result.validate(fix_errors=False, raise_on_error=True)
    resources = [dict(doc) for name, doc in result.documents() if name == "stream_resource"]
    assert {"image", "roi_labels"} <= {doc["data_key"] for doc in resources}


def test_pictures_go_to_the_server_some_seconds_apart(tiled_client, synthetic):
    run = synthetic()
    sink = TiledSink(run.info, client=tiled_client, picture_period_s=60.0)
    for n_frames in (10, 20, 30):
        sink.write(run.publication(n_frames - 10, n_frames, picture=picture(n_frames)))
        assert results(tiled_client, run.raw_uid).image()[0].attrs["n_frames"] == 10


def test_a_run_that_fails_still_shows_its_last_picture(tiled_client, synthetic):
    run = synthetic()
    sink = TiledSink(run.info, client=tiled_client)
    for n_frames in (10, 20):
        sink.write(run.publication(n_frames - 10, n_frames, picture=picture(n_frames)))
    sink.finish(END)
    assert results(tiled_client, run.raw_uid).image()[0].attrs["n_frames"] == 20


def test_the_whole_picture_takes_the_place_of_a_binned_one_in_messages_below_the_limit(
    tiled_client, synthetic
):
    sizes = []
    tiled_client.context.http_client.event_hooks["request"].append(
        lambda request: sizes.append(len(request.content))
    )
    run = synthetic()
    sink = TiledSink(run.info, client=tiled_client)
    sink.write(run.publication(0, 10, picture=picture(10, (171, 171))))
    big = dataclasses.replace(picture(30, (512, 513)), binning=1)
    sink.write(dataclasses.replace(run.result(), picture=big))
    sink.finish(END)
    assert max(sizes) < 1_000_000
    mean, labels = results(tiled_client, run.raw_uid).image()
    np.testing.assert_array_equal(mean, big.mean)
    np.testing.assert_array_equal(labels, big.labels)
    assert mean.attrs == {"binning": 1, "n_frames": 30}
    assert mean.row.values.tolist() == list(range(512))
