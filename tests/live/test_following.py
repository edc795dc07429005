"""Following an Eiger's files with a real RunEngine: first rows before the documents, none twice."""

import re
import threading
import time

import bluesky.plans as bp
import event_model
import h5py
import numpy as np

from tests.support.followed_runs import changed, eiger, followed, never  # noqa: F401 - a fixture
from tests.support.live_runs import (  # noqa: F401 - two of them are fixtures
    SHAPE,
    assert_same_result,
    engine,
    offline,
    series,
    subscribe,
)
from xpcs_live_denoise.simulation import SimulatedClassicEiger, recorded


def test_frames_are_published_before_any_document_announces_them(engine, subscribe, eiger):
    frames = series(90)
    detector = eiger(frames)
    live, sinks = followed(subscribe, detector)
    seen = []
    engine.subscribe(lambda name, doc: seen.append(live.status), "descriptor")
    engine(bp.count([detector]))
    assert live.wait(30)
    (sink,) = sinks
    (before,) = seen[0].values()
    assert before.n_processed >= 40, "nothing was read before the descriptor"
    assert_same_result(sink.result, offline(frames))
    status = sink.result.status
    assert (status.n_seen, status.n_processed, status.n_skipped) == (90, 90, 0)
    assert sink.info.n_expected == 90
    assert sink.end.analysis_exit_status == "success"
    assert sink.end.reason == ""
    assert live.n_faults == 0


def test_without_the_device_nothing_is_seen_before_the_end_and_the_result_is_the_same(
    engine, subscribe, eiger
):
    frames = series(60)
    live, sinks = subscribe(frame_time_s=0.01)
    seen = []
    engine.subscribe(lambda name, doc: seen.append(live.status), "descriptor")
    engine(bp.count([eiger(frames)]))
    assert live.wait(30)
    assert [status.n_processed for status in seen[0].values()] == [0]
    assert_same_result(sinks[0].result, offline(frames))


def test_a_folder_is_followed_where_there_is_no_device(engine, subscribe, eiger, tmp_path):
    frames = series(70)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "old_1_master.h5").write_bytes(b"of another run")
    live, sinks = subscribe(follow={"folder": str(tmp_path / "raw")})
    seen = []
    engine.subscribe(lambda name, doc: seen.append(live.status), "descriptor")
    engine(bp.count([eiger(frames, frame_rate_hz=100)]))
    assert live.wait(30)
    (before,) = seen[0].values()
    assert before.n_processed >= 20
    assert_same_result(sinks[0].result, offline(frames))
    assert sinks[0].info.frame_time_s == 0.01, "the master file tells it"


def test_a_run_without_the_detector_is_not_followed(engine, subscribe, eiger):
    other = SimulatedClassicEiger(recorded(series(5)), "/nonexistent", name="other")
    live, sinks = followed(subscribe, other)
    engine(bp.count([], num=1))
    assert live.wait(10)
    assert not sinks
    assert not live.status


def test_every_series_of_a_run_is_followed(engine, subscribe, eiger):
    frames = series(90)
    detector = eiger(frames, n_frames=30)
    live, sinks = followed(subscribe, detector)
    engine(bp.count([detector], num=3))
    assert live.wait(30)
    assert_same_result(sinks[0].result, offline(frames))
    assert sinks[0].info.n_expected == 90
    assert "The run joins 3 series of 30 frames; the pauses" in sinks[0].result.status.message


def test_two_runs_into_the_same_folder_do_not_mix(engine, subscribe, eiger):
    frames = series(60)
    detector = eiger(frames)
    live, sinks = followed(subscribe, detector)
    for _ in range(2):
        engine(bp.count([detector]))
    assert live.wait(30)
    assert len(sinks) == 2
    for sink in sinks:
        assert_same_result(sink.result, offline(frames))


def test_files_that_appear_in_two_halves_are_read_when_they_are_whole(engine, subscribe, eiger):
    frames = series(60)
    detector = eiger(frames, copy_s=0.25)
    live, sinks = followed(subscribe, detector)
    engine(bp.count([detector]))
    assert live.wait(30)
    assert_same_result(sinks[0].result, offline(frames))
    assert sinks[0].result.status.n_skipped == 0


def test_a_last_file_that_comes_after_the_stop_document_is_waited_for(engine, subscribe, eiger):
    frames, late = series(70), []

    def write_later(write, last_frames):
        late.append(threading.Timer(0.7, write, (last_frames,)))
        late[0].start()

    detector = eiger(frames, make_files=changed({4: write_later}))
    live, sinks = followed(subscribe, detector)
    engine(bp.count([detector]))
    assert live.wait(30)
    late[0].join()
    assert_same_result(sinks[0].result, offline(frames))
    assert sinks[0].result.status.n_skipped == 0


def test_a_file_that_never_comes_becomes_a_gap_of_its_frames(engine, subscribe, eiger):
    frames = series(100)
    detector = eiger(frames, make_files=changed({3: never}))
    live, sinks = followed(subscribe, detector)
    engine(bp.count([detector]))
    assert live.wait(30)
    (sink,) = sinks
    np.testing.assert_array_equal(
        np.isnan(sink.result.c2[0, 0]), np.isin(np.arange(100), range(40, 60))
    )
    assert sink.result.status.skipped == ((40, 60),)
    assert sink.result.status.n_processed == 80
    assert "data_000003.h5" in sink.result.status.message
    assert "20 of 100 frames could not be had" in sink.end.reason
    known = np.r_[0:40, 60:100]
    whole = offline(frames).c2
    np.testing.assert_allclose(
        sink.result.c2[:, known][:, :, known], whole[:, known][:, :, known], rtol=1e-5
    )


def test_an_event_of_a_series_whose_files_are_not_there_fails_with_both_names(
    engine, subscribe, eiger
):
    detector = eiger(series(60))
    live, sinks = followed(subscribe, detector)
    collect = detector.collect_asset_docs

    def of_another_series():
        for name, doc in collect():
            yield name, {**doc, "datum_kwargs": {"seq_id": 77}} if name == "datum" else doc

    detector.collect_asset_docs = of_another_series
    engine(bp.count([detector]))
    assert live.wait(30)
    (sink,) = sinks
    assert not np.isfinite(sink.result.c2).any()
    assert sink.end.analysis_exit_status == "fail"
    assert "_77_data_000001.h5 (no such file)" in sink.end.reason
    assert re.search(
        r"names the series \w+_77: the frames of \w+_1, which", sink.end.status.message
    )


def test_inline_frames_of_a_followed_run_are_not_counted_twice(subscribe, eiger, tmp_path):
    frames = series(60)
    detector = eiger(frames)
    detector.stage()
    live, sinks = followed(subscribe, detector)
    run = event_model.compose_run(metadata={"detectors": ["cam"], "num_points": 60})
    live("start", run.start_doc)
    detector.trigger().wait(20)
    deadline = time.monotonic() + 20
    while live.status[run.start_doc["uid"]].n_processed < 60:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    detector.unstage()
    key = {"source": "test", "dtype": "array", "shape": list(SHAPE)}
    stream = run.compose_descriptor(name="primary", data_keys={"cam_image": key})
    live("descriptor", stream.descriptor_doc)
    for frame in frames:
        event = stream.compose_event(data={"cam_image": frame}, timestamps={"cam_image": 0.0})
        live("event", event)
    live("stop", run.compose_stop())
    assert live.wait(30)
    assert_same_result(sinks[0].result, offline(frames))


def test_a_followed_run_learns_its_stream_and_ignores_what_another_one_tells(
    subscribe, eiger, tmp_path
):
    detector = eiger(series(60))
    live, sinks = followed(subscribe, detector)
    detector.stage()
    run = event_model.compose_run(metadata={"detectors": ["cam"], "num_points": 1})
    live("start", run.start_doc)
    detector.trigger().wait(20)
    detector.unstage()
    key = {"source": "test", "dtype": "array", "shape": list(SHAPE)}
    for name, column in (("primary", None), ("dark", 900.0)):
        told = {} if column is None else {"cam_beam_center_x": column, "cam_beam_center_y": 800.0}
        keys = {one: {"source": "test", "dtype": "number", "shape": []} for one in told}
        stamps = dict.fromkeys(told, 0.0)
        configuration = {"cam": {"data": told, "timestamps": stamps, "data_keys": keys}}
        stream = run.compose_descriptor(
            name=name, data_keys={"cam_image": key}, configuration=configuration
        )
        live("descriptor", stream.descriptor_doc)
    live("stop", run.compose_stop())
    assert live.wait(30)
    assert sinks[0].end.status.n_processed == 60
    assert "beam_center" not in sinks[0].end.status.message


def test_a_device_that_fails_to_answer_does_not_reach_the_run_engine(engine, subscribe, eiger):
    frames = series(60)
    detector = eiger(frames)

    class Broken:
        name = "cam"

        @property
        def file(self):
            raise TimeoutError("the IOC is gone")

        def read_configuration(self):
            raise TimeoutError("the IOC is gone")

    live, sinks = followed(subscribe, Broken())
    engine(bp.count([detector]))
    assert live.wait(30)
    assert live.n_faults == 0
    assert_same_result(sinks[0].result, offline(frames))


def test_an_absurd_number_of_announced_frames_costs_neither_memory_nor_time(
    engine, subscribe, eiger
):
    frames = series(60)
    detector = eiger(frames)
    describe = detector.describe
    detector.describe = lambda: {
        key: {**value, "shape": [10**15, *SHAPE]} for key, value in describe().items()
    }
    live, sinks = followed(subscribe, detector)
    engine(bp.count([detector]))
    assert live.wait(30)
    (sink,) = sinks
    np.testing.assert_allclose(sink.result.c2, offline(frames).c2, rtol=1e-5)
    assert sink.result.status.n_processed == 60


def test_pixels_that_the_master_marks_are_left_out_and_it_is_said(engine, subscribe, eiger):
    bad = np.zeros(SHAPE, bool)
    bad[10, 3:6] = True
    detector = eiger(series(20), bad_pixels=bad)
    live, sinks = followed(subscribe, detector)
    engine(bp.count([detector]))
    assert live.wait(30)
    message = sinks[0].result.status.message
    assert "pixel_mask of the detector's file: 3 pixels of the ROIs are left out." in message
    picture = sinks[0].result.picture
    np.testing.assert_array_equal(np.isnan(picture.mean), bad)
    assert not picture.labels[bad].any()


def eiger_run(live, folder, frames, **datasets):
    """Write the files of a series and send the documents of the run that it is of."""
    with h5py.File(folder / "s_7_data_000001.h5", "w") as file:
        file["entry/data/data"] = frames
    with h5py.File(folder / "s_7_master.h5", "w") as file:
        file["entry/data/data_000001"] = h5py.ExternalLink("s_7_data_000001.h5", "entry/data/data")
        for name, values in datasets.items():
            file[f"entry/instrument/detector/{name}"] = values
    run = event_model.compose_run()
    key = {"source": "s", "dtype": "array", "shape": [0, *SHAPE[::-1]], "external": "FILESTORE:"}
    stream = run.compose_descriptor(name="primary", data_keys={"cam_image": key})
    asset = run.compose_resource(
        spec="AD_EIGER2",
        root=str(folder),
        resource_path="s",
        resource_kwargs={"images_per_file": len(frames)},
    )
    datum = asset.compose_datum(datum_kwargs={"seq_id": 7})
    event = stream.compose_event(
        data={"cam_image": datum["datum_id"]},
        timestamps={"cam_image": 0.0},
        filled={"cam_image": False},
    )
    live("start", run.start_doc)
    live("descriptor", stream.descriptor_doc)
    for name, doc in (("resource", asset.resource_doc), ("datum", datum), ("event", event)):
        live(name, doc)
    live("stop", run.compose_stop())
    assert live.wait(30)


def test_a_pixel_mask_of_another_shape_is_said_and_not_used(subscribe, tmp_path):
    live, sinks = subscribe()
    eiger_run(live, tmp_path, series(20), pixel_mask=np.ones((5, 4), np.uint32))
    result = sinks[0].result
    assert (
        f"pixel_mask of the detector's file: got shape (5, 4), expected {SHAPE}, that of the ROIs; "
        "it is not used." in result.status.message
    )
    assert np.isfinite(result.picture.mean).all()


def test_the_first_of_several_thresholds_is_analysed_and_it_is_said(subscribe, tmp_path):
    frames = series(60)
    live, sinks = subscribe(frame_time_s=0.01)
    eiger_run(live, tmp_path, np.stack([frames, frames * 0], axis=1))
    assert_same_result(sinks[0].result, offline(frames))
    message = sinks[0].result.status.message
    assert "The frames have 2 thresholds: the first is analysed. Set `threshold`" in message
