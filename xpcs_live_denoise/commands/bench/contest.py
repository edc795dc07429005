"""Contestants, and how they are measured: in turns, with medians, slow ones from fewer frames."""

from __future__ import annotations

import dataclasses
import gc
import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from xpcs_live_denoise.errors import text_of

from .case import Case

# What a repetition gives: (quantity, unit) -> number. Rates end in "/s": more is better.
Numbers: TypeAlias = Mapping[tuple[str, str], float]
# A repetition: the name of the contestant, and its numbers or why it failed.
Repetition: TypeAlias = tuple[str, Numbers | str]
# Units that say how fast or how small something is: only such numbers have a ratio.
RATES = ("/s",)
AMOUNTS = ("us", "ms", "s", "MB")
MEMORY, PAGE = 2**29, 2**12  # bytes that are written to before each run, and between two numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """Something that is measured.

    Attributes
    ----------
    name
        As the table shows it.
    run
        Called once a repetition; returns what was measured.
    prepare
        Called once before, not measured: compiles, for example.
    peer
        Whether it is not of this package.
    note
        What a reader of the table should know.
    extrapolated
        Whether it is run on fewer frames; `note` says which.
    missing
        Why it cannot be measured here and what to do; it is then not run.
    """

    name: str
    run: Callable[[], Numbers]
    prepare: Callable[[], object] = bool
    peer: bool = False
    note: str = ""
    extrapolated: bool = False
    missing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Contestants that do the same thing; the first is what the others are compared with.

    `title` is the line above them, `repeats` how often each is run. `compared`: ratios tell
    something.
    """

    title: str
    contestants: Sequence[Contestant]
    repeats: int = 3
    compared: bool = True


# A section while its data, files and servers are there.
MakeSection: TypeAlias = Callable[[Case], AbstractContextManager[Section]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One number of one contestant.

    `values` are those of the repetitions, none where it was not measured: `note` then says why.
    `ratio` is how many times as fast, or as small, the first contestant of the section is; None
    where there is nothing to compare.
    """

    section: str
    contestant: str
    quantity: str
    unit: str
    values: tuple[float, ...]
    peer: bool
    note: str
    extrapolated: bool = False
    ratio: float | None = None

    @property
    def median(self) -> float:
        """The median of the repetitions; NaN without any."""
        return statistics.median(self.values) if self.values else float("nan")


def in_turns(names: Sequence[str], repeats: int) -> Iterator[list[str]]:
    """Yield the order of each repetition: all names, in another order each time.

    A rotation would leave everybody behind the same one, in whose caches and heat it would stand.
    """
    for repeat in range(repeats):
        order = [*names]
        random.Random(repeat).shuffle(order)  # noqa: S311
        yield order


def measure(section: Section, say: Callable[[str], object]) -> Iterator[Repetition]:
    """Run the contestants in turns; yield the name and what was measured, repetition by repetition.

    What a contestant raises ends only that contestant: it is not run again.
    """
    about = section.title.partition(":")[0]
    running = {one.name: one for one in section.contestants if not one.missing}
    failed: set[str] = set()
    # Some peers collect garbage in each call; how many objects others keep is not their cost.
    gc.collect()
    gc.freeze()
    try:
        for repeat, order in enumerate([[*running], *in_turns([*running], section.repeats)]):
            for name in (name for name in order if name not in failed):
                one, which = running[name], f"{repeat} of {section.repeats}"
                say(f"{about}: {name}, {which if repeat else 'prepared'}")
                try:
                    if repeat:
                        touch_memory()
                        yield name, one.run()
                    else:
                        one.prepare()
                except Exception as error:  # of anybody's code: the others are measured
                    failed.add(name)
                    yield name, f"failed: {type(error).__name__}: {text_of(error)}"
    finally:
        gc.unfreeze()


def touch_memory(n_bytes: int = MEMORY) -> None:
    """Write to memory and give it back, so that the system has some at hand.

    A virtual machine may take what nobody used for seconds, and give it out again at 0.5 GB/s: who
    runs after a slow contestant would pay for that, up to half of its speed.
    """
    np.empty(n_bytes, np.uint8)[::PAGE] = 1


def rows_of(section: Section, runs: Sequence[Repetition]) -> list[Row]:
    """Return the rows of a section, in the order of its contestants, from the runs so far."""
    rows: list[Row] = []
    for one in section.contestants:
        of_one = [found for name, found in runs if name == one.name]
        numbers = [found for found in of_one if not isinstance(found, str)]
        failures = [found for found in of_one if isinstance(found, str)]
        quantities = dict.fromkeys(key for found in numbers for key in found)
        notes = [one.note] if numbers else [one.missing or "not measured"]
        for key in quantities or {("", ""): None}:
            row = Row(
                section=section.title,
                contestant=one.name,
                quantity=key[0],
                unit=key[1],
                values=tuple(found[key] for found in numbers if key in found),
                peer=one.peer,
                note="; ".join(filter(None, failures or notes)),
                extrapolated=one.extrapolated,
            )
            rows.append(with_ratio(row, rows) if section.compared else row)
    return rows


def with_ratio(row: Row, before: Sequence[Row]) -> Row:
    """Return a row with its ratio to the first row before it that tells the same quantity."""
    first = next(
        (one for one in before if (one.quantity, one.unit) == (row.quantity, row.unit)), None
    )
    rate, amount = row.unit.endswith(RATES), row.unit in AMOUNTS
    if first is None or not (rate or amount) or not row.values:
        return row
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.divide(first.median, row.median) if rate else np.divide(row.median, first.median)
    return dataclasses.replace(row, ratio=float(ratio)) if np.isfinite(ratio) else row


def extrapolated_seconds(n_frames: int, measured: Mapping[int, float]) -> float:
    """Return the time for `n_frames` frames from times for fewer, frames -> s.

    The law is a N + b N^2 with a and b not below 0: each frame costs something, and each pair of
    frames. Relative deviations count.
    """
    from scipy.optimize import nnls  # slow to import

    frames = np.array([*measured], np.float64)
    seconds = np.array([*measured.values()], np.float64)
    terms = np.stack([frames, frames**2], axis=1) / seconds[:, np.newaxis]
    factors, _ = nnls(terms, np.ones(len(frames)))
    return float(factors @ np.array([n_frames, float(n_frames) ** 2]))


def seconds_for(seconds: Callable[[int], float], n_frames: int, most: int) -> float:
    """Return the time that `seconds(n)` takes for n_frames, extrapolated from at most `most`."""
    if n_frames <= most:
        return seconds(n_frames)
    return extrapolated_seconds(n_frames, {n: seconds(n) for n in (most // 2, most)})


def extrapolation_note(n_frames: int, most: int) -> str:
    """Return what the table says of a contestant that was run on fewer frames, else nothing."""
    if n_frames <= most:
        return ""
    return f"from {most // 2} and {most} frames, as a N + b N^2"
