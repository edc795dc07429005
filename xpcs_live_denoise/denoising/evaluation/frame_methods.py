"""Other methods that denoise an image of few counts, to compare the network with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from scipy import ndimage

from xpcs_live_denoise.numerics.frame_trust import halves
from xpcs_live_denoise.records.types import BoolArray, FloatArray

# counts and valid (rows, cols), the direct beam (row, col) or None -> expected counts (rows, cols).
Method: TypeAlias = Callable[
    [FloatArray, BoolArray, tuple[float, float] | None, np.random.Generator], FloatArray
]
WIDTHS = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0, 11.0, 16.0)  # of a Gaussian, pixels
SHAPES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 1000.0)  # of the Gamma distribution of rates
LEAST = 1e-6


def flat_mean(
    counts: FloatArray,
    valid: BoolArray,
    center: tuple[float, float] | None,  # noqa: ARG001
    rng: np.random.Generator,  # noqa: ARG001
) -> FloatArray:
    """Return the mean count everywhere."""
    return np.full(counts.shape, counts[valid].mean() if valid.any() else 0.0)


def azimuthal_mean(
    counts: FloatArray,
    valid: BoolArray,
    center: tuple[float, float] | None,
    rng: np.random.Generator,
) -> FloatArray:
    """Return the mean over each ring of one pixel, interpolated; the flat mean without a center."""
    if center is None:
        return flat_mean(counts, valid, center, rng)
    rows, cols = np.indices(counts.shape)
    radius = np.hypot(rows - center[0], cols - center[1])
    radius -= radius.min()
    ring = radius.astype(np.int64)
    photons = np.bincount(ring[valid], counts[valid], ring.max() + 1)
    number = np.bincount(ring[valid], minlength=ring.max() + 1)
    known = number > 0
    middles = np.arange(len(number)) + 0.5
    return np.interp(radius, middles[known], photons[known] / number[known])


def gaussian(
    counts: FloatArray,
    valid: BoolArray,
    center: tuple[float, float] | None,  # noqa: ARG001
    rng: np.random.Generator,
) -> FloatArray:
    """Return a Gaussian mean over measured pixels, of the width that predicts held-out photons."""
    kept, held = (2 * one for one in halves(counts, rng))
    best = min(WIDTHS, key=lambda width: deviance(held, smoothed(kept, valid, width), valid))
    # The half has half of the photons; the whole bears a width narrower by about 2^(1/6).
    return smoothed(counts, valid, best * 2 ** (-1 / 6))


def gamma_poisson(
    counts: FloatArray,
    valid: BoolArray,
    center: tuple[float, float] | None,
    rng: np.random.Generator,
) -> FloatArray:
    """Return counts shrunk towards the mean of the ring or of the surroundings.

    Rates are Gamma distributed around that mean; their shape, and which mean, is what predicts
    held-out photons best.
    """
    kept, held = (2 * one for one in halves(counts, rng))
    means: list[Callable[[FloatArray], FloatArray]] = [
        lambda image, width=width: smoothed(image, valid, width) for width in (2.0, 4.0, 8.0)
    ]
    means.append(lambda image: azimuthal_mean(image, valid, center, rng))
    best = (np.inf, 0, 0.0)
    for index, mean_of in enumerate(means):
        mean = mean_of(kept)
        for shape in SHAPES:
            found = deviance(held, shrunk(kept, mean, shape), valid)
            best = min(best, (found, index, shape))
    return shrunk(counts, means[best[1]](counts), best[2])


def bm3d(
    counts: FloatArray,
    valid: BoolArray,
    center: tuple[float, float] | None,
    rng: np.random.Generator,
) -> FloatArray:
    """Return BM3D of the roots of counts, transformed back without the bias of few counts.

    Counts are binned until a pixel has two of them on average, as is usual for BM3D below.

    References
    ----------
    Makitalo and Foi, IEEE Trans. Image Process. 20, 99 (2011); Azzari and Foi, IEEE Signal Process.
    Lett. 23, 1086 (2016).
    """
    import bm3d as library  # pyright: ignore[reportMissingImports]

    filled = np.where(valid, counts, azimuthal_mean(counts, valid, center, rng))
    binning = 1
    while filled.mean() * binning**2 < 2 and binning < 8:
        binning *= 2
    rows, cols = filled.shape
    padded = np.pad(filled, ((0, -rows % binning), (0, -cols % binning)), mode="edge")
    n_rows, n_cols = padded.shape[0] // binning, padded.shape[1] // binning
    binned = padded.reshape(n_rows, binning, n_cols, binning).sum(axis=(1, 3))
    root = 2 * np.sqrt(binned + 0.375)
    span = float(root.max() - root.min()) or 1.0
    made = library.bm3d((root - root.min()) / span, sigma_psd=1.0 / span) * span + root.min()
    rate: Any = _inverse_anscombe(made) / binning**2
    if binning > 1:
        rate = ndimage.zoom(rate, binning, order=1, mode="nearest", grid_mode=True)
    return np.maximum(rate[:rows, :cols], LEAST)


METHODS: dict[str, Method] = {
    "flat mean": flat_mean,
    "azimuthal mean": azimuthal_mean,
    "Gaussian": gaussian,
    "Gamma-Poisson": gamma_poisson,
    "BM3D": bm3d,
}


def smoothed(counts: FloatArray, valid: BoolArray, width: float) -> FloatArray:
    """Return a Gaussian mean over measured pixels, and a hundredth of the flat mean."""
    photons = ndimage.gaussian_filter(np.where(valid, counts, 0.0), width, mode="constant")
    share = ndimage.gaussian_filter(valid.astype(np.float64), width, mode="constant")
    flat = counts[valid].mean() if valid.any() else 0.0
    return (photons + 0.01 * flat) / (share + 0.01)


def shrunk(counts: FloatArray, mean: FloatArray, shape: float) -> FloatArray:
    """Return the posterior mean of a Gamma distribution of this mean and shape."""
    return (counts + shape) / (1 + shape / np.maximum(mean, LEAST))


def deviance(counts: FloatArray, expected: FloatArray, valid: BoolArray) -> float:
    """Return the Poisson deviance of counts, but for a term that is the same for all estimates."""
    expected = np.maximum(expected[valid], LEAST)
    return float(2 * (expected - counts[valid] * np.log(expected)).sum())


def _inverse_anscombe(root: FloatArray) -> FloatArray:
    """Return the expected counts of which the mean root is given (closed form, exact to 1 %)."""
    root = np.maximum(root, 2 * np.sqrt(0.375))
    value = 0.25 * root**2 + 0.25 * np.sqrt(1.5) / root - 1.375 / root**2
    return np.maximum(value + 0.625 * np.sqrt(1.5) / root**3 - 0.125, 0.0)
