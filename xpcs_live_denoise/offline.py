"""The live analysis of what is there already: analyse() frames, analyse_c2() a C2."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from xpcs_live_denoise.analysis import (
    Analysis,
    C2Analysis,
    DetectorImage,
    append_note,
    open_ensemble,
)
from xpcs_live_denoise.numerics.arrays import as_stack
from xpcs_live_denoise.numerics.estimator.sums import AgeSums
from xpcs_live_denoise.numerics.fits import check_frame_time
from xpcs_live_denoise.records.frames import Geometry
from xpcs_live_denoise.records.results import Result
from xpcs_live_denoise.sources import open_flat_field, open_rois, pixel_mask_of

from .config import Settings
from .errors import FrameShapeError, InvalidInputError
from .numerics.rois import RoiMap
from .numerics.windows import Denoiser


def analyse(
    frames: Any, settings: Settings, *, rois: RoiMap | None = None, ensemble: Denoiser | None = None
) -> Result:
    """Compute C2, denoised C2, g2 and Gamma(t) of a whole series, as the live analysis does.

    Parameters
    ----------
    frames
        Shape (n, rows, cols): an array, a list of frames, or anything with `shape`, `dtype` and
        slices along its first axis, such as an HDF5 dataset, which is read in blocks of
        `settings.block_bytes`. Pixels that `pixel_mask` of a dataset's Eiger file marks are left
        out.
    settings
        As for LiveDenoise. `frame_time_s` and `geometry` come from here alone; without a frame
        time rates are per frame, and their rows have the caution "per_frame".
    rois
        The ROI map, instead of the file that `settings.rois` names.
    ensemble
        Instead of the one that `settings.weights` names; anything with `denoise`.

    Returns
    -------
    Result
        `.c2`, `.denoised` (None where nothing was denoised), `.gamma`, `.g2`, `.status`, and
        `.picture`, the mean frame.

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
    opened, flat_field, note = open_flat_field(settings, open_rois(settings, rois))
    image, marked = DetectorImage(opened.with_q(geometry), settings.orientation), ()
    if (bad := pixel_mask_of(frames, settings.threshold or 1)) is not None:
        marked = image.leave_out(bad)
    analysis = Analysis(
        settings,
        image.rois,
        frame_time_s=1.0,  # of what is per frame, until the end
        n_frames=len(frames),
        ensemble=ensemble,
        flat_field=flat_field,
    )
    frame_bytes = math.prod(frames.shape[1:]) * frames.dtype.itemsize
    block = max(1, settings.block_bytes // max(1, frame_bytes))
    for start in range(0, len(frames), block):
        piece = np.asarray(frames[start : start + block])
        analysis.push(piece)
        image.add(piece)
    result = analysis.finish().with_frame_time(settings.frame_time_s)
    return dataclasses.replace(
        result,
        status=append_note(result.status, why_not, note, *marked),
        picture=image.image(negative_is_data=analysis.negative_is_data),
    )


def analyse_c2(
    c2: ArrayLike,
    *,
    frame_time_s: float = 1.0,
    ensemble: Denoiser | None = None,
    settings: Settings | None = None,
) -> Result:
    """Do with a C2 that is there all that the live analysis does with one.

    That is denoised windows, the paper's fits, the live estimator and its recommendation. Without
    pixels there is no jackknife: errors (`error_kind` "residual") come from how much blocks of C2
    scatter whose frames have nothing in common, and are rather too large; where the series is too
    short or too slow for such blocks the status says that they are uncertain. A curve of another
    shape than the model goes unnoticed. Static speckle and intensity that varies inside the ROI
    look alike: a row is recommended all the same, and its `caution` says by which factor Gamma may
    be higher.

    Parameters
    ----------
    c2
        Shape (n, n) or (n_roi, n, n), symmetric; the upper triangle is read. NaN is no measurement.
    frame_time_s
        Frame period, s; with the default rates are per frame.
    ensemble
        Instead of the one that `settings.weights` names; anything with `denoise`.
    settings
        Window, step, mode, ranges, seed, weights; default: all defaults. Its `frame_time_s` and
        ROIs are not used.

    Returns
    -------
    Result
        `.c2` is (n_roi, n, n) always; ROIs are numbered from 1, and their q is unknown.

    Raises
    ------
    InvalidInputError
        When C2 has another shape or no frame, frame_time_s is not positive, or files cannot be
        used.
    """
    stack = as_stack(c2)
    stack = np.where(np.isfinite(stack), stack, np.nan)
    if stack.shape[-1] == 0 or len(stack) == 0:
        raise InvalidInputError(
            f"C2: got shape {stack.shape}; expected at least a ROI and a frame."
        )
    check_frame_time(frame_time_s)
    settings = settings or Settings(detector="c2")
    why_not = ""
    if ensemble is None:
        ensemble, why_not = open_ensemble(settings)
    rois = RoiMap.from_labels(np.arange(1, len(stack) + 1)[np.newaxis])
    analysis = C2Analysis(settings, rois, frame_time_s=frame_time_s, ensemble=ensemble)
    result = analysis.finish(stack, AgeSums.from_c2(stack))
    return dataclasses.replace(result, status=append_note(result.status, why_not))
