"""The series of a classic Eiger behind a run in Tiled, which keeps no more of them than a prefix.

TiledWriter stores resources that it has no reader for as bytes: a path, and in the metadata the
spec. Which series are the run's, their master files tell: by their number, time and frames.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from xpcs_live_denoise.errors import UnreadableFramesError, short_repr
from xpcs_live_denoise.sources.eiger_layout import (
    Master,
    count_written,
    data_path,
    later_files,
    read_master,
)
from xpcs_live_denoise.sources.file_roots import FileRoots

# How far the clock of the detector's files may be from that of the documents, s: the smallest with
# which enough series are found. Times of files are no finer than the first.
CLOCKS_APART_S = (0.01, 2.0, 60.0)
# Data files that are opened to see how many frames a full one holds.
MOST_COUNTED = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvents:
    """What a run in Tiled tells of the events whose frames an Eiger wrote.

    Attributes
    ----------
    subject
        The run and its data key, for messages.
    prefixes
        Paths of the files up to, without, "_<sequence id>".
    began_s
        When the run began, s since 1970.
    times_s
        When each event was made, s since 1970, in order.
    n_images
        Frames of one trigger; None if unknown.
    """

    subject: str
    prefixes: tuple[str, ...]
    began_s: float
    times_s: tuple[float, ...]
    n_images: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSeries:
    """A series on disk: `<prefix>_<sequence_id>_master.h5`, what it says, and when it was written.

    Attributes
    ----------
    prefix, sequence_id
        As in EigerFrames.
    master
        What the master file tells.
    written_s
        When the master file was written, s since 1970.
    """

    prefix: str
    sequence_id: int
    master: Master
    written_s: float

    @property
    def name(self) -> str:
        """What names the series: path without "_master.h5"."""
        return f"{self.prefix}_{self.sequence_id}"


def series_of_events(events: StoredEvents, roots: FileRoots) -> list[StoredSeries]:
    """Return the series of each event, in order.

    Raises
    ------
    UnreadableFramesError
        When there is not exactly one for each event, or files lie outside the roots.
    """
    there = [found for prefix in events.prefixes for found in _series(prefix, roots)]
    found = [series for series in there if _fits(series.master, events.n_images)]
    wanted, in_time = len(events.times_s), []
    for apart in CLOCKS_APART_S if wanted else ():
        first, last = events.began_s - apart, events.times_s[-1] + apart
        in_time = [series for series in found if first <= series.written_s <= last]
        if len(in_time) >= wanted:
            break
    if len(in_time) > wanted:  # a paused scan takes a series again, and keeps one that broke off
        in_time = [series for series in in_time if _is_complete(series, roots)]
    if len(in_time) == wanted:
        return in_time
    frames = "" if events.n_images is None else f" of {events.n_images} frames each trigger"
    names = ", ".join(short_repr(Path(series.name).name) for series in there[:5])
    stored = ", ".join(short_repr(prefix) for prefix in events.prefixes[:5])
    raise UnreadableFramesError(
        f"{events.subject}: Tiled stores only the path {stored} of its files, "
        f"and {len(in_time)} series there{frames} fit the time of the run; expected {wanted}, one "
        f"for each event. There is {names or 'no master file'}{', ...' * (len(there) > 5)}. "
        "Make the files readable here, with their times kept if they were copied (rsync -t)."
    )


def images_per_file(series: StoredSeries, roots: FileRoots) -> int | None:
    """Return the frames of a full data file, None where no file that is there tells."""
    numbers = _numbers(series)
    # The last one may hold fewer.
    counts = (_count(series, number, roots) for number in numbers[:-1] or numbers)
    return max(itertools.islice((n for n in counts if n), MOST_COUNTED), default=None)


def _series(prefix: str, roots: FileRoots) -> Iterator[StoredSeries]:
    """Yield the series with that prefix whose master is there, by their sequence ids."""
    folder = roots.inside(prefix).parent
    pattern = re.compile(re.escape(Path(prefix).name) + r"_(\d{1,15})_master\.h5")
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for number in sorted({int(match[1]) for name in names if (match := pattern.fullmatch(name))}):
        try:
            master = read_master(f"{prefix}_{number}", roots)
            written_s = os.stat(f"{prefix}_{number}_master.h5").st_mtime
        except OSError:  # outside the roots, or gone
            continue
        yield StoredSeries(
            prefix=prefix, sequence_id=number, master=master or Master(), written_s=written_s
        )


def _fits(master: Master, n_images: int | None) -> bool:
    """Whether a master may be that of triggers of `n_images` frames; it counts all triggers."""
    return not master.n_frames or not n_images or master.n_frames % n_images == 0


def _is_complete(series: StoredSeries, roots: FileRoots) -> bool:
    """Whether the data files hold all the frames that the master tells of."""
    held = sum(_count(series, number, roots) or 0 for number in _numbers(series))
    return held >= (series.master.n_frames or 1)


def _numbers(series: StoredSeries) -> list[int]:
    return sorted({*series.master.links, *later_files(series.name, 0)})


def _count(series: StoredSeries, number: int, roots: FileRoots) -> int | None:
    path, dataset = series.master.links.get(number) or (data_path(series.name, number), None)
    try:
        return count_written(path, roots, dataset)
    except UnreadableFramesError:
        return None
