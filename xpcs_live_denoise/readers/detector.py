"""The detector of a result as a file describes it: image, bins of its pixels, and what a bin is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from xpcs_live_denoise.numerics.radial import binned_position
from xpcs_live_denoise.records.types import Array, BoolArray, Document, FloatArray, IntArray

from .contents import Contents

# Sectors of one ring have not quite the same q, nor those of one direction the same phi.
SAME_Q, SAME_PHI_DEG = 0.01, 1.0
# What start documents call the exposure of a frame, in s; "_" for what is no letter.
EXPOSURE = ("exposure_time", "acquire_time", "count_time", "acquisition_time", "exposure")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoiImage:
    """The detector in the orientation of its ROIs.

    Of a result without a picture it has one row, a pixel for each ROI: nothing more is known.

    Attributes
    ----------
    image, bins, mask
        (rows, cols): mean counts, the ROI's place in the result from 1 on (0: none), and where
        pixels measure something.
    beam_center
        (row, col) of the direct beam in this image; NaN where unknown, as are all others.
    pixel_size_m, distance_m
        Edge of a pixel of this image; from the sample to the detector.
    grid
        What each bin is.
    """

    image: FloatArray
    bins: IntArray
    mask: BoolArray
    beam_center: tuple[float, float]
    pixel_size_m: float
    distance_m: float
    grid: GridOfRois

    @classmethod
    def of(cls, contents: Contents) -> RoiImage:
        """Return that of a result."""
        xpcs, arrays = contents.xpcs, contents.arrays
        labels = np.array(xpcs["roi"], np.int64)
        geometry: Document = xpcs.get("geometry") or {}
        size, center, binning = geometry.get("pixel_size_m"), (math.nan, math.nan), 1
        if has_image := "image/image" in arrays and "image/roi_labels" in arrays:
            binning = contents.binning
            image, under = contents.read("image/image"), contents.read("image/roi_labels")
            place = np.minimum(np.searchsorted(labels, under), len(labels) - 1)
            bins = np.where(labels[place] == under, place + 1, 0)
            if geometry.get("beam_center") is not None:
                turned = turn_point(geometry["beam_center"], xpcs)
                center = binned_position(turned, binning)
        else:
            image, bins = np.full((1, len(labels)), np.nan), np.arange(1, len(labels) + 1)[None]
        return cls(
            image=np.asarray(image, np.float32),
            bins=bins.astype(np.int32),
            mask=np.isfinite(image) if has_image else bins > 0,
            beam_center=(center[0], center[1]),
            pixel_size_m=size * binning if size else math.nan,
            distance_m=float(geometry.get("detector_distance_m") or math.nan),
            grid=GridOfRois.of(xpcs),
        )

    def mean_counts(self, n_roi: int) -> FloatArray:
        """Return the mean counts of a pixel of each bin, (n_roi,); NaN where nobody looked."""
        good = np.isfinite(self.image) & (self.bins > 0)
        counted = np.bincount(self.bins[good], minlength=n_roi + 1)[1:]
        total = np.bincount(self.bins[good], self.image[good], minlength=n_roi + 1)[1:]
        return np.divide(total, counted, out=np.full(n_roi, np.nan), where=counted > 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class GridOfRois:
    """ROIs as the places of a grid: q by phi where they fill one, else one after the other.

    Attributes
    ----------
    names, units
        Of the two axes; the first is "roi", the label, where no q is known.
    values
        Along each axis.
    index_mapping
        (n_roi,): the place of each ROI in the grid, row by row, from 0 on.
    """

    names: tuple[str, str]
    units: tuple[str, str]
    values: tuple[FloatArray, FloatArray]
    index_mapping: IntArray

    @classmethod
    def of(cls, xpcs: Mapping[str, object]) -> GridOfRois:
        """Return that of the ROIs of a result."""
        labels = np.array(xpcs["roi"], np.float64)
        q = np.array(xpcs["q_inv_angstrom"], np.float64)
        phi = azimuths(xpcs)
        if not np.isfinite(q).all():
            first, name, unit = labels, "roi", ""
        else:
            first, name, unit = q, "q", "1/A"
        second, mapping = np.zeros(1), np.arange(len(labels))
        if name == "q" and np.isfinite(phi).all():
            (of_q, qs), (of_phi, phis) = grouped(q, SAME_Q * q.max()), grouped(phi, SAME_PHI_DEG)
            places = of_q * len(phis) + of_phi
            if len(np.unique(places)) == len(places) == len(qs) * len(phis):
                first, second, mapping = qs, phis, places
        return cls(
            names=(name, "phi"),
            units=(unit, "deg"),
            values=(first, second),
            index_mapping=mapping.astype(np.int64),
        )


def azimuths(xpcs: Mapping[str, object]) -> FloatArray:
    """Return phi of each ROI, degrees; NaN where unknown."""
    labels: Array = np.asarray(xpcs["roi"])
    return np.array(xpcs.get("phi_deg") or np.full(len(labels), np.nan), np.float64)


def grouped(values: FloatArray, apart: float) -> tuple[IntArray, FloatArray]:
    """Return the group of each value, and the mean of each group: gaps above `apart` part them."""
    order = np.argsort(values, kind="stable")
    group = np.empty(len(values), np.int64)
    group[order] = np.concatenate([[0], np.cumsum(np.diff(values[order]) > apart)])
    return group, np.bincount(group, values) / np.bincount(group)


def turn_point(point: tuple[float, float], xpcs: Document) -> tuple[float, float]:
    """Return where a point (row, col) of the frames lies after the setting `orientation`."""
    way: Document = (xpcs.get("settings") or {}).get("orientation") or {}
    (row, col), (rows, cols) = point, xpcs["frame_shape"]
    row = rows - 1 - row if way.get("flip_rows") else row
    col = cols - 1 - col if way.get("flip_cols") else col
    for _ in range(way.get("rotate", 0) // 90):
        row, col, rows, cols = cols - 1 - col, row, cols, rows
    return row, col


def exposure_s(start: Mapping[str, object]) -> float:
    """Return the exposure of a frame as the start document tells it, s; NaN if it does not.

    Values at CHX are mostly text.
    """
    named = {"".join(c if c.isalnum() else "_" for c in key.lower()): key for key in start}
    for name in EXPOSURE:
        value = start.get(named.get(name, ""))
        try:
            number = float(value) if isinstance(value, str | int | float) else math.nan
        except ValueError:
            continue
        if math.isfinite(number) and number > 0:
            return number
    return math.nan
