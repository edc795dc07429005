"""C2 by scikit-beam's own code: the oracle, much slower and for short series."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from xpcs_live_denoise.records.types import Array, BoolArray, FloatArray, IntArray

from .arrays import enlarged


class SkbeamTwoTime:
    """C2 of a growing series from scikit-beam's two-time state.

    `n_pixels` (n_roi,) are those of each ROI, `capacity` the frames for which there is room at
    first. Its state is C2 so far, which frames each ROI has measured, and scikit-beam's own.
    """

    def __init__(self, n_pixels: IntArray, capacity: int, dtype: np.dtype[Any]) -> None:
        self._n_pixels = n_pixels
        self._capacity = capacity
        self._products = SkbeamProducts(n_pixels, capacity)
        self._c2: FloatArray = np.empty((len(n_pixels), capacity, capacity), dtype)
        self._measured = np.zeros((len(n_pixels), capacity), np.bool_)
        self.n_frames = 0

    @property
    def values(self) -> FloatArray:
        """C2 so far, (n_roi, n_frames, n_frames); a read-only view."""
        view: FloatArray = self._c2[:, : self.n_frames, : self.n_frames]
        view.flags.writeable = False
        return view

    def append(self, pixels: Array) -> None:
        """Take the ROI pixels of new frames, (k, sum of n_pixels)."""
        with np.errstate(over="ignore", invalid="ignore"):  # inf and NaN end as "no measurement"
            scaled, measured = self._scale(pixels)
        start, stop = self.n_frames, self.n_frames + len(pixels)
        self._reserve(stop)
        columns = self._products.multiply(scaled, start)  # (n_roi, stop, k)
        self._measured[:, start:stop] = measured.T
        known = self._measured[:, :stop]
        columns[~(known[:, :, np.newaxis] & measured.T[:, np.newaxis, :])] = np.nan
        self._c2[:, :stop, start:stop] = columns
        self._c2[:, start:stop, :stop] = columns.transpose(0, 2, 1)
        self.n_frames = stop

    def append_gap(self, n_frames: int) -> None:
        """Add frames that could not be had."""
        self.append(np.full((n_frames, int(self._n_pixels.sum())), np.nan))

    def _scale(self, pixels: Array) -> tuple[FloatArray, BoolArray]:
        """Divide pixels by their ROI's mean, and say where there is one; without one they are 0."""
        starts = np.cumsum(self._n_pixels) - self._n_pixels
        mean = np.add.reduceat(pixels, starts, axis=1, dtype=np.float64) / self._n_pixels
        measured = np.isfinite(mean) & (mean > 0)
        divisor = np.repeat(np.where(measured, mean, np.nan), self._n_pixels, axis=1)
        scaled = pixels / divisor
        return np.where(np.isnan(divisor), 0.0, scaled), measured

    def _reserve(self, n_frames: int) -> None:
        if n_frames <= self._capacity:
            return
        capacity = max(n_frames, 2 * self._capacity)
        self._products.reserve(capacity)
        n_roi = len(self._c2)
        self._c2 = enlarged(self._c2, (n_roi, capacity, capacity))
        self._measured = enlarged(self._measured, (n_roi, capacity), False)
        self._capacity = capacity


class SkbeamProducts:
    """scikit-beam's two-time state, which is resumable, made to grow and to survive interruption.

    scikit-beam wants the number of frames in advance. When more come, a new state of the larger
    size takes over the frames and results of the old one; nothing is computed twice. Pixels stand
    ROI by ROI, `n_pixels` (n_roi,) in each.
    """

    def __init__(self, n_pixels: IntArray, capacity: int) -> None:
        self._labels = np.repeat(np.arange(1, len(n_pixels) + 1), n_pixels)[np.newaxis]
        self._n = 0
        self._state: Any = self._new_state(capacity)

    def multiply(self, scaled: Array, start: int) -> FloatArray:
        """Store frames [start, start + k) and return C2 columns (n_roi, start + k, k).

        Pixels are divided by their mean already, which C2 does not depend on. Frames of which a
        ROI has no counts give rows that the caller replaces.
        """
        self._rewind(start)
        capacity = self._state.buf.shape[1]
        with np.errstate(divide="ignore", invalid="ignore"):  # a ROI without counts: 0 / 0
            states = _lazy_two_time()(
                self._labels, scaled, capacity, capacity, two_time_internal_state=self._state
            )
            for state in states:
                self._state = state
        # scikit-beam fills [later, earlier] only.
        rows = self._state.g2[:, start : start + len(scaled), : start + len(scaled)].copy()
        corner = rows[:, :, start:]
        corner += np.tril(corner, -1).transpose(0, 2, 1)
        return rows.transpose(0, 2, 1)

    def reserve(self, capacity: int) -> None:
        """Make room for `capacity` frames."""
        old, self._state = self._state, self._new_state(capacity)
        n = old.g2.shape[1]
        self._state.g2[:, :n, :n] = old.g2
        # Frame t (from 1) stands at t modulo the length of the ring.
        ring = old.buf.shape[1]
        frames = np.arange(1, n + 1, dtype=np.int64)
        self._state.buf[0, frames % self._state.buf.shape[1]] = old.buf[0, frames % ring]

    def _new_state(self, capacity: int) -> Any:
        """Return an empty state for an even number of at least `capacity` frames."""
        even = capacity + capacity % 2
        blank = np.ones((1, self._labels.size))
        return next(_lazy_two_time()(self._labels, blank, even, even))

    def _rewind(self, n_frames: int) -> None:
        """Set the counters to `n_frames`, from where an interrupted call may have left them."""
        state = self._state
        state.cur[0] = (n_frames + 1) % state.buf.shape[1]
        state.img_per_level[0] = n_frames
        state.count_level[0] = n_frames
        del state.time_ind[0][n_frames:]
        self._state = state._replace(current_img_time=n_frames)


def _lazy_two_time() -> Any:
    """Return scikit-beam's function, which has no types and is slow to import."""
    return importlib.import_module("skbeam.core.correlation").lazy_two_time
