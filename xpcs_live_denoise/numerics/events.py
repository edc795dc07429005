"""Frames as their non-zero pixels: how these are found, and products of sparse frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpcs_live_denoise.errors import FrameShapeError
from xpcs_live_denoise.records.types import Array, FloatArray, IntArray

from .newest_frames import FrameRing, PixelBlocks, known

_WORD = 64  # a pixel's counts in so many frames are one piece of memory, the size of a cache line
_SPARE = 64  # events for which there is room in any case: more than are found at a time
_EMPTIED = 8  # frames of the lookup that are emptied at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class RoiEvents:
    """The non-zero pixels of one ROI in k frames; each frame's stand block by block."""

    counts: Array  # (n,) uint8
    pixels: Array  # (n,) int32: in the ROI
    bounds: IntArray  # (k, n_block + 1): where those of each frame and block begin and end

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self.bounds)

    @property
    def n_events(self) -> int:
        """Number of non-zero pixels, or a few more."""
        return int((self.bounds[:, -1] - self.bounds[:, 0]).sum())

    def part(self, start: int, stop: int | None = None) -> RoiEvents:
        """Return frames [start, stop) alone; without `stop`, all from `start` on."""
        some = self.bounds[start:stop]
        return RoiEvents(counts=self.counts, pixels=self.pixels, bounds=some)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundEvents:
    """The non-zero pixels of all ROIs in k frames.

    Those of a ROI are known where its `state` is 0; else it tells why not (`event_kernels`).
    """

    counts: Array  # (n,) uint8
    pixels: Array  # (n,) int32: in the ROI
    bounds: IntArray  # (n_roi, k, n_block + 1): where those of each frame and block begin and end
    state: Array  # (n_roi,) int8

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self.bounds.shape[1]

    @classmethod
    def joined(cls, parts: Sequence[FoundEvents]) -> FoundEvents:
        """Return those of frames that follow each other."""
        if len(parts) == 1:
            return parts[0]
        before = np.cumsum([0, *(len(one.counts) for one in parts[:-1])])
        bounds = [one.bounds + n for one, n in zip(parts, before, strict=True)]
        return cls(
            counts=np.concatenate([one.counts for one in parts]),
            pixels=np.concatenate([one.pixels for one in parts]),
            bounds=np.concatenate(bounds, axis=1),
            state=np.max([one.state for one in parts], axis=0),
        )

    def of_roi(self, roi: int) -> RoiEvents | None:
        """Return those of a ROI, None where they are not known of all frames."""
        if self.state[roi]:
            return None
        return RoiEvents(counts=self.counts, pixels=self.pixels, bounds=self.bounds[roi])


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFrames:
    """Frames of one call: events of the ROIs that have some, pixels of the others, or a gap.

    `values` are in one piece and of a type that the compiled code knows; those of a ROI are there
    unless its events are.
    """

    n_frames: int
    values: Array | None = None  # (k, n_pixels)
    found: FoundEvents | None = None

    @property
    def is_gap(self) -> bool:
        """Whether these frames could not be had."""
        return self.values is None and self.found is None

    def events(self, roi: int) -> RoiEvents | None:
        """Return the events of a ROI, None where they are not known of all frames."""
        return None if self.found is None else self.found.of_roi(roi)

    def are_counts(self, roi: int) -> bool:
        """Whether the pixels of a ROI may be photon counts up to 255."""
        from .event_kernels import NO_COUNTS

        return self.found is None or self.found.state[roi] != NO_COUNTS


def no_events(n_frames: int, n_block: int) -> RoiEvents:
    """Return frames without any count."""
    return RoiEvents(
        counts=np.empty(0, np.uint8),
        pixels=np.empty(0, np.int32),
        bounds=np.zeros((n_frames, n_block + 1), np.int64),
    )


def find_events(frames: Array, runs: Array, blocks: PixelBlocks, most: FloatArray) -> FoundEvents:
    """Return the non-zero pixels of frames (k, ...) of a known type.

    `runs` are those of `gathering`. `most` (n_roi,): the share of its pixels beyond which those of
    a ROI need not be found; 0: not at all.
    """
    from . import event_kernels

    k = len(frames)
    state = np.where(most > 0, event_kernels.FOUND, event_kernels.NOT_LOOKED).astype(np.int8)
    rooms = np.where(most > 0, (most * k * blocks.n_pixels).astype(np.int64) + _SPARE, 0)
    room = np.concatenate([[0], np.cumsum(rooms)])
    counts, pixels = np.empty(room[-1], np.uint8), np.empty(room[-1], np.int32)
    bounds = np.empty((blocks.n_roi, k, blocks.n_block + 1), np.int64)
    whole = np.ascontiguousarray(frames.reshape(k, -1))  # a flipped view stays one when reshaped
    n = event_kernels.find_events(whole, runs, room, counts, pixels, bounds, state)
    return FoundEvents(
        counts=counts[:n].copy(), pixels=pixels[:n].copy(), bounds=bounds, state=state
    )


class EventSorter:
    """Sorts events that come as such by ROI, frame and pixel block; its state is room for that."""

    def __init__(self, blocks: PixelBlocks) -> None:
        self._blocks = blocks
        widths = np.diff(blocks.edges, axis=1).reshape(-1)
        self._block_of = np.repeat(np.arange(len(widths), dtype=np.int32), widths)
        self._seen = np.full(len(self._block_of), -1, np.int64)

    def sorted(self, counts: Array, pixels: Array, starts: IntArray) -> NewFrames:
        """Return frames of checked events; a ROI whose numbers are no counts gets its values."""
        from . import event_kernels

        blocks = self._blocks
        k, n = len(starts) - 1, int(starts[-1] - starts[0])
        bounds = np.zeros((blocks.n_roi, k, blocks.n_block + 1), np.int64)
        state = np.full(blocks.n_roi, event_kernels.FOUND, np.int8)
        values, places = np.zeros(n), np.zeros(n, np.int32)
        event_kernels.sort_events(
            counts, pixels, starts, blocks.starts, self._block_of, self._seen, values, places,
            bounds, state,
        )  # fmt: skip
        with np.errstate(invalid="ignore"):  # of ROIs that are taken as pixels
            small = values.astype(np.uint8)
        found = FoundEvents(counts=small, pixels=places, bounds=bounds, state=state)
        if not state.any():
            return NewFrames(n_frames=k, found=found)
        values = dense_frames(counts, pixels, starts, len(self._block_of))
        return NewFrames(n_frames=k, values=values, found=found)


def dense_frames(counts: Array, pixels: Array, starts: IntArray, n_pixels: int) -> FloatArray:
    """Return checked events as frames, (k, n_pixels)."""
    frames = np.zeros((len(starts) - 1, n_pixels))
    some = slice(int(starts[0]), int(starts[-1]))
    frame = np.repeat(np.arange(len(frames), dtype=np.int64), np.diff(starts))
    inside = pixels[some] >= 0
    np.add.at(frames, (frame[inside], pixels[some][inside]), counts[some][inside])
    return frames


def checked_events(
    counts: Any, pixels: Any, starts: Any, n_pixels: int
) -> tuple[Array, Array, IntArray]:
    """Return the arrays of `TwoTimeAccumulator.append_events`, or raise FrameShapeError."""
    values, places, begins = np.asarray(counts), np.asarray(pixels), np.asarray(starts)
    if values.ndim != 1 or values.shape != places.shape or values.dtype.kind not in "uifb":
        raise FrameShapeError(
            f"Events: got counts of shape {values.shape} and dtype {values.dtype} for pixels of "
            f"shape {places.shape}, expected two arrays of one length, real numbers. Give one "
            "count and one pixel an event."
        )
    whole = places.dtype.kind in "iu" and begins.dtype.kind in "iu"
    if not whole or begins.ndim != 1 or not len(begins):
        raise FrameShapeError(
            f"Events: got pixels of dtype {places.dtype}, starts of shape {begins.shape} and dtype "
            f"{begins.dtype}; expected whole numbers, and k + 1 starts for k frames."
        )
    begins = begins.astype(np.int64)
    if begins[0] < 0 or begins[-1] > len(values) or (np.diff(begins) < 0).any():
        raise FrameShapeError(
            f"Events: got starts from {begins[0]} to {begins[-1]} for {len(values)} events, "
            "expected numbers that never fall and lie within 0 and the number of events: frame j "
            "holds the events starts[j] .. starts[j + 1] - 1."
        )
    if len(places) and int(places.max()) >= n_pixels:
        raise FrameShapeError(
            f"Events: got pixel {int(places.max())}, expected numbers below {n_pixels}, the ROI "
            "pixels, or -1 for none. RoiMap.pixel_numbers gives them for detector pixels."
        )
    return known(values), places.astype(np.int64), begins


class EventRing:
    """The newest frames of one ROI as their non-zero pixels.

    Its state is the events of the newest `ring.reach` frames, and a lookup made of them: what each
    pixel held in each of these frames. The numbers of frames stand in `ring`. The lookup is made
    anew where it does not end with the last frame: after an interruption, or when it was not
    needed for a while.
    """

    def __init__(self, ring: FrameRing, roi: int, weights: Array) -> None:
        self._ring = ring
        self._roi = roi
        self._weights = weights
        self._lists: deque[tuple[int, RoiEvents]] = deque()
        self._lookup: Array | None = None
        self._lookup_stop = -1

    @property
    def first(self) -> int:
        """The frame from which on, without a break, events are known; a large one for none."""
        return self._lists[0][0] if self._lists else np.iinfo(np.int64).max

    def covers(self, n_frames: int) -> bool:
        """Whether all frames that the next one is multiplied with are known, of `n_frames`."""
        return not n_frames or self.first <= max(n_frames - self._ring.reach + 1, 0)

    def add(self, first: int, events: RoiEvents | None) -> None:
        """Take frames from index `first` on; None: what is known ends here."""
        if events is None:
            self._lists.clear()
            return
        self._lists.append((first, events))
        needed = first + events.n_frames - self._ring.reach
        while self._lists[0][0] + self._lists[0][1].n_frames <= needed:
            self._lists.popleft()

    def rewind(self, n_frames: int) -> None:
        """Forget frames from `n_frames` on, which were added by a call that was interrupted."""
        while self._lists and self._lists[-1][0] >= n_frames:
            self._lists.pop()

    def measure(self, events: RoiEvents) -> None:
        """Fill the next rows of the numbers of the ring."""
        from .event_kernels import measure_events

        ring, roi = self._ring, self._roi
        measure_events(
            events.counts,
            events.pixels,
            events.bounds,
            self._weights,
            int(ring.n_pixels[roi]),
            ring.blocks.n_left[roi],
            ring.number[roi],
            ring.per_mean[roi],
            ring.sums[roi],
            ring.inverse[roi],
            ring.used,
        )

    def products(self, events: RoiEvents, oldest: int) -> FloatArray:
        """Return what `FrameRing.products` does, of the next frames with those from `oldest` on."""
        from .event_kernels import correlate_events

        ring, first = self._ring, self._ring.stop
        lookup = self._made_lookup(first)
        n_block, k = ring.blocks.n_block, events.n_frames
        out = np.zeros((n_block, first + k - oldest, k), self._weights.dtype)
        self._lookup_stop = -1
        correlate_events(
            events.counts,
            events.pixels,
            events.bounds,
            self._weights,
            first,
            oldest,
            ring.reach,
            lookup,
            ring.per_mean[self._roi],
            oldest - ring.first,
            np.empty(lookup.shape[1], out.dtype),
            out,
        )
        self._lookup_stop = first + k
        return out

    def _made_lookup(self, stop: int) -> Array:
        """Return what each pixel held in the newest frames before `stop`, (n_pixels, slots)."""
        from .event_kernels import enter_events

        if self._lookup is not None and self._lookup_stop == stop:
            return self._lookup
        n_slot = -(-(self._ring.reach + _EMPTIED) // _WORD) * _WORD
        lookup = np.zeros((int(self._ring.n_pixels[self._roi]), n_slot), np.uint8)
        for first, events in self._lists:
            enter_events(events.counts, events.pixels, events.bounds, first, lookup)
        self._lookup, self._lookup_stop = lookup, stop
        return lookup

    def forget_lookup(self) -> None:
        """Give the memory of the lookup back."""
        self._lookup = None

    def write(self, events: RoiEvents, first: int, rows: Array, size: int) -> None:
        """Add normalised frames from index `first` on to rows, each of `size` frames."""
        from .event_kernels import add_events_to_rows

        add_events_to_rows(
            events.counts,
            events.pixels,
            events.bounds,
            self._weights,
            self._ring.per_mean[self._roi],
            first - self._ring.first,
            first,
            size,
            self._ring.blocks.edges[self._roi],
            int(self._ring.blocks.widths[self._roi]),
            rows,
        )

    def write_all(self, rows: Array) -> None:
        """Fill rows of the ring with the frames that are known."""
        for first, events in self._lists:
            gone = max(self._ring.first - first, 0)
            self.write(events.part(gone), first + gone, rows, 1)

    def write_pairs(self, newest: RoiEvents | None, coarser: FrameRing, n_new: int) -> None:
        """Fill in the next frames of the next level; `newest` are frames that are not added yet."""
        begin, end = 2 * coarser.stop, 2 * (coarser.stop + n_new)
        lists = [*self._lists, *([] if newest is None else [(self._ring.stop, newest)])]
        for first, events in lists:
            start, stop = max(begin - first, 0), min(end - first, events.n_frames)
            if start < stop:
                self.write(events.part(start, stop), first + start, coarser.pixels[self._roi], 2)
