"""What a C2 allows, whether frames or a file brought it: denoised C2, g2, Gamma(t), status."""

from __future__ import annotations

import dataclasses
import functools
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from xpcs_live_denoise.config import Settings
from xpcs_live_denoise.numerics.coarsening import denoise_coarse
from xpcs_live_denoise.numerics.contrast import estimate_contrast
from xpcs_live_denoise.numerics.estimator.sums import AgeSums
from xpcs_live_denoise.numerics.trust_range import Distance, window_quality
from xpcs_live_denoise.numerics.windows import Denoiser, denoise_two_time
from xpcs_live_denoise.records.results import DenoisedTwoTime, GammaTable, OneTime, Result
from xpcs_live_denoise.records.run import Status
from xpcs_live_denoise.records.types import Array, FloatArray

from .contrast import Contrasts
from .rates import BayesRates, RateFitter, one_time


@dataclass(frozen=True, slots=True, kw_only=True)
class C2Analysis:
    """What can be said of a C2, whether frames or a file brought it.

    Attributes
    ----------
    settings
        Mode, window, step, ranges and seed are used.
    rates
        Fits Gamma; knows ROIs and frame period.
    ensemble
        Denoises windows; None: nothing is denoised.
    """

    settings: Settings
    rates: RateFitter
    ensemble: Denoiser | None

    def finish(self, c2: Array, sums: AgeSums, contrasts: Contrasts | None = None) -> Result:
        """Return the final results of a C2, (n_roi, n, n), and its sums by age and lag."""
        with one_thread():
            return self._finish(c2, sums, contrasts or Contrasts(self.rates.rois))

    def _finish(self, c2: Array, sums: AgeSums, contrasts: Contrasts) -> Result:
        contrast, baseline = self.contrast(c2)
        denoised = self._denoise(c2, contrast, baseline)
        g2 = one_time(c2, denoised, self.rates.frame_time_s)
        bayes = BayesRates(self.rates)
        gamma = self._table(c2, bayes.final(sums), denoised, g2, contrast)
        status = self.status(c2.shape[-1], contrast, baseline)
        estimates = contrasts.estimates(c2, bayes.series)
        status = dataclasses.replace(status, contrast_estimates=estimates)
        return Result(c2=c2, denoised=denoised, gamma=gamma, g2=g2, status=status)

    def contrast(self, c2: Array) -> tuple[FloatArray, FloatArray]:
        """Return beta* and baseline* from the frames so far, each (n_roi,)."""
        return estimate_contrast(
            c2,
            mode=self.settings.mode,
            baseline_lags=self._reached("baseline_lags", c2.shape[-1]),
            contrast_frames=self._reached("contrast_frames", c2.shape[-1]),
        )

    def _reached(self, name: str, n_frames: int) -> tuple[int, int] | None:
        """Return a range of the settings; None, for the default, until the series reaches it."""
        bounds: tuple[int, int] | None = getattr(self.settings, name)
        return bounds if bounds is None or bounds[1] <= n_frames else None

    def _denoise(self, c2: Array, contrast: Array, baseline: Array) -> DenoisedTwoTime | None:
        if self.ensemble is None or len(c2[0]) < self.settings.window:
            return None
        return denoise_two_time(
            c2,
            self.ensemble,
            window=self.settings.window,
            step=self.settings.step,
            mode=self.settings.mode,
            contrast=contrast,
            baseline=baseline,
            seed=self.settings.seed,
        )

    def _table(
        self,
        c2: Array,
        bayes: GammaTable,
        denoised: DenoisedTwoTime | None,
        g2: OneTime,
        contrast: Array,
    ) -> GammaTable:
        raw = self.rates.all_ages(c2, contrast=contrast, source="raw")
        tables = [self.rates.defer(raw, bayes), bayes]
        if denoised is not None and self.ensemble is not None:
            tables += self._denoised_rows(c2, bayes, denoised, self.ensemble)
        return GammaTable.concatenate(tables + self.rates.series(g2, c2.shape[-1]))

    def _denoised_rows(
        self, c2: Array, bayes: GammaTable, denoised: DenoisedTwoTime, ensemble: Denoiser
    ) -> list[GammaTable]:
        """Fit the denoised C2, and where it is too slow for the ensemble a coarser one as well."""
        distance, _ = open_distance(ensemble)
        options: dict[str, Any] = {
            "window": self.settings.window,
            "step": self.settings.step,
            "seed": self.settings.seed,
            "contrast": denoised.contrast,
            "baseline": denoised.baseline,
            "distance": distance,
        }
        ages = np.arange(c2.shape[-1], dtype=np.float64)
        noise, away = window_quality(c2, **options).at_ages(ages)
        coarse = denoise_coarse(
            c2,
            ensemble,
            mode=self.settings.mode,
            relaxation_rate=self._typical_rates(bayes),
            frame_time_s=self.rates.frame_time_s,
            **options,
        )
        rows = self.rates.denoised(
            denoised.c2, contrast=denoised.contrast, noise=noise, distance=away
        )
        return [rows, self.rates.coarse(coarse.table)]

    def _typical_rates(self, bayes: GammaTable) -> FloatArray:
        """Return the median Gamma per frame of each ROI, NaN where there is no contrast."""
        rates: list[float] = []
        for label in self.rates.rois.labels:
            rows = bayes.select((bayes.roi == label) & bayes.converged)
            known = rows.relaxation_rate[rows.reason != "no_contrast"]
            rates.append(float(np.median(known)) if known.size else np.nan)
        return np.array(rates) * self.rates.frame_time_s

    def status(self, n_frames: int, contrast: Array, baseline: Array) -> Status:
        """Return where a series of `n_frames` stands of which all are in C2."""
        return Status(
            n_seen=n_frames,
            n_processed=n_frames,
            contrast=tuple(float(value) for value in contrast),
            baseline=tuple(float(value) for value in baseline),
            message=" ".join(self._notes(n_frames, contrast)),
        )

    def _notes(self, n: int, contrast: Array) -> list[str]:
        window = self.settings.window
        notes = [note for note in [open_distance(self.ensemble)[1]] if note]
        if n < window:
            notes.append(f"{n} frames so far, fewer than one window of {window}: nothing denoised.")
        for name in ("baseline_lags", "contrast_frames"):
            if getattr(self.settings, name) != self._reached(name, n):
                notes.append(f"{name} lies beyond the {n} frames so far: its default is used.")
        bad = self.rates.rois.labels[~(contrast > 0)]
        if len(bad) and n >= window:
            names = ", ".join(str(label) for label in bad)
            notes.append(f"No contrast in ROI {names}: neither denoised nor fitted.")
        return notes


def open_distance(ensemble: Denoiser | None) -> tuple[Distance | None, str]:
    """Return the distance of windows from an ensemble's training set, or None.

    The sentence says why an ensemble of this package has none; other denoisers never do.
    """
    if "sha256" not in getattr(ensemble, "info", {}):
        return None, ""
    return _latent_distance(ensemble)


@functools.lru_cache(maxsize=4)
def _latent_distance(ensemble: Denoiser) -> tuple[Distance | None, str]:
    from xpcs_live_denoise.denoising import latent_distance  # torch

    return latent_distance(ensemble)


def one_thread() -> AbstractContextManager[Any]:
    """Return a context in which numpy's BLAS uses one thread.

    The fits multiply thousands of small matrices. On a machine whose cores are busy (the detector,
    the server, the scan) two threads took ten times as long for them as one.
    """
    return _controller().limit(limits=1, user_api="blas")


@functools.cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()
