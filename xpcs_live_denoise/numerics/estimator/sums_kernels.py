"""Means over cuts of the sums by age and lag bin, their noise and weights; slopes of a curve."""

from __future__ import annotations

import math

import numpy as np

from xpcs_live_denoise.numerics.compiled import kernel
from xpcs_live_denoise.records.types import FloatArray, IntArray

_TOGETHER = 16  # bins that are added up at a time: their totals stay in the cache
# Entries of C2 are near 1 and known to 1e-7 in single precision.
LEAST_VARIANCE = 1e-13
# The curves of a grid miss the best one by some thousandths of the contrast: weights end there.
_GRID_ERROR = 0.003

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
    n_block = mean_left_out.shape[2]
    n = len(totals) // (3 + n_block)
    for b in range(n):
        count, at = totals[n + b], 3 * n + b * n_block
        if not count > 0:
            continue
        over = 1 / count
        number[cut, first + b] = count
        mean[cut, first + b] = over * totals[b]
        for k in range(n_block):
            mean_left_out[cut, first + b, k] = over * totals[at + k]
        moments[0] += totals[2 * n + b]
        moments[1] += count


@kernel()
def _add_cut(  # noqa: PLR0917
    sums: FloatArray,
    counts: FloatArray,
    left_out: FloatArray,
    begin: float,
    end: float,
    totals: FloatArray,
) -> None:
    """Fill totals with the rows of a cut."""
    totals[:] = 0.0
    for row in range(int(begin), math.ceil(end)):
        low, high = max(begin - row, 0.0), min(end - row, 1.0)
        middle = row + (low + high - 1) / 2
        _add_row(sums, counts, left_out, row, 0, high - low, middle, totals)


@kernel()
def _subtract(  # noqa: PLR0917
    totals: FloatArray, i: int, x: float, j: int, y: float, n: int, out: FloatArray
) -> None:
    """Fill out with what is behind x and before y of n bins, from totals before each row.

    x and y are on the way from rows i and j to the next.
    """
    p, q, r, s = totals[i], totals[i + 1], totals[j], totals[j + 1]
    for k in range(len(out)):
        out[k] = r[k] + y * (s[k] - r[k]) - p[k] - x * (q[k] - p[k])
    # Entries of a row have its number as their age, those of a part the middle of it.
    after, before = y * (1 - y) / 2, x * (1 - x) / 2
    for k in range(n, 2 * n):
        out[n + k] += before * (q[k] - p[k]) - after * (s[k] - r[k])


@kernel()
def _subtract_bin(  # noqa: PLR0917
    totals: FloatArray, i: int, x: float, j: int, y: float, b: int, out: FloatArray
) -> None:
    """Fill out (3 + n_block,) with the same of one bin."""
    n_block = len(out) - 3
    n = totals.shape[1] // (3 + n_block)
    p, q, r, s = totals[i], totals[i + 1], totals[j], totals[j + 1]
    for k in range(3):
        at = k * n + b
        out[k] = r[at] + y * (s[at] - r[at]) - p[at] - x * (q[at] - p[at])
    at = n + b
    out[2] += x * (1 - x) / 2 * (q[at] - p[at]) - y * (1 - y) / 2 * (s[at] - r[at])
    at = 3 * n + b * n_block
    for k in range(at, at + n_block):
        out[3 + k - at] = r[k] + y * (s[k] - r[k]) - p[k] - x * (q[k] - p[k])


@kernel()
def _inside(  # noqa: PLR0917
    begin: float, end: float, lowest: float, highest: float, earlier: float, later: float
) -> tuple[float, float]:
    """Return which rows of [begin, end) have both frames of an entry between two others."""
    first = min(max(lowest + earlier, begin), end)
    return first, max(min(highest - later, end), first)


@kernel()
def _lengths(
    spans: FloatArray, within: FloatArray, reaches: FloatArray, n_bin: int, n_of_cut: IntArray
) -> bool:
    """Fill how many bins of each cut hold any row: the first ones. Whether `within` cuts any."""
    n_cut, last, own = len(n_of_cut), reaches.shape[1] - 1, False
    for cut in range(n_cut):
        begin, end = spans[0, cut], spans[1, cut]
        n_of_cut[cut] = n_bin if end > begin else 0
        if not within.shape[1]:
            continue
        lowest, highest = within[0, cut], within[1, cut]
        own |= lowest + reaches[0, last] > begin or highest - reaches[1, last] < end
        n = n_of_cut[cut]
        while n:
            low, high = _inside(begin, end, lowest, highest, reaches[0, n - 1], reaches[1, n - 1])
            if high > low:
                break
            n -= 1
        n_of_cut[cut] = n
    return own


@kernel()
def _subtract_cuts(  # noqa: PLR0917
    sums: FloatArray,
    counts: FloatArray,
    left_out: FloatArray,
    spans: FloatArray,
    within: FloatArray,
    reaches: FloatArray,
    low: int,
    high: int,
    n_of_cut: IntArray,
    own: bool,
    number: FloatArray,
    mean: FloatArray,
    mean_left_out: FloatArray,
    moments: FloatArray,
) -> None:
    """Add up all rows once, and take differences."""
    n_cut, n_block, n_bin = len(mean), mean_left_out.shape[2], n_of_cut.max()
    room = np.zeros((high - low + 2) * _TOGETHER * (3 + n_block))
    of_bin = np.empty(3 + n_block)
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
            if n_of_cut[cut] <= first:
                continue
            x, y = spans[0, cut] - low, spans[1, cut] - low
            if not own:
                i, j = int(x), int(y)
                _subtract(totals, i, x - i, j, y - j, n, of_cut)
                _fill(cut, first, of_cut, number, mean, mean_left_out, moments[cut])
                continue
            lowest, highest = within[0, cut] - low, within[1, cut] - low
            for b in range(min(n, n_of_cut[cut] - first)):
                at = first + b
                begin, end = _inside(x, y, lowest, highest, reaches[0, at], reaches[1, at])
                i, j = int(begin), int(end)
                _subtract_bin(totals, i, begin - i, j, end - j, b, of_bin)
                _fill(cut, at, of_bin, number, mean, mean_left_out, moments[cut])


@kernel()
def _noises(  # noqa: PLR0917
    squares: FloatArray,
    pairs: FloatArray,
    centres: FloatArray,
    size: int,
    n_rows: int,
    reach: float,
    noise: FloatArray,
) -> None:
    """Fill half the mean squared difference of neighbours along the diagonals, near each centre."""
    n_pair = float(max(n_rows - (1 if size == 1 else 0), 0))
    n_cut, first, last = len(centres), n_pair, 0.0
    spans = np.empty((2, n_cut))
    for cut in range(n_cut):
        middle = centres[cut] + (1 - 1 / size) / 2
        begin = min(max(middle - reach / size, 0.0), n_pair)
        end = min(max(middle + reach / size, begin), n_pair)
        spans[0, cut], spans[1, cut] = begin, end
        first, last = min(first, begin), max(last, end)
    low = int(first)
    high = max(math.ceil(last), low)
    totals = np.zeros((high - low + 2, 2))
    for row in range(low, high):
        totals[row - low + 1, 0] = totals[row - low, 0] + squares[row]
        totals[row - low + 1, 1] = totals[row - low, 1] + pairs[row]
    totals[high - low + 1] = totals[high - low]
    for cut in range(n_cut):
        x, y = spans[0, cut] - low, spans[1, cut] - low
        i, j = int(x), int(y)
        x, y = x - i, y - j
        p, q, r, s = totals[i], totals[i + 1], totals[j], totals[j + 1]
        square = r[0] + y * (s[0] - r[0]) - p[0] - x * (q[0] - p[0])
        number = r[1] + y * (s[1] - r[1]) - p[1] - x * (q[1] - p[1])
        noise[cut] = square / number if number > 0 else np.nan


@kernel()
def _weigh(
    mean: FloatArray, n_entries: FloatArray, left_out: FloatArray, noise: float, weights: FloatArray
) -> None:
    """Fill weights (n_bin,) of one cut, 0 before, as `BinnedCuts` has them."""
    if math.isnan(noise):
        return
    over = 1 / max(noise, LEAST_VARIANCE)
    n_bin, n_block = left_out.shape
    least = (_GRID_ERROR * mean[0]) ** 2
    ratio, n_used = 0.0, 0
    for b in range(n_bin):
        weight = n_entries[b] * over
        weights[b] = weight
        if not weight > 0:
            continue
        n_used += 1
        if n_block:
            total, square, values, first = 0.0, 0.0, left_out[b], left_out[b, 0]
            for k in range(n_block):
                value = values[k] - first
                total += value
                square += value * value
            ratio += weight * (square - total * total / n_block)
    share = (n_block - 1) / n_block if n_block else 0.0
    over = 1 / max(ratio * share / max(n_used, 1), 1.0)
    for b in range(n_bin):
        weight = weights[b] * over
        weights[b] = weight / (1 + weight * least)


@kernel(
    "void(float64[:, ::1], float32[:, ::1], float32[:, ::1], float64[::1], float64[::1],"
    " float64[::1], float64[::1], float64[:, ::1], int64[::1], int64, int64, float64,"
    " float64[:, ::1], float64[:, ::1], float64[:, :, ::1], float64[:, ::1], float64[::1],"
    " float64[::1], int64[::1])"
)
def cut_means(  # noqa: PLR0917
    sums: FloatArray,
    counts: FloatArray,
    left_out: FloatArray,
    squares: FloatArray,
    pairs: FloatArray,
    centres: FloatArray,
    widths: FloatArray,
    within: FloatArray,
    edges: IntArray,
    size: int,
    n_frames: int,
    noise_reach: float,
    number: FloatArray,
    mean: FloatArray,
    mean_left_out: FloatArray,
    weights: FloatArray,
    noise: FloatArray,
    mean_row: FloatArray,
    longest_lag: IntArray,
) -> None:
    """Fill what `BinnedCuts` has of cuts; number, mean, without a block and weights are 0 before.

    The tables are those of one ROI, `left_out` (n_row, bins n_block). Centres and widths (n_cut,)
    are in rows of `size` frames, as are `within`, (2, n_cut) or (2, 0); an entry of a row may lie
    anywhere in it: of a row that is cut, a share counts, and its age is the middle of that.
    """
    n_cut, n_bin, n_rows = len(mean), len(edges) - 1, (n_frames + size - 1) // size
    spans, moments = np.empty((2, n_cut)), np.zeros((n_cut, 2))
    first, last, in_all = float(n_rows), 0.0, 0.0
    for cut in range(n_cut):
        begin = min(max(centres[cut] + 0.5 - widths[cut] / 2, 0.0), n_rows)
        end = max(min(centres[cut] + 0.5 + widths[cut] / 2, n_rows), begin)
        spans[0, cut], spans[1, cut] = begin, end
        first, last, in_all = min(first, begin), max(last, end), in_all + end - begin
    low, high = int(first), math.ceil(last)
    # No entry has a lag that is longer than that of the age nearest to the middle.
    age = min(max((n_frames - 1) // 2, low * size), high * size - 1)
    most, n_used = 2 * min(age, n_frames - 1 - age) + 2, 0
    while n_used < n_bin and edges[n_used] <= most:
        n_used += 1
    reaches = np.empty((2, n_bin))  # rows from an entry to its two frames, at most
    for b in range(n_bin):
        longest = edges[b + 1] - 1
        reaches[0, b] = longest // 2 / size
        reaches[1, b] = (longest + 1) // 2 / size
    n_of_cut = np.empty(n_cut, np.int64)
    own = _lengths(spans, within, reaches, n_used, n_of_cut)
    if n_cut and high > low:
        if own or in_all > 2 * (high - low):
            _subtract_cuts(
                sums, counts, left_out, spans, within, reaches, low, high, n_of_cut, own, number,
                mean, mean_left_out, moments,
            )  # fmt: skip
        else:  # they share few of their rows
            totals = np.empty(n_used * (3 + mean_left_out.shape[2]))
            for cut in range(n_cut):
                _add_cut(sums, counts, left_out, spans[0, cut], spans[1, cut], totals)
                _fill(cut, 0, totals, number, mean, mean_left_out, moments[cut])
    _noises(squares, pairs, centres, size, n_rows, noise_reach, noise)
    for cut in range(n_cut):
        mean_row[cut] = moments[cut, 0] / moments[cut, 1] if moments[cut, 1] > 0 else np.nan
        longest_lag[cut] = 0
        for b in range(n_used):
            if number[cut, b] > 0:
                longest_lag[cut] = edges[b]
        _weigh(mean[cut], number[cut], mean_left_out[cut], noise[cut], weights[cut])


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
