"""The stream `image` of a derived run -> labelled arrays in pixels of the detector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xpcs_live_denoise.errors import ResultNotFoundError

if TYPE_CHECKING:
    import xarray as xr


def read_picture(run: Any) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the mean image of the detector and the ROI under each of its pixels.

    Parameters
    ----------
    run
        Plain container client of a derived run.

    Raises
    ------
    ResultNotFoundError
        When the run has no picture.
    """
    import xarray as xr

    stream = getattr(run["image"], "base", run["image"]) if "image" in run else {}
    if "image" not in stream or "roi_labels" not in stream:
        raise ResultNotFoundError(
            f"Result {run.metadata['start']['uid']}: no picture of the detector; expected the "
            "stream `image`, which a live run has after its first frames and an offline one never."
        )
    node = stream["image"]
    binning = node.metadata.get("binning", 1)
    mean, labels = node.read(), stream["roi_labels"].read()
    # The centre of each binned pixel, in pixels of the frames that the ROIs are drawn on.
    coords: dict[str, Any] = {
        name: (name, (np.arange(n) + 0.5) * binning - 0.5, {"units": "pixels"})
        for name, n in zip(("row", "col"), mean.shape, strict=True)
    }
    attrs = {"binning": binning, "n_frames": node.metadata.get("n_frames", 0)}
    return (
        xr.DataArray(mean, dims=("row", "col"), coords=coords, name="image", attrs=attrs),
        xr.DataArray(labels, dims=("row", "col"), coords=coords, name="roi_labels", attrs=attrs),
    )
