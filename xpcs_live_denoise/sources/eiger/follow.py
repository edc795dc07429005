"""Follows a DECTRIS Eiger while it writes: which files of which series are complete by now."""

from __future__ import annotations

import dataclasses
import datetime
import fnmatch
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from xpcs_live_denoise.records.frames import EigerFrames, Geometry
from xpcs_live_denoise.sources.file_roots import FileRoots

from .files import count_written, data_path, later_files, read_master

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
        roots: FileRoots,
        images_per_file: int | None = None,
        n_images: int | None = None,
        n_series: int = 1,
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


logger = logging.getLogger(__name__)

SeriesName = tuple[str, int]  # prefix with its folder, sequence id


class SeriesNames(Protocol):
    """Names the series to follow, one after the other."""

    def next_series(self) -> SeriesName | None:
        """Return the next series, None while it is not known. Consumed by the call."""
        ...


class NumberedSeries:
    """The series of a detector whose next sequence id is known: that one, and those after it.

    Parameters
    ----------
    prefix
        Path of the files up to, without, "_<sequence id>".
    first
        Sequence id of the first series.
    """

    def __init__(self, prefix: str, first: int) -> None:
        self._prefix, self._next = prefix, first

    def next_series(self) -> SeriesName | None:
        """Return the series with the next sequence id."""
        self._next += 1
        return self._prefix, self._next - 1


class NewMasters:
    """The series of which a master file appears in a folder after this was made.

    Parameters
    ----------
    folder
        Folder of the master files; strftime fields are filled in with the time now.
    prefix
        Pattern of the file names before "_<sequence id>_master.h5".
    """

    def __init__(self, folder: str, prefix: str = "*") -> None:
        now = datetime.datetime.now().astimezone()
        self._folder = Path(now.strftime(folder)).expanduser()
        self._pattern = prefix
        self._known = set(self._masters())

    def next_series(self) -> SeriesName | None:
        """Return the oldest series that is new."""
        new = [found for found in self._masters() if found not in self._known]
        if not new:
            return None
        first = min(new, key=lambda found: (_modified(found), found[1]))
        self._known.add(first)
        return first

    def _masters(self) -> Iterator[SeriesName]:
        try:
            names = os.listdir(self._folder)
        except OSError:  # made by the detector, perhaps
            return
        for name in names:
            match = re.fullmatch(r"(.+)_(\d{1,18})_master\.h5", name)
            if match and fnmatch.fnmatchcase(match[1], self._pattern):
                yield str(self._folder / match[1]), int(match[2])


def _modified(name: SeriesName) -> float:
    try:
        return os.stat(f"{name[0]}_{name[1]}_master.h5").st_mtime
    except OSError:
        return float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedSeries:
    """What a staged classic Eiger tells of the series that it will take.

    Attributes
    ----------
    prefix
        Path of the files up to, without, "_<sequence id>".
    sequence_id
        Of the next series.
    images_per_file, n_images
        Frames of a full data file and of one series.
    """

    prefix: str
    sequence_id: int
    images_per_file: int
    n_images: int


def staged_series(device: Any) -> StagedSeries | None:
    """Return what a staged device tells of its next series; None, with a line in the log, if not.

    Understands NSLS-II's EigerSimulatedFilePlugin: `file.file_path`,
    `file.file_write_name_pattern` ("<prefix>_$id"), `file.sequence_id` (that of the last series),
    `file.file_write_images_per_file`, `cam.num_images`, and `num_triggers` of the device, as at
    CHX, or of its `cam`. Never raises.
    """
    name = getattr(device, "name", device)
    if not hasattr(getattr(device, "file", None), "file_write_name_pattern"):
        logger.info("%s has no file plugin of an Eiger: its files are not followed.", name)
        return None
    try:
        pattern = str(device.file.file_write_name_pattern.get())
        n_triggers = getattr(device, "num_triggers", getattr(device.cam, "num_triggers", None))
        found = StagedSeries(
            prefix=os.path.join(str(device.file.file_path.get()), pattern.removesuffix("_$id")),
            sequence_id=int(device.file.sequence_id.get()) + 1,
            images_per_file=int(device.file.file_write_images_per_file.get()),
            n_images=int(device.cam.num_images.get())
            * (1 if n_triggers is None else max(1, int(n_triggers.get()))),
        )
    except Exception as error:  # a device's own code; the documents tell it all at the end
        logger.warning(
            "%s: its files are not followed (%s: %s).", name, type(error).__name__, error
        )
        return None
    if not pattern.endswith("_$id") or found.images_per_file < 1 or found.n_images < 1:
        logger.warning(
            "%s: its files are not followed. Got the file name pattern %r, %d images per file and "
            '%d images; expected a pattern that ends in "_$id" and numbers above 0.',
            name,
            pattern,
            found.images_per_file,
            found.n_images,
        )
        return None
    return found
