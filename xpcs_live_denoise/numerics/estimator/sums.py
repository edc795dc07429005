"""Sums of C2 over bins of age and lag, kept while frames arrive, also with pixels left out."""

from __future__ import annotations

import copy
import functools
import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from xpcs_live_denoise.numerics.arrays import (
    LEVEL_LAGS,
    as_stack,
    bin_of_lag,
    bin_of_level_lag,
    enlarged,
    lag_bin_edges,
    mean_level_lags,
)
from xpcs_live_denoise.numerics.g2 import NOISE_REACH
from xpcs_live_denoise.numerics.newest_frames import FrameRing
from xpcs_live_denoise.numerics.threads import spread
from xpcs_live_denoise.records.types import SHARED, Array, FloatArray, IntArray

FIRST_CAPACITY = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class BinnedCuts:
    """Means of C2 - 1 over n_cut cuts of one ROI, in lag bins."""

    # (n_bin + 1,): bin i holds the lags edges[i] .. edges[i + 1] - 1.
    edges: IntArray = field(metadata=SHARED)
    lag: FloatArray = field(metadata=SHARED)  # (n_bin,): mean lag of the entries of a bin, frames
    row_frames: int = field(metadata=SHARED)  # ages, in what follows, are in rows of so many frames
    mean: FloatArray  # (n_cut, n_bin); 0 where a cut has no entry
    n_entries: FloatArray  # (n_cut, n_bin)
    # (n_cut, n_bin): n / (noise x inflation), 0 where nothing is known. The inflation is what the
    # jackknife finds beyond independent entries, the mean over bins of (variance of the binned
    # mean) n / noise, at least 1: entries of C2 share pixels and frames.
    weights: FloatArray
    noise: FloatArray  # (n_cut,): variance of one entry of C2 near that age; NaN: nothing tells
    mean_row: FloatArray  # (n_cut,): of the entries; NaN where there are none
    longest_lag: IntArray  # (n_cut,): first lag of the last bin that has an entry, frames
    # (n_cut, n_bin, n_block): as `mean`, without the pixels of one block; None: no blocks known.
    left_out: FloatArray | None

    @property
    def mean_age(self) -> FloatArray:
        """Mean age of the entries, (n_cut,), frames; odd lags, half of all, stand half on."""
        return self.mean_row * self.row_frames + (self.row_frames - 1) / 2 + 0.25


# Rows beyond which neighbours are added in pairs: what is kept must not grow with the series.
MOST_ROWS = 2000


class AgeSums:
    """Sums of C2 - 1 by ROI, age and lag bin.

    An entry C2(t1, t2) belongs to the age floor((t1 + t2)/2): even lags at that age, odd lags half
    a frame later, as in `age_cuts`. A row holds `row_frames` ages, one until there are more than
    `most_rows`, an even number (2,000), then 2, 4, ... What a level measures, means over 2^m x 2^m
    entries, is spread over the 2^m ages in its middle. Reading consumes nothing.

    Where rows have been added up, `recent` are sums of the newest ages, at least half of
    `most_rows` rows as they were at first. Its frames are counted from its own `first` on.

    There are `n_block` pixel blocks a ROI, 0 where no pixels are known, and room for `capacity`
    rows, which grows. Memory: 4 bytes a ROI, block, row and lag bin, and 12 a ROI, row and bin;
    there are 68 bins for 350 frames and 164 for 100,000: 0.15 GB for 10 ROIs of 8 blocks, and 0.08
    GB for `recent`.
    """

    def __init__(
        self,
        n_roi: int,
        n_block: int = 0,
        capacity: int = FIRST_CAPACITY,
        *,
        most_rows: int | None = None,
        row_frames: int = 1,
    ) -> None:
        self.n_roi = n_roi
        self.n_block = n_block
        self.n_frames = 0
        self.first = 0
        self.recent: AgeSums | None = None
        self.row_frames = row_frames
        self._by_level = True
        self._most_rows = MOST_ROWS if most_rows is None else most_rows
        self._capacity = min(capacity, self._most_rows)  # rows
        shape = (n_roi, self._capacity, self._room(self.row_frames))
        self._sums: FloatArray = np.zeros(shape)
        self._counts: FloatArray = np.zeros(shape, np.float32)
        self._left_out: FloatArray = np.zeros((*shape, n_block), np.float32)
        self._squares: FloatArray = np.zeros((n_roi, self._capacity))
        self._pairs: FloatArray = np.zeros((n_roi, self._capacity))
        self._previous = np.full((n_roi, LEVEL_LAGS[1]), np.nan)  # the newest frame's, by lag

    @classmethod
    def from_c2(cls, c2: ArrayLike, most_rows: int = MOST_ROWS, row_frames: int = 1) -> AgeSums:
        """Sum a C2 that is there, (n, n) or (n_roi, n, n), its upper triangle; NaN is ignored."""
        from xpcs_live_denoise.numerics.two_time_kernels import add_square

        stack = as_stack(c2)
        n = stack.shape[-1]
        rows = -(-max(1, n) // row_frames)
        rows += rows % 2 if rows > most_rows else 0
        # All of C2 is there, and so are its rows as they are at first.
        sums = cls(len(stack), capacity=rows, most_rows=max(rows, most_rows), row_frames=row_frames)
        sums._by_level = False
        sums.reserve(n)
        bins = np.concatenate([[-1], bin_of_lag(lag_bin_edges(max(n - 1, 1)))])
        for roi, one in enumerate(stack):
            add_square(
                one.astype(np.float64),
                bins,
                sums.row_frames,
                *(values[roi] for values in sums._tables()[:2]),
                sums._squares[roi],
                sums._pairs[roi],
            )
        sums.n_frames = n
        sums._most_rows = most_rows
        while sums.n_rows > most_rows:
            sums._merge_rows()
        return sums

    # --- adding ----------------------------------------------------------------------------

    def reserve(self, n_frames: int) -> None:
        """Make room for a series of `n_frames`, before any of them is added."""
        while n_frames > self._capacity * self.row_frames:
            if self._capacity < self._most_rows:
                self._capacity = min(max(2 * self._capacity, n_frames), self._most_rows)
                self._resize()
            else:
                self._merge_rows()
        if self.recent is not None:
            while n_frames - self.recent.first > self.recent._capacity * self.recent.row_frames:
                self.recent._forget_half()

    def add(self, roi: int, ring: FrameRing, products: FloatArray, first: int, oldest: int) -> None:
        """Add what frames of a ring from index `first` on bring to one ROI.

        `products` (n_block, n_old, k) are those of frames [oldest, oldest + n_old) with the k new
        ones, summed over pixels; `reserve` comes first, `advance` after all ROIs.
        """
        from xpcs_live_denoise.numerics.two_time_kernels import add_entries

        begin, new = oldest - ring.first, first - ring.first
        n_old, k = products.shape[1:]
        add_entries(
            products,
            ring.number[roi, begin : begin + n_old],
            ring.number[roi, new : new + k],
            ring.inverse[roi, :, begin : begin + n_old],
            ring.inverse[roi, :, new : new + k],
            1 / ring.n_pixels[roi],
            first,
            oldest,
            ring.power,
            self.first,
            self.row_frames,
            _BINS[ring.power],
            *(values[roi] for values in self._tables()),
            self._squares[roi],
            self._pairs[roi],
            self._previous[roi],
        )
        if self.recent is not None:
            self.recent.add(roi, ring, products, first, oldest)

    def advance(self, n_frames: int) -> None:
        """Say that everything that so many new frames bring is there, or will be."""
        self.n_frames += n_frames
        if self.recent is not None:
            self.recent.advance(n_frames)

    def _tables(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        return self._sums, self._counts, self._left_out

    def _room(self, row_frames: int) -> int:
        """Return the lag bins of as many frames as there is room for, in rows of so many."""
        return len(lag_bin_edges(max(self._capacity * row_frames - 1, 1))) - 1

    def _resize(self) -> None:
        """Lay the tables out for the capacity as it is now."""
        shape = (self.n_roi, self._capacity, self._room(self.row_frames))
        self._sums, self._counts = (enlarged(old, shape, 0) for old in (self._sums, self._counts))
        self._left_out = enlarged(self._left_out, (*shape, self.n_block), 0)
        self._squares = enlarged(self._squares, shape[:2], 0)
        self._pairs = enlarged(self._pairs, shape[:2], 0)

    def _forget_half(self) -> None:
        """Forget the older half of the rows."""
        half = self._capacity // 2
        for values in (*self._tables(), self._squares, self._pairs):
            for one in values:
                one[: self._capacity - half] = one[half : self._capacity].copy()
                one[self._capacity - half :] = 0
        self.first += half * self.row_frames
        self.n_frames -= half * self.row_frames

    def _merge_rows(self) -> None:
        """Add rows in pairs."""
        if self.recent is None:  # it keeps the tables
            self.recent = copy.copy(self)
            self.recent._previous = self._previous.copy()
        half, size = self._capacity // 2, 2 * self.row_frames
        before = (*self._tables(), self._squares, self._pairs)
        shape = (self.n_roi, self._capacity, self._room(size), self.n_block)
        # Zeros cost nothing until they are written to.
        after: list[FloatArray] = [np.zeros(shape[: old.ndim], old.dtype) for old in before]

        def merge(roi: int) -> None:
            for old, new in zip(before, after, strict=True):
                first, second = old[roi, 0 : 2 * half : 2], old[roi, 1 : 2 * half : 2]
                into = new[roi, :half, : first.shape[1]] if first.ndim > 1 else new[roi, :half]
                np.add(first, second, out=into)

        spread(merge, range(self.n_roi))
        self._sums, self._counts, self._left_out, self._squares, self._pairs = after
        self.row_frames = size

    # --- reading ---------------------------------------------------------------------------

    @property
    def n_rows(self) -> int:
        """Rows that hold ages of the series."""
        return -(-self.n_frames // self.row_frames)

    def rows_from(self, first: int) -> AgeSums:
        """Return the sums with the shortest rows that hold all ages from frame `first` on."""
        return self if self.recent is None or self.recent.first > first else self.recent

    def ages(self, rows: ArrayLike) -> FloatArray:
        """Return the middle of each row, frames: between two where a row has an even number."""
        return np.asarray(rows, np.float64) * self.row_frames + (self.row_frames - 1) / 2

    def away_from_data(self, roi: int, ages: FloatArray) -> FloatArray:
        """Return how many frames each age is from the next row that holds an entry of C2.

        Behind the last frame of a ROI there are none, and within a gap those of lags across it.
        Infinite where there is no entry at all.
        """
        counts = self._counts[roi, : self.n_rows]
        known = self.ages(np.flatnonzero(counts.any(axis=1)))
        if not known.size:
            return np.full(len(ages), np.inf)
        after = np.searchsorted(known, ages)
        sides = known[np.maximum(after - 1, 0)], known[np.minimum(after, known.size - 1)]
        return np.minimum(*(np.abs(ages - side) for side in sides))

    def cuts(
        self,
        roi: int,
        rows: ArrayLike,
        widths: ArrayLike,
        within: ArrayLike | None = None,
        *,
        longest: int | None = None,
    ) -> BinnedCuts:
        """Return the means over n_cut cuts of a ROI; centres, widths and `within` are in rows.

        The cut at centre a holds the entries with -width/2 <= row - a < width/2, where an entry of
        a row may stand anywhere from half a row before its number to half a row after it: of a row
        that is cut, a share counts. Whole rows and odd widths cut none. Widths are one for all, or
        (n_cut,). What leaves the series is cut off. `within` (2, n_cut) are rows [first, stop) in
        which both frames of an entry must lie, everything by default; a lag bin counts there only
        if all its lags do. There are no bins whose lags are all longer than `longest`, frames.
        """
        centres = np.array(rows, np.float64).reshape(-1)
        reach = np.full(len(centres), widths, np.float64)
        inside = np.empty((2, 0)) if within is None else np.array(within, np.float64)
        return self._means(roi, centres, reach, inside, longest=longest)

    def cuts_of_frames(
        self, roi: int, ages: ArrayLike, widths: ArrayLike, within: ArrayLike | None = None
    ) -> BinnedCuts:
        """Return `cuts` of a ROI; centres, widths and `within` are in frames."""
        n = self.row_frames
        if n > 1:
            ages = (np.asarray(ages, np.float64) - (n - 1) / 2) / n
            widths = np.asarray(widths) / n
            within = None if within is None else np.asarray(within, np.float64) / n
        return self.cuts(roi, ages, widths, within)

    def series(self, roi: int) -> BinnedCuts:
        """Return one cut that holds the whole series."""
        n = float(self.n_rows)
        everything = np.array([n / 2]), np.array([n + 1]), np.empty((2, 0))
        return self._means(roi, *everything, noise_reach=math.inf)

    def lag_bins(self) -> tuple[IntArray, FloatArray]:
        """Return edges (n_bin + 1,) and mean lag (n_bin,) of the bins of all cuts, frames."""
        return _lag_bins(max(self.n_frames - 1, 1), self._by_level)

    def with_noise(self, factors: FloatArray) -> AgeSums:
        """Return the same sums, the variance of an entry multiplied by a factor a ROI, (n_roi,)."""
        other = copy.copy(self)
        other._squares = self._squares * factors[:, np.newaxis]
        other.recent = self.recent and self.recent.with_noise(factors)
        return other

    def _means(
        self,
        roi: int,
        centres: FloatArray,
        widths: FloatArray,
        within: FloatArray,
        *,
        noise_reach: float = NOISE_REACH,
        longest: int | None = None,
    ) -> BinnedCuts:
        """Average the rows of each cut; noise is that of `noise_reach` frames to either side."""
        from . import sums_kernels as kernels

        edges, lag = self.lag_bins()
        if longest is not None:
            n_bin = int(np.searchsorted(edges[:-1], longest, side="right"))
            edges, lag = edges[: n_bin + 1], lag[:n_bin]
        shape = len(centres), len(lag)
        number, mean, weights = np.zeros((3, *shape))
        left_out, of_cut = np.zeros((*shape, self.n_block)), np.empty((2, len(centres)))
        longest_lag = np.empty(len(centres), np.int64)
        sums, counts, blocks = (values[roi] for values in self._tables())
        kernels.cut_means(
            sums,
            counts,
            blocks.reshape(len(blocks), blocks.shape[1] * self.n_block),
            self._squares[roi],
            self._pairs[roi],
            centres,
            widths,
            within,
            edges.copy(),
            self.row_frames,
            self.n_frames,
            noise_reach,
            number,
            mean,
            left_out,
            weights,
            *of_cut,
            longest_lag,
        )
        return BinnedCuts(
            edges=edges,
            lag=lag,
            row_frames=self.row_frames,
            mean=mean,
            n_entries=number,
            weights=weights,
            noise=of_cut[0],
            mean_row=of_cut[1],
            longest_lag=longest_lag,
            left_out=left_out if self.n_block else None,
        )


@functools.lru_cache(maxsize=8)
def _lag_bins(longest: int, by_level: bool) -> tuple[IntArray, FloatArray]:
    edges = lag_bin_edges(longest)
    lag = mean_level_lags(edges) if by_level else (edges[:-1] + edges[1:] - 1) / 2
    for values in (edges, lag):  # all cuts of a series share them
        values.flags.writeable = False
    return edges, lag


# The lag bin of each level's lags, for as many levels as any series can have.
_BINS = [bin_of_level_lag(power) for power in range(40)]


_SMOOTH = 5  # neighbouring lag bins over which the variance of stacked residuals is averaged


def jackknife_variance(left_out: FloatArray) -> FloatArray:
    """Return (B - 1)/B sum_b (x_b - mean)^2 over axis 0, x_b estimated without block b.

    References
    ----------
    Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 11.
    """
    n = len(left_out)
    return (n - 1) / n * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0)


# How alike the errors of ln Gamma at two ages are where no pixel blocks tell: a share that all ages
# have in common (contrast and baseline of the series), the rest forgotten over so many frames.
# Measured on simulated series of 350 and 1,000 frames, which it makes worth 2.6 and 3.7 values.
_COMMON, _FORGOTTEN = 0.2, 45.0


def n_effective(ages: Array, left_out: FloatArray | None = None) -> float:
    """Return how many independent values of ln Gamma the ages of one ROI are worth.

    Neighbouring ages share frames, and all ages the contrast and baseline of the series. The error
    of a mean over ages is sqrt(mean(error^2) / n_effective).

    Parameters
    ----------
    ages
        Shape (n,), frames.
    left_out
        Shape (n_block, n): ln Gamma at these ages with each pixel block left out. The result is the
        mean jackknife variance over that of the mean. Without it, the correlation
        0.2 + 0.8 exp(-distance / 45 frames) stands for it.

    Returns
    -------
    float
        At least 1; NaN without ages.
    """
    if not len(ages):
        return float("nan")
    if left_out is not None:
        of_mean = float(jackknife_variance(left_out.mean(axis=1)))
        return float(jackknife_variance(left_out).mean()) / of_mean if of_mean > 0 else 1.0
    span = max(float(np.ptp(ages)), 1.0) / _FORGOTTEN
    mean_correlation = 2 * (span - 1 + np.exp(-span)) / span**2
    return float(1 / (_COMMON + (1 - _COMMON) * min(mean_correlation, 1.0)))


class StackedResiduals:
    """Residuals of fits, stacked over ages: what a wrong model leaves at the same lags each time.

    Its state is three weighted sums a lag bin: of the weights and of the residuals, (n_bin,), and
    of the residuals with one pixel block left out, (n_block, n_bin). `add` returns a new stack.
    """

    def __init__(
        self,
        weight: FloatArray | None = None,
        total: FloatArray | None = None,
        left_out: FloatArray | None = None,
    ) -> None:
        self._weight = np.zeros(0) if weight is None else weight
        self._total = np.zeros(0) if total is None else total
        self._left_out = np.zeros((1, 0)) if left_out is None else left_out

    def add(
        self, weights: FloatArray, residual: FloatArray, left_out: FloatArray
    ) -> StackedResiduals:
        """Return the stack with more ages.

        Weights and residuals are (n_age, n_bin), not less bins than before; `left_out` are the
        residuals of the fits without a block, (n_block, n_age, n_bin).
        """
        more = weights.shape[1] - len(self._weight)
        return StackedResiduals(
            np.pad(self._weight, (0, more)) + weights.sum(axis=0),
            np.pad(self._total, (0, more)) + (weights * residual).sum(axis=0),
            np.pad(self._left_out, ((0, 0), (0, more)))
            + np.einsum("ab,kab->kb", weights, left_out),
        )

    def misfit(self) -> float:
        """Return T: the mean over lag bins of residual^2 in units of its jackknife variance.

        The residual of a bin is the weighted mean over ages, its variance an average over 5 bins.
        T is about 1 where the model is right. NaN without data.
        """
        known = self._weight > 0
        if not known.any():
            return float("nan")
        mean = self._total[known] / self._weight[known]
        variance = jackknife_variance(self._left_out[:, known] / self._weight[known])
        ones = np.ones(min(_SMOOTH, variance.size))
        number = np.convolve(np.ones(variance.size), ones, "same")
        smooth = np.convolve(variance, ones, "same") / number
        return float(np.mean(mean**2 / np.maximum(smooth, np.finfo(np.float64).tiny)))
