"""I(t) of the ROIs and I(q) of the detector: what is drawn of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xpcs_live_denoise.records.results import Saxs
from xpcs_live_denoise.records.types import BoolArray, FloatArray, IntArray

from .words import PANELS

MOST_BINS = 2048  # of a trace that is kept
MOST_DRAWN = 400  # points along a line
MOST_READ = 4_000_000  # numbers that are read of a stored one
HIGHEST = 3.0  # times the mean: one frame above it must not hide all others
BESIDE = 0.08  # of the range, above and below
RADIUS_LABEL = "radius (px)"
ALL_ROIS = "all ROIs"


class IntensityTrace:
    """I(t) of every ROI of a run while it grows; its memory is bounded.

    While a bin is a frame, frames may come again with better values. When all bins are full they
    are joined in pairs; of each the mean, the lowest and the highest frame are kept.
    """

    def __init__(self, n_roi: int, most: int = MOST_BINS) -> None:
        self._most, self._n_roi = most, n_roi
        self._clear()

    def _clear(self) -> None:
        self.n_frames, self.frames_per_bin = 0, 1
        self._bins = _empty_bins(0, self._n_roi)

    def to_read(self, n_frames: int, first: int = 0) -> slice:
        """Return which frames of so many to read and `add`, from a first one on."""
        step = max(1, -(-(n_frames - first) * self._n_roi // MOST_READ))
        return slice(first, n_frames, step)

    def add(self, start: int, roi_mean: FloatArray, *, step: int = 1) -> None:
        """Take the frames start, start + step, ..., (k, n_roi); from 0 on, in the place of all."""
        if start == 0:
            self._clear()
        frames: IntArray = start + step * np.arange(len(roi_mean), dtype=np.int64)
        if self.frames_per_bin == 1:
            self._bins[:, start:] = _empty_bins(max(0, self._bins.shape[1] - start), self._n_roi)
        else:  # those of before are in their bins
            is_new = frames >= self.n_frames
            roi_mean, frames = roi_mean[is_new], frames[is_new]
        if not len(frames):
            return
        self.n_frames = max(self.n_frames, int(frames[-1]) + step)
        while -(-self.n_frames // self.frames_per_bin) > self._most:
            self._bins, self.frames_per_bin = _joined(self._bins, 2), 2 * self.frames_per_bin
        self._make_room(-(-self.n_frames // self.frames_per_bin))
        bins, begins = np.unique(frames // self.frames_per_bin, return_index=True)
        new = _bins_of(roi_mean)
        self._bins[:, bins] = _together(self._bins[:, bins], _reduced(new, begins))

    def _make_room(self, n_bins: int) -> None:
        have = self._bins.shape[1]
        if n_bins > have:
            length = min(max(n_bins, 2 * have, 64), self._most)
            more = _empty_bins(length - have, self._n_roi)
            self._bins = np.concatenate([self._bins, more], axis=1)

    def drawn(self, n_frames: int) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Return the middle of each bin, frames, and mean, lowest and highest, (n_bin, n_roi)."""
        n_frames = min(n_frames, self.n_frames)
        n = min(-(-n_frames // self.frames_per_bin), self._bins.shape[1])
        by = max(1, -(-n // MOST_DRAWN))
        total, count, lowest, highest = _joined(self._bins[:, :n], by)
        each = by * self.frames_per_bin
        first = np.arange(len(total)) * float(each)
        last = np.minimum(first + each, n_frames) - 1
        known = count > 0
        mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=known)
        lowest, highest = (np.where(known, ends, np.nan) for ends in (lowest, highest))
        return (first + last) / 2, mean, lowest, highest


# Bins of frames, (4, n_bin, n_roi): sum of the known numbers, how many they are, lowest, highest.


def _empty_bins(n_bins: int, n_roi: int) -> FloatArray:
    nothing = np.array([0, 0, np.inf, -np.inf])
    return np.tile(nothing[:, np.newaxis, np.newaxis], (1, n_bins, n_roi))


def _bins_of(frames: FloatArray) -> FloatArray:
    """Return bins of one frame each."""
    bins = _empty_bins(*frames.shape)
    known = np.isfinite(frames)
    np.copyto(bins, np.stack([frames, known, frames, frames]), where=known)
    return bins


def _together(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return what bins are together."""
    low, high = np.minimum(first[2], second[2]), np.maximum(first[3], second[3])
    return np.stack([*(first[:2] + second[:2]), low, high])


def _reduced(bins: FloatArray, begins: IntArray) -> FloatArray:
    """Return bins joined from each of these on to the next."""
    joins = (np.add, np.add, np.minimum, np.maximum)
    parts = zip(joins, bins, strict=True)
    return np.stack([join.reduceat(part, begins, axis=0) for join, part in parts])


def _joined(bins: FloatArray, by: int) -> FloatArray:
    """Return bins that join so many each; the last one may join fewer."""
    begins: IntArray = np.arange(0, bins.shape[1], by, dtype=np.int64)
    return _reduced(bins, begins) if len(begins) else bins


@dataclass(frozen=True, slots=True, kw_only=True)
class IntensityView:
    """I(t) of all ROIs, each in units of its mean, so that a change of the beam is one of all.

    Attributes
    ----------
    age_s
        (n,): the middle of each bin of frames.
    relative
        (n_roi, n): mean of a bin over the mean of the series; NaN where frames are missing.
    lower, upper
        (n,): lowest and highest frame of each bin, of the chosen ROI.
    total
        (n,): the same of the pixels of all ROIs together.
    low, high
        Of the axis.
    chosen
        Index of the ROI.
    words
        How much the chosen ROI counts.
    """

    age_s: FloatArray
    relative: FloatArray
    lower: FloatArray
    upper: FloatArray
    total: FloatArray
    low: float
    high: float
    chosen: int
    words: str


def intensity_view(
    trace: IntensityTrace | None,
    roi: int,
    *,
    n_pixels: Sequence[int],
    n_frames: int,
    frame_time_s: float,
) -> IntensityView | None:
    """Return what is drawn of I(t), the ROI with an index foremost; None where nothing is known.

    `n_pixels` are those of each ROI.
    """
    if trace is None or not trace.n_frames:
        return None
    frames, mean, lowest, highest = trace.drawn(n_frames)
    if not np.isfinite(mean).any():
        return None
    weights = np.asarray(n_pixels, np.float64)
    means = _means(mean)
    total = mean @ weights
    lower, upper = lowest[:, roi] / means[roi], highest[:, roi] / means[roi]
    in_all = total / _means(total[:, np.newaxis])[0]
    ends = np.concatenate([lower, upper, in_all])
    ends = ends[np.isfinite(ends)]
    low = float(np.min(ends, initial=1.0))
    high = min(float(np.max(ends, initial=1.0)), HIGHEST)
    margin = BESIDE * (high - low) or 0.1
    counts = means[roi]
    return IntensityView(
        age_s=frames * frame_time_s,
        relative=(mean / means).T,
        lower=lower,
        upper=upper,
        total=in_all,
        low=low - margin,
        high=high + margin,
        chosen=roi,
        words=f"{counts:.3g} counts/px/frame" if math.isfinite(counts) else "no counts known",
    )


def _means(values: FloatArray) -> FloatArray:
    """Return the mean of what is known of each column; NaN where that is nothing, or 0."""
    known = np.isfinite(values)
    count, total = known.sum(axis=0), np.where(known, values, 0.0).sum(axis=0)
    some: BoolArray = (count > 0) & (total != 0)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=some)


@dataclass(frozen=True, slots=True, kw_only=True)
class SaxsView:
    """I(q) on logarithmic axes, or against the radius where q is not known.

    Attributes
    ----------
    x, counts
        (n,) each, above 0: q, 1/Angstrom, or radius, pixels; mean counts a pixel and frame.
    x_label
        What x is.
    roi_x, roi_counts, roi
        (n_known,) each: where ROIs lie on the curve, and their indices.
    chosen
        Index of the ROI.
    """

    x: FloatArray
    counts: FloatArray
    x_label: str
    roi_x: FloatArray
    roi_counts: FloatArray
    roi: IntArray
    chosen: int

    @property
    def low(self) -> float:
        """Lower end of the axis of counts."""
        return float(self.counts.min()) / 1.3

    @property
    def high(self) -> float:
        """Upper end of the axis of counts."""
        return float(self.counts.max()) * 1.5


def saxs_view(
    saxs: Saxs | None, roi: int, q_inv_angstrom: Sequence[float] | FloatArray
) -> SaxsView | None:
    """Return what is drawn of I(q), the ROI with an index foremost; None where nothing is known.

    `q_inv_angstrom` are those of the ROIs, NaN where unknown.
    """
    if saxs is None:
        return None
    q_known = bool(np.isfinite(saxs.q_inv_angstrom).all())
    x = saxs.q_inv_angstrom if q_known else saxs.radius_px
    drawn = (x > 0) & (saxs.mean > 0)
    if not drawn.any():
        return None
    x, counts = x[drawn], saxs.mean[drawn]
    q = np.asarray(q_inv_angstrom, np.float64)
    inside = np.flatnonzero((q >= x[0]) & (q <= x[-1]) & q_known)
    return SaxsView(
        x=x,
        counts=counts,
        x_label=PANELS["saxs"][1] if q_known else RADIUS_LABEL,
        roi_x=q[inside],
        roi_counts=np.interp(q[inside], x, counts),
        roi=inside,
        chosen=roi,
    )
