"""Rows of Gamma(t) of one series, from C2, its sums and g2; what each source of rows may claim."""

from __future__ import annotations

import math

import numpy as np

from xpcs_live_denoise.numerics.coarsening import median_rates, range_reasons
from xpcs_live_denoise.numerics.estimator.ages import AgeEstimates, BayesEstimator, reasons
from xpcs_live_denoise.numerics.estimator.cuts import SeriesFit
from xpcs_live_denoise.numerics.estimator.sums import AgeSums
from xpcs_live_denoise.numerics.fits import fit_age_cuts, fit_ages, fit_g2, series_errors
from xpcs_live_denoise.numerics.g2 import g2_from_c2
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.records.results import DenoisedTwoTime, GammaTable, OneTime, RowSource
from xpcs_live_denoise.records.types import Array, FloatArray, IntArray

# Why a raw row is not the one to trust where there is a row that is.
BETTER, NOT_YET = "bayes_is_better", "no_bayes_yet"
# Why a fit of g2 is not: no age has it, and an average over ages is no rate where they differ.
WHOLE_SERIES = "whole_series"
# Sources of the estimator's rows, the one to believe first.
BEST_FIRST = (RowSource.BAYES, RowSource.BAYES_EARLY)
# Frames behind an age when it is estimated early, and most rows of either kind in one publication.
EARLY_DELAY, LIVE_ROWS = 12, 40
# A provisional row is fitted once its age is this many frames old, so that lags to 50 exist.
LIVE_DELAY = 25


class SeriesRates:
    """Fits Gamma of one series: knows its ROIs and its clock, and what its estimators have seen.

    Its state is one estimator a ROI, the newest fit of the whole series of each (`series`), and the
    first age that was not estimated early. `window` and `step`, frames, are those of the windows
    that are denoised: fits of denoised C2 stop at the longest lag that they reach at every age.
    """

    def __init__(self, rois: RoiMap, frame_time_s: float, *, window: int, step: int) -> None:
        self.rois = rois
        self.frame_time_s = frame_time_s
        self._denoised_max_lag = max(1, window - step - 1)
        self._estimators = [BayesEstimator(roi) for roi in range(rois.n_roi)]
        self.series: list[SeriesFit | None] = [None] * rois.n_roi
        self._next_early = 0

    # --- the paper's fits ------------------------------------------------------------------

    def some_ages(
        self,
        c2: Array,
        ages: IntArray,
        source: RowSource,
        contrast: FloatArray,
        *,
        offset: int,
        estimated: GammaTable | None = None,
    ) -> GammaTable:
        """Fit cuts of one frame at `ages` of a square of C2 that starts at frame `offset`.

        The source is raw, or denoised, whose range the rows of the estimator (`estimated`) tell;
        nothing is known then of the noise of its windows.
        """
        max_lag = self._denoised_max_lag if source.is_denoised else 2 * LIVE_DELAY
        time = self.frame_time_s
        table = fit_age_cuts(c2, ages, beta=contrast, frame_time_s=time, max_lag=max_lag)
        table = table.replace(age_frame=table.age_frame + offset, age_s=table.age_s + offset * time)
        if estimated is not None:
            rates = self.estimated_rates(estimated, ages + offset)
            table = _judged(table, rates.reshape(-1))
        return self._named(table, source)

    def raw(self, c2: Array, contrast: FloatArray) -> GammaTable:
        """Fit a cut of one frame at every frame of the series."""
        table = fit_ages(c2, beta=contrast, frame_time_s=self.frame_time_s)
        return self._named(table, RowSource.RAW)

    def denoised(
        self, c2: Array, contrast: FloatArray, *, noise: FloatArray, rates: FloatArray
    ) -> GammaTable:
        """Fit every age of a denoised C2.

        `noise` is that of `noise_at_ages` and `rates` those of `estimated_rates`, both (n_roi, n).
        """
        table = fit_ages(
            c2, beta=contrast, frame_time_s=self.frame_time_s, max_lag=self._denoised_max_lag
        )
        judged = _judged(table, rates.reshape(-1), noise.reshape(-1))
        return self._named(judged, RowSource.DENOISED)

    def coarse(self, table: GammaTable) -> GammaTable:
        """Name the rows of a coarsened C2 (`denoise_coarse`), which are judged already."""
        return self._named(_without_error_bars(table), RowSource.DENOISED_COARSE)

    def whole_series(self, one_time: OneTime, sums: AgeSums, rates: FloatArray) -> list[GammaTable]:
        """Fit g2 of the whole series with beta free: raw, and denoised where there is one.

        `rates` (n_roi, n) are those of `estimated_rates`.
        """
        n_frames = sums.n_frames
        raw = fit_g2(one_time.g2, g2_error=one_time.g2_error, frame_time_s=self.frame_time_s)
        raw = raw.replace(
            **_at_least(
                raw,
                [
                    series_errors(sums.series(roi), error)
                    for roi, error in enumerate(one_time.g2_error)
                ],
            ),
            error_kind="jackknife" if sums.n_block else "residual",
            recommended=False,
            reason=np.where(raw.recommended, WHOLE_SERIES, raw.reason),
            width=n_frames,
        )
        tables = [self._named(raw, RowSource.SERIES_RAW)]
        if one_time.g2_denoised is not None:
            curves = one_time.g2_denoised[:, : self._denoised_max_lag]
            n_averaged = n_frames - np.arange(1.0, curves.shape[1] + 1)
            denoised = fit_g2(curves, weights=n_averaged, frame_time_s=self.frame_time_s)
            denoised = _judged(denoised.replace(width=n_frames), median_rates(rates))
            tables.append(self._named(denoised, RowSource.SERIES_DENOISED))
        return tables

    # --- the estimator ---------------------------------------------------------------------

    def final_bayes(self, sums: AgeSums) -> GammaTable:
        """Return a row for every ROI and age, from nothing but the whole series."""
        fresh = [BayesEstimator(roi) for roi in range(self.rois.n_roi)]
        return self._estimated(fresh, sums, np.arange(sums.n_frames), remember=True)

    def live_bayes(self, sums: AgeSums, first: int, last: int) -> GammaTable:
        """Return rows of ages in [first, last), which are ripe, and early ones of younger ages.

        Where many ages got ripe at once, rows are spread evenly over them and the newest is
        always there: a publication must not take longer the faster frames come. The final rows are
        there for all.
        """
        n_each = max(1, LIVE_ROWS // len(self._estimators))
        newest = sums.n_frames - EARLY_DELAY + 1
        young = _spread(max(last, self._next_early), newest, n_each)
        early = self._estimated(self._estimators, sums, young, remember=False)
        self._next_early = max(self._next_early, newest)
        old_enough = _spread(first, last, n_each)
        ripe = self._estimated(self._estimators, sums, old_enough, remember=True)
        return GammaTable.concatenate([ripe, early.replace(source=RowSource.BAYES_EARLY)])

    def _estimated(
        self, estimators: list[BayesEstimator], sums: AgeSums, ages: IntArray, *, remember: bool
    ) -> GammaTable:
        tables: list[GammaTable] = []
        for roi, one in enumerate(estimators):
            estimates = one.estimate(sums, ages, remember=remember)
            self.series[roi] = estimates.series
            tables.append(self._named(self._bayes_rows(estimates, roi), RowSource.BAYES))
        return GammaTable.concatenate(tables)

    def _bayes_rows(self, estimates: AgeEstimates, roi: int) -> GammaTable:
        n = len(estimates.age)
        fitted = estimates.fits
        rate = np.exp(fitted.ln_rate) / self.frame_time_s
        alpha = np.exp(fitted.ln_alpha)
        why_not = reasons(estimates)
        by_blocks = estimates.cuts.left_out is not None
        return GammaTable(
            roi=np.full(n, roi + 1),
            q_inv_angstrom=np.full(n, math.nan),
            age_s=estimates.cuts.mean_age * self.frame_time_s,
            age_frame=estimates.age.astype(np.float64),
            source=np.full(n, RowSource.BAYES),
            width=estimates.width.astype(np.int64),
            relaxation_rate=rate,
            relaxation_rate_error=rate * estimates.ln_rate_error,
            error_kind=np.full(n, "jackknife" if by_blocks else "residual"),
            alpha=alpha,
            alpha_error=alpha * estimates.ln_alpha_error,
            baseline=1 + fitted.linear[:, 1],
            baseline_error=estimates.baseline_error,
            beta=fitted.linear[:, 0],
            beta_error=estimates.beta_error,
            reduced_chi_square=estimates.reduced_chi_square,
            n_lags=(estimates.weights > 0).sum(axis=1),
            n_effective=np.full(n, estimates.n_effective),
            converged=np.isfinite(estimates.cuts.mean_age),
            in_range=~np.isin(why_not, ("no_contrast", "too_slow", "grid_edge")),
            recommended=why_not == "",
            reason=why_not,
            final=np.ones(n, np.bool_),
        )

    # --- what every row needs --------------------------------------------------------------

    def _named(self, table: GammaTable, source: RowSource) -> GammaTable:
        """Give rows their source, and their ROI's label and q."""
        index = table.roi - 1
        return table.replace(
            roi=self.rois.labels[index],
            q_inv_angstrom=self.rois.q_inv_angstrom[index],
            source=source,
        )

    def estimated_rates(self, table: GammaTable, frames: IntArray) -> FloatArray:
        """Return Gamma per frame of each ROI at some frames, (n_roi, n_frame), as best known.

        `table` has rows of the estimator; between the ages that it has, ln Gamma is interpolated.
        NaN for a ROI without contrast, whose rate is a limit.
        """
        known = table.converged & (table.reason != "no_contrast") & (table.relaxation_rate > 0)
        rates = np.full((self.rois.n_roi, len(frames)), np.nan)
        for roi, label in enumerate(self.rois.labels.tolist()):
            for source in BEST_FIRST:
                rows = table.select(known & (table.roi == label) & (table.source == source))
                if len(rows):
                    order = np.argsort(rows.age_frame)
                    ln_rate = np.log(rows.relaxation_rate[order] * self.frame_time_s)
                    rates[roi] = np.exp(np.interp(frames, rows.age_frame[order], ln_rate))
                    break
        return rates


def _judged(
    table: GammaTable, rates: FloatArray, noise: FloatArray | float = math.nan
) -> GammaTable:
    """Say where denoised rows can be trusted, and take their error bars.

    `rates` are Gamma per frame of each row as the estimator knows it.
    """
    reason = range_reasons(rates, converged=table.converged, noise=noise)
    return _without_error_bars(table.replace(in_range=reason == "", reason=reason))


def defer_to_bayes(raw: GammaTable, bayes: GammaTable) -> GammaTable:
    """Return raw rows of one cut that leave the recommendation to those of the estimator.

    Both fit the same C2, the estimator all of it that belongs to an age: where it says that nothing
    can be trusted, a narrower cut cannot be either, for the same reason. Of ages that a live run
    has not asked the estimator about, nothing is recommended yet.
    """
    keys = zip(bayes.roi.tolist(), bayes.age_frame.tolist(), strict=True)
    verdicts = np.where(bayes.recommended, BETTER, bayes.reason).tolist()
    by_key = dict(zip(keys, verdicts, strict=True))
    keys = zip(raw.roi.tolist(), raw.age_frame.tolist(), strict=True)
    verdict = np.array([by_key.get(key, NOT_YET) for key in keys], np.str_)
    return raw.replace(recommended=False, reason=np.where(raw.recommended, verdict, raw.reason))


def one_time(c2: Array, denoised: DenoisedTwoTime | None, frame_time_s: float) -> OneTime:
    """Return g2 of the whole series, raw and denoised."""
    g2, g2_error, _ = g2_from_c2(c2)
    g2_denoised = None
    if denoised is not None:
        # Pixels that no window reached still hold raw values there: they do not count.
        g2_denoised, _, _ = g2_from_c2(np.where(np.isfinite(denoised.spread), denoised.c2, np.nan))
    return OneTime(
        delay_s=np.arange(1, g2.shape[-1] + 1) * frame_time_s,
        g2=g2,
        g2_error=g2_error,
        g2_denoised=g2_denoised,
    )


def _at_least(table: GammaTable, errors: list[FloatArray]) -> dict[str, FloatArray]:
    """Return the columns of errors, none smaller than those of `series_errors`, one a row."""
    found = np.array(errors).reshape(-1, 4).T  # (4, n_row)
    return {
        "relaxation_rate_error": np.fmax(
            table.relaxation_rate_error, found[0] * table.relaxation_rate
        ),
        "alpha_error": np.fmax(table.alpha_error, found[1]),
        "beta_error": np.fmax(table.beta_error, found[2]),
        "baseline_error": np.fmax(table.baseline_error, found[3]),
    }


def _without_error_bars(table: GammaTable) -> GammaTable:
    """Take from denoised rows what they cannot claim: their noise is not independent."""
    return table.replace(
        relaxation_rate_error=math.nan,
        alpha_error=math.nan,
        baseline_error=math.nan,
        beta_error=math.nan,
        error_kind="none",
        reduced_chi_square=math.nan,
        recommended=False,
        reason=np.where(table.reason == "", "no_error_bar", table.reason),
    )


def _spread(first: int, last: int, most: int) -> IntArray:
    """Return at most `most` of the ages in [first, last), the last one always."""
    n = max(last - first, 0)
    steps = np.arange(min(n, most))
    return last - 1 - steps[::-1] * n // max(min(n, most), 1)
