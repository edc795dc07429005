"""Which pixels of a series measure nothing, told by what they do over its frames."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.records.types import Array, BoolArray, IntArray

from .hot_pixels import BLOCKS, far_from_others
from .rois import RoiMap

# Depths of detectors, bits: of each the two largest numbers, 2^n - 1 and 2^n - 2, mark pixels.
DEPTHS = (8, 10, 12, 14, 16, 20, 24, 32)
_MARKS = np.unique([2**n - less for n in DEPTHS for less in (1, 2)])
_FLOAT_MARKS = np.append(_MARKS, 2**32).astype(np.float64)  # 2^32 - 1 and - 2 in single precision
# A mark of another depth than the dtype's stands so many times above all other pixels.
ALONE = 4
# A frame with more bad pixels does not tell which of them are bad for good, unless all do so.
MOST_BAD = 0.5
PATIENCE = 5  # frames with more bad pixels before they are believed
FEW_RUNS = 100  # of good pixels side by side: quicker to copy than single pixels
FEWEST_LEFT = 2  # pixels that a ROI needs
OFTEN = 1 / 3  # fraction of the frames in which a pixel is bad that is bad for good
_BY_CHANCE = 0.01  # pixels that may be called constant by chance
_CHANGING = 0.01  # fraction of the pixels whose negative numbers come and go: they are data
_MARKERS = 2  # negative numbers that mark pixels: -1, -2


class BadPixels:
    """Which pixels of a series are bad: for good, or in single frames.

    A number is bad that is not finite or marks the pixel: 2^n - 1 and 2^n - 2 of the dtype, or of
    another depth of detectors where it stands alone, four times above all other pixels. A negative
    one is bad, too, unless negative numbers come and go in more than 1 % of the pixels: then a
    background was subtracted, and they are data. A pixel is bad for good that is so in a third of
    the frames it was learned from, that always is the same number although its neighbours change,
    or that stays far above or below its ROI and its neighbours (`far_from_others`).

    Attributes
    ----------
    given
        The ROIs with all their pixels.
    roi_map
        The ROIs without the pixels that are bad for good.
    silent
        Flat indices into a frame: pixels that are left out because their numbers are bad or always
        the same.
    hot
        Flat indices into a frame: pixels that are left out because they stay far from the others.
    negative_is_data
        Whether negative numbers are measured.
    counts
        Whether frames hold whole numbers from 0 on.

    Raises
    ------
    InvalidInputError
        When a ROI is left with fewer than two pixels.
    """

    @np.errstate(over="ignore", invalid="ignore")  # absurd numbers end as bad pixels, or as none
    def __init__(self, roi_map: RoiMap, frames: Array, *, settled: bool = True) -> None:
        """Learn from the first frames, (k, n_pixels).

        `settled`: they are all that there will be to learn from, and a ROI may lose all its pixels
        to what is a guess as long as there are few.
        """
        self.given = self.roi_map = roi_map
        self.silent: IntArray = np.zeros(0, np.int64)
        self.hot: IntArray = np.zeros(0, np.int64)
        self.negative_is_data = False
        self._keep: IntArray | None = None  # places of the good pixels, and these side by side
        self._runs: list[slice] = []
        sure = np.stack([_no_number(frame) for frame in frames]) if len(frames) else frames != 0
        negative = (frames < 0) & ~sure if frames.dtype.kind in "if" else np.zeros_like(sure)
        self.negative_is_data = _are_data(frames, negative)
        self.counts = _are_counts(frames, sure) and not self.negative_is_data
        bad = sure if self.negative_is_data else sure | negative
        share = bad.mean(axis=1)
        usable = share <= MOST_BAD
        if not usable.any() and len(frames) > PATIENCE:
            usable = share < 1
        if usable.any():
            self._learn(frames[usable], sure[usable], bad[usable], settled)

    @property
    def n_bad(self) -> int:
        """Pixels that are left out because their numbers are bad or always the same."""
        return len(self.silent)

    def like(self, other: BadPixels) -> bool:
        """Whether frames are taken alike, with the same pixels."""
        mine, theirs = self.roi_map.pixels, other.roi_map.pixels
        return (
            np.array_equal(mine, theirs)
            and self.negative_is_data == other.negative_is_data
            and self.counts == other.counts
        )

    def without(self, pixels: Array) -> Array:
        """Return pixels (k, n_pixels) without those that are bad for good, frame behind frame."""
        if self._keep is None:
            return pixels
        # A mask would transpose them in memory, which all that follows would pay for.
        if len(self._runs) <= FEW_RUNS:
            return np.concatenate([pixels[:, one] for one in self._runs], axis=1)
        return pixels.take(self._keep, axis=1, mode="clip")

    def of_frames(self, pixels: Array) -> dict[int, BoolArray]:
        """Return which pixels are bad in frames, (k, n_pixels) as `without` returns them.

        Index of a frame -> its bad pixels, (n_pixels,); only frames that have any.
        """
        found: dict[int, BoolArray] = {}
        for index in np.flatnonzero(self._suspicious(pixels)).tolist():
            bad = _no_number(pixels[index])
            if not self.negative_is_data:
                bad |= pixels[index] < 0
            if bad.any():
                found[index] = bad
        return found

    # --- the steps -------------------------------------------------------------------------

    def _learn(self, frames: Array, sure: BoolArray, bad: BoolArray, settled: bool) -> None:
        for_good = sure.mean(axis=0) >= OFTEN
        self._require_enough(for_good)
        guess = for_good | (bad.mean(axis=0) >= OFTEN) | _always_the_same(frames, for_good)
        if settled:
            self._require_enough(guess)
        far = np.zeros_like(guess)
        if len(frames) >= BLOCKS // 2 + 1:
            parts = np.array_split(frames, min(BLOCKS, len(frames)))
            means = np.stack([part.mean(axis=0, dtype=np.float64) for part in parts])
            means[:, bad.any(axis=0) | guess] = np.nan
            far = far_from_others(means, self.roi_map, len(frames) if self.counts else None)
            far |= self._newly_far(frames[-len(parts[-1]) :], np.isnan(means[0]))
        for one in self.roi_map.slices:
            for new in (guess, far):  # not at the price of a ROI
                left = int((~(for_good | new)[one]).sum())
                if left >= min(FEWEST_LEFT, one.stop - one.start):
                    for_good[one] |= new[one]
        is_hot = far & ~guess
        self.hot = self.roi_map.pixels[for_good & is_hot]
        self.silent = self.roi_map.pixels[for_good & ~is_hot]
        if for_good.any():
            mask = np.ones(self.roi_map.shape, np.bool_)
            mask.ravel()[self.roi_map.pixels[for_good]] = False
            self.roi_map = self.roi_map.with_mask(mask)
            self._keep = keep = np.flatnonzero(~for_good)
            starts, stops = (
                keep[np.diff(keep, prepend=-2) != 1],
                keep[np.diff(keep, append=-2) != 1],
            )
            self._runs = [slice(i, j + 1) for i, j in zip(starts, stops, strict=True)]

    def _newly_far(self, frames: Array, unknown: BoolArray) -> BoolArray:
        """Return which pixels are far from the others in the last frames, (k, n_pixels)."""
        if len(frames) < BLOCKS:
            return np.zeros_like(unknown)
        parts = np.array_split(frames, BLOCKS)
        means = np.stack([part.mean(axis=0, dtype=np.float64) for part in parts])
        means[:, unknown] = np.nan
        return far_from_others(means, self.given, len(frames) if self.counts else None)

    def _require_enough(self, bad: BoolArray) -> None:
        rois = self.roi_map
        left = np.add.reduceat(~bad, [one.start for one in rois.slices], dtype=np.int64)
        if (left < np.minimum(FEWEST_LEFT, rois.n_pixels)).any():
            few = int(np.argmin(left))
            raise InvalidInputError(
                f"ROI {rois.labels[few]}: got {left[few]} good pixels of {rois.n_pixels[few]} in "
                f"the first frames, expected at least {FEWEST_LEFT} that are neither NaN nor "
                "negative nor the detector's bad-pixel value. Take the ROI out of the ROI file, "
                "or correct ROIs, mask and orientation."
            )

    def _suspicious(self, pixels: Array) -> BoolArray:
        """Return which frames may have bad pixels, (k,); cheap."""
        if not pixels.size:
            return np.zeros(len(pixels), np.bool_)
        highest = pixels.max(axis=1)
        suspicious = ~np.isfinite(highest) | np.isin(highest, _marks_of(pixels.dtype))
        if pixels.dtype.kind == "u":
            return suspicious
        lowest = pixels.min(axis=1)
        suspicious |= ~np.isfinite(lowest)
        return suspicious if self.negative_is_data else suspicious | (lowest < 0)


def _marks_of(dtype: np.dtype[Any]) -> Array:
    """Return the numbers that may mark a pixel; the last two are those of an integer dtype."""
    if dtype.kind == "f":
        return _FLOAT_MARKS
    most = int(np.iinfo(dtype).max)
    own = np.array([most - 1, most], dtype)
    return np.concatenate([_MARKS[most - 1 > _MARKS].astype(dtype), own])


def _no_number(values: Array) -> BoolArray:
    """Return which pixels of a frame, (n,), are not finite or marked."""
    marks = _marks_of(values.dtype)
    if values.dtype.kind == "f":
        bad, marked = ~np.isfinite(values), np.isin(values, marks)
    else:
        bad, marked = values >= marks[-2], np.isin(values, marks[:-2])
    if marked.any():
        others = values[~(bad | marked)]
        highest = float(others.max()) if others.size else 0.0
        bad |= marked & (values.astype(np.float64) > ALONE * highest)
    return bad


def _are_counts(frames: Array, bad: BoolArray) -> bool:
    """Whether frames hold whole numbers: a first look is enough, they may be floating point."""
    if frames.dtype.kind != "f":
        return True
    some = frames[:2][~bad[:2]]
    return bool((some == np.floor(some)).all())


def _are_data(frames: Array, negative: BoolArray) -> bool:
    """Whether negative numbers (k, n) are measured: they come and go, which marks do not."""
    if not negative.any():
        return False
    if len(frames) == 1:
        values = frames[negative]
        return len(np.unique(values)) > _MARKERS or bool((values != np.floor(values)).any())
    changing = (negative[:-1] & (frames[1:] != frames[:-1])).any(axis=0)
    return bool(changing.mean() > _CHANGING)


def _always_the_same(frames: Array, bad: BoolArray) -> BoolArray:
    """Return which pixels, (n,), are one whole number other than 0 in all frames, not by chance."""
    first = frames[0]
    same = (frames == first).all(axis=0) & (first != 0) & (first == np.floor(first)) & ~bad
    if not same.any() or same.mean() > MOST_BAD:
        return np.zeros_like(same)
    others = frames[:, ~(same | bad)]
    whole = (others[1:] == others[:-1]) & (others[1:] != 0)
    whole &= others[1:] == np.floor(others[1:])
    # How often one of the others repeats its number; at least once, so that few frames tell little.
    often = (whole.sum() + 1) / (whole.size + 1)
    by_chance = same.size * often ** (len(frames) - 1)
    return same & ((first < 0) | (by_chance < _BY_CHANCE))
