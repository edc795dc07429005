"""How a run is named by who types or copies it, and what such a name can mean."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from xpcs_live_denoise.errors import (
    InvalidInputError,
    ResultNotFoundError,
    one_line,
    short_repr,
)
from xpcs_live_denoise.records.types import Fields

# So many letters of a uid are enough: of a million runs 6 % share their first six with another
# one, and then all of them are named.
FEWEST_LETTERS = 6
EXPECTED = (
    f"Expected the uid of a run, its first {FEWEST_LETTERS} or more letters, its scan_id as a "
    "number, or -1 for the newest run."
)
MOST_NAMED = 8
_SCAN_ID = re.compile(r"(scan\s*)?(-?\d{1,18})", re.IGNORECASE)
_LETTERS = re.compile(rf"[0-9a-f-]{{{FEWEST_LETTERS},}}")


def readings(name: object, *, scan_id_first: bool = False) -> tuple[int | str, ...]:
    """Return what the name of a run can mean, in the order in which it is looked for.

    An int is a scan_id, or negative: -1 is the newest run. A text is a uid or its beginning, also
    with a path before it; text of digits is either, the uid first unless `scan_id_first`, as on a
    command line. "Scan 77" is what screens call a run.

    Raises
    ------
    InvalidInputError
        For what names no run.
    """
    if not isinstance(name, str):
        index = getattr(name, "__index__", None)  # also numpy's integers
        if index is None or isinstance(name, bool):
            raise InvalidInputError(f"Run {short_repr(name)}: names no run. {EXPECTED}")
        return (int(index()),)
    # As copied from a screen: with quotes, with the container before it, with dots behind.
    text = name.strip(" \t\r\n'\"\u2026/").rpartition("/")[2].removesuffix("...")
    if not text:
        raise InvalidInputError(f"Run {short_repr(name)}: names no run. {EXPECTED}")
    digits = _SCAN_ID.fullmatch(text)
    if digits is None:
        return (text,)
    scan_id = int(digits[2])
    if digits[1] or scan_id < 0:
        return (scan_id,)
    return (scan_id, text) if scan_id_first else (text, scan_id)


def uid_beginning(text: str) -> str:
    """Return the letters with which a uid may begin; "" for a text that is no such beginning."""
    letters = text.lower()
    return letters if _LETTERS.fullmatch(letters) else ""


def scan_ids(reading: int) -> tuple[int, str]:
    """Return how a start document may write a scan_id: some beamlines write it as text."""
    return reading, str(reading)


def scan_id_of(start: Fields) -> Any:
    """Return the scan_id of a start document; of a result also one that is no number, as text."""
    own = start.get("scan_id")
    xpcs = start.get("xpcs")
    return own if own is not None or not isinstance(xpcs, Mapping) else xpcs.get("scan_id")


def in_words(reading: int | str) -> str:
    """Return what is looked for, for a message."""
    if isinstance(reading, int):
        if reading >= 0:
            return f"scan_id {reading}"
        return "the newest run" if reading == -1 else f"the run that is number {-reading} from last"
    if letters := uid_beginning(reading):
        return f"a uid that begins with {letters}"
    short = f" ({FEWEST_LETTERS} or more letters of a uid are needed)"
    as_scan = "" if reading.isdigit() else f" or scan_id {one_line(reading, 80)}"
    few = short if len(reading) < FEWEST_LETTERS else ""
    return f"the uid {one_line(reading, 80)}{few}{as_scan}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRun:
    """What tells a raw run from others; `scan_id` is empty and `time` 0 where unknown."""

    uid: str
    scan_id: str = ""
    time: float = 0.0

    @classmethod
    def from_start(cls, start: Fields, *, of_result: bool) -> RawRun:
        """Return the raw run of its own start document, or of that of a result."""
        uid, began = start.get("uid"), start.get("time")
        if of_result:
            uid = start.get("original_run_uid")
            # Results of before schema 2 do not tell when their raw run began: a little earlier.
            began = start.get("xpcs", {}).get("raw_time") or began
        scan_id = scan_id_of(start)
        return cls(
            uid=str(uid),
            scan_id="" if scan_id is None else one_line(str(scan_id), 20),
            time=float(began) if isinstance(began, int | float) else 0.0,
        )

    def __str__(self) -> str:
        facts = [f"scan {self.scan_id}"] if self.scan_id else []
        if self.time > 0:
            facts.append(time.strftime("%Y-%m-%d %H:%M", time.localtime(self.time)))
        return f"{self.uid} ({', '.join(facts)})" if facts else self.uid


def choose(runs: Iterable[RawRun], reading: int | str, where: str) -> tuple[RawRun, str]:
    """Return the one raw run that is meant, and a note where there are others.

    Of several with one scan_id the newest is. `where` says where they were found.

    Raises
    ------
    ResultNotFoundError
        For letters with which several uids begin; names them.
    """
    by_uid = {run.uid: run for run in runs}
    found = sorted(by_uid.values(), key=lambda run: run.time, reverse=True)
    if len(found) == 1 or (isinstance(reading, int) and reading < 0):
        return found[0], ""
    named = ", ".join(map(str, found[:MOST_NAMED])) + (", ..." if len(found) > MOST_NAMED else "")
    if isinstance(reading, str):
        raise ResultNotFoundError(
            f"Run {reading}: the uids of {len(found)} runs in {where} begin so: {named}. Give more "
            "letters."
        )
    return found[0], (
        f"Scan {reading}: {len(found)} runs have this scan_id: {named}. The newest is taken; for "
        "another one give its uid."
    )
