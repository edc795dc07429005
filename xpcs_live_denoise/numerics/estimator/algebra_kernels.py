"""Linear algebra of a path: a matrix whose rows begin late, its factor and its inverse."""

from __future__ import annotations

import math

import numpy as np

from xpcs_live_denoise.numerics.compiled import kernel
from xpcs_live_denoise.records.types import FloatArray, IntArray

TILE = 4  # rows and columns that are done at once: numbers that are loaded are used four times
_TOGETHER = 8  # columns that are mirrored at once


@kernel(makes_arrays=False)
def _tile(  # noqa: PLR0917
    left: FloatArray, i: int, right: FloatArray, j: int, first: int, stop: int, out: FloatArray
) -> None:
    """Fill out (4, 4) with products of rows i .. i + 3 and j .. j + 3, columns [first, stop)."""
    a, b, c, d = (
        left[i, first:stop],
        left[i + 1, first:stop],
        left[i + 2, first:stop],
        left[i + 3, first:stop],
    )
    for q in range(0, TILE, 2):
        row, other = right[j + q, first:stop], right[j + q + 1, first:stop]
        aq, bq, cq, dq, ar, br, cr, dr = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for k in range(len(row)):
            x, y = row[k], other[k]
            aq += a[k] * x
            bq += b[k] * x
            cq += c[k] * x
            dq += d[k] * x
            ar += a[k] * y
            br += b[k] * y
            cr += c[k] * y
            dr += d[k] * y
        out[0, q], out[1, q], out[2, q], out[3, q] = aq, bq, cq, dq
        out[0, q + 1], out[1, q + 1], out[2, q + 1], out[3, q + 1] = ar, br, cr, dr


@kernel(makes_arrays=False)
def factorise(matrix: FloatArray, first: IntArray, tile: FloatArray, inverse: FloatArray) -> bool:
    """Replace the lower half of a matrix by its Cholesky factor; False: not positive definite.

    Rows are 0 before column `first`, a multiple of 4 and one for four rows, as is their number.
    `tile` (4, 4) and `inverse` (n,), which becomes that of the diagonal, are memory.
    """
    n = len(matrix)
    for i in range(0, n, TILE):
        for j in range(first[i], i + 1, TILE):
            _tile(matrix, i, matrix, j, max(first[i], first[j]), j, tile)
            some, others = (
                matrix[i : i + TILE, j : j + TILE],
                matrix[j : j + TILE, j : j + TILE],
            )
            for p in range(TILE):
                for q in range(p if i == j else TILE):
                    x = some[p, q] - tile[p, q]
                    for k in range(q):
                        x -= some[p, k] * others[q, k]
                    some[p, q] = x * inverse[j + q]
                if i == j:
                    x = some[p, p] - tile[p, p]
                    for k in range(p):
                        x -= some[p, k] * some[p, k]
                    if not x > 0:
                        return False
                    some[p, p] = math.sqrt(x)
                    inverse[j + p] = 1 / some[p, p]
    return True


@kernel(makes_arrays=False)
def invert(factor: FloatArray, inverse: FloatArray, tile: FloatArray, columns: FloatArray) -> None:
    """Fill the lower half of inverse (m, m) with that of L L^T: of its first m rows and columns.

    `factor` is L (n, n), n a multiple of 4. Row i of `columns` (n, n), 0 before, becomes column i
    of 1 / L; `tile` (4, 4) is memory.
    """
    n, size = len(factor), len(inverse)
    for i in range(0, n, TILE):
        first = i
        for p in range(i, i + TILE):
            k = 0
            while factor[p, k] == 0:
                k += 1
            first = min(first, k // TILE * TILE)
        for j in range(0, i + 1, TILE):
            _tile(factor, i, columns, j, max(first, j), i, tile)
            for p in range(TILE):
                for q in range(TILE):
                    x = (1.0 if i + p == j + q else 0.0) - tile[p, q]
                    for k in range(p):
                        x -= factor[i + p, i + k] * columns[j + q, i + k]
                    columns[j + q, i + p] = x / factor[i + p, i + p]
    for i in range(0, n, TILE):
        for j in range(0, i + 1, TILE):
            _tile(columns, i, columns, j, i, n, tile)
            for p in range(min(TILE, size - i)):
                for q in range(min(TILE, size - j)):
                    inverse[i + p, j + q] = tile[p, q]


@kernel(makes_arrays=False)
def _back_substitute(factor: FloatArray, first: IntArray, x: FloatArray) -> None:
    """Replace each row of x (m, n) by the solution of L L^T y = x."""
    m, n = x.shape
    for i in range(n):
        row = factor[i, first[i] : i]
        for one in range(m):
            part, total = x[one, first[i] : i], 0.0
            for k in range(len(row)):
                total += row[k] * part[k]
            x[one, i] = (x[one, i] - total) / factor[i, i]
    for i in range(n - 1, -1, -1):
        row = factor[i, first[i] : i]
        for one in range(m):
            part, y = x[one, first[i] : i], x[one, i] / factor[i, i]
            x[one, i] = y
            for k in range(len(row)):
                part[k] -= y * row[k]


@kernel(makes_arrays=False)
def mean_of(values: FloatArray) -> float:
    """Return the mean of values (n,)."""
    total = 0.0
    for k in range(len(values)):
        total += values[k]
    return total / len(values)


@kernel(makes_arrays=False)
def solve_mean(  # noqa: PLR0917
    matrix: FloatArray,
    begin: IntArray,
    n_knot: int,
    weight: float,
    x: FloatArray,
    solved: FloatArray,
) -> float:
    """Replace x by the solution where the prior of the mean has its `weight`; ln of determinants.

    `matrix` is the factor with that weight at the middle knot: with v v^T of the mean instead of
    e e^T there, the solution is that of a matrix of two more ranks. Returns what ln det gains;
    `solved` (3, n) is memory.
    """
    n, middle = len(matrix), n_knot // 2
    of_mean, of_middle = solved[0], solved[1]
    solved[:] = 0.0
    of_mean[:n_knot], of_middle[middle] = 1 / n_knot, 1.0
    for i in range(n):
        solved[2, i] = x[i]
    _back_substitute(matrix, begin, solved)
    for i in range(n):
        x[i] = solved[2, i]
    a, b = 1 + weight * mean_of(of_mean[:n_knot]), weight * mean_of(of_middle[:n_knot])
    c, d = -weight * of_mean[middle], 1 - weight * of_middle[middle]
    determinant = a * d - b * c
    p, q = weight * mean_of(x[:n_knot]), -weight * x[middle]
    p, q = (d * p - b * q) / determinant, (a * q - c * p) / determinant
    for i in range(n):
        x[i] -= of_mean[i] * p + of_middle[i] * q
    return math.log(determinant)


@kernel(makes_arrays=False)
def _mirror(inverse: FloatArray) -> None:
    """Make of the lower half of a matrix all of it, some columns at a time."""
    n = len(inverse)
    for first in range(0, n, _TOGETHER):
        stop = min(first + _TOGETHER, n)
        for i in range(first, n):
            for j in range(first, min(stop, i)):
                inverse[j, i] = inverse[i, j]


@kernel("void(float64[:, ::1], int64, float64)")
def spread_mean(inverse: FloatArray, n_knot: int, weight: float) -> None:
    """Make of the lower half of an inverse all of it, for a prior of the mean of knots.

    It is given for one of the middle knot alone, of the same weight; see `solve_mean`.
    """
    n, middle = len(inverse), n_knot // 2
    _mirror(inverse)
    of_mean, of_middle = np.zeros(n), inverse[middle].copy()
    for k in range(n_knot):
        of_mean += inverse[k]
    of_mean /= n_knot
    a, b = 1 + weight * mean_of(of_mean[:n_knot]), weight * mean_of(of_middle[:n_knot])
    c, d = -weight * of_mean[middle], 1 - weight * of_middle[middle]
    determinant = a * d - b * c
    for i in range(n):
        p, q = weight * of_mean[i], -weight * of_middle[i]
        p, q = (d * p - b * q) / determinant, (a * q - c * p) / determinant
        row = inverse[i]
        for j in range(n):
            row[j] -= of_mean[j] * p + of_middle[j] * q
