"""RunInfo, what sinks are told of a run, from its documents, the settings and the ROIs."""

from __future__ import annotations

from collections.abc import Mapping

from .config import Settings
from .messages import Begin, End
from .numerics.rois import RoiMap
from xpcs_live_denoise.records.results import (Result, RunEnd, RunInfo, Status)

NO_FRAME_TIME = (
    "No document tells the frame period: rates are per frame, as if it were 1 s. Set frame_time_s."
)


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


def missing(status: Status) -> int:
    """Return how many frames could not be had; those that screening left out are not among them."""
    return status.n_skipped - status.n_masked


def what_is_missing(status: Status, why: str, n_expected: int | None) -> str:
    """Return what a run that came to its end has not analysed, "" if that is nothing.

    Parameters
    ----------
    status
        The last status.
    why
        What happened to the first frames that are missing; "": the status tells.
    n_expected
        Frames that were announced when the run began, None where nobody did.
    """
    n_missing = missing(status)
    all_frames = status.n_processed + status.n_skipped
    words: list[str] = []
    if all_frames < (n_expected or 0):
        words.append(f"{all_frames} of {n_expected} announced frames came.")
    if n_missing:
        gaps = f"{n_missing} of {all_frames} frames could not be had."
        words.append(f"{gaps} {why or status.message}")
    elif not status.n_processed:
        words.append(f"None of the {all_frames} frames could be used. {status.message}")
    return " ".join(words)


def end_of_run(end: End, result: Result | None, status: Status, failure: str) -> RunEnd:
    """Return how a run and its analysis ended.

    Parameters
    ----------
    end
        The stop document.
    result
        None where there is none.
    status
        The last status.
    failure
        What went wrong with the analysis, "" if nothing did.
    """
    # A success with a few gaps is one; a result that is mostly gaps is not.
    failed = result is None or missing(status) >= status.n_processed
    return RunEnd(
        raw_exit_status=end.exit_status,
        analysis_exit_status="fail" if failed else "success",
        reason=" ".join(part for part in (end.reason, failure) if part),
        status=status,
    )
