"""The two-time correlation C2, row by row while frames arrive."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from xpcs_live_denoise.errors import FrameShapeError, InvalidInputError
from xpcs_live_denoise.numerics.roi_checks import REAL_NUMBERS
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.numerics.skbeam_two_time import SkbeamProducts
from xpcs_live_denoise.records import C2Rows, FloatArray

ENGINES = ("auto", "dense", "skbeam")
"""Names of the ways to compute C2; "auto" takes the fastest, which is "dense"."""

DTYPES = ("float32", "float64")
"""Precisions of C2."""

FIRST_CAPACITY = 64
"""Frames for which memory is reserved where the length of the series is unknown."""

LARGEST_RESERVE = 4096
"""Most frames for which memory is reserved in advance: an announced length can be wrong."""

_SMALL_PRODUCT = 10**6  # multiplications up to which OpenBLAS copies nothing (AVX-512)
_ROWS_TOGETHER = 8


class _Products(Protocol):
    """Keeps every frame's normalised pixels and multiplies new ones with all of them."""

    def multiply(self, scaled: NDArray[Any], start: int) -> FloatArray:
        """Store frames [start, start + k); return <X1 X2> as (n_roi, start + k, k)."""
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
        self._capacity = min(n_frames or FIRST_CAPACITY, LARGEST_RESERVE)
        self._c2 = np.empty((roi_map.n_roi, self._capacity, self._capacity), self._dtype)
        self._measured = np.zeros((roi_map.n_roi, self._capacity), np.bool_)
        self._products: _Products = (
            SkbeamProducts(roi_map.n_pixels, self._capacity)
            if engine == "skbeam"
            else _DenseProducts(roi_map, self._capacity, self._dtype)
        )

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
        n_pixels = len(self._roi_map.pixels)
        real = pixels.dtype.kind in REAL_NUMBERS
        if pixels.ndim != 2 or pixels.shape[1] != n_pixels or not real:
            raise FrameShapeError(
                f"ROI pixels: got shape {pixels.shape} and dtype {pixels.dtype}, expected "
                f"(k, {n_pixels}) real numbers, as RoiMap.gather returns them for this ROI map."
            )
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
        scaled = np.zeros((n_frames, len(self._roi_map.pixels)), self._dtype)
        return self._extend(scaled, np.zeros((self._roi_map.n_roi, n_frames), np.bool_))

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
        """Write new rows and columns; what is there changes only in the last statement."""
        start, stop = self._n, self._n + len(scaled)
        self._reserve(stop)
        columns = self._products.multiply(scaled, start)  # (n_roi, stop, k)
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
        self._n = stop
        return self.rows(start, stop)

    def _reserve(self, n_frames: int) -> None:
        if n_frames <= self._capacity:
            return
        capacity = max(n_frames, 2 * self._capacity)
        self._products.reserve(capacity)
        c2 = np.empty((len(self._c2), capacity, capacity), self._dtype)
        c2[:, : self._n, : self._n] = self._c2[:, : self._n, : self._n]
        measured = np.zeros((len(c2), capacity), np.bool_)
        measured[:, : self._n] = self._measured[:, : self._n]
        self._c2, self._measured, self._capacity = c2, measured, capacity


class _DenseProducts:
    """Matrix products of new frames with the history, one a ROI."""

    def __init__(self, roi_map: RoiMap, capacity: int, dtype: np.dtype[Any]) -> None:
        self._slices = roi_map.slices
        # An array a ROI: the product then reads memory from one end to the other, which limits it.
        self._history: list[FloatArray] = [
            np.empty((capacity, n_pixels), dtype) for n_pixels in roi_map.n_pixels.tolist()
        ]

    def multiply(self, scaled: NDArray[Any], start: int) -> FloatArray:
        k = len(scaled)
        products = np.empty((len(self._history), start + k, k), scaled.dtype)
        for history, one, product in zip(self._history, self._slices, products, strict=True):
            block = history[start : start + k]
            block[...] = scaled[:, one]
            _multiply_rows(history[: start + k], block, product)
            np.divide(product, block.shape[1], out=product)
        return products

    def reserve(self, capacity: int) -> None:
        for roi, old in enumerate(self._history):  # one by one, so that only one is there twice
            new = np.empty((capacity, old.shape[1]), old.dtype)
            new[: len(old)] = old
            self._history[roi] = new


def _multiply_rows(history: FloatArray, block: FloatArray, product: FloatArray) -> None:
    """Write history @ block.T, (n, n_pixels) @ (n_pixels, k), into `product`, (n, k).

    A few new frames against a long history are limited by memory, and by the copies that BLAS
    makes of its operands before large products. It makes none for small ones: the history is
    taken a few frames at a time, which halves the time for 5 to 20 new frames on one core.
    """
    k, n_pixels = block.shape
    n_together = min(_ROWS_TOGETHER, _SMALL_PRODUCT // max(1, k * n_pixels))
    whole = 0
    if k > 1 and n_together > _ROWS_TOGETHER // 2:
        whole = len(history) // n_together * n_together
        parts = (-1, n_together)
        np.matmul(
            history[:whole].reshape(*parts, n_pixels),
            block.T,
            out=product[:whole].reshape(*parts, k),
        )
    # History first: OpenBLAS is a third faster so than with the few new rows first.
    np.matmul(history[whole:], block.T, out=product[whole:])
