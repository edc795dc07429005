"""Frames out of the files of a DECTRIS series, in bounded blocks; a missing file is a gap."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from xpcs_live_denoise.errors import UnreadableFramesError
from xpcs_live_denoise.records.results import EigerFrames
from xpcs_live_denoise.sources.eiger_layout import (
    EVERY_FILE,
    Master,
    NotYetError,
    count_written,
    data_path,
    frames_dataset,
    later_files,
    read_master,
)
from xpcs_live_denoise.sources.file_roots import FileRoots
from xpcs_live_denoise.sources.hdf5_frames import block_end, end_of_written
from xpcs_live_denoise.sources.hdf5_links import open_hdf5
from xpcs_live_denoise.sources.image_key import MOST_FRAMES

POLL_S = 0.02


def read_eiger(
    reference: EigerFrames,
    max_bytes: int,
    *,
    timeout_s: float = 2.0,
    roots: FileRoots | None = None,
) -> Iterator[NDArray[Any]]:
    """Yield the frames of a series in order, as arrays (k, rows, cols).

    Data files are found by the master's links, or without a master by their names. Files are
    opened one at a time.

    Parameters
    ----------
    reference
        The frames; `stop` None: all that the master tells of, or that the files hold. Open-ended:
        what the master tells of behind `stop`, too.
    max_bytes
        Most bytes of a block; a single frame may be larger.
    timeout_s
        How long to wait for a file that is missing or not complete, s.
    roots
        Checks every file before it is opened.

    Raises
    ------
    UnreadableFramesError
        When frames cannot be read; those yielded before are good. `missing_until` is the frame of
        the series at which the next file begins that is there (the reference's stop if there is
        none): to go on, read again from there.
    """
    series = _Series(reference, roots, timeout_s)
    position = reference.start
    while position < series.stop:
        for block in series.read_file(position, max_bytes):
            position += len(block)
            yield block


class _Series:
    """The files of a series while it is read; knows how frames are spread over files.

    Attributes
    ----------
    stop
        Where the frames that are wanted end.
    """

    def __init__(self, reference: EigerFrames, roots: FileRoots | None, timeout_s: float) -> None:
        self._name = reference.series
        self._roots = roots
        self._timeout_s = timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._master = read_master(self._name, roots, _numbers(reference)) or Master()
        self._images_per_file = self._find_images_per_file(reference)
        announced = self._announced(reference)
        self.stop = self._held() if announced is None else announced

    def read_file(self, position: int, max_bytes: int) -> Iterator[NDArray[Any]]:
        """Yield what one data file holds from `position` on; raise if that is not all it should."""
        number = position // self._images_per_file + 1
        first = (number - 1) * self._images_per_file
        end = min(first + self._images_per_file, self.stop)
        while position < end:
            try:
                for block in self._blocks(number, position - first, end - first, max_bytes):
                    position += len(block)
                    self._deadline = time.monotonic() + self._timeout_s
                    yield block
                if position < end:
                    raise NotYetError(f"the file holds {position - first} frames")
            except (NotYetError, OSError, RuntimeError, KeyError) as error:
                if isinstance(error, UnreadableFramesError) or time.monotonic() >= self._deadline:
                    raise self._missing(number, position, error) from error
                time.sleep(POLL_S)

    def _find_images_per_file(self, reference: EigerFrames) -> int:
        """Return the frames of a full file: what the document says, unless a file holds more."""
        told = reference.images_per_file or 0
        while True:
            path, dataset = self._place(1)
            found = count_written(path, self._roots, dataset)
            if told or found:
                return max(told, found or 0)
            if time.monotonic() >= self._deadline:
                break
            time.sleep(POLL_S)
        raise UnreadableFramesError(
            f"Eiger series {self._name}: its first data file cannot be read, and no document tells "
            f"how many frames a file holds; expected {path}. Check that the files are complete "
            "and readable from this machine.",
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
        there = [number for number in self._master.links if self._is_there(number)]
        last = max([*there, *later_files(self._name, 0)], default=1)
        path, dataset = self._place(last)
        held = count_written(path, self._roots, dataset) or 0
        return (last - 1) * self._images_per_file + held

    def _blocks(self, number: int, start: int, stop: int, max_bytes: int) -> Iterator[NDArray[Any]]:
        """Yield frames [start, stop) of one data file, as far as it holds them."""
        path, name = self._place(number)
        size = os.stat(path).st_size
        checked = path if self._roots is None else self._roots.check(path)
        with open_hdf5(checked, swmr=False) as file:
            dataset = frames_dataset(file, checked, name)
            stop = min(stop, dataset.shape[0])
            while start < stop:
                end = block_end(dataset, start, stop, max_bytes)
                end = end_of_written(dataset, start, end, size)
                if end <= start:
                    raise NotYetError(f"the file holds {start} frames")
                yield dataset[start:end]
                start = end

    def _place(self, number: int) -> tuple[Path, str | None]:
        return self._master.links.get(number) or (data_path(self._name, number), None)

    def _is_there(self, number: int) -> bool:
        return os.path.exists(self._place(number)[0])

    def _missing(self, number: int, position: int, error: Exception) -> UnreadableFramesError:
        """Return the error that names the file and says where reading can go on."""
        later = [n for n in self._master.links if n > number and self._is_there(n)]
        later += later_files(self._name, number)
        until = min((min(later) - 1) * self._images_per_file if later else self.stop, self.stop)
        path, _ = self._place(number)
        reason = "no such file" if isinstance(error, FileNotFoundError) else error
        return UnreadableFramesError(
            f"Eiger series {Path(self._name).name}: frames [{position}, {until}) cannot be read "
            f"from {path} ({reason}); expected complete data files. Check that the detector's "
            "files arrive on this machine.",
            missing_until=until,
        )


def _numbers(reference: EigerFrames) -> range:
    """Return the numbers of the data files that a reference needs, as far as it tells."""
    each, stop = reference.images_per_file, reference.stop
    if not each or stop is None or reference.open_ended:
        return EVERY_FILE
    return range(reference.start // each + 1, min((stop - 1) // each + 2, EVERY_FILE.stop))
