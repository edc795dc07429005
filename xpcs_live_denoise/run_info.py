"""RunInfo, what sinks are told of a run, from its documents, the settings and the ROIs."""

from __future__ import annotations

from collections.abc import Mapping

from .config import Settings
from .messages import Begin
from .numerics.rois import RoiMap
from .records import RunInfo


def run_info(
    begin: Begin, settings: Settings, versions: Mapping[str, str], rois: RoiMap | None = None
) -> RunInfo:
    """Return what is known of a run; without ROIs, enough to say what went wrong with them.

    Parameters
    ----------
    begin
        What the documents tell.
    settings
        Stored with the result; they hold nothing secret.
    versions
        Library name -> version.
    rois
        The ROIs, once they are there.
    """
    return RunInfo(
        start=begin.start,
        detector=settings.detector,
        image_key=begin.image_key,
        frame_shape=(begin.frame_shape or (0, 0)) if rois is None else rois.shape,
        frame_time_s=begin.frame_time_s or 1.0,
        n_expected=begin.n_expected,
        roi=() if rois is None else tuple(rois.labels.tolist()),
        q_inv_angstrom=() if rois is None else tuple(rois.q_inv_angstrom.tolist()),
        n_pixels=() if rois is None else tuple(rois.n_pixels.tolist()),
        window=settings.window,
        step=settings.step,
        mode=settings.mode,
        engine=settings.engine,
        geometry=begin.geometry,
        settings=settings.model_dump(mode="json"),
        versions=versions,
    )
