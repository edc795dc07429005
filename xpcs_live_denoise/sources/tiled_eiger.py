"""A classic Eiger's run in Tiled as the documents that it had: resource, datums and events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from xpcs_live_denoise.errors import UnreadableFramesError, short_repr
from xpcs_live_denoise.sources.file_roots import FileRoots
from xpcs_live_denoise.sources.image_key import ImageKey
from xpcs_live_denoise.sources.legacy_assets import EIGER_SPECS
from xpcs_live_denoise.sources.stored_eiger import (
    StoredEvents,
    StoredSeries,
    images_per_file,
    series_of_events,
)

_SPECS = ", ".join(sorted(EIGER_SPECS))
# Names of the table with the events of a stream; the second where it has very many columns.
_TABLES = ("internal", "internal_0")


class TiledEigerEvents:
    """The events of one stream whose frames an Eiger wrote; reading `news` consumes it.

    Parameters
    ----------
    uid
        The run.
    data_key
        The data key that holds the frames.
    roots
        Where files may be read.
    """

    def __init__(self, uid: str, data_key: str, roots: FileRoots) -> None:
        self._uid = uid
        self._data_key = data_key
        self._roots = roots
        self._given: list[str] = []  # series of the events that were given out
        self._resources: dict[str, str] = {}  # by prefix

    def news(
        self, start: Mapping[str, Any], stream: Any, descriptor: Mapping[str, Any], *, over: bool
    ) -> list[tuple[str, dict[str, Any]]]:
        """Return the documents of the events that have come since the last call, in order.

        Parameters
        ----------
        start
            The run's start document.
        stream
            Tiled client of the stream.
        descriptor
            Its first descriptor.
        over
            Whether the run has ended: what cannot be told by then never will be.

        Raises
        ------
        UnreadableFramesError
            When the run is over and its series cannot be found.
        """
        events = _events_in(stream)
        if len(events) <= len(self._given):
            return []
        try:
            stored = self._stored(start, stream, descriptor, events)
            found = series_of_events(stored, self._roots)
            if [series.name for series in found[: len(self._given)]] != self._given:
                raise UnreadableFramesError(
                    f"{stored.subject}: its first series were {', '.join(self._given)}, and now "
                    f"{', '.join(series.name for series in found)} fit; expected the same ones. "
                    "Compute it again with: xpcs-live-denoise replay"
                )
        except UnreadableFramesError:
            if over:
                raise
            return []  # files and metadata may still come
        documents: list[tuple[str, dict[str, Any]]] = []
        for series, event in list(zip(found, events, strict=True))[len(self._given) :]:
            documents += self._documents(series, event, descriptor)
        self._given = [series.name for series in found]
        return documents

    def _stored(
        self,
        start: Mapping[str, Any],
        stream: Any,
        descriptor: Mapping[str, Any],
        events: list[tuple[int, float]],
    ) -> StoredEvents:
        node = stream.base[self._data_key]
        subject = f"Run {self._uid}, {self._data_key}"
        sources = node.include_data_sources().data_sources() or []
        spec = node.metadata.get("spec")
        # TiledWriter adds it at the end of the run.
        if spec is not None and spec not in EIGER_SPECS:
            raise UnreadableFramesError(
                f"{subject}: stored as a file of the spec {short_repr(spec)} that Tiled cannot "
                f"read; expected an array, or a series of an Eiger ({_SPECS}). Give TiledWriter "
                "the mimetype of the spec (spec_to_mimetype)."
            )
        uris = dict.fromkeys(asset.data_uri for source in sources for asset in source.assets)
        return StoredEvents(
            subject=subject,
            prefixes=tuple(_path(uri, subject) for uri in uris),
            began_s=float(start["time"]),
            times_s=tuple(sorted(time for _, time in events)),
            n_images=_n_images(descriptor, self._data_key),
        )

    def _documents(
        self, series: StoredSeries, event: tuple[int, float], descriptor: Mapping[str, Any]
    ) -> list[tuple[str, dict[str, Any]]]:
        """Return what the detector said of one event; the uids are ours."""
        documents: list[tuple[str, dict[str, Any]]] = []
        if series.prefix not in self._resources:
            uid = f"{self._uid}-{self._data_key}-{len(self._resources)}"
            self._resources[series.prefix] = uid
            each = images_per_file(series, self._roots)
            resource = {
                "uid": uid,
                "run_start": self._uid,
                "spec": "AD_EIGER2",
                "root": "/",
                "resource_path": series.prefix.lstrip("/"),
                "resource_kwargs": {} if each is None else {"images_per_file": each},
                "path_semantics": "posix",
            }
            documents.append(("resource", resource))
        resource_uid, (seq_num, time) = self._resources[series.prefix], event
        datum_id = f"{resource_uid}/{series.sequence_id}"
        datum = {
            "datum_id": datum_id,
            "resource": resource_uid,
            "datum_kwargs": {"seq_id": series.sequence_id},
        }
        read = {
            "uid": f"{datum_id}/{seq_num}",
            "descriptor": descriptor["uid"],
            "seq_num": seq_num,
            "time": time,
            "data": {self._data_key: datum_id},
            "timestamps": {self._data_key: time},
            "filled": {self._data_key: False},
        }
        return [*documents, ("datum", datum), ("event", read)]


def _events_in(stream: Any) -> list[tuple[int, float]]:
    """Return (seq_num, time) of each event in order; a row that was written twice counts once."""
    name = next((name for name in _TABLES if name in stream.base), None)
    if name is None:
        return []
    table = stream.base[name].read(["seq_num", "time"])
    rows = zip(table["seq_num"].tolist(), table["time"].tolist(), strict=True)
    return list(dict.fromkeys((int(seq_num), float(time)) for seq_num, time in rows))


def _path(uri: str, subject: str) -> str:
    try:
        parts = urlsplit(uri)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or not parts.path:
        raise UnreadableFramesError(
            f"{subject}: stored as {short_repr(uri)}; expected a local file, file://localhost/... "
            "Run the analysis where the file system with the frames is mounted."
        )
    return unquote(parts.path)


def _n_images(descriptor: Mapping[str, Any], data_key: str) -> int | None:
    """Return the frames of one trigger as the descriptor tells, None where it does not."""
    detector = descriptor["data_keys"][data_key].get("object_name") or data_key
    try:
        return ImageKey.of(descriptor, data_key, detector).frames_per_asset
    except (LookupError, TypeError, ValueError):  # its reader says so, of the descriptor itself
        return None
