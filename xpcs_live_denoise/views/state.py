"""What the live window shows: the newest state of a run, and snapshots of it for one ROI."""

# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpcs_live_denoise.numerics.fits import typical_rates
from xpcs_live_denoise.records.results import Band, C2Rows, GammaTable, Picture, Publication, Result
from xpcs_live_denoise.records.run import RunEnd, RunInfo, Status

# numpy's stubs leave the types of arange, indices and the like unknown.


# Sources of rows by the estimator, whose recommendation counts.
BAYES = ("bayes", "bayes_early")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that a figure shows of one ROI at one time; nobody changes it any more.

    Attributes
    ----------
    version
        Rises with every record of the run.
    info
        The run.
    roi
        Index of the ROI.
    n_frames
        Frames in C2.
    c2, c2_denoised
        Shape (m, m), NaN where nothing is known: every `step`-th frame. None: not denoised.
    step
        Frames between two rows of `c2`.
    g2, g2_error, g2_denoised
        At lags 1, 2, ...; the error is None while the run is on.
    gamma
        Rows of this ROI that no better one has replaced; None before the first.
    typical_rates
        Shape (n_roi,), 1/s: of the recommended rows, comparable between ROIs; NaN where unknown.
    status
        The newest.
    picture
        The detector; None before the first look.
    end
        How the run ended; None while it is on.
    final
        Whether this is the final result.
    """

    version: int
    info: RunInfo
    roi: int
    n_frames: int
    c2: NDArray[np.float32]
    c2_denoised: NDArray[np.float32] | None
    step: int
    g2: NDArray[np.float64]
    g2_error: NDArray[np.float64] | None
    g2_denoised: NDArray[np.float64] | None
    gamma: GammaTable | None
    typical_rates: NDArray[np.float64]
    status: Status
    picture: Picture | None
    end: RunEnd | None
    final: bool


class PlotState:
    """The newest state of one run: the worker writes it, whoever draws takes snapshots.

    Parameters
    ----------
    info
        The run.

    Attributes
    ----------
    version
        Number of records so far.
    """

    def __init__(self, info: RunInfo) -> None:
        self.info = info
        self.version = 0
        self._lock = threading.Lock()
        self._c2 = ShownC2(len(info.roi), info.n_expected, info.window)
        self._status = Status()
        self._picture: Picture | None = None
        self._gamma: GammaTable | None = None
        self._rates = np.full(len(info.roi), np.nan)
        self._result: Result | None = None
        self._end: RunEnd | None = None

    @property
    def ended(self) -> bool:
        """Whether the run has ended."""
        return self._end is not None

    def add(self, record: Publication | Result | RunEnd) -> None:
        """Take what came; it replaces what it is newer than."""
        with self._lock:
            self.version += 1
            if isinstance(record, RunEnd):
                self._end = record
                self._status = record.status
                return
            self._status = record.status
            self._picture = record.picture or self._picture
            if isinstance(record, Result):
                self._c2.finish(record)
                self._result = record
                self._gamma = record.gamma
            else:
                self._add_news(record)
            if self._gamma is not None and record.gamma is not None:
                self._rates = _rates_by_roi(self._gamma, self.info.roi)

    def _add_news(self, news: Publication) -> None:
        if news.c2 is not None:
            self._c2.add_rows(news.c2)
        for band in news.bands:
            self._c2.add_band(band)
        if news.gamma is not None:
            tables = [news.gamma] if self._gamma is None else [self._gamma, news.gamma]
            self._gamma = GammaTable.concatenate(tables)

    def snapshot(self, roi: int) -> Snapshot:
        """Return the state of the ROI with this index."""
        with self._lock:
            c2, denoised = self._c2.images(roi)
            g2, g2_denoised = self._c2.g2(roi)
            g2_error = None
            if self._result is not None:
                one_time = self._result.g2
                g2, g2_error = one_time.g2[roi], one_time.g2_error[roi]
                all_denoised = one_time.g2_denoised
                g2_denoised = None if all_denoised is None else all_denoised[roi]
            return Snapshot(
                version=self.version,
                info=self.info,
                roi=roi,
                n_frames=self._c2.n_frames,
                c2=c2,
                c2_denoised=denoised,
                step=self._c2.step,
                g2=g2,
                g2_error=g2_error,
                g2_denoised=g2_denoised,
                gamma=_shown_rows(self._gamma, self.info.roi[roi]),
                typical_rates=self._rates,
                status=self._status,
                picture=self._picture,
                end=self._end,
                final=self._result is not None,
            )


def _shown_rows(table: GammaTable | None, label: int) -> GammaTable | None:
    """Return the converged rows of a ROI; those said early only where nothing is said later."""
    if table is None:
        return None
    rows = table.select((table.roi == label) & table.converged)
    late = rows.age_frame[rows.source == "bayes"]
    return rows.select((rows.source != "bayes_early") | ~np.isin(rows.age_frame, late))


def _rates_by_roi(table: GammaTable, labels: tuple[int, ...]) -> NDArray[np.float64]:
    """Return one rate a ROI from what is recommended, 1/s."""
    good = table.recommended & table.converged & np.isin(table.source, BAYES)
    if not good.any():
        return np.full(len(labels), np.nan)
    ages, at_age = np.unique(table.age_frame[good], return_inverse=True)
    at_roi = np.searchsorted(np.array(labels), table.roi[good])
    rates: NDArray[Any] = np.full((len(labels), len(ages)), np.nan)
    rates[at_roi, at_age] = table.relaxation_rate[good]
    return typical_rates(rates)


# numpy's stubs leave the types of arange, indices and the like unknown.


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
