"""From the documents of one run to references to its frames, on the RunEngine's thread: no I/O."""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from xpcs_live_denoise.errors import InvalidInputError, XpcsError, short_repr
from xpcs_live_denoise.records.results import (FrameReference, InlineFrames)
from xpcs_live_denoise.sources.event_order import new_events
from xpcs_live_denoise.sources.image_key import MOST_FRAMES, ImageKey
from xpcs_live_denoise.sources.inline_frames import inline_frames
from xpcs_live_denoise.sources.legacy_assets import LegacyAssets
from xpcs_live_denoise.sources.stream_resources import (
    StreamResource,
    UnreadableFrames,
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
                taken.append(UnreadableFrames.gap(n_lost * per_event, LOST_EVENTS))
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
                first = found or UnreadableFrames.gap(
                    self._key.frames_per_event,
                    f"Data key {self._data_key!r}: its events name datums that never came, "
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
