"""analyse(): the live pipeline on an array or dataset that is there already."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from .config import Settings
from .errors import FrameShapeError
from .numerics.rois import RoiMap
from .numerics.windows import Denoiser
from .pipeline import Analysis, append_note, open_ensemble
from .records import Geometry, Result
from .sources.rois import open_rois


def analyse(
    frames: Any,
    settings: Settings,
    *,
    rois: RoiMap | None = None,
    ensemble: Denoiser | None = None,
) -> Result:
    """Compute C2, denoised C2, g2 and Gamma(t) of a whole series, as the live analysis does.

    Parameters
    ----------
    frames
        Shape (n, rows, cols): an array, a list of frames, or anything with `shape`, `dtype` and
        slices along its first axis, such as an HDF5 dataset, which is read in blocks of
        `settings.block_bytes`.
    settings
        As for LiveDenoise. `frame_time_s` and `geometry` come from here alone; without a frame
        time rates are per frame.
    rois
        The ROI map, instead of the file that `settings.rois` names.
    ensemble
        Instead of the one that `settings.weights` names; anything with `denoise`.

    Returns
    -------
    Result
        `.c2`, `.denoised` (None where nothing was denoised), `.gamma`, `.g2`, `.status`.

    Raises
    ------
    InvalidInputError
        Without ROIs, or for files that cannot be used.
    FrameShapeError
        For frames that do not fit the ROIs.
    """
    if not hasattr(frames, "shape"):
        frames = np.asarray(frames)
    if len(frames.shape) != 3 or not len(frames):
        raise FrameShapeError(
            f"Series: got shape {tuple(frames.shape)}; expected (n, rows, cols) with n > 0."
        )
    geometry = Geometry(**settings.geometry.model_dump())
    why_not = ""
    if ensemble is None:
        ensemble, why_not = open_ensemble(settings)
    analysis = Analysis(
        settings,
        open_rois(settings, rois).with_q(geometry),
        frame_time_s=settings.frame_time_s or 1.0,
        n_frames=len(frames),
        ensemble=ensemble,
    )
    frame_bytes = math.prod(frames.shape[1:]) * frames.dtype.itemsize
    block = max(1, settings.block_bytes // max(1, frame_bytes))
    for start in range(0, len(frames), block):
        analysis.push(frames[start : start + block])
    result = analysis.finish()
    return dataclasses.replace(result, status=append_note(result.status, why_not))
