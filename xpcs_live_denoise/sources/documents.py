"""From the documents of one run to references to its frames, on the RunEngine's thread: no I/O."""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from xpcs_live_denoise.errors import InvalidInputError, XpcsError, short_repr
from xpcs_live_denoise.records.frames import FrameReference, InlineFrames, MissingFrames

from .assets import (
    MOST_FRAMES,
    ImageKey,
    LegacyAssets,
    StreamResource,
    positive_int,
)

# Events that wait for the datum of the first of them; then that one is given up.
MOST_WAITING = 16
LOST_EVENTS = "Events of the detector did not get here: numbers (seq_num) are left out."
_MALFORMED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)

_Document = Mapping[str, Any]


class RunDocuments:
    """The documents of one run, turned into references to the frames of one data key.

    Takes what an `event_model.RunRouter` delivers to a callback of one run. The first stream that
    has the data key is followed; other streams are ignored, even if they have the same key (dark
    frames). Reading the attributes consumes nothing.

    Parameters
    ----------
    start
        The run's start document.
    detector
        Name of the detector, for its entry in the descriptor's configuration.
    data_key
        The data key that holds the frames.

    Attributes
    ----------
    start, stop
        The start document; the stop document, None until it came.
    image_descriptor
        The first descriptor that has the data key; None until it came.
    n_frames
        Frames behind all references so far.
    """

    def __init__(self, start: _Document, *, detector: str, data_key: str) -> None:
        self.start = start
        self.stop: _Document | None = None
        self.image_descriptor: _Document | None = None
        self.n_frames = 0
        self._detector = detector
        self._data_key = data_key
        self._key = ImageKey()
        self._image_like: dict[str, None] = {}  # an ordered set
        self._inline_shape: tuple[int, int] | None = None
        self._image_streams: set[str] = set()  # uids of descriptors
        self._other_streams: set[str] = set()
        self._resources: dict[str, StreamResource] = {}
        self._other_resources: set[str] = set()
        self._assets = LegacyAssets()
        self._last_seq_num = 0
        # What events held, in order: references, and ids of datums to be looked up.
        self._waiting: deque[FrameReference | str] = deque()
        self._handlers: dict[str, Callable[[_Document], Sequence[FrameReference]]] = {
            "descriptor": self._descriptor,
            "event": self._event,
            "event_page": self._event_page,
            "resource": self._resource,
            "datum": self._datum,
            "datum_page": self._datum_page,
            "stream_resource": self._stream_resource,
            "stream_datum": self._stream_datum,
            "stop": self._stop,
        }

    @property
    def has_images(self) -> bool:
        """Whether a descriptor with the data key has come."""
        return self.image_descriptor is not None

    @property
    def image_like_keys(self) -> tuple[str, ...]:
        """Every data key so far that looks like frames (two dimensions or more)."""
        return tuple(self._image_like)

    @property
    def configuration(self) -> Mapping[str, Any]:
        """What the image descriptor says of each device, {device: {"data": ...}}; {} before it."""
        return (self.image_descriptor or {}).get("configuration", {})

    @property
    def frame_shape(self) -> tuple[int, int] | None:
        """(rows, cols) of the first inline frame, else of the descriptor; None if unknown."""
        return self._inline_shape or self._key.frame_shape

    @property
    def n_expected(self) -> int | None:
        """Frames that the whole run should have; None where the documents do not tell.

        The start document's "number of images", its `num_points` times the frames of one point,
        or the `num_images` of the descriptor's configuration: the first that is above one (a
        single point may hold a whole series) and not below what has already come.
        """
        points = positive_int(self.start.get("num_points"))
        candidates = (
            positive_int(self.start.get("number of images")),
            points * self._key.frames_per_event if points and self.has_images else None,
            self._key.configured_images,
        )
        least, most = max(2, self.n_frames), MOST_FRAMES
        return next((n for n in candidates if n is not None and least <= n <= most), None)

    def receive(self, name: str, doc: _Document) -> tuple[FrameReference, ...]:
        """Take a document and return references to the frames that it announces, in order.

        Inline arrays are shared with the document. An event whose `seq_num` has come before was
        rewound (a run that was paused) and counts once; where one is left out, its frames are a
        gap. A stream_datum reaches from where the one before it ended: what overlaps is not
        counted twice, and frames whose own document was lost are not lost with it, since they are
        in the file.

        Raises
        ------
        InvalidInputError
            For a malformed document; everything is then as if it had not come.
        """
        handler = self._handlers.get(name)
        if handler is None:
            return ()
        try:
            references = tuple(handler(doc))
        except XpcsError:
            raise
        except _MALFORMED as error:
            raise self._refusal(
                f"malformed {name} document ({type(error).__name__}: {short_repr(str(error))}); "
                "expected the fields of the event model"
            ) from error
        self.n_frames += sum(reference.n_frames for reference in references)
        return references

    # --- one handler a document ---------------------------------------------------------------

    def _descriptor(self, doc: _Document) -> Sequence[FrameReference]:
        uid, data_keys, stream = doc["uid"], doc["data_keys"], doc.get("name")
        image_like = [key for key, data_key in data_keys.items() if len(data_key["shape"]) >= 2]
        known = self.image_descriptor
        has_key = self._data_key in data_keys
        # Refuse it here rather than at the first datum.
        key = ImageKey.of(doc, self._data_key, self._detector) if has_key else ImageKey()
        if has_key and (known is None or known.get("name") == stream):
            self._image_streams.add(uid)
            if known is None:
                self.image_descriptor, self._key = doc, key
        else:
            self._other_streams.add(uid)
        self._image_like.update(dict.fromkeys(image_like))
        return ()

    def _event(self, doc: _Document) -> Sequence[FrameReference]:
        if not self._carries(doc):
            return ()
        return self._take([doc["data"].get(self._data_key)], [doc.get("seq_num")])

    def _event_page(self, doc: _Document) -> Sequence[FrameReference]:
        if not self._carries(doc):
            return ()
        values, seq_nums = doc["data"].get(self._data_key), doc.get("seq_num")
        if values is None:  # a page without the key still stands for as many frames as events
            values = [None] * len(doc["seq_num"])
        if seq_nums is None:
            seq_nums = [None] * len(values)
        if len(values) != len(seq_nums):
            raise ValueError(f"{len(seq_nums)} events hold {len(values)} values")
        return self._take(values, seq_nums)

    def _carries(self, doc: _Document) -> bool:
        """Whether an event (page) should hold frames: false beside a stream of its own."""
        if not self._is_image_stream(doc["descriptor"]):
            return False
        return self._data_key in doc["data"] or not self._key.in_streams

    def _take(self, values: Sequence[Any], seq_nums: Sequence[Any]) -> Sequence[FrameReference]:
        """Take what events hold, each of them once."""
        per_event = self._key.frames_per_event
        lost, last = new_events(self._last_seq_num, seq_nums, per_event)
        taken: list[FrameReference | str] = []
        for value, n_lost in zip(values, lost, strict=True):
            if n_lost is None:
                continue
            if n_lost:
                taken.append(MissingFrames(n_frames=n_lost * per_event, reason=LOST_EVENTS))
            taken.append(
                value
                if isinstance(value, str)
                else inline_frames(value, data_key=self._data_key, n_frames=per_event)
            )
        self._last_seq_num = last
        self._waiting.extend(taken)
        return self._release()

    def _release(self, *, all_of_them: bool = False) -> Sequence[FrameReference]:
        """Return what waits, up to an event whose datum may still come."""
        released: list[FrameReference] = []
        while self._waiting:
            first = self._waiting[0]
            if isinstance(first, str):
                found = self._assets.reference(first, self._key)
                if found is None and not all_of_them and len(self._waiting) <= MOST_WAITING:
                    break
                first = found or MissingFrames(
                    n_frames=self._key.frames_per_event,
                    reason=f"Data key {self._data_key!r}: its events name datums that never came, "
                    f"{short_repr(first)} for one; expected their resource and datum documents.",
                )
            elif isinstance(first, InlineFrames) and self._inline_shape is None:
                _, rows, cols = first.frames.shape
                self._inline_shape = rows, cols
            self._waiting.popleft()
            released.append(first)
        return released

    def _resource(self, doc: _Document) -> Sequence[FrameReference]:
        self._assets.resource(doc)
        return self._release()

    def _datum(self, doc: _Document) -> Sequence[FrameReference]:
        self._assets.datum(doc)
        return self._release()

    def _datum_page(self, doc: _Document) -> Sequence[FrameReference]:
        self._assets.datum_page(doc)
        return self._release()

    def _stream_resource(self, doc: _Document) -> Sequence[FrameReference]:
        uid = doc["uid"]
        if doc["data_key"] != self._data_key:
            self._other_resources.add(uid)
        elif uid not in self._resources:
            self._resources[uid] = StreamResource(doc)
        return ()

    def _stream_datum(self, doc: _Document) -> Sequence[FrameReference]:
        uid = doc["stream_resource"]
        start, stop = (operator.index(doc["indices"][end]) for end in ("start", "stop"))
        if not 0 <= start <= stop:
            raise self._refusal(
                f"a stream_datum has the indices [{short_repr(start)}, {short_repr(stop)}); "
                "expected 0 <= start <= stop"
            )
        if uid in self._other_resources or not self._is_image_stream(doc["descriptor"]):
            return ()
        if uid not in self._resources:
            raise self._refusal(
                f"a stream_datum refers to the stream_resource {short_repr(uid)}, which has not "
                "come"
            )
        resource = self._resources[uid]
        start = resource.continued(start, doc, is_first=not self.n_frames)
        if start >= stop:
            return ()
        reference = resource.reference(start, stop, self._key.frames_per_index(resource.multiplier))
        if reference.n_frames > MOST_FRAMES:
            raise self._refusal(
                f"a stream_datum announces {short_repr(reference.n_frames)} frames at once; "
                f"expected at most {MOST_FRAMES}"
            )
        resource.n_announced = stop
        return (reference,)

    def _stop(self, doc: _Document) -> Sequence[FrameReference]:
        self.stop = doc
        return self._release(all_of_them=True)

    def _is_image_stream(self, uid: str) -> bool:
        if uid in self._image_streams:
            return True
        if uid in self._other_streams:
            return False
        raise self._refusal(
            f"a document refers to the descriptor {short_repr(uid)}, which has not come"
        )

    def _refusal(self, reason: str) -> InvalidInputError:
        uid = short_repr(self.start.get("uid"))
        return InvalidInputError(f"Run {uid}: {reason}. The document is left out.")


# Frames that may be missing between two events; beyond it a seq_num is a mistake.
MOST_LOST_FRAMES = 100_000


def new_events(
    last: int, seq_nums: Sequence[Any], frames_per_event: int = 1
) -> tuple[list[int | None], int]:
    """Sort out the events of one stream by their numbers.

    Parameters
    ----------
    last
        Highest `seq_num` so far; 0 before the first event, which has 1.
    seq_nums
        Of the events in the order in which they came. None: the next one.
    frames_per_event
        Frames that each of them stands for.

    Returns
    -------
    n_lost
        For each event how many are missing before it; None for one whose number came before.
    last
        Highest `seq_num` now.

    Raises
    ------
    InvalidInputError
        When more frames than MOST_LOST_FRAMES would be missing, or a number is below 1.
    TypeError
        For what is no whole number.
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


# What numpy raises for rows of different lengths, lists that hold themselves, and worse.
_NO_ARRAY = (ValueError, TypeError, LookupError, ArithmeticError, RecursionError, MemoryError)


def inline_frames(value: Any, *, data_key: str, n_frames: int) -> InlineFrames | MissingFrames:
    """Return the frames that a value is; arrays are shared, not copied.

    Parameters
    ----------
    value
        Expected: (rows, cols) or (k, rows, cols) of real numbers, an array or nested lists.
    data_key
        Its name, for the message.
    n_frames
        Frames that the event stands for if it cannot be used.
    """
    if value is None:
        return MissingFrames(
            n_frames=n_frames, reason=f"Data key {data_key!r}: missing in events of its stream."
        )
    try:
        frames = np.asarray(value)
    except _NO_ARRAY:
        frames = np.empty(0, object)
    if frames.dtype.kind not in "buif" or frames.ndim not in (2, 3) or not frames.size:
        return MissingFrames(
            n_frames=n_frames,
            reason=f"Data key {data_key!r}: got frames of shape {frames.shape} and dtype "
            f"{_name(frames.dtype)}; expected real numbers of shape (rows, cols) or "
            "(k, rows, cols).",
        )
    if frames.ndim == 3 and len(frames) > MOST_FRAMES:
        return MissingFrames(
            n_frames=n_frames,
            reason=f"Data key {data_key!r}: got {len(frames)} frames in one event, expected at "
            f"most {MOST_FRAMES}.",
        )
    return InlineFrames(frames=frames[np.newaxis] if frames.ndim == 2 else frames)


def _name(dtype: np.dtype[Any]) -> str:
    return str(dtype) if dtype.names is None else short_repr(dtype)


MOST_DEPTH = 20
MOST_VALUES = 10_000
MOST_CHARACTERS = 100_000


def plain_document(doc: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a copy of a document that holds only what JSON knows, of bounded depth and size.

    Arrays become lists. What JSON does not know, what lies deeper than MOST_DEPTH, integers of more
    than 64 bits and long texts become a short text that shows them; after MOST_VALUES values the
    rest is left out. Never raises.
    """
    return {
        _text(key): value for key, value in zip(doc, _Plain().values(doc.values(), 1), strict=False)
    }


class _Plain:
    """One document on its way; counts the values."""

    def __init__(self) -> None:
        self._n_left = MOST_VALUES

    def values(self, values: Any, depth: int) -> list[Any]:
        plain: list[Any] = []
        for value in values:
            if self._n_left <= 0:
                break
            self._n_left -= 1
            plain.append(self._value(value, depth))
        return plain

    def _value(self, value: Any, depth: int) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, np.ndarray) and value.size <= MOST_VALUES:
            value = value.tolist()
        if isinstance(value, list | tuple | Mapping) and depth < MOST_DEPTH:
            return self._container(value, depth + 1)
        is_known = value is None or isinstance(value, bool | float)
        if is_known or (isinstance(value, int) and -(2**63) <= value < 2**63):
            return value
        return _text(value)

    def _container(self, value: Any, depth: int) -> Any:
        if not isinstance(value, Mapping):
            return self.values(value, depth)
        inner = self.values(value.values(), depth)
        return {_text(key): one for key, one in zip(value, inner, strict=False)}


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MOST_CHARACTERS:
        return short_repr(value)
    # PostgreSQL takes no null characters, which EPICS leaves at the end of texts.
    return value.encode("utf-8", "replace").decode("utf-8").replace("\0", "")
