"""The denoisers to beat: image filters on a window, and its first principal components."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .triangle import to_triangle, to_windows

GAUSSIAN_SIGMA = 1.0  # pixels
MEDIAN_SIZE = 3  # pixels
# Of the total variation. The least cost on every 60th training input, among powers of 2.
TV_WEIGHT = 16.0

Triangles = NDArray[np.float32]


def gaussian(c2: Triangles) -> Triangles:
    """Return triangles (n, 1275) after a Gaussian filter over the windows they stand for."""
    from scipy.ndimage import gaussian_filter

    sigma = (0, GAUSSIAN_SIGMA, GAUSSIAN_SIGMA)
    return to_triangle(gaussian_filter(to_windows(c2), sigma=sigma))


def median(c2: Triangles) -> Triangles:
    """Return triangles (n, 1275) after a median filter of 3x3 pixels."""
    from scipy.ndimage import median_filter

    return to_triangle(median_filter(to_windows(c2), size=(1, MEDIAN_SIZE, MEDIAN_SIZE)))


def total_variation(c2: Triangles, weight: float = TV_WEIGHT) -> Triangles:
    """Return triangles (n, 1275) denoised by total variation.

    Reference: Chambolle, J. Math. Imaging Vis. 20, 89 (2004).
    """
    from skimage.restoration import denoise_tv_chambolle  # scikit-beam brings scikit-image

    windows: Any = [denoise_tv_chambolle(window, weight=weight) for window in to_windows(c2)]
    return to_triangle(np.stack(windows).astype(np.float32))


def principal_components(
    c2: Triangles, center: Triangles, components: Triangles
) -> NDArray[np.floating[Any]]:
    """Return what some orthonormal components (k, 1275) hold of triangles (n, 1275)."""
    return (c2 - center) @ components.T @ components + center
