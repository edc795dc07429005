"""Where documents say that frames lie: resources and datums, old and new, and their data key."""

from __future__ import annotations

import dataclasses
import math
import operator
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from xpcs_live_denoise.errors import InvalidInputError, short_repr
from xpcs_live_denoise.records.frames import (
    AssetFrames,
    EigerFrames,
    FrameReference,
    HDF5Frames,
    MissingFrames,
    TiledFrames,
)
from xpcs_live_denoise.records.types import Fields

from .metadata import detector_data

# Series of a DECTRIS Eiger. The published handler gives the first file's frames for every file.
EIGER_SPECS = frozenset({"AD_EIGER", "AD_EIGER2", "AD_EIGER_SLICE"})
# The published handler fails on its second datum.
SWMR_SPEC = "AD_HDF5_SWMR"


def datum_reference(resource: Fields, datum: Fields, key: ImageKey) -> FrameReference:
    """Return where the frames of a datum are; raises whatever malformed documents make it raise."""
    spec, options, where = resource["spec"], resource["resource_kwargs"], datum["datum_kwargs"]
    if not isinstance(spec, str) or not isinstance(resource["resource_path"], str):
        raise TypeError("spec and resource_path must be text")
    path = posixpath.join(str(resource.get("root") or ""), resource["resource_path"])
    if spec in EIGER_SPECS:
        return _eiger_series(path, options, where, key)
    n_frames = positive_int(options.get("frame_per_point")) or key.frames_per_event
    if n_frames > MOST_FRAMES:
        raise InvalidInputError(
            f"got {n_frames} frames behind one datum, expected at most {MOST_FRAMES}"
        )
    if spec == SWMR_SPEC:
        point = _whole(where["point_number"])
        return HDF5Frames(
            path=path,
            dataset=DEFAULT_DATASET,
            start=point * n_frames,
            stop=(point + 1) * n_frames,
            swmr=True,
            n_thresholds=key.n_thresholds,
        )
    return AssetFrames(
        resource=resource, datum=datum, n_frames=n_frames, n_thresholds=key.n_thresholds
    )


def _eiger_series(path: str, options: Fields, where: Fields, key: ImageKey) -> EigerFrames:
    start, stop, is_whole = 0, key.frames_per_asset, True
    if where.get("frame_num") is not None:  # an event for each frame
        start = _whole(where["frame_num"])
        stop, is_whole = start + 1, False
    elif where.get("n_frames") is not None:  # ours: a series that broke off
        stop, is_whole = _whole(where["n_frames"]), False
    images_per_file = positive_int(options.get("images_per_file"))
    return EigerFrames(
        prefix=path,
        sequence_id=_whole(where["seq_id"]),
        start=start,
        stop=stop,
        images_per_file=images_per_file or positive_int(options.get("frame_per_point")),
        open_ended=is_whole,
    )


def _whole(value: Any) -> int:
    """Return a whole number from 0 on, also from text."""
    number = int(value) if isinstance(value, str) else operator.index(value)
    if not 0 <= number < 2**53:
        raise ValueError(f"got {short_repr(value)}, expected a whole number from 0 on")
    return number


HDF5_MIMETYPE = "application/x-hdf5"
# Ours: an array in Tiled, with a uri "tiled:<keys from the reading client down to it>".
TILED_MIMETYPE = "application/x-tiled-array"
# What areaDetector's file plugin and ophyd-async call the dataset where the document does not.
DEFAULT_DATASET = "/entry/data/data"
# Parameters of a stream_resource that change which frames an index means.
UNSUPPORTED_PARAMETERS = ("template", "slice")


class StreamResource:
    """One stream_resource document, of today's event model or of before 1.20.

    `n_announced` is where the indices end that stream_datum documents have announced, None before
    the first; its owner keeps it. `multiplier` are the frames of one index, where it tells.
    """

    def __init__(self, doc: Fields) -> None:
        if "mimetype" in doc:
            mimetype, uri, parameters = doc["mimetype"], doc["uri"], doc["parameters"]
        else:  # event-model before 1.20
            mimetype = HDF5_MIMETYPE if "HDF5" in doc["spec"] else doc["spec"]
            uri = "/".join(part for part in (doc.get("root"), doc["resource_path"]) if part)
            parameters = doc["resource_kwargs"]
        if not isinstance(uri, str) or not isinstance(mimetype, str):
            raise TypeError("uri and mimetype must be text")
        self.n_announced: int | None = None
        self.multiplier = positive_int(
            parameters.get("multiplier", parameters.get("frame_per_point"))
        )
        self._dataset = str(parameters.get("dataset") or parameters.get("path") or DEFAULT_DATASET)
        self._swmr = bool(parameters.get("swmr", True))
        self._in_tiled = mimetype == TILED_MIMETYPE
        self._path = _tiled_path(uri) if self._in_tiled else local_path(uri) or uri
        self._reason = _why_unreadable(mimetype, uri, parameters)

    def continued(self, start: int, stream_datum: Fields, *, is_first: bool) -> int:
        """Return the index from which a stream_datum is new: where the one before it ended.

        The first one of a run (`is_first`) has the `seq_num` 1. Where it has another, those before
        it were lost on their way, but their frames are in the file.
        """
        if self.n_announced is not None:
            return self.n_announced
        seq_nums = stream_datum.get("seq_nums")
        first = positive_int(seq_nums.get("start")) if isinstance(seq_nums, Mapping) else None
        return max(0, start + 1 - first) if is_first and first else start

    def reference(
        self, start: int, stop: int, key: ImageKey
    ) -> HDF5Frames | TiledFrames | MissingFrames:
        """Return the frames of the indices [start, stop)."""
        frames_per_index = key.frames_per_index(self.multiplier)
        start, stop = start * frames_per_index, stop * frames_per_index
        n_thresholds = None if key.n_thresholds == self.multiplier else key.n_thresholds
        if self._reason:
            return MissingFrames(n_frames=stop - start, reason=self._reason)
        if self._in_tiled:
            return TiledFrames(path=self._path, start=start, stop=stop, n_thresholds=n_thresholds)
        return HDF5Frames(
            path=self._path,
            dataset=self._dataset,
            start=start,
            stop=stop,
            swmr=self._swmr,
            n_thresholds=n_thresholds,
        )


def _why_unreadable(mimetype: str, uri: str, parameters: Fields) -> str:
    """Return why a stream cannot be read here, "" if it can."""
    parts = urlsplit(uri)
    subject = f"Stream resource {uri if len(uri) <= 200 else f'{uri[:197]}...'}"
    if mimetype == TILED_MIMETYPE:
        fits = parts.scheme == "tiled" and _tiled_path(uri)
        return "" if fits else f"{subject}: expected tiled:<path of the array>."
    if mimetype != HDF5_MIMETYPE:
        return (
            f"{subject}: got the mimetype {short_repr(mimetype)}, expected {HDF5_MIMETYPE!r}. "
            "Let the detector write HDF5."
        )
    if parts.scheme not in ("", "file") or parts.netloc not in ("", "localhost"):
        return (
            f"{subject}: not a local file; expected file://localhost/... "
            "Run the analysis where the file system with the frames is mounted."
        )
    if unsupported := [name for name in UNSUPPORTED_PARAMETERS if parameters.get(name)]:
        return (
            f"{subject}: has the parameter {unsupported[0]!r}; expected one dataset in one file, "
            "whole. Let the detector write a single HDF5 file a run."
        )
    return ""


def local_path(uri: str) -> str | None:
    """Return the path that a file:// URI has on this machine; None for anything else."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return None
    is_local = parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path
    return unquote(parts.path) if is_local else None


def _tiled_path(uri: str) -> str:
    return unquote(urlsplit(uri).path).strip("/")


def positive_int(value: Any) -> int | None:
    """Return a positive whole number, also from text as CHX stores it; None for anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return int(number) if number > 0 and number.is_integer() else None


# More frames than any C2 has room for: a document that speaks of more is wrong.
MOST_FRAMES = 1_000_000
MOST_THRESHOLDS = 8  # a longer axis is one of frames


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageKey:
    """The data key of the frames."""

    shape: tuple[int | None, ...] = ()  # of one event's value: (..., rows, cols), None if unknown
    external: str = ""  # what the data key says under "external"
    configured_images: int | None = None  # frames of one exposure, as the configuration says
    threshold: int | None = None  # the setting, from 1
    n_thresholds: int | None = None  # of each frame in documents' shape, which `shape` leaves out

    @classmethod
    def of(
        cls, descriptor: Fields, data_key: str, detector: str, threshold: int | None = None
    ) -> ImageKey:
        """Read a descriptor; raises whatever one without a usable shape makes it raise.

        With the setting `threshold` a short axis before rows and columns is one of thresholds,
        unless an exposure has as many frames. An event of more frames than MOST_FRAMES is an
        InvalidInputError.
        """
        key = descriptor["data_keys"][data_key]
        found = cls(
            shape=tuple(None if n is None else operator.index(n) for n in key["shape"]),
            external=str(key.get("external") or ""),
            configured_images=_configured_images(descriptor.get("configuration"), detector),
            threshold=threshold,
        )
        found = dataclasses.replace(found, shape=found._in_order())
        if n := found.thresholds_in(found.shape):
            shape = (*found.shape[:-3], *found.shape[-2:])
            found = dataclasses.replace(found, shape=shape, n_thresholds=n)
        if found.frames_per_index() > MOST_FRAMES:
            raise InvalidInputError(
                f"Data key {data_key!r}: an event of the shape {short_repr(key['shape'])} holds "
                f"more than {MOST_FRAMES} frames. Correct the detector's descriptor."
            )
        return found

    def thresholds_in(self, shape: tuple[int | None, ...]) -> int | None:
        """Return how many thresholds the axis before (rows, cols) stands for; None for frames."""
        n = shape[-3] if len(shape) > 2 and self.threshold is not None else None
        if n is None or not 1 < n <= MOST_THRESHOLDS:
            return None
        return None if len(shape) == 3 and n == self.configured_images else n

    @property
    def in_streams(self) -> bool:
        """Whether stream_datum documents announce the frames, and events do not hold them."""
        return self.external.startswith(("STREAM", "TILED"))

    @property
    def in_assets(self) -> bool:
        """Whether events hold ids of datum documents."""
        return bool(self.external) and not self.in_streams

    @property
    def frame_shape(self) -> tuple[int, int] | None:
        """(rows, cols); None if unknown."""
        *_, rows, cols = (None, None, *self.shape)
        return None if rows is None or cols is None else (rows, cols)

    def frames_per_index(self, multiplier: int | None = None) -> int:
        """Frames of one event, or of one index of a stream: k of [k, rows, cols], else 1."""
        per_index = math.prod(1 if n is None else n for n in self.shape[:-2])
        # areaDetector's frames per point, where the descriptor has the shape of one frame
        return multiplier if multiplier and per_index == 1 else per_index

    @property
    def frames_per_asset(self) -> int | None:
        """Frames behind one datum as the configuration or the shape say; None if neither does."""
        if self.configured_images is not None:
            return self.configured_images
        leading = self.shape[:-2]
        return self.frames_per_index() if leading and None not in leading else None

    @property
    def frames_per_event(self) -> int:
        """Frames of one event, 1 if nothing tells."""
        per_asset = self.frames_per_asset if self.in_assets else None
        return per_asset or self.frames_per_index()

    def _in_order(self) -> tuple[int | None, ...]:
        """Return the shape with rows and columns last; an axis without length is None.

        Assets of old ophyd say [cols, rows, n], with n = 0 where nobody knew it.
        """
        shape = tuple(n if n is None or n > 0 else None for n in self.shape)
        if not self.in_assets or len(shape) != 3:
            return shape
        first, middle, last = shape
        images = self.configured_images
        n_is_last = last is None and first is not None
        n_is_last |= images is not None and last == images and first not in (images, None)
        return (last, middle, first) if n_is_last else shape


def _configured_images(configuration: object, detector: str) -> int | None:
    data = detector_data(configuration, detector)
    names = (f"{detector}_cam_num_images", f"{detector}_num_images", "num_images")
    values = (positive_int(data.get(name)) for name in names)
    return next((value for value in values if value is not None and value <= MOST_FRAMES), None)
