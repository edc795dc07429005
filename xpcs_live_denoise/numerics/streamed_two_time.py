"""C2 by products of normalised frames: band, map, and the levels that long lags come from."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpcs_live_denoise.numerics.estimator.sums import AgeSums
from xpcs_live_denoise.records.types import Array, FloatArray

from .arrays import LEVEL_LAGS
from .band import RowBand
from .c2_map import C2Map
from .events import EventRing, NewFrames, RoiEvents, no_events
from .map_history import MOST_IN_LISTS
from .newest_frames import FrameRing, PixelBlocks
from .static import MeanImages
from .threads import spread

TOGETHER = 80  # most frames that are multiplied at once
_DUE = 20  # frames of a level that are worth it

# Share of a ROI's pixels that hold counts below which the band is faster by events than by matrix
# products, and the share at which it goes back: not with every frame.
_SPARSE, _NOT_SPARSE = 0.04, MOST_IN_LISTS
_MEMORY = 50  # frames over which this share is averaged


class _Choice:
    """How one ROI is computed; its state is what its last frames were like.

    `share` is that of the pixels that held counts, averaged over 50 frames; NaN before any came.
    """

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self.share: float = float("nan")
        self._wait = 0  # frames until it is looked again whether these are photon counts
        self.by_events = False

    @property
    def most_events(self) -> float:
        """The share of pixels beyond which events need not be found; 0: not at all."""
        if self._engine == "dense" or self._wait > 0:
            return 0.0
        if self._engine == "events":
            return 1.0
        return 2 * MOST_IN_LISTS if not self.share > MOST_IN_LISTS else 0.0

    def saw(self, n_frames: int, share: float, *, are_counts: bool) -> None:
        """Take notice of new frames."""
        weight = min(n_frames / _MEMORY, 1.0)
        known = share if np.isnan(self.share) else self.share
        self.share = (1 - weight) * known + weight * share
        self._wait = self._wait - n_frames if are_counts else _MEMORY

    def wants_events(self) -> bool:
        """Whether products of events are to be preferred, where events are known."""
        if self._engine != "auto":
            return self._engine == "events"
        return not self.share > (_NOT_SPARSE if self.by_events else _SPARSE)


class StreamedTwoTime:
    """Band and map of a series, and what its sums by age and lag need.

    Its state is the newest frames at full resolution and of each level (`FrameRing`), those at full
    resolution as events as well where they are sparse (`EventRing`), how many of each have been
    added, how far these have been multiplied, and band, map, sums and images. A level averages
    twice as many frames as the one before and is kept only where there are `sums`; its frames are
    made and multiplied when there are 20, or by `catch_up`. Memory does not grow but for the band,
    which `band.release` shortens.

    Each ROI is computed by itself, on any thread, and by itself "dense" or by events.
    """

    def __init__(
        self,
        blocks: PixelBlocks,
        band: RowBand,
        c2_map: C2Map,
        *,
        engine: str,
        dtype: np.dtype[Any],
        sums: AgeSums | None = None,
        images: MeanImages | None = None,
        weights: Array | None = None,
    ) -> None:
        self.band = band
        self.map = c2_map
        # Frames that were added, and of each level: changes at once and last, so that an
        # interruption changes nothing.
        self._added: tuple[int, tuple[int, ...]] = (0, (0,))
        self._is_at_work = False  # stays true where a call is interrupted
        self._sums = sums
        self._images = images
        reach = max(band.width, LEVEL_LAGS[1] if sums else 0)
        ring = FrameRing(blocks, 0, dtype, reach=reach, most_new=TOGETHER)
        self._rings = [ring]
        self._dtype = dtype
        none = np.empty(0, dtype)
        self._rois = [
            _Roi(ring, roi, none if weights is None else weights[own], engine)
            for roi, own in enumerate(blocks.slices)
        ]

    @property
    def n_frames(self) -> int:
        """Frames that were added."""
        return self._added[0]

    @property
    def blocks(self) -> PixelBlocks:
        """How pixels lie in ROIs and blocks."""
        return self._rings[0].blocks

    @property
    def engine(self) -> str:
        """The engine that computes the band of most pixels now."""
        n = self.blocks.n_pixels
        by_events = np.array([one.choice.by_events for one in self._rois])
        return "events" if 2 * n[by_events].sum() > n.sum() else "dense"

    @property
    def most_events(self) -> FloatArray:
        """Share of the pixels of each ROI beyond which events need not be found, (n_roi,)."""
        return np.array([one.choice.most_events for one in self._rois])

    def append(self, frames: NewFrames) -> None:
        """Take at most 80 new frames."""
        n_new = frames.n_frames
        self.reserve(n_new)
        self._is_at_work = True
        new = self._new_of_each_level(n_new, _DUE)
        if frames.is_gap and self._images is not None:
            self._images.add_gap()

        # One ROI after the other: its pixels stay in the cache.
        found = spread(lambda roi: self._append_roi(roi, frames, new), self.blocks.by_size)
        events = dict(zip(self.blocks.by_size, found, strict=True))
        self._advance(n_new, events)
        self._advance_levels(new)
        if self.map.is_due:
            spread(self.map.multiply, self.blocks.by_size)
            self.map.settle()
        self._is_at_work = False

    def reserve(self, n_new: int) -> None:
        """Make room for new frames: where memory is refused, it is so here."""
        self._rewind()
        self._is_at_work = True
        self.band.reserve(n_new)
        self.map.reserve(n_new)
        if self._sums is not None and self._images is not None:
            self._sums.reserve(self.n_frames + n_new)
            self._images.reserve(n_new)
        self._is_at_work = False

    def _append_roi(self, roi: int, frames: NewFrames, new: list[int]) -> RoiEvents | None:
        """Take new frames of one ROI, and return them as events where they are known so."""
        events = self._rois[roi].take(frames, self._images, self.n_frames)
        self._multiply(roi, 0, new[0], events)
        self._add_to_levels(roi, new, events)
        self.map.add(roi, self._rings[0], events, self._rois[roi].weights, frames.n_frames)
        return events

    def catch_up(self) -> None:
        """Make and multiply what waits: frames of the levels, and bins of the map."""
        self._rewind()
        self._is_at_work = True
        new = self._new_of_each_level(0, 1)

        def multiply(roi: int) -> None:
            self._add_to_levels(roi, new, None)
            self.map.multiply(roi)

        if any(new) or self.map.is_behind:
            spread(multiply, self.blocks.by_size)
            self._advance_levels(new)
            self.map.settle()
        self._is_at_work = False

    # --- steps -----------------------------------------------------------------------------

    def _rewind(self) -> None:
        """Set the counters to the frames that were added, where an interruption left others."""
        if not self._is_at_work:
            return
        n, stops = self._added
        for power, ring in enumerate(self._rings):
            stop = stops[power] if power < len(stops) else 0
            ring.used = stop - ring.first
        for one in self._rois:
            one.events.rewind(n)
        self.map.rewind(n)
        self.band.stop = n

    def _new_of_each_level(self, n_new: int, least: int) -> list[int]:
        """Return how many frames each level gets, none if less than `least`; make room for them."""
        new = [n_new]
        while self._sums is not None:
            power = len(new)
            made = self._rings[power].stop if power < len(self._rings) else 0
            waiting = (self._rings[power - 1].stop + new[-1]) // 2 - made
            if power == len(self._rings):
                if waiting < least:
                    break
                self._rings.append(
                    FrameRing(
                        self.blocks,
                        power,
                        self._dtype,
                        reach=LEVEL_LAGS[1],
                        most_new=TOGETHER // 2 + _DUE,
                    )
                )
            new.append(waiting if waiting >= least else 0)
        for power, ring in enumerate(self._rings):
            coarser = self._rings[power + 1].stop * 2 if power + 1 < len(self._rings) else ring.stop
            ring.make_room(new[power], min(ring.stop - ring.reach + 1, coarser))
        return new

    def _add_to_levels(self, roi: int, new: list[int], events: RoiEvents | None) -> None:
        """Make and multiply new frames of the levels; `events` are new frames that are so."""
        finest = self._rings[0]
        for power in (m for m in range(1, len(new)) if new[m]):
            self._rings[power].pair(roi, self._rings[power - 1], new[power])
            if power == 1 and not finest.has_pixels(roi):
                self._rois[roi].events.write_pairs(events, self._rings[1], new[1])
            self._multiply(roi, power, new[power], None)

    def _multiply(self, roi: int, power: int, n_new: int, events: RoiEvents | None) -> None:
        """Multiply the `n_new` newest frames of a level with those before."""
        ring = self._rings[power]
        lowest, first, stop = LEVEL_LAGS[0] if power else 0, ring.stop, ring.stop + n_new
        oldest = max(first - ring.reach + 1, 0)
        if stop - lowest <= oldest:  # too few for the lags of a level
            return
        if events is not None and self._rois[roi].choice.by_events:
            products = self._rois[roi].events.products(events, oldest)
        else:
            products = ring.products(roi, first, stop, oldest, lowest)
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
            1 / ring.n_pixels[roi],
            first,
            oldest,
            self.band.new_rows(roi, n_new),
        )

    def _advance(self, n_new: int, events: dict[int, RoiEvents | None]) -> None:
        """Say to all but the levels that new frames are there."""
        for roi, one in enumerate(self._rois):
            one.events.add(self.n_frames, events[roi])
        if self._sums is not None and self._images is not None:
            self._sums.advance(n_new)
            self._images.advance(n_new)
        self.map.advance(n_new)
        self.band.advance(n_new)

    def _advance_levels(self, new: list[int]) -> None:
        """Say that new frames of all levels are there: only now do they count."""
        for ring, count in zip(self._rings, new, strict=True):
            ring.advance(count)
        self._added = (self.n_frames + new[0], tuple(ring.stop for ring in self._rings))


class _Roi:
    """The newest frames of one ROI at full resolution, as rows or as events.

    Its state is which of both, and the events; rows and numbers stand in the ring.
    """

    def __init__(self, ring: FrameRing, roi: int, weights: Array, engine: str) -> None:
        self.weights = weights
        self.choice = _Choice(engine)
        self.events = EventRing(ring, roi, weights)
        self._ring = ring
        self._roi = roi
        self._n_pixels = int(ring.n_pixels[roi])

    def take(self, frames: NewFrames, images: MeanImages | None, n_before: int) -> RoiEvents | None:
        """Fill the next rows of the ring, and return the frames as events where they are so."""
        ring, roi, n_new = self._ring, self._roi, frames.n_frames
        events, are_counts = self._events_of(frames)
        self._choose(events, n_before)
        if events is not None:
            self.events.measure(events)
            if ring.has_pixels(roi):
                self.events.write(events, ring.stop, ring.pixels[roi], 1)
        elif frames.values is not None:
            ring.scale(roi, frames.values, self.weights)
        if images is not None and not frames.is_gap:
            images.add_newest(roi, ring, events, self.weights, n_new)
        if frames.is_gap:
            return events
        if events is None:
            newest = ring.pixels[roi][(ring.stop + n_new - 1) % len(ring.pixels[roi])]
            share = np.count_nonzero(newest) / self._n_pixels
        else:
            share = events.n_events / (n_new * self._n_pixels)
        self.choice.saw(n_new, share, are_counts=are_counts)
        return events

    def _events_of(self, frames: NewFrames) -> tuple[RoiEvents | None, bool]:
        """Return frames as events, None where they are not so; and whether they may be counts."""
        roi = self._roi
        if frames.is_gap:
            return no_events(frames.n_frames, self._ring.blocks.n_block), True
        return frames.events(roi), frames.are_counts(roi)

    def _choose(self, events: RoiEvents | None, n_before: int) -> None:
        """Choose between rows and events for the band, and bring the rows up to date."""
        ring, roi, choice = self._ring, self._roi, self.choice
        known = events is not None and self.events.covers(n_before)
        by_events = known and choice.wants_events()
        if by_events:
            if ring.has_pixels(roi):
                ring.drop_pixels(roi)
        elif not ring.has_pixels(roi):
            rows = ring.empty_pixels(roi)
            self.events.write_all(rows)
            ring.pixels[roi] = rows
            self.events.forget_lookup()
        choice.by_events = by_events
