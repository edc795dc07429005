"""Static speckle is told from what only looks like it, by pixels; from C2 alone nobody can."""

import numpy as np
import pytest

from tests.support.uneven_speckle import RING, frames_of, intensities, ring_profile
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.numerics.static import (
    MeanImages,
    StaticVerdict,
    judge,
    judge_baseline,
    neighbours,
    remaining_correlation,
)
from xpcs_live_denoise.numerics.two_time import TwoTimeAccumulator

BETA = 0.2


def scaled(frames):
    pixels = RING.gather(frames).astype(np.float32)
    return pixels / pixels.mean(axis=1, keepdims=True), np.ones(len(pixels))


def add(images, values, measured):
    images.reserve(len(values))
    images.add(0, values, measured)
    images.advance(len(values))


def add_gap(images, n_frames):
    images.reserve(n_frames)
    images.add_gap()
    images.advance(n_frames)


def compared(frames):
    images = MeanImages(RING)
    add(images, *scaled(frames))
    return images.test(0)


def static_series(still, seed, **options):
    return frames_of(intensities(seed, still=still, **options), 1.0, 1.0, seed)


def test_a_part_of_the_field_that_stands_still_is_static():
    verdict = judge(compared(static_series(0.3, 2)), BETA)
    assert verdict == StaticVerdict(is_static=True, caution="")
    not_seen_in_g2 = judge(compared(static_series(0.3, 2)), BETA, baseline_is_high=False)
    assert not not_seen_in_g2.is_static
    assert float(not_seen_in_g2.caution.split(":")[1]) > 1.3


def test_a_white_flat_field_is_not_static_but_makes_the_caution():
    frames = frames_of(intensities(4), ring_profile(white=0.16), 1.0)
    test = compared(frames)
    assert test.near / BETA == pytest.approx(0.16**2 / BETA, abs=0.04)
    verdict = judge(test, BETA)
    assert not verdict.is_static
    name, factor = verdict.caution.split(":")
    assert name == "static_not_excluded"
    assert 1.1 < float(factor) < 1.6


def test_a_uniform_moving_sample_is_nothing_of_both():
    test = compared(frames_of(intensities(3), 1.0, 1.0))
    assert abs(test.near / BETA) < 0.03
    assert 0.35 < test.peak < 0.65  # 2-pixel speckle: exp(-ln 2)
    assert not judge(test, BETA).is_static


def test_speckle_below_a_pixel_and_a_half_is_undecidable_and_no_refusal():
    verdict = judge(compared(static_series(0.3, 2, size=1.01)), BETA)
    assert not verdict.is_static
    name, factor = verdict.caution.split(":")
    assert name == "static_undecidable"
    assert float(factor) > np.exp(1.2 * 0.3)  # it holds what 0.3 of the field does


def test_what_slow_dynamics_leave_is_not_taken_for_static():
    frames = frames_of(intensities(4, rate=0.005), 1.0, 1.0)
    age, rate = np.arange(150.0), np.full(150, np.log(0.005))
    remaining = remaining_correlation(age, rate, np.full(150, 0.2), 1.0, 150)
    assert remaining[0] == pytest.approx(np.exp(-2 * 0.005 * 90), rel=0.05)
    assert remaining[1] > 0.05
    test = compared(frames)
    assert judge(test, BETA).is_static
    assert not judge(test, BETA, *remaining).is_static


@pytest.mark.parametrize("sizes", [[1] * 150, [7] * 21 + [3], [149, 1]])
def test_images_do_not_depend_on_how_the_series_was_split(sizes):
    frames = static_series(0.3, 2)
    whole, images = compared(frames), MeanImages(RING)
    for part in np.split(np.arange(150), np.cumsum(sizes)[:-1]):
        add(images, *scaled(frames[part]))
    parts = images.test(0)
    for name in ("near", "next_to", "far", "peak"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name), abs=1e-5)
    np.testing.assert_allclose(parts.left_out, whole.left_out, atol=1e-5)


def test_gaps_and_frames_without_counts_count_for_nothing():
    frames = static_series(0.3, 2)
    images = MeanImages(RING)
    values, measured = scaled(frames)
    add(images, values[:60], measured[:60])
    add_gap(images, 500)
    values, measured = values[60:].copy(), measured[60:].copy()
    values[20:30], measured[20:30] = 0, 0
    add(images, values, measured)
    add_gap(images, 1)
    assert judge(images.test(0), BETA).is_static
    assert images.test(0).peak == pytest.approx(compared(frames).peak, abs=0.06)


def test_nothing_is_known_of_a_few_frames_or_none():
    images = MeanImages(RING)
    assert images.test(0) is None
    add(images, *scaled(static_series(0.3, 2)[:2]))
    assert images.test(0) is None


def test_neighbours_lie_in_the_same_row_or_column_of_the_roi():
    pixels = RoiMap.from_labels([[1, 1, 0, 1], [1, 1, 1, 1]]).pixels  # 0 1 3 4 5 6 7
    found = [
        [(pixels[a], pixels[b]) for a, b in zip(*neighbours(pixels, (2, 4), 1, axis), strict=True)]
        for axis in (1, 0)
    ]
    assert found == [[(0, 1), (4, 5), (5, 6), (6, 7)], [(0, 4), (1, 5), (3, 7)]]


@pytest.mark.parametrize(
    ("baseline", "caution"),
    [(1.002, ""), (1.02, "static_or_nonuniform:1.61"), (0.98, "baseline_below_1")],
)
def test_from_g2_alone_a_baseline_off_one_is_a_caution(baseline, caution):
    verdict = judge_baseline(baseline, 0.001, BETA)
    assert verdict == StaticVerdict(is_static=False, caution=caution)


def test_an_accumulator_without_sums_has_no_images():
    assert TwoTimeAccumulator(RING).images is None
    assert TwoTimeAccumulator(RING, sums=True).images.test(0) is None
