"""The posterior of Gamma and alpha on a grid, contrast and baseline marginalised exactly."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xpcs_live_denoise.numerics.kww import grid_points, kww_curves
from xpcs_live_denoise.records.types import SHARED, BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearPrior:
    """Gaussian prior of (beta, baseline - 1), of one or of n sets of data."""

    mean: FloatArray  # (2,) or (n, 2)
    covariance: FloatArray  # (2, 2) or (n, 2, 2)


# Columns of what is found: means, standard deviations and variances of the same, and others.
LN_RATE, LN_ALPHA, BETA, OFFSET = range(4)
LN_RATE_SD, LN_ALPHA_SD, VAR_BETA, VAR_OFFSET, COVARIANCE = range(4, 9)
EDGE_MASS, BEST_CHI_SQUARE, CHI_SQUARE = range(9, 12)
N_COLUMN = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Posterior:
    """Posterior means and standard deviations of n sets of data; Gamma per frame."""

    columns: FloatArray  # (n, N_COLUMN)
    curve: FloatArray  # (n, n_bin): mean of g2 - 1

    @property
    def ln_rate(self) -> FloatArray:
        """Ln Gamma, (n,)."""
        return self.columns[:, LN_RATE]

    @property
    def ln_alpha(self) -> FloatArray:
        """Ln alpha, (n,)."""
        return self.columns[:, LN_ALPHA]

    @property
    def ln_rate_sd(self) -> FloatArray:
        """Its standard deviation, (n,)."""
        return self.columns[:, LN_RATE_SD]

    @property
    def ln_alpha_sd(self) -> FloatArray:
        """Its standard deviation, (n,)."""
        return self.columns[:, LN_ALPHA_SD]

    @property
    def linear(self) -> FloatArray:
        """Contrast and baseline - 1, (n, 2)."""
        return self.columns[:, [BETA, OFFSET]]

    @property
    def linear_covariance(self) -> FloatArray:
        """Their covariance, (n, 2, 2)."""
        parts = self.columns[:, [VAR_BETA, COVARIANCE, COVARIANCE, VAR_OFFSET]]
        return parts.reshape(-1, 2, 2)

    @property
    def edge_mass(self) -> FloatArray:
        """Posterior probability of the grid's edge, (n,)."""
        return self.columns[:, EDGE_MASS]

    @property
    def chi_square(self) -> FloatArray:
        """Weighted squared residuals of the mean curve, (n,)."""
        return self.columns[:, CHI_SQUARE]

    def parameters(self) -> FloatArray:
        """Return ln Gamma, ln alpha, beta and baseline - 1, shape (n, 4)."""
        return self.columns[:, : OFFSET + 1]

    def deviations(self) -> FloatArray:
        """Return the standard deviations of `parameters`, shape (n, 4)."""
        found = self.columns[:, LN_RATE_SD : VAR_OFFSET + 1].copy()
        np.sqrt(found[:, 2:], out=found[:, 2:])
        return found


def posterior(
    grid: KwwGrid,
    mean: FloatArray,
    weights: FloatArray,
    prior: LinearPrior,
    *,
    fine: bool = False,
    blurred: bool = False,
    with_curves: bool = True,
) -> Posterior:
    """Return the posterior of the model mean = (baseline - 1) + beta f for n sets of data.

    At a grid point the model is linear in beta and baseline. With A = X^T W X + P and
    b = X^T W y + P m, where the prior has mean m and precision P and X = (f, 1), the evidence is
    exp(b^T A^-1 b / 2) / sqrt(det A) up to a constant, and beta and baseline have mean A^-1 b and
    covariance A^-1. Means over the grid follow, of the points that have weight: those of all points
    to 1e-6 in ln Gamma, ln alpha and their standard deviations, and to 1e-6 of beta.

    Parameters
    ----------
    grid
        Its curves have the lag bins of the data, or more.
    mean
        Binned means of g2 - 1, (n, n_bin), or (n, n_set, n_bin) for sets of data that share weights
        and are much alike: the result then has n_set n rows, set by set.
    weights
        (n, n_bin): the inverse variance of each, 0 to leave it out.
    prior
        One, or one a row of `mean`; with sets, one a set.
    fine
        Whether posteriors that are narrower than a step of alpha are replaced by their maximum
        between the points. Where the data tell alpha better than the grid is spaced, a mean over
        the grid is one of its points, however far the truth lies from it. The maximum of likelihood
        and prior takes its place, and the inverse of the curvature there that of the covariance.
        Where the maximum lies elsewhere, the scatter inside of one step of alpha is added.
    blurred
        For data that tell next to nothing, whose posteriors are as wide as the grid: right to some
        per cent of the standard deviation, less where the grid cuts them off.
    with_curves
        Without them `curve` has no bins, and `chi_square` means nothing.
    """
    from . import grid_kernels as kernels
    from . import refine_kernels

    sets = mean[:, np.newaxis] if mean.ndim == 2 else mean
    n, n_set, n_bin = sets.shape
    data, of_weights = _plain(sets), _plain(weights)
    priors, centres = _priors(prior, n_set)
    out = np.empty((n, n_set, N_COLUMN))
    means = np.empty((n, n_set, n_bin if with_curves else 0))
    fineness = kernels.EXACT if n_set == 1 else kernels.COMPARED
    fineness = kernels.BLURRED if blurred else fineness
    kernels.posteriors(*grid.arrays, of_weights, data, priors, *fineness, out, means)
    if fine:
        scales = (grid.step, grid.alpha_step, ALPHA_SCATTER)
        refine_kernels.refine(grid.ln_lag, of_weights, data, priors, centres, *scales, out, means)
    return Posterior(
        columns=out.swapaxes(0, 1).reshape(n_set * n, N_COLUMN),
        curve=means.swapaxes(0, 1).reshape(n_set * n, means.shape[2]),
    )


def rate_posterior(
    grid: KwwGrid,
    mean: FloatArray,
    weights: FloatArray,
    prior: LinearPrior,
    *,
    rough: bool = False,
    blurred: bool = False,
    with_chi_square: bool = False,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return mean and standard deviation of ln Gamma only, and the least chi-square; each (n,).

    As `posterior`, without sets. `rough` is right to some per cent of the standard deviation, in
    half the time or less; `blurred` is that of `posterior`. The chi-square is that of the grid's
    best point, the distance to the prior included, and `with_chi_square` takes care that it is that
    of all of them.
    """
    from . import grid_kernels as kernels

    data, of_weights = _plain(mean[:, np.newaxis]), _plain(weights)
    priors, centres = _priors(prior, 1)
    out = np.empty((len(mean), 1, N_COLUMN))
    nothing = np.empty((len(mean), 1, 0))
    negligible, apart = kernels.ROUGH if rough else kernels.EXACT
    if blurred:
        negligible, apart = kernels.BLURRED
    apart = 0.0 if with_chi_square else apart
    kernels.posteriors(*grid.arrays, of_weights, data, priors, negligible, apart, out, nothing)
    pull = (priors[:, 0, 3:] * centres[:, 0]).sum(axis=1)
    chi_square = out[:, 0, BEST_CHI_SQUARE] + pull
    return out[:, 0, LN_RATE], out[:, 0, LN_RATE_SD], chi_square


def _priors(prior: LinearPrior, n_set: int) -> tuple[FloatArray, FloatArray]:
    """Return what kernels know of a prior, (1 or n, n_set, 5), and its means, (1 or n, n_set, 2).

    One prior is that of all rows; several are those of rows or, where there are any, of sets.
    """
    from . import prior_kernels as kernels

    mean, covariance = prior.mean.reshape(-1, 2), prior.covariance.reshape(-1, 2, 2)
    known = np.empty((n_set if n_set > 1 else len(mean), 5))
    kernels.know(_plain(mean), _plain(covariance), known)
    if len(mean) < len(known):
        mean = np.repeat(mean, n_set, axis=0)
    shape = (1, n_set) if n_set > 1 else (len(mean), 1)
    return known.reshape(*shape, 5), _plain(mean).reshape(*shape, 2)


def _plain(array: FloatArray) -> FloatArray:
    """Return an array as kernels take it: contiguous and, as numba asks for it, writeable."""
    array = np.ascontiguousarray(array, np.float64)
    return array if array.flags.writeable else array.copy()


N_RATE, N_ALPHA = 160, 24  # grid points of ln Gamma and of ln alpha
HIGHEST_RATE = 1.5  # highest Gamma of the grid, per frame; the lowest is 0.1 over the longest lag
_LOWEST_RATE_BY_LAG = 0.1
_ALPHA_RANGE = (0.3, 3.9)  # flow has alpha 2: it must lie well inside
ALPHA_SCATTER = 0.35  # standard deviation of ln alpha about 0, a priori
# Share of the variance of ln alpha a priori from which on more than half of it is the prior's word.
_MOSTLY_PRIOR = 0.5
_EDGE = 3  # values of Gamma that count as the grid's edge, at either end


def alpha_is_prior(ln_alpha_sd: FloatArray | float) -> Any:
    """Return where the prior tells alpha more than the data do, from errors of ln alpha.

    Then alpha is drawn half way to 1 or further, and Gamma may be off with it within its error.
    """
    return np.square(ln_alpha_sd) > _MOSTLY_PRIOR * ALPHA_SCATTER**2


# Below, a curve is 0.
_GONE = 1e-13
# Bins are summed so many at a time.
LANES = 32
# Lags of a wide bin at which curves are taken for their mean over it.
_NODES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class KwwGrid:
    """Curves f = exp(-2 (Gamma lag)^alpha) at n_grid points, averaged over lag bins."""

    ln_rate: FloatArray  # (n_grid,), as all where nothing else is said; Gamma per frame
    ln_alpha: FloatArray  # runs fastest
    log_prior: FloatArray  # uniform in ln Gamma, normal in ln alpha; up to a constant
    curves: FloatArray  # (n_grid, n_bin and zeros up to a multiple of LANES)
    reach: IntArray  # bins of each curve before it is 0, up to such a multiple
    at_edge: BoolArray  # the outermost values of Gamma and alpha
    step: float = field(metadata=SHARED)  # of ln Gamma
    alpha_step: float = field(metadata=SHARED)  # of ln alpha
    # (n_bin,): of the mean lag of each bin, frames.
    ln_lag: FloatArray = field(metadata=SHARED)

    @property
    def arrays(self) -> tuple[Any, ...]:
        """What kernels take of it, in their order."""
        return (
            self.curves,
            self.reach,
            self.log_prior,
            self.ln_rate,
            self.ln_alpha,
            self.at_edge,
            N_ALPHA,
        )


def kww_grid(edges: IntArray, lag: FloatArray) -> KwwGrid:
    """Return the grid for the lag bins of a series, as in `BinnedCuts`.

    `edges` (n_bin + 1,) tell how wide they are, `lag` (n_bin,) the mean lag of their entries.

    Gamma goes from 0.1 / longest lag to 1.5 per frame, in ln. A growing series has the same bins
    for a while.
    """
    return _grid(tuple(edges.tolist()), tuple(lag.tolist()))


def rate_range(longest_lag: int) -> tuple[float, float]:
    """Return the least and the largest ln Gamma that a series is asked for, per frame."""
    return math.log(_LOWEST_RATE_BY_LAG / longest_lag), math.log(HIGHEST_RATE)


@functools.lru_cache(maxsize=2)  # of some megabytes each
def _grid(bins: tuple[int, ...], means: tuple[float, ...]) -> KwwGrid:
    edges, lag = np.array(bins, np.int64), np.array(means)
    axis_rate = np.linspace(*rate_range(bins[-1] - 1), N_RATE, dtype=np.float64)
    least, most = np.log(_ALPHA_RANGE)
    axis_alpha = np.linspace(least, most, N_ALPHA, dtype=np.float64)
    ln_rate, ln_alpha = grid_points(axis_rate, axis_alpha)
    lags, shares, first = _nodes(edges, lag)
    n_bin = len(edges) - 1
    curves = np.zeros((ln_rate.size, -(-n_bin // LANES) * LANES))
    for begin in range(0, ln_rate.size, N_ALPHA):  # a value of Gamma at a time bounds the memory
        some = slice(begin, begin + N_ALPHA)
        values = kww_curves(ln_rate[some], ln_alpha[some], np.log(lags))
        curves[some, :n_bin] = np.add.reduceat(values * shares, first, axis=1)
    rate_index, alpha_index = np.divmod(np.arange(ln_rate.size, dtype=np.int64), N_ALPHA)
    return KwwGrid(
        ln_rate=ln_rate,
        ln_alpha=ln_alpha,
        log_prior=-((ln_alpha / ALPHA_SCATTER) ** 2) / 2,
        curves=curves,
        reach=-(-(curves > _GONE).sum(axis=1).astype(np.int64) // LANES) * LANES,
        at_edge=(np.minimum(rate_index, N_RATE - 1 - rate_index) < _EDGE)
        | (np.minimum(alpha_index, N_ALPHA - 1 - alpha_index) < 1),
        step=float(axis_rate[1] - axis_rate[0]),
        alpha_step=float(axis_alpha[1] - axis_alpha[0]),
        ln_lag=np.log(lag),
    )


def _nodes(edges: IntArray, lag: FloatArray) -> tuple[FloatArray, FloatArray, IntArray]:
    """Return lags, the share of each in the mean over its bin, and the first one of each bin.

    A bin of a million lags costs what one of five does.
    """
    of_bins = [_nodes_of(width) for width in np.diff(edges).tolist()]
    lags = [mean + away for mean, (away, _) in zip(lag.tolist(), of_bins, strict=True)]
    first = np.cumsum([0, *(len(one) for one in lags[:-1])])
    return np.concatenate(lags), np.concatenate([shares for _, shares in of_bins]), first


@functools.lru_cache(maxsize=1024)  # bins grow with the series: all of them, every time
def _nodes_of(width: int) -> tuple[FloatArray, FloatArray]:
    """Return how far the nodes of a bin are from its mean, and their shares; read only.

    Of m lags, min(m, 5) nodes give the mean of every polynomial up to degree 9 exactly (Gauss
    quadrature for equal weights at m points, Golub and Welsch 1969).
    """
    k = np.arange(1.0, min(width, _NODES))
    beside = k * np.sqrt((width**2 - k**2) / (4 * k**2 - 1)) / 2
    away, vectors = np.linalg.eigh(np.diag(beside, 1) + np.diag(beside, -1))
    return away, vectors[0] ** 2
