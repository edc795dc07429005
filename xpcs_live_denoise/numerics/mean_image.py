"""The mean of the frames of a series, pixel by pixel, with pixels that hold no count left out."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from xpcs_live_denoise.records.types import Array, BoolArray, FloatArray, IntArray

from .bad_pixels import ALONE, DEPTHS

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

    @classmethod
    def of(cls, frames: Array) -> MeanImage:
        """Return that of frames (k, rows, cols)."""
        made = cls((frames.shape[1], frames.shape[2]))
        made.add(frames)
        return made

    def add(self, frames: Array) -> None:
        """Add frames (k, rows, cols) of real numbers."""
        block = _plain(frames).reshape(len(frames), self._counts.shape[1])
        if not block.size:
            return
        highest = self._add(block)
        if (
            block.dtype.itemsize > 1
            and (mark := _mark_of(highest, block))
            and _is_mark(block, mark)
        ):
            self._take_back(block, mark)
            self._mark = mark
        self.n_frames += len(block)

    def add_events(self, pixels: IntArray, counts: Array, n_frames: int) -> None:
        """Add frames of which the numbers other than 0 are known, each (n,).

        `pixels` are flat indices. Only marks of the type of `counts` are left out.
        """
        (total, negative), (left_out, n_negative) = self._sums, self._counts
        top = _LARGEST if counts.dtype.kind == "f" else float(np.iinfo(counts.dtype).max) - 1
        values = counts.astype(np.float64)
        good = values < top
        np.add.at(left_out, pixels[~good], 1)
        np.add.at(total, pixels[good], values[good])
        below = good & (values < 0)
        np.add.at(negative, pixels[below], values[below])
        np.add.at(n_negative, pixels[below], 1)
        self.n_frames += n_frames

    def sums(self, *, negative_is_data: bool) -> tuple[FloatArray, FloatArray]:
        """Return the sum of the numbers that count and how many they are, each (rows, cols)."""
        (total, negative), (left_out, n_negative) = self._sums, self._counts
        counted = self.n_frames - left_out.astype(np.float64)
        if not negative_is_data and n_negative.any():
            total, counted = total - negative, counted - n_negative
        return total.reshape(self.shape), counted.reshape(self.shape)

    def whole(self) -> tuple[FloatArray, BoolArray]:
        """Return the sum of the counts, and which pixels held one in every frame, (rows, cols)."""
        total, counted = self.sums(negative_is_data=False)
        return total, counted == self.n_frames

    # --- the steps -----------------------------------------------------------------------------

    def _add(self, block: Array) -> float:
        """Add a block (k, n_pixels); return the highest number that was taken for a count."""
        from . import mean_image_kernels

        (total, negative), (left_out, n_negative) = self._sums, self._counts
        kind, mark = block.dtype.kind, self._mark
        if kind == "u" and block.dtype.itemsize <= 4:
            top = int(np.iinfo(block.dtype).max) - 1
            known = mark if 0 <= mark < top else top
            room = _MOST_IN_UINT32 // len(block)
            of_type = block.dtype.type
            return float(
                mean_image_kernels.add_counts(
                    block, total, left_out, of_type(top), of_type(known), min(room, top + 1)
                )
            )
        top = _LARGEST if kind == "f" else float(np.iinfo(block.dtype).max) - 1
        known, width = (float(mark), _width(block)) if mark >= 0 else (top, 0)
        return float(
            mean_image_kernels.add_numbers(
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


def _width(frames: Array) -> int:
    """Return how far marks reach beyond 2^n - 2: floating point numbers may round 2^n - 1 up."""
    return 2 if frames.dtype.kind == "f" else 1


def _mark_of(highest: float, frames: Array) -> int:
    """Return 2^n - 2 of the depth whose mark the highest number may be, 0 for none."""
    marks = (2**n - 2 for n in DEPTHS)
    return next((mark for mark in marks if mark <= highest <= mark + _width(frames)), 0)


def _marked(frame: Array, mark: int) -> BoolArray:
    return (frame >= mark) & (frame <= mark + _width(frame))


def _is_mark(block: Array, mark: int) -> bool:
    """Whether, in the frame (of a block) with the highest number, more pixels hold a mark."""
    frame = next(frame for frame in block if _marked(frame, mark).any())
    n_marked = np.count_nonzero(_marked(frame, mark))
    return bool(n_marked > np.count_nonzero((frame > mark // ALONE) & (frame < mark)))
