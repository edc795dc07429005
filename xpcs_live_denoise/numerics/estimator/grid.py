"""The posterior of Gamma and alpha on a grid, contrast and baseline marginalised exactly."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xpcs_live_denoise.numerics.arrays import lag_bin_edges
from xpcs_live_denoise.numerics.kww import (
    GridCurves,
    LinearSolution,
    grid_mass,
    grid_moments,
    grid_points,
    kww_curves,
    linear_moments,
    solve_linear,
)
from xpcs_live_denoise.records.types import (
    SHARED,
    BoolArray,
    FloatArray,
    IntArray,
    concatenate_rows,
    select_rows,
)

_TOGETHER = 32  # posteriors at once: what they need stays in the cache
# A first look at every seventh point tells where on the grid a posterior lies: e^-20 is nothing.
_THIN, _NEGLIGIBLE = 7, 20.0
_MARGIN, _END = 80, 20  # points beyond; and at either end, which tell whether it was enough


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearPrior:
    """Gaussian prior of (beta, baseline - 1), of one or of n sets of data."""

    mean: FloatArray  # (2,) or (n, 2)
    covariance: FloatArray  # (2, 2) or (n, 2, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Posterior:
    """Posterior means and standard deviations of n sets of data; Gamma per frame."""

    ln_rate: FloatArray  # (n,), as all where nothing else is said
    ln_rate_sd: FloatArray
    ln_alpha: FloatArray
    ln_alpha_sd: FloatArray
    linear: FloatArray  # (n, 2): beta and baseline - 1
    linear_covariance: FloatArray  # (n, 2, 2)
    edge_mass: FloatArray  # posterior probability of the grid's edge
    curve: FloatArray  # (n, n_bin): mean of g2 - 1
    chi_square: FloatArray  # weighted squared residuals of that curve

    def parameters(self) -> FloatArray:
        """Return ln Gamma, ln alpha, beta and baseline - 1, shape (n, 4)."""
        return np.column_stack([self.ln_rate, self.ln_alpha, self.linear])

    def deviations(self) -> FloatArray:
        """Return the standard deviations of `parameters`, shape (n, 4)."""
        linear = np.sqrt(np.diagonal(self.linear_covariance, axis1=1, axis2=2))
        return np.column_stack([self.ln_rate_sd, self.ln_alpha_sd, linear])


def posterior(
    grid: KwwGrid, mean: FloatArray, weights: FloatArray, prior: LinearPrior
) -> Posterior:
    """Return the posterior of the model mean = (baseline - 1) + beta f for n sets of data.

    At a grid point the model is linear in beta and baseline. With A = X^T W X + P and
    b = X^T W y + P m, where the prior has mean m and precision P and X = (f, 1), the evidence is
    exp(b^T A^-1 b / 2) / sqrt(det A) up to a constant, and beta and baseline have mean A^-1 b and
    covariance A^-1. Means over the grid follow.

    `mean` are binned means of g2 - 1, (n, n_bin), n_bin not above that of the grid; `weights`
    (n, n_bin) the inverse variance of each, 0 to leave it out.
    """
    index: list[IntArray] = []
    parts: list[Posterior] = []
    for which, part, _, solved in _in_pieces(grid, mean, weights, prior):
        index.append(which)
        parts.append(_full(part, mean[which], weights[which], solved))
    return select_rows(concatenate_rows(parts), np.argsort(np.concatenate(index)))


_REFINEMENTS = 4  # steps from the mean over the grid to the maximum between its points
_FARTHEST = 0.5  # of ln Gamma and ln alpha, of one such step


def refined(
    fitted: Posterior, grid: KwwGrid, mean: FloatArray, weights: FloatArray, prior: LinearPrior
) -> Posterior:
    """Return posteriors that are narrower than a step of alpha by their maximum between points.

    Where the data tell alpha better than the grid is spaced, a mean over the grid is one of its
    points, however far the truth lies from it. The maximum of likelihood and prior takes its place,
    and the inverse of the curvature there that of the covariance. Wider posteriors stay as they
    are; so do those whose maximum lies elsewhere, with the scatter inside of one step of alpha
    added. Arguments are those of `posterior`.
    """
    some = np.flatnonzero(fitted.ln_alpha_sd < grid.alpha_step)
    if not some.size:
        return fitted
    before, data, weights = select_rows(fitted, some), mean[some], weights[some]
    inverse = np.linalg.inv(prior.covariance).astype(np.float64)
    centre, precision = np.zeros((len(mean), 4)), np.zeros((len(mean), 4, 4))
    centre[:, 2:], precision[:, 2:, 2:] = prior.mean, inverse
    precision[:, 1, 1] = 1 / ALPHA_SCATTER**2
    theta, covariance, last = _maximum(
        before.parameters(),
        np.log(grid.lag[: mean.shape[1]]),
        data,
        weights,
        centre=centre[some],
        precision=precision[some],
    )
    sd = np.sqrt(np.einsum("nii->ni", covariance))
    away = np.abs(theta - before.parameters())
    found = (sd[:, 1] < grid.alpha_step) & (away[:, 1] < 2 * grid.alpha_step) & (last < sd[:, 1])
    found &= away[:, 0] < 2 * grid.step + 3 * sd[:, 0]
    out = {name: getattr(fitted, name).copy() for name in Posterior.__dataclass_fields__}
    out["ln_alpha_sd"][some] = np.hypot(before.ln_alpha_sd, grid.alpha_step / np.sqrt(12))
    which, theta, covariance = some[found], theta[found], covariance[found]
    out["ln_rate"][which], out["ln_alpha"][which] = theta[:, 0], theta[:, 1]
    out["ln_rate_sd"][which], out["ln_alpha_sd"][which] = sd[found, 0], sd[found, 1]
    out["linear"][which], out["linear_covariance"][which] = theta[:, 2:], covariance[:, 2:, 2:]
    curve = _model(theta, np.log(grid.lag[: mean.shape[1]]))[0]
    out["curve"][which] = curve
    out["chi_square"][which] = (weights[found] * (data[found] - curve) ** 2).sum(axis=1)
    return Posterior(**out)


def _maximum(
    theta: FloatArray,
    ln_lag: FloatArray,
    data: FloatArray,
    weights: FloatArray,
    *,
    centre: FloatArray,
    precision: FloatArray,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Go from theta (n, 4) towards the maximum of likelihood and prior by Gauss-Newton steps.

    Returns theta, its covariance (n, 4, 4), and how far the last step went in ln Gamma or ln alpha.
    """
    covariance, longest = np.linalg.inv(precision + np.eye(4)), np.full(len(theta), np.inf)
    for _ in range(_REFINEMENTS):
        curve, jacobian = _model(theta, ln_lag)
        weighted = jacobian * weights[:, np.newaxis]
        covariance = np.linalg.inv(weighted @ jacobian.transpose(0, 2, 1) + precision)
        force = np.einsum("nib,nb->ni", weighted, data - curve)
        force += np.einsum("nij,nj->ni", precision, centre - theta)
        step = np.einsum("nij,nj->ni", covariance, force)
        longest = np.abs(step[:, :2]).max(axis=1)
        theta = theta + step * np.minimum(1.0, _FARTHEST / np.maximum(longest, 1e-9))[:, np.newaxis]
    return theta, covariance.astype(np.float64), longest


def _model(theta: FloatArray, ln_lag: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return g2 - 1, (n, n_bin), at theta (n, 4), and its derivatives, (n, 4, n_bin)."""
    ln_rate, ln_alpha, beta, offset = (theta[:, k, np.newaxis] for k in range(4))
    alpha = np.exp(np.minimum(ln_alpha, 3.0))
    power = np.minimum(alpha * (ln_rate + ln_lag), 50.0)
    decay = np.exp(power)
    f = np.exp(-2 * decay)
    slope = -2 * beta * decay * f
    derivatives = [slope * alpha, slope * power, f, np.ones_like(f)]
    return offset + beta * f, np.stack(derivatives, axis=1)


def rate_posterior(
    grid: KwwGrid, mean: FloatArray, weights: FloatArray, prior: LinearPrior
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return mean and standard deviation of ln Gamma only, and the least chi-square; each (n,).

    As `posterior`, in half the time. The chi-square is that of the grid's best point, the distance
    to the prior included.
    """
    ln_rate, sd, chi_square = (np.empty(len(mean)) for _ in range(3))
    for index, part, total, solved in _in_pieces(grid, mean, weights, prior):
        evidence = solved.log_evidence
        best = np.arange(len(index)), np.argmax(evidence, axis=1)
        ln_rate[index], sd[index] = grid_moments(grid_mass(evidence + part.log_prior), part.ln_rate)
        explained = 2 * evidence[best] + np.log(solved.determinant[best])
        chi_square[index] = total - explained
    return ln_rate, sd, chi_square


def _in_pieces(
    grid: KwwGrid, mean: FloatArray, weights: FloatArray, prior: LinearPrior
) -> Iterator[tuple[IntArray, KwwGrid, FloatArray, LinearSolution]]:
    """Yield a few sets of data at a time.

    Which they are, the part of the grid that matters to them, y^T W y + m^T P m of each, and the
    solutions at every point of that part.
    """
    n, n_bin = mean.shape
    grid = dataclasses.replace(grid, curves=grid.curves.lags(n_bin))
    inverse = np.linalg.inv(prior.covariance).astype(np.float64)
    precision = np.broadcast_to(inverse, (n, 2, 2))
    centre = np.broadcast_to(prior.mean, (n, 2))
    pull = np.einsum("nij,nj->ni", precision, centre)
    weighted = weights * mean
    total = (weights * mean**2).sum(axis=1) + (pull * centre).sum(axis=1)

    def solve(curves: GridCurves, some: IntArray | slice) -> LinearSolution:
        return solve_linear(
            curves,
            weights[some],
            weighted[some],
            precision=precision[some, np.newaxis],
            pull=pull[some, np.newaxis],
        )

    low, high = _ranges(grid, n, solve)
    order = np.argsort(low, kind="stable")
    for first in range(0, max(n, 1), _TOGETHER):
        which = order[first : first + _TOGETHER]
        some = slice(int(low[which].min()), int(high[which].max())) if n else slice(0, None)
        part = select_rows(grid, some)
        found = solve(part.curves, which)
        if n and _is_cut_off(found.log_evidence + part.log_prior, some, len(grid.ln_rate)):
            part = grid
            found = solve(grid.curves, which)
        yield which, part, total[which], found


def _ranges(
    grid: KwwGrid, n: int, solve: Callable[[GridCurves, slice], LinearSolution]
) -> tuple[IntArray, IntArray]:
    """Return first and last point of the grid that matter to each of n sets of data.

    A few points tell: the grid runs through alpha at every Gamma, so that every seventh point has
    all alphas in turn.
    """
    n_grid = len(grid.ln_rate)
    low, high = np.zeros(n, np.int64), np.full(n, n_grid)
    few = select_rows(grid, slice(None, None, _THIN))
    curves = GridCurves.of(few.curves.f.T)
    for first in range(0, n, _THIN * _TOGETHER):
        one = slice(first, first + _THIN * _TOGETHER)
        log_weight = solve(curves, one).log_evidence + few.log_prior
        matters = log_weight > log_weight.max(axis=1, keepdims=True) - _NEGLIGIBLE
        low[one] = matters.argmax(axis=1) * _THIN - _MARGIN
        high[one] = n_grid - matters[:, ::-1].argmax(axis=1) * _THIN + _MARGIN
    return np.maximum(low, 0), np.minimum(high, n_grid)


def _is_cut_off(log_weight: FloatArray, some: slice, n_grid: int) -> bool:
    """Whether a part of the grid ends where the posterior still has weight."""
    least = log_weight.max(axis=1) - _NEGLIGIBLE / 2
    begins = some.start > 0 and (log_weight[:, :_END].max(axis=1) > least).any()
    ends = some.stop < n_grid
    return bool(begins or (ends and (log_weight[:, -_END:].max(axis=1) > least).any()))


def _full(
    grid: KwwGrid, mean: FloatArray, weights: FloatArray, solved: LinearSolution
) -> Posterior:
    """Return the posterior of data (m, n_bin) from the solutions at every point of the grid."""
    mass = grid_mass(solved.log_evidence + grid.log_prior)
    ln_rate, ln_rate_sd = grid_moments(mass, grid.ln_rate)
    ln_alpha, ln_alpha_sd = grid_moments(mass, grid.ln_alpha)
    linear, covariance = linear_moments(mass, solved)
    curve = (mass * solved.beta) @ grid.curves.f.T + linear[:, 1:]
    return Posterior(
        ln_rate=ln_rate,
        ln_rate_sd=ln_rate_sd,
        ln_alpha=ln_alpha,
        ln_alpha_sd=ln_alpha_sd,
        linear=linear,
        linear_covariance=covariance,
        edge_mass=mass @ grid.at_edge.astype(np.float64),
        curve=curve,
        chi_square=(weights * (mean - curve) ** 2).sum(axis=1),
    )


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


@dataclass(frozen=True, slots=True, kw_only=True)
class KwwGrid:
    """Curves f = exp(-2 (Gamma lag)^alpha) at n_grid points, averaged over lag bins."""

    ln_rate: FloatArray  # (n_grid,), as all where nothing else is said; Gamma per frame
    ln_alpha: FloatArray
    log_prior: FloatArray  # uniform in ln Gamma, normal in ln alpha; up to a constant
    curves: GridCurves
    at_edge: BoolArray  # the outermost values of Gamma and alpha
    step: float = field(metadata=SHARED)  # of ln Gamma
    alpha_step: float = field(metadata=SHARED)  # of ln alpha
    lag: FloatArray = field(metadata=SHARED)  # (n_bin,): middle of each bin, frames


def kww_grid(longest_lag: int) -> KwwGrid:
    """Return the grid for a series: Gamma from 0.1 / longest lag to 1.5 per frame, both in ln.

    The longest lag is rounded up to the end of its bin, so that a growing series seldom needs a
    new grid.
    """
    return _grid(int(lag_bin_edges(max(longest_lag, 1))[-1]) - 1)


def rate_range(longest_lag: int) -> tuple[float, float]:
    """Return the least and the largest ln Gamma that a series is asked for, per frame."""
    return math.log(_LOWEST_RATE_BY_LAG / longest_lag), math.log(HIGHEST_RATE)


@functools.lru_cache(maxsize=8)
def _grid(longest_lag: int) -> KwwGrid:
    edges = lag_bin_edges(longest_lag)
    axis_rate = np.linspace(*rate_range(longest_lag), N_RATE, dtype=np.float64)
    least, most = np.log(_ALPHA_RANGE)
    axis_alpha = np.linspace(least, most, N_ALPHA, dtype=np.float64)
    ln_rate, ln_alpha = grid_points(axis_rate, axis_alpha)
    ln_lag = np.log(np.arange(1, edges[-1], dtype=np.float64))
    curves = np.empty((ln_rate.size, len(edges) - 1))
    for first in range(0, ln_rate.size, N_ALPHA):  # a value of Gamma at a time bounds the memory
        some = slice(first, first + N_ALPHA)
        values = kww_curves(ln_rate[some], ln_alpha[some], ln_lag)
        curves[some] = np.add.reduceat(values, edges[:-1] - 1, axis=1) / np.diff(edges)
    rate_index, alpha_index = np.divmod(np.arange(ln_rate.size, dtype=np.int64), N_ALPHA)
    return KwwGrid(
        ln_rate=ln_rate,
        ln_alpha=ln_alpha,
        log_prior=-((ln_alpha / ALPHA_SCATTER) ** 2) / 2,
        curves=GridCurves.of(curves),
        at_edge=(np.minimum(rate_index, N_RATE - 1 - rate_index) < _EDGE)
        | (np.minimum(alpha_index, N_ALPHA - 1 - alpha_index) < 1),
        step=float(axis_rate[1] - axis_rate[0]),
        alpha_step=float(axis_alpha[1] - axis_alpha[0]),
        lag=(edges[:-1] + edges[1:] - 1) / 2,
    )
