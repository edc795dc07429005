"""g2 from C2: of the whole series, along its diagonals, and at one age, from cuts across them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.records.types import Array, BoolArray, FloatArray, IntArray

from .arrays import as_stack, mean_or_nan, range_sums

# Variance and autocorrelation are pooled over the lags within this share of a lag on either side: a
# single diagonal, the more a short one, does not tell its own correlation time.
_POOL_SHARE = 0.25
# Passes over the standard error. Deviations are from a row's own mean, so their covariance is too
# small by that mean's variance; the second pass puts it back.
_PASSES = 2
# Share of the entries of a row that may count as one.
_MOST_AS_ONE = 0.8
# Diagonals whose spectra are computed at once.
_BATCH = 128


def g2_from_c2(
    c2: ArrayLike, max_lag: int | None = None
) -> tuple[FloatArray, FloatArray, IntArray]:
    """Average C2 along each diagonal: g2(lag) = <C2(t, t + lag)>_t.

    Neighbouring entries of a diagonal are alike while the speckle has not moved, so the standard
    error of their mean is not std/sqrt(N). With rho_k the autocorrelation along the diagonal,

        error^2 = (variance / N) (1 + 2 sum_k (1 - k/N) rho_k),

    where the sum ends before the first rho_k that is not positive. Variance and rho are pooled over
    neighbouring lags. What the series drifts by counts as scatter. A series of few correlation
    times does not tell all of its error: at 5 of them, 1/(2 Gamma) each, 0.7 to 0.9 of it.

    Parameters
    ----------
    c2
        Shape (n, n) or (n_roi, n, n); the upper triangle is read, NaN entries are ignored.
    max_lag
        Longest lag in frames; default n - 1.

    Returns
    -------
    g2, g2_error
        Shape (n_roi, n_lag) at lags 1..n_lag; NaN where no entry is finite (g2) or where fewer than
        two entries of the neighbouring lags are (g2_error).
    n_used
        Shape (n_roi, n_lag): number of finite entries.

    Raises
    ------
    InvalidInputError
        When C2 has another shape or max_lag is below 1.
    """
    stack = as_stack(c2)
    if max_lag is not None and max_lag < 1:
        raise InvalidInputError(f"g2: got max_lag {max_lag}; expected at least 1 frame.")
    n_roi, n = stack.shape[:2]
    n_lag = max(0, n - 1 if max_lag is None else min(max_lag, n - 1))
    g2 = np.full((n_roi, n_lag), np.nan)
    error = np.full((n_roi, n_lag), np.nan)
    n_used = np.zeros((n_roi, n_lag), dtype=np.int64)
    for roi in range(n_roi if n_lag else 0):
        entries = _by_lag(stack[roi], n_lag)  # (n_lag, n)
        finite = np.isfinite(entries)
        count = finite.sum(axis=1)
        entries[~finite] = 0.0
        g2[roi] = mean_or_nan(entries.sum(axis=1), count)
        entries -= g2[roi][:, np.newaxis]
        entries[~finite] = 0.0
        error[roi] = _standard_error(entries, finite, count)
        n_used[roi] = count
    return g2, error, n_used


def _by_lag(c2: FloatArray, n_lag: int) -> FloatArray:
    """Lay the diagonals of C2 (n, n) out as rows: (n_lag, n), NaN behind their ends."""
    n = c2.shape[0]
    rows = np.full((n_lag, n), np.nan)
    for lag in range(1, n_lag + 1):
        rows[lag - 1, : n - lag] = np.diagonal(c2, offset=lag)
    return rows


def _standard_error(deviations: FloatArray, finite: BoolArray, count: IntArray) -> FloatArray:
    """Return the standard error of the mean of each row, from deviations (n_lag, n), 0 at gaps."""
    products, pairs = (
        _pool_rows(_autocorrelation_sums(rows)) for rows in (deviations, finite.astype(np.float64))
    )  # (n_lag, n)
    covariance = products / np.maximum(pairs, 1.0)
    entries = np.maximum(count, 1)
    squared = np.zeros(len(count))
    enough = count > 0
    for _ in range(_PASSES):
        together = _entries_as_one(covariance + squared[:, np.newaxis], count)
        # The own mean has taken `together` of the `count` degrees of freedom.
        freedom = _pool_rows((count - together * (count > 0))[:, np.newaxis])[:, 0]
        enough = (freedom > 0) & (count > 0)
        variance = products[:, 0] / np.where(enough, freedom, 1.0)
        squared = np.maximum(variance, 0.0) * together / entries
    return np.sqrt(np.where(enough, squared, np.nan))


def _entries_as_one(covariance: FloatArray, count: IntArray) -> FloatArray:
    """Return 1 + 2 sum_k (1 - k/N) rho_k: how many of the N entries of a row count as one."""
    # What follows the first value that is not positive is noise.
    positive = np.logical_and.accumulate(covariance > 0, axis=1)
    rho = np.where(positive, covariance, 0.0) / np.where(positive[:, :1], covariance[:, :1], 1.0)
    rho[:, 0] = 0.0
    at = np.arange(len(count)), np.maximum(count - 1, 0)
    plain = np.cumsum(rho, axis=1)[at]
    rising = np.cumsum(np.arange(float(rho.shape[1])) * rho, axis=1)[at]
    entries = np.maximum(count, 1)
    # Never all of them: a row that is all alike does not tell how much such rows differ.
    return np.minimum(1 + 2 * (plain - rising / entries), np.maximum(_MOST_AS_ONE * entries, 1))


def _autocorrelation_sums(rows: FloatArray) -> FloatArray:
    """Return sum_t x_t x_(t+k) of each row for k = 0 .. n - 1, by the Fourier transform."""
    n = rows.shape[1]
    size = 1 << (2 * n - 1).bit_length()  # zero padded: nothing wraps around
    sums = np.empty_like(rows)
    for first in range(0, len(rows), _BATCH):
        spectrum = np.fft.rfft(rows[first : first + _BATCH], size, axis=1)
        power = spectrum.real**2 + spectrum.imag**2
        sums[first : first + _BATCH] = np.fft.irfft(power, size, axis=1)[:, :n]
    return sums


def _pool_rows(sums: FloatArray) -> FloatArray:
    """Add up each row of (n_lag, k) and its neighbouring lags."""
    n_lag = len(sums)
    lag = np.arange(1, n_lag + 1)
    reach = (_POOL_SHARE * lag).astype(np.int64)
    return range_sums(sums, np.maximum(lag - 1 - reach, 0), np.minimum(lag + reach, n_lag))


# Ages within this many frames of a cut tell the noise of its entries.
NOISE_REACH = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class AgeCuts:
    """Cuts through C2, one for each ROI and age."""

    age: FloatArray  # (n_age,): centres, frames
    lag: IntArray  # (n_lag,): lags in frames, from 1
    mean: FloatArray  # (n_roi, n_age, n_lag): of the pixels of a cut; NaN where it has none
    n_pixels: IntArray  # (n_roi, n_age, n_lag)
    noise: FloatArray  # (n_roi, n_age): variance of an entry of C2 near that age; NaN: unknown
    mean_age: FloatArray  # (n_roi, n_age): of the pixels used, frames; NaN where there are none


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
        Shape (n, n) or (n_roi, n, n); the upper triangle is read, around the ages only.
    width, max_lag
        In frames; the longest lag is n - 1 by default.
    ages
        Centres in frames, any order; default 0, 1, ..., n - 1.

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
    low, high, first, stop = _rows_of_cuts(centres, width, n)
    rows = _by_age(stack, low, high, max(longest, 0))
    return _sum_cuts(rows, centres, low, first, stop)


def band_cuts(
    band: FloatArray, start: int, ages: ArrayLike, *, max_lag: int | None = None
) -> AgeCuts:
    """Average C2 over cuts of one frame, as `age_cuts`, where only its band is known.

    `band` are C2(t, t - lag), (n_roi, k, width), rows from frame `start` on up to the newest; lags
    beyond width - 1 are not there. A cut and its noise need the rows from NOISE_REACH frames before
    its age to NOISE_REACH and half the longest lag after it.
    """
    centres = np.asarray(ages, np.float64).reshape(-1)
    n, longest = start + band.shape[1], band.shape[2] - 1
    low, high, first, stop = _rows_of_cuts(centres, 1, n)
    lag = np.arange(1, min(longest, max_lag or longest) + 1, dtype=np.int64)
    age = np.arange(low, high)[:, np.newaxis]
    earlier, later = age - lag // 2, age + (lag + 1) // 2
    known = (earlier >= 0) & (later >= start) & (later < n)
    rows = np.full((len(band), *known.shape), np.nan)
    if known.any():
        read = band[:, np.clip(later - start, 0, band.shape[1] - 1), lag]
        np.copyto(rows, read, where=known)
    return _sum_cuts(rows, centres, low, first, stop)


def _rows_of_cuts(centres: FloatArray, width: float, n: int) -> tuple[int, int, IntArray, IntArray]:
    """Return which rows of a layout by age are needed, [low, high), and which each cut takes.

    Those are [first, stop), each (2, n_age), by the lag's parity (even, odd).
    """
    half_step = np.array([[0.0], [0.5]])
    first = np.floor(centres - width / 2 - half_step).astype(np.int64) + 1  # (2, n_age)
    stop = np.floor(centres + width / 2 - half_step).astype(np.int64) + 1
    # Rows to read: those of the cuts and those that tell their noise.
    low, high = 0, 0
    if centres.size:
        low = int(np.clip(np.floor(min(first.min(), centres.min() - NOISE_REACH)), 0, n))
        high = int(np.clip(max(stop.max(), centres.max() + NOISE_REACH + 1), low, n))
    return low, high, first, stop


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
    return AgeCuts(
        age=centres,
        lag=lag,
        mean=mean_or_nan(mean, n_pixels),
        n_pixels=n_pixels,
        noise=_local_noise(rows, centres - low),
        mean_age=mean_or_nan(age_total, n_pixels.sum(axis=2)),
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
    return mean_or_nan(totals[:, end] - totals[:, begin], counts[:, end] - counts[:, begin])


def _cumulative(values: Array) -> Array:
    """Return sums along axis 1 of all values before each index: one longer than `values`."""
    shape = (values.shape[0], values.shape[1] + 1, *values.shape[2:])
    sums = np.zeros(shape, dtype=values.dtype)
    np.cumsum(values, axis=1, out=sums[:, 1:])
    return sums
