"""Age cuts against a loop over all pixels."""

from __future__ import annotations

import numpy as np
import pytest

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.band import band_of_c2
from xpcs_live_denoise.numerics.g2 import NOISE_REACH, age_cuts, band_cuts


def random_c2(n_roi: int, n: int, gaps: bool = False) -> np.ndarray:
    rng = np.random.default_rng(n)
    c2 = rng.normal(1.1, 0.1, (n_roi, n, n))
    c2 = (c2 + c2.transpose(0, 2, 1)) / 2
    if gaps:
        c2[0, n // 3], c2[0, :, n // 3] = np.nan, np.nan
        c2[-1, :3], c2[-1, :, :3] = np.nan, np.nan
    return c2


def plain_cut(c2, centre, width, max_lag):
    """Return mean and number by lag, and the mean age, from the definition."""
    n = len(c2)
    values: list[list[float]] = [[] for _ in range(max_lag)]
    ages = []
    for t1 in range(n):
        for t2 in range(t1 + 1, min(n, t1 + max_lag + 1)):
            age = (t1 + t2) / 2
            if -width / 2 < age - centre <= width / 2 and np.isfinite(c2[t1, t2]):
                values[t2 - t1 - 1].append(c2[t1, t2])
                ages.append(age)
    mean = [np.mean(some) if some else np.nan for some in values]
    return mean, [len(some) for some in values], np.mean(ages) if ages else np.nan


@pytest.mark.parametrize("width", [1, 2, 3, 4.5, 10])
@pytest.mark.parametrize("max_lag", [None, 7, 400])
def test_equals_the_definition_pixel_by_pixel(width, max_lag):
    c2 = random_c2(2, 24, gaps=True)
    cuts = age_cuts(c2, width=width, max_lag=max_lag)
    np.testing.assert_array_equal(cuts.age, np.arange(24))
    np.testing.assert_array_equal(cuts.lag, np.arange(1, (7 if max_lag == 7 else 23) + 1))
    for roi in range(2):
        for index, age in enumerate(cuts.age):
            mean, count, mean_age = plain_cut(c2[roi], age, width, len(cuts.lag))
            np.testing.assert_allclose(cuts.mean[roi, index], mean, rtol=1e-12)
            np.testing.assert_array_equal(cuts.n_pixels[roi, index], count)
            np.testing.assert_allclose(cuts.mean_age[roi, index], mean_age, rtol=1e-12)


def test_centres_may_lie_between_frames_or_outside_the_series_in_any_order():
    c2 = random_c2(1, 30)
    ages = [28.5, 3.25, -40.0, 12.0, 500.0]
    cuts = age_cuts(c2, width=3, ages=ages)
    for index, age in enumerate(ages):
        mean, count, _ = plain_cut(c2[0], age, 3, 29)
        np.testing.assert_allclose(cuts.mean[0, index], mean, rtol=1e-12)
        np.testing.assert_array_equal(cuts.n_pixels[0, index], count)


@pytest.mark.parametrize("width", [1, 2, 5])
def test_cuts_as_far_apart_as_they_are_wide_hold_every_pixel_once(width):
    n = 40
    cuts = age_cuts(np.ones((n, n)), width=width, ages=np.arange(0, n + width, width))
    np.testing.assert_array_equal(cuts.n_pixels.sum(axis=1)[0], n - cuts.lag)


def test_at_width_1_even_lags_lie_at_the_centre_and_odd_lags_half_a_frame_later():
    t = np.arange(30.0)
    age = (t[:, None] + t) / 2
    cuts = age_cuts(age, ages=[12])
    present = np.isfinite(cuts.mean[0, 0])
    np.testing.assert_array_equal(present, cuts.n_pixels[0, 0] == 1)
    expected = np.where(cuts.lag % 2 == 0, 12.0, 12.5)
    np.testing.assert_array_equal(cuts.mean[0, 0][present], expected[present])
    assert cuts.mean_age[0, 0] == pytest.approx(expected[present].mean())


def test_some_ages_give_what_all_ages_give():
    c2 = random_c2(3, 130, gaps=True)
    everything = age_cuts(c2, width=5)
    some = age_cuts(c2, width=5, ages=[70, 71, 99])
    for name in ("mean", "n_pixels", "noise", "mean_age"):
        got, expected = getattr(some, name), getattr(everything, name)[:, [70, 71, 99]]
        np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_only_the_part_around_the_ages_is_read():
    c2 = random_c2(1, 200)
    reference = age_cuts(c2, width=3, ages=[180])
    c2[0, :100, :100] = np.nan
    cuts = age_cuts(c2, width=3, ages=[180])
    np.testing.assert_array_equal(cuts.mean, reference.mean)
    np.testing.assert_array_equal(cuts.noise, reference.noise)


def test_the_noise_is_half_the_mean_squared_difference_along_the_diagonals_nearby():
    c2 = random_c2(1, 90, gaps=True)
    cuts = age_cuts(c2, ages=[37], max_lag=15)
    squares = []
    for lag in range(1, 16):
        diagonal = np.diagonal(c2[0], lag)
        for t1 in range(len(diagonal) - 1):
            row = t1 + lag // 2  # even lags at this age, odd ones half a frame later
            if row >= 37 - NOISE_REACH and row + 1 <= 37 + NOISE_REACH:
                squares.append((diagonal[t1 + 1] - diagonal[t1]) ** 2 / 2)
    assert cuts.noise[0, 0] == pytest.approx(np.nanmean(squares), rel=1e-12)


def test_the_noise_of_white_noise_is_its_variance():
    rng = np.random.default_rng(5)
    c2 = 1.0 + rng.normal(0.0, [[[0.1]], [[0.3]]], (2, 200, 200))
    noise = age_cuts(c2, ages=[60, 100, 150]).noise
    np.testing.assert_allclose(noise, np.array([[0.01], [0.09]]) * np.ones(3), rtol=0.1)


def test_float32_loses_no_digits_in_the_sums():
    c2 = random_c2(1, 150).astype(np.float32)
    single, double = age_cuts(c2, width=41), age_cuts(c2.astype(np.float64), width=41)
    np.testing.assert_array_equal(single.mean, double.mean)


def test_a_roi_without_values_gives_nan_and_no_warning():
    cuts = age_cuts(np.full((1, 20, 20), np.nan), width=3)
    assert np.isnan(cuts.mean).all()
    assert np.isnan(cuts.mean_age).all()
    assert np.isnan(cuts.noise).all()
    assert not cuts.n_pixels.any()


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_the_shortest_series_work(n):
    cuts = age_cuts(np.ones((2, n, n)))
    assert cuts.mean.shape == (2, n, max(n - 1, 0))


def test_no_ages_give_no_cuts():
    cuts = age_cuts(np.ones((2, 9, 9)), ages=[])
    assert cuts.mean.shape == (2, 0, 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "got width 0 .* expected a width above 0"),
        ({"ages": [np.nan]}, "finite ages"),
        ({"max_lag": 0}, "got max_lag 0; expected at least 1"),
    ],
)
def test_what_cannot_be_used_is_refused(options, message):
    with pytest.raises(InvalidInputError, match=message):
        age_cuts(np.ones((9, 9)), **options)


@pytest.mark.parametrize(("start", "ages"), [(0, range(90)), (37, range(57, 90)), (0, [])])
def test_cuts_of_a_band_are_those_of_the_whole_at_its_lags(start, ages):
    c2 = random_c2(2, 90, gaps=True)
    band = band_of_c2(c2, start, 90, 30)
    got = band_cuts(band, start, ages, max_lag=40)
    expected = age_cuts(c2, ages=np.array(ages), max_lag=29)
    np.testing.assert_array_equal(got.n_pixels, expected.n_pixels)
    np.testing.assert_array_equal(got.lag, expected.lag)
    for name in ("mean", "noise", "mean_age"):
        np.testing.assert_allclose(getattr(got, name), getattr(expected, name), rtol=1e-12)
