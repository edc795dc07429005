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
from xpcs_live_denoise.sources.frame_time import FIRST_EVENTS
from xpcs_live_denoise.sources.streams import OTHER_PURPOSE, stream_rank

from .chosen import ChosenSeries
from .eiger import TiledEigerEvents, event_times

if TYPE_CHECKING:
    from xpcs_live_denoise.catalog import Node

Documents: TypeAlias = Iterator[tuple[str, Document]]
# Of a stream: its name, its node, and its descriptors.
_Found: TypeAlias = "tuple[str, Node, list[Document]]"
ARRAYS = ("array", "sparse")  # families of nodes that hold frames
NO_STOP = "The stored run has no stop document: what took it ended before the run did."


class TiledDocuments:
    """The documents of one run in Tiled, as far as an analysis needs them.

    Reads the metadata of the run and of its streams instead of asking the server for all
    documents: frames that lie in Tiled would come as text. Reading `new_documents` consumes it.

    `stream` is the setting. All streams with the data key are given out.

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
        stream: str | None = None,
        chosen: ChosenSeries | None = None,
    ) -> None:
        self.uid = uid
        self.ended = False
        self._container = container
        self._data_key = data_key
        self._roots = roots
        self._wanted = stream
        self._run: Node = None
        self._streams: dict[str, StoredStream] = {}  # that have the data key, by name
        self._n_others = 0  # descriptors without it that were given out
        self._chosen = chosen
        self._chosen_given = False

    @property
    def ended_before_frames(self) -> bool:
        """Whether the run is over and had no event with frames, under whatever data key."""
        run = self._refreshed()
        if run.metadata.get("stop") is None or not _is_structured(run):
            return False
        found, others = self._image_streams(run)
        keys = [key for descriptor in others for key in descriptor["data_keys"].values()]
        return not found and not any(len(key["shape"]) >= 2 for key in keys)

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
            if not any(stream.n_descriptors for stream in self._streams.values()):
                before += self._descriptors(run) if _is_structured(run) else []
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
        """Return what is new in the streams with the data key: descriptors, frames, events.

        Whoever listens chooses one of the streams; where there is none he can say what the run has
        instead. Frames of a stream that is not likely to be chosen need not be found.
        """
        found, others = self._image_streams(run)
        new: list[tuple[str, Document]] = []
        if self._chosen is not None:
            return self._of_chosen(run, found, self._chosen)
        if not found:
            if over:
                new += [("descriptor", doc) for doc in others[self._n_others :]]
                self._n_others = len(others)
            return new
        start = start_of(run, self.uid)
        ranks = self._ranks(start, found)
        best = min(ranks.values())
        # The most likely first: if it cannot be read yet, nothing of others is consumed.
        for name, node, descriptors in sorted(found, key=lambda entry: ranks[entry[0]]):
            if name not in self._streams:
                self._streams[name] = StoredStream(
                    self.uid, self._data_key, self._roots, number=len(self._streams)
                )
            stream = self._streams[name]
            try:
                new += stream.new_documents(start, node, descriptors, over=over)
            except UnreadableFramesError:
                if ranks[name] == best:
                    raise
                new += stream.new_descriptors(descriptors)
        return new

    def _of_chosen(
        self, run: Node, found: list[_Found], chosen: ChosenSeries
    ) -> list[tuple[str, Document]]:
        """Return the documents of the series that a user named, once."""
        if self._chosen_given:
            return []
        self._chosen_given = True
        ranks = self._ranks(start_of(run, self.uid), found)
        events = TiledEigerEvents(self.uid, self._data_key, self._roots, chosen)
        if not found:
            return events.of_chosen(run.metadata, None, None)
        _, stream, descriptors = min(found, key=lambda entry: ranks[entry[0]])
        return events.of_chosen(run.metadata, stream, descriptors[0])

    def _ranks(self, start: Document, found: list[_Found]) -> dict[str, int]:
        """Return how likely each stream is to be chosen, by name: the lowest most."""
        ranks = {name: stream_rank(name, start, self._wanted) for name, _, _ in found}
        return {name: OTHER_PURPOSE + 1 if rank is None else rank for name, rank in ranks.items()}

    def _descriptors(self, run: Node) -> list[tuple[str, Document]]:
        found, others = self._image_streams(run)
        of_images = [doc for *_, descriptors in found for doc in descriptors]
        return [("descriptor", doc) for doc in of_images or others]

    def _image_streams(self, run: Node) -> tuple[list[_Found], list[Document]]:
        """Return the streams with the data key by their time, and the descriptors of all others."""
        others: list[Document] = []
        found: list[tuple[float, _Found]] = []
        for name in run:
            stream = run[name]
            descriptors = getattr(stream, "descriptors", None)
            if not descriptors:  # somebody's node beside the streams
                continue
            if self._data_key in descriptors[0]["data_keys"]:
                named = [{"name": name, **doc} for doc in descriptors]
                found.append((descriptors[0]["time"], (name, stream, named)))
            else:
                others.extend(descriptors)
        return [entry for _, entry in sorted(found, key=lambda entry: entry[0])], others


class StoredStream:
    """One stream of a stored run that has the data key; reading `new_documents` consumes it.

    `n_descriptors` were given out. `number` tells its frames from those of other streams.
    """

    def __init__(self, uid: str, data_key: str, roots: FileRoots, *, number: int) -> None:
        self.uid = uid
        self.n_descriptors = 0
        self._data_key = data_key
        self._roots = roots
        self._number = number
        self._array: Node = None
        self._n_indices = 0
        self._n_events = 0
        self._resource: Document | None = None
        self._eiger = TiledEigerEvents(uid, data_key, roots)

    def new_documents(
        self, start: Document, stream: Node, descriptors: list[Document], *, over: bool
    ) -> list[tuple[str, Document]]:
        """Return what has come since the last call, in order."""
        key = descriptors[0]["data_keys"][self._data_key]
        node = self._image_node(stream)
        if node is None and not over and str(key.get("external") or "").startswith("FILESTORE"):
            return []  # how the frames are stored is still to come
        family = "array" if node is None else node.structure_family.value
        if family == "bytes":
            frames = self._eiger.new_documents(start, stream, descriptors[0], over=over)
        elif family in ARRAYS:
            descriptors = [_referring(doc, self._data_key) for doc in descriptors]
            frames = [] if node is None else list(self._frames(node, descriptors[0]))
            frames += self._events(stream, descriptors[0], over=over)
        else:
            raise UnreadableFramesError(
                f"Run {self.uid}: {self._data_key!r} is stored as a {family}; expected an array of "
                "frames, or the files of an Eiger. Set `image_key` if another data key has them."
            )
        return [*self.new_descriptors(descriptors), *frames]

    def new_descriptors(self, descriptors: list[Document]) -> list[tuple[str, Document]]:
        """Return the descriptors that have come since the last call."""
        new, self.n_descriptors = descriptors[self.n_descriptors :], len(descriptors)
        return [("descriptor", doc) for doc in new]

    def _events(self, stream: Node, descriptor: Document, *, over: bool) -> Documents:
        """Yield when the events were made, for the time axis: the first few, and at the end all."""
        n_wanted = self._n_indices if over else min(self._n_indices, FIRST_EVENTS)
        if n_wanted <= self._n_events:
            return
        seq_nums, times, stamps = event_times(stream, self._data_key)
        if len(seq_nums) <= self._n_events:
            return
        self._n_events = len(seq_nums)
        yield (
            "event_page",
            {
                "uid": [f"{descriptor['uid']}/{n}" for n in seq_nums],
                "descriptor": descriptor["uid"],
                "seq_num": seq_nums,
                "time": times,
                "data": {},
                "timestamps": {} if stamps is None else {self._data_key: stamps},
            },
        )

    def _image_node(self, stream: Node) -> Node:
        """Return the node with the frames as it is now, None while there is none."""
        if self._array is None:
            if self._data_key not in stream.base:
                return None
            node = stream.base[self._data_key]
            if node.structure_family not in ARRAYS:
                return node
            self._array = node
        else:
            self._array.refresh()
        return self._array

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
            "uid": f"{self.uid}-{self._data_key}-{self._number}",
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
