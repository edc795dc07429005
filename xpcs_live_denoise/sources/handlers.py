"""Frames of legacy assets, by the handlers that packages register for the specs of resources."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import posixpath
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from xpcs_live_denoise.errors import UnreadableFramesError, short_repr
from xpcs_live_denoise.records.frames import AssetFrames
from xpcs_live_denoise.records.types import Array, Fields

from .assets import DEFAULT_DATASET
from .file_roots import FileRoots
from .hdf5 import Patience, ThresholdChoice, require_allowed_data
from .virtual import open_hdf5

HANDLER_GROUP = "databroker.handlers"
MOST_HANDLERS = 8
# Where the handlers of areaDetector's and of NeXus files read without a document that says so.
USUAL_DATASETS = (DEFAULT_DATASET, "/entry/instrument/detector/data")
_PAUSES_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)

Handler = Callable[..., Any]


class AssetReader:
    """Reads legacy assets as `event_model.Filler` does.

    A handler stays open for the datums of its resource; one that fails is made anew, since most
    of them do not see that their file has grown. `find_handler` returns the handler class of a
    spec, None where there is none; by default it asks the entry points `databroker.handlers`.
    """

    def __init__(
        self,
        *,
        timeout_s: float,
        roots: FileRoots,
        find_handler: Callable[[str], Handler | None] | None = None,
        threshold: ThresholdChoice | None = None,
    ) -> None:
        self._threshold = threshold or ThresholdChoice()
        self._roots = roots
        self._find = find_handler or _by_entry_point
        self._timeout_s = timeout_s
        self._handlers: OrderedDict[tuple[str, str], Any] = OrderedDict()
        self._classes: dict[str, Handler] = {}
        self._failed: set[str] = set()  # resources that are not waited for again
        self._checked: set[tuple[int, int, int, str]] = set()  # datasets of files as they were

    def close(self) -> None:
        """Close every handler."""
        while self._handlers:
            _close(self._handlers.popitem()[1])

    def read(self, reference: AssetFrames, max_bytes: int) -> Iterator[Array]:
        """Yield the frames of one datum in order, as arrays (k, rows, cols).

        What a handler gives lazily (dask) is computed in blocks of at most `max_bytes`. Whatever
        goes wrong is an UnreadableFramesError.
        """
        try:
            frames = self._frames(reference)
            _, rows, cols = frames.shape
            step = max(1, max_bytes // max(1, int(rows) * int(cols) * frames.dtype.itemsize))
            for start in range(0, frames.shape[0], step):
                yield _computed(frames[start : start + step])
        except UnreadableFramesError:
            raise
        except Exception as error:  # a handler is anybody's code
            reason = f"{type(error.__cause__ or error).__name__}: {error.__cause__ or error}"
            raise _unreadable(reference, reason) from error

    def _frames(self, reference: AssetFrames) -> Any:
        self._check_path(reference.resource)
        payload = self._payload(reference)
        frames = payload if hasattr(payload, "dask") else np.asarray(payload)
        if frames.ndim == 2:
            frames = frames[np.newaxis]
        n = reference.n_thresholds
        if n and frames.ndim == 3 and len(frames) == n * reference.n_frames:
            frames = frames.reshape(-1, n, *frames.shape[1:])
        if place := self._threshold.place(frames.shape, _path(reference.resource)):
            frames = frames[:, place[0]]
        if frames.ndim != 3 or frames.dtype.kind not in "buif" or not frames.shape[0]:
            raise _unreadable(
                reference,
                f"its handler gave shape {frames.shape} and dtype {short_repr(frames.dtype)}, "
                "expected real numbers of shape (k, rows, cols)",
            )
        return frames

    def _payload(self, reference: AssetFrames) -> Any:
        """Return what the handler gives, asked again while its file may still come or grow."""
        uid, spec = reference.resource["uid"], reference.resource["spec"]
        handler_class = self._handler_class(reference.resource)
        patience = Patience(0.0 if uid in self._failed else self._timeout_s, _PAUSES_S)
        while True:
            try:
                handler = self._checked_handler(handler_class, reference)
                payload = handler(**reference.datum["datum_kwargs"])
                self._failed.discard(uid)
                return payload
            except (OSError, ValueError, KeyError, IndexError) as error:
                _close(self._handlers.pop((uid, spec), None))
                if isinstance(error, UnreadableFramesError) or not patience.wait():
                    self._failed.add(uid)
                    raise

    def _handler_class(self, resource: Fields) -> Handler:
        spec = resource["spec"]
        if spec not in self._classes:
            found = self._find(spec)
            if found is None:
                raise UnreadableFramesError(
                    f"Resource {short_repr(resource['uid'])}: no handler for the spec "
                    f"{short_repr(spec)}; expected one among the entry points {HANDLER_GROUP!r}. "
                    "Install the package that has it: area-detector-handlers for areaDetector's "
                    "file plugins (pip install area-detector-handlers)."
                )
            self._classes[spec] = found
        return self._classes[spec]

    # --- what may be opened -----------------------------------------------------------------

    def _check_path(self, resource: Fields) -> None:
        """Refuse a resource outside the roots, and file name templates that are a trap."""
        self._roots.inside(_path(resource))
        for value in resource["resource_kwargs"].values():
            if isinstance(value, str) and re.search(r"%[^a-zA-Z]*(\d{4}|\*)", value):
                raise UnreadableFramesError(
                    f"Resource {short_repr(resource['uid'])}: the template {short_repr(value)} "
                    "makes names of absurd length; expected one such as '%s%s_%06d.tif'."
                )

    def _checked_handler(self, handler_class: Handler, reference: AssetFrames) -> Any:
        """Return the handler of a datum whose files, as far as anybody tells them, may be read."""
        resource, path = reference.resource, self._roots.inside(_path(reference.resource))
        is_file = path.exists() and not path.is_dir()
        if is_file:
            self._check_file(path, _datasets(reference))
        key = (resource["uid"], resource["spec"])
        if key not in self._handlers:
            self._handlers[key] = handler_class(_path(resource), **resource["resource_kwargs"])
            while len(self._handlers) > MOST_HANDLERS:
                _close(self._handlers.popitem(last=False)[1])
        self._handlers.move_to_end(key)
        handler = self._handlers[key]
        if not self._roots.restricted:
            return handler
        datasets = _datasets(reference, handler)
        if is_file:
            self._check_file(path, datasets)
        get_file_list = getattr(handler, "get_file_list", lambda _: ())
        for name in get_file_list([reference.datum["datum_kwargs"]]):
            self._check_file(name, datasets)
        return handler

    def _check_file(self, name: str | Path, datasets: list[str]) -> None:
        """Check a file and, of an HDF5 file below roots, the datasets that may be read."""
        path = self._roots.check(name)
        if not self._roots.restricted:
            return
        stat = os.stat(path)
        identity = (stat.st_dev, stat.st_ino, stat.st_mtime_ns)
        new = [dataset for dataset in datasets if (*identity, dataset) not in self._checked]
        if new and h5py.is_hdf5(path):
            with open_hdf5(path, swmr=False) as file:
                for dataset in new:
                    require_allowed_data(file, dataset, self._roots)
            self._checked.update((*identity, dataset) for dataset in new)


def _by_entry_point(spec: str) -> Handler | None:
    for entry_point in importlib.metadata.entry_points(group=HANDLER_GROUP, name=spec):
        try:
            return entry_point.load()
        except ImportError as error:
            raise UnreadableFramesError(
                f"The handler of the spec {short_repr(spec)} ({entry_point.value}) cannot be "
                f"imported ({error}). Install what it needs."
            ) from error
    return None


def _datasets(reference: AssetFrames, handler: object = None) -> list[str]:
    """Return the names of the HDF5 datasets that a handler may read.

    The usual ones, what the documents say (any text in them may be a name), and what the published
    handlers keep as `_key`.
    """
    options = {**reference.resource["resource_kwargs"], **reference.datum["datum_kwargs"]}.values()
    key = getattr(handler, "_key", ())
    names = (*USUAL_DATASETS, *options, *(key if isinstance(key, list | tuple) else (key,)))
    return list(dict.fromkeys(name for name in names if isinstance(name, str)))


def _path(resource: Fields) -> str:
    return posixpath.join(str(resource.get("root") or ""), resource["resource_path"])


def _computed(frames: Any) -> Array:
    # One thread: dask's own take longer to start than a block to read.
    lazy = hasattr(frames, "dask")
    return np.asarray(frames.compute(scheduler="synchronous") if lazy else frames)


def _close(handler: Any) -> None:
    with contextlib.suppress(Exception):  # of anybody's code; there is nothing to lose any more
        getattr(handler, "close", lambda: None)()


def _unreadable(reference: AssetFrames, reason: str) -> UnreadableFramesError:
    resource = reference.resource
    return UnreadableFramesError(
        f"Resource {short_repr(_path(resource))} (spec {short_repr(resource['spec'])}), datum "
        f"{short_repr(reference.datum['datum_kwargs'])}: cannot be read ({reason[:1000]}). Check "
        "that its files are complete and readable from this machine."
    )
