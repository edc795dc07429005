"""Means over cuts of the sums by age and lag bin, their weights, and moments along a curve."""

from __future__ import annotations

import math

import numpy as np

from xpcs_live_denoise.numerics.compiled import kernel
from xpcs_live_denoise.records.types import FloatArray, IntArray

_TOGETHER = 16  # bins that are added up at a time: their totals stay in the cache

# Totals of n bins are one vector: sums, counts, moments of the row, and n_block numbers a bin.


@kernel()
def _add_row(  # noqa: PLR0917
    sums: FloatArray,
    counts: FloatArray,
    left_out: FloatArray,
    row: int,
    first: int,
    share: float,
    middle: float,
    totals: FloatArray,
) -> None:
    """Add a share of one row, bins from `first` on; its middle is that of the share."""
    n_block = left_out.shape[1] // sums.shape[1]
    n = len(totals) // (3 + n_block)
    value, number, moment = totals[:n], totals[n : 2 * n], totals[2 * n : 3 * n]
    of_sums, of_counts = sums[row, first : first + n], counts[row, first : first + n]
    for b in range(n):
        value[b] += share * of_sums[b]
    for b in range(n):
        number[b] += share * of_counts[b]
    middle *= share
    for b in range(n):
        moment[b] += middle * of_counts[b]
    blocks, of_blocks = totals[3 * n :], left_out[row, first * n_block : (first + n) * n_block]
    for k in range(n * n_block):
        blocks[k] += share * of_blocks[k]


@kernel()
def _fill(  # noqa: PLR0917
    cut: int,
    first: int,
    totals: FloatArray,
    number: FloatArray,
    mean: FloatArray,
    mean_left_out: FloatArray,
    moments: FloatArray,
) -> None:
    """Fill bins of one cut from `first` on with means of what was added up."""
    n_block = len(mean_left_out)
    n = len(totals) // (3 + n_block)
    for b in range(n):
        count, at = totals[n + b], first + b
        known = count > 0
        over = 1 / count if known else 0.0
        number[cut, at] = count if known else 0.0
        mean[cut, at] = over * totals[b]
        for k in range(n_block):
            mean_left_out[k, cut, at] = over * totals[3 * n + b * n_block + k]
        if known:
            moments[0, cut] += totals[2 * n + b]
            moments[1, cut] += count


@kernel()
def _add_cuts(  # noqa: PLR0917
    sums: FloatArray,
    counts: FloatArray,
    left_out: FloatArray,
    begin: FloatArray,
    end: FloatArray,
    n_bin: int,
    number: FloatArray,
    mean: FloatArray,
    mean_left_out: FloatArray,
    moments: FloatArray,
) -> None:
    """Add the rows of each cut."""
    n_cut = len(mean)
    totals = np.empty(n_bin * (3 + len(mean_left_out)))
    for cut in range(n_cut):
        x, y = begin[cut, 0], end[cut, 0]
        totals[:] = 0.0
        for row in range(int(x), math.ceil(y)):
            low, high = max(x - row, 0.0), min(y - row, 1.0)
            middle = row + (low + high - 1) / 2
            _add_row(sums, counts, left_out, row, 0, high - low, middle, totals)
        _fill(cut, 0, totals, number, mean, mean_left_out, moments)


@kernel()
def _subtract(  # noqa: PLR0917
    before: FloatArray, x: float, after: FloatArray, y: float, first: int, n: int, out: FloatArray
) -> None:
    """Fill n numbers with what is behind x and before y, from totals before rows and after them."""
    p, q, r, s, to = (
        before[0, first : first + n],
        before[1, first : first + n],
        after[0, first : first + n],
        after[1, first : first + n],
        out[first : first + n],
    )
    for k in range(n):
        to[k] = r[k] + y * (s[k] - r[k]) - p[k] - x * (q[k] - p[k])


@kernel()
def _subtract_cuts(  # noqa: PLR0917
    sums: FloatArray,
    counts: FloatArray,
    left_out: FloatArray,
    begin: FloatArray,
    end: FloatArray,
    low: int,
    high: int,
    n_bin: int,
    number: FloatArray,
    mean: FloatArray,
    mean_left_out: FloatArray,
    moments: FloatArray,
) -> None:
    """Add up all rows once, and take differences."""
    n_cut = len(mean)
    n_block, own = len(mean_left_out), begin.shape[1] > 1
    room = np.zeros((high - low + 2) * _TOGETHER * (3 + n_block))
    for first in range(0, n_bin, _TOGETHER):
        n = min(_TOGETHER, n_bin - first)
        size = n * (3 + n_block)
        totals, of_cut = room[: (high - low + 2) * size].reshape(-1, size), np.empty(size)
        totals[0] = 0.0
        for i in range(high - low):
            totals[i + 1] = totals[i]
            row = low + i
            _add_row(sums, counts, left_out, row, first, 1.0, row, totals[i + 1])
        totals[high - low + 1] = totals[high - low]  # nothing is added behind the last row
        for cut in range(n_cut):
            for b in range(n if own else 1):
                x, y = begin[cut, first + b if own else 0], end[cut, first + b if own else 0]
                i, j = int(x), int(y)
                x, y = x - i, y - j
                before, after = totals[i - low : i - low + 2], totals[j - low : j - low + 2]
                if own:
                    for k in range(3):
                        _subtract(before, x, after, y, k * n + b, 1, of_cut)
                    _subtract(before, x, after, y, 3 * n + b * n_block, n_block, of_cut)
                else:
                    _subtract(before, x, after, y, 0, size, of_cut)
                # Entries of a row have its number as their age, those of a part the middle of it.
                for k in range(b, b + 1 if own else n):
                    of_cut[2 * n + k] -= y * (1 - y) / 2 * (after[1, n + k] - after[0, n + k])
                    of_cut[2 * n + k] += x * (1 - x) / 2 * (before[1, n + k] - before[0, n + k])
            _fill(cut, first, of_cut, number, mean, mean_left_out, moments)


@kernel(
    "void(float64[:, ::1], float32[:, ::1], float32[:, ::1], float64[:, ::1], float64[:, ::1],"
    " int64, int64, int64, float64[:, ::1], float64[:, ::1], float64[:, :, ::1], float64[::1])"
)
def cut_means(  # noqa: PLR0917
    sums: FloatArray,
    counts: FloatArray,
    left_out: FloatArray,
    begin: FloatArray,
    end: FloatArray,
    low: int,
    high: int,
    n_bin: int,
    number: FloatArray,
    mean: FloatArray,
    mean_left_out: FloatArray,
    mean_row: FloatArray,
) -> None:
    """Fill number and mean (n_cut, n_bin), means without a block, and the mean row (n_cut,).

    Only the first `n_bin` bins have entries; the others are 0 before.

    The tables are those of one ROI, `left_out` (n_row, bins n_block); `begin` and `end`, (n_cut,
    n_bin or 1), lie in rows `low` to `high`, and an entry of a row may lie anywhere in it: of a row
    that is cut, a share counts, and its age is the middle of that.
    """
    n_cut, n_rows = len(mean), 0.0
    moments = np.zeros((2, n_cut))
    for cut in range(n_cut):
        n_rows += end[cut, 0] - begin[cut, 0]
    if begin.shape[1] == 1 and n_rows <= 2 * (high - low):  # they share few of their rows
        _add_cuts(sums, counts, left_out, begin, end, n_bin, number, mean, mean_left_out, moments)
    else:
        _subtract_cuts(
            sums, counts, left_out, begin, end, low, high, n_bin, number, mean, mean_left_out,
            moments,
        )  # fmt: skip
    for cut in range(n_cut):
        mean_row[cut] = moments[0, cut] / moments[1, cut] if moments[1, cut] > 0 else np.nan


@kernel(
    "void(float64[:, ::1], float64[:, ::1], float64[:, :, :], float64[::1], float64,"
    " float64[:, ::1])"
)
def weigh(  # noqa: PLR0917
    mean: FloatArray,
    n_entries: FloatArray,
    left_out: FloatArray,
    noise: FloatArray,
    grid_error: float,
    weights: FloatArray,
) -> None:
    """Fill weights (n, n_bin) as `cuts.noise_weights`; left_out (n_block or 0, n, n_bin)."""
    n, n_bin = mean.shape
    n_block = left_out.shape[0]
    for item in range(n):
        if not noise[item] > 0:  # NaN
            weights[item] = 0.0
            continue
        least = (grid_error * mean[item, 0]) ** 2
        ratio, n_used = 0.0, 0
        for b in range(n_bin):
            weight = n_entries[item, b] / noise[item]
            weights[item, b] = weight
            if not weight > 0:
                continue
            n_used += 1
            total, square, first = 0.0, 0.0, 0.0
            for k in range(n_block):
                if k == 0:
                    first = left_out[0, item, b]
                value = left_out[k, item, b] - first
                total += value
                square += value * value
            if n_block:
                ratio += weight * (square - total * total / n_block) * (n_block - 1) / n_block
        inflation = max(ratio / max(n_used, 1), 1.0)
        for b in range(n_bin):
            weight = weights[item, b] / inflation
            weights[item, b] = weight / (1 + weight * least)


@kernel(
    "void(float64[::1], float64[::1], float64[::1], float64[::1], float64, float64[:, :, ::1],"
    " float64[:, ::1], int64[::1])"
)
def near_moments(  # noqa: PLR0917
    age: FloatArray,
    curve_age: FloatArray,
    values: FloatArray,
    weight: FloatArray,
    reach: float,
    matrix: FloatArray,
    vector: FloatArray,
    number: IntArray,
) -> None:
    """Fill the normal equations of a weighted quadratic through the points near each age.

    With x their distance in units of `reach`, up to 1, and weights w whose sum is 1, `matrix`
    (n, 3, 3) is sum(w x^(i + j)) and `vector` (n, 3) sum(w x^i value); `number` (n,) counts them.
    """
    for item in range(len(age)):
        total, n = 0.0, 0
        moments, forces = np.zeros(5), np.zeros(3)
        for k in range(len(curve_age)):
            x = (curve_age[k] - age[item]) / reach
            if not abs(x) <= 1:
                continue
            n += 1
            total += weight[k]
            power = weight[k]
            for i in range(5):
                moments[i] += power
                if i < 3:
                    forces[i] += power * values[k]
                power *= x
        number[item] = n
        scale = 1 / total if total > 0 else 0.0
        for i in range(3):
            vector[item, i] = forces[i] * scale
            for j in range(3):
                matrix[item, i, j] = moments[i + j] * scale
