"""Small tools on arrays: stacks of C2, sums over ranges of rows, logarithmic bins of the lag."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.records.types import Array, FloatArray, IntArray


def as_stack(c2: ArrayLike) -> FloatArray:
    """Return C2 with a ROI axis, (n_roi, n, n), without a copy where the dtype is floating.

    Raises
    ------
    InvalidInputError
        When `c2` is neither (n, n) nor (n_roi, n, n), or not real.
    """
    array = np.asarray(c2)
    if array.ndim not in (2, 3) or array.shape[-1] != array.shape[-2]:
        raise InvalidInputError(
            f"C2: got shape {array.shape}; expected (n, n) or (n_roi, n, n), one row and one "
            "column a frame."
        )
    if not np.issubdtype(array.dtype, np.floating):
        if array.dtype.kind not in "iub":
            raise InvalidInputError(f"C2: got dtype {array.dtype}; expected real numbers.")
        array = array.astype(np.float64)
    return array if array.ndim == 3 else array[np.newaxis]


def per_roi(value: ArrayLike, n_roi: int, name: str) -> FloatArray:
    """Return a scalar or one value a ROI as an array (n_roi,), or raise InvalidInputError."""
    array: Array = np.asarray(value, dtype=np.float64)
    if array.ndim > 1 or array.size not in (1, n_roi):
        raise InvalidInputError(
            f"{name}: got shape {array.shape}; expected a scalar or one value for each of the "
            f"{n_roi} ROIs of C2."
        )
    return np.broadcast_to(array.reshape(-1), (n_roi,)).copy()


def next_capacity(capacity: int, needed: int, most: int | None = None) -> int:
    """Return room for `needed` entries: as it is, or doubled, doubling to at most `most`."""
    if needed <= capacity:
        return capacity
    return max(needed, min(2 * capacity, most or 2 * capacity))


def enlarged(array: Array, shape: tuple[int, ...], fill: float | None = None) -> Array:
    """Return an array of a larger shape with `array` in its first corner.

    `fill` is what the rest holds; None: anything.
    """
    # Zeros cost nothing until they are written to.
    larger: Array = (np.zeros if fill == 0 else np.empty)(shape, array.dtype)
    if fill:
        larger.fill(fill)
    larger[tuple(slice(size) for size in array.shape)] = array
    return larger


def merged_ranges(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return [start, stop) ranges in order, those that touch joined."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if joined and joined[-1][1] >= start:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return tuple(joined)


def range_sums(values: NDArray[np.generic], begin: IntArray, end: IntArray) -> FloatArray:
    """Return the sums of values[begin:end] along axis 0.

    Exact to the rounding of sums from the first row. `values` are (m, ...); `begin` and `end`, 0 <=
    begin <= end <= m, are (n,), or (n, k) for a range of its own for each of the k columns along
    axis 1. The sums are (n, ...).
    """
    total = np.zeros((len(values) + 1, *values.shape[1:]))
    np.cumsum(values, axis=0, out=total[1:])
    if begin.ndim == 1:
        return total[end] - total[begin]
    column = np.arange(begin.shape[1], dtype=np.int64)
    return total[end, column] - total[begin, column]


def mean_or_nan(total: FloatArray, count: IntArray | FloatArray) -> FloatArray:
    """Return total / count, NaN where nothing was counted."""
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


RATIO = 1.07  # upper edge over lower edge of a bin, where bins are wider than one lag

# Lags up to 48 are measured frame by frame. A level averages twice as many frames as the one before
# it, 2^m, and measures lags of 25 to 49 of its own frames: two such lags a bin, the last one three.
LEVEL_LAGS = (25, 50)
_LAST_SINGLE = 48
_BINS_A_LEVEL = 12


def lag_bin_edges(longest: int) -> IntArray:
    """Return the edges (n_bin + 1,) of the bins that hold the lags 1 .. `longest`, at least 1.

    Bin i holds the lags edges[i] .. edges[i + 1] - 1: one lag in each of the first ones; the last
    may reach beyond `longest`. A longer series has the same bins and some more. Beyond lag 48 bins
    are those of the levels: there are 12 an octave.
    """
    edges = [1]
    while edges[-1] <= min(longest, _LAST_SINGLE):
        wider = max(edges[-1] + 1, round(RATIO * edges[-1]))
        edges.append(wider if wider < _LAST_SINGLE - 1 else _LAST_SINGLE + 1)
    power = 1
    while edges[-1] <= longest:
        first = edges[-1]
        edges += [first + 2**power * 2 * k for k in range(1, _BINS_A_LEVEL)]
        edges.append(2 * first)
        power += 1
    return np.array(edges, dtype=np.int64)


def bin_of_lag(edges: IntArray) -> IntArray:
    """Return the bin of every lag 1 .. edges[-1] - 1, in that order."""
    return np.repeat(np.arange(len(edges) - 1), np.diff(edges))


def bin_of_level_lag(power: int) -> IntArray:
    """Return the bin of lags 0 .. 49 of a level, in its own frames of 2^power; -1 for none."""
    lowest, stop = LEVEL_LAGS
    if not power:
        return np.concatenate([[-1], bin_of_lag(lag_bin_edges(_LAST_SINGLE)), [-1]])
    first = len(lag_bin_edges(_LAST_SINGLE)) - 1 + (power - 1) * _BINS_A_LEVEL
    lag = np.arange(stop)
    bins = first + np.minimum((lag - lowest) // 2, _BINS_A_LEVEL - 1)
    return np.where(lag < lowest, -1, bins)


def mean_level_lags(edges: IntArray) -> FloatArray:
    """Return the mean lag of what levels measure in each bin, (n_bin,), frames.

    It is half a frame, in the last bin of a level a quarter of its frames, more than the middle.
    """
    lags = (edges[:-1] + edges[1:] - 1) / 2
    first = len(lag_bin_edges(_LAST_SINGLE)) - 1
    beyond = np.arange(len(lags)) - first
    power, place = np.divmod(beyond, _BINS_A_LEVEL)
    size = 2.0 ** (power + 1)
    centre = size * np.where(place == _BINS_A_LEVEL - 1, 48.0, 25.5 + 2 * place)
    return np.where(beyond < 0, lags, centre)
