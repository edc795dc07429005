"""Two-time products by matrix multiplication, also of blocks of a ROI's pixels."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpcs_live_denoise.records.results import FloatArray

from .rois import RoiMap

_SMALL_PRODUCT = 10**6  # multiplications up to which OpenBLAS copies nothing (AVX-512)
_ROWS_TOGETHER = 8


class DenseProducts:
    """Matrix products of new frames with the history, one a block of pixels.

    Parameters
    ----------
    roi_map
        The ROIs.
    capacity
        Frames to make room for.
    dtype
        Of the history and the products.
    n_block
        Blocks of contiguous pixels that each ROI is split into.
    """

    def __init__(
        self, roi_map: RoiMap, capacity: int, dtype: np.dtype[Any], *, n_block: int = 1
    ) -> None:
        self._n_pixels = roi_map.n_pixels
        self._n_block = n_block
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
        self._inverse = np.empty((len(self._slices), capacity if n_block > 1 else 0), dtype)

    def multiply(self, scaled: NDArray[Any], start: int) -> FloatArray:
        """Store frames [start, start + k); return <X1 X2> as (n_roi, start + k, k)."""
        return self._means(self._multiply(scaled, start))

    def multiply_blocks(self, scaled: NDArray[Any], start: int) -> tuple[FloatArray, FloatArray]:
        """Store frames [start, start + k); return C2 and C2 - 1 with a block left out.

        Returns
        -------
        c2
            Shape (n_roi, start + k, k).
        left_out
            Shape (n_roi * n_block, start + k, k): <I1 I2>/(<I1><I2>) - 1 over the pixels of the
            ROI that are not in the block. Without counts in a frame, any finite number.
        """
        stop = start + len(scaled)
        products = self._multiply(scaled, start)
        self._store_means(scaled, start)
        inverse = self._inverse[:, :stop]
        by_roi = products.reshape(-1, self._n_block, *products.shape[1:])
        total = by_roi.sum(axis=1, keepdims=True)
        np.subtract(total, by_roi, out=by_roi)
        products *= inverse[:, :, np.newaxis]
        products *= inverse[:, np.newaxis, start:]
        products -= 1
        c2 = total[:, 0]
        c2 /= self._n_pixels[:, np.newaxis, np.newaxis].astype(c2.dtype)
        return c2, products

    def skip(self, start: int, stop: int) -> None:
        """Leave frames [start, stop) without pixels; what they multiply to is finite."""
        for history in self._history:
            history[start:stop] = 0
        self._inverse[:, start:stop] = 0

    def reserve(self, capacity: int) -> None:
        """Make room for `capacity` frames."""
        for index, old in enumerate(self._history):  # one by one: only one is there twice
            new = np.empty((capacity, old.shape[1]), old.dtype)
            new[: len(old)] = old
            self._history[index] = new
        if self._n_block > 1:
            inverse = np.empty((len(self._inverse), capacity), self._inverse.dtype)
            inverse[:, : self._inverse.shape[1]] = self._inverse
            self._inverse = inverse

    def _multiply(self, scaled: NDArray[Any], start: int) -> FloatArray:
        """Store frames; return the sums of products over each block, (n_slice, start + k, k)."""
        k = len(scaled)
        products = np.empty((len(self._history), start + k, k), scaled.dtype)
        for history, one, product in zip(self._history, self._slices, products, strict=True):
            block = history[start : start + k]
            block[...] = scaled[:, one]
            _multiply_rows(history[: start + k], block, product)
        return products

    def _means(self, products: FloatArray) -> FloatArray:
        for product, n_pixels in zip(products, self._n_pixels, strict=True):
            np.divide(product, n_pixels, out=product)
        return products

    def _store_means(self, scaled: NDArray[Any], start: int) -> None:
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
