"""Sums of C2 over bins of age and lag, kept while frames arrive, also with pixels left out."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from xpcs_live_denoise.numerics.arrays import (
    as_stack,
    bin_of_lag,
    enlarged,
    lag_bin_edges,
    mean_or_nan,
    next_capacity,
    range_sums,
)
from xpcs_live_denoise.numerics.g2 import NOISE_REACH
from xpcs_live_denoise.records.types import AXIS_1, SHARED, Array, FloatArray, IntArray

FIRST_CAPACITY = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class BinnedCuts:
    """Means of C2 - 1 over n_cut cuts of one ROI, in lag bins."""

    # (n_bin + 1,): bin i holds the lags edges[i] .. edges[i + 1] - 1.
    edges: IntArray = field(metadata=SHARED)
    mean: FloatArray  # (n_cut, n_bin); 0 where a cut has no entry
    n_entries: FloatArray  # (n_cut, n_bin)
    noise: FloatArray  # (n_cut,): variance of one entry of C2 near that age; NaN: nothing tells
    mean_age: FloatArray  # (n_cut,): of the entries, frames; NaN where there are none
    longest_lag: IntArray  # (n_cut,): first lag of the last bin that has an entry, frames
    # (n_block, n_cut, n_bin): as `mean`, without the pixels of one block; None: no blocks known.
    left_out: FloatArray | None = field(metadata=AXIS_1)


class AgeSums:
    """Sums of C2 - 1 by ROI, age and lag bin.

    An entry C2(t1, t2) belongs to the row floor((t1 + t2)/2): even lags at that age, odd lags half
    a frame later, as in `age_cuts`. Reading consumes nothing. There are `n_block` pixel blocks a
    ROI, 0 where no pixels are known, and room for `capacity` frames, which grows. Memory: 4 bytes a
    ROI, block, frame and lag bin, of which there are 62 for 350 frames and 98 for 4000.
    """

    def __init__(self, n_roi: int, n_block: int = 0, capacity: int = FIRST_CAPACITY) -> None:
        self.n_roi = n_roi
        self.n_block = n_block
        self.n_frames = 0
        self._set_capacity(capacity)
        cells = capacity * self._n_bin
        self._sums = np.zeros((cells, n_roi))
        self._counts = np.zeros((cells, n_roi), np.int32)
        self._left_out = np.zeros((cells, n_roi * n_block), np.float32)
        self._squares = np.zeros((capacity, n_roi))
        self._pairs = np.zeros((capacity, n_roi))
        self._previous = np.empty((n_roi, 0), np.float64)  # the newest column, by lag

    @classmethod
    def from_c2(cls, c2: ArrayLike) -> AgeSums:
        """Sum a C2 that is there, (n, n) or (n_roi, n, n), its upper triangle; NaN is ignored."""
        stack = as_stack(c2)
        sums = cls(len(stack), capacity=max(1, stack.shape[-1]))
        sums.add(stack)
        return sums

    def add(self, columns: FloatArray, left_out: FloatArray | None = None) -> None:
        """Add what k new frames bring.

        `columns` (n_roi, n_frames + k, k) are C2(t1, t2) for the new t2 and all t1; `left_out`
        (n_roi * n_block, n_frames + k, k), needed where there are blocks, is C2 - 1 without the
        pixels of one block, for each block of the first ROI, then of the second and so on; any
        finite number where `columns` is NaN.
        """
        n_new = columns.shape[2]
        start, stop = self.n_frames, self.n_frames + n_new
        self._reserve(stop)
        for new in range(n_new):
            frame = start + new
            by_lag = np.asarray(columns[:, :frame, new][:, ::-1], np.float64) - 1  # (n_roi, frame)
            self._add_frame(frame, by_lag)
            if left_out is not None:
                values = left_out[:, :frame, new][:, ::-1].T  # (frame, n_roi * n_block)
                measured = np.isfinite(by_lag)
                if not measured.all():
                    values = values * np.repeat(measured.T, self.n_block, axis=1)
                for one, index in self._cells(frame):
                    self._left_out[index] += values[one]
        self.n_frames = stop

    def add_gap(self, n_frames: int) -> None:
        """Add frames without measurement."""
        self._reserve(self.n_frames + n_frames)
        self.n_frames += n_frames
        if n_frames:
            self._previous = np.full((self.n_roi, self.n_frames - 1), np.nan)

    def cuts(
        self, roi: int, ages: ArrayLike, widths: ArrayLike, within: ArrayLike | None = None
    ) -> BinnedCuts:
        """Return the means over n_cut cuts of a ROI.

        The cut at centre a, a whole frame, holds the entries with -width/2 < age - a <= width/2.
        Widths are odd numbers of frames, one for all or (n_cut,). What leaves the series is cut
        off. `within` (2, n_cut) are frames [first, stop) in which both frames of an entry must
        lie, everything by default; a lag bin counts there only if all its lags do.
        """
        centres = np.asarray(ages, np.int64).reshape(-1)
        reach = np.asarray(widths, np.int64) // 2
        first = np.clip(centres - reach, 0, self.n_frames)
        stop = np.clip(centres + reach + 1, 0, self.n_frames)
        if within is None:
            return self._means(roi, first, stop, centres)
        return self._means(roi, first, stop, centres, np.asarray(within, np.int64))

    def series(self, roi: int) -> BinnedCuts:
        """Return one cut that holds the whole series."""
        return self._means(roi, np.array([0]), np.array([self.n_frames]), None)

    def with_noise(self, factors: FloatArray) -> AgeSums:
        """Return the same sums, the variance of an entry multiplied by a factor a ROI, (n_roi,)."""
        other = copy.copy(self)
        other._squares = self._squares * factors
        return other

    # --- adding ----------------------------------------------------------------------------

    def _cells(self, frame: int) -> list[tuple[slice, IntArray]]:
        """Return which lags (odd, even) go to which cells; no cell twice in one of the two.

        The entry at `lag` of column `frame` has the row frame - ceil(lag / 2).
        """
        index: IntArray = frame * self._n_bin + self._offset[:frame]
        return [(slice(0, None, 2), index[0::2]), (slice(1, None, 2), index[1::2])]

    def _add_frame(self, frame: int, by_lag: FloatArray) -> None:
        """Add C2 - 1 of one column, and its squared differences to the column before."""
        measured = np.isfinite(by_lag)
        values = np.where(measured, by_lag, 0.0).T  # (frame, n_roi)
        for one, index in self._cells(frame):
            self._sums[index] += values[one]
            self._counts[index] += measured.T[one]
        squares = (by_lag[:, : frame - 1] - self._previous).T ** 2 / 2 if frame else by_lag.T
        known = np.isfinite(squares)
        squares = np.where(known, squares, 0.0)
        row = frame - 1 - np.arange(2, len(squares) + 2) // 2
        for parity in (0, 1):  # a row once in each
            self._squares[row[parity::2]] += squares[parity::2]
            self._pairs[row[parity::2]] += known[parity::2]
        self._previous = by_lag

    def _set_capacity(self, capacity: int) -> None:
        """Lay out the bins for `capacity` frames."""
        self._capacity = capacity
        self._edges = lag_bin_edges(max(capacity - 1, 1))
        lag = np.arange(1, self._edges[-1], dtype=np.int64)
        self._offset: IntArray = bin_of_lag(self._edges) - (lag + 1) // 2 * self._n_bin

    @property
    def _n_bin(self) -> int:
        return len(self._edges) - 1

    def _reserve(self, n_frames: int) -> None:
        if n_frames <= self._capacity:
            return
        old = (self._capacity, self._n_bin)
        self._set_capacity(next_capacity(self._capacity, n_frames))

        def wider(table: Array) -> Array:
            columns = table.shape[1]
            shape = (self._capacity, self._n_bin, columns)
            larger = enlarged(table.reshape(*old, columns), shape, 0)
            return larger.reshape(self._capacity * self._n_bin, columns)  # columns may be 0

        self._sums, self._counts = wider(self._sums), wider(self._counts)
        self._left_out = wider(self._left_out)
        self._squares = enlarged(self._squares, (self._capacity, self.n_roi), 0)
        self._pairs = enlarged(self._pairs, (self._capacity, self.n_roi), 0)

    # --- reading ---------------------------------------------------------------------------

    def _means(
        self,
        roi: int,
        first: IntArray,
        stop: IntArray,
        centres: IntArray | None,
        within: IntArray | None = None,
    ) -> BinnedCuts:
        """Average rows [first, stop) of each cut; noise near `centres`, None: of all rows."""
        edges = lag_bin_edges(max(self.n_frames - 1, 1))
        n_bin = len(edges) - 1
        low, high = (int(first.min()), int(stop.max())) if first.size else (0, 0)
        table = (self._capacity, self._n_bin)
        some = np.s_[low:high, :n_bin]
        begin, end = first - low, np.maximum(stop, first) - low
        if within is not None:  # an entry of a row reaches half its lag to either side
            last_lag = edges[1:] - 1
            lowest = within[0][:, np.newaxis] + last_lag // 2 - low  # (n_cut, n_bin)
            highest = within[1][:, np.newaxis] - (last_lag + 1) // 2 - low
            begin = np.clip(lowest, begin[:, np.newaxis], end[:, np.newaxis])
            end = np.maximum(np.minimum(highest, end[:, np.newaxis]), begin)
        counts = self._counts.reshape(*table, -1)[(*some, roi)]
        number = range_sums(counts, begin, end)  # (n_cut, n_bin)
        divisor = np.maximum(number, 1)
        sums = range_sums(self._sums.reshape(*table, -1)[(*some, roi)], begin, end)
        left_out = None
        if self.n_block:
            blocks = slice(roi * self.n_block, (roi + 1) * self.n_block)
            values = self._left_out.reshape(*table, -1)[(*some, blocks)]
            left_out = np.moveaxis(range_sums(values, begin, end), 2, 0) / divisor
        row = np.arange(low, high)[:, np.newaxis]
        total = number.sum(axis=1)
        age = range_sums(counts * row, begin, end).sum(axis=1)
        last = np.where(number > 0, edges[:-1], 0).max(axis=1, initial=0)
        return BinnedCuts(
            edges=edges,
            mean=sums / divisor,
            n_entries=number,
            noise=self._noise(roi, centres, len(first)),
            # Odd lags, half of all, stand half a frame later than their row.
            mean_age=mean_or_nan(age, total) + 0.25,
            longest_lag=last,
            left_out=left_out,
        )

    def _noise(self, roi: int, centres: IntArray | None, n_cut: int) -> FloatArray:
        """Return half the mean squared difference of neighbours along the diagonals."""
        n_pair = max(self.n_frames - 1, 0)
        if centres is None:
            begin, end = np.zeros(n_cut, np.int64), np.full(n_cut, n_pair)
        else:
            begin = np.clip(centres - NOISE_REACH, 0, n_pair)
            end = np.clip(centres + NOISE_REACH, begin, n_pair)
        squares = range_sums(self._squares[:n_pair, roi, np.newaxis], begin, end)[:, 0]
        pairs = range_sums(self._pairs[:n_pair, roi, np.newaxis], begin, end)[:, 0]
        return mean_or_nan(squares, pairs)


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
            np.pad(self._left_out, ((0, 0), (0, more))) + (weights * left_out).sum(axis=1),
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
