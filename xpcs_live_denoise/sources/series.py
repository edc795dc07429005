"""One series of frames that a person names: files, a folder, or an array in Tiled."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import re
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from xpcs_live_denoise.config import GeometrySettings
from xpcs_live_denoise.errors import FrameShapeError, InvalidInputError, UnreadableFramesError
from xpcs_live_denoise.records.frames import (
    FrameReference,
    Geometry,
    HDF5Frames,
    MissingFrames,
    RoiPixels,
    TiledFrames,
)
from xpcs_live_denoise.records.types import Array

from .documents import plain_document
from .eiger.files import MASTER
from .frames import FrameReader, read_tiled, read_with_gaps
from .hdf5 import ThresholdChoice
from .image_files import IMAGES, ImageFiles, in_order, with_gaps
from .image_headers import header_facts
from .metadata import find_frame_time, find_geometry
from .named_files import ANY_FILE, Contents, Part, contents_of, kind_of, missing
from .reading_thread import read_ahead
from .selection import RoiSelection, select_frames

if TYPE_CHECKING:
    from xpcs_live_denoise.catalog import Node

MOST_NOTES = 5  # gaps that are named
Name: TypeAlias = str | os.PathLike[str]


class StoredSeries:
    """Frames that lie in files or in Tiled, with what is known beside them.

    Its state is how far it was read: what could not be is a gap, and `notes` say so.

    Attributes
    ----------
    subject
        What to call it: the name of its first file.
    contents
        Frames, frame period and geometry as files tell them.
    frame_shape, n_frames
        (rows, cols); frames, gaps included.
    """

    def __init__(
        self,
        subject: str,
        contents: Contents,
        *,
        threshold: int | None,
        tiled: Any = None,
    ) -> None:
        parts = [part for part in contents.parts if part.frame_shape is not None]
        shapes = {part.frame_shape: part.subject for part in parts}
        if len(shapes) > 1:
            words = "; ".join(f"{where}: {shape}" for shape, where in shapes.items())
            raise InvalidInputError(
                f"{subject}: got frames of several shapes (rows, cols): {words}. Expected files of "
                "one series: take out those of another series or detector."
            )
        self.subject, self.contents = subject, contents
        self.frame_shape = cast("tuple[int, int]", parts[0].frame_shape)
        self.n_frames = sum(part.n_frames for part in contents.parts)
        several = max(part.n_thresholds for part in parts)
        self._notes = [*contents.notes]
        if several > 1 and threshold is None:
            self._notes.append(
                f"The frames have {several} thresholds: the first is analysed. Set `threshold` to "
                "1 or another one."
            )
        self._threshold = ThresholdChoice(threshold or 1)
        self._reader = FrameReader(
            roots=ANY_FILE, timeout_s=0.0, threshold=threshold or 1, tiled=tiled
        )
        self._n_gaps = 0

    @property
    def notes(self) -> list[str]:
        """A sentence for what a user should know, and for the first gaps."""
        more = self._n_gaps - MOST_NOTES
        return [*self._notes, *([f"And {more} more gaps like that."] if more > 0 else [])]

    def read(
        self, selection: RoiSelection, max_bytes: int
    ) -> Generator[RoiPixels | MissingFrames, None, None]:
        """Yield the ROI pixels of all frames in order, and what cannot be had in its place.

        Raises
        ------
        FrameShapeError
            Where the ROIs are of another detector.
        UnreadableFramesError
            Where not a single frame can be read.
        """
        if selection.frame_shape != self.frame_shape:
            turned = selection.frame_shape == self.frame_shape[::-1]
            raise FrameShapeError(
                f"{self.subject}: has frames of {self.frame_shape} (rows, cols), the ROIs are for "
                f"{selection.frame_shape}. "
                + ("Set orientation: {rotate: 90} or 270." if turned else "")
                + ("" if turned else "Use the ROI map of this detector and readout mode.")
            )
        reason, n_read = "", 0
        for piece in read_ahead(self._pieces(selection, max_bytes)):
            if isinstance(piece, MissingFrames):
                self._n_gaps += 1
                reason = reason or piece.reason
                if self._n_gaps <= MOST_NOTES:
                    self._notes.append(f"{piece.n_frames} frames are a gap: {piece.reason}")
            else:
                n_read += len(piece)
            yield piece
        if not n_read:
            raise UnreadableFramesError(f"{self.subject}: no frame could be read. {reason}")

    def frames(self, max_bytes: int) -> Generator[Array | MissingFrames, None, None]:
        """Yield all frames in order, whole, in blocks (k, rows, cols); gaps in their place."""
        for part in self.contents.parts:
            frames: Any = part.frames
            if isinstance(frames, MissingFrames):
                yield frames
            elif isinstance(frames, HDF5Frames | TiledFrames):
                reference: FrameReference = frames
                yield from read_with_gaps(self._reader, reference, max_bytes, None)
            elif isinstance(frames, ImageFiles):
                yield from cast("Any", frames.read(max_bytes, None))
            else:
                frame_bytes = math.prod(self.frame_shape) * frames.dtype.itemsize
                k, place = max(1, max_bytes // max(1, frame_bytes)), self._place(part)
                for start in range(0, len(frames), k):
                    yield np.asarray(frames[start : start + k][:, *place])

    def first_frame(self) -> Array:
        """Return one frame to look at, the first that can be read."""
        with contextlib.closing(self.frames(1)) as blocks:
            for block in blocks:
                if not isinstance(block, MissingFrames):
                    return block[0]
        raise UnreadableFramesError(f"{self.subject}: no frame could be read.")

    def _pieces(
        self, selection: RoiSelection, max_bytes: int
    ) -> Generator[RoiPixels | MissingFrames, None, None]:
        for part in self.contents.parts:
            frames: Any = part.frames
            if isinstance(frames, MissingFrames):
                yield frames
            elif isinstance(frames, HDF5Frames | TiledFrames):
                reference: FrameReference = frames
                yield from read_with_gaps(self._reader, reference, max_bytes, selection)
            elif isinstance(frames, ImageFiles):
                yield from cast("Any", frames.read(max_bytes, selection))
            else:
                yield from select_frames(frames, max_bytes, selection, self._place(part))

    def _place(self, part: Part) -> tuple[int, ...]:
        """Return the index of the threshold of an array, empty where it has none."""
        shape = cast("Array", part.frames).shape
        return self._threshold.place(shape, part.subject, required=True)


def names_files(frames: object) -> bool:
    """Whether something is a path, or a list of them."""
    if isinstance(frames, list | tuple):
        several = cast("Sequence[object]", frames)
        return bool(several) and all(isinstance(one, str | os.PathLike) for one in several)
    return isinstance(frames, str | os.PathLike)


def is_in_tiled(frames: object) -> bool:
    """Whether something is a node of Tiled."""
    return hasattr(frames, "structure_family") and hasattr(frames, "metadata")


def open_series(
    source: Any,
    *,
    dataset: str | None = None,
    series: int | None = None,
    threshold: int | None = None,
) -> StoredSeries:
    """Open the frames that a path, a list of paths in their order, or a Tiled array names.

    Parameters
    ----------
    source
        The master file of an Eiger; HDF5; `.npy` or `.npz`; TIFF, or what fabio reads; several of
        these; a folder with one series; or an array in Tiled.
    dataset
        Name of the dataset, or of the array of an .npz file, where a file has several.
    series
        Sequence id, where a folder has several series.
    threshold
        Which threshold is analysed, from 1.

    Raises
    ------
    InvalidInputError
        For files that are missing, damaged, or do not belong together.
    """
    if is_in_tiled(source):
        return _in_tiled(source)
    given = [source] if isinstance(source, str | os.PathLike) else [*source]
    paths = [Path(one).expanduser() for one in given]
    if len(paths) == 1 and paths[0].is_dir():
        paths = _in_folder(paths[0], series)
    elif series is not None:
        raise InvalidInputError(
            f"series: got {series} beside files; expected a folder with several series. Give the "
            "folder, or leave the series out."
        )
    if len({*paths}) < len(paths):
        raise InvalidInputError("Files: got one of them twice; expected each once.")
    contents = _joined(paths, dataset, threshold or 1)
    subject = paths[0].name + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
    return StoredSeries(subject, contents, threshold=threshold)


def _joined(paths: list[Path], dataset: str | None, threshold: int) -> Contents:
    """Return what several files hold together, in order."""
    ordered, numbers = in_order(paths)
    notes: list[str] = []
    if ordered != paths:
        notes.append(f"The files are read by their numbers, from {ordered[0].name} on.")
    kinds = {kind_of(path) for path in ordered}
    if "image" in kinds:
        if len(kinds) > 1:
            raise InvalidInputError(
                f"Files {ordered[0].name} ...: got {' and '.join(sorted(kinds))} files; expected "
                "one kind. Give the files of one series."
            )
        return _images(ordered, numbers, notes)
    each = [contents_of(path, dataset, threshold) for path in ordered]
    if len(each) == 1:
        return each[0]
    if sum(path.name.endswith(MASTER) for path in ordered) > 1:
        notes.append("Several series, one behind the other: pauses are not in the time axis.")
    periods = {one.frame_time_s for one in each if one.frame_time_s is not None}
    if len({f"{period:.4g}" for period in periods}) > 1:
        raise InvalidInputError(
            f"Files {ordered[0].name} ...: got frame periods of {sorted(periods)} s; expected one. "
            "Analyse series of different periods one by one."
        )
    geometry = functools.reduce(Geometry.completed, (one.geometry for one in each))
    return Contents(
        parts=tuple(_without_holes(ordered, numbers, each)),
        frame_time_s=next(iter(periods), None),
        geometry=geometry,
        bad_pixels=next((one.bad_pixels for one in each if one.bad_pixels is not None), None),
        notes=(*notes, *(note for one in each for note in one.notes)),
    )


def _without_holes(paths: list[Path], numbers: list[int], each: list[Contents]) -> Iterator[Part]:
    """Yield the parts of files, gaps in the place of an Eiger's data files that were not given."""
    n_full = max(part.n_frames for one in each for part in one.parts)
    for k, (path, one) in enumerate(zip(paths, each, strict=True)):
        if k and numbers and re.search(r"_data_\d+\.h5$", path.name):
            for number in range(numbers[k - 1] + 1, numbers[k]):
                yield missing(n_full, f"data file {number}, before {path.name}, was not given")
        yield from one.parts


def _images(paths: list[Path], numbers: list[int], notes: list[str]) -> Contents:
    files = ImageFiles(with_gaps(paths, numbers))
    frame_time_s, geometry = header_facts(paths[0])
    part = Part(
        frames=files,
        n_frames=files.n_frames,
        frame_shape=files.frame_shape,
        subject=paths[0].name,
    )
    return Contents(parts=(part,), frame_time_s=frame_time_s, geometry=geometry, notes=tuple(notes))


def _in_folder(folder: Path, series: int | None) -> list[Path]:
    """Return the files of the one series of a folder, or of the one with that sequence id."""
    masters = in_order(sorted(folder.glob(f"*{MASTER}")))[0]
    wanted = rf"_0*{series}{re.escape(MASTER)}$"
    chosen = [path for path in masters if series is None or re.search(wanted, path.name)]
    if len(chosen) == 1:
        return chosen
    if masters:
        words = ", ".join(path.name.removesuffix(MASTER) for path in masters[-12:])
        raise InvalidInputError(
            f"Folder {folder}: has {len(chosen)} series"
            f"{'' if series is None else f' {series}'}, the last in it are {words}. Choose one "
            "with series=, or --series, or give its master file."
        )
    files = sorted(path for path in folder.iterdir() if path.is_file())
    endings = (".h5", ".hdf5", ".hdf", ".nxs", ".npy", *IMAGES)
    files = [path for path in files if path.name.lower().endswith(endings)]
    kinds = {path.suffix.lower() for path in files}
    if files and len(kinds) == 1 and (len(files) == 1 or in_order(files)[1]):
        return files
    raise InvalidInputError(
        f"Folder {folder}: holds {len(files)} files that may be frames"
        f"{', ' + ', '.join(path.name for path in files[:8]) if files else ''}; expected the "
        "master file of one series, or numbered files. Give the files."
    )


def _in_tiled(node: Node) -> StoredSeries:
    """Open an array in Tiled, with what its run tells."""
    shape: tuple[int, ...] = tuple(getattr(node, "shape", None) or ())
    name = str(getattr(node, "item", {}).get("id", "array"))
    if len(shape) < 3:
        raise InvalidInputError(
            f"Tiled, {name!r}: got {node.structure_family.value} of shape {shape}; expected an "
            "array of frames, (n, rows, cols), such as run['primary']['eiger4m_single_image']. "
            "`replay` analyses a whole run."
        )
    *leading, rows, cols = shape
    n_frames = math.prod(leading)
    reference = TiledFrames(path=name, start=0, stop=n_frames)
    part = Part(frames=reference, n_frames=n_frames, frame_shape=(rows, cols), subject=name)
    frame_time_s, geometry = _facts_of_run(node, name)
    contents = Contents(parts=(part,), frame_time_s=frame_time_s, geometry=geometry)
    by_name: Any = {(name,): node}
    return StoredSeries(
        f"Tiled, {name}",
        contents,
        threshold=None,
        tiled=lambda reference, max_bytes: read_tiled(by_name, reference, max_bytes),
    )


def _facts_of_run(node: Node, name: str) -> tuple[float | None, Geometry]:
    """Return what the start document and the descriptor above an array tell."""
    try:
        stream = node.parent
        run = stream.parent
        start = plain_document(dict(run.metadata)["start"])
        configuration = plain_document(dict(stream.metadata))["configuration"]
    except Exception:  # an array that lies anywhere
        return None, Geometry()
    detector = name.removesuffix("_image")
    facts = (start, None, configuration, detector)
    return find_frame_time(None, *facts), find_geometry(GeometrySettings(), *facts)
