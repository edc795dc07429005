"""The analysis of one series of frames: pixels in, C2, denoised C2 and Gamma(t) out. No I/O."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .config import Settings
from .errors import MissingDependencyError
from .numerics.age_sums import AgeSums
from .numerics.contrast import estimate_contrast
from .numerics.live_windows import LiveWindows
from .numerics.rois import RoiMap
from .numerics.two_time import TwoTimeAccumulator
from .numerics.windows import Denoiser, denoise_two_time
from .rates import DENOISED_MAX_LAG, BayesRates, RateFitter, one_time
from .records import DenoisedTwoTime, GammaTable, OneTime, Publication, Result, Status

# A provisional row is fitted once its age is this many frames old, so that lags to 50 exist.
LIVE_DELAY = 25


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

    def finish(
        self, c2: NDArray[Any], sums: AgeSums, skipped: Sequence[tuple[int, int]] = ()
    ) -> Result:
        """Return the final results of a C2, (n_roi, n, n), and its sums by age and lag."""
        contrast, baseline = self.contrast(c2)
        denoised = self._denoise(c2, contrast, baseline)
        g2 = one_time(c2, denoised, self.rates.frame_time_s)
        return Result(
            c2=c2,
            denoised=denoised,
            gamma=self._table(c2, sums, denoised, g2, contrast),
            g2=g2,
            status=self.status(c2.shape[-1], skipped, contrast, baseline),
        )

    def contrast(self, c2: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
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

    def _denoise(
        self, c2: NDArray[Any], contrast: NDArray[Any], baseline: NDArray[Any]
    ) -> DenoisedTwoTime | None:
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
        c2: NDArray[Any],
        sums: AgeSums,
        denoised: DenoisedTwoTime | None,
        g2: OneTime,
        contrast: NDArray[Any],
    ) -> GammaTable:
        raw = self.rates.all_ages(c2, contrast=contrast, source="raw")
        bayes = BayesRates(self.rates).final(sums)
        tables = [self.rates.defer(raw, bayes), bayes]
        if denoised is not None:
            tables.append(
                self.rates.all_ages(
                    denoised.c2, contrast=contrast, source="denoised", max_lag=DENOISED_MAX_LAG
                )
            )
        return GammaTable.concatenate(tables + self.rates.series(g2, c2.shape[-1]))

    def status(
        self,
        n_frames: int,
        skipped: Sequence[tuple[int, int]],
        contrast: NDArray[Any],
        baseline: NDArray[Any],
    ) -> Status:
        """Return where a series of `n_frames` stands."""
        n_skipped = sum(stop - start for start, stop in skipped)
        return Status(
            n_seen=n_frames,
            n_processed=n_frames - n_skipped,
            n_skipped=n_skipped,
            skipped=tuple(skipped),
            contrast=tuple(float(value) for value in contrast),
            baseline=tuple(float(value) for value in baseline),
            message=" ".join(self._notes(n_frames, contrast)),
        )

    def _notes(self, n: int, contrast: NDArray[Any]) -> list[str]:
        window = self.settings.window
        notes: list[str] = []
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


class Analysis:
    """The state of one series: C2 so far, its windows, and which ages have been reported.

    Parameters
    ----------
    settings
        Mode, window, step, engine, precision, ranges and seed are used.
    roi_map
        The ROIs; its labels and q go into the tables.
    frame_time_s
        Frame period, s.
    n_frames
        Number of frames to come, where known: C2 is then allocated once.
    ensemble
        Denoises windows; None computes C2, g2 and raw Gamma(t) only.
    """

    def __init__(
        self,
        settings: Settings,
        roi_map: RoiMap,
        *,
        frame_time_s: float,
        n_frames: int | None = None,
        ensemble: Denoiser | None = None,
    ) -> None:
        self._settings = settings
        rates = RateFitter(rois=roi_map, frame_time_s=frame_time_s)
        self._of_c2 = C2Analysis(settings=settings, rates=rates, ensemble=ensemble)
        self._bayes = BayesRates(rates)
        self._two_time = TwoTimeAccumulator(
            roi_map,
            engine=settings.engine,
            dtype=settings.precision,
            n_frames=n_frames,
            sums=True,
        )
        self._windows = LiveWindows(
            len(roi_map.labels),
            window=settings.window,
            step=settings.step,
            seed=settings.seed,
        )
        self._next_age = 0
        self._skipped: list[tuple[int, int]] = []

    @property
    def engine(self) -> str:
        """The engine that computes C2."""
        return self._two_time.engine

    @property
    def n_frames(self) -> int:
        """Frames in C2, gaps included."""
        return self._two_time.n_frames

    def push(self, frames: NDArray[Any]) -> None:
        """Add frames, shape (k, rows, cols) or (rows, cols).

        Raises
        ------
        FrameShapeError
            For frames that do not fit the ROI map; nothing is added then.
        """
        self._two_time.append(frames)

    def push_pixels(self, pixels: NDArray[Any]) -> None:
        """Add frames of which only the pixels of the ROIs are left, shape (k, n_pixels).

        Raises
        ------
        FrameShapeError
            For pixels that do not fit the ROI map; nothing is added then.
        """
        self._two_time.append_pixels(pixels)

    def push_gap(self, n_frames: int) -> None:
        """Add frames that could not be had: rows and columns of NaN."""
        start = self.n_frames
        self._two_time.append_gap(n_frames)
        if self._skipped and self._skipped[-1][1] == start:
            start = self._skipped.pop()[0]
        self._skipped.append((start, self.n_frames))

    def publish(self, since: int) -> Publication:
        """Return what is new: rows of C2 from frame `since` on, windows and ages that got ripe.

        Windows and ages are handed out once; rows of C2 as often as they are asked for.
        """
        n = self.n_frames
        contrast, baseline = self._of_c2.contrast(self._two_time.c2)
        bands = ()
        if self._of_c2.ensemble is not None:
            bands = self._windows.push(self._two_time.c2, self._of_c2.ensemble, contrast, baseline)
        return Publication(
            n_frames=n,
            c2=self._two_time.rows(since, n) if n > since else None,
            bands=bands,
            gamma=self._fit_ripe_ages(contrast),
            status=self._of_c2.status(n, self._skipped, contrast, baseline),
        )

    def finish(self) -> Result:
        """Return the final results; everything that was provisional is computed anew."""
        return self._of_c2.finish(self._two_time.c2.copy(), self._two_time.age_sums, self._skipped)

    def _fit_ripe_ages(self, contrast: NDArray[Any]) -> GammaTable | None:
        """Fit the ages that have LIVE_DELAY frames behind them and were not reported yet.

        Nothing is fitted before the first window is complete. Only the square of C2 around the new
        ages is touched, so that a publication costs the same late in a series as early.
        """
        n = self.n_frames
        first, last = self._next_age, n - LIVE_DELAY + 1
        if n < self._settings.window or last <= first:
            return None
        self._next_age = last
        start = max(0, first - LIVE_DELAY - 1)
        ages = np.arange(first, last) - start
        square = self._two_time.c2[:, start:, start:]
        rates = self._of_c2.rates
        raw = rates.some_ages(
            square, ages, contrast=contrast, source="raw", max_lag=2 * LIVE_DELAY, offset=start
        )
        bayes = self._bayes.live(self._two_time.age_sums, first, last)
        tables = [rates.defer(raw, bayes), bayes]
        if self._of_c2.ensemble is not None:
            tables.append(
                rates.some_ages(
                    self._windows.square(self._two_time.c2, start, n),
                    ages,
                    contrast=contrast,
                    source="denoised",
                    max_lag=DENOISED_MAX_LAG,
                    offset=start,
                )
            )
        return GammaTable.concatenate(tables).replace(final=False)


def open_ensemble(settings: Settings) -> tuple[Denoiser | None, str]:
    """Return the ensemble that the settings name, or None and the sentence that says why.

    Raises
    ------
    InvalidInputError
        When the weights that the settings name cannot be used.
    """
    if not settings.denoise:
        return None, "Nothing denoised: the setting `denoise` is false."
    try:
        from .denoising.ensemble import load_ensemble

        return load_ensemble(settings.weights), ""
    except MissingDependencyError as error:
        return None, f"Nothing denoised: {error}"


def append_note(status: Status, *notes: str) -> Status:
    """Return the status with sentences added to its message."""
    return dataclasses.replace(
        status, message=" ".join(part for part in (status.message, *notes) if part)
    )
