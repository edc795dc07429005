"""The newest frames of a series, normalised, at one resolution in time, and their products."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpcs_live_denoise.records.types import Array, FloatArray, IntArray

from .rois import RoiMap
from .threads import evenly, n_threads, spread

# Types of frames that compiled code reads as they are; others are converted.
KNOWN_TYPES = ("uint8", "uint16", "uint32", "float32", "float64")
# Numbers beyond those that products need: the newest ones move to the front when all are used.
_SLACK = 256
_FAIR = 1.1  # times the mean work of a thread: a ROI with more is split
LINE = 16  # numbers to which a block of pixels is filled up with zeros: whole lines of the cache


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelBlocks:
    """How the pixels of each ROI lie in blocks of contiguous pixels, for the jackknife."""

    n_block: int
    n_pixels: IntArray  # (n_roi,)
    starts: IntArray  # (n_roi,): of each ROI among the pixels
    edges: IntArray  # (n_roi, n_block + 1): of the blocks, among the pixels of the ROI
    widths: IntArray  # (n_roi,): columns of a block in rows of frames
    rows: IntArray  # (n_roi,): columns of such a row
    n_left: FloatArray  # (n_roi, n_block): pixels that remain when a block is left out
    parts: tuple[tuple[range, ...], ...]  # the blocks of each ROI, split for threads

    @classmethod
    def of(cls, rois: RoiMap, n_block: int) -> PixelBlocks:
        """Split each ROI into `n_block` blocks."""
        edges = rois.n_pixels[:, np.newaxis] * np.arange(n_block + 1) // n_block
        lines = -(-np.diff(edges, axis=1).max(axis=1) // LINE)
        # An odd number of lines in a row: rows do not crowd into a few sets of the cache.
        row = n_block * lines
        return cls(
            n_block=n_block,
            n_pixels=rois.n_pixels,
            starts=np.array([one.start for one in rois.slices], np.int64),
            edges=edges,
            widths=lines * LINE,
            rows=(row + (row % 2 == 0)) * LINE,
            parts=_parts(rois.n_pixels, n_block),
            n_left=(rois.n_pixels[:, np.newaxis] - np.diff(edges, axis=1)).astype(np.float64),
        )

    @property
    def n_roi(self) -> int:
        """Number of ROIs."""
        return len(self.n_pixels)

    @property
    def slices(self) -> list[slice]:
        """Where the pixels of each ROI stand among all."""
        stops = (self.starts + self.n_pixels).tolist()
        return [slice(*ends) for ends in zip(self.starts.tolist(), stops, strict=True)]

    @property
    def by_size(self) -> list[int]:
        """The ROIs, the largest first, as `spread` wants them."""
        return np.argsort(-self.n_pixels, kind="stable").tolist()


def _parts(n_pixels: IntArray, n_block: int) -> tuple[tuple[range, ...], ...]:
    """Split the blocks of each ROI for threads: in one part, unless it is more than their share.

    Who has much more to do than the others would be waited for.
    """
    shares = n_threads() * n_pixels / n_pixels.sum()
    parts: list[tuple[range, ...]] = []
    for share in shares.tolist():
        n = min(math.ceil(share), n_block) if share > _FAIR else 1
        parts.append(tuple(evenly(n_block, n)))
    return tuple(parts)


def empty_rows(shape: tuple[int, int], dtype: np.dtype[Any]) -> Array:
    """Return rows of any numbers that begin where a line of the cache does."""
    return rows_of_all(shape[0], [shape[1]], dtype)[0]


def rows_of_all(n_rows: int, columns: Sequence[int], dtype: np.dtype[Any]) -> list[Array]:
    """Return `empty_rows` of every ROI out of one piece of memory.

    The system hands large pieces out in large pages: up to a quarter of the time of a short series
    was spent on getting small ones. `columns` are whole lines of the cache.
    """
    sizes = [n_rows * n for n in columns]
    numbers: Array = np.empty(sum(sizes) + LINE, dtype)
    first = -numbers.ctypes.data // dtype.itemsize % LINE
    ends = itertools.accumulate(sizes, initial=first)
    return [
        numbers[start:stop].reshape(n_rows, n)
        for (start, stop), n in zip(itertools.pairwise(ends), columns, strict=True)
    ]


def known(pixels: Array) -> Array:
    """Return pixels in one piece and of a type that the compiled code reads."""
    dtype = pixels.dtype if pixels.dtype in KNOWN_TYPES else _precise(pixels.dtype)
    return np.ascontiguousarray(pixels, dtype)


def _precise(dtype: np.dtype[Any]) -> np.dtype[Any]:
    # Counts of more than 24 bits keep their digits until they are divided.
    exact = dtype.itemsize > 2 and dtype != np.float32
    return np.dtype(np.float64 if exact else np.float32)


class FrameRing:
    """The newest frames of one resolution, each the sum of 2^power normalised frames.

    Its state is, for each ROI, how many normalised frames are in each of the newest `reach` frames
    and of those that came since, 1 / mean of these where they are single frames, what turns
    products into C2 without one block of pixels, and the pixels, unless another keeps them
    (`drop_pixels`). Numbers of frame f stand at f - `first`, its pixels in row f modulo the number
    of rows, block behind block. They are filled from `stop` on by functions of one ROI at a time
    (`scale`, `pair`), so that ROIs may go on in threads of their own; `advance` says for all that
    they are there.
    """

    def __init__(
        self, blocks: PixelBlocks, power: int, dtype: np.dtype[Any], *, reach: int, most_new: int
    ) -> None:
        self.power = power
        self.first = 0  # index of the frame whose numbers stand first
        self.used = 0  # numbers that are there
        self.reach = reach
        self.blocks = blocks
        self._dtype = dtype
        self._n_rows = reach + most_new
        rooms = reach + most_new + _SLACK
        self.number = np.zeros((blocks.n_roi, rooms))
        self.per_mean = np.zeros((blocks.n_roi, rooms))
        # sqrt(pixels left) / (sum over the pixels left) for each block that may be left out.
        self.inverse = np.zeros((blocks.n_roi, blocks.n_block, rooms))
        self.sums = np.zeros((blocks.n_roi, blocks.n_block, rooms))
        self.pixels = rows_of_all(self._n_rows, blocks.rows.tolist(), dtype)

    @property
    def stop(self) -> int:
        """Index after the newest frame."""
        return self.first + self.used

    @property
    def n_pixels(self) -> IntArray:
        """Pixels of each ROI, (n_roi,)."""
        return self.blocks.n_pixels

    def has_pixels(self, roi: int) -> bool:
        """Whether the pixels of a ROI are kept here."""
        return len(self.pixels[roi]) > 0

    def drop_pixels(self, roi: int) -> None:
        """Keep the pixels of a ROI no more."""
        self.pixels[roi] = empty_rows((0, int(self.blocks.rows[roi])), self._dtype)

    def empty_pixels(self, roi: int) -> Array:
        """Return rows, (rows, columns), to be filled and set as `pixels[roi]`."""
        return empty_rows((self._n_rows, int(self.blocks.rows[roi])), self._dtype)

    def make_room(self, n_new: int, oldest: int) -> None:
        """Make room for new frames; those before index `oldest` are no longer needed."""
        if self.used + n_new <= self.number.shape[1]:
            return
        drop = min(max(oldest - self.first, 0), max(self.used - self.reach, 0))
        left = self.used - drop
        for values in (self.number, self.per_mean, self.inverse, self.sums):
            values[..., :left] = values[..., drop : self.used].copy()
        self.first += drop
        self.used = left

    def scale(self, roi: int, pixels: Array, weights: Array) -> None:
        """Fill in the next frames of one ROI, (k, n_pixels) of all ROIs.

        Pixels are multiplied by `weights`, where there are any, then divided by their mean. Where
        that is no positive number they are 0, and the number of frames as well.
        """
        from .two_time_kernels import scale_frames

        precision = _precise(pixels.dtype)
        if len(weights):
            precision = np.promote_types(precision, weights.dtype)

        def scale(part: range) -> None:
            scale_frames(
                pixels[part.start : part.stop],
                int(self.blocks.starts[roi]),
                weights,
                self.blocks.edges[roi],
                int(self.blocks.widths[roi]),
                self.blocks.n_left[roi],
                np.empty(self.blocks.n_pixels[roi], precision),
                self.pixels[roi],
                self.number[roi],
                self.per_mean[roi],
                self.sums[roi],
                self.inverse[roi],
                self.used + part.start,
                self.stop + part.start,
            )

        spread(scale, evenly(len(pixels), len(self.blocks.parts[roi])))

    def pair(self, roi: int, finer: FrameRing, n_new: int) -> None:
        """Fill in the next frames of one ROI, sums of two frames each of the next finer ring.

        The pixels as well, where the finer ring has them.
        """
        from .two_time_kernels import add_pairs, pair_numbers

        pair_numbers(
            finer.number[roi],
            finer.sums[roi],
            2 * self.stop - finer.first,
            self.number[roi],
            self.sums[roi],
            self.inverse[roi],
            self.used,
            n_new,
            self.blocks.n_left[roi],
        )
        if finer.has_pixels(roi):
            add_pairs(finer.pixels[roi], self.stop, n_new, self.pixels[roi])

    def advance(self, n_new: int) -> None:
        """Say that new frames of all ROIs have been filled in."""
        self.used += n_new

    def products(self, roi: int, first: int, stop: int, oldest: int, lowest: int) -> FloatArray:
        """Return sums over the pixels of each block, (n_block, n_old, stop - first).

        Of products of frames [oldest, stop - lowest) with frames [first, stop), indices in the
        series. Those of lags below `lowest`, or of `reach` or more, may be left out.
        """
        from .two_time_kernels import block_products

        of, width = self.pixels[roi], int(self.blocks.widths[roi])
        n_old = stop - lowest - oldest
        out = np.zeros((self.blocks.n_block, n_old, stop - first), of.dtype)

        def multiply(part: range) -> None:
            block_products(
                of, oldest, of, first, part.start * width, width, first - oldest, lowest,
                self.reach - 1, out[part.start : part.stop],
            )  # fmt: skip

        spread(multiply, self.blocks.parts[roi])
        return out
