"""Checks that an array is a C2, of one ROI or of several."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.records.results import FloatArray


def as_stack(c2: ArrayLike) -> FloatArray:
    """Return C2 with a ROI axis, (n_roi, n, n), without a copy where the dtype is floating.

    Raises
    ------
    InvalidInputError
        When `c2` is neither (n, n) nor (n_roi, n, n), or not real.
    """
    array = np.asarray(c2)
    if array.ndim not in (2, 3) or array.shape[-1] != array.shape[-2]:
        raise InvalidInputError(
            f"C2: got shape {array.shape}; expected (n, n) or (n_roi, n, n), one row and one "
            "column a frame."
        )
    if not np.issubdtype(array.dtype, np.floating):
        if array.dtype.kind not in "iub":
            raise InvalidInputError(f"C2: got dtype {array.dtype}; expected real numbers.")
        array = array.astype(np.float64)
    return array if array.ndim == 3 else array[np.newaxis]


def per_roi(value: ArrayLike, n_roi: int, name: str) -> NDArray[np.float64]:
    """Return a scalar or one value a ROI as an array (n_roi,).

    Raises
    ------
    InvalidInputError
        When there are neither one nor `n_roi` values.
    """
    array: NDArray[Any] = np.asarray(value, dtype=np.float64)
    if array.ndim > 1 or array.size not in (1, n_roi):
        raise InvalidInputError(
            f"{name}: got shape {array.shape}; expected a scalar or one value for each of the "
            f"{n_roi} ROIs of C2."
        )
    return np.broadcast_to(array.reshape(-1), (n_roi,)).copy()
