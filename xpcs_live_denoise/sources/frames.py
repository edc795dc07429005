"""From references to frames to bounded blocks of pixels, out of HDF5 files that still grow."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - registers the filters of compressed Eiger files
from numpy.typing import NDArray

from xpcs_live_denoise.errors import UnreadableFramesError
from xpcs_live_denoise.records import FrameReference, HDF5Frames, InlineFrames
from xpcs_live_denoise.sources.stream_resources import UnreadableFrames

POLL_S = 0.01
MAX_OPEN_FILES = 8


@dataclass(frozen=True, slots=True)
class _OpenFile:
    file: h5py.File
    identity: tuple[int, int]


class _NotYetError(Exception):
    """The frames are not there now, but a writer may still bring them."""


class FrameReader:
    """Reads the frames behind references; a `records.FrameSource`.

    Files in SWMR mode stay open between reads (0.1 ms a read instead of 2.5 ms) until `close` or
    until `MAX_OPEN_FILES` others were read; a file that was replaced is opened again. Other files
    are opened for each read, since a reader's lock would keep their writer out. Used from one
    thread.

    Parameters
    ----------
    timeout_s
        How long to wait for announced frames that the file does not show yet, s. Counted anew
        after every frame that came. A file that has failed is not waited for again until it can
        be read.

    Raises
    ------
    UnreadableFramesError
        From `read`; names the file, the dataset, what was got, what was expected, the remedy.
    """

    def __init__(self, *, timeout_s: float = 2.0) -> None:
        self._timeout_s = timeout_s
        self._files: OrderedDict[str, _OpenFile] = OrderedDict()
        self._failed: set[str] = set()

    def read(self, reference: FrameReference, max_bytes: int) -> Iterator[NDArray[Any]]:
        """Yield the frames of `reference` in order, as arrays (k, rows, cols).

        Parameters
        ----------
        reference
            Inline frames are yielded as views.
        max_bytes
            Most bytes of a block; a single frame may be larger.

        Raises
        ------
        UnreadableFramesError
            When frames cannot be read; those yielded before are good.
        """
        if isinstance(reference, InlineFrames):
            yield from _split(reference.frames, max_bytes)
        elif isinstance(reference, UnreadableFrames):
            raise UnreadableFramesError(reference.reason)
        else:
            yield from self._read_file(reference, max_bytes)

    def close(self) -> None:
        """Close every file that is held open."""
        while self._files:
            self._files.popitem()[1].file.close()

    def _read_file(self, reference: HDF5Frames, max_bytes: int) -> Iterator[NDArray[Any]]:
        position = reference.start
        patience_s = 0.0 if reference.path in self._failed else self._timeout_s
        deadline = time.monotonic() + patience_s
        while position < reference.stop:
            try:
                block = self._read_block(reference, position, max_bytes)
            except (_NotYetError, OSError, RuntimeError, KeyError) as error:
                # What is open may be stale: only a file opened anew shows all there is.
                self._forget(reference.path)
                if isinstance(error, UnreadableFramesError):
                    raise
                if time.monotonic() >= deadline:
                    self._failed.add(reference.path)
                    raise _unreadable(reference, position, error) from error
                time.sleep(POLL_S)
                continue
            self._failed.discard(reference.path)
            position += len(block)
            yield block
            deadline = time.monotonic() + self._timeout_s

    def _read_block(self, reference: HDF5Frames, position: int, max_bytes: int) -> NDArray[Any]:
        """Return the next frames that the file already holds, at least one."""
        file = self._open(reference)
        try:
            dataset = _dataset(file, reference)
            if reference.swmr:
                dataset.refresh()
            stop = _block_end(dataset, position, reference.stop, max_bytes)
            stop = _end_of_written(dataset, position, stop, os.stat(reference.path).st_size)
            if stop <= position:
                raise _NotYetError(f"the dataset holds {min(position, dataset.shape[0])} frames")
            return dataset[position:stop]
        finally:
            if not reference.swmr:
                file.close()

    def _open(self, reference: HDF5Frames) -> h5py.File:
        path = reference.path
        if not reference.swmr:
            return _open_hdf5(path, swmr=False)
        stat = os.stat(path)
        identity = (stat.st_dev, stat.st_ino)
        known = self._files.get(path)
        if known is not None and known.identity == identity:
            self._files.move_to_end(path)
            return known.file
        self._forget(path)
        file = _open_hdf5(path, swmr=True)
        self._files[path] = _OpenFile(file, identity)
        while len(self._files) > MAX_OPEN_FILES:
            self._files.popitem(last=False)[1].file.close()
        return file

    def _forget(self, path: str) -> None:
        known = self._files.pop(path, None)
        if known is not None:
            known.file.close()


def _open_hdf5(path: str, *, swmr: bool) -> h5py.File:
    """Open a file for reading, also one that this process has open for writing.

    Within a process, HDF5 refuses a second opening whose locking differs from the first one's, so
    the ways of locking are tried in turn. A lock that another process holds is no such refusal: it
    says that the file is not ready.
    """
    try:
        return h5py.File(path, "r", swmr=swmr)
    except OSError as error:
        refusal = error
    for locking in (False, True):
        if "locking" not in str(refusal):
            break
        try:
            return h5py.File(path, "r", swmr=swmr, locking=locking)
        except OSError as error:
            refusal = error
    raise refusal


def _dataset(file: h5py.File, reference: HDF5Frames) -> h5py.Dataset:
    """Return the dataset of a reference; one of a shape that cannot hold frames is refused."""
    node = file.get(reference.dataset)
    if node is None:
        raise _NotYetError(f"the file has no such dataset, at its top are {sorted(file)}")
    if not isinstance(node, h5py.Dataset) or node.ndim != 3 or node.dtype.kind not in "buif":
        got = (
            f"a dataset of shape {node.shape} and dtype {node.dtype}"
            if isinstance(node, h5py.Dataset)
            else f"a {type(node).__name__.lower()}"
        )
        raise UnreadableFramesError(
            f"{reference.path}, {reference.dataset}: got {got}; expected frames, real numbers of "
            "shape (n, rows, cols). Correct the dataset in the detector's documents."
        )
    return node


def _block_end(dataset: h5py.Dataset, position: int, stop: int, max_bytes: int) -> int:
    """Return where a block of at most `max_bytes` ends, if possible at the end of a chunk."""
    _, rows, cols = dataset.shape
    end = min(stop, position + max(1, max_bytes // max(1, rows * cols * dataset.dtype.itemsize)))
    frames_per_chunk = dataset.chunks[0] if dataset.chunks else 1
    aligned = end // frames_per_chunk * frames_per_chunk
    # A compressed chunk that is read in two parts is decompressed twice.
    return aligned if end < stop and aligned > position else end


def _end_of_written(dataset: h5py.Dataset, position: int, stop: int, file_bytes: int) -> int:
    """Return where the frames from `position` on, before `stop`, end that are in the file.

    A dataset may be longer than what was written (allocated in advance, or cut off when the writer
    died); HDF5 reads the rest as zeros, which would pass for dark frames.
    """
    stop = min(stop, dataset.shape[0])
    if not dataset.chunks or dataset.is_virtual:
        offset = None if dataset.is_virtual else dataset.id.get_offset()
        return stop if offset is None or offset + dataset.nbytes <= file_bytes else position
    step = dataset.chunks[0]
    for first in range(position // step * step, stop, step):
        chunk = dataset.id.get_chunk_info_by_coord((first, 0, 0))
        if chunk.byte_offset is None or chunk.byte_offset + chunk.size > file_bytes:
            return first
    return stop


def _split(frames: NDArray[Any], max_bytes: int) -> Iterator[NDArray[Any]]:
    step = max(1, max_bytes // max(1, frames[:1].nbytes))
    for start in range(0, len(frames), step):
        yield frames[start : start + step]


def _unreadable(reference: HDF5Frames, position: int, error: Exception) -> UnreadableFramesError:
    return UnreadableFramesError(
        f"{reference.path}, dataset {reference.dataset!r}: frames [{position}, {reference.stop}) "
        f"cannot be read ({error}); expected them in the file, since a document announced them. "
        "Check that the file is complete, readable from this machine, and written in SWMR mode "
        "if it still grows."
    )
