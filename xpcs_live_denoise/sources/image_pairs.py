"""Pairs of images of few and of many counts, in the layouts in which such data are published."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import h5py

from xpcs_live_denoise.errors import FrameShapeError, InvalidInputError
from xpcs_live_denoise.records.frames import MissingFrames
from xpcs_live_denoise.records.types import Array

from .series import StoredSeries, open_series

LOW, HIGH = ("lc", "low_count"), ("hc", "high_count")  # folders, or groups of a file


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePairs:
    """The k-th image of one series shows the same as the k-th of the other, with more counts."""

    low: StoredSeries
    high: StoredSeries

    def read(self) -> Generator[tuple[Array, Array], None, None]:
        """Yield pairs, each (rows, cols), without those of which one cannot be read."""
        for low, high in zip(_single(self.low), _single(self.high), strict=False):
            if low is not None and high is not None:
                yield low, high


def open_pairs(path: Path) -> ImagePairs | None:
    """Open a folder with `LC` and `HC`, or HDF5 with `low_count/data` and `high_count/data`.

    Names of folders may be in any case. Returns None for what has neither.

    Raises
    ------
    InvalidInputError
        Where one of the two is missing, empty, or not as long as the other.
    FrameShapeError
        Where their images have different shapes.
    """
    if path.is_dir():
        folders = {one.name.lower(): one for one in sorted(path.iterdir()) if one.is_dir()}
        names = [next((name for name in few if name in folders), None) for few in (LOW, HIGH)]
        if names == [None, None]:
            return None
        low, high = (open_series(folders[_there(path, name)]) for name in names)
    elif path.is_file() and h5py.is_hdf5(path):
        with h5py.File(path, "r") as file:
            names = [group if f"{group}/data" in file else None for group in (LOW[1], HIGH[1])]
        if names == [None, None]:
            return None
        low, high = (open_series(path, dataset=f"{_there(path, name)}/data") for name in names)
    else:
        return None
    if low.frame_shape != high.frame_shape:
        raise FrameShapeError(
            f"Pairs {path}: images of few counts have shape {low.frame_shape}, those of many "
            f"{high.frame_shape} (rows, cols). Expected pairs of one detector: cut them alike."
        )
    if low.n_frames != high.n_frames:
        raise InvalidInputError(
            f"Pairs {path}: got {low.n_frames} images of few counts and {high.n_frames} of many; "
            "expected as many of each, in the same order."
        )
    return ImagePairs(low=low, high=high)


def open_images(
    paths: list[Path], *, dataset: str | None = None, series: int | None = None
) -> StoredSeries:
    """Open images as `open_series` does; of pairs those of few counts."""
    if len(paths) == 1 and dataset is None:
        path = paths[0].expanduser()
        if path.is_dir():
            names = {one.name.lower(): one for one in path.iterdir() if one.is_dir()}
            paths = [next((names[name] for name in LOW if name in names), path)]
        elif path.is_file() and h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                dataset = f"{LOW[1]}/data" if f"{LOW[1]}/data" in file else None
    return open_series(paths, dataset=dataset, series=series)


def _there(path: Path, name: str | None) -> str:
    if name is None:
        raise InvalidInputError(
            f"Pairs {path}: only one of few and many counts is there; expected the folders LC and "
            "HC, or the datasets low_count/data and high_count/data."
        )
    return name


def _single(series: StoredSeries) -> Generator[Array | None, None, None]:
    """Yield each image, None in the place of one that cannot be read."""
    for block in series.frames(2**26):
        if isinstance(block, MissingFrames):
            yield from (None for _ in range(block.n_frames))
        else:
            yield from block
