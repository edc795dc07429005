"""The detector as a person wants to see it: a small running mean of some frames of a series."""

from __future__ import annotations

import math
import time
from collections import deque

import numpy as np

from xpcs_live_denoise.config import OrientationSettings
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.records.results import Picture
from xpcs_live_denoise.records.types import Array, BoolArray, IntArray

MOST_EDGE = 512
"""Most pixels on an edge of the picture."""
# Time between two pictures, and between two looks at frames on the RunEngine's thread, s.
PERIOD_S = 0.5
# Share of the worker's time that looking may take, and most of it at once, s.
SHARE, MOST_AT_ONCE_S = 0.02, 0.05


class DetectorPicture:
    """A running mean, binned to at most MOST_EDGE pixels on an edge.

    A look takes every `binning`-th row of a frame, another set of rows each time, so that it costs
    little and all pixels get their turn. Pixels that hold no count (the maximum of an integer type,
    negative numbers, NaN) do not count. `offer` belongs to the RunEngine's thread, everything else
    to the worker's.

    Parameters
    ----------
    rois
        In the orientation of the frames.
    orientation
        How the picture is turned before it is shown: flips first, then the rotation.
    """

    def __init__(self, rois: RoiMap, orientation: OrientationSettings | None = None) -> None:
        self._shape = rois.shape
        self._orientation = orientation or OrientationSettings()
        self._binning = max(1, math.ceil(max(rois.shape) / MOST_EDGE))
        rows, cols = (math.ceil(n / self._binning) for n in rois.shape)
        self._sum = np.zeros((rows, cols))
        self._count = np.zeros((rows, cols))
        self._labels = _label_of_each(rois, self._binning, (rows, cols))
        self._n_frames = 0
        self._n_shown = 0
        self._offered: deque[Array] = deque(maxlen=16)
        self._offers = 0
        self._next_offer = self._next_news = float("-inf")
        self._cost_s, self._budget_s, self._seen_at = 0.0, MOST_AT_ONCE_S, time.monotonic()

    def offer(self, frames: Array) -> None:
        """Copy some rows of the last frame of (k, rows, cols), at most every PERIOD_S.

        Frames of another shape are left alone. For the RunEngine's thread: a 4M frame costs 1
        to 2 ms.
        """
        now = time.monotonic()
        if now < self._next_offer or frames.ndim != 3 or frames.shape[1:] != self._shape:
            return
        if not len(frames):
            return
        self._next_offer = now + PERIOD_S
        first = self._offers % self._binning
        self._offers += 1
        self._offered.append(frames[-1, first :: self._binning].copy())

    def see(self, frames: Array) -> None:
        """Look at as many of the frames (k, rows, cols) as the time allows, spread evenly."""
        now = time.monotonic()
        earned = SHARE * (now - self._seen_at)
        self._budget_s = min(self._budget_s + earned, MOST_AT_ONCE_S)
        self._seen_at = now
        affordable = self._budget_s / self._cost_s if self._cost_s else 1
        n_looks = int(min(len(frames), affordable))
        if n_looks < 1:
            return
        for index in range(n_looks):
            frame = frames[index * len(frames) // n_looks]
            first = self._n_frames % self._binning
            self._add(frame[first :: self._binning])
        spent = time.monotonic() - now
        self._cost_s = max(spent / n_looks, 1e-5)
        self._budget_s -= spent

    def news(self) -> Picture | None:
        """Return the picture if it changed and the last one is PERIOD_S old."""
        now = time.monotonic()
        if now < self._next_news:
            return None
        self._take_offers()
        if self._n_frames == self._n_shown:
            return None
        self._next_news = now + PERIOD_S
        return self.picture()

    def picture(self) -> Picture | None:
        """Return the picture; None before the first look. Pixels without a count are NaN."""
        self._take_offers()
        if not self._n_frames:
            return None
        self._n_shown = self._n_frames
        mean = np.full(self._sum.shape, np.nan)
        np.divide(self._sum, self._count, out=mean, where=self._count > 0)
        return Picture(
            mean=np.ascontiguousarray(self._orientation.turn(mean)),
            labels=np.ascontiguousarray(self._orientation.turn(self._labels)),
            binning=self._binning,
            n_frames=self._n_frames,
        )

    def _take_offers(self) -> None:
        while self._offered:
            self._add(self._offered.popleft())

    def _add(self, rows: Array) -> None:
        """Add every `binning`-th row of a frame: one for each row of the picture."""
        good = _holds_count(rows)
        values = np.where(good, rows, 0).astype(np.float64)
        columns = np.arange(0, rows.shape[1], self._binning)
        self._sum[: len(rows)] += np.add.reduceat(values, columns, axis=1)
        self._count[: len(rows)] += np.add.reduceat(good, columns, axis=1, dtype=np.float64)
        self._n_frames += 1


def mean_counts(mean: Array, labels: Array, label: int) -> float:
    """Return the mean counts a pixel and frame inside a ROI; NaN where no pixel of it is known.

    Parameters
    ----------
    mean, labels
        Of a `Picture`, shape (rows, cols).
    label
        Of the ROI.
    """
    inside = mean[labels == label]
    inside = inside[np.isfinite(inside)]
    return float(inside.mean()) if inside.size else math.nan


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
