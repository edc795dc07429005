"""The denoised image of a run: beside the measured one in results, Tiled, window and page."""

import dataclasses

import numpy as np
import pytest

from xpcs_live_denoise import RoiMap, Settings, analyse, results, views
from xpcs_live_denoise.analysis import detector_image
from xpcs_live_denoise.analysis.detector_image import DetectorImage
from xpcs_live_denoise.config import OrientationSettings
from xpcs_live_denoise.records.frames import Geometry
from xpcs_live_denoise.records.results import Picture
from xpcs_live_denoise.records.run import RunEnd, Status
from xpcs_live_denoise.sinks.run import TiledSink

SHAPE = (40, 60)
ROIS = RoiMap.rings(SHAPE, (18, 25), [(4, 9), (10, 15)])
END = RunEnd(raw_exit_status="success", analysis_exit_status="success", reason="", status=Status())


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


def test_the_image_is_denoised_every_five_seconds_or_less_often_where_that_takes_long():
    clock, asked = Clock(), []

    def denoise(counts, valid, center):
        asked.append(clock.now_s)
        clock.now_s += 0.1 if len(asked) < 3 else 2.0
        return counts, counts

    image = DetectorImage(ROIS, denoise=denoise, clock=clock)
    while clock.now_s < 60:
        image.add(np.ones((1, *SHAPE), np.uint16))
        image.updated()
        clock.now_s += 0.5
    steps = np.diff(asked)
    assert (steps[:2] >= 5).all()
    assert (steps[:2] < 7).all()
    assert (steps[2:] >= 2.0 / detector_image.DENOISED_SHARE).all()


def test_the_last_denoised_image_is_of_all_frames():
    seen = []

    def denoise(counts, valid, center):
        seen.append(counts.sum())
        return counts, counts

    image = DetectorImage(ROIS, denoise=denoise, clock=Clock())
    image.add(np.ones((1, *SHAPE), np.uint16))
    image.updated()
    image.add(np.ones((2, *SHAPE), np.uint16))
    image.image()
    assert seen == [np.prod(SHAPE), 3 * np.prod(SHAPE)]


def test_a_small_image_is_denoised_in_counts_and_told_in_means_as_the_detector_is_turned(
    monkeypatch,
):
    monkeypatch.setattr(detector_image, "screen_binning", lambda _: 2)
    seen = []

    def denoise(counts, valid, center):
        seen.append((counts, valid, center))
        return counts + 1.0, np.full(counts.shape, 8.0)

    turn = OrientationSettings(flip_rows=True)
    image = DetectorImage(ROIS, turn, denoise=denoise)
    image.locate(Geometry(beam_center=(18.0, 25.0)))
    frames = np.random.default_rng(0).poisson(2.0, (3, *SHAPE)).astype(np.uint16)
    frames[:, 6, 8] = 2**16 - 1
    image.add(frames)
    small = image.image(binning=2)
    ((counts, valid, center),) = seen
    good = frames.sum(axis=0, dtype=float)
    squares = good.reshape(20, 2, 30, 2).sum(axis=(1, 3))
    assert center == (8.75, 12.25)
    assert (~valid).sum() == 1
    assert not valid[3, 4]
    np.testing.assert_array_equal(counts[valid], squares[valid])
    expected = np.where(valid, (squares + 1) / 12, np.nan)
    np.testing.assert_allclose(small.denoised, expected[::-1], rtol=1e-6)
    np.testing.assert_allclose(small.denoised_error[::-1][valid], 8 / 12, rtol=1e-6)
    assert small.saxs.denoised.shape == small.saxs.mean.shape
    whole = image.image()
    assert whole.denoised.shape == whole.mean.shape == SHAPE
    np.testing.assert_allclose(whole.denoised[::2, ::2], small.denoised)
    assert whole.saxs.denoised.shape == whole.saxs.mean.shape


def test_a_result_has_both_images_where_the_settings_want_it_and_c2_is_the_same():
    frames = np.random.default_rng(1).poisson(0.5, (30, *SHAPE)).astype(np.uint16)
    settings = Settings(detector="eiger", denoise=False, geometry={"beam_center": (18, 25)})
    plain = analyse(frames, settings, rois=ROIS)
    assert plain.picture.denoised is None
    both = analyse(frames, settings.model_copy(update={"denoise_image": True}), rois=ROIS)
    made = both.picture.denoised
    assert made.std() < 0.5 * both.picture.mean.std()
    assert made.mean() == pytest.approx(0.5, rel=0.05)
    assert np.abs(made - 0.5).max() < 0.3
    assert both.saxs.denoised.shape == both.saxs.mean.shape
    np.testing.assert_array_equal(both.c2, plain.c2)


def picture():
    mean = np.ones((30, 41), np.float32)
    return Picture(
        mean=mean,
        labels=np.ones((30, 41), np.int32),
        binning=3,
        n_frames=10,
        denoised=2 * mean,
        denoised_error=mean / 2,
    )


def test_both_images_are_in_tiled(tiled_client, synthetic):
    run = synthetic()
    sink = TiledSink(run.info, client=tiled_client, picture_period_s=0.0)
    sink.write(run.publication(0, 10, picture=picture()))
    sink.write(dataclasses.replace(run.result(), picture=picture()))
    sink.finish(END)
    found = results(tiled_client, run.raw_uid)
    stream = found["image"].read()
    np.testing.assert_array_equal(stream["image_denoised"], 2.0)
    np.testing.assert_array_equal(stream["image_denoised_error"], 0.5)
    assert stream["image_denoised"].dims == ("row", "col")
    mean, labels = found.image()
    np.testing.assert_array_equal(mean["denoised"], 2.0)
    np.testing.assert_array_equal(mean["denoised_error"], 0.5)
    assert mean["denoised"].dims == mean.dims
    assert "denoised" not in labels.coords
    assert found.validate(fix_errors=False, raise_on_error=True)


def test_window_and_page_show_them_beside_each_other_and_say_how_far_to_trust_the_second():
    view = views.detector_view(picture(), 1)
    assert view.title.endswith("mean of 10 frames | denoised ± 25%")
    assert view.mean.shape == view.labels.shape == view.outline.shape == (30, 83)
    assert (view.mean[:, :41] == 1).all()
    assert np.isnan(view.mean[:, 41]).all()
    assert (view.mean[:, 42:] == 2).all()
    assert view.label_at(3, 3) == 1
    assert view.label_at(3 * 60, 3) == 0  # nobody chooses a ROI on the denoised one
    assert views.detector_view(dataclasses.replace(picture(), denoised=None), 1).size == (123, 90)
