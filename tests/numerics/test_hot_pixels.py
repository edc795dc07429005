"""Hot, blinking and dead pixels are found; bright speckle, streaks and single hits are not."""

import functools

import numpy as np
import pytest

from xpcs_live_denoise import RoiMap, simulate_speckle
from xpcs_live_denoise.numerics.bad_pixels import BadPixels
from xpcs_live_denoise.numerics.hot_pixels import CLEAR, HotPixels, even_out, roi_sums

ROIS = RoiMap.from_labels(np.repeat([[1], [2]], 800, axis=1).reshape(40, 40))
HOT = 20 * 40 + 13  # row 20, column 13; pixels of these ROIs are all pixels of the frame
DTYPES = ("uint8", "uint16", "uint32", "int32", "float32", "float64")


@functools.cache
def speckle(counts=0.3, rate=0.05, contrast=0.3, size=1.0, seed=1):
    frames = simulate_speckle(
        ROIS, 150, relaxation_rate=rate, contrast=contrast, mean_counts=counts,
        speckle_size=size, seed=seed,
    )  # fmt: skip
    return ROIS.gather(np.concatenate(list(frames)))


def hot(pixels, mean=10.0, since=0, stop=None, share=1.0):
    rng, pixels = np.random.default_rng(5), pixels.copy()
    chosen = np.arange(since, len(pixels) if stop is None else stop)
    chosen = chosen[rng.random(len(chosen)) < share]
    pixels[chosen, HOT] = rng.poisson(mean, len(chosen))
    return pixels


def since_when(pixels, step=7):
    """Pixels that are found after the first 50 frames, with what is left in all frames."""
    bad = BadPixels(ROIS, pixels[:50])
    found = HotPixels(ROIS, pixels[:50], counts=bad.counts)
    left, n = [], 50
    while n < len(pixels):
        part = pixels[n : n + min(step, found.n_until_look)]
        part, bright = found.cover(part, n)
        part = part if bright is None else even_out(part, bright, ROIS)
        n += len(part)
        found.add(part, n)
        left.append(part)
    return found.since, np.concatenate(left)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_steady_hot_pixel_is_found_in_the_first_window(dtype):
    bad = BadPixels(ROIS, hot(speckle())[:50].astype(dtype))
    assert bad.hot.tolist() == [HOT]
    assert bad.n_bad == 0
    assert HOT not in bad.roi_map.pixels


@pytest.mark.parametrize("counts", [0.02, 0.3, 20.0])
def test_hot_pixels_are_found_at_any_intensity_and_beside_one_another(counts):
    pixels = speckle(counts)[:50].copy()
    several = [HOT, HOT + 1, 1200]
    pixels[:, several] = np.random.default_rng(0).poisson(max(2.0, 20 * counts), (50, 3))
    assert BadPixels(ROIS, pixels).hot.tolist() == several


@pytest.mark.parametrize(("n_pixels", "n_hot"), [(100, 1), (149, 1), (300, 3), (1600, 16)])
def test_hot_pixels_are_found_where_they_are_as_many_as_are_left_aside_at_first(n_pixels, n_hot):
    rois = RoiMap.from_labels(np.ones((n_pixels // 10, 10), np.int64))
    n = len(rois.pixels)
    pixels = np.random.default_rng(3).poisson(2.0, (50, n)).astype(np.uint16)
    places = np.arange(n_hot) * (n // n_hot)
    pixels[:, places] = 60
    pixels[::2, places] = 61  # a pixel that is always the same is bad for another reason
    assert BadPixels(rois, pixels).hot.tolist() == rois.pixels[places].tolist()


def test_a_dead_pixel_among_bright_ones_is_found():
    pixels = np.random.default_rng(0).poisson(20.0, (50, 1600)).astype(np.uint16)
    pixels[:, HOT] //= 8
    assert BadPixels(ROIS, pixels).hot.tolist() == [HOT]


@pytest.mark.parametrize("contrast", [0.2, 1.0])
@pytest.mark.parametrize("size", [1.0, 2.5])
@pytest.mark.parametrize("counts", [0.05, 5.0])
def test_bright_speckle_that_stands_still_is_no_hot_pixel(contrast, size, counts):
    pixels = speckle(counts, 0.0, contrast, size)
    assert BadPixels(ROIS, pixels[:50]).roi_map is ROIS
    assert since_when(pixels)[0] == {}


def test_a_streak_a_shadow_and_a_bright_edge_are_no_hot_pixels():
    image = np.full((40, 40), 3.0)
    image[5:9, 3:30] = 60.0
    image[30:35, 10:15] = 0.0
    image[:, 38:] *= 10
    pixels = np.random.default_rng(0).poisson(image.ravel(), (50, 1600)).astype(np.uint16)
    assert len(BadPixels(ROIS, pixels).hot) == 0


def test_what_single_frames_hold_makes_no_hot_pixel():
    pixels = speckle().copy()
    pixels[[10, 70], HOT] = 60
    assert BadPixels(ROIS, pixels[:50]).roi_map is ROIS
    assert since_when(pixels)[0] == {}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("contrast", [0.3, 1.0])
def test_a_pixel_that_gets_hot_midway_is_covered_soon(dtype, contrast):
    pixels = hot(speckle(contrast=contrast), since=75).astype(dtype)
    since, left = since_when(pixels)
    assert list(since) == [HOT]
    assert 75 < since[HOT] <= (90 if contrast < 1 else 100)
    assert left[since[HOT] - 50 :, HOT].max() < 1


def test_when_it_is_covered_does_not_depend_on_how_frames_come():
    pixels = hot(speckle(), since=75)
    (once, left), (each, left_each) = since_when(pixels, 10), since_when(pixels, 1)
    assert once == each
    np.testing.assert_array_equal(left, left_each)


def test_a_blinking_pixel_is_found():
    assert list(since_when(hot(speckle(), mean=20.0, since=60, share=0.3))[0]) == [HOT]
    assert BadPixels(ROIS, hot(speckle(), mean=40.0, share=0.4)[:50]).hot.tolist() == [HOT]


def test_a_beam_that_gets_ten_times_brighter_makes_no_hot_pixel():
    pixels = speckle(0.3).copy()
    pixels[80:] = speckle(3.0, seed=2)[80:]
    assert since_when(pixels)[0] == {}
    assert since_when(pixels.astype(np.float32) - 0.5)[0] == {}


@pytest.mark.parametrize("step", [1, 64])
def test_late_in_a_series_sums_are_looked_at_once_in_fifty_frames(step):
    pixels = hot(np.tile(speckle(), (9, 1)), mean=2.5, since=1_210)
    since, left = since_when(pixels, step)
    assert since == {HOT: 1_300}  # the looks are at frames 1,250 and 1,300
    assert left[1_300 - 50 :, HOT].max() < 1


@pytest.mark.parametrize("n_pixels", [26, 150, 7000])
@pytest.mark.parametrize("shape", [0.1, 3.0, 200.0])
def test_a_roi_that_is_not_looked_at_has_no_pixel_far_from_the_others(n_pixels, shape):
    from xpcs_live_denoise.numerics.hot_pixel_kernels import far_from_usual, may_be_far

    rng = np.random.default_rng(n_pixels)
    skipped = 0
    for n_off in [0] * 20 + [1, 2, n_pixels // 90, n_pixels // 30]:
        values = rng.gamma(shape, 1 / shape, n_pixels)
        where = rng.choice(n_pixels, n_off, replace=False)
        values[where] *= rng.uniform(1.0, 12.0, n_off)
        with_gaps = np.insert(values, rng.integers(0, n_pixels, 5), [np.nan, np.inf] * 2 + [np.nan])
        maybe = np.empty(1, np.bool_)
        may_be_far(with_gaps, np.array([0, n_pixels + 5]), CLEAR, 0.01, maybe)
        middle, far = np.median(values), np.empty(n_pixels, np.bool_)
        most = np.sort(np.abs(values - middle))[-1 - max(1, round(0.01 * n_pixels))]
        n_far = far_from_usual(values, middle, most, 0.0, CLEAR, 5, far)
        assert maybe[0] or n_far == 0
        skipped += not maybe[0]
    assert skipped or shape < 1, "else nothing was tried"


@pytest.mark.parametrize("dtype", [*DTYPES, "uint64", ">u2"])
def test_sums_of_rois_are_exact_however_frames_lie_in_memory(dtype):
    top = 255 if dtype == "uint8" else 65535
    pixels = np.random.default_rng(3).integers(0, top, (7, 1600), endpoint=True).astype(dtype)
    for given in (pixels, pixels[::2], np.asfortranarray(pixels)):
        truth = np.stack([given[:, one].astype(float).sum(axis=1) for one in ROIS.slices], axis=1)
        np.testing.assert_array_equal(roi_sums(given, ROIS), truth)
