"""The path estimator: its algebra against plain sums, its truth on speckle whose Gamma is known."""

import dataclasses

import numpy as np
import pytest

from tests.support.changing_speckle import RATES, speckle
from xpcs_live_denoise.numerics.estimator import path_kernels as kernels
from xpcs_live_denoise.numerics.estimator.ages import path_cautions
from xpcs_live_denoise.numerics.estimator.cuts import SeriesFit, fit_rates, fit_series
from xpcs_live_denoise.numerics.estimator.grid import kww_grid
from xpcs_live_denoise.numerics.estimator.path import PathEstimator, knot_step
from xpcs_live_denoise.numerics.estimator.path_cells import path_cells
from xpcs_live_denoise.numerics.estimator.sums import AgeSums
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.numerics.simulate import simulate_speckle
from xpcs_live_denoise.numerics.two_time import TwoTimeAccumulator


def plain_c2(rate, *, alpha=1.0, beta=0.2, baseline=1.0):
    """C2 without noise: the rate is that of the interval that follows each frame."""
    passed = np.concatenate([[0.0], np.cumsum(rate[:-1])])
    decay = np.abs(passed[:, np.newaxis] - passed)
    return baseline + beta * np.exp(-2 * decay**alpha)


def noisy(c2, noise, seed=0):
    scatter = np.random.default_rng(seed).normal(0, noise, c2.shape)
    return c2 + np.triu(scatter, 1) + np.triu(scatter, 1).T


def series_of(sums) -> SeriesFit:
    n = sums.n_frames
    grid = kww_grid(sums.series(0).edges, sums.series(0).lag)
    pieces = sums.cuts(0, np.arange(20, n - 20, 41), 41)
    return fit_series(sums.series(0), pieces, grid)


def whole(sums):
    series = series_of(sums)
    ages = np.arange(0, sums.n_frames, 8)
    ln_rate, _ = fit_rates(
        sums.cuts(0, ages, 41), kww_grid(sums.series(0).edges, sums.series(0).lag), series.prior
    )
    return PathEstimator(0).whole(sums, series, (ages, ln_rate))


def at_ages(rate):
    """ln Gamma at every frame: the mean of the intervals before and after it."""
    between = np.log(rate[:-1])
    return (np.append(between[:1], between) + np.append(between, between[-1:])) / 2


# --- the algebra ------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "stop", "step"), [(0, 40, 1), (0, 40, 3), (7, 38, 5)])
def test_a_cell_has_the_gamma_between_its_frames(first, stop, step):
    sums = AgeSums.from_c2(noisy(plain_c2(np.full(40, 0.05)), 0.01))
    cells = path_cells(sums, 0, first, stop, step)
    passed = np.random.default_rng(1).uniform(0.1, 1, cells.n_knot + 1).cumsum()
    edges = sums.series(0).edges
    frame_passed = np.interp(np.arange(stop - first) / step, np.arange(cells.n_knot + 1), passed)
    for index in np.random.default_rng(2).choice(len(cells.value), 40):
        rows = first + cells.row[index] * step + np.arange(step)
        expected = []
        for lag in range(edges[cells.bin[index]], edges[cells.bin[index] + 1]):
            for row in rows:
                begin, end = row - lag // 2 - first, row + (lag + 1) // 2 - first
                expected.append(frame_passed[end] - frame_passed[begin])
        # Knots of several frames are linear between their ends, so that a mean of times is enough
        # up to where it crosses a knot.
        tolerance = 1e-9 if step == 1 else 0.25 * np.diff(passed).max()
        assert cells.decay(passed)[index] == pytest.approx(np.mean(expected), abs=tolerance)


@pytest.mark.parametrize("step", [1, 3])
def test_running_sums_equal_the_products_of_the_full_jacobian(step):
    rng = np.random.default_rng(3)
    sums = AgeSums.from_c2(noisy(plain_c2(np.full(40, 0.05)), 0.01))
    cells = path_cells(sums, 0, 0, 40, step)
    n, rate = len(cells.value), rng.uniform(0.02, 0.1, cells.n_knot)
    by_rate = np.empty((n, cells.n_knot))
    for knot in range(cells.n_knot):  # S is linear in Gamma
        passed = np.concatenate([np.zeros(knot + 1), np.ones(cells.n_knot - knot)])
        by_rate[:, knot] = cells.decay(passed)
    decay, passed = np.empty(n), np.concatenate([[0.0], np.cumsum(rate)])
    kernels.decays(cells.node, cells.share, rate, decay)
    np.testing.assert_allclose(decay, cells.decay(passed), atol=1e-12)
    slopes, weights = rng.normal(size=(6, n)), rng.uniform(0, 1, n)
    jacobian = np.column_stack([slopes[0][:, np.newaxis] * by_rate * rate, slopes[1:5].T])
    downhill, curvature = np.empty(cells.n_knot + 4), np.empty((cells.n_knot + 4,) * 2)
    of_shared = (slopes * weights) @ slopes.T
    kernels.normal_equations(
        cells.node, cells.share, weights, rate, slopes, of_shared, downhill, curvature
    )
    weighted = jacobian * weights[:, np.newaxis]
    np.testing.assert_allclose(downhill, weighted.T @ slopes[5], atol=1e-9)
    np.testing.assert_allclose(curvature, weighted.T @ jacobian, atol=1e-9)
    values, projected = rng.normal(size=(3, n)), np.empty((3, cells.n_knot + 4))
    slopes[4] = 1.0
    jacobian[:, -1] = 1.0
    kernels.project(cells.node, cells.share, weights, rate, slopes, values, projected)
    np.testing.assert_allclose(projected, (values * weights) @ jacobian, atol=1e-9)


def test_the_variance_that_a_prior_leaves_is_that_of_the_full_matrix():
    rng = np.random.default_rng(4)
    n_knot, stiffness, precision = 12, rng.uniform(1, 9, 11), rng.uniform(1, 9, 5)
    root = rng.normal(size=(16, 16))
    inverse = root @ root.T
    change = np.zeros((11, 16))
    change[np.arange(11), np.arange(11)], change[np.arange(11), np.arange(1, 12)] = -1, 1
    mean = np.concatenate([np.full(n_knot, 1 / n_knot), np.zeros(4)])
    shared = np.vstack([mean, np.eye(16)[n_knot:]])
    prior = (change.T * stiffness) @ change + (shared.T * precision) @ shared
    expected, variance = inverse @ prior @ inverse, np.empty(16)
    of_mean = kernels.open_variance(np.triu(inverse), stiffness, precision, variance)
    np.testing.assert_allclose(variance, np.diagonal(expected))
    assert of_mean == pytest.approx(expected[:n_knot, :n_knot].mean())


def test_cells_of_gaps_are_left_out():
    c2 = noisy(plain_c2(np.full(60, 0.05)), 0.01)
    c2[30:33] = c2[:, 30:33] = np.nan
    cells = path_cells(AgeSums.from_c2(c2), 0, 0, 60, 1)
    before, after = np.floor(cells.node + cells.share + 1e-9)
    single = np.abs(cells.share).max(axis=0) < 1e-9  # cells of one lag
    assert not np.isin(before[single], (30, 31, 32)).any()
    assert not np.isin(after[single], (30, 31, 32)).any()
    assert np.isfinite(cells.value).all()


@pytest.mark.parametrize(("n", "step"), [(2, 1), (350, 1), (513, 1), (514, 3), (2000, 5)])
def test_long_series_have_knots_of_several_frames(n, step):
    assert knot_step(n) == step


# --- C2 without pixels ------------------------------------------------------------------------

OSCILLATING = 0.05 * 2.0 ** np.sin(2 * np.pi * np.arange(200) / 40)


@pytest.mark.parametrize("alpha", [0.8, 1.0, 1.6])
def test_a_rate_that_oscillates_is_followed_where_there_is_hardly_noise(alpha):
    c2 = noisy(plain_c2(OSCILLATING, alpha=alpha, baseline=1.02), 0.002)
    found = whole(AgeSums.from_c2(c2))
    error = found.ln_rate - at_ages(OSCILLATING)
    assert np.sqrt(np.mean(error**2)) < 0.04
    assert found.shared[0] == pytest.approx(np.log(alpha), abs=0.02)
    assert found.shared[1:] == pytest.approx([0.2, 0.02], abs=0.004)
    assert found.converged
    assert np.isnan(found.misfit)  # no pixel blocks tell


def test_an_inflation_that_is_given_widens_the_errors():
    sums = AgeSums.from_c2(noisy(plain_c2(np.full(100, 0.05)), 0.05))
    series = series_of(sums)
    curve = (np.array([0, 99]), np.full(2, np.log(0.05)))
    once, more = (
        PathEstimator(0).whole(sums, series, curve, inflation=inflation).ln_rate_error.mean()
        for inflation in (1.0, 9.0)
    )
    assert more > 1.5 * once


@pytest.mark.parametrize("n", [2, 3])
def test_a_series_of_few_frames_says_that_nothing_is_known(n):
    sums = AgeSums.from_c2(noisy(plain_c2(np.full(n, 0.05)), 0.05))
    series = series_of(sums)
    found = PathEstimator(0).whole(sums, series, (np.array([0]), np.array([-3.0])))
    assert len(found.ln_rate) == n
    assert not found.converged
    assert np.isnan(found.ln_rate_error).all()


def test_a_series_of_gaps_says_that_nothing_is_known():
    sums = AgeSums.from_c2(np.full((30, 30), np.nan))
    found = PathEstimator(0).whole(sums, series_of(sums), (np.array([0]), np.array([-3.0])))
    assert not found.converged


# --- speckle ----------------------------------------------------------------------------------


def truth(name):
    """ln Gamma at every frame, that of an interval being the mean of its frames."""
    rate = RATES[name]
    between = (rate[:-1] + rate[1:]) / 2
    return at_ages(np.append(between, between[-1]))


# Root mean square of ln Gamma of two series, and what a tenth of ages may miss by two errors.
@pytest.mark.parametrize(
    ("name", "most"), [("constant", 0.08), ("ageing", 0.12), ("oscillating", 0.25), ("burst", 0.25)]
)
def test_gamma_that_changes_fast_is_followed_with_errors_that_hold(name, most):
    found = [whole(speckle(name, seed)) for seed in (411, 412)]
    error = np.array([one.ln_rate - truth(name) for one in found])
    sd = np.array([one.ln_rate_error for one in found])
    assert np.sqrt(np.mean(error**2)) < most
    assert np.mean(np.abs(error) < 2 * sd) > 0.9
    assert np.mean(sd < 0.5) > 0.95
    assert all(one.misfit < 2.5 for one in found)


def test_bright_speckle_of_three_pixels_inflates_the_noise():
    found = whole(speckle("ageing", 414, counts=5.0, size=3.0))
    assert found.search.inflation > 10
    error = found.ln_rate - truth("ageing")
    assert np.mean(np.abs(error) < 2 * found.ln_rate_error) > 0.85


def test_errors_along_a_path_are_not_independent():
    found = whole(speckle("constant", 411))
    assert 1 <= found.n_effective < 20


def test_cautions_say_what_a_recommended_row_leaves_open():
    found = whole(speckle("ageing", 411))
    assert path_cautions(found) == []
    shared, error = found.shared.copy(), found.shared_error.copy()
    shared[0], error[0] = np.log(0.45), 0.05
    mixed = dataclasses.replace(found, shared=shared, shared_error=error)
    assert path_cautions(mixed) == ["several_rates"]
    vague = dataclasses.replace(found, shared_error=np.array([0.3, 0.01, 0.01]))
    assert path_cautions(vague) == ["alpha_is_prior"]


def test_a_contrast_that_falls_with_age_is_seen():
    # A background that stays while the beam falls to half: binomial thinning, then Poisson.
    shape, rng = (50, 80), np.random.default_rng(8)
    rois = RoiMap.from_labels(np.ones(shape, np.int64))
    two_time = TwoTimeAccumulator(rois, sums=True, n_frames=350)
    frames = simulate_speckle(
        rois, 350, relaxation_rate=0.05, contrast=0.25, mean_counts=1.0, seed=415, block=350
    )
    beam = np.linspace(1, 0.4, 350)[:, np.newaxis, np.newaxis]
    counts = rng.binomial(next(frames), beam) + rng.poisson(0.3, (350, *shape))
    two_time.append(counts)
    found = whole(two_time.age_sums)
    # (signal / all)^2 goes from 0.59 by 0.49 in the middle to 0.33.
    assert found.drift == pytest.approx(-0.27, abs=0.1)
    assert found.beta[0] > 1.3 * found.beta[-1]
    assert "contrast_drifts" in path_cautions(found)


def test_the_newest_frames_of_a_live_run_agree_with_the_whole_series():
    sums = speckle("ageing", 411)
    series = series_of(sums)
    estimator = PathEstimator(0)
    ages = np.arange(290, 345)
    first = estimator.newest(sums, series, ages, np.log(0.03))
    again = estimator.newest(sums, series, ages, np.log(0.03))
    for found in (first, again):
        error = found.ln_rate - truth("ageing")[ages]
        assert np.sqrt(np.mean(error**2)) < 0.2
        assert np.mean(np.abs(error) < 2 * found.ln_rate_error) > 0.9
    np.testing.assert_allclose(again.ln_rate, whole(sums).ln_rate[ages], atol=0.15)


def test_a_live_run_that_begins_in_the_dark_finds_its_path_once_there_is_light():
    estimator, dark = PathEstimator(0), np.full((120, 120), np.nan)
    sums = AgeSums.from_c2(dark)
    found = estimator.newest(sums, series_of(sums), np.arange(100, 115), np.nan)
    assert not found.converged
    lit = AgeSums.from_c2(noisy(plain_c2(np.full(200, 0.05)), 0.01))
    found = estimator.newest(lit, series_of(lit), np.arange(180, 195), np.nan)
    assert found.converged
    np.testing.assert_allclose(found.ln_rate, np.log(0.05), atol=0.1)


@pytest.mark.statistics
def test_two_errors_hold_nine_of_ten_truths_in_every_kind_of_series():
    for name in RATES:
        found = [whole(speckle(name, seed)) for seed in range(420, 430)]
        error = np.array([one.ln_rate - truth(name) for one in found])
        sd = np.array([one.ln_rate_error for one in found])
        assert np.mean(np.abs(error) < sd) > 0.5, name
        assert np.mean(np.abs(error) < 2 * sd) > 0.85, name
        bad = (np.abs(error) > 3 * sd) & (np.abs(error) > np.log(1.3)) & (sd < 0.5)
        assert bad.mean() < 0.03, name
