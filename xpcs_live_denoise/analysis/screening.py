"""Frames on their way into C2: bad pixels and frames that do not belong are kept out of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np

from xpcs_live_denoise.numerics.arrays import merged_ranges
from xpcs_live_denoise.numerics.outliers import BELONGS, DARK, BadPixels, OutlierDetector
from xpcs_live_denoise.numerics.rois import RoiMap, check_pixels
from xpcs_live_denoise.records.types import Array, BoolArray, FloatArray

BROKEN = "too many bad pixels"
MOST_LISTED = 12


# Frames on which a decision was taken, in their order: their pixels, (k, n_pixels) of the screen's
# ROI map, 0 in frames that are left out; and which are left out, (k,).
Screened: TypeAlias = tuple[Array, BoolArray]


class FrameScreen:
    """Decides about every frame of one series; at most one waits for the next.

    `outliers`: frames that do not belong are left out ("mask") or only listed ("flag"), or nobody
    looks ("off"). Bad pixels are looked for always.
    """

    def __init__(self, roi_map: RoiMap, outliers: Literal["mask", "flag", "off"]) -> None:
        self._given = roi_map
        self._mode = outliers
        self._bad = BadPixels(roi_map)
        self._learned = False
        self._detector: OutlierDetector | None = None
        self._held: Array | None = None  # (1, n_pixels)
        self._n = 0  # frames decided, gaps included
        self._flags: list[tuple[int, str]] = []
        self._dark: list[int] | None = []

    @property
    def roi_map(self) -> RoiMap:
        """The ROIs without the pixels that were bad in the first frame."""
        return self._bad.roi_map

    @property
    def n_held(self) -> int:
        """Frames that wait for the next one: 0 or 1."""
        return 0 if self._held is None else 1

    @property
    def left_out(self) -> list[int]:
        """Frames that were left out of C2, ascending."""
        masked = self._mode == "mask"
        return sorted(index for index, reason in self._flags if masked or reason == BROKEN)

    def push(self, pixels: Array) -> Screened:
        """Take the ROI pixels of new frames, (k, n_pixels) of the map that was given.

        Raises FrameShapeError for pixels that do not fit (nothing is taken then), and
        InvalidInputError when the first frame leaves a ROI without pixels.
        """
        check_pixels(pixels, len(self._given.pixels))
        with np.errstate(over="ignore", invalid="ignore"):  # absurd numbers end as no verdict
            n_unusable = 0 if self._learned else self._learn(pixels)
            kept, broken = self._bad.repair(self._bad.without(pixels))
            broken[:n_unusable] = True
            reasons = self._judge(kept, broken)
        if self._held is not None:
            kept = np.concatenate([self._held, kept])
        n_decided = len(reasons)
        self._held = kept[n_decided:].copy() if n_decided < len(kept) else None
        return self._decided(kept[:n_decided], reasons)

    def interrupt(self, n_missing: int = 0) -> Screened:
        """Decide about the frame that waits: `n_missing` frames come after it that are missing."""
        reasons = [] if self._detector is None else self._detector.interrupt()
        held = self._held
        if held is None:
            held = np.zeros((0, len(self.roi_map.pixels)), np.uint8)
        self._held = None
        screened = self._decided(held, reasons)
        self._n += n_missing
        return screened

    def notes(self) -> list[str]:
        """Return what a user should know, one sentence a fact, a bounded number of them."""
        notes: list[str] = []
        if self._bad.n_bad:
            notes.append(
                f"{self._bad.n_bad} pixels of the ROIs are bad (no number, negative, or the "
                "detector's bad-pixel value) in the first frame: left out of the analysis."
            )
        levels = 0 if self._detector is None else self._detector.new_levels
        if levels:
            notes.append(
                f"The intensity went to a new level {levels} time{'s' * (levels > 1)}; the "
                "frames that showed it were taken for outliers."
            )
        runs = sorted(
            (start, stop, reason)
            for reason in {reason for _, reason in self._flags}
            for start, stop in merged_ranges((n, n + 1) for n, why in self._flags if why == reason)
        )
        listed = [f"{_name(start, stop)}: {reason}" for start, stop, reason in runs[:MOST_LISTED]]
        if listed:
            kept = ", kept as the setting `outliers` says" if self._mode == "flag" else ""
            more = sum(stop - start for start, stop, _ in runs[MOST_LISTED:])
            rest = f"; and {more} more" if more else ""
            what = "Listed as outliers" + kept if kept else "Left out"
            notes.append(f"{what}: {'; '.join(listed)}{rest}.")
        return notes

    # --- the steps -------------------------------------------------------------------------

    def _learn(self, pixels: Array) -> int:
        """Find bad pixels in the first frame that is fit for it; return how many are not."""
        for index, frame in enumerate(pixels):
            if self._bad.learn(frame):
                self._learned = True
                if self._mode != "off":
                    self._detector = OutlierDetector(
                        self.roi_map.n_pixels, counts=pixels.dtype.kind in "ui"
                    )
                return index
        return len(pixels)

    def _judge(self, pixels: Array, broken: BoolArray) -> list[str]:
        """Return a reason for every frame that is decided, BELONGS for those without."""
        if self._detector is None:
            return [BROKEN if one else BELONGS for one in broken]
        sums = _sums(pixels, self.roi_map)
        largest = pixels.max(axis=1)
        reasons: list[str] = []
        for index, frame in enumerate(pixels):
            if broken[index]:
                reasons += [*self._detector.interrupt(), BROKEN]
            else:
                reasons += self._detector.see(frame, sums[index], float(largest[index]))
        return reasons

    def _decided(self, pixels: Array, reasons: Sequence[str]) -> Screened:
        left_out = np.zeros(len(reasons), np.bool_)
        for place, reason in enumerate(reasons):
            index = self._n + place
            if reason == DARK and self._dark is not None:
                self._dark.append(index)
            elif reason:
                self._flags.append((index, reason))
                left_out[place] = self._mode == "mask" or reason == BROKEN
            elif self._dark is not None:
                if self._detector is not None and self._detector.dawn:
                    self._flags += [(dark, DARK) for dark in self._dark]
                self._dark = None
        self._n += len(reasons)
        if left_out.any():
            pixels = pixels.copy()
            pixels[left_out] = 0
        return pixels, left_out


def _sums(pixels: Array, rois: RoiMap) -> FloatArray:
    """Return the sum over each ROI, (k, n_roi)."""
    small = pixels.dtype.kind == "u" and pixels.dtype.itemsize <= 2
    # Three times as fast, where it cannot overflow.
    dtype = np.uint32 if small and rois.n_pixels.max() <= 2**16 else np.float64
    starts = [one.start for one in rois.slices]
    return np.add.reduceat(pixels, starts, axis=1, dtype=dtype).astype(np.float64)


def _name(start: int, stop: int) -> str:
    return f"frame {start}" if stop == start + 1 else f"frames {start}-{stop - 1}"
