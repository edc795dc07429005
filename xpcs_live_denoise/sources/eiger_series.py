"""Which series of an Eiger to follow: the next ones of a staged device, or what a folder gets."""

from __future__ import annotations

import datetime
import fnmatch
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

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
