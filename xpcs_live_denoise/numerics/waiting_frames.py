"""Frames that came and wait until there are enough to be multiplied together."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from xpcs_live_denoise.records.types import Array

from .events import FoundEvents, NewFrames, RoiEvents, find_events
from .gathering import copy_pixels
from .streamed_two_time import TOGETHER, StreamedTwoTime
from .threads import evenly, n_threads, spread


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """The events of some of the frames that wait, from index `first` in the series on."""

    first: int
    found: FoundEvents


class WaitingFrames:
    """Up to 79 frames, which `products` gets with the next, or by `flush`.

    A few frames cost nearly as much as eighty: calls, and what is read to be multiplied with them.
    Its state is their events, where these are worth it, the pixels of the other ROIs, and how many
    frames came. Those of a call that is interrupted have all come, or none has, at least of each
    eighty.
    """

    def __init__(self, products: StreamedTwoTime) -> None:
        self._products = products
        self._n_pixels = int(products.blocks.n_pixels.sum())
        self._rows: Array = np.empty((0, self._n_pixels))
        self._parts: list[_Part] = []
        self._n_came = 0

    @property
    def n_frames(self) -> int:
        """Frames that came, whether they wait or not."""
        return max(self._n_came, self._products.n_frames)

    @property
    def n_waiting(self) -> int:
        """Frames that wait."""
        return self.n_frames - self._products.n_frames

    def take(self, frames: Array, runs: Array) -> None:
        """Take frames (k, ...) of a type that the compiled code knows.

        `runs` (see `gathering`) tell where in them the ROI pixels stand. They are not kept.
        """
        done = 0
        if frames.dtype != self._rows.dtype:
            self.flush()
            self._rows = np.empty((0, self._n_pixels), frames.dtype)
        while done < len(frames):
            new = frames[done : done + TOGETHER - self.n_waiting]
            self._products.reserve(self.n_waiting + len(new))  # if memory is refused, then here
            self._add(new, runs)
            if self.n_waiting == TOGETHER:
                self.flush()
            done += len(new)

    def _add(self, frames: Array, runs: Array) -> None:
        """Find the events of new frames, and copy the pixels of ROIs without."""
        first, before = self.n_frames, self._products.n_frames
        parts = [one for one in self._parts if before <= one.first < first]
        by_values = np.ones(self._products.blocks.n_roi, np.bool_)
        most = self._products.most_events
        if most.any():

            def find(part: range) -> _Part:
                some = frames[part.start : part.stop]
                found = find_events(some, runs, self._products.blocks, most)
                return _Part(first=first + part.start, found=found)

            new = spread(find, _for_threads(frames))
            by_values = np.any([one.found.state for one in new], axis=0)
            parts += new
        if by_values.any():
            place, stop = first - before, first - before + len(frames)
            if len(self._rows) < stop:
                rows = np.empty((TOGETHER, self._n_pixels), frames.dtype)
                rows[: len(self._rows)] = self._rows
                self._rows = rows
            copy_pixels(frames, runs, by_values, self._rows[place:stop])
        self._parts, self._n_came = parts, first + len(frames)

    def flush(self) -> None:
        """Let nothing wait."""
        n, before = self.n_waiting, self._products.n_frames
        if not n:
            return
        parts = [one for one in self._parts if before <= one.first < before + n]
        found = FoundEvents.joined([one.found for one in parts]) if parts else None
        values = None
        if found is None or found.state.any():
            values = self._rows[:n]
            unknown = np.flatnonzero(found.state).tolist() if found else []
            for one, roi in itertools.product(parts, unknown):
                if (events := one.found.of_roi(roi)) is not None:
                    self._fill(roi, events, one.first - before)
        self._products.append(NewFrames(n_frames=n, values=values, found=found))

    def _fill(self, roi: int, events: RoiEvents, place: int) -> None:
        """Write events as pixels: of other frames that wait only pixels are known."""
        own = self._products.blocks.slices[roi]
        rows = self._rows[place : place + events.n_frames, own]
        rows[:] = 0
        n_each = events.bounds[:, -1] - events.bounds[:, 0]
        # Those of one ROI follow each other in a part.
        some = slice(int(events.bounds[0, 0]), int(events.bounds[-1, -1]))
        frame = np.repeat(np.arange(events.n_frames), n_each)
        rows[frame, events.pixels[some]] = events.counts[some]


def _for_threads(frames: Array) -> list[range]:
    """Split frames for threads; one by one where each has to be brought into one piece."""
    together = frames.flags.c_contiguous
    return evenly(len(frames), min(n_threads(), len(frames)) if together else len(frames))
