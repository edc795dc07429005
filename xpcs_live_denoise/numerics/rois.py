"""Regions of interest: which pixels belong together, in which order they are gathered, their q."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from xpcs_live_denoise.errors import FrameShapeError, InvalidInputError
from xpcs_live_denoise.records.frames import Geometry
from xpcs_live_denoise.records.types import Array, BoolArray, FloatArray, IntArray

from .radial import momentum_transfer


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RoiMap:
    """The pixels of every ROI of a detector. Build one with `from_labels`, `rings` or `sectors`.

    All arrays are read-only.

    Attributes
    ----------
    shape
        (rows, cols) of the frames.
    labels
        Shape (n_roi,): the ROIs' labels, ascending, all > 0; they need not be consecutive.
    q_inv_angstrom
        Shape (n_roi,): q of each ROI, 1/Angstrom; NaN where unknown.
    n_pixels
        Shape (n_roi,): pixels in each ROI.
    pixels
        Shape (sum of n_pixels,): flat indices into a frame, ROI by ROI in the order of `labels`,
        row by row inside a ROI.
    slices
        For each ROI, where its pixels stand in `pixels` and in what `gather` returns.
    center
        (row, col) of the direct beam, pixels; None where it is not known.
    phi_deg
        Shape (n_roi,): azimuth of each ROI, degrees, NaN where unknown; None where no ROI has one.
    """

    shape: tuple[int, int]
    labels: IntArray
    q_inv_angstrom: FloatArray
    n_pixels: IntArray
    pixels: IntArray
    slices: tuple[slice, ...]
    center: tuple[float, float] | None = None
    phi_deg: FloatArray | None = None

    @classmethod
    def from_labels(
        cls,
        label_array: ArrayLike,
        *,
        q_inv_angstrom: ArrayLike | None = None,
        phi_deg: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> RoiMap:
        """Build a map from an image of labels.

        Parameters
        ----------
        label_array
            Shape (rows, cols), whole numbers >= 0; 0 is background, equal labels are one ROI.
        q_inv_angstrom
            Shape (n_roi,): q of the labels in ascending order, 1/Angstrom; NaN where unknown.
        phi_deg
            Shape (n_roi,): azimuth of the labels in ascending order, degrees; NaN where unknown.
        mask
            Shape (rows, cols), True or 1 = keep the pixel.

        Raises
        ------
        InvalidInputError
            For labels that are negative or no whole numbers, no ROI at all, shapes that differ,
            and labels that keep no pixel after masking.
        """
        labels_2d = checked_labels(label_array)
        labels = np.unique(labels_2d)
        labels = labels[labels > 0]
        if labels.size == 0:
            raise InvalidInputError(
                "Label array: got no ROI (no label > 0); expected at least one pixel with a label "
                ">= 1."
            )
        q = checked_q(q_inv_angstrom, labels.size)
        if mask is not None:
            labels_2d = np.where(checked_mask(mask, labels_2d.shape), labels_2d, 0)
        rois = cls._from_checked(labels_2d, labels, q)
        return dataclasses.replace(rois, phi_deg=checked_phi(phi_deg, labels.size))

    @classmethod
    def rings(
        cls,
        shape: tuple[int, int],
        center: tuple[float, float],
        edges: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        q_inv_angstrom: ArrayLike | None = None,
    ) -> RoiMap:
        """Build concentric rings, labelled 1, 2, ... from the inside (`skbeam.core.roi.rings`).

        Parameters
        ----------
        shape
            (rows, cols) of the frames.
        center
            (row, col) of the direct beam, pixels; may lie outside of the frame.
        edges
            Shape (n_roi, 2): inner (included) and outer (excluded) radius of each ring, pixels,
            ascending and without overlap.
        mask
            Shape (rows, cols), True or 1 = keep the pixel.
        q_inv_angstrom
            Shape (n_roi,): q of the rings, 1/Angstrom.

        Raises
        ------
        InvalidInputError
            For edges or a center of another shape, edges out of order, a ring that holds no
            pixel of the frame or keeps none after masking, and shapes that differ.
        """
        # Slow to import (a second), and maps from labels do without it.
        roi: Any = importlib.import_module("skbeam.core.roi")
        radii = checked_edges(edges)
        n_rows, n_cols = checked_shape(shape)
        beam = checked_center(center)
        label_array = roi.rings(radii, beam, (n_rows, n_cols))
        labels = np.arange(1, len(radii) + 1)
        empty = np.setdiff1d(labels, label_array)
        if empty.size:
            raise InvalidInputError(
                f"Rings {empty.tolist()}: no pixel of the {n_rows} x {n_cols} frame lies between "
                f"the edges {radii[empty - 1].tolist()} around (row, col) = {beam}; "
                "expected rings that cross the frame. Check the edges (pixels) and the order of "
                "the center."
            )
        rois = cls.from_labels(label_array, q_inv_angstrom=q_inv_angstrom, mask=mask)
        return dataclasses.replace(rois, center=beam)

    @classmethod
    def sectors(
        cls,
        shape: tuple[int, int],
        center: tuple[float, float],
        edges: ArrayLike,
        phi_edges: ArrayLike,
        *,
        mask: ArrayLike | None = None,
        q_inv_angstrom: ArrayLike | None = None,
    ) -> RoiMap:
        """Build sectors of rings: each ring is cut at the same azimuths.

        Of n_phi azimuths, sector j of ring i has the label n_phi * i + j + 1, also where others
        are left out because they hold no pixel of the frame, or keep none after masking.

        Parameters
        ----------
        shape, center, edges, mask
            As for `rings`.
        phi_edges
            Shape (n_phi, 2): first (included) and last (excluded) azimuth of each sector, degrees,
            ascending and without overlap, of 360 degrees at most: (350, 370) crosses 0. It is 0
            along the columns and 90 along the rows of a frame (`skbeam.core.utils.angle_grid`).
        q_inv_angstrom
            Shape (n_ring,): q of the rings, 1/Angstrom.

        Raises
        ------
        InvalidInputError
            As for `rings`, and for azimuths out of order, or sectors that are all empty.
        """
        rings = cls.rings(shape, center, edges)
        azimuths = checked_azimuths(phi_edges)
        (row, col), n_phi = checked_center(center), len(azimuths)
        y, x = np.divmod(rings.pixels, rings.shape[1])
        phi = np.rad2deg(np.arctan2(y - row, x - col))
        labels_2d = np.zeros(rings.shape[0] * rings.shape[1], np.int64)
        number = np.repeat(np.arange(rings.n_roi), rings.n_pixels)
        for k, (first, last) in enumerate(azimuths):
            inside = (phi - first) % 360 < last - first
            labels_2d[rings.pixels[inside]] = n_phi * number[inside] + k + 1
        labels_2d = labels_2d.reshape(rings.shape)
        if mask is not None:
            labels_2d = np.where(checked_mask(mask, rings.shape), labels_2d, 0)
        index = np.unique(labels_2d)
        index = index[index > 0] - 1
        if not len(index):
            raise InvalidInputError(
                f"Sectors: none of {azimuths.tolist()} degrees holds a pixel of the rings; "
                "expected 0 along the columns and 90 along the rows. Check phi_edges, center, mask."
            )
        q = checked_q(q_inv_angstrom, rings.n_roi)[index // n_phi]
        phi_deg = azimuths.mean(axis=1)[index % n_phi]
        sectors = cls.from_labels(labels_2d, q_inv_angstrom=q, phi_deg=phi_deg)
        return dataclasses.replace(sectors, center=(row, col))

    @classmethod
    def _from_checked(cls, labels_2d: IntArray, labels: IntArray, q: FloatArray) -> RoiMap:
        """Order the pixels; `labels` are those that must have some."""
        flat = labels_2d.ravel()
        inside = np.flatnonzero(flat)
        order = inside[np.argsort(flat[inside], kind="stable")]
        edges = np.searchsorted(flat[order], [*labels, labels[-1] + 1])
        n_pixels = np.diff(edges)
        if not n_pixels.all():
            raise InvalidInputError(
                f"ROI map: labels {labels[n_pixels == 0].tolist()} keep no pixel after masking; "
                "expected at least one pixel a label. Take these labels out of the label array or "
                "correct the mask (True = keep)."
            )
        return cls(
            shape=(labels_2d.shape[0], labels_2d.shape[1]),
            labels=_read_only(labels.astype(np.int64)),
            q_inv_angstrom=_read_only(q),
            n_pixels=_read_only(n_pixels.astype(np.int64)),
            pixels=_read_only(order),
            slices=tuple(slice(int(a), int(b)) for a, b in itertools.pairwise(edges)),
        )

    @property
    def n_roi(self) -> int:
        """Number of ROIs."""
        return len(self.labels)

    @property
    def label_array(self) -> IntArray:
        """Shape (rows, cols): the label of every pixel, 0 = background. A new array."""
        flat = np.zeros(self.shape[0] * self.shape[1], dtype=np.int64)
        flat[self.pixels] = np.repeat(self.labels, self.n_pixels)
        return flat.reshape(self.shape)

    @property
    def pixel_numbers(self) -> IntArray:
        """Shape (rows * cols,): where each pixel stands in `pixels`, -1: in no ROI. A new array."""
        numbers = np.full(self.shape[0] * self.shape[1], -1, dtype=np.int64)
        numbers[self.pixels] = np.arange(len(self.pixels))
        return numbers

    def checked_frames(self, frames: ArrayLike) -> Array:
        """Return frames as (k, rows, cols) real numbers, or raise FrameShapeError; not a copy.

        Booleans become uint8.
        """
        stack = np.asarray(frames)
        if stack.ndim == 2:
            stack = stack[np.newaxis]
        if stack.ndim != 3 or stack.shape[1:] != self.shape:
            rows, cols = self.shape
            # How many frames a block holds says nothing of what is wrong with them.
            got = f"(k, {stack.shape[1]}, {stack.shape[2]})" if stack.ndim == 3 else stack.shape
            raise FrameShapeError(
                f"Frames: got shape {got}, expected (k, {rows}, {cols}) or "
                f"({rows}, {cols}), the shape of the ROI map. Use the ROI map of this detector and "
                "readout mode."
            )
        if stack.dtype == np.bool_:  # a photon or none
            stack = stack.view(np.uint8)
        if stack.dtype.kind not in REAL_NUMBERS:
            raise FrameShapeError(
                f"Frames: got dtype {stack.dtype}, expected integers or floating point numbers. "
                "Convert the frames to counts a pixel."
            )
        return stack

    def gather(self, frames: ArrayLike) -> Array:
        """Copy the ROI pixels out of frames.

        Parameters
        ----------
        frames
            Shape (k, rows, cols) or (rows, cols), any real dtype.

        Returns
        -------
        pixels
            Shape (k, sum of n_pixels), in the order of `pixels`, the frames' dtype (booleans become
            uint8); never a view.

        Raises
        ------
        FrameShapeError
            When the shape is another one than the map's, or the dtype holds no real numbers.
        """
        stack = self.checked_frames(frames)
        gathered = np.empty((len(stack), len(self.pixels)), dtype=stack.dtype)
        # Frame by frame: where frames are flipped views, only one at a time is made contiguous.
        for frame, row in zip(stack, gathered, strict=True):
            np.take(frame.reshape(-1), self.pixels, out=row, mode="clip")
        return gathered

    def with_mask(self, mask: ArrayLike) -> RoiMap:
        """Return the map without the pixels where `mask` (rows, cols) is False or 0.

        Raises
        ------
        InvalidInputError
            When the mask has another shape, other values than 0 and 1, or leaves a label without
            pixels.
        """
        keep = checked_mask(mask, self.shape)
        kept = self._from_checked(
            np.where(keep, self.label_array, 0), self.labels, self.q_inv_angstrom
        )
        return dataclasses.replace(kept, center=self.center, phi_deg=self.phi_deg)

    def with_q(self, geometry: Geometry) -> RoiMap:
        """Return the map with the direct beam, and with q, 1/Angstrom, for the ROIs without.

        q of a ROI is the mean over its pixels of `momentum_transfer`. What the geometry does not
        tell stays as it is.

        Raises
        ------
        InvalidInputError
            When wavelength, distance or pixel size is not positive.
        """
        unknown = np.isnan(self.q_inv_angstrom)
        if geometry.beam_center is None:
            return self
        centred = dataclasses.replace(self, center=geometry.beam_center)
        wavelength, distance = geometry.wavelength_angstrom, geometry.detector_distance_m
        pixel = geometry.pixel_size_m
        if wavelength is None or distance is None or pixel is None:
            return centred
        if not min(wavelength, distance, pixel) > 0:
            raise InvalidInputError(
                f"Geometry: got wavelength {wavelength} Angstrom, detector distance {distance} m, "
                f"pixel size {pixel} m; expected positive numbers."
            )
        row, col = np.divmod(self.pixels, self.shape[1])
        radius = np.hypot(row - geometry.beam_center[0], col - geometry.beam_center[1])
        if (q := momentum_transfer(radius, geometry)) is None or not unknown.any():
            return centred
        mean_q = np.array([q[one].mean() for one in self.slices])
        filled = np.where(unknown, mean_q, self.q_inv_angstrom)
        return dataclasses.replace(centred, q_inv_angstrom=_read_only(filled))


def _read_only(array: Array) -> Array:
    array = array.copy()
    array.flags.writeable = False
    return array


REAL_NUMBERS = "uif"  # kinds of dtype that hold real numbers: unsigned, signed, floating


def checked_shape(shape: Sequence[int]) -> tuple[int, int]:
    """Return (rows, cols), or raise InvalidInputError where these are no two positive numbers."""
    if len(shape) != 2 or not all(int(size) == size and size > 0 for size in shape):
        raise InvalidInputError(
            f"Frame shape: got {tuple(shape)}, expected two positive whole numbers (rows, cols)."
        )
    return int(shape[0]), int(shape[1])


def checked_labels(label_array: ArrayLike) -> IntArray:
    """Return labels as int64 (rows, cols), or raise InvalidInputError; 0 is background."""
    labels = np.asarray(label_array)
    if labels.ndim != 2:
        raise InvalidInputError(
            f"Label array: got shape {labels.shape}, expected (rows, cols), one label a pixel."
        )
    if labels.dtype.kind not in REAL_NUMBERS + "b":
        raise InvalidInputError(f"Label array: got dtype {labels.dtype}, expected integers.")
    if labels.dtype.kind == "f" and not (np.isfinite(labels) & (labels == np.rint(labels))).all():
        raise InvalidInputError(
            "Label array: got values that are no whole numbers; expected integer labels, 0 = "
            "background. Was a q map passed instead?"
        )
    if labels.size and labels.min() < 0:
        raise InvalidInputError(
            f"Label array: got negative labels (lowest {labels.min()}); expected 0 = background "
            "and labels >= 1."
        )
    return labels.astype(np.int64)


def checked_mask(mask: ArrayLike, shape: tuple[int, ...]) -> BoolArray:
    """Return a mask as booleans, True = keep, or raise InvalidInputError."""
    keep = np.asarray(mask)
    if keep.shape != shape:
        raise InvalidInputError(
            f"Mask: got shape {keep.shape}, expected {shape}, the shape of the label array."
        )
    if keep.dtype.kind not in REAL_NUMBERS + "b" or not ((keep == 0) | (keep == 1)).all():
        raise InvalidInputError(
            f"Mask: got dtype {keep.dtype} with values other than 0 and 1; expected True or 1 = "
            "keep the pixel, False or 0 = leave it out."
        )
    return keep.astype(np.bool_)


def check_pixels(pixels: Array, n_pixels: int) -> None:
    """Raise FrameShapeError unless `pixels` are (k, n_pixels) real numbers."""
    if pixels.ndim != 2 or pixels.shape[1] != n_pixels or pixels.dtype.kind not in REAL_NUMBERS:
        raise FrameShapeError(
            f"ROI pixels: got shape {pixels.shape} and dtype {pixels.dtype}, expected "
            f"(k, {n_pixels}) real numbers, as RoiMap.gather returns them for this ROI map."
        )


def checked_q(q_inv_angstrom: ArrayLike | None, n_roi: int) -> FloatArray:
    """Return q as float64 (n_roi,), all NaN where None, or raise InvalidInputError."""
    if q_inv_angstrom is None:
        return np.full(n_roi, np.nan)
    q = _as_numbers("q list", q_inv_angstrom)
    if q.shape != (n_roi,):
        raise InvalidInputError(
            f"q list: got shape {q.shape}, expected ({n_roi},), one q (1/Angstrom) for each label "
            "in ascending order."
        )
    if np.isinf(q).any() or (q < 0).any():
        raise InvalidInputError(
            f"q list: got {q.tolist()}, expected finite values >= 0 in 1/Angstrom, or NaN where "
            "unknown."
        )
    return q


def checked_phi(phi_deg: ArrayLike | None, n_roi: int) -> FloatArray | None:
    """Return azimuths as float64 (n_roi,), None if no ROI has one, or raise InvalidInputError."""
    phi = None if phi_deg is None else _as_numbers("phi list", phi_deg)
    if phi is None or np.isnan(phi).all():
        return None
    if phi.shape != (n_roi,) or np.isinf(phi).any():
        raise InvalidInputError(
            f"phi list: got {phi.tolist()}, expected {n_roi} finite values in degrees, one for "
            "each label in ascending order, or NaN where unknown."
        )
    return _read_only(phi)


def checked_edges(edges: ArrayLike) -> FloatArray:
    """Return ring edges as float64 (n_roi, 2), or raise InvalidInputError."""
    radii = _as_numbers("Ring edges", edges)
    if radii.ndim != 2 or radii.shape[1] != 2 or len(radii) == 0:
        raise InvalidInputError(
            f"Ring edges: got shape {radii.shape}, expected (n_roi, 2): inner and outer radius of "
            "each ring in pixels."
        )
    ascending = np.diff(radii.ravel()) >= 0
    if not (np.isfinite(radii).all() and radii[0, 0] >= 0 and ascending.all()):
        raise InvalidInputError(
            f"Ring edges: got {radii.tolist()}, expected finite radii >= 0 that ascend from ring "
            "to ring without overlap."
        )
    return radii


def checked_azimuths(phi_edges: ArrayLike) -> FloatArray:
    """Return azimuths as float64 (n_phi, 2), or raise InvalidInputError."""
    azimuths = _as_numbers("Azimuths", phi_edges)
    fits = azimuths.ndim == 2 and azimuths.shape[1] == 2 and len(azimuths) > 0
    flat = azimuths.ravel()
    if not (
        fits
        and np.isfinite(flat).all()
        and (np.diff(flat) >= 0).all()
        and (np.diff(azimuths) > 0).all()
        and flat[-1] - flat[0] <= 360
    ):
        raise InvalidInputError(
            f"Azimuths: got {azimuths.tolist()}, expected (n_phi, 2) finite degrees that ascend "
            "without overlap, from first to last at most 360 apart."
        )
    return azimuths


def radii_of_q(q_inv_angstrom: ArrayLike, geometry: Geometry) -> FloatArray:
    """Return the radii, pixels, at which a flat detector sees q, 1/Angstrom; see `RoiMap.with_q`.

    Raises
    ------
    InvalidInputError
        Where the geometry does not tell all that is needed, or for a q that nothing scatters to.
    """
    needed = {
        "wavelength_angstrom": geometry.wavelength_angstrom,
        "detector_distance_m": geometry.detector_distance_m,
        "pixel_size_m": geometry.pixel_size_m,
    }
    unknown = [name for name, value in needed.items() if value is None]
    wavelength, distance, pixel = (value or np.nan for value in needed.values())
    if unknown:
        raise InvalidInputError(
            f"q ranges: the geometry lacks {', '.join(unknown)}; expected all of it, to know where "
            "on the detector a q lies. Set them in `geometry`, or give the ranges in pixels."
        )
    q = _as_numbers("q ranges", q_inv_angstrom)
    sine = q * wavelength / (4 * np.pi)
    if not ((sine >= 0) & (sine < np.sqrt(0.5))).all():
        raise InvalidInputError(
            f"q ranges: got {q.tolist()} 1/Angstrom; expected 0 to "
            f"{4 * np.pi / wavelength * np.sqrt(0.5):.4g}, what a flat detector sees."
        )
    return distance * np.tan(2 * np.arcsin(sine)) / pixel


def checked_center(center: ArrayLike) -> tuple[float, float]:
    """Return (row, col), or raise InvalidInputError where these are no two finite numbers."""
    position = _as_numbers("Ring center", center)
    if position.shape != (2,) or not np.isfinite(position).all():
        raise InvalidInputError(
            f"Ring center: got {center}, expected two finite numbers (row, col), pixels."
        )
    return float(position[0]), float(position[1])


def _as_numbers(subject: str, value: ArrayLike) -> FloatArray:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(
            f"{subject}: got {value!r}, expected an array of numbers ({error})."
        ) from error
