"""C2 of one series whose pixels are divided by a profile that its own first window tells."""

from __future__ import annotations

import numpy as np

from xpcs_live_denoise.config import Settings
from xpcs_live_denoise.numerics.arrays import LEVEL_LAGS
from xpcs_live_denoise.numerics.estimator.sums import AgeSums
from xpcs_live_denoise.numerics.profile import Profile, fit_profile
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.numerics.static import MeanImages
from xpcs_live_denoise.numerics.two_time import TwoTimeAccumulator
from xpcs_live_denoise.records.results import C2Rows
from xpcs_live_denoise.records.types import Array, FloatArray


class ProfiledTwoTime:
    """C2 so far, and the frames of the first window until the profile is known.

    Frames of the first window enter C2 as they come, so that there is something to look at. When
    it is complete the profile is fitted to them and kept for good; where a ROI has one, C2 is begun
    anew and these frames are the first to be divided by it. No rate is fitted before.

    `flat_field`, the sensitivity of the pixels of `rois`, (n_pixels,), goes before the profile.
    """

    def __init__(
        self,
        rois: RoiMap,
        settings: Settings,
        *,
        n_expected: int | None,
        flat_field: FloatArray | None = None,
    ) -> None:
        self.roi_map = rois
        self._settings = settings
        self._n_expected = n_expected
        # A window is whole before anything is averaged.
        self.map_frames = max(settings.map_frames, settings.window + settings.window % 2)
        self._flat_field = flat_field
        self._two_time = self._empty(flat_field)
        # Pixels of the first window as they came, and numbers of missing frames between them; None
        # once the profile is settled.
        self._first: list[Array | int] | None = [] if settings.profile == "auto" else None
        self._begun_anew = False
        self._frames_per_bin = 1  # of the map that was handed out last
        self.notes: tuple[str, ...] = ()

    def _empty(self, profile: FloatArray | None) -> TwoTimeAccumulator:
        return TwoTimeAccumulator(
            self.roi_map,
            engine=self._settings.engine,
            dtype=self._settings.precision,
            window=max(self._settings.window, LEVEL_LAGS[1]),
            n_frames=self._n_expected,
            map_frames=self.map_frames,
            sums=True,
            age_step=self._settings.least_age_step,
            profile=profile,
        )

    @property
    def engine(self) -> str:
        """The engine that computes C2."""
        return self._two_time.engine

    @property
    def n_frames(self) -> int:
        """Frames in C2, gaps included."""
        return self._two_time.n_frames

    @property
    def most_frames(self) -> int | None:
        """Frames that the engine can take; None: any number."""
        return self.map_frames if self._settings.engine == "skbeam" else None

    @property
    def c2(self) -> FloatArray:
        """C2 so far, (n_roi, n_frames, n_frames), of at most `map_frames`; a read-only view."""
        return self._two_time.c2

    @property
    def map(self) -> tuple[FloatArray, int]:
        """C2 in bins, (n_roi, m, m), and how many frames a bin holds; read-only."""
        return self._two_time.map

    @property
    def band_start(self) -> int:
        """The first frame of which the band is kept."""
        return self._two_time.band_start

    def band_rows(self, start: int, stop: int) -> FloatArray:
        """Return the band of frames [start, stop), (n_roi, stop - start, width); read-only.

        It is as wide as a window, 50 lags at least.
        """
        return self._two_time.band_rows(start, stop)

    def release(self, before: int) -> None:
        """Forget the band of frames before `before`."""
        self._two_time.release(before)

    @property
    def age_sums(self) -> AgeSums:
        """Sums of C2 by age and lag bin."""
        return self._two_time.age_sums

    @property
    def images(self) -> MeanImages | None:
        """Mean images of parts of the series, divided by the profile."""
        return self._two_time.images

    def append_pixels(self, pixels: Array) -> None:
        """Add the ROI pixels of frames, (k, n_pixels); 0 where a frame is left out."""
        room = self._room()
        if room and len(pixels):
            first = pixels[:room]
            self._two_time.append_pixels(first)
            self._keep(first.copy())
        if len(pixels) > room:
            self._two_time.append_pixels(pixels[room:])

    def append_gap(self, n_frames: int) -> None:
        """Add frames that could not be had."""
        first = min(self._room(), n_frames)
        if first:
            self._two_time.append_gap(first)
            self._keep(first)
        if n_frames > first:
            self._two_time.append_gap(n_frames - first)

    def new_rows(self, since: int) -> C2Rows | None:
        """Return the rows of the map from the bin of frame `since` on; None without new frames.

        They are all rows, once, where C2 was begun anew or bins hold more frames than before.
        """
        values, frames_per_bin = self.map
        if frames_per_bin != self._frames_per_bin:
            since, self._frames_per_bin = 0, frames_per_bin
        if since >= self.n_frames:
            return None
        start, stop = since // frames_per_bin, values.shape[-1]
        return C2Rows(
            start=start, stop=stop, values=values[:, start:], frames_per_bin=frames_per_bin
        )

    def unchanged(self, since: int) -> int:
        """Return the first frame that has changed: `since`, or once 0 if C2 was begun anew."""
        begun_anew, self._begun_anew = self._begun_anew, False
        return 0 if begun_anew else since

    def settle(self) -> None:
        """Fit the profile to the frames that are there, if that has not been done."""
        first, self._first = self._first, None
        pixels = [part for part in first or () if not isinstance(part, int)]
        if first is None or not pixels:
            return
        profile = fit_profile(np.concatenate(pixels), self.roi_map, self._flat_field)
        self.notes = tuple(profile_notes(profile, self.roi_map))
        if (profile.n_terms == 1).all():
            return
        self._two_time = self._empty(profile.values)
        self._begun_anew = True
        for part in first:
            if isinstance(part, int):
                self._two_time.append_gap(part)
            else:
                self._two_time.append_pixels(part)

    def _room(self) -> int:
        """Return how many frames the first window still lacks, 0 once the profile is settled."""
        return 0 if self._first is None else self._settings.window - self.n_frames

    def _keep(self, part: Array | int) -> None:
        if self._first is not None:
            self._first.append(part)
        if self.n_frames >= self._settings.window:
            self.settle()


def profile_notes(profile: Profile, rois: RoiMap) -> list[str]:
    """Return what a user should know of a profile, one sentence a fact."""
    notes: list[str] = []
    if profile.too_dim.any():
        names = ", ".join(str(label) for label in rois.labels[profile.too_dim])
        notes.append(
            f"Too few counts in the first window for a profile of ROI {names}: taken as uniform."
        )
    if rois.center is None and (profile.n_terms > 1).any():
        notes.append(
            "No beam center is known: the profiles of the ROIs are polynomials in row and column."
        )
    return notes
