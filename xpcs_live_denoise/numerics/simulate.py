"""Speckle series with known Gamma(q, t), alpha and contrast, a block of frames at a time."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft, ndimage  # pyright: ignore[reportMissingTypeStubs]

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.records.types import FloatArray, IntArray

from .rois import RoiMap, checked_shape

_fft: Any = fft  # scipy carries no types
_ndimage: Any = ndimage

# Highest mean counts a pixel: speckle 16 times brighter still fits uint16.
MOST_MEAN_COUNTS = 4000.0


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
    rate: FloatArray,
    alpha: FloatArray,
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
    nearest: IntArray = _ndimage.distance_transform_edt(
        roi_image < 0, return_distances=False, return_indices=True
    )
    roi = roi_image[tuple(nearest)]
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


def _curves(name: str, value: ArrayLike, n_roi: int, n_frames: int) -> FloatArray:
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


# Frames on either side of a block that may be correlated with it where alpha is not 1.
LONGEST_WINDOW = 600
_BLOCK = 50  # frames that are computed at once, fewer for large frames:
_BLOCK_PIXELS = 2**23
_FORGOTTEN = 0.01  # field correlation below which frames count as independent


@dataclass(frozen=True, slots=True, kw_only=True)
class Dynamics:
    """How every pixel of a frame fluctuates."""

    shape: tuple[int, int]  # (rows, cols)
    group: IntArray  # (rows * cols,): which row of `clock` and `alpha` a pixel follows
    clock: FloatArray  # (n_group, n_frames): the integral of the relaxation rate from frame 0
    alpha: FloatArray  # (n_group, n_frames): the exponent at every frame
    weights: FloatArray  # (n_mode,): share of each coherent mode in the mean intensity
    speckle_size: float  # FWHM of a speckle, pixels; 1 = independent pixels
    seed: int  # of the random fields
    cache_bytes: int = 2**28  # memory for noise that is kept for speed where alpha is not 1

    @property
    def n_frames(self) -> int:
        """Length of the series."""
        return self.clock.shape[1]

    @property
    def block(self) -> int:
        """Frames that are computed at once; depends on the size of a frame only."""
        return max(1, min(_BLOCK, _BLOCK_PIXELS // len(self.group)))


def mode_weights(contrast: float) -> FloatArray:
    """Return the weights of the fewest modes whose contrast, the sum of squares, is as given.

    One mode is stronger than the others, which are equal, unless 1 / contrast is whole.
    """
    n_mode = math.ceil(1 / contrast - 1e-9)
    if n_mode == 1:
        return np.ones(1)
    excess = math.sqrt(max(0.0, contrast - 1 / n_mode) * (n_mode - 1) / n_mode)
    weights = np.full(n_mode, 1 / n_mode - excess / (n_mode - 1))
    weights[0] = 1 / n_mode + excess
    return weights


def intensities(dynamics: Dynamics) -> Iterator[NDArray[np.float32]]:
    """Return the intensity of consecutive blocks of frames, (k, rows * cols), mean 1.

    Raises InvalidInputError at once where alpha is not 1 and a series is too long for its slowest
    rate.
    """
    if (dynamics.alpha == 1).all():
        return _markov_intensities(dynamics)
    starts = range(0, dynamics.n_frames, dynamics.block)
    for start in starts:
        for group in range(len(dynamics.clock)):
            _window(dynamics, group, start)
    return _windowed_intensities(dynamics)


def _white_field(dynamics: Dynamics, mode: int, index: int) -> NDArray[np.complex64]:
    """Return block `index` of a field that is independent from frame to frame, <|E|^2> = 1."""
    rng = np.random.default_rng([dynamics.seed, 0, mode, index])
    rows, cols = dynamics.shape
    if dynamics.speckle_size == 1:
        return _complex_normal(rng, (dynamics.block, rows * cols))
    # Space for the correlation to die out, so that opposite edges of the frame are independent.
    margin = math.ceil(2 * dynamics.speckle_size)
    grid: tuple[int, int] = (_fft.next_fast_len(rows + margin), _fft.next_fast_len(cols + margin))
    spectrum = _complex_normal(rng, (dynamics.block, *grid))
    spectrum *= np.sqrt(np.multiply.outer(*(_power(n, dynamics.speckle_size) for n in grid)))
    field: NDArray[np.complex64] = _fft.ifft2(spectrum, norm="ortho", overwrite_x=True)
    return field[:, :rows, :cols].reshape(dynamics.block, -1)


def _complex_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.complex64]:
    pairs = rng.standard_normal((*shape, 2), dtype=np.float32)
    pairs *= np.float32(math.sqrt(0.5))
    return pairs.view(np.complex64)[..., 0]


def _power(n: int, speckle_size: float) -> NDArray[np.float32]:
    """Return the power spectrum, (n,), of a field whose intensity has a Gaussian peak of that FWHM.

    The intensity correlates as the square of the field: exp(-4 ln 2 d^2 / FWHM^2).
    """
    index = np.arange(n, dtype=np.float64)
    distance = np.minimum(index, n - index)
    correlation = np.exp(-2 * math.log(2) * (distance / speckle_size) ** 2)
    power = np.clip(np.fft.fft(correlation).real, 0, None)
    return (power / power.mean()).astype(np.float32)


def _markov_intensities(dynamics: Dynamics) -> Iterator[NDArray[np.float32]]:
    """Yield intensities for alpha = 1: each frame's field remembers only the one before.

    E(t) = a E(t - 1) + sqrt(1 - a^2) noise with a = exp(-rate) is exact, whatever the rate does.
    """
    step = np.diff(dynamics.clock, axis=1, prepend=np.inf)  # frame 0 remembers nothing
    keep = np.exp(-np.abs(step))
    fresh = np.sqrt(-np.expm1(-2 * np.abs(step)))
    uniform = len(dynamics.clock) == 1
    fields = np.zeros((len(dynamics.weights), len(dynamics.group)), np.complex64)
    for index, start in enumerate(range(0, dynamics.n_frames, dynamics.block)):
        stop = min(start + dynamics.block, dynamics.n_frames)
        total = np.zeros((stop - start, len(dynamics.group)), np.float32)
        for mode, weight in enumerate(dynamics.weights):
            noise = _white_field(dynamics, mode, index)
            field = fields[mode]
            for t in range(start, stop):
                a, b = keep[:, t].astype(np.float32), fresh[:, t].astype(np.float32)
                field *= a[0] if uniform else a[dynamics.group]
                noise[t - start] *= b[0] if uniform else b[dynamics.group]
                field += noise[t - start]
                total[t - start] += np.float32(weight) * (field.real**2 + field.imag**2)
        yield total


def _windowed_intensities(dynamics: Dynamics) -> Iterator[NDArray[np.float32]]:
    """Yield intensities for any alpha: weighted sums of noise frames before and after each frame.

    The weights are rows of the square root of the matrix of prescribed correlations, taken over
    the frames around a block that are correlated with it. Noise is drawn anew for each block from
    its own seed: memory does not grow with the series.
    """
    n_cached = dynamics.cache_bytes // (8 * dynamics.block * len(dynamics.group))
    noise = functools.lru_cache(maxsize=n_cached)(functools.partial(_white_field, dynamics))
    pixels = [np.flatnonzero(dynamics.group == group) for group in range(len(dynamics.clock))]
    for start in range(0, dynamics.n_frames, dynamics.block):
        roots = [root_rows(dynamics, group, start) for group in range(len(pixels))]
        first = min(low for low, _ in roots) // dynamics.block
        last = max(low + rows.shape[1] - 1 for low, rows in roots) // dynamics.block
        total = np.zeros((len(roots[0][1]), len(dynamics.group)), np.float32)
        for mode, weight in enumerate(dynamics.weights):
            field = np.zeros((len(total), 2 * len(dynamics.group)), np.float32)
            field = field.view(np.complex64)
            for index in range(first, last + 1):
                white = noise(mode, index)
                for (low, rows), where in zip(roots, pixels, strict=True):
                    _add_product(field, rows, white, low - index * dynamics.block, where)
            total += np.float32(weight) * (field.real**2 + field.imag**2)
        yield total


def _add_product(
    field: NDArray[np.complex64],
    rows: NDArray[np.float32],
    white: NDArray[np.complex64],
    offset: int,
    where: IntArray,
) -> None:
    """Add rows @ white for the pixels `where`; column 0 of rows belongs to frame `offset`."""
    begin, end = max(0, offset), min(len(white), offset + rows.shape[1])
    if begin >= end:
        return
    weights = rows[:, begin - offset : end - offset]
    everything = len(where) == field.shape[1]
    part = white[begin:end] if everything else white[begin:end, where]
    product = (weights @ part.view(np.float32)).view(np.complex64)  # real weights: half the work
    if everything:
        field += product
    else:
        field[:, where] += product


def _window(dynamics: Dynamics, group: int, start: int) -> tuple[int, int]:
    """Return the frames [low, high) that are correlated with the block at `start`."""
    clock = dynamics.clock[group]
    stop = min(start + dynamics.block, dynamics.n_frames)
    reach = math.log(1 / _FORGOTTEN) ** (1 / dynamics.alpha[group].min())
    low = int(np.searchsorted(clock, float(clock[start] - reach), side="left"))
    high = int(np.searchsorted(clock, float(clock[stop - 1] + reach), side="right"))
    if max(start - low, high - stop) > LONGEST_WINDOW:
        raise InvalidInputError(
            f"Relaxation rate: around frame {start} the speckle remembers more than "
            f"{LONGEST_WINDOW} frames, got a mean rate of "
            f"{(clock[high - 1] - clock[low]) / max(1, high - 1 - low):.2g} per frame; expected at "
            f"least {reach / LONGEST_WINDOW:.2g} for a series of this length where alpha is not "
            f"1. Take fewer frames, a faster rate or alpha 1."
        )
    return low, high


def root_rows(dynamics: Dynamics, group: int, start: int) -> tuple[int, NDArray[np.float32]]:
    """Return the first noise frame and the weights, (k, n noise frames), of the block at `start`.

    exp(-|x1 - x2|^alpha) is positive definite for one alpha <= 2. Where alpha changes with time,
    two frames take the mean of theirs, and what little is negative is cut off.
    """
    low, high = _window(dynamics, group, start)
    clock, alpha = dynamics.clock[group, low:high], dynamics.alpha[group, low:high]
    exponent = (alpha[:, np.newaxis] + alpha) / 2
    correlation = np.exp(-(np.abs(clock[:, np.newaxis] - clock) ** exponent))
    values, vectors = np.linalg.eigh(correlation)
    block = vectors[start - low : min(start + dynamics.block, dynamics.n_frames) - low]
    rows = (block * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return low, rows.astype(np.float32)
