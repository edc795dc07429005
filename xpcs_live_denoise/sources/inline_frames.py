"""What an event holds itself: frames, or something that keeps their place."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpcs_live_denoise.errors import short_repr
from xpcs_live_denoise.records.results import InlineFrames
from xpcs_live_denoise.sources.image_key import MOST_FRAMES
from xpcs_live_denoise.sources.stream_resources import UnreadableFrames

# What numpy raises for rows of different lengths, lists that hold themselves, and worse.
_NO_ARRAY = (ValueError, TypeError, LookupError, ArithmeticError, RecursionError, MemoryError)


def inline_frames(value: Any, *, data_key: str, n_frames: int) -> InlineFrames | UnreadableFrames:
    """Return the frames that a value is; arrays are shared, not copied.

    Parameters
    ----------
    value
        Expected: (rows, cols) or (k, rows, cols) of real numbers, an array or nested lists.
    data_key
        Its name, for the message.
    n_frames
        Frames that the event stands for if it cannot be used.
    """
    if value is None:
        return UnreadableFrames.gap(
            n_frames, f"Data key {data_key!r}: missing in events of its stream."
        )
    try:
        frames = np.asarray(value)
    except _NO_ARRAY:
        frames = np.empty(0, object)
    if frames.dtype.kind not in "buif" or frames.ndim not in (2, 3) or not frames.size:
        return UnreadableFrames.gap(
            n_frames,
            f"Data key {data_key!r}: got frames of shape {frames.shape} and dtype "
            f"{_name(frames.dtype)}; expected real numbers of shape (rows, cols) or "
            "(k, rows, cols).",
        )
    if frames.ndim == 3 and len(frames) > MOST_FRAMES:
        return UnreadableFrames.gap(
            n_frames,
            f"Data key {data_key!r}: got {len(frames)} frames in one event, expected at most "
            f"{MOST_FRAMES}.",
        )
    return InlineFrames(frames=frames[np.newaxis] if frames.ndim == 2 else frames)


def _name(dtype: np.dtype[Any]) -> str:
    return str(dtype) if dtype.names is None else short_repr(dtype)
