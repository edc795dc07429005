"""g2 of a whole series: the mean of C2 along its diagonals, with an honest standard error."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.arrays import as_stack
from xpcs_live_denoise.records.types import BoolArray, FloatArray, IntArray

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
        mean = entries.sum(axis=1) / np.maximum(count, 1)
        entries -= mean[:, np.newaxis]
        entries[~finite] = 0.0
        g2[roi] = np.where(count > 0, mean, np.nan)
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
    total = np.zeros((n_lag + 1, sums.shape[1]))
    np.cumsum(sums, axis=0, out=total[1:])
    return total[np.minimum(lag + reach, n_lag)] - total[np.maximum(lag - 1 - reach, 0)]
