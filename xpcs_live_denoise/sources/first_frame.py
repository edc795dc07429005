"""One frame out of a file that a person names, to look at."""

from __future__ import annotations

from pathlib import Path

import h5py

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.records.frames import EigerFrames, HDF5Frames
from xpcs_live_denoise.records.types import Array

from .eiger.files import MASTER, Master, read_master
from .file_roots import FileRoots
from .frames import FrameReader


def first_frame_in(
    path: Path, reader: FrameReader, roots: FileRoots
) -> tuple[Array, Master | None]:
    """Return the first frame in an HDF5 file, or of the series of a master with what that tells.

    Raises
    ------
    InvalidInputError
        When the file is no HDF5 file, or holds no dataset of frames.
    UnreadableFramesError
        When the data files of a master cannot be read.
    """
    series = str(path.absolute()).removesuffix(MASTER)
    prefix, _, number = series.rpartition("_")
    if path.name.endswith(MASTER) and number.isdecimal():
        reference = EigerFrames(prefix=prefix, sequence_id=int(number), start=0, stop=1)
        return next(iter(reader.read(reference, 1)))[0], read_master(series, roots)
    try:
        with h5py.File(path, "r") as file:
            found: list[str] = []
            file.visititems(
                lambda name, node: (
                    found.append(name)
                    if isinstance(node, h5py.Dataset) and node.ndim in {3, 4}
                    else None
                )
            )
    except OSError as error:
        raise InvalidInputError(
            f"File {path}: cannot be read ({error}); expected the _master.h5 of an Eiger, HDF5 or "
            ".npy with frames (n, rows, cols)."
        ) from error
    if not found:
        raise InvalidInputError(
            f"File {path}: holds no dataset of three or four dimensions; expected frames (n, rows, "
            "cols) or (n, thresholds, rows, cols); of an Eiger its <prefix>_<number>_master.h5."
        )
    frames = HDF5Frames(path=str(path), dataset=f"/{found[0]}", start=0, stop=1, swmr=False)
    return next(iter(reader.read(frames, 1)))[0], None
