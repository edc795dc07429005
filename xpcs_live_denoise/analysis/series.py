"""The analysis of one series of frames: pixels in, C2, denoised C2 and Gamma(t) out. No I/O."""

from __future__ import annotations

import dataclasses
import logging
import math

import numpy as np

from xpcs_live_denoise.config import Settings
from xpcs_live_denoise.errors import InvalidInputError, MissingDependencyError
from xpcs_live_denoise.numerics.arrays import merged_ranges
from xpcs_live_denoise.numerics.bad_pixels import BadPixels
from xpcs_live_denoise.numerics.contrast import photon_contrast
from xpcs_live_denoise.numerics.rois import RoiMap, check_pixels
from xpcs_live_denoise.numerics.threads import one_thread
from xpcs_live_denoise.numerics.windows import (
    SPREAD,
    Denoiser,
    RunningBlend,
    denoise_new_windows,
)
from xpcs_live_denoise.records.results import (
    BandRows,
    GammaTable,
    Publication,
    Result,
    RowSource,
)
from xpcs_live_denoise.records.run import Status
from xpcs_live_denoise.records.types import Array, FloatArray

from .c2 import C2Analysis, PhotonContrast
from .profiled import ProfiledTwoTime
from .rates import LIVE_DELAY, defer
from .screening import FrameScreen, Screened

logger = logging.getLogger(__name__)


class Analysis:
    """The state of one series: C2 so far, its windows, and which ages have been reported.

    `n_frames` is the number of frames to come, where known: C2 is then allocated once. Without an
    `ensemble` nothing is denoised. `flat_field` (rows, cols) is what pixels are divided by, above 0
    in the ROIs.
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
    ) -> None:
        self._settings = settings
        self._flat_field = flat_field
        self._given = roi_map
        self._frame_time_s = frame_time_s
        self._ensemble = ensemble
        self._most = most_frames(settings, roi_map)
        self._n_expected = None if n_frames is None else min(n_frames, self._most)
        # ROI pixels of the first window, and numbers of missing frames between them, until what is
        # to be learned from them is; None from then on.
        self._first: list[Array | int] | None = []
        self._n_learned = 0
        self._n_published = 0
        self._begin(BadPixels(roi_map, np.zeros((0, len(roi_map.pixels)), np.uint8)))
        self._blend = RunningBlend(roi_map.n_roi, window=settings.window, step=settings.step)
        self._next_age = 0
        self._n_beyond = 0

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
            most_frames=self._most,
            flat_field=None if flat is None else flat.reshape(-1)[rois.pixels],
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
        """Frames that were pushed: in C2, waiting for the next to be judged, without room."""
        return self.n_frames + self._screen.n_held + self._n_beyond

    @property
    def most_frames(self) -> int:
        """Frames for which there is room."""
        return self._most

    def push(self, frames: Array) -> None:
        """Add frames, shape (k, rows, cols) or (rows, cols); raises as `push_pixels`."""
        self.push_pixels(self._given.gather(frames))

    def push_pixels(self, pixels: Array) -> None:
        """Add frames of which only the pixels of the ROIs are left, shape (k, n_pixels).

        A frame that does not belong to the series becomes a gap; one that looks as if it did not
        waits for the next frame. What the first window tells of its pixels is learned when it is
        complete, and as well as possible before; the series is then begun anew. Raises
        FrameShapeError for pixels that do not fit the ROI map (nothing is added then), and
        InvalidInputError when the first frames leave a ROI without good pixels.
        """
        check_pixels(pixels, len(self._given.pixels))
        room = self._room()
        fitting = pixels[:room]
        if self._first is not None and len(fitting):
            n_first = max(1, self._settings.window - self.n_taken)
            self._first.append(fitting[:n_first].copy())
            self._take_first(fitting[:n_first])
            fitting = fitting[n_first:]
        self._append(self._screen.push(fitting))
        self._n_beyond += max(0, len(pixels) - room)

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
        if not n_frames:
            return
        room = self._room()
        if n_frames > room:
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
        self._two_time.append_gap(n_frames)
        self._gaps.append((start, self.n_frames))

    def _room(self) -> int:
        return 0 if self._n_beyond else self._most - self.n_frames - self._screen.n_held

    def _append(self, screened: Screened) -> None:
        pixels, left_out = screened
        if len(pixels):
            self._two_time.append_pixels(pixels)
            good = pixels[~left_out]
            if self._photon is None and len(good):
                self._photon = photon_contrast(good[:1], self._two_time.roi_map)

    def publish(self, since: int) -> Publication:
        """Return what is new: rows of C2 from frame `since` on, windows and ages that got ripe.

        Windows and ages are handed out once; rows of C2 as often as they are asked for, those of
        the first window anew when its profile is known.
        """
        with one_thread():
            n, c2, of_c2 = self.n_frames, self._two_time.c2, self._of_c2
            # Rows that have been handed out are to be replaced where the series was begun anew.
            since = 0 if self._begun_anew else since
            self._begun_anew = self._begun_anew and n < self._n_published
            self._n_published = max(self._n_published, n)
            scaling = of_c2.scaling(c2)
            changed = n
            if of_c2.ensemble is not None:
                changed = denoise_new_windows(self._blend, c2, of_c2.ensemble, scaling)
            gamma = self._fit_ripe_ages(scaling.contrast)
            rows = self._two_time.new_rows(since)
            changed = min(changed, n if rows is None else rows.start)
            return Publication(
                n_frames=n,
                c2=rows,
                band=self._band(changed, n) if changed < n else None,
                gamma=gamma,
                status=self._complete(of_c2.status(c2, scaling, self._photon)),
            )

    def _band(self, start: int, stop: int) -> BandRows:
        """Return rows of the band as they are now."""
        raw = self._two_time.band_rows(start, stop)
        denoised = spread = None
        if self._blend.n_windows:
            denoised = self._blend.band(raw, start)
            spread = self._blend.band(np.full_like(raw, np.nan), start, SPREAD)
        return BandRows(start=start, stop=stop, c2=raw.copy(), denoised=denoised, spread=spread)

    def finish(self) -> Result:
        """Return the final results; everything that was provisional is computed anew."""
        self._learn_at_last()
        self._append(self._screen.interrupt())
        self._two_time.settle()
        result = self._of_c2.finish(
            self._two_time.c2.copy(),
            self._two_time.age_sums,
            images=self._two_time.images,
            photon=self._photon,
        )
        return dataclasses.replace(result, status=self._complete(result.status))

    def _complete(self, status: Status) -> Status:
        """Add to a status what became of frames that are not in C2, or only as gaps."""
        n, n_beyond = self.n_frames, self._n_beyond
        left_out = self._screen.left_out
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
        no_room = (
            f"There is room for {self._most} frames: {n_beyond} frames from frame {n} on were not "
            "analysed. Raise c2_bytes or history_bytes, or use fewer or smaller ROIs."
        )
        notes = (*self._screen.notes(), *self._two_time.notes)
        return append_note(status, *notes, *([no_room] if n_beyond else []))

    def _fit_ripe_ages(self, contrast: FloatArray) -> GammaTable | None:
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
        raw = rates.some_ages(square, ages, RowSource.RAW, contrast, offset=start)
        two_time = self._two_time
        tables = rates.live(two_time.age_sums, first, last, two_time.images)
        estimates = GammaTable.concatenate(tables)
        self._of_c2.heterogeneity.look(two_time.age_sums, estimates)
        tables = [defer(raw, estimates), estimates]
        if self._of_c2.ensemble is not None:
            denoised = self._blend.over(square, start)
            tables.append(
                rates.some_ages(
                    denoised, ages, RowSource.DENOISED, contrast, offset=start, estimated=estimates
                )
            )
        return GammaTable.concatenate(tables).replace(final=False)


def open_ensemble(settings: Settings) -> tuple[Denoiser | None, str]:
    """Return the ensemble that the settings name, or None and the sentence that says why not."""
    if not settings.denoise:
        return None, "Nothing denoised: the setting `denoise` is false."
    try:
        from xpcs_live_denoise.denoising import load_ensemble

        return load_ensemble(settings.weights), ""
    except MissingDependencyError as error:
        return None, f"Nothing denoised: {error}"
    except InvalidInputError as error:
        logger.warning("Nothing will be denoised: %s", error)  # at once, not at the first run only
        return None, f"Nothing denoised: {error}"


def most_frames(settings: Settings, roi_map: RoiMap) -> int:
    """Return how many frames the settings' limits of memory leave room for, at least one."""
    itemsize = np.dtype(settings.precision).itemsize
    by_c2 = math.isqrt(settings.c2_bytes // (roi_map.n_roi * itemsize))
    by_history = settings.history_bytes // (len(roi_map.pixels) * itemsize)
    return max(1, min(by_c2, by_history))


def append_note(status: Status, *notes: str) -> Status:
    """Return the status with sentences added to its message."""
    return dataclasses.replace(
        status, message=" ".join(part for part in (status.message, *notes) if part)
    )
