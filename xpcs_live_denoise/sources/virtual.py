"""Virtual HDF5 datasets, as masters of an Eiger hold, resolved to the datasets they are made of."""

from __future__ import annotations

import math
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
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

    @contextmanager
    def opened(self, dataset: h5py.Dataset) -> Generator[h5py.Dataset]:
        """Open the dataset that the frames are in; `dataset` is the virtual one."""
        if self.file == ".":
            yield _source(dataset.file, self.name)
            return
        folder = os.path.dirname(os.path.realpath(dataset.file.filename))
        with h5py.File(os.path.join(folder, self.file), "r") as file:
            yield _source(file, self.name)


def parts_of(dataset: h5py.Dataset) -> list[VirtualPart]:
    """Return the parts of a virtual dataset, in the order of its frames.

    None at all where HDF5 is better asked for the frames: where parts are missing, are no whole
    frames of the same type, overlap, or leave some out, and where the dataset is not virtual.
    """
    if not dataset.is_virtual:
        return []
    try:
        parts = [_part(dataset, one) for one in dataset.virtual_sources()]
        known = sorted((part for part in parts if part is not None), key=lambda part: part.start)
        stops = [0, *(part.stop for part in known)]
        starts = [*(part.start for part in known), dataset.shape[0]]
        complete = len(known) == len(parts) and starts == stops
        return known if complete and all(_fits(dataset, part) for part in known) else []
    except (OSError, KeyError, ValueError, RuntimeError, TypeError):  # HDF5 says what is wrong
        return []


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


def _fits(dataset: h5py.Dataset, part: VirtualPart) -> bool:
    with part.opened(dataset) as source:
        n_there = part.first + part.stop - part.start
        return (
            not source.is_virtual  # nor made of itself
            and source.dtype == dataset.dtype
            and source.shape[1:] == dataset.shape[1:]
            and source.shape[0] >= n_there
        )


def _source(file: h5py.File, name: str) -> h5py.Dataset:
    node = file[name]
    if not isinstance(node, h5py.Dataset):
        raise KeyError(f"{name} is no dataset")
    return node
