"""Gamma and g2 of a window by Bayes over a grid of KWW curves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.records.types import BoolArray, FloatArray

from .kww import (
    ALPHA_BOUNDS,
    GAMMA_BOUNDS,
    GridCurves,
    LinearSolution,
    grid_mass,
    grid_moments,
    grid_points,
    kww_curves,
    linear_moments,
    solve_linear,
)

# The likelihood is raised to the power 1 / TEMPERATURE: KWW curves are not all of the truth.
TEMPERATURE = 2.0
# Share of the lags whose diagonals tell the noise: the last ones have a handful of entries.
NOISE_LAGS = 0.8
# A result needs this much of the posterior away from the first and last Gamma of the grid.
MOST_AT_EDGE = 0.05
# Least noise of an entry of a scaled window: below any measurement, above rounding.
_LEAST_VARIANCE = 1e-8
# Windows at a time: one array of the grid's size for each of them stays in the cache.
_CHUNK = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowRates:
    """Posterior of n windows; every attribute has shape (n,) but g2. NaN input gives NaN.

    The rate, per frame, is exp(m - s^2 / 2) with mean m and standard deviation s of ln Gamma, and
    its error that times s: the inverse of the mean relaxation time of a log-normal posterior. It
    lies half way between the estimates of least error of ln Gamma, exp(m), and of least expected
    |Gamma / truth - 1|, exp(m - s^2), which a window too noisy to tell would else overshoot.
    """

    relaxation_rate: FloatArray
    relaxation_rate_error: FloatArray
    alpha: FloatArray  # exp of the mean of ln alpha
    alpha_error: FloatArray
    beta: FloatArray  # in units of the scaled window, as the baseline
    beta_error: FloatArray
    baseline: FloatArray
    baseline_error: FloatArray
    g2: FloatArray  # (n, n_lag): posterior mean curve at the lags 1..n_lag
    converged: BoolArray  # at most MOST_AT_EDGE of the posterior lies at either end of the grid


def window_noise(windows: ArrayLike) -> FloatArray:
    """Return the variance of one entry of each window, shape (n,), from the scatter at equal lag.

    The windows of C2 on its diagonal are (n, m, m). Entries of one diagonal have one expectation in
    equilibrium; lags beyond 0.8 of the window have too few of them to tell. Lag 0 is never used.
    """
    stack = np.asarray(windows)
    if stack.ndim != 3 or stack.shape[1] != stack.shape[2] or stack.shape[1] < 4:
        raise InvalidInputError(
            f"window_noise: windows have shape {stack.shape}; expected (n, m, m) with m >= 4."
        )
    size = stack.shape[1]
    squares, freedom = np.zeros(len(stack)), 0
    for lag in range(1, int(NOISE_LAGS * size) + 1):
        entries = np.diagonal(stack, lag, axis1=1, axis2=2).astype(np.float64)
        squares += entries.var(axis=1) * entries.shape[1]
        freedom += entries.shape[1] - 1
    return squares / freedom


def fit_windows(
    g2: ArrayLike,
    noise: ArrayLike,
    *,
    prior: WindowPrior | None = None,
    temperature: float = TEMPERATURE,
) -> WindowRates:
    """Return the posterior of Gamma, alpha, beta, baseline and g2 of windows.

    At each grid point of (Gamma, alpha), g2 is linear in beta and baseline, whose Gaussian prior
    is integrated out exactly. The mean over a diagonal of k entries has the variance noise / k,
    independent of other lags, and the prior's lag covariance beside it; one basis diagonalises
    both, for every window alike.

    Parameters
    ----------
    g2
        Shape (n, n_lag): means along the diagonals of (n_lag + 1)-frame windows that are scaled by
        a known contrast, lags 1..n_lag.
    noise
        Shape (n,): variance of one entry of each window, `window_noise`.
    prior
        Default: `flat_prior`, which no training data have shaped.
    temperature
        By which the log-likelihood is divided.

    Raises
    ------
    InvalidInputError
        When shapes do not fit, or the temperature is not positive.
    """
    curves, variance = np.atleast_2d(np.asarray(g2, np.float64)), np.asarray(noise, np.float64)
    n, n_lag = curves.shape
    prior = flat_prior(n_lag) if prior is None else prior
    if variance.shape != (n,) or n_lag != len(prior.lag_covariance) or temperature <= 0:
        raise InvalidInputError(
            f"fit_windows: got g2 {curves.shape}, noise {variance.shape}, a prior for "
            f"{len(prior.lag_covariance)} lags and temperature {temperature}; expected (n, n_lag), "
            "(n,), as many lags, and a temperature above 0."
        )
    excess, basis = _independent_basis(prior.lag_covariance)
    rate, alpha = grid_points(prior.ln_rate, prior.ln_alpha)
    decay = kww_curves(rate, alpha, np.log(np.arange(1.0, n_lag + 1)))
    grid = GridCurves.of(decay @ basis, basis.sum(axis=0))
    precision = np.linalg.inv(prior.covariance.reshape(-1, 2, 2)).astype(np.float64)
    mean = prior.mean.reshape(-1, 2)
    pull = np.einsum("mij,mj->mi", precision, mean)
    with np.errstate(divide="ignore"):  # a curve of weight 0 has the logarithm -inf
        ln_prior = np.log(prior.weight.ravel()) + 0.5 * (
            np.log(np.linalg.det(precision)) - np.einsum("mi,mi->m", pull, mean)
        )
    columns, means = np.full((9, n), np.nan), np.full((n, n_lag), np.nan)
    good = np.flatnonzero(np.isfinite(curves).all(axis=1) & np.isfinite(variance))
    for first in range(0, good.size, _CHUNK):
        some = good[first : first + _CHUNK]
        noise_variance = np.maximum(variance[some], _LEAST_VARIANCE)[:, np.newaxis]
        weights = 1 / (temperature * (noise_variance + excess))  # (k, n_lag)
        weighted = weights * (curves[some] @ basis)
        solved = solve_linear(
            grid, weights, weighted, precision=precision[np.newaxis], pull=pull[np.newaxis]
        )
        mass = grid_mass(solved.log_evidence + ln_prior)
        columns[:, some], offset = _columns(mass, rate, alpha, solved, prior)
        means[some] = (mass * solved.beta) @ decay + offset[:, np.newaxis]
    edge = np.where(np.isnan(columns[8]), np.inf, columns[8])
    return WindowRates(
        **dict(zip(WindowRates.__dataclass_fields__, columns[:8], strict=False)),
        g2=means,
        converged=edge <= MOST_AT_EDGE,
    )


def _independent_basis(lag_covariance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return excess variances (n_lag,) and the basis (n_lag, n_lag) that makes noise independent.

    g2 @ basis has the variance noise + excess: the mean over a diagonal of k entries has the
    variance noise / k, so that this part is the identity in every basis after scaling by sqrt(k).
    """
    root = np.sqrt(np.arange(len(lag_covariance), 0.0, -1.0))
    excess, rotation = np.linalg.eigh(root[:, np.newaxis] * lag_covariance * root)
    return np.maximum(excess, 0.0), root[:, np.newaxis] * rotation


def _columns(
    mass: FloatArray,
    rate: FloatArray,
    alpha: FloatArray,
    solved: LinearSolution,
    prior: WindowPrior,
) -> tuple[FloatArray, FloatArray]:
    """Return the eight columns of WindowRates and the mass at the edge, (9, k); mean baseline."""
    ln_rate, rate_sd = grid_moments(mass, rate)
    ln_alpha, alpha_sd = grid_moments(mass, alpha)
    linear, covariance = linear_moments(mass, solved)
    sd = prior.error_scale * np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    rate_sd, alpha_sd = prior.error_scale * rate_sd, prior.error_scale * alpha_sd
    gamma, exponent = np.exp(ln_rate - rate_sd**2 / 2), np.exp(ln_alpha)
    by_rate = mass.reshape(len(mass), -1, prior.ln_alpha.size).sum(axis=2)
    edge = np.maximum(by_rate[:, 0], by_rate[:, -1])
    columns = [gamma, gamma * rate_sd, exponent, exponent * alpha_sd]
    columns += [linear[:, 0], sd[:, 0], linear[:, 1], sd[:, 1], edge]
    return np.stack(columns), linear[:, 1]


# The grid: steps of 7 % in Gamma and 15 % in alpha, both well below what a window can tell apart.
N_RATES, N_ALPHAS = 96, 16
# Widths of the kernels that spread the training fits, in ln Gamma and ln alpha; twice or half of
# them cost 1 % of the MSE(1TCF) on training experiments left out.
RATE_KERNEL, ALPHA_KERNEL = 0.2, 0.12
# The kernels for beta and baseline are wider, as each grid point needs several fits.
CONDITION_KERNEL = 1.5
# A fit of this weight, among fits whose weights add up to 1, with beta and baseline as uncertain as
# this: it speaks where there are no fits.
VAGUE_WEIGHT, VAGUE_COVARIANCE = 3e-3, ((0.09, -0.0294), (-0.0294, 0.0196))
# What beta and baseline may differ in from fits of the same Gamma and alpha.
LEAST_SD = (0.05, 0.025)
# The share of the prior that is broad, whatever the training data were: uniform in ln Gamma above
# the rate below, log-normal in alpha.
BROAD_SHARE, BROAD_SLOWEST, BROAD_ALPHA, BROAD_ALPHA_WIDTH = 0.3, 3e-3, 1.2, 0.4
# Without training fits: alpha as in the live estimator, beta and baseline of a scaled window.
FLAT_ALPHA_WIDTH, FLAT_MEAN, FLAT_SD = 0.35, (1.0, 1.0), (0.3, 0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPrior:
    """A grid of KWW curves, how likely each is, and how g2 of a window strays from its series'."""

    ln_rate: FloatArray  # (n_rate,), ascending: ln Gamma per frame
    ln_alpha: FloatArray  # (n_alpha,), ascending
    weight: FloatArray  # (n_rate, n_alpha): probability of each grid point; adds up to 1
    mean: FloatArray  # (n_rate, n_alpha, 2): of (beta, baseline) there
    covariance: FloatArray  # (n_rate, n_alpha, 2, 2)
    # (n_lag, n_lag): covariance of what g2 of a window, lags 1..n_lag, differs in from g2 of its
    # series beyond its independent noise; in units of scaled C2 squared.
    lag_covariance: FloatArray
    error_scale: float = 1.0  # on every standard error, from the coverage on data of known truth

    def __post_init__(self) -> None:
        grid, n_lag = (self.ln_rate.size, self.ln_alpha.size), len(self.lag_covariance)
        expected = {
            "weight": grid,
            "mean": (*grid, 2),
            "covariance": (*grid, 2, 2),
            "lag_covariance": (n_lag, n_lag),
        }
        for name, shape in expected.items():
            got = getattr(self, name).shape
            if got != shape:
                raise InvalidInputError(
                    f"WindowPrior: {name} has shape {got}; expected {shape} for this grid. Take "
                    "all arrays of a prior from one file."
                )


def flat_prior(n_lag: int) -> WindowPrior:
    """Return the prior that needs no training data: uniform in ln Gamma, alpha near 1."""
    ln_rate, ln_alpha = _grid()
    weight = np.exp(-0.5 * (ln_alpha / FLAT_ALPHA_WIDTH) ** 2) * np.ones((ln_rate.size, 1))
    shape = (*weight.shape, 2, 2)
    return WindowPrior(
        ln_rate=ln_rate,
        ln_alpha=ln_alpha,
        weight=weight / weight.sum(),
        mean=np.broadcast_to(FLAT_MEAN, shape[:-1]),
        covariance=np.broadcast_to(np.diag(np.square(FLAT_SD)), shape),
        lag_covariance=np.zeros((n_lag, n_lag)),
    )


def prior_from_fits(
    fits: FloatArray, weight: FloatArray, lag_covariance: FloatArray, error_scale: float = 1.0
) -> WindowPrior:
    """Return the prior that fits to other series speak for: kernels about each, and a broad part.

    p(Gamma, alpha) is the sum of the fits' kernels; beta and baseline are Gaussian at each grid
    point, with the mean and covariance of the fits near it. `fits` (n, 4) are ln Gamma (per frame),
    ln alpha, beta and baseline of each, `weight` (n,) how much each counts.
    """
    if fits.ndim != 2 or fits.shape[1] != 4 or weight.shape != (len(fits),):
        raise InvalidInputError(
            f"prior_from_fits: got fits of shape {fits.shape} and weights of shape {weight.shape}; "
            "expected (n, 4) - ln Gamma, ln alpha, beta, baseline - and (n,)."
        )
    ln_rate, ln_alpha = _grid()
    share = weight / weight.sum()
    near = _kernels(ln_rate, ln_alpha, fits, 1.0) @ share
    broad = np.exp(-0.5 * ((ln_alpha - np.log(BROAD_ALPHA)) / BROAD_ALPHA_WIDTH) ** 2)
    broad = (ln_rate > np.log(BROAD_SLOWEST))[:, np.newaxis] * broad
    mean, covariance = _conditions(
        _kernels(ln_rate, ln_alpha, fits, CONDITION_KERNEL) * share, share, fits[:, 2:]
    )
    return WindowPrior(
        ln_rate=ln_rate,
        ln_alpha=ln_alpha,
        weight=(1 - BROAD_SHARE) * near / near.sum() + BROAD_SHARE * broad / broad.sum(),
        mean=mean,
        covariance=covariance,
        lag_covariance=lag_covariance,
        error_scale=error_scale,
    )


def excess_covariance(residual: FloatArray, noise: FloatArray) -> FloatArray:
    """Return the covariance of g2 about its truth that independent pixel noise does not explain.

    `residual` (n, n_lag) is g2 of windows minus its truth, `noise` (n,) the variance of one entry
    of each. Most windows stray no further than their noise says; a few (heterogeneous dynamics) do
    by several times, at all lags together. A window counts with at most the mean square that noise
    alone would give it, so that those few do not rule all others. The result is shrunk half way to
    its diagonal, and what noise left negative is cut off.
    """
    n_lag = residual.shape[1]
    entries = np.arange(n_lag, 0, -1, dtype=np.float64)
    square = np.mean(residual**2 * entries, axis=1)
    counts = np.minimum(1.0, noise / np.maximum(square, np.finfo(np.float64).tiny))
    covariance = (residual * counts[:, np.newaxis]).T @ residual / len(residual)
    covariance -= np.diag((counts * noise).mean() / entries)
    covariance = 0.5 * (covariance + np.diag(np.diag(covariance)))
    size, direction = np.linalg.eigh(covariance)
    return (direction * np.maximum(size, 0.0)) @ direction.T


def _grid() -> tuple[FloatArray, FloatArray]:
    return (
        np.log(np.geomspace(*GAMMA_BOUNDS, N_RATES)),
        np.log(np.geomspace(*ALPHA_BOUNDS, N_ALPHAS)),
    )


def _kernels(
    ln_rate: FloatArray, ln_alpha: FloatArray, fits: FloatArray, factor: float
) -> FloatArray:
    """Return how near each fit is to each grid point, shape (n_rate, n_alpha, n)."""
    in_rate = (ln_rate[:, np.newaxis] - fits[:, 0]) / (RATE_KERNEL * factor)
    in_alpha = (ln_alpha[:, np.newaxis] - fits[:, 1]) / (ALPHA_KERNEL * factor)
    return np.exp(-0.5 * in_rate**2)[:, np.newaxis] * np.exp(-0.5 * in_alpha**2)


def _conditions(
    near: FloatArray, share: FloatArray, values: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return mean (..., 2) and covariance (..., 2, 2) of `values` (n, 2), weights near (..., n)."""
    everywhere = share @ values
    total = near.sum(axis=-1)[..., np.newaxis] + VAGUE_WEIGHT
    mean = (near @ values + VAGUE_WEIGHT * everywhere) / total
    squares = values[:, :, np.newaxis] * values[:, np.newaxis, :]  # (n, 2, 2)
    away = np.outer(everywhere, everywhere) + np.array(VAGUE_COVARIANCE)
    second = np.einsum("ran,nij->raij", near, squares) + VAGUE_WEIGHT * away
    covariance = (
        second / total[..., np.newaxis] - mean[..., :, np.newaxis] * mean[..., np.newaxis, :]
    )
    return mean, covariance + np.diag(np.square(LEAST_SD))
