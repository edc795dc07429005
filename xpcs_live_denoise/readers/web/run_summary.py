"""One line of the list of runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .run_state import is_silent


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One line of the list of runs.

    Attributes
    ----------
    uid, raw_uid
        Of the derived run, and of the run that it was derived from.
    scan_id, sample, detector
        Texts, empty where unknown.
    time
        Start of the analysis, s since 1970.
    n_frames, n_expected
        Frames in C2 so far, and of the whole series if known.
    frame_time_s
        Frame period, s; 0 where unknown.
    state
        "live", "success", "fail" or "abort".
    heard
        When this line was last seen to change, s on a clock of this process.
    """

    uid: str
    raw_uid: str
    scan_id: str
    sample: str
    detector: str
    time: float
    n_frames: int
    n_expected: int | None
    frame_time_s: float
    state: str
    heard: float

    def silent(self, now: float) -> bool:
        """Whether the run counts as live but has not changed for long."""
        return self.state == "live" and is_silent(now - self.heard, self.frame_time_s)


def summary(
    uid: str, metadata: Mapping[str, Any], *, now: float, before: RunSummary | None = None
) -> RunSummary:
    """Return the line of a run, whatever others may have written into its metadata.

    Parameters
    ----------
    uid
        Of the derived run.
    metadata
        Its metadata, or the part of it that a list asks for.
    now
        Time on the clock of `heard`, s.
    before
        The line so far.
    """
    start, stop = mapping(metadata.get("start")), mapping(metadata.get("stop"))
    xpcs = mapping(start.get("xpcs"))
    n_frames, state = int(_number(metadata.get("n_frames"))), str(stop.get("exit_status") or "live")
    same = before is not None and (before.n_frames, before.state) == (n_frames, state)
    return RunSummary(
        uid=uid,
        raw_uid=str(start.get("original_run_uid") or ""),
        scan_id=str(start.get("scan_id") or ""),
        sample=sample_of(start),
        detector=str(xpcs.get("detector") or ""),
        time=_number(start.get("time")),
        n_frames=n_frames,
        n_expected=int(_number(xpcs.get("n_expected"))) or None,
        frame_time_s=_number(xpcs.get("frame_time_s")),
        state=state,
        heard=before.heard if before is not None and same else now,
    )


def sample_of(start: Mapping[str, Any]) -> str:
    """Return the name of the sample in a start document, empty where there is none."""
    sample = start.get("sample") or start.get("sample_name") or ""
    return str(sample.get("name", "") if isinstance(sample, Mapping) else sample)


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a value that should be a mapping; an empty one in place of anything else."""
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0
