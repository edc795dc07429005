"""Several results of one run: which of them stands for it, and how they are told apart."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from xpcs_live_denoise.config import NO_NUMBER
from xpcs_live_denoise.errors import one_line
from xpcs_live_denoise.records.types import Fields

MOST_SETTINGS = 3  # that a label names
SHORT_UID = 8
UNKNOWN = "unknown"  # who analysed, of results of early versions


def analysis_status(stop: Fields) -> str:
    """Return how an analysis ended, "" of one that is on; the plan may have ended otherwise."""
    return str(stop.get("analysis_exit_status") or stop.get("exit_status") or "")


def standing(stop: Fields | None) -> int:
    """Return the rank of a result among those of its run: finished, then live, then failed.

    A failed result never stands for a run that has a good one, however new it is.
    """
    if not stop:
        return 1
    return 2 if analysis_status(stop) == "success" else 0


def labels_of(starts: Sequence[Fields]) -> list[str]:
    """Return what to call each of several results of a run, from their start documents.

    That is who analysed, with the settings in which it differs from the oldest one of them, such
    as "reprocess, outliers off"; where this is not enough the time, then letters of its uid. No two
    are alike.
    """
    if not starts:
        return []
    settings = [dict(number_settings(start)) for start in starts]
    oldest = min(range(len(starts)), key=lambda at: _time(starts[at]))
    found = [
        ", ".join([_by(start), *_differences(own, settings[oldest], start, starts[oldest])])
        for start, own in zip(starts, settings, strict=True)
    ]
    for more in (_when, lambda start: str(start.get("uid", ""))[:SHORT_UID]):
        counts = Counter(found)
        found = [
            f"{label}, {more(start)}" if counts[label] > 1 else label
            for label, start in zip(found, starts, strict=True)
        ]
    return found


def number_settings(start: Fields) -> Iterator[tuple[str, object]]:
    """Yield the settings of a result that change its numbers, by name."""
    settings = mapping(mapping(start.get("xpcs")).get("settings"))
    yield from flattened({name: value for name, value in settings.items() if name not in NO_NUMBER})


def _by(start: Fields) -> str:
    return str(mapping(start.get("xpcs")).get("analysed_by") or UNKNOWN)


def _time(start: Fields) -> float:
    time = start.get("time")
    return float(time) if isinstance(time, int | float) else 0.0


def _when(start: Fields) -> str:
    return f"{datetime.datetime.fromtimestamp(_time(start)):%Y-%m-%d %H:%M:%S}"


def _differences(own: Fields, other: Fields, start: Fields, first: Fields) -> list[str]:
    """Return in words in which settings a result differs from another one."""
    names = [name for name in own if name in other and own[name] != other[name]]
    words = [f"{name} {_word(own.get(name))}" for name in names[:MOST_SETTINGS]]
    if len(names) > MOST_SETTINGS:
        words.append(f"{len(names) - MOST_SETTINGS} more settings")
    hashes = {mapping(one.get("xpcs")).get("settings_hash") for one in (start, first)}
    if not names and len(hashes - {None, ""}) > 1:
        words.append("other files")  # of the same names
    return words


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "none" if value is None else one_line(str(value).rpartition("/")[2], 30)


def mapping(value: object) -> Fields:
    """Return a value that should be a mapping; an empty one in place of anything else."""
    return cast(Fields, value) if isinstance(value, Mapping) else {}


def flattened(document: Fields, before: str = "") -> Iterator[tuple[str, object]]:
    """Yield names and values of a document; what is inside a mapping with dots."""
    for key, value in document.items():
        if isinstance(value, Mapping):
            yield from flattened(cast(Fields, value), f"{before}{key}.")
        else:
            yield f"{before}{key}", value
