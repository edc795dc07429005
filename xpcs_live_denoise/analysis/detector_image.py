"""The detector as a person wants to see it: a small running mean of some frames of a series."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np

from xpcs_live_denoise.config import OrientationSettings
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.records.results import Picture
from xpcs_live_denoise.records.types import Array, BoolArray, IntArray

MOST_PIXELS = 512  # most pixels on an edge of the image
# Time between two images, and between two frames that the RunEngine's thread copies, s.
PERIOD_S = 0.5
# Share of the worker's time that frames may take, and most of it at once, s.
SHARE, MOST_AT_ONCE_S = 0.02, 0.05


class DetectorImage:
    """A running mean of frames, binned to at most 512 pixels on an edge.

    Of a frame every `binning`-th row is taken, another set of rows each time, so that it costs
    little and all pixels get their turn. Pixels that hold no count (the maximum of an integer type,
    negative numbers, NaN) do not count.

    `offer` belongs to the RunEngine's thread, everything else to the worker's. They share the rows
    that were offered and the number of frames, which one lock keeps; no pixel is touched while it
    is held, so that the RunEngine never waits.

    `rois` are in the orientation of the frames; `orientation` is how the image is turned before it
    is shown. `clock` gives seconds that only go up.
    """

    def __init__(
        self,
        rois: RoiMap,
        orientation: OrientationSettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rois = rois
        rows, cols = (math.ceil(n / self._binning) for n in rois.shape)
        turn = (orientation or OrientationSettings()).turn
        labels = _label_of_each(rois, self._binning, (rows, cols))
        self._labels = np.ascontiguousarray(turn(labels))
        self._sums = np.zeros((2, rows, cols))  # of the values, and how many there were
        self._turned = turn(self._sums[0]), turn(self._sums[1])  # views: as the image shows them
        self._n_frames = self._n_shown = 0
        self._lock = threading.Lock()
        self._offered: deque[Array] = deque(maxlen=16)
        self._next_offer = self._next_image = float("-inf")
        self._budget = _TimeBudget(clock)

    @property
    def _binning(self) -> int:
        return max(1, math.ceil(max(self.rois.shape) / MOST_PIXELS))

    def offer(self, frames: Array) -> None:
        """Copy some rows of the last frame of (k, rows, cols), at most every PERIOD_S.

        Frames of another shape are left alone. For the RunEngine's thread: a 4M frame costs 1
        to 2 ms.
        """
        now = self._budget.clock()
        if now < self._next_offer or frames.ndim != 3 or frames.shape[1:] != self.rois.shape:
            return
        if not len(frames):
            return
        self._next_offer = now + PERIOD_S
        binning = self._binning
        with self._lock:
            first = (self._n_frames + len(self._offered)) % binning
        rows = frames[-1, first::binning].copy()
        with self._lock:
            self._offered.append(rows)

    def add(self, frames: Array) -> None:
        """Add as many of the frames (k, rows, cols) as the time allows, spread evenly."""
        start = self._budget.clock()
        n_added = self._budget.affordable(len(frames), start)
        for index in range(n_added):
            frame = frames[index * len(frames) // n_added]
            self._add_rows(frame[self._n_frames % self._binning :: self._binning])
        if n_added:
            self._budget.spend(self._budget.clock() - start, n_added)

    def updated(self) -> Picture | None:
        """Return the image if it changed and the last one is PERIOD_S old, else None."""
        now = self._budget.clock()
        if now < self._next_image:
            return None
        self._add_offered()
        if self._n_frames == self._n_shown:
            return None
        self._next_image = now + PERIOD_S
        return self.image()

    def image(self) -> Picture | None:
        """Return the image; None before the first frame. Pixels without a count are NaN."""
        self._add_offered()
        if not self._n_frames:
            return None
        self._n_shown = self._n_frames
        total, count = self._turned
        mean = np.full(total.shape, np.nan)
        np.divide(total, count, out=mean, where=count > 0)
        return Picture(
            mean=mean,
            labels=self._labels,
            binning=self._binning,
            n_frames=self._n_frames,
        )

    def _add_offered(self) -> None:
        with self._lock:
            waiting = list(self._offered)
            self._offered.clear()
        for rows in waiting:
            self._add_rows(rows)

    def _add_rows(self, rows: Array) -> None:
        """Add every `binning`-th row of a frame: one for each row of the image."""
        good = _holds_count(rows)
        values = np.where(good, rows, 0).astype(np.float64)
        columns = np.arange(0, rows.shape[1], self._binning)
        total, count = self._sums[:, : len(rows)]
        total += np.add.reduceat(values, columns, axis=1)
        count += np.add.reduceat(good, columns, axis=1, dtype=np.float64)
        with self._lock:
            self._n_frames += 1


class _TimeBudget:
    """Seconds that may be spent, a share of those that pass, and what a frame costs of them."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._left_s, self._cost_s, self._at = MOST_AT_ONCE_S, 0.0, clock()

    def affordable(self, n: int, now: float) -> int:
        """Return how many of n frames there is time for; one while their cost is not known."""
        self._left_s = min(self._left_s + SHARE * (now - self._at), MOST_AT_ONCE_S)
        self._at = now
        if not self._cost_s:
            return min(n, 1)
        full = self._left_s == MOST_AT_ONCE_S  # one slow frame must not be the last
        return min(n, max(int(self._left_s / self._cost_s), int(full)))

    def spend(self, seconds: float, n: int) -> None:
        """Take what n frames have cost."""
        self._cost_s = max(seconds / n, 1e-5)
        self._left_s -= seconds


def _holds_count(values: Array) -> BoolArray:
    """Return which values are counts: detectors mark bad pixels with the type's maximum or -1."""
    if values.dtype.kind == "f":
        return np.isfinite(values) & (values >= 0)
    if values.dtype.kind == "b":
        return np.ones(values.shape, np.bool_)
    return (values != np.iinfo(values.dtype).max) & (values >= 0)


def _label_of_each(rois: RoiMap, binning: int, shape: tuple[int, int]) -> IntArray:
    """Return the label in the middle of each pixel of the picture."""
    rows, cols = (
        np.minimum(np.arange(n) * binning + binning // 2, edge - 1)
        for n, edge in zip(shape, rois.shape, strict=True)
    )
    return rois.label_array[np.ix_(rows, cols)]
