"""I(q): the mean of an image over rings around the direct beam, and q of a ring."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from xpcs_live_denoise.records.frames import Geometry
from xpcs_live_denoise.records.results import Saxs
from xpcs_live_denoise.records.types import Array, FloatArray, IntArray

RING_PIXELS = 4.0  # width of a ring of an image of few counts
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


def binned_position(position: tuple[float, float], binning: int) -> tuple[float, float]:
    """Return where a position (row, col) of an image is in one of `binning` x `binning` pixels."""
    row, col = position
    return (row + 0.5) / binning - 0.5, (col + 0.5) / binning - 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Rings:
    """Rings around the direct beam, all as wide, from the first that has a pixel."""

    radius: FloatArray  # (rows, cols), pixels
    index: IntArray  # (rows * cols,)
    middles: FloatArray  # (n_ring,), pixels

    @classmethod
    def of(
        cls,
        shape: tuple[int, ...],
        center: tuple[float, float],
        *,
        width: float = RING_PIXELS,
        first: float = 0.5,
    ) -> Rings | None:
        """Return the rings, `width` pixels wide, of images of a shape.

        `first` is where the innermost has its middle, in widths: 0.5, or 0 for one that is a disk
        half as wide. None where the beam is so far away that rings mean nothing.
        """
        rows, cols = (np.arange(n, dtype=np.float64) for n in shape)
        radius: FloatArray = np.hypot((rows - center[0])[:, None], (cols - center[1])[None])
        if not radius.size or not radius.max() < FARTHEST_PX:  # nor NaN
            return None
        at = np.rint(radius / width - first).astype(np.int64).ravel()
        begin = int(at.min())
        index = at - begin
        middles = (begin + np.arange(int(index.max()) + 1, dtype=np.float64) + first) * width
        return cls(radius=radius, index=index, middles=middles)

    def sums(self, image: Array) -> FloatArray:
        """Return the sum over each ring, (n_ring,)."""
        return np.bincount(self.index, image.ravel(), len(self.middles)).astype(np.float64)

    def spread(self, values: FloatArray) -> FloatArray:
        """Return values of rings (n_ring,) at each pixel, interpolated."""
        return np.interp(self.radius, self.middles, values)


def radial_mean(
    image: Array, center: tuple[float, float], geometry: Geometry, binning: int = 1
) -> Saxs | None:
    """Return the mean of an image (rows, cols) over rings as wide as one of its pixels.

    `center` (row, col) is the direct beam, in pixels of the detector, of which `binning` along an
    edge make one of the image. Pixels that are no number are left out. None where the beam is so
    far away that rings mean nothing.
    """
    rings = Rings.of(image.shape, binned_position(center, binning), width=1.0, first=0.0)
    if rings is None:
        return None
    known = np.isfinite(image)
    n_pixels, total = rings.sums(known), rings.sums(np.where(known, image, 0.0))
    radius_px = rings.middles * binning
    q = momentum_transfer(radius_px, geometry)
    unknown = np.full(len(radius_px), np.nan)
    return Saxs(
        radius_px=radius_px,
        q_inv_angstrom=unknown if q is None else q,
        mean=np.divide(total, n_pixels, out=unknown.copy(), where=n_pixels > 0),
        n_pixels=n_pixels.astype(np.int64),
    )
