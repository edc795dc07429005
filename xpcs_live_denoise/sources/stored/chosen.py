"""The series that a user names for a run, where nothing that is stored tells which one it has."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from xpcs_live_denoise.errors import InvalidInputError, UnreadableFramesError
from xpcs_live_denoise.records.types import Document, Fields
from xpcs_live_denoise.sources.eiger.files import MASTER, Master, masters_in, read_master
from xpcs_live_denoise.sources.file_roots import FileRoots

# How far the times of files may lie outside a run, s: clocks differ.
CLOCKS_DIFFER_S = 60.0
MOST_LISTED = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenSeries:
    """The series that a user named for a run, one for each event.

    Attributes
    ----------
    names
        Sequence ids, or paths of master files.
    detector
        Name of the detector.
    folders
        Where the files of a run may lie that ended before its first event.
    """

    names: tuple[str, ...]
    detector: str
    folders: tuple[Path, ...]

    def among(self, candidates: Sequence[Master], uid: str, roots: FileRoots) -> list[Master]:
        """Return the named series, in order.

        Raises
        ------
        InvalidInputError
            When a name fits none or several of the candidates, or a path is no master file.
        """
        return [_chosen(name, candidates, uid, roots) for name in self.names]

    def descriptor(self, series: Master, start: Fields, data_key: str) -> Document:
        """Return what a descriptor would have said, as far as a master file tells."""
        row, col = series.geometry.beam_center or (None, None)
        told = {
            "acquire_period": series.frame_time_s,
            "beam_center_x": col,
            "beam_center_y": row,
            "wavelength": series.geometry.wavelength_angstrom,
            "det_distance": series.geometry.detector_distance_m,
            "x_pixel_size": series.geometry.pixel_size_m,
        }
        data = {name: value for name, value in told.items() if value is not None}
        key = {"source": series.series, "dtype": "array", "shape": [0, 0], "external": "FILESTORE:"}
        return {
            "uid": f"{start['uid']}-{data_key}-descriptor",
            "run_start": start["uid"],
            "time": series.written_s,
            "name": "primary",
            "data_keys": {data_key: {**key, "object_name": self.detector}},
            "object_keys": {self.detector: [data_key]},
            "configuration": {self.detector: {"data": data, "timestamps": {}, "data_keys": {}}},
            "hints": {},
        }


def series_during(folders: Iterable[Path], run: Fields, roots: FileRoots) -> list[Master]:
    """Return the series in some folders whose master came while a run went on, oldest first."""
    began_s = float(run["start"]["time"]) - CLOCKS_DIFFER_S
    ended_s = float((run.get("stop") or {}).get("time") or time.time()) + CLOCKS_DIFFER_S
    found: dict[str, Master] = {}
    for folder in folders:
        for prefix, number in masters_in(folder):
            series = f"{prefix}_{number}"
            try:
                if began_s <= os.stat(series + MASTER).st_mtime <= ended_s:
                    found[os.path.realpath(series)] = _master(series, roots)
            except OSError:  # outside the roots, or gone
                continue
    return sorted(found.values(), key=lambda one: one.written_s)


def _chosen(given: str, candidates: Sequence[Master], uid: str, roots: FileRoots) -> Master:
    if given.endswith(MASTER):
        if not os.path.exists(given):
            raise InvalidInputError(
                f"Series {given}: no such file; expected the master file of a series. Check the "
                "path."
            )
        return _master(os.path.abspath(given).removesuffix(MASTER), roots)
    fitting = [one for one in candidates if one.series.rpartition("_")[2] == given]
    if len(fitting) == 1:
        return fitting[0]
    several = f"{len(fitting)} series of this number" if fitting else "no such series"
    raise InvalidInputError(
        f"Run {uid}, --series {given}: {several}; expected the sequence id of one of: "
        f"{listed_series(candidates, roots) or 'none was found'}. Give the path of its master file "
        "(..._master.h5) where the number does not tell."
    )


def _master(series: str, roots: FileRoots) -> Master:
    written_s = os.stat(series + MASTER).st_mtime
    return read_master(series, roots) or Master(series=series, written_s=written_s)


def listed_series(candidates: Sequence[Master], roots: FileRoots) -> str:
    """Return series as text: name, frames on disk, time."""
    lines: list[str] = []
    for one in candidates[:MOST_LISTED]:
        try:
            held: int | None = n_on_disk(one, roots)
        except UnreadableFramesError:
            held = None
        expected = "" if one.n_frames in (None, held) else f" of {one.n_frames}"
        taken = datetime.datetime.fromtimestamp(one.written_s).astimezone()
        name = Path(one.series).name
        lines.append(f"{name} ({held or 0}{expected} frames, {taken:%Y-%m-%d %H:%M:%S})")
    more = ["..."] if len(candidates) > MOST_LISTED else []
    return ", ".join([*lines, *more])


def n_on_disk(series: Master, roots: FileRoots) -> int:
    """Return where the frames of a series end that its data files hold."""
    counts = {number: series.count(number, roots) or 0 for number in series.numbers()}
    held = [number for number, n in counts.items() if n]
    if not held:
        return 0
    return (held[-1] - 1) * max(counts.values()) + counts[held[-1]]
