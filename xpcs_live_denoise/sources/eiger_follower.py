"""Follows a DECTRIS Eiger while it writes: which files of which series are complete by now."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path

from xpcs_live_denoise.records.results import (EigerFrames, Geometry)
from xpcs_live_denoise.sources.eiger_layout import (
    count_written,
    data_path,
    later_files,
    read_master,
)
from xpcs_live_denoise.sources.eiger_series import SeriesName, SeriesNames
from xpcs_live_denoise.sources.file_roots import FileRoots

# How long to wait for a file while a later one is there, before its frames become a gap, s.
GRACE_S = 10.0
# A file of which nobody knows how many frames it gets is complete when it has not grown for, s.
SETTLED_S = 1.0
# Time between two looks at the whole folder, s: on a network file system that is not cheap.
FOLDER_PERIOD_S = 1.0


class EigerFollower:
    """The series that a detector writes now. `poll` consumes what is complete.

    No notification of the file system is used: over a network there is none. A poll costs a few
    stats; the folder is listed once a second, and only while a file is waited for.

    Parameters
    ----------
    names
        The series to follow, one after the other.
    images_per_file
        Frames of a full data file; None: as many as the first one holds.
    n_images
        Frames of a series; None: what its master file tells.
    n_series
        How many series to follow.
    roots
        Checks every file before it is opened.
    grace_s
        How long a missing or incomplete file is waited for while a later one is there, s. Then its
        frames are handed out all the same: reading them says that they are missing.
    clock
        Monotonic, s.

    Attributes
    ----------
    frame_time_s
        Frame period that a master file told, s; None before.
    geometry
        Scattering geometry that a master file told; empty before.

    Raises
    ------
    UnreadableFramesError
        From `poll` and `finish`, for files that lie outside the roots or hold no frames.
    """

    def __init__(
        self,
        names: SeriesNames,
        *,
        images_per_file: int | None = None,
        n_images: int | None = None,
        n_series: int = 1,
        roots: FileRoots | None = None,
        grace_s: float = GRACE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.frame_time_s: float | None = None
        self.geometry = Geometry()
        self._names = names
        self._told = (images_per_file, n_images)
        self._images_per_file, self._n_images = self._told
        self._n_left = n_series
        self._roots = roots
        self._grace_s = grace_s
        self._clock = clock
        self._current: SeriesName | None = None
        self._position = 0
        self._master_read = False
        self._waiting_since: float | None = None
        self._next_listing = float("-inf")
        self._later = False
        self._seen: tuple[int, float] | None = None  # frames in the awaited file, since when

    @property
    def n_images(self) -> int | None:
        """Frames of a series, None while nobody told."""
        return self._n_images

    @property
    def waits(self) -> bool:
        """Whether more frames of a series that has begun may come."""
        return self._current is not None and not self._series_is_over()

    def poll(self) -> list[EigerFrames]:
        """Return the frames that have become complete, in order, whole files at a time."""
        found: list[EigerFrames] = []
        while (reference := self._next_file()) is not None:
            if found and found[-1].series == reference.series:
                reference = dataclasses.replace(reference, start=found.pop().start)
            found.append(reference)
        return found

    def finish(self) -> list[EigerFrames]:
        """Return what `poll` would, and the frames of a last file that is not full."""
        found = self.poll()
        while self.waits:
            held = count_written(self._path(), self._roots) or 0
            if held <= self._offset():
                self._next_listing = float("-inf")
                if self._images_per_file is None or not self._later_file_is_there():
                    break
                held = self._wanted() or self._images_per_file  # a gap in front of later files
            found.append(self._take(held))
        return found

    def pass_over(self, series: str, stop: int) -> None:
        """Take the frames of a series before `stop` as handed out."""
        if self._current is not None and self._series() == series:
            self._position = max(self._position, stop)
            self._waiting_since = self._seen = None

    # --- the file that comes next -------------------------------------------------------------

    def _next_file(self) -> EigerFrames | None:
        if not self._has_series():
            return None
        path = self._path()
        held = count_written(path, self._roots) if os.path.exists(path) else None
        wanted = self._wanted()
        if held is not None and self._complete(held, wanted):
            self._images_per_file = self._images_per_file or held
            return self._take(held if wanted is None else min(held, wanted))
        # What never comes, or never gets complete, is given up for the sake of what comes after.
        if not self._later_file_is_there():
            self._waiting_since = None
            return None
        now = self._clock()
        self._waiting_since = now if self._waiting_since is None else self._waiting_since
        if now - self._waiting_since < self._grace_s or self._images_per_file is None:
            return None
        return self._take(self._images_per_file if wanted is None else wanted)

    def _has_series(self) -> bool:
        if self._current is not None and self._series_is_over():
            self._current = None
        if self._current is None and self._n_left > 0:
            self._current = self._names.next_series()
            if self._current is not None:
                self._n_left -= 1
                self._position, self._master_read = 0, False
                self._images_per_file, self._n_images = self._told
                self._waiting_since = self._seen = None
        if self._current is not None and not self._master_read:
            self._read_master()
        return self._current is not None

    def _read_master(self) -> None:
        if self._current is None or None not in (self._n_images, self.frame_time_s):
            return
        master = read_master(self._series(), self._roots, range(0))
        if master is not None:
            self._master_read = True
            self._n_images = self._n_images or master.n_frames
            self.frame_time_s = self.frame_time_s or master.frame_time_s
            self.geometry = self.geometry.completed(master.geometry)

    def _series_is_over(self) -> bool:
        return self._n_images is not None and self._position >= self._n_images

    def _wanted(self) -> int | None:
        """Frames that the next file gets, None where nobody knows."""
        each, total = self._images_per_file, self._n_images
        if total is None:
            return each
        rest = total - self._position + self._offset()
        # A file that holds the whole series needs no size of a full file.
        return rest if each is None else min(each, rest)

    def _complete(self, held: int, wanted: int | None) -> bool:
        if wanted is not None and held >= wanted:
            return True
        if held <= self._offset():
            return False
        if self._images_per_file is None and self._later_file_is_there():
            return True  # the first file: the writer has gone on to the next
        if self._n_images is not None and self._images_per_file is not None:
            return False
        # Nobody knows what to wait for: wait until it grows no more.
        now = self._clock()
        if self._seen is None or self._seen[0] != held:
            self._seen = (held, now)
        return now - self._seen[1] >= SETTLED_S

    def _later_file_is_there(self) -> bool:
        if not self._later and os.path.exists(self._path(1)):
            self._later = True
        elif not self._later and self._clock() >= self._next_listing:
            self._next_listing = self._clock() + FOLDER_PERIOD_S
            self._later = bool(later_files(self._series(), self._number()))
        return self._later

    def _take(self, held: int) -> EigerFrames:
        """Return the frames up to the `held`-th of the next file."""
        assert self._current is not None  # noqa: S101 - for the type checker
        prefix, sequence_id = self._current
        start = self._position
        self._position += held - self._offset()
        self._waiting_since = self._seen = None
        self._later, self._next_listing = False, float("-inf")
        return EigerFrames(
            prefix=prefix,
            sequence_id=sequence_id,
            start=start,
            stop=self._position,
            images_per_file=self._images_per_file,
        )

    def _number(self) -> int:
        return self._position // self._images_per_file + 1 if self._images_per_file else 1

    def _offset(self) -> int:
        """Frames of the next file that were handed out already."""
        return self._position % self._images_per_file if self._images_per_file else 0

    def _series(self) -> str:
        assert self._current is not None  # noqa: S101 - for the type checker
        return "{}_{}".format(*self._current)

    def _path(self, further: int = 0) -> Path:
        return data_path(self._series(), self._number() + further)
