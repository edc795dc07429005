"""The band of C2 as a run shows it: short lags of every age, of a long series means over ages."""

from __future__ import annotations

import numpy as np

from xpcs_live_denoise.records.types import Array, FloatArray, IntArray

MOST_AGES = 1024  # rows that are kept as they are, and bins of older ones


class C2Band:
    """The band of C2 of some ROIs while it grows, raw and denoised; its memory is bounded.

    The newest rows are kept as they are, so that they may come again with better values. Of older
    ones only means over bins of ages are kept, whose width doubles as the series grows.

    Attributes
    ----------
    n_frames
        The frame after the last row.
    frames_per_bin
        How many ages a column of `strip` averages.
    """

    def __init__(self, n_roi: int, window: int, most: int = MOST_AGES) -> None:
        self._most = most
        self._clear((2, n_roi, 0, window))

    def _clear(self, shape: tuple[int, ...]) -> None:
        self.n_frames, self.frames_per_bin = 0, 1
        self._first = 0  # frame of the first row that is kept as it is
        # [raw or denoised, roi, t, lag]; the denoised ones NaN where no window reached.
        self._rows: FloatArray = np.full(shape, np.nan, np.float32)
        self._sums: FloatArray = np.zeros(shape)
        self._counts: IntArray = np.zeros(shape, np.int32)

    @property
    def is_whole(self) -> bool:
        """Whether all rows are kept as they are."""
        return self._first == 0

    def add(self, start: int, raw: Array, denoised: Array | None, *, step: int = 1) -> None:
        """Take rows (n_roi, k, window) of the frames start, start + step, ...

        Rows that are kept as they are may be replaced, older ones no more. Rows from frame 0 on
        replace all that was there. With a `step` above 1 the rows stand for those between them.
        `denoised` holds raw values where no window reached.
        """
        if start == 0:
            n_roi, _, window = raw.shape
            self._clear((2, n_roi, 0, window))
        new = np.full((2, *raw.shape), np.nan, np.float32)
        new[0] = raw
        if denoised is not None:
            new[1] = np.where(denoised == raw, np.nan, denoised)
        frames = start + step * np.arange(raw.shape[1])
        if step > 1:
            self._average(frames, new)
            self._first = start + step * raw.shape[1]
        elif start > self.n_frames + self._most:  # what lies between was never here
            self._shorten(0)
            self._widen(start)
            self._first = start
            self._keep(start, new)
        else:
            known = max(0, self._first - start)
            self._keep(start + known, new[:, :, known:])
        self.n_frames = max(self.n_frames, start + step * raw.shape[1])
        if self.n_frames - self._first > self._most:
            self._shorten(self._most // 2)

    def _keep(self, start: int, new: FloatArray) -> None:
        at = start - self._first
        stop = at + new.shape[2]
        if stop > self._rows.shape[2]:
            length = max(stop, min(2 * self._rows.shape[2], self._most))
            rows: FloatArray = np.full((*new.shape[:2], length, new.shape[3]), np.nan, np.float32)
            rows[:, :, : self._rows.shape[2]] = self._rows
            self._rows = rows
        self._rows[:, :, at:stop] = new

    def _shorten(self, kept: int) -> None:
        """Keep so many of the newest rows as they are, and means of all before."""
        n_older = max(0, self.n_frames - self._first - kept)
        older = self._rows[:, :, :n_older]
        self._average(self._first + np.arange(n_older), older)
        self._rows = self._rows[:, :, n_older : self.n_frames - self._first].copy()
        self._first += n_older

    def _average(self, frames: IntArray, rows: FloatArray) -> None:
        """Add rows of rising frames to the means."""
        if not len(frames):
            return
        self._widen(int(frames[-1]))
        sums, counts, first = _binned(frames // self.frames_per_bin, rows)
        self._sums[:, :, first : first + sums.shape[2]] += sums
        self._counts[:, :, first : first + sums.shape[2]] += counts

    def _widen(self, frame: int) -> None:
        """Make the bins so wide that the one of a frame has a place."""
        room = self._most // 2
        if not self._sums.shape[2]:
            two, n_roi, _, window = self._rows.shape
            self._sums = np.zeros((two, n_roi, room, window))
            self._counts = np.zeros(self._sums.shape, np.int32)
        while frame // self.frames_per_bin >= room:
            self.frames_per_bin *= 2
            for bins in (self._sums, self._counts):
                bins[:, :, : room // 2] = bins[:, :, ::2] + bins[:, :, 1::2]
                bins[:, :, room // 2 :] = 0

    def _means(self, roi: int) -> FloatArray:
        """Return raw and denoised rows of a ROI over all ages, (2, n_bin, window)."""
        n = self.n_frames - self._first
        if self.is_whole:
            return self._rows[:, roi, :n]
        n_bin = -(-self.n_frames // self.frames_per_bin)
        sums, counts = np.zeros((2, 2, n_bin, self._rows.shape[3]))
        known = min(n_bin, self._sums.shape[2])
        sums[:, :known], counts[:, :known] = (
            self._sums[:, roi, :known],
            self._counts[:, roi, :known],
        )
        if n:
            bins = (self._first + np.arange(n)) // self.frames_per_bin
            more, n_more, first = _binned(bins, self._rows[:, roi : roi + 1, :n])
            sums[:, first:] += more[:, 0]
            counts[:, first:] += n_more[:, 0]
        return np.divide(sums, counts, where=counts > 0, out=np.full_like(sums, np.nan))

    def strip(self, roi: int) -> tuple[FloatArray, bool]:
        """Return C2 of a ROI by lag and age, (window - 1, n_bin), lags 1, 2, ...

        The denoised one, with raw values where no window reached, and whether any was.
        """
        raw, denoised = self._means(roi)
        reached = np.isfinite(denoised)
        return np.where(reached, denoised, raw)[:, 1:].T, bool(reached.any())

    def square(self, roi: int, n_frames: int, stride: int = 1) -> FloatArray | None:
        """Return every `stride`-th row and column of the denoised C2 of a ROI, of `n_frames` rows.

        NaN where no window reached. None where nothing was denoised, or rows are no longer kept.
        """
        denoised = self._rows[1, roi, : min(n_frames, self.n_frames - self._first)]
        if not self.is_whole or not np.isfinite(denoised).any():
            return None
        n = -(-n_frames // stride)
        square = np.full((n, n), np.nan, np.float32)
        for lag in range(0, denoised.shape[1], stride):
            values, apart = denoised[lag::stride, lag], lag // stride
            later = apart + np.arange(len(values))
            square[later - apart, later] = values
            square[later, later - apart] = values
        return square

    def g2(self, roi: int) -> tuple[FloatArray, FloatArray | None]:
        """Return g2 of a ROI at the lags 1..window-1, raw, and denoised where anything was."""
        rows = self._rows[:, roi, : self.n_frames - self._first]
        sums = np.nansum(rows, axis=1, dtype=np.float64)
        counts = np.isfinite(rows).sum(axis=1)
        if self._sums.shape[2]:
            sums += self._sums[:, roi].sum(axis=1)
            counts += self._counts[:, roi].sum(axis=1)
        raw, denoised = np.divide(sums, counts, where=counts > 0, out=np.full_like(sums, np.nan))[
            :, 1:
        ]
        return raw, denoised if np.isfinite(denoised).any() else None


def _binned(bins: IntArray, rows: FloatArray) -> tuple[FloatArray, IntArray, int]:
    """Return sums and numbers of the known values of rows (..., n, window), and the first bin.

    `bins` (n,) rise; there is one entry for every bin from the first to the last.
    """
    first, n_bin = int(bins[0]), int(bins[-1] - bins[0]) + 1
    begins = np.searchsorted(bins, first + np.arange(n_bin))
    known = np.isfinite(rows)
    sums = np.add.reduceat(np.where(known, rows, 0.0), begins, axis=-2, dtype=np.float64)
    counts = np.add.reduceat(known, begins, axis=-2, dtype=np.int64)
    # reduceat repeats a value where a bin has none.
    has = np.diff(begins, append=len(bins)) > 0
    return sums * has[:, np.newaxis], counts * has[:, np.newaxis], first
