"""From the documents of one run to references to its frames, on the RunEngine's thread: no I/O."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from xpcs_live_denoise.errors import InvalidInputError, XpcsError
from xpcs_live_denoise.records import FrameReference, InlineFrames
from xpcs_live_denoise.sources.stream_resources import (
    StreamResource,
    UnreadableFrames,
    positive_int,
)

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
        self._image_like: dict[str, None] = {}  # an ordered set
        self._inline_shape: tuple[int, int] | None = None
        self._image_streams: set[str] = set()  # uids of descriptors
        self._other_streams: set[str] = set()
        self._resources: dict[str, StreamResource] = {}
        self._other_resources: set[str] = set()
        self._handlers: dict[str, Callable[[_Document], tuple[FrameReference, ...]]] = {
            "descriptor": self._descriptor,
            "event": self._event,
            "event_page": self._event_page,
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
        if self._inline_shape is not None:
            return self._inline_shape
        *_, rows, cols = (None, None, *self._key_shape())
        if rows is None or cols is None:
            return None
        return rows, cols

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
            points * self._frames_per_index() if points and self.has_images else None,
            self._configured_images(),
        )
        fitting = (n for n in candidates if n is not None and n > 1 and n >= self.n_frames)
        return next(fitting, None)

    def receive(self, name: str, doc: _Document) -> tuple[FrameReference, ...]:
        """Take a document and return references to the frames that it announces, in order.

        Inline arrays are shared with the document. A stream_datum reaches from where the one
        before it ended: what overlaps is not counted twice, and frames whose own document was
        lost are not lost with it, since they are in the file.

        Raises
        ------
        InvalidInputError
            For a malformed document; everything is then as if it had not come.
        """
        handler = self._handlers.get(name)
        if handler is None:
            return ()
        try:
            references = handler(doc)
        except XpcsError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidInputError(
                f"Run {self.start.get('uid')}: malformed {name} document "
                f"({type(error).__name__}: {error}); expected the fields of the event model. "
                "The document is left out."
            ) from error
        self.n_frames += sum(reference.n_frames for reference in references)
        return references

    # --- one handler a document ---------------------------------------------------------------

    def _descriptor(self, doc: _Document) -> tuple[FrameReference, ...]:
        uid, data_keys, stream = doc["uid"], doc["data_keys"], doc.get("name")
        image_like = [key for key, data_key in data_keys.items() if len(data_key["shape"]) >= 2]
        has_key = self._data_key in data_keys
        if has_key:
            _shape(data_keys[self._data_key])  # refuse it here rather than at the first datum
        self._image_like.update(dict.fromkeys(image_like))
        known = self.image_descriptor
        if has_key and (known is None or known.get("name") == stream):
            self.image_descriptor = doc if known is None else known
            self._image_streams.add(uid)
        else:
            self._other_streams.add(uid)
        return ()

    def _event(self, doc: _Document) -> tuple[FrameReference, ...]:
        return self._inline([doc["data"].get(self._data_key)] if self._carries(doc) else [])

    def _event_page(self, doc: _Document) -> tuple[FrameReference, ...]:
        if not self._carries(doc):
            return ()
        # A page without the key still stands for as many frames as it has events.
        return self._inline(doc["data"].get(self._data_key) or [None] * len(doc["seq_num"]))

    def _carries(self, doc: _Document) -> bool:
        """Whether an event (page) should hold frames: false beside a stream of its own."""
        if not self._is_image_stream(doc["descriptor"]):
            return False
        return self._data_key in doc["data"] or not self._key().get("external")

    def _inline(self, values: Iterable[Any]) -> tuple[FrameReference, ...]:
        references = tuple(self._inline_one(value) for value in values)
        for reference in references:
            if self._inline_shape is None and isinstance(reference, InlineFrames):
                _, rows, cols = reference.frames.shape
                self._inline_shape = rows, cols
        return references

    def _inline_one(self, value: Any) -> InlineFrames | UnreadableFrames:
        """Return what one event holds; what cannot be used keeps its place in the series."""
        subject = f"Data key {self._data_key!r}"
        if isinstance(value, str):
            return self._unreadable(
                f"{subject}: its events hold datums of a legacy asset; expected frames inline or "
                "as a stream. Fill the events before they get here."
            )
        if value is None:
            return self._unreadable(f"{subject}: missing in events of its stream.")
        try:
            frames = np.asarray(value)
        except ValueError:  # rows of different lengths
            frames = np.empty(0, object)
        if frames.dtype.kind not in "buif" or frames.ndim not in (2, 3) or not frames.size:
            return self._unreadable(
                f"{subject}: got frames of shape {frames.shape} and dtype {frames.dtype}; expected "
                "real numbers of shape (rows, cols) or (k, rows, cols)."
            )
        return InlineFrames(frames=frames[np.newaxis] if frames.ndim == 2 else frames)

    def _unreadable(self, reason: str) -> UnreadableFrames:
        return UnreadableFrames(
            path="", dataset="", start=0, stop=self._frames_per_index(), reason=reason
        )

    def _stream_resource(self, doc: _Document) -> tuple[FrameReference, ...]:
        uid = doc["uid"]
        if doc["data_key"] != self._data_key:
            self._other_resources.add(uid)
        elif uid not in self._resources:
            self._resources[uid] = StreamResource(doc)
        return ()

    def _stream_datum(self, doc: _Document) -> tuple[FrameReference, ...]:
        uid = doc["stream_resource"]
        start, stop = (operator.index(doc["indices"][end]) for end in ("start", "stop"))
        if not 0 <= start <= stop:
            raise InvalidInputError(
                f"Run {self.start.get('uid')}: a stream_datum has the indices [{start}, {stop}); "
                "expected 0 <= start <= stop. The document is left out."
            )
        if uid in self._other_resources or not self._is_image_stream(doc["descriptor"]):
            return ()
        if uid not in self._resources:
            raise InvalidInputError(
                f"Run {self.start.get('uid')}: a stream_datum refers to the stream_resource "
                f"{uid!r}, which has not come. The document is left out."
            )
        resource = self._resources[uid]
        if resource.n_announced is not None:
            start = resource.n_announced
        if start >= stop:
            return ()
        resource.n_announced = stop
        return (resource.reference(start, stop, self._frames_per_index(resource.multiplier)),)

    def _stop(self, doc: _Document) -> tuple[FrameReference, ...]:
        self.stop = doc
        return ()

    # --- what the descriptor says -------------------------------------------------------------

    def _is_image_stream(self, uid: str) -> bool:
        if uid in self._image_streams:
            return True
        if uid in self._other_streams:
            return False
        raise InvalidInputError(
            f"Run {self.start.get('uid')}: a document refers to the descriptor {uid!r}, which has "
            "not come. The document is left out."
        )

    def _key(self) -> _Document:
        return self.image_descriptor["data_keys"][self._data_key] if self.image_descriptor else {}

    def _key_shape(self) -> tuple[int | None, ...]:
        return _shape(self._key()) if self.image_descriptor else ()

    def _frames_per_index(self, multiplier: int | None = None) -> int:
        """Frames of one event, or of one index of a stream: k of [k, rows, cols], else 1."""
        leading = self._key_shape()[:-2]
        per_index = math.prod(1 if n is None else n for n in leading)
        # areaDetector's frames per point, where the descriptor has the shape of one frame
        return multiplier if multiplier and per_index == 1 else per_index

    def _configured_images(self) -> int | None:
        values_of = self.configuration.get(self._detector, {}).get("data", {})
        names = (f"{self._detector}_cam_num_images", f"{self._detector}_num_images", "num_images")
        values = (positive_int(values_of.get(name)) for name in names)
        return next((value for value in values if value is not None), None)


def _shape(data_key: _Document) -> tuple[int | None, ...]:
    """Return the shape of a data key; None stands for an axis of unknown length."""
    lengths = (None if n is None else operator.index(n) for n in data_key["shape"])
    return tuple(n if n is None or n > 0 else None for n in lengths)
