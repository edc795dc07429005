"""Series of image files, such as TIFF and EDF: one frame a file, or several."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpcs_live_denoise.errors import (
    InvalidInputError,
    MissingDependencyError,
    install_line,
    text_of,
)
from xpcs_live_denoise.records.frames import MissingFrames, RoiPixels
from xpcs_live_denoise.records.types import Array

from .selection import MOST_AT_ONCE, RoiSelection

TIFF = (".tif", ".tiff")
IMAGES = (*TIFF, ".edf", ".cbf", ".img", ".mccd", ".edf.gz", ".cbf.gz")
MOST_GAPS = 10_000  # files that may be missing between two that are there


def load_image(path: Path) -> Array:
    """Return the frames of one image file, (n, rows, cols).

    Raises
    ------
    InvalidInputError
        For a file that is no image, or is damaged.
    MissingDependencyError
        Where it is no TIFF and fabio is not installed.
    """
    try:
        if path.suffix.lower() in TIFF:
            import tifffile  # one of scikit-beam's dependencies

            content = np.asarray(tifffile.imread(path))
        else:
            content = _by_fabio(path)
    except MissingDependencyError:
        raise
    except Exception as error:  # whatever the libraries raise for damaged files
        raise InvalidInputError(
            f"File {path}: cannot be read as an image ({text_of(error, 300)}); expected HDF5, "
            ".npy, .npz, TIFF, EDF, CBF or another format that fabio reads. Copy it anew if it is "
            "cut off."
        ) from error
    image = content if content.ndim == 2 else np.squeeze(content)
    if image.ndim not in (2, 3) or image.dtype.kind not in "buif" or not image.size:
        raise InvalidInputError(
            f"File {path}: got an image of shape {content.shape} and dtype {content.dtype}; "
            "expected numbers, (rows, cols) or (n, rows, cols)."
        )
    return image if image.ndim == 3 else image[np.newaxis]


def open_by_fabio(path: Path) -> Any:
    """Return an image of fabio, to be used as a context; MissingDependencyError without it."""
    try:
        import fabio  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as error:
        raise MissingDependencyError(
            f"File {path}: is neither HDF5 nor numpy's nor TIFF; other images, such as EDF and "
            f"CBF, are read by fabio, which is not installed. {install_line('images')}."
        ) from error
    return fabio.open(str(path))


def _by_fabio(path: Path) -> Array:
    with open_by_fabio(path) as image:
        frames: Any = [image.get_frame(k).data for k in range(image.nframes)]
        return np.stack(frames)


class ImageFiles:
    """Image files in their order, all with as many frames as the first one.

    A file that cannot be read, or is of another shape, is a gap.
    """

    def __init__(self, paths: Sequence[Path | None]) -> None:
        self._paths = tuple(paths)  # None: a number that is missing
        first = load_image(next(path for path in self._paths if path is not None))
        self.per_file = len(first)
        self.frame_shape: tuple[int, int] = (first.shape[1], first.shape[2])

    @property
    def n_frames(self) -> int:
        """How many frames there should be."""
        return self.per_file * len(self._paths)

    def read(
        self, max_bytes: int, selection: RoiSelection | None
    ) -> Generator[Array | RoiPixels | MissingFrames, None, None]:
        """Yield the frames in order, whole or their ROI pixels, gaps among them."""
        waiting: list[Array] = []
        for path in self._paths:
            try:
                frames = self._load(path)
            except InvalidInputError as error:
                yield from _flushed(waiting, selection)
                yield MissingFrames(n_frames=self.per_file, reason=str(error))
                continue
            waiting.append(frames)
            n_bytes = sum(one.nbytes for one in waiting)
            if n_bytes >= max_bytes or len(waiting) * self.per_file >= MOST_AT_ONCE:
                yield from _flushed(waiting, selection)
        yield from _flushed(waiting, selection)

    def _load(self, path: Path | None) -> Array:
        if path is None:
            raise InvalidInputError("Between numbered files one is missing: its frames are a gap.")
        frames = load_image(path)
        expected = (self.per_file, *self.frame_shape)
        if frames.shape != expected:
            raise InvalidInputError(
                f"File {path}: got frames of shape {frames.shape}, expected {expected}, as in the "
                "first file. Take files of one series."
            )
        return frames


def _flushed(
    waiting: list[Array], selection: RoiSelection | None
) -> Generator[Array | RoiPixels, None, None]:
    """Yield what waits, if anything, and forget it."""
    if waiting:
        block = np.concatenate(waiting)
        waiting.clear()
        yield block if selection is None else selection.of_frames(block)


def in_order(paths: Sequence[Path]) -> tuple[list[Path], list[int]]:
    """Return files by the number in which alone their names differ, and their numbers.

    Where names differ otherwise, as they are given, without numbers. `img_10` comes behind `img_9`,
    which no shell knows.
    """
    split = [re.split(r"(\d+)", path.name) for path in paths]
    if len(paths) < 2 or len({len(parts) for parts in split}) > 1:
        return list(paths), []
    differing = [k for k, column in enumerate(zip(*split, strict=True)) if len(set(column)) > 1]
    parents = {path.parent for path in paths}
    if len(differing) != 1 or differing[0] % 2 == 0 or len(parents) > 1:
        return list(paths), []
    ranked = sorted(
        (int(parts[differing[0]]), path) for parts, path in zip(split, paths, strict=True)
    )
    return [path for _, path in ranked], [number for number, _ in ranked]


def with_gaps(paths: Sequence[Path], numbers: Sequence[int]) -> list[Path | None]:
    """Return numbered files in order, None in the place of each number that is missing.

    Files of which each has a number by two or more above the one before lack nothing.
    """
    steps = np.diff(numbers)
    if not len(steps) or steps.min() < 1:
        return list(paths)
    step = int(np.gcd.reduce(steps))
    if (steps // step).sum() - len(steps) > MOST_GAPS:
        return list(paths)
    by_number = dict(zip(numbers, paths, strict=True))
    return [by_number.get(n) for n in range(numbers[0], numbers[-1] + 1, step)]
