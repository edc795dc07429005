"""Maxima of posteriors between the points of the grid, by Gauss-Newton steps."""

from __future__ import annotations

import math

import numpy as np

from xpcs_live_denoise.numerics.compiled import kernel
from xpcs_live_denoise.records.types import FloatArray

from .grid import (
    BETA,
    CHI_SQUARE,
    COVARIANCE,
    LN_ALPHA,
    LN_ALPHA_SD,
    LN_RATE,
    LN_RATE_SD,
    OFFSET,
    VAR_BETA,
    VAR_OFFSET,
)
from .grid_kernels import DATA, chi_square, whole
from .power_kernels import exponentials

# Steps from the mean over the grid to the maximum between its points, how far one
# may go in ln Gamma and ln alpha, and logarithms that are raised to a power.
_STEPS, _FARTHEST, _HIGHEST_ALPHA, _HIGHEST_POWER = 4, 0.5, 3.0, 50.0


@kernel(makes_arrays=False)
def _factorise(matrix: FloatArray, lower: FloatArray) -> bool:
    """Fill the Cholesky factor of a matrix (4, 4), its diagonal inverted; False: there is none.

    Only the lower half of the matrix is read.
    """
    for i in range(4):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= lower[i, k] * lower[j, k]
            if i != j:
                lower[i, j] = total * lower[j, j]
            elif total > 0:
                lower[i, i] = 1 / math.sqrt(total)
            else:
                return False
    return True


@kernel(makes_arrays=False)
def _solve(lower: FloatArray, x: FloatArray) -> None:
    """Replace x (4,) by the solution, from the factor that `_factorise` has filled."""
    for i in range(4):
        total = x[i]
        for k in range(i):
            total -= lower[i, k] * x[k]
        x[i] = total * lower[i, i]
    for i in range(3, -1, -1):
        total = x[i]
        for k in range(i + 1, 4):
            total -= lower[k, i] * x[k]
        x[i] = total * lower[i, i]


@kernel(makes_arrays=False)
def _model(theta: FloatArray, ln_lag: FloatArray, curve: FloatArray, jacobian: FloatArray) -> None:
    """Fill g2 - 1 (n_bin,) at ln Gamma, ln alpha, beta, offset, and its derivatives (3, n_bin).

    That with respect to the offset is 1.
    """
    n, alpha, beta = len(curve), math.exp(min(theta[1], _HIGHEST_ALPHA)), theta[2]
    decay, power, f = jacobian[0, :n], jacobian[1, :n], jacobian[2, :n]
    for b in range(n):
        power[b] = min(alpha * (theta[0] + ln_lag[b]), _HIGHEST_POWER)
    exponentials(power, decay)
    for b in range(n):
        curve[b] = -2 * decay[b]
    exponentials(curve, f)
    for b in range(n):
        decay[b] *= -2 * beta * f[b]
    for b in range(n):
        curve[b] = theta[3] + beta * f[b]
    for b in range(n):
        power[b] *= decay[b]
    for b in range(n):
        decay[b] *= alpha


@kernel(makes_arrays=False)
def _normal_equations(  # noqa: PLR0917
    weights: FloatArray,
    data: FloatArray,
    curve: FloatArray,
    jacobian: FloatArray,
    matrix: FloatArray,
    force: FloatArray,
) -> None:
    """Fill the lower half of J^T W J, (4, 4), and J^T W (data - curve)."""
    n = len(weights)
    x, y, z = jacobian[0, :n], jacobian[1, :n], jacobian[2, :n]
    xx, xy, yy, xz, yz, zz = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for b in range(n):
        wx, wy, wz = weights[b] * x[b], weights[b] * y[b], weights[b] * z[b]
        xx += wx * x[b]
        xy += wx * y[b]
        yy += wy * y[b]
        xz += wx * z[b]
        yz += wy * z[b]
        zz += wz * z[b]
    sx, sy, sz, total, fx, fy, fz, rest = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for b in range(n):
        w = weights[b]
        r = w * (data[b] - curve[b])
        total += w
        sx += w * x[b]
        sy += w * y[b]
        sz += w * z[b]
        rest += r
        fx += r * x[b]
        fy += r * y[b]
        fz += r * z[b]
    matrix[0, 0], matrix[1, 0], matrix[1, 1] = xx, xy, yy
    matrix[2, 0], matrix[2, 1], matrix[2, 2] = xz, yz, zz
    matrix[3, 0], matrix[3, 1], matrix[3, 2], matrix[3, 3] = sx, sy, sz, total
    force[0], force[1], force[2], force[3] = fx, fy, fz, rest


@kernel(makes_arrays=False)
def _climb(  # noqa: PLR0917
    ln_lag: FloatArray,
    weights: FloatArray,
    data: FloatArray,
    prior: FloatArray,
    centre: FloatArray,
    over_scatter: float,
    theta: FloatArray,
    small: FloatArray,
    curve: FloatArray,
    jacobian: FloatArray,
) -> float:
    """Go from theta (4,) to the maximum; how long the last step was, NaN: there is none.

    `small` (13, 4) is memory, of which the first four rows become the covariance there.
    """
    covariance, matrix, lower, force = small[:4], small[4:8], small[8:12], small[12]
    longest = np.inf
    for _ in range(_STEPS):
        _model(theta, ln_lag, curve, jacobian)
        _normal_equations(weights, data, curve, jacobian, matrix, force)
        matrix[1, 1] += over_scatter
        matrix[2, 2] += prior[0]
        matrix[3, 2] += prior[1]
        matrix[3, 3] += prior[2]
        off_beta, off_offset = centre[0] - theta[2], centre[1] - theta[3]
        force[1] -= theta[1] * over_scatter
        force[2] += prior[0] * off_beta + prior[1] * off_offset
        force[3] += prior[1] * off_beta + prior[2] * off_offset
        if not _factorise(matrix, lower):
            return np.nan
        _solve(lower, force)
        longest = max(abs(force[0]), abs(force[1]))
        shorter = min(1.0, _FARTHEST / max(longest, 1e-9))
        for i in range(4):
            theta[i] += force[i] * shorter
    for i in range(4):
        for j in range(4):
            covariance[i, j] = 1.0 if i == j else 0.0
        _solve(lower, covariance[i])
    return longest


@kernel(makes_arrays=False)
def _refine(  # noqa: PLR0917
    ln_lag: FloatArray,
    weights: FloatArray,
    data: FloatArray,
    prior: FloatArray,
    centre: FloatArray,
    steps: tuple[float, float],
    over_scatter: float,
    found: FloatArray,
    mean: FloatArray,
    small: FloatArray,
    lines: FloatArray,
    jacobian: FloatArray,
) -> None:
    """Do one set of data; the last ones are memory. `ln_lag` reaches on to whole vectors."""
    step, alpha_step = steps
    if not found[LN_ALPHA_SD] < alpha_step:
        return
    n_bin = len(data)
    n = n_bin
    while n > 1 and not weights[n - 1] > 0:
        n -= 1
    n = whole(n)
    weight, values, curve, theta = lines[0, :n], lines[1, :n], lines[2, :n], small[13]
    for b in range(n):
        weight[b] = weights[b] if b < n_bin else 0.0
        values[b] = data[b] if b < n_bin else 0.0
    theta[0], theta[1], theta[2], theta[3] = (
        found[LN_RATE], found[LN_ALPHA], found[BETA], found[OFFSET],
    )  # fmt: skip
    longest = _climb(
        ln_lag[:n], weight, values, prior, centre, over_scatter, theta, small, curve, jacobian
    )
    found[LN_ALPHA_SD] = math.hypot(found[LN_ALPHA_SD], alpha_step / math.sqrt(12.0))
    if math.isnan(longest):
        return
    rate_sd, alpha_sd = math.sqrt(small[0, 0]), math.sqrt(small[1, 1])
    if not (
        alpha_sd < alpha_step
        and abs(theta[1] - found[LN_ALPHA]) < 2 * alpha_step
        and longest < alpha_sd
        and abs(theta[0] - found[LN_RATE]) < 2 * step + 3 * rate_sd
    ):
        return
    found[LN_RATE], found[LN_ALPHA] = theta[0], theta[1]
    found[BETA], found[OFFSET] = theta[2], theta[3]
    found[LN_RATE_SD], found[LN_ALPHA_SD] = rate_sd, alpha_sd
    found[VAR_BETA], found[COVARIANCE], found[VAR_OFFSET] = small[2, 2], small[2, 3], small[3, 3]
    if len(mean):
        _model(theta, ln_lag[:n_bin], mean, jacobian)
        found[CHI_SQUARE] = chi_square(weights, data, mean)


@kernel(
    f"void(float64[::1], {DATA}, float64[:, :, ::1], float64, float64, float64,"
    " float64[:, :, ::1], float64[:, :, ::1])"
)
def refine(  # noqa: PLR0917
    ln_lag: FloatArray,
    weights: FloatArray,
    data: FloatArray,
    priors: FloatArray,
    centres: FloatArray,
    step: float,
    alpha_step: float,
    alpha_scatter: float,
    out: FloatArray,
    means: FloatArray,
) -> None:
    """Take the maximum between points for what is narrower than a step of alpha.

    Arguments as for `posteriors`, whose `out` and `means` are changed; `centres` (n or 1, n_set, 2)
    are the means of the priors.
    """
    n_item, n_set, n_bin = data.shape
    n = whole(n_bin)
    lags, small = np.zeros(n), np.zeros((14, 4))
    lines, jacobian = np.empty((3, n)), np.empty((3, n))
    lags[:n_bin] = ln_lag[:n_bin]
    for item in range(n_item):
        at = item if len(priors) > 1 else 0
        for d in range(n_set):
            _refine(
                lags, weights[item], data[item, d], priors[at, d], centres[at, d],
                (step, alpha_step), 1 / alpha_scatter**2, out[item, d], means[item, d], small,
                lines, jacobian,
            )  # fmt: skip
