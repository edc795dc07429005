"""Frames that came and wait until there are enough to be multiplied together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xpcs_live_denoise.records.types import Array

from .events import NewFrames
from .streamed_two_time import TOGETHER, StreamedTwoTime

# Writes frames [first, stop) of those that come into rows (stop - first, n_pixels).
Write = Callable[[int, int, Array], object]


class WaitingFrames:
    """The ROI pixels of up to 39 frames, which `products` gets with the next, or by `flush`.

    A few frames cost nearly as much as forty: calls, and what is read to be multiplied with them.
    Its state is these pixels and how many frames came. Those of a call that is interrupted have
    all come, or none has, at least of each forty.
    """

    def __init__(self, products: StreamedTwoTime) -> None:
        self._products = products
        self._n_pixels = int(products.blocks.n_pixels.sum())
        self._rows: Array = np.empty((0, self._n_pixels))
        self._n_came = 0

    @property
    def n_frames(self) -> int:
        """Frames that came, whether they wait or not."""
        return max(self._n_came, self._products.n_frames)

    @property
    def n_waiting(self) -> int:
        """Frames that wait."""
        return self.n_frames - self._products.n_frames

    def take(self, n_frames: int, dtype: np.dtype[Any], write: Write) -> None:
        """Take frames of a type that the compiled code knows, which `write` writes."""
        done = 0
        if dtype != self._rows.dtype:
            self.flush()
            self._rows = np.empty((0, self._n_pixels), dtype)
        while done < n_frames:
            place = self.n_waiting
            stop = min(place + n_frames - done, TOGETHER)
            if len(self._rows) < stop:
                rows = np.empty((TOGETHER, self._n_pixels), dtype)
                rows[:place] = self._rows[:place]
                self._rows = rows
            new = stop - place
            write(done, done + new, self._rows[place:stop])
            if stop == TOGETHER:
                self._products.append(NewFrames(n_frames=stop, values=self._rows[:stop]))
            else:
                self._n_came = self.n_frames + new
            done += new

    def flush(self) -> None:
        """Let nothing wait."""
        n = self.n_waiting
        if n:
            self._products.append(NewFrames(n_frames=n, values=self._rows[:n]))
