"""Age cuts: g2 at one age, from the pixels of C2 around a line perpendicular to its diagonal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.arrays import as_stack
from xpcs_live_denoise.records.types import Array, FloatArray, IntArray

# Ages within this many frames of a cut tell the noise of its entries.
NOISE_REACH = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class AgeCuts:
    """Cuts through C2, one for each ROI and age.

    Attributes
    ----------
    age
        Shape (n_age,): centres, frames.
    lag
        Shape (n_lag,): lags in frames, from 1.
    mean
        Shape (n_roi, n_age, n_lag): mean of the pixels of a cut; NaN where it has none.
    n_pixels
        Shape (n_roi, n_age, n_lag): number of pixels in that mean.
    noise
        Shape (n_roi, n_age): variance of one entry of C2 near that age; NaN where nothing tells.
    mean_age
        Shape (n_roi, n_age): mean age of the pixels used, frames; NaN where there are none.
    """

    age: FloatArray
    lag: IntArray
    mean: FloatArray
    n_pixels: IntArray
    noise: FloatArray
    mean_age: FloatArray


def age_cuts(
    c2: ArrayLike, *, width: float = 1, ages: ArrayLike | None = None, max_lag: int | None = None
) -> AgeCuts:
    """Average C2 over cuts of constant age (t1 + t2)/2.

    The cut at centre a holds the pixels with -width/2 < age - a <= width/2. Hence a cut of width 1
    at an integer centre has one pixel a lag: even lags at a, odd lags at a + 1/2; and cuts of
    width w whose centres are w apart hold every pixel exactly once. NaN pixels are ignored.

    The noise of one entry is half the mean squared difference of neighbours along the diagonals
    (same lag, next age), over all lags and the ages within 20 frames of the centre. Dynamics that
    are slow compared with a frame make neighbours alike, and the noise an underestimate.

    Parameters
    ----------
    c2
        Shape (n, n) or (n_roi, n, n); the upper triangle is read.
    width
        In frames.
    ages
        Centres in frames, any order; default 0, 1, ..., n - 1. Only the part of C2 around them is
        read.
    max_lag
        Longest lag in frames; default n - 1.

    Raises
    ------
    InvalidInputError
        When C2 has another shape, the width is not positive, an age is not finite or max_lag is
        below 1.
    """
    stack = as_stack(c2)
    n = stack.shape[-1]
    centres = np.arange(n, dtype=np.float64) if ages is None else np.asarray(ages, np.float64)
    centres = centres.reshape(-1)
    longest = n - 1 if max_lag is None else min(max_lag, n - 1)
    if not (width > 0 and np.isfinite(centres).all()):
        raise InvalidInputError(
            f"Age cuts: got width {width} and ages from {centres.min(initial=np.inf)} to "
            f"{centres.max(initial=-np.inf)}; expected a width above 0 and finite ages, in frames."
        )
    if max_lag is not None and max_lag < 1:
        raise InvalidInputError(f"Age cuts: got max_lag {max_lag}; expected at least 1 frame.")
    # Rows of the layout below that a cut takes, [first, stop), by the lag's parity (even, odd).
    half_step = np.array([[0.0], [0.5]])
    first = np.floor(centres - width / 2 - half_step).astype(np.int64) + 1  # (2, n_age)
    stop = np.floor(centres + width / 2 - half_step).astype(np.int64) + 1
    # Rows to read: those of the cuts and those that tell their noise.
    low, high = 0, 0
    if centres.size:
        low = int(np.clip(np.floor(min(first.min(), centres.min() - NOISE_REACH)), 0, n))
        high = int(np.clip(max(stop.max(), centres.max() + NOISE_REACH + 1), low, n))
    rows = _by_age(stack, low, high, max(longest, 0))
    return _sum_cuts(rows, centres, low, first, stop)


def _by_age(stack: FloatArray, low: int, high: int, n_lag: int) -> FloatArray:
    """Lay C2 out by age and lag: (n_roi, high - low, n_lag), NaN where no frame is.

    Row a holds C2(a - lag//2, a + (lag + 1)//2): even lags at age a, odd lags at a + 1/2. Going
    down a column is going along a diagonal of C2.
    """
    n = stack.shape[-1]
    age = np.arange(low, high)[:, np.newaxis]
    lag = np.arange(1, n_lag + 1)
    # Near the ends of the series only short lags exist: read no more than the ages can have.
    useful = int(np.minimum(2 * age + 1, 2 * (n - 1 - age)).max(initial=0))
    lag = lag[: max(useful, 0)]
    t1, t2 = age - lag // 2, age + (lag + 1) // 2
    inside = (t1 >= 0) & (t2 < n)
    rows = np.full((stack.shape[0], max(high - low, 0), n_lag), np.nan)
    if inside.any():
        read = stack[:, np.maximum(t1, 0), np.minimum(t2, n - 1)]
        rows[:, :, : lag.size] = np.where(inside, read, np.nan)
    return rows


def _sum_cuts(
    rows: FloatArray, centres: FloatArray, low: int, first: IntArray, stop: IntArray
) -> AgeCuts:
    """Average rows [first, stop) of each cut, by differences of cumulative sums."""
    n_roi, n_row, n_lag = rows.shape
    lag = np.arange(1, n_lag + 1, dtype=np.int64)
    finite = np.isfinite(rows)
    first, stop = (np.clip(edge - low, 0, n_row) for edge in (first, stop))
    totals = _cumulative(np.where(finite, rows, 0.0))
    counts = _cumulative(finite.astype(np.int64))
    mean = np.empty((n_roi, centres.size, n_lag))
    n_pixels = np.empty(mean.shape, dtype=np.int64)
    age_total = np.zeros((n_roi, centres.size))
    row_age = np.arange(low, low + n_row, dtype=np.float64)
    for parity in (0, 1):
        some = slice(1 - parity, None, 2)  # even lags are at odd indices
        begin, end = first[parity], stop[parity]
        mean[:, :, some] = totals[:, end, some] - totals[:, begin, some]
        n_pixels[:, :, some] = counts[:, end, some] - counts[:, begin, some]
        ages = _cumulative(finite[:, :, some].sum(axis=2) * (row_age + parity / 2))
        age_total += ages[:, end] - ages[:, begin]
    n_all = n_pixels.sum(axis=2)
    return AgeCuts(
        age=centres,
        lag=lag,
        mean=np.where(n_pixels > 0, mean / np.maximum(n_pixels, 1), np.nan),
        n_pixels=n_pixels,
        noise=_local_noise(rows, centres - low),
        mean_age=np.where(n_all > 0, age_total / np.maximum(n_all, 1), np.nan),
    )


def _local_noise(rows: FloatArray, centres: FloatArray) -> FloatArray:
    """Return half the mean squared difference of neighbouring rows near each centre."""
    squares = np.diff(rows, axis=1) ** 2 / 2  # (n_roi, n_row - 1, n_lag): row r with r + 1
    finite = np.isfinite(squares)
    totals = _cumulative(np.where(finite, squares, 0.0).sum(axis=2))
    counts = _cumulative(finite.sum(axis=2))
    n_pair = squares.shape[1]
    begin = np.clip(np.ceil(centres - NOISE_REACH).astype(np.int64), 0, n_pair)
    end = np.clip(np.floor(centres + NOISE_REACH).astype(np.int64), begin, n_pair)
    count = counts[:, end] - counts[:, begin]
    return np.where(count > 0, (totals[:, end] - totals[:, begin]) / np.maximum(count, 1), np.nan)


def _cumulative(values: Array) -> Array:
    """Return sums along axis 1 of all values before each index: one longer than `values`."""
    shape = (values.shape[0], values.shape[1] + 1, *values.shape[2:])
    sums = np.zeros(shape, dtype=values.dtype)
    np.cumsum(values, axis=1, out=sums[:, 1:])
    return sums
