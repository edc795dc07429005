"""Pixels that measure nothing: NaN, negative counts, the value by which a detector says so."""

from __future__ import annotations

import numpy as np

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.records.types import Array, BoolArray

FEW = 0.01
"""Fraction of a ROI's pixels that may turn bad in a frame that is still used."""

MOST_BAD = 0.5
"""A frame with more bad pixels does not tell which of them are bad for good, unless all do so."""

PATIENCE = 5
"""Frames with more bad pixels before one is believed."""

FEWEST_LEFT = 2
"""Pixels that a ROI needs."""

_SIXTEEN_BIT = 65535
_NEGATIVE_IS_DATA = 0.1


class BadPixels:
    """Which pixels of a series are bad: for good, or in single frames. Learns from one frame.

    A pixel is bad where it is NaN or infinite, negative, or the largest number of its integer
    dtype, which DECTRIS and others write for masked and saturated pixels. In integers wider than
    16 bits, 65535 is bad in the frame it learns from: 16-bit frames that were converted. Negative
    floating point numbers are data where more than a tenth of the pixels is negative (a background
    was subtracted).

    Parameters
    ----------
    roi_map
        The ROIs.
    """

    def __init__(self, roi_map: RoiMap) -> None:
        self.roi_map = roi_map
        """The ROIs, without the pixels that are bad for good once `learn` has seen a frame."""
        self.n_bad = 0
        self._keep: BoolArray | None = None
        self._negative_is_data = False
        self._n_refused = 0

    def learn(self, frame: Array) -> bool:
        """Take the first frame, (n_pixels,); False if it is too bad to learn from.

        A frame with more than half of its pixels bad is taken if five of the kind came before.
        Raises InvalidInputError when a ROI is left with fewer than two pixels.
        """
        if frame.dtype.kind == "f":
            self._negative_is_data = bool((frame < 0).mean() > _NEGATIVE_IS_DATA)
        bad = self._bad(frame)
        if frame.dtype.kind in "ui" and frame.dtype.itemsize > 2:
            bad |= frame == _SIXTEEN_BIT
        if bad.mean() > MOST_BAD:
            self._n_refused += 1
            if self._n_refused <= PATIENCE or bad.all():
                return False
        if bad.any():
            self._leave_out(bad)
        return True

    def without(self, pixels: Array) -> Array:
        """Return pixels (k, n_pixels) without those that are bad for good."""
        return pixels if self._keep is None else pixels[:, self._keep]

    def repair(self, pixels: Array) -> tuple[Array, BoolArray]:
        """Give the few pixels that are bad in a frame their ROI's mean, which says nothing.

        `pixels` (k, n_pixels), as `without` returns them, are not changed: the same array comes
        back where nothing is bad, else floating point numbers; beside it which frames have too many
        bad pixels, (k,).
        """
        broken = np.zeros(len(pixels), np.bool_)
        repaired = pixels
        for index in np.flatnonzero(self._suspicious(pixels)):
            bad = self._bad(pixels[index])
            if not bad.any():
                continue
            if repaired is pixels:
                repaired = pixels.astype(np.result_type(pixels.dtype, np.float32))
            broken[index] = not self._fill(repaired[index], bad)
        return repaired, broken

    def _leave_out(self, bad: BoolArray) -> None:
        rois = self.roi_map
        left = np.add.reduceat(~bad, [one.start for one in rois.slices], dtype=np.int64)
        if (left < np.minimum(FEWEST_LEFT, rois.n_pixels)).any():
            few = int(np.argmin(left))
            raise InvalidInputError(
                f"ROI {rois.labels[few]}: got {left[few]} good pixels of {rois.n_pixels[few]} in "
                f"the first frame, expected at least {FEWEST_LEFT} that are neither NaN nor "
                "negative nor the detector's bad-pixel value. Take the ROI out of the ROI file, "
                "or correct ROIs, mask and orientation."
            )
        mask = np.ones(rois.shape, np.bool_)
        mask.ravel()[rois.pixels[bad]] = False
        self.roi_map = rois.with_mask(mask)
        self._keep = ~bad
        self.n_bad = int(bad.sum())

    def _suspicious(self, pixels: Array) -> BoolArray:
        """Return which frames may have bad pixels, (k,); cheap."""
        if not pixels.size:
            return np.zeros(len(pixels), np.bool_)
        highest = pixels.max(axis=1)
        if pixels.dtype.kind == "u":
            return highest == np.iinfo(pixels.dtype).max
        lowest = pixels.min(axis=1)
        if pixels.dtype.kind == "i":
            return (highest == np.iinfo(pixels.dtype).max) | (lowest < 0)
        odd = ~(np.isfinite(highest) & np.isfinite(lowest))
        return odd if self._negative_is_data else odd | (lowest < 0)

    def _bad(self, values: Array) -> BoolArray:
        if values.dtype.kind in "ui":
            return (values < 0) | (values == np.iinfo(values.dtype).max)
        bad = ~np.isfinite(values)
        return bad if self._negative_is_data else bad | (values < 0)

    def _fill(self, frame: Array, bad: BoolArray) -> bool:
        """Fill bad pixels in place; False if a ROI has too many of them."""
        for one in self.roi_map.slices:
            wrong = bad[one]
            n_bad = int(wrong.sum())
            if n_bad > max(1.0, FEW * wrong.size) or n_bad == wrong.size:
                return False
            if n_bad:
                values = frame[one]
                values[wrong] = values[~wrong].mean(dtype=np.float64)
        return True
