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
from .power_kernels import exponentials, logarithms

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

# Rows of what is known of points that were found, each (n,), padded with zeros to whole vectors:
# what weighs them before, ln Gamma and ln alpha from the middle of the grid, whether they lie at
# its edge, their places on it, and the sums s11 and s12 of their curves.
_PRIOR, _RATE, _ALPHA, _EDGE, _AT_RATE, _AT_ALPHA, _S11, _S12 = range(8)
_VECTOR = 8
_UNKNOWN = -1e300  # ln probability of a point that only fills a vector


@kernel(makes_arrays=False)
def _whole(n: int) -> int:
    """Return n, up to whole vectors."""
    return (n + _VECTOR - 1) // _VECTOR * _VECTOR


@kernel(makes_arrays=False)
def _add_up(  # noqa: PLR0917 (numba knows no keyword-only arguments)
    first: int,
    stop: int,
    index: IntArray,
    curves: FloatArray,
    reach: IntArray,
    weights: FloatArray,
    weighted: FloatArray,
    points: FloatArray,
    force: FloatArray,
) -> None:
    """Fill the sums over bins of points [first, stop), and the force of each set, (n_set, n)."""
    n_set, of_first = weighted.shape[0], weighted[0]
    for k in range(first, stop):
        curve, n = curves[index[k]], min(reach[index[k]], len(weights))
        s11, s12, b1 = 0.0, 0.0, 0.0
        for b in range(n):
            share = weights[b] * curve[b]
            s12 += share
            s11 += share * curve[b]
            b1 += of_first[b] * curve[b]
        points[_S11, k], points[_S12, k], force[0, k] = s11, s12, b1
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
            force[d, k], force[d + 1, k], force[d + 2, k], force[d + 3, k] = x, y, z, u
            d += 4
        while d < n_set:
            row, x = weighted[d], 0.0
            for b in range(n):
                x += row[b] * curve[b]
            force[d, k] = x
            d += 1


@kernel(makes_arrays=False)
def _evaluate(  # noqa: PLR0917
    first: int,
    stop: int,
    prior: FloatArray,
    totals: FloatArray,
    points: FloatArray,
    room: FloatArray,
    force: FloatArray,
    level: FloatArray,
    best: FloatArray,
) -> None:
    """Fill the level of points [first, stop) whose sums are there; force gets that of the prior."""
    n = _whole(stop - first)
    end = first + n
    s11, s12 = points[_S11, first:end], points[_S12, first:end]
    before = points[_PRIOR, first:end]
    determinant, over, logarithm = room[0, :n], room[1, :n], room[2, :n]
    for d in range(len(best)):
        p11, p12, pull = prior[d, 0], prior[d, 1], prior[d, 3]
        a22, b2, over_a22 = totals[d, 0], totals[d, 1], totals[d, 2]
        b1, found, n_far = force[d, first:end], level[d, first:end], 0
        for k in range(n):
            b1[k] += pull
        for k in range(n):
            a12 = s12[k] + p12
            determinant[k] = (s11[k] + p11) * a22 - a12 * a12
        if d == 0:
            logarithms(determinant, room[3, :n], room[4, :n], logarithm)
            for k in range(n):
                over[k] = 1 / determinant[k]
        for k in range(n):
            a12 = s12[k] + p12
            beta = (a22 * b1[k] - a12 * b2) / determinant[k]
            offset = (b2 - a12 * beta) * over_a22
            x = determinant[k] * over[k] - 1
            n_far += abs(x) > _ALIKE
            more = x * (1 - x * (1 / 2 - x * (1 / 3 - x * (1 / 4 - x / 5))))
            found[k] = (b1[k] * beta + b2 * offset - logarithm[k] - more) / 2 + before[k]
        if n_far:
            for k in range(n):
                x = determinant[k] * over[k] - 1
                if abs(x) > _ALIKE:
                    more = x * (1 - x * (1 / 2 - x * (1 / 3 - x * (1 / 4 - x / 5))))
                    found[k] += (logarithm[k] + more - math.log(determinant[k])) / 2
        for k in range(stop - first):
            best[d] = max(best[d], found[k])
        level[d, stop : stop + _VECTOR] = _UNKNOWN


@kernel(makes_arrays=False)
def _weigh_points(
    found: FloatArray, best: float, least: float, below: FloatArray, mass: FloatArray
) -> None:
    """Fill how far points are below the best one, and their mass: none where that is `least`."""
    for k in range(len(found)):
        below[k] = found[k] - best
    exponentials(below, mass)
    for k in range(len(found)):
        mass[k] = 0.0 if below[k] < least else mass[k]


@kernel(makes_arrays=False)
def _stride(width: float, most: int) -> int:
    """Return the largest power of 2 up to `most` that is not above a width in points."""
    stride = 1
    while 2 * stride <= most and 2 * stride <= width:
        stride *= 2
    return stride


@kernel(makes_arrays=False)
def _strides(  # noqa: PLR0917
    n_found: int,
    n_alpha: int,
    n_rate: int,
    points: FloatArray,
    level: FloatArray,
    best: FloatArray,
    strides: tuple[int, int],
    negligible: float,
    apart: float,
    room: FloatArray,
) -> tuple[int, int]:
    """Return how far points may lie apart, from those found on a lattice: never further."""
    n, (p, q) = _whole(n_found), strides
    of_rate, of_alpha = p, q
    rate, alpha, below, mass = points[_AT_RATE, :n], points[_AT_ALPHA, :n], room[0, :n], room[1, :n]
    for d in range(len(best)):
        _weigh_points(level[d, :n], best[d], -negligible, below, mass)
        if apart < BLURRED[1]:  # what the grid cuts off is not smooth: every point
            n_rate_edge, n_alpha_edge, least = 0, 0, 2.0 - negligible
            for k in range(n):
                counts = below[k] > least
                n_rate_edge += counts & ((rate[k] < p) | (rate[k] + p >= n_rate))
                n_alpha_edge += counts & ((alpha[k] < q) | (alpha[k] + q >= n_alpha))
            of_rate, of_alpha = 1 if n_rate_edge else of_rate, 1 if n_alpha_edge else of_alpha
        total, sum_i, sum_j, sum_ii, sum_jj, sum_ij = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for k in range(n):
            i, j = mass[k] * rate[k], mass[k] * alpha[k]
            total += mass[k]
            sum_i += i
            sum_j += j
            sum_ii += i * rate[k]
            sum_jj += j * alpha[k]
            sum_ij += i * alpha[k]
        mean_i, mean_j = sum_i / total, sum_j / total
        var_i = sum_ii / total - mean_i * mean_i
        var_j = sum_jj / total - mean_j * mean_j
        both = sum_ij / total - mean_i * mean_j
        # Widths of one where the other is known: that is what may change from point to point.
        if var_i > 0 and var_j > 0:
            var_i, var_j = var_i - both * both / var_j, var_j - both * both / var_i
        of_rate = min(of_rate, _stride(apart * math.sqrt(max(var_i, 0.0)), p))
        of_alpha = min(of_alpha, _stride(apart * math.sqrt(max(var_j, 0.0)), q))
    return of_rate, of_alpha


@kernel(makes_arrays=False)
def _covariance(  # noqa: PLR0917
    n: int,
    prior: FloatArray,
    totals: FloatArray,
    points: FloatArray,
    room: FloatArray,
    mass: FloatArray,
    beta: FloatArray,
    out: FloatArray,
) -> None:
    """Fill mean and covariance of beta and offset over points whose mass is 1 in all."""
    p12, a22, b2, over_a22 = prior[1], totals[0], totals[1], totals[2]
    s12, over, offset = points[_S12, :n], room[2, :n], room[0, :n]
    mean_beta, mean_offset = 0.0, 0.0
    for k in range(n):
        offset[k] = (b2 - (s12[k] + p12) * beta[k]) * over_a22
    for k in range(n):
        mean_beta += mass[k] * beta[k]
        mean_offset += mass[k] * offset[k]
    c11, c12, c22 = 0.0, 0.0, 0.0
    s11, p11 = points[_S11, :n], prior[0]
    for k in range(n):
        d_beta, d_offset, share = beta[k] - mean_beta, offset[k] - mean_offset, mass[k] * over[k]
        c11 += mass[k] * d_beta * d_beta + share * a22
        c12 += mass[k] * d_beta * d_offset - share * (s12[k] + p12)
        c22 += mass[k] * d_offset * d_offset + share * (s11[k] + p11)
    out[BETA], out[OFFSET] = mean_beta, mean_offset
    out[VAR_BETA], out[COVARIANCE], out[VAR_OFFSET] = c11, c12, c22


@kernel(makes_arrays=False)
def _moments(  # noqa: PLR0917
    n_found: int,
    middle: tuple[float, float],
    prior: FloatArray,
    totals: FloatArray,
    points: FloatArray,
    room: FloatArray,
    force: FloatArray,
    level: FloatArray,
    best: FloatArray,
    out: FloatArray,
) -> None:
    """Fill the columns of out (n_set, N_COLUMN), but the last; level becomes the mass of a point.

    `force` becomes beta there.
    """
    n = _whole(n_found)
    s11, s12, before = points[_S11, :n], points[_S12, :n], points[_PRIOR, :n]
    x, y, at_edge, over = points[_RATE, :n], points[_ALPHA, :n], points[_EDGE, :n], room[2, :n]
    for d in range(len(best)):
        found, beta, mass = level[d, :n], force[d, :n], room[1, :n]
        p11, p12, a22, b2 = prior[d, 0], prior[d, 1], totals[d, 0], totals[d, 1]
        for k in range(n):
            a12 = s12[k] + p12
            over[k] = 1 / ((s11[k] + p11) * a22 - a12 * a12)
        for k in range(n):
            beta[k] = (a22 * beta[k] - (s12[k] + p12) * b2) * over[k]
        highest, at = -np.inf, 0
        for k in range(n_found):
            evidence = found[k] - before[k]
            if evidence > highest:
                highest, at = evidence, k
        out[d, BEST_CHI_SQUARE] = math.log(over[at]) - 2 * highest
        _weigh_points(found, best[d], -_NOTHING, room[0, :n], mass)
        total, rate, rate2, alpha, alpha2, edge = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for k in range(n):
            total += mass[k]
        scale = 1 / total
        for k in range(n):
            found[k] = mass[k] * scale
        for k in range(n):
            of_rate, of_alpha = found[k] * x[k], found[k] * y[k]
            rate += of_rate
            rate2 += of_rate * x[k]
            alpha += of_alpha
            alpha2 += of_alpha * y[k]
            edge += found[k] * at_edge[k]
        _covariance(n, prior[d], totals[d], points, room, found, beta, out[d])
        out[d, LN_RATE], out[d, LN_ALPHA] = middle[0] + rate, middle[1] + alpha
        out[d, LN_RATE_SD] = math.sqrt(max(rate2 - rate * rate, 0.0))
        out[d, LN_ALPHA_SD] = math.sqrt(max(alpha2 - alpha * alpha, 0.0))
        out[d, EDGE_MASS] = edge


@kernel(makes_arrays=False)
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
            share = mass[d, k] * beta[d, k]
            if mass[d, k] > 0:
                curve = curves[index[k]]
                for b in range(min(reach[index[k]], n_bin)):
                    mean[b] += share * curve[b]


@kernel(makes_arrays=False)
def _chi_square(weights: FloatArray, data: FloatArray, curve: FloatArray) -> float:
    total = 0.0
    for b in range(len(data)):
        total += weights[b] * (data[b] - curve[b]) ** 2
    return total


@kernel(makes_arrays=False)
def _find(  # noqa: PLR0917
    i: int,
    j: int,
    k: int,
    ln_rate: FloatArray,
    ln_alpha: FloatArray,
    log_prior: FloatArray,
    at_edge: BoolArray,
    n_alpha: int,
    index: IntArray,
    points: FloatArray,
) -> None:
    """Fill what is known of the point at a place as that of the k-th one."""
    point, middle = i * n_alpha + j, len(ln_rate) // 2
    index[k] = point
    points[_PRIOR, k], points[_EDGE, k] = log_prior[point], at_edge[point]
    points[_RATE, k] = ln_rate[point] - ln_rate[middle]
    points[_ALPHA, k] = ln_alpha[point] - ln_alpha[middle]
    points[_AT_RATE, k], points[_AT_ALPHA, k] = i, j


@kernel(makes_arrays=False)
def _follow(  # noqa: PLR0917
    curves: FloatArray,
    reach: IntArray,
    log_prior: FloatArray,
    ln_rate: FloatArray,
    ln_alpha: FloatArray,
    at_edge: BoolArray,
    n_alpha: int,
    strides: tuple[int, int],
    negligible: float,
    n_found: int,
    is_known: BoolArray,
    index: IntArray,
    weights: FloatArray,
    weighted: FloatArray,
    prior: FloatArray,
    totals: FloatArray,
    points: FloatArray,
    room: FloatArray,
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
        near = room[0, : stop - first]
        near[:] = 0.0
        for d in range(len(best)):
            least = best[d] - max(negligible, share * (best[d] - worst[d]))
            found = level[d, first:stop]
            for k in range(len(found)):
                near[k] = 1.0 if found[k] > least else near[k]
        for k in range(first, stop):
            if near[k - first] == 0.0:
                continue
            i, j = int(points[_AT_RATE, k]), int(points[_AT_ALPHA, k])
            for u in range(max(i - p, i & (p - 1)), min(i + p + 1, n_rate), p):
                for v in range(max(j - q, j & (q - 1)), min(j + q + 1, n_alpha), q):
                    if is_known[u * n_alpha + v]:
                        continue
                    is_known[u * n_alpha + v] = True
                    _find(
                        u, v, n_found, ln_rate, ln_alpha, log_prior, at_edge, n_alpha, index,
                        points,
                    )  # fmt: skip
                    n_found += 1
        _add_up(stop, n_found, index, curves, reach, weights, weighted, points, force)
        _evaluate(stop, n_found, prior, totals, points, room, force, level, best)
        first, stop = stop, n_found
    return n_found


@kernel(makes_arrays=False)
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
    for b in range(n_bin):
        weight[b] = weights[b]
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


@kernel(makes_arrays=False)
def _posterior(  # noqa: PLR0917
    curves: FloatArray,
    reach: IntArray,
    log_prior: FloatArray,
    ln_rate: FloatArray,
    ln_alpha: FloatArray,
    at_edge: BoolArray,
    n_alpha: int,
    weights: FloatArray,
    data: FloatArray,
    prior: FloatArray,
    negligible: float,
    apart: float,
    out: FloatArray,
    means: FloatArray,
    weight: FloatArray,
    weighted: FloatArray,
    is_known: BoolArray,
    index: IntArray,
    points: FloatArray,
    room: FloatArray,
    force: FloatArray,
    level: FloatArray,
    totals: FloatArray,
    extremes: FloatArray,
) -> None:
    """Fill out and means of one item; what comes behind them is memory."""
    n_set, n_bin = data.shape
    n_grid, best, worst = len(log_prior), extremes[0], extremes[1]
    n_rate = n_grid // n_alpha
    n_used = _weigh_data(weights, data, prior, weight, weighted, totals, best)
    used, n_found = weight[:n_used], 0
    for i in range(_FIRST[0], n_rate, _LOOK[0]):
        for j in range(_FIRST[1], n_alpha, _LOOK[1]):
            is_known[i * n_alpha + j] = True
            _find(i, j, n_found, ln_rate, ln_alpha, log_prior, at_edge, n_alpha, index, points)
            n_found += 1
    _add_up(0, n_found, index, curves, reach, used, weighted, points, force)
    _evaluate(0, n_found, prior, totals, points, room, force, level, best)
    for d in range(n_set):
        worst[d] = np.inf
        for k in range(n_found):
            worst[d] = min(worst[d], level[d, k])
    strides = _WIDEST
    while True:
        n_found = _follow(
            curves, reach, log_prior, ln_rate, ln_alpha, at_edge, n_alpha, strides, negligible,
            n_found, is_known, index, used, weighted, prior, totals, points, room, force, level,
            best, worst,
        )  # fmt: skip
        finer = _strides(
            n_found, n_alpha, n_rate, points, level, best, strides, negligible, apart, room
        )
        if finer[0] == strides[0] and finer[1] == strides[1]:
            break
        strides = max(finer[0], strides[0] // 2), max(finer[1], strides[1] // 2)
    middle = ln_rate[n_grid // 2], ln_alpha[n_grid // 2]
    _moments(n_found, middle, prior, totals, points, room, force, level, best, out)
    for d in range(n_set):
        total = 0.0
        for b in range(n_bin):  # and m P m of the prior, which the caller knows
            total += weighted[d, b] * data[d, b]
        out[d, BEST_CHI_SQUARE] += total
    if means.shape[1]:
        _mean_curves(curves, reach, index, n_found, level, force, out, means)
        for d in range(n_set):
            out[d, CHI_SQUARE] = _chi_square(weights, data[d], means[d])
    for k in range(n_found):
        is_known[index[k]] = False


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
    n, n_set, n_bin = data.shape
    n_grid, width = len(log_prior), (n_bin + LANES - 1) // LANES * LANES
    n_point = n_grid + _VECTOR
    weight, weighted = np.zeros(width), np.zeros((n_set, width))
    is_known, index = np.zeros(n_grid, np.bool_), np.empty(n_grid, np.int64)
    points, room = np.zeros((8, n_point)), np.empty((5, n_point))
    force, level = np.zeros((n_set, n_point)), np.empty((n_set, n_point))
    totals, extremes = np.empty((n_set, 3)), np.empty((2, n_set))
    for item in range(n):
        _posterior(
            curves, reach, log_prior, ln_rate, ln_alpha, at_edge, n_alpha, weights[item],
            data[item], priors[item if len(priors) > 1 else 0], negligible, apart, out[item],
            means[item], weight, weighted, is_known, index, points, room, force, level, totals,
            extremes,
        )  # fmt: skip


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


@kernel(makes_arrays=False)
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
