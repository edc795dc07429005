"""One two-time map of one ROI as it fills in, and the small image of it that a screen needs."""

from __future__ import annotations

import numpy as np

MOST_ENTRIES = 2000  # along an edge; a longer series is thinned out before it is sent
SCREEN_EDGE = 320  # pixels: more would be sent than a panel of the page shows


def stride_for(n_frames: int) -> int:
    """Return which frames of a series are kept: every k-th."""
    return max(1, -(-n_frames // MOST_ENTRIES))


class C2Map:
    """A symmetric map (n, n), grown as frames come; NaN where nothing was measured.

    Parameters
    ----------
    n_frames
        Frames to expect; it may become more.

    Attributes
    ----------
    stride
        Every how many frames are kept.
    """

    def __init__(self, n_frames: int):
        self.stride = stride_for(n_frames)
        self._values = np.full((0, 0), np.nan, np.float32)

    def patch(self, values: np.ndarray, offset: tuple[int, int]) -> None:
        """Write a block, and its mirror image.

        Parameters
        ----------
        values
            Shape (k, m). Zeros stand for what was never written.
        offset
            Frames (t1, t2) of its first entry.
        """
        k = self.stride
        first = tuple(-(-o // k) for o in offset)  # index of the first entry that is kept
        skip = tuple(f * k - o for f, o in zip(first, offset, strict=True))
        self.place(values[skip[0] :: k, skip[1] :: k], (first[0], first[1]))

    def place(self, kept: np.ndarray, corner: tuple[int, int]) -> None:
        """Write a block whose entries are `stride` frames apart, at an index of the map."""
        rows, cols = kept.shape
        if not rows or not cols:
            return
        self._grow(max(corner[0] + rows, corner[1] + cols))
        t1 = np.arange(corner[0], corner[0] + rows)[:, np.newaxis]
        t2 = np.arange(corner[1], corner[1] + cols)[np.newaxis]
        # Rows above the diagonal need not have been written yet.
        below = (t1 >= t2) & (kept != 0)
        for target, mask, block in (
            (self._values[t1[0, 0] : t1[-1, 0] + 1, t2[0, 0] : t2[0, -1] + 1], below, kept),
            (self._values[t2[0, 0] : t2[0, -1] + 1, t1[0, 0] : t1[-1, 0] + 1], below.T, kept.T),
        ):
            np.copyto(target, block, where=mask)

    def full(self, n_frames: int) -> np.ndarray:
        """Return the map of the first `n_frames` frames, shape (n, n); a view or a larger copy."""
        n = -(-n_frames // self.stride)
        if n > len(self._values):
            self._grow(n)
        return self._values[:n, :n]

    def _grow(self, n: int) -> None:
        have = len(self._values)
        if n <= have:
            return
        grown = np.full((max(n, have * 3 // 2),) * 2, np.nan, np.float32)
        grown[:have, :have] = self._values
        self._values = grown


def for_screen(values: np.ndarray, most: int = SCREEN_EDGE) -> tuple[np.ndarray, int]:
    """Return the mean over squares of a map, at most `most` on an edge, and the squares' edge.

    NaN is left out, and so is the diagonal where squares are averaged: it is no correlation.
    """
    n = len(values)
    edge = max(1, -(-n // most))
    if edge == 1:
        return np.array(values, np.float32), 1
    size = -(-n // edge) * edge
    padded = np.full((size, size), np.nan, np.float32)
    padded[:n, :n] = values
    np.fill_diagonal(padded, np.nan)
    finite = np.isfinite(padded)
    padded[~finite] = 0
    squares = (size // edge, edge, size // edge, edge)
    total = padded.reshape(squares).sum(axis=(1, 3))
    count = finite.reshape(squares).sum(axis=(1, 3))
    mean = np.divide(total, count, where=count > 0, out=np.full_like(total, np.nan))
    return mean.astype(np.float32), edge
