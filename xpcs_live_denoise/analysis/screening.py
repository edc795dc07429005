"""Frames on their way into C2: bad pixels and frames that do not belong are kept out of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np

from xpcs_live_denoise.numerics.arrays import merged_ranges
from xpcs_live_denoise.numerics.bad_pixels import BadPixels
from xpcs_live_denoise.numerics.hot_pixels import HotPixels, even_out, roi_sums
from xpcs_live_denoise.numerics.lost_pixels import LostPixels, keep_contrast
from xpcs_live_denoise.numerics.outliers import BELONGS, DARK, OutlierDetector
from xpcs_live_denoise.numerics.rois import RoiMap, check_pixels
from xpcs_live_denoise.records.types import Array, BoolArray, FloatArray

from .intensity import FrameIntensity

BROKEN = "too many bad pixels"
MOST_LISTED = 12


# Frames on which a decision was taken, in their order: their pixels, (k, n_pixels) of the screen's
# ROI map, 0 in frames that are left out; and which are left out, (k,).
Screened: TypeAlias = tuple[Array, BoolArray]


class FrameScreen:
    """Decides about every frame of one series; at most one waits for the next.

    `intensity` knows all of them, also the one that waits.

    `bad` are the pixels that are bad, as the first frames tell them. `outliers`: frames that do not
    belong are left out ("mask") or only listed ("flag"), or nobody looks ("off"). Bad pixels are
    looked for always.
    """

    def __init__(self, bad: BadPixels, outliers: Literal["mask", "flag", "off"]) -> None:
        self.bad = bad
        self._mode = outliers
        self.intensity = FrameIntensity(bad.roi_map.n_pixels)
        self._hot: HotPixels | None = None
        self._lost = LostPixels(bad)
        self._detector: OutlierDetector | None = None
        if outliers != "off":
            self._detector = OutlierDetector(self.roi_map.n_pixels, counts=bad.counts)
        self._held: Array | None = None  # (1, n_pixels)
        self._n = 0  # frames decided, gaps included
        self._flags: list[tuple[int, str]] = []
        self._dark: list[int] | None = []

    @property
    def roi_map(self) -> RoiMap:
        """The ROIs without the pixels that are bad for good."""
        return self.bad.roi_map

    @property
    def n_held(self) -> int:
        """Frames that wait for the next one: 0 or 1."""
        return 0 if self._held is None else 1

    @property
    def left_out(self) -> list[int]:
        """Frames that were left out of C2, ascending."""
        masked = self._mode == "mask"
        return sorted(index for index, reason in self._flags if masked or reason == BROKEN)

    def watch(self, first: Array) -> None:
        """Look for pixels that get hot from now on; `first` are frames of before, as for `push`."""
        repaired, broken, _ = LostPixels(self.bad).repair(self.bad.without(first), 0)
        self._hot = HotPixels(self.roi_map, repaired[~broken], counts=self.bad.counts)

    def push(self, pixels: Array) -> Screened:
        """Take the ROI pixels of new frames, (k, n_pixels) of the map that was given.

        Raises FrameShapeError for pixels that do not fit; nothing is taken then.
        """
        check_pixels(pixels, len(self.bad.given.pixels))
        parts: list[Screened] = []
        with np.errstate(over="ignore", invalid="ignore"):  # absurd numbers end as no verdict
            kept = self.bad.without(pixels)
            while len(kept) or not parts:
                n = len(kept)
                if self._hot is not None:  # a pixel that is found is covered from the next frame on
                    n = max(1, self._hot.n_until_look - self.n_held)
                parts.append(self._take(kept[:n]))
                kept = kept[n:]
        if len(parts) == 1:
            return parts[0]
        return (
            np.concatenate([part[0] for part in parts]),
            np.concatenate([part[1] for part in parts]),
        )

    def interrupt(self, n_missing: int = 0) -> Screened:
        """Decide about the frame that waits: `n_missing` frames come after it that are missing."""
        reasons = [] if self._detector is None else self._detector.interrupt()
        held = self._held
        if held is None:
            held = np.zeros((0, len(self.roi_map.pixels)), np.uint8)
        self._held = None
        screened = self._decided(held, reasons)
        self._n += n_missing
        self.intensity.skip(n_missing)
        return screened

    def notes(self) -> list[str]:
        """Return what a user should know, one sentence a fact, a bounded number of them."""
        notes: list[str] = []
        if self.bad.n_bad:
            named = ""
            if self.bad.n_bad <= MOST_LISTED:
                named = f": {_listed([self._place(pixel) for pixel in self.bad.silent])}"
            notes.append(
                f"{self.bad.n_bad} pixels of the ROIs are bad (no number, negative, always the "
                "same, or the detector's bad-pixel value) in the first frames: left out of the "
                f"analysis{named}."
            )
        if len(self.bad.hot):
            notes.append(
                "Hot pixels, or dead ones, which are far from all others in the first frames, are "
                f"left out: {_listed([self._place(pixel) for pixel in self.bad.hot])}."
            )
        if self._hot is not None and self._hot.since:
            since = [
                f"{self._place(self.roi_map.pixels[pixel])} from frame {frame} on"
                for pixel, frame in self._hot.since.items()
            ]
            notes.append(f"Pixels that turned hot are left out: {_listed(since)}.")
        notes += self._lost_notes()
        if self.bad.negative_is_data:
            notes.append(
                "Negative numbers come and go in the frames: taken as data (a dark image was "
                "subtracted). The contrast is not estimated from photon statistics then."
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

    def _lost_notes(self) -> list[str]:
        """Name the pixels that were lost midway, or count them where they are many."""
        rois, since = self.roi_map, self._lost.since
        parts: list[str] = []
        for frame in np.unique(since[since >= 0]):
            new = np.flatnonzero(since == frame)
            if len(new) <= MOST_LISTED:
                named = ", ".join(self._place(pixel) for pixel in rois.pixels[new])
            else:
                ends = np.cumsum(rois.n_pixels)
                which, counts = np.unique(
                    np.searchsorted(ends, new, side="right"), return_counts=True
                )
                named = ", ".join(
                    f"{n} pixels of ROI {rois.labels[roi]}"
                    for roi, n in zip(which[:MOST_LISTED], counts, strict=False)
                )
                if len(which) > MOST_LISTED:
                    named += f" and {counts[MOST_LISTED:].sum()} pixels of other ROIs"
            parts.append(f"{named} from frame {frame} on")
        if not parts:
            return []
        return [
            "Pixels that turned bad (no number, negative, or the detector's bad-pixel value) are "
            f"left out while they are so: {_listed(parts)}."
        ]

    def _place(self, pixel: int) -> str:
        """Return the name of a pixel, a flat index into a frame as documents deliver it."""
        row, col = divmod(int(pixel), self.bad.given.shape[1])
        label = self.bad.given.labels[
            np.searchsorted(
                np.cumsum(self.bad.given.n_pixels),
                np.flatnonzero(self.bad.given.pixels == pixel)[0],
                side="right",
            )
        ]
        return f"(row {row}, column {col}) in ROI {label}"

    # --- the steps -------------------------------------------------------------------------

    def _take(self, kept: Array) -> Screened:
        """Judge frames without the pixels that are bad for good, up to the next look at sums."""
        kept, broken, lost = self._lost.repair(kept, self._n + self.n_held)
        bright = None
        if self._hot is not None:
            kept, bright = self._hot.cover(kept, self._n + self.n_held)
        sums = roi_sums(kept, self.roi_map)
        reasons = self._judge(kept, sums, broken)
        if bright is not None:
            kept = even_out(kept, bright, self.roi_map)
            sums = roi_sums(kept, self.roi_map)
        unknown = broken
        if lost is not None:
            starts = [one.start for one in self.roi_map.slices]
            unknown = broken[:, np.newaxis] | np.logical_and.reduceat(lost, starts, axis=1)
        self.intensity.add(sums, unknown)
        if lost is not None:
            kept = keep_contrast(kept, lost, self.roi_map)
        if self._held is not None:
            kept = np.concatenate([self._held, kept])
        n_decided = len(reasons)
        self._held = kept[n_decided:].copy() if n_decided < len(kept) else None
        return self._decided(kept[:n_decided], reasons)

    def _judge(self, pixels: Array, sums: FloatArray, broken: BoolArray) -> list[str]:
        """Return a reason for every frame that is decided, BELONGS for those without."""
        if self._detector is None:
            return [BROKEN if one else BELONGS for one in broken]
        largest = pixels.max(axis=1)
        noise = np.zeros(len(pixels))
        if self.bad.negative_is_data:
            noise = pixels.std(axis=1, dtype=np.float64) * np.sqrt(pixels.shape[1])
        reasons: list[str] = []
        for index, frame in enumerate(pixels):
            if broken[index]:
                reasons += [*self._detector.interrupt(), BROKEN]
            else:
                reasons += self._detector.see(
                    frame, sums[index], float(largest[index]), float(noise[index])
                )
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
        lit = ~left_out & np.array([reason != DARK for reason in reasons], np.bool_)
        if self._hot is not None:
            self._hot.add(pixels if lit.all() else pixels[lit], self._n + self.n_held)
        if left_out.any():
            pixels = pixels.copy()
            pixels[left_out] = 0
        return pixels, left_out


def _listed(what: Sequence[str]) -> str:
    more = len(what) - MOST_LISTED
    return "; ".join(what[:MOST_LISTED]) + (f"; and {more} more" if more > 0 else "")


def _name(start: int, stop: int) -> str:
    return f"frame {start}" if stop == start + 1 else f"frames {start}-{stop - 1}"
