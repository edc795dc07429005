"""What a C2 alone tells of the errors of its means, on made noise and on speckle."""

import functools

import numpy as np
import pytest

from tests.benchmarks.estimator import Case, frames_of, sums_of
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.estimator.ages import BayesEstimator, reasons
from xpcs_live_denoise.numerics.estimator.inflation import (
    LEAST_BLOCKS,
    far_lag_inflation,
    inflated,
)
from xpcs_live_denoise.numerics.estimator.sums import AgeSums
from xpcs_live_denoise.numerics.fits import fit_g2, series_errors
from xpcs_live_denoise.numerics.g2 import g2_from_c2
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.numerics.two_time import TwoTimeAccumulator

RATE, N = 0.05, 300
AGES = np.arange(5, 345, 10)


def noisy(alike, seed=0):
    """C2 = 1 + 0.2 exp(-2 Gamma lag), white noise of 0.03, and `alike` that blocks share."""
    rng = np.random.default_rng(seed)
    edge = round(1 / RATE)
    white = np.triu(rng.normal(0, 0.03, (N, N)), 1)
    shared = np.kron(rng.normal(0, 1, (N // edge,) * 2), np.ones((edge, edge)))
    lag = np.abs(np.subtract.outer(np.arange(N), np.arange(N)))
    upper = np.triu(white + alike * shared, 1)
    return 1 + 0.2 * np.exp(-2 * RATE * lag) + upper + upper.T


def test_independent_entries_and_what_blocks_share_give_the_variance_of_their_means():
    # Twice the variance of a mean over 400 entries, in units of the white noise.
    white, n_blocks = far_lag_inflation(noisy(0.0), RATE)
    assert n_blocks > 50
    assert white == pytest.approx(2.0, rel=0.4)
    alike = 0.01
    expected = 2 * (1 + 400 * alike**2 / 0.03**2)
    found = [far_lag_inflation(noisy(alike, seed), RATE)[0] for seed in range(5)]
    assert np.mean(found) == pytest.approx(expected, rel=0.2)


def test_a_baseline_and_gaps_change_nothing():
    c2 = noisy(0.01)
    usual = far_lag_inflation(c2, RATE)[0]
    assert far_lag_inflation(c2 + 0.1, RATE)[0] == pytest.approx(usual)
    c2[[3, 77]] = np.nan
    c2[:, [3, 77]] = np.nan
    gaps, n_blocks = far_lag_inflation(c2, np.where(np.arange(N) == 5, np.nan, RATE))
    assert gaps == pytest.approx(usual, rel=0.2)
    assert n_blocks > 50


def test_a_series_too_short_for_far_frames_says_so():
    inflation, n_blocks = far_lag_inflation(noisy(0.01), 0.006)
    assert n_blocks < LEAST_BLOCKS
    assert inflation > 1
    assert far_lag_inflation(noisy(0.03), 0.006)[0] > 3 * inflation


@pytest.mark.parametrize(
    ("c2", "rate"),
    [
        (np.full((40, 40), np.nan), 0.1),
        (np.ones((40, 40)), 0.1),  # no noise at all
        (np.ones((2, 2)), 0.1),
        (np.ones((0, 0)), 0.1),
        (noisy(0.01), np.nan),
        (noisy(0.01), 0.0),
    ],
)
def test_where_nothing_is_known_nothing_is_inflated(c2, rate):
    assert far_lag_inflation(c2, rate) == (1.0, 0)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(InvalidInputError, match=r"shape \(4, 5\) and rates of shape \(\)"):
        far_lag_inflation(np.ones((4, 5)), 0.1)
    with pytest.raises(InvalidInputError, match=r"rates of shape \(3,\); expected"):
        far_lag_inflation(np.ones((4, 4)), np.ones(3))


def test_sums_whose_noise_is_multiplied_leave_the_others_alone():
    sums = AgeSums.from_c2(np.stack([noisy(0.01), noisy(0.01)]))
    louder = sums.with_noise(np.array([1.0, 9.0]))
    for roi, factor in enumerate((1.0, 9.0)):
        one, other = (each.cuts(roi, [50], 9) for each in (sums, louder))
        np.testing.assert_allclose(other.noise, factor * one.noise)
        np.testing.assert_array_equal(other.mean, one.mean)


# --- on speckle --------------------------------------------------------------------------------

CASES = {
    "dim": Case(rate=0.03, counts=0.2, alpha=1.2),
    "bright": Case(rate=0.03, counts=3.0, speckle_size=3.0),
    "slow": Case(rate=0.008, counts=1.0),
    "fast": Case(rate=0.1, counts=0.5, alpha=0.9),
}


@functools.cache
def pulls(name, seed):
    """Return (ln Gamma - truth) / error from C2 alone: of recommended ages, and of the series."""
    case = CASES[name]
    frames = frames_of(case, seed)
    accumulator = TwoTimeAccumulator(RoiMap.from_labels(np.ones(case.shape, int)))
    accumulator.append(frames)
    c2 = accumulator.c2
    sums, _ = inflated(AgeSums.from_c2(c2), c2)
    told = BayesEstimator(0).estimate(sums, AGES)
    good = np.isin(reasons(told), ("", "static_or_nonuniform"))
    ages = ((told.fits.ln_rate - np.log(case.rate)) / told.ln_rate_error)[good]
    g2, g2_error, _ = g2_from_c2(c2)
    whole = np.log(fit_g2(g2, g2_error=g2_error).relaxation_rate[0] / case.rate)
    by_blocks = series_errors(sums_of(frames).series(0), g2_error[0])
    by_noise = series_errors(sums.series(0), g2_error[0])
    return ages, whole / by_blocks[0], whole / by_noise[0]


def test_errors_from_a_c2_alone_hold_for_bright_speckle():
    ages, by_blocks, by_noise = pulls("bright", 300)
    assert np.mean(np.abs(ages) < 2) >= 0.85
    assert max(abs(by_blocks), abs(by_noise)) < 3


@pytest.mark.statistics
@pytest.mark.parametrize("name", sorted(CASES))
def test_errors_from_a_c2_alone_cover_the_truth_as_often_as_they_should(name):
    ages = np.abs(np.concatenate([pulls(name, seed)[0] for seed in range(300, 308)]))
    assert np.mean(ages < 1) >= 0.55
    assert np.mean(ages < 2) >= 0.88


@pytest.mark.statistics
def test_errors_of_the_fit_to_a_whole_series_hold():
    for which in (1, 2):
        found = [abs(pulls(name, seed)[which]) for name in CASES for seed in range(300, 308)]
        assert np.mean(np.array(found) < 1) >= 0.6
        assert np.mean(np.array(found) < 2) >= 0.9
