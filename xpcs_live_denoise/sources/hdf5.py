"""Frames out of HDF5 files that may still grow, in blocks of bounded size."""

from __future__ import annotations

import math
import os
import posixpath
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401 - registers the filters of compressed Eiger files

from xpcs_live_denoise.errors import FrameShapeError, UnreadableFramesError, short_repr
from xpcs_live_denoise.records.frames import HDF5Frames, RoiPixels
from xpcs_live_denoise.records.types import Array

from .file_roots import FileRoots
from .selection import DamagedChunkError, RoiSelection, block_end, read_frames
from .virtual import VirtualPart, open_hdf5, part_at, parts_of

MAX_OPEN_FILES = 8
MOST_CHECKED = 64  # datasets
# A dataset whose frames are larger is no detector's.
MOST_FRAME_BYTES = 2**31


# What reading raises while a file is on its way; an EOFError is ours: more may still come.
NOT_YET = (EOFError, OSError, RuntimeError, KeyError)


class Patience:
    """How long announced frames that are not there are waited for; counted anew after each block.

    The longest wait is `timeout_s`; `pauses_s` are the times between two looks, s: before the
    second, the third, ...; the last one goes on.
    """

    def __init__(self, timeout_s: float, pauses_s: tuple[float, ...] = (0.01,)) -> None:
        self._timeout_s = timeout_s
        self._pauses_s = pauses_s
        self.restart()

    def restart(self) -> None:
        """Count anew: frames have come."""
        self._deadline = time.monotonic() + self._timeout_s
        self._n_waits = 0

    def wait(self) -> bool:
        """Sleep until the next look; False, at once, where the time is over."""
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            return False
        time.sleep(min(left_s, self._pauses_s[min(self._n_waits, len(self._pauses_s) - 1)]))
        self._n_waits += 1
        return True


class ThresholdChoice:
    """Which threshold is read of frames (n, thresholds, rows, cols); `chosen` counts from 1.

    `notes` are sentences about what nobody chose.
    """

    def __init__(self, chosen: int | None = None) -> None:
        self.chosen = chosen
        self.notes: list[str] = []

    def place(
        self, shape: tuple[int, ...], subject: str, *, required: bool = False
    ) -> tuple[int, ...]:
        """Return the index behind that of the frame, empty where there is no such axis.

        Nobody having chosen among several, it is the first; or, where that is `required`, an
        UnreadableFramesError, which also a threshold is that is not there.
        """
        if len(shape) != 4:
            return ()
        n, chosen = shape[1], self.chosen or 1
        if n > 1 and self.chosen is None and not required:
            note = (
                f"The frames have {n} thresholds: the first is analysed. Set `threshold` to 1 or "
                "another one."
            )
            self.notes = self.notes or [note]
        elif n > 1 and (self.chosen is None or chosen > n):
            got = "no setting" if self.chosen is None else f"threshold: {chosen}"
            raise UnreadableFramesError(
                f"{subject}: got frames with {n} thresholds, shape {shape}, and {got}; expected "
                f"the setting `threshold`, 1 to {n}"
            )
        return (chosen - 1 if n > 1 else 0,)


class HDF5Reader:
    """Reads frames of HDF5 datasets; files in SWMR mode stay open between reads.

    At most `MAX_OPEN_FILES` of them; a file that was replaced is opened again. Other files are
    opened for each read, since a reader's lock would keep their writer out. A file that has failed
    is not waited for again until it can be read.
    """

    def __init__(
        self, *, timeout_s: float, roots: FileRoots, threshold: ThresholdChoice | None = None
    ) -> None:
        self._timeout_s = timeout_s
        self._roots = roots
        self._threshold = threshold or ThresholdChoice()
        # Path -> the open file, and which file that is.
        self._files: OrderedDict[str, tuple[h5py.File, tuple[int, ...]]] = OrderedDict()
        # Path and dataset -> the file in which its pixels were found to lie where they may, and
        # the parts of it where it is a virtual one.
        self._checked: dict[tuple[str, str], tuple[tuple[int, ...], list[VirtualPart]]] = {}
        self._failed: set[str] = set()

    def close(self) -> None:
        """Close every file that is held open."""
        while self._files:
            self._forget(next(iter(self._files)))

    def read(
        self, reference: HDF5Frames, max_bytes: int, selection: RoiSelection | None = None
    ) -> Iterator[Array | RoiPixels]:
        """Yield the frames in order, as `FrameReader.read` does."""
        position = reference.start
        patience = Patience(0.0 if reference.path in self._failed else self._timeout_s)
        while position < reference.stop:
            try:
                block = self._read_block(reference, position, max_bytes, selection)
            except FrameShapeError:
                raise  # they are there, and are not those of the ROIs
            except (*NOT_YET, ValueError) as error:
                # What is open may be stale: only a file opened anew shows all there is.
                self._forget(reference.path)
                if (waited := may_come(error)) and patience.wait():
                    continue
                if waited:
                    self._failed.add(reference.path)
                raise _unreadable(reference, position, error) from error
            self._failed.discard(reference.path)
            position += len(block)
            yield block
            patience = Patience(self._timeout_s)

    def _read_block(
        self,
        reference: HDF5Frames,
        position: int,
        max_bytes: int,
        selection: RoiSelection | None,
    ) -> Array | RoiPixels:
        """Return the next frames that the file already holds, at least one."""
        file = self._open(reference)
        try:
            parts = self._parts(file, reference)
            dataset = _dataset(file, reference)
            if reference.swmr:
                dataset.refresh()
            frames = range(position, reference.stop)
            part = part_at(parts, position)
            if part is None or reference.n_thresholds:
                return self._read_first(dataset, frames, reference, max_bytes, selection)
            frames = frames[: part.stop - position]
            with part.source(dataset, frames) as (source, there):
                return self._read_first(source, there, reference, max_bytes, selection)
        finally:
            if not reference.swmr:
                file.close()

    def _read_first(
        self,
        dataset: h5py.Dataset,
        frames: range,
        reference: HDF5Frames,
        max_bytes: int,
        selection: RoiSelection | None,
    ) -> Array | RoiPixels:
        """Return the first ones of some frames of a dataset, as many as make a block."""
        # Behind an external link it is another file, which HDF5 has found its own way.
        path = self._roots.check(dataset.file.filename)
        # Frames of several thresholds may lie one after the other.
        n = (reference.n_thresholds or 1) if dataset.ndim == 3 else 1
        position = frames.start
        least = n * math.prod(dataset.shape[-2:]) * dataset.dtype.itemsize
        stop = n * frames.stop
        stop = block_end(dataset, n * position, stop, max(least, max_bytes), selection)
        stop = end_of_written(dataset, n * position, stop, os.stat(path).st_size) // n
        if stop <= position:
            raise EOFError(f"{path.name} holds {min(position, dataset.shape[0])} frames")
        # How many frames an index stands for depends on the choice: it must have been made.
        shape = dataset.shape if n == 1 else (stop, n, *dataset.shape[1:])
        place = self._threshold.place(shape, reference.dataset, required=True)
        if n > 1:
            wanted = range(n * position + place[0], n * stop, n)
            return read_frames(dataset, wanted, selection=selection)
        return read_frames(dataset, range(position, stop), place, selection)

    def _open(self, reference: HDF5Frames) -> h5py.File:
        """Return the file, opened."""
        name, path = reference.path, self._roots.check(reference.path)
        if not reference.swmr:
            return open_hdf5(path, swmr=False)
        identity = _identity(path)
        if name not in self._files or self._files[name][1] != identity:
            self._forget(name)
            self._files[name] = open_hdf5(path, swmr=True), identity
        self._files.move_to_end(name)
        while len(self._files) > MAX_OPEN_FILES:
            self._forget(next(iter(self._files)))
        return self._files[name][0]

    def _parts(self, file: h5py.File, reference: HDF5Frames) -> list[VirtualPart]:
        """Return what a virtual dataset is made of, after `require_allowed_data`."""
        key = (reference.path, reference.dataset)
        identity = _identity(file.filename, at_rest=not reference.swmr)
        if key in self._checked and self._checked[key][0] == identity:
            return self._checked[key][1]
        require_allowed_data(file, reference.dataset, self._roots)
        node = file.get(reference.dataset)
        if not isinstance(node, h5py.Dataset):
            return []
        parts = parts_of(node)
        if node.file.filename == file.filename:  # another one may change meanwhile
            if len(self._checked) >= MOST_CHECKED:
                self._checked.clear()
            self._checked[key] = identity, parts
        return parts

    def _forget(self, path: str) -> None:
        for key in [key for key in self._checked if key[0] == path]:
            del self._checked[key]
        if path in self._files:
            self._files.pop(path)[0].close()


def _identity(path: str | Path, *, at_rest: bool = False) -> tuple[int, ...]:
    """Return which file that is; of one at rest also when it was written."""
    stat = os.stat(path)
    return (stat.st_dev, stat.st_ino, *((stat.st_mtime_ns, stat.st_size) if at_rest else ()))


def _dataset(file: h5py.File, reference: HDF5Frames) -> h5py.Dataset:
    """Return the dataset of a reference; one of a shape that cannot hold frames is refused."""
    node = file.get(reference.dataset)
    if node is None:
        raise EOFError(f"the file has no such dataset, at its top are {sorted(file)}")
    if (
        not isinstance(node, h5py.Dataset)
        or node.ndim not in (3, 4)
        or node.dtype.kind not in "buif"
    ):
        got = (
            f"a dataset of shape {node.shape} and dtype {node.dtype}"
            if isinstance(node, h5py.Dataset)
            else f"a {type(node).__name__.lower()}"
        )
        raise UnreadableFramesError(
            f"got {got}; expected frames, real numbers of shape (n, rows, cols). Correct the "
            "dataset in the detector's documents"
        )
    if math.prod(node.shape[1:]) * node.dtype.itemsize > MOST_FRAME_BYTES:
        raise UnreadableFramesError(
            f"got frames of shape {node.shape[1:]}, expected at most {MOST_FRAME_BYTES} bytes each"
        )
    return node


def end_of_written(dataset: h5py.Dataset, position: int, stop: int, file_bytes: int) -> int:
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
        chunk = dataset.id.get_chunk_info_by_coord((first, *(0,) * (dataset.ndim - 1)))
        if chunk.byte_offset is None or chunk.byte_offset + chunk.size > file_bytes:
            return first
    return stop


def may_come(error: Exception) -> bool:
    """Whether what could not be read may be there a moment later."""
    if isinstance(error, DamagedChunkError):
        return error.may_come
    return not isinstance(error, UnreadableFramesError)


def damaged(subject: str, position: int, error: DamagedChunkError) -> UnreadableFramesError:
    """Return the error for the frames of a chunk, of which the first is the `position`-th."""
    return UnreadableFramesError(
        error.sentence(subject, position), missing_until=position + error.n_frames
    )


def _unreadable(reference: HDF5Frames, position: int, error: Exception) -> UnreadableFramesError:
    path, dataset = reference.path[:500], reference.dataset[:200]
    if isinstance(error, DamagedChunkError):
        return damaged(f"{path}, dataset {dataset!r}", position, error)
    reason = str(error)[:1000].rstrip(".")
    return UnreadableFramesError(
        f"{path}, dataset {dataset!r}: frames [{position}, {reference.stop}) cannot be read "
        f"({reason}); expected them in the file, since a document announced them. Check that the "
        "file is complete, readable from this machine, and written in SWMR mode if it still grows."
    )


# Links that follow one another, within a file and from file to file.
MOST_LINKS = 16


def require_allowed_data(
    file: h5py.File, name: str, roots: FileRoots, *, n_left: int = MOST_LINKS
) -> None:
    """Make sure that reading a dataset opens only files that documents may name.

    External links and the sources of a virtual dataset must be regular files below the roots, all
    the way; raw storage outside of HDF5 is refused always. A dataset that does not exist (yet)
    passes. `n_left`: links that may still follow.

    Pixels elsewhere are an UnreadableFramesError; a file that is referred to and not there (yet),
    for which HDF5 would read zeros, is a FileNotFoundError.
    """
    if n_left <= 0:
        raise UnreadableFramesError(
            f"{file.filename}, {short_repr(name)}: got more than {MOST_LINKS} links, one behind "
            "the other; expected the dataset"
        )
    if (link := _external_link(file, name)) is not None:
        _follow(file, *link, roots, n_left)  # with the rest of the name, in there
        return
    try:
        node = file.get(name)
    except (KeyError, ValueError, RuntimeError, OSError):  # not there (yet)
        return
    if isinstance(node, h5py.Dataset):
        _require_sources(file, node, roots, n_left)


def _external_link(file: h5py.File, name: str) -> tuple[str, str] | None:
    """Return (file, path in it) of the first external link on the way to a dataset."""
    todo = [part for part in name.split("/") if part]
    here = "/"
    n_left = MOST_LINKS
    while todo:
        step = posixpath.join(here, todo.pop(0))
        try:
            link = file.get(step, getlink=True)
        except (KeyError, ValueError, RuntimeError, TypeError):  # not there (yet), or nobody's kind
            return None
        if isinstance(link, h5py.ExternalLink):
            return link.filename, posixpath.join(link.path, *todo)
        if isinstance(link, h5py.SoftLink):
            n_left -= 1
            if n_left <= 0:
                raise UnreadableFramesError(f"{file.filename}, {short_repr(name)}: links in a ring")
            target = posixpath.join(here, link.path)
            todo, here = [part for part in target.split("/") if part] + todo, "/"
        else:
            here = step
    return None


def _require_sources(file: h5py.File, node: h5py.Dataset, roots: FileRoots, n_left: int) -> None:
    """Check what a dataset is made of."""
    subject = f"{file.filename}, {short_repr(node.name)}"
    if node.external:
        raise UnreadableFramesError(
            f"{subject}: its pixels are raw bytes in {short_repr(node.external[0][0])}; expected "
            "them in an HDF5 file. Let the detector write HDF5 without external storage"
        )
    if not node.is_virtual:
        return
    sources = {(source.file_name, source.dset_name) for source in node.virtual_sources()}
    if len(sources) > 1 and n_left < MOST_LINKS - 4:
        raise UnreadableFramesError(f"{subject}: virtual datasets of virtual datasets, too deep")
    for there, dataset in sources:
        if there == ".":
            require_allowed_data(file, dataset, roots, n_left=n_left - 1)
            continue
        if "%" in there:
            raise UnreadableFramesError(
                f"{subject}: a virtual dataset whose files are a pattern, {short_repr(there)}; "
                "expected files by their names"
            )
        _follow(file, there, dataset, roots, n_left)


def _follow(file: h5py.File, there: str, name: str, roots: FileRoots, n_left: int) -> None:
    """Check a file that another one names (relative to that one, as HDF5 does) and what is in it.

    Without roots every regular file may be read, whatever it refers to.
    """
    path = roots.check(os.path.join(os.path.dirname(os.path.realpath(file.filename)), there))
    if not roots.restricted:
        return
    try:
        linked = open_hdf5(path, swmr=False)
    except OSError:  # its writer has it open in SWMR mode
        linked = open_hdf5(path, swmr=True)
    with linked:
        require_allowed_data(linked, name, roots, n_left=n_left - 1)
