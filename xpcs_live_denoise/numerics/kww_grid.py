"""The KWW model on a grid of (Gamma, alpha): contrast and baseline solved for at each point."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from xpcs_live_denoise.records.rows import AXIS_1, SHARED
from xpcs_live_denoise.records.types import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class GridCurves:
    """Curves f of a model y = offset * one + beta f, with the products that sums over lags need.

    Attributes
    ----------
    f, squared, cross
        Shape (n_lag, n_grid): f = exp(-2 (Gamma lag)^alpha) at single lags, averaged over bins of
        lags or in another basis; f^2; and f times `one`.
    one
        Shape (n_lag,): what an offset of 1 is in the basis of the lags; None: 1 at each.
    """

    f: FloatArray = field(metadata=AXIS_1)
    squared: FloatArray = field(metadata=AXIS_1)
    cross: FloatArray = field(metadata=AXIS_1)
    one: FloatArray | None = field(default=None, metadata=SHARED)

    @classmethod
    def of(cls, f: FloatArray, one: FloatArray | None = None) -> GridCurves:
        """Return curves from f, (n_grid, n_lag)."""
        table = np.ascontiguousarray(f.T)
        cross = table if one is None else np.ascontiguousarray((f * one).T)
        return cls(f=table, squared=table**2, cross=cross, one=one)

    def lags(self, n: int) -> GridCurves:
        """Return the first n lags of the curves, whose offset is 1; views."""
        return GridCurves(f=self.f[:n], squared=self.squared[:n], cross=self.cross[:n])


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearSolution:
    """beta and offset of n sets of data at every grid point; arrays (n, n_grid) or (n, 1).

    Attributes
    ----------
    a11, a12, a22, determinant
        A = X^T W X + P with X = (f, one), and its determinant: A^-1 is the covariance.
    beta, offset
        A^-1 b with b = X^T W y + P m.
    log_evidence
        b^T A^-1 b / 2 - ln(det A) / 2: ln of the evidence, up to what no grid point changes.
    """

    a11: FloatArray
    a12: FloatArray
    a22: FloatArray
    determinant: FloatArray
    beta: FloatArray
    offset: FloatArray
    log_evidence: FloatArray


def grid_points(ln_rates: FloatArray, ln_alphas: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return ln Gamma and ln alpha of every point of a grid, alpha running fastest."""
    return np.repeat(ln_rates, ln_alphas.size), np.tile(ln_alphas, ln_rates.size)


def kww_curves(ln_rate: FloatArray, ln_alpha: FloatArray, ln_lag: FloatArray) -> FloatArray:
    """Return exp(-2 (Gamma lag)^alpha) of n grid points, (n, n_lag)."""
    power = np.exp(ln_alpha)[:, np.newaxis] * (ln_rate[:, np.newaxis] + ln_lag)
    return np.exp(-2 * np.exp(np.minimum(power, 50.0)))  # 0 long before that


def normal_equations(
    curves: GridCurves, weights: FloatArray, weighted: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return a11, a12, a22, b1, b2 of X^T W X and X^T W y; (n, n_grid), a22 and b2 (n, 1).

    `weights` are inverse variances, `weighted` they times the data, both (n, n_lag).
    """
    if curves.one is None:
        a22, b2 = weights.sum(axis=1), weighted.sum(axis=1)
    else:
        a22, b2 = weights @ curves.one**2, weighted @ curves.one
    return (
        weights @ curves.squared,
        weights @ curves.cross,
        a22[:, np.newaxis],
        weighted @ curves.f,
        b2[:, np.newaxis],
    )


def solve_linear(
    curves: GridCurves,
    weights: FloatArray,
    weighted: FloatArray,
    *,
    precision: FloatArray,
    pull: FloatArray,
) -> LinearSolution:
    """Solve for beta and offset at every grid point, with a Gaussian prior of both.

    `precision` P and `pull` P m of the prior are (n, 1, 2, 2) and (n, 1, 2), or (1, n_grid, 2, 2)
    and (1, n_grid, 2); the others as for `normal_equations`.
    """
    a11, a12, a22, b1, b2 = normal_equations(curves, weights, weighted)
    a11 += precision[..., 0, 0]
    a12 += precision[..., 0, 1]
    a22 = a22 + precision[..., 1, 1]
    b1 += pull[..., 0]
    b2 = b2 + pull[..., 1]
    determinant = a11 * a22 - a12**2
    beta = (a22 * b1 - a12 * b2) / determinant
    offset = (b2 - a12 * beta) / a22
    return LinearSolution(
        a11=a11,
        a12=a12,
        a22=a22,
        determinant=determinant,
        beta=beta,
        offset=offset,
        log_evidence=(b1 * beta + b2 * offset - np.log(determinant)) / 2,
    )


def grid_mass(log_weight: FloatArray) -> FloatArray:
    """Return the probability of each grid point, (n, n_grid), from its logarithm and a constant."""
    # What is far below the maximum would be a denormal number, which is slow and adds nothing.
    mass = np.exp(np.maximum(log_weight - log_weight.max(axis=1, keepdims=True), -60.0))
    return mass / mass.sum(axis=1, keepdims=True)


def grid_moments(mass: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return mean and standard deviation of `values` (n_grid,) under each `mass` (n, n_grid)."""
    centre = values.mean()
    first = mass @ (values - centre)
    second = mass @ (values - centre) ** 2
    return centre + first, np.sqrt(np.maximum(second - first**2, 0.0))


def linear_moments(mass: FloatArray, solved: LinearSolution) -> tuple[FloatArray, FloatArray]:
    """Return mean (n, 2) and covariance (n, 2, 2) of beta and offset over the grid."""
    mean = np.stack([(mass * solved.beta).sum(axis=1), (mass * solved.offset).sum(axis=1)], axis=1)
    d_beta, d_offset = solved.beta - mean[:, :1], solved.offset - mean[:, 1:]
    over = mass / solved.determinant
    c11 = np.einsum("ng,ng,ng->n", mass, d_beta, d_beta) + (over * solved.a22).sum(axis=1)
    c12 = np.einsum("ng,ng,ng->n", mass, d_beta, d_offset) - (over * solved.a12).sum(axis=1)
    c22 = np.einsum("ng,ng,ng->n", mass, d_offset, d_offset) + (over * solved.a11).sum(axis=1)
    return mean, np.stack([c11, c12, c12, c22], axis=1).reshape(-1, 2, 2)
