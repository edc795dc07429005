"""The two-time correlation C2, row by row while frames arrive."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.age_sums import AgeSums
from xpcs_live_denoise.numerics.dense_two_time import DenseProducts
from xpcs_live_denoise.numerics.roi_checks import check_pixels
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.numerics.skbeam_two_time import SkbeamProducts
from xpcs_live_denoise.records.results import (C2Rows, FloatArray)

ENGINES = ("auto", "dense", "skbeam")
"""Names of the ways to compute C2; "auto" takes the fastest, which is "dense"."""

DTYPES = ("float32", "float64")
"""Precisions of C2."""

FIRST_CAPACITY = 64
"""Frames for which memory is reserved where the length of the series is unknown."""

LARGEST_RESERVE = 4096
"""Most frames for which memory is reserved in advance: an announced length can be wrong."""

N_BLOCK = 8
"""Pixel blocks a ROI, for the jackknife."""


class _Products(Protocol):
    """Keeps every frame's normalised pixels and multiplies new ones with all of them."""

    def multiply(self, scaled: NDArray[Any], start: int) -> FloatArray:
        """Store frames [start, start + k); return <X1 X2> as (n_roi, start + k, k)."""
        ...

    def skip(self, start: int, stop: int) -> None:
        """Leave frames [start, stop) without pixels; what they multiply to is not used."""
        ...

    def reserve(self, capacity: int) -> None:
        """Make room for `capacity` frames."""
        ...


class TwoTimeAccumulator:
    """C2 of every ROI, extended by the rows that new frames bring.

    C2(t1, t2) = <I(t1) I(t2)> / (<I(t1)> <I(t2)>), the averages over the pixels of one ROI
    (Eq. 1 of Konstantinova et al., Sci. Rep. 11, 14756 (2021)). How a series is split over calls
    of `append` changes nothing beyond rounding. A ROI whose mean in a frame is not a positive
    number (no counts, or NaN among its pixels) has no measurement there: its row and column are
    NaN. Reading consumes nothing.

    Parameters
    ----------
    roi_map
        The ROIs.
    engine
        "dense": pixels are divided by their ROI's mean once, then each block of new frames is
        multiplied with the history, one matrix product a ROI. "skbeam": scikit-beam's own
        `lazy_two_time`, for comparison, much slower. "auto": "dense".
    dtype
        "float32" or "float64": precision of C2 and of the dense engine's history.
    n_frames
        Length of the series where it is known: memory is then reserved once. A hint; a series may
        be longer or shorter.
    most_frames
        Length that the caller promises not to exceed: memory never grows beyond it.
    sums
        Keep sums of C2 by age and lag bin, `age_sums`. With the dense engine also without each of
        8 blocks of contiguous pixels of a ROI: products of blocks add up to those of the ROI, so
        that this takes no further multiplications.

    Raises
    ------
    InvalidInputError
        For another engine or dtype, or a number of frames below 1.

    Notes
    -----
    Memory: one number a ROI pixel and frame for the history, n_roi n_frames^2 numbers for C2,
    both of `dtype`; up to twice that where capacity grows, which it does by doubling.
    """

    def __init__(
        self,
        roi_map: RoiMap,
        *,
        engine: str = "auto",
        dtype: DTypeLike = "float32",
        n_frames: int | None = None,
        most_frames: int | None = None,
        sums: bool = False,
    ) -> None:
        if engine not in ENGINES:
            raise InvalidInputError(f"Engine: got {engine!r}, expected one of {ENGINES}.")
        try:
            self._dtype: np.dtype[Any] = np.dtype(dtype)
        except TypeError:
            self._dtype = np.dtype(np.void)
        if self._dtype.name not in DTYPES:
            raise InvalidInputError(f"C2 dtype: got {dtype!r}, expected one of {DTYPES}.")
        if n_frames is not None and n_frames < 1:
            raise InvalidInputError(
                f"Number of frames: got {n_frames}, expected at least 1, or None where unknown."
            )
        self._roi_map = roi_map
        self._engine = "dense" if engine == "auto" else engine
        self._n = 0
        self._most = most_frames
        reserve = LARGEST_RESERVE if most_frames is None else min(most_frames, LARGEST_RESERVE)
        self._capacity = min(n_frames or FIRST_CAPACITY, reserve)
        self._c2 = np.empty((roi_map.n_roi, self._capacity, self._capacity), self._dtype)
        self._measured = np.zeros((roi_map.n_roi, self._capacity), np.bool_)
        n_block = N_BLOCK if sums and engine != "skbeam" else 0
        self._blocks: DenseProducts | None = None
        self._products: _Products
        if engine == "skbeam":
            self._products = SkbeamProducts(roi_map.n_pixels, self._capacity)
        else:
            dense = DenseProducts(roi_map, self._capacity, self._dtype, n_block=max(n_block, 1))
            self._products = dense
            self._blocks = dense if n_block else None
        self._sums = AgeSums(roi_map.n_roi, n_block, self._capacity) if sums else None

    @property
    def roi_map(self) -> RoiMap:
        """The ROIs."""
        return self._roi_map

    @property
    def engine(self) -> str:
        """The engine that computes: what "auto" has become."""
        return self._engine

    @property
    def n_frames(self) -> int:
        """Frames in C2 so far, gaps included."""
        return self._n

    @property
    def age_sums(self) -> AgeSums:
        """Sums by age and lag bin, which grow with the series.

        Raises
        ------
        InvalidInputError
            Where they were not asked for.
        """
        if self._sums is None:
            raise InvalidInputError(
                "Sums of C2: got an accumulator that keeps none; expected sums=True when it is "
                "made."
            )
        return self._sums

    @property
    def c2(self) -> FloatArray:
        """C2 so far, shape (n_roi, n_frames, n_frames), symmetric. A read-only view.

        Values never change once they are there; later frames add rows and columns only.
        """
        return self._view(0, self._n)

    def append(self, frames: ArrayLike) -> C2Rows:
        """Take new frames and return the rows of C2 that they bring.

        Parameters
        ----------
        frames
            Shape (k, rows, cols) or (rows, cols), any real dtype. They are not kept.

        Raises
        ------
        FrameShapeError
            When shape or dtype does not fit; C2 is then as before the call.
        """
        return self.append_pixels(self._roi_map.gather(frames))

    def append_pixels(self, pixels: NDArray[Any]) -> C2Rows:
        """Take the ROI pixels of new frames, as `RoiMap.gather` returns them.

        Parameters
        ----------
        pixels
            Shape (k, sum of n_pixels), any real dtype. Not kept, not changed.

        Raises
        ------
        FrameShapeError
            When shape or dtype does not fit; C2 is then as before the call.
        """
        check_pixels(pixels, len(self._roi_map.pixels))
        starts = [one.start for one in self._roi_map.slices]
        with np.errstate(over="ignore", invalid="ignore"):  # inf and NaN end as "no measurement"
            mean = np.add.reduceat(pixels, starts, axis=1, dtype=np.float64)  # (k, n_roi)
            mean /= self._roi_map.n_pixels
        measured = np.isfinite(mean) & (mean > 0)
        scaled = self._scale(pixels, mean, measured)
        return self._extend(scaled, measured.T)

    def append_gap(self, n_frames: int) -> C2Rows:
        """Add frames that could not be had: NaN rows and columns for every ROI.

        Raises
        ------
        InvalidInputError
            When `n_frames` is negative.
        """
        if n_frames < 0:
            raise InvalidInputError(f"Gap: got {n_frames} frames, expected 0 or more.")
        start, stop = self._n, self._n + n_frames
        self._reserve(stop)
        self._products.skip(start, stop)
        self._measured[:, start:stop] = False
        self._c2[:, :stop, start:stop] = np.nan
        self._c2[:, start:stop, :stop] = np.nan
        if self._sums is not None:
            self._sums.add_gap(n_frames)
        self._n = stop
        return self.rows(start, stop)

    def rows(self, start: int, stop: int) -> C2Rows:
        """Return C2(t1, t2) for t1 in [start, stop), t2 in [0, stop), again; a read-only view.

        Raises
        ------
        InvalidInputError
            Unless 0 <= start <= stop <= n_frames.
        """
        if not 0 <= start <= stop <= self._n:
            raise InvalidInputError(
                f"Rows of C2: got [{start}, {stop}), expected a range within [0, {self._n})."
            )
        return C2Rows(start=start, stop=stop, values=self._view(start, stop))

    def _view(self, start: int, stop: int) -> FloatArray:
        view = self._c2[:, start:stop, :stop]
        view.flags.writeable = False
        return view

    def _scale(
        self, pixels: NDArray[Any], mean: NDArray[np.float64], measured: NDArray[np.bool_]
    ) -> NDArray[Any]:
        """Divide pixels by their ROI's mean; 0 where there is none, which no product sees."""
        scaled = np.empty(pixels.shape, self._dtype)
        precision = np.result_type(pixels.dtype, self._dtype)
        divisor = np.where(measured, mean, 1).astype(precision)
        for roi, one in enumerate(self._roi_map.slices):
            np.divide(
                pixels[:, one],
                divisor[:, roi, np.newaxis],
                out=scaled[:, one],
                dtype=precision,
                casting="same_kind",
            )
        if not measured.all():
            scaled[np.repeat(~measured, self._roi_map.n_pixels, axis=1)] = 0
        return scaled

    def _extend(self, scaled: NDArray[Any], measured: NDArray[np.bool_]) -> C2Rows:
        """Write new rows and columns; what a reader sees changes only in the last statements."""
        start, stop = self._n, self._n + len(scaled)
        self._reserve(stop)
        left_out = None
        if self._blocks is None:
            columns = self._products.multiply(scaled, start)  # (n_roi, stop, k)
        else:
            columns, left_out = self._blocks.multiply_blocks(scaled, start)
        self._measured[:, start:stop] = measured
        known = self._measured[:, :stop]
        if not known.all():
            columns[~(known[:, :, np.newaxis] & measured[:, np.newaxis, :])] = np.nan
        # Rounding depends on the order of the factors: one triangle decides for both.
        corner = columns[:, start:]  # (n_roi, k, k)
        row, col = np.tril_indices(corner.shape[1], -1)
        corner[:, row, col] = corner[:, col, row]
        self._c2[:, :stop, start:stop] = columns
        self._c2[:, start:stop, :stop] = columns.transpose(0, 2, 1)
        if self._sums is not None:
            self._sums.add(columns, left_out)
        self._n = stop
        return self.rows(start, stop)

    def _reserve(self, n_frames: int) -> None:
        if n_frames <= self._capacity:
            return
        capacity = max(n_frames, min(2 * self._capacity, self._most or 2 * self._capacity))
        self._products.reserve(capacity)
        c2 = np.empty((len(self._c2), capacity, capacity), self._dtype)
        c2[:, : self._n, : self._n] = self._c2[:, : self._n, : self._n]
        measured = np.zeros((len(c2), capacity), np.bool_)
        measured[:, : self._n] = self._measured[:, : self._n]
        self._c2, self._measured, self._capacity = c2, measured, capacity
