"""Where the frames of a stream_resource are, and why they cannot be read where that is so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from xpcs_live_denoise.errors import short_repr
from xpcs_live_denoise.records.results import (HDF5Frames, TiledFrames)

HDF5_MIMETYPE = "application/x-hdf5"
# Ours: an array in Tiled, with a uri "tiled:<keys from the reading client down to it>".
TILED_MIMETYPE = "application/x-tiled-array"
# What areaDetector's file plugin and ophyd-async call the dataset where the document does not.
DEFAULT_DATASET = "/entry/data/data"
# Parameters of a stream_resource that change which frames an index means.
UNSUPPORTED_PARAMETERS = ("template", "slice")

_Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableFrames(HDF5Frames):
    """Frames that documents announce in a form that cannot be read here.

    They keep their place in the series: a FrameReader raises UnreadableFramesError with `reason`,
    and the caller counts `n_frames` gaps.

    Attributes
    ----------
    reason
        What was got, what was expected, and the remedy.
    """

    reason: str

    @classmethod
    def gap(cls, n_frames: int, reason: str) -> UnreadableFrames:
        """Return as many frames that are in no file."""
        return cls(path="", dataset="", start=0, stop=n_frames, reason=reason)


class StreamResource:
    """One stream_resource document, of today's event model or of before 1.20.

    Attributes
    ----------
    n_announced
        Where the indices end that stream_datum documents have announced; None before the first.
        Its owner keeps it.
    multiplier
        Frames of one index, where the document tells.
    """

    def __init__(self, doc: _Document) -> None:
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
        self._path = _tiled_path(uri) if self._in_tiled else _local_path(uri)
        self._reason = _why_unreadable(mimetype, uri, parameters)

    def continued(self, start: int, stream_datum: _Document, *, is_first: bool) -> int:
        """Return the index from which a stream_datum has news: where the one before it ended.

        The first one of a run (`is_first`) has the `seq_num` 1. Where it has another, those before
        it were lost on their way, but their frames are in the file.
        """
        if self.n_announced is not None:
            return self.n_announced
        seq_nums = stream_datum.get("seq_nums")
        first = positive_int(seq_nums.get("start")) if isinstance(seq_nums, Mapping) else None
        return max(0, start + 1 - first) if is_first and first else start

    def reference(self, start: int, stop: int, frames_per_index: int) -> HDF5Frames | TiledFrames:
        """Return the frames of the indices [start, stop)."""
        if self._in_tiled and not self._reason:
            return TiledFrames(
                path=self._path, start=start * frames_per_index, stop=stop * frames_per_index
            )
        where: dict[str, Any] = {
            "path": self._path,
            "dataset": self._dataset,
            "start": start * frames_per_index,
            "stop": stop * frames_per_index,
            "swmr": self._swmr,
        }
        if self._reason:
            return UnreadableFrames(**where, reason=self._reason)
        return HDF5Frames(**where)


def _why_unreadable(mimetype: str, uri: str, parameters: _Document) -> str:
    """Return why a stream cannot be read here, "" if it can."""
    parts = urlsplit(uri)
    subject = f"Stream resource {_cut(uri)}"
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


def _local_path(uri: str) -> str:
    parts = urlsplit(uri)
    return unquote(parts.path) if parts.scheme == "file" else uri


def _tiled_path(uri: str) -> str:
    return unquote(urlsplit(uri).path).strip("/")


def _cut(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:197]}..."


def positive_int(value: Any) -> int | None:
    """Return a positive whole number, also from text as CHX stores it; None for anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return int(number) if number > 0 and number.is_integer() else None
