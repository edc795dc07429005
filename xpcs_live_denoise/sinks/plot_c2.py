"""C2 of every ROI as a screen can show it, and its means along diagonals while it grows."""

# numpy's stubs leave the types of arange, indices and the like unknown.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpcs_live_denoise.records.results import (Band, C2Rows, Result)

MOST_EDGE = 512
"""Most pixels on an edge of a C2 that is kept for drawing."""


class ShownC2:
    """Raw and denoised C2, every `step`-th frame of it, and sums along all of its diagonals.

    Parameters
    ----------
    n_roi
        Number of ROIs.
    n_expected
        Frames of the series, None where unknown.
    window
        Edge of the denoiser's windows, frames: beyond it nothing is denoised.

    Attributes
    ----------
    n_frames
        Frames so far.
    step
        One of how many frames is kept, a power of two.
    """

    def __init__(self, n_roi: int, n_expected: int | None, window: int) -> None:
        self.n_frames = 0
        self.step = 1
        while -(-(n_expected or 1) // self.step) > MOST_EDGE:
            self.step *= 2
        edge = min(MOST_EDGE, n_expected or 64)
        self._raw = np.full((n_roi, edge, edge), np.nan, np.float32)
        self._denoised: NDArray[np.float32] | None = None
        self._window = window
        self._n_summed = 0
        self._sum = np.zeros((n_roi, max(edge, n_expected or 0)))
        self._count = np.zeros_like(self._sum)
        self._near = np.full((n_roi, self._sum.shape[1], window), np.nan, np.float32)

    def add_rows(self, rows: C2Rows) -> None:
        """Take new rows; frames that were taken before are written over."""
        self._grow(rows.stop)
        kept = np.arange(-(-rows.start // self.step) * self.step, rows.stop, self.step)
        values = rows.values[:, kept - rows.start, :: self.step]
        at, width = kept // self.step, values.shape[2]
        self._raw[:, at, :width] = values
        self._raw[:, :width, at] = values.swapaxes(1, 2)
        for t1 in range(max(rows.start, self._n_summed), rows.stop):
            by_lag = rows.values[:, t1 - rows.start, :t1][:, ::-1]
            known = np.isfinite(by_lag)
            self._sum[:, :t1] += np.where(known, by_lag, 0)
            self._count[:, :t1] += known
        self._n_summed = max(self._n_summed, rows.stop)
        self.n_frames = max(self.n_frames, rows.stop)

    def add_band(self, band: Band) -> None:
        """Take a square of denoised values; what no window reached stays raw."""
        self._grow(band.stop)
        values = np.where(np.isfinite(band.spread), band.c2, np.nan)
        kept = np.arange(-(-band.start // self.step) * self.step, band.stop, self.step)
        if self._denoised is None:
            self._denoised = np.full_like(self._raw, np.nan)
        inside = kept - band.start
        at = kept // self.step
        square = np.ix_(np.arange(len(values)), at, at)
        fresh = values[:, inside[:, np.newaxis], inside]
        self._denoised[square] = np.where(np.isfinite(fresh), fresh, self._denoised[square])
        for lag in range(1, min(self._window, band.stop - band.start)):
            diagonal = np.diagonal(values, -lag, 1, 2)
            old = self._near[:, band.start + lag : band.stop, lag]
            self._near[:, band.start + lag : band.stop, lag] = np.where(
                np.isfinite(diagonal), diagonal, old
            )

    def finish(self, result: Result) -> None:
        """Take the final C2 instead of what was shown while the run was on."""
        n = result.c2.shape[-1]
        while -(-n // self.step) > MOST_EDGE:
            self.step *= 2
        thin = np.s_[:, :: self.step, :: self.step]
        self._raw = np.array(result.c2[thin], np.float32)
        self._denoised = None
        if result.denoised is not None:
            reached = np.isfinite(result.denoised.spread[thin])
            self._denoised = np.where(reached, result.denoised.c2[thin], np.nan).astype(np.float32)
        self.n_frames = n

    def images(self, roi: int) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Return copies of the raw and the denoised C2 of the ROI with this index.

        Denoised is raw where no window reached, and None where none has reached anything.
        """
        n = -(-self.n_frames // self.step)
        raw = self._raw[roi, :n, :n].copy()
        if self._denoised is None:
            return raw, None
        denoised = self._denoised[roi, :n, :n]
        if not np.isfinite(denoised).any():
            return raw, None
        return raw, np.where(np.isfinite(denoised), denoised, raw)

    def g2(self, roi: int) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Return g2 so far at lags 1, 2, ...: raw, and denoised where a window has reached."""
        n_lag = max(0, self._n_summed - 1)
        count = self._count[roi, :n_lag]
        g2 = np.full(n_lag, np.nan)
        np.divide(self._sum[roi, :n_lag], count, out=g2, where=count > 0)
        if self._denoised is None:
            return g2, None
        near = self._near[roi, : self.n_frames, 1:]
        known = np.isfinite(near).sum(axis=0)
        denoised = np.full(near.shape[1], np.nan)
        np.divide(np.nansum(near, axis=0), known, out=denoised, where=known > 0)
        return g2, denoised if known.any() else None

    def _grow(self, n: int) -> None:
        """Make room for n frames: a larger array, then a coarser step."""
        while -(-n // self.step) > MOST_EDGE:
            self.step *= 2
            self._raw = _every_other(self._raw)
            if self._denoised is not None:
                self._denoised = _every_other(self._denoised)
        edge = -(-n // self.step)
        if edge > self._raw.shape[1]:
            edge = min(MOST_EDGE, max(edge, 2 * self._raw.shape[1]))
            self._raw = _padded(self._raw, (edge, edge))
            if self._denoised is not None:
                self._denoised = _padded(self._denoised, (edge, edge))
        if n > self._sum.shape[1]:
            length = max(n, 2 * self._sum.shape[1])
            self._sum = _padded(self._sum, (length,), 0.0)
            self._count = _padded(self._count, (length,), 0.0)
            self._near = _padded(self._near, (length, self._window))


def _every_other(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return every other frame, in an array as large as before."""
    return _padded(images[:, ::2, ::2], images.shape[1:])


def _padded(array: NDArray[Any], shape: tuple[int, ...], value: float = np.nan) -> NDArray[Any]:
    """Return the array enlarged to (n_roi, *shape)."""
    larger = np.full((len(array), *shape), value, array.dtype)
    larger[tuple(slice(edge) for edge in array.shape)] = array
    return larger
