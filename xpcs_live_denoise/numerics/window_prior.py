"""What is known of a window's g2 before it is measured: the prior of `window_bayes`."""

# numpy's stubs leave the types of arange, meshgrid and the like unknown.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xpcs_live_denoise.errors import InvalidInputError

from .fit import ALPHA_BOUNDS, GAMMA_BOUNDS

Array = NDArray[np.float64]

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
    """A grid of KWW curves, how likely each is, and how g2 of a window strays from its series'.

    Attributes
    ----------
    ln_rate, ln_alpha
        Shapes (n_rate,), (n_alpha,), ascending: the grid of ln Gamma (per frame) and ln alpha.
    weight
        Shape (n_rate, n_alpha): probability of each grid point; adds up to 1.
    mean, covariance
        Shapes (n_rate, n_alpha, 2) and (n_rate, n_alpha, 2, 2): of (beta, baseline) there.
    lag_covariance
        Shape (n_lag, n_lag): covariance of what g2 of a window, lags 1..n_lag, differs in from g2
        of its series beyond its independent noise; in units of scaled C2 squared.
    error_scale
        Factor on every standard error, from the coverage on data of known truth.
    """

    ln_rate: Array
    ln_alpha: Array
    weight: Array
    mean: Array
    covariance: Array
    lag_covariance: Array
    error_scale: float = 1.0

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
    """Return the prior that needs no training data: uniform in ln Gamma, alpha near 1.

    Parameters
    ----------
    n_lag
        Number of lags, the window less one frame.
    """
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
    fits: Array, weight: Array, lag_covariance: Array, error_scale: float = 1.0
) -> WindowPrior:
    """Return the prior that fits to other series speak for: kernels about each, and a broad part.

    p(Gamma, alpha) is the sum of the fits' kernels; beta and baseline are Gaussian at each grid
    point, with the mean and covariance of the fits near it.

    Parameters
    ----------
    fits
        Shape (n, 4): ln Gamma (per frame), ln alpha, beta and baseline of each fit.
    weight
        Shape (n,): how much each fit counts.
    lag_covariance, error_scale
        As in `WindowPrior`.
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


def excess_covariance(residual: Array, noise: Array) -> Array:
    """Return the covariance of g2 about its truth that independent pixel noise does not explain.

    Most windows stray no further than their noise says; a few (heterogeneous dynamics) do by
    several times, at all lags together. A window counts with at most the mean square that noise
    alone would give it, so that those few do not rule all others. The result is shrunk half way
    to its diagonal, and what noise left negative is cut off.

    Parameters
    ----------
    residual
        Shape (n, n_lag): g2 at the lags 1..n_lag of windows minus their truth.
    noise
        Shape (n,): variance of one entry of C2 of each window.
    """
    n_lag = residual.shape[1]
    entries = np.arange(n_lag, 0, -1)
    square = np.mean(residual**2 * entries, axis=1)
    counts = np.minimum(1.0, noise / np.maximum(square, np.finfo(np.float64).tiny))
    covariance = (residual * counts[:, np.newaxis]).T @ residual / len(residual)
    covariance -= np.diag(np.mean(counts * noise) / entries)
    covariance = 0.5 * (covariance + np.diag(np.diag(covariance)))
    size, direction = np.linalg.eigh(covariance)
    return (direction * np.maximum(size, 0.0)) @ direction.T


def _grid() -> tuple[Array, Array]:
    return (
        np.log(np.geomspace(*GAMMA_BOUNDS, N_RATES)),
        np.log(np.geomspace(*ALPHA_BOUNDS, N_ALPHAS)),
    )


def _kernels(ln_rate: Array, ln_alpha: Array, fits: Array, factor: float) -> Array:
    """Return how near each fit is to each grid point, shape (n_rate, n_alpha, n)."""
    in_rate = (ln_rate[:, np.newaxis] - fits[:, 0]) / (RATE_KERNEL * factor)
    in_alpha = (ln_alpha[:, np.newaxis] - fits[:, 1]) / (ALPHA_KERNEL * factor)
    return np.exp(-0.5 * in_rate**2)[:, np.newaxis] * np.exp(-0.5 * in_alpha**2)


def _conditions(near: Array, share: Array, values: Array) -> tuple[Array, Array]:
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
