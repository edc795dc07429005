"""g2 of a ROI: while the run is on the mean along the diagonals of C2 so far, with a fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xpcs_live_denoise.numerics.fits import fit_g2
from xpcs_live_denoise.numerics.g2 import g2_from_c2
from xpcs_live_denoise.numerics.kww import kww
from xpcs_live_denoise.records.results import Band, C2Rows, GammaTable, RowSource
from xpcs_live_denoise.records.types import Array, FloatArray

from .gamma import series_fit
from .words import why_no_frames

SHOWN_LAGS = 0.8  # of the series: the last lags rest on a handful of pairs of frames
LEAST_LAGS = 5  # fewer are not fitted
MOST_POINTS = 120  # evenly on the logarithmic axis
CURVE_POINTS = 200
MOST_WITH_ERRORS = 600  # frames: a longer live series gets its error bars at its end


def g2_so_far(c2: FloatArray) -> tuple[FloatArray, FloatArray | None]:
    """Return g2 of C2 (n, n) at lags 1..n-1 and its error; None where it would take too long."""
    if len(c2) <= MOST_WITH_ERRORS:
        g2, error, _ = g2_from_c2(c2)
        return g2[0], error[0]
    finite = np.isfinite(c2)
    sums, count = (_sums_of_diagonals(part) for part in (np.where(finite, c2, 0.0), finite))
    return np.divide(sums, count, where=count > 0, out=np.full(len(c2) - 1, np.nan)), None


def _sums_of_diagonals(values: Array) -> FloatArray:
    n = len(values)
    padded = np.zeros((n, 2 * n))
    padded[:, :n] = values[::-1]
    # One column less shears the rows: diagonals become columns, in the order of their lags.
    return padded.ravel()[:-n].reshape(n, 2 * n - 1).sum(axis=0)[n:]


class DiagonalSums:
    """Sums along the diagonals of C2 of every ROI while it grows, raw and denoised.

    Beyond `window` frames, the edge of the denoiser's windows, nothing is denoised.
    """

    def __init__(self, n_roi: int, window: int) -> None:
        self._n_summed = 0
        self._sum = np.zeros((n_roi, 0))
        self._count = np.zeros((n_roi, 0))
        self._near = np.full((n_roi, 0, window), np.nan, np.float32)  # [roi, t, lag], denoised

    def add_rows(self, rows: C2Rows) -> None:
        """Take new rows; those that were taken before count once, all of them anew from row 0."""
        if rows.start == 0:
            self._n_summed = 0
            self._sum[:], self._count[:] = 0, 0
            self._near[:] = np.nan
        if rows.stop > self._sum.shape[1]:
            self._sum, self._count = (
                _longer(array, rows.stop, 0.0) for array in (self._sum, self._count)
            )
        for t1 in range(max(rows.start, self._n_summed), rows.stop):
            by_lag = rows.values[:, t1 - rows.start, :t1][:, ::-1]
            known = np.isfinite(by_lag)
            self._sum[:, :t1] += np.where(known, by_lag, 0)
            self._count[:, :t1] += known
        self._n_summed = max(self._n_summed, rows.stop)

    def add_band(self, band: Band) -> None:
        """Take a square of denoised values, in place of older ones of the same frames."""
        if band.stop > self._near.shape[1]:
            self._near = _longer(self._near, band.stop, np.nan)
        values = np.where(np.isfinite(band.spread), band.c2, np.nan)
        for lag in range(1, min(self._near.shape[2], band.stop - band.start)):
            diagonal = np.diagonal(values, -lag, 1, 2)
            old = self._near[:, band.start + lag : band.stop, lag]
            np.copyto(old, diagonal, where=np.isfinite(diagonal))

    def raw(self, roi: int) -> FloatArray:
        """Return g2 of the ROI with this index, at lags 1, 2, ..."""
        n_lag = max(0, self._n_summed - 1)
        count = self._count[roi, :n_lag]
        return np.divide(self._sum[roi, :n_lag], count, out=np.full(n_lag, np.nan), where=count > 0)

    def denoised(self, roi: int) -> FloatArray | None:
        """Return the denoised g2 at the lags of a window; None before a window has reached any."""
        near = self._near[roi, :, 1:]
        known = np.isfinite(near).sum(axis=0)
        if not known.any():
            return None
        return np.divide(
            np.nansum(near, axis=0), known, out=np.full(len(known), np.nan), where=known > 0
        )


def _longer(array: Array, n: int, value: float) -> Array:
    """Return the array with its second axis at least n long, and twice what it was."""
    shape = (len(array), max(n, 2 * array.shape[1]), *array.shape[2:])
    grown = np.full(shape, value, array.dtype)
    grown[:, : array.shape[1]] = array
    return grown


@dataclass(frozen=True, slots=True, kw_only=True)
class G2Curve:
    """Points of g2 with their fit, delays in s.

    `lower` and `upper` are the ends of the error bars, the value itself where its error is not
    known; the arrays of the fit, of another length, are empty where there is none.
    """

    delay_s: FloatArray
    g2: FloatArray
    lower: FloatArray
    upper: FloatArray
    fit_delay_s: FloatArray
    fit_g2: FloatArray


_NOTHING = np.empty(0)
NO_CURVE = G2Curve(
    delay_s=_NOTHING, g2=_NOTHING, lower=_NOTHING, upper=_NOTHING,
    fit_delay_s=_NOTHING, fit_g2=_NOTHING,
)  # fmt: skip


def g2_curve(
    delay_s: FloatArray,
    g2: FloatArray | None,
    g2_error: FloatArray | None = None,
    *,
    fit: GammaTable | None = None,
    fit_now: bool = True,
    n_frames: int | None = None,
) -> G2Curve:
    """Return what is drawn of one g2 (n_lag,); NO_CURVE where there is nothing to draw.

    `delay_s` holds at least the delays of lags 1, 2, ... in s, evenly spaced; `fit` is the row of
    the fit of the whole series, see `series_fit`. Where there is none, `fit_now` makes one. Lags
    above SHOWN_LAGS of the series, `n_frames` in units of lags, are not drawn; by default it is one
    more than lags.
    """
    if g2 is None or not len(g2):
        return NO_CURVE
    delay_s, n = delay_s[: len(g2)], (n_frames or len(g2) + 1) - 1
    inner = np.arange(len(g2)) < max(SHOWN_LAGS * n, 2)
    kept = np.flatnonzero(inner & np.isfinite(g2))
    if not len(kept):
        return NO_CURVE
    last = int(kept[-1])
    if len(kept) > MOST_POINTS:
        kept = kept[np.isin(kept, np.rint(np.geomspace(1, last + 1, MOST_POINTS)) - 1)]
    if fit is None and fit_now:
        fit = _fit_now(g2, g2_error, float(delay_s[0]), n + 1)
    x = y = _NOTHING
    if fit is not None and len(fit):
        x = np.geomspace(delay_s[0], delay_s[last], CURVE_POINTS)
        y = kww(x, fit.relaxation_rate[0], fit.alpha[0], fit.beta[0], fit.baseline[0])
    bar = np.zeros(len(kept)) if g2_error is None else np.nan_to_num(g2_error[kept])
    return G2Curve(
        delay_s=delay_s[kept],
        g2=g2[kept],
        lower=g2[kept] - bar,
        upper=g2[kept] + bar,
        fit_delay_s=x,
        fit_g2=y,
    )


def _fit_now(
    g2: FloatArray, g2_error: FloatArray | None, step_s: float, n_frames: int
) -> GammaTable | None:
    """Return the row of a fit, None where it does not converge."""
    if np.isfinite(g2).sum() < LEAST_LAGS:
        return None
    known = np.zeros(len(g2), np.bool_)
    if g2_error is not None:
        known = np.isfinite(g2_error) & (g2_error > 0)
    if known.any() and g2_error is not None:
        row = fit_g2(
            np.where(known, g2, np.nan),
            g2_error=np.where(known, g2_error, 1.0),
            frame_time_s=step_s,
        )
    else:
        n_averaged = np.maximum(n_frames - np.arange(1.0, len(g2) + 1), 1.0)
        row = fit_g2(g2, weights=n_averaged, frame_time_s=step_s)
    return row if row.converged[0] else None


@dataclass(frozen=True, slots=True, kw_only=True)
class G2View:
    """g2 of one ROI: its curves, the scale of g2, and from which to which delay the axis goes.

    `note` says why there are no points.
    """

    raw: G2Curve
    denoised: G2Curve
    low: float
    high: float
    first_s: float
    last_s: float
    title: str
    note: str


def g2_view(
    delay_s: FloatArray,
    raw: FloatArray | None,
    denoised: FloatArray | None,
    *,
    raw_error: FloatArray | None = None,
    table: GammaTable | None,
    label: int,
    series_s: float,
    final: bool,
    n_frames: int | None = None,
) -> G2View:
    """Return what is drawn of g2 at the lags 1, 2, ..., each array (n_lag,) or None.

    `table` holds rows of any ROIs, with the fits of the whole series among them; while the results
    are not final, g2 is fitted here. `series_s` is the time of the whole series as far as it is
    known; for `n_frames` see `g2_curve`.
    """
    curves = [
        g2_curve(
            delay_s,
            g2,
            error,
            fit=series_fit(table, label, source),
            fit_now=not final,
            n_frames=n_frames,
        )
        for g2, error, source in (
            (raw, raw_error, RowSource.SERIES_RAW),
            (denoised, None, RowSource.SERIES_DENOISED),
        )
    ]
    values = np.concatenate([curve.g2 for curve in curves])
    delays = np.concatenate([curve.delay_s for curve in curves])
    low, high, first_s, last_s = 0.9, 1.5, 1.0, 10.0
    if len(values):
        low, high = float(values.min()), float(values.max())
        margin = 0.12 * (high - low) or 0.05
        low, high = low - margin, high + margin
        first_s = 0.85 * float(delays.min())
        last_s = 1.2 * max(float(delays.max()), SHOWN_LAGS * series_s)
    return G2View(
        raw=curves[0],
        denoised=curves[1],
        low=low,
        high=high,
        first_s=first_s,
        last_s=last_s,
        title="g₂ of the whole series" if final else "g₂ so far",
        note="" if len(values) else why_no_frames(final=final),
    )
