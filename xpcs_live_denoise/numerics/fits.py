"""Gamma(t): fits of the KWW model to age cuts of C2 and to g2, as rows of a table."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.records.results import GammaTable, RowSource
from xpcs_live_denoise.records.types import BoolArray, FloatArray, IntArray

from .arrays import as_stack, mean_or_nan, per_roi
from .estimator.sums import BinnedCuts, jackknife_variance, n_effective
from .g2 import AgeCuts, age_cuts, band_cuts
from .kww import KwwFit, fit_kww

# A row is recommended up to this standard error of ln Gamma.
MAX_LN_GAMMA_ERROR = 0.5
# Ages that are cut and fitted at once: bounds the memory.
_AGES = 128
# Least variance of an entry of C2. Entries are near 1 and known to 1e-16 at best, so this is far
# above rounding and far below any measurement; it keeps noise-free input from infinite weights.
_LEAST_VARIANCE = 1e-20


def fit_ages(
    c2: ArrayLike,
    *,
    beta: ArrayLike,
    width: int = 1,
    frame_time_s: float = 1.0,
    max_lag: int | None = None,
) -> GammaTable:
    """Fit the cut at every integer age, beta fixed: the fit of the paper.

    Free are Gamma, alpha and the baseline. A lag weighs with the number of pixels averaged over
    the local variance of one (`age_cuts`), and standard errors come from the Jacobian with these
    weights. They hold where entries of C2 fluctuate independently (few counts). Where the speckle
    itself limits, neighbours are alike, the errors come out several times too small, and a
    `reduced_chi_square` well above 1 shows it.

    Parameters
    ----------
    c2
        Shape (n, n) or (n_roi, n, n).
    beta
        Contrast, scalar or (n_roi,). NaN (not known) gives rows that did not converge.
    width
        Of the cuts, frames.
    frame_time_s
        Frame period, s.
    max_lag
        Longest lag in frames; default n - 1.

    Returns
    -------
    GammaTable
        n rows a ROI, in order of ROI then age; source "raw", rates in s^-1, ROIs numbered from 1, q
        unknown.

    Raises
    ------
    InvalidInputError
        When the shape of C2 or beta does not fit, or width, frame_time_s or max_lag is not
        positive.

    References
    ----------
    Konstantinova et al., Sci. Rep. 11, 14756 (2021), Eq. 3.
    """
    ages = np.arange(as_stack(c2).shape[-1], dtype=np.int64)
    return fit_age_cuts(
        c2, ages, beta=beta, width=width, frame_time_s=frame_time_s, max_lag=max_lag
    )


def fit_age_cuts(
    c2: ArrayLike,
    ages: ArrayLike,
    *,
    beta: ArrayLike,
    width: int = 1,
    frame_time_s: float = 1.0,
    max_lag: int | None = None,
) -> GammaTable:
    """Fit cuts at some ages only, as `fit_ages` does; only C2 around them is read.

    `ages` are centres of cuts, frames. Returns one row for each ROI and age, in this order.
    """
    stack = as_stack(c2)
    check_frame_time(frame_time_s)
    contrast = per_roi(beta, len(stack), "beta")
    parts = [
        _fit_cuts(age_cuts(stack, width=width, ages=some, max_lag=max_lag), contrast, frame_time_s)
        for some in _some_at_once(ages)
    ]
    return _by_roi(parts).replace(width=width)


def fit_band_ages(
    band: FloatArray,
    start: int,
    ages: ArrayLike,
    *,
    beta: ArrayLike,
    frame_time_s: float = 1.0,
    max_lag: int | None = None,
) -> GammaTable:
    """Fit cuts of one frame as `fit_age_cuts` does, where only the band of C2 is known.

    `band` and `start` are those of `band_cuts`: lags up to the width of the band - 1 are fitted.
    """
    contrast = per_roi(beta, len(band), "beta")
    parts = [
        _fit_cuts(band_cuts(band, start, some, max_lag=max_lag), contrast, frame_time_s)
        for some in _some_at_once(ages)
    ]
    return _by_roi(parts)


def _some_at_once(ages: ArrayLike) -> list[FloatArray]:
    """Split ages into groups; an empty list of ages still makes one, and a table with columns."""
    centres = np.asarray(ages, np.float64).reshape(-1)
    return [centres[k : k + _AGES] for k in range(0, max(centres.size, 1), _AGES)]


def _by_roi(parts: list[GammaTable]) -> GammaTable:
    joined = GammaTable.concatenate(parts)
    return joined.select(np.argsort(joined.roi, kind="stable"))


def _fit_cuts(cuts: AgeCuts, contrast: FloatArray, frame_time_s: float) -> GammaTable:
    """Fit cuts of some ages of every ROI, beta fixed to `contrast`, (n_roi,)."""
    n_roi, n_age = cuts.noise.shape
    variance = np.maximum(cuts.noise, _LEAST_VARIANCE)[:, :, np.newaxis]
    shape = (n_roi * n_age, cuts.lag.size)
    weights = (cuts.n_pixels / variance).reshape(shape)
    fixed: FloatArray = np.repeat(contrast, n_age)
    fit = _widened(fit_kww(cuts.lag, cuts.mean.reshape(shape), weights, beta=fixed))
    table = _table(fit, frame_time_s, source=RowSource.RAW, width=1, error_kind="residual")
    # A cut without pixels still has its centre.
    mean_age = np.where(np.isnan(cuts.mean_age), cuts.age, cuts.mean_age)
    return table.replace(
        roi=np.repeat(np.arange(1, n_roi + 1, dtype=np.int64), n_age),
        age_s=mean_age.reshape(-1) * frame_time_s,
        age_frame=np.tile(cuts.age, n_roi),
    )


def fit_g2(
    g2: ArrayLike,
    *,
    lags: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    g2_error: ArrayLike | None = None,
    frame_time_s: float = 1.0,
) -> GammaTable:
    """Fit the g2 of whole series, or any curves, at every lag or at those of a multi-tau scheme.

    Parameters
    ----------
    g2
        Shape (n_lag,) or (n, n_lag). NaN is left out.
    lags
        Shape (n_lag,): the lag of each value in frames (a delay over the frame period), above 0
        and rising, whole or not; default 1, 2, ..., n_lag.
    beta
        Contrast to hold, scalar or (n,); default: free.
    weights
        Shape (n_lag,) or (n, n_lag), known up to a factor (all equal by default): the standard
        errors are scaled by the scatter about the fit, `error_kind` is "residual", and
        `reduced_chi_square` is in units of these weights.
    g2_error
        Shape (n_lag,) or (n, n_lag): standard error of each value, instead of weights;
        `error_kind` is "fit". NaN leaves the value out. Errors of neighbouring lags are taken as
        independent; in a series they are not, and the errors of the fit are then too small.
    frame_time_s
        Frame period, s.

    Returns
    -------
    GammaTable
        One row a curve, numbered from 1 as ROIs; source "series_raw", age NaN, width the longest
        lag + 1.

    Raises
    ------
    InvalidInputError
        When shapes do not fit; when lags are not finite, not above 0, not rising or there twice;
        when both weights and g2_error are given, or an error is below 0; when frame_time_s is not
        positive.
    """
    curves = np.atleast_2d(np.asarray(g2, np.float64))
    check_frame_time(frame_time_s)
    lag = _checked_lags(lags, curves.shape[-1])
    if weights is not None and g2_error is not None:
        raise InvalidInputError("fit_g2: got both weights and g2_error; expected one of them.")
    weight: ArrayLike = 1.0 if weights is None else weights
    if g2_error is not None:
        error = np.asarray(g2_error, np.float64)
        if (error < 0).any():
            raise InvalidInputError(
                f"g2_error: got {error.min()}; expected standard errors, 0 or above."
            )
        weight = 1 / np.maximum(error**2, _LEAST_VARIANCE)
    fit = fit_kww(lag, curves, weight, beta=beta, scale_errors=g2_error is None)
    kind = "residual" if g2_error is None else "fit"
    width = int(np.ceil(lag.max(initial=0))) + 1
    table = _table(fit, frame_time_s, source=RowSource.SERIES_RAW, width=width, error_kind=kind)
    return table.replace(roi=np.arange(1, len(table) + 1))


def _checked_lags(lags: ArrayLike | None, n_lag: int) -> FloatArray:
    """Return the lags of curves, (n_lag,), or say what is wrong with those that were given."""
    if lags is None:
        return np.arange(1.0, n_lag + 1)
    lag = np.asarray(lags, np.float64)
    expected = f"expected {n_lag} lags in frames, one for each value of g2, above 0 and rising"
    if lag.shape != (n_lag,):
        raise InvalidInputError(f"lags: got shape {lag.shape}; {expected}.")
    if not np.isfinite(lag).all():
        raise InvalidInputError(f"lags: got {lag[~np.isfinite(lag)][0]}; {expected}.")
    if (lag <= 0).any():
        raise InvalidInputError(
            f"lags: got {lag.min():g}; {expected}. Leave lag 0 and its g2 out: it holds the photon "
            "noise of single frames."
        )
    back = np.flatnonzero(np.diff(lag) <= 0)
    if back.size:
        first, then = lag[back[0]], lag[back[0] + 1]
        remedy = "keep one value of each" if first == then else "sort lags and g2 together"
        raise InvalidInputError(f"lags: got {first:g}, then {then:g}; {expected}: {remedy}.")
    return lag


# By how much the noise of C2 (`far_lag_inflation`) is too large for g2 of a whole series, measured.
_SERIES_EXCESS = 1.5
# What the variance of a jackknife over 8 blocks lacks, as for cuts of single ages.
_BLOCK_FACTOR = 1.35


def series_errors(series: BinnedCuts, g2_error: ArrayLike) -> FloatArray:
    """Return standard errors of a fit to the g2 of a whole series: ln Gamma, alpha, beta, baseline.

    Neighbouring lags are not independent, which the scatter about a fit cannot show. Where pixel
    blocks are known the curve is fitted anew with each left out, and the jackknife tells. Else the
    noise of an entry, inflated by what neighbours have in common (`estimator.inflation.inflated`),
    takes the place of `g2_error`.

    Parameters
    ----------
    series
        One cut, of the whole series (`AgeSums.series`).
    g2_error
        Standard error of g2, which weighs its lags: (n_lag,) at the lags 1..n_lag, or (n_bin,) at
        the bins of `series`.

    Returns
    -------
    FloatArray
        Shape (4,); NaN where a fit was not possible.
    """
    lag = series.lag
    mean, counted = 1 + series.mean, series.n_entries > 0
    if series.left_out is None:
        noise = np.maximum(series.noise[:, np.newaxis], _LEAST_VARIANCE) / _SERIES_EXCESS
        weights = np.where(counted, series.n_entries / noise, 0.0)
        fit = fit_kww(lag, mean, weights)
        rate_error = fit.relaxation_rate_error / fit.relaxation_rate
        errors = (rate_error, fit.alpha_error, fit.beta_error, fit.baseline_error)
        return np.array(errors)[:, 0]
    variance = np.maximum(np.asarray(g2_error, np.float64) ** 2, _LEAST_VARIANCE)
    weights = np.nan_to_num(1 / variance)
    if len(variance) != len(lag):
        each = np.append(weights, np.zeros(series.edges[-1]))
        weights = np.add.reduceat(each[: series.edges[-1] - 1], series.edges[:-1] - 1)
    fit = fit_kww(lag, 1 + series.left_out[0].T, np.where(counted, weights, 0.0))
    found = (np.log(fit.relaxation_rate), fit.alpha, fit.beta, fit.baseline)
    return np.sqrt(_BLOCK_FACTOR * jackknife_variance(np.array(found).T))


def _widened(fit: KwwFit) -> KwwFit:
    """Return the fit with its errors times the root of the reduced chi-square, never smaller."""
    factor = np.sqrt(np.fmax(fit.reduced_chi_square, 1.0))
    return dataclasses.replace(
        fit,
        relaxation_rate_error=fit.relaxation_rate_error * factor,
        alpha_error=fit.alpha_error * factor,
        baseline_error=fit.baseline_error * factor,
    )


def _table(
    fit: KwwFit, frame_time_s: float, *, source: RowSource, width: int, error_kind: str
) -> GammaTable:
    """Return the rows of a fit, of ROI 1 and no age."""
    n = len(fit.converged)
    nothing = np.full(n, np.nan)
    # A fit that did not converge has no error, and NaN is not below the limit.
    precise = fit.relaxation_rate_error <= MAX_LN_GAMMA_ERROR * fit.relaxation_rate
    why_not = np.where(fit.converged, "imprecise", "not_converged")
    return GammaTable(
        roi=np.ones(n, np.int64),
        q_inv_angstrom=nothing,
        age_s=nothing,
        age_frame=nothing,
        phi_deg=nothing,
        source=np.full(n, source),
        width=np.full(n, width, np.int64),
        relaxation_rate=fit.relaxation_rate / frame_time_s,
        relaxation_rate_error=fit.relaxation_rate_error / frame_time_s,
        error_kind=np.full(n, error_kind),
        alpha=fit.alpha,
        alpha_error=fit.alpha_error,
        baseline=fit.baseline,
        baseline_error=fit.baseline_error,
        beta=fit.beta,
        beta_error=fit.beta_error,
        reduced_chi_square=fit.reduced_chi_square,
        n_lags=fit.n_lags,
        n_effective=nothing,
        converged=fit.converged,
        in_range=fit.converged,
        recommended=precise,
        reason=np.where(precise, "", why_not),
        caution=np.full(n, ""),
        final=np.ones(n, np.bool_),
    )


def check_frame_time(frame_time_s: float) -> None:
    """Raise InvalidInputError unless the frame period is a number above 0."""
    if not (np.isfinite(frame_time_s) and frame_time_s > 0):
        raise InvalidInputError(
            f"frame_time_s: got {frame_time_s}; expected the frame period in s, above 0."
        )


# --- one rate a ROI, and the power law through them ------------------------------------------

LEAST_ROIS = 3
_SWEEPS = 30
_LEAST_ERROR = 1e-6  # of ln Gamma: noise-free input must not have infinite weight
# Frames from one age to the next that counts as another one where only few are known.
_FRAMES_APART = 20
_BISECTIONS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerLaw:
    """Gamma = prefactor q^exponent; errors are standard errors."""

    exponent: float  # of q, not of q^2: 2 for diffusion
    exponent_error: float
    prefactor: float  # Gamma at q = 1 / Angstrom, in the unit of the rates
    prefactor_error: float
    n_roi: int  # ROIs that the line was fitted to


@dataclass(frozen=True, slots=True, kw_only=True)
class TypicalRates:
    """One rate a ROI, comparable between ROIs known at different ages; attributes are (n_roi,)."""

    roi: IntArray  # labels, rising
    q_inv_angstrom: FloatArray
    ln_rate: FloatArray  # Gamma in the unit of the table
    ln_rate_error: FloatArray
    n_ages: IntArray  # rows behind it


def typical_rates(gamma: Any) -> TypicalRates:
    """Return one rate of each ROI that has a recommended row, with its error.

    ln Gamma(roi, age) = a(roi) + b(age) is fitted by sweeps over both means; the result is
    a + mean of b. While a sample ages, plain means of what is known of each ROI would compare
    different ages. Errors along the ages of a ROI are not independent: that of the mean is

        error^2 = mean(error of ln Gamma^2) / n_effective.

    Parameters
    ----------
    gamma
        GammaTable or pandas.DataFrame of one run. Rows count that are `recommended`, converged and
        have an error. Without a column `n_effective`, or where it is NaN, it is that of
        `n_effective` for the ages alone.

    Raises
    ------
    InvalidInputError
        When a column is missing.
    """
    names = ("roi", "q_inv_angstrom", "age_frame", "relaxation_rate", "relaxation_rate_error")
    missing = [name for name in (*names, "recommended", "converged") if not hasattr(gamma, name)]
    if missing:
        raise InvalidInputError(
            f"Table of Gamma: got no column {', '.join(missing)}; expected a GammaTable, or the "
            "DataFrame that gamma_table() returns."
        )
    label, q, age, rate, error = (np.asarray(getattr(gamma, name), np.float64) for name in names)
    independent = np.asarray(getattr(gamma, "n_effective", np.full(len(rate), np.nan)), np.float64)
    good = np.asarray(gamma.recommended, np.bool_) & np.asarray(gamma.converged, np.bool_)
    good &= (rate > 0) & np.isfinite(rate) & np.isfinite(error)
    rois, at = np.unique(label[good], return_inverse=True)
    ages, when = np.unique(np.nan_to_num(age[good], nan=-1.0), return_inverse=True)
    logs, squares = (np.full((len(rois), len(ages)), np.nan) for _ in range(2))
    logs[at, when] = np.log(rate[good])
    squares[at, when] = (error[good] / rate[good]) ** 2
    known = np.isfinite(logs)
    n_ages = known.sum(axis=1)
    count = np.empty(len(rois))
    for roi in range(len(rois)):
        own = ages[known[roi]]
        told = independent[good][at == roi]
        one = float(told[-1]) if np.isfinite(told[-1]) else n_effective(own)
        most = 1 + np.ptp(own) / _FRAMES_APART  # few ages of a ROI are not worth all of them
        count[roi] = np.clip(one, 1.0, most)
    return TypicalRates(
        roi=rois.astype(np.int64),
        q_inv_angstrom=np.array([q[good][at == roi][0] for roi in range(len(rois))]),
        ln_rate=_comparable(np.where(known, logs, 0.0), known),
        ln_rate_error=np.sqrt(mean_or_nan(np.nansum(squares, axis=1), n_ages) / count),
        n_ages=n_ages,
    )


def _comparable(logs: FloatArray, known: BoolArray) -> FloatArray:
    """Return a + mean of b of the fit logs = a(roi) + b(age) to what is known, (n_roi,)."""
    n_ages, n_rois = known.sum(axis=1), known.sum(axis=0)
    of_roi, of_age = np.zeros(logs.shape[0]), np.zeros(logs.shape[1])
    for _ in range(_SWEEPS):
        of_roi = ((logs - of_age) * known).sum(axis=1) / n_ages
        of_age = ((logs - of_roi[:, np.newaxis]) * known).sum(axis=0) / n_rois
    return of_roi + (of_age.mean() if of_age.size else 0.0)


def fit_power_law(gamma: Any, *, alpha: float | None = None) -> PowerLaw:
    """Fit Gamma = prefactor q^exponent to one rate a ROI, each weighted by its own error.

    A straight line is fitted to ln Gamma (`typical_rates`) against ln q, with the weights
    1/(error^2 + s^2). s, what ROIs scatter by beyond their errors, is 0 where chi-square does not
    exceed its degrees of freedom, else what makes them equal (Paule and Mandel 1982). With three
    ROIs s is hardly known: where they do scatter, the error of the exponent is then too small.

    Parameters
    ----------
    gamma
        GammaTable or pandas.DataFrame of one run; which rows count stands in `typical_rates`.
    alpha
        KWW exponent; the law is then that of Gamma^alpha, whose exponent is 2 for every sample
        with g1 = exp(-D q^2 t^alpha), subdiffusion for example. Default: that of Gamma.

    Returns
    -------
    PowerLaw
        Its prefactor is in the unit of the rates, to the power of alpha where that is given.

    Raises
    ------
    InvalidInputError
        When fewer than three ROIs of different, known q have a recommended rate; when alpha is not
        above 0.

    References
    ----------
    Paule and Mandel, J. Res. Natl. Bur. Stand. 87, 377 (1982).
    """
    if alpha is not None and not (np.isfinite(alpha) and alpha > 0):
        raise InvalidInputError(f"alpha: got {alpha}; expected a KWW exponent above 0, or None.")
    rates = typical_rates(gamma)
    law = power_law(rates, alpha=1.0 if alpha is None else alpha)
    if law is None:
        known = rates.q_inv_angstrom[rates.q_inv_angstrom > 0]
        raise InvalidInputError(
            f"fit_power_law: got recommended rates of {len(rates.roi)} ROIs, with "
            f"{len(np.unique(known))} different known q; expected at least {LEAST_ROIS} of these. "
            "Give the geometry or q of the ROIs, and see `reason` for rows not recommended."
        )
    return law


def power_law(
    rates: TypicalRates, *, alpha: float = 1.0, exponent: float | None = None
) -> PowerLaw | None:
    """Fit as `fit_power_law`; None with fewer than three different q.

    A given exponent is held, and one ROI is enough: with 2 the prefactor is the D of D q^2.
    """
    q = rates.q_inv_angstrom
    good = np.isfinite(q) & (q > 0) & np.isfinite(rates.ln_rate_error)
    if len(np.unique(q[good])) < (LEAST_ROIS if exponent is None else 1):
        return None
    x, y = np.log(q[good]), alpha * rates.ln_rate[good]
    variance = (alpha * np.maximum(rates.ln_rate_error[good], _LEAST_ERROR)) ** 2
    freedom = len(x) - (2 if exponent is None else 1)
    low, high = 0.0, 0.0
    if _line(x, y, variance, exponent)[2] > freedom:
        high = float(np.sum((y - y.mean()) ** 2))  # with such a variance chi-square is below 1
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            above = _line(x, y, variance + middle, exponent)[2] > freedom
            low, high = (middle, high) if above else (low, middle)
    (offset, slope), covariance, _ = _line(x, y, variance + high, exponent)
    prefactor = math.exp(offset)
    return PowerLaw(
        exponent=slope,
        exponent_error=math.sqrt(covariance[1, 1]),
        prefactor=prefactor,
        prefactor_error=prefactor * math.sqrt(covariance[0, 0]),
        n_roi=len(x),
    )


def _line(
    x: FloatArray, y: FloatArray, variance: FloatArray, held: float | None = None
) -> tuple[tuple[float, float], FloatArray, float]:
    """Return offset and slope of y = offset + slope x, their covariance, and chi-square.

    The slope may be held.
    """
    weight = 1 / variance
    if held is not None:
        offset = float(weight @ (y - held * x) / weight.sum())
        covariance = np.diag([1 / weight.sum(), 0.0])
        return (offset, held), covariance, float(weight @ (y - held * x - offset) ** 2)
    total, centre = weight.sum(), float(weight @ x / weight.sum())
    away = x - centre
    square = float(weight @ away**2)
    slope = float(weight @ (away * y)) / square
    middle = float(weight @ y) / total
    covariance = np.array([[1 / total + centre**2 / square, -centre / square],
                           [-centre / square, 1 / square]])  # fmt: skip
    residual = y - middle - slope * away
    return (float(middle - slope * centre), slope), covariance, float(weight @ residual**2)
