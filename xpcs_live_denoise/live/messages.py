"""What the RunEngine's thread sends to a live run on the worker's thread."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from xpcs_live_denoise.records.frames import (
    EigerFrames,
    FollowedFrames,
    FrameReference,
    Geometry,
    HDF5Frames,
    InlineFrames,
    MissingFrames,
    TiledFrames,
)
from xpcs_live_denoise.records.types import Array, Fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What waits in the worker's queue. `notes` are sentences for the status.

    By itself it brings those, such as what a later descriptor says otherwise: the analysis goes on
    with what it began with. A `Session` loads what runs will need when it gets one.
    """

    notes: tuple[str, ...] = ()

    @property
    def n_bytes(self) -> int:
        """Bytes that this message holds on to; 0 for references."""
        return 0

    def merge(self, later: Message) -> Message | None:  # noqa: ARG002 - of those that join
        """Return one message for both, or None if they do not join."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin(Message):
    """The run has frames of the detector: what its documents say of them, as in RunInfo.

    `frame_time_s` is None where nothing tells it, `frame_shape` where the first frame must.
    `problem` is why the run cannot be analysed, or "". `followed` finds frames on disk while the
    run goes on.
    """

    start: Fields
    image_key: str
    frame_shape: tuple[int, int] | None
    frame_time_s: float | None
    n_expected: int | None
    geometry: Geometry
    problem: str = ""
    followed: FollowedFrames = dataclasses.field(default_factory=FollowedFrames)

    def with_files(self) -> Begin:
        """Return this with what followed files tell by now and documents did not."""
        files = self.followed
        return dataclasses.replace(
            self,
            n_expected=self.n_expected or files.n_expected,
            frame_time_s=self.frame_time_s or files.frame_time_s,
            geometry=self.geometry.completed(files.geometry),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFrames(Message):
    """Frames that a document announced; `arrival` is its time.monotonic().

    `frames` is where they are to be read, or, of inline frames, their ROI pixels (k, n_pixels).
    """

    frames: FrameReference | Array
    arrival: float

    @property
    def n_bytes(self) -> int:
        """Bytes of pixels and of inline frames; 0 for files."""
        pixels = self.frames.frames if isinstance(self.frames, InlineFrames) else self.frames
        return pixels.nbytes if isinstance(pixels, np.ndarray) else 0

    def merge(self, later: Message) -> NewFrames | None:
        """Join frames of the same dataset or series that follow directly, or of one reason."""
        if not isinstance(later, NewFrames):
            return None
        joined = _joined(self.frames, later.frames)
        return None if joined is None else NewFrames(frames=joined, arrival=later.arrival)


def _joined(here: object, there: object) -> FrameReference | None:
    """Return both in one; None for another place, another kind of reference or another reason."""
    if isinstance(here, MissingFrames) and isinstance(there, MissingFrames):
        n_frames = here.n_frames + there.n_frames
        same = here.reason == there.reason
        return dataclasses.replace(here, n_frames=n_frames) if same else None
    if not isinstance(here, HDF5Frames | EigerFrames | TiledFrames):
        return None
    if not isinstance(there, HDF5Frames | EigerFrames | TiledFrames):
        return None
    same = dataclasses.replace(there, start=0, stop=0) == dataclasses.replace(here, start=0, stop=0)
    return dataclasses.replace(here, stop=there.stop) if same and here.stop == there.start else None


@dataclass(frozen=True, slots=True, kw_only=True)
class End(Message):
    """The stop document: how the raw run ended."""

    exit_status: str
    reason: str
