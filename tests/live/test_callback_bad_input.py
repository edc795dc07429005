"""What goes wrong behind LiveDenoise: the scan goes on, and the result says what happened."""

import logging
import threading

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import bluesky.preprocessors as bpp
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
from xpcs_live_denoise import RoiMap
from xpcs_live_denoise.simulation import SimulatedCamera, SimulatedEiger, fly_series, recorded


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


def test_what_a_stop_document_says_can_be_stored_and_shown(subscribe):
    live, sinks = subscribe()
    uid, send, _ = composed_run(live)
    for frame in series(3):
        send(frame)
    reason = "[Errno 2] No such file: 'gel\udce9.h5'\0\x1b[2J"
    live("stop", {"uid": "s", "run_start": uid, "exit_status": "fail\ud800", "reason": reason})
    assert live.wait(10)
    end = sinks[0].end
    assert end.reason.startswith("[Errno 2] No such file: 'gel?.h5'??[2J")
    assert end.raw_exit_status == "fail?"


def test_a_file_name_that_is_no_text_can_be_told(subscribe):
    live, sinks = subscribe()
    run = event_model.compose_run()
    key = {"source": "t", "dtype": "array", "shape": list(SHAPE), "external": "STREAM:"}
    stream = run.compose_descriptor(name="primary", data_keys={"cam_image": key})
    resource = run.compose_stream_resource(
        mimetype="application/x-hdf5", uri="/no/gel\udce9.h5", data_key="cam_image", parameters={}
    )
    live("start", run.start_doc)
    live("descriptor", stream.descriptor_doc)
    live("stream_resource", resource.stream_resource_doc)
    datum = resource.compose_stream_datum(
        indices={"start": 0, "stop": 3}, descriptor=stream.descriptor_doc
    )
    live("stream_datum", datum)
    live("stop", run.compose_stop())
    assert live.wait(20)
    end = sinks[0].end
    assert "/no/gel?.h5" in end.status.message
    assert (end.reason + end.status.message).isprintable()


def test_another_detectors_runs_are_ignored_with_one_line_a_session(engine, subscribe, caplog):
    live, sinks = subscribe(detector="eiger4m_single")
    for _ in range(2):
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
    assert set(result.gamma.source) == {"raw", "path", "bayes", "series_raw"}


def test_frames_of_another_shape_become_gaps(subscribe, caplog):
    live, sinks = subscribe()
    frames = list(series(60))
    frames[20] = frames[20][:-1]
    _, send, stop = composed_run(live)
    for frame in frames:
        send(frame)
    stop()
    assert live.wait(30)
    result = sinks[0].result
    assert result.status.skipped == ((20, 21),)
    assert result.status.n_processed == 59
    assert np.isnan(result.c2[:, 20]).all()
    assert np.isnan(result.c2[:, :, 20]).all()
    rest = np.delete(np.delete(result.c2, 20, 1), 20, 2)
    assert np.isfinite(rest).all()
    assert "got shape (k, 29, 40)" in caplog.text
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
    _, send, stop = composed_run(live)
    for rows in range(40, 140):
        frame = np.ones((rows, 40))
        send(frame)
    stop()
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
    assert "got shape (k, 30, 40), expected (k, 5, 5)" in sink.end.reason
    assert caplog.text.count("expected (k, 5, 5)") == 1


def test_no_rois_at_all_is_said_in_the_derived_run(engine, subscribe):
    live, sinks = subscribe(rois=None)
    engine(bp.count([SimulatedCamera(recorded(series(3)), name="cam")], num=3))
    assert live.wait(10)
    assert "rois" in sinks[0].end.reason


def test_frames_beyond_the_queue_become_gaps_and_are_counted(subscribe):
    gate = threading.Event()

    class Waiting(Fake):
        """Holds the worker up while it looks at the first frame."""

        @property
        def info(self):
            assert gate.wait(10)
            return {}

        @info.setter
        def info(self, value):
            pass

    live, sinks = subscribe(queue_bytes=1, ensemble=Waiting())
    frames = series(10)
    _, send, stop = composed_run(live)
    for frame in frames:
        send(frame)
    stop()
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
    _, send, stop = composed_run(live, shape=[60, *SHAPE], **{"acquire period": "0.01"})
    send(frames)
    stop()
    assert live.wait(30)
    assert_same_result(sinks[0].result, offline(frames))


def test_events_that_hold_no_frame_keep_their_place_in_time(subscribe, caplog):
    live, sinks = subscribe()
    frames = list(series(60))
    values = frames.copy()
    values[10], values[20], values[30] = None, np.zeros(5), np.zeros(SHAPE, complex)
    _, send, stop = composed_run(live)
    for value in values:
        send(value)
    stop()
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
    class Asynchronous:
        async def read_configuration(self):
            return {}

    live, sinks = subscribe(device=Asynchronous())
    engine(bp.count([SimulatedCamera(recorded(series(3)), name="cam")], num=3))
    assert live.wait(10)
    assert sinks[0].result.c2.shape == (2, 3, 3)


def test_a_stop_without_its_start_is_nothing(subscribe):
    live, sinks = subscribe()
    live("stop", {"uid": "b", "run_start": "unknown", "exit_status": "success", "time": 0.0})
    assert live.wait(5)
    assert sinks == []


def test_a_denoiser_that_raises_ends_the_analysis_and_not_the_scan(engine, subscribe, caplog):
    class Broken(Fake):
        def denoise(self, windows):
            raise RuntimeError("out of memory")

    live, sinks = subscribe(ensemble=Broken())
    engine(bp.count([SimulatedCamera(recorded(series(70)), name="cam")], num=70))
    assert live.wait(30)
    (sink,) = sinks
    assert sink.end.analysis_exit_status == "fail"
    assert sink.end.raw_exit_status == "success"
    assert "out of memory" in sink.end.reason
    assert "out of memory" in live.status[sink.info.uid].message
