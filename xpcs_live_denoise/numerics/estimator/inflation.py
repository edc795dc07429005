"""How much larger the noise of a C2 is than its entries say, where no pixel blocks tell it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.arrays import mean_or_nan
from xpcs_live_denoise.records.types import FloatArray, IntArray

from .ages import BayesEstimator
from .sums import AgeSums

LEAST_BLOCKS = 8  # fewer blocks without correlation hardly tell the inflation: a caution
# Integral of Gamma between two frames from which on they have nothing in common.
_FAR = 2.5
# Where the series is too short for such frames: the edge of a block in units of 1/Gamma, and what
# the inflation found so is divided by. On simulated series of 350 frames at 0.005 to 0.03 a frame
# whole ones covered 91 / 99 % of truths within one / two errors, a third of them 82 / 98 %.
_NEAR_EDGE, _NEAR_EXCESS = 0.5, 3.0
# Ages from one to the next of the first look at Gamma.
_LOOK_STEP = 10


def far_lag_inflation(c2: FloatArray, rate: ArrayLike) -> tuple[float, int]:
    """Return by how much the variance of means of C2 exceeds that of independent entries.

    Entries of C2 share pixels and frames: where the speckle limits, neighbours within 1/Gamma are
    alike, and their mean is known less well than the white noise s2 of an entry says. Where
    S = integral of Gamma from t1 to t2 is above 2.5, C2 is its baseline and only noise is left, so
    that the means of blocks of b x b entries, b = 1/Gamma frames, tell it:

        inflation = 2 Var(block means) b^2 / s2,  at least 1,

    with s2 half the mean squared difference of neighbours along the diagonals. It is 2 to 5 times
    what a jackknife over pixel blocks finds, so that errors from it are rather too large.

    Where fewer than 8 blocks lie that far, half the mean squared difference of neighbouring blocks
    along the diagonals, at every lag, is taken instead: 1/(2 Gamma) wide, corrected for what such
    neighbours have in common when g1 is exponential. It is uncertain by a factor of 2.

    Parameters
    ----------
    c2
        Shape (n, n), of one ROI; the upper triangle is read, NaN is no measurement.
    rate
        Gamma per frame at each frame, (n,), or one for all; NaN where not known.

    Returns
    -------
    inflation
        1 where Gamma or the noise is not known.
    n_blocks
        How many blocks lie beyond S = 2.5; below `LEAST_BLOCKS` the inflation deserves a caution.

    Raises
    ------
    InvalidInputError
        When C2 is not (n, n), or the rates do not fit.
    """
    n = len(c2)
    try:
        rates = np.broadcast_to(np.asarray(rate, np.float64), (n,))
    except ValueError:
        rates = np.empty(0)
    if c2.shape != (n, n) or len(rates) != n:
        raise InvalidInputError(
            f"far_lag_inflation: got C2 of shape {c2.shape} and rates of shape {np.shape(rate)}; "
            "expected (n, n), and one rate or (n,)."
        )
    known = rates[np.isfinite(rates) & (rates > 0)]
    noise = _difference(c2) if n > 2 else np.nan
    if not known.size or not noise > 0:
        return 1.0, 0
    typical = float(np.median(known))
    rates = np.where(np.isfinite(rates) & (rates > 0), rates, typical)
    passed = np.concatenate([[0.0], np.cumsum((rates[1:] + rates[:-1]) / 2)])
    edge = max(1, round(1 / typical))
    means = _block_means(c2, edge)
    first = np.arange(len(means)) * edge
    distance = passed[first] - passed[first + edge - 1][:, np.newaxis]
    far = means[(distance > _FAR) & np.isfinite(means)]
    if far.size >= LEAST_BLOCKS:
        return max(2 * float(far.var(ddof=1)) * edge**2 / noise, 1.0), far.size
    return max(_near_inflation(c2, typical, noise) / _NEAR_EXCESS, 1.0), far.size


def _near_inflation(c2: FloatArray, rate: float, noise: float) -> float:
    """Return the inflation from differences of neighbouring blocks, at every lag."""
    edge = min(max(2, round(_NEAR_EDGE / rate)), max(len(c2) // 4, 2))
    # Blocks that begin half an edge later as well: there are few.
    found = [_difference(_block_means(c2[k:, k:], edge)) for k in range(0, edge, edge // 2)]
    found = [one for one in found if np.isfinite(one)]
    if not found:
        return 1.0
    reach = 2 * rate * edge
    within = 2 * (reach - 1 + np.exp(-reach)) / reach**2
    between = ((1 - np.exp(-reach)) / reach) ** 2
    excess = max(float(np.mean(found)) * edge**2 / noise - 1, 0.0)
    return 1 + excess / (within**2 - between**2) / (edge * rate) ** 2


def _difference(c2: FloatArray) -> float:
    """Return half the mean squared difference of neighbours along the diagonals, lag 0 left out."""
    total, count = 0.0, 0
    for row in range(len(c2) - 2):  # one at a time: no copy of a large C2
        step = c2[row + 1, row + 2 :] - c2[row, row + 1 : -1].astype(np.float64)
        step = step[np.isfinite(step)]
        total, count = total + float(step @ step), count + step.size
    return total / count / 2 if count else np.nan


def _block_means(c2: FloatArray, edge: int) -> FloatArray:
    """Return the means over blocks of edge x edge entries, (n // edge, n // edge), NaN for none."""
    m = len(c2) // edge
    means = np.full((m, m), np.nan)
    for row in range(m):
        band = np.asarray(c2[row * edge : (row + 1) * edge, : m * edge], np.float64)
        band = band.reshape(edge, m, edge)
        finite = np.isfinite(band)
        total = np.where(finite, band, 0.0).sum(axis=(0, 2))
        means[row] = mean_or_nan(total, finite.sum(axis=(0, 2)))
    return means


def inflated(sums: AgeSums, c2: FloatArray) -> tuple[AgeSums, IntArray]:
    """Return sums whose noise is that of means of C2, for series of which no pixels are known.

    A first look at Gamma, every ten frames, tells how far entries are alike. `c2` is (n_roi, n, n).
    Returns also how many blocks tell the inflation of each ROI, (n_roi,); `far_lag_inflation`.
    """
    frames = np.arange(sums.n_frames, dtype=np.int64)
    rows = np.arange(0, sums.n_rows, max(_LOOK_STEP // sums.row_frames, 1), dtype=np.int64)
    factors, n_blocks = np.ones(sums.n_roi), np.zeros(sums.n_roi, np.int64)
    for roi in range(sums.n_roi):
        look = BayesEstimator(roi).estimate(sums, rows)
        ln_rate = np.interp(frames, look.age, look.fits.ln_rate)
        factors[roi], n_blocks[roi] = far_lag_inflation(c2[roi], np.exp(ln_rate))
    return sums.with_noise(factors), n_blocks
