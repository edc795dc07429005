"""The model of a path at all cells at once: what it misses, where it should go, how sure that is.

A cell's S is linear in Gamma of the knots between its two times: what a node has a share in belongs
to all knots before it, so that running sums over nodes give every sum over knots. All rows of a lag
bin lie alike over the nodes, so that a bin is a few sums of vectors.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np

from xpcs_live_denoise.numerics.compiled import kernel
from xpcs_live_denoise.records.types import FloatArray, IntArray

from .algebra_kernels import TILE, factorise, invert, mean_of, solve_mean, spread_mean
from .power_kernels import exponentials, logarithms

# Of `PathCells`: node, share, row, at, place, value; the weight of each cell; frames of a knot.
Cells: TypeAlias = tuple[
    IntArray, FloatArray, IntArray, IntArray, FloatArray, FloatArray, FloatArray, int
]

# Of `_memory`.
Memory: TypeAlias = tuple[FloatArray, FloatArray, FloatArray, FloatArray]

N_SHARED = 4  # drift, ln alpha, beta and baseline - 1, which all frames share
_LEAST_DECAY = 1e-12
_HIGHEST = 20.0  # logarithm that is raised to a power: a step on the way may go far
_GONE = 32.0  # 2 S^alpha from which on nothing of the contrast is left
# What a cell, or an entry of J^T W J, may add to an inverse variance of ln Gamma and be left out.
_NOTHING = 1e-12
_LOOK = 8  # entries of a row of J^T W J of which one tells whether that is so
PAD = 32  # lines are done as if they had a multiple of so many cells: others weigh nothing

# --- the model ---------------------------------------------------------------------------------

# Rows of slopes (6, n): of the model with S and with what all share, then value less model.
_BY_DECAY, _BY_DRIFT, _BY_ALPHA, _BY_BETA, _BY_BASELINE, _RESIDUAL = range(6)


@kernel(makes_arrays=False)
def _cell_slopes(  # noqa: PLR0917 (numba knows no keyword-only arguments)
    k: int,
    m: int,
    s: float,
    t: float,
    place: FloatArray,
    passed: FloatArray,
    slowest: float,
    shared: FloatArray,
    slopes: FloatArray,
    room: FloatArray,
) -> bool:
    """Fill slopes of the model, and S in room[0], for n rows of a bin; k and m are nodes of row 0.

    `place` is that of the n rows, `passed` S up to each node, `slowest` the least S of a knot.
    Returns whether any contrast is left at these lags.
    """
    n, alpha, beta = len(place), math.exp(min(shared[1], _HIGHEST)), shared[2]
    decay, power, curve, x = room[0, :n], room[1, :n], room[2, :n], room[3, :n]
    slopes[_BY_BASELINE] = 1.0
    least = max(slowest * (m + t - k - s), _LEAST_DECAY)
    if 2 * math.exp(min(alpha * math.log(least), _HIGHEST)) > _GONE:
        slopes[:_BY_BASELINE] = 0.0
        return False
    begin, end = passed[k : k + n + 1], passed[m : m + n + 1]
    of_decay, of_drift, of_alpha, of_beta = (
        slopes[_BY_DECAY, :n],
        slopes[_BY_DRIFT, :n],
        slopes[_BY_ALPHA, :n],
        slopes[_BY_BETA, :n],
    )
    for i in range(n):
        decay[i] = (1 - t) * end[i] + t * end[i + 1] - (1 - s) * begin[i] - s * begin[i + 1]
    for i in range(n):
        decay[i] = max(decay[i], _LEAST_DECAY)
    logarithms(decay, power, x, of_alpha)
    for i in range(n):
        x[i] = min(alpha * of_alpha[i], _HIGHEST)
    exponentials(x, power)
    for i in range(n):
        x[i] = -2 * power[i]
    exponentials(x, curve)
    # One row at a time: with more of them the compiler does not see that they are apart.
    for i in range(n):
        of_beta[i] = (1 + shared[0] * place[i]) * curve[i]
    for i in range(n):
        of_drift[i] = beta * place[i] * curve[i]
    for i in range(n):
        power[i] *= -2 * alpha * beta * of_beta[i]
    for i in range(n):
        of_alpha[i] *= power[i]
    for i in range(n):
        of_decay[i] = power[i] / decay[i]
    return True


@kernel(makes_arrays=False)
def _add_shared(to: FloatArray, w: FloatArray, slopes: FloatArray, x: FloatArray) -> None:
    """Add slopes W slopes^T of what all share, and of the residual: (5, 5), its lower half."""
    n = len(w)
    for i in range(N_SHARED + 1):
        for c in range(n):
            x[c] = w[c] * slopes[i + 1, c]
        for j in range(i + 1):
            total = 0.0
            for c in range(n):
                total += x[c] * slopes[j + 1, c]
            to[i, j] += total


@kernel(makes_arrays=False)
def _add_baseline(to: FloatArray, w: FloatArray, slopes: FloatArray) -> None:
    """Add the same where no contrast is left."""
    one, first, second = 0.0, 0.0, 0.0
    for c in range(len(w)):
        x = w[c] * slopes[_RESIDUAL, c]
        one += w[c]
        first += x
        second += x * slopes[_RESIDUAL, c]
    to[3, 3] += one
    to[4, 3] += first
    to[4, 4] += second


@kernel(makes_arrays=False)
def _add(to: FloatArray, first: int, values: FloatArray, factor: float) -> None:
    part = to[first : first + len(values)]  # an index that may be negative makes no vectors
    for i in range(len(values)):
        part[i] += factor * values[i]


@kernel(makes_arrays=False)
def _add_at_nodes(  # noqa: PLR0917
    to: FloatArray, k: int, m: int, s: float, t: float, values: FloatArray
) -> None:
    """Add what cells have at the nodes of their two times, k and m for the first row."""
    _add(to, k, values, s - 1)
    _add(to, m, values, 1 - t)
    if s:
        _add(to, k + 1, values, -s)
    if t:
        _add(to, m + 1, values, t)


@kernel(makes_arrays=False)
def _add_pair(pairs: FloatArray, a: int, b: int, values: FloatArray, factor: float) -> None:
    """Add products of the shares at nodes a and b of the first row; `pairs` are (b - a, a)."""
    if factor and a != b:
        _add(pairs[abs(b - a)], min(a, b), values, factor)


@kernel(makes_arrays=False)
def _add_products(  # noqa: PLR0917
    pairs: FloatArray, k: int, m: int, s: float, t: float, values: FloatArray
) -> None:
    """Add minus the products of shares of every two of a cell's four nodes."""
    _add_pair(pairs, k, m, values, (1 - s) * (1 - t))
    _add_pair(pairs, k, m + 1, values, (1 - s) * t)
    _add_pair(pairs, k + 1, m, values, s * (1 - t))
    _add_pair(pairs, k + 1, m + 1, values, s * t)
    _add_pair(pairs, k, k + 1, values, -(1 - s) * s)
    _add_pair(pairs, m, m + 1, values, -(1 - t) * t)


@kernel(makes_arrays=False)
def _pass(state: FloatArray, step: int, rate: FloatArray, passed: FloatArray) -> float:
    """Fill Gamma times frames of each knot, and S up to each node and beyond; the least S."""
    passed[0], least = 0.0, np.inf
    for k in range(len(rate)):
        rate[k] = math.exp(min(state[k], _HIGHEST)) * step
        passed[k + 1] = passed[k] + rate[k]
        least = min(least, rate[k])
    for k in range(len(rate) + 1, len(passed)):
        passed[k] = passed[len(rate)]
    return least


@kernel(makes_arrays=False)
def _sum_knots(at: FloatArray, rate: FloatArray, to: FloatArray) -> None:
    """Fill what knots have of what stands at nodes: the sum over all nodes behind each."""
    total = 0.0
    for k in range(len(rate) - 1, -1, -1):
        total += at[k + 1]
        to[k] = rate[k] * total


@kernel(makes_arrays=False)
def _sum_pairs(  # noqa: PLR0917
    pairs: FloatArray,
    widest: int,
    rate: FloatArray,
    band: FloatArray,
    first: IntArray,
    of_node: FloatArray,
    of_row: FloatArray,
) -> None:
    """Fill J^T W J of knots, band[d, k] its entry (k, k - d), where k - d >= first[k].

    An entry (k, j), j <= k, is the sum over the pairs of nodes a <= j and b > k. `pairs` are 0
    then. What comes last is memory.
    """
    n_knot = len(rate)
    of_node[:], of_row[:], first[:n_knot] = 0.0, 0.0, -1
    for d in range(min(widest, n_knot) - 1, -1, -1):
        some, row, column, later = pairs[d + 1], band[d, d:], of_row[d:], rate[d:]
        for a in range(n_knot - d):
            of_node[a] += some[a]
        some[:] = 0.0
        for a in range(n_knot - d):
            column[a] += of_node[a]
        for a in range(n_knot - d):
            row[a] = later[a] * rate[a] * column[a]
        if d % _LOOK == 0:
            for a in range(n_knot - d):
                if first[d + a] < 0 and row[a] > _NOTHING:
                    first[d + a] = max(a - _LOOK + 1, d + a - widest + 1, 0)
    for k in range(n_knot):
        first[k] = k if first[k] < 0 else first[k]


@kernel(makes_arrays=False)
def _line(values: FloatArray, first: int, n: int, out: FloatArray, padded: int) -> None:
    """Fill out with n values from the first one on, and zeros up to the padded number."""
    some = values[first : first + n]
    for i in range(n):
        out[i] = some[i]
    for i in range(n, padded):
        out[i] = 0.0


@kernel()
def _memory(n_knot: int, n_row: int) -> Memory:
    """Return what an evaluation needs: what knots have, nodes, rows of a line and their slopes."""
    knots, nodes = np.zeros((3, n_knot + 1)), np.zeros((6, n_knot + 2 + PAD))
    return knots, nodes, np.zeros((8, n_row + 2 * PAD)), np.zeros((6, n_row + 2 * PAD))


@kernel(makes_arrays=False)
def _evaluate(  # noqa: PLR0917
    cells: Cells,
    state: FloatArray,
    memory: Memory,
    of_shared: FloatArray,
    pairs: FloatArray,
    downhill: FloatArray,
    band: FloatArray,
    border: FloatArray,
    first: IntArray,
) -> float:
    """Fill J^T W residual and the lower half of J^T W J; return half of chi-square.

    `band` (n_knot, n_knot) and `first` (n_knot,) are those of `_sum_pairs`, `border` (4, n_knot +
    4) is what all share. `pairs` (n_knot + 2, n_knot + 2 and PAD) are 0 before and after.
    """
    node, share, row, at, place, value, weight, step = cells
    knots, nodes, lines, slopes = memory
    n_knot = len(state) - N_SHARED
    shared, rate, passed, at_node = state[n_knot:], knots[0, :n_knot], nodes[0], nodes[1:]
    slowest, widest = _pass(state, step, rate, passed), 0
    at_node[:], of_shared[:] = 0.0, 0.0
    places = lines[7]
    _line(place, 0, len(place), places, len(place) + PAD)
    for b in range(len(row)):
        n, low = at[b + 1] - at[b], row[b]
        m = (n + PAD - 1) // PAD * PAD
        s, t, k, j = share[0, b], share[1, b], node[0, b] + low, node[1, b] + low
        x, v, w, data, here = lines[1, :m], lines[4, :m], lines[5, :m], lines[6, :m], places[low:]
        _line(weight, at[b], n, w, m)
        _line(value, at[b], n, data, m)
        left = _cell_slopes(k, j, s, t, here[:m], passed, slowest, shared, slopes, lines)
        residual, by_decay, decay = slopes[_RESIDUAL, :m], slopes[_BY_DECAY, :m], lines[0, :m]
        by_beta = slopes[_BY_BETA, :m]
        for i in range(m):
            residual[i] = data[i] - (shared[3] + shared[2] * by_beta[i])
        if not left:
            _add_baseline(of_shared, w, slopes)
            continue
        _add_shared(of_shared, w, slopes, x)
        total = 0.0
        for i in range(m):
            v[i] = w[i] * by_decay[i]
        for i in range(m):
            total += v[i] * by_decay[i] * decay[i] ** 2
        if total < _NOTHING:
            continue
        for q in range(N_SHARED + 1):
            slope = slopes[q + 1, :m]
            for i in range(m):
                x[i] = v[i] * slope[i]
            _add_at_nodes(at_node[q], k, j, s, t, x)
        for i in range(m):
            x[i] = v[i] * by_decay[i]
        _add_products(pairs, k, j, s, t, x)
        widest = max(widest, j - k + 1)
    _sum_knots(at_node[N_SHARED], rate, downhill)
    _sum_pairs(pairs, widest, rate, band, first, knots[1], knots[2])
    for q in range(N_SHARED):
        _sum_knots(at_node[q], rate, border[q])
        downhill[n_knot + q] = of_shared[N_SHARED, q]
        for i in range(N_SHARED):
            border[i, n_knot + q] = of_shared[max(i, q), min(i, q)]
    return of_shared[N_SHARED, N_SHARED] / 2


# --- the prior ---------------------------------------------------------------------------------


@kernel(makes_arrays=False)
def _stiffness(state: FloatArray, nu: float, lam: float, stiffness: FloatArray) -> None:
    """Fill the second derivatives of the prior with respect to the increments, (n_knot - 1,)."""
    for k in range(len(stiffness)):
        change = state[k + 1] - state[k]
        stiffness[k] = lam * (nu + 1) / (nu + lam * change * change)


@kernel(makes_arrays=False)
def _of_prior(
    state: FloatArray, nu: float, lam: float, centre: FloatArray, precision: FloatArray
) -> float:
    """Return -ln of the probability of a state before the data, up to a constant."""
    n_knot, total = len(state) - N_SHARED, 0.0
    for k in range(n_knot - 1):
        change = state[k + 1] - state[k]
        total += math.log1p(lam * change * change / nu)
    total *= (nu + 1) / 2
    far = mean_of(state[:n_knot]) - centre[0]
    total += precision[0] * far * far / 2
    for i in range(N_SHARED):
        far = state[n_knot + i] - centre[i + 1]
        total += precision[i + 1] * far * far / 2
    return total


@kernel(makes_arrays=False)
def _assemble(  # noqa: PLR0917
    band: FloatArray,
    border: FloatArray,
    first: IntArray,
    stiffness: FloatArray,
    precision: FloatArray,
    damping: float,
    matrix: FloatArray,
    begin: IntArray,
) -> None:
    """Fill matrix, its lower half, with J^T W J, the prior and damping, and `begin` of each row.

    The prior of the mean of knots, which would fill the matrix, stands at the one in the middle:
    `solve_mean` puts that right. Without damping all of a row before `begin` is 0.
    """
    n_knot, n = len(band), len(matrix)
    last = n_knot + N_SHARED
    for i in range(0, n, TILE):
        least = 0 if i + TILE > n_knot else first[i]
        for k in range(i, min(i + TILE, n_knot)):
            least = min(least, first[k], max(k - 1, 0))
        begin[i : i + TILE] = least // TILE * TILE
    spread = precision[0] / n_knot**2
    for k in range(n):
        row = matrix[k, : k + 1]
        row[begin[k] if damping else 0 :] = 0.0
        if k < n_knot:
            for j in range(first[k], k + 1):
                row[j] = band[k - j, k]
            row[k] += stiffness[k - 1] if k else 0.0
            row[k] += stiffness[k] if k < n_knot - 1 else 0.0
            row[k] += damping * (row[k] + spread)
            if k:
                row[k - 1] -= stiffness[k - 1]
        elif k < last:
            for j in range(k + 1):
                row[j] = border[k - n_knot, j]
            row[k] = (row[k] + precision[k - n_knot + 1]) * (1 + damping)
        else:
            row[k] = 1.0
    matrix[n_knot // 2, n_knot // 2] += precision[0]


# --- the most probable path --------------------------------------------------------------------

_ENOUGH = 0.02  # a step that explains no more than this, in ln probability, is the last
_LONGEST_STEP = 2.0  # in ln Gamma and ln alpha
_FIRST_DAMPING, _DAMPING_FACTOR, _LEAST_DAMPING, _MOST_DAMPING = 1e-3, 8.0, 1e-7, 1e8
_CELLS = (
    "Tuple((int64[:, ::1], float64[:, ::1], int64[::1], int64[::1], float64[::1], float64[::1],"
    " float64[::1], int64))"
)


@kernel(makes_arrays=False)
def _uphill(  # noqa: PLR0917
    state: FloatArray,
    stiffness: FloatArray,
    centre: FloatArray,
    precision: FloatArray,
    downhill: FloatArray,
    step: FloatArray,
) -> None:
    """Fill step with the gradient of ln probability: that of the data less that of the prior."""
    n_knot = len(state) - N_SHARED
    level = precision[0] * (mean_of(state[:n_knot]) - centre[0]) / n_knot
    step[:] = 0.0
    for k in range(n_knot):
        step[k] += downhill[k] - level
    for k in range(n_knot - 1):
        pull = stiffness[k] * (state[k + 1] - state[k])
        step[k] += pull
        step[k + 1] -= pull
    for i in range(N_SHARED):
        far = state[n_knot + i] - centre[i + 1]
        step[n_knot + i] = downhill[n_knot + i] - precision[i + 1] * far


@kernel(makes_arrays=False)
def _copy(values: FloatArray, to: FloatArray) -> None:
    for i in range(len(values)):
        to[i] = values[i]


@kernel(makes_arrays=False)
def _search(  # noqa: PLR0917
    cells: Cells,
    nu: float,
    lam: float,
    centre: FloatArray,
    precision: FloatArray,
    iterations: int,
    state: FloatArray,
    before: FloatArray,
    pairs: FloatArray,
    bands: FloatArray,
    borders: FloatArray,
    firsts: IntArray,
    downhills: FloatArray,
    costs: FloatArray,
    known: int,
    matrix: FloatArray,
    result: FloatArray,
    memory: Memory,
    small: FloatArray,
    vectors: FloatArray,
    begin: IntArray,
) -> int:
    """Do what `solve` says; the last ones are memory."""
    n_state = len(state)
    n_knot, n, now = n_state - N_SHARED, len(matrix), 0 if known < 0 else 1 - known
    stiffness, step, trial = vectors[0, : n_knot - 1], vectors[1, :n], vectors[2, :n_state]
    inverse, solved, tile, of_shared = vectors[3, :n], vectors[4:, :n], small[:4, :4], small[4:]
    cost, gain, damping, last, done = np.inf, np.inf, _FIRST_DAMPING, 0, 0
    _copy(state, trial)
    _copy(state, before)
    while True:
        if done or known < 0:
            costs[1 - now] = _evaluate(
                cells, trial, memory, of_shared, pairs, downhills[1 - now], bands[1 - now],
                borders[1 - now], firsts[1 - now],
            )  # fmt: skip
        new = _of_prior(trial, nu, lam, centre, precision) + costs[1 - now]
        if new <= cost or not done:
            cost, gain, now = new, cost - new, 1 - now
            _copy(trial, state)
            damping = max(damping / _DAMPING_FACTOR, _LEAST_DAMPING) if done else damping
            if done == iterations or gain < _ENOUGH:  # the curvature has not changed either
                last = now if not done else 1 - now
                break
            _copy(state, before)
            done += 1
            _stiffness(state, nu, lam, stiffness)
        else:
            damping *= _DAMPING_FACTOR
            if not damping < _MOST_DAMPING:
                last, gain = now, 0.0
                break
        _assemble(
            bands[now], borders[now], firsts[now], stiffness, precision, damping, matrix, begin
        )
        if not factorise(matrix, begin, tile, inverse):
            return -1
        _uphill(state, stiffness, centre, precision, downhills[now], step)
        solve_mean(matrix, begin, n_knot, precision[0], step, solved)
        longest = 0.0
        for i in range(n_state - 2):
            longest = max(longest, abs(step[i]))
        factor = _LONGEST_STEP / longest if longest > _LONGEST_STEP else 1.0
        for i in range(n_state):
            trial[i] = state[i] + factor * step[i]
    _stiffness(before, nu, lam, stiffness)
    _assemble(bands[last], borders[last], firsts[last], stiffness, precision, 0.0, matrix, begin)
    if not factorise(matrix, begin, tile, inverse):
        return -1
    volume = solve_mean(matrix, begin, n_knot, precision[0], step, solved) / 2
    for i in range(n):
        volume += math.log(matrix[i, i])
    result[0], result[1], result[2] = cost, gain, volume
    return now


@kernel(
    f"int64({_CELLS}, float64, float64, float64[::1], float64[::1], int64, float64[::1],"
    " float64[::1], float64[:, ::1], float64[:, :, ::1], float64[:, :, ::1], int64[:, ::1],"
    " float64[:, ::1], float64[::1], int64, float64[:, ::1], float64[::1])"
)
def solve(  # noqa: PLR0917
    cells: Cells,
    nu: float,
    lam: float,
    centre: FloatArray,
    precision: FloatArray,
    iterations: int,
    state: FloatArray,
    before: FloatArray,
    pairs: FloatArray,
    bands: FloatArray,
    borders: FloatArray,
    firsts: IntArray,
    downhills: FloatArray,
    costs: FloatArray,
    known: int,
    matrix: FloatArray,
    result: FloatArray,
) -> int:
    """Find the most probable path by Gauss-Newton steps with Levenberg's damping.

    `state` is where it begins, and ends; `before` where the last step began, and `result` becomes
    -ln probability at the end, what the last step gained of it, and half of ln det of the curvature
    where that began. Room: `pairs` (n_knot + 2, n_knot + 2 + PAD), all 0, `matrix` (n, n), n a
    multiple of 4 from n_knot + 4 on, and `bands` (2, n_knot, n_knot), `borders`, `firsts`,
    `downhills` and `costs`, what `_evaluate` tells of two states. One of these belongs to the end:
    which, is returned, and -1 where the curvature is not positive definite. `known` is what the
    search that ended at this state, with the same cells and weights, has returned; -1 without one.
    """
    n, n_knot = len(matrix), len(state) - N_SHARED
    memory, small = _memory(n_knot, len(cells[4])), np.zeros((4 + N_SHARED + 1, N_SHARED + 1))
    vectors, begin = np.empty((7, n)), np.empty(n, np.int64)
    return _search(
        cells, nu, lam, centre, precision, iterations, state, before, pairs, bands, borders,
        firsts, downhills, costs, known, matrix, result, memory, small, vectors, begin,
    )  # fmt: skip


# --- its errors --------------------------------------------------------------------------------


@kernel(makes_arrays=False)
def _project(  # noqa: PLR0917
    cells: Cells,
    state: FloatArray,
    values: FloatArray,
    projected: FloatArray,
    residual: FloatArray,
    memory: Memory,
    at_nodes: FloatArray,
) -> None:
    """Do what `project` says; the last ones are memory, `at_nodes` 0."""
    node, share, row, at, place, value, weight, step = cells
    knots, nodes, lines, slopes = memory
    n_knot = len(state) - N_SHARED
    shared, rate, passed = state[n_knot:], knots[0, :n_knot], nodes[0]
    slowest = _pass(state, step, rate, passed)
    projected[:] = 0.0
    places = lines[7]
    _line(place, 0, len(place), places, len(place) + PAD)
    for b in range(len(row)):
        n, low = at[b + 1] - at[b], row[b]
        m = (n + PAD - 1) // PAD * PAD
        s, t, k, j = share[0, b], share[1, b], node[0, b] + low, node[1, b] + low
        x, w, rest, here = lines[1, :m], lines[5, :m], residual[at[b] :][:n], places[low:]
        left = _cell_slopes(k, j, s, t, here[:m], passed, slowest, shared, slopes, lines)
        _line(weight, at[b], n, w, m)
        by_beta, by_decay = slopes[_BY_BETA, :m], slopes[_BY_DECAY, :m]
        for i in range(n):
            model = shared[3] + shared[2] * by_beta[i]
            rest[i] = value[at[b] + i] - model if w[i] > 0 else 0.0
        for one in range(len(values)):
            _line(values[one], at[b], n, x, m)
            for i in range(m):
                x[i] *= w[i]
            for q in range(N_SHARED):
                total, slope = 0.0, slopes[q + 1, :m]
                for i in range(m):
                    total += x[i] * slope[i]
                projected[one, n_knot + q] += total
            if left:
                for i in range(m):
                    x[i] *= by_decay[i]
                _add_at_nodes(at_nodes[one], k, j, s, t, x)
    for one in range(len(values)):
        _sum_knots(at_nodes[one], rate, projected[one])


@kernel(f"void({_CELLS}, float64[::1], float64[:, ::1], float64[:, ::1], float64[::1])")
def project(
    cells: Cells,
    state: FloatArray,
    values: FloatArray,
    projected: FloatArray,
    residual: FloatArray,
) -> None:
    """Fill projected (m, n_knot + 4) with J^T W values for values (m, n).

    `residual` (n,) becomes value less model, 0 where a gap leaves no cell.
    """
    n_knot = len(state) - N_SHARED
    memory, at_nodes = (
        _memory(n_knot, len(cells[4])),
        np.zeros((len(values), n_knot + 2 + PAD)),
    )
    _project(cells, state, values, projected, residual, memory, at_nodes)


@kernel(makes_arrays=False)
def _open(row: FloatArray, stiffness: FloatArray, precision: FloatArray) -> float:
    n_knot = len(stiffness) + 1
    later, total, mean = row[1:n_knot], 0.0, 0.0
    for k in range(n_knot - 1):
        change = later[k] - row[k]
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
    shared. Returns the same for the mean of the knots' rows.
    """
    n_knot = len(stiffness) + 1
    of_mean = np.zeros(len(inverse))
    for i in range(len(inverse)):
        variance[i] = _open(inverse[i], stiffness, precision)
        if i < n_knot:
            of_mean += inverse[i]
    return _open(of_mean / n_knot, stiffness, precision)


@kernel(makes_arrays=False)
def _jackknife(values: FloatArray) -> float:
    n, mean, total = len(values), mean_of(values), 0.0
    for k in range(n):
        total += (values[k] - mean) ** 2
    return (n - 1) / n * total


@kernel(makes_arrays=False)
def _shift(inverse: FloatArray, projected: FloatArray, shifts: FloatArray) -> None:
    """Fill how far blocks move each number of a state, and behind them the mean of the knots."""
    n_state, m = len(inverse), len(projected)
    for i in range(n_state):
        row = inverse[i]
        for one in range(m):
            total, some = 0.0, projected[one]
            for j in range(n_state):
                total += some[j] * row[j]
            shifts[i, one] = total
            if i < n_state - N_SHARED:
                shifts[n_state, one] += total / (n_state - N_SHARED)


@kernel(
    f"void({_CELLS}, float64[::1], float64[::1], float64[::1], float64[:, ::1], float64[:, ::1],"
    " float64[:, ::1], float64[::1])"
)
def variances(  # noqa: PLR0917
    cells: Cells,
    state: FloatArray,
    stiffness: FloatArray,
    precision: FloatArray,
    factor: FloatArray,
    left_out: FloatArray,
    variance: FloatArray,
    of_mean: FloatArray,
) -> None:
    """Fill variance (3, n_knot + 4) and of_mean (3,), that of the mean of the knots.

    From independent entries, from pixel blocks (`left_out`, (m, n); without any, the same again),
    and what the prior leaves open. `factor` is that which `solve` leaves for this state.
    """
    n_state = len(state)
    n_knot = n_state - N_SHARED
    inverse, n = np.empty((n_state, n_state)), len(factor)
    invert(factor, inverse, np.empty((TILE, TILE)), np.zeros((n, n)))
    spread_mean(inverse, n_knot, precision[0])
    white, jackknife, prior = variance[0], variance[1], variance[2]
    of_mean[2] = open_variance(inverse, stiffness, precision, prior)
    total = 0.0
    for i in range(n_knot):
        total += mean_of(inverse[i, :n_knot])
    of_mean[0] = total / n_knot - of_mean[2]
    for i in range(n_state):
        white[i] = inverse[i, i] - prior[i]
    jackknife[:], of_mean[1] = white, of_mean[0]
    if not len(left_out):
        return
    m = len(left_out)
    projected, residual = np.empty((m, n_state)), np.empty(left_out.shape[1])
    project(cells, state, left_out, projected, residual)
    shifts = np.zeros((n_state + 1, m))
    _shift(inverse, projected, shifts)
    for i in range(n_state):
        jackknife[i] = _jackknife(shifts[i])
    of_mean[1] = _jackknife(shifts[n_state])


@kernel(
    "void(float64[::1], float64[::1], float64[:, ::1], int64[::1], int64[::1], float64[:, ::1])",
    makes_arrays=False,
)
def stack(  # noqa: PLR0917
    weights: FloatArray,
    residual: FloatArray,
    left_out: FloatArray,
    at: IntArray,
    bins: IntArray,
    of_bin: FloatArray,
) -> None:
    """Add to of_bin (2 + n_block, n_bin) the weights of the cells of each lag bin.

    And these times the residuals, and times those without each block.
    """
    for line in range(len(bins)):
        first, stop, b = at[line], at[line + 1], bins[line]
        w, rest = weights[first:stop], residual[first:stop]
        total, of_rest = 0.0, 0.0
        for i in range(len(w)):
            total += w[i]
            of_rest += w[i] * rest[i]
        of_bin[0, b] += total
        of_bin[1, b] += of_rest
        for one in range(len(left_out)):
            some, more = left_out[one, first:stop], 0.0
            for i in range(len(w)):
                more += w[i] * some[i]
            of_bin[2 + one, b] += of_rest + more
