"""Dynamical heterogeneity: how much C2 fluctuates along its diagonals beyond its noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xpcs_live_denoise.numerics.arrays import range_sums
from xpcs_live_denoise.records.types import BoolArray, FloatArray, IntArray

from .sums import AgeSums, BinnedCuts, jackknife_variance

RATIO = 1.4  # upper edge over lower edge of a lag bin
FIRST_LAG = 2
# What changes more slowly than over so many ages is ageing, not fluctuation; where rows are so long
# that these are fewer than so many rows, over that many.
FAST_AGES, _FAST_ROWS = 65, 5
# Heterogeneous: so many neighbouring bins above so many standard errors, or ln Gamma itself, which
# all bins tell together. The error of 8 blocks has long tails.
_ADJACENT, _ERRORS = 2, 2.5
_POOLED_ERRORS = 3.0
_LEAST_ROWS = 30  # ages of a bin that can tell a variance


@dataclass(frozen=True, slots=True, kw_only=True)
class Heterogeneity:
    """Variance of C2 along its diagonals, in units of beta^2, by lag; one ROI.

    `fast` holds what changes within 65 ages, in a series of more than 16,000 frames within 5 rows
    of its sums; `total` everything, slow ageing among it. What rows average is not seen. Bin i
    holds the lags edges[i] .. edges[i + 1] - 1; NaN where too few ages tell.
    """

    edges: IntArray  # (n_bin + 1,): frames
    fast: FloatArray  # (n_bin,), as the next
    fast_error: FloatArray
    total: FloatArray
    total_error: FloatArray
    # About the standard deviation of ln Gamma, from the largest `fast`, and its standard error.
    spread: float
    spread_error: float
    found: bool  # it is there: two neighbouring bins of `fast` are above 2.5 errors
    # Without pixel blocks the noise is that of neighbouring ages, which speckle shares: a bound.
    upper_bound: bool

    def at_lags(self, values: FloatArray, n_lag: int) -> FloatArray:
        """Return values (n_bin,) at the lags 1 .. n_lag, NaN outside of the bins."""
        spread = np.full(n_lag + 1, np.nan)
        last = min(int(self.edges[-1]), n_lag + 1)
        spread[FIRST_LAG:last] = np.repeat(values, np.diff(self.edges))[: last - FIRST_LAG]
        return spread[1:]


def heterogeneity(
    sums: AgeSums, roi: int, *, beta: float, alpha: float, rate: float
) -> Heterogeneity:
    """Return the dynamical heterogeneity of one ROI.

    With P_b, b = 1 .. 8, the C2 of each pixel block and A_b(age, lag) its mean over a bin of lags,
    less its running mean over 65 ages (`fast`) or its mean over the series (`total`),

        chi(lag) = < [(sum_b A_b)^2 - sum_b A_b^2] / (8 7) >_age / beta^2.

    Only products of different blocks enter: the noise of photons and speckle, which blocks do not
    share, has mean zero. It is the noise-free variance of c_I(t, tau) of Duri et al., Phys. Rev. E
    72, 051401 (2005), not chi4, which would need the number of regions that move together. The
    standard error is that of leaving one block out.

    Parameters
    ----------
    sums
        Sums of C2 by age and lag; ages without measurement are left out.
    roi
        Index of the ROI.
    beta, alpha
        Contrast, and exponent of the decay: a Gamma that fluctuates by a factor exp(x) changes C2
        by at most x beta alpha / e, whence `spread`.
    rate
        Typical Gamma per frame: at which lags C2 changes most with Gamma.
    """
    cuts = sums.cuts(roi, np.arange(sums.n_rows), 1)
    edges, values = _blocks(cuts)
    n_fast = max(FAST_AGES // sums.row_frames, _FAST_ROWS)
    fast, fast_error = _fluctuation(values, n_fast)
    total, total_error = _fluctuation(values, 2 * sums.n_rows + 1)
    decay = (rate * (edges[:-1] + edges[1:] - 1) / 2) ** alpha
    slope = decay * np.exp(-2 * decay)  # of C2 with ln Gamma, up to a factor
    scale = beta**2 if beta > 0 else np.nan
    spread = spread_error = np.nan
    if np.isfinite(fast).any():
        largest = int(np.nanargmax(fast))
        spread = np.sqrt(np.maximum(fast[largest], 0) / scale) / (alpha / np.e)
        # As an error of the square, which is what is known: none is large where it is near 0.
        spread_error = fast_error[largest] / scale / (alpha / np.e) ** 2 / (2 * max(spread, 1e-12))
        spread_error = min(spread_error, np.sqrt(fast_error[largest] / scale) / (alpha / np.e))
    return Heterogeneity(
        edges=edges,
        fast=fast / scale,
        fast_error=fast_error / scale,
        total=total / scale,
        total_error=total_error / scale,
        spread=float(spread),
        spread_error=float(spread_error),
        found=len(values) > 1 and (_adjacent(fast, fast_error) or _together(values, slope, n_fast)),
        upper_bound=len(values) == 1,
    )


def _blocks(cuts: BinnedCuts) -> tuple[IntArray, FloatArray]:
    """Return the edges of wider lag bins, and C2 - 1 of every pixel block by age in them.

    The values are (n_block, n_row, n_bin), of the whole ROI alone where blocks are not known; NaN
    where less than half of the lags of a bin were measured at an age.
    """
    first = FIRST_LAG - 1  # the fine bins begin with one lag each
    chosen = [first]
    for index in range(first + 1, len(cuts.edges)):
        if cuts.edges[index] >= RATIO * cuts.edges[chosen[-1]]:
            chosen.append(index)
    edges = cuts.edges[chosen]
    begin = np.array(chosen[:-1], np.int64)

    def wider(values: FloatArray) -> FloatArray:
        return np.add.reduceat(values[..., : chosen[-1]], begin, axis=-1)

    count = wider(cuts.n_entries)  # (n_row, n_bin)
    enough = count >= np.maximum(np.diff(edges) / 2, 1)

    def mean(values: FloatArray) -> FloatArray:
        return np.where(enough, wider(values * cuts.n_entries) / np.maximum(count, 1), np.nan)

    if cuts.left_out is None:
        return edges, mean(cuts.mean)[np.newaxis]
    blocks = np.moveaxis(cuts.left_out, 2, 0)
    n_block = len(blocks)
    whole = n_block * mean(cuts.mean)
    return edges, np.stack([whole - (n_block - 1) * mean(one) for one in blocks])


def _fluctuation(values: FloatArray, n_rows: int) -> tuple[FloatArray, FloatArray]:
    """Return the variance of values beyond their noise and its standard error, each (n_bin,).

    `values` (n_block, n_row, n_bin) less their running mean over `n_rows`.
    """
    change = values - _running_mean(values, n_rows)
    n_row = np.isfinite(change[0]).sum(axis=0)
    known = n_row >= _LEAST_ROWS
    if len(values) == 1:
        variance, error = _without_noise(change[0])
    else:
        sums, squares = np.nansum(change, axis=0), np.nansum(change**2, axis=0)
        variance = _cross(sums, squares, len(values), n_row)
        left_out = np.stack(
            [
                _cross(
                    sums - np.nan_to_num(one),
                    squares - np.nan_to_num(one) ** 2,
                    len(values) - 1,
                    n_row,
                )
                for one in change
            ]
        )
        error = np.sqrt(jackknife_variance(left_out))
    return np.where(known, variance, np.nan), np.where(known, error, np.nan)


def _cross(sums: FloatArray, squares: FloatArray, n_block: int, n_row: IntArray) -> FloatArray:
    """Return the mean product of two different blocks, averaged over the rows."""
    products = (sums**2 - squares) / (n_block * (n_block - 1))
    return products.sum(axis=0) / np.maximum(n_row, 1)


def _without_noise(change: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the mean square less half that of neighbours' differences; error from 8 stretches."""
    noise = np.diff(change, axis=0) ** 2 / 2
    excess = change[:-1] ** 2 - noise  # (n_row - 1, n_bin)
    stretches = [_mean(part) for part in np.array_split(excess, 8)]
    scatter = np.nan_to_num(np.stack(stretches) - _mean(excess))
    return _mean(excess), np.sqrt((scatter**2).sum(axis=0) / (8 * 7))


def _mean(values: FloatArray) -> FloatArray:
    """Return the mean over rows of what is known; 0 where nothing is."""
    return np.nansum(values, axis=0) / np.maximum(np.isfinite(values).sum(axis=0), 1)


def _running_mean(values: FloatArray, n_ages: int) -> FloatArray:
    """Return the mean over `n_ages` rows around each, of those that are known."""
    n_row = values.shape[1]
    reach = n_ages // 2
    at = np.arange(n_row, dtype=np.int64)
    begin, end = np.maximum(at - reach, 0), np.minimum(at + reach + 1, n_row)
    rows = np.moveaxis(values, 1, 0)
    total = range_sums(np.nan_to_num(rows), begin, end)
    count = range_sums(np.isfinite(rows), begin, end)
    return np.moveaxis(total / np.maximum(count, 1), 0, 1)


def _adjacent(variance: FloatArray, error: FloatArray) -> bool:
    """Whether neighbouring bins are significantly above zero."""
    known = np.isfinite(error) & (error > 0)
    above: BoolArray = known & (variance > _ERRORS * np.where(known, error, 1.0))
    return bool(np.any(np.convolve(above, np.ones(_ADJACENT), "valid") == _ADJACENT))


def _together(values: FloatArray, slope: FloatArray, n_fast: int) -> bool:
    """Whether the change of ln Gamma that all bins tell together is significantly above zero."""
    change = np.nan_to_num(values - _running_mean(values, n_fast))
    known = np.isfinite(values)
    noise = np.var(np.diff(change, axis=1), axis=(0, 1))
    weight = slope / np.where(noise > 0, noise, np.inf)
    norm = np.maximum((known * weight * slope).sum(axis=2), 1e-300)
    ln_rate = (change * weight).sum(axis=2) / norm  # (n_block, n_row)
    enough = known[0] @ (weight * slope) > 0.5 * (weight * slope).sum()
    ln_rate[:, ~enough] = np.nan
    variance, error = _fluctuation(ln_rate[..., np.newaxis], len(ln_rate[0]) * 2)
    return bool(variance[0] > _POOLED_ERRORS * error[0])
