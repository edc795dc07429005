"""Speckle series with known Gamma(q, t), alpha and contrast, a block of frames at a time."""
# scipy carries no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.roi_checks import checked_shape
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.numerics.speckle_fields import Dynamics, intensities, mode_weights

MOST_MEAN_COUNTS = 4000.0
"""Highest mean counts a pixel: speckle 16 times brighter still fits uint16."""


def simulate_speckle(
    roi_map_or_shape: RoiMap | tuple[int, int],
    n_frames: int,
    *,
    relaxation_rate: ArrayLike,
    alpha: ArrayLike = 1.0,
    contrast: float = 1.0,
    mean_counts: float = 1.0,
    speckle_size: float = 1.0,
    block: int = 50,
    seed: int = 0,
) -> Iterator[NDArray[np.uint16]]:
    """Simulate the frames of an XPCS series, photon noise included.

    C2(t1, t2) - 1 = contrast exp(-2 x^alpha) for t1 != t2 in the mean over many pixels, with x the
    integral of the relaxation rate from t1 to t2: Eq. 3 of Konstantinova et al., Sci. Rep. 11,
    14756 (2021), with baseline 1, for a constant rate.

    Parameters
    ----------
    roi_map_or_shape
        The ROIs, or (rows, cols) for a frame that is one ROI. A pixel outside of all ROIs does as
        the nearest ROI does.
    n_frames
        Length of the series.
    relaxation_rate
        Gamma per frame, >= 0; scalar, (n_roi,), (n_frames,) or (n_roi, n_frames). Between two
        frames it is the mean of theirs.
    alpha
        Exponent, in (0, 2]; the same shapes. Where it changes with time, two frames have the mean
        of their exponents.
    contrast
        Optical contrast beta of the speckle, in (0, 1]: the sum of the squared weights of
        independent modes. Time and memory grow as 1 / contrast.
    mean_counts
        Mean photons a pixel and frame, in (0, 4000]. Counts above 65,535 are cut off.
    speckle_size
        FWHM of the peak in the spatial autocorrelation of the intensity, pixels, >= 1; exactly 1
        makes pixels independent. Pixels sample the speckle, so that size costs no contrast.
    block
        Most frames in an array that is yielded; has no influence on the frames.
    seed
        Seed, >= 0; the same arguments give the same frames.

    Returns
    -------
    frames
        Iterator of arrays (k, rows, cols). Memory does not grow with `n_frames`.

    Raises
    ------
    InvalidInputError
        For an argument of another shape or outside of its range; where alpha is not 1, also for a
        series that is too long for its slowest rate (some 600 frames of memory). Raised at once.

    Notes
    -----
    The field of each mode is a Gaussian process: for alpha = 1 exactly, a first-order
    autoregression; else a moving sum of noise frames whose weights are the square root of the
    correlation matrix of the frames around, with an error of C2 below 0.001 contrast.
    """
    if not isinstance(roi_map_or_shape, RoiMap):
        shape = checked_shape(roi_map_or_shape)
        roi_map_or_shape = RoiMap.from_labels(np.ones(shape, np.int64))
    rois = roi_map_or_shape
    _check_whole("Number of frames", n_frames, 1)
    _check_whole("Block", block, 1)
    _check_whole("Seed", seed, 0)
    _check_range("Contrast", contrast, 0, 1)
    _check_range("Mean counts", mean_counts, 0, MOST_MEAN_COUNTS)
    if not 1 <= speckle_size < np.inf:
        raise InvalidInputError(
            f"Speckle size: got {speckle_size}, expected a FWHM of at least 1 pixel. Speckle "
            "smaller than a pixel is a lower contrast."
        )
    rate = _curves("Relaxation rate", relaxation_rate, rois.n_roi, n_frames)
    exponent = _curves("alpha", alpha, rois.n_roi, n_frames)
    if (rate < 0).any():
        raise InvalidInputError(f"Relaxation rate: got {rate.min()}, expected >= 0 per frame.")
    if (exponent <= 0).any() or (exponent > 2).any():
        raise InvalidInputError(
            f"alpha: got values from {exponent.min()} to {exponent.max()}, expected 0 < alpha <= "
            "2, which random fields can have."
        )
    dynamics = _dynamics(
        rois, rate, exponent, contrast=contrast, speckle_size=float(speckle_size), seed=seed
    )
    return _regroup(_photons(intensities(dynamics), dynamics, mean_counts), block)


def _dynamics(
    rois: RoiMap,
    rate: NDArray[np.float64],
    alpha: NDArray[np.float64],
    *,
    contrast: float,
    speckle_size: float,
    seed: int,
) -> Dynamics:
    """Give every pixel its ROI, or the nearest; ROIs that do the same are computed together."""
    clock = np.zeros_like(rate)
    np.cumsum((rate[:, 1:] + rate[:, :-1]) / 2, axis=1, out=clock[:, 1:])
    curves = np.concatenate([clock, alpha], axis=1)
    _, first, group_of_roi = np.unique(curves, axis=0, return_index=True, return_inverse=True)
    roi_image = np.full(rois.shape, -1)
    roi_image.ravel()[rois.pixels] = np.repeat(np.arange(rois.n_roi), rois.n_pixels)
    nearest = ndimage.distance_transform_edt(
        roi_image < 0, return_distances=False, return_indices=True
    )
    roi = roi_image[tuple(np.asarray(nearest))]
    return Dynamics(
        shape=rois.shape,
        group=group_of_roi.reshape(-1)[roi.ravel()],
        clock=clock[first],
        alpha=alpha[first],
        weights=mode_weights(contrast),
        speckle_size=speckle_size,
        seed=seed,
    )


def _photons(
    blocks: Iterator[NDArray[np.float32]], dynamics: Dynamics, mean_counts: float
) -> Iterator[NDArray[np.uint16]]:
    """Yield Poisson counts, (k, rows, cols)."""
    for index, intensity in enumerate(blocks):
        rng = np.random.default_rng([dynamics.seed, 1, index])
        counts = np.minimum(rng.poisson(mean_counts * intensity), np.iinfo(np.uint16).max)
        yield counts.astype(np.uint16).reshape(-1, *dynamics.shape)


def _regroup(pieces: Iterator[NDArray[np.uint16]], block: int) -> Iterator[NDArray[np.uint16]]:
    """Yield the same frames in arrays of `block`, the last one maybe shorter."""
    waiting: list[NDArray[np.uint16]] = []
    missing = block
    for piece in pieces:
        rest = piece
        while len(rest):
            waiting.append(rest[:missing])
            rest = rest[missing:]
            missing -= len(waiting[-1])
            if missing == 0:
                yield np.concatenate(waiting)
                waiting, missing = [], block
    if waiting:
        yield np.concatenate(waiting)


def _curves(name: str, value: ArrayLike, n_roi: int, n_frames: int) -> NDArray[np.float64]:
    """Return (n_roi, n_frames) from any of the shapes that a user may give."""
    curves = np.asarray(value, dtype=np.float64)
    if not np.isfinite(curves).all():
        raise InvalidInputError(f"{name}: got values that are not finite, expected numbers.")
    if curves.ndim == 1 and n_roi == n_frames > 1 and len(curves) == n_roi:
        raise InvalidInputError(
            f"{name}: got shape {curves.shape} for {n_roi} ROIs and as many frames; expected shape "
            f"({n_roi}, {n_frames}), which leaves no doubt."
        )
    if curves.shape == (n_roi,):
        curves = curves[:, np.newaxis]
    if curves.shape not in {(), (n_frames,), (n_roi, 1), (n_roi, n_frames)}:
        raise InvalidInputError(
            f"{name}: got shape {curves.shape}, expected a scalar, ({n_roi},) one a ROI, "
            f"({n_frames},) one a frame, or ({n_roi}, {n_frames})."
        )
    return np.array(np.broadcast_to(curves, (n_roi, n_frames)))


def _check_whole(name: str, value: int, lowest: int) -> None:
    if int(value) != value or value < lowest:
        raise InvalidInputError(f"{name}: got {value}, expected a whole number >= {lowest}.")


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low < value <= high:
        raise InvalidInputError(f"{name}: got {value}, expected {low} < value <= {high:g}.")
