"""Sums over ranges of rows, many of one table."""

# numpy's stubs leave the types of arange, indices and the like unknown.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def range_sums(
    values: NDArray[np.generic], begin: NDArray[np.int64], end: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the sums of values[begin:end] along axis 0.

    Parameters
    ----------
    values
        Shape (m, ...).
    begin, end
        Shape (n,), 0 <= begin <= end <= m; or (n, k), a range for each of the k columns along
        axis 1 of `values`.

    Returns
    -------
    sums
        Shape (n, ...), to the rounding of sums from the first row on.
    """
    total = np.zeros((len(values) + 1, *values.shape[1:]))
    np.cumsum(values, axis=0, out=total[1:])
    if begin.ndim == 1:
        return total[end] - total[begin]
    column = np.arange(begin.shape[1])
    return total[end, column] - total[begin, column]
