"""BadPixels: what is bad for good, and what in single frames."""

import numpy as np
import pytest

from xpcs_live_denoise import InvalidInputError, RoiMap
from xpcs_live_denoise.numerics.outliers import BadPixels

LABELS = np.repeat([[1], [2]], 200, axis=1).reshape(20, 20)
ROIS = RoiMap.from_labels(LABELS, q_inv_angstrom=[0.1, 0.2])


def frames(n, dtype="uint16"):
    return np.random.default_rng(0).poisson(4.0, (n, 400)).astype(dtype)


BAD = {
    "uint8": (255,),
    "uint16": (65535,),
    "uint32": (2**32 - 1, 65535),
    "int32": (-1, -2, 2**31 - 1, 65535),
    "float32": (np.nan, np.inf, -np.inf, -1.0),
}


@pytest.mark.parametrize(("dtype", "value"), [(d, v) for d, vs in BAD.items() for v in vs])
def test_pixels_that_are_bad_in_the_first_frame_are_left_out_for_good(dtype, value):
    pixels = frames(3, dtype)
    pixels[0, [5, 6, 300]] = value
    bad = BadPixels(ROIS)
    assert bad.learn(pixels[0])
    assert bad.n_bad == 3
    assert bad.roi_map.n_pixels.tolist() == [198, 199]
    assert bad.roi_map.q_inv_angstrom.tolist() == [0.1, 0.2]
    whole = np.zeros((20, 20), dtype)
    whole.ravel()[ROIS.pixels] = pixels[1]
    np.testing.assert_array_equal(bad.without(pixels)[1], bad.roi_map.gather(whole)[0])


def test_a_first_frame_without_bad_pixels_leaves_everything_as_it_is():
    bad, pixels = BadPixels(ROIS), frames(2)
    assert bad.learn(pixels[0])
    assert bad.roi_map is ROIS
    assert bad.without(pixels) is pixels
    assert bad.repair(pixels)[0] is pixels


@pytest.mark.parametrize(("dtype", "value"), [("uint16", 65535), ("int16", -1), ("f8", np.nan)])
def test_few_pixels_that_turn_bad_get_the_mean_of_their_roi(dtype, value):
    bad, pixels = BadPixels(ROIS), frames(3, dtype)
    bad.learn(pixels[0])
    expected = np.delete(pixels[1, :200], [7, 8]).mean(dtype=np.float64)
    pixels[1, [7, 8]] = value
    before = pixels.copy()
    repaired, broken = bad.repair(pixels)
    assert not broken.any()
    np.testing.assert_allclose(repaired[1, [7, 8]], expected, rtol=1e-6)
    np.testing.assert_array_equal(np.delete(repaired, [7, 8], 1), np.delete(pixels, [7, 8], 1))
    np.testing.assert_array_equal(pixels, before)


def test_a_frame_in_which_many_pixels_turn_bad_is_broken():
    bad, pixels = BadPixels(ROIS), frames(3)
    bad.learn(pixels[0])
    pixels[1, 200:203] = 65535
    assert bad.repair(pixels)[1].tolist() == [False, True, False]


def test_a_roi_keeps_working_with_one_bad_pixel_however_small_it_is():
    rois = RoiMap.from_labels(np.array([[1, 1, 1, 2]]))
    bad = BadPixels(rois)
    bad.learn(np.array([1, 2, 3, 4], np.uint16))
    _, broken = bad.repair(np.array([[65535, 2, 3, 4], [1, 2, 3, 65535]], np.uint16))
    assert broken.tolist() == [False, True]


def test_negative_numbers_are_data_where_a_background_was_subtracted():
    values = frames(2, "float64") - 4.0
    bad = BadPixels(ROIS)
    assert bad.learn(values[0])
    assert bad.n_bad == 0
    assert not bad.repair(values)[1].any()
    values[1, 3] = np.nan
    assert np.isfinite(bad.repair(values)[0]).all()


def test_a_frame_that_is_mostly_bad_is_believed_only_when_all_are():
    pixels = frames(1)
    pixels[0, :150] = pixels[0, 200:350] = 65535
    bad = BadPixels(ROIS)
    assert [bad.learn(pixels[0]) for _ in range(6)] == [False] * 5 + [True]
    assert bad.roi_map.n_pixels.tolist() == [50, 50]


def test_frames_without_a_good_pixel_tell_nothing_ever():
    bad = BadPixels(ROIS)
    assert not any(bad.learn(np.full(400, np.nan)) for _ in range(20))


def test_a_roi_without_good_pixels_is_an_error_that_names_it():
    pixels = frames(1)
    pixels[0, 200:] = 65535
    pixels[0, 200] = 1
    with pytest.raises(InvalidInputError, match=r"ROI 2: got 1 good pixels of 200 in the first"):
        BadPixels(ROIS).learn(pixels[0])


def test_65535_is_a_count_in_later_frames_of_wider_integers():
    bad, pixels = BadPixels(ROIS), frames(2, "uint32")
    bad.learn(pixels[0])
    pixels[1, 4] = 65535
    assert bad.repair(pixels)[0] is pixels
