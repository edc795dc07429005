"""Frames that events announce by the id of a datum: resource and datum documents of one run."""

from __future__ import annotations

import operator
import posixpath
from collections.abc import Mapping
from typing import Any

from event_model import unpack_datum_page

from xpcs_live_denoise.errors import InvalidInputError, short_repr
from xpcs_live_denoise.records.results import (AssetFrames, EigerFrames, FrameReference, HDF5Frames)
from xpcs_live_denoise.sources.image_key import MOST_FRAMES, ImageKey
from xpcs_live_denoise.sources.stream_resources import (
    DEFAULT_DATASET,
    UnreadableFrames,
    positive_int,
)

# Series of a DECTRIS Eiger. The published handler gives the first file's frames for every file.
EIGER_SPECS = frozenset({"AD_EIGER", "AD_EIGER2", "AD_EIGER_SLICE"})
# The published handler fails on its second datum.
SWMR_SPEC = "AD_HDF5_SWMR"
# Datum documents that are kept, the newest; those of other data keys are among them.
MOST_DATUMS = 100_000

_Document = Mapping[str, Any]


class LegacyAssets:
    """The resource and datum documents of a run; `reference` consumes nothing."""

    def __init__(self) -> None:
        self._resources: dict[str, _Document] = {}
        self._datums: dict[str, _Document] = {}

    def resource(self, doc: _Document) -> None:
        """Keep a resource.

        Raises
        ------
        KeyError, TypeError
            When it is malformed.
        """
        _keep(self._resources, doc["uid"], doc)

    def datum_page(self, doc: _Document) -> None:
        """Keep the datums of a page, whether their resource came or not.

        Raises
        ------
        KeyError, TypeError, ValueError, AttributeError
            When it is malformed.
        """
        for datum in list(unpack_datum_page(doc)):  # type: ignore[arg-type]
            _keep(self._datums, datum["datum_id"], datum)

    def datum(self, doc: _Document) -> None:
        """Keep a single datum."""
        _keep(self._datums, doc["datum_id"], doc)

    def reference(self, datum_id: str, key: ImageKey) -> FrameReference | None:
        """Return where the frames of an event are; None while one of their documents is missing.

        Frames whose documents are malformed are `UnreadableFrames`, which say why.
        """
        datum = self._datums.get(datum_id)
        resource = None if datum is None else self._resources.get(datum["resource"])
        if datum is None or resource is None:
            return None
        try:
            return _reference(resource, datum, key)
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            return UnreadableFrames.gap(
                key.frames_per_event,
                f"Datum {short_repr(datum_id)}: its frames cannot be found "
                f"({type(error).__name__}: {short_repr(str(error))}); expected the fields of "
                "the event model and of the spec in its resource and datum.",
            )


def _keep(documents: dict[str, _Document], uid: Any, doc: _Document) -> None:
    if not isinstance(uid, str):
        raise TypeError(f"got the id {short_repr(uid)}, expected text")
    documents[uid] = doc
    if len(documents) > MOST_DATUMS:
        del documents[next(iter(documents))]


def _reference(resource: _Document, datum: _Document, key: ImageKey) -> FrameReference:
    spec, options, where = resource["spec"], resource["resource_kwargs"], datum["datum_kwargs"]
    if not isinstance(spec, str) or not isinstance(resource["resource_path"], str):
        raise TypeError("spec and resource_path must be text")
    path = posixpath.join(str(resource.get("root") or ""), resource["resource_path"])
    if spec in EIGER_SPECS:
        return _eiger_series(path, options, where, key)
    n_frames = positive_int(options.get("frame_per_point")) or key.frames_per_event
    _require_sensible(n_frames)
    if spec == SWMR_SPEC:
        point = _whole(where["point_number"])
        return HDF5Frames(
            path=path,
            dataset=DEFAULT_DATASET,
            start=point * n_frames,
            stop=(point + 1) * n_frames,
            swmr=True,
        )
    return AssetFrames(resource=resource, datum=datum, n_frames=n_frames)


def _eiger_series(path: str, options: _Document, where: _Document, key: ImageKey) -> EigerFrames:
    start, stop, is_whole = 0, key.frames_per_asset, True
    if where.get("frame_num") is not None:  # an event for each frame
        start = _whole(where["frame_num"])
        stop, is_whole = start + 1, False
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


def _require_sensible(n_frames: int) -> None:
    if n_frames > MOST_FRAMES:
        raise InvalidInputError(
            f"got {n_frames} frames behind one datum, expected at most {MOST_FRAMES}"
        )
