"""C2 over the whole series in a bounded number of bins: frame by frame first, then block means."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpcs_live_denoise.records.types import Array, FloatArray

from .arrays import enlarged, next_capacity
from .frame_rings import FrameRing, PixelBlocks

_TOGETHER = 32  # rows that are multiplied at once: the history is then read once for all of them


class C2Map:
    """C2(t1, t2) of every ROI, (n_roi, m, m), in at most `most_bins` bins of `frames_per_bin`.

    A bin is a frame until all bins are used; then neighbours are averaged in pairs. As C2 of summed
    normalised frames is the sum of their C2, an entry stays the mean of C2 over its block, gaps
    left out (on the diagonal, lag 0 among it). Its state is the history, sums of normalised frames
    a bin, how many are in each, and the entries of those that were multiplied; rows wait until
    there are 32 or until they are asked for. Reading consumes nothing.
    """

    def __init__(
        self, blocks: PixelBlocks, most_bins: int, dtype: np.dtype[Any], capacity: int
    ) -> None:
        self.frames_per_bin = 1
        self.n_frames = 0
        self._blocks = blocks
        self._most = most_bins
        self._capacity = min(capacity, most_bins)
        self._history: list[Array] = [
            np.zeros((blocks.n_block, self._capacity, int(width)), dtype) for width in blocks.widths
        ]
        self._number = np.zeros((blocks.n_roi, self._capacity))
        self._values = np.empty((blocks.n_roi, self._capacity, self._capacity), dtype)
        self._n_done = 0  # full bins of which all entries are there
        self._settled_at = 0  # frames that had come then

    @property
    def n_bins(self) -> int:
        """Bins that hold frames; the last one may not be full."""
        return self._bins(0)

    def is_due(self, n_new: int) -> bool:
        """Whether, with new frames, enough bins wait to be multiplied together."""
        return self._bins(n_new) - self._n_done >= _TOGETHER

    @property
    def is_behind(self) -> bool:
        """Whether frames came since entries were multiplied."""
        return self._settled_at < self.n_frames

    @property
    def values(self) -> FloatArray:
        """C2 of the bins, (n_roi, m, m), where nothing waits to be multiplied; a read-only view."""
        view: FloatArray = self._values[:, : self.n_bins, : self.n_bins]
        view.flags.writeable = False
        return view

    def reserve(self, n_new: int) -> None:
        """Make room for new frames."""
        needed = self.n_frames + n_new
        while needed > self._most * self.frames_per_bin:
            self._merge()
        bins = -(-needed // self.frames_per_bin)
        if bins <= self._capacity:
            return
        self._capacity = next_capacity(self._capacity, bins, self._most)
        n_roi = self._blocks.n_roi
        for roi, old in enumerate(self._history):
            self._history[roi] = enlarged(old, (len(old), self._capacity, old.shape[2]), 0)
        self._number = enlarged(self._number, (n_roi, self._capacity), 0)
        self._values = enlarged(self._values, (n_roi, self._capacity, self._capacity))

    def add(self, roi: int, ring: FrameRing, n_new: int) -> None:
        """Add the rows of a ring that have been filled last to one ROI; then `advance` for all."""
        of, history, number = ring.pixels[roi], self._history[roi], self._number[roi]
        for k in range(n_new):
            into, place = divmod(self.n_frames + k, self.frames_per_bin)
            if place:
                history[:, into] += of[:, ring.used + k]
                number[into] += ring.number[roi, ring.used + k]
            else:
                history[:, into] = of[:, ring.used + k]
                number[into] = ring.number[roi, ring.used + k]

    def advance(self, n_new: int) -> None:
        """Say that new frames have been added to all ROIs, or are missing."""
        self.n_frames += n_new

    def rewind(self, n_frames: int) -> None:
        """Forget frames from `n_frames` on, which were added by a call that was interrupted."""
        self.n_frames = n_frames
        self._n_done = min(self._n_done, n_frames // self.frames_per_bin)
        self._settled_at = min(self._settled_at, n_frames)

    def multiply(self, roi: int, n_new: int) -> None:
        """Compute the entries of the bins of one ROI that wait, `n_new` frames not yet advanced.

        Then `settle` for all.
        """
        from .two_time_kernels import block_products

        first, stop = self._n_done, self._bins(n_new)
        history = self._history[roi]
        number = self._number[roi]
        for start in range(first, stop, _TOGETHER):
            end = min(start + _TOGETHER, stop)
            sums = np.zeros((1, end, end - start), history.dtype)
            block_products(history, 0, history, start, end, 0, sums)
            columns = sums[0]
            pairs = np.multiply.outer(number[:end], number[start:end]) * self._blocks.n_pixels[roi]
            with np.errstate(divide="ignore", invalid="ignore"):
                columns /= np.where(pairs > 0, pairs, np.nan).astype(columns.dtype)
            # Rounding depends on the order of the factors: one triangle decides for both.
            corner = columns[start:]
            row, col = np.tril_indices(corner.shape[1], -1)
            corner[row, col] = corner[col, row]
            self._values[roi, :end, start:end] = columns
            self._values[roi, start:end, :end] = columns.T

    def settle(self) -> None:
        """Say that all bins have been multiplied; one that is not full will be so again."""
        self._n_done = self.n_frames // self.frames_per_bin
        self._settled_at = self.n_frames

    def _bins(self, n_new: int) -> int:
        return -(-(self.n_frames + n_new) // self.frames_per_bin)

    def _merge(self) -> None:
        """Average neighbouring bins in pairs."""
        half, bins, done = self._most // 2, self.n_bins, self._n_done // 2
        merged = np.empty_like(self._values)  # what was read before stays as it is
        for roi, history in enumerate(self._history):
            n = self._number[roi]
            pairs = np.multiply.outer(n[: 2 * done], n[: 2 * done])
            total = np.nan_to_num(self._values[roi, : 2 * done, : 2 * done]) * pairs
            blocks = total.reshape(done, 2, done, 2).sum(axis=(1, 3))
            count = pairs.reshape(done, 2, done, 2).sum(axis=(1, 3))
            into = merged[roi, :done, :done]
            into[...] = np.nan
            np.divide(blocks, count, out=into, where=count > 0, casting="same_kind")
            for old in (*history, n):
                old[bins:] = 0
                old[:half] = old[0 : 2 * half : 2] + old[1 : 2 * half : 2]
        self._values = merged
        self.frames_per_bin *= 2
        self._n_done = done
