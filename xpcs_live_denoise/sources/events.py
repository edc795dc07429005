"""Frames of the events of one stream: inside them, or behind the ids of legacy datums."""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from xpcs_live_denoise.errors import InvalidInputError, short_repr
from xpcs_live_denoise.records.frames import FrameReference, InlineFrames, MissingFrames
from xpcs_live_denoise.records.types import Fields

from .assets import MOST_FRAMES, ImageKey, datum_reference

# Events that wait for the datum of the first of them; then that one is given up.
MOST_WAITING = 16
# Datum documents that are kept, the newest; those of other data keys are among them.
MOST_DATUMS = 100_000
# Frames that may be missing between two events; beyond it a seq_num is a mistake.
MOST_LOST_FRAMES = 100_000
LOST_EVENTS = "Events of the detector did not get here: numbers (seq_num) are left out."
# What malformed documents make their readers raise.
MALFORMED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)


class Assets:
    """The resource and datum documents of a run, whichever stream refers to them."""

    def __init__(self, data_key: str) -> None:
        self._data_key = data_key
        self._resources: dict[str, Fields] = {}
        self._datums: dict[str, Fields] = {}

    def add_resource(self, doc: Fields) -> None:
        """Keep a resource document."""
        _keep(self._resources, doc["uid"], doc)

    def add_datums(self, docs: Iterable[Fields]) -> None:
        """Keep datum documents, whether their resource came or not."""
        for doc in docs:
            _keep(self._datums, doc["datum_id"], doc)

    def find(self, datum_id: str, key: ImageKey) -> FrameReference | None:
        """Return where the frames of an event are; None while one of their documents is missing."""
        datum = self._datums.get(datum_id)
        resource = None if datum is None else self._resources.get(datum["resource"])
        if datum is None or resource is None:
            return None
        try:
            return datum_reference(resource, datum, key)
        except MALFORMED as error:
            return MissingFrames(
                n_frames=key.frames_per_event,
                reason=f"Datum {short_repr(datum_id)}: its frames cannot be found "
                f"({type(error).__name__}: {short_repr(str(error))}); expected the fields of "
                "the event model and of the spec in its resource and datum.",
            )


class EventFrames:
    """Frames of the events of one stream, inline or by the ids of datums: in order, each once.

    `take` consumes what it returns; `frame_shape` is (rows, cols) of the first inline frame that
    was taken, None before.
    """

    def __init__(self, data_key: str, assets: Assets) -> None:
        self.frame_shape: tuple[int, int] | None = None
        self._data_key = data_key
        self._assets = assets
        self._last_seq_num = 0
        # What events held, in order: references, and ids of datums to be looked up.
        self._waiting: deque[FrameReference | str] = deque()

    def add(self, values: Sequence[object], seq_nums: Sequence[Any], key: ImageKey) -> None:
        """Take what events hold under the data key; each event once."""
        per_event = key.frames_per_event
        lost, last = new_events(self._last_seq_num, seq_nums, per_event)
        taken: list[FrameReference | str] = []
        for value, n_lost in zip(values, lost, strict=True):
            if n_lost is None:
                continue
            if n_lost:
                taken.append(MissingFrames(n_frames=n_lost * per_event, reason=LOST_EVENTS))
            is_id = isinstance(value, str)
            taken.append(value if is_id else inline_frames(value, self._data_key, key))
        self._last_seq_num = last
        self._waiting.extend(taken)

    def take(self, key: ImageKey, *, all_of_them: bool = False) -> list[FrameReference]:
        """Return what waits, up to an event whose datum may still come."""
        taken: list[FrameReference] = []
        while self._waiting:
            first = self._waiting[0]
            if isinstance(first, str):
                found = self._assets.find(first, key)
                if found is None and not all_of_them and len(self._waiting) <= MOST_WAITING:
                    break
                first = found or MissingFrames(
                    n_frames=key.frames_per_event,
                    reason=f"Data key {self._data_key!r}: its events name datums that never came, "
                    f"{short_repr(first)} for one; expected their resource and datum documents.",
                )
            elif isinstance(first, InlineFrames) and self.frame_shape is None:
                _, rows, cols = first.frames.shape
                self.frame_shape = rows, cols
            self._waiting.popleft()
            taken.append(first)
        return taken


def _keep(documents: dict[str, Fields], uid: object, doc: Fields) -> None:
    if not isinstance(uid, str):
        raise TypeError(f"got the id {short_repr(uid)}, expected text")
    documents[uid] = doc
    if len(documents) > MOST_DATUMS:
        del documents[next(iter(documents))]


def new_events(
    last: int, seq_nums: Sequence[Any], frames_per_event: int = 1
) -> tuple[list[int | None], int]:
    """Return how many events are missing before each one, and the highest `seq_num` now.

    `last` is the highest one before; the first event has 1. An event without a number is the next
    one; of one whose number came before, None is returned. A number below 1, and one before which
    more than MOST_LOST_FRAMES would be missing, is an InvalidInputError.
    """
    n_lost: list[int | None] = []
    n_missing = 0
    for seq_num in seq_nums:
        number = last + 1 if seq_num is None else operator.index(seq_num)
        if number < 1:
            raise InvalidInputError(
                f"An event has the seq_num {short_repr(number)}; expected >= 1."
            )
        if number <= last:
            n_lost.append(None)
            continue
        n_missing += number - last - 1
        if n_missing * frames_per_event > MOST_LOST_FRAMES:
            raise InvalidInputError(
                f"An event has the seq_num {short_repr(number)} after {last}; expected the next "
                f"one, or a gap of at most {MOST_LOST_FRAMES} frames. The document is left out."
            )
        n_lost.append(number - last - 1)
        last = number
    return n_lost, last


def inline_frames(value: object, data_key: str, key: ImageKey) -> InlineFrames | MissingFrames:
    """Return the frames that a value is; arrays are shared, not copied.

    Expected are real numbers of shape (rows, cols) or (k, rows, cols), an array or nested lists,
    or with an axis of thresholds before rows and columns, of which the chosen one is taken;
    anything else are the missing frames that the event stands for.
    """

    def missing(reason: str) -> MissingFrames:
        n_frames = key.frames_per_event
        return MissingFrames(n_frames=n_frames, reason=f"Data key {data_key!r}: {reason}")

    if value is None:
        return missing("missing in events of its stream.")
    try:
        frames = np.asarray(value)
    except (*MALFORMED, MemoryError):  # rows of different lengths, a list that holds itself
        frames = np.empty(0, object)
    # An axis that the documents' frames do not have.
    n = key.thresholds_in(frames.shape) if frames.ndim > max(2, len(key.shape)) else None
    if n is not None and key.threshold is not None:
        if key.threshold > n:
            return missing(
                f"got frames with {n} thresholds and threshold: {key.threshold}; expected the "
                f"setting `threshold`, 1 to {n}."
            )
        frames = frames[..., key.threshold - 1, :, :]
    if frames.dtype.kind not in "buif" or frames.ndim not in (2, 3) or not frames.size:
        dtype = str(frames.dtype) if frames.dtype.names is None else short_repr(frames.dtype)
        return missing(
            f"got frames of shape {frames.shape} and dtype {dtype}; expected real numbers of "
            "shape (rows, cols) or (k, rows, cols)."
        )
    if frames.ndim == 3 and len(frames) > MOST_FRAMES:
        return missing(f"got {len(frames)} frames in one event, expected at most {MOST_FRAMES}.")
    return InlineFrames(frames=frames[np.newaxis] if frames.ndim == 2 else frames)
