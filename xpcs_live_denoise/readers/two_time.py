"""Stored two-time arrays -> symmetric, labelled ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from xpcs_live_denoise.errors import InvalidInputError

if TYPE_CHECKING:
    import xarray as xr


def mirrored(lower: np.ndarray) -> np.ndarray:
    """Return the symmetric array of a lower triangle; what is above the diagonal is ignored."""
    below = np.tril(lower, -1)
    return np.tril(lower) + np.swapaxes(below, -1, -2)


def roi_index(xpcs: Mapping[str, Any], roi: int | None) -> slice | int:
    """Return the index of a ROI label on the first axis; of all of them for None.

    Raises
    ------
    InvalidInputError
        For a label that the result does not have.
    """
    if roi is None:
        return slice(None)
    labels = xpcs["roi"]
    if roi not in labels:
        raise InvalidInputError(
            f"ROI {roi!r}: not in this result; expected one of the labels {list(labels)}."
        )
    return labels.index(roi)


def q_of(xpcs: Mapping[str, Any]) -> np.ndarray:
    """Return q of every ROI, inverse Angstrom; NaN where unknown."""
    return np.array(xpcs["q_inv_angstrom"], dtype=float)


def labelled(
    values: np.ndarray, xpcs: Mapping[str, Any], roi: int | None, name: str
) -> xr.DataArray:
    """Return C2 with its dims and coordinates.

    Parameters
    ----------
    values
        Shape (n_roi, n, n), or (n, n) for one ROI.
    xpcs
        The entry `xpcs` of the result's start document.
    roi
        Label of the one ROI, None for all.
    name
        Name of the array.
    """
    import xarray as xr

    times = np.arange(values.shape[-1]) * xpcs["frame_time_s"]
    which = roi_index(xpcs, roi)
    labels, q = np.array(xpcs["roi"])[which], q_of(xpcs)[which]
    coords: dict[str, Any] = {
        "t1_s": ("t1", times),
        "t2_s": ("t2", times),
        "roi": labels,
        "q_inv_angstrom": q if roi is not None else ("roi", q),
    }
    dims = ("t1", "t2") if roi is not None else ("roi", "t1", "t2")
    array = xr.DataArray(values, dims=dims, coords=coords, name=name)
    for coord in ("t1_s", "t2_s"):
        array[coord].attrs["units"] = "s"
    array["q_inv_angstrom"].attrs["units"] = "1/angstrom"
    return array
