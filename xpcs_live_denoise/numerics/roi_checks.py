"""What a ROI map's ingredients must be: labels, mask, q, ring edges; else an error that helps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpcs_live_denoise.errors import FrameShapeError, InvalidInputError

REAL_NUMBERS = "uif"
"""Kinds of dtype that hold real numbers: unsigned, signed, floating."""


def checked_shape(shape: Sequence[int]) -> tuple[int, int]:
    """Return (rows, cols), or raise InvalidInputError where these are no two positive numbers."""
    if len(shape) != 2 or not all(int(size) == size and size > 0 for size in shape):
        raise InvalidInputError(
            f"Frame shape: got {tuple(shape)}, expected two positive whole numbers (rows, cols)."
        )
    return int(shape[0]), int(shape[1])


def checked_labels(label_array: ArrayLike) -> NDArray[np.int64]:
    """Return labels as int64 (rows, cols), or raise InvalidInputError; 0 is background."""
    labels = np.asarray(label_array)
    if labels.ndim != 2:
        raise InvalidInputError(
            f"Label array: got shape {labels.shape}, expected (rows, cols), one label a pixel."
        )
    if labels.dtype.kind not in REAL_NUMBERS + "b":
        raise InvalidInputError(f"Label array: got dtype {labels.dtype}, expected integers.")
    if labels.dtype.kind == "f" and not (np.isfinite(labels) & (labels == np.rint(labels))).all():
        raise InvalidInputError(
            "Label array: got values that are no whole numbers; expected integer labels, 0 = "
            "background. Was a q map passed instead?"
        )
    if labels.size and labels.min() < 0:
        raise InvalidInputError(
            f"Label array: got negative labels (lowest {labels.min()}); expected 0 = background "
            "and labels >= 1."
        )
    return labels.astype(np.int64)


def checked_mask(mask: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return a mask as booleans, True = keep, or raise InvalidInputError."""
    keep = np.asarray(mask)
    if keep.shape != shape:
        raise InvalidInputError(
            f"Mask: got shape {keep.shape}, expected {shape}, the shape of the label array."
        )
    if keep.dtype.kind not in REAL_NUMBERS + "b" or not ((keep == 0) | (keep == 1)).all():
        raise InvalidInputError(
            f"Mask: got dtype {keep.dtype} with values other than 0 and 1; expected True or 1 = "
            "keep the pixel, False or 0 = leave it out."
        )
    return keep.astype(np.bool_)


def check_pixels(pixels: NDArray[Any], n_pixels: int) -> None:
    """Raise FrameShapeError unless `pixels` are (k, n_pixels) real numbers."""
    if pixels.ndim != 2 or pixels.shape[1] != n_pixels or pixels.dtype.kind not in REAL_NUMBERS:
        raise FrameShapeError(
            f"ROI pixels: got shape {pixels.shape} and dtype {pixels.dtype}, expected "
            f"(k, {n_pixels}) real numbers, as RoiMap.gather returns them for this ROI map."
        )


def checked_q(q_inv_angstrom: ArrayLike | None, n_roi: int) -> NDArray[np.float64]:
    """Return q as float64 (n_roi,), all NaN where None, or raise InvalidInputError."""
    if q_inv_angstrom is None:
        return np.full(n_roi, np.nan)
    q = _as_numbers("q list", q_inv_angstrom)
    if q.shape != (n_roi,):
        raise InvalidInputError(
            f"q list: got shape {q.shape}, expected ({n_roi},), one q (1/Angstrom) for each label "
            "in ascending order."
        )
    if np.isinf(q).any() or (q < 0).any():
        raise InvalidInputError(
            f"q list: got {q.tolist()}, expected finite values >= 0 in 1/Angstrom, or NaN where "
            "unknown."
        )
    return q


def checked_edges(edges: ArrayLike) -> NDArray[np.float64]:
    """Return ring edges as float64 (n_roi, 2), or raise InvalidInputError."""
    radii = _as_numbers("Ring edges", edges)
    if radii.ndim != 2 or radii.shape[1] != 2 or len(radii) == 0:
        raise InvalidInputError(
            f"Ring edges: got shape {radii.shape}, expected (n_roi, 2): inner and outer radius of "
            "each ring in pixels."
        )
    ascending = np.diff(radii.ravel()) >= 0
    if not (np.isfinite(radii).all() and radii[0, 0] >= 0 and ascending.all()):
        raise InvalidInputError(
            f"Ring edges: got {radii.tolist()}, expected finite radii >= 0 that ascend from ring "
            "to ring without overlap."
        )
    return radii


def checked_center(center: ArrayLike) -> tuple[float, float]:
    """Return (row, col), or raise InvalidInputError where these are no two finite numbers."""
    position = _as_numbers("Ring center", center)
    if position.shape != (2,) or not np.isfinite(position).all():
        raise InvalidInputError(
            f"Ring center: got {center}, expected two finite numbers (row, col), pixels."
        )
    return float(position[0]), float(position[1])


def _as_numbers(subject: str, value: ArrayLike) -> NDArray[np.float64]:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"{subject}: got {value!r}, expected an array of numbers ({error})."
        ) from error
