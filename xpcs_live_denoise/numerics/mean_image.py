"""The mean of the frames of a series, pixel by pixel, with pixels that hold no count left out."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

from xpcs_live_denoise.records.types import Array, BoolArray, FloatArray, IntArray

from .bad_pixels import ALONE, DEPTHS

# Pixels that are summed at a time over all frames of a block: their sums stay in the fastest cache,
# and of most such pieces no pixel is marked.
_PIECE = 256
MOST_SCREEN_PIXELS = 512  # along an edge of a small image: a panel shows no more
_LARGEST = float(np.finfo(np.float64).max)
_MOST_IN_UINT32 = 2**32 - 1


class MeanImage:
    """The sum of all frames (rows, cols) that were added, and what is left out of it.

    A number is no count that is not finite, or marks its pixel: 2^n - 1 and 2^n - 2 of an integer
    type, or of one other depth of detectors where more pixels hold it than all numbers above a
    quarter of it. Negative numbers are kept apart: whether they are data is known later.

    Memory: 12 bytes a pixel, and 12 more where there are negative numbers. Reading consumes
    nothing.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.n_frames = 0
        self.shape = shape
        n = shape[0] * shape[1]
        # Memory that is never written costs nothing.
        self._sums: FloatArray = np.zeros((2, n))  # of all numbers, and of the negative ones
        self._counts: IntArray = np.zeros((2, n), np.uint32)  # frames left out, and negative ones
        self._mark = -1  # 2^n - 2 of another depth than the type's, where it marks pixels

    def add(self, frames: Array) -> None:
        """Add frames (k, rows, cols) of real numbers."""
        block = _plain(frames).reshape(len(frames), self._counts.shape[1])
        if not block.size:
            return
        highest = self._add(block)
        if block.dtype.itemsize > 1 and (mark := _mark_of(highest)) and _is_mark(block, mark):
            self._take_back(block, mark)
            self._mark = mark
        self.n_frames += len(block)

    def sums(self, *, negative_is_data: bool) -> tuple[FloatArray, FloatArray]:
        """Return the sum of the numbers that count and how many they are, each (rows, cols)."""
        (total, negative), (left_out, n_negative) = self._sums, self._counts
        counted = self.n_frames - left_out.astype(np.float64)
        if not negative_is_data and n_negative.any():
            total, counted = total - negative, counted - n_negative
        return total.reshape(self.shape), counted.reshape(self.shape)

    # --- the steps -----------------------------------------------------------------------------

    def _add(self, block: Array) -> float:
        """Add a block (k, n_pixels); return the highest number that was taken for a count."""
        (total, negative), (left_out, n_negative) = self._sums, self._counts
        kind, mark = block.dtype.kind, self._mark
        if kind == "u" and block.dtype.itemsize <= 4:
            top = int(np.iinfo(block.dtype).max) - 1
            known = mark if 0 <= mark < top else top
            room = _MOST_IN_UINT32 // len(block)
            of_type = block.dtype.type
            return float(
                _kernel("counts")(
                    block, total, left_out, of_type(top), of_type(known), min(room, top + 1)
                )
            )
        top = _LARGEST if kind == "f" else float(np.iinfo(block.dtype).max) - 1
        known, width = (float(mark), 2.0 if kind == "f" else 1.0) if mark >= 0 else (top, 0.0)
        return float(
            _kernel("numbers")(
                block, total, left_out, negative, n_negative, top, known, known + width
            )
        )

    def _take_back(self, block: Array, mark: int) -> None:
        """Take out of the sum what has just been added and turns out to mark pixels."""
        for frame in block:
            at = np.flatnonzero(_marked(frame, mark))
            self._sums[0, at] -= frame[at]
            self._counts[0, at] += 1


def binned_mean(sums: Array, counts: Array, binning: int) -> FloatArray:
    """Return the mean of every `binning` x `binning` pixels: the sum over the count, NaN for none.

    `sums`, `counts` (rows, cols); the last pixels may be made of fewer.
    """
    for axis in (0, 1):
        if binning > 1:
            starts: IntArray = np.arange(0, sums.shape[axis], binning, dtype=np.int64)
            sums = np.add.reduceat(sums, starts, axis=axis, dtype=np.float64)
            counts = np.add.reduceat(counts, starts, axis=axis, dtype=np.float64)
    mean = np.full(sums.shape, np.nan, np.float32)
    np.divide(sums, counts, out=mean, where=counts > 0, casting="same_kind")
    return mean


def picked(values: Array, binning: int) -> Array:
    """Return the value (of an image) in the middle of each `binning` x `binning` pixels."""
    at: list[IntArray] = [np.arange(0, n, binning, dtype=np.int64) for n in values.shape]
    middle = [np.minimum(i + binning // 2, n - 1) for i, n in zip(at, values.shape, strict=True)]
    return values[np.ix_(*middle)]


def screen_binning(shape: tuple[int, ...]) -> int:
    """Return how many pixels of an image a pixel of a small one stands for, along an edge."""
    return max(1, math.ceil(max(shape, default=1) / MOST_SCREEN_PIXELS))


@cache
def compile_kernels() -> None:
    """Compile what adds frames of the usual types, once: half a second each the first time."""
    for dtype in (np.uint16, np.uint32):
        MeanImage((1, 1)).add(np.zeros((1, 1, 1), dtype))


def _plain(frames: Array) -> Array:
    """Return frames in one piece, of a type that the compiled code knows."""
    dtype = frames.dtype
    if dtype.kind == "b":
        return np.ascontiguousarray(frames).view(np.uint8)
    if dtype.kind == "f" and dtype.itemsize not in (4, 8):
        return frames.astype(np.float32 if dtype.itemsize < 4 else np.float64)
    return np.ascontiguousarray(frames, dtype.newbyteorder("="))


def _mark_of(highest: float) -> int:
    """Return 2^n - 2 of the depth whose mark a number may be, 0 for none."""
    return next((2**n - 2 for n in DEPTHS if 2**n - 2 <= highest <= 2**n), 0)


def _marked(frame: Array, mark: int) -> BoolArray:
    most = mark + (2 if frame.dtype.kind == "f" else 1)
    return (frame >= mark) & (frame <= most)


def _is_mark(block: Array, mark: int) -> bool:
    """Whether, in the frame (of a block) with the highest number, more pixels hold a mark."""
    frame = next(frame for frame in block if _marked(frame, mark).any())
    n_marked = np.count_nonzero(_marked(frame, mark))
    return bool(n_marked > np.count_nonzero((frame > mark // ALONE) & (frame < mark)))


@cache
def _kernel(name: str) -> Callable[..., Any]:
    import numba  # half a second

    compiled: Any = partial(numba.njit, nogil=True, error_model="numpy")
    function = {"counts": _add_counts, "numbers": _add_numbers}[name]
    try:
        return compiled(cache=True)(function)
    except (RuntimeError, OSError):  # no folder that numba may write to
        return compiled()(function)


def _add_counts(  # noqa: PLR0912, PLR0917 (numba knows no keyword-only arguments)
    frames: Array, total: Array, left_out: Array, top: Any, mark: Any, room: int
) -> Any:
    """Add unsigned numbers (k, n), and count those that are `top` or more, `mark` or `mark` + 1.

    Sums over a block are whole numbers of 32 bits, which wrap: what is taken out again leaves no
    trace. Numbers from `room` on might fill them and are added by themselves.

    Each loop over pixels is plain enough for the compiler to take many at once.
    """
    k, n = frames.shape
    sums, marked, kept = np.zeros((3, _PIECE), np.uint32)
    zero, one, highest = np.uint32(0), np.uint32(1), np.uint32(0)
    for start in range(0, n, _PIECE):
        width = min(_PIECE, n - start)
        sums[:] = zero
        any_marked = False
        for frame in range(k):
            pixels = frames[frame, start : start + width]
            most = pixels[0]
            for i in range(width):
                sums[i] += np.uint32(pixels[i])
                most = max(most, pixels[i])
            peak = np.uint32(most)
            if most >= mark:
                if not any_marked:
                    marked[:] = zero
                any_marked = True
                for i in range(width):
                    value = pixels[i]
                    bad = (value >= top) | (value == mark) | (value == mark + 1)
                    kept[i] = zero if bad else np.uint32(value)
                    sums[i] -= np.uint32(value) - kept[i]
                    marked[i] += one if bad else zero
                peak = zero
                for i in range(width):
                    peak = max(peak, kept[i])
            elif peak >= room:
                for i in range(width):
                    kept[i] = pixels[i]
            if peak >= room:
                for i in range(width):
                    if kept[i] >= room:
                        sums[i] -= kept[i]
                        total[start + i] += kept[i]
            highest = max(highest, peak)
        for i in range(width):
            total[start + i] += sums[i]
        if any_marked:
            for i in range(width):
                left_out[start + i] += marked[i]
    return highest


def _add_numbers(  # noqa: PLR0917
    frames: Array,
    total: Array,
    left_out: Array,
    negative: Array,
    n_negative: Array,
    top: float,
    mark: float,
    mark_end: float,
) -> float:
    """Add numbers (k, n) that may be negative, and count those that are none.

    These are what is not finite, not below `top`, or from `mark` to `mark_end`.
    """
    k, n = frames.shape
    sums, marked = np.zeros(_PIECE), np.zeros(_PIECE, np.uint32)
    high, low = np.zeros(_PIECE), np.zeros(_PIECE)
    zero, one, highest = np.uint32(0), np.uint32(1), 0.0
    for start in range(0, n, _PIECE):
        width = min(_PIECE, n - start)
        sums[:] = 0.0
        marked[:] = zero
        low[:] = 0.0
        for frame in range(k):
            pixels = frames[frame, start : start + width]
            for i in range(width):
                value = float(pixels[i])
                good = (abs(value) < top) & ((value < mark) | (value > mark_end))  # NaN is not
                value = value if good else 0.0
                marked[i] += zero if good else one
                sums[i] += value
                high[i] = value if value > high[i] else high[i]
                low[i] = value if value < low[i] else low[i]
        lowest, any_marked = 0.0, zero
        for i in range(width):
            total[start + i] += sums[i]
            any_marked |= marked[i]
            lowest = min(lowest, low[i])
        if any_marked:
            for i in range(width):
                left_out[start + i] += marked[i]
        if lowest < 0:
            for frame in range(k):
                pixels = frames[frame, start : start + width]
                for i in range(width):
                    value = float(pixels[i])
                    below = (value < 0) & (value > -top)
                    negative[start + i] += value if below else 0.0
                    n_negative[start + i] += one if below else zero
    for i in range(_PIECE):
        highest = max(highest, high[i])
    return highest
