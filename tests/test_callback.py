"""LiveDenoise under a real RunEngine, with results in memory and everything that can go wrong."""

import logging
import threading
import uuid

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import bluesky.preprocessors as bpp
import event_model
import numpy as np
import pytest
from bluesky.run_engine import RunEngine

from xpcs_live_denoise import LiveDenoise, RoiMap, Settings, analyse
from xpcs_live_denoise.sinks.memory import MemorySink
from xpcs_live_denoise.sources.simulated import (
    SimulatedCamera,
    SimulatedEiger,
    fly_series,
    recorded,
)

SHAPE = (30, 40)
LABELS = np.zeros(SHAPE, int)
LABELS[2:14] = 1
LABELS[15:28] = 2
ROIS = RoiMap.from_labels(LABELS)


def series(n, seed=0):
    """Poisson frames of a field that forgets itself by a tenth a frame."""
    rng = np.random.default_rng(seed)
    field, frames = rng.normal(size=(2, *SHAPE)), np.empty((n, *SHAPE), np.uint16)
    for frame in frames:
        frame[:] = rng.poisson(3 * (field**2).sum(0))
        field = 0.9 * field + np.sqrt(1 - 0.81) * rng.normal(size=(2, *SHAPE))
    return frames


class Fake:
    """A denoiser that gives back what it got: the windows and the blending stay visible."""

    def __init__(self):
        self.info = {"name": "fake"}

    def denoise(self, windows):
        return windows, np.full_like(windows, 0.1)


@pytest.fixture
def engine():
    return RunEngine({}, context_managers=[])


@pytest.fixture
def subscribe(engine, monkeypatch):
    """Return a function that subscribes a LiveDenoise and returns it with its memory sinks."""
    made = []

    def subscribe(**fields):
        rois = fields.pop("rois", ROIS)
        sinks = []

        def sink(info):
            sinks.append(MemorySink(info))
            return sinks[-1]

        options = {"detector": "cam", "publish_period_s": 0.02, **fields}
        live = LiveDenoise(Settings(**options), rois=rois, sinks=[sink])
        live._ensemble = (Fake(), "")
        engine.subscribe(live)
        made.append(live)
        return live, sinks

    yield subscribe
    for live in made:
        assert live.close(10)


def offline(frames, **fields):
    options = {"detector": "cam", "frame_time_s": 0.01, **fields}
    return analyse(frames, Settings(**options), rois=ROIS, ensemble=Fake())


def assert_same_result(result, expected):
    np.testing.assert_allclose(result.c2, expected.c2, rtol=1e-5)
    np.testing.assert_allclose(result.denoised.c2, expected.denoised.c2, rtol=1e-5)
    np.testing.assert_allclose(
        result.gamma.relaxation_rate, expected.gamma.relaxation_rate, rtol=1e-3
    )


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
    bundles = []
    for seed in (1, 2):
        run = event_model.compose_run(uid=str(uuid.uuid4()), metadata={"acquire period": "0.01"})
        stream = run.compose_descriptor(
            name="primary",
            data_keys={"cam_image": {"source": "t", "dtype": "array", "shape": list(SHAPE)}},
        )
        bundles.append((run, stream, series(60, seed)))
        live("start", run.start_doc)
        live("descriptor", stream.descriptor_doc)
    for frames in zip(*(frames for *_, frames in bundles), strict=True):
        for (_, stream, _), frame in zip(bundles, frames, strict=True):
            live(
                "event",
                stream.compose_event(data={"cam_image": frame}, timestamps={"cam_image": 0.0}),
            )
    for run, *_ in bundles:
        live("stop", run.compose_stop())
    assert live.wait(30)
    by_uid = {sink.info.uid: sink for sink in sinks}
    for run, _, frames in bundles:
        assert_same_result(by_uid[run.start_doc["uid"]].result, offline(frames))
    assert list(live.status) == [run.start_doc["uid"] for run, *_ in bundles]


def test_an_array_that_a_detector_uses_again_is_copied(subscribe):
    live, sinks = subscribe()
    frames = series(60)
    run = event_model.compose_run(metadata={"acquire period": "0.01"})
    stream = run.compose_descriptor(
        name="primary",
        data_keys={"cam_image": {"source": "t", "dtype": "array", "shape": list(SHAPE)}},
    )
    live("start", run.start_doc)
    live("descriptor", stream.descriptor_doc)
    buffer = np.empty_like(frames[0])
    for frame in frames:
        buffer[:] = frame
        live(
            "event", stream.compose_event(data={"cam_image": buffer}, timestamps={"cam_image": 0.0})
        )
    live("stop", run.compose_stop())
    assert live.wait(30)
    assert_same_result(sinks[0].result, offline(frames))


# --- bad input ------------------------------------------------------------------------------


def test_a_run_without_frames_of_the_detector_is_ignored(engine, subscribe, caplog):
    live, sinks = subscribe()
    engine(bpp.run_wrapper(bps.null()))
    assert live.wait(5)
    assert sinks == []
    assert not [r for r in caplog.records if r.name.startswith("xpcs") and r.levelno > logging.INFO]


def test_an_image_key_that_does_not_exist_is_told_with_those_that_do(engine, subscribe, caplog):
    live, sinks = subscribe(image_key="cam_imgae")
    engine(bp.count([SimulatedCamera(recorded(series(3)), name="cam")], num=3))
    assert live.wait(10)
    (sink,) = sinks
    assert "No data key 'cam_imgae'" in sink.end.reason
    assert "cam_image" in sink.end.reason
    assert sink.end.analysis_exit_status == "fail"
    assert sink.end.raw_exit_status == "success"
    assert "No data key 'cam_imgae'" in caplog.text


def test_another_detectors_run_is_ignored_with_one_line(engine, subscribe, caplog):
    live, sinks = subscribe(detector="eiger4m_single")
    engine(bp.count([SimulatedCamera(recorded(series(3)), name="cam")], num=3))
    assert live.wait(10)
    assert sinks == []
    assert caplog.text.count("is not analysed") == 1


def test_an_aborted_run_of_three_frames_gives_c2_and_says_what_happened(engine, subscribe):
    live, sinks = subscribe()
    camera = SimulatedCamera(recorded(series(9)), name="cam")

    def plan():
        yield from bps.open_run({"detectors": ["cam"]})
        for _ in range(3):
            yield from bps.trigger_and_read([camera])
        raise RuntimeError("the beam is gone")

    with pytest.raises(RuntimeError, match="the beam is gone"):
        engine(bpp.finalize_wrapper(plan(), bps.null()))
    assert live.wait(10)
    (sink,) = sinks
    assert sink.result.c2.shape == (2, 3, 3)
    assert sink.result.denoised is None
    assert "fewer than one window" in sink.result.status.message
    assert sink.end.raw_exit_status == "fail"
    assert "the beam is gone" in sink.end.reason


def test_fewer_frames_than_a_window_give_c2_and_g2_and_a_note(engine, subscribe):
    live, sinks = subscribe()
    frames = series(30)
    engine(bp.count([SimulatedCamera(recorded(frames), name="cam")], num=30))
    assert live.wait(10)
    result = sinks[0].result
    assert result.c2.shape == (2, 30, 30)
    assert np.isfinite(result.g2.g2).all()
    assert result.denoised is None
    assert "fewer than one window of 50" in result.status.message
    assert set(result.gamma.source) == {"raw", "bayes", "series_raw"}


def test_frames_of_another_shape_become_gaps(subscribe, caplog):
    live, sinks = subscribe()
    frames = list(series(60))
    frames[20] = frames[20][:-1]
    run = event_model.compose_run()
    stream = run.compose_descriptor(
        name="primary",
        data_keys={"cam_image": {"source": "t", "dtype": "array", "shape": list(SHAPE)}},
    )
    live("start", run.start_doc)
    live("descriptor", stream.descriptor_doc)
    for frame in frames:
        live(
            "event", stream.compose_event(data={"cam_image": frame}, timestamps={"cam_image": 0.0})
        )
    live("stop", run.compose_stop())
    assert live.wait(30)
    result = sinks[0].result
    assert result.status.skipped == ((20, 21),)
    assert result.status.n_processed == 59
    assert np.isnan(result.c2[:, 20]).all()
    assert np.isnan(result.c2[:, :, 20]).all()
    rest = np.delete(np.delete(result.c2, 20, 1), 20, 2)
    assert np.isfinite(rest).all()
    assert "got shape (1, 29, 40)" in caplog.text
    assert sinks[0].end.analysis_exit_status == "success"


def test_a_file_that_is_missing_behind_its_documents_becomes_a_gap(engine, subscribe, tmp_path):
    live, sinks = subscribe()

    class Vanishing(SimulatedEiger):
        def collect_asset_docs(self, index=None):
            for name, doc in super().collect_asset_docs(index):
                gone = {"uri": "file://localhost/nowhere/series.h5"}
                yield name, {**doc, **gone} if name == "stream_resource" else doc

    detector = Vanishing(recorded(series(20)), tmp_path, n_frames=20, name="cam", frame_rate_hz=500)
    engine(fly_series(detector))
    assert live.wait(30)
    (sink,) = sinks
    assert "/nowhere/series.h5" in sink.result.status.message
    assert sink.end.analysis_exit_status == "fail"
    assert "20 of 20 frames could not be had" in sink.end.reason
    assert sink.result.status.n_skipped == 20
    assert np.isnan(sink.result.c2).all()


def test_a_thousand_different_troubles_do_not_fill_the_log(subscribe, caplog):
    live, sinks = subscribe()
    run = event_model.compose_run()
    stream = run.compose_descriptor(
        name="primary",
        data_keys={"cam_image": {"source": "t", "dtype": "array", "shape": list(SHAPE)}},
    )
    live("start", run.start_doc)
    live("descriptor", stream.descriptor_doc)
    for rows in range(40, 140):
        frame = np.ones((rows, 40))
        live(
            "event", stream.compose_event(data={"cam_image": frame}, timestamps={"cam_image": 0.0})
        )
    live("stop", run.compose_stop())
    assert live.wait(30)
    assert sinks[0].result.status.n_skipped == 100
    assert len([r for r in caplog.records if r.name.startswith("xpcs")]) <= 22
    assert "only the beginning is kept" in sinks[0].end.status.message


def test_rois_of_another_shape_are_told_once(engine, subscribe, caplog):
    live, sinks = subscribe(rois=RoiMap.from_labels(np.ones((5, 5), int)))
    engine(bp.count([SimulatedCamera(recorded(series(3)), name="cam")], num=3))
    assert live.wait(10)
    (sink,) = sinks
    assert sink.end.analysis_exit_status == "fail"
    assert "got shape (1, 30, 40), expected (k, 5, 5)" in sink.end.reason
    assert caplog.text.count("expected (k, 5, 5)") == 1


def test_no_rois_at_all_is_said_in_the_derived_run(engine, subscribe):
    live, sinks = subscribe(rois=None)
    engine(bp.count([SimulatedCamera(recorded(series(3)), name="cam")], num=3))
    assert live.wait(10)
    assert "rois" in sinks[0].end.reason


def test_frames_beyond_the_queue_become_gaps_and_are_counted(subscribe):
    live, sinks = subscribe(queue_bytes=1)
    gate = threading.Event()
    live._open_ensemble = lambda: (gate.wait(10) and None, "")
    frames = series(10)
    run = event_model.compose_run()
    stream = run.compose_descriptor(
        name="primary",
        data_keys={"cam_image": {"source": "t", "dtype": "array", "shape": list(SHAPE)}},
    )
    live("start", run.start_doc)
    live("descriptor", stream.descriptor_doc)
    for frame in frames:
        live(
            "event", stream.compose_event(data={"cam_image": frame}, timestamps={"cam_image": 0.0})
        )
    live("stop", run.compose_stop())
    gate.set()
    assert live.wait(10)
    status = sinks[0].result.status
    # One frame may always wait.
    assert (status.n_seen, status.n_processed, status.n_skipped) == (10, 1, 9)
    assert status.skipped == ((1, 10),)
    assert "queue_bytes" in status.message
    assert "9 of 10 frames" in sinks[0].end.reason


def test_an_event_that_holds_more_than_the_queue_is_taken_in_parts(subscribe):
    live, sinks = subscribe(queue_bytes=8 * 60 * 2400, block_bytes=4 * 2400)
    frames = series(60)
    run = event_model.compose_run(metadata={"acquire period": "0.01"})
    stream = run.compose_descriptor(
        name="primary",
        data_keys={"cam_image": {"source": "t", "dtype": "array", "shape": [60, *SHAPE]}},
    )
    live("start", run.start_doc)
    live("descriptor", stream.descriptor_doc)
    live("event", stream.compose_event(data={"cam_image": frames}, timestamps={"cam_image": 0.0}))
    live("stop", run.compose_stop())
    assert live.wait(30)
    assert_same_result(sinks[0].result, offline(frames))


def test_events_that_hold_no_frame_keep_their_place_in_time(subscribe, caplog):
    live, sinks = subscribe()
    frames = list(series(60))
    values = frames.copy()
    values[10], values[20], values[30] = None, np.zeros(5), np.zeros(SHAPE, complex)
    run = event_model.compose_run()
    stream = run.compose_descriptor(
        name="primary",
        data_keys={"cam_image": {"source": "t", "dtype": "array", "shape": list(SHAPE)}},
    )
    live("start", run.start_doc)
    live("descriptor", stream.descriptor_doc)
    for value in values:
        event = stream.compose_event(data={"cam_image": value}, timestamps={"cam_image": 0.0})
        live("event", event)
    live("stop", run.compose_stop())
    assert live.wait(30)
    result = sinks[0].result
    assert result.status.skipped == ((10, 11), (20, 21), (30, 31))
    kept = np.setdiff1d(np.arange(60), (10, 20, 30))
    expected = offline(np.asarray(frames)).c2[:, kept][:, :, kept]
    np.testing.assert_allclose(result.c2[:, kept][:, :, kept], expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "doc"),
    [
        ("event", {"descriptor": "unknown", "data": {}}),
        ("no such document", {}),
        ("start", {}),
        ("descriptor", None),
    ],
)
def test_no_document_makes_the_callback_raise(subscribe, name, doc, caplog):
    live, _ = subscribe()
    live(name, doc)
    live(name, doc)
    assert live.n_faults == 2
    assert caplog.text.count("the scan goes on") == 1


def test_after_close_a_run_is_ignored_with_one_line(engine, subscribe, caplog):
    live, sinks = subscribe()
    assert live.close(5)
    engine(bp.count([SimulatedCamera(recorded(series(3)), name="cam")], num=3))
    assert live.wait(1)
    assert sinks == []
    assert caplog.text.count("LiveDenoise is closed") == 1


def test_an_asynchronous_device_is_left_alone(engine, subscribe):
    live, sinks = subscribe()

    class Asynchronous:
        async def read_configuration(self):
            return {}

    live._device = Asynchronous()
    engine(bp.count([SimulatedCamera(recorded(series(3)), name="cam")], num=3))
    assert live.wait(10)
    assert sinks[0].result.c2.shape == (2, 3, 3)


def test_a_stop_without_its_start_is_nothing(subscribe):
    live, sinks = subscribe()
    live("stop", {"uid": "b", "run_start": "unknown", "exit_status": "success", "time": 0.0})
    assert live.wait(5)
    assert sinks == []


def test_a_denoiser_that_raises_ends_the_analysis_and_not_the_scan(engine, subscribe, caplog):
    live, sinks = subscribe()

    class Broken(Fake):
        def denoise(self, windows):
            raise RuntimeError("out of memory")

    live._ensemble = (Broken(), "")
    engine(bp.count([SimulatedCamera(recorded(series(70)), name="cam")], num=70))
    assert live.wait(30)
    (sink,) = sinks
    assert sink.end.analysis_exit_status == "fail"
    assert sink.end.raw_exit_status == "success"
    assert "out of memory" in sink.end.reason
    assert "out of memory" in live.status[sink.info.uid].message


def test_the_devices_configuration_completes_the_documents(engine, subscribe):
    live, sinks = subscribe()
    live._device = SimulatedCamera(recorded(series(3)), name="cam", frame_rate_hz=20)
    run = event_model.compose_run()
    stream = run.compose_descriptor(
        name="primary",
        data_keys={"cam_image": {"source": "t", "dtype": "array", "shape": list(SHAPE)}},
    )
    live("start", run.start_doc)
    live("descriptor", stream.descriptor_doc)
    live("stop", run.compose_stop())
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
    (told,) = sink.publications[-1].metadata["later_descriptors"]
    assert "(frame time) is 0.02 s; 0.01 s is used" in told
    assert told in sink.end.status.message
