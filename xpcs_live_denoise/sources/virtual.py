"""Virtual HDF5 datasets, as masters of an Eiger hold, resolved to the datasets they are made of."""

from __future__ import annotations

import bisect
import math
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualPart:
    """Frames [start, stop) of a virtual dataset, which are those of another from `first` on.

    `file` and `name` say where that is; `.` is the same file.
    """

    start: int
    stop: int
    first: int
    file: str
    name: str

    def __str__(self) -> str:
        return f"dataset {self.name!r} of {'the same file' if self.file == '.' else self.file}"

    @contextmanager
    def source(self, dataset: h5py.Dataset, frames: range) -> Generator[tuple[h5py.Dataset, range]]:
        """Open the dataset that frames of this part are in, and tell which of its frames they are.

        `dataset` is the virtual one. It is given itself where HDF5 is better asked: where its
        source has frames of another type or shape, or is virtual, too. An OSError or a KeyError
        where the source is not there: HDF5 would give its fill value, which passes for dark frames.
        """
        with self._opened(dataset) as source:
            same = source.dtype == dataset.dtype and source.shape[1:] == dataset.shape[1:]
            if same and not source.is_virtual:
                first = self.first - self.start
                yield source, range(first + frames.start, first + frames.stop)
            else:
                yield dataset, frames

    @contextmanager
    def _opened(self, dataset: h5py.Dataset) -> Generator[h5py.Dataset]:
        if self.file == ".":
            yield _source(dataset.file, self.name)
            return
        folder = os.path.dirname(os.path.realpath(dataset.file.filename))
        path = Path(os.path.join(folder, self.file))
        swmr = bool(dataset.file.swmr_mode)
        try:
            file = open_hdf5(path, swmr=swmr)
        except OSError:  # a series may grow where its master does not, and the other way round
            file = open_hdf5(path, swmr=not swmr)
        with file:
            yield _source(file, self.name)


def parts_of(dataset: h5py.Dataset) -> list[VirtualPart]:
    """Return the parts of a virtual dataset, in the order of its frames.

    None at all where HDF5 is better asked for the frames: where parts are no whole frames, overlap,
    or leave some out, and where the dataset is not virtual.
    """
    if not dataset.is_virtual:
        return []
    try:
        parts = [_part(dataset, one) for one in dataset.virtual_sources()]
        known = sorted((part for part in parts if part is not None), key=lambda part: part.start)
        stops = [0, *(part.stop for part in known)]
        starts = [*(part.start for part in known), dataset.shape[0]]
        complete = len(known) == len(parts) and starts == stops
        return known if complete else []
    except (ValueError, RuntimeError, TypeError):  # HDF5 says what is wrong
        return []


def part_at(parts: list[VirtualPart], frame: int) -> VirtualPart | None:
    """Return the part that a frame is in."""
    number = bisect.bisect_right(parts, frame, key=lambda part: part.start) - 1
    return parts[number] if number >= 0 and frame < parts[number].stop else None


def open_hdf5(path: Path, *, swmr: bool) -> h5py.File:
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


def _part(dataset: h5py.Dataset, source: Any) -> VirtualPart | None:
    """Return a source as whole frames, one behind the other; None where it is something else."""
    here = _frames(source.vspace, dataset.shape[1:])
    if here is None or "%" in source.file_name:
        return None
    is_all = source.src_space.get_select_type() == h5py.h5s.SEL_ALL
    there = range(len(here)) if is_all else _frames(source.src_space, dataset.shape[1:])
    if there is None or len(here) != len(there):
        return None
    return VirtualPart(
        start=here.start,
        stop=here.stop,
        first=there.start,
        file=source.file_name,
        name=source.dset_name,
    )


def _frames(space: Any, shape: tuple[int, ...]) -> range | None:
    """Return which frames a selection holds, whole ones and all between; else None."""
    low, high = space.get_select_bounds()
    if low[1:] != (0,) * len(shape) or high[1:] != tuple(n - 1 for n in shape):
        return None
    frames = range(int(low[0]), int(high[0]) + 1)
    return frames if space.get_select_npoints() == len(frames) * math.prod(shape) else None


def _source(file: h5py.File, name: str) -> h5py.Dataset:
    node = file[name]
    if not isinstance(node, h5py.Dataset):
        raise KeyError(f"{name} is no dataset")
    return node
