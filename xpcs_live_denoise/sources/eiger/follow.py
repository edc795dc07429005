"""Follows a DECTRIS Eiger while it writes: which files of which series are complete by now."""

from __future__ import annotations

import dataclasses
import datetime
import fnmatch
import functools
import itertools
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from xpcs_live_denoise.records.frames import EigerFrames, Geometry, StartOver
from xpcs_live_denoise.sources.file_roots import FileRoots

from .files import (
    MASTER,
    Master,
    count_written,
    data_path,
    later_files,
    masters_in,
    read_master,
)

logger = logging.getLogger(__name__)

# How long to wait for a file while a later one is there, before its frames become a gap, s.
GRACE_S = 10.0
# A file of which nobody knows how many frames it gets is complete when it has not grown for, s.
SETTLED_S = 1.0
# Time between two looks at the whole folder, s: on a network file system that is not cheap.
FOLDER_PERIOD_S = 1.0

SeriesName: TypeAlias = tuple[str, int]  # prefix with its folder, sequence id


class EigerFollower:
    """The series that a detector writes now. `poll` consumes what is complete.

    No notification of the file system is used: over a network there is none. A poll costs a few
    stats; the folder is listed once a second, and only while a file is waited for.

    `names` are the series to follow, one after the other; None while the next one is not known.
    Where nobody tells, a full data file has `images_per_file` as the first one, and a series
    `n_images` as its master file says. A missing or incomplete file is waited for `grace_s` while a
    later one is there; then its frames are handed out all the same: reading them says that they
    are missing. `frame_time_s` and `geometry` are those that a master file gives.

    A run that is paused in the exposure and resumed takes the exposure again, under the next
    sequence id: `look_further` looks for such a series behind the last of the run, and the first
    frames of it come behind a StartOver.

    Files that lie outside the roots or hold no frames are an UnreadableFramesError of `poll` and
    `finish`.
    """

    def __init__(
        self,
        names: Iterator[SeriesName | None],
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
        self._n_images = n_images
        self._grow = functools.partial(
            GrowingSeries,
            roots=roots,
            clock=clock,
            images_per_file=images_per_file,
            n_images=n_images,
        )
        self._n_series, self._n_begun = n_series, 0
        self._grace_s = grace_s
        self._series: GrowingSeries | None = None
        self._later: list[GrowingSeries] = []  # begun behind the last of the run

    @property
    def n_images(self) -> int | None:
        """Frames of a series, None if unknown."""
        return self._n_images if self._series is None else self._series.n_images

    @property
    def waits(self) -> bool:
        """Whether more frames of a series that has begun may come."""
        return bool(self._later) or self._goes_on

    @property
    def _goes_on(self) -> bool:
        return self._series is not None and not self._series.is_over

    def poll(self) -> list[EigerFrames | StartOver]:
        """Return the frames that have become complete, in order, whole files at a time."""
        found: list[EigerFrames | StartOver] = []
        while more := self._taken_again(self._look) or self._next_file():
            match [*found[-1:], more[0]]:
                case [EigerFrames() as last, EigerFrames() as one] if last.series == one.series:
                    found[-1] = dataclasses.replace(one, start=last.start)
                case _:
                    found += more
        return found

    def finish(self) -> list[EigerFrames | StartOver]:
        """Return what `poll` would, and the frames of a last file that is not full."""
        found = self.poll()
        while more := self._taken_again(GrowingSeries.last_file):
            found += more
        while self._series is not None and not self._series.is_over:
            if (last := self._series.last_file()) is None:
                break
            found.append(last)
        return found

    def pass_over(self, series: str, stop: int) -> None:
        """Take the frames of a series before `stop` as handed out."""
        if self._series is not None and self._series.name == series:
            self._series.pass_over(stop)

    def look_further(self, is_current: Callable[[], bool]) -> None:
        """Look whether the detector began another series behind the last one of the run.

        `is_current` is asked when there is one: whether no event that came before it waits to be
        looked at.
        """
        newest = self._later[-1] if self._later else self._series
        if newest is None or self._n_begun < self._n_series:
            return
        name = newest.next_name
        if os.path.exists("{}_{}".format(*name) + MASTER) and is_current():
            self._later.append(self._grow(name))

    def settle(self, n_begun: int | None = None, named: EigerFrames | None = None) -> None:
        """Take note that an event named a series: nothing later takes its place.

        `n_begun` series of the run have begun, where that is not what was followed; `named` is the
        one to go on with, where it is not the followed one.
        """
        self._n_begun = self._n_begun if n_begun is None else n_begun
        self._later = []
        if named is not None:
            self._series = self._grow((named.prefix, named.sequence_id))
            self._names = numbered_series(*self._series.next_name)

    def _taken_again(
        self, look: Callable[[GrowingSeries], EigerFrames | None]
    ) -> list[EigerFrames | StartOver]:
        """Return the first frames of the newest later series that has any, and go on with it."""
        for index in reversed(range(len(self._later))):
            series = self._later[index]
            self._learn_from(series.read_master())
            if (reference := look(series)) is not None:
                left, self._series = self._series, series
                del self._later[: index + 1]
                reason = (
                    f"The run was paused and its exposure taken again: the detector began the "
                    f"series {Path(series.name).name} before an event named "
                    f"{Path(left.name).name if left else 'another'}, whose frames are left out."
                )
                return [StartOver(reason=reason), reference]
        return []

    def _look(self, series: GrowingSeries) -> EigerFrames | None:
        return series.next_file(self._grace_s)

    def _next_file(self) -> list[EigerFrames]:
        wanted = self._n_begun < self._n_series and not self._goes_on
        if wanted and (name := next(self._names)) is not None:
            self._n_begun += 1
            self._series = self._grow(name)
        if self._series is None or self._series.is_over:
            return []
        if None in (self._series.n_images, self.frame_time_s):
            self._learn_from(self._series.read_master())
        reference = self._look(self._series)
        return [] if reference is None else [reference]

    def _learn_from(self, master: Master) -> None:
        self.frame_time_s = self.frame_time_s or master.frame_time_s
        self.geometry = self.geometry.completed(master.geometry)


class GrowingSeries:
    """One series while it is written: how far its frames were handed out, and what is next.

    `next_file` and `last_file` consume what they return.
    """

    def __init__(
        self,
        name: SeriesName,
        *,
        roots: FileRoots,
        clock: Callable[[], float],
        images_per_file: int | None,
        n_images: int | None,
    ) -> None:
        self.n_images = n_images
        self._prefix_and_id = name
        self._roots = roots
        self._clock = clock
        self._images_per_file = images_per_file
        self._position = 0
        self._master: Master | None = None
        self._waiting_since: float | None = None
        self._grown: tuple[int, float] | None = None  # frames in the awaited file, since when
        self._later_file_seen = False
        self._next_listing_s = float("-inf")

    @property
    def name(self) -> str:
        """What names the series: path without "_master.h5"."""
        return "{}_{}".format(*self._prefix_and_id)

    @property
    def next_name(self) -> SeriesName:
        """The series that the detector takes next."""
        prefix, sequence_id = self._prefix_and_id
        return prefix, sequence_id + 1

    @property
    def is_over(self) -> bool:
        """Whether all of its frames were handed out."""
        return self.n_images is not None and self._position >= self.n_images

    def read_master(self) -> Master:
        """Return what the master file tells, read once; nothing while there is none."""
        if self._master is None:
            self._master = read_master(self.name, self._roots, range(0))
            if self._master is not None:
                self.n_images = self.n_images or self._master.n_frames
        return self._master or Master(series=self.name)

    def next_file(self, grace_s: float) -> EigerFrames | None:
        """Return the frames of the next file if it is complete, or was waited for long enough."""
        path = data_path(self.name, self._number())
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
        if now - self._waiting_since < grace_s or self._images_per_file is None:
            return None
        return self._take(self._images_per_file if wanted is None else wanted)

    def last_file(self) -> EigerFrames | None:
        """Return what the next file holds, full or not, or the gap before a later one."""
        held = count_written(data_path(self.name, self._number()), self._roots) or 0
        if held <= self._offset():
            self._next_listing_s = float("-inf")
            if self._images_per_file is None or not self._later_file_is_there():
                return None
            held = self._wanted() or self._images_per_file  # a gap in front of later files
        return self._take(held)

    def pass_over(self, stop: int) -> None:
        """Take the frames before `stop` as handed out."""
        self._position = max(self._position, stop)
        self._waiting_since = self._grown = None

    def _wanted(self) -> int | None:
        """Frames that the next file gets, None where nobody knows."""
        each, total = self._images_per_file, self.n_images
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
        if self.n_images is not None and self._images_per_file is not None:
            return False
        # Nobody knows what to wait for: wait until it grows no more.
        now = self._clock()
        if self._grown is None or self._grown[0] != held:
            self._grown = (held, now)
        return now - self._grown[1] >= SETTLED_S

    def _take(self, held: int) -> EigerFrames:
        """Return the frames up to the `held`-th of the next file."""
        start = self._position
        self._position += held - self._offset()
        self._waiting_since = self._grown = None
        self._later_file_seen, self._next_listing_s = False, float("-inf")
        prefix, sequence_id = self._prefix_and_id
        return EigerFrames(
            prefix=prefix,
            sequence_id=sequence_id,
            start=start,
            stop=self._position,
            images_per_file=self._images_per_file,
        )

    def _later_file_is_there(self) -> bool:
        """Whether a data file after the next one has been seen; the folder is listed at times."""
        number = self._number()
        if not self._later_file_seen and os.path.exists(data_path(self.name, number + 1)):
            self._later_file_seen = True
        elif not self._later_file_seen and self._clock() >= self._next_listing_s:
            self._next_listing_s = self._clock() + FOLDER_PERIOD_S
            self._later_file_seen = bool(later_files(self.name, number))
        return self._later_file_seen

    def _number(self) -> int:
        return self._position // self._images_per_file + 1 if self._images_per_file else 1

    def _offset(self) -> int:
        """Frames of the next file that were handed out already."""
        return self._position % self._images_per_file if self._images_per_file else 0


def numbered_series(prefix: str, first: int) -> Iterator[SeriesName]:
    """Return the names of the series of a detector whose next sequence id is known."""
    return ((prefix, number) for number in itertools.count(first))


def new_masters(folder: str, prefix: str = "*") -> Iterator[SeriesName | None]:
    """Return the names of the series of which a master file appears in a folder from now on.

    The oldest one that is new comes next; None while there is none. strftime fields in `folder` are
    filled in with the time now; `prefix` is a pattern of what stands before "_<id>_master.h5".
    """
    where = Path(datetime.datetime.now().astimezone().strftime(folder)).expanduser()

    def masters() -> list[SeriesName]:
        found = masters_in(where)
        return [name for name in found if fnmatch.fnmatchcase(Path(name[0]).name, prefix)]

    known = set(masters())

    def names() -> Iterator[SeriesName | None]:
        while True:
            new = [found for found in masters() if found not in known]
            first = min(new, key=lambda found: (_modified(found), found[1]), default=None)
            if first is not None:
                known.add(first)
            yield first

    return names()


def _modified(name: SeriesName) -> float:
    try:
        return os.stat(f"{name[0]}_{name[1]}{MASTER}").st_mtime
    except OSError:
        return float("inf")


def staged_series(device: Any) -> EigerFrames | None:
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
        found = EigerFrames(
            prefix=os.path.join(str(device.file.file_path.get()), pattern.removesuffix("_$id")),
            sequence_id=int(device.file.sequence_id.get()) + 1,
            images_per_file=int(device.file.file_write_images_per_file.get()),
            start=0,
            stop=int(device.cam.num_images.get())
            * (1 if n_triggers is None else max(1, int(n_triggers.get()))),
        )
    except Exception as error:  # a device's own code; the documents tell it all at the end
        logger.warning(
            "%s: its files are not followed (%s: %s).", name, type(error).__name__, error
        )
        return None
    if not pattern.endswith("_$id") or min(found.images_per_file or 0, found.n_frames) < 1:
        logger.warning(
            "%s: its files are not followed. Got the file name pattern %r, %d images per file and "
            '%d images; expected a pattern that ends in "_$id" and numbers above 0.',
            name,
            pattern,
            found.images_per_file,
            found.n_frames,
        )
        return None
    return found
