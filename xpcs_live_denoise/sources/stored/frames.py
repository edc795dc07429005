"""Frames of an array in Tiled, by slices of bounded size."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from xpcs_live_denoise.errors import UnreadableFramesError, short_repr, text_of
from xpcs_live_denoise.records.frames import TiledFrames

POLL_S = 0.1


class _NotYetError(Exception):
    """The array is shorter than the documents say; its writer may still be at it."""


def read_tiled(
    client: Any, reference: TiledFrames, max_bytes: int, *, below: str = "", timeout_s: float = 2.0
) -> Iterator[NDArray[Any]]:
    """Yield the frames of a reference in order, as arrays (k, rows, cols).

    Parameters
    ----------
    client
        A Tiled client, from which the path of the reference leads down.
    reference
        Counts along all axes of the array but the last two.
    max_bytes
        Most bytes of a block; a single step along the first axis may be larger.
    below
        The path must lead below this one: documents come from outside.
    timeout_s
        How long to wait for frames that were announced and are not there, s; counted anew after
        every block.

    Raises
    ------
    UnreadableFramesError
        When frames cannot be read; those yielded before are good.
    """
    keys = _keys(reference, below)
    position, array = reference.start, None
    deadline = time.monotonic() + timeout_s
    while position < reference.stop:
        try:
            array = client[keys] if array is None else array
            block = _read_block(array, reference, position, max_bytes)
        except UnreadableFramesError:
            raise
        except Exception as error:  # the network, the server, or its storage
            array = None  # its structure may be stale
            if time.monotonic() >= deadline:
                raise UnreadableFramesError(
                    f"Array {reference.path!r} in Tiled: frames [{position}, {reference.stop}) "
                    f"cannot be read ({type(error).__name__}: {text_of(error, 300)}); expected "
                    "them, since a document announced them. Check the server and its storage."
                ) from error
            time.sleep(POLL_S)
            continue
        position += len(block)
        yield block
        deadline = time.monotonic() + timeout_s


def _keys(reference: TiledFrames, below: str) -> tuple[str, ...]:
    """Return the keys down to the array, none of which may lead elsewhere."""
    keys = tuple(key for key in reference.path.split("/") if key)
    allowed = tuple(key for key in below.split("/") if key)
    if keys[: len(allowed)] != allowed or len(keys) <= len(allowed) or {".", ".."} & {*keys}:
        raise UnreadableFramesError(
            f"Array {short_repr(reference.path)} in Tiled: not below {below!r}, where the raw runs "
            "are. Set tiled.raw_path to their container if it is another one."
        )
    return keys


def _read_block(array: Any, reference: TiledFrames, position: int, max_bytes: int) -> NDArray[Any]:
    """Return the next frames, at least one."""
    shape, dtype = getattr(array, "shape", ()), getattr(array, "dtype", None)
    if shape is None or len(shape) < 3 or dtype is None or dtype.kind not in "buif":
        raise UnreadableFramesError(
            f"Array {reference.path!r} in Tiled: got shape {shape} and dtype {dtype}; expected "
            "frames, real numbers of shape (n, rows, cols)."
        )
    *leading, rows, cols = shape
    per_index = math.prod(leading[1:])  # frames of one step along the first axis
    if position >= leading[0] * per_index:
        raise _NotYetError(f"the array holds {leading[0] * per_index} frames")
    step = max(1, max_bytes // max(1, per_index * rows * cols * dtype.itemsize))
    first = position // per_index
    last = min(first + step, -(-reference.stop // per_index), leading[0])
    values = array[first:last].reshape(-1, rows, cols)
    block = values[position - first * per_index : reference.stop - first * per_index]
    if not len(block):
        raise _NotYetError("the server sent no frames")
    return block
