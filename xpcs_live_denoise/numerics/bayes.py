"""Gamma(t) of one ROI: priors from its whole series, the best width at each age, honest errors."""

# numpy's stubs leave the types of arange, indices and the like unknown.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .age_sums import AgeSums, BinnedCuts
from .age_widths import (
    CURVE_WIDTH,
    REACH,
    WIDTHS,
    cut_rows,
    slope_and_curvature,
    width_bias,
)
from .bayes_cuts import CutFits, SeriesFit, fit_cuts, fit_rates, fit_series, posterior_left_out
from .bayes_jumps import Jump, bounds, find_jumps
from .jackknife import StackedResiduals, jackknife_variance
from .kww_grid import KwwGrid, kww_grid

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
_ERRORS = ("ln_rate_error", "ln_alpha_error", "beta_error", "baseline_error")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgeEstimates:
    """What the estimator says of some ages of one ROI; rates per frame.

    Attributes
    ----------
    age, width
        Shape (n,): centre and width of the chosen cut, frames.
    cuts, fits
        The chosen cuts and their fits, n of them.
    bias
        Shape (n,): bias of ln Gamma that the width may bring, and an age on the wrong side of a
        jump: its change times the root of how probable that is.
    ln_rate_error, ln_alpha_error, beta_error, baseline_error
        Shape (n,): standard errors, from the jackknife where there are pixel blocks.
    misfit
        T over all ages so far (`StackedResiduals`); NaN without blocks.
    series
        The fit of the whole series.
    """

    age: NDArray[np.int64]
    width: NDArray[np.int64]
    cuts: BinnedCuts
    fits: CutFits
    bias: NDArray[np.float64]
    ln_rate_error: NDArray[np.float64]
    ln_alpha_error: NDArray[np.float64]
    beta_error: NDArray[np.float64]
    baseline_error: NDArray[np.float64]
    misfit: float
    series: SeriesFit


class BayesEstimator:
    """The live estimator of one ROI.

    Its state is what the ages estimated so far tell of errors (jackknife variances) and of the
    model (stacked residuals): a live run asks for a few ages at a time. Reading consumes nothing.

    Parameters
    ----------
    roi
        Index of the ROI in the sums.
    """

    def __init__(self, roi: int) -> None:
        self._roi = roi
        self._ages = np.zeros(0, np.int64)
        self._variances = np.zeros((0, 4))
        self._residuals = StackedResiduals()

    def estimate(self, sums: AgeSums, ages: ArrayLike, *, remember: bool = True) -> AgeEstimates:
        """Estimate Gamma at `ages` from all frames so far.

        Parameters
        ----------
        sums
            Sums of the series.
        ages
            Shape (n,): whole frames below sums.n_frames.
        remember
            False for ages that will be asked for again when there are more frames.
        """
        centres = np.asarray(ages, np.int64).reshape(-1)
        grid = kww_grid(max(sums.n_frames - 1, 1))
        reach = CURVE_WIDTH // 2
        middles = np.arange(reach, sums.n_frames - reach, CURVE_WIDTH)
        pieces = sums.cuts(self._roi, middles, CURVE_WIDTH)
        series = fit_series(sums.series(self._roi), pieces, grid)
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
        return _join(parts)

    # --- steps -----------------------------------------------------------------------------

    def _jumps(
        self, sums: AgeSums, ages: NDArray[np.int64], grid: KwwGrid, series: SeriesFit
    ) -> list[Jump]:
        """Return the jumps of Gamma that a cut of one of the ages could reach."""
        if not len(ages):
            return []
        span = (int(ages.min()) - 2 * REACH, int(ages.max()) + 2 * REACH)
        return find_jumps(sums, self._roi, grid, series.prior, span)

    def _slopes(
        self,
        sums: AgeSums,
        ages: NDArray[np.int64],
        grid: KwwGrid,
        series: SeriesFit,
        *,
        within: NDArray[np.int64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
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
        ages: NDArray[np.int64],
        *,
        bias: NDArray[np.float64],
        within: NDArray[np.int64],
        doubt: NDArray[np.float64],
    ) -> AgeEstimates:
        """Fit every width at each age and take the one with the least variance plus bias^2."""
        n_width = len(WIDTHS)
        cuts = sums.cuts(
            self._roi,
            np.repeat(ages, n_width),
            np.tile(WIDTHS, len(ages)),
            np.repeat(within, n_width, axis=1),
        )
        _, sd = fit_rates(cuts, grid, series.prior)
        best = np.argmin(sd.reshape(bias.shape) ** 2 + bias**2, axis=1)
        index = np.arange(len(ages)) * n_width + best
        chosen = fit_cuts(cuts.select(index), grid, series.prior)
        bias = np.sqrt(bias.reshape(-1)[index] ** 2 + doubt)
        error = chosen.posterior.deviations() * chosen.widening[:, np.newaxis]
        return AgeEstimates(
            age=ages,
            width=np.array(WIDTHS)[best],
            cuts=cuts.select(index),
            fits=chosen,
            bias=bias,
            ln_rate_error=np.hypot(chosen.sd, bias),
            ln_alpha_error=error[:, 1],
            beta_error=error[:, 2],
            baseline_error=error[:, 3],
            misfit=np.nan,
            series=series,
        )

    def _with_jackknife(
        self, parts: list[AgeEstimates], grid: KwwGrid, *, remember: bool
    ) -> list[AgeEstimates]:
        """Refit with each block left out; errors are at least the jackknife's, smoothed."""
        residuals, variances = self._residuals, [self._variances]
        for part in parts:
            left_out, priors = part.cuts.left_out, part.series.priors_left_out
            if left_out is None or priors is None:
                continue
            weights, fitted = part.fits.weights, part.fits.posterior
            refits = posterior_left_out(left_out, weights, grid, priors)
            n_block = len(left_out)
            values = refits.parameters().reshape(n_block, -1, 4)
            variances.append(jackknife_variance(values))
            residuals = residuals.add(
                weights,
                part.cuts.mean - fitted.curve,
                left_out - fitted.curve,  # not refitted: T then stays below 2.2 for bright speckle
            )
        ages = np.concatenate([self._ages, *(part.age for part in parts)])
        known = np.concatenate(variances)
        if remember:
            self._ages, self._variances, self._residuals = ages, known, residuals
        return [_widened(part, ages, known, residuals.misfit()) for part in parts]


def _widened(
    part: AgeEstimates, ages: NDArray[np.int64], variances: NDArray[np.float64], misfit: float
) -> AgeEstimates:
    """Return estimates whose variances are at least the mean jackknife variance nearby."""
    near = np.abs(ages - part.age[:, np.newaxis]) <= _SMOOTH_REACH
    jackknife = near @ variances / near.sum(axis=1, keepdims=True)  # (n, 4)
    deviations = part.fits.posterior.deviations()
    deviations[:, 0] = part.fits.sd
    variance = _BLOCK_FACTOR * np.maximum(deviations**2, jackknife)
    error = np.sqrt(variance)
    return dataclasses.replace(
        part,
        ln_rate_error=np.sqrt(variance[:, 0] + part.bias**2),
        ln_alpha_error=error[:, 1],
        beta_error=error[:, 2],
        baseline_error=error[:, 3],
        misfit=misfit,
    )


def _join(parts: list[AgeEstimates]) -> AgeEstimates:
    """Put the chunks of ages together again."""
    if len(parts) == 1:
        return parts[0]
    arrays = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in ("age", "width", "bias", *_ERRORS)
    }
    return dataclasses.replace(
        parts[0],
        cuts=BinnedCuts.concatenate([part.cuts for part in parts]),
        fits=CutFits.concatenate([part.fits for part in parts]),
        **arrays,
    )
