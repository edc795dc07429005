"""Gamma(t) of one ROI: priors from its whole series, the best width at each age, honest errors."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpcs_live_denoise.records.types import (
    SHARED,
    BoolArray,
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
from .sums import MOST_ROWS, AgeSums, BinnedCuts, StackedResiduals, jackknife_variance, n_effective

# Every so many ages of the curve that tells slope and curvature: neighbours are much alike.
_CURVE_STEP = 4
# Rows on either side that tell them at least, where a row is wide.
_LEAST_STEPS = 2.5
# Rows around those that are asked for, at least, in which a jump is looked for.
_LEAST_AROUND = 8
# A long series is fitted anew when it has grown by this factor.
_GROWTH = 1.05
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

    row: IntArray  # (n,), as all where nothing else is said; of the sums
    age: FloatArray  # the middle of that row, frames
    mean_age: FloatArray  # of the entries of the chosen cut, frames; NaN where there are none
    width: IntArray  # of that cut, frames
    longest_lag: IntArray  # first lag of the last bin that has an entry, frames
    n_lags: IntArray  # bins that were fitted
    noise_known: BoolArray
    fits: Posterior  # without curves
    reduced_chi_square: FloatArray
    # Bias of ln Gamma that the width may bring, and an age on the wrong side of a jump: its change
    # times the root of how probable that is.
    bias: FloatArray
    # Standard errors, from the jackknife where there are pixel blocks.
    ln_rate_error: FloatArray
    ln_alpha_error: FloatArray
    beta_error: FloatArray
    baseline_error: FloatArray
    by_blocks: bool = field(metadata=SHARED)  # errors are those of pixel blocks
    # T over all ages so far (`StackedResiduals`); NaN without blocks.
    misfit: float = field(metadata=SHARED)
    n_effective: float = field(metadata=SHARED)  # of all ages so far (`n_effective`)
    series: SeriesFit = field(metadata=SHARED)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chosen:
    """Estimates, and the cuts that were chosen for them, with their fits."""

    estimates: AgeEstimates
    cuts: BinnedCuts
    curve: FloatArray  # (n, n_bin)


class BayesEstimator:
    """The live estimator of one ROI, `roi` its index in the sums.

    Its state is what the ages estimated so far tell of errors (fits with a block left out) and of
    the model (stacked residuals), and what pieces of the series tell of contrast and baseline: a
    live run asks for a few ages at a time. Of a series of more than 2,000 frames the fit of the
    whole, which cuts take contrast and baseline from, is that of at most 5 % fewer frames. Reading
    consumes nothing.
    """

    def __init__(self, roi: int) -> None:
        self._roi = roi
        self._ages = np.zeros(0)
        self._row_frames = 1  # of the rows that these were
        # (n_block, n, 4): `Posterior.parameters` of these ages with each pixel block left out.
        self._left_out: FloatArray | None = None
        self._residuals = StackedResiduals()
        self._pieces = KnownPieces()
        self._fit_of: tuple[int, SeriesFit] | None = None  # frames, and the fit of these

    def estimate(
        self,
        sums: AgeSums,
        rows: ArrayLike,
        *,
        remember: bool = True,
        series: SeriesFit | None = None,
        before: Sequence[AgeEstimates] = (),
    ) -> AgeEstimates:
        """Estimate Gamma at `rows` (n,) of the sums of all frames so far: one a frame, or less.

        `remember` is False for ages that will be asked for again when there are more frames.
        `series` is the fit of the whole, by default the newest. Estimates of `before`, whose ages
        are remembered, come first, with the errors that all ages tell together.
        """
        row = np.asarray(rows, np.int64).reshape(-1)
        ages = sums.ages(row)
        grid = kww_grid(*sums.lag_bins())
        series = self.series(sums, grid) if series is None else series
        self._thin(sums.row_frames)
        jumps = self._jumps(sums, row, grid, series)
        within = bounds(jumps, row) * sums.row_frames
        widths = cut_widths(sums.row_frames)
        slopes = self._slopes(sums, ages, grid, series, within=within)
        frames = cut_frames(ages, np.clip(within, 0, sums.n_frames), widths)
        bias = width_bias(*slopes, frames)
        doubt = sum((jump.change**2 * jump.doubt(row) for jump in jumps), np.zeros(len(row)))
        parts = [
            self._best(
                sums,
                grid,
                series,
                row[one],
                bias=bias[one],
                within=within[:, one],
                doubt=doubt[one],
            )
            for one in (slice(k, k + _AGES) for k in range(0, max(len(row), 1), _AGES))
        ]
        if series.priors_left_out is None:
            found = concatenate_rows([*before, *(part.estimates for part in parts)])
            return dataclasses.replace(found, n_effective=n_effective(found.age), series=series)
        return self._with_jackknife(parts, grid, series, before, remember=remember)

    def series(self, sums: AgeSums, grid: KwwGrid) -> SeriesFit:
        """Return the fit of the whole series so far, made anew where it has grown enough.

        Pieces are 41 frames long; of a series of more than 2,000 frames every second is left out,
        then three of four, ...: some 50 tell contrast and baseline.
        """
        n = sums.n_frames
        if self._fit_of is not None:
            n_before, known = self._fit_of
            if MOST_ROWS < n_before <= n < _GROWTH * n_before:
                return known
        reach, apart = CURVE_WIDTH // 2, CURVE_WIDTH
        while n > MOST_ROWS * (apart // CURVE_WIDTH):
            apart *= 2
        stale = self._pieces.stale(np.arange(reach, n - reach, apart, dtype=np.int64), n)
        pieces = sums.cuts_of_frames(self._roi, stale, max(CURVE_WIDTH, sums.row_frames))
        fitted = fit_series(sums.series(self._roi), pieces, grid, self._pieces)
        self._fit_of = n, fitted
        return fitted

    # --- steps -----------------------------------------------------------------------------

    def _thin(self, row_frames: int) -> None:
        """Average what is remembered over each row, so that it does not grow with the series."""
        if row_frames == self._row_frames:
            return
        self._row_frames = row_frames
        order = np.argsort(self._ages, kind="stable")
        row = self._ages[order] // row_frames
        _, first, count = np.unique(row, return_index=True, return_counts=True)
        if not len(first):
            return
        self._ages = np.add.reduceat(self._ages[order], first) / count
        if self._left_out is not None:
            total = np.add.reduceat(self._left_out[:, order], first, axis=1)
            self._left_out = total / count[:, np.newaxis]

    def _jumps(self, sums: AgeSums, row: IntArray, grid: KwwGrid, series: SeriesFit) -> list[Jump]:
        """Return the jumps of Gamma that a cut of one of the rows could reach, in rows."""
        if not len(row):
            return []
        around = max(-(-2 * REACH // sums.row_frames), _LEAST_AROUND)
        span = (int(row.min()) - around, int(row.max()) + around)
        return find_jumps(sums, self._roi, grid, series.prior, span)

    def _slopes(
        self, sums: AgeSums, ages: FloatArray, grid: KwwGrid, series: SeriesFit, *, within: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return slope and curvature of ln Gamma at each age, from ages in the same bounds."""
        slope, curvature = np.zeros(len(ages)), np.zeros(len(ages))
        size = sums.row_frames
        step, reach = max(_CURVE_STEP, size), max(REACH, math.ceil(_LEAST_STEPS * size))
        for first, stop in np.unique(within, axis=1).T.tolist():
            some = within[0] == first
            low = max(int(ages[some].min()) - reach, 0, first)
            high = min(int(ages[some].max()) + reach + 1, sums.n_frames, stop)
            points = np.arange(-(-low // step) * step, high, step)
            if step > _CURVE_STEP:  # whole rows
                points = sums.ages(points // step)
            inside = np.repeat(np.array([[first], [stop]]), len(points), axis=1)
            width = max(CURVE_WIDTH, size)
            cuts = sums.cuts_of_frames(self._roi, points, width, inside)
            ln_rate, sd = fit_rates(cuts, grid, series.prior, rough=size > 1)
            known = np.isfinite(cuts.mean_age)
            slope[some], curvature[some] = slope_and_curvature(
                ages[some], cuts.mean_age[known], ln_rate[known], sd[known], reach
            )
        return slope, curvature

    def _best(
        self,
        sums: AgeSums,
        grid: KwwGrid,
        series: SeriesFit,
        row: IntArray,
        *,
        bias: FloatArray,
        within: IntArray,
        doubt: FloatArray,
    ) -> _Chosen:
        """Fit every width at each age and take the one with the least variance plus bias^2."""
        ages, widths = sums.ages(row), cut_widths(sums.row_frames)
        n_width = len(widths)
        cuts = sums.cuts_of_frames(
            self._roi,
            np.repeat(ages, n_width),
            np.tile(widths, len(ages)),
            np.repeat(within, n_width, axis=1),
        )
        blurred = _no_contrast(series)  # none of the rows is one to trust
        best = best_widths(cuts, bias, grid, series.prior, blurred=blurred)
        index = np.arange(len(ages)) * n_width + best
        chosen = select_rows(cuts, index)
        fitted, reduced = fit_cuts(chosen, grid, series.prior, blurred=blurred)
        bias = np.sqrt(bias.reshape(-1)[index] ** 2 + doubt)
        error = fitted.deviations()
        estimates = AgeEstimates(
            row=row,
            age=ages,
            mean_age=chosen.mean_age,
            width=np.array(widths)[best],
            longest_lag=chosen.longest_lag,
            n_lags=(chosen.weights > 0).sum(axis=1),
            noise_known=np.isfinite(chosen.noise),
            fits=dataclasses.replace(fitted, curve=fitted.curve[:, :0]),
            reduced_chi_square=reduced,
            bias=bias,
            ln_rate_error=np.hypot(error[:, 0], bias),
            ln_alpha_error=error[:, 1],
            beta_error=error[:, 2],
            baseline_error=error[:, 3],
            by_blocks=chosen.left_out is not None,
            misfit=np.nan,
            n_effective=np.nan,
            series=series,
        )
        return _Chosen(estimates=estimates, cuts=chosen, curve=fitted.curve)

    def _with_jackknife(
        self,
        parts: list[_Chosen],
        grid: KwwGrid,
        series: SeriesFit,
        before: Sequence[AgeEstimates],
        *,
        remember: bool,
    ) -> AgeEstimates:
        """Refit with each block left out; errors are at least the jackknife's, smoothed."""
        residuals, blurred = self._residuals, _no_contrast(series)
        new = np.concatenate([part.estimates.age for part in parts])
        again = np.isin(self._ages, new)
        values = [] if self._left_out is None else [self._left_out[:, ~again]]
        for part in parts:
            left_out = part.cuts.left_out
            if left_out is None or series.priors_left_out is None:
                continue
            refits = posterior_left_out(
                left_out, part.cuts.weights, grid, series.priors_left_out, blurred=blurred
            )
            values.append(refits.parameters().reshape(left_out.shape[2], -1, 4))
            residuals = residuals.add(
                part.cuts.weights,
                part.cuts.mean - part.curve,
                np.moveaxis(left_out, 2, 0)
                - part.curve,  # not refitted: T then stays below 2.2 for bright speckle
            )
        ages = np.concatenate([self._ages[~again], new])
        known = np.concatenate(values, axis=1)
        if remember:
            self._ages, self._left_out, self._residuals = ages, known, residuals
        variances = jackknife_variance(known)  # (n, 4)
        told = variances[:, 0] <= MAX_LN_RATE_ERROR**2
        reach = max(_SMOOTH_REACH, self._row_frames)
        estimates = (*before, *(part.estimates for part in parts))
        return dataclasses.replace(
            concatenate_rows([_widened(one, ages, variances, reach) for one in estimates]),
            misfit=residuals.misfit(),
            n_effective=n_effective(ages[told], known[:, told, 0]),
            series=series,
        )


def _widened(
    part: AgeEstimates, ages: FloatArray, variances: FloatArray, reach: int
) -> AgeEstimates:
    """Return estimates whose variances are at least the mean jackknife variance nearby."""
    near = np.abs(ages - part.age[:, np.newaxis]) <= reach
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
_MORE = 1.2  # a width is another one than a row where it is so many times as wide
REACH = 40  # ages that tell slope and curvature at one: up to this many frames away


def slope_and_curvature(
    age: FloatArray,
    curve_age: FloatArray,
    ln_rate: FloatArray,
    ln_rate_sd: FloatArray,
    reach: int = REACH,
) -> tuple[FloatArray, FloatArray]:
    """Return first and second derivative of ln Gamma at each age (n,), from a weighted quadratic.

    The curve `ln_rate` at `curve_age` is (m,), its standard deviations weigh it; points up to
    `reach` frames away tell. Per frame and per frame^2; 0 where less than four do.
    """
    from . import sums_kernels as kernels

    values = (np.require(one, np.float64, ["C", "W"]) for one in (age, curve_age, ln_rate))
    weight = np.require(1 / np.maximum(ln_rate_sd, 1e-3) ** 2, np.float64, ["C", "W"])
    matrix, vector = np.empty((len(age), 3, 3)), np.empty((len(age), 3))
    number = np.empty(len(age), np.int64)
    kernels.near_moments(*values, weight, float(reach), matrix, vector, number)
    enough = number >= 4
    solved = np.zeros((len(age), 3))
    if enough.any():
        inverse = np.linalg.pinv(matrix[enough], hermitian=True).astype(np.float64)
        solved[enough] = np.einsum("nij,nj->ni", inverse, vector[enough])
    return solved[:, 1] / reach, 2 * solved[:, 2] / reach**2


def cut_widths(row_frames: int) -> tuple[int, ...]:
    """Return the widths of cuts, frames, for rows of so many: WIDTHS, none narrower than a row."""
    wider = tuple(width for width in WIDTHS if width > _MORE * row_frames)
    return wider if wider[:1] == WIDTHS[:1] else (row_frames, *wider)


def width_bias(slope: FloatArray, curvature: FloatArray, frames: FloatArray) -> FloatArray:
    """Return the bias of ln Gamma that each width brings: r^2/24 (|curvature| + slope^2).

    Slope and curvature are (n,); r, `frames` (n, n_width), are what the cuts have: less than their
    width where they leave the series or would reach across a jump.
    """
    return frames**2 / 24 * (np.abs(curvature) + slope**2)[:, np.newaxis]


def cut_frames(age: FloatArray, within: IntArray, widths: tuple[int, ...] = WIDTHS) -> FloatArray:
    """Return how many frames of [first, stop), `within` (2, n), cuts have, (n, n_width)."""
    first, stop = within[:, :, np.newaxis]
    reach, edge = np.array(widths) / 2, age[:, np.newaxis] + 0.5
    return np.minimum(edge + reach, stop) - np.maximum(edge - reach, first)


MAX_LN_RATE_ERROR = 0.5  # A rate is recommended up to this standard error of ln Gamma
_LEAST_CONTRAST = 3.0  # beta over its standard error
# Of lag 1. Below, one lag holds so much of the signal that beta cannot be told: at Gamma = 0.5 a
# frame (0.37) rates came out 15 to 35 % low, at 0.3 (0.55) they did not.
_LEAST_LAG_2 = 0.4
_LEAST_DECAY = 0.5  # Gamma times the longest lag
_MOST_EDGE_MASS = 0.05
MOST_MISFIT = 2.5  # T; a correct model stayed below 2.2 in 72 simulations


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
    known = np.isfinite(estimates.ln_rate_error) & estimates.noise_known
    slowest = np.exp(fitted.ln_rate - estimates.ln_rate_error)
    return _gravest(
        {
            "no_contrast": ~known
            | (beta < _LEAST_CONTRAST * estimates.beta_error)
            | _no_contrast(series),
            "static_or_nonuniform": is_static,
            "not_kww": estimates.misfit > MOST_MISFIT,
            "too_slow": slowest * estimates.longest_lag < _LEAST_DECAY,
            "grid_edge": fitted.edge_mass > _MOST_EDGE_MASS,
            "prior": estimates.ln_rate_error > MAX_LN_RATE_ERROR,
        },
        len(beta),
    )


_REACH_OF_DATA = 10.0  # frames for which a path may go on without a frame


def path_reasons(
    path: PathEstimate, roi: int, sums: AgeSums, series: SeriesFit, *, is_static: bool = False
) -> NDArray[np.str_]:
    """Return why each age of a path is not recommended, "" where it is; as `reasons`.

    "no_data": the path goes on where the ROI has no frames any more, or none yet, and is a guess.
    """
    longest_lag = sums.n_frames - 1
    away = sums.away_from_data(roi, path.age.astype(np.float64))
    slowest = np.exp(path.ln_rate - path.ln_rate_error)
    return _gravest(
        {
            "no_contrast": ~np.isfinite(path.ln_rate_error)
            | (path.shared[1] < _LEAST_CONTRAST * path.shared_error[1])
            | _no_contrast(series),
            "no_data": away > _REACH_OF_DATA + sums.row_frames,
            "static_or_nonuniform": is_static,
            "not_kww": path.misfit > MOST_MISFIT,
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
