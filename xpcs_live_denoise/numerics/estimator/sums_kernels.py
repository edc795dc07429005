"""Means over cuts of the sums by age and lag bin, their weights, and moments along a curve."""

from __future__ import annotations

import numpy as np

from xpcs_live_denoise.numerics.compiled import kernel
from xpcs_live_denoise.records.types import FloatArray, IntArray

_TOGETHER = 16  # bins that are added up at a time: their totals stay in the cache


@kernel()
def _totals(  # noqa: PLR0917
    sums: FloatArray,
    counts: FloatArray,
    left_out: FloatArray,
    low: int,
    first: int,
    n_bin: int,
    totals: FloatArray,
) -> None:
    """Fill what stands before each row from `low` on: sums, counts, moments and blocks."""
    n_block = left_out.shape[2]
    totals[0] = 0.0
    for i in range(len(totals) - 1):
        row = low + i
        for b in range(n_bin):
            before, after = totals[i, b], totals[i + 1, b]
            count = counts[row, first + b]
            after[0] = before[0] + sums[row, first + b]
            after[1] = before[1] + count
            after[2] = before[2] + count * row
            for k in range(n_block):
                after[3 + k] = before[3 + k] + left_out[row, first + b, k]


@kernel(
    "void(float64[:, ::1], float32[:, ::1], float32[:, :, ::1], float64[:, ::1], float64[:, ::1],"
    " int64, int64, float64[:, ::1], float64[:, ::1], float64[:, :, ::1], float64[::1])"
)
def cut_means(  # noqa: PLR0917
    sums: FloatArray,
    counts: FloatArray,
    left_out: FloatArray,
    begin: FloatArray,
    end: FloatArray,
    low: int,
    high: int,
    number: FloatArray,
    mean: FloatArray,
    mean_left_out: FloatArray,
    mean_row: FloatArray,
) -> None:
    """Fill number and mean (n_cut, n_bin), means without a block, and the mean row (n_cut,).

    The tables are those of one ROI; `begin` and `end`, (n_cut, n_bin or 1), lie in rows `low` to
    `high`, and an entry of a row may lie anywhere in it: of a row that is cut, a share counts.
    """
    n_cut, n_bin = mean.shape
    n_block, own = left_out.shape[2], begin.shape[1] > 1
    totals = np.empty((high - low + 1, _TOGETHER, 3 + n_block))
    entries = np.zeros(n_cut)
    mean_row[:] = 0.0
    for first in range(0, n_bin, _TOGETHER):
        n = min(_TOGETHER, n_bin - first)
        _totals(sums, counts, left_out, low, first, n, totals)
        for cut in range(n_cut):
            for b in range(n):
                at = first + b
                x, y = begin[cut, at if own else 0] - low, end[cut, at if own else 0] - low
                i, j = int(x), int(y)
                x, y = x - i, y - j
                of_begin, of_end = totals[i, b], totals[j, b]
                after_begin = totals[i + 1, b] if x > 0 else of_begin
                after_end = totals[j + 1, b] if y > 0 else of_end
                before = of_begin[1] + x * (after_begin[1] - of_begin[1])
                count = of_end[1] + y * (after_end[1] - of_end[1]) - before
                number[cut, at] = count
                if not count > 0:
                    number[cut, at] = mean[cut, at] = 0.0
                    for k in range(n_block):
                        mean_left_out[k, cut, at] = 0.0
                    continue
                before = of_begin[0] + x * (after_begin[0] - of_begin[0])
                value = of_end[0] + y * (after_end[0] - of_end[0])
                mean[cut, at] = (value - before) / count
                # Entries of a row have its number as their age, those of a part the middle of that.
                moment = of_end[2] - of_begin[2]
                moment -= x * (after_begin[1] - of_begin[1]) * (i + low - 0.5 + x / 2)
                moment += y * (after_end[1] - of_end[1]) * (j + low - 0.5 + y / 2)
                mean_row[cut] += moment
                entries[cut] += count
                for k in range(3, 3 + n_block):
                    before = of_begin[k] + x * (after_begin[k] - of_begin[k])
                    value = of_end[k] + y * (after_end[k] - of_end[k])
                    mean_left_out[k - 3, cut, at] = (value - before) / count
    for cut in range(n_cut):
        mean_row[cut] = mean_row[cut] / entries[cut] if entries[cut] > 0 else np.nan


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
