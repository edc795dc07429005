"""The posterior on the grid, point by point: only where it has weight, only as fine as it needs.

Points are numbered with alpha running fastest. The outer functions take n items, each with n_set
sets of data that share weights: one, or one for each pixel block that is left out.
"""

from __future__ import annotations

import math

import numpy as np

from xpcs_live_denoise.numerics.compiled import kernel
from xpcs_live_denoise.records.types import BoolArray, FloatArray, IntArray

from .grid import (
    BEST_CHI_SQUARE,
    BETA,
    CHI_SQUARE,
    COVARIANCE,
    EDGE_MASS,
    LANES,
    LN_ALPHA,
    LN_ALPHA_SD,
    LN_RATE,
    LN_RATE_SD,
    OFFSET,
    VAR_BETA,
    VAR_OFFSET,
)
from .power_kernels import exponentials

# How far a posterior is followed, in ln probability below its best point, and how many standard
# deviations points may be apart: everything to 1e-6 (a sum over such points is that of all), or
# its width to some per cent; of data that tell next to nothing also where the grid cuts it off.
EXACT, ROUGH, BLURRED = (20.0, 0.4), (9.0, 1.4), (9.0, 1.5)
# Sets of data that share weights are compared with each other, at the same points.
COMPARED = (16.0, 0.4)
# A first look at every 16th Gamma and every eighth alpha tells where it lies.
_LOOK, _WIDEST, _FIRST = (16, 8), (8, 4), (4, 2)
# Where the posterior is narrower than points are apart, the way to its top is a ridge between them:
# at the widest stride points are followed that explain this share less than the best one, of what
# it explains more than the worst; at half the stride a quarter of it.
_RIDGE = 0.03
# Determinants of sets whose priors are alike differ by less than this share: five terms of the
# series of the logarithm are it, to 1e-10.
_ALIKE = 0.03
_NOTHING = 40.0  # in ln probability: what is less probable adds nothing
# Of a refinement: steps from the mean over the grid to the maximum between its points, how far one
# may go in ln Gamma and ln alpha, and logarithms that are raised to a power.
_STEPS, _FARTHEST, _HIGHEST_ALPHA, _HIGHEST_POWER = 4, 0.5, 3.0, 50.0


@kernel()
def _evaluate(  # noqa: PLR0917 (numba knows no keyword-only arguments)
    first: int,
    stop: int,
    index: IntArray,
    curves: FloatArray,
    reach: IntArray,
    log_prior: FloatArray,
    weights: FloatArray,
    weighted: FloatArray,
    prior: FloatArray,
    totals: FloatArray,
    a: FloatArray,
    force: FloatArray,
    level: FloatArray,
    best: FloatArray,
) -> None:
    """Fill rows [first, stop) of what is known of points: sums a, force and level of each set."""
    n_set, of_first = weighted.shape[0], weighted[0]
    for k in range(first, stop):
        curve, n = curves[index[k]], min(reach[index[k]], len(weights))
        s11, s12, b1 = 0.0, 0.0, 0.0
        for b in range(n):
            share = weights[b] * curve[b]
            s12 += share
            s11 += share * curve[b]
            b1 += of_first[b] * curve[b]
        a[k, 0], a[k, 1], force[k, 0] = s11, s12, b1
        d = 1
        while d + 3 < n_set:  # four at a time, for one way through the curve
            x, y, z, u = 0.0, 0.0, 0.0, 0.0
            row_x, row_y, row_z, row_u = (
                weighted[d], weighted[d + 1], weighted[d + 2], weighted[d + 3],
            )  # fmt: skip
            for b in range(n):
                x += row_x[b] * curve[b]
                y += row_y[b] * curve[b]
                z += row_z[b] * curve[b]
                u += row_u[b] * curve[b]
            force[k, d], force[k, d + 1], force[k, d + 2], force[k, d + 3] = x, y, z, u
            d += 4
        while d < n_set:
            row, x = weighted[d], 0.0
            for b in range(n):
                x += row[b] * curve[b]
            force[k, d] = x
            d += 1
        known, log_known = 0.0, 0.0
        for d in range(n_set):
            b1 = force[k, d] + prior[d, 3]
            force[k, d] = b1
            a11, a12, a22 = s11 + prior[d, 0], s12 + prior[d, 1], totals[d, 0]
            determinant = a11 * a22 - a12 * a12
            b2 = totals[d, 1]
            beta = (a22 * b1 - a12 * b2) / determinant
            offset = (b2 - a12 * beta) * totals[d, 2]
            if d == 0:
                known, log_known = 1 / determinant, math.log(determinant)
            x = determinant * known - 1
            logarithm = log_known + x * (1 - x * (1 / 2 - x * (1 / 3 - x * (1 / 4 - x / 5))))
            if abs(x) > _ALIKE:
                logarithm = math.log(determinant)
            found = (b1 * beta + b2 * offset - logarithm) / 2 + log_prior[index[k]]
            level[k, d] = found
            best[d] = max(best[d], found)


@kernel()
def _stride(width: float, most: int) -> int:
    """Return the largest power of 2 up to `most` that is not above a width in points."""
    stride = 1
    while 2 * stride <= most and 2 * stride <= width:
        stride *= 2
    return stride


@kernel()
def _strides(  # noqa: PLR0917
    places: IntArray,
    n_found: int,
    n_alpha: int,
    n_rate: int,
    level: FloatArray,
    best: FloatArray,
    strides: tuple[int, int],
    negligible: float,
    apart: float,
    sums: FloatArray,
) -> tuple[int, int]:
    """Return how far points may lie apart, from those found on a lattice: never further.

    `sums` (n_set, 6) is memory that means nothing before and after.
    """
    p, q = strides
    of_rate, of_alpha = p, q
    sums[:] = 0.0
    for k in range(n_found):
        i, j = places[k, 0], places[k, 1]
        if (i - _FIRST[0]) & (p - 1) or (j - _FIRST[1]) & (q - 1):
            continue
        for d in range(len(best)):
            below = level[k, d] - best[d]
            if below < -negligible:
                continue
            if below > 2.0 - negligible and apart < BLURRED[1]:
                if i < p or i + p >= n_rate:  # what the grid cuts off is not smooth: every point
                    of_rate = 1
                if j < q or j + q >= n_alpha:
                    of_alpha = 1
            mass = math.exp(below)
            one = sums[d]
            one[0] += mass
            one[1] += mass * i
            one[2] += mass * j
            one[3] += mass * i * i
            one[4] += mass * j * j
            one[5] += mass * i * j
    for d in range(len(best)):
        total = sums[d, 0]
        mean_i, mean_j = sums[d, 1] / total, sums[d, 2] / total
        var_i = sums[d, 3] / total - mean_i * mean_i
        var_j = sums[d, 4] / total - mean_j * mean_j
        both = sums[d, 5] / total - mean_i * mean_j
        # Widths of one where the other is known: that is what may change from point to point.
        if var_i > 0 and var_j > 0:
            var_i, var_j = var_i - both * both / var_j, var_j - both * both / var_i
        of_rate = min(of_rate, _stride(apart * math.sqrt(max(var_i, 0.0)), p))
        of_alpha = min(of_alpha, _stride(apart * math.sqrt(max(var_j, 0.0)), q))
    return of_rate, of_alpha


@kernel()
def _covariance(  # noqa: PLR0917
    d: int,
    n_found: int,
    total: float,
    mean_beta: float,
    mean_offset: float,
    prior: FloatArray,
    totals: FloatArray,
    a: FloatArray,
    beta: FloatArray,
    level: FloatArray,
    out: FloatArray,
) -> None:
    """Fill the covariance of beta and offset over the points; normalise their mass."""
    a22, b2, over_a22 = totals[d, 0], totals[d, 1], totals[d, 2]
    c11, c12, c22 = 0.0, 0.0, 0.0
    for k in range(n_found):
        mass = level[k, d] / total
        level[k, d] = mass
        if mass > 0:
            a11, a12 = a[k, 0] + prior[d, 0], a[k, 1] + prior[d, 1]
            over = mass / (a11 * a22 - a12 * a12)
            b1 = beta[k, d]
            d_beta, d_offset = b1 - mean_beta, (b2 - a12 * b1) * over_a22 - mean_offset
            c11 += mass * d_beta * d_beta + over * a22
            c12 += mass * d_beta * d_offset - over * a12
            c22 += mass * d_offset * d_offset + over * a11
    out[VAR_BETA], out[COVARIANCE], out[VAR_OFFSET] = c11, c12, c22


@kernel()
def _moments(  # noqa: PLR0917
    index: IntArray,
    places: IntArray,
    n_found: int,
    strides: tuple[int, int],
    ln_rate: FloatArray,
    ln_alpha: FloatArray,
    log_prior: FloatArray,
    at_edge: BoolArray,
    prior: FloatArray,
    totals: FloatArray,
    a: FloatArray,
    force: FloatArray,
    level: FloatArray,
    best: FloatArray,
    out: FloatArray,
) -> None:
    """Fill the columns of out (n_set, N_COLUMN), but the last; level becomes the mass of a point.

    `force` becomes beta there. Points that are not on the lattice get no mass.
    """
    middle_rate, middle_alpha = ln_rate[len(ln_rate) // 2], ln_alpha[len(ln_alpha) // 2]
    p, q = strides[0] - 1, strides[1] - 1
    for d in range(level.shape[1]):
        a22, b2, over_a22 = totals[d, 0], totals[d, 1], totals[d, 2]
        total, rate, rate2, alpha, alpha2, edge = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        mean_beta, mean_offset, highest = 0.0, 0.0, -np.inf
        for k in range(n_found):
            point = index[k]
            below = level[k, d] - best[d]
            a11, a12 = a[k, 0] + prior[d, 0], a[k, 1] + prior[d, 1]
            determinant = a11 * a22 - a12 * a12
            evidence = level[k, d] - log_prior[point]
            if evidence > highest:
                highest = evidence
                out[d, BEST_CHI_SQUARE] = -2 * evidence - math.log(determinant)
            beta = (a22 * force[k, d] - a12 * b2) / determinant
            force[k, d] = beta
            off = (places[k, 0] - _FIRST[0]) & p or (places[k, 1] - _FIRST[1]) & q
            if off or below < -_NOTHING:
                level[k, d] = 0.0
                continue
            mass = math.exp(below)
            level[k, d] = mass
            total += mass
            x, y = ln_rate[point] - middle_rate, ln_alpha[point] - middle_alpha
            rate += mass * x
            rate2 += mass * x * x
            alpha += mass * y
            alpha2 += mass * y * y
            mean_beta += mass * beta
            mean_offset += mass * (b2 - a12 * beta) * over_a22
            if at_edge[point]:
                edge += mass
        rate /= total
        alpha /= total
        mean_beta /= total
        mean_offset /= total
        _covariance(
            d, n_found, total, mean_beta, mean_offset, prior, totals, a, force, level, out[d]
        )
        out[d, LN_RATE], out[d, LN_ALPHA] = middle_rate + rate, middle_alpha + alpha
        out[d, LN_RATE_SD] = math.sqrt(max(rate2 / total - rate * rate, 0.0))
        out[d, LN_ALPHA_SD] = math.sqrt(max(alpha2 / total - alpha * alpha, 0.0))
        out[d, BETA], out[d, OFFSET], out[d, EDGE_MASS] = mean_beta, mean_offset, edge / total


@kernel()
def _mean_curves(  # noqa: PLR0917
    curves: FloatArray,
    reach: IntArray,
    index: IntArray,
    n_found: int,
    mass: FloatArray,
    beta: FloatArray,
    out: FloatArray,
    means: FloatArray,
) -> None:
    """Fill the mean of g2 - 1 of each set of data, (n_set, n_bin)."""
    n_set, n_bin = means.shape
    for d in range(n_set):
        mean = means[d]
        mean[:] = out[d, OFFSET]
        for k in range(n_found):
            share = mass[k, d] * beta[k, d]
            if mass[k, d] > 0:
                curve = curves[index[k]]
                for b in range(min(reach[index[k]], n_bin)):
                    mean[b] += share * curve[b]


@kernel()
def _chi_square(weights: FloatArray, data: FloatArray, curve: FloatArray) -> float:
    total = 0.0
    for b in range(len(data)):
        total += weights[b] * (data[b] - curve[b]) ** 2
    return total


@kernel()
def _follow(  # noqa: PLR0917
    curves: FloatArray,
    reach: IntArray,
    log_prior: FloatArray,
    n_alpha: int,
    strides: tuple[int, int],
    negligible: float,
    n_found: int,
    is_known: BoolArray,
    index: IntArray,
    places: IntArray,
    weights: FloatArray,
    weighted: FloatArray,
    prior: FloatArray,
    totals: FloatArray,
    a: FloatArray,
    force: FloatArray,
    level: FloatArray,
    best: FloatArray,
    worst: FloatArray,
) -> int:
    """Look at all points of a lattice beside those that have weight; return how many are known."""
    n_rate, (p, q) = len(log_prior) // n_alpha, strides
    share = _RIDGE * (p / _WIDEST[0]) ** 2
    first, stop = 0, n_found
    while first < stop:
        for k in range(first, stop):
            near = False
            for d in range(len(best)):
                far = max(negligible, share * (best[d] - worst[d]))
                near |= level[k, d] > best[d] - far
            if not near:
                continue
            i, j = places[k, 0], places[k, 1]
            for u in range(max(i - p, i & (p - 1)), min(i + p + 1, n_rate), p):
                for v in range(max(j - q, j & (q - 1)), min(j + q + 1, n_alpha), q):
                    point = u * n_alpha + v
                    if not is_known[point]:
                        is_known[point], index[n_found] = True, point
                        places[n_found, 0], places[n_found, 1] = u, v
                        n_found += 1
        _evaluate(
            stop, n_found, index, curves, reach, log_prior, weights, weighted, prior, totals, a,
            force, level, best,
        )  # fmt: skip
        first, stop = stop, n_found
    return n_found


@kernel()
def _weigh_data(  # noqa: PLR0917
    weights: FloatArray,
    data: FloatArray,
    prior: FloatArray,
    weight: FloatArray,
    weighted: FloatArray,
    totals: FloatArray,
    best: FloatArray,
) -> int:
    """Fill weights and weighted data, and what no point changes.

    Returns the bins up to the last one that has weight, up to a multiple of LANES.
    """
    n_set, n_bin = data.shape
    weight[:n_bin] = weights
    n = n_bin
    while n > 1 and not weights[n - 1] > 0:
        n -= 1
    for d in range(n_set):
        total, moment = 0.0, 0.0
        for b in range(n_bin):
            weighted[d, b] = weights[b] * data[d, b]
            total += weights[b]
            moment += weighted[d, b]
        totals[d, 0], totals[d, 1] = total + prior[d, 2], moment + prior[d, 4]
        totals[d, 2] = 1 / totals[d, 0]
        best[d] = -np.inf
    return (n + LANES - 1) // LANES * LANES


@kernel("void(float64[:, ::1], float64[:, :, ::1], float64[:, ::1])")
def know(mean: FloatArray, covariance: FloatArray, known: FloatArray) -> None:
    """Fill known (n, 5) with P11, P12, P22 and P m of priors, one of them or n."""
    for i in range(len(known)):
        at = min(i, len(mean) - 1)
        a, b, c = covariance[at, 0, 0], covariance[at, 0, 1], covariance[at, 1, 1]
        determinant = a * c - b * b
        p, q, r = c / determinant, -b / determinant, a / determinant
        known[i, 0], known[i, 1], known[i, 2] = p, q, r
        known[i, 3] = p * mean[at, 0] + q * mean[at, 1]
        known[i, 4] = q * mean[at, 0] + r * mean[at, 1]


_GRID = "float64[:, ::1], int64[::1], float64[::1], float64[::1], float64[::1], boolean[::1], int64"
_DATA = "float64[:, ::1], float64[:, :, ::1], float64[:, :, ::1]"


@kernel(f"void({_GRID}, {_DATA}, float64, float64, float64[:, :, ::1], float64[:, :, ::1])")
def posteriors(  # noqa: PLR0917
    curves: FloatArray,
    reach: IntArray,
    log_prior: FloatArray,
    ln_rate: FloatArray,
    ln_alpha: FloatArray,
    at_edge: BoolArray,
    n_alpha: int,
    weights: FloatArray,
    data: FloatArray,
    priors: FloatArray,
    negligible: float,
    apart: float,
    out: FloatArray,
    means: FloatArray,
) -> None:
    """Fill out (n, n_set, N_COLUMN) and, where it has room, means (n, n_set, n_bin) of g2 - 1.

    `curves` (n_grid, n_bin or more, and up to a multiple of LANES) and how many bins of each are
    not yet 0, such a multiple; weights (n, n_bin), data (n, n_set, n_bin); priors (n or 1, n_set,
    5): P11, P12, P22 and P m of beta and offset; then EXACT, COMPARED or ROUGH.
    """
    n_grid = len(log_prior)
    n, n_set, n_bin = data.shape
    width, n_rate = (n_bin + LANES - 1) // LANES * LANES, n_grid // n_alpha
    weight, weighted = np.zeros(width), np.zeros((n_set, width))
    is_known, index = np.zeros(n_grid, np.bool_), np.empty(n_grid, np.int64)
    places, sums = np.empty((n_grid, 2), np.int64), np.empty((n_set, 6))
    a, force, level = np.empty((n_grid, 2)), np.empty((n_grid, n_set)), np.empty((n_grid, n_set))
    totals, best, worst = np.empty((n_set, 3)), np.empty(n_set), np.empty(n_set)
    for item in range(n):
        prior = priors[item if len(priors) > 1 else 0]
        n_used = _weigh_data(weights[item], data[item], prior, weight, weighted, totals, best)
        used = weight[:n_used]
        n_found = 0
        for i in range(_FIRST[0], n_rate, _LOOK[0]):
            for j in range(_FIRST[1], n_alpha, _LOOK[1]):
                is_known[i * n_alpha + j], index[n_found] = True, i * n_alpha + j
                places[n_found, 0], places[n_found, 1] = i, j
                n_found += 1
        _evaluate(
            0, n_found, index, curves, reach, log_prior, used, weighted, prior, totals, a, force,
            level, best,
        )  # fmt: skip
        for d in range(n_set):
            worst[d] = level[:n_found, d].min()
        strides = _WIDEST
        while True:
            n_found = _follow(
                curves, reach, log_prior, n_alpha, strides, negligible, n_found, is_known, index,
                places, used, weighted, prior, totals, a, force, level, best, worst,
            )  # fmt: skip
            finer = _strides(
                places, n_found, n_alpha, n_rate, level, best, strides, negligible, apart, sums
            )
            if finer[0] == strides[0] and finer[1] == strides[1]:
                break
            strides = max(finer[0], strides[0] // 2), max(finer[1], strides[1] // 2)
        _moments(
            index, places, n_found, strides, ln_rate, ln_alpha, log_prior, at_edge, prior, totals,
            a, force, level, best, out[item],
        )  # fmt: skip
        for d in range(n_set):
            for b in range(n_bin):  # and m P m of the prior, which the caller knows
                out[item, d, BEST_CHI_SQUARE] += weighted[d, b] * data[item, d, b]
        if means.shape[2]:
            _mean_curves(curves, reach, index, n_found, level, force, out[item], means[item])
            for d in range(n_set):
                out[item, d, CHI_SQUARE] = _chi_square(weights[item], data[item, d], means[item, d])
        for k in range(n_found):
            is_known[index[k]] = False


@kernel()
def _inverse(matrix: FloatArray, inverse: FloatArray) -> bool:
    """Fill the inverse of a positive definite matrix (4, 4); False where it is not."""
    n = len(matrix)
    lower = np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1):
            total = matrix[i, j]
            for k in range(j):
                total -= lower[i, k] * lower[j, k]
            if i == j:
                if not total > 0:
                    return False
                lower[i, i] = math.sqrt(total)
            else:
                lower[i, j] = total / lower[j, j]
    for column in range(n):
        for i in range(n):
            total = 1.0 if i == column else 0.0
            for k in range(i):
                total -= lower[i, k] * inverse[k, column]
            inverse[i, column] = total / lower[i, i]
        for i in range(n - 1, -1, -1):
            total = inverse[i, column]
            for k in range(i + 1, n):
                total -= lower[k, i] * inverse[k, column]
            inverse[i, column] = total / lower[i, i]
    return True


@kernel()
def _model(theta: FloatArray, ln_lag: FloatArray, curve: FloatArray, jacobian: FloatArray) -> None:
    """Fill g2 - 1 (n_bin,) at ln Gamma, ln alpha, beta, offset, and its derivatives (4, n_bin)."""
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
        jacobian[3, b] = 1.0


@kernel()
def _normal_equations(  # noqa: PLR0917
    weights: FloatArray,
    data: FloatArray,
    curve: FloatArray,
    jacobian: FloatArray,
    matrix: FloatArray,
    force: FloatArray,
) -> None:
    """Fill the lower half of J^T W J, (4, 4), and J^T W (data - curve)."""
    for i in range(4):
        for j in range(i + 1):
            total = 0.0
            for b in range(len(data)):
                total += weights[b] * jacobian[i, b] * jacobian[j, b]
            matrix[i, j] = total
        total = 0.0
        for b in range(len(data)):
            total += weights[b] * jacobian[i, b] * (data[b] - curve[b])
        force[i] = total


@kernel(
    f"void(float64[::1], {_DATA}, float64[:, :, ::1], float64, float64, float64,"
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
    curve, jacobian = np.empty(n_bin), np.empty((4, n_bin))
    matrix, covariance = np.empty((4, 4)), np.empty((4, 4))
    theta, before, force, change = np.empty(4), np.empty(4), np.empty(4), np.empty(4)
    for item in range(n_item):
        at, n = item if len(priors) > 1 else 0, n_bin
        while n > 1 and not weights[item, n - 1] > 0:
            n -= 1
        weight = weights[item, :n]
        for d in range(n_set):
            found, prior, centre = out[item, d], priors[at, d], centres[at, d]
            if not found[LN_ALPHA_SD] < alpha_step:
                continue
            before[0], before[1] = found[LN_RATE], found[LN_ALPHA]
            before[2], before[3] = found[BETA], found[OFFSET]
            theta[:] = before
            longest, good = np.inf, True
            for _ in range(_STEPS):
                _model(theta, ln_lag, curve[:n], jacobian)
                _normal_equations(weight, data[item, d, :n], curve[:n], jacobian, matrix, force)
                matrix[1, 1] += 1 / alpha_scatter**2
                matrix[2, 2] += prior[0]
                matrix[3, 2] += prior[1]
                matrix[3, 3] += prior[2]
                off_beta, off_offset = centre[0] - theta[2], centre[1] - theta[3]
                force[1] -= theta[1] / alpha_scatter**2
                force[2] += prior[0] * off_beta + prior[1] * off_offset
                force[3] += prior[1] * off_beta + prior[2] * off_offset
                good = _inverse(matrix, covariance)
                if not good:
                    break
                for i in range(4):
                    change[i] = 0.0
                    for j in range(4):
                        change[i] += covariance[i, j] * force[j]
                longest = max(abs(change[0]), abs(change[1]))
                shorter = min(1.0, _FARTHEST / max(longest, 1e-9))
                for i in range(4):
                    theta[i] += change[i] * shorter
            found[LN_ALPHA_SD] = math.hypot(found[LN_ALPHA_SD], alpha_step / math.sqrt(12.0))
            if not good:
                continue
            rate_sd, alpha_sd = math.sqrt(covariance[0, 0]), math.sqrt(covariance[1, 1])
            if not (
                alpha_sd < alpha_step
                and abs(theta[1] - before[1]) < 2 * alpha_step
                and longest < alpha_sd
                and abs(theta[0] - before[0]) < 2 * step + 3 * rate_sd
            ):
                continue
            found[LN_RATE], found[LN_ALPHA] = theta[0], theta[1]
            found[BETA], found[OFFSET] = theta[2], theta[3]
            found[LN_RATE_SD], found[LN_ALPHA_SD] = rate_sd, alpha_sd
            found[VAR_BETA], found[COVARIANCE] = covariance[2, 2], covariance[2, 3]
            found[VAR_OFFSET] = covariance[3, 3]
            if means.shape[2]:
                _model(theta, ln_lag, curve, jacobian)
                means[item, d] = curve
                found[CHI_SQUARE] = _chi_square(weights[item], data[item, d], curve)
