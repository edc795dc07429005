"""What a simulated detector sees: a series of frames, handed out in the sizes it asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xpcs_live_denoise.errors import InvalidInputError

# Called at the start of each series; every block has shape (k, rows, cols).
FrameFactory: TypeAlias = Callable[[], Iterator[NDArray[Any]]]


def recorded(frames: NDArray[Any], *, block: int = 50) -> FrameFactory:
    """Return a factory that hands out an array or HDF5 dataset of frames (n, rows, cols) again."""

    def blocks() -> Iterator[NDArray[Any]]:
        for start in range(0, len(frames), block):
            yield np.asarray(frames[start : start + block])

    return blocks


class FrameSupply:
    """One series of a FrameFactory. `take` consumes frames, the attributes do not.

    Attributes
    ----------
    frame_shape, dtype
        Of the frames; the first block is made when the supply is.

    Raises
    ------
    InvalidInputError
        When the factory gives no frames, or not frames of shape (k, rows, cols).
    """

    def __init__(self, factory: FrameFactory) -> None:
        self._blocks = iter(factory())
        self._rest = self._next_block()
        if self._rest is None:
            raise InvalidInputError(
                "Simulated detector: its factory gave no frames; expected blocks of shape "
                "(k, rows, cols). A factory must return a new iterator each time it is called."
            )
        self.frame_shape: tuple[int, int] = (self._rest.shape[1], self._rest.shape[2])
        self.dtype: np.dtype[Any] = self._rest.dtype

    def take(self, n_frames: int) -> NDArray[Any]:
        """Return the next `n_frames` frames, fewer (or none) at the end of the series."""
        parts: list[NDArray[Any]] = []
        missing = n_frames
        while missing and self._rest is not None:
            part, self._rest = self._rest[:missing], self._rest[missing:]
            parts.append(part)
            missing -= len(part)
            if missing:  # only then: the next block may take long to make
                self._rest = self._next_block()
        if not parts:
            return np.empty((0, *self.frame_shape), self.dtype)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _next_block(self) -> NDArray[Any] | None:
        block = next(self._blocks, None)
        if block is not None and (block.ndim != 3 or not block.size):
            raise InvalidInputError(
                f"Simulated detector: its factory gave a block of shape {block.shape}; expected "
                "(k, rows, cols) with at least one frame."
            )
        return block
