"""One raw run in Tiled as documents: what is new since the last look, its frames by reference."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote

from xpcs_live_denoise.catalog import run_node, start_of
from xpcs_live_denoise.errors import ResultNotFoundError, UnreadableFramesError
from xpcs_live_denoise.records.types import Document
from xpcs_live_denoise.sources.assets import (
    HDF5_MIMETYPE,
    TILED_MIMETYPE,
    UNSUPPORTED_PARAMETERS,
    local_path,
)
from xpcs_live_denoise.sources.file_roots import FileRoots

from .chosen import ChosenSeries
from .eiger import TiledEigerEvents

if TYPE_CHECKING:
    from xpcs_live_denoise.catalog import Node

Documents: TypeAlias = Iterator[tuple[str, Document]]
NO_STOP = "The stored run has no stop document: what took it ended before the run did."


class TiledDocuments:
    """The documents of one run in Tiled, as far as an analysis needs them.

    Reads the metadata of the run and of its streams instead of asking the server for all
    documents: frames that lie in Tiled would come as text. Reading `new_documents` consumes it.

    Frames of one HDF5 file that can be read here, below `roots`, and series of an Eiger, are
    referred to there, all others as slices of the array in Tiled. `ended` says whether the stop has
    been given out.

    `chosen` are the series of an Eiger that a user names, one for each event.

    Raises
    ------
    ResultNotFoundError
        From `new_documents`, when there is no run of that whole uid in the container.
    UnreadableFramesError
        From `new_documents`, when Tiled has no frames that can be read and the files are not found.
        Nothing is consumed then, not even the start.
    """

    def __init__(
        self,
        container: Node,
        uid: str,
        *,
        data_key: str,
        roots: FileRoots,
        chosen: ChosenSeries | None = None,
    ) -> None:
        self.uid = uid
        self.ended = False
        self._container = container
        self._data_key = data_key
        self._roots = roots
        self._run: Node = None
        self._array: Node = None
        self._n_descriptors = 0
        self._n_indices = 0
        self._resource: Document | None = None
        self._eiger = TiledEigerEvents(uid, data_key, self._roots, chosen)

    @property
    def ended_before_frames(self) -> bool:
        """Whether the run is over and had no event with frames, under whatever data key."""
        run = self._refreshed()
        if run.metadata.get("stop") is None or not _is_structured(run):
            return False
        stream, others = self._image_stream(run)
        keys = [key for descriptor in others for key in descriptor["data_keys"].values()]
        return stream is None and not any(len(key["shape"]) >= 2 for key in keys)

    def new_documents(self) -> Documents:
        """Yield the documents that have come since the last call, in order."""
        if self.ended:
            return
        run = self._refreshed()
        start, stop = start_of(run, self.uid), run.metadata.get("stop")
        structured = _is_structured(run)
        of_streams = self._of_streams(run, over=stop is not None) if structured else []
        if self._run is None:
            self._run = run
            yield "start", dict(start)
        yield from of_streams
        if stop is None:
            return
        if structured:
            self.ended = True
            yield "stop", dict(stop)
            return
        # Broken off, all of them come again: whoever listens knows documents by their uids.
        yield from (named for named in run.documents() if named[0] != "start")
        self.ended = True

    def give_up(self) -> Documents:
        """Yield what is left, and a stop of our own for a run that has none."""
        yield from self.new_documents()
        yield from self.break_off(NO_STOP)

    def break_off(self, reason: str) -> Documents:
        """Yield a stop of our own that says why, and what must come before it; once."""
        if self.ended:
            return
        before: list[tuple[str, Document]] = []
        with contextlib.suppress(ResultNotFoundError):
            run = self._refreshed()
            if self._run is None:
                before.append(("start", start_of(run, self.uid)))
            if not self._n_descriptors and _is_structured(run):
                before += [("descriptor", doc) for doc in self._image_stream(run)[1]]
        self.ended = True
        yield from before
        stop = {
            "uid": f"{self.uid}-stop",
            "run_start": self.uid,
            "time": time.time(),
            "exit_status": "fail",
            "reason": reason,
        }
        yield "stop", stop

    def _refreshed(self) -> Node:
        # Not `refresh`: a client of a run remembers which streams it has.
        run = run_node(self._container, self.uid)
        whole = start_of(run, self.uid).get("uid")
        if whole != self.uid and str(whole).startswith(self.uid):
            raise ResultNotFoundError(
                f"Run {self.uid}: the beginning of a uid; expected the whole one. Give {whole}."
            )
        return run

    def _of_streams(self, run: Node, *, over: bool) -> list[tuple[str, Document]]:
        stream, descriptors = self._image_stream(run)
        if self._eiger.chosen is not None:
            if self._n_descriptors:
                return []
            self._n_descriptors = 1
            key_known = None if stream is None else descriptors[0]
            return self._eiger.of_chosen(run.metadata, stream, key_known)
        if stream is None:  # whoever listens can then say what the run has instead
            return [("descriptor", doc) for doc in descriptors] if over else []
        key = descriptors[0]["data_keys"][self._data_key]
        node = self._image_node(stream)
        if node is None and not over and str(key.get("external") or "").startswith("FILESTORE"):
            return []  # how the frames are stored is still to come
        family = "array" if node is None else node.structure_family.value
        if family == "bytes":
            frames = self._eiger.new_documents(
                run.metadata["start"], stream, descriptors[0], over=over
            )
        elif family == "array":
            descriptors = [_referring(doc, self._data_key) for doc in descriptors]
            frames = [] if node is None else list(self._frames(node, descriptors[0]))
        else:
            raise UnreadableFramesError(
                f"Run {self.uid}: {self._data_key!r} is stored as a {family}; expected an array of "
                "frames, or the files of an Eiger. Set `image_key` if another data key has them."
            )
        new, self._n_descriptors = descriptors[self._n_descriptors :], len(descriptors)
        return [*(("descriptor", doc) for doc in new), *frames]

    def _image_node(self, stream: Node) -> Node:
        """Return the node with the frames as it is now, None while there is none."""
        if self._array is None:
            if self._data_key not in stream.base:
                return None
            node = stream.base[self._data_key]
            if node.structure_family != "array":
                return node
            self._array = node
        else:
            self._array.refresh()
        return self._array

    def _image_stream(self, run: Node) -> tuple[Node, list[Document]]:
        """Return the first stream with the data key and its descriptors; else None and all."""
        others: list[Document] = []
        found: list[tuple[float, Node, list[Document]]] = []
        for name in run:
            stream = run[name]
            descriptors = getattr(stream, "descriptors", None)
            if not descriptors:  # somebody's node beside the streams
                continue
            if self._data_key in descriptors[0]["data_keys"]:
                found.append((descriptors[0]["time"], stream, descriptors))
            else:
                others.extend(descriptors)
        if not found:
            return None, others
        _, stream, descriptors = min(found, key=lambda entry: entry[0])
        return stream, descriptors

    def _frames(self, array: Node, descriptor: Document) -> Documents:
        n_indices = _n_indices(tuple(array.shape), descriptor["data_keys"][self._data_key]["shape"])
        if n_indices <= self._n_indices:
            return
        if self._resource is None:
            self._resource = self._make_resource(array)
            yield "stream_resource", self._resource
        begin, self._n_indices = self._n_indices, n_indices
        yield (
            "stream_datum",
            {
                "uid": f"{self._resource['uid']}/{begin}",
                "stream_resource": self._resource["uid"],
                "descriptor": descriptor["uid"],
                "indices": {"start": begin, "stop": n_indices},
                "seq_nums": {"start": begin + 1, "stop": n_indices + 1},
            },
        )

    def _make_resource(self, array: Node) -> Document:
        """Return the stream_resource: the file itself if it can be read here, else the array."""
        where = self._file(array) or {
            "mimetype": TILED_MIMETYPE,
            "uri": f"tiled:{quote('/'.join(array.path_parts))}",
            "parameters": {},
        }
        return {
            "uid": f"{self.uid}-{self._data_key}",
            "run_start": self.uid,
            "data_key": self._data_key,
            **where,
        }

    def _file(self, array: Node) -> Document | None:
        sources = array.include_data_sources().data_sources() or []
        if len(sources) != 1 or sources[0].mimetype != HDF5_MIMETYPE or len(array.shape) != 3:
            return None
        source = sources[0]
        uris = [asset.data_uri for asset in source.assets]
        parameters = dict(source.parameters)
        if len(uris) != 1 or any(parameters.get(name) for name in UNSUPPORTED_PARAMETERS):
            return None
        path = local_path(uris[0])
        if path is None:
            return None
        try:
            with self._roots.check(path).open("rb"):
                pass
        except OSError:  # not here, or not ours to read
            return None
        # The array counts frames already, whatever an index of the first documents was.
        for name in ("multiplier", "frame_per_point"):
            parameters.pop(name, None)
        return {"mimetype": HDF5_MIMETYPE, "uri": uris[0], "parameters": parameters}


def _is_structured(run: Node) -> bool:
    """Whether a run lies in Tiled node by node; older catalogs only give out its documents."""
    return any(spec.name == "BlueskyRun" and str(spec.version)[:2] == "3." for spec in run.specs)


def _referring(descriptor: Document, data_key: str) -> Document:
    """Return the descriptor with frames that come as a stream, wherever they came from."""
    keys = descriptor["data_keys"]
    return {
        **descriptor,
        "data_keys": {**keys, data_key: {**keys[data_key], "external": "STREAM:"}},
    }


def _n_indices(array_shape: tuple[int, ...], key_shape: list[int | None]) -> int:
    """Return how many indices of a stream an array holds: the frames of the data key each."""
    leading = [n or 1 for n in key_shape[:-2]]
    return math.prod(array_shape[:-2]) // max(1, math.prod(leading))
