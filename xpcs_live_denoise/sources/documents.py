"""Documents, run by run, and the frames that they refer to; on the RunEngine's thread: no I/O."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from event_model import DocumentNames, EventModelError, RunRouter, unpack_datum_page

from xpcs_live_denoise.errors import InvalidInputError, XpcsError, short_repr
from xpcs_live_denoise.records.frames import FrameReference
from xpcs_live_denoise.records.types import Document, Fields

from .assets import MOST_FRAMES, ImageKey, StreamResource, positive_int
from .events import MALFORMED, Assets, EventFrames
from .frame_time import EventTimes, FrameTime, choose_frame_time
from .metadata import find_exposure, find_frame_time
from .streams import OTHER_PURPOSE, SERIES, UNKNOWN, ImageStream, left_out, stream_rank

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


class RunDocuments:
    """The documents of one run, turned into references to the frames of one data key.

    Takes what an `event_model.RunRouter` delivers to a callback of one run. Of several streams with
    the data key one is the series (see `stream_rank`): a dark frame may come first. One that looks
    like it is followed at once; any other when it has as many frames as a window, or at the stop,
    and until the series itself comes. Reading the attributes consumes nothing.

    `detector` is the name of its entry in the descriptor's configuration, `stream` and `threshold`
    the settings.
    `image_descriptor` is the first descriptor of the stream that is followed, None until there is
    one; `n_frames` are the frames behind all references to it so far.
    """

    def __init__(
        self,
        start: Fields,
        *,
        detector: str,
        data_key: str,
        stream: str | None = None,
        threshold: int | None = None,
    ) -> None:
        self.start = start
        self._detector = detector
        self._data_key = data_key
        self._wanted = stream
        self._threshold = threshold
        self._image_like: dict[str, None] = {}  # an ordered set
        self._chosen: ImageStream | None = None
        # Those that have the data key, by name, with what holds the frames of their events.
        self._streams: dict[str, tuple[ImageStream, EventFrames]] = {}
        self._by_descriptor: dict[str, str | None] = {}  # uid -> name, None without the data key
        # uid of a stream_resource -> itself, None where it is of another data key
        self._resources: dict[str, StreamResource | None] = {}
        self._assets = Assets(data_key)

    @property
    def image_descriptor(self) -> Fields | None:
        """The first descriptor of the stream that is followed; None until there is one."""
        return self._chosen and self._chosen.descriptor

    @property
    def n_frames(self) -> int:
        """Frames of the stream that is followed so far."""
        return self._chosen.n_frames if self._chosen else 0

    @property
    def times(self) -> EventTimes:
        """When the events of the stream that is followed were made."""
        return self._chosen.times if self._chosen else EventTimes()

    @property
    def left_out(self) -> str:
        """Which streams with the data key are not followed, a sentence; "" if there are none."""
        return left_out(self._chosen, [stream for stream, _ in self._streams.values()])

    @property
    def streams(self) -> tuple[str, ...]:
        """The names of all streams so far that have the data key."""
        return tuple(self._streams)

    @property
    def has_descriptor(self) -> bool:
        """Whether any descriptor has come."""
        return bool(self._by_descriptor)

    @property
    def image_like_keys(self) -> tuple[str, ...]:
        """Every data key so far that looks like frames (two dimensions or more)."""
        return tuple(self._image_like)

    @property
    def configuration(self) -> Fields:
        """What the image descriptor says of each device, {device: {"data": ...}}; {} before it."""
        return (self.image_descriptor or {}).get("configuration", {})

    @property
    def read(self) -> Fields:
        """Single values that the first event of the stream holds beside frames, as `configuration`.

        A period that is read with each frame stands there.
        """
        return {self.device: {"data": self._chosen.read if self._chosen else {}}}

    @property
    def device(self) -> str:
        """The device whose configuration is the detector's: another name may have the data key."""
        if self._detector in self.configuration or self.image_descriptor is None:
            return self._detector
        owner = self.image_descriptor["data_keys"][self._data_key].get("object_name")
        return owner if isinstance(owner, str) and owner in self.configuration else self._detector

    def frame_time(
        self, setting_s: float | None, documented_s: float | None, exposure_s: float | None
    ) -> FrameTime:
        """Return how far apart frames are by what is known of the run and its events so far."""
        facts = ({}, None, self.read, self.device)
        return choose_frame_time(
            setting_s,
            documented_s or find_frame_time(None, *facts),
            exposure_s or find_exposure(*facts),
            self.times.spacing(),
        )

    @property
    def frame_shape(self) -> tuple[int, int] | None:
        """(rows, cols) of the first inline frame, else of the descriptor; None if unknown."""
        if self._chosen is None:
            return None
        _, events = self._streams[str(self._chosen.name)]
        return events.frame_shape or self._chosen.key.frame_shape

    @property
    def n_expected(self) -> int | None:
        """Frames that the whole run should have; None where the documents do not tell.

        The start document's "number of images", its `num_points` times the frames of one point,
        or the `num_images` of the descriptor's configuration: the first that is above one (a
        single point may hold a whole series) and not below what has already come.
        """
        points = positive_int(self.start.get("num_points"))
        key = self._chosen.key if self._chosen else ImageKey()
        candidates = (
            positive_int(self.start.get("number of images")),
            points * key.frames_per_event if points and self.image_descriptor else None,
            key.configured_images,
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
            self._announced(name, doc)
            for stream, events in self._streams.values():
                taken = events.take(stream.key, all_of_them=name == "stop")
                stream.add(taken, chosen=stream is self._chosen)
        except XpcsError:
            raise
        except MALFORMED as error:
            raise self._refusal(
                f"malformed {name} document ({type(error).__name__}: {short_repr(str(error))}); "
                "expected the fields of the event model"
            ) from error
        self._choose(is_over=name == "stop")
        return self._chosen.take() if self._chosen else ()

    def _choose(self, *, is_over: bool) -> None:
        """Follow the stream that is the series, as far as that is known."""
        streams = [stream for stream, _ in self._streams.values() if stream.rank is not None]
        ready = [
            one
            for one in streams
            if one.rank == SERIES or is_over or (one.rank == UNKNOWN and one.is_enough)
        ]

        def order(one: ImageStream) -> tuple[bool, bool, int, int, bool]:
            rank = one.rank or SERIES
            # Declared and without frames it is not the series, unless all others are dark frames.
            return (
                rank == OTHER_PURPOSE,
                not one.n_frames,
                rank,
                -one.n_frames * is_over,
                one is not self._chosen,
            )

        # The one that is followed already stays unless another one is more likely.
        self._chosen = min(ready, key=order, default=self._chosen)

    def _announced(self, name: str, doc: Fields) -> None:
        """Take a document, and the frames of a stream that it announces."""
        match name:
            case "descriptor":
                self._descriptor(doc)
            case "event":
                self._events(
                    doc,
                    [doc["data"].get(self._data_key)],
                    [doc.get("seq_num")],
                    [doc.get("time")],
                    [_timestamps(doc, self._data_key)],
                )
            case "event_page":
                self._event_page(doc)
            case "resource":
                self._assets.add_resource(doc)
            case "datum":
                self._assets.add_datums([doc])
            case "datum_page":
                self._assets.add_datums(list(unpack_datum_page(doc)))  # type: ignore[arg-type]
            case "stream_resource":
                self._stream_resource(doc)
            case "stream_datum":
                self._stream_datum(doc)
            case _:
                pass

    def _descriptor(self, doc: Fields) -> None:
        uid, data_keys, name = doc["uid"], doc["data_keys"], doc.get("name")
        image_like = [key for key, data_key in data_keys.items() if len(data_key["shape"]) >= 2]
        if self._data_key not in data_keys:
            self._by_descriptor.setdefault(uid, None)
        else:
            # Refuse it here rather than at the first datum.
            key = ImageKey.of(doc, self._data_key, self._detector, self._threshold)
            if str(name) not in self._streams:
                rank = stream_rank(name, self.start, self._wanted)
                stream = ImageStream(name, doc, key, rank, self.start)
                self._streams[str(name)] = stream, EventFrames(self._data_key, self._assets)
            self._by_descriptor[uid] = str(name)
        self._image_like.update(dict.fromkeys(image_like))

    def _event_page(self, doc: Fields) -> None:
        values, seq_nums = doc["data"].get(self._data_key), doc.get("seq_num")
        if values is None:  # a page without the key still stands for as many frames as events
            found = self._stream_of(doc["descriptor"])
            if found is None or (found[0].key.in_streams and seq_nums is None):
                return
            values = [None] * len(doc["seq_num"])
        if seq_nums is None:
            seq_nums = [None] * len(values)
        if len(values) != len(seq_nums):
            raise ValueError(f"{len(seq_nums)} events hold {len(values)} values")
        times, stamps = doc.get("time"), _timestamps(doc, self._data_key)
        self._events(doc, values, seq_nums, times, stamps)

    def _events(
        self,
        doc: Fields,
        values: Sequence[object],
        seq_nums: Sequence[Any],
        times: Any,
        stamps: Any,
    ) -> None:
        """Take the events of one descriptor: what they hold under the data key, and when."""
        found = self._stream_of(doc["descriptor"])
        if found is None:
            return
        stream, events = found
        # Beside a stream of frames of its own an event holds none.
        if self._data_key in doc["data"] or not stream.key.in_streams:
            events.add(values, seq_nums, stream.key)
        if not stream.read:
            stream.read = _single_values(doc["data"])
        stream.times.add(seq_nums, _each(stamps, seq_nums), _each(times, seq_nums))

    def _stream_resource(self, doc: Fields) -> None:
        uid = doc["uid"]
        if doc["data_key"] != self._data_key:
            self._resources[uid] = None
        elif uid not in self._resources:
            self._resources[uid] = StreamResource(doc)

    def _stream_datum(self, doc: Fields) -> None:
        uid = doc["stream_resource"]
        start, stop = (operator.index(doc["indices"][end]) for end in ("start", "stop"))
        if not 0 <= start <= stop:
            raise self._refusal(
                f"a stream_datum has the indices [{short_repr(start)}, {short_repr(stop)}); "
                "expected 0 <= start <= stop"
            )
        is_other = uid in self._resources and self._resources[uid] is None
        found = self._stream_of(doc["descriptor"])
        if is_other or found is None:
            return
        stream, _ = found
        resource = self._resources.get(uid)
        if resource is None:
            raise self._refusal(
                f"a stream_datum refers to the stream_resource {short_repr(uid)}, which has not "
                "come"
            )
        start = resource.continued(start, doc, is_first=not stream.n_frames)
        if start >= stop:
            return
        reference = resource.reference(start, stop, stream.key)
        if reference.n_frames > MOST_FRAMES:
            raise self._refusal(
                f"a stream_datum announces {short_repr(reference.n_frames)} frames at once; "
                f"expected at most {MOST_FRAMES}"
            )
        resource.n_announced = stop
        stream.add([reference], chosen=stream is self._chosen)

    def _stream_of(self, uid: str) -> tuple[ImageStream, EventFrames] | None:
        """Return the stream of a descriptor; None if it has no frames of the data key."""
        if uid not in self._by_descriptor:
            raise self._refusal(
                f"a document refers to the descriptor {short_repr(uid)}, which has not come"
            )
        name = self._by_descriptor[uid]
        return None if name is None else self._streams[name]

    def _refusal(self, reason: str) -> InvalidInputError:
        uid = short_repr(self.start.get("uid"))
        return InvalidInputError(f"Run {uid}: {reason}. The document is left out.")


def _timestamps(doc: Fields, data_key: str) -> Any:
    stamps = doc.get("timestamps")
    return stamps.get(data_key) if isinstance(stamps, Mapping) else None


def _single_values(data: Fields) -> Fields:
    """Return the numbers and texts among what an event, or the first one of a page, holds."""
    first = {
        key: value[0] if isinstance(value, list | tuple) and value else value
        for key, value in data.items()
    }
    return {k: one for k, one in first.items() if isinstance(one, str | int | float | np.number)}


def _each(values: Any, events: Sequence[Any]) -> Sequence[Any]:
    """Return a value for each event, None where a document has none or not so many."""
    is_list = isinstance(values, list | tuple | np.ndarray) and len(values) == len(events)
    return list(values) if is_list else [None] * len(events)


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
