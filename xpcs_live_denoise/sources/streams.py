"""Which stream of a run is the series, where several have the data key of the frames."""

from __future__ import annotations

import re
from collections.abc import Iterable

from xpcs_live_denoise.errors import short_repr
from xpcs_live_denoise.records.frames import FrameReference, InlineFrames, MissingFrames
from xpcs_live_denoise.records.types import Fields

from .assets import ImageKey
from .frame_time import EventTimes

# Words in the names of streams that hold frames for another purpose than the series.
_OTHER_PURPOSE = re.compile(
    r"(?<![a-z])(dark|flat|ff|white|blank|empty|background|bkg|bgd?|baseline|monitor|test|align)",
    re.IGNORECASE,
)
SERIES, UNKNOWN, OTHER_PURPOSE = range(3)
# Frames after which a stream of unknown purpose is taken for the series: a first window. Nothing
# that a person waits for comes of fewer.
ENOUGH_FRAMES = 50
# Of inline frames of a stream that is not chosen yet.
MOST_BYTES = 64 * 2**20
TOO_MANY_BYTES = (
    "Frames of a stream that was not taken for the series at first were not kept. Set `stream`."
)


def stream_rank(name: object, start: Fields, wanted: str | None) -> int | None:
    """Return how likely a stream with the data key is the series, lower is more; None: never.

    `wanted` is the setting `stream`. Without it that is `primary`, or what the plan says that its
    dimensions are in; a stream that sounds like dark frames, a baseline or a monitor comes last.
    """
    if wanted is not None:
        return SERIES if name == wanted else None
    if name is None or name == "primary" or name in _streams_of_dimensions(start):
        return SERIES
    return OTHER_PURPOSE if _OTHER_PURPOSE.search(str(name)) else UNKNOWN


def _streams_of_dimensions(start: Fields) -> list[object]:
    """Return the streams that the plan's hints name; [] for hints of another form."""
    try:
        return [stream for _, stream in start["hints"]["dimensions"]]
    except (LookupError, TypeError, ValueError):
        return []


class ImageStream:
    """One stream of a run that has the data key: its frames that nobody has taken yet.

    `take` consumes what it returns. `rank` is that of `stream_rank`, `n_frames` counts all frames
    that were announced, `descriptor` is its first one, `times` are those of its events, and `read`
    is what else the first of these holds: single values by their key.
    """

    def __init__(
        self, name: object, descriptor: Fields, key: ImageKey, rank: int | None, start: Fields
    ) -> None:
        self.name = name
        self.descriptor = descriptor
        self.key = key
        self.rank = rank
        self.times = EventTimes(start.get("time"))
        self.read: Fields = {}
        self.n_frames = 0
        self._waiting: list[FrameReference] = []
        self._bytes = 0

    @property
    def is_enough(self) -> bool:
        """Whether it holds so many frames that it may be the series."""
        return self.n_frames >= ENOUGH_FRAMES or self._bytes >= MOST_BYTES

    def add(self, references: Iterable[FrameReference], *, chosen: bool) -> None:
        """Take frames. Arrays are shared with documents: of a stream not `chosen` they are copied.

        Frames of a stream that is never the series are only counted.
        """
        for reference in references:
            self.n_frames += reference.n_frames
            if self.rank is None:
                continue
            if isinstance(reference, InlineFrames) and not chosen:
                self._waiting.append(self._copy(reference))
            else:
                self._waiting.append(reference)
        self.times.n_frames = self.n_frames

    def _copy(self, shared: InlineFrames) -> FrameReference:
        self._bytes += shared.frames.nbytes
        if self._bytes > MOST_BYTES:
            return MissingFrames(n_frames=shared.n_frames, reason=TOO_MANY_BYTES)
        return InlineFrames(frames=shared.frames.copy())

    def take(self) -> tuple[FrameReference, ...]:
        """Return the frames that wait."""
        taken, self._waiting = tuple(self._waiting), []
        return taken


def left_out(chosen: ImageStream | None, streams: Iterable[ImageStream]) -> str:
    """Return which streams are left out for the chosen one, "" if there is no other."""
    others = [
        f"{short_repr(one.name)} ({one.n_frames} frame{'s' * (one.n_frames != 1)})"
        if one.n_frames
        else short_repr(one.name)
        for one in streams
        if one is not chosen
    ]
    if chosen is None:
        return ""
    if not others:
        alone = f"Only the stream {short_repr(chosen.name)} has frames of the data key; analysed."
        return alone if chosen.rank == OTHER_PURPOSE else ""
    names = ", ".join(others)
    return (
        f"Stream {short_repr(chosen.name)} is analysed; left out: {names}. The setting `stream` "
        "chooses another one."
    )
