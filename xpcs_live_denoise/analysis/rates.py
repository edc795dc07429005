"""Rows of Gamma(t) from C2 and g2: fits the paper's model and says what each source may claim."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from xpcs_live_denoise.config import Settings
from xpcs_live_denoise.numerics.estimator.ages import AgeEstimates, BayesEstimator, reasons
from xpcs_live_denoise.numerics.estimator.cuts import SeriesFit
from xpcs_live_denoise.numerics.estimator.sums import AgeSums
from xpcs_live_denoise.numerics.fits import fit_age_cuts, fit_ages, fit_g2
from xpcs_live_denoise.numerics.g2 import g2_from_c2
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.numerics.trust_range import range_reasons
from xpcs_live_denoise.numerics.windows import STEP, WINDOW
from xpcs_live_denoise.records.results import DenoisedTwoTime, GammaTable, OneTime
from xpcs_live_denoise.records.types import Array, FloatArray, IntArray

# Source of rows from a C2 that was coarsened first, because its dynamics are slow.
DENOISED_COARSE = "denoised_coarse"
# Source of rows by the estimator.
BAYES = "bayes"
# Why a raw row is not the one to trust where there is a row that is.
BETTER, NOT_YET = "bayes_is_better", "no_bayes_yet"
# Why a fit of g2 is not: no age has it, and an average over ages is no rate where they differ.
WHOLE_SERIES = "whole_series"


@dataclass(frozen=True, slots=True, kw_only=True)
class RateFitter:
    """Fits the C2 of one series; knows its ROIs and its clock.

    Attributes
    ----------
    rois
        Labels and q of the rows.
    frame_time_s
        Frame period, s.
    denoised_max_lag
        Fits of denoised C2 stop here: the longest lag that windows reach at every age.
    """

    rois: RoiMap
    frame_time_s: float
    denoised_max_lag: int = WINDOW - STEP - 1

    @classmethod
    def of(cls, settings: Settings, rois: RoiMap, frame_time_s: float) -> RateFitter:
        """Return the fitter for windows as the settings want them."""
        return cls(
            rois=rois,
            frame_time_s=frame_time_s,
            denoised_max_lag=max(1, settings.window - settings.step - 1),
        )

    def some_ages(
        self, c2: Array, ages: IntArray, *, contrast: Array, source: str, max_lag: int, offset: int
    ) -> GammaTable:
        """Fit cuts of one frame at `ages` of a square of C2 that starts at frame `offset`."""
        table = fit_age_cuts(
            c2, ages, beta=contrast, width=1, frame_time_s=self.frame_time_s, max_lag=max_lag
        )
        table = table.replace(
            age_frame=table.age_frame + offset, age_s=table.age_s + offset * self.frame_time_s
        )
        return self._label(table, source)

    def all_ages(
        self, c2: Array, *, contrast: Array, source: str, max_lag: int | None = None
    ) -> GammaTable:
        """Fit a cut of one frame at every frame of the series."""
        table = fit_ages(c2, beta=contrast, frame_time_s=self.frame_time_s, max_lag=max_lag)
        return self._label(table, source)

    def series(self, one_time: OneTime, n_frames: int) -> list[GammaTable]:
        """Fit g2 of the whole series with beta free: raw, and denoised where there is one."""
        raw = fit_g2(one_time.g2, g2_error=one_time.g2_error, frame_time_s=self.frame_time_s)
        raw = raw.replace(
            recommended=False, reason=np.where(raw.recommended, WHOLE_SERIES, raw.reason)
        )
        tables = [self._label(raw, "series_raw").replace(width=n_frames)]
        if one_time.g2_denoised is not None:
            curves = one_time.g2_denoised[:, : self.denoised_max_lag]
            n_averaged = n_frames - np.arange(1.0, curves.shape[1] + 1)
            denoised = fit_g2(curves, weights=n_averaged, frame_time_s=self.frame_time_s)
            tables.append(self._label(denoised, "series_denoised").replace(width=n_frames))
        return tables

    def bayes(self, estimates: AgeEstimates, roi: int) -> GammaTable:
        """Return the rows of one ROI (index `roi`) from the live estimator."""
        n = len(estimates.age)
        fitted = estimates.fits.posterior
        rate = np.exp(fitted.ln_rate) / self.frame_time_s
        alpha = np.exp(fitted.ln_alpha)
        why_not = reasons(estimates)
        good = why_not == ""
        by_blocks = estimates.cuts.left_out is not None
        table = GammaTable(
            roi=np.full(n, roi + 1),
            q_inv_angstrom=np.full(n, math.nan),
            age_s=estimates.cuts.mean_age * self.frame_time_s,
            age_frame=estimates.age.astype(np.float64),
            source=np.full(n, BAYES),
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
            reduced_chi_square=estimates.fits.reduced_chi_square,
            n_lags=(estimates.fits.weights > 0).sum(axis=1),
            converged=np.isfinite(estimates.cuts.mean_age),
            in_range=~np.isin(why_not, ("no_contrast", "too_slow", "grid_edge")),
            recommended=good,
            reason=why_not,
            final=np.ones(n, np.bool_),
        )
        return self._label(table, BAYES)

    @staticmethod
    def defer(raw: GammaTable, bayes: GammaTable) -> GammaTable:
        """Return raw rows of one cut that leave the recommendation to those of the estimator.

        Both fit the same C2, the estimator all of it that belongs to an age: where it says that
        nothing can be trusted, a narrower cut cannot be either, for the same reason. Of ages that a
        live run has not asked the estimator about, nothing is recommended yet.
        """
        said = {
            (int(roi), float(age)): BETTER if good else str(reason)
            for roi, age, good, reason in zip(
                bayes.roi, bayes.age_frame, bayes.recommended, bayes.reason, strict=True
            )
        }
        keys = zip(raw.roi.tolist(), raw.age_frame.tolist(), strict=True)
        heard = [said.get(key, NOT_YET) for key in keys]
        reason = [
            other if was else own
            for other, was, own in zip(heard, raw.recommended, raw.reason.tolist(), strict=True)
        ]
        return raw.replace(recommended=False, reason=np.array(reason, np.str_))

    def denoised(
        self, c2: Array, *, contrast: Array, noise: FloatArray, distance: FloatArray
    ) -> GammaTable:
        """Fit every age of a denoised C2 and say where the denoiser can be trusted.

        Parameters
        ----------
        c2
            Denoised, shape (n_roi, n, n).
        contrast
            Shape (n_roi,).
        noise, distance
            Shape (n_roi, n): of the windows before they were denoised (`WindowQuality.at_ages`).
        """
        table = fit_ages(
            c2, beta=contrast, frame_time_s=self.frame_time_s, max_lag=self.denoised_max_lag
        )
        table = self._judged(table, noise.reshape(-1), distance.reshape(-1))
        return self._named(_without_error_bars(table), "denoised")

    def coarse(self, table: GammaTable) -> GammaTable:
        """Name the rows of a coarsened C2 (`denoise_coarse`), which are judged already."""
        return self._named(_without_error_bars(table), DENOISED_COARSE)

    def _label(self, table: GammaTable, source: str) -> GammaTable:
        """Name rows; judge denoised ones without knowing their windows."""
        if "denoised" in source:
            unknown = np.full(len(table), math.nan)
            table = _without_error_bars(self._judged(table, unknown, unknown))
        return self._named(table, source)

    def _named(self, table: GammaTable, source: str) -> GammaTable:
        """Give rows their ROI's label and q."""
        index = table.roi - 1
        return table.replace(
            roi=self.rois.labels[index],
            q_inv_angstrom=self.rois.q_inv_angstrom[index],
            source=source,
        )

    def _judged(self, table: GammaTable, noise: FloatArray, distance: FloatArray) -> GammaTable:
        reason = range_reasons(
            table.relaxation_rate * self.frame_time_s,
            converged=table.converged,
            noise=noise,
            distance=distance,
        )
        return table.replace(in_range=reason == "", reason=reason)


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


# Source of rows that are said early, with fewer frames behind them.
BAYES_EARLY = "bayes_early"
# Frames behind an age when it is said early, and most rows of either kind in one publication.
EARLY_DELAY, LIVE_ROWS = 12, 40


class BayesRates:
    """Rows of the live estimator: of every age at the end, of some as they get ripe.

    Its state is one estimator a ROI, and the first age that was not said early.

    Parameters
    ----------
    fitter
        Makes rows of estimates.

    Attributes
    ----------
    series
        The newest fit of the whole series of each ROI.
    """

    def __init__(self, fitter: RateFitter) -> None:
        self._fitter = fitter
        self._estimators = [BayesEstimator(roi) for roi in range(fitter.rois.n_roi)]
        self.series: list[SeriesFit | None] = [None] * fitter.rois.n_roi
        self._next_early = 0

    def final(self, sums: AgeSums) -> GammaTable:
        """Return a row for every ROI and age, from nothing but the whole series."""
        fresh = BayesRates(self._fitter)
        table = fresh._rows(sums, np.arange(sums.n_frames), remember=True)
        self.series = fresh.series
        return table

    def live(self, sums: AgeSums, first: int, last: int) -> GammaTable:
        """Return rows of ages in [first, last), which are ripe, and early ones of younger ages.

        Where many ages got ripe at once, rows are spread evenly over them and the newest is
        always there: a publication must not take longer the faster frames come. finish() has all.
        """
        n_each = max(1, LIVE_ROWS // len(self._estimators))
        early = self._rows(
            sums,
            _spread(max(last, self._next_early), sums.n_frames - EARLY_DELAY + 1, n_each),
            remember=False,
        )
        self._next_early = max(self._next_early, sums.n_frames - EARLY_DELAY + 1)
        ripe = self._rows(sums, _spread(first, last, n_each), remember=True)
        return GammaTable.concatenate([ripe, early.replace(source=BAYES_EARLY)])

    def _rows(self, sums: AgeSums, ages: Array, *, remember: bool) -> GammaTable:
        tables: list[GammaTable] = []
        for roi, one in enumerate(self._estimators):
            estimates = one.estimate(sums, ages, remember=remember)
            self.series[roi] = estimates.series
            tables.append(self._fitter.bayes(estimates, roi))
        return GammaTable.concatenate(tables)


def _spread(first: int, last: int, most: int) -> Array:
    """Return at most `most` of the ages in [first, last), the last one always."""
    n = max(last - first, 0)
    steps = np.arange(min(n, most))
    return last - 1 - steps[::-1] * n // max(min(n, most), 1)
