"""The posterior of Gamma and alpha on a grid, contrast and baseline marginalised exactly."""

# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xpcs_live_denoise.numerics.arrays import lag_bin_edges

# numpy's stubs leave the types of arange, indices and the like unknown.


_TOGETHER = 32  # posteriors at once: what they need stays in the cache
# A first look at every seventh point tells where on the grid a posterior lies: e^-20 is nothing.
_THIN, _NEGLIGIBLE = 7, 20.0
_MARGIN, _END = 80, 20  # points beyond; and at either end, which tell whether it was enough


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearPrior:
    """Gaussian prior of (beta, baseline - 1).

    Attributes
    ----------
    mean
        Shape (2,) or (n, 2).
    covariance
        Shape (2, 2) or (n, 2, 2).
    """

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Posterior:
    """Posterior means and standard deviations of n sets of data.

    Attributes
    ----------
    ln_rate, ln_rate_sd, ln_alpha, ln_alpha_sd
        Shape (n,): Gamma per frame.
    linear
        Shape (n, 2): beta and baseline - 1.
    linear_covariance
        Shape (n, 2, 2).
    edge_mass
        Shape (n,): posterior probability of the grid's edge.
    curve
        Shape (n, n_bin): mean of g2 - 1.
    chi_square
        Shape (n,): weighted squared residuals of that curve.
    """

    ln_rate: NDArray[np.float64]
    ln_rate_sd: NDArray[np.float64]
    ln_alpha: NDArray[np.float64]
    ln_alpha_sd: NDArray[np.float64]
    linear: NDArray[np.float64]
    linear_covariance: NDArray[np.float64]
    edge_mass: NDArray[np.float64]
    curve: NDArray[np.float64]
    chi_square: NDArray[np.float64]

    def select(self, index: NDArray[np.int64]) -> Posterior:
        """Return the posteriors of some of the sets of data."""
        return Posterior(**{name: getattr(self, name)[index] for name in Posterior.__slots__})

    @staticmethod
    def concatenate(parts: list[Posterior]) -> Posterior:
        """Join posteriors, in order."""
        return Posterior(
            **{
                name: np.concatenate([getattr(part, name) for part in parts])
                for name in Posterior.__slots__
            }
        )

    def parameters(self) -> NDArray[np.float64]:
        """Return ln Gamma, ln alpha, beta and baseline - 1, shape (n, 4)."""
        return np.column_stack([self.ln_rate, self.ln_alpha, self.linear])

    def deviations(self) -> NDArray[np.float64]:
        """Return the standard deviations of `parameters`, shape (n, 4)."""
        linear = np.sqrt(np.diagonal(self.linear_covariance, axis1=1, axis2=2))
        return np.column_stack([self.ln_rate_sd, self.ln_alpha_sd, linear])


def posterior(
    grid: KwwGrid,
    mean: NDArray[np.float64],
    weights: NDArray[np.float64],
    prior: LinearPrior,
) -> Posterior:
    """Return the posterior of the model mean = (baseline - 1) + beta f for n sets of data.

    At a grid point the model is linear in beta and baseline. With A = X^T W X + P and
    b = X^T W y + P m, where the prior has mean m and precision P and X = (f, 1), the evidence is
    exp(b^T A^-1 b / 2) / sqrt(det A) up to a constant, and beta and baseline have mean A^-1 b and
    covariance A^-1. Means over the grid follow.

    Parameters
    ----------
    grid
        Curves f.
    mean
        Shape (n, n_bin): binned means of g2 - 1; n_bin may be less than the grid has.
    weights
        Shape (n, n_bin): inverse variance of each, 0 to leave it out.
    prior
        Of (beta, baseline - 1).
    """
    index, parts = zip(
        *(
            (which, _full(part, curves, data, some))
            for which, part, curves, data, some in _in_pieces(grid, mean, weights, prior)
        ),
        strict=True,
    )
    return Posterior.concatenate(list(parts)).select(np.argsort(np.concatenate(index)))


def rate_posterior(
    grid: KwwGrid,
    mean: NDArray[np.float64],
    weights: NDArray[np.float64],
    prior: LinearPrior,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of ln Gamma only, and the least chi-square; each (n,).

    As `posterior`, in half the time. The chi-square is that of the grid's best point, the distance
    to the prior included.
    """
    ln_rate, sd, chi_square = (np.empty(len(mean)) for _ in range(3))
    for index, part, _, data, some in _in_pieces(grid, mean, weights, prior):
        best = 2 * (some.log_weight - part.log_prior).max(axis=1) + some.log_scale
        ln_rate[index], sd[index] = _moments(_mass(some.log_weight), part.ln_rate)
        chi_square[index] = data.total - best
    return ln_rate, sd, chi_square


@dataclass(frozen=True, slots=True)
class _Data:
    """A few sets of data; arrays (m, ...)."""

    mean: NDArray[np.float64]
    weights: NDArray[np.float64]
    precision: NDArray[np.float64]  # (m, 2, 2)
    shift: NDArray[np.float64]  # (m, 2): precision @ mean of the prior
    total: NDArray[np.float64]  # (m,): y^T W y + m^T P m

    def select(self, index: NDArray[np.int64] | slice) -> _Data:
        return _Data(*(getattr(self, name)[index] for name in self.__slots__))


@dataclass(frozen=True, slots=True)
class _Evidence:
    """Solutions at every grid point; arrays (m, n_grid) or (m, 1)."""

    a11: NDArray[np.float64]
    a12: NDArray[np.float64]
    a22: NDArray[np.float64]
    determinant: NDArray[np.float64]
    beta: NDArray[np.float64]
    offset: NDArray[np.float64]
    log_weight: NDArray[np.float64]
    log_scale: NDArray[np.float64]  # (m,): ln det A at the best point


def _in_pieces(
    grid: KwwGrid,
    mean: NDArray[np.float64],
    weights: NDArray[np.float64],
    prior: LinearPrior,
) -> Iterator[tuple[NDArray[np.int64], KwwGrid, NDArray[np.float64], _Data, _Evidence]]:
    """Yield a few sets of data at a time: which, the part of the grid that matters, its curves."""
    n, n_bin = mean.shape
    curves = np.ascontiguousarray(grid.curves[:, :n_bin].T)  # (n_bin, n_grid)
    squared = curves**2
    inverse: NDArray[np.float64] = np.linalg.inv(prior.covariance).astype(np.float64)
    precision = np.broadcast_to(inverse, (n, 2, 2))
    centre = np.broadcast_to(prior.mean, (n, 2))
    shift = np.einsum("nij,nj->ni", precision, centre)
    total = (weights * mean**2).sum(axis=1) + (shift * centre).sum(axis=1)
    every = _Data(mean, weights, precision, shift, total)
    low, high = _ranges(grid, curves, squared, every)
    order = np.argsort(low, kind="stable")
    for first in range(0, max(n, 1), _TOGETHER):
        which = order[first : first + _TOGETHER]
        data = every.select(which)
        some = slice(0, len(grid.ln_rate))
        if n:
            some = slice(int(low[which].min()), int(high[which].max()))
        part = grid.part(some)
        found = _evidence(part, curves[:, some], squared[:, some], data)
        if _is_cut_off(found.log_weight, some, len(grid.ln_rate)):
            some, part = slice(None), grid
            found = _evidence(grid, curves, squared, data)
        yield which, part, curves[:, some], data, found


def _ranges(
    grid: KwwGrid, curves: NDArray[np.float64], squared: NDArray[np.float64], data: _Data
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return first and last point of the grid that matter to each set of data, from a few points.

    The grid runs through alpha at every Gamma: every seventh point has all alphas in turn.
    """
    n, n_grid = len(data.mean), len(grid.ln_rate)
    low, high = np.zeros(n, np.int64), np.full(n, n_grid)
    few = grid.part(slice(None, None, _THIN))
    f, f2 = (np.ascontiguousarray(table[:, ::_THIN]) for table in (curves, squared))
    for first in range(0, n, _THIN * _TOGETHER):
        one = slice(first, first + _THIN * _TOGETHER)
        log_weight = _evidence(few, f, f2, data.select(one)).log_weight
        matters = log_weight > log_weight.max(axis=1, keepdims=True) - _NEGLIGIBLE
        low[one] = matters.argmax(axis=1) * _THIN - _MARGIN
        high[one] = n_grid - matters[:, ::-1].argmax(axis=1) * _THIN + _MARGIN
    return np.maximum(low, 0), np.minimum(high, n_grid)


def _is_cut_off(log_weight: NDArray[np.float64], some: slice, n_grid: int) -> bool:
    """Whether a part of the grid ends where the posterior still has weight."""
    least = log_weight.max(axis=1) - _NEGLIGIBLE / 2
    begins = some.start > 0 and (log_weight[:, :_END].max(axis=1) > least).any()
    ends = some.stop < n_grid
    return bool(begins or (ends and (log_weight[:, -_END:].max(axis=1) > least).any()))


def _evidence(
    grid: KwwGrid, curves: NDArray[np.float64], squared: NDArray[np.float64], data: _Data
) -> _Evidence:
    weighted = data.weights * data.mean
    a11 = data.weights @ squared + data.precision[:, :1, 0]
    a12 = data.weights @ curves + data.precision[:, :1, 1]
    a22 = (data.weights.sum(axis=1) + data.precision[:, 1, 1])[:, np.newaxis]
    b1 = weighted @ curves + data.shift[:, :1]
    b2 = (weighted.sum(axis=1) + data.shift[:, 1])[:, np.newaxis]
    determinant = a11 * a22 - a12**2
    beta = (a22 * b1 - a12 * b2) / determinant
    offset = (b2 - a12 * beta) / a22
    log_determinant = np.log(determinant)
    log_weight = (b1 * beta + b2 * offset - log_determinant) / 2 + grid.log_prior
    best = np.argmax(log_weight - grid.log_prior, axis=1)
    return _Evidence(
        a11=a11,
        a12=a12,
        a22=a22,
        determinant=determinant,
        beta=beta,
        offset=offset,
        log_weight=log_weight,
        log_scale=log_determinant[np.arange(len(best)), best],
    )


def _mass(log_weight: NDArray[np.float64]) -> NDArray[np.float64]:
    # What is far below the maximum would be a denormal number, which is slow and adds nothing.
    mass = np.exp(np.maximum(log_weight - log_weight.max(axis=1, keepdims=True), -60.0))
    return mass / mass.sum(axis=1, keepdims=True)


def _full(grid: KwwGrid, curves: NDArray[np.float64], data: _Data, some: _Evidence) -> Posterior:
    mass = _mass(some.log_weight)
    ln_rate, ln_rate_sd = _moments(mass, grid.ln_rate)
    ln_alpha, ln_alpha_sd = _moments(mass, grid.ln_alpha)
    over = mass / some.determinant
    weighted = mass * some.beta
    linear = np.stack([weighted.sum(axis=1), (mass * some.offset).sum(axis=1)], axis=1)
    d_beta, d_offset = some.beta - linear[:, :1], some.offset - linear[:, 1:]
    c11 = np.einsum("ng,ng,ng->n", mass, d_beta, d_beta) + over.sum(axis=1) * some.a22[:, 0]
    c12 = np.einsum("ng,ng,ng->n", mass, d_beta, d_offset) - (over * some.a12).sum(axis=1)
    c22 = np.einsum("ng,ng,ng->n", mass, d_offset, d_offset) + (over * some.a11).sum(axis=1)
    curve = weighted @ curves.T + linear[:, 1:]
    return Posterior(
        ln_rate=ln_rate,
        ln_rate_sd=ln_rate_sd,
        ln_alpha=ln_alpha,
        ln_alpha_sd=ln_alpha_sd,
        linear=linear,
        linear_covariance=np.stack([c11, c12, c12, c22], axis=1).reshape(-1, 2, 2),
        edge_mass=mass @ grid.at_edge.astype(np.float64),
        curve=curve,
        chi_square=(data.weights * (data.mean - curve) ** 2).sum(axis=1),
    )


def _moments(
    mass: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of `values` (n_grid,) under each `mass` (n, n_grid)."""
    centre = values.mean()
    first = mass @ (values - centre)
    second = mass @ (values - centre) ** 2
    return centre + first, np.sqrt(np.maximum(second - first**2, 0.0))


# numpy's stubs leave the types of arange, indices and the like unknown.


N_RATE, N_ALPHA = 160, 20
"""Grid points of ln Gamma and of ln alpha."""
HIGHEST_RATE = 1.5
"""Highest Gamma of the grid, per frame; the lowest is 0.1 over the longest lag."""
_LOWEST_RATE_BY_LAG = 0.1
_ALPHA_RANGE = (0.3, 2.5)
_ALPHA_SCATTER = 0.35  # standard deviation of ln alpha about 0, a priori
_EDGE = 3  # values of Gamma that count as the grid's edge, at either end


@dataclass(frozen=True, slots=True, kw_only=True)
class KwwGrid:
    """Curves f = exp(-2 (Gamma lag)^alpha), averaged over lag bins.

    Attributes
    ----------
    ln_rate, ln_alpha
        Shape (n_grid,): Gamma per frame.
    log_prior
        Shape (n_grid,): uniform in ln Gamma, normal in ln alpha; up to a constant.
    curves
        Shape (n_grid, n_bin).
    at_edge
        Shape (n_grid,): the outermost values of Gamma and alpha.
    step
        Step of ln Gamma.
    """

    ln_rate: NDArray[np.float64]
    ln_alpha: NDArray[np.float64]
    log_prior: NDArray[np.float64]
    curves: NDArray[np.float64]
    at_edge: NDArray[np.bool_]
    step: float

    def part(self, some: slice) -> KwwGrid:
        """Return some points of the grid."""
        return KwwGrid(
            ln_rate=self.ln_rate[some],
            ln_alpha=self.ln_alpha[some],
            log_prior=self.log_prior[some],
            curves=self.curves[some],
            at_edge=self.at_edge[some],
            step=self.step,
        )


def kww_grid(longest_lag: int) -> KwwGrid:
    """Return the grid for a series: Gamma from 0.1 / longest lag to 1.5 per frame, both in ln.

    The longest lag is rounded up to the end of its bin, so that a growing series seldom needs a
    new grid.
    """
    return _grid(int(lag_bin_edges(max(longest_lag, 1))[-1]) - 1)


@functools.lru_cache(maxsize=8)
def _grid(longest_lag: int) -> KwwGrid:
    edges = lag_bin_edges(longest_lag)
    axis_rate = np.linspace(np.log(_LOWEST_RATE_BY_LAG / longest_lag), np.log(HIGHEST_RATE), N_RATE)
    axis_alpha = np.linspace(np.log(_ALPHA_RANGE[0]), np.log(_ALPHA_RANGE[1]), N_ALPHA)
    ln_rate = np.repeat(axis_rate, N_ALPHA)
    ln_alpha = np.tile(axis_alpha, N_RATE)
    ln_lag = np.log(np.arange(1, edges[-1]))
    curves = np.empty((ln_rate.size, len(edges) - 1))
    for first in range(0, ln_rate.size, N_ALPHA):  # a value of Gamma at a time bounds the memory
        some = slice(first, first + N_ALPHA)
        exponent = np.exp(ln_alpha[some, np.newaxis])
        values = np.exp(-2 * np.exp(exponent * (ln_rate[some, np.newaxis] + ln_lag)))
        curves[some] = np.add.reduceat(values, edges[:-1] - 1, axis=1) / np.diff(edges)
    rate_index, alpha_index = np.divmod(np.arange(ln_rate.size), N_ALPHA)
    return KwwGrid(
        ln_rate=ln_rate,
        ln_alpha=ln_alpha,
        log_prior=-((ln_alpha / _ALPHA_SCATTER) ** 2) / 2,
        curves=curves,
        at_edge=(np.minimum(rate_index, N_RATE - 1 - rate_index) < _EDGE)
        | (np.minimum(alpha_index, N_ALPHA - 1 - alpha_index) < 1),
        step=float(axis_rate[1] - axis_rate[0]),
    )
