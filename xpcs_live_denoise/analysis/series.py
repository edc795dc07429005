"""The analysis of one series of frames: pixels in, C2, denoised C2 and Gamma(t) out. No I/O."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import logging
from collections.abc import Callable

import numpy as np

from xpcs_live_denoise.config import Settings
from xpcs_live_denoise.errors import InvalidInputError, MissingDependencyError
from xpcs_live_denoise.numerics.arrays import merged_ranges
from xpcs_live_denoise.numerics.bad_pixels import BadPixels
from xpcs_live_denoise.numerics.contrast import photon_contrast
from xpcs_live_denoise.numerics.g2 import NOISE_REACH
from xpcs_live_denoise.numerics.gathering import gather
from xpcs_live_denoise.numerics.rois import RoiMap, check_pixels
from xpcs_live_denoise.numerics.threads import one_thread, spread
from xpcs_live_denoise.numerics.windows import Denoiser, WindowScaling
from xpcs_live_denoise.records.results import (
    GammaTable,
    Publication,
    Result,
    RowSource,
)
from xpcs_live_denoise.records.run import Status
from xpcs_live_denoise.records.types import Array, FloatArray

from .c2 import C2Analysis, PhotonContrast, copied
from .detector_image import Denoise
from .growing_band import BandWriter, GrowingBand
from .long_series import finish_long
from .profiled import ProfiledTwoTime
from .rates import (
    LIVE_DELAY,
    Turns,
    defer,
    one_time,
    one_time_of_sums,
)
from .screening import FrameScreen, Screened

logger = logging.getLogger(__name__)

_LIBRARIES = (
    "xpcs-live-denoise",
    "numpy",
    "scikit-beam",
    "bluesky",
    "event-model",
    "tiled",
    "torch",
)
NO_MEMORY = (
    "The memory of a publication was refused: what it lacks comes with the next one, or with the "
    "result. Use fewer or smaller ROIs, or a machine with more memory."
)
# Missing frames in a row beyond which nobody measures any more: the number must be wrong.
LONGEST_GAP = 100_000


class Analysis:
    """The state of one series: C2 so far, its band, and which ages have been reported.

    `n_frames` is the number of frames to come, where known: a hint. Without an `ensemble` nothing
    is denoised. `flat_field` (rows, cols) is what pixels are divided by, above 0 in the ROIs.

    A series has any number of frames. Memory and cost a frame do not grow beyond `map_frames`, if
    it is published again and again, or, `is_published` False, not at all; `band_writer` then takes
    what no longer changes.
    """

    def __init__(
        self,
        settings: Settings,
        roi_map: RoiMap,
        *,
        frame_time_s: float,
        n_frames: int | None = None,
        ensemble: Denoiser | None = None,
        flat_field: FloatArray | None = None,
        is_published: bool = True,
        band_writer: BandWriter | None = None,
    ) -> None:
        self._settings = settings
        self._flat_field = flat_field
        self._given = roi_map
        self._frame_time_s = frame_time_s
        self._ensemble = ensemble
        self._n_expected = n_frames
        self._is_published, self._band_writer = is_published, band_writer
        # ROI pixels of the first window, and numbers of missing frames between them, until what is
        # to be learned from them is; None from then on.
        self._first: list[Array | int] | None = []
        self._n_learned = 0
        self._n_published = 0
        self._begin(BadPixels(roi_map, np.zeros((0, len(roi_map.pixels)), np.uint8)))
        self._turns = Turns(roi_map.n_roi)
        self._n_beyond = 0  # frames after the last one that could be analysed
        self._why_beyond = ""

    def _begin(self, bad: BadPixels) -> None:
        """Begin the series without the pixels that are bad."""
        self._screen = FrameScreen(bad, self._settings.outliers)
        self._gaps: list[tuple[int, int]] = []
        self._begun_anew = True
        rois = self._screen.roi_map
        settings = self._settings
        self._of_c2 = C2Analysis(
            settings, rois, frame_time_s=self._frame_time_s, ensemble=self._ensemble
        )
        self._photon: PhotonContrast | None = None
        flat = self._flat_field
        self._two_time = ProfiledTwoTime(
            rois,
            settings,
            n_expected=self._n_expected,
            flat_field=None if flat is None else flat.reshape(-1)[rois.pixels],
        )
        self._band = GrowingBand(
            self._two_time,
            self._of_c2,
            writer=self._band_writer,
            is_published=self._is_published,
        )

    @property
    def engine(self) -> str:
        """The engine that computes C2."""
        return self._two_time.engine

    @property
    def negative_is_data(self) -> bool:
        """Whether negative numbers are measured, as far as the frames tell."""
        return self._screen.bad.negative_is_data

    @property
    def n_frames(self) -> int:
        """Frames in C2, gaps included."""
        return self._two_time.n_frames

    @property
    def n_taken(self) -> int:
        """Frames that were pushed: in C2, waiting for the next to be judged, not analysed."""
        return self.n_frames + self._screen.n_held + self._n_beyond

    def push(self, frames: Array) -> None:
        """Add frames, shape (k, rows, cols) or (rows, cols); raises as `push_pixels`."""
        self.push_pixels(gather(self._given, frames))

    def push_pixels(self, pixels: Array) -> None:
        """Add frames of which only the pixels of the ROIs are left, shape (k, n_pixels).

        A frame that does not belong to the series becomes a gap; one that looks as if it did not
        waits for the next frame. What the first window tells of its pixels is learned when it is
        complete, and as well as possible before; the series is then begun anew. Raises
        FrameShapeError for pixels that do not fit the ROI map (nothing is added then), and
        InvalidInputError when the first frames leave a ROI without good pixels.
        """
        check_pixels(pixels, len(self._given.pixels))
        if self._why_beyond:
            self._n_beyond += len(pixels)
            return
        if self._first is not None and len(pixels):
            n_first = max(1, self._settings.window - self.n_taken)
            self._first.append(pixels[:n_first].copy())
            self._take_first(pixels[:n_first])
            pixels = pixels[n_first:]
        self._append(self._screen.push(pixels))

    def _take_first(self, pixels: Array) -> None:
        """Add frames of the first window, which are kept already."""
        is_last = self.n_taken + len(pixels) >= self._settings.window
        n = sum(len(part) for part in self._first or () if not isinstance(part, int))
        # Learning from what there is so far, while the window grows, must cost little.
        if not (is_last or n >= 2 * self._n_learned) or not self._learn(settled=is_last):
            self._append(self._screen.push(pixels))
        if is_last:
            self._settle()

    def _learn(self, *, settled: bool) -> bool:
        """Learn from the first frames so far; True if the series was begun anew with all of them.

        `settled`: they are all that there is to learn from.
        """
        frames = self._first_frames()
        self._n_learned = len(frames)
        bad = BadPixels(self._given, frames, settled=settled)
        if bad.like(self._screen.bad):
            return False
        self._begin(bad)
        for part in self._first or ():
            if isinstance(part, int):
                self._append_gap(part)
            else:
                self._append(self._screen.push(part))
        return True

    def _settle(self) -> None:
        """Take what the first frames told for good."""
        if len(frames := self._first_frames()):
            self._screen.watch(frames)
            self._first = None

    def _learn_at_last(self) -> None:
        """Learn from a first window that ends with missing frames, or with the series."""
        if len(self._first_frames()):
            self._learn(settled=True)
        self._settle()

    def _first_frames(self) -> Array:
        parts = [part for part in self._first or () if not isinstance(part, int)]
        return np.concatenate(parts) if parts else np.zeros((0, len(self._given.pixels)), np.uint8)

    def push_gap(self, n_frames: int) -> None:
        """Add frames that could not be had: rows and columns of NaN."""
        if n_frames > LONGEST_GAP and not self._why_beyond:
            self._append(self._screen.interrupt())
            self._learn_at_last()
            self._why_beyond = f"{n_frames} frames in a row are missing, more than any series lacks"
        if self._why_beyond or not n_frames:
            self._n_beyond += n_frames
            return
        if self._first is not None:
            self._first.append(n_frames)
        self._append_gap(n_frames)
        if self.n_taken >= self._settings.window:
            self._learn_at_last()

    def _append_gap(self, n_frames: int) -> None:
        self._append(self._screen.interrupt(n_frames))
        start = self.n_frames
        self._extend(n_frames, lambda first, stop: self._two_time.append_gap(stop - first))
        self._gaps.append((start, self.n_frames))

    def _append(self, screened: Screened) -> None:
        pixels, left_out = screened
        self._extend(
            len(pixels), lambda first, stop: self._two_time.append_pixels(pixels[first:stop])
        )
        if self._photon is None and not left_out.all():
            self._photon = photon_contrast(pixels[~left_out][:1], self._two_time.roi_map)

    def _extend(self, n_new: int, append: Callable[[int, int], None]) -> None:
        """Append new frames, frames [first, stop) of them at a time, and keep the rest up to date.

        How they are split has no influence: what is frozen or final is so at the same frame.
        """
        begun, stop = self.n_frames, self.n_frames + n_new
        if self._why_beyond:
            self._n_beyond += n_new
            return
        try:
            while (n := self.n_frames) < stop:
                room = self._band.until_due
                if room > 0:
                    due = self._of_c2.rates.due(n)
                    append(n - begun, min(n + min(room, due), stop) - begun)
                    if self.n_frames == n + due:
                        with one_thread():
                            self._of_c2.rates.advance(self._two_time.age_sums)
                elif self._two_time.most_frames is None:
                    with one_thread():
                        self._band.keep_up()
                else:
                    self._why_beyond = (
                        f"engine '{self.engine}' takes {n} frames, as `map_frames` says; "
                        "engine 'dense' takes any number"
                    )
                    break
        except MemoryError:
            self._why_beyond = (
                "the memory that they need was refused; use fewer or smaller ROIs, or a machine "
                "with more"
            )
        self._n_beyond += stop - self.n_frames

    def publish(self, since: int) -> Publication:
        """Return what is new: rows of C2 from frame `since` on, windows and ages that got ripe.

        Windows and ages are handed out once; rows of C2 as often as they are asked for, those of
        the first window anew when its profile is known. Where memory is refused, nothing is new but
        the status: what is lacking comes with the next publication, or with the result.
        """
        try:
            with one_thread():
                return self._published(since)
        except MemoryError:
            status = append_note(self._complete(Status()), NO_MEMORY)
            return Publication(n_frames=since, c2=None, band=None, gamma=None, status=status)

    def _published(self, since: int) -> Publication:
        n, two_time = self.n_frames, self._two_time
        # Rows that have been handed out are to be replaced where the series was begun anew.
        since = 0 if self._begun_anew else min(since, n)
        intensity = self._screen.intensity.rows(since, n)
        since = two_time.unchanged(since)
        scaling = self._band.advance()
        status, c2 = self._status(scaling), two_time.new_rows(since)
        gamma = self._fit_ripe_ages(scaling.contrast)  # ages are handed out once: near the end
        rows = self._band.take(since)
        self._begun_anew = self._begun_anew and n < self._n_published
        self._n_published = max(self._n_published, n)
        self._band.release(self._turns.oldest - NOISE_REACH)
        return Publication(
            n_frames=n,
            c2=c2,
            band=rows,
            gamma=gamma,
            status=status,
            intensity=intensity if n > intensity.start else None,
        )

    def _status(self, scaling: WindowScaling) -> Status:
        """Return where the series stands."""
        paper, photon, time = self._band.paper, self._photon, self._frame_time_s
        if paper is None:
            g2 = one_time(self._two_time.c2, None, time, max_lag=1)
            status = self._of_c2.status(self.n_frames, scaling, g2, photon)
        else:
            g2 = one_time_of_sums(self._two_time.age_sums, time)
            status = self._of_c2.status(self.n_frames, scaling, g2, photon, n_scaled=paper.n_scaled)
        return self._complete(status)

    def finish(self) -> Result:
        """Return the final results; everything that was provisional is computed anew."""
        self._learn_at_last()
        self._append(self._screen.interrupt())
        two_time, of_c2, paper = self._two_time, self._of_c2, self._band.paper
        two_time.settle()
        if paper is not None:
            result = finish_long(of_c2, two_time, self._band, paper, self._photon)
        else:
            sums, images = two_time.age_sums, two_time.images
            result = of_c2.finish(copied(two_time.c2), sums, images=images, photon=self._photon)
            if self._band_writer is not None:
                self._band_writer.write(result.band)
        return dataclasses.replace(
            result,
            status=self._complete(result.status),
            intensity=self._screen.intensity.rows(0, self.n_frames),
        )

    def _complete(self, status: Status) -> Status:
        """Add to a status what became of frames that are not in C2, or only as gaps."""
        n, n_beyond = self.n_frames, self._n_beyond
        left_out = [index for index in self._screen.left_out if index < n]
        ranges = [*self._gaps, *((index, index + 1) for index in left_out)]
        skipped = merged_ranges([*ranges, (n, n + n_beyond)] if n_beyond else ranges)
        n_skipped = sum(stop - start for start, stop in skipped)
        n_processed = n + n_beyond - n_skipped
        status = dataclasses.replace(
            status,
            # Of gaps alone C2 has no contrast and no window: nobody needs to hear that.
            message=status.message if n_processed else "",
            n_seen=n + n_beyond,
            n_processed=n_processed,
            n_skipped=n_skipped,
            n_masked=len(left_out),
            skipped=skipped,
        )
        beyond = (
            f"{n_beyond} frames from frame {n} on were not analysed: {self._why_beyond}. What was "
            "measured before stands."
        )
        notes = (*self._screen.notes(), *self._two_time.notes)
        return append_note(status, *notes, *([beyond] if n_beyond else []))

    def _fit_ripe_ages(self, contrast: FloatArray) -> GammaTable | None:
        """Fit the ages that have LIVE_DELAY frames behind them and were not reported yet.

        Nothing is fitted before the first window is complete. Where many ages are new at once, the
        paper's fits are spread evenly over them, and many ROIs take turns: a publication costs the
        same whenever it comes.
        """
        n, two_time, rates = self.n_frames, self._two_time, self._of_c2.rates
        if n < self._settings.window:
            return None
        sums = two_time.age_sums
        step = sums.row_frames  # ages that share a row; the row must be complete
        row, stop = -(-self._turns.oldest // step), (n - LIVE_DELAY + 1) // step
        if stop <= row:
            return None
        first, last, rois = row * step, stop * step, self._turns.rois
        ages = rates.ripe_rows(sums, first, last) * step
        start = max(two_time.band_start, first - NOISE_REACH)
        bands = {RowSource.RAW: two_time.band_rows(start, n)}
        if (denoised := self._band.rows(start, n).denoised) is not None:
            bands[RowSource.DENOISED] = denoised

        def fit(source: RowSource | None) -> GammaTable:
            if source is None:
                tables = rates.live(sums, first, last, two_time.images, rois)
                estimates = GammaTable.concatenate(tables)
                self._of_c2.heterogeneity.look(sums, estimates, rois)
                return estimates
            return rates.band_ages(bands[source], start, ages, source, contrast, rois=rois)

        estimates, raw, *others = spread(fit, [None, *bands])  # the estimator takes longest
        tables = [defer(raw, estimates, step), estimates]
        tables += [rates.judged(other, estimates) for other in others]
        found = GammaTable.concatenate(tables).replace(final=False)
        self._turns.told(rois, last)
        return found


def open_ensemble(settings: Settings) -> tuple[Denoiser | None, str]:
    """Return the ensemble that the settings name, or None and the sentence that says why not."""
    if not settings.denoise:
        return None, "Nothing denoised: the setting `denoise` is false."
    try:
        from xpcs_live_denoise.denoising import load_ensemble

        return load_ensemble(settings.weights, denoiser=settings.denoiser), ""
    except MissingDependencyError as error:
        return None, f"Nothing denoised: {error}"
    except InvalidInputError as error:
        logger.warning("Nothing will be denoised: %s", error)  # at once, not at the first run only
        return None, f"Nothing denoised: {error}"


def open_picture_denoiser(settings: Settings) -> tuple[Denoise | None, str]:
    """Return what denoises the detector's image where the settings want it, and why not else."""
    if not settings.denoise_image:
        return None, ""
    try:
        from xpcs_live_denoise.denoising import picture_denoiser

        return picture_denoiser(), ""
    except (MissingDependencyError, InvalidInputError) as error:
        return None, f"The image is not denoised: {error}"


def append_note(status: Status, *notes: str) -> Status:
    """Return the status with sentences added to its message."""
    return dataclasses.replace(
        status, message=" ".join(part for part in (status.message, *notes) if part)
    )


@functools.cache
def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that a result depends on, by name."""
    found: dict[str, str] = {}
    for library in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[library] = importlib.metadata.version(library)
    return found
