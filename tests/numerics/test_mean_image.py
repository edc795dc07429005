"""The mean of frames: right for every type of numbers, without the pixels that hold no count."""

import numpy as np
import pytest

from xpcs_live_denoise.numerics.mean_image import MeanImage, binned_mean

SHAPE = (37, 41)  # more than one piece of the compiled code, and a part of one
INTEGERS = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64")
FLOATS = ("float16", "float32", "float64")


def counts(n=6, mean=3.0, dtype="uint16", seed=0):
    return np.random.default_rng(seed).poisson(mean, (n, *SHAPE)).astype(dtype)


def mean_of(*blocks, negative_is_data=False):
    image = MeanImage(blocks[0].shape[1:])
    for block in blocks:
        image.add(block)
    return binned_mean(*image.sums(negative_is_data=negative_is_data), 1)


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS, ">u2", ">u4", ">f4", "bool"])
def test_the_mean_is_that_of_all_frames_however_they_come_in_blocks(dtype):
    frames = counts(dtype=dtype)
    expected = frames.mean(axis=0, dtype=np.float64)
    for n in (1, 4, 6):
        blocks = [frames[start : start + n] for start in range(0, 6, n)]
        np.testing.assert_allclose(mean_of(*blocks), expected, rtol=1e-6)
    strided = np.stack([frames, frames + frames], axis=1)[:, 0]  # one threshold of two
    np.testing.assert_allclose(mean_of(strided), expected, rtol=1e-6)
    strided.flags.writeable = False
    np.testing.assert_allclose(mean_of(strided), expected, rtol=1e-6)


def test_sums_of_numbers_that_fill_their_type_do_not_overflow():
    rng = np.random.default_rng(1)
    for dtype, most in (("uint16", 65533), ("uint32", 2**32 - 3), ("int32", 2**31 - 3)):
        frames = rng.integers(most // 2, most, (9, *SHAPE), dtype=dtype, endpoint=True)
        frames[:, 5, 6] = np.iinfo(dtype).max
        mean = mean_of(frames, frames)
        assert np.argwhere(np.isnan(mean)).tolist() == [[5, 6]]
        mean[5, 6] = frames[:, 5, 6].mean()
        np.testing.assert_allclose(mean, frames.mean(axis=0, dtype=np.float64), rtol=1e-6)


@pytest.mark.parametrize("dtype", INTEGERS[1:4] + INTEGERS[5:])
@pytest.mark.parametrize("most", [256, 1024, 4096])
def test_a_highest_count_of_just_a_power_of_two_marks_nothing(dtype, most):
    frames = counts(dtype=dtype)
    frames[2, 5, 6] = most
    expected = frames.mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(mean_of(frames), expected, rtol=1e-6)


# What marks a pixel: 2^n - 1 and 2^n - 2 of the type or of the detector's depth, and what is no
# number.
MARKS = [
    *((dtype, np.iinfo(dtype).max - less) for dtype in INTEGERS for less in (0, 1)),
    *((dtype, mark) for dtype in ("uint32", "int32", "float32") for mark in (65535, 65534)),
    *(("uint16", mark) for mark in (4095, 4094, 16383)),
    *(("float32", mark) for mark in (2.0**32, np.nan, np.inf, -np.inf)),
    *((dtype, -1) for dtype in ("int16", "int32", "float32", "float64")),
]  # fmt: skip


@pytest.mark.parametrize(("dtype", "mark"), MARKS)
def test_a_marked_pixel_is_unknown_and_one_that_is_marked_at_times_has_the_mean_of_the_rest(
    dtype, mark
):
    frames = counts(dtype=dtype)
    expected = frames.mean(axis=0, dtype=np.float64)
    frames[:, 30] = mark  # a gap between modules
    frames[3:, 7, 8] = mark
    expected[30] = np.nan
    expected[7, 8] = frames[:3, 7, 8].mean()
    for blocks in ([frames], list(frames[:, np.newaxis]), [frames[:4], frames[4:]]):
        np.testing.assert_allclose(mean_of(*blocks), expected, rtol=1e-6)


def test_marks_that_come_after_dark_frames_and_a_bright_beam_are_still_found():
    frames = counts(dtype="uint32", mean=40.0)
    frames[:, 10:13, 10:13] = 30_000  # the beam: more than a quarter of the mark
    gap = np.zeros(SHAPE, bool)
    gap[30] = True
    dark = np.zeros((2, *SHAPE), np.uint32)
    expected = np.where(gap, 0, np.concatenate([dark, frames]).mean(axis=0))
    frames[:, gap] = 65535
    np.testing.assert_allclose(mean_of(dark, frames[:1], frames[1:]), expected, rtol=1e-6)


def test_bright_pixels_that_happen_to_hold_the_number_of_a_mark_are_counts():
    frames = counts(dtype="uint32", mean=3000.0)
    frames[0, 0, 0] = 4095  # of a depth of 12 bits, but others are nearly as bright
    np.testing.assert_allclose(mean_of(frames), frames.mean(axis=0), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["int16", "int32", "float32", "float64"])
def test_negative_numbers_of_dark_subtracted_frames_belong_into_the_mean(dtype):
    frames = np.random.default_rng(2).normal(0.5, 4.0, (20, *SHAPE)).astype(dtype)
    expected = frames.mean(axis=0, dtype=np.float64)
    mean = mean_of(frames[:7], frames[7:], negative_is_data=True)
    np.testing.assert_allclose(mean, expected, rtol=1e-5, atol=1e-6)
    positive = np.where(frames < 0, np.nan, frames.astype(float))
    np.testing.assert_allclose(mean_of(frames), np.nanmean(positive, axis=0), rtol=1e-5)


def test_binned_pixels_are_the_mean_of_the_known_ones():
    sums, n = np.arange(35.0).reshape(5, 7), np.ones((5, 7))
    n[0, :2], sums[0, :2] = 0, 0
    n[4, 6] = sums[4, 6] = 0
    binned = binned_mean(sums, n, 2)
    assert binned.shape == (3, 4)
    assert binned[0, 0] == (7 + 8) / 2
    assert binned[1, 1] == sums[2:4, 2:4].mean()
    assert np.isnan(binned[2, 3])
