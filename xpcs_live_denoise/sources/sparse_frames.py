"""Sparse arrays of frames (COO and what becomes it) as events: they never become dense frames."""

from __future__ import annotations

from typing import Any, TypeGuard

import numpy as np

from xpcs_live_denoise.errors import FrameShapeError, short_repr
from xpcs_live_denoise.numerics.rois import REAL_NUMBERS
from xpcs_live_denoise.records.frames import SparseFrames
from xpcs_live_denoise.records.types import Array, IntArray


def is_sparse(array: Any) -> TypeGuard[Any]:
    """Whether an array in memory is sparse: of the libraries sparse or scipy, in any format."""
    return not isinstance(array, np.ndarray) and (
        (hasattr(array, "coords") and hasattr(array, "data") and hasattr(array, "nnz"))
        or hasattr(array, "tocoo")
    )


def events_of(array: Any, frame_shape: tuple[int, int] | None = None) -> SparseFrames:
    """Return a sparse array (n, rows, cols) as events; any further axes in front are frames.

    (n, rows * cols), as scipy has it, needs the `frame_shape`. A FrameShapeError for another shape,
    or what holds no real numbers.
    """
    coo = array if hasattr(array, "coords") else array.tocoo()
    shape = tuple(int(n) for n in coo.shape)
    is_flat = frame_shape is not None and shape[1:] == (frame_shape[0] * frame_shape[1],)
    if not is_flat and len(shape) < 3:
        expected = "(n, rows, cols)" if frame_shape is None else f"(n, {frame_shape[0]}, ...)"
        raise FrameShapeError(
            f"Sparse frames: got shape {shape}, expected {expected} or one row of all pixels a "
            "frame. Reshape the array."
        )
    counts = np.asarray(coo.data)
    if counts.dtype.kind not in REAL_NUMBERS + "b":
        raise FrameShapeError(
            f"Sparse frames: got dtype {counts.dtype}, expected integers or floating "
            "point numbers. Convert the array to counts a pixel."
        )
    if (fill := getattr(coo, "fill_value", 0)) != 0:
        raise FrameShapeError(
            f"Sparse frames: got the fill value {short_repr(fill)}, expected 0. Make the array of "
            "counts, in which most pixels hold 0."
        )
    coords = [np.asarray(axis).astype(np.int64) for axis in coo.coords]
    *leading, rows, cols = (shape[0], *frame_shape) if is_flat and frame_shape else shape
    pixels = coords[-1] if is_flat else coords[-2] * cols + coords[-1]
    axes = coords[:1] if is_flat else coords[:-2]
    frames: IntArray = np.ravel_multi_index(tuple(axes), tuple(leading)).astype(np.int64)
    n_frames = int(np.prod(leading))
    return _in_order(counts, pixels, frames, n_frames, (rows, cols))


def _in_order(
    counts: Array, pixels: IntArray, frames: IntArray, n_frames: int, shape: tuple[int, int]
) -> SparseFrames:
    if (np.diff(frames) < 0).any():
        order = np.argsort(frames, kind="stable")
        counts, pixels, frames = counts[order], pixels[order], frames[order]
    if counts.dtype.kind == "b":
        counts = counts.view(np.uint8)
    starts = np.searchsorted(frames, np.arange(n_frames + 1))
    return SparseFrames(
        counts=counts, pixels=pixels, starts=starts.astype(np.int64), frame_shape=shape
    )


def dense(events: SparseFrames) -> Array:
    """Return events as frames (k, rows, cols)."""
    rows, cols = events.frame_shape
    frames = np.zeros((len(events), rows * cols), events.counts.dtype)
    np.add.at(frames, (events.frame_numbers, events.pixels), events.counts)
    return frames.reshape(-1, rows, cols)
