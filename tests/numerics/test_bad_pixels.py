"""BadPixels: what is bad for good, what in single frames, and what is data."""

import numpy as np
import pytest

from xpcs_live_denoise import InvalidInputError, RoiMap
from xpcs_live_denoise.numerics.bad_pixels import BadPixels
from xpcs_live_denoise.numerics.lost_pixels import LostPixels

LABELS = np.repeat([[1], [2]], 200, axis=1).reshape(20, 20)
ROIS = RoiMap.from_labels(LABELS, q_inv_angstrom=[0.1, 0.2])
DTYPES = ("uint8", "uint16", "uint32", "uint64", "int16", "int32", "int64", "float32", "float64")


def frames(n, dtype="uint16", mean=4.0):
    return np.random.default_rng(0).poisson(mean, (n, 400)).astype(dtype)


def marks(dtype):
    """Numbers that mark a pixel in frames of a dtype."""
    depths = {"uint8": (8,), "uint16": (16, 12), "int16": (12,)}.get(dtype, (12, 16, 32))
    if dtype == "int32":
        depths = (12, 16)
    numbers = [2**n - less for n in depths for less in (1, 2)]
    if np.dtype(dtype).kind == "i":
        numbers += [-1, -2, np.iinfo(dtype).max]
    return [*numbers, np.nan, np.inf, -np.inf, -1.0] if np.dtype(dtype).kind == "f" else numbers


@pytest.mark.parametrize(("dtype", "value"), [(d, v) for d in DTYPES for v in marks(d)])
@pytest.mark.parametrize("n", [1, 50])
def test_pixels_that_are_marked_in_the_first_frames_are_left_out_for_good(dtype, value, n):
    pixels = frames(n, dtype)
    pixels[:, [5, 6, 300]] = value
    bad = BadPixels(ROIS, pixels)
    assert bad.n_bad == 3
    assert len(bad.hot) == 0
    assert bad.roi_map.n_pixels.tolist() == [198, 199]
    assert bad.roi_map.q_inv_angstrom.tolist() == [0.1, 0.2]
    whole = np.zeros((20, 20), dtype)
    whole.ravel()[ROIS.pixels] = pixels[-1]
    np.testing.assert_array_equal(bad.without(pixels)[-1], bad.roi_map.gather(whole)[0])


@pytest.mark.parametrize(("dtype", "value"), [(d, v) for d in DTYPES for v in marks(d)])
def test_few_pixels_that_turn_bad_get_the_mean_of_their_roi(dtype, value):
    pixels = frames(3, dtype)
    bad = BadPixels(ROIS, pixels)
    pixels = pixels.copy()
    expected = np.delete(pixels[1, :200], [7, 8]).mean(dtype=np.float64)
    pixels[1, [7, 8]] = value
    before = pixels.copy()
    repaired, broken, _ = LostPixels(bad).repair(pixels, 0)
    assert not broken.any()
    np.testing.assert_allclose(repaired[1, [7, 8]], expected, rtol=1e-6)
    np.testing.assert_array_equal(np.delete(repaired, [7, 8], 1), np.delete(pixels, [7, 8], 1))
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize("mean", [255.0, 4095.0, 60000.0])
@pytest.mark.parametrize("dtype", ["uint32", "int64", "float64"])
def test_the_same_numbers_are_counts_where_others_are_as_high(dtype, mean):
    pixels = frames(50, dtype, mean)
    pixels[7, 3] = round(mean)
    if mean > 2**15:
        pixels[:2, 9], pixels[3, 9] = 65535, 65534
    bad = BadPixels(ROIS, pixels)
    assert bad.roi_map is ROIS
    assert LostPixels(bad).repair(pixels, 0)[0] is pixels


@pytest.mark.parametrize("n_bad", [1, 3, 150])
def test_the_good_pixels_of_a_frame_stay_side_by_side_in_memory(n_bad):
    pixels = frames(50)
    wrong = np.sort(np.random.default_rng(1).permutation(400)[:n_bad])
    pixels[:, wrong] = 65535
    bad = BadPixels(ROIS, pixels)
    kept = bad.without(pixels)
    np.testing.assert_array_equal(kept, np.delete(pixels, wrong, axis=1))
    assert kept.flags.c_contiguous  # screening takes four times as long if they do not
    np.testing.assert_array_equal(ROIS.pixels[np.delete(np.arange(400), wrong)], bad.roi_map.pixels)


def test_a_first_window_without_bad_pixels_leaves_everything_as_it_is():
    pixels = frames(50)
    bad = BadPixels(ROIS, pixels)
    assert bad.roi_map is ROIS
    assert bad.without(pixels) is pixels
    assert LostPixels(bad).repair(pixels, 0)[0] is pixels


@pytest.mark.parametrize("stuck", [77, 5, -3])
def test_a_pixel_that_never_changes_measures_nothing(stuck):
    pixels = frames(50, "int32")
    pixels[:, 40] = stuck
    assert BadPixels(ROIS, pixels).n_bad == 1
    assert BadPixels(ROIS, np.repeat(pixels[:1] + 5, 50, axis=0)).n_bad == 0, "nor does the image"


def test_what_few_frames_have_in_common_is_no_constant():
    assert BadPixels(ROIS, frames(4, mean=1.0)).roi_map is ROIS


def test_one_bad_frame_of_the_first_ones_costs_no_pixel():
    pixels = frames(50)
    pixels[4, 20] = 65535
    pixels[5, 100:] = 65535
    assert BadPixels(ROIS, pixels).roi_map is ROIS


def test_a_frame_in_which_many_pixels_turn_bad_is_broken():
    pixels = frames(3)
    bad = BadPixels(ROIS, pixels)
    pixels = pixels.copy()
    pixels[1, 200:203] = 65535
    assert LostPixels(bad).repair(pixels, 0)[1].tolist() == [False, True, False]


def test_a_roi_keeps_working_with_one_bad_pixel_however_small_it_is():
    rois = RoiMap.from_labels(np.array([[1, 1, 1, 2]]))
    bad = BadPixels(rois, np.array([[1, 2, 3, 4]], np.uint16))
    turned = np.array([[65535, 2, 3, 4], [1, 2, 3, 65535]], np.uint16)
    _, broken, _ = LostPixels(bad).repair(turned, 0)
    assert broken.tolist() == [False, True]


@pytest.mark.parametrize("dtype", ["int16", "int32", "int64", "float32", "float64"])
@pytest.mark.parametrize("share", [0.01, 0.05, 0.15, 0.35, 0.5])
def test_negative_numbers_that_come_and_go_are_data(dtype, share):
    rng = np.random.default_rng(1)
    dark = rng.normal(0, 1.5, (50, 400)) + np.quantile(-rng.normal(0, 1.5, 10**5), 1 - share)
    pixels = (np.rint(dark) if np.dtype(dtype).kind == "i" else dark).astype(dtype)
    pixels[:, 40] = -1
    bad = BadPixels(ROIS, pixels)
    assert bad.negative_is_data
    assert not bad.counts
    assert bad.n_bad == 1, "the pixel that is -1 always"
    assert len(bad.hot) == 0
    assert LostPixels(bad).repair(bad.without(pixels), 0)[1].sum() == 0


def test_pixels_that_turn_to_minus_one_and_stay_so_are_marked():
    pixels = frames(50, "int32")
    pixels[10:, 5], pixels[45:, 6] = -1, -1
    bad = BadPixels(ROIS, pixels)
    assert not bad.negative_is_data
    assert bad.n_bad == 1, "the other one is repaired where it is bad"
    assert (LostPixels(bad).repair(bad.without(pixels), 0)[0] >= 0).all()


def test_frames_that_are_mostly_bad_are_believed_only_when_all_are():
    pixels = np.repeat(frames(1), 6, axis=0)
    pixels[:, :150] = pixels[:, 200:350] = 65535
    assert BadPixels(ROIS, pixels[:5]).roi_map is ROIS
    assert BadPixels(ROIS, pixels).roi_map.n_pixels.tolist() == [50, 50]


def test_frames_without_a_good_pixel_tell_nothing_ever():
    assert BadPixels(ROIS, np.full((20, 400), np.nan)).roi_map is ROIS


def test_a_roi_without_good_pixels_is_an_error_that_names_it():
    pixels = frames(1)
    pixels[0, 200:] = 65535
    pixels[0, 200] = 1
    with pytest.raises(InvalidInputError, match=r"ROI 2: got 1 good pixels of 200 in the first"):
        BadPixels(ROIS, pixels)


def test_a_guess_from_few_frames_costs_no_roi():
    rois = RoiMap.from_labels(np.array([[1] * 60, [2] * 2 + [0] * 58]))
    pixels = np.random.default_rng(0).poisson(2.0, (2, 62)).astype(np.int32)
    pixels[:, 60:] = -1
    assert BadPixels(rois, pixels, settled=False).roi_map.n_pixels.tolist() == [60, 2]
    with pytest.raises(InvalidInputError, match="ROI 2: got 0 good pixels of 2"):
        BadPixels(rois, pixels)
