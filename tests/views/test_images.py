"""C2 as it fills in, and the images of it and of the detector for a screen."""

import numpy as np
import pytest

from xpcs_live_denoise import views
from xpcs_live_denoise.records.results import Picture
from xpcs_live_denoise.records.run import Status
from xpcs_live_denoise.views.images import C2Map, c2_range, outlines, thinned


def symmetric(n, seed=0):
    values = np.random.default_rng(seed).normal(1, 0.1, (n, n)).astype(np.float32)
    return values + values.T


@pytest.mark.parametrize("stride", [1, 4])
def test_rows_that_come_in_blocks_make_the_symmetric_map(stride):
    c2, n = symmetric(50), 50
    c2_map = C2Map(n, most=50 // stride + 1)
    assert c2_map.stride == stride
    for start in range(0, n, 7):
        stop = min(start + 7, n)
        c2_map.patch(c2[start:stop, :stop], (start, 0))
    np.testing.assert_array_equal(c2_map.full(n), c2[::stride, ::stride])


def test_blocks_off_the_diagonal_are_mirrored_and_those_above_it_ignored():
    c2, c2_map = symmetric(20), C2Map(20)
    c2_map.patch(c2[10:15, 2:6], (10, 2))
    c2_map.patch(np.full((3, 4), 99, np.float32), (0, 15))
    shown = c2_map.full(20)
    np.testing.assert_array_equal(shown[10:15, 2:6], c2[10:15, 2:6])
    np.testing.assert_array_equal(shown[2:6, 10:15], c2[2:6, 10:15])
    assert np.isfinite(shown).sum() == 2 * 20


def test_what_was_never_written_is_unknown_and_a_gap_stays_one():
    c2_map = C2Map(3)
    c2_map.patch(np.array([[1, 0, 0], [2, 3, 0], [np.nan, 4, 5]], np.float32), (0, 0))
    expected = [[1, 2, np.nan], [2, 3, 4], [np.nan, 4, 5]]
    np.testing.assert_array_equal(c2_map.full(3), expected)
    assert np.isnan(c2_map.full(5)[3:]).all()


def test_a_series_longer_than_the_map_is_thinned_also_when_nobody_knew_its_length():
    c2 = symmetric(110)
    grown = C2Map(0, most=30)
    for start in range(0, 110, 10):
        grown.make_room(start + 10)
        grown.patch(c2[start : start + 10, : start + 10], (start, 0))
    assert grown.stride == C2Map(110, most=30).stride == 4
    np.testing.assert_array_equal(grown.full(110), c2[::4, ::4])


def test_a_screen_gets_means_over_squares_without_gaps_and_diagonal():
    values = np.arange(36, dtype=np.float32).reshape(6, 6)
    values[0, 3] = np.nan
    shown, edge = thinned(values, most=2)
    assert edge == 3
    assert shown.dtype == np.float32
    block = values[:3, :3][~np.eye(3, dtype=bool)]
    np.testing.assert_allclose(shown[0, 0], block.mean())
    np.testing.assert_allclose(shown[0, 1], np.nanmean(values[:3, 3:]))


def test_a_square_of_gaps_is_one_and_a_small_map_is_left_alone():
    values = np.ones((5, 5), np.float32)
    values[:, :2] = np.nan
    shown, edge = thinned(values, most=3)
    assert (shown.shape, edge) == ((3, 3), 2)
    assert np.isnan(shown[:, 0]).all()
    same, edge = thinned(values, most=5)
    assert edge == 1
    np.testing.assert_array_equal(same, values)


def test_noise_far_above_the_signal_does_not_hide_it():
    noise = np.random.default_rng(0).normal(1.0, 5.0, (200, 200))
    assert c2_range(noise, 0.2, 1.0) == pytest.approx((0.8, 1.4))
    low, high = c2_range(noise, np.nan, 1.0)
    assert low < -8
    assert high > 8
    assert c2_range(np.full((5, 5), np.nan), 0.2, 1.0) == (0.9, 1.5)


def test_denoised_c2_is_raw_where_no_window_reached():
    raw = symmetric(40)
    near = abs(np.subtract.outer(np.arange(40), np.arange(40))) < 20
    shown = views.two_time_view(
        raw,
        np.where(near, raw + 1, np.nan),
        entry_s=0.5,
        most=40,
        series_s=60.0,
        status=Status(contrast=(0.1, 0.25), baseline=(0.5, 1.0)),
        roi=1,
        note="not denoised",
    )
    np.testing.assert_array_equal(shown.denoised, np.where(near, raw + 1, raw))
    assert (shown.edge_s, shown.series_s, shown.note) == (20.0, 60.0, "")
    assert shown.marks == (1.0, 1.25)


@pytest.mark.parametrize("denoised", [None, np.full((8, 8), np.nan, np.float32)])
def test_c2_of_which_nothing_is_denoised_says_why(denoised):
    shown = views.two_time_view(symmetric(8), denoised, entry_s=1.0, most=9, note="not denoised")
    assert shown.denoised is None
    assert shown.note == "not denoised"
    assert shown.marks == ()


def test_before_the_first_frame_c2_is_empty():
    shown = views.two_time_view(np.empty((0, 0), np.float32), None, entry_s=1.0, most=9)
    assert shown.raw.shape == (0, 0)
    assert (shown.low, shown.high, shown.edge_s) == (0.9, 1.5, 0.0)


LABELS = np.pad(np.repeat([[1, 2]], 6, axis=0).repeat(6, axis=1), 2)


def picture(mean, binning=1, n_frames=0):
    return Picture(mean=mean, labels=LABELS, binning=binning, n_frames=n_frames)


def test_outlines_are_where_rois_end_and_the_chosen_one_stands_out():
    marked = outlines(LABELS, 2)
    assert (marked[LABELS == 0] == views.NO_EDGE).all()
    assert marked[2, 2] == views.ROI_EDGE
    assert marked[4, 4] == views.NO_EDGE
    assert marked[4, 8] == views.CHOSEN_EDGE, "beside the other ROI"
    assert marked[4, 10] == views.CHOSEN_INSIDE
    assert not outlines(np.zeros((4, 4), int), 0).any()


def test_outlines_do_not_reach_around_the_edge_of_the_detector():
    labels = np.zeros((4, 6), int)
    labels[:, :3] = 1
    assert (outlines(labels, 9)[:, 0] == views.NO_EDGE).all()


def test_the_detector_tells_the_roi_under_a_place():
    mean = np.full(LABELS.shape, 2.0)
    mean[0, 0], mean[1, 1] = np.nan, 0.0
    shown = views.detector_view(picture(mean, binning=4, n_frames=17), 1)
    assert shown.title == "Detector, mean of 17 frames"
    assert shown.size == (64, 40)
    assert [shown.label_at(*place) for place in ((9, 9), (40, 9), (0, 0), (-1, 9), (99, 9))] == [
        1, 2, 0, 0, 0,
    ]  # fmt: skip
    assert shown.low < shown.high


def test_many_frames_have_a_title_that_fits():
    shown = views.detector_view(picture(np.ones(LABELS.shape), n_frames=123_456), 1)
    assert shown.title == "Detector, 123.5k frames"


def test_labels_of_another_shape_give_no_outlines():
    shown = views.detector_view(picture(np.zeros((3, 5))), 1)
    assert shown.title == "Detector"
    assert not shown.outline.any()
    assert shown.low < shown.high


def test_counts_of_a_roi_are_the_mean_of_its_pixels_that_are_known():
    mean = np.where(LABELS == 1, 2.0, 7.0)
    mean[3, 6] = np.nan
    assert views.mean_counts(picture(mean), 1) == 2.0
    assert views.mean_counts(picture(mean), 2) == 7.0
    assert np.isnan(views.mean_counts(picture(mean), 3))
    assert np.isnan(views.mean_counts(picture(np.full(LABELS.shape, np.nan)), 1))
    assert np.isnan(views.mean_counts(picture(mean[:3]), 1))


def test_a_whole_picture_is_binned_for_the_screen_and_unknown_pixels_do_not_count():
    mean, labels = np.ones((1100, 30), np.float32), np.zeros((1100, 30), np.int32)
    mean[:3, :3], mean[0, 0] = np.nan, 5
    mean[3:6, :3] = np.nan
    labels[300:600] = 2
    small = views.for_screen(Picture(mean=mean, labels=labels, binning=1, n_frames=9))
    assert (small.binning, small.n_frames) == (3, 9)
    assert small.mean.shape == small.labels.shape == (367, 10)
    assert small.mean[0, 0] == 5
    assert np.isnan(small.mean[1, 0])
    assert np.flatnonzero(small.labels[:, 0] == 2).tolist() == list(range(100, 200))
    assert views.for_screen(small) is small
    assert views.for_screen(None) is None
