"""What a map keeps of the bins it has, so that new ones can be multiplied with them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpcs_live_denoise.records.types import Array, FloatArray, IntArray

from .arrays import enlarged
from .events import RoiEvents
from .newest_frames import FrameRing, PixelBlocks, empty_rows
from .threads import spread

# Share of a bin's pixels that hold counts beyond which matrix products are faster than lists.
MOST_IN_LISTS = 0.05


class MapBins(ABC):
    """Bins of one ROI: sums of normalised frames, and how many of these are in each.

    Its state is the bins, how many frames each holds (`size`), and how many were multiplied for
    good (`n_done`). A bin that is not full is kept as well as it was before the newest call, so
    that what an interrupted call added to it can be taken back.
    """

    def __init__(self, capacity: int) -> None:
        self.size = 1
        self.n_done = 0
        self.number = np.zeros(capacity)
        self._stop = 0  # frames that were added
        self._before: tuple[float, Any] = (0.0, None)

    def reserve(self, capacity: int) -> None:
        """Make room for more bins."""
        if capacity > len(self.number):
            self._resize(capacity)
            self.number = enlarged(self.number, (capacity,), 0)

    def add(
        self, ring: FrameRing, roi: int, events: RoiEvents | None, weights: Array, n_new: int
    ) -> None:
        """Add the rows of a ring that have been filled last, or their events where there are."""
        first = ring.stop
        into, place = divmod(first, self.size)
        if place:
            self._before = (float(self.number[into]), self._saved(into))
        self._stop = -1
        bins = (first + np.arange(n_new)) // self.size
        np.add.at(self.number, bins, ring.number[roi, ring.used : ring.used + n_new])
        self._add(ring, roi, events, weights, n_new)
        self._stop = first + n_new

    def rewind(self, n_frames: int) -> None:
        """Take back what a call added that was interrupted at `n_frames`."""
        if self._stop == n_frames:
            return
        into, place = divmod(n_frames, self.size)
        number, saved = self._before
        self.number[into:] = 0
        if place:
            self.number[into] = number
        self._restore(n_frames, into, saved if place else None)
        self._stop = n_frames

    def settle(self, n_full: int) -> None:
        """Say that products with the bins below `n_full`, which get nothing any more, are kept."""
        self.n_done = n_full

    def _halved_number(self) -> FloatArray:
        number, half = np.zeros_like(self.number), len(self.number) // 2
        number[:half] = self.number[0 : 2 * half : 2] + self.number[1 : 2 * half : 2]
        return number

    # --- what the two kinds do -------------------------------------------------------------

    @abstractmethod
    def products(self, start: int, stop: int, n_full: int) -> FloatArray:
        """Return products of bins [start, stop) with bins [0, stop), (stop - start, stop).

        Bins before `start` were multiplied before; those below `n_full` get nothing any more.
        """

    @abstractmethod
    def halve(self) -> None:
        """Add neighbouring bins in pairs."""

    @abstractmethod
    def _add(
        self, ring: FrameRing, roi: int, events: RoiEvents | None, weights: Array, n_new: int
    ) -> None:
        """Add frames to the bins themselves, as `add`."""

    @abstractmethod
    def _resize(self, capacity: int) -> None:
        """Make room for the bins themselves."""

    @abstractmethod
    def _saved(self, into: int) -> Any:
        """Return what `_restore` needs to take back what is added to a bin."""

    @abstractmethod
    def _restore(self, n_frames: int, into: int, saved: Any) -> None:
        """Empty all bins from `into` on, but for what was saved of that one."""


class BinRows(MapBins):
    """Bins of a ROI as rows of pixels, (bins, columns), for matrix products.

    The first frame of a bin empties its row, so that rows of an interrupted call do no harm.
    """

    def __init__(self, blocks: PixelBlocks, roi: int, capacity: int, dtype: Any) -> None:
        super().__init__(capacity)
        self._blocks = blocks
        self._roi = roi
        self.rows: Array = empty_rows((capacity, int(blocks.rows[roi])), dtype)

    def _resize(self, capacity: int) -> None:
        larger = empty_rows((capacity, self.rows.shape[1]), self.rows.dtype)
        larger[: len(self.rows)] = self.rows
        self.rows = larger

    def _saved(self, into: int) -> Array:
        return self.rows[into].copy()

    def _restore(self, n_frames: int, into: int, saved: Array | None) -> None:  # noqa: ARG002
        if saved is not None:
            self.rows[into] = saved

    def _add(
        self, ring: FrameRing, roi: int, events: RoiEvents | None, weights: Array, n_new: int
    ) -> None:
        from .event_kernels import add_events_to_rows
        from .two_time_kernels import add_to_bins

        if ring.has_pixels(roi):
            add_to_bins(ring.pixels[roi], ring.stop, n_new, self.size, self.rows)
        elif events is not None:
            add_events_to_rows(
                events.counts, events.pixels, events.bounds, weights, ring.per_mean[roi],
                ring.used, ring.stop, self.size, ring.blocks.edges[roi],
                int(ring.blocks.widths[roi]), self.rows,
            )  # fmt: skip

    def products(self, start: int, stop: int, n_full: int) -> FloatArray:  # noqa: ARG002
        """Return products of bins [start, stop) with bins [0, stop), (stop - start, stop).

        Those with later bins are left out.
        """
        from .two_time_kernels import block_products

        width = int(self._blocks.widths[self._roi])

        def multiply(part: range) -> Array:
            out = np.zeros((1, stop, stop - start), self.rows.dtype)
            block_products(
                self.rows, 0, self.rows, start, part.start * width, len(part) * width, start, 0,
                stop, out,
            )  # fmt: skip
            return out[0].T

        first, *others = spread(multiply, self._blocks.parts[self._roi])
        for other in others:
            first += other
        return first

    def halve(self) -> None:
        """Add neighbouring bins in pairs."""
        from .two_time_kernels import add_pairs

        used = -(-self._stop // self.size)
        self.rows[used : used + 1] = 0  # the second one of the last pair
        number = self._halved_number()
        add_pairs(self.rows, 0, -(-used // 2), self.rows)  # in place: a pair is read before
        self.number = number
        self.size, self.n_done = 2 * self.size, self.n_done // 2


@dataclass(frozen=True, slots=True)
class _Lists:
    """Bins [first, stop) pixel by pixel: those that hold something, and what."""

    first: int
    stop: int
    starts: IntArray  # (n_pixels + 1,): where the entries of each pixel begin
    bins: Array  # (n,) int32, ascending for each pixel
    values: Array  # (n,)

    @property
    def n_bins(self) -> int:
        """Number of bins, those without entries as well."""
        return self.stop - self.first

    @property
    def pixels(self) -> Array:
        """The pixel of each entry."""
        return np.repeat(np.arange(len(self.starts) - 1, dtype=np.int32), np.diff(self.starts))

    def joined(self, later: _Lists) -> _Lists:
        """Return these bins and later ones."""
        from .event_kernels import join_lists

        n = len(self.bins) + len(later.bins)
        starts = np.empty_like(self.starts)
        bins, values = np.empty(n, np.int32), np.empty(n, self.values.dtype)
        join_lists(
            self.starts, self.bins, self.values, later.starts, later.bins, later.values,
            starts, bins, values,
        )  # fmt: skip
        return _Lists(self.first, later.stop, starts, bins, values)


@dataclass(frozen=True, slots=True)
class _Entries:
    """Values of some frames that wait to be listed; frames before `first` are not among them."""

    first: int
    pixels: Array  # (n,) int32
    bins: Array  # (n,) int32, ascending
    values: Array  # (n,)

    def beyond(self, n_full: int) -> _Entries:
        """Return those of bins from `n_full` on."""
        some = self.bins >= n_full
        return _Entries(self.first, self.pixels[some], self.bins[some], self.values[some])


class BinLists(MapBins):
    """Bins as lists, pixel by pixel, of the bins in which the pixel holds counts.

    Its state is the lists of the bins that are full and were multiplied, and the entries that came
    since, in the order of their bins. Those of an interrupted call are known by their frame.
    """

    def __init__(self, n_pixels: int, capacity: int, dtype: Any) -> None:
        super().__init__(capacity)
        self.share = 0.0  # of the pixels that hold counts, in the newest bins that were multiplied
        self._n_pixels = n_pixels
        self._dtype = dtype
        self._lists: tuple[_Lists, ...] = ()
        self._new: tuple[_Lists, ...] = ()  # with what was multiplied last
        self._waiting: tuple[_Entries, ...] = ()

    def _add(
        self,
        ring: FrameRing,
        roi: int,
        events: RoiEvents | None,
        weights: Array,
        n_new: int,  # noqa: ARG002
    ) -> None:
        from .event_kernels import values_of_events

        if events is None:  # rows take over before
            raise TypeError("lists take events only")
        n = events.n_events
        new = _Entries(
            ring.stop, np.empty(n, np.int32), np.empty(n, np.int32), np.empty(n, self._dtype)
        )
        values_of_events(
            events.counts, events.pixels, events.bounds, weights, ring.per_mean[roi], ring.used,
            ring.stop, self.size, new.pixels, new.bins, new.values,
        )  # fmt: skip
        self._waiting = (*self._waiting, new)

    def _resize(self, capacity: int) -> None:
        """Do nothing: lists need no room in advance."""

    def _saved(self, into: int) -> None:
        """Return nothing: entries are known by their frame."""

    def _restore(self, n_frames: int, into: int, saved: Any) -> None:  # noqa: ARG002
        self._waiting = tuple(one for one in self._waiting if one.first < n_frames)

    def products(self, start: int, stop: int, n_full: int) -> FloatArray:
        """Return products of bins [start, stop) with bins [0, stop), (stop - start, stop)."""
        from .event_kernels import list_products

        new = self._listed(start, stop)
        lists = list(self._lists)
        out = np.zeros((stop - start, stop))  # entries are added one by one
        for one in (*lists, new):
            list_products(
                new.starts, new.bins, new.values, one.starts, one.bins, one.values, start, out
            )
        full = min(stop, n_full)
        if full > start:
            lists.append(new if full == stop else self._listed(start, full))
        # Of different lengths: an entry is moved as often as the bins double.
        while len(lists) > 1 and lists[-2].n_bins <= lists[-1].n_bins:
            later = lists.pop()
            lists.append(lists.pop().joined(later))
        self._new = tuple(lists)
        self.share = len(new.bins) / ((stop - start) * self._n_pixels)
        return out

    def settle(self, n_full: int) -> None:
        """Say that products with the bins below `n_full`, which get nothing any more, are kept."""
        waiting = (one.beyond(n_full) for one in self._waiting)
        left = tuple(one for one in waiting if len(one.bins))
        self._lists, self._waiting, self.n_done = self._new, left, n_full

    def halve(self) -> None:
        """Add neighbouring bins in pairs."""
        entries = self._all_entries()
        waiting = _Entries(0, entries.pixels, entries.bins // 2, entries.values)
        done = self.n_done // 2
        lists = (self._listed(0, done, waiting),) if done else ()
        left = (waiting.beyond(done),)
        number = self._halved_number()
        self._lists, self._waiting, self.number = lists, left, number
        self.size, self.n_done = 2 * self.size, done

    def as_rows(self, blocks: PixelBlocks, roi: int, stop: int) -> BinRows:
        """Return the same bins as rows, of frames before index `stop`."""
        from .event_kernels import lists_to_rows

        rows = BinRows(blocks, roi, len(self.number), self._dtype)
        entries = self._all_entries()
        rows.rows[: -(-stop // self.size)] = 0
        lists_to_rows(
            entries.pixels, entries.bins, entries.values, blocks.edges[roi],
            int(blocks.widths[roi]), rows.rows,
        )  # fmt: skip
        rows.number, rows.size, rows.n_done = self.number, self.size, self.n_done
        rows._stop = stop
        return rows

    def _listed(self, start: int, stop: int, entries: _Entries | None = None) -> _Lists:
        """Return entries of bins [start, stop), by default of what waits, as lists."""
        from .event_kernels import list_by_pixel

        of = self._all_waiting() if entries is None else entries
        starts = np.empty(self._n_pixels + 1, np.int64)
        n = len(of.bins)
        bins, values = np.empty(n, np.int32), np.empty(n, self._dtype)
        n = list_by_pixel(of.pixels, of.bins, of.values, start, stop, starts, bins, values)
        return _Lists(start, stop, starts, bins[:n].copy(), values[:n].copy())

    def _all_waiting(self) -> _Entries:
        some = self._waiting
        empty = np.empty(0, np.int32)
        return _Entries(
            0,
            np.concatenate([empty, *(one.pixels for one in some)]),
            np.concatenate([empty, *(one.bins for one in some)]),
            np.concatenate([np.empty(0, self._dtype), *(one.values for one in some)]),
        )

    def _all_entries(self) -> _Entries:
        """Return all entries; for each pixel, in the order of their bins."""
        listed, waiting = self._lists, self._all_waiting()
        return _Entries(
            0,
            np.concatenate([*(one.pixels for one in listed), waiting.pixels]),
            np.concatenate([*(one.bins for one in listed), waiting.bins]),
            np.concatenate([*(one.values for one in listed), waiting.values]),
        )
