"""The band of C2 as a run shows it: short lags of every age, of a long series means over ages."""

from __future__ import annotations

import numpy as np

from xpcs_live_denoise.records.types import FloatArray, IntArray

MOST_AGES = 1024  # rows that are kept as they are, and bins of older ones


class C2Band:
    """The band of C2 of some ROIs while it grows, raw and denoised; its memory is bounded.

    The newest rows are kept as they are, so that they may come again with better values. Of older
    ones only means over bins of ages are kept, whose width doubles as the series grows.

    Attributes
    ----------
    frames_per_bin
        How many ages a column of `strip` averages.
    """

    def __init__(self, n_roi: int, window: int, most: int = MOST_AGES) -> None:
        self._most = most
        self._clear((2, n_roi, 0, window))

    def _clear(self, shape: tuple[int, ...]) -> None:
        self.frames_per_bin = 1
        self._stops = [0, 0]  # the frame after the last row, raw and denoised
        self._first = 0  # frame of the first row that is kept as it is
        # [raw or denoised, roi, t, lag]; denoised ones are raw where no window reached.
        self._rows: FloatArray = np.full(shape, np.nan, np.float32)
        self._sums: FloatArray = np.zeros(shape)
        self._counts: IntArray = np.zeros(shape, np.int32)

    @property
    def n_frames(self) -> int:
        """The frame after the last row."""
        return max(self._stops)

    def to_read(self, n_frames: int, first: int = 0) -> list[slice]:
        """Return which rows of so many to read and `add`, from a first one on.

        Of a long series as many of all ages as there are columns, and the newest: reading it must
        not take longer, the longer it is.
        """
        n, step = n_frames - first, 1
        while n > self._most and (n_frames - 1) // step >= self._most // 2:
            step *= 2
        if step == 1:
            return [slice(first, n_frames, 1)] if n > 0 else []
        newest = n_frames - n_frames % step
        parts = [slice(0, newest, step), slice(newest, n_frames, 1)]
        return [part for part in parts if part.start < part.stop]

    @property
    def window(self) -> int:
        """Lags of a row."""
        return self._rows.shape[3]

    @property
    def is_whole(self) -> bool:
        """Whether all rows are kept as they are."""
        return self._first == 0

    def add(
        self,
        start: int,
        raw: FloatArray | None = None,
        denoised: FloatArray | None = None,
        *,
        step: int = 1,
    ) -> None:
        """Take rows (n_roi, k, window) of the frames start, start + step, ...; None: no such.

        Rows that are kept as they are may be replaced, older ones no more. Rows from frame 0 on
        replace all that was there. With a `step` above 1 the rows stand for those between them.
        `denoised` holds raw values where no window reached.
        """
        if start == 0 and step == 1 and not self.is_whole:
            self._clear((*self._rows.shape[:2], 0, self._rows.shape[3]))
        if start > self.n_frames + self._most:  # what lies between was never here
            self._shorten(0)
            self._widen(start)
            self._first = start
        for kind, rows in enumerate((raw, denoised)):
            if rows is None:
                continue
            stop = start + step * rows.shape[1]
            self._stops[kind] = stop if start == 0 else max(self._stops[kind], stop)
            if step == 1:
                self._keep(kind, start, rows)
            else:
                self._keep_between(kind, start, rows, step)
        if self.n_frames - self._first > self._most:
            self._shorten(self._most // 2)

    def _keep_between(self, kind: int, start: int, rows: FloatArray, step: int) -> None:
        """Take rows that are so many frames apart into the means."""
        self._shorten(max(0, self.n_frames - start - step * rows.shape[1]))
        if start == 0:
            self._sums[kind], self._counts[kind], self._rows[kind] = 0, 0, np.nan
        self._average(start + step * np.arange(rows.shape[1]), rows[np.newaxis], kind)

    def _keep(self, kind: int, start: int, rows: FloatArray) -> None:
        rows = rows[:, max(0, self._first - start) :]
        at = max(0, start - self._first)
        stop, room = at + rows.shape[1], self._rows.shape[2]
        if stop > room:
            length = max(stop, min(2 * room, self._most))
            two, n_roi, _, window = self._rows.shape
            longer: FloatArray = np.full((two, n_roi, length, window), np.nan, np.float32)
            longer[:, :, :room] = self._rows
            self._rows = longer
        if start == 0:
            self._rows[kind] = np.nan
        self._rows[kind, :, at:stop] = rows

    def _shorten(self, kept: int) -> None:
        """Keep so many of the newest rows as they are, and means of all before."""
        n_older = max(0, self.n_frames - self._first - kept)
        older = _reached(self._rows[:, :, :n_older])
        if older.shape[2]:
            self._average(self._first + np.arange(older.shape[2]), older)
        self._rows = self._rows[:, :, n_older : self.n_frames - self._first].copy()
        self._first += n_older

    def _average(self, frames: IntArray, rows: FloatArray, kind: int = 0) -> None:
        """Add rows of rising frames, [kind, roi, t, lag] of the kinds from one on, to the means."""
        self._widen(int(frames[-1]))
        sums, counts, first = _binned(frames // self.frames_per_bin, rows)
        at = np.s_[kind : kind + len(rows), :, first : first + sums.shape[2]]
        self._sums[at] += sums
        self._counts[at] += counts

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

    def _kept(self, roi: int) -> FloatArray:
        """Return raw and denoised rows of a ROI as they are, (2, n, window)."""
        return _reached(self._rows[:, roi, : self.n_frames - self._first])

    def _means(self, roi: int) -> FloatArray:
        """Return raw and denoised rows of a ROI over all ages, (2, n_bin, window)."""
        kept = self._kept(roi)
        if self.is_whole:
            return kept
        n_bin = -(-self.n_frames // self.frames_per_bin)
        sums, counts = np.zeros((2, 2, n_bin, kept.shape[2]))
        known = min(n_bin, self._sums.shape[2])
        sums[:, :known] = self._sums[:, roi, :known]
        counts[:, :known] = self._counts[:, roi, :known]
        if kept.shape[1]:
            bins = (self._first + np.arange(kept.shape[1])) // self.frames_per_bin
            more, n_more, first = _binned(bins, kept)
            sums[:, first:] += more
            counts[:, first:] += n_more
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
        denoised = self._kept(roi)[1, :n_frames]
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
        rows = self._kept(roi)
        sums = np.nansum(rows, axis=1, dtype=np.float64)
        counts = np.isfinite(rows).sum(axis=1)
        if self._sums.shape[2]:
            sums += self._sums[:, roi].sum(axis=1)
            counts += self._counts[:, roi].sum(axis=1)
        raw, denoised = np.divide(sums, counts, where=counts > 0, out=np.full_like(sums, np.nan))[
            :, 1:
        ]
        return raw, denoised if np.isfinite(denoised).any() else None


def written(rows: FloatArray) -> FloatArray:
    """Return rows (..., window), NaN where nothing was written: Tiled reads zeros there."""
    return np.where(np.any(rows != 0, axis=-1, keepdims=True), rows, np.float32(np.nan))


def _reached(rows: FloatArray) -> FloatArray:
    """Return raw and denoised rows (2, ..., window), denoised ones NaN where no window reached."""
    return np.stack([rows[0], np.where(rows[1] == rows[0], np.nan, rows[1])])


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
