"""Gamma(t) of one ROI: priors from its whole series, the best width at each age, honest errors."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpcs_live_denoise.records.types import (
    SHARED,
    FloatArray,
    IntArray,
    concatenate_rows,
    select_rows,
)

from .cuts import (
    KnownPieces,
    SeriesFit,
    best_widths,
    fit_cuts,
    fit_rates,
    fit_series,
    posterior_left_out,
)
from .grid import KwwGrid, Posterior, alpha_is_prior, kww_grid
from .jumps import Jump, bounds, find_jumps
from .path import PathEstimate
from .sums import AgeSums, BinnedCuts, StackedResiduals, jackknife_variance, n_effective

# Every so many ages of the curve that tells slope and curvature: neighbours are much alike.
_CURVE_STEP = 4
# Ages on either side over which the jackknife variance is averaged: 8 blocks tell one to 50 %.
_SMOOTH_REACH = 20
# Ages that are cut and fitted at once: bounds the memory.
_AGES = 128
# What the jackknife variance lacks: 8 blocks do not tell it well, and speckle on the edge of two
# blocks makes them alike. Chosen on simulations with independent pixels and with 4-pixel speckle,
# so that some two thirds of the truths lie within one error in both.
_BLOCK_FACTOR = 1.35


@dataclass(frozen=True, slots=True, kw_only=True)
class AgeEstimates:
    """What the estimator says of n ages of one ROI; rates per frame."""

    age: IntArray  # (n,), as all where nothing else is said; frames
    width: IntArray  # of the chosen cuts, frames
    cuts: BinnedCuts  # the chosen cuts
    fits: Posterior  # of these
    weights: FloatArray  # (n, n_bin) of their lags
    reduced_chi_square: FloatArray
    # Bias of ln Gamma that the width may bring, and an age on the wrong side of a jump: its change
    # times the root of how probable that is.
    bias: FloatArray
    # Standard errors, from the jackknife where there are pixel blocks.
    ln_rate_error: FloatArray
    ln_alpha_error: FloatArray
    beta_error: FloatArray
    baseline_error: FloatArray
    # T over all ages so far (`StackedResiduals`); NaN without blocks.
    misfit: float = field(metadata=SHARED)
    n_effective: float = field(metadata=SHARED)  # of all ages so far (`n_effective`)
    series: SeriesFit = field(metadata=SHARED)


class BayesEstimator:
    """The live estimator of one ROI, `roi` its index in the sums.

    Its state is what the ages estimated so far tell of errors (fits with a block left out) and of
    the model (stacked residuals), and what pieces of the series tell of contrast and baseline: a
    live run asks for a few ages at a time. Reading consumes nothing.
    """

    def __init__(self, roi: int) -> None:
        self._roi = roi
        self._ages = np.zeros(0, np.int64)
        # (n_block, n, 4): `Posterior.parameters` of these ages with each pixel block left out.
        self._left_out: FloatArray | None = None
        self._residuals = StackedResiduals()
        self._pieces = KnownPieces()

    def estimate(self, sums: AgeSums, ages: ArrayLike, *, remember: bool = True) -> AgeEstimates:
        """Estimate Gamma at `ages` (n,), whole frames, from the sums of all frames so far.

        `remember` is False for ages that will be asked for again when there are more frames.
        """
        centres = np.asarray(ages, np.int64).reshape(-1)
        whole = sums.series(self._roi)
        grid = kww_grid(whole.edges, whole.lag)
        reach = CURVE_WIDTH // 2
        middles = np.arange(reach, sums.n_frames - reach, CURVE_WIDTH)
        stale = self._pieces.stale(middles, sums.n_frames)
        pieces = sums.cuts(self._roi, stale, CURVE_WIDTH)
        series = fit_series(whole, pieces, grid, self._pieces)
        jumps = self._jumps(sums, centres, grid, series)
        within = bounds(jumps, centres)
        slopes = self._slopes(sums, centres, grid, series, within=within)
        bias = width_bias(*slopes, cut_rows(centres, *np.clip(within, 0, sums.n_frames)))
        doubt = sum(
            (jump.change**2 * jump.doubt(centres) for jump in jumps), np.zeros(len(centres))
        )
        parts = [
            self._best(
                sums,
                grid,
                series,
                centres[one],
                bias=bias[one],
                within=within[:, one],
                doubt=doubt[one],
            )
            for one in (slice(k, k + _AGES) for k in range(0, max(len(centres), 1), _AGES))
        ]
        if parts[0].cuts.left_out is not None:
            parts = self._with_jackknife(parts, grid, remember=remember)
        return concatenate_rows(parts)

    # --- steps -----------------------------------------------------------------------------

    def _jumps(self, sums: AgeSums, ages: IntArray, grid: KwwGrid, series: SeriesFit) -> list[Jump]:
        """Return the jumps of Gamma that a cut of one of the ages could reach."""
        if not len(ages):
            return []
        span = (int(ages.min()) - 2 * REACH, int(ages.max()) + 2 * REACH)
        return find_jumps(sums, self._roi, grid, series.prior, span)

    def _slopes(
        self, sums: AgeSums, ages: IntArray, grid: KwwGrid, series: SeriesFit, *, within: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return slope and curvature of ln Gamma at each age, from ages in the same bounds."""
        slope, curvature = np.zeros(len(ages)), np.zeros(len(ages))
        for first, stop in np.unique(within, axis=1).T.tolist():
            some = within[0] == first
            low = max(int(ages[some].min()) - REACH, 0, first)
            high = min(int(ages[some].max()) + REACH + 1, sums.n_frames, stop)
            points = np.arange(-(-low // _CURVE_STEP) * _CURVE_STEP, high, _CURVE_STEP)
            inside = np.repeat(np.array([[first], [stop]]), len(points), axis=1)
            cuts = sums.cuts(self._roi, points, CURVE_WIDTH, inside)
            ln_rate, sd = fit_rates(cuts, grid, series.prior)
            known = np.isfinite(cuts.mean_age)
            slope[some], curvature[some] = slope_and_curvature(
                ages[some].astype(np.float64), cuts.mean_age[known], ln_rate[known], sd[known]
            )
        return slope, curvature

    def _best(
        self,
        sums: AgeSums,
        grid: KwwGrid,
        series: SeriesFit,
        ages: IntArray,
        *,
        bias: FloatArray,
        within: IntArray,
        doubt: FloatArray,
    ) -> AgeEstimates:
        """Fit every width at each age and take the one with the least variance plus bias^2."""
        n_width = len(WIDTHS)
        cuts = sums.cuts(
            self._roi,
            np.repeat(ages, n_width),
            np.tile(WIDTHS, len(ages)),
            np.repeat(within, n_width, axis=1),
        )
        blurred = _no_contrast(series)  # none of the rows is one to trust
        best = best_widths(cuts, bias, grid, series.prior, blurred=blurred)
        index = np.arange(len(ages)) * n_width + best
        chosen = select_rows(cuts, index)
        fitted, weights, reduced = fit_cuts(chosen, grid, series.prior, blurred=blurred)
        bias = np.sqrt(bias.reshape(-1)[index] ** 2 + doubt)
        error = fitted.deviations()
        return AgeEstimates(
            age=ages,
            width=np.array(WIDTHS)[best],
            cuts=chosen,
            fits=fitted,
            weights=weights,
            reduced_chi_square=reduced,
            bias=bias,
            ln_rate_error=np.hypot(error[:, 0], bias),
            ln_alpha_error=error[:, 1],
            beta_error=error[:, 2],
            baseline_error=error[:, 3],
            misfit=np.nan,
            n_effective=n_effective(ages),
            series=series,
        )

    def _with_jackknife(
        self, parts: list[AgeEstimates], grid: KwwGrid, *, remember: bool
    ) -> list[AgeEstimates]:
        """Refit with each block left out; errors are at least the jackknife's, smoothed."""
        residuals = self._residuals
        values = [] if self._left_out is None else [self._left_out]
        for part in parts:
            left_out, priors = part.cuts.left_out, part.series.priors_left_out
            if left_out is None or priors is None:
                continue
            weights, fitted = part.weights, part.fits
            blurred = _no_contrast(part.series)
            refits = posterior_left_out(left_out, weights, grid, priors, blurred=blurred)
            values.append(refits.parameters().reshape(len(left_out), -1, 4))
            residuals = residuals.add(
                weights,
                part.cuts.mean - fitted.curve,
                left_out - fitted.curve,  # not refitted: T then stays below 2.2 for bright speckle
            )
        ages = np.concatenate([self._ages, *(part.age for part in parts)])
        known = np.concatenate(values, axis=1)
        if remember:
            self._ages, self._left_out, self._residuals = ages, known, residuals
        variances = jackknife_variance(known)  # (n, 4)
        told = variances[:, 0] <= MAX_LN_RATE_ERROR**2
        count = n_effective(ages[told], known[:, told, 0])
        return [
            dataclasses.replace(
                _widened(part, ages, variances), misfit=residuals.misfit(), n_effective=count
            )
            for part in parts
        ]


def _widened(part: AgeEstimates, ages: IntArray, variances: FloatArray) -> AgeEstimates:
    """Return estimates whose variances are at least the mean jackknife variance nearby."""
    near = np.abs(ages - part.age[:, np.newaxis]) <= _SMOOTH_REACH
    jackknife = near @ variances / near.sum(axis=1, keepdims=True)  # (n, 4)
    variance = _BLOCK_FACTOR * np.maximum(part.fits.deviations() ** 2, jackknife)
    error = np.sqrt(variance)
    return dataclasses.replace(
        part,
        ln_rate_error=np.sqrt(variance[:, 0] + part.bias**2),
        ln_alpha_error=error[:, 1],
        beta_error=error[:, 2],
        baseline_error=error[:, 3],
    )


WIDTHS = (3, 5, 9, 15, 25, 41, 65)  # widths of cuts, frames, of which each age takes the best
CURVE_WIDTH = 41  # width of the cuts whose Gamma tells slope and curvature
REACH = 40  # ages that tell slope and curvature at one: up to this many frames away


def slope_and_curvature(
    age: FloatArray, curve_age: FloatArray, ln_rate: FloatArray, ln_rate_sd: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return first and second derivative of ln Gamma at each age (n,), from a weighted quadratic.

    The curve `ln_rate` at `curve_age` is (m,), its standard deviations weigh it. Per frame and per
    frame^2; 0 where less than four points tell.
    """
    distance = (curve_age - age[:, np.newaxis]) / REACH  # (n, m)
    near = np.abs(distance) <= 1
    weight = np.where(near, 1 / np.maximum(ln_rate_sd, 1e-3) ** 2, 0.0)
    weight /= np.maximum(weight.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    powers = distance[..., np.newaxis] ** np.arange(3)  # (n, m, 3)
    matrix: FloatArray = np.einsum("nm,nmi,nmj->nij", weight, powers, powers)
    vector = np.einsum("nm,nmi,m->ni", weight, powers, ln_rate)
    enough = near.sum(axis=1) >= 4
    solved = np.zeros((len(age), 3))
    if enough.any():
        inverse = np.linalg.pinv(matrix[enough], hermitian=True).astype(np.float64)
        solved[enough] = np.einsum("nij,nj->ni", inverse, vector[enough])
    return solved[:, 1] / REACH, 2 * solved[:, 2] / REACH**2


def width_bias(slope: FloatArray, curvature: FloatArray, rows: IntArray) -> FloatArray:
    """Return the bias of ln Gamma that each width brings: r^2/24 (|curvature| + slope^2).

    Slope and curvature are (n,); r, `rows` (n, n_width), are the frames that the cuts of WIDTHS
    have: less than their width where they leave the series or would reach across a jump.
    """
    return rows**2 / 24 * (np.abs(curvature) + slope**2)[:, np.newaxis]


def cut_rows(age: IntArray, first: IntArray, stop: IntArray) -> IntArray:
    """Return how many frames of [first, stop) the cuts of WIDTHS at each age have, (n, n_width)."""
    reach = np.array(WIDTHS) // 2
    low = np.maximum(age[:, np.newaxis] - reach, first[:, np.newaxis])
    high = np.minimum(age[:, np.newaxis] + reach + 1, stop[:, np.newaxis])
    return high - low


MAX_LN_RATE_ERROR = 0.5  # A rate is recommended up to this standard error of ln Gamma
_LEAST_CONTRAST = 3.0  # beta over its standard error
# Of lag 1. Below, one lag holds so much of the signal that beta cannot be told: at Gamma = 0.5 a
# frame (0.37) rates came out 15 to 35 % low, at 0.3 (0.55) they did not.
_LEAST_LAG_2 = 0.4
_LEAST_DECAY = 0.5  # Gamma times the longest lag
_MOST_EDGE_MASS = 0.05
_MOST_MISFIT = 2.5  # T; a correct model stayed below 2.2 in 72 simulations


def reasons(estimates: AgeEstimates, *, is_static: bool = False) -> NDArray[np.str_]:
    """Return why each age is not recommended, "" where it is; the gravest reason first.

    "no_contrast": beta is not known to 3 standard errors, or most contrast is gone at lag 2; Gamma
    is a lower limit at best. "static_or_nonuniform": `is_static` says so (`static.judge`); Gamma
    may be up to 2 times too low. "not_kww": residuals stacked over ages are larger than their
    jackknife variance allows (T > 2.5). "too_slow": Gamma, less its standard error, times the
    longest lag is below 0.5: an upper limit. "grid_edge": more than 5 % of the posterior lies at
    the edge of the grid. "prior": the standard error of ln Gamma is above 0.5, the data hardly tell
    more than the prior.
    """
    fitted, series = estimates.fits, estimates.series
    beta = fitted.linear[:, 0]
    known = np.isfinite(estimates.ln_rate_error) & np.isfinite(estimates.cuts.noise)
    slowest = np.exp(fitted.ln_rate - estimates.ln_rate_error)
    return _gravest(
        {
            "no_contrast": ~known
            | (beta < _LEAST_CONTRAST * estimates.beta_error)
            | _no_contrast(series),
            "static_or_nonuniform": is_static,
            "not_kww": estimates.misfit > _MOST_MISFIT,
            "too_slow": slowest * estimates.cuts.longest_lag < _LEAST_DECAY,
            "grid_edge": fitted.edge_mass > _MOST_EDGE_MASS,
            "prior": estimates.ln_rate_error > MAX_LN_RATE_ERROR,
        },
        len(beta),
    )


def path_reasons(
    path: PathEstimate, series: SeriesFit, longest_lag: int, *, is_static: bool = False
) -> NDArray[np.str_]:
    """Return why each age of a path is not recommended, "" where it is; as `reasons`.

    `longest_lag` is that of the series so far, frames.
    """
    slowest = np.exp(path.ln_rate - path.ln_rate_error)
    return _gravest(
        {
            "no_contrast": ~np.isfinite(path.ln_rate_error)
            | (path.shared[1] < _LEAST_CONTRAST * path.shared_error[1])
            | _no_contrast(series),
            "static_or_nonuniform": is_static,
            "not_kww": path.misfit > _MOST_MISFIT,
            "too_slow": slowest * longest_lag < _LEAST_DECAY,
            "prior": path.ln_rate_error > MAX_LN_RATE_ERROR,
        },
        len(path.age),
    )


_LEAST_ALPHA = 0.6  # below, a single rate is hardly what is there
_MOST_DRIFT, _DRIFT_ERRORS = 0.05, 3.0  # of beta, from the middle to the end; standard errors


def path_cautions(path: PathEstimate) -> list[str]:
    """Return why to be careful with a path although it is recommended.

    "alpha_is_prior": alpha is known little better than before the measurement. "several_rates": it
    is below 0.6 by two standard errors. "contrast_drifts": beta changes with age by more than 5 %
    and 3 standard errors, as where a background stays while the beam falls; the path allows for it.
    """
    ln_alpha, error = float(path.shared[0]), float(path.shared_error[0])
    tests = {
        "alpha_is_prior": bool(alpha_is_prior(error)),
        "several_rates": ln_alpha + 2 * error < np.log(_LEAST_ALPHA),
        "contrast_drifts": abs(path.drift) > max(_MOST_DRIFT, _DRIFT_ERRORS * path.drift_error),
    }
    return [name for name, applies in tests.items() if applies]


def _gravest(tests: Mapping[str, Any], n: int) -> NDArray[np.str_]:
    """Return the first reason that applies to each of n ages."""
    applies = [np.broadcast_to(test, (n,)) for test in tests.values()]
    return np.select(applies, list(tests), default="")


def _no_contrast(series: SeriesFit) -> bool:
    return series.beta < _LEAST_CONTRAST * series.beta_error or series.lag_2_share < _LEAST_LAG_2
