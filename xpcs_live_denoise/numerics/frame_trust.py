"""How far expected counts of an image agree with its photons: by halves, blocks and rings.

Each photon of an image is given to one of two halves at random. The counts of both are Poisson
distributed and independent of each other, so what is made of one can be tested by the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage  # pyright: ignore[reportMissingTypeStubs]

from xpcs_live_denoise.records.frame_results import RingTable
from xpcs_live_denoise.records.types import BoolArray, FloatArray, IntArray

from .radial import Rings

# With so many photons in a ring its sum is set half way to the measured one.
RING_PHOTONS = 10.0
BLOCK = 32  # pixels along an edge of a block
_SMOOTH = 2.0  # pixels over which differences of halves are averaged
_LEAST = 1e-6
_filters: Any = ndimage


def halves(counts: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Return the photons of an image, each in one of two images."""
    first = rng.binomial(np.rint(counts).astype(np.int64), 0.5).astype(np.float64)
    return first, counts - first


def rescaled(
    expected: FloatArray, counts: FloatArray, valid: BoolArray, rings: Rings
) -> FloatArray:
    """Return expected counts whose sums over rings are close to those measured.

    A ring's sum moves towards the measured one by S / (S + RING_PHOTONS), S its expected photons:
    a ring of many photons is as it was measured, of one with few its noise stays outside.
    """
    made = rings.sums(np.where(valid, expected, 0.0))
    measured = rings.sums(np.where(valid, counts, 0.0))
    return expected * rings.spread((measured + RING_PHOTONS) / (made + RING_PHOTONS))


def pixel_error(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the error of the sum of two independent estimates, (rows, cols).

    Root of the mean square of their difference around each pixel. What both smooth away alike is
    not in it.
    """
    return np.sqrt(_filters.gaussian_filter((first - second) ** 2, _SMOOTH))


def block_evidence(
    counts: tuple[FloatArray, FloatArray], expected: tuple[FloatArray, FloatArray], valid: BoolArray
) -> FloatArray:
    """Return for each block whether its structure is in photons that did not take part in it.

    By how much the Poisson deviance of one half's counts is smaller from what was made of the other
    half than from that half's mean over the block, over its error. Above 2: the structure is real;
    about 0: there is none to be seen; below -2: it contradicts the photons.

    Parameters
    ----------
    counts, expected
        Of both halves, each (rows, cols).

    Returns
    -------
    numpy.ndarray
        (-(-rows // BLOCK), -(-cols // BLOCK)); NaN without a measured pixel.
    """
    gain = variance = np.zeros(1)
    for made_of, held in ((0, 1), (1, 0)):
        made = np.maximum(np.where(valid, expected[made_of], 0.0), _LEAST)
        number = np.maximum(block_sums(valid.astype(np.float64)), 1)
        made_sum = block_sums(np.where(valid, made, 0.0))
        mean = block_sums(np.where(valid, counts[made_of], 0.0)) / number
        # Both have the same sum in the block: only the structure in it is compared.
        flat = _of_blocks(np.maximum(mean, _LEAST), valid.shape)
        scale = _of_blocks(np.maximum(mean, _LEAST) * number / np.maximum(made_sum, _LEAST),
                           valid.shape)  # fmt: skip
        ratio = np.where(valid, np.log(made * scale / flat), 0.0)
        photons = np.where(valid, counts[held], 0.0)
        difference = np.where(valid, made * scale - flat, 0.0)
        gain = gain + 2 * block_sums(photons * ratio - difference)
        variance = variance + 4 * block_sums(photons * ratio**2)
    measured = block_sums(valid.astype(np.float64)) > 0
    return np.where(measured, gain / np.sqrt(np.maximum(variance, _LEAST)), np.nan)


def ring_table(
    image: tuple[FloatArray, FloatArray],
    counts: tuple[FloatArray, FloatArray],
    expected: tuple[FloatArray, FloatArray],
    valid: BoolArray,
    rings: Rings,
) -> RingTable:
    """Return I(q) as measured and as denoised, with how well the second predicts photons.

    `image` are all counts and what is expected of them, the others those of both halves.
    """
    number = rings.sums(valid.astype(np.float64))
    measured, made = (rings.sums(np.where(valid, one, 0.0)) for one in image)
    held = rings.sums(np.where(valid, counts[1], 0.0))
    first, second = (rings.sums(np.where(valid, one, 0.0)) for one in expected)
    error = np.sqrt(_filters.uniform_filter1d((first - second) ** 2, 5, mode="nearest"))
    at_least = np.maximum(number, 1)
    # Of one half the error is 1/sqrt(2) of that of the sum of both.
    pull = (held - first) / np.sqrt(np.maximum(first + error**2 / 2, _LEAST))
    some = number > 0
    columns = {
        "measured": measured / at_least,
        "measured_error": np.sqrt(np.maximum(measured, 1)) / at_least,
        "denoised": made / at_least,
        "denoised_error": error / at_least,
        "pull": pull,
    }
    return RingTable(
        radius_px=rings.middles,
        n_pixels=number.astype(np.int64),
        **{name: np.where(some, values, np.nan) for name, values in columns.items()},
    )


def block_sums(image: FloatArray) -> FloatArray:
    """Return the sum over each block of BLOCK x BLOCK pixels; the last ones may be smaller."""
    for axis in (0, 1):
        starts: IntArray = np.arange(0, image.shape[axis], BLOCK, dtype=np.int64)
        image = np.add.reduceat(image, starts, axis=axis)
    return image


def _of_blocks(values: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    rows, cols = (np.arange(n) // BLOCK for n in shape)
    return values[np.ix_(rows, cols)]
