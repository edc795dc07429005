"""Everything on the page that is not a plot: texts and numbers, as JSON takes them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from xpcs_live_denoise.analysis.detector_image import mean_counts

from .run_state import RunState
from .run_summary import RunSummary, mapping, sample_of

STATES = {"live": "live", "success": "finished", "fail": "failed", "abort": "aborted"}


def list_line(run: RunSummary, *, current: bool, silent: bool) -> dict[str, Any]:
    """Return one line of the list of runs.

    Parameters
    ----------
    run
        The run.
    current
        The page shows it.
    silent
        It is live, but nothing has been heard of it for long.
    """
    frames = str(run.n_frames)
    if run.state == "live" and run.n_expected:
        frames += f" / {run.n_expected}"
    return {
        "uid": run.uid,
        "scan": run.scan_id or run.raw_uid[:8],
        "sample": run.sample,
        "detector": run.detector,
        "time": run.time,
        "frames": frames,
        "state": STATES.get(run.state, "ended"),
        "silent": silent,
        "current": current,
    }


def run_texts(
    state: RunState, index: int, *, detector: str, silent_since: float | None
) -> dict[str, Any]:
    """Return what the page says of a run and a ROI (its index).

    Parameters
    ----------
    state
        Of the run.
    index
        Of the ROI.
    detector
        Its name, empty where unknown.
    silent_since
        When a live run last gave a sign of life, s since 1970; None if that is not long ago.
    """
    stop = mapping(state.metadata.get("stop"))
    ended = "gone" if state.gone else STATES.get(stop.get("exit_status", ""), "ended")
    told = (state.gone, stop.get("reason"), (state.status or {}).get("message"))
    return {
        "title": title(mapping(state.metadata.get("start"))),
        "loaded": state.loaded or bool(state.gone),
        "state": "live" if state.live else ended,
        "silent_since": silent_since,
        "n_frames": state.n_frames,
        "n_expected": state.xpcs.get("n_expected"),
        "items": items(state, index, detector),
        "message": " ".join(str(text) for text in told if text),
        "rois": rois(state),
    }


def title(start: Mapping[str, Any]) -> str:
    """Return what a run is called, from its start document."""
    scan, sample = start.get("scan_id"), sample_of(start)
    return " · ".join(part for part in (f"Scan {scan}" if scan else "", sample) if part) or (
        f"Run {str(start.get('original_run_uid', ''))[:8]}"
    )


def items(state: RunState, index: int, detector: str) -> list[list[str]]:
    """Return the facts of the status line: (name, value) pairs.

    The dose is what a pixel of the ROI has counted in all, mean counts times frames: the flux of
    the beam is not known here.
    """
    status = state.status or {}
    contrast = status.get("contrast") or []
    found = []
    if state.live and math.isfinite(_number(status.get("lag_s"))):
        found.append(["behind the detector", f"{_number(status['lag_s']):.2f} s"])
    beta = _number(contrast[index]) if index < len(contrast) else math.nan
    found.append(["contrast β*", f"{beta:.3f}" if math.isfinite(beta) else "–"])
    counts = counts_a_frame(state, index)
    if math.isfinite(counts):
        found.append(["counts", f"{counts:.3g} /px/frame"])
        processed = _number(status.get("n_processed"))
        if math.isfinite(processed):
            found.append(["dose", f"{counts * processed:.3g} counts/px"])
    skipped = _number(status.get("n_skipped"))
    found.append(["skipped frames", f"{skipped:.0f}" if math.isfinite(skipped) else "0"])
    found.append(["frame time", f"{state.frame_time_s * 1e3:.4g} ms"])
    if detector:
        found.append(["detector", detector])
    return found


def rois(state: RunState) -> list[str]:
    """Return what every ROI is called."""
    return [
        f"ROI {label}" + (f", q = {q:.3g} 1/Å" if math.isfinite(q) else "")
        for label, q in zip(state.labels, state.q_inv_angstrom, strict=True)
    ]


def counts_a_frame(state: RunState, index: int) -> float:
    """Return the mean counts a pixel and frame in a ROI; NaN while they are not known."""
    return state.cached(("counts", index), lambda: _counts_a_frame(state, index))


def _counts_a_frame(state: RunState, index: int) -> float:
    image, labels = state.picture.get("image"), state.picture.get("roi_labels")
    if image is None or labels is None or image.shape != labels.shape:
        return math.nan
    if index >= len(state.labels):
        return math.nan
    return mean_counts(image, labels, state.labels[index])


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
