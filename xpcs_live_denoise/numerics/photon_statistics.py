"""The contrast from the counts of single frames: speckle makes photons come in bunches."""

# numpy's stubs leave the types of arange, indices and the like unknown.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .rois import RoiMap

# Contrasts that are tried: ln beta from one hundredth of a percent to 2.
_GRID = np.linspace(np.log(1e-4), np.log(2.0), 400)
# Counts above this are no speckle but hot pixels; they would make the sums below long.
MAX_COUNTS = 10_000
# A likelihood that falls by less than this on one side does not tell where that side ends.
_ONE_SIGMA = 0.5


def photon_contrast(
    pixels: NDArray[Any], roi_map: RoiMap
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Estimate the contrast of every ROI from the counts in frames.

    The counts k of a frame with M = 1/beta modes and mean m follow the negative binomial

        P(k) = Gamma(k + M) / (Gamma(M) k!) (m / (m + M))^k (M / (m + M))^M.

    ln beta is where the likelihood, summed over frames with a mean each, is largest; its error is
    where that has fallen by 1/2. Pixels count as independent: speckle larger than a pixel makes
    the true error larger, and frames taken together should lie farther apart than the speckle
    lives. An intensity that varies inside a ROI is taken for contrast.

    Parameters
    ----------
    pixels
        Shape (k, sum of n_pixels), counts as `RoiMap.gather` returns them.
    roi_map
        The ROIs.

    Returns
    -------
    contrast, contrast_error
        Shape (n_roi,). NaN where counts are no whole numbers >= 0 up to 10,000 or there are none;
        a contrast that cannot be told from 0 has an error as large as itself.

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


def _most_likely(counts: NDArray[np.int64], total: NDArray[np.float64]) -> tuple[float, float]:
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
