"""Pixels that turn bad while a series runs: in single frames, or from a frame on."""

from __future__ import annotations

import numpy as np

from xpcs_live_denoise.records.types import Array, BoolArray, IntArray

from .bad_pixels import PATIENCE, BadPixels
from .hot_pixels import as_floats, even_out
from .rois import RoiMap

FEW = 0.01  # fraction of a ROI's pixels that may turn bad in a frame that is still used


class LostPixels:
    """Keeps frames whose pixels turn bad in use, without these pixels.

    A pixel that is bad in a frame has the mean of its ROI there, which says nothing. A frame in
    which more than 1 % of a ROI turn bad at once is left out, until the same pixels have been bad
    in five frames one after another (a part of the detector failed): from then on they are lost,
    and the series goes on without them for as long as they stay bad.

    Attributes
    ----------
    since
        Shape (n_pixels,): frame from which on a pixel was lost; -1 for those that never were.
    """

    def __init__(self, bad: BadPixels) -> None:
        n_pixels = len(bad.roi_map.pixels)
        self.since: IntArray = np.full(n_pixels, -1, np.int64)
        self._bad = bad
        self._n_bad = np.zeros(n_pixels, np.int64)  # frames in a row in which it was bad
        self._began = np.zeros(n_pixels, np.int64)  # the first of these

    def repair(self, pixels: Array, n_before: int) -> tuple[Array, BoolArray, BoolArray | None]:
        """Fill pixels that are bad; return the frames, which are broken, and what is lost in them.

        `pixels` (k, n_pixels), without those that are bad for good, are not changed: the same array
        comes back where nothing is bad, else floating point numbers. `n_before` frames came before
        them. A broken frame, (k,), has too many bad pixels to be used. What is lost is
        (k, n_pixels), None where nothing is; a ROI that lost all its pixels has no counts.
        """
        broken = np.zeros(len(pixels), np.bool_)
        found = self._bad.of_frames(pixels)
        if not found:
            if len(pixels):
                self._n_bad[:] = 0
            return pixels, broken, None
        filled = as_floats(pixels)
        lost = np.zeros(pixels.shape, np.bool_)
        for index in range(len(pixels)):
            bad = found.get(index)
            if bad is None:
                self._n_bad[:] = 0
            elif bad.all():  # tells nothing of its pixels
                broken[index] = True
            else:
                lost[index] = self._count(bad, n_before + index)
                broken[index] = self._fill(filled[index], bad, lost[index])
        return filled, broken, lost if lost.any() else None

    def _count(self, bad: BoolArray, frame: int) -> BoolArray:
        """Count a frame in which pixels are bad; return which of them are lost."""
        self._began[bad & (self._n_bad == 0)] = frame
        self._n_bad = np.where(bad, self._n_bad + 1, 0)
        lost = self._n_bad >= PATIENCE
        new = lost & (self.since < 0)
        self.since[new] = self._began[new]
        return lost

    def _fill(self, frame: Array, bad: BoolArray, lost: BoolArray) -> bool:
        """Fill bad pixels in place; True if too many turned bad in a ROI."""
        for one in self._bad.roi_map.slices:
            wrong = bad[one]
            n_new = int((wrong & ~lost[one]).sum())
            if n_new > max(1.0, FEW * wrong.size) or (n_new and wrong.all()):
                return True
            if wrong.any():
                values = frame[one]
                values[wrong] = 0 if wrong.all() else values[~wrong].mean(dtype=np.float64)
        return False


def keep_contrast(pixels: Array, lost: BoolArray, rois: RoiMap) -> Array:
    """Return frames, (k, n_pixels), in which filled pixels take nothing from the contrast.

    `lost` (k, n_pixels) have the mean of their ROI, so that C2 - 1 of two such frames would be that
    of the other pixels times their share. The others are moved away from the mean by its root.
    """
    kept = even_out(pixels, lost, rois)
    for frame in np.flatnonzero(lost.any(axis=1)):
        for one in rois.slices:
            good = ~lost[frame, one]
            if good.any() and not good.all():
                values = kept[frame, one]
                mean = values[good].mean(dtype=np.float64)
                values[good] = mean + (values[good] - mean) / np.sqrt(good.mean())
    return kept
