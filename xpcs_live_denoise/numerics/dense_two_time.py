"""C2 by products of normalised frames: band, map, and the levels that long lags come from."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpcs_live_denoise.numerics.estimator.sums import AgeSums
from xpcs_live_denoise.records.types import Array, FloatArray

from .arrays import LEVEL_LAGS
from .band import RowBand
from .c2_map import C2Map
from .frame_rings import FrameRing, PixelBlocks
from .static import MeanImages

TOGETHER = 20  # frames that are multiplied at once, of any level


class DenseTwoTime:
    """Band and map of a series, and what its sums by age and lag need.

    Its state is the newest frames at full resolution and of each level (`FrameRing`), how far these
    have been multiplied, and band, map, sums and images. A level averages twice as many frames as
    the one before and is kept only where there are `sums`; its products wait until there are 20
    frames, or for `catch_up`. Memory does not grow but for the band, which `band.release` shortens.
    """

    def __init__(
        self,
        blocks: PixelBlocks,
        band: RowBand,
        c2_map: C2Map,
        *,
        dtype: np.dtype[Any],
        sums: AgeSums | None = None,
        images: MeanImages | None = None,
        weights: Array | None = None,
    ) -> None:
        self.band = band
        self.map = c2_map
        self._blocks = blocks
        self._sums = sums
        self._images = images
        self._weights = weights
        self._dtype = dtype
        reach = max(band.width, LEVEL_LAGS[1] if sums else 0)
        self.n_frames = 0  # that were added; changes last, so that an interruption changes nothing
        self._rings = [FrameRing(blocks, 0, dtype, reach=reach, most_new=TOGETHER)]
        self._multiplied = [0]  # frames of each level

    def append(self, pixels: Array | None, n_new: int) -> None:
        """Take at most 20 new frames, their ROI pixels (n_new, n_pixels); None: a gap."""
        self._rewind()
        self._reserve(n_new)
        new = self._new_of_each_level(n_new)
        due = [0, *(m for m in range(1, len(new)) if self._n_waiting(m, new[m]) >= TOGETHER)]
        coarser = [power for power in range(1, len(new)) if new[power]]
        if pixels is None:
            self._rings[0].leave_empty(n_new)
            if self._images is not None:
                self._images.add_gap()
        multiply_map = self.map.is_due(n_new)

        for roi in range(self._blocks.n_roi):  # one after the other: its pixels stay in the cache
            if pixels is not None:
                self._scale(roi, pixels)
            for power in coarser:
                self._rings[power].pair(roi, self._rings[power - 1], new[power])
            for power in due:
                self._multiply(roi, power, new[power])
            self.map.add(roi, self._rings[0], n_new)
            if multiply_map:
                self.map.multiply(roi, n_new)
        self._advance(n_new, new, due)
        if multiply_map:
            self.map.settle()
        self.n_frames += n_new

    def catch_up(self) -> None:
        """Multiply what waits: frames of the levels, and bins of the map."""
        due = [power for power in range(1, len(self._rings)) if self._n_waiting(power, 0)]
        if not due and not self.map.is_behind:
            return

        for roi in range(self._blocks.n_roi):
            for power in due:
                self._multiply(roi, power, 0)
            self.map.multiply(roi, 0)
        for power in due:
            self._multiplied[power] = self._rings[power].stop
        self.map.settle()

    # --- steps -----------------------------------------------------------------------------

    def _rewind(self) -> None:
        """Set the counters to the frames that were added, from where an interruption left them."""
        n = self.n_frames
        for power, ring in enumerate(self._rings):
            ring.used = (n >> power) - ring.first
            self._multiplied[power] = min(self._multiplied[power], n >> power)
        self.map.rewind(n)
        self.band.stop = n

    def _reserve(self, n_new: int) -> None:
        self.band.reserve(n_new)
        self.map.reserve(n_new)
        if self._sums is None or self._images is None:
            return
        self._sums.reserve(self.n_frames + n_new)
        self._images.reserve(n_new)

    def _new_of_each_level(self, n_new: int) -> list[int]:
        """Return how many frames each level gets, and make room for them."""
        new = [n_new]
        while self._sums is not None:
            power = len(new)
            complete = (self._rings[power - 1].stop + new[-1]) // 2
            if power == len(self._rings):
                if not complete:
                    break
                self._rings.append(
                    FrameRing(
                        self._blocks, power, self._dtype, reach=LEVEL_LAGS[1], most_new=TOGETHER
                    )
                )
                self._multiplied.append(0)
            new.append(complete - self._rings[power].stop)
        for power, ring in enumerate(self._rings):
            finer = self._multiplied[power] - ring.reach + 1
            coarser = self._rings[power + 1].stop * 2 if power + 1 < len(self._rings) else ring.stop
            ring.make_room(new[power], min(finer, coarser))
        return new

    def _n_waiting(self, power: int, n_new: int) -> int:
        return self._rings[power].stop + n_new - self._multiplied[power]

    def _scale(self, roi: int, pixels: Array) -> None:
        """Normalise the pixels of one ROI into the ring of single frames."""
        start = int(self._blocks.starts[roi])
        own = slice(start, start + int(self._blocks.n_pixels[roi]))
        # Counts of more than 24 bits keep their digits until they are divided.
        exact = pixels.dtype.itemsize > 2 and pixels.dtype != np.float32
        some = pixels[:, own].astype(np.float64 if exact else np.float32)
        ring = self._rings[0]
        weights = None if self._weights is None else self._weights[own]
        ring.scale(roi, some, weights)
        if self._images is not None:
            scaled, measured = ring.newest(roi, len(pixels))
            self._images.add(roi, scaled.astype(np.float32, copy=False), measured)

    def _multiply(self, roi: int, power: int, n_new: int) -> None:
        """Multiply the frames of a level that wait and its `n_new` newest ones."""
        ring = self._rings[power]
        lowest = LEVEL_LAGS[0] if power else 0
        stop = ring.stop + n_new
        for first in range(self._multiplied[power], stop, TOGETHER):
            last = min(first + TOGETHER, stop)
            oldest = max(first - ring.reach + 1, 0)
            if last - lowest <= oldest:  # too few for the lags of a level
                continue
            products = ring.products(roi, first, last, oldest, last - lowest)
            if power == 0:
                self._write_band(roi, products, first, oldest)
            if self._sums is not None:
                self._sums.add(roi, ring, products, first, oldest)

    def _write_band(self, roi: int, products: FloatArray, first: int, oldest: int) -> None:
        from .two_time_kernels import write_band

        ring = self._rings[0]
        begin, new = oldest - ring.first, first - ring.first
        n_new = products.shape[2]
        write_band(
            products,
            ring.number[roi, begin : begin + products.shape[1]],
            ring.number[roi, new : new + n_new],
            1 / self._blocks.n_pixels[roi],
            first,
            oldest,
            self.band.new_rows(roi, n_new),
        )

    def _advance(self, n_new: int, new: list[int], due: list[int]) -> None:
        """Say to all that new frames are there: only now do they count."""
        for ring, count in zip(self._rings, new, strict=True):
            ring.advance(count)
        for power in due:
            self._multiplied[power] = self._rings[power].stop
        if self._sums is not None and self._images is not None:
            self._sums.advance(n_new)
            self._images.advance(n_new)
        self.map.advance(n_new)
        self.band.advance(n_new)
