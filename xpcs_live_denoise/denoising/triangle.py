"""The upper triangle of a window: how 50x50 pixels, 1,275 pixels and 49 lags belong together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpcs_live_denoise.numerics.windows import WINDOW

ROW, COL = np.triu_indices(WINDOW)
N_PIXELS = len(ROW)
LAG = COL - ROW  # (1275,), 0..49
# How many pixels of the window a pixel of the triangle stands for: itself and its mirror image.
MULTIPLICITY = np.where(LAG == 0, 1.0, 2.0).astype(np.float32)


def _index() -> NDArray[np.int64]:
    index = np.empty((WINDOW, WINDOW), np.int64)
    index[ROW, COL] = index[COL, ROW] = np.arange(N_PIXELS)
    return index


# (50, 50): where each pixel of the window stands in the triangle.
TRIANGLE_INDEX = _index()


def _lag_means() -> NDArray[np.float32]:
    means = (LAG[:, None] == np.arange(WINDOW)).astype(np.float32)
    return means / means.sum(axis=0)


# (1275, 50): triangle @ LAG_MEANS is the mean along each diagonal, lag 0 first.
LAG_MEANS = _lag_means()


def to_triangle(windows: NDArray[Any]) -> NDArray[Any]:
    """Return the upper triangle (n, 1275), row by row, of symmetric windows (n, 50, 50)."""
    return windows[:, ROW, COL]


def to_windows(triangles: NDArray[Any]) -> NDArray[Any]:
    """Return the symmetric windows (n, 50, 50) of upper triangles (n, 1275)."""
    return triangles[:, TRIANGLE_INDEX]


def one_time(triangles: NDArray[Any]) -> NDArray[Any]:
    """Return g2 at the lags 1..49, shape (n, 49), of upper triangles (n, 1275)."""
    return triangles @ LAG_MEANS[:, 1:].astype(triangles.dtype)
