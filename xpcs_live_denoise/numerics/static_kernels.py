"""Sums over blocks of pixels of what two mean images have in common."""

from __future__ import annotations

from xpcs_live_denoise.numerics.compiled import kernel
from xpcs_live_denoise.records.types import FloatArray, IntArray

_PIXELS = "float64[::1], float64[::1], float64[::1], float64[::1], int64[::1]"
_PAIRS = "int32[::1], int32[::1], int64[::1]"


@kernel(makes_arrays=False)
def _pairs(  # noqa: PLR0917 (numba knows no keyword-only arguments)
    one: FloatArray, other: FloatArray, a: IntArray, b: IntArray, bounds: IntArray, out: FloatArray
) -> None:
    """Add up products of pixels a of one image and b of another, both ways, and count them."""
    for block in range(len(bounds) - 1):
        total = 0.0
        for k in range(bounds[block], bounds[block + 1]):
            total += one[a[k]] * other[b[k]] + other[a[k]] * one[b[k]]
        out[0, block], out[1, block] = total / 2, bounds[block + 1] - bounds[block]


@kernel(f"void({_PIXELS}, {_PAIRS}, {_PAIRS}, {_PAIRS}, float64[:, :, ::1])", makes_arrays=False)
def block_sums(  # noqa: PLR0917
    one: FloatArray,
    other: FloatArray,
    same: FloatArray,
    right: FloatArray,
    edges: IntArray,
    a: IntArray,
    b: IntArray,
    bounds: IntArray,
    a_beside: IntArray,
    b_beside: IntArray,
    bounds_beside: IntArray,
    a_below: IntArray,
    b_below: IntArray,
    bounds_below: IntArray,
    sums: FloatArray,
) -> None:
    """Fill sums (6, 2, n_block): of what `static._quantities` needs, and how many pixels have it.

    `one` and `other` are mean images, `same` and `right` products of neighbouring frames, of each
    pixel and with that on its right; then come the bounds of blocks among pixels, and pairs of
    pixels side by side, far beside and far below, each with bounds of blocks.
    """
    for block in range(len(edges) - 1):
        first, stop = edges[block], edges[block + 1]
        product, alone = 0.0, 0.0
        for k in range(first, stop):
            product += one[k] * other[k]
            alone += same[k]
        sums[0, 0, block], sums[4, 0, block] = product, alone
        sums[0, 1, block] = sums[4, 1, block] = stop - first
        total = 0.0
        for k in range(bounds[block], bounds[block + 1]):
            total += right[a[k]]
        sums[5, 0, block], sums[5, 1, block] = total, bounds[block + 1] - bounds[block]
    _pairs(one, other, a, b, bounds, sums[1])
    _pairs(one, other, a_beside, b_beside, bounds_beside, sums[2])
    _pairs(one, other, a_below, b_below, bounds_below, sums[3])
