"""Denoise images of few counts: which pixels count, the network, and how far to trust it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from xpcs_live_denoise.errors import FrameShapeError, InvalidInputError
from xpcs_live_denoise.numerics.frame_trust import (
    block_evidence,
    halves,
    pixel_error,
    rescaled,
    ring_table,
)
from xpcs_live_denoise.numerics.mean_image import MeanImage
from xpcs_live_denoise.numerics.radial import Rings
from xpcs_live_denoise.numerics.threads import one_thread
from xpcs_live_denoise.records.frame_results import DenoisedFrame
from xpcs_live_denoise.records.types import Array, BoolArray, FloatArray

from .denoiser import SMALL, FrameDenoiser, load_frame_denoiser

LEAST_SIDE = 16  # pixels: the networks halve an image four times
# Mean counts of a pixel between which the shipped networks were trained (training/images.py).
TRAINED = (0.02, 10.0)


def denoise_frames(
    frames: ArrayLike,
    *,
    center: tuple[float, float] | None = None,
    mask: ArrayLike | None = None,
    model: FrameDenoiser | str | Path | None = None,
    trust: bool = True,
    seed: int = 0,
) -> list[DenoisedFrame]:
    """Denoise images of few counts, each by itself: counts in, expected counts out.

    For looking, and for I(q); never for a correlation: filters change contrast and baseline of
    frames, and `analyse` takes none of these.

    Parameters
    ----------
    frames
        Counts, (rows, cols) or (n, rows, cols). A pixel that holds NaN, a negative number, or the
        largest numbers of its type, which mark pixels, keeps its value and is marked in `kept`.
    center
        Row and column of the direct beam, in or outside the image. With it rings are denoised
        better, and I(q) can be said.
    mask
        True (or not 0) where a pixel is good, (rows, cols). Others keep their value, too.
    model
        As `load_frame_denoiser` takes it, or what it returned.
    trust
        Whether to say how far the result can be trusted: takes two times longer in addition.
    seed
        Of the halves into which photons are divided for that.

    Returns
    -------
    list of DenoisedFrame
        One an image.

    Raises
    ------
    InvalidInputError
        For what are no images of at least 16 x 16 pixels.
    FrameShapeError
        For a mask of another shape.
    MissingDependencyError
        Without torch.
    """
    images = _images(frames)
    beam = _center(center)
    good = np.ones(images.shape[1:], np.bool_) if mask is None else np.asarray(mask) != 0
    if good.shape != images.shape[1:]:
        raise FrameShapeError(
            f"mask: got shape {good.shape}, the images have {images.shape[1:]} (rows, cols). Use "
            "the mask of this detector and readout mode."
        )
    denoiser = model if isinstance(model, FrameDenoiser) else load_frame_denoiser(model)
    rng = np.random.default_rng(seed)
    return [
        denoise_sum(
            MeanImage.of(image[np.newaxis]),
            image,
            denoiser,
            center=beam,
            good=good,
            rng=rng if trust else None,
        )
        for image in images
    ]


def denoise_sum(
    of: MeanImage,
    last: Array,
    denoiser: FrameDenoiser,
    *,
    center: tuple[float, float] | None,
    good: BoolArray,
    rng: np.random.Generator | None = None,
) -> DenoisedFrame:
    """Return what is made of a sum of frames; a generator asks for the trust.

    `last` is its last frame: of a frame that is alone pixels keep what they held.
    """
    total, whole = of.whole()
    if of.n_frames == 1:
        measured = last.astype(np.float32)
    else:
        _, counted = of.sums(negative_is_data=False)
        measured = np.where(counted > 0, total, np.nan).astype(np.float32)
    valid = good & whole
    return denoise_counts(total, valid, denoiser, center=center, measured=measured, rng=rng)


def denoise_counts(
    counts: FloatArray,
    valid: BoolArray,
    denoiser: FrameDenoiser,
    *,
    center: tuple[float, float] | None,
    measured: FloatArray | None = None,
    rng: np.random.Generator | None = None,
) -> DenoisedFrame:
    """Return what is made of one image of counts, of which some pixels are valid."""
    measured = counts.astype(np.float32) if measured is None else measured
    if not valid.any():
        return DenoisedFrame(
            measured=measured,
            denoised=measured,
            kept=~valid,
            error=None,
            evidence=None,
            rings=None,
            note="no pixel was measured: nothing is denoised",
        )
    counts = np.where(valid, counts, 0.0)
    rings = None if center is None else Rings.of(_shape(counts), center)

    def expected_of(photons: FloatArray) -> FloatArray:
        made = denoiser.expected(photons, valid, center).astype(np.float64)
        return made if rings is None else rescaled(made, photons, valid, rings)

    expected = expected_of(counts)
    notes = _notes(counts, valid)
    trusted: dict[str, Any] = {"error": None, "evidence": None, "rings": None}
    if rng is not None and (counts == np.rint(counts)).all():
        parts = halves(counts, rng)
        made = (expected_of(parts[0]), expected_of(parts[1]))
        trusted["error"] = pixel_error(*made).astype(np.float32)
        trusted["evidence"] = block_evidence(parts, made, valid)
        if rings is not None:
            trusted["rings"] = ring_table((counts, expected), parts, made, valid, rings)
    elif rng is not None:
        notes.append(
            "the numbers are no whole photons: how far to trust the result is not known, convert "
            "to photons first"
        )
    return DenoisedFrame(
        measured=measured,
        denoised=np.where(valid, expected, measured).astype(np.float32),
        kept=~valid,
        note="; ".join(notes),
        **trusted,
    )


def picture_denoiser() -> Callable[..., tuple[FloatArray, FloatArray]]:
    """Return what denoises the small image of a run: expected counts, and their error.

    Its network is the small one, on one thread: what computes meanwhile is not held up. Raises
    MissingDependencyError without torch.
    """
    denoiser = load_frame_denoiser(SMALL)
    rng = np.random.default_rng(0)

    def denoise(
        counts: FloatArray, valid: BoolArray, center: tuple[float, float] | None
    ) -> tuple[FloatArray, FloatArray]:
        with one_thread():
            made = denoise_counts(counts, valid, denoiser, center=center, rng=rng)
        unknown = np.full(counts.shape, np.nan, np.float32)
        return made.denoised, unknown if made.error is None else made.error

    return denoise


def _images(frames: ArrayLike) -> Array:
    images = np.asarray(frames)
    if images.ndim == 2:
        images = images[np.newaxis]
    if images.ndim != 3 or images.dtype.kind not in "buif":
        raise InvalidInputError(
            f"denoise_frames: got shape {images.shape} and dtype {images.dtype}; expected counts "
            "(rows, cols) or (n, rows, cols)."
        )
    check_shape("denoise_frames", _shape(images[0]) if len(images) else (0, 0))
    return images


def check_shape(subject: str, shape: Sequence[int]) -> None:
    """Refuse images that are smaller than a network sees."""
    if min(shape) < LEAST_SIDE:
        raise InvalidInputError(
            f"{subject}: got images of {tuple(shape)} (rows, cols); expected at least {LEAST_SIDE} "
            f"x {LEAST_SIDE} pixels. There is nothing in them that a network could learn: sum "
            "counts, or take a running mean."
        )


def _center(center: tuple[float, float] | None) -> tuple[float, float] | None:
    if center is None:
        return None
    numbers = np.asarray(center, np.float64)
    if numbers.shape != (2,) or not np.isfinite(numbers).all():
        raise InvalidInputError(
            f"center: got {center!r}; expected row and column of the direct beam, or None."
        )
    return float(numbers[0]), float(numbers[1])


def _notes(counts: FloatArray, valid: BoolArray) -> list[str]:
    mean = float(counts[valid].mean())
    if not TRAINED[0] <= mean <= TRAINED[1]:
        is_few = mean < TRAINED[0]
        return [
            f"{mean:.3g} counts a pixel are {'fewer' if is_few else 'more'} than models were "
            f"trained for ({TRAINED[0]:g} to {TRAINED[1]:g})"
            + (": sum more frames" if is_few else ": the measured image is good enough")
        ]
    return []


def _shape(image: Array) -> tuple[int, int]:
    return image.shape[0], image.shape[1]
