"""The newest frames of a series, normalised, at one resolution in time, and their products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from xpcs_live_denoise.records.types import Array, FloatArray, IntArray

from .rois import RoiMap

# Rows beyond those that products need: the newest ones move to the front when all are used.
_SLACK = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelBlocks:
    """How the pixels of each ROI lie in blocks of contiguous pixels, for the jackknife."""

    n_block: int
    n_pixels: IntArray  # (n_roi,)
    starts: IntArray  # (n_roi,): of each ROI among the pixels
    edges: IntArray  # (n_roi, n_block + 1): of the blocks, among the pixels of the ROI
    widths: IntArray  # (n_roi,): pixels of the largest block
    n_left: FloatArray  # (n_roi, n_block): pixels that remain when a block is left out

    @classmethod
    def of(cls, rois: RoiMap, n_block: int) -> PixelBlocks:
        """Split each ROI into `n_block` blocks."""
        edges = rois.n_pixels[:, np.newaxis] * np.arange(n_block + 1) // n_block
        return cls(
            n_block=n_block,
            n_pixels=rois.n_pixels,
            starts=np.array([one.start for one in rois.slices], np.int64),
            edges=edges,
            widths=np.diff(edges, axis=1).max(axis=1),
            n_left=(rois.n_pixels[:, np.newaxis] - np.diff(edges, axis=1)).astype(np.float64),
        )

    @property
    def n_roi(self) -> int:
        """Number of ROIs."""
        return len(self.n_pixels)


class FrameRing:
    """The newest frames of one resolution, each the sum of 2^power normalised frames.

    Its state is, for each ROI, the pixels of the newest `reach` frames and of those that came
    since, how many normalised frames are in each, and what turns products into C2 without one
    block of pixels. Rows are filled from `used` on by functions of one ROI at a time (`scale`,
    `pair`), so that ROIs may go on in threads of their own; `advance` says for all that they are
    there.
    """

    def __init__(
        self, blocks: PixelBlocks, power: int, dtype: np.dtype[Any], *, reach: int, most_new: int
    ) -> None:
        self.power = power
        self.first = 0  # index of the frame in row 0
        self.used = 0  # rows that are there
        self.reach = reach
        self._blocks = blocks
        rooms = reach + most_new + _SLACK
        self.pixels: list[Array] = [
            np.zeros((blocks.n_block, rooms, int(width)), dtype) for width in blocks.widths
        ]
        self.number = np.zeros((blocks.n_roi, rooms))
        # sqrt(pixels left) / (sum over the pixels left) for each block that may be left out.
        self.inverse = np.zeros((blocks.n_roi, blocks.n_block, rooms))
        self.sums = np.zeros((blocks.n_roi, blocks.n_block, rooms))

    @property
    def stop(self) -> int:
        """Index after the newest frame."""
        return self.first + self.used

    @property
    def n_pixels(self) -> IntArray:
        """Pixels of each ROI, (n_roi,)."""
        return self._blocks.n_pixels

    def make_room(self, n_new: int, oldest: int) -> None:
        """Make room for new rows; frames before index `oldest` are no longer needed."""
        if self.used + n_new <= self.number.shape[1]:
            return
        drop = min(max(oldest - self.first, 0), max(self.used - self.reach, 0))
        kept = slice(drop, self.used)
        left = self.used - drop
        for pixels in self.pixels:
            pixels[:, :left] = pixels[:, kept].copy()
        for values in (self.number, self.inverse, self.sums):
            values[..., :left] = values[..., kept].copy()
        self.first += drop
        self.used = left

    def scale(self, roi: int, pixels: Array, weights: Array | None) -> None:
        """Fill the next rows of one ROI with new frames, its pixels (k, n_pixels) of them.

        Pixels are multiplied by `weights`, then divided by their mean. Where that is no positive
        number they are 0, and the number of frames as well.
        """
        from .two_time_kernels import scale_frames

        scale_frames(
            pixels,
            np.empty(0, pixels.dtype) if weights is None else weights,
            self._blocks.edges[roi],
            self._blocks.n_left[roi],
            self.pixels[roi],
            self.number[roi],
            self.sums[roi],
            self.inverse[roi],
            self.used,
        )

    def newest(self, roi: int, n_new: int) -> tuple[Array, Array]:
        """Return the next rows of one ROI as they were filled: (n_new, n_pixels), and numbers."""
        rows = slice(self.used, self.used + n_new)
        widths = np.diff(self._blocks.edges[roi]).tolist()
        of = self.pixels[roi][:, rows]
        parts = [of[block, :, :width] for block, width in enumerate(widths)]
        return np.concatenate(parts, axis=1), self.number[roi, rows]

    def leave_empty(self, n_new: int) -> None:
        """Fill the next rows of all ROIs with frames that could not be had."""
        rows = slice(self.used, self.used + n_new)
        for pixels in self.pixels:
            pixels[:, rows] = 0
        for values in (self.number, self.inverse, self.sums):
            values[..., rows] = 0

    def pair(self, roi: int, finer: FrameRing, n_new: int) -> None:
        """Fill the next rows of one ROI with sums of two frames each of the next finer ring."""
        from .two_time_kernels import pair_frames

        begin = 2 * self.stop - finer.first
        pair_frames(
            finer.pixels[roi],
            finer.number[roi],
            finer.sums[roi],
            begin,
            self.pixels[roi],
            self.number[roi],
            self.sums[roi],
            self.inverse[roi],
            self.used,
            n_new,
            self._blocks.n_left[roi],
        )

    def advance(self, n_new: int) -> None:
        """Say that new rows of all ROIs have been filled."""
        self.used += n_new

    def products(self, roi: int, first: int, stop: int, oldest: int, newest: int) -> FloatArray:
        """Return sums over the pixels of each block, (n_block, newest - oldest, stop - first).

        Of products of frames [oldest, newest) with frames [first, stop), indices in the series.
        """
        from .two_time_kernels import block_products

        of = self.pixels[roi]
        out = np.zeros((len(of), newest - oldest, stop - first), of.dtype)
        shift = first - oldest
        block_products(of, oldest - self.first, of, first - self.first, shift, first - newest, out)
        return out
