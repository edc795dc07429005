"""The newest frames of a series, normalised, at one resolution in time, and their products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from xpcs_live_denoise.records.types import Array, FloatArray, IntArray

from .gathering import KNOWN_TYPES
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

    @property
    def slices(self) -> list[slice]:
        """Where the pixels of each ROI stand among all."""
        stops = (self.starts + self.n_pixels).tolist()
        return [slice(*ends) for ends in zip(self.starts.tolist(), stops, strict=True)]

    @property
    def by_size(self) -> list[int]:
        """The ROIs, the largest first, as `spread` wants them."""
        return np.argsort(-self.n_pixels, kind="stable").tolist()


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
    (`drop_pixels`). Rows are filled from `used` on by functions of one ROI at a time (`scale`,
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
        self.blocks = blocks
        self._dtype = dtype
        rooms = reach + most_new + _SLACK
        self.number = np.zeros((blocks.n_roi, rooms))
        self.per_mean = np.zeros((blocks.n_roi, rooms))
        # sqrt(pixels left) / (sum over the pixels left) for each block that may be left out.
        self.inverse = np.zeros((blocks.n_roi, blocks.n_block, rooms))
        self.sums = np.zeros((blocks.n_roi, blocks.n_block, rooms))
        self.pixels: list[Array] = [self._empty(roi, rooms) for roi in range(blocks.n_roi)]

    def _empty(self, roi: int, rooms: int) -> Array:
        return np.zeros((self.blocks.n_block, rooms, int(self.blocks.widths[roi])), self._dtype)

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
        return self.pixels[roi].shape[1] > 0

    def drop_pixels(self, roi: int) -> None:
        """Keep the pixels of a ROI no more."""
        self.pixels[roi] = self._empty(roi, 0)

    def empty_pixels(self, roi: int) -> Array:
        """Return rows of zeros, (n_block, rows, width), to be filled and set as `pixels[roi]`."""
        return self._empty(roi, self.number.shape[1])

    def make_room(self, n_new: int, oldest: int) -> None:
        """Make room for new rows; frames before index `oldest` are no longer needed."""
        if self.used + n_new <= self.number.shape[1]:
            return
        drop = min(max(oldest - self.first, 0), max(self.used - self.reach, 0))
        kept = slice(drop, self.used)
        left = self.used - drop
        for pixels in self.pixels:
            if pixels.shape[1]:
                pixels[:, :left] = pixels[:, kept].copy()
        for values in (self.number, self.per_mean, self.inverse, self.sums):
            values[..., :left] = values[..., kept].copy()
        self.first += drop
        self.used = left

    def scale(self, roi: int, pixels: Array, weights: Array) -> None:
        """Fill the next rows of one ROI with new frames, (k, n_pixels) of all ROIs.

        Pixels are multiplied by `weights`, where there are any, then divided by their mean. Where
        that is no positive number they are 0, and the number of frames as well.
        """
        from .two_time_kernels import scale_frames

        precision = _precise(pixels.dtype)
        if len(weights):
            precision = np.promote_types(precision, weights.dtype)
        scale_frames(
            pixels,
            int(self.blocks.starts[roi]),
            weights,
            self.blocks.edges[roi],
            self.blocks.n_left[roi],
            np.empty(self.blocks.n_pixels[roi], precision),
            self.pixels[roi],
            self.number[roi],
            self.per_mean[roi],
            self.sums[roi],
            self.inverse[roi],
            self.used,
        )

    def pair(self, roi: int, finer: FrameRing, n_new: int) -> None:
        """Fill the next rows of one ROI with sums of two frames each of the next finer ring.

        The pixels as well, where the finer ring has them.
        """
        from .two_time_kernels import add_rows, pair_numbers

        begin = 2 * self.stop - finer.first
        pair_numbers(
            finer.number[roi],
            finer.sums[roi],
            begin,
            self.number[roi],
            self.sums[roi],
            self.inverse[roi],
            self.used,
            n_new,
            self.blocks.n_left[roi],
        )
        if finer.has_pixels(roi):
            add_rows(
                finer.pixels[roi], begin, 2 * n_new, 2 * self.stop, 2, self.first, self.pixels[roi]
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
