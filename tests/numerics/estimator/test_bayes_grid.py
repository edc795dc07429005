"""The posterior over the grid is that of every point of it, and finds curves that it was given."""

import numpy as np
import pytest

from tests.numerics.estimator.plain_grid import plain_posterior
from xpcs_live_denoise.numerics.arrays import lag_bin_edges
from xpcs_live_denoise.numerics.estimator.grid import (
    LinearPrior,
    alpha_is_prior,
    kww_grid,
    posterior,
    rate_posterior,
)
from xpcs_live_denoise.numerics.kww import GridCurves, solve_linear

EDGES = lag_bin_edges(99)
N_BIN = len(EDGES) - 1
GRID = kww_grid(EDGES, (EDGES[:-1] + EDGES[1:] - 1) / 2)
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

    data, sigma = noisy(0)[0], 0.02
    some = np.arange(0, len(GRID.ln_rate), 7)
    expected = np.empty(len(some))
    for at, point in enumerate(some):
        design = np.column_stack([GRID.curves[point, :N_BIN], np.ones(N_BIN)])
        covariance = design @ PRIOR.covariance @ design.T + sigma**2 * np.eye(N_BIN)
        expected[at] = multivariate_normal.logpdf(data, design @ PRIOR.mean, covariance)
    precision = np.linalg.inv(PRIOR.covariance)
    solved = solve_linear(
        GridCurves.of(GRID.curves[some, :N_BIN]),
        np.full((1, N_BIN), sigma**-2),
        data[np.newaxis] / sigma**2,
        precision=precision[np.newaxis, np.newaxis],
        pull=(precision @ PRIOR.mean)[np.newaxis, np.newaxis],
    )
    found = solved.log_evidence[0]
    np.testing.assert_allclose(found - found[0], expected - expected[0], atol=1e-6)


def test_beta_and_baseline_are_those_of_the_linear_solution_where_gamma_is_sure():
    data = 0.03 + 0.25 * curve(0.05)[np.newaxis]
    fitted = posterior(GRID, data, np.full((1, N_BIN), 1e8), PRIOR)
    assert np.exp(fitted.ln_rate[0]) == pytest.approx(0.05, rel=0.02)
    np.testing.assert_allclose(fitted.linear[0], [0.25, 0.03], atol=0.005)
    np.testing.assert_allclose(fitted.curve, data, atol=0.003)


def test_the_short_way_gives_the_same_gamma():
    weights = np.full((40, N_BIN), 0.02**-2)
    data = noisy(2, n=40)
    full = posterior(GRID, data, weights, PRIOR)
    ln_rate, sd, chi_square = rate_posterior(GRID, data, weights, PRIOR)
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
    fitted = posterior(GRID, data, np.full((n, N_BIN), sigma**-2), PRIOR)
    inside = np.abs(fitted.ln_rate - ln_rate) < fitted.ln_rate_sd
    assert 0.62 < inside.mean() < 0.85


def test_without_data_the_posterior_is_the_prior():
    fitted = posterior(GRID, np.zeros((1, N_BIN)), np.zeros((1, N_BIN)), PRIOR)
    np.testing.assert_allclose(fitted.linear[0], PRIOR.mean, atol=1e-12)
    np.testing.assert_allclose(fitted.linear_covariance[0], PRIOR.covariance, atol=1e-12)
    assert fitted.ln_rate_sd[0] > 2


def test_what_is_faster_than_the_grid_lies_at_its_edge():
    data = 0.2 * curve(0.05)[np.newaxis] * 0  # nothing left at lag 1
    fitted = posterior(GRID, data, np.full((1, N_BIN), 1e6), PRIOR)
    assert fitted.edge_mass[0] > 0.05


def test_the_grid_averages_curves_over_the_lags_of_a_bin():
    grid = GRID
    point = 77 * 20 + 9
    expected = curve(np.exp(grid.ln_rate[point]), np.exp(grid.ln_alpha[point]))
    np.testing.assert_allclose(grid.curves[point, :N_BIN], expected)


def measured(sigma, n=150, seed=8, flat=0.0):
    """Curves of many kinds with noise; a share `flat` of them has no contrast at all."""
    rng = np.random.default_rng(seed)
    rates, alphas = np.exp(rng.uniform(np.log(0.002), np.log(1.4), n)), rng.uniform(0.4, 2, n)
    beta = 0.2 * (rng.random(n) >= flat)
    data = np.stack([b * curve(r, a) for b, r, a in zip(beta, rates, alphas, strict=True)])
    weights = rng.uniform(0.3, 3, data.shape) * sigma**-2
    weights[: n // 3, 20:] = 0.0  # a few lags only
    weights[:, 7] = 0.0
    return data + rng.normal(size=data.shape) * sigma, weights


@pytest.mark.parametrize("sigma", [1e-5, 1e-3, 0.005, 0.02, 0.1, 0.3])
def test_the_points_that_are_looked_at_tell_what_all_of_them_do(sigma):
    data, weights = measured(sigma, flat=0.1)
    expected = plain_posterior(GRID, data, weights, PRIOR)
    found = posterior(GRID, data, weights, PRIOR)
    for name in ("ln_rate", "ln_rate_sd", "ln_alpha", "ln_alpha_sd", "edge_mass", "curve"):
        atol = (
            5e-6 if name.endswith("sd") else 1e-6
        )  # one point alone has a standard deviation of 0
        np.testing.assert_allclose(getattr(found, name), expected[name], atol=atol, err_msg=name)
    np.testing.assert_allclose(found.linear, expected["linear"], atol=2e-7)
    np.testing.assert_allclose(found.linear_covariance, expected["linear_covariance"], atol=2e-8)
    np.testing.assert_allclose(found.chi_square, expected["chi_square"], rtol=1e-6, atol=1e-6)
    ln_rate, sd, _ = rate_posterior(GRID, data, weights, PRIOR)
    np.testing.assert_allclose(ln_rate, expected["ln_rate"], atol=1e-6)
    np.testing.assert_allclose(sd, expected["ln_rate_sd"], atol=1e-6)


@pytest.mark.parametrize("sigma", [1e-3, 0.02])
def test_sets_that_share_weights_are_fitted_as_each_alone(sigma):
    rng = np.random.default_rng(12)
    data, weights = measured(sigma, n=40)
    priors = LinearPrior(
        mean=PRIOR.mean + rng.normal(0, 0.01, (8, 2)),
        covariance=PRIOR.covariance * rng.uniform(0.8, 1.2, (8, 1, 1)),
    )
    sets = data[:, np.newaxis] + rng.normal(0, sigma / 3, (40, 8, N_BIN))
    together = posterior(GRID, sets, weights, priors)
    for k in range(8):
        one = LinearPrior(mean=priors.mean[k], covariance=priors.covariance[k])
        expected = plain_posterior(GRID, sets[:, k], weights, one)
        rows = slice(40 * k, 40 * (k + 1))
        for name in ("ln_rate", "ln_alpha", "linear"):
            found = getattr(together, name)[rows]
            np.testing.assert_allclose(found, expected[name], atol=1e-5, err_msg=name)


@pytest.mark.parametrize("sigma", [1e-3, 0.005, 0.02, 0.3])
def test_a_rough_look_is_right_to_some_per_cent_of_the_error(sigma):
    data, weights = measured(sigma)
    ln_rate, sd, _ = rate_posterior(GRID, data, weights, PRIOR)
    roughly, about, _ = rate_posterior(GRID, data, weights, PRIOR, rough=True)
    away = np.maximum(np.abs(roughly - ln_rate), np.abs(about - sd)) / np.maximum(sd, GRID.step)
    assert np.quantile(away, 0.95) < 0.03
    assert away.max() < 0.2


def test_the_least_chi_square_is_that_of_the_best_point():
    data, weights = measured(0.02, n=40)
    chi_square = rate_posterior(GRID, data, weights, PRIOR, with_chi_square=True)[2]
    beta = np.linspace(0, 0.5, 201)
    for k in range(0, 40, 7):  # by hand: every curve, beta on a fine grid, the best offset for it
        curves, w, y = GRID.curves[:, :N_BIN], weights[k], data[k]
        model = beta[:, np.newaxis, np.newaxis] * curves
        precision = 1 / PRIOR.covariance[1, 1]
        offset = ((y - model) @ w) / (w.sum() + precision)
        squares = ((y - model - offset[..., np.newaxis]) ** 2) @ w + precision * offset**2
        squares += ((beta - PRIOR.mean[0]) ** 2 / PRIOR.covariance[0, 0])[:, np.newaxis]
        # That of most evidence, which counts the volume as well.
        assert squares.min() - 0.05 < chi_square[k] < squares.min() + 1


@pytest.mark.parametrize(("first", "width"), [(101, 1), (101, 5), (101, 6), (1000, 70), (9e4, 7e3)])
def test_the_mean_over_a_wide_bin_is_that_of_all_its_lags(first, width):
    edges = np.array([*range(1, 101), first, first + width], np.int64)
    grid = kww_grid(edges, (edges[:-1] + edges[1:] - 1) / 2)
    lag = np.arange(first, first + width)
    some = np.arange(0, len(grid.ln_rate), 61)
    rate, alpha = np.exp(grid.ln_rate[some]), np.exp(grid.ln_alpha[some])
    plain = np.exp(-2 * (rate[:, np.newaxis] * lag) ** alpha[:, np.newaxis]).mean(axis=1)
    np.testing.assert_allclose(grid.curves[some, 100], plain, atol=1e-7)


@pytest.mark.parametrize("alpha", [0.8, 1.1, 1.5, 1.62])
@pytest.mark.parametrize("sigma", [1e-4, 1e-3, 3e-3])
def test_between_its_points_the_grid_is_refined_with_errors_that_hold(alpha, sigma):
    rng = np.random.default_rng(11)
    rates = np.exp(rng.uniform(np.log(0.02), np.log(0.1), 300))
    data = 0.01 + 0.2 * np.stack([curve(rate, alpha) for rate in rates])
    data += rng.normal(0, sigma, data.shape)
    weights, grid = np.full(data.shape, sigma**-2), GRID
    coarse = posterior(grid, data, weights, PRIOR)
    fine = posterior(grid, data, weights, PRIOR, fine=True)
    for name, truth in (("ln_alpha", np.log(alpha)), ("ln_rate", np.log(rates))):
        off, sd = getattr(fine, name) - truth, getattr(fine, f"{name}_sd")
        # A bin of lags stands for its middle, which is wrong by some thousandths.
        assert np.mean(np.abs(off) < sd + 2e-3) > 0.6
        assert np.mean(np.abs(off) < 2 * sd + 2e-3) > 0.9
    assert (fine.chi_square < coarse.chi_square + 1).all()
    assert np.median(np.abs(fine.linear[:, 0] - 0.2)) < 0.002 + sigma


def test_a_posterior_wider_than_a_step_of_the_grid_stays_as_it_is():
    data, weights = noisy(3, n=5, sigma=0.05), np.full((5, N_BIN), 0.05**-2)
    grid = GRID
    wide = posterior(grid, data, weights, PRIOR)
    assert (wide.ln_alpha_sd > grid.alpha_step).all()
    fine = posterior(grid, data, weights, PRIOR, fine=True)
    np.testing.assert_array_equal(fine.parameters(), wide.parameters())
    np.testing.assert_array_equal(fine.deviations(), wide.deviations())


def test_what_has_no_maximum_nearby_keeps_the_scatter_inside_of_a_step():
    # No KWW curve at all: the best one lies at the edge of the grid.
    data = np.where(np.arange(N_BIN) < 5, 0.2, 0.0)[np.newaxis]
    weights, grid = np.full((1, N_BIN), 1e8), GRID
    coarse = posterior(grid, data, weights, PRIOR)
    fine = posterior(grid, data, weights, PRIOR, fine=True)
    assert fine.ln_alpha[0] == coarse.ln_alpha[0]
    assert fine.ln_alpha_sd[0] >= grid.alpha_step / np.sqrt(12)


def test_flow_is_not_at_the_edge_of_the_grid():
    data = 0.2 * np.stack([curve(rate, 2.0) for rate in (0.02, 0.05, 0.1)])
    fitted = posterior(GRID, data, np.full(data.shape, 0.02**-2), PRIOR)
    assert (fitted.edge_mass < 0.01).all()
    np.testing.assert_allclose(fitted.ln_rate, np.log([0.02, 0.05, 0.1]), atol=0.1)


def test_alpha_is_the_prior_s_where_the_data_hardly_tell():
    said: list[bool] = []
    for sigma in (0.003, 1.0):
        weights = np.full((1, N_BIN), sigma**-2)
        fitted = posterior(GRID, noisy(4, sigma=sigma), weights, PRIOR)
        said += alpha_is_prior(fitted.ln_alpha_sd).tolist()
    assert said == [False, True]
