"""The detector as a person wants to see it: the running mean of the frames of a series."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np

from xpcs_live_denoise.config import OrientationSettings
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.mean_image import MeanImage, binned_mean, picked, screen_binning
from xpcs_live_denoise.numerics.radial import radial_mean
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.records.frames import Geometry, SparseFrames
from xpcs_live_denoise.records.results import Picture, Saxs
from xpcs_live_denoise.records.types import Array, BoolArray, FloatArray

PERIOD_S = 1.0  # time between two images
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
    is shown. `keep` (rows, cols) are the pixels of I(q), None for all. `clock` gives seconds that
    only go up.
    """

    def __init__(
        self,
        rois: RoiMap,
        orientation: OrientationSettings | None = None,
        *,
        keep: BoolArray | None = None,
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
        binning = screen_binning(self.rois.shape)
        return self.image(binning=binning, negative_is_data=negative_is_data)

    def image(self, *, binning: int = 1, negative_is_data: bool = False) -> Picture | None:
        """Return the image; None before the first frame. Pixels without a count are NaN.

        `binning`: pixels of the detector along an edge of one of the image. `negative_is_data`:
        whether negative numbers were measured, or mark pixels.
        """
        if not self._mean.n_frames:
            return None
        total, counted = self._mean.sums(negative_is_data=negative_is_data)
        if self._bad is not None:
            total, counted = np.where(self._bad, 0.0, total), np.where(self._bad, 0.0, counted)
        labels = picked(self.rois.label_array, binning)
        mean = binned_mean(total, counted, binning)
        return Picture(
            mean=np.ascontiguousarray(self._turn(mean)),
            labels=np.ascontiguousarray(self._turn(labels), np.int32),
            binning=binning,
            n_frames=self._mean.n_frames,
            saxs=self._saxs(mean, binning),
        )

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
