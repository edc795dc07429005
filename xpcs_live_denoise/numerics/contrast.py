"""beta* and baseline*: the contrast and the baseline that scale windows of C2."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.records.types import Array, FloatArray, IntArray

from .arrays import as_stack, mean_or_nan, per_roi
from .rois import RoiMap

MODES = ("nonequilibrium", "equilibrium")

# The ranges of the paper, in a series of 400 frames: first and last, both included.
_PAPER_FRAMES = 400
_PAPER_BASELINE_LAGS = (270, 300)
_PAPER_CONTRAST_FRAMES = (250, 300)


def check_mode(mode: str) -> None:
    """Raise InvalidInputError unless `mode` is one of MODES."""
    if mode not in MODES:
        raise InvalidInputError(
            f"mode: got {mode!r}; expected one of {', '.join(repr(known) for known in MODES)}."
        )


def default_ranges(n: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the paper's ranges in proportion to a series of `n` frames.

    The paper takes lags 270-300 and frames 250-300 of a series of 400. Returns baseline_lags and
    contrast_frames, half open, (first, last + 1): at least one lag and two frames. Raises
    InvalidInputError when there are fewer than 2 frames, hence no lag.
    """
    if n < 2:
        raise InvalidInputError(f"Series: got {n} frames; expected at least 2, C2 has no lag else.")
    lag, last_lag = (value * n // _PAPER_FRAMES for value in _PAPER_BASELINE_LAGS)
    frame, last_frame = (value * n // _PAPER_FRAMES for value in _PAPER_CONTRAST_FRAMES)
    lag = max(1, lag)
    frame = min(frame, n - 2)
    return (lag, max(lag, last_lag) + 1), (frame, max(frame + 1, last_frame) + 1)


def estimate_contrast(
    c2: ArrayLike,
    *,
    mode: str = MODES[0],
    baseline_lags: tuple[int, int] | None = None,
    contrast_frames: tuple[int, int] | None = None,
    baseline: ArrayLike | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Estimate beta* and baseline* of every ROI.

    Non-equilibrium (Eq. 7): baseline* is the mean of C2 over `baseline_lags`, beta* the mean of
    C2(lag 1) over pairs of frames inside `contrast_frames`, minus baseline*. Equilibrium (Eq. 5):
    baseline* is 1 and beta* is g2(lag 1) - 1 of the whole series. The paper writes 1TCF(lag = 1)
    itself as the divisor; that number is near 1.1 and would leave the windows unscaled, while
    g2(lag 1) - 1 scales the contrast to unity, which is what the paper says it does.

    While a run is on, the same call on the frames seen so far gives the causal estimate.

    Parameters
    ----------
    c2
        Shape (n, n) or (n_roi, n, n). NaN entries are ignored.
    mode
        "nonequilibrium" or "equilibrium".
    baseline_lags, contrast_frames
        Half open ranges in frames; default: `default_ranges(n)`. Unused in equilibrium.
    baseline
        baseline* where it is known: scalar or (n_roi,).

    Returns
    -------
    contrast, baseline
        Shape (n_roi,). NaN where nothing could be estimated; a contrast is also NaN where its
        estimate is not positive, since no window can be scaled by it.

    Raises
    ------
    InvalidInputError
        For an unknown mode and for ranges that are empty or leave the series.

    References
    ----------
    Konstantinova et al., Sci. Rep. 11, 14756 (2021), Eq. 5 and 7.
    """
    stack = as_stack(c2)
    check_mode(mode)
    n_roi, n = stack.shape[:2]
    known = None if baseline is None else per_roi(baseline, n_roi, "baseline")
    if n < 2:
        nothing = np.full(n_roi, np.nan)
        return nothing, nothing.copy() if known is None else known
    lags, frames = default_ranges(n)
    lags, frames = baseline_lags or lags, contrast_frames or frames
    if mode == "equilibrium":
        frames = (0, n)
        known = np.ones(n_roi) if known is None else known
    else:
        _check_range("baseline_lags", lags, lowest=1, n=n, least=1)
        _check_range("contrast_frames", frames, lowest=0, n=n, least=2)
    if known is None:
        diagonals = [np.diagonal(stack, offset=lag, axis1=1, axis2=2) for lag in range(*lags)]
        known = _finite_mean(np.concatenate(diagonals, axis=1))
    first, stop = frames
    lag_1 = np.diagonal(stack[:, first:stop, first:stop], offset=1, axis1=1, axis2=2)
    contrast = _finite_mean(lag_1) - known
    return np.where(contrast > 0, contrast, np.nan), known


def _check_range(name: str, bounds: tuple[int, int], *, lowest: int, n: int, least: int) -> None:
    first, stop = bounds
    if first < lowest or stop > n or stop - first < least:
        raise InvalidInputError(
            f"{name}: got {bounds} for a series of {n} frames; expected (first, last + 1) with "
            f"{lowest} <= first, last < {n} and at least {least} in it. Set a range that the "
            "series holds, or none for the default."
        )


def _finite_mean(values: FloatArray) -> FloatArray:
    """Return the mean over axis 1 of what is finite; NaN where nothing is."""
    finite = np.isfinite(values)
    total = np.where(finite, values, 0.0).sum(axis=1, dtype=np.float64)
    return mean_or_nan(total, finite.sum(axis=1))


# Contrasts that are tried: ln beta from one hundredth of a percent to 2.
_GRID = np.linspace(np.log(1e-4), np.log(2.0), 400, dtype=np.float64)
# Counts above this are no speckle but hot pixels; they would make the sums below long.
MAX_COUNTS = 10_000
# A likelihood that falls by less than this on one side does not tell where that side ends.
_ONE_SIGMA = 0.5


def photon_contrast(pixels: Array, roi_map: RoiMap) -> tuple[FloatArray, FloatArray]:
    """Estimate the contrast of every ROI from the counts in frames.

    The counts k of a frame with M = 1/beta modes and mean m follow the negative binomial

        P(k) = Gamma(k + M) / (Gamma(M) k!) (m / (m + M))^k (M / (m + M))^M.

    ln beta is where the likelihood, summed over frames with a mean each, is largest; its error is
    where that has fallen by 1/2. Pixels count as independent: speckle larger than a pixel makes
    the true error larger, and frames taken together should lie farther apart than the speckle
    lives. An intensity that varies inside a ROI is taken for contrast.

    `pixels` (k, sum of n_pixels) are counts as `RoiMap.gather` returns them. The contrast and its
    error are (n_roi,), NaN where counts are no whole numbers >= 0 up to 10,000 or there are none; a
    contrast that cannot be told from 0 has an error as large as itself.

    References
    ----------
    Goodman, Speckle Phenomena in Optics (2007); Hruszkewycz et al., Phys. Rev. Lett. 109, 185502
    (2012).
    """
    contrast = np.full(roi_map.n_roi, np.nan)
    error = np.full(roi_map.n_roi, np.nan)
    for roi, one in enumerate(roi_map.slices):
        counts = np.asarray(pixels[:, one])
        usable = np.isfinite(counts).all() and counts.size and counts.min() >= 0
        if not usable or counts.max() > MAX_COUNTS or (counts != np.floor(counts)).any():
            continue
        total = counts.sum(axis=1, dtype=np.float64)
        counts, total = counts[total > 0], total[total > 0]
        if len(counts):
            contrast[roi], error[roi] = _most_likely(counts.astype(np.int64), total)
    return contrast, error


def _most_likely(counts: IntArray, total: FloatArray) -> tuple[float, float]:
    """Return beta and its error from counts (k, n) and their sums over each frame (k,)."""
    n_pixels = counts.shape[1]
    modes = np.exp(-_GRID)  # M at each point of the grid, (n_grid,)
    # ln Gamma(k + M) - ln Gamma(M) = sum of ln(M + j) over j < k: count the pixels above each j.
    above = counts.size - np.cumsum(np.bincount(counts.ravel()))[:-1]  # (largest count,)
    likelihood = np.log(modes[:, np.newaxis] + np.arange(above.size)) @ above.astype(np.float64)
    likelihood += counts.size * modes * np.log(modes)
    mean = total / n_pixels
    weight = n_pixels * modes[:, np.newaxis] + total  # (n_grid, k)
    likelihood -= (weight * np.log(modes[:, np.newaxis] + mean)).sum(axis=1)
    best = int(np.argmax(likelihood))
    near = likelihood > likelihood[best] - _ONE_SIGMA
    beta = float(np.exp(_GRID[best]))
    first, last = np.flatnonzero(near)[[0, -1]]
    if first == 0 or best in (0, _GRID.size - 1):
        return beta, float(np.exp(_GRID[last]))
    return beta, float(np.exp(_GRID[last]) - np.exp(_GRID[first])) / 2
