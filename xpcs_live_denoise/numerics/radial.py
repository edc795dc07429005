"""I(q): the mean of an image over rings around the direct beam, and q of a ring."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpcs_live_denoise.records.frames import Geometry
from xpcs_live_denoise.records.results import Saxs
from xpcs_live_denoise.records.types import Array, FloatArray

FARTHEST_PX = 1e6  # of the beam from the image: beyond there is no telling rings apart


def momentum_transfer(radius_px: Any, geometry: Geometry) -> FloatArray | None:
    """Return q, 1/Angstrom, at distances from the direct beam, pixels; None where nobody knows.

    q = (4 pi / wavelength) sin(theta), with 2 theta = atan(radius / sample distance), for a flat
    detector at right angles to the beam. Wavelength, distance and pixel size must be above 0.
    """
    wavelength, distance = geometry.wavelength_angstrom, geometry.detector_distance_m
    pixel = geometry.pixel_size_m
    if wavelength is None or distance is None or pixel is None:
        return None
    if not min(wavelength, distance, pixel) > 0:
        return None
    angle = np.arctan(np.asarray(radius_px, np.float64) * pixel / distance)
    return 4 * np.pi / wavelength * np.sin(angle / 2)


def radial_mean(
    image: Array, center: tuple[float, float], geometry: Geometry, binning: int = 1
) -> Saxs | None:
    """Return the mean of an image (rows, cols) over rings as wide as one of its pixels.

    `center` (row, col) is the direct beam, in pixels of the detector, of which `binning` along an
    edge make one of the image. Pixels that are no number are left out. None where the beam is so
    far away that rings mean nothing.
    """
    row, col = ((at + 0.5) / binning - 0.5 for at in center)
    rows, cols = image.shape
    down: FloatArray = np.arange(rows, dtype=np.float64) - row
    right: FloatArray = np.arange(cols, dtype=np.float64) - col
    radius: FloatArray = np.hypot(down[:, np.newaxis], right)
    if not radius.size or not radius.max() < FARTHEST_PX:  # nor NaN
        return None
    rings = np.rint(radius).astype(np.int64)
    first, last = int(rings.min()), int(rings.max())
    known = np.isfinite(image)
    ring, n_rings = rings[known] - first, last - first + 1
    n_pixels = np.bincount(ring, minlength=n_rings)
    total = np.bincount(ring, image[known], minlength=n_rings)
    radius_px = np.arange(first, last + 1) * float(binning)
    q = momentum_transfer(radius_px, geometry)
    return Saxs(
        radius_px=radius_px,
        q_inv_angstrom=np.full(n_rings, np.nan) if q is None else q,
        mean=np.divide(total, n_pixels, out=np.full(n_rings, np.nan), where=n_pixels > 0),
        n_pixels=n_pixels,
    )
