"""The upper triangle of a window: how 50x50 pixels, 1,275 pixels and 49 lags belong together."""

from __future__ import annotations

import numpy as np

from xpcs_live_denoise.numerics.windows import WINDOW
from xpcs_live_denoise.records.types import Array

ROW, COL = np.triu_indices(WINDOW)
N_PIXELS = len(ROW)
LAG = COL - ROW  # (1275,), 0..49
# How many pixels of the window a pixel of the triangle stands for: itself and its mirror image.
MULTIPLICITY = np.where(LAG == 0, 1.0, 2.0).astype(np.float32)


# (50, 50): where each pixel of the window stands in the triangle.
TRIANGLE_INDEX = np.empty((WINDOW, WINDOW), np.int64)
TRIANGLE_INDEX[ROW, COL] = TRIANGLE_INDEX[COL, ROW] = np.arange(N_PIXELS)
# (1275, 50): triangle @ LAG_MEANS is the mean along each diagonal, lag 0 first.
LAG_MEANS = (LAG[:, None] == np.arange(WINDOW)) / np.bincount(LAG).astype(np.float32)


def to_triangle(windows: Array) -> Array:
    """Return the upper triangle (n, 1275), row by row, of symmetric windows (n, 50, 50)."""
    return windows[:, ROW, COL]


def to_windows(triangles: Array) -> Array:
    """Return the symmetric windows (n, 50, 50) of upper triangles (n, 1275)."""
    return triangles[:, TRIANGLE_INDEX]


def one_time(triangles: Array) -> Array:
    """Return g2 at the lags 1..49, shape (n, 49), of upper triangles (n, 1275)."""
    return triangles @ LAG_MEANS[:, 1:].astype(triangles.dtype)
