"""The two-time correlation C2, row by row while frames arrive."""

from __future__ import annotations

import importlib
import itertools
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.estimator.sums import AgeSums
from xpcs_live_denoise.records.results import C2Rows
from xpcs_live_denoise.records.types import Array, BoolArray, FloatArray, IntArray

from .arrays import enlarged, next_capacity
from .rois import RoiMap, check_pixels
from .static import MeanImages

# Names of the ways to compute C2; "auto" takes the fastest, which is "dense".
ENGINES = ("auto", "dense", "skbeam")
DTYPES = ("float32", "float64")  # precisions of C2
FIRST_CAPACITY = 64  # frames for which memory is reserved where the length of the series is unknown
# Most frames for which memory is reserved in advance: an announced length can be wrong.
LARGEST_RESERVE = 4096
N_BLOCK = 8  # pixel blocks a ROI, for the jackknife


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
        that this takes no further multiplications. `images` are kept as well.
    profile
        Shape (sum of n_pixels,), above 0: what pixels are divided by before anything else, so that
        intensity that varies inside a ROI is not taken for contrast (`fit_profile`).

    Attributes
    ----------
    roi_map
        The ROIs.
    engine
        The engine that computes: what "auto" has become.
    n_frames
        Frames in C2 so far, gaps included.

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
        profile: FloatArray | None = None,
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
        self.roi_map = roi_map
        self.engine = "dense" if engine == "auto" else engine
        self.n_frames = 0
        self._most = most_frames
        reserve = LARGEST_RESERVE if most_frames is None else min(most_frames, LARGEST_RESERVE)
        self._capacity = min(n_frames or FIRST_CAPACITY, reserve)
        self._c2 = np.empty((roi_map.n_roi, self._capacity, self._capacity), self._dtype)
        self._measured = np.zeros((roi_map.n_roi, self._capacity), np.bool_)
        n_block = N_BLOCK if sums and engine != "skbeam" else 0
        self._products: DenseProducts | SkbeamProducts
        if engine == "skbeam":
            self._products = SkbeamProducts(roi_map.n_pixels, self._capacity)
        else:
            self._products = DenseProducts(roi_map, self._capacity, self._dtype, n_block=n_block)
        self._sums = AgeSums(roi_map.n_roi, n_block, self._capacity) if sums else None
        self._images = MeanImages(roi_map) if sums else None
        self._weights = None if profile is None else (1 / profile).astype(self._dtype)

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
    def images(self) -> MeanImages:
        """Mean images of parts of the series, for the test of static speckle.

        Raises
        ------
        InvalidInputError
            Where sums were not asked for.
        """
        if self._images is None:
            raise InvalidInputError(
                "Mean images: got an accumulator that keeps none; expected sums=True when it is "
                "made."
            )
        return self._images

    @property
    def c2(self) -> FloatArray:
        """C2 so far, shape (n_roi, n_frames, n_frames), symmetric. A read-only view.

        Values never change once they are there; later frames add rows and columns only.
        """
        return self._view(0, self.n_frames)

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
        return self.append_pixels(self.roi_map.gather(frames))

    def append_pixels(self, pixels: Array) -> C2Rows:
        """Take the ROI pixels of new frames, (k, sum of n_pixels), as `RoiMap.gather` returns them.

        They are not kept and not changed. Raises FrameShapeError when shape or dtype does not fit;
        C2 is then as before the call.
        """
        check_pixels(pixels, len(self.roi_map.pixels))
        with np.errstate(over="ignore", invalid="ignore"):  # inf and NaN end as "no measurement"
            scaled, measured = self._scale(pixels)
        if self._images is not None:
            self._images.add(scaled, measured)
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
        start, stop = self.n_frames, self.n_frames + n_frames
        self._reserve(stop)
        self._products.skip(start, stop)
        self._measured[:, start:stop] = False
        self._c2[:, :stop, start:stop] = np.nan
        self._c2[:, start:stop, :stop] = np.nan
        if self._sums is not None:
            self._sums.add_gap(n_frames)
        if self._images is not None:
            self._images.add_gap(n_frames)
        self.n_frames = stop
        return self.rows(start, stop)

    def rows(self, start: int, stop: int) -> C2Rows:
        """Return C2(t1, t2) for t1 in [start, stop), t2 in [0, stop), again; a read-only view.

        Raises
        ------
        InvalidInputError
            Unless 0 <= start <= stop <= n_frames.
        """
        if not 0 <= start <= stop <= self.n_frames:
            raise InvalidInputError(
                f"Rows of C2: got [{start}, {stop}), expected a range within [0, {self.n_frames})."
            )
        return C2Rows(start=start, stop=stop, values=self._view(start, stop))

    def _view(self, start: int, stop: int) -> FloatArray:
        view = self._c2[:, start:stop, :stop]
        view.flags.writeable = False
        return view

    def _scale(self, pixels: Array) -> tuple[FloatArray, BoolArray]:
        """Divide pixels by the profile and by their ROI's mean, and say where there is one.

        Without a mean they are 0, which no product sees.
        """
        scaled = np.empty(pixels.shape, self._dtype)
        precision = np.result_type(pixels.dtype, self._dtype)
        if self._weights is not None:
            np.multiply(pixels, self._weights, out=scaled, dtype=precision, casting="same_kind")
            pixels = scaled
            precision = self._dtype
        starts = [one.start for one in self.roi_map.slices]
        mean = np.add.reduceat(pixels, starts, axis=1, dtype=np.float64)  # (k, n_roi)
        mean /= self.roi_map.n_pixels
        measured = np.isfinite(mean) & (mean > 0)
        divisor = np.where(measured, mean, 1).astype(precision)
        for roi, one in enumerate(self.roi_map.slices):
            np.divide(
                pixels[:, one],
                divisor[:, roi, np.newaxis],
                out=scaled[:, one],
                dtype=precision,
                casting="same_kind",
            )
        if not measured.all():
            scaled[np.repeat(~measured, self.roi_map.n_pixels, axis=1)] = 0
        return scaled, measured

    def _extend(self, scaled: Array, measured: BoolArray) -> C2Rows:
        """Write new rows and columns; what a reader sees changes only in the last statements."""
        start, stop = self.n_frames, self.n_frames + len(scaled)
        self._reserve(stop)
        columns, left_out = self._products.multiply(scaled, start)  # (n_roi, stop, k)
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
        self.n_frames = stop
        return self.rows(start, stop)

    def _reserve(self, n_frames: int) -> None:
        if n_frames <= self._capacity:
            return
        capacity = next_capacity(self._capacity, n_frames, self._most)
        self._products.reserve(capacity)
        n_roi = len(self._c2)
        self._c2 = enlarged(self._c2, (n_roi, capacity, capacity))
        self._measured = enlarged(self._measured, (n_roi, capacity), False)
        self._capacity = capacity


_SMALL_PRODUCT = 10**6  # multiplications up to which OpenBLAS copies nothing (AVX-512)
_ROWS_TOGETHER = 8


class DenseProducts:
    """Matrix products of new frames with the history, one a block of pixels.

    A ROI is split into `n_block` blocks of contiguous pixels, 0: it stays whole. There is room for
    `capacity` frames; history and products are of `dtype`.
    """

    def __init__(
        self, roi_map: RoiMap, capacity: int, dtype: np.dtype[Any], *, n_block: int = 0
    ) -> None:
        self._n_pixels = roi_map.n_pixels
        self._n_block = n_block
        n_block = max(n_block, 1)
        self._slices: list[slice] = []
        for one in roi_map.slices:
            size = one.stop - one.start
            edges = [one.start + block * size // n_block for block in range(n_block + 1)]
            self._slices += [slice(first, stop) for first, stop in itertools.pairwise(edges)]
        self._sizes = np.array([one.stop - one.start for one in self._slices])
        # An array a block: the product then reads memory from one end to the other, its limit.
        self._history: list[FloatArray] = [
            np.empty((capacity, size), dtype) for size in self._sizes.tolist()
        ]
        # 1 / <X> of the pixels that are left when a block is left out, and 1 / sqrt(their number).
        self._inverse = np.empty((len(self._slices), capacity if self._n_block else 0), dtype)

    def multiply(self, scaled: Array, start: int) -> tuple[FloatArray, FloatArray | None]:
        """Store frames [start, start + k); return C2, and C2 - 1 with a block left out.

        C2 is (n_roi, start + k, k). The other, None without blocks, is (n_roi * n_block, start + k,
        k): <I1 I2>/(<I1><I2>) - 1 over the pixels of the ROI outside the block; any finite number
        for a frame without counts.
        """
        stop = start + len(scaled)
        products = np.empty((len(self._history), stop, len(scaled)), scaled.dtype)
        for history, one, product in zip(self._history, self._slices, products, strict=True):
            history[start:stop] = scaled[:, one]
            _multiply_rows(history[:stop], history[start:stop], product)
        n_pixels = self._n_pixels[:, np.newaxis, np.newaxis].astype(products.dtype)
        if not self._n_block:
            products /= n_pixels
            return products, None
        self._store_means(scaled, start)
        inverse = self._inverse[:, :stop]
        by_roi = products.reshape(-1, self._n_block, *products.shape[1:])
        total = by_roi.sum(axis=1, keepdims=True)
        np.subtract(total, by_roi, out=by_roi)
        products *= inverse[:, :, np.newaxis]
        products *= inverse[:, np.newaxis, start:]
        products -= 1
        c2 = total[:, 0]
        c2 /= n_pixels
        return c2, products

    def skip(self, start: int, stop: int) -> None:
        """Leave frames [start, stop) without pixels; what they multiply to is finite."""
        for history in self._history:
            history[start:stop] = 0
        self._inverse[:, start:stop] = 0

    def reserve(self, capacity: int) -> None:
        """Make room for `capacity` frames."""
        for index, old in enumerate(self._history):  # one by one: only one is there twice
            self._history[index] = enlarged(old, (capacity, old.shape[1]))
        if self._n_block:
            self._inverse = enlarged(self._inverse, (len(self._inverse), capacity))

    def _store_means(self, scaled: Array, start: int) -> None:
        """Store what turns a sum of products of the remaining pixels into their C2."""
        sums = np.stack([scaled[:, one].sum(axis=1, dtype=np.float64) for one in self._slices])
        total = np.repeat(
            sums.reshape(-1, self._n_block, len(scaled)).sum(axis=1), self._n_block, 0
        )
        rest = total - sums  # (n_slice, k): sum of X over the pixels that are left
        n_left = np.repeat(self._n_pixels, self._n_block) - self._sizes
        scale = np.sqrt(np.maximum(n_left, 1))[:, np.newaxis]
        self._inverse[:, start : start + len(scaled)] = np.where(
            rest > 0, scale / np.where(rest > 0, rest, 1.0), 0.0
        )


def _multiply_rows(history: FloatArray, block: FloatArray, product: FloatArray) -> None:
    """Write history @ block.T, (n, n_pixels) @ (n_pixels, k), into `product`, (n, k).

    A few new frames against a long history are limited by memory, and by the copies that BLAS
    makes of its operands before large products. It makes none for small ones: the history is
    taken a few frames at a time, which halves the time for 5 to 20 new frames on one core.
    """
    k, n_pixels = block.shape
    if not n_pixels:  # a block of a ROI that has fewer pixels than blocks
        product[...] = 0
        return
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


class SkbeamProducts:
    """scikit-beam's two-time state, which is resumable, made to grow and to survive interruption.

    scikit-beam wants the number of frames in advance. When more come, a new state of the larger
    size takes over the frames and results of the old one; nothing is computed twice. Pixels stand
    ROI by ROI, `n_pixels` (n_roi,) in each.
    """

    def __init__(self, n_pixels: IntArray, capacity: int) -> None:
        self._labels = np.repeat(np.arange(1, len(n_pixels) + 1), n_pixels)[np.newaxis]
        self._n = 0
        self._state: Any = self._new_state(capacity)

    def multiply(self, scaled: Array, start: int) -> tuple[FloatArray, None]:
        """Store frames [start, start + k) and return C2 columns (n_roi, start + k, k).

        Pixels are divided by their mean already, which C2 does not depend on. Frames of which a
        ROI has no counts give rows that the caller replaces. Blocks are not left out.
        """
        self._rewind(start)
        capacity = self._state.buf.shape[1]
        with np.errstate(divide="ignore", invalid="ignore"):  # a ROI without counts: 0 / 0
            states = _lazy_two_time()(
                self._labels, scaled, capacity, capacity, two_time_internal_state=self._state
            )
            for state in states:
                self._state = state
        # scikit-beam fills [later, earlier] only.
        rows = self._state.g2[:, start : start + len(scaled), : start + len(scaled)].copy()
        corner = rows[:, :, start:]
        corner += np.tril(corner, -1).transpose(0, 2, 1)
        return rows.transpose(0, 2, 1), None

    def skip(self, start: int, stop: int) -> None:
        """Leave frames [start, stop) without pixels; what they multiply to is not used."""
        self.multiply(np.zeros((stop - start, self._labels.size)), start)

    def reserve(self, capacity: int) -> None:
        """Make room for `capacity` frames."""
        old, self._state = self._state, self._new_state(capacity)
        n = old.g2.shape[1]
        self._state.g2[:, :n, :n] = old.g2
        # Frame t (from 1) stands at t modulo the length of the ring.
        ring = old.buf.shape[1]
        frames = np.arange(1, n + 1, dtype=np.int64)
        self._state.buf[0, frames % self._state.buf.shape[1]] = old.buf[0, frames % ring]

    def _new_state(self, capacity: int) -> Any:
        """Return an empty state for an even number of at least `capacity` frames."""
        even = capacity + capacity % 2
        blank = np.ones((1, self._labels.size))
        return next(_lazy_two_time()(self._labels, blank, even, even))

    def _rewind(self, n_frames: int) -> None:
        """Set the counters to `n_frames`, from where an interrupted call may have left them."""
        state = self._state
        state.cur[0] = (n_frames + 1) % state.buf.shape[1]
        state.img_per_level[0] = n_frames
        state.count_level[0] = n_frames
        del state.time_ind[0][n_frames:]
        self._state = state._replace(current_img_time=n_frames)


def _lazy_two_time() -> Any:
    """Return scikit-beam's function, which has no types and is slow to import."""
    return importlib.import_module("skbeam.core.correlation").lazy_two_time
