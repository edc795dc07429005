"""Gamma(t): fits of the KWW model to age cuts of C2 and to g2, as rows of a table."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.records.results import GammaTable, RowSource
from xpcs_live_denoise.records.types import FloatArray

from .arrays import as_stack, per_roi
from .g2 import age_cuts
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
    n_roi = len(stack)
    contrast = per_roi(beta, n_roi, "beta")
    centres = np.asarray(ages, np.float64).reshape(-1)
    tables: list[GammaTable] = []
    # An empty list of ages still makes one (empty) table, with the right columns.
    for first in range(0, max(centres.size, 1), _AGES):
        some = centres[first : first + _AGES]
        cuts = age_cuts(stack, width=width, ages=some, max_lag=max_lag)
        variance = np.maximum(cuts.noise, _LEAST_VARIANCE)[:, :, np.newaxis]
        shape = (n_roi * some.size, cuts.lag.size)
        weights = (cuts.n_pixels / variance).reshape(shape)
        fixed = np.repeat(contrast, some.size)
        fit = fit_kww(cuts.lag, cuts.mean.reshape(shape), weights, beta=fixed)
        fit = _widened(fit)
        table = _table(fit, frame_time_s, source=RowSource.RAW, width=width, error_kind="residual")
        tables.append(
            table.replace(
                roi=np.repeat(np.arange(1, n_roi + 1), some.size),
                # A cut without pixels still has its centre.
                age_s=np.where(np.isnan(cuts.mean_age), some, cuts.mean_age).reshape(-1)
                * frame_time_s,
                age_frame=np.tile(some, n_roi),
            )
        )
    joined = GammaTable.concatenate(tables)
    return joined.select(np.argsort(joined.roi, kind="stable"))


def fit_g2(
    g2: ArrayLike,
    *,
    beta: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    g2_error: ArrayLike | None = None,
    frame_time_s: float = 1.0,
) -> GammaTable:
    """Fit the g2 of whole series, or any curves at lags 1, 2, ..., n_lag.

    Parameters
    ----------
    g2
        Shape (n_lag,) or (n, n_lag). NaN is left out.
    beta
        Contrast to hold, scalar or (n,); default: free.
    weights
        Shape (n_lag,) or (n, n_lag), known up to a factor (all equal by default): the standard
        errors are scaled by the scatter about the fit, `error_kind` is "residual", and
        `reduced_chi_square` is in units of these weights.
    g2_error
        Shape like g2: standard error of each value, instead of weights; `error_kind` is "fit".
        Errors of neighbouring lags are taken as independent.
    frame_time_s
        Frame period, s.

    Returns
    -------
    GammaTable
        One row a curve, numbered from 1 as ROIs; source "series_raw", age NaN, width n_lag + 1.

    Raises
    ------
    InvalidInputError
        When shapes do not fit, when both weights and g2_error are given, or when frame_time_s is
        not positive.
    """
    curves = np.atleast_2d(np.asarray(g2, np.float64))
    check_frame_time(frame_time_s)
    if weights is not None and g2_error is not None:
        raise InvalidInputError("fit_g2: got both weights and g2_error; expected one of them.")
    weight: ArrayLike = 1.0 if weights is None else weights
    if g2_error is not None:
        error = np.asarray(g2_error, np.float64)
        weight = 1 / np.maximum(error**2, _LEAST_VARIANCE)
    lags = np.arange(1, curves.shape[-1] + 1, dtype=np.int64)
    fit = fit_kww(lags, curves, weight, beta=beta, scale_errors=g2_error is None)
    kind = "residual" if g2_error is None else "fit"
    table = _table(
        fit, frame_time_s, source=RowSource.SERIES_RAW, width=lags.size + 1, error_kind=kind
    )
    return table.replace(roi=np.arange(1, len(table) + 1))


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


LEAST_ROIS = 3
_SWEEPS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerLaw:
    """Gamma = scale q^exponent."""

    exponent: float  # of q, not of q^2: 2 for diffusion
    # That of the straight line through the logarithms, from the scatter about it.
    exponent_error: float
    scale: float  # Gamma at q = 1 / Angstrom, in the unit of the rates


def typical_rates(rates: FloatArray) -> FloatArray:
    """Return one rate a ROI, comparable between ROIs that are known at different ages.

    ln Gamma(roi, age) = a(roi) + b(age) is fitted by sweeps over both means; the result is
    exp(a + mean of b). While a sample ages, plain means of what is known of each ROI would compare
    different ages. `rates` are (n_roi, n_age), NaN where not known; the result is (n_roi,), NaN for
    a ROI of which nothing is known.
    """
    logs = np.log(np.where(rates > 0, rates, np.nan))
    known = np.isfinite(logs)
    logs[~known] = 0.0
    n_ages, n_rois = known.sum(axis=1), known.sum(axis=0)
    of_roi, of_age = np.zeros(logs.shape[0]), np.zeros(logs.shape[1])
    for _ in range(_SWEEPS):
        of_roi = ((logs - of_age) * known).sum(axis=1) / np.maximum(n_ages, 1)
        of_age = ((logs - of_roi[:, np.newaxis]) * known).sum(axis=0) / np.maximum(n_rois, 1)
    middle = of_age[n_rois > 0].mean() if n_rois.any() else 0.0
    return np.where(n_ages > 0, np.exp(of_roi + middle), np.nan)


def fit_power_law(q: FloatArray, rates: FloatArray) -> PowerLaw | None:
    """Fit a straight line to ln Gamma against ln q of the ROIs; None with fewer than 3 different q.

    `q` and `rates` are (n_roi,); entries that are not both finite and positive are left out.
    """
    good = np.isfinite(q) & np.isfinite(rates) & (q > 0) & (rates > 0)
    if len(np.unique(q[good])) < LEAST_ROIS:
        return None
    x, y = np.log(q[good]), np.log(rates[good])
    away = x - x.mean()
    exponent = float(away @ y / (away @ away))
    offset = float(y.mean() - exponent * x.mean())
    scatter = float(np.sum((y - offset - exponent * x) ** 2) / (len(x) - 2))
    return PowerLaw(
        exponent=exponent,
        exponent_error=math.sqrt(scatter / float(away @ away)),
        scale=math.exp(offset),
    )
