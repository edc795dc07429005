"""The posterior of a window against brute force, and what it says on windows of known truth."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.kww import kww
from xpcs_live_denoise.numerics.window_bayes import (
    TEMPERATURE,
    WindowPrior,
    excess_covariance,
    fit_windows,
    flat_prior,
    prior_from_fits,
    window_noise,
)

LAGS = np.arange(1, 50)
ENTRIES = 50 - LAGS


def noisy_windows(
    gamma: np.ndarray, sigma: float, seed: int = 0, alpha: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return g2 (n, 49) of windows with independent pixel noise, and their noise variance."""
    rng = np.random.default_rng(seed)
    truth = kww(LAGS, gamma[:, None], alpha)
    return truth + sigma * rng.normal(size=truth.shape) / np.sqrt(ENTRIES), np.full(
        len(gamma), sigma**2
    )


def small_prior() -> WindowPrior:
    """Return a prior of 5 x 3 grid points with correlated beta and baseline."""
    rng = np.random.default_rng(1)
    weight = rng.random((5, 3))
    covariance = np.array([[0.02, -0.006], [-0.006, 0.01]]) * rng.uniform(0.5, 2, (5, 3, 1, 1))
    noise = rng.normal(size=(49, 49)) * 0.01
    return WindowPrior(
        ln_rate=np.log(np.geomspace(0.01, 0.3, 5)),
        ln_alpha=np.log([0.7, 1.0, 1.6]),
        weight=weight / weight.sum(),
        mean=np.array([0.9, 1.05]) + 0.05 * rng.normal(size=(5, 3, 2)),
        covariance=covariance,
        lag_covariance=noise @ noise.T,
    )


def test_the_posterior_is_that_of_dense_gaussians_at_each_grid_point():
    prior, temperature = small_prior(), 1.7
    g2, noise = noisy_windows(np.array([0.03, 0.1]), 0.5)
    found = fit_windows(g2, noise, prior=prior, temperature=temperature)
    for k in range(2):
        cov = temperature * (np.diag(noise[k] / ENTRIES) + prior.lag_covariance)
        evidence, beta, curve = np.empty((5, 3)), np.empty((5, 3)), np.empty((5, 3, 49))
        for i, j in np.ndindex(5, 3):
            f = np.exp(-2 * (np.exp(prior.ln_rate[i]) * LAGS) ** np.exp(prior.ln_alpha[j]))
            design = np.column_stack([f, np.ones(49)])
            total = cov + design @ prior.covariance[i, j] @ design.T
            off = g2[k] - design @ prior.mean[i, j]
            evidence[i, j] = -0.5 * (
                off @ np.linalg.solve(total, off) + np.linalg.slogdet(total)[1]
            )
            gain = prior.covariance[i, j] @ design.T @ np.linalg.inv(total)
            values = prior.mean[i, j] + gain @ off
            beta[i, j], curve[i, j] = values[0], design @ values
        p = prior.weight * np.exp(evidence - evidence.max())
        p /= p.sum()
        mean = np.sum(p * prior.ln_rate[:, None])
        variance = np.sum(p * (prior.ln_rate[:, None] - mean) ** 2)
        assert found.relaxation_rate[k] == pytest.approx(np.exp(mean - variance / 2), rel=1e-6)
        relative = found.relaxation_rate_error[k] / found.relaxation_rate[k]
        assert relative == pytest.approx(np.sqrt(variance), rel=1e-5)
        assert found.beta[k] == pytest.approx(np.sum(p * beta), rel=1e-6)
        np.testing.assert_allclose(found.g2[k], np.einsum("ij,ijl->l", p, curve), rtol=1e-6)


def test_clean_windows_give_back_their_parameters():
    gamma = np.array([0.02, 0.06, 0.15])
    g2, noise = noisy_windows(gamma, 0.02, alpha=1.4)
    found = fit_windows(g2, noise)
    np.testing.assert_allclose(found.relaxation_rate, gamma, rtol=0.06)
    np.testing.assert_allclose(found.alpha, 1.4, rtol=0.1)
    np.testing.assert_allclose(found.g2, kww(LAGS, gamma[:, None], 1.4), atol=0.02)
    assert found.converged.all()


def test_errors_hold_where_windows_are_drawn_from_the_prior_and_the_temperature_is_one():
    rng = np.random.default_rng(2)
    gamma = np.exp(rng.uniform(np.log(1e-3), 0, 1500))
    alpha, beta = np.exp(0.35 * rng.normal(size=1500)), 1 + 0.3 * rng.normal(size=1500)
    baseline = 1 + 0.1 * rng.normal(size=1500)
    truth = kww(LAGS, *(x[:, None] for x in (gamma, alpha, beta, baseline)))
    g2 = truth + 0.3 * rng.normal(size=truth.shape) / np.sqrt(ENTRIES)
    found = fit_windows(g2, np.full(1500, 0.09), temperature=1.0)
    for estimate, error, true in (
        (np.log(found.alpha), found.alpha_error / found.alpha, np.log(alpha)),
        (found.beta, found.beta_error, beta),
        (found.baseline, found.baseline_error, baseline),
    ):
        away = np.abs(estimate - true) / error
        assert 0.65 < np.mean(away < 1) < 0.76
        assert 0.93 < np.mean(away < 2) < 0.98
    rate = np.abs(np.log(found.relaxation_rate / gamma))
    rate *= found.relaxation_rate / found.relaxation_rate_error
    assert 0.6 < np.mean(rate < 1) < 0.78
    assert np.mean(rate < 2) > 0.9


def test_more_noise_means_wider_errors_and_the_scale_multiplies_them():
    gamma = np.full(20, 0.05)
    clean, noisy = (fit_windows(*noisy_windows(gamma, s)) for s in (0.2, 2.0))
    assert (noisy.relaxation_rate_error > 2 * clean.relaxation_rate_error).all()
    half = dataclasses.replace(flat_prior(49), error_scale=0.5)
    scaled = fit_windows(*noisy_windows(gamma, 0.2), prior=half)
    np.testing.assert_allclose(scaled.beta_error, 0.5 * clean.beta_error)


def test_a_window_that_hardly_decays_ends_at_the_edge_of_the_grid():
    found = fit_windows(np.full((1, 49), 2.0), [1e-6])
    assert not found.converged[0]


def test_nan_gives_nan_and_touches_no_other_window():
    g2, noise = noisy_windows(np.array([0.03, 0.05, 0.1]), 0.3)
    alone = fit_windows(g2[[0, 2]], noise[[0, 2]])
    g2[1, 7] = np.nan
    found = fit_windows(g2, noise)
    assert np.isnan(found.relaxation_rate[1])
    assert np.isnan(found.g2[1]).all()
    assert not found.converged[1]
    np.testing.assert_allclose(found.relaxation_rate[[0, 2]], alone.relaxation_rate)


def test_the_noise_is_the_scatter_at_equal_lag():
    rng = np.random.default_rng(4)
    curve = kww(np.abs(np.subtract.outer(np.arange(50), np.arange(50))), 0.05)
    windows = curve + 0.7 * rng.normal(size=(40, 50, 50))
    noise = window_noise(windows)
    assert noise.shape == (40,)
    assert noise.mean() == pytest.approx(0.49, rel=0.01)
    assert noise.std() < 0.05


def test_the_excess_covariance_is_what_pixel_noise_does_not_explain():
    rng = np.random.default_rng(5)
    pixel = rng.normal(size=(20000, 49)) / np.sqrt(ENTRIES)
    assert np.abs(excess_covariance(pixel, np.ones(20000))).max() < 0.02
    common = 0.3 * rng.normal(size=(20000, 1)) * np.exp(-LAGS / 10)
    found = excess_covariance(pixel + common, np.ones(20000))
    assert found[0, 0] > 3 * found[30, 30]
    assert (np.linalg.eigvalsh(found) > -1e-12).all()


def test_a_prior_from_fits_pulls_noisy_windows_towards_them():
    rng = np.random.default_rng(6)
    fits = np.column_stack(
        [np.log(0.05) + 0.1 * rng.normal(size=50), np.zeros(50), np.ones(50), np.ones(50)]
    )
    prior = prior_from_fits(fits, np.ones(50), np.zeros((49, 49)))
    assert prior.weight.sum() == pytest.approx(1.0)
    assert np.linalg.eigvalsh(prior.covariance).min() > 0
    g2, noise = noisy_windows(np.full(200, 0.05), 2.0, seed=7)
    with_prior, without = (fit_windows(g2, noise, prior=p) for p in (prior, None))
    off = [np.abs(np.log(found.relaxation_rate / 0.05)).mean() for found in (with_prior, without)]
    assert off[0] < 0.7 * off[1]


def test_what_does_not_fit_together_is_refused():
    g2, noise = noisy_windows(np.array([0.05]), 0.3)
    with pytest.raises(InvalidInputError, match=r"noise \(2,\).* expected \(n, n_lag\)"):
        fit_windows(g2, np.ones(2))
    with pytest.raises(InvalidInputError, match="a prior for 20 lags"):
        fit_windows(g2, noise, prior=flat_prior(20))
    with pytest.raises(InvalidInputError, match="temperature above 0"):
        fit_windows(g2, noise, temperature=0.0)
    with pytest.raises(InvalidInputError, match=r"windows have shape \(3, 4\)"):
        window_noise(np.ones((3, 4)))
    with pytest.raises(InvalidInputError, match=r"weight has shape \(2, 2\)"):
        dataclasses.replace(flat_prior(49), weight=np.ones((2, 2)))
    with pytest.raises(InvalidInputError, match=r"expected \(n, 4\)"):
        prior_from_fits(np.ones((3, 3)), np.ones(3), np.zeros((49, 49)))
    assert TEMPERATURE == 2.0
