"""What a C2 allows, whether frames or a file brought it: denoised C2, g2, Gamma(t), status."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from xpcs_live_denoise.config import Settings
from xpcs_live_denoise.numerics.any_size import RowDenoiser, denoise_whole
from xpcs_live_denoise.numerics.band import band_of_c2
from xpcs_live_denoise.numerics.coarsening import denoise_coarse, noise_at_ages
from xpcs_live_denoise.numerics.contrast import estimate_contrast
from xpcs_live_denoise.numerics.estimator.cuts import SeriesFit
from xpcs_live_denoise.numerics.estimator.inflation import LEAST_BLOCKS, inflated
from xpcs_live_denoise.numerics.estimator.sums import AgeSums
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.numerics.static import MeanImages
from xpcs_live_denoise.numerics.threads import one_thread
from xpcs_live_denoise.numerics.windows import Denoiser, WindowScaling, denoise_scaled
from xpcs_live_denoise.records.results import (
    BandRows,
    DenoisedTwoTime,
    GammaTable,
    OneTime,
    Result,
)
from xpcs_live_denoise.records.run import Status
from xpcs_live_denoise.records.types import Array, FloatArray, IntArray

from .heterogeneity import RoisHeterogeneity
from .rates import SeriesRates, defer, lags_of, one_time, one_time_of_sums

# beta and its standard error from the counts of one frame, each (n_roi,).
PhotonContrast = tuple[FloatArray, FloatArray]
T = TypeVar("T")


class Refusals:
    """What a final result lacks as the memory for it was refused: all else of it is kept."""

    def __init__(self) -> None:
        self._what: list[str] = []

    def of(self, what: str, make: Callable[[], T], instead: Callable[[], T]) -> T:
        """Return what `make` makes; where memory is refused, something smaller `instead`."""
        try:
            return make()
        except MemoryError:
            self._what.append(what)
            return instead()

    @property
    def note(self) -> str:
        """A sentence about it; "" where nothing was refused."""
        if not self._what:
            return ""
        return (
            f"Memory was refused at the end of the series; the result lacks {', '.join(self._what)}"
            ". All that was measured is kept. Analyse the series again with more memory, or with "
            "fewer or smaller ROIs."
        )


def copied(values: FloatArray) -> FloatArray:
    """Return a copy of what nobody changes any more, or itself where memory is refused."""
    try:
        return values.copy()
    except MemoryError:
        return values


class C2Analysis:
    """What can be said of a C2, whether frames or a file brought it.

    `rates` fits Gamma, its rows with labels and q of `rois`; its state is that of this series, as
    that of `heterogeneity`.
    `ensemble` denoises windows, or C2 of any size; None: nothing is denoised.
    """

    def __init__(
        self, settings: Settings, rois: RoiMap, *, frame_time_s: float, ensemble: Denoiser | None
    ) -> None:
        self.settings = settings
        self.rates = SeriesRates(rois, frame_time_s, window=settings.window, step=settings.step)
        self.ensemble = ensemble
        self.heterogeneity = RoisHeterogeneity(rois.labels, frame_time_s)

    def finish(
        self,
        c2: Array,
        sums: AgeSums,
        *,
        images: MeanImages | None = None,
        photon: PhotonContrast | None = None,
    ) -> Result:
        """Return the final results of a C2, (n_roi, n, n), and its sums by age and lag.

        `images` tell static speckle; without them only a caution is possible.
        """
        refusals = Refusals()
        with one_thread():
            scaling = self.scaling(c2)
            note, cautions = "", []
            if not sums.n_block:
                sums, n_blocks = inflated(sums, c2)
                note = self._uncertain_errors(n_blocks)
                cautions = ["errors_uncertain" if n < LEAST_BLOCKS else "" for n in n_blocks]
            denoised = refusals.of(
                "the denoised C2", lambda: self._denoised(c2, scaling), lambda: None
            )
            time = self.rates.frame_time_s
            g2 = refusals.of(
                "g2 at every lag",
                lambda: one_time(c2, denoised, time),
                lambda: one_time_of_sums(sums, time),
            )
            estimates = self.estimates(sums, images, cautions, refusals)
            g2 = self.with_heterogeneity(g2, sums, estimates, refusals)
            rates = self.rates.estimated_rates(estimates, np.arange(c2.shape[-1], dtype=np.float64))
            step = sums.row_frames

            def of_cuts() -> list[GammaTable]:
                raw = self.rates.raw(c2, scaling.contrast)
                tables = [_every(step, defer(raw, estimates, step)), estimates]
                if denoised is not None:
                    tables.append(_every(step, self._denoised_rows(c2, rates, denoised, scaling)))
                return tables

            tables = refusals.of("rows of the paper's fits", of_cuts, lambda: [estimates])
            tables += refusals.of(
                "coarse rows", lambda: self.coarse_rows(c2, rates, scaling), lambda: []
            )
            tables += self.rates.whole_series(g2, sums, rates)
            status = self.status(c2.shape[-1], scaling, g2, photon)
            band = refusals.of(
                "the band", lambda: self._band(c2, denoised), lambda: self._no_band(c2)
            )
            message = " ".join(filter(None, (status.message, note, refusals.note)))
            return Result(
                map_values=c2,
                band=band,
                denoised=denoised,
                gamma=GammaTable.concatenate(tables),
                g2=g2,
                status=dataclasses.replace(status, message=message),
            )

    def estimates(
        self,
        sums: AgeSums,
        images: MeanImages | None,
        cautions: Sequence[str],
        refusals: Refusals,
    ) -> GammaTable:
        """Return the estimator's final rows; where memory is refused, as many as are shown live."""
        tables = refusals.of(
            "most rows of Gamma(t)",
            lambda: self.rates.final(sums, images, cautions),
            lambda: self.rates.live(sums, 0, sums.n_frames, images),
        )
        return GammaTable.concatenate(tables)

    def _denoised(self, c2: Array, scaling: WindowScaling) -> DenoisedTwoTime | None:
        """Denoise a C2, if it is long enough and there is something to do it with."""
        if self.ensemble is None or c2.shape[-1] < self.least_frames:
            return None
        if isinstance(self.ensemble, RowDenoiser):
            return denoise_whole(c2, self.ensemble, scaling.contrast, scaling.baseline)
        return denoise_scaled(c2, self.ensemble, scaling)

    @property
    def least_frames(self) -> int:
        """The shortest series that is denoised."""
        if isinstance(self.ensemble, RowDenoiser):
            return self.ensemble.least_frames
        return self.settings.window

    def with_heterogeneity(
        self, g2: OneTime, sums: AgeSums, estimates: GammaTable, refusals: Refusals
    ) -> OneTime:
        """Return g2 of a whole series with the dynamical heterogeneity at its lags."""

        def looked() -> OneTime:
            lags = lags_of(g2, self.rates.frame_time_s)
            chi, error = self.heterogeneity.whole(sums, estimates, lags)
            return dataclasses.replace(g2, heterogeneity=chi, heterogeneity_error=error)

        return refusals.of("heterogeneity", looked, lambda: g2)

    def _no_band(self, c2: Array) -> BandRows:
        n, window = c2.shape[-1], self.settings.window
        return BandRows(start=n, stop=n, c2=np.empty((len(c2), 0, window), c2.dtype))

    def _band(self, c2: Array, denoised: DenoisedTwoTime | None) -> BandRows:
        """Return the band of a whole C2."""
        n, window = c2.shape[-1], self.settings.window
        raw = band_of_c2(c2, 0, n, window)
        if denoised is None:
            return BandRows(start=0, stop=n, c2=raw)
        mean, spread = (
            None if square is None else band_of_c2(square.swapaxes(1, 2), 0, n, window)
            for square in (denoised.c2, denoised.spread)
        )
        return BandRows(start=0, stop=n, c2=raw, denoised=mean, spread=spread)

    def scaling(self, c2: Array) -> WindowScaling:
        """Return how windows are scaled, with beta* and baseline* from the frames so far."""
        settings = self.settings
        contrast, baseline = estimate_contrast(
            c2,
            mode=settings.mode,
            baseline_lags=self._reached("baseline_lags", c2.shape[-1]),
            contrast_frames=self._reached("contrast_frames", c2.shape[-1]),
        )
        return WindowScaling(
            contrast=contrast,
            baseline=baseline,
            window=settings.window,
            step=settings.step,
            seed=settings.seed,
        )

    def status(
        self,
        n_frames: int,
        scaling: WindowScaling,
        g2: OneTime,
        photon: PhotonContrast | None = None,
        *,
        n_scaled: int | None = None,
    ) -> Status:
        """Return where a series of `n_frames` stands of which all frames are in C2.

        Of `g2` the first lag is read. beta* and baseline* are those of the first `n_scaled` frames;
        None: of all.
        """
        return Status(
            n_seen=n_frames,
            n_processed=n_frames,
            contrast=tuple(scaling.contrast.tolist()),
            baseline=tuple(scaling.baseline.tolist()),
            contrast_estimates=contrast_estimates(g2, self.rates.series, photon),
            heterogeneity=self.heterogeneity.newest,
            message=" ".join(self._notes(n_frames, n_scaled or n_frames, scaling.contrast)),
        )

    def _reached(self, name: str, n_frames: int) -> tuple[int, int] | None:
        """Return a range of the settings; None, for the default, until the series reaches it."""
        bounds: tuple[int, int] | None = getattr(self.settings, name)
        return bounds if bounds is None or bounds[1] <= n_frames else None

    def _denoised_rows(
        self, c2: Array, rates: FloatArray, denoised: DenoisedTwoTime, scaling: WindowScaling
    ) -> GammaTable:
        """Fit the denoised C2."""
        noise = noise_at_ages(c2, scaling, np.arange(c2.shape[-1], dtype=np.float64))
        return self.rates.denoised(denoised.c2, scaling.contrast, noise=noise, rates=rates)

    def coarse_rows(
        self, c2: Array, rates: FloatArray, scaling: WindowScaling, frames_per_bin: int = 1
    ) -> list[GammaTable]:
        """Fit C2, or a map of it, denoised on a coarser grid where it is too slow for the ensemble.

        `rates` (n_roi, n) are those of `estimated_rates` at each frame, or bin. There is no table
        without an ensemble, nor with one for any size, which needs no coarser grid.
        """
        if self.ensemble is None or isinstance(self.ensemble, RowDenoiser):
            return []
        coarse = denoise_coarse(
            c2,
            self.ensemble,
            scaling,
            relaxation_rate=rates,
            frame_time_s=self.rates.frame_time_s,
            frames_per_bin=frames_per_bin,
        )
        return [self.rates.coarse(coarse)]

    def _uncertain_errors(self, n_blocks: IntArray) -> str:
        """Return for which ROIs a C2 alone hardly tells the errors, "" for none."""
        labels = self.rates.rois.labels[n_blocks < LEAST_BLOCKS]
        if not len(labels):
            return ""
        return (
            f"Errors of Gamma in ROI {', '.join(str(label) for label in labels)} may be off by a "
            "factor of 2: a C2 alone tells them from frames that have nothing in common, and the "
            "series is too short or too slow for such frames. Pixels tell them better."
        )

    def _notes(self, n: int, n_scaled: int, contrast: FloatArray) -> list[str]:
        window = self.settings.window
        notes: list[str] = []
        if n < self.least_frames:
            of = "" if isinstance(self.ensemble, RowDenoiser) else "one window of "
            notes.append(f"{n} frames, fewer than {of}{self.least_frames}: nothing denoised.")
        if n_scaled < n:
            notes.append(
                f"contrast and baseline are those of the first {n_scaled} frames: a longer series "
                "keeps them."
            )
        for name in ("baseline_lags", "contrast_frames"):
            if getattr(self.settings, name) != self._reached(name, n_scaled):
                notes.append(f"{name} lies beyond the {n_scaled} frames: its default is used.")
        bad = self.rates.rois.labels[~(contrast > 0)]
        if len(bad) and n >= window:
            names = ", ".join(str(label) for label in bad)
            notes.append(f"No contrast in ROI {names}: neither denoised nor fitted.")
        return [*notes, *self.heterogeneity.notes]


def _every(step: int, table: GammaTable) -> GammaTable:
    """Return the rows at every `step`-th frame."""
    return table if step == 1 else table.select(table.age_frame % step == 0)


def contrast_estimates(
    g2: OneTime, series: Sequence[SeriesFit | None], photon: PhotonContrast | None
) -> dict[str, tuple[float, ...]]:
    """Return beta of every ROI by three methods: where they differ, a scale may be wrong.

    "intercept" (lag 0 of `series`, the whole-series fits), "lag_1" (g2(1) - 1, below beta where the
    dynamics are fast), "photon" (`photon`: negative binomial counts of the first frame), and the
    same with "_error". Each (n_roi,), NaN where unknown.
    """
    some = g2.g2.shape[1] > 0
    nothing = np.full(len(g2.g2), np.nan)
    beta, beta_error = photon or (nothing, nothing)
    found = {
        "intercept": [np.nan if fit is None else fit.beta for fit in series],
        "intercept_error": [np.nan if fit is None else fit.beta_error for fit in series],
        "lag_1": g2.g2[:, 0] - 1 if some else nothing,
        "lag_1_error": g2.g2_error[:, 0] if some else nothing,
        "photon": beta,
        "photon_error": beta_error,
    }
    return {name: tuple(float(value) for value in values) for name, values in found.items()}
