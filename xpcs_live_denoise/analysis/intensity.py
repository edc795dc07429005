"""I(t) of one series: what each ROI counted in each frame, also in frames that are left out."""

from __future__ import annotations

import numpy as np

from xpcs_live_denoise.records.results import Intensity
from xpcs_live_denoise.records.types import BoolArray, FloatArray, IntArray


class FrameIntensity:
    """The mean counts of every ROI in the frames so far; 4 bytes a frame and ROI.

    `n_pixels` (n_roi,) are the good pixels of each ROI.
    """

    def __init__(self, n_pixels: IntArray) -> None:
        self._n_pixels = n_pixels
        self._roi_mean: FloatArray = np.full((64, len(n_pixels)), np.nan, np.float32)
        self._n = 0

    def add(self, sums: FloatArray, unknown: BoolArray) -> None:
        """Add frames by the counts of each ROI, (k, n_roi); `unknown` (k,) or (k, n_roi): NaN."""
        self.skip(len(sums))
        if unknown.ndim == 1:
            unknown = unknown[:, np.newaxis]
        means = np.where(unknown | ~np.isfinite(sums), np.nan, sums / self._n_pixels)
        self._roi_mean[self._n - len(sums) : self._n] = means

    def skip(self, n_frames: int) -> None:
        """Add frames that are missing."""
        self._n += n_frames
        if self._n > len(self._roi_mean):
            longer = np.full((max(self._n, 2 * len(self._roi_mean)), len(self._n_pixels)), np.nan)
            longer = longer.astype(np.float32)
            longer[: len(self._roi_mean)] = self._roi_mean
            self._roi_mean = longer

    def rows(self, start: int, stop: int) -> Intensity:
        """Return those of the frames [start, stop), which were added."""
        roi_mean = self._roi_mean[start:stop].copy()
        total = roi_mean.astype(np.float64) @ self._n_pixels
        return Intensity(start=start, stop=stop, total=total, roi_mean=roi_mean)
