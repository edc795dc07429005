"""g2 of a ROI: while the run is on the mean along the diagonals of C2 so far, with a fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xpcs_live_denoise.numerics.fits import fit_g2
from xpcs_live_denoise.numerics.kww import kww
from xpcs_live_denoise.records.results import GammaTable, RowSource
from xpcs_live_denoise.records.types import Array, FloatArray, IntArray

from .gamma import series_fit
from .words import why_no_frames

SHOWN_LAGS = 0.8  # of the series: the last lags rest on a handful of pairs of frames
LEAST_LAGS = 5  # fewer are not fitted
MOST_POINTS = 120  # evenly on the logarithmic axis
CURVE_POINTS = 200


def g2_so_far(
    c2: FloatArray, entry_frames: int = 1, near: FloatArray | None = None
) -> tuple[IntArray, FloatArray]:
    """Return lags in frames and g2 of C2 (n, n) with so many frames from one entry to the next.

    Where entries are several frames apart, `near` has g2 at the lags 1, 2, ... of the band.
    """
    if not len(c2):
        return np.empty(0, np.int64), np.empty(0)
    finite = np.isfinite(c2)
    sums, count = (_sums_of_diagonals(part) for part in (np.where(finite, c2, 0.0), finite))
    g2 = np.divide(sums, count, where=count > 0, out=np.full(len(sums), np.nan))
    lags = entry_frames * np.arange(1, len(g2) + 1)
    if entry_frames == 1 or near is None:
        return lags, g2
    # Bins beside each other share lags from 1 frame on: their mean is no g2 at one lag.
    far = lags > max(len(near), entry_frames)
    return np.r_[np.arange(1, len(near) + 1), lags[far]], np.r_[near, g2[far]]


def _sums_of_diagonals(values: Array) -> FloatArray:
    n = len(values)
    padded = np.zeros((n, 2 * n))
    padded[:, :n] = values[::-1]
    # One column less shears the rows: diagonals become columns, in the order of their lags.
    return padded.ravel()[:-n].reshape(n, 2 * n - 1).sum(axis=0)[n:]


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
    measured_s: float | None = None,
) -> G2Curve:
    """Return what is drawn of one g2 (n_lag,); NO_CURVE where there is nothing to draw.

    `delay_s` holds the delays of its lags in s, rising, the first that of one frame; `fit`
    is the row of the fit of the whole series, see `series_fit`. Where there is none, `fit_now`
    makes one. Delays above SHOWN_LAGS of the frames so far, `measured_s`, are not drawn; by default
    those are one more than lags.
    """
    if g2 is None or not len(g2) or not len(delay_s):
        return NO_CURVE
    n_lag = min(len(delay_s), len(g2))  # a window may be longer than the series
    delay_s, g2 = delay_s[:n_lag], g2[:n_lag]
    step_s = float(delay_s[0])
    longest_s = delay_s[-1] if measured_s is None else measured_s - step_s
    last_s = max(SHOWN_LAGS * float(longest_s) + step_s, 2.5 * step_s)
    kept = np.flatnonzero((delay_s < last_s * (1 - 1e-9)) & np.isfinite(g2))
    if not len(kept):
        return NO_CURVE
    if len(kept) > MOST_POINTS:
        kept = kept[_evenly(delay_s[kept])]
    if fit is None and fit_now:
        fit = _fit_now(delay_s, g2, g2_error, float(longest_s))
    x = y = _NOTHING
    if fit is not None and len(fit):
        x = np.geomspace(delay_s[0], delay_s[kept[-1]], CURVE_POINTS)
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


def _evenly(delay_s: FloatArray) -> IntArray:
    """Return the indices of about MOST_POINTS delays, evenly on a logarithmic axis."""
    places = np.geomspace(delay_s[0], delay_s[-1], MOST_POINTS)
    after = np.clip(np.searchsorted(delay_s, places), 1, len(delay_s) - 1)
    nearer = places - delay_s[after - 1] < delay_s[after] - places
    return np.unique(after - nearer)


def _fit_now(
    delay_s: FloatArray, g2: FloatArray, g2_error: FloatArray | None, longest_s: float
) -> GammaTable | None:
    """Return the row of a fit, None where it does not converge."""
    if np.isfinite(g2).sum() < LEAST_LAGS:
        return None
    step_s = float(delay_s[0])
    lags = delay_s / step_s
    known = np.zeros(len(g2), np.bool_)
    if g2_error is not None:
        known = np.isfinite(g2_error) & (g2_error > 0)
    if known.any() and g2_error is not None:
        row = fit_g2(
            np.where(known, g2, np.nan),
            lags=lags,
            g2_error=np.where(known, g2_error, 1.0),
            frame_time_s=step_s,
        )
    else:
        n_averaged = np.maximum(longest_s / step_s + 1 - lags, 1.0)
        row = fit_g2(g2, lags=lags, weights=n_averaged, frame_time_s=step_s)
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
    n_frames: int,
    frame_time_s: float,
    series_s: float,
    whole: bool,
    final: bool,
) -> G2View:
    """Return what is drawn of g2 at some delays, each array (n_lag,) or None.

    The denoised one may have the first lags only. `table` holds rows of any ROIs, with the fits of
    the whole series among them; unless g2 is that of the `whole` series, it is fitted here.
    `n_frames` are measured, `series_s` is the time of the whole series as far as it is known;
    `final` says that nothing more will come.
    """
    curves = [
        g2_curve(
            delay_s,
            g2,
            error,
            fit=series_fit(table, label, source),
            fit_now=not whole,
            measured_s=n_frames * frame_time_s,
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
        title=_title(n_frames, whole=whole, final=final),
        note="" if len(values) else why_no_frames(final=final),
    )


def _title(n_frames: int, *, whole: bool, final: bool) -> str:
    if whole:
        return "g₂ of the whole series"
    # "so far" would promise more.
    return f"g₂ of {n_frames} frames" if final else "g₂ so far"
