"""Documents, run by run, and the frames that they refer to; on the RunEngine's thread: no I/O."""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from event_model import DocumentNames, EventModelError, RunRouter, unpack_datum_page

from xpcs_live_denoise.errors import InvalidInputError, XpcsError, short_repr
from xpcs_live_denoise.records.frames import FrameReference, InlineFrames, MissingFrames
from xpcs_live_denoise.records.types import Document, Fields

from .assets import MOST_FRAMES, ImageKey, StreamResource, datum_reference, positive_int

NAMES = frozenset(name.name for name in DocumentNames) - {"bulk_datum", "bulk_events"}
# Runs without a stop document that are waited for; an older one is ended.
MOST_OPEN_RUNS = 32
MOST_UID_CHARACTERS = 200
NO_STOP = "No stop document came, and many runs began since."

RunCallback = Callable[[str, Any], None]

# In place of an `event_model.Filler`, which refuses an event whose datum is still to come.
_FILLED = ("descriptor", "resource", "datum_page", "stream_resource", "stream_datum", "event_page")
_NO_FILLING = SimpleNamespace(**{name: lambda doc: doc for name in _FILLED})


def _no_filler(*_: Any, **__: Any) -> SimpleNamespace:
    return _NO_FILLING


class DocumentsByRun:
    """Gives documents to the callbacks of their runs, by `event_model.RunRouter`.

    Unlike that one it takes no other attribute for a document's name, looks up no datum itself (one
    may come after its event), and forgets a run at its stop even if a callback raises. A run whose
    stop never comes is ended when MOST_OPEN_RUNS others have begun.

    `begin_run` is called with a start document and returns the callback for the run, which gets
    that document, too; None for a run of no interest.
    """

    def __init__(self, begin_run: Callable[[Document], RunCallback | None]) -> None:
        self._begin_run = begin_run
        self._router = RunRouter([self._begin], filler_class=_no_filler)  # type: ignore[arg-type]
        self._open: dict[str, None] = {}  # uids, the oldest first
        self._errors: list[Exception] = []

    def __call__(self, name: str, doc: Fields) -> None:
        """Take a document; raises what the callback raised.

        What is no document, or belongs to no run, is an InvalidInputError.
        """
        if not isinstance(name, str) or name not in NAMES or not isinstance(doc, Mapping):
            raise InvalidInputError(
                f"Got a {type(doc).__name__} under the name {short_repr(name)}; expected a "
                f"document of the event model, one of {', '.join(sorted(NAMES))}."
            )
        self._errors.clear()
        try:
            self._route(name, doc)
        except XpcsError:
            raise
        except (LookupError, TypeError, ValueError, EventModelError) as error:
            # What the router raises for a document of no run; callbacks' errors come below.
            raise InvalidInputError(
                f"A document {name!r} lacks a field, belongs to no run that began here, refers to "
                "a document that did not come, or came twice."
            ) from error
        if self._errors:
            raise self._errors.pop(0)

    def _route(self, name: str, doc: Fields) -> None:
        if name == "start":
            _require_uid(doc)
            self._router(name, dict(doc))
            self._open[doc["uid"]] = None
            if len(self._open) > MOST_OPEN_RUNS:
                self._end(next(iter(self._open)))
        elif name == "stop":
            self._router(name, dict(doc))
            self._open.pop(doc["run_start"], None)
        else:
            self._router(name, doc)  # type: ignore[arg-type]

    def _end(self, uid: str) -> None:
        del self._open[uid]
        stop = {"uid": f"no stop of {uid}", "run_start": uid, "exit_status": "fail"}
        self._router("stop", {**stop, "reason": NO_STOP, "num_events": {}})

    def _begin(self, _name: str, start: Document) -> tuple[list[Any], list[Any]]:
        callback = self._begin_run(start)
        if callback is None:
            return [], []

        def guarded(name: str, doc: Fields) -> None:
            try:
                callback(name, doc)
            except Exception as error:  # raised again when the router is done with the document
                self._errors.append(error)

        return [guarded], []


def _require_uid(start: Fields) -> None:
    uid = start["uid"]
    is_text = isinstance(uid, str) and uid.isprintable()  # it stands in logs and on terminals
    if not is_text or not 0 < len(uid) <= MOST_UID_CHARACTERS:
        raise InvalidInputError(
            f"A start document has the uid {short_repr(uid)}; expected text of at most "
            f"{MOST_UID_CHARACTERS} printable characters. The run is not analysed."
        )


# Events that wait for the datum of the first of them; then that one is given up.
MOST_WAITING = 16
# Datum documents that are kept, the newest; those of other data keys are among them.
MOST_DATUMS = 100_000
# Frames that may be missing between two events; beyond it a seq_num is a mistake.
MOST_LOST_FRAMES = 100_000
LOST_EVENTS = "Events of the detector did not get here: numbers (seq_num) are left out."
_MALFORMED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)


class RunDocuments:
    """The documents of one run, turned into references to the frames of one data key.

    Takes what an `event_model.RunRouter` delivers to a callback of one run. The first stream that
    has the data key is followed; other streams are ignored, even if they have the same key (dark
    frames). Reading the attributes consumes nothing.

    `detector` is the name of its entry in the descriptor's configuration. `image_descriptor` is the
    first descriptor that has the data key, None until it came; `n_frames` are the frames behind all
    references so far.
    """

    def __init__(self, start: Fields, *, detector: str, data_key: str) -> None:
        self.start = start
        self.image_descriptor: Fields | None = None
        self.n_frames = 0
        self._detector = detector
        self._data_key = data_key
        self._key = ImageKey()
        self._image_like: dict[str, None] = {}  # an ordered set
        self._is_image: dict[str, bool] = {}  # uid of a descriptor -> of the stream with the frames
        # uid of a stream_resource -> itself, None where it is of another data key
        self._resources: dict[str, StreamResource | None] = {}
        self._events = EventFrames(data_key)

    @property
    def image_like_keys(self) -> tuple[str, ...]:
        """Every data key so far that looks like frames (two dimensions or more)."""
        return tuple(self._image_like)

    @property
    def configuration(self) -> Fields:
        """What the image descriptor says of each device, {device: {"data": ...}}; {} before it."""
        return (self.image_descriptor or {}).get("configuration", {})

    @property
    def frame_shape(self) -> tuple[int, int] | None:
        """(rows, cols) of the first inline frame, else of the descriptor; None if unknown."""
        return self._events.frame_shape or self._key.frame_shape

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
            points * self._key.frames_per_event if points and self.image_descriptor else None,
            self._key.configured_images,
        )
        least, most = max(2, self.n_frames), MOST_FRAMES
        return next((n for n in candidates if n is not None and least <= n <= most), None)

    def receive(self, name: str, doc: Fields) -> tuple[FrameReference, ...]:
        """Take a document and return references to the frames that it announces, in order.

        Inline arrays are shared with the document. An event whose `seq_num` has come before was
        rewound (a run that was paused) and counts once; where one is left out, its frames are a
        gap. A stream_datum reaches from where the one before it ended: what overlaps is not
        counted twice, and frames whose own document was lost are not lost with it, since they are
        in the file.

        A malformed document is an InvalidInputError; everything is then as if it had not come.
        """
        try:
            announced = self._announced(name, doc)
            events = self._events.take(self._key, all_of_them=name == "stop")
            references = (*announced, *events)
        except XpcsError:
            raise
        except _MALFORMED as error:
            raise self._refusal(
                f"malformed {name} document ({type(error).__name__}: {short_repr(str(error))}); "
                "expected the fields of the event model"
            ) from error
        self.n_frames += sum(reference.n_frames for reference in references)
        return references

    def _announced(self, name: str, doc: Fields) -> tuple[FrameReference, ...]:
        """Take a document; return the frames of a stream that it announces."""
        match name:
            case "descriptor":
                self._descriptor(doc)
            case "event" if self._carries(doc):
                self._events.add([doc["data"].get(self._data_key)], [doc.get("seq_num")], self._key)
            case "event_page" if self._carries(doc):
                self._event_page(doc)
            case "resource":
                self._events.add_resource(doc)
            case "datum":
                self._events.add_datums([doc])
            case "datum_page":
                self._events.add_datums(list(unpack_datum_page(doc)))  # type: ignore[arg-type]
            case "stream_resource":
                self._stream_resource(doc)
            case "stream_datum":
                return self._stream_datum(doc)
            case _:
                pass
        return ()

    def _descriptor(self, doc: Fields) -> None:
        uid, data_keys, stream = doc["uid"], doc["data_keys"], doc.get("name")
        image_like = [key for key, data_key in data_keys.items() if len(data_key["shape"]) >= 2]
        known = self.image_descriptor
        has_key = self._data_key in data_keys
        # Refuse it here rather than at the first datum.
        key = ImageKey.of(doc, self._data_key, self._detector) if has_key else ImageKey()
        is_image = has_key and (known is None or known.get("name") == stream)
        self._is_image[uid] = is_image or self._is_image.get(uid, False)
        if is_image and known is None:
            self.image_descriptor, self._key = doc, key
        self._image_like.update(dict.fromkeys(image_like))

    def _event_page(self, doc: Fields) -> None:
        values, seq_nums = doc["data"].get(self._data_key), doc.get("seq_num")
        if values is None:  # a page without the key still stands for as many frames as events
            values = [None] * len(doc["seq_num"])
        if seq_nums is None:
            seq_nums = [None] * len(values)
        if len(values) != len(seq_nums):
            raise ValueError(f"{len(seq_nums)} events hold {len(values)} values")
        self._events.add(values, seq_nums, self._key)

    def _carries(self, doc: Fields) -> bool:
        """Whether an event (page) should hold frames: false beside a stream of its own."""
        if not self._is_of_images(doc["descriptor"]):
            return False
        return self._data_key in doc["data"] or not self._key.in_streams

    def _stream_resource(self, doc: Fields) -> None:
        uid = doc["uid"]
        if doc["data_key"] != self._data_key:
            self._resources[uid] = None
        elif uid not in self._resources:
            self._resources[uid] = StreamResource(doc)

    def _stream_datum(self, doc: Fields) -> tuple[FrameReference, ...]:
        uid = doc["stream_resource"]
        start, stop = (operator.index(doc["indices"][end]) for end in ("start", "stop"))
        if not 0 <= start <= stop:
            raise self._refusal(
                f"a stream_datum has the indices [{short_repr(start)}, {short_repr(stop)}); "
                "expected 0 <= start <= stop"
            )
        is_other = uid in self._resources and self._resources[uid] is None
        if is_other or not self._is_of_images(doc["descriptor"]):
            return ()
        resource = self._resources.get(uid)
        if resource is None:
            raise self._refusal(
                f"a stream_datum refers to the stream_resource {short_repr(uid)}, which has not "
                "come"
            )
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

    def _is_of_images(self, uid: str) -> bool:
        """Whether a descriptor is of the stream with the frames."""
        if uid not in self._is_image:
            raise self._refusal(
                f"a document refers to the descriptor {short_repr(uid)}, which has not come"
            )
        return self._is_image[uid]

    def _refusal(self, reason: str) -> InvalidInputError:
        uid = short_repr(self.start.get("uid"))
        return InvalidInputError(f"Run {uid}: {reason}. The document is left out.")


class EventFrames:
    """Frames of the events of one stream, inline or by the ids of datums: in order, each once.

    `take` consumes what it returns; `frame_shape` is (rows, cols) of the first inline frame that
    was taken, None before.
    """

    def __init__(self, data_key: str) -> None:
        self.frame_shape: tuple[int, int] | None = None
        self._data_key = data_key
        self._resources: dict[str, Fields] = {}
        self._datums: dict[str, Fields] = {}
        self._last_seq_num = 0
        # What events held, in order: references, and ids of datums to be looked up.
        self._waiting: deque[FrameReference | str] = deque()

    def add_resource(self, doc: Fields) -> None:
        """Keep a resource document."""
        _keep(self._resources, doc["uid"], doc)

    def add_datums(self, docs: Iterable[Fields]) -> None:
        """Keep datum documents, whether their resource came or not."""
        for doc in docs:
            _keep(self._datums, doc["datum_id"], doc)

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
            taken.append(value if is_id else inline_frames(value, self._data_key, per_event))
        self._last_seq_num = last
        self._waiting.extend(taken)

    def take(self, key: ImageKey, *, all_of_them: bool = False) -> list[FrameReference]:
        """Return what waits, up to an event whose datum may still come."""
        taken: list[FrameReference] = []
        while self._waiting:
            first = self._waiting[0]
            if isinstance(first, str):
                found = self._find(first, key)
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

    def _find(self, datum_id: str, key: ImageKey) -> FrameReference | None:
        """Return where the frames of an event are; None while one of their documents is missing."""
        datum = self._datums.get(datum_id)
        resource = None if datum is None else self._resources.get(datum["resource"])
        if datum is None or resource is None:
            return None
        try:
            return datum_reference(resource, datum, key)
        except _MALFORMED as error:
            return MissingFrames(
                n_frames=key.frames_per_event,
                reason=f"Datum {short_repr(datum_id)}: its frames cannot be found "
                f"({type(error).__name__}: {short_repr(str(error))}); expected the fields of "
                "the event model and of the spec in its resource and datum.",
            )


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


def inline_frames(value: object, data_key: str, n_frames: int) -> InlineFrames | MissingFrames:
    """Return the frames that a value is; arrays are shared, not copied.

    Expected are real numbers of shape (rows, cols) or (k, rows, cols), an array or nested lists;
    anything else are the `n_frames` missing frames that the event stands for.
    """

    def missing(reason: str) -> MissingFrames:
        return MissingFrames(n_frames=n_frames, reason=f"Data key {data_key!r}: {reason}")

    if value is None:
        return missing("missing in events of its stream.")
    try:
        frames = np.asarray(value)
    except (*_MALFORMED, MemoryError):  # rows of different lengths, a list that holds itself
        frames = np.empty(0, object)
    if frames.dtype.kind not in "buif" or frames.ndim not in (2, 3) or not frames.size:
        dtype = str(frames.dtype) if frames.dtype.names is None else short_repr(frames.dtype)
        return missing(
            f"got frames of shape {frames.shape} and dtype {dtype}; expected real numbers of "
            "shape (rows, cols) or (k, rows, cols)."
        )
    if frames.ndim == 3 and len(frames) > MOST_FRAMES:
        return missing(f"got {len(frames)} frames in one event, expected at most {MOST_FRAMES}.")
    return InlineFrames(frames=frames[np.newaxis] if frames.ndim == 2 else frames)


MOST_DEPTH = 20
MOST_VALUES = 10_000
MOST_CHARACTERS = 100_000


def plain_document(doc: Fields) -> Document:
    """Return a copy of a document that holds only what JSON knows, of bounded depth and size.

    Arrays become lists. What JSON does not know, what lies deeper than MOST_DEPTH, integers of more
    than 64 bits and long texts become a short text that shows them; after MOST_VALUES values the
    rest is left out. Never raises.
    """
    n_left = MOST_VALUES

    def plain_values(values: Iterable[Any], depth: int) -> list[Any]:
        nonlocal n_left
        found: list[Any] = []
        for value in values:
            if n_left <= 0:
                break
            n_left -= 1
            found.append(plain(value, depth))
        return found

    def plain(value: Any, depth: int) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, np.ndarray) and value.size <= MOST_VALUES:
            value = value.tolist()
        if isinstance(value, Mapping) and depth < MOST_DEPTH:
            inner = plain_values(value.values(), depth + 1)
            return {_text(key): one for key, one in zip(value, inner, strict=False)}
        if isinstance(value, list | tuple) and depth < MOST_DEPTH:
            return plain_values(value, depth + 1)
        is_known = value is None or isinstance(value, bool | float)
        if is_known or (isinstance(value, int) and -(2**63) <= value < 2**63):
            return value
        return _text(value)

    return plain(doc, 0)


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MOST_CHARACTERS:
        return short_repr(value)
    # PostgreSQL takes no null characters, which EPICS leaves at the end of texts.
    return value.encode("utf-8", "replace").decode("utf-8").replace("\0", "")
