"""LiveDenoise under a real RunEngine, with results in memory."""

import bluesky.plans as bp
import event_model
import numpy as np
import pytest

from tests.support.live_runs import (  # noqa: F401 - two of them are fixtures
    ROIS,
    SHAPE,
    Fake,
    assert_same_result,
    composed_run,
    engine,
    offline,
    series,
    subscribe,
)
from xpcs_live_denoise.simulation import SimulatedCamera, SimulatedEiger, fly_series, recorded


@pytest.mark.parametrize("frames_per_event", [1, 4])
def test_frames_inline_in_events_give_the_result_of_the_offline_analysis(
    engine, subscribe, frames_per_event
):
    frames = series(80)
    live, sinks = subscribe()
    camera = SimulatedCamera(recorded(frames), name="cam", frames_per_event=frames_per_event)
    engine(bp.count([camera], num=80 // frames_per_event))
    assert live.wait(30)
    (sink,) = sinks
    assert_same_result(sink.result, offline(frames))
    assert sink.end.raw_exit_status == sink.end.analysis_exit_status == "success"
    assert (sink.result.status.n_seen, sink.result.status.n_processed) == (80, 80)
    assert sink.info.model == {"name": "fake"}
    assert 1 <= sink.result.picture.n_frames <= 80
    assert live.n_faults == 0


def test_streamed_frames_are_published_while_the_run_goes_on(engine, subscribe, tmp_path):
    frames = series(90)
    live, sinks = subscribe()
    detector = SimulatedEiger(
        recorded(frames), tmp_path, n_frames=90, name="cam", frame_rate_hz=100
    )
    at_stop = []
    engine.subscribe(
        lambda name, doc: at_stop.extend(p.n_frames for p in sinks[0].publications), "stop"
    )
    engine(fly_series(detector, flush_period=0.1))
    assert live.wait(30)
    (sink,) = sinks
    assert at_stop, "nothing was published before the stop document"
    assert_same_result(sink.result, offline(frames))
    picture = sink.result.picture
    assert (picture.binning, picture.n_frames) == (1, 90)
    np.testing.assert_allclose(picture.mean, frames.mean(axis=0), rtol=1e-6)
    provisional = [p.gamma for p in sink.publications if p.gamma is not None]
    seen = {
        (roi, age, source)
        for table in provisional
        for roi, age, source in zip(table.roi, table.age_frame, table.source, strict=True)
    }
    assert len(seen) == sum(map(len, provisional)), "a provisional row came twice"
    assert not any(table.final.any() for table in provisional)
    np.testing.assert_allclose(sink.info.frame_time_s, 0.01)


def test_the_rows_of_all_publications_make_up_c2(engine, subscribe, tmp_path):
    frames = series(70)
    live, sinks = subscribe()
    detector = SimulatedEiger(
        recorded(frames), tmp_path, n_frames=70, name="cam", frame_rate_hz=200
    )
    engine(fly_series(detector, flush_period=0.05))
    assert live.wait(30)
    (sink,) = sinks
    c2 = np.full((2, 70, 70), np.nan)
    for publication in sink.publications:
        if (rows := publication.c2) is not None:
            c2[:, rows.start : rows.stop, : rows.stop] = rows.values
    done = sink.publications[-1].n_frames
    lower = np.tril_indices(done)
    np.testing.assert_allclose(c2[:, *lower], sink.result.c2[:, *lower], rtol=1e-6)


def test_two_runs_at_the_same_time_do_not_mix(subscribe):
    live, sinks = subscribe()
    runs = [
        (*composed_run(live, **{"acquire period": "0.01"}), series(60, seed)) for seed in (1, 2)
    ]
    for both in zip(*(frames for *_, frames in runs), strict=True):
        for (_, send, _, _), frame in zip(runs, both, strict=True):
            send(frame)
    for _, _, stop, _ in runs:
        stop()
    assert live.wait(30)
    by_uid = {sink.info.uid: sink for sink in sinks}
    for uid, _, _, frames in runs:
        assert_same_result(by_uid[uid].result, offline(frames))
    assert list(live.status) == [uid for uid, *_ in runs]


def test_an_array_that_a_detector_uses_again_is_copied(subscribe):
    live, sinks = subscribe()
    frames = series(60)
    _, send, stop = composed_run(live, **{"acquire period": "0.01"})
    buffer = np.empty_like(frames[0])
    for frame in frames:
        buffer[:] = frame
        send(buffer)
    stop()
    assert live.wait(30)
    assert_same_result(sinks[0].result, offline(frames))


def test_the_devices_configuration_completes_the_documents(engine, subscribe):
    camera = SimulatedCamera(recorded(series(3)), name="cam", frame_rate_hz=20)
    live, sinks = subscribe(device=camera)
    *_, stop = composed_run(live)
    stop()
    assert live.wait(10)
    info = sinks[0].info
    assert info.frame_time_s == 0.05
    assert info.geometry.detector_distance_m == 10.0
    assert "no frames of the detector" in sinks[0].end.reason


def test_what_a_later_descriptor_says_differently_is_told_and_not_used(subscribe):
    live, sinks = subscribe()
    run = event_model.compose_run()

    def descriptor(period, distance):
        values = {"cam_cam_acquire_period": period, "cam_det_distance": distance}
        keys = {key: {"source": "t", "dtype": "number", "shape": []} for key in values}
        return run.compose_descriptor(
            name="primary",
            data_keys={"cam_image": {"source": "t", "dtype": "array", "shape": list(SHAPE)}},
            configuration={"cam": {"data": values, "timestamps": values, "data_keys": keys}},
        )

    live("start", run.start_doc)
    for stream, frames in ((descriptor(0.01, 5.0), series(30)), (descriptor(0.02, 5.0), series(9))):
        live("descriptor", stream.descriptor_doc)
        for frame in frames:
            event = stream.compose_event(data={"cam_image": frame}, timestamps={"cam_image": 0.0})
            live("event", event)
    live("stop", run.compose_stop())
    assert live.wait(30)
    (sink,) = sinks
    assert sink.info.frame_time_s == 0.01
    assert sink.result.c2.shape == (2, 39, 39)
    assert (
        "(frame time) is 0.02 s; 0.01 s, of a setting or another document,"
        in sink.end.status.message
    )


def test_the_picture_of_dark_subtracted_frames_holds_their_negative_numbers(
    engine, subscribe, tmp_path
):
    dark = np.random.default_rng(5).normal(0.0, 2.0, (60, *SHAPE))
    frames = (series(60) / 10 + dark).astype(np.float32)
    frames[:, 14] = 2.0**32 - 1  # a gap between modules
    live, sinks = subscribe()
    engine(fly_series(SimulatedEiger(recorded(frames), tmp_path, n_frames=60, name="cam")))
    assert live.wait(30)
    picture = sinks[0].result.picture
    assert np.flatnonzero(np.isnan(picture.mean).all(axis=1)).tolist() == [14]
    measured = np.arange(SHAPE[0]) != 14
    mean = frames[:, measured].mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(picture.mean[measured], mean, atol=1e-5)


def test_the_setting_threshold_chooses_among_those_of_frames_in_events(subscribe):
    frames = series(60)
    live, sinks = subscribe(threshold=2, frame_time_s=0.01)
    _, send, stop = composed_run(live, shape=(2, *SHAPE))
    for frame in frames:
        send(np.stack([frame * 0, frame]))
    stop()
    assert live.wait(30)
    assert_same_result(sinks[0].result, offline(frames))
    assert sinks[0].result.status.n_processed == 60
