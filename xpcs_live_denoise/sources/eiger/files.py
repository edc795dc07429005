"""The files of a DECTRIS series: where frames lie, and how many are there by now."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from xpcs_live_denoise.errors import UnreadableFramesError
from xpcs_live_denoise.records.frames import EigerFrames, Geometry, RoiPixels
from xpcs_live_denoise.records.types import Array, BoolArray
from xpcs_live_denoise.sources.assets import MOST_FRAMES
from xpcs_live_denoise.sources.file_roots import FileRoots
from xpcs_live_denoise.sources.hdf5 import (
    MOST_FRAME_BYTES,
    NOT_YET,
    Patience,
    ThresholdChoice,
    damaged,
    end_of_written,
    may_come,
    require_allowed_data,
)
from xpcs_live_denoise.sources.metadata import in_metres
from xpcs_live_denoise.sources.selection import (
    DamagedChunkError,
    RoiSelection,
    block_end,
    read_frames,
)
from xpcs_live_denoise.sources.virtual import open_hdf5

# Links of a master that are looked at: more files than any series has.
MOST_FILES = 1_000_000
EVERY_FILE = range(1, MOST_FILES)
_DETECTOR = "entry/instrument/detector"
MASTER = "_master.h5"  # behind the path of a series


@dataclass(frozen=True, slots=True, kw_only=True)
class Master:
    """What is known of a series by its master file; of one without it only the name.

    `links` are of data files, by their numbers: path of the file, name of the dataset in it. The
    geometry is as it was entered at the detector; `written_s` is since 1970.
    """

    series: str  # path without "_master.h5"
    links: Mapping[int, tuple[Path, str]] = dataclasses.field(default_factory=dict)
    n_frames: int | None = None
    frame_time_s: float | None = None
    geometry: Geometry = dataclasses.field(default_factory=Geometry)
    written_s: float = 0.0

    def place(self, number: int) -> tuple[Path, str | None]:
        """Return the path of a data file and the dataset in it, None where only its name tells."""
        return self.links.get(number) or (data_path(self.series, number), None)

    def numbers(self) -> list[int]:
        """Return the numbers of the data files that are linked or there, in order."""
        return sorted({*self.links, *later_files(self.series, 0)})

    def later_numbers(self, number: int) -> list[int]:
        """Return the numbers of the data files after `number` that are there, in any order."""
        linked = (n for n in self.links if n > number and os.path.exists(self.place(n)[0]))
        return [*linked, *later_files(self.series, number)]

    def count(self, number: int, roots: FileRoots) -> int | None:
        """Return how many frames a data file holds by now, as `count_written` does."""
        path, dataset = self.place(number)
        return count_written(path, roots, dataset)


def data_path(series: str, number: int) -> Path:
    """Return the path of a data file by its name; they count from 1."""
    return Path(f"{series}_data_{number:06d}.h5")


def read_master(series: str, roots: FileRoots, numbers: range = EVERY_FILE) -> Master | None:
    """Return what the master file tells, with the links to files `numbers`; None if unreadable.

    Outside the roots, an UnreadableFramesError.
    """
    path = Path(series + MASTER)
    if not os.path.exists(path):
        return None
    path = roots.check(path)
    try:
        with open_hdf5(path, swmr=False) as file:
            n_images = _number(file, f"{_DETECTOR}/detectorSpecific/nimages")
            n_triggers = _number(file, f"{_DETECTOR}/detectorSpecific/ntrigger") or 1
            return Master(
                series=series,
                written_s=os.stat(path).st_mtime,
                links=dict(_links(file, path, numbers)),
                n_frames=int(n_images * n_triggers) if n_images else None,
                frame_time_s=_number(file, f"{_DETECTOR}/frame_time"),
                geometry=_geometry(file),
            )
    except (OSError, RuntimeError, KeyError):
        return None


MASKS = tuple(f"{_DETECTOR}/{place}pixel_mask" for place in ("", "detectorSpecific/"))


def read_pixel_mask(path: Path, roots: FileRoots, threshold: int = 1) -> BoolArray | None:
    """Return which pixels a master file marks as bad, (rows, cols); None where it marks none.

    The dataset `pixel_mask` has a number for each pixel, 0 for a good one; or an image for each
    threshold. Outside the roots, an UnreadableFramesError.
    """
    if not os.path.exists(path):
        return None
    path = roots.check(path)
    try:
        with open_hdf5(path, swmr=False) as file:
            each = f"{_DETECTOR}/threshold_{threshold}_channel/pixel_mask"
            for name in (each, *MASKS):
                require_allowed_data(file, name, roots)
                node = file.get(name)
                if isinstance(node, h5py.Dataset) and node.ndim in (2, 3) and node.size:
                    which = () if node.ndim == 2 else min(threshold, len(node)) - 1
                    return np.asarray(node[which]) != 0
    except (OSError, RuntimeError, KeyError):
        return None
    return None


def pixel_mask_of(dataset: object, threshold: int = 1) -> BoolArray | None:
    """Return `pixel_mask_beside` of the file of an h5py dataset; None for what is no dataset."""
    if not isinstance(dataset, h5py.Dataset):
        return None
    return pixel_mask_beside(str(dataset.file.filename), FileRoots(None), threshold)


def pixel_mask_beside(path: str, roots: FileRoots, threshold: int = 1) -> BoolArray | None:
    """Return which pixels a file of frames, or the master beside it, marks as bad; None if none."""
    for one in dict.fromkeys((path, re.sub(r"_data_\d+\.h5$", MASTER, path))):
        with contextlib.suppress(UnreadableFramesError):  # reading the frames says so
            if (mask := read_pixel_mask(Path(one), roots, threshold)) is not None:
                return mask
    return None


def count_written(path: Path, roots: FileRoots, dataset: str | None = None) -> int | None:
    """Return how many frames a data file holds by now; None while it cannot be read.

    Outside the roots, or without any frames, an UnreadableFramesError.
    """
    try:
        size = os.stat(path).st_size
        checked = roots.check(path)
        with open_hdf5(checked, swmr=False) as file:
            found = frames_dataset(file, checked, dataset)
            return end_of_written(found, 0, found.shape[0], size)
    except UnreadableFramesError:
        raise
    except NOT_YET:
        return None


def masters_in(folder: Path) -> list[tuple[str, int]]:
    """Return prefix (a path) and number of every series in a folder that has a master file."""
    try:
        names = os.listdir(folder)
    except OSError:  # made by the detector, perhaps
        return []
    found = (re.fullmatch(r"(.+)_(\d{1,18})_master\.h5", name) for name in names)
    return [(str(folder / match[1]), int(match[2])) for match in found if match]


def later_files(series: str, number: int) -> list[int]:
    """Return the numbers of the data files after `number` that exist, in order."""
    path = Path(series)
    pattern = re.compile(re.escape(path.name) + r"_data_(\d{6,9})\.h5")
    try:
        names = os.listdir(path.parent)
    except OSError:
        return []
    found = (pattern.fullmatch(name) for name in names)
    return sorted(n for match in found if match and (n := int(match[1])) > number)


def _links(file: h5py.File, master: Path, numbers: range) -> Iterator[tuple[int, tuple[Path, str]]]:
    group = file.get("entry/data")
    if not isinstance(group, h5py.Group):
        return
    few = len(numbers) < len(group)
    for name in [f"data_{number:06d}" for number in numbers] if few else group:
        link = group.get(name, getlink=True) if name in group else None
        match = re.fullmatch(r"data_(\d{6,9})", str(name))
        if match and isinstance(link, h5py.ExternalLink):
            yield int(match[1]), (master.parent / link.filename, link.path)


def _geometry(file: h5py.File) -> Geometry:
    """Return the geometry; DECTRIS writes Angstrom, m and pixels, and 0 for what nobody set."""
    row, col = (_number(file, f"{_DETECTOR}/beam_center_{axis}") for axis in "yx")
    distance = _number(file, f"{_DETECTOR}/detector_distance")
    return Geometry(
        beam_center=None if row is None or col is None else (row, col),
        wavelength_angstrom=_number(file, "entry/instrument/beam/incident_wavelength"),
        detector_distance_m=None if distance is None else in_metres(distance),
        pixel_size_m=_number(file, f"{_DETECTOR}/x_pixel_size"),
    )


def _number(file: h5py.File, name: str) -> float | None:
    """Return a positive number from a file, None where there is no such."""
    node = file.get(name)
    if not isinstance(node, h5py.Dataset) or node.size != 1 or node.dtype.kind not in "uif":
        return None
    value = float(node[()].item() if node.shape == () else node[(0,) * node.ndim])
    return value if math.isfinite(value) and value > 0 else None


def frames_dataset(file: h5py.File, path: Path, name: str | None) -> h5py.Dataset:
    """Return the dataset of frames in a data file: the named one, a usual one, the only one."""
    usual = f"entry/data/{'_'.join(path.stem.rsplit('_', 2)[1:])}"  # entry/data/data_000001
    for candidate in (name, "entry/data/data", usual):
        node = file.get(candidate) if candidate else None
        if isinstance(node, h5py.Dataset):
            return _checked(node, path)
    found: list[h5py.Dataset] = []

    def visit(_: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and node.ndim in (3, 4):
            found.append(node)

    file.visititems(visit)
    if len(found) != 1:
        raise EOFError(f"the file holds {len(found)} datasets of frames, not one")
    return _checked(found[0], path)


def _checked(dataset: h5py.Dataset, path: Path) -> h5py.Dataset:
    """Refuse what is no frames, and what lies in another file than the one that was checked."""
    elsewhere = dataset.is_virtual or dataset.external or dataset.file.filename != str(path)
    n_bytes = math.prod(dataset.shape[1:]) * dataset.dtype.itemsize
    frames = dataset.ndim in (3, 4) and dataset.dtype.kind in "buif" and n_bytes <= MOST_FRAME_BYTES
    if elsewhere or not frames:
        raise UnreadableFramesError(
            f"{path}, {dataset.name}: got a dataset of shape {dataset.shape} and dtype "
            f"{dataset.dtype}{' that lies in another file' if elsewhere else ''}; expected frames "
            "of a DECTRIS data file, real numbers of shape (n, rows, cols) or (n, "
            "thresholds, rows, cols)."
        )
    return dataset


def read_eiger(
    reference: EigerFrames,
    max_bytes: int,
    *,
    roots: FileRoots,
    timeout_s: float = 2.0,
    threshold: ThresholdChoice | None = None,
    selection: RoiSelection | None = None,
) -> Iterator[Array | RoiPixels]:
    """Yield the frames of a series in order, as `FrameReader.read` does.

    Data files are found by the master's links, or without a master by their names, and are opened
    one at a time. Without a `stop` the reference means all that the master tells of, or that the
    files hold; open-ended, what the master tells of behind `stop`, too.

    Raises
    ------
    UnreadableFramesError
        `missing_until` is the frame of the series at which the next file begins that is there (the
        reference's stop if there is none), or the next chunk: to go on, read again from there.
    """
    series = _Series(reference, roots, timeout_s, threshold or ThresholdChoice(), selection)
    position = reference.start
    while position < series.stop:
        for block in series.read_file(position, max_bytes):
            position += len(block)
            yield block


class _Series:
    """The files of a series while it is read; the frames that are wanted end at `stop`."""

    def __init__(
        self,
        reference: EigerFrames,
        roots: FileRoots,
        timeout_s: float,
        threshold: ThresholdChoice,
        selection: RoiSelection | None,
    ) -> None:
        name = reference.series
        self._selection = selection
        self._threshold = threshold
        self._roots = roots
        self._patience = Patience(timeout_s, (0.02,))
        self._master = read_master(name, roots, _numbers(reference)) or Master(series=name)
        self._images_per_file = self._find_images_per_file(reference)
        announced = self._announced(reference)
        self.stop = self._held() if announced is None else announced

    def read_file(self, position: int, max_bytes: int) -> Iterator[Array | RoiPixels]:
        """Yield what one data file holds from `position` on; raise if that is not all it should."""
        number = position // self._images_per_file + 1
        first = (number - 1) * self._images_per_file
        end = min(first + self._images_per_file, self.stop)
        while position < end:
            try:
                for block in self._blocks(number, position - first, end - first, max_bytes):
                    position += len(block)
                    self._patience.restart()
                    yield block
                if position < end:
                    raise EOFError(f"the file holds {position - first} frames")
            except NOT_YET as error:
                if not (may_come(error) and self._patience.wait()):
                    raise self._missing(number, position, error) from error

    def _find_images_per_file(self, reference: EigerFrames) -> int:
        """Return the frames of a full file: what the document says, unless a file holds more."""
        announced = reference.images_per_file or 0
        while True:
            found = self._master.count(1, self._roots)
            if announced or found:
                return max(announced, found or 0)
            if not self._patience.wait():
                break
        raise UnreadableFramesError(
            f"Eiger series {reference.series}: its first data file cannot be read, and no document "
            f"tells how many frames a file holds; expected {self._master.place(1)[0]}. Check that "
            "the files are complete and readable from this machine.",
            missing_until=self._announced(reference),
        )

    def _announced(self, reference: EigerFrames) -> int | None:
        """Return where the wanted frames end; None if neither the reference nor the master tell."""
        stop, by_master = reference.stop, self._master.n_frames
        if stop is None or (reference.open_ended and stop < (by_master or 0) <= MOST_FRAMES):
            return by_master
        return stop

    def _held(self) -> int:
        """Return the frames that the files hold."""
        last = max(self._master.later_numbers(0), default=1)
        held = self._master.count(last, self._roots) or 0
        return (last - 1) * self._images_per_file + held

    def _blocks(
        self, number: int, start: int, stop: int, max_bytes: int
    ) -> Iterator[Array | RoiPixels]:
        """Yield frames [start, stop) of one data file, as far as it holds them."""
        path, name = self._master.place(number)
        size = os.stat(path).st_size
        checked = self._roots.check(path)
        with open_hdf5(checked, swmr=False) as file:
            dataset = frames_dataset(file, checked, name)
            stop = min(stop, dataset.shape[0])
            while start < stop:
                end = block_end(dataset, start, stop, max_bytes, self._selection)
                end = end_of_written(dataset, start, end, size)
                if end <= start:
                    raise EOFError(f"the file holds {start} frames")
                place = self._threshold.place(dataset.shape, str(path))
                block = read_frames(dataset, range(start, end), place, self._selection)
                yield block
                start += len(block)

    def _missing(self, number: int, position: int, error: Exception) -> UnreadableFramesError:
        """Return the error that names the file and says where reading can go on."""
        if isinstance(error, DamagedChunkError):
            return damaged(str(self._master.place(number)[0]), position, error)
        later = self._master.later_numbers(number)
        until = min((min(later) - 1) * self._images_per_file if later else self.stop, self.stop)
        path, _ = self._master.place(number)
        reason = "no such file" if isinstance(error, FileNotFoundError) else error
        return UnreadableFramesError(
            f"Eiger series {Path(self._master.series).name}: frames [{position}, {until}) cannot "
            f"be read from {path} ({reason}); expected complete data files. Check that the "
            "detector's files arrive on this machine.",
            missing_until=until,
        )


def _numbers(reference: EigerFrames) -> range:
    """Return the numbers of the data files that a reference needs, as far as it tells."""
    each, stop = reference.images_per_file, reference.stop
    if not each or stop is None or reference.open_ended:
        return EVERY_FILE
    return range(reference.start // each + 1, min((stop - 1) // each + 2, EVERY_FILE.stop))
