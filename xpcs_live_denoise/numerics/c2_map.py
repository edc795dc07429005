"""C2 over the whole series in a bounded number of bins: frame by frame first, then block means."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpcs_live_denoise.records.types import Array, FloatArray

from .arrays import enlarged, next_capacity
from .events import RoiEvents
from .map_history import MOST_IN_LISTS, BinLists, BinRows, MapBins
from .newest_frames import LINE, FrameRing, PixelBlocks
from .threads import spread

_TOGETHER = 120  # bins that are multiplied at once: the history is then read once for all of them
# Bytes up to which room for all bins is reserved at once. The system hands memory out where it is
# written to, so that this costs nothing; to move it later would.
_AT_ONCE = 2**30


class C2Map:
    """C2(t1, t2) of every ROI, (n_roi, m, m), in at most `most_bins` bins of `frames_per_bin`.

    A bin is a frame until all bins are used; then neighbours are averaged in pairs. As C2 of summed
    normalised frames is the sum of their C2, an entry stays the mean of C2 over its block, gaps
    left out (on the diagonal, lag 0 among it). Its state is the history of each ROI and the entries
    of the bins that were multiplied; rows wait until there are 120 or until they are asked for.
    Reading consumes nothing.

    `sparse`: the history of a ROI begins as lists of non-zero pixels. It becomes rows for good
    where a frame comes that is no list of events, or 5 % of the pixels of a bin hold counts: bins
    that hold more and more frames fill up.
    """

    def __init__(
        self,
        blocks: PixelBlocks,
        most_bins: int,
        dtype: np.dtype[Any],
        capacity: int,
        *,
        sparse: bool = False,
    ) -> None:
        self.frames_per_bin = 1
        self.n_frames = 0
        self._blocks = blocks
        self._most = most_bins
        numbers = most_bins * (int(blocks.rows.sum()) + blocks.n_roi * most_bins)
        at_once = numbers * dtype.itemsize <= _AT_ONCE
        self._capacity = most_bins if at_once else min(capacity, most_bins)
        self._history: list[MapBins] = [
            BinLists(n, self._capacity, dtype)
            if sparse
            else BinRows(blocks, roi, self._capacity, dtype)
            for roi, n in enumerate(blocks.n_pixels.tolist())
        ]
        self._values = np.empty(self._shape(self._capacity), dtype)
        self._merged: Array | None = None  # entries of wider bins, while these are made
        self._settled_at = 0  # frames that had come when entries were multiplied

    def _shape(self, capacity: int) -> tuple[int, int, int]:
        # Rows of a length that is no power of two do not crowd into a few sets of the cache.
        return self._blocks.n_roi, capacity, capacity + LINE

    @property
    def n_bins(self) -> int:
        """Bins that hold frames; the last one may not be full."""
        return -(-self.n_frames // self.frames_per_bin)

    @property
    def is_due(self) -> bool:
        """Whether enough bins wait to be multiplied together."""
        return self.n_bins - min(one.n_done for one in self._history) >= _TOGETHER

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
        capacity = next_capacity(self._capacity, bins, self._most)
        if capacity == self._capacity:
            return
        for one in self._history:
            one.reserve(capacity)
        self._values = enlarged(self._values, self._shape(capacity))
        self._capacity = capacity

    def add(
        self, roi: int, ring: FrameRing, events: RoiEvents | None, weights: Array, n_new: int
    ) -> None:
        """Add the rows of a ring that have been filled last to one ROI; then `advance` for all.

        `events` are the same frames, where they are known so.
        """
        history = self._history[roi]
        if isinstance(history, BinLists) and (events is None or history.share > MOST_IN_LISTS):
            history = history.as_rows(self._blocks, roi, ring.stop)
            self._history[roi] = history
        history.add(ring, roi, events, weights, n_new)

    def advance(self, n_new: int) -> None:
        """Say that new frames have been added to all ROIs, or are missing."""
        self.n_frames += n_new

    def rewind(self, n_frames: int) -> None:
        """Forget frames from `n_frames` on, which were added by a call that was interrupted."""
        self.n_frames = n_frames
        for history in self._history:
            history.rewind(n_frames)
        if self._merged is not None:
            self._merge()

    def multiply(self, roi: int) -> None:
        """Compute the entries of the bins of one ROI that wait; then `settle` for all."""
        from .two_time_kernels import write_map

        history = self._history[roi]
        n_full, stop = self.n_frames // self.frames_per_bin, self.n_bins
        for start in range(history.n_done, stop, _TOGETHER):
            end = min(start + _TOGETHER, stop)
            products = history.products(start, end, n_full)
            n_pixels = int(self._blocks.n_pixels[roi])
            write_map(products, history.number, n_pixels, start, self._values[roi])
            history.settle(min(end, n_full))

    def settle(self) -> None:
        """Say that all bins have been multiplied; one that is not full will be so again."""
        self._settled_at = self.n_frames

    def _merge(self) -> None:
        """Average neighbouring bins in pairs."""
        if self._merged is None:
            self._merged = np.empty_like(self._values)  # what was read before stays as it is
        spread(self._merge_roi, self._blocks.by_size)
        self._values, self._merged = self._merged, None
        self.frames_per_bin *= 2

    def _merge_roi(self, roi: int) -> None:
        from .two_time_kernels import halve_map

        history = self._history[roi]
        if history.size > self.frames_per_bin or self._merged is None:
            return  # by a call that was interrupted
        done = history.n_done // 2
        halve_map(self._values[roi], history.number, done, self._merged[roi])
        history.halve()
