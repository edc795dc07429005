"""Lays means of C2 by lag bin and age row over the knots of a path: which cells, and where."""

from __future__ import annotations

import math

from xpcs_live_denoise.numerics.compiled import kernel
from xpcs_live_denoise.records.types import BoolArray, FloatArray, IntArray

from .sums_kernels import LEAST_VARIANCE

# Of the entries of a cell that must be there: with more gaps it has another mean lag than its bin;
# a row at either end of the series, which lacks those of its outer ages, has another age.
_LEAST_SHARE, _LEAST_END = 0.5, 0.25

_STRETCH = "int64, int64, int64"
_DATA = "int64[::1], float64[:, ::1], float64[:, ::1], float64[::1]"


@kernel(makes_arrays=False)
def _lacking(  # noqa: PLR0917
    first: int, stop: int, size: int, begin: int, last: int, ages: float
) -> float:
    """Return by how much the age of a row differs from its middle: it lacks some of `size` ages.

    At the begin of a stretch they lie before its mean age, at the end behind it; 0 where lags up to
    `last` are there for all.
    """
    if begin - last // 2 < first:
        return 0.5 * (size - ages)
    return 0.0 if begin + size - 1 + (last + 1) // 2 < stop else -0.5 * (size - ages)


@kernel(
    f"UniTuple(int64, 2)({_STRETCH}, {_DATA}, boolean, int64[:, ::1], boolean[:, ::1])",
    makes_arrays=False,
)
def lines(  # noqa: PLR0917 (numba knows no keyword-only arguments)
    first: int,
    stop: int,
    size: int,
    edges: IntArray,
    times: FloatArray,
    n_entries: FloatArray,
    noise: FloatArray,
    at_start: bool,
    spans: IntArray,
    is_end: BoolArray,
) -> tuple[int, int]:
    """Fill spans (2, n_bin), the rows of each bin that are whole: [low, high); and others, is_end.

    These (n_row, n_bin), False before, are rows at the ends of the series that lack some of their
    ages and still count. Returns how many lines there are, and how many cells in all. The stretch
    has frames [first, stop), those of the series' start or not (`at_start`), and rows of `size`;
    times (2, n_bin) are those of a bin from the first frame of a row on.
    """
    n_row, n_bin = n_entries.shape
    n_line, n = 0, 0
    for b in range(n_bin):
        last, low, high = edges[b + 1] - 1, n_row, n_row
        for r in range(n_row):
            begin = first + r * size
            after_first = begin - last // 2 >= first
            if after_first and begin + size - 1 + (last + 1) // 2 < stop:
                low, high = min(low, r), r + 1
                continue
            ages = n_entries[r, b] / (edges[b + 1] - edges[b])
            if size == 1 or ages < _LEAST_END * size or math.isnan(noise[r]):
                continue
            moved = begin + _lacking(first, stop, size, begin, last, ages) - first
            inside = moved + times[0, b] >= 0 and moved + times[1, b] <= stop - first - 1
            if inside and (after_first or at_start):
                is_end[r, b] = True
                n_line, n = n_line + 1, n + 1
        spans[0, b], spans[1, b] = low, high
        if high > low:
            n_line, n = n_line + 1, n + high - low
    return n_line, n


@kernel(makes_arrays=False)
def _place(  # noqa: PLR0917
    line: int,
    b: int,
    row: int,
    lacking: float,
    size: int,
    times: FloatArray,
    of_lines: IntArray,
    share: FloatArray,
) -> None:
    """Fill bin, first row and nodes of a line, and how far its times are on the way to the next."""
    of_lines[0, line], of_lines[1, line] = b, row
    for k in range(2):
        place = (times[k, b] + lacking) / size
        node = math.floor(place)
        of_lines[2 + k, line], share[k, line] = node, place - node


@kernel(makes_arrays=False)
def _fill(  # noqa: PLR0917
    i: int,
    mean: float,
    weight: float,
    blocks: FloatArray,
    value: FloatArray,
    weights: FloatArray,
    left_out: FloatArray,
) -> None:
    """Fill one cell."""
    value[i], weights[i] = mean, weight
    for k in range(len(blocks)):
        left_out[k, i] = blocks[k] - mean


@kernel(
    f"void({_STRETCH}, {_DATA}, float64[:, ::1], float64[:, :, ::1], int64[:, ::1],"
    " boolean[:, ::1], int64[:, ::1], int64[::1], float64[:, ::1], float64[::1], float64[::1],"
    " float64[:, ::1])",
    makes_arrays=False,
)
def lay(  # noqa: PLR0917
    first: int,
    stop: int,
    size: int,
    edges: IntArray,
    times: FloatArray,
    n_entries: FloatArray,
    noise: FloatArray,
    mean: FloatArray,
    blocks: FloatArray,
    spans: IntArray,
    is_end: BoolArray,
    of_lines: IntArray,
    at: IntArray,
    share: FloatArray,
    value: FloatArray,
    weight: FloatArray,
    left_out: FloatArray,
) -> None:
    """Fill what `PathCells` has of the lines that `lines` has found: whole rows, then ends.

    `of_lines` (4, n_line) are their bins, first rows and nodes; `blocks` (n_row, n_bin, n_block).
    """
    n_row, n_bin = n_entries.shape
    line, i = 0, 0
    for b in range(n_bin):
        low, high, width = spans[0, b], spans[1, b], edges[b + 1] - edges[b]
        if high <= low:
            continue
        _place(line, b, low, 0.0, size, times, of_lines, share)
        at[line] = i
        line += 1
        for r in range(low, high):
            number = n_entries[r, b]
            if number >= _LEAST_SHARE * size * width and not math.isnan(noise[r]):
                known = number / max(noise[r], LEAST_VARIANCE)
                _fill(i, mean[r, b], known, blocks[r, b], value, weight, left_out)
            else:  # a gap
                value[i], weight[i], left_out[:, i] = 0.0, 0.0, 0.0
            i += 1
    for b in range(n_bin):
        for r in range(n_row):
            if not is_end[r, b]:
                continue
            number, begin = n_entries[r, b], first + r * size
            ages = number / (edges[b + 1] - edges[b])
            lacking = _lacking(first, stop, size, begin, edges[b + 1] - 1, ages)
            _place(line, b, r, lacking, size, times, of_lines, share)
            at[line] = i
            known = number / max(noise[r], LEAST_VARIANCE)
            _fill(i, mean[r, b], known, blocks[r, b], value, weight, left_out)
            line, i = line + 1, i + 1
    at[line] = i
