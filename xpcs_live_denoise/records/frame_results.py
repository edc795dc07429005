"""What is made of images of few counts."""

from __future__ import annotations

from dataclasses import dataclass

from .types import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class RingTable:
    """Counts a pixel by distance from the direct beam, one row a ring of 4 pixels; NaN for none."""

    radius_px: FloatArray  # (n_ring,): the middle of the ring
    n_pixels: IntArray  # that were measured
    measured: FloatArray  # mean counts of a pixel
    measured_error: FloatArray  # of its photons: their root
    denoised: FloatArray
    denoised_error: FloatArray  # by how much two halves of the photons disagree
    # Photons that took no part, less what was predicted for them, over the error of both: a
    # denoised I(q) that can be trusted has 95 % of them within 2.
    pull: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class DenoisedFrame:
    """One image, as measured and as denoised, and how far the second can be trusted.

    `error`, `evidence` and `rings` are None where they were not asked for, or where the image holds
    no whole numbers of photons; `rings` also without a beam center.
    """

    measured: FloatArray  # (rows, cols), counts
    denoised: FloatArray  # (rows, cols), expected counts; the measured value where `kept`
    kept: BoolArray  # (rows, cols): nothing was measured, the value is that of the detector
    error: FloatArray | None  # (rows, cols), counts: how far halves of the photons disagree
    # (blocks of rows, of columns), 32 x 32 pixels: above 2 the structure was found in photons that
    # took no part, about 0 none can be seen, below -2 photons contradict it.
    evidence: FloatArray | None
    rings: RingTable | None
    note: str  # why it is to be read with care, "" if nothing is known
