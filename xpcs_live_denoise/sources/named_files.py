"""What a file that a person names holds of a series: frames, frame period and geometry."""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np

from xpcs_live_denoise.config import GeometrySettings
from xpcs_live_denoise.errors import InvalidInputError, UnreadableFramesError, text_of
from xpcs_live_denoise.records.frames import Geometry, HDF5Frames, MissingFrames
from xpcs_live_denoise.records.types import Array, BoolArray

from .eiger.files import MASTER, Master, pixel_mask_of, read_master, read_pixel_mask
from .file_roots import FileRoots
from .hdf5 import NOT_YET, require_allowed_data
from .image_files import ImageFiles
from .metadata import find_frame_time, find_geometry
from .virtual import open_hdf5

ANY_FILE = FileRoots(None)  # a person names them, no document
MOST_LISTED = 12
MOST_DEEP = 12  # groups in groups that are looked into
DENOISED = "xpcs_live_denoise_denoised"  # attribute of files that hold denoised images
NUMPY, ZIP = b"\x93NUMPY", b"PK\x03\x04"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Frames that follow one another: a reference, image files, or an array with slices."""

    frames: HDF5Frames | MissingFrames | ImageFiles | Any
    n_frames: int
    # (rows, cols) and how many thresholds a frame has; None of frames that are missing.
    frame_shape: tuple[int, int] | None = None
    n_thresholds: int = 1
    subject: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What one file holds, or several image files do; `notes` are sentences."""

    parts: tuple[Part, ...]
    frame_time_s: float | None = None
    geometry: Geometry = dataclasses.field(default_factory=Geometry)
    bad_pixels: BoolArray | None = None
    notes: tuple[str, ...] = ()


def contents_of(path: Path, dataset: str | None, threshold: int) -> Contents:
    """Return what a file of HDF5 or numpy holds.

    `dataset` names an array of the file. Raises InvalidInputError for a file that cannot be used.
    """
    kind = kind_of(path)
    if kind == "numpy":
        return Contents(parts=(_numpy_part(path, dataset),))
    if path.name.endswith(MASTER) and dataset is None:
        master = read_master(str(path.absolute()).removesuffix(MASTER), ANY_FILE)
        if master is not None and master.numbers():
            return _eiger(path, master, threshold)
    return _hdf5(path, dataset, threshold)


def kind_of(path: Path) -> str:
    """Return "hdf5", "numpy" or "image", by what a file begins with; an InvalidInputError if none.

    A file of HDF5 that is cut off is one all the same.
    """
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise InvalidInputError(
            f"File {path}: cannot be read ({error.strerror or error}). Check the path, and that "
            "this machine may read it."
        ) from error
    if head.startswith((NUMPY, ZIP)):
        return "numpy"
    if head.startswith(b"\x89HDF\r\n\x1a\n") or h5py.is_hdf5(path):
        return "hdf5"
    return "image"


# --- an Eiger's files -------------------------------------------------------------------------


def _eiger(path: Path, master: Master, threshold: int) -> Contents:
    """Return the frames of the data files of a master, a gap in the place of those without."""
    numbers = master.numbers()
    files = {number: _data_part(master, number) for number in range(1, numbers[-1] + 1)}
    good = {number: part for number, part in files.items() if isinstance(part, Part)}
    lacking = [problem for problem in files.values() if not isinstance(problem, Part)]
    if not good:
        raise InvalidInputError(
            f"{path}: none of its {len(files)} data files can be read ({lacking[0]}); expected "
            "them where the master file says. Copy the data files beside the master file."
        )
    each = max(part.n_frames for part in good.values())
    parts: list[Part] = []
    for number in range(1, max(good) + 1):
        part = files[number]
        if not isinstance(part, Part):
            parts.append(missing(each, f"Frames of {path.name}: {part}"))
            continue
        parts.append(part)
        if part.n_frames < each and number < max(good):
            reason = f"{part.subject}: holds {part.n_frames} frames, other files {each}"
            parts.append(missing(each - part.n_frames, reason))
    n_frames = sum(part.n_frames for part in parts)
    notes = [f"Data files of {path.name}: {'; '.join(lacking[:3])}."] if lacking else []
    if master.n_frames and n_frames < master.n_frames:
        notes.append(f"{n_frames} of {master.n_frames} announced frames are there.")
    elif master.n_frames and n_frames > master.n_frames:
        notes.append(
            f"The data files hold {n_frames} frames, the master file tells of {master.n_frames}: "
            "make sure that they are of one series."
        )
    return Contents(
        parts=tuple(parts),
        frame_time_s=master.frame_time_s,
        geometry=master.geometry,
        bad_pixels=read_pixel_mask(path, ANY_FILE, threshold),
        notes=tuple(notes),
    )


def _data_part(master: Master, number: int) -> Part | str:
    """Return the frames of a data file, or why they cannot be had.

    A file of the master's own name counts where the one that it links to is not there: renamed.
    """
    own = Path(f"{master.series}_data_{number:06d}.h5")
    linked, dataset = master.place(number)
    path = linked if linked.exists() or not own.exists() else own
    if not path.exists():
        return f"{path} is missing"
    try:
        with open_hdf5(path, swmr=False) as file:
            if dataset is None or not isinstance(file.get(dataset), h5py.Dataset):
                (dataset, *_) = _chosen(file, path, None).names
            return _hdf5_part(path, file[dataset], dataset)
    except InvalidInputError as error:
        return str(error)
    except NOT_YET as error:
        return f"{path} cannot be read ({text_of(error, 200)}): cut off, or not copied to its end"


def missing(n_frames: int, reason: str) -> Part:
    """Return frames that are not there."""
    return Part(frames=MissingFrames(n_frames=n_frames, reason=reason), n_frames=n_frames)


# --- HDF5 of any layout -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """Datasets that are one series: one, or numbered ones of a group in their order."""

    names: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __str__(self) -> str:
        first, *others = self.names
        more = f" ... {others[-1]}" if others else ""
        return f"{first}{more} {self.shape} {self.dtype}"


def _hdf5(path: Path, name: str | None, threshold: int) -> Contents:
    try:
        with open_hdf5(path, swmr=False) as file:
            chosen = _chosen(file, path, name)
            _refuse_denoised(file, path, chosen)
            parts = tuple(_hdf5_part(path, file[one], one) for one in chosen.names)
            facts = _facts(file)
            bad = pixel_mask_of(file[chosen.names[0]], threshold)
    except (UnreadableFramesError, FileNotFoundError) as error:
        raise InvalidInputError(
            f"File {path}: its frames lie in other files that cannot be read ({text_of(error)}). "
            "Copy these beside it, as it names them."
        ) from error
    except NOT_YET as error:
        raise InvalidInputError(
            f"File {path}: cannot be read ({text_of(error, 300)}); expected a whole file of HDF5. "
            "It is cut off, damaged, or still written: copy it anew."
        ) from error
    here: dict[str, Any] = {key: {"value": value} for key, value in facts.items()}
    frame_time_s = find_frame_time(None, {}, here, None, "")
    geometry = find_geometry(GeometrySettings(), {}, here, None, "")
    series = re.sub(r"_data_\d+\.h5$", "", str(path.absolute()))
    if series != str(path.absolute()) and (master := read_master(series, ANY_FILE)) is not None:
        frame_time_s = frame_time_s or master.frame_time_s
        geometry = geometry.completed(master.geometry)
    return Contents(parts=parts, frame_time_s=frame_time_s, geometry=geometry, bad_pixels=bad)


def _refuse_denoised(file: h5py.File, path: Path, chosen: _Candidate) -> None:
    """Refuse what a filter made of frames: their correlation is that of the filter."""
    if DENOISED in file.attrs and not chosen.names[0].endswith("/measured"):
        raise InvalidInputError(
            f"File {path}: {chosen.names[0]} holds denoised images; expected frames as they were "
            "measured. A filter changes contrast and baseline: take the measured frames, which are "
            "in the dataset `measured` too (dataset=, or --dataset)."
        )


def _hdf5_part(path: Path, dataset: Any, name: str) -> Part:
    n, *thresholds, rows, cols = (int(size) for size in dataset.shape)
    frames: Any = HDF5Frames(path=str(path), dataset=name, start=0, stop=n, swmr=False)
    if dataset.external:
        frames = _of_raw_file(path, dataset)
    else:
        require_allowed_data(dataset.file, dataset.name, ANY_FILE)
    return Part(
        frames=frames,
        n_frames=n,
        frame_shape=(rows, cols),
        n_thresholds=math.prod(thresholds),
        subject=f"{path.name}, {name}",
    )


def _of_raw_file(path: Path, dataset: Any) -> Array:
    """Return the numbers of a dataset that lie in a raw file beside its own.

    HDF5 would look for it where the program was started, and read zeros for what is cut off.
    """
    (raw, offset, _), *others = dataset.external
    there = path.parent / os.fsdecode(raw)
    held = os.stat(there).st_size - offset  # a FileNotFoundError names it
    if others or held < dataset.nbytes:
        raise UnreadableFramesError(
            f"{there} holds {max(0, held)} of {dataset.nbytes} bytes of {dataset.name}"
            f"{', others lie in ' + str(len(others)) + ' more raw files' if others else ''}"
        )
    return np.memmap(there, dataset.dtype, "r", offset, dataset.shape)


def _chosen(file: h5py.File, path: Path, name: str | None) -> _Candidate:
    """Return the datasets of frames: those that are named, the default ones, the only ones."""
    datasets, lost = _datasets(file)
    if name is not None:
        wanted = f"/{name.strip('/')}"
        named = [one for one in datasets if one == wanted or one.endswith(wanted)]
        exact = [one for one in named if one == wanted] or named
        if len(exact) == 1:
            return _one(datasets, (exact[0],))
        raise InvalidInputError(
            f"File {path}: has {len(exact) or 'no'} datasets of frames {name!r}; expected one of: "
            f"{_listed(_candidates(datasets))}. Choose with dataset=, or --dataset."
        )
    found = _candidates(datasets)
    default = _default(file)
    fitting = [one for one in found if default in one.names] or found
    if len(fitting) == 1:
        group = fitting[0].names[0].rpartition("/")[0]
        beside = [where for link, where in lost.items() if link.rpartition("/")[0] == group]
        if beside:
            raise InvalidInputError(
                f"File {path}: frames lie in other files that are missing: {_few(beside)}. Copy "
                "these beside it."
            )
        return fitting[0]
    if not found:
        others = f"; missing are {_few([*lost.values()])}" if lost else ""
        raise InvalidInputError(
            f"File {path}: holds no dataset of frames (n, rows, cols){others}. Expected the "
            "_master.h5 of an Eiger with its data files, or HDF5 with frames."
        )
    raise InvalidInputError(
        f"File {path}: holds {len(found)} datasets that may be frames: {_listed(found)}. Choose "
        "one with dataset=, or --dataset."
    )


def _datasets(file: h5py.File) -> tuple[dict[str, h5py.Dataset], dict[str, str]]:
    """Return what may be frames by its name, and by theirs links to files that are not there."""
    found: dict[str, h5py.Dataset] = {}
    lost: dict[str, str] = {}
    for name, node, link in _walk(file):
        if isinstance(node, h5py.Dataset) and node.ndim in (3, 4) and node.dtype.kind in "buif":
            if node.size:
                found[name] = node
        elif node is None and isinstance(link, h5py.ExternalLink):
            lost[name] = str(link.filename)
    return found, lost


def _walk(file: h5py.File) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, node (None: cannot be opened) and link of all in a file, the outer ones first.

    What links name in other files is looked into, too; a group only once.
    """
    todo: list[tuple[str, h5py.Group]] = [("", file)]
    seen: set[tuple[str, int]] = set()
    while todo:
        prefix, group = todo.pop(0)
        place = (str(group.file.filename), cast("Any", h5py).h5o.get_info(group.id).addr)
        if place in seen or prefix.count("/") > MOST_DEEP:
            continue
        seen.add(place)
        for key in group:
            link = group.get(key, getlink=True)
            try:
                node = group[key]
            except (KeyError, OSError, RuntimeError):
                node = None
            yield f"{prefix}/{key}", node, link
            if isinstance(node, h5py.Group):
                todo.append((f"{prefix}/{key}", node))


def _candidates(datasets: dict[str, h5py.Dataset]) -> list[_Candidate]:
    """Return the series among datasets; what another name of the same place holds counts once."""
    by_place: dict[tuple[str, str], str] = {}
    for name, node in datasets.items():
        by_place.setdefault((str(node.file.filename), str(node.name)), name)
    groups: dict[tuple[Any, ...], list[tuple[int, str]]] = {}
    for name in by_place.values():
        node, match = datasets[name], re.fullmatch(r"(.*?)(\d+)", name)
        stem = (match[1], node.shape[1:], node.dtype) if match else (name,)
        groups.setdefault(stem, []).append((int(match[2]) if match else 0, name))
    found = [_one(datasets, tuple(name for _, name in sorted(names))) for names in groups.values()]
    # A virtual dataset stands for the numbered ones beside it.
    whole = {one.names[0] for one in found if datasets[one.names[0]].is_virtual}
    beside = {f"{name}_" for name in whole}
    return [one for one in found if re.sub(r"\d+$", "", one.names[0]) not in beside]


def _one(datasets: dict[str, h5py.Dataset], names: tuple[str, ...]) -> _Candidate:
    first = datasets[names[0]]
    n = sum(datasets[name].shape[0] for name in names)
    return _Candidate(names=names, shape=(n, *first.shape[1:]), dtype=first.dtype)


def _default(file: h5py.File) -> str:
    """Return the dataset that NeXus calls the default one of a file, "" if it tells none."""
    node: Any = file
    for _ in range(MOST_DEEP):
        step = node.attrs.get("default", node.attrs.get("signal"))
        step = step.decode() if isinstance(step, bytes) else step
        if not isinstance(step, str) or not isinstance(node.get(step), h5py.Group | h5py.Dataset):
            return ""
        name = f"{node.name.rstrip('/')}/{step}"
        node = node[step]
        if isinstance(node, h5py.Dataset):
            return name
    return ""


def _listed(found: Sequence[_Candidate]) -> str:
    return _few([str(one) for one in found]) or "none"


def _few(words: Sequence[str]) -> str:
    more = f" and {len(words) - MOST_LISTED} more" if len(words) > MOST_LISTED else ""
    return ", ".join(words[:MOST_LISTED]) + more


# Units of quantities in files, with their size in the unit that the package has.
_LENGTHS = {"m": 1.0, "mm": 1e-3, "um": 1e-6, "µm": 1e-6, "cm": 1e-2}
_TIMES = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_WAVES = {"angstrom": 1.0, "a": 1.0, "nm": 10.0, "pm": 0.01, "m": 1e10}
_UNITS = {"wavelength": _WAVES, "time": _TIMES, "period": _TIMES}


def _facts(file: h5py.File) -> dict[str, float]:
    """Return the single numbers of a file by the last part of their names, in the usual units."""
    facts: dict[str, float] = {}
    for name, node, _ in _walk(file):
        if not isinstance(node, h5py.Dataset) or node.size != 1 or node.dtype.kind not in "uif":
            continue
        _, parent, key = f"//{name}".rsplit("/", 2)
        key = f"detector_{key}" if key == "distance" and "detector" in parent else key
        unit = node.attrs.get("units", "")
        unit = unit.decode() if isinstance(unit, bytes) else str(unit)
        sizes = next((of for word, of in _UNITS.items() if key.endswith(word)), _LENGTHS)
        size = sizes.get(unit.lower().removesuffix("s") or unit, sizes.get(unit.lower(), 1.0))
        facts.setdefault(key, float(np.asarray(node[()]).ravel()[0]) * size)
    return facts


# --- numpy ------------------------------------------------------------------------------------


def _numpy_part(path: Path, name: str | None) -> Part:
    """Return the array of an .npy file, read from the disk as it is needed, or one of an .npz."""
    try:
        loaded: Any = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(loaded, np.ndarray):
            with loaded:
                names = [one for one in loaded.files if loaded[one].ndim == 3]
                usual = [one for one in names if one == "frames"] or names
                wanted = usual if name is None else [one for one in names if one == name]
                if len(wanted) != 1:
                    raise InvalidInputError(
                        f"File {path}: got the arrays {sorted(loaded.files)}, of which "
                        f"{len(names)} may be frames (n, rows, cols). Choose one with dataset=, or "
                        "--dataset."
                    )
                loaded = loaded[wanted[0]]
    except InvalidInputError:
        raise
    except (ValueError, EOFError, OSError, KeyError) as error:
        raise InvalidInputError(
            f"File {path}: cannot be read ({text_of(error, 300)}); expected whole arrays of "
            "numbers that numpy.save wrote. It is cut off, or holds objects: write it anew."
        ) from error
    loaded = loaded[np.newaxis] if loaded.ndim == 2 else loaded
    if loaded.ndim != 3 or not loaded.size:
        raise InvalidInputError(
            f"File {path}: got shape {loaded.shape}, expected frames (n, rows, cols) or one."
        )
    shape = (loaded.shape[1], loaded.shape[2])
    return Part(frames=loaded, n_frames=len(loaded), frame_shape=shape, subject=path.name)
