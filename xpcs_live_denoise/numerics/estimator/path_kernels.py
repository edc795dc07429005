"""The model of a path at all cells at once: what it misses, where it should go, how sure that is.

A cell's S is linear in Gamma of the knots between its two times: what a node has a share in belongs
to all knots before it, so that running sums over nodes give every sum over knots.
"""

from __future__ import annotations

import numpy as np

from xpcs_live_denoise.numerics.compiled import kernel
from xpcs_live_denoise.records.types import FloatArray, IntArray

N_SHARED = 4  # drift, ln alpha, beta and baseline - 1, which all frames share
_LEAST_DECAY = 1e-12
_NOTHING = 1e-20  # of J^T W J: what a cell adds to the inverse variance of ln Gamma of a knot


@kernel()
def _add_products(  # noqa: PLR0917
    both: FloatArray, before: int, after: int, s: float, t: float, v: float
) -> None:
    """Add v times the products of a cell's shares in S at its four nodes."""
    for i in range(4):
        a = before + i if i < 2 else after + i - 2
        at_a = _at_node(i, s, t)
        for j in range(4):
            b = before + j if j < 2 else after + j - 2
            both[a, b] += v * at_a * _at_node(j, s, t)


@kernel()
def _at_node(i: int, s: float, t: float) -> float:
    if i == 0:
        return s - 1
    if i == 1:
        return -s
    return 1 - t if i == 2 else t


@kernel()
def _sum_nodes(
    at: FloatArray, both: FloatArray, rate: FloatArray, downhill: FloatArray, curvature: FloatArray
) -> None:
    """Fill the rows of knots of J^T W residual and J^T W J from what was summed at nodes."""
    n_knot, n_column = len(rate), at.shape[1]
    total, products = np.zeros(n_column), np.zeros(n_knot + 1)
    for k in range(n_knot - 1, -1, -1):
        for i in range(n_column):
            total[i] += at[k + 1, i]
        downhill[k] = rate[k] * total[N_SHARED]
        for i in range(N_SHARED):
            curvature[k, n_knot + i] = rate[k] * total[i]
            curvature[n_knot + i, k] = rate[k] * total[i]
        for b in range(n_knot + 1):
            products[b] += both[k + 1, b]
        running = 0.0
        for b in range(n_knot, 0, -1):
            running += products[b]
            curvature[k, b - 1] = rate[k] * rate[b - 1] * running


@kernel("void(int32[:, ::1], float64[:, ::1], float64[::1], float64[::1])")
def decays(node: IntArray, share: FloatArray, rate: FloatArray, decay: FloatArray) -> None:
    """Fill S of every cell, (n,), from Gamma times frames of each knot."""
    passed = np.zeros(len(rate) + 1)
    for k in range(len(rate)):
        passed[k + 1] = passed[k] + rate[k]
    for c in range(len(decay)):
        before, after = node[0, c], node[1, c]
        begin = passed[before] + share[0, c] * rate[before]
        decay[c] = max(passed[after] + share[1, c] * rate[after] - begin, _LEAST_DECAY)


@kernel(
    "void(int32[:, ::1], float64[:, ::1], float64[::1], float64[::1], float64[:, ::1],"
    " float64[:, ::1], float64[::1], float64[:, ::1])"
)
def normal_equations(  # noqa: PLR0917 (numba knows no keyword-only arguments)
    node: IntArray,
    share: FloatArray,
    weights: FloatArray,
    rate: FloatArray,
    slopes: FloatArray,
    of_shared: FloatArray,
    downhill: FloatArray,
    curvature: FloatArray,
) -> None:
    """Fill J^T W residual (n_knot + 4,) and J^T W J (n_knot + 4, n_knot + 4).

    `slopes` (6, n) are those of the model with respect to S and to the four that all share, and the
    residual; `of_shared` (6, 6) is slopes W slopes^T.
    """
    n_knot, n = len(rate), len(weights)
    at, both = np.zeros((n_knot + 1, 5)), np.zeros((n_knot + 1, n_knot + 1))
    for c in range(n):
        by_decay = slopes[0, c]
        v = weights[c] * by_decay
        if abs(v * by_decay) < _NOTHING:
            continue
        before, after = node[0, c], node[1, c]
        s, t = share[0, c], share[1, c]
        if s == 0 and t == 0:
            for i in range(5):
                y = v * slopes[i + 1, c]
                at[after, i] += y
                at[before, i] -= y
            v *= by_decay
            both[before, before] += v
            both[after, after] += v
            both[before, after] -= v
            both[after, before] -= v
        else:
            for i in range(5):
                y = v * slopes[i + 1, c]
                at[after, i] += y - y * t
                at[before, i] -= y - y * s
                at[after + 1, i] += y * t
                at[before + 1, i] -= y * s
            _add_products(both, before, after, s, t, v * by_decay)
    _sum_nodes(at, both, rate, downhill, curvature)
    for j in range(N_SHARED):
        downhill[n_knot + j] = of_shared[5, j + 1]
        for i in range(N_SHARED):
            curvature[n_knot + i, n_knot + j] = of_shared[i + 1, j + 1]


@kernel(
    "void(int32[:, ::1], float64[:, ::1], float64[::1], float64[::1], float64[:, ::1],"
    " float64[:, ::1], float64[:, ::1])"
)
def project(  # noqa: PLR0917
    node: IntArray,
    share: FloatArray,
    weights: FloatArray,
    rate: FloatArray,
    slopes: FloatArray,
    values: FloatArray,
    projected: FloatArray,
) -> None:
    """Fill projected (m, n_knot + 4) with J^T W values for values (m, n)."""
    n_knot, n, m = len(rate), values.shape[1], values.shape[0]
    at = np.zeros(n_knot + 2)
    for k in range(m):
        at[:], projected[k] = 0.0, 0.0
        shared = projected[k, n_knot:]
        for c in range(n):
            x = weights[c] * values[k, c]
            shared[3] += x * slopes[4, c]
            y = x * slopes[0, c]
            if y == 0:
                continue
            for i in range(3):
                shared[i] += x * slopes[i + 1, c]
            before, after, s, t = node[0, c], node[1, c], share[0, c], share[1, c]
            at[after] += y - y * t
            at[after + 1] += y * t
            at[before] -= y - y * s
            at[before + 1] -= y * s
        total = 0.0
        for b in range(n_knot - 1, -1, -1):
            total += at[b + 1]
            projected[k, b] = rate[b] * total


@kernel()
def _open(row: FloatArray, stiffness: FloatArray, precision: FloatArray) -> float:
    n_knot = len(stiffness) + 1
    total, mean = 0.0, 0.0
    for k in range(n_knot - 1):
        change = row[k + 1] - row[k]
        total += stiffness[k] * change * change
    for k in range(n_knot):
        mean += row[k]
    total += precision[0] * (mean / n_knot) ** 2
    for k in range(N_SHARED):
        total += precision[k + 1] * row[n_knot + k] ** 2
    return total


@kernel("float64(float64[:, ::1], float64[::1], float64[::1], float64[::1])")
def open_variance(
    inverse: FloatArray, stiffness: FloatArray, precision: FloatArray, variance: FloatArray
) -> float:
    """Fill variance with r^T P r for each row r of the inverse curvature, P that of the prior.

    `stiffness` (n_knot - 1,) is that of increments, `precision` (5,) of the mean and of what is
    shared. Returns the same for the mean of the knots' rows. The upper half of the inverse must be
    there; the lower one is filled.
    """
    n_knot = len(stiffness) + 1
    for i in range(len(inverse)):
        for j in range(i):
            inverse[i, j] = inverse[j, i]
    of_mean = np.zeros(len(inverse))
    for i in range(len(inverse)):
        variance[i] = _open(inverse[i], stiffness, precision)
        if i < n_knot:
            of_mean += inverse[i]
    return _open(of_mean / n_knot, stiffness, precision)
