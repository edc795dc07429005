"""Pixels that stay far brighter or darker than their ROI: hot, blinking and dead ones."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy import special  # pyright: ignore[reportMissingTypeStubs]

from xpcs_live_denoise.records.types import Array, BoolArray, FloatArray, IntArray

from .rois import RoiMap
from .threads import spread

BLOCKS = 5  # parts of a window, of which a pixel must be far off in most
FEWEST_COMPARED = 25  # pixels of a ROI that tell what is usual
# Standard deviations, of a normal distribution, by which a pixel must be off: 1e-9 by chance.
CLEAR = 6.0
_MOST_FAR = 0.05  # of the pixels may be far off, or the others are not the usual ones
_TRIMMED = 0.01  # of the pixels are left out where the scatter is not known yet
_FEWEST_AROUND = 3  # neighbours that tell
_NEIGHBOURS = [(row, col) for row in (-1, 0, 1) for col in (-1, 0, 1) if row or col]


def far_from_others(means: FloatArray, rois: RoiMap, n_counts: int | None) -> BoolArray:
    """Return which pixels stay so far above or below their ROI that no speckle explains it.

    Speckle intensities that are averaged over a few independent frames follow a gamma distribution,
    whose tail is as long as its variance says, however slow the dynamics are; the variance is that
    of the pixels of the ROI, those that are far off left aside. A pixel in the midst of others that
    are as bright (a streak, a shadow, a large speckle) is not called so: it must be off twice as
    far as the median of its neighbours.

    Parameters
    ----------
    means
        Shape (n_block, n_pixels): mean intensity in parts of some frames; the median over parts
        counts, so that what a single frame holds does not. NaN: not to be looked at.
    rois
        The ROIs.
    n_counts
        Frames behind all parts together if they hold counts, whose noise is known; else None.

    Returns
    -------
    BoolArray
        Shape (n_pixels,).
    """
    from .hot_pixel_kernels import may_be_far

    middle = np.ascontiguousarray(_median_of_parts(means), np.float64)
    far, possible = np.zeros(len(middle), np.bool_), np.empty(rois.n_roi, np.bool_)
    starts = np.append([one.start for one in rois.slices], len(middle))
    may_be_far(middle, starts, CLEAR, _TRIMMED, possible)

    def look(roi: int) -> None:
        one = rois.slices[roi]
        values, parts = middle[one], means[:, one]
        known = np.isfinite(values)
        if known.sum() < FEWEST_COMPARED:
            return
        if not known.all():
            values, parts = values[known], parts[:, known]
        floor = 0.0 if n_counts is None else float(parts.mean()) / n_counts
        far[one][known] = _far(values, floor)

    spread(look, np.flatnonzero(possible).tolist())
    candidates = np.flatnonzero(far)
    if len(candidates):
        far[candidates] = _beyond_neighbours(candidates, middle, rois)
    return far


def _median_of_parts(means: FloatArray) -> FloatArray:
    """Return the median over axis 0; of five parts much faster than numpy's."""
    if len(means) == 1:
        return means[0]
    if len(means) != BLOCKS:
        return np.median(means, axis=0)
    from .hot_pixel_kernels import median_of_five

    middle = np.empty(means.shape[1])
    median_of_five(np.ascontiguousarray(means), middle)
    return middle


def _far(values: FloatArray, floor: float) -> BoolArray:
    """Return which values of one ROI are off; `floor` is the least variance they have."""
    from .hot_pixel_kernels import far_from_usual

    middle = float(np.partition(values, len(values) // 2)[len(values) // 2])
    last = len(values) - 1 - max(1, round(_TRIMMED * len(values)))
    most = np.partition(np.abs(values - middle), last)[last]
    far = np.empty(len(values), np.bool_)
    n_far = far_from_usual(np.ascontiguousarray(values), middle, most, floor, CLEAR, BLOCKS, far)
    return far if 0 <= n_far <= _MOST_FAR * len(far) else np.zeros_like(far)


def _beyond_neighbours(candidates: IntArray, values: FloatArray, rois: RoiMap) -> BoolArray:
    """Return which candidates are off twice as far as the median of the ROI pixels around them."""
    rows, cols = rois.shape
    image = np.full(rows * cols, np.nan)
    image[rois.pixels] = values
    typical = np.empty(len(values))
    for one in rois.slices:
        typical[one] = np.nanmedian(values[one]) if np.isfinite(values[one]).any() else np.nan
    found = np.zeros(len(candidates), np.bool_)
    for index, candidate in enumerate(candidates):
        row, col = divmod(int(rois.pixels[candidate]), cols)
        around = [
            image[(row + down) * cols + col + right]
            for down, right in _NEIGHBOURS
            if 0 <= row + down < rows and 0 <= col + right < cols
        ]
        known = np.array([value for value in around if np.isfinite(value)])
        off = values[candidate] - typical[candidate]
        near = float(np.median(known)) - typical[candidate] if len(known) >= _FEWEST_AROUND else 0.0
        found[index] = off * np.sign(off) > 2 * near * np.sign(off)
    return found


CHANCE = 1e-9  # of a pixel and frame to be called too bright
PART = 10  # frames that are looked at together
OFTEN = 1050  # frames of a series whose sums are looked at after each part, then after a window
STRIKES = 3  # frames of a window in which a pixel was too bright: it is hot
# Contrast of single frames for which there is always room; and for twice what was seen, up to
# that of full coherence.
LEAST_CONTRAST = 0.25
_MEANS = np.geomspace(1e-4, 1e5, 64)


class HotPixels:
    """Pixels that get hot after the first window; from then on they have the mean of their ROI.

    A pixel is too bright in a frame where the counting statistics of speckle of twice the contrast
    (of a gamma distribution as wide, where pixels are no counts) reach it with a chance below 1e-9.
    It is hot when that was so in three frames of 50, or when its sum over 10 or over 50 frames is
    far from the others (`far_from_others`): of each 10, after 1,050 frames of each fifth 10 only
    and of 50 that do not overlap. Frames go through `cover` before they are judged and
    through `add` after that; the result does not depend on how they are cut, as long as no call
    reaches beyond `n_until_look` frames.

    Attributes
    ----------
    since
        Pixel (its place among those of the ROIs) -> first frame in which it was covered.
    """

    @np.errstate(over="ignore", invalid="ignore", divide="ignore")  # absurd numbers: no limit
    def __init__(self, rois: RoiMap, first: Array, *, counts: bool) -> None:
        """Learn what is usual from the frames of the first window, (k, n_pixels), all good."""
        self.since: dict[int, int] = {}
        self._rois = rois
        self._counts = counts
        self._starts = [one.start for one in rois.slices]
        mean, variance = _moments(first, rois)  # (k, n_roi)
        lit = mean > 0
        self._mean = _mean_where(mean, lit)
        self._variance = _mean_where(variance, lit)
        contrast = _mean_where((variance - mean) / np.square(np.where(lit, mean, 1.0)), lit)
        possible = np.maximum(np.clip(2 * contrast, LEAST_CONTRAST, 1.0), contrast)
        self._limits = [_count_limits(one) if counts else None for one in possible.tolist()]
        self._strikes: dict[int, int] = {}
        self._parts: list[FloatArray] = []  # means of the last parts, the newest last
        self._part = np.zeros(len(rois.pixels))
        self._n_in_part = self._n_parts = 0

    @property
    def n_until_look(self) -> int:
        """Frames until the next look at a sum."""
        n_parts = 1 if self._n_parts * PART < OFTEN else BLOCKS - self._n_parts % BLOCKS
        return n_parts * PART - self._n_in_part

    def cover(self, pixels: Array, n_before: int) -> tuple[Array, BoolArray | None]:
        """Give hot pixels the mean of their ROI; return the frames, and what is too bright in them.

        `pixels` (k, n_pixels) are not changed; `n_before` frames came before them. What is too
        bright is (k, n_pixels), None where nothing is.
        """
        covered = self._covered(pixels, self.since)
        mean = roi_sums(covered, self._rois) / self._rois.n_pixels
        limits = np.stack([self._limit(roi, mean[:, roi]) for roi in range(self._rois.n_roi)], 1)
        over = np.maximum.reduceat(covered, self._starts, axis=1) >= limits
        if not over.any():
            return covered, None
        bright = np.zeros(covered.shape, np.bool_)
        for frame, roi in np.argwhere(over).tolist():
            one = self._rois.slices[roi]
            bright[frame, one] = covered[frame, one] >= limits[frame, roi]
            for pixel in (np.flatnonzero(bright[frame, one]) + one.start).tolist():
                if self._is_hot(pixel, n_before + frame + 1):
                    later = self._covered(covered[frame + 1 :], [pixel])
                    covered = np.concatenate([as_floats(covered[: frame + 1]), later])
        return covered, bright

    def _is_hot(self, pixel: int, n_so_far: int) -> bool:
        """Count a frame in which a pixel was too bright; whether it is hot from now on."""
        self._strikes[pixel] = self._strikes.get(pixel, 0) + 1
        if self._strikes[pixel] < STRIKES or pixel in self.since:
            return False
        self.since[pixel] = n_so_far
        return True

    def add(self, pixels: Array, n_so_far: int) -> None:
        """Add frames that belong to the series, (k, n_pixels), k at most `n_until_look`.

        `n_so_far` frames have come with them.
        """
        looks = len(pixels) >= self.n_until_look
        while len(pixels):
            some = pixels[: PART - self._n_in_part]
            pixels = pixels[len(some) :]
            self._part += some.sum(axis=0, dtype=np.uint32 if _is_short(some) else np.float64)
            self._n_in_part += len(some)
            if self._n_in_part == PART:
                self._parts = [*self._parts, self._part / PART][-BLOCKS:]
                self._part, self._n_in_part = np.zeros_like(self._part), 0
                self._n_parts += 1
        if not looks:
            return
        self._look(self._parts[-1:], n_so_far)
        if len(self._parts) == BLOCKS:
            self._look(self._parts, n_so_far)
        if self._n_parts % BLOCKS == 0:
            self._strikes = {}

    def _look(self, parts: list[FloatArray], n_so_far: int) -> None:
        means = np.stack(parts)
        means[:, list(self.since)] = np.nan
        far = far_from_others(means, self._rois, PART * len(parts) if self._counts else None)
        for pixel in np.flatnonzero(far):
            self.since[int(pixel)] = n_so_far

    def _limit(self, roi: int, mean: FloatArray) -> FloatArray:
        """Return what pixels of a ROI with these means, (k,), do not reach."""
        if self._rois.n_pixels[roi] < FEWEST_COMPARED or not self._mean[roi] > 0:
            return np.full(len(mean), np.inf)
        table = self._limits[roi]
        if table is not None:
            return np.exp(np.interp(np.log(np.maximum(mean, _MEANS[0])), np.log(_MEANS), table))
        from .hot_pixel_kernels import gamma_reach

        usual = self._mean[roi]
        reach = gamma_reach(usual, 2 * self._variance[roi], CLEAR)
        return mean + reach * np.maximum(1.0, mean / usual)

    def _covered(self, pixels: Array, which: Iterable[int]) -> Array:
        hot = np.zeros(pixels.shape[1], np.bool_)
        hot[list(which)] = True
        if not hot.any():
            return pixels
        return even_out(pixels, np.broadcast_to(hot, pixels.shape), self._rois)


def even_out(pixels: Array, bad: BoolArray, rois: RoiMap) -> Array:
    """Return frames whose bad pixels, (k, n_pixels), have the mean of their ROI."""
    evened = as_floats(pixels)
    for frame in np.flatnonzero(bad.any(axis=1)):
        for one in rois.slices:
            wrong = bad[frame, one]
            if wrong.any() and not wrong.all():
                evened[frame, one][wrong] = evened[frame, one][~wrong].mean(dtype=np.float64)
    return evened


def as_floats(pixels: Array) -> Array:
    """Return a copy that a mean can be written into."""
    return pixels.astype(np.result_type(pixels.dtype, np.float32))


def roi_sums(pixels: Array, rois: RoiMap) -> FloatArray:
    """Return the sum over each ROI, (k, n_roi), of `pixels` (k, n_pixels)."""
    edges = np.append(0, np.cumsum(rois.n_pixels)).astype(np.uint64)
    if pixels.dtype.kind != "u" or pixels.dtype.itemsize > 4:
        return np.add.reduceat(pixels, edges[:-1].astype(np.int64), axis=1, dtype=np.float64)
    from .hot_pixel_kernels import sum_rois

    sums = np.empty((len(pixels), rois.n_roi))
    sum_rois(np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("=")), edges, sums)
    return sums


def _is_short(pixels: Array) -> bool:
    """Whether a few frames may be added as uint32, which is twice as fast."""
    return pixels.dtype.kind == "u" and pixels.dtype.itemsize <= 2


def compile_kernels() -> None:
    """Compile what adds up pixels of the usual types, or read it from disk."""
    rois = RoiMap.from_labels(np.ones((1, 1), np.int64))
    for dtype in (np.uint16, np.uint32):
        roi_sums(np.zeros((1, 1), dtype), rois)


def _moments(pixels: Array, rois: RoiMap) -> tuple[FloatArray, FloatArray]:
    """Return mean and variance of the pixels of each ROI in each frame, (k, n_roi)."""
    parts = [pixels[:, one] for one in rois.slices]
    mean = np.stack([part.mean(axis=1, dtype=np.float64) for part in parts], axis=1)
    return mean, np.stack([part.var(axis=1, dtype=np.float64) for part in parts], axis=1)


def _mean_where(values: FloatArray, good: BoolArray) -> FloatArray:
    n_good = good.sum(axis=0)
    return np.where(good, values, 0.0).sum(axis=0) / np.maximum(n_good, 1)


def _count_limits(contrast: float) -> FloatArray:
    """Return ln of the counts that a pixel reaches with a chance of 1e-9, for the _MEANS.

    Speckle of M = 1 / contrast modes and mean m: P(k counts or more) = I(k, M; m / (m + M)), a
    regularised incomplete beta function (Goodman, Speckle Phenomena in Optics, 2007).
    """
    modes = 1 / contrast
    low, high = np.zeros(len(_MEANS)), np.log(1e3 * (_MEANS + 1) * max(1.0, contrast))
    for _ in range(40):
        middle = (low + high) / 2
        chance = special.betainc(np.exp(middle), modes, _MEANS / (_MEANS + modes))
        low, high = np.where(chance > CHANCE, middle, low), np.where(chance > CHANCE, high, middle)
    return high
