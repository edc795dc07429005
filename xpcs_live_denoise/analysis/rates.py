"""Rows of Gamma(t) of one series, from C2, its sums and g2; what each source of rows may claim."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from xpcs_live_denoise.numerics.arrays import lag_bin_edges
from xpcs_live_denoise.numerics.coarsening import median_rates, range_reasons
from xpcs_live_denoise.numerics.estimator.ages import (
    AgeEstimates,
    BayesEstimator,
    path_cautions,
    path_reasons,
    reasons,
)
from xpcs_live_denoise.numerics.estimator.cuts import SeriesFit
from xpcs_live_denoise.numerics.estimator.final_cuts import FinalCuts, estimated_rows
from xpcs_live_denoise.numerics.estimator.final_path import APART, LENGTH, FinalPath
from xpcs_live_denoise.numerics.estimator.path import PathEstimate, PathEstimator
from xpcs_live_denoise.numerics.estimator.sums import AgeSums, jackknife_variance
from xpcs_live_denoise.numerics.fits import fit_ages, fit_band_ages, fit_g2, series_errors
from xpcs_live_denoise.numerics.g2 import g2_from_c2
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.numerics.static import (
    BELOW_1,
    MeanImages,
    StaticVerdict,
    judge,
    judge_baseline,
    remaining_correlation,
)
from xpcs_live_denoise.numerics.threads import evenly, spread
from xpcs_live_denoise.records.results import DenoisedTwoTime, GammaTable, OneTime, RowSource
from xpcs_live_denoise.records.types import Array, FloatArray, IntArray

T = TypeVar("T")
R = TypeVar("R")

# Why a row is not the one to trust where a live run has no better one yet.
NOT_YET = "no_path_yet"
# Why a row of the path is not: the row of cuts at its age is then.
NOT_CONVERGED = "not_converged"
# Why a fit of g2 is not: no age has it, and an average over ages is no rate where they differ.
WHOLE_SERIES = "whole_series"
# Sources of the estimator's rows, the one to believe first.
BEST_FIRST = (RowSource.PATH, RowSource.BAYES)
# Frames behind an age when the path first tells it, most rows of one source and ROI in a
# publication, and most ROIs.
PATH_DELAY, LIVE_ROWS, LIVE_ROIS = 5, 50, 12
# A provisional row is fitted once its age is this many frames old, so that lags to 50 exist.
LIVE_DELAY = 25


class SeriesRates:
    """Fits Gamma of one series: knows its ROIs and its clock, and what its estimators have seen.

    Its state is the estimators of each ROI and what is final of their rows already, the newest fit
    of the whole series of each (`series`), and the first age that its path has not told yet.
    `window` and `step`, frames, are those of the windows that are denoised: fits of denoised C2
    stop at the longest lag that they reach at every age.
    """

    def __init__(self, rois: RoiMap, frame_time_s: float, *, window: int, step: int) -> None:
        self.rois = rois
        self.frame_time_s = frame_time_s
        self._window, self._denoised_max_lag = window, max(1, window - step - 1)
        self._estimators = [BayesEstimator(roi) for roi in range(rois.n_roi)]
        self.series: list[SeriesFit | None] = [None] * rois.n_roi
        self._finals = [FinalCuts(roi) for roi in range(rois.n_roi)]
        self._final_paths = [FinalPath(roi) for roi in range(rois.n_roi)]
        self._typical = [math.nan] * rois.n_roi
        self._paths = [PathEstimator(roi) for roi in range(rois.n_roi)]
        self._next_of_path = [0] * rois.n_roi

    # --- the paper's fits ------------------------------------------------------------------

    def band_ages(
        self,
        band: Array,
        start: int,
        ages: IntArray,
        source: RowSource,
        contrast: FloatArray,
        *,
        rois: range | None = None,
    ) -> GammaTable:
        """Fit cuts of one frame at `ages` of a band, raw or denoised, whose range is not judged.

        `band` (n_roi, k, width) are rows from frame `start` on; `rois` are those to be fitted, None
        for all.
        """
        some = slice(0, len(band)) if rois is None else slice(rois.start, rois.stop)
        table = fit_band_ages(
            band[some],
            start,
            ages,
            beta=contrast[some],
            frame_time_s=self.frame_time_s,
            max_lag=self._denoised_max_lag if source.is_denoised else 2 * LIVE_DELAY,
        )
        return self._named(table.replace(roi=table.roi + some.start), source)

    def judged(
        self, table: GammaTable, estimated: GammaTable, noise: FloatArray | float = math.nan
    ) -> GammaTable:
        """Say where denoised rows can be trusted, by the rows of the estimator.

        `noise` is that of `band_noise` at each row.
        """
        rates = np.full(len(table), np.nan)
        for label in np.unique(table.roi).tolist():
            rows = table.roi == label
            rates[rows] = self._rates_of(estimated, label, table.age_frame[rows])
        return _judged(table, rates, noise)

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
        n_frames, lags = sums.n_frames, lags_of(one_time, self.frame_time_s)
        raw = fit_g2(
            one_time.g2, lags=lags, g2_error=one_time.g2_error, frame_time_s=self.frame_time_s
        )
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
            reached = lags <= self._denoised_max_lag
            denoised = fit_g2(
                one_time.g2_denoised[:, reached],
                lags=lags[reached],
                weights=(lags_in_bins(lags, n_frames) * (n_frames - lags))[reached],
                frame_time_s=self.frame_time_s,
            )
            denoised = _judged(denoised.replace(width=n_frames), median_rates(rates))
            tables.append(self._named(denoised, RowSource.SERIES_DENOISED))
        return tables

    # --- the estimator ---------------------------------------------------------------------

    def final(
        self, sums: AgeSums, images: MeanImages | None = None, cautions: Sequence[str] = ()
    ) -> list[GammaTable]:
        """Return rows of the path and of cuts for every ROI and age, from the whole series only.

        `images` are those of the pixels, where there are any; `cautions` what else to be careful
        with in each ROI.
        """

        def of_roi(roi: int) -> tuple[GammaTable, GammaTable]:
            cuts = self._finals[roi].finish(sums)
            known = np.isfinite(cuts.fits.ln_rate)
            curve = (cuts.age[known], cuts.fits.ln_rate[known])
            path = PathEstimator(roi).whole(sums, cuts.series, curve)
            paths = self._final_paths[roi].finish(sums, path)
            also = cautions[roi] if len(cautions) else ""
            return self._both(cuts, paths, sums, images, roi=roi, also=also)

        tables = _of_all(of_roi, range(self.rois.n_roi))
        return [table for both in tables for table in both]

    def advance(self, sums: AgeSums) -> None:
        """Make final rows whose lags are there; others wait for `final`.

        To be called at multiples of 256 frames, where sections of the path are complete.
        """
        _of_all(lambda one: one.advance(sums), [*self._finals, *self._final_paths])

    def due(self, n_frames: int) -> int:
        """Return after how many frames `advance` is to be called when there are so many."""
        first = -(-max(LENGTH, self._window) // APART) * APART
        return first - n_frames if n_frames < first else APART - n_frames % APART

    def live(
        self,
        sums: AgeSums,
        first: int,
        last: int,
        images: MeanImages | None = None,
        rois: range | None = None,
    ) -> list[GammaTable]:
        """Return rows of cuts at ages in [first, last), which are ripe, and of the path to the end.

        They are of `rois`, indices, or of all, which have been told up to the same age. Ages are
        frames; there is a row of the path for each row of the sums that ends there, and one of cuts
        for each that they are estimated at (`ripe_rows`). Where many are new at once, rows are
        spread evenly over them and the newest is always there: a publication must not take longer
        the faster frames come. The final rows are there for all.
        """
        size = sums.row_frames
        newest = (sums.n_frames - PATH_DELAY + 1) // size
        told = range(self.rois.n_roi) if rois is None else rois
        new = spread_evenly(self._next_of_path[told.start] // size, newest, LIVE_ROWS)
        ripe = self.ripe_rows(sums, first, last)

        def of_roi(roi: int) -> list[GammaTable]:
            cuts = self._estimators[roi].estimate(sums, ripe)
            typical = float(np.median(cuts.fits.ln_rate)) if len(ripe) else self._typical[roi]
            self._typical[roi] = typical
            rows = sums.ages(np.union1d(ripe, new))
            path = self._paths[roi].newest(sums, cuts.series, rows, typical)
            of_new, of_ripe = self._both(cuts, [path], sums, images, roi=roi)
            return [of_new.select(np.isin(of_new.age_frame, sums.ages(new))), of_ripe]

        tables = _of_all(of_roi, told)
        for roi in told:
            self._next_of_path[roi] = max(self._next_of_path[roi], newest * size)
        return [table for both in tables for table in both]

    def ripe_rows(self, sums: AgeSums, first: int, last: int) -> IntArray:
        """Return the rows of the sums that `live` estimates cuts at for ages in [first, last)."""
        size = sums.row_frames
        rows = estimated_rows(-(-first // size), last // size, size)
        return rows[spread_evenly(0, len(rows), LIVE_ROWS)]

    def _both(
        self,
        cuts: AgeEstimates,
        paths: Sequence[PathEstimate],
        sums: AgeSums,
        images: MeanImages | None,
        *,
        roi: int,
        also: str = "",
    ) -> tuple[GammaTable, GammaTable]:
        """Return the rows of the path, and those of cuts, which leave the recommendation to it.

        `paths` are its parts, which other ages belong to; `also` is a caution that comes from
        elsewhere.
        """
        self.series[roi] = cuts.series
        main = max(paths, key=lambda path: len(path.age))
        verdict = static_verdict(cuts, main, images, roi, sums.n_frames)
        by_blocks = sums.n_block > 0
        parts: list[GammaTable] = []
        for path in paths:
            reason = path_reasons(path, roi, sums, cuts.series, is_static=verdict.is_static)
            caution = " ".join(filter(None, (verdict.caution, *path_cautions(path), also)))
            parts.append(self._path_rows(path, roi, reason, caution, by_blocks=by_blocks))
        of_path = GammaTable.concatenate(parts)
        if len(parts) > 1:
            of_path = of_path.select(np.argsort(of_path.age_frame))
        of_cuts = self._bayes_rows(cuts, roi, verdict)
        if main.converged:
            of_cuts = defer(of_cuts, of_path, sums.row_frames)
        return of_path, of_cuts

    def _path_rows(
        self, path: PathEstimate, roi: int, reason: Array, caution: str, *, by_blocks: bool
    ) -> GammaTable:
        n = len(path.age)
        rate = np.exp(path.ln_rate) / self.frame_time_s
        alpha = math.exp(path.shared[0])
        why_not = reason if path.converged else np.full(n, NOT_CONVERGED)
        return GammaTable(
            **self._names(np.full(n, roi)),
            age_s=path.age * self.frame_time_s,
            age_frame=path.age.astype(np.float64),
            source=np.full(n, RowSource.PATH),
            width=path.width,
            relaxation_rate=rate,
            relaxation_rate_error=rate * path.ln_rate_error,
            error_kind=np.full(n, "jackknife" if by_blocks else "residual"),
            alpha=np.full(n, alpha),
            alpha_error=np.full(n, alpha * path.shared_error[0]),
            baseline=np.full(n, 1 + path.shared[2]),
            baseline_error=np.full(n, path.shared_error[2]),
            beta=path.beta,
            beta_error=np.full(n, path.shared_error[1]),
            reduced_chi_square=np.full(n, path.reduced_chi_square),
            n_lags=np.full(n, path.n_lags),
            n_effective=np.full(n, path.n_effective),
            converged=np.full(n, path.converged),
            in_range=~np.isin(why_not, ("no_contrast", "too_slow")),
            recommended=why_not == "",
            reason=why_not,
            caution=np.where(why_not == "", caution, ""),
            final=np.ones(n, np.bool_),
        )

    def _bayes_rows(self, estimates: AgeEstimates, roi: int, verdict: StaticVerdict) -> GammaTable:
        n = len(estimates.age)
        fitted = estimates.fits
        rate = np.exp(fitted.ln_rate) / self.frame_time_s
        alpha = np.exp(fitted.ln_alpha)
        why_not = reasons(estimates, is_static=verdict.is_static)
        return GammaTable(
            **self._names(np.full(n, roi)),
            age_s=estimates.mean_age * self.frame_time_s,
            age_frame=estimates.age,
            source=np.full(n, RowSource.BAYES),
            width=estimates.width.astype(np.int64),
            relaxation_rate=rate,
            relaxation_rate_error=rate * estimates.ln_rate_error,
            error_kind=np.full(n, "jackknife" if estimates.by_blocks else "residual"),
            alpha=alpha,
            alpha_error=alpha * estimates.ln_alpha_error,
            baseline=1 + fitted.linear[:, 1],
            baseline_error=estimates.baseline_error,
            beta=fitted.linear[:, 0],
            beta_error=estimates.beta_error,
            reduced_chi_square=estimates.reduced_chi_square,
            n_lags=estimates.n_lags,
            n_effective=np.full(n, estimates.n_effective),
            converged=np.isfinite(estimates.mean_age),
            in_range=~np.isin(why_not, ("no_contrast", "too_slow", "grid_edge")),
            recommended=why_not == "",
            reason=why_not,
            caution=np.where(why_not == "", verdict.caution, ""),
            final=np.ones(n, np.bool_),
        )

    # --- what every row needs --------------------------------------------------------------

    def _named(self, table: GammaTable, source: RowSource) -> GammaTable:
        """Give rows their source, and their ROI's label, q and azimuth."""
        return table.replace(**self._names(table.roi - 1), source=source)

    def _names(self, index: IntArray) -> dict[str, Array]:
        """Return label, q and azimuth of ROIs."""
        phi_deg = self.rois.phi_deg
        return {
            "roi": self.rois.labels[index],
            "q_inv_angstrom": self.rois.q_inv_angstrom[index],
            "phi_deg": np.full(len(index), math.nan) if phi_deg is None else phi_deg[index],
        }

    def estimated_rates(self, table: GammaTable, frames: FloatArray) -> FloatArray:
        """Return Gamma per frame of each ROI at some frames, (n_roi, n_frame), as best known.

        `table` has rows of the estimator; between the ages that it has, ln Gamma is interpolated.
        NaN for a ROI without contrast, whose rate is a limit.
        """
        return np.array(
            [self._rates_of(table, label, frames) for label in self.rois.labels.tolist()]
        )

    def _rates_of(self, table: GammaTable, label: int, frames: FloatArray) -> FloatArray:
        known = table.converged & (table.reason != "no_contrast") & (table.relaxation_rate > 0)
        for source in BEST_FIRST:
            rows = table.select(known & (table.roi == label) & (table.source == source))
            if len(rows):
                order = np.argsort(rows.age_frame)
                ln_rate = np.log(rows.relaxation_rate[order] * self.frame_time_s)
                return np.exp(np.interp(frames, rows.age_frame[order], ln_rate))
        return np.full(len(frames), np.nan)


class Turns:
    """Whose rows a publication brings: at most 12 ROIs, those that have waited longest.

    Its state is the first age of which each group of ROIs has no rows yet. What a ROI costs in any
    case, its path above all, does not depend on how many ages are new.
    """

    def __init__(self, n_roi: int) -> None:
        self._groups = evenly(n_roi, -(-n_roi // LIVE_ROIS))
        self._next_age = [0] * len(self._groups)

    @property
    def oldest(self) -> int:
        """The first age of which a ROI has no rows yet."""
        return min(self._next_age)

    @property
    def rois(self) -> range:
        """The ROIs whose turn it is."""
        return self._groups[self._next_age.index(self.oldest)]

    def told(self, rois: range, last: int) -> None:
        """Say that `rois` have rows up to age `last`."""
        self._next_age[self._groups.index(rois)] = last


def _of_all(function: Callable[[T], R], rois: Sequence[T]) -> list[R]:
    """Return the result for each ROI, computed on all cores."""
    from xpcs_live_denoise.numerics.compiled import prepare_fits

    prepare_fits()
    return spread(function, rois)


def _judged(
    table: GammaTable, rates: FloatArray, noise: FloatArray | float = math.nan
) -> GammaTable:
    """Say where denoised rows can be trusted, and take their error bars.

    `rates` are Gamma per frame of each row as the estimator knows it.
    """
    reason = range_reasons(rates, converged=table.converged, noise=noise)
    return _without_error_bars(table.replace(in_range=reason == "", reason=reason))


def static_verdict(
    cuts: AgeEstimates, path: PathEstimate, images: MeanImages | None, roi: int, n_frames: int
) -> StaticVerdict:
    """Judge whether the ROI with this index is static, by its pixels where there are any."""
    series = cuts.series
    known = np.isfinite(cuts.ln_rate_error)
    if not (series.beta > 0 and known.any()):
        return StaticVerdict(is_static=False, caution="")
    by_baseline = judge_baseline(series.baseline, series.baseline_error, series.beta)
    if path.converged:  # it knows contrast and baseline better where Gamma changes
        by_baseline = judge_baseline(1 + path.shared[2], path.shared_error[2], path.shared[1])
    test = None if images is None else images.test(roi)
    if test is None:
        return by_baseline
    if by_baseline.caution == BELOW_1:  # as impossible as one above: intensity drifts in the ROI
        return StaticVerdict(is_static=True, caution="")
    remaining = remaining_correlation(
        cuts.age[known].astype(np.float64),
        cuts.fits.ln_rate[known],
        cuts.ln_rate_error[known],
        float(np.exp(np.median(cuts.fits.ln_alpha[known]))),
        n_frames,
    )
    return judge(test, series.beta, *remaining, baseline_is_high=bool(by_baseline.caution))


def defer(table: GammaTable, better: GammaTable, row_frames: int = 1) -> GammaTable:
    """Return rows that leave the recommendation to better ones of the same ROI and age.

    All fit the same C2, the path all of it at once and cuts all that belongs to an age: where these
    say that nothing can be trusted, less of it cannot be trusted either, for the same reason. Of
    ages that a live run has not asked the path about, nothing is recommended yet. `row_frames` are
    the frames that a better row stands for.
    """
    order = np.lexsort((better.source != RowSource.PATH, ~better.recommended))[::-1]
    verdicts = np.where(
        better.recommended, [f"{name}_is_better" for name in better.source], better.reason
    )

    def keys(rows: GammaTable) -> list[tuple[int, float]]:
        row = np.floor(rows.age_frame / row_frames)
        return list(zip(rows.roi.tolist(), row.tolist(), strict=True))

    ordered = zip(keys(better.select(order)), verdicts[order].tolist(), strict=True)
    by_key = dict(ordered)  # the last one of a key stays
    verdict = np.array([by_key.get(key, NOT_YET) for key in keys(table)], np.str_)
    return table.replace(
        recommended=False, reason=np.where(table.recommended, verdict, table.reason)
    )


def one_time(
    c2: Array, denoised: DenoisedTwoTime | None, frame_time_s: float, max_lag: int | None = None
) -> OneTime:
    """Return g2 of the whole series, raw and denoised, at lags up to `max_lag`, all by default."""
    g2, g2_error, _ = g2_from_c2(c2, max_lag)
    g2_denoised = None
    if denoised is not None:
        g2_denoised, _, _ = g2_from_c2(np.where(denoised.reached, denoised.c2, np.nan))
    return OneTime(
        delay_s=np.arange(1, g2.shape[-1] + 1) * frame_time_s,
        g2=g2,
        g2_error=g2_error,
        g2_denoised=g2_denoised,
    )


def one_time_of_sums(sums: AgeSums, frame_time_s: float) -> OneTime:
    """Return g2 of a whole series at the mean lags of the bins of its sums."""
    cuts = spread(sums.series, range(sums.n_roi))
    number = np.concatenate([one.n_entries for one in cuts])  # (n_roi, n_bin)
    mean = np.concatenate([one.mean for one in cuts])
    error = [
        np.full(len(one.lag), np.nan)
        if one.left_out is None
        else np.sqrt(jackknife_variance(one.left_out[0].T))
        for one in cuts
    ]
    return OneTime(
        delay_s=cuts[0].lag * frame_time_s,
        g2=np.where(number > 0, 1 + mean, np.nan),
        g2_error=np.where(number > 0, np.array(error), np.nan),
    )


def lags_of(one_time: OneTime, frame_time_s: float) -> FloatArray:
    """Return the lags of a g2, frames, without the rounding of its delays."""
    return np.round(one_time.delay_s / frame_time_s, 6)


def lags_in_bins(lags: FloatArray, n_frames: int) -> FloatArray:
    """Return how many lags each value of a g2 stands for: all lags are there, or bins of them."""
    wide = np.diff(lag_bin_edges(max(n_frames - 1, 1))).astype(np.float64)
    return wide if len(wide) == len(lags) else np.ones(len(lags))


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


def spread_evenly(first: int, last: int, most: int) -> IntArray:
    """Return at most `most` of the ages in [first, last), the last one always."""
    n = max(last - first, 0)
    steps = np.arange(min(n, most))
    return last - 1 - steps[::-1] * n // max(min(n, most), 1)
