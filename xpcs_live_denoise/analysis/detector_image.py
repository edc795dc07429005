"""The detector as a person wants to see it: the running mean of the frames of a series."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from xpcs_live_denoise.config import OrientationSettings
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.mean_image import (
    MeanImage,
    binned_mean,
    picked,
    screen_binning,
)
from xpcs_live_denoise.numerics.radial import binned_position, radial_mean
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.records.frames import Geometry, SparseFrames
from xpcs_live_denoise.records.results import Picture, Saxs
from xpcs_live_denoise.records.types import Array, BoolArray, FloatArray

PERIOD_S = 1.0  # time between two images
# A denoised one comes less often, and takes at most this share of the worker's time.
DENOISED_PERIOD_S, DENOISED_SHARE = 5.0, 0.05
LEAST_DENOISED = 16  # pixels along the shorter edge of the small image: networks see no less
# Counts and measured pixels (rows, cols), beam -> expected counts and their error (rows, cols).
Denoise: TypeAlias = Callable[
    [FloatArray, BoolArray, "tuple[float, ...] | None"], tuple[FloatArray, FloatArray]
]
# Share of the RunEngine's time that copies of frames may take, and most of it at once, s.
SHARE, MOST_AT_ONCE_S = 0.01, 0.01
S_PER_BYTE = 3e-10  # of a copy, before one was made
# Copies that wait for the worker; a frame may be larger.
MOST_BYTES = 64 * 2**20


class DetectorImage:
    """The mean of all frames that were read whole, in memory at the detector's full resolution.

    `offer` belongs to the RunEngine's thread, everything else to the worker's. They share the
    copies that were offered, which one lock keeps; no pixel is touched while it is held, so that
    the RunEngine never waits.

    `rois` are in the orientation of the frames; `orientation` is how the image is turned before it
    is shown. `keep` (rows, cols) are the pixels of I(q), None for all. `denoise` says of counts and
    measured pixels, each (rows, cols), and the direct beam what to expect, and its error. `clock`
    gives seconds that only go up.
    """

    def __init__(
        self,
        rois: RoiMap,
        orientation: OrientationSettings | None = None,
        *,
        keep: BoolArray | None = None,
        denoise: Denoise | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rois = rois
        self._turn = (orientation or OrientationSettings()).turn
        self._mean = MeanImage(rois.shape)
        self._keep, self._geometry = keep, Geometry()
        self._bad: BoolArray | None = None
        self._n_shown = 0
        self._lock = threading.Lock()
        self._offered: list[Array] = []
        self._next_image = float("-inf")
        self._denoise, self._next_denoised = denoise, float("-inf")
        self._n_denoised = 0  # frames behind it
        self._denoised: tuple[FloatArray, FloatArray] | None = None  # of the small image
        self._budget = _TimeBudget(clock)

    def locate(self, geometry: Geometry) -> None:
        """Take where the direct beam is, and what else gives ROIs and I(q) their q.

        Raises as `RoiMap.with_q`.
        """
        self.rois, self._geometry = self.rois.with_q(geometry), geometry

    def leave_out(self, bad: BoolArray) -> tuple[str, ...]:
        """Take pixels that the detector's file marks, (rows, cols), out of the ROIs and the image.

        Returns what to say of it.
        """
        subject = "pixel_mask of the detector's file"
        if bad.shape != self.rois.shape:
            return (
                f"{subject}: got shape {bad.shape}, expected {self.rois.shape}, that of the ROIs; "
                "it is not used.",
            )
        n_bad = int(bad.reshape(-1)[self.rois.pixels].sum())
        if n_bad:
            try:
                self.rois = self.rois.with_mask(~bad)
            except InvalidInputError as error:  # one ROI in a gap must not cost the others
                return (f"{subject}: {error} It is not used.",)
        self._bad = bad
        if not n_bad:
            return ()
        return (f"{subject}: {n_bad} pixels of the ROIs are left out.",)

    def offer(self, frames: Array) -> None:
        """Copy as many of the frames (k, rows, cols) as the time allows, spread evenly.

        Frames of another shape are left alone. For the RunEngine's thread, which a copy of a 4M
        frame costs 1 to 3 ms.
        """
        if frames.ndim != 3 or frames.shape[1:] != self.rois.shape or not len(frames):
            return
        with self._lock:
            waiting = sum(copy.nbytes for copy in self._offered)
        frame_bytes = max(1, frames[0].nbytes)
        room = max((MOST_BYTES - waiting) // frame_bytes, int(not waiting))
        start = self._budget.clock()
        n = self._budget.affordable(min(len(frames), room), frame_bytes, start)
        if n <= 0:
            return
        copies = frames[np.arange(n) * len(frames) // n]
        self._budget.spend(self._budget.clock() - start, n)
        with self._lock:
            self._offered.append(copies)

    def add(self, frames: Array | SparseFrames) -> None:
        """Add all frames of a block (k, rows, cols)."""
        if isinstance(frames, SparseFrames):
            self._mean.add_events(frames.pixels, frames.counts, len(frames))
        else:
            self._mean.add(frames)

    def add_offered(self) -> None:
        """Add the frames that were offered since the last time."""
        with self._lock:
            waiting, self._offered = self._offered, []
        for frames in waiting:
            self._mean.add(frames)

    def updated(self, *, negative_is_data: bool = False) -> Picture | None:
        """Return a small image if it changed and the last one is PERIOD_S old, else None."""
        now = self._budget.clock()
        if now < self._next_image or self._mean.n_frames == self._n_shown:
            return None
        self._next_image = now + PERIOD_S
        self._n_shown = self._mean.n_frames
        if self._denoise is not None and now >= self._next_denoised:
            self._denoise_small(negative_is_data=negative_is_data)
            cost_s = self._budget.clock() - now
            self._next_denoised = now + max(DENOISED_PERIOD_S, cost_s / DENOISED_SHARE)
        binning = screen_binning(self.rois.shape)
        return self._picture(binning, negative_is_data=negative_is_data)

    def image(self, *, binning: int = 1, negative_is_data: bool = False) -> Picture | None:
        """Return the image; None before the first frame. Pixels without a count are NaN.

        `binning`: pixels of the detector along an edge of one of the image. `negative_is_data`:
        whether negative numbers were measured, or mark pixels.
        """
        if self._denoise is not None and self._n_denoised != self._mean.n_frames:
            self._denoise_small(negative_is_data=negative_is_data)
        return self._picture(binning, negative_is_data=negative_is_data)

    def _picture(self, binning: int, *, negative_is_data: bool) -> Picture | None:
        """Return the image, beside it the denoised one as it was made last."""
        if not self._mean.n_frames:
            return None
        total, counted = self._mean.sums(negative_is_data=negative_is_data)
        if self._bad is not None:
            total, counted = np.where(self._bad, 0.0, total), np.where(self._bad, 0.0, counted)
        labels = picked(self.rois.label_array, binning)
        mean = binned_mean(total, counted, binning)
        times = screen_binning(self.rois.shape) // binning
        denoised = self._enlarged(times) if times > 1 else self._denoised
        made, error = denoised or (None, None)
        return Picture(
            mean=np.ascontiguousarray(self._turn(mean)),
            labels=np.ascontiguousarray(self._turn(labels), np.int32),
            binning=binning,
            n_frames=self._mean.n_frames,
            saxs=self._with_denoised(self._saxs(mean, binning), denoised, binning),
            denoised=None if made is None else np.ascontiguousarray(self._turn(made)),
            denoised_error=None if error is None else np.ascontiguousarray(self._turn(error)),
        )

    def _denoise_small(self, *, negative_is_data: bool) -> None:
        """Denoise the small image, whose pixels hold the photons of several of the detector's."""
        self._n_denoised = self._mean.n_frames
        small = min(self.rois.shape) // screen_binning(self.rois.shape)
        if self._denoise is None or not self._n_denoised or small < LEAST_DENOISED:
            return
        total, counted = self._mean.sums(negative_is_data=negative_is_data)
        keep = np.ones(self.rois.shape, np.bool_) if self._keep is None else self._keep.copy()
        if self._bad is not None:
            keep &= ~self._bad
        binning, n_frames = screen_binning(self.rois.shape), self._mean.n_frames
        good = keep & (counted == n_frames)
        share = binned_mean(good.astype(np.float64), np.ones(good.shape), binning)
        # Photons of the good pixels; of one with some bad pixels below it those that are missing
        # would be taken for darkness.
        photons = binned_mean(np.where(good, total, 0.0), np.ones(good.shape), binning) * binning**2
        center = self.rois.center
        beam = None if center is None else binned_position(center, binning)
        made, error = self._denoise(np.rint(photons), share == 1, beam)
        unit = n_frames * binning**2
        self._denoised = (
            np.where(share == 1, made / unit, np.nan).astype(np.float32),
            np.where(share == 1, error / unit, np.nan).astype(np.float32),
        )

    def _enlarged(self, times: int) -> tuple[FloatArray, FloatArray] | None:
        """Return the denoised small image with as many pixels as the detector."""
        if self._denoised is None:
            return None
        rows, cols = self.rois.shape
        made, error = (
            np.repeat(np.repeat(one, times, axis=0), times, axis=1)[:rows, :cols]
            for one in self._denoised
        )
        return made, error

    def _with_denoised(
        self, saxs: Saxs | None, denoised: tuple[FloatArray, FloatArray] | None, binning: int
    ) -> Saxs | None:
        """Return I(q) with that of the denoised image beside it."""
        if saxs is None or denoised is None:
            return saxs
        made, error = self._saxs(denoised[0], binning), self._saxs(denoised[1], binning)
        if made is None or error is None or len(made.mean) != len(saxs.mean):
            return saxs
        return dataclasses.replace(saxs, denoised=made.mean, denoised_error=error.mean)

    def _saxs(self, mean: FloatArray, binning: int) -> Saxs | None:
        """Return I(q) of an image in the orientation of the frames."""
        if (center := self.rois.center) is None:
            return None
        if self._keep is not None:
            mean = np.where(picked(self._keep, binning), mean, np.nan)
        return radial_mean(mean, center, self._geometry, binning)


class _TimeBudget:
    """Seconds that may be spent, a share of those that pass, and what a frame costs of them."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._left_s, self._cost_s, self._at = MOST_AT_ONCE_S, 0.0, clock()

    def affordable(self, n: int, frame_bytes: int, now: float) -> int:
        """Return how many of n frames there is time for."""
        self._left_s = min(self._left_s + SHARE * (now - self._at), MOST_AT_ONCE_S)
        self._at = now
        self._cost_s = self._cost_s or S_PER_BYTE * frame_bytes
        full = self._left_s == MOST_AT_ONCE_S  # a large frame must not be the last
        return min(n, max(int(self._left_s / self._cost_s), int(full)))

    def spend(self, seconds: float, n: int) -> None:
        """Take what n frames have cost; one that had to wait for another thread tells little."""
        self._cost_s = min(max(seconds / n, 1e-6), 2 * self._cost_s)
        self._left_s = max(self._left_s - seconds, -n * self._cost_s)
