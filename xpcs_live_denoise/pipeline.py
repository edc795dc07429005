"""The analysis of one series of frames: pixels in, C2, denoised C2 and Gamma(t) out. No I/O."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .config import Settings
from .errors import MissingDependencyError
from .numerics.contrast import estimate_contrast
from .numerics.live_windows import LiveWindows
from .numerics.one_time import g2_from_c2
from .numerics.rois import RoiMap
from .numerics.two_time import TwoTimeAccumulator
from .numerics.windows import Denoiser, denoise_two_time
from .rates import DENOISED_MAX_LAG, RateFitter
from .records import DenoisedTwoTime, GammaTable, OneTime, Publication, Result, Status

# A provisional row is fitted once its age is this many frames old, so that lags to 50 exist.
LIVE_DELAY = 25


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
        self._rois = roi_map
        self._rates = RateFitter(rois=roi_map, frame_time_s=frame_time_s)
        self._ensemble = ensemble
        self._two_time = TwoTimeAccumulator(
            roi_map, engine=settings.engine, dtype=settings.precision, n_frames=n_frames
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
        contrast, baseline = self._contrast(self._two_time.c2)
        bands = ()
        if self._ensemble is not None:
            bands = self._windows.push(self._two_time.c2, self._ensemble, contrast, baseline)
        return Publication(
            n_frames=n,
            c2=self._two_time.rows(since, n) if n > since else None,
            bands=bands,
            gamma=self._fit_ripe_ages(contrast),
            status=self._status(contrast, baseline),
        )

    def finish(self) -> Result:
        """Return the final results; everything that was provisional is computed anew."""
        c2 = self._two_time.c2.copy()
        contrast, baseline = self._contrast(c2)
        denoised = self._denoise(c2, contrast, baseline)
        g2 = _one_time(c2, denoised, self._rates.frame_time_s)
        return Result(
            c2=c2,
            denoised=denoised,
            gamma=self._final_table(c2, denoised, g2, contrast),
            g2=g2,
            status=self._status(contrast, baseline),
        )

    # --- the steps -------------------------------------------------------------------------

    def _contrast(self, c2: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return beta* and baseline* from the frames so far."""
        return estimate_contrast(
            c2,
            mode=self._settings.mode,
            baseline_lags=self._reached("baseline_lags"),
            contrast_frames=self._reached("contrast_frames"),
        )

    def _reached(self, name: str) -> tuple[int, int] | None:
        """Return a range of the settings; None, for the default, until the series reaches it."""
        bounds: tuple[int, int] | None = getattr(self._settings, name)
        return bounds if bounds is None or bounds[1] <= self.n_frames else None

    def _denoise(
        self, c2: NDArray[Any], contrast: NDArray[Any], baseline: NDArray[Any]
    ) -> DenoisedTwoTime | None:
        if self._ensemble is None or len(c2[0]) < self._settings.window:
            return None
        return denoise_two_time(
            c2,
            self._ensemble,
            window=self._settings.window,
            step=self._settings.step,
            mode=self._settings.mode,
            contrast=contrast,
            baseline=baseline,
            seed=self._settings.seed,
        )

    def _fit_ripe_ages(self, contrast: NDArray[Any]) -> GammaTable | None:
        """Fit the ages that have LIVE_DELAY frames behind them and were not reported yet.

        Nothing is fitted before the first window is complete. Only the square of C2 around the new
        ages is touched, so that a publication costs the same late in a series as early.
        """
        n = self.n_frames
        first, last = self._next_age, n - LIVE_DELAY
        if n < self._settings.window or last <= first:
            return None
        self._next_age = last
        start = max(0, first - LIVE_DELAY - 1)
        ages = np.arange(first, last) - start
        square = self._two_time.c2[:, start:, start:]
        tables = [
            self._rates.some_ages(
                square,
                ages,
                contrast=contrast,
                source="raw",
                max_lag=2 * LIVE_DELAY,
                offset=start,
            )
        ]
        if self._ensemble is not None:
            tables.append(
                self._rates.some_ages(
                    self._windows.square(self._two_time.c2, start, n),
                    ages,
                    contrast=contrast,
                    source="denoised",
                    max_lag=DENOISED_MAX_LAG,
                    offset=start,
                )
            )
        return GammaTable.concatenate(tables).replace(final=False)

    def _final_table(
        self,
        c2: NDArray[Any],
        denoised: DenoisedTwoTime | None,
        g2: OneTime,
        contrast: NDArray[Any],
    ) -> GammaTable:
        tables = [self._rates.all_ages(c2, contrast=contrast, source="raw")]
        if denoised is not None:
            tables.append(
                self._rates.all_ages(
                    denoised.c2, contrast=contrast, source="denoised", max_lag=DENOISED_MAX_LAG
                )
            )
        return GammaTable.concatenate(tables + self._rates.series(g2, self.n_frames))

    def _status(self, contrast: NDArray[Any], baseline: NDArray[Any]) -> Status:
        n_skipped = sum(stop - start for start, stop in self._skipped)
        return Status(
            n_seen=self.n_frames,
            n_processed=self.n_frames - n_skipped,
            n_skipped=n_skipped,
            skipped=tuple(self._skipped),
            contrast=tuple(float(value) for value in contrast),
            baseline=tuple(float(value) for value in baseline),
            message=" ".join(self._notes(contrast)),
        )

    def _notes(self, contrast: NDArray[Any]) -> list[str]:
        n, window = self.n_frames, self._settings.window
        notes: list[str] = []
        if n < window:
            notes.append(f"{n} frames so far, fewer than one window of {window}: nothing denoised.")
        for name in ("baseline_lags", "contrast_frames"):
            if getattr(self._settings, name) != self._reached(name):
                notes.append(f"{name} lies beyond the {n} frames so far: its default is used.")
        bad = self._rois.labels[~(contrast > 0)]
        if len(bad) and n >= window:
            names = ", ".join(str(label) for label in bad)
            notes.append(f"No contrast in ROI {names}: neither denoised nor fitted.")
        return notes


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


def _one_time(c2: NDArray[Any], denoised: DenoisedTwoTime | None, frame_time_s: float) -> OneTime:
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
