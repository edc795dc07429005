"""The posterior over the grid is that of brute force, and finds curves that it was given."""

import numpy as np
import pytest

from xpcs_live_denoise.numerics.arrays import lag_bin_edges
from xpcs_live_denoise.numerics.estimator.grid import (
    LinearPrior,
    alpha_is_prior,
    kww_grid,
    posterior,
    rate_posterior,
    refined,
)
from xpcs_live_denoise.numerics.kww import (
    grid_mass,
    grid_moments,
    linear_moments,
    solve_linear,
)
from xpcs_live_denoise.records.types import select_rows

EDGES = lag_bin_edges(99)
N_BIN = len(EDGES) - 1
PRIOR = LinearPrior(mean=np.array([0.2, 0.0]), covariance=np.diag([0.1**2, 0.05**2]))


def curve(rate, alpha=1.0):
    lag = np.arange(1, EDGES[-1])
    values = np.exp(-2 * (rate * lag) ** alpha)
    return np.add.reduceat(values, EDGES[:-1] - 1) / np.diff(EDGES)


def noisy(seed, rate=0.05, sigma=0.02, n=1):
    rng = np.random.default_rng(seed)
    return 0.01 + 0.2 * curve(rate) + rng.normal(0, sigma, (n, N_BIN))


def test_the_marginal_evidence_is_that_of_the_gaussian_it_stands_for():
    from scipy.stats import multivariate_normal

    grid, data, sigma = kww_grid(99), noisy(0)[0], 0.02
    some = np.arange(0, len(grid.ln_rate), 7)
    log_evidence = np.empty(len(some))
    for at, point in enumerate(some):
        design = np.column_stack([grid.curves.f[:, point], np.ones(N_BIN)])
        covariance = design @ PRIOR.covariance @ design.T + sigma**2 * np.eye(N_BIN)
        log_evidence[at] = multivariate_normal.logpdf(data, design @ PRIOR.mean, covariance)
    log_evidence += grid.log_prior[some]
    mass = np.exp(log_evidence - log_evidence.max())
    mass /= mass.sum()
    thinned = select_rows(grid, some)
    fitted = posterior(thinned, data[np.newaxis], np.full((1, N_BIN), sigma**-2), PRIOR)
    mean = mass @ thinned.ln_rate
    assert fitted.ln_rate[0] == pytest.approx(mean, abs=1e-6)
    sd = np.sqrt(mass @ (thinned.ln_rate - mean) ** 2)
    assert fitted.ln_rate_sd[0] == pytest.approx(sd, rel=1e-5)
    assert fitted.edge_mass[0] == pytest.approx(mass[thinned.at_edge].sum(), abs=1e-9)


def test_beta_and_baseline_are_those_of_the_linear_solution_where_gamma_is_sure():
    data = 0.03 + 0.25 * curve(0.05)[np.newaxis]
    fitted = posterior(kww_grid(99), data, np.full((1, N_BIN), 1e8), PRIOR)
    assert np.exp(fitted.ln_rate[0]) == pytest.approx(0.05, rel=0.02)
    np.testing.assert_allclose(fitted.linear[0], [0.25, 0.03], atol=0.005)
    np.testing.assert_allclose(fitted.curve, data, atol=0.003)


def test_the_short_way_gives_the_same_gamma():
    weights = np.full((40, N_BIN), 0.02**-2)
    data = noisy(2, n=40)
    full = posterior(kww_grid(99), data, weights, PRIOR)
    ln_rate, sd, chi_square = rate_posterior(kww_grid(99), data, weights, PRIOR)
    np.testing.assert_allclose(ln_rate, full.ln_rate)
    np.testing.assert_allclose(sd, full.ln_rate_sd)
    # The best point of the grid and the mean curve differ by less than the noise allows.
    assert (np.abs(chi_square - full.chi_square) < 10).all()


def test_its_deviations_cover_the_truth_as_normal_errors_do():
    rng = np.random.default_rng(5)
    n, sigma = 400, 0.02
    linear = rng.multivariate_normal(PRIOR.mean, PRIOR.covariance / 4, n)
    ln_rate = rng.uniform(np.log(0.02), np.log(0.2), n)
    data = np.stack(
        [b * curve(np.exp(r)) + c for (b, c), r in zip(linear, ln_rate, strict=True)]
    ) + rng.normal(0, sigma, (n, N_BIN))
    fitted = posterior(kww_grid(99), data, np.full((n, N_BIN), sigma**-2), PRIOR)
    inside = np.abs(fitted.ln_rate - ln_rate) < fitted.ln_rate_sd
    assert 0.62 < inside.mean() < 0.85


def test_without_data_the_posterior_is_the_prior():
    fitted = posterior(kww_grid(99), np.zeros((1, N_BIN)), np.zeros((1, N_BIN)), PRIOR)
    np.testing.assert_allclose(fitted.linear[0], PRIOR.mean, atol=1e-12)
    np.testing.assert_allclose(fitted.linear_covariance[0], PRIOR.covariance, atol=1e-12)
    assert fitted.ln_rate_sd[0] > 2


def test_what_is_faster_than_the_grid_lies_at_its_edge():
    data = 0.2 * curve(0.05)[np.newaxis] * 0  # nothing left at lag 1
    fitted = posterior(kww_grid(99), data, np.full((1, N_BIN), 1e6), PRIOR)
    assert fitted.edge_mass[0] > 0.05


def test_the_grid_averages_curves_over_the_lags_of_a_bin():
    grid = kww_grid(99)
    point = 77 * 20 + 9
    expected = curve(np.exp(grid.ln_rate[point]), np.exp(grid.ln_alpha[point]))
    np.testing.assert_allclose(grid.curves.f[:, point], expected)


@pytest.mark.parametrize("sigma", [1e-5, 1e-3, 0.02, 0.3])
def test_the_part_of_the_grid_that_is_looked_at_holds_the_posterior(sigma):
    rng = np.random.default_rng(8)
    rates = np.exp(rng.uniform(np.log(0.002), np.log(1.4), 100))
    data = np.stack(
        [0.2 * curve(r, a) for r, a in zip(rates, rng.uniform(0.4, 2, 100), strict=True)]
    )
    data += rng.normal(0, sigma, data.shape)
    weights = np.full(data.shape, sigma**-2)
    grid = kww_grid(99)
    fitted = posterior(grid, data, weights, PRIOR)
    short = rate_posterior(grid, data, weights, PRIOR)
    precision = np.linalg.inv(PRIOR.covariance)
    solved = solve_linear(
        grid.curves.lags(N_BIN),
        weights,
        weights * data,
        precision=precision[np.newaxis, np.newaxis],
        pull=(precision @ PRIOR.mean)[np.newaxis, np.newaxis],
    )
    mass = grid_mass(solved.log_evidence + grid.log_prior)
    ln_rate, sd = grid_moments(mass, grid.ln_rate)
    linear, covariance = linear_moments(mass, solved)
    np.testing.assert_allclose(fitted.ln_rate, ln_rate, atol=1e-5)
    np.testing.assert_allclose(fitted.ln_rate_sd, sd, atol=1e-4)
    np.testing.assert_allclose(fitted.linear, linear, atol=1e-5)
    np.testing.assert_allclose(fitted.linear_covariance, covariance, atol=1e-6)
    np.testing.assert_allclose(fitted.edge_mass, mass @ grid.at_edge, atol=1e-5)
    np.testing.assert_allclose(short[0], ln_rate, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.8, 1.1, 1.5, 1.62])
@pytest.mark.parametrize("sigma", [1e-4, 1e-3, 3e-3])
def test_between_its_points_the_grid_is_refined_with_errors_that_hold(alpha, sigma):
    rng = np.random.default_rng(11)
    rates = np.exp(rng.uniform(np.log(0.02), np.log(0.1), 300))
    data = 0.01 + 0.2 * np.stack([curve(rate, alpha) for rate in rates])
    data += rng.normal(0, sigma, data.shape)
    weights, grid = np.full(data.shape, sigma**-2), kww_grid(99)
    coarse = posterior(grid, data, weights, PRIOR)
    fine = refined(coarse, grid, data, weights, PRIOR)
    for name, truth in (("ln_alpha", np.log(alpha)), ("ln_rate", np.log(rates))):
        off, sd = getattr(fine, name) - truth, getattr(fine, f"{name}_sd")
        # A bin of lags stands for its middle, which is wrong by some thousandths.
        assert np.mean(np.abs(off) < sd + 2e-3) > 0.6
        assert np.mean(np.abs(off) < 2 * sd + 2e-3) > 0.9
    assert (fine.chi_square < coarse.chi_square + 1).all()
    assert np.median(np.abs(fine.linear[:, 0] - 0.2)) < 0.002 + sigma


def test_a_posterior_wider_than_a_step_of_the_grid_stays_as_it_is():
    data, weights = noisy(3, n=5, sigma=0.05), np.full((5, N_BIN), 0.05**-2)
    grid = kww_grid(99)
    wide = posterior(grid, data, weights, PRIOR)
    assert (wide.ln_alpha_sd > grid.alpha_step).all()
    assert refined(wide, grid, data, weights, PRIOR) is wide


def test_what_has_no_maximum_nearby_keeps_the_scatter_inside_of_a_step():
    # No KWW curve at all: the best one lies at the edge of the grid.
    data = np.where(np.arange(N_BIN) < 5, 0.2, 0.0)[np.newaxis]
    weights, grid = np.full((1, N_BIN), 1e8), kww_grid(99)
    coarse = posterior(grid, data, weights, PRIOR)
    fine = refined(coarse, grid, data, weights, PRIOR)
    assert fine.ln_alpha[0] == coarse.ln_alpha[0]
    assert fine.ln_alpha_sd[0] >= grid.alpha_step / np.sqrt(12)


def test_flow_is_not_at_the_edge_of_the_grid():
    data = 0.2 * np.stack([curve(rate, 2.0) for rate in (0.02, 0.05, 0.1)])
    fitted = posterior(kww_grid(99), data, np.full(data.shape, 0.02**-2), PRIOR)
    assert (fitted.edge_mass < 0.01).all()
    np.testing.assert_allclose(fitted.ln_rate, np.log([0.02, 0.05, 0.1]), atol=0.1)


def test_alpha_is_the_prior_s_where_the_data_hardly_tell():
    said: list[bool] = []
    for sigma in (0.003, 1.0):
        weights = np.full((1, N_BIN), sigma**-2)
        fitted = posterior(kww_grid(99), noisy(4, sigma=sigma), weights, PRIOR)
        said += alpha_is_prior(fitted.ln_alpha_sd).tolist()
    assert said == [False, True]
