"""How far apart the frames of a series are: what documents tell, and what its events show.

A camera that a plan triggers frame by frame takes them as the plan does, whatever its own period
says. Then each event holds one frame, and the times of the events tell how far they are apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpcs_live_denoise.records.types import FloatArray

from .metadata import is_below

# Events that must have come before a live run believes their times; a run that is over needs fewer.
FIRST_EVENTS, LEAST_EVENTS = 6, 3
# A period that documents tell is right if the events agree with it so well: reading takes time.
TOLERANCE = 0.1
# Spacing is irregular where steps are this far from the period, more than one of them and more than
# that share; and so much more than its periods a series lasts where there were pauses.
JITTER, RARE = 0.2, 0.02
# Times are those of batches where fewer steps between events go forward, or where the median step
# is shorter than this share of the period.
LEAST_FORWARD, LEAST_STEP = 0.7, 0.5


class EventTimes:
    """When the events of one stream were made, as they say; for those that hold one frame each.

    The RunEngine's thread adds and counts `n_frames`, the frames of the stream; others may look
    meanwhile. `began_s` is when the run began, s since 1970.
    """

    def __init__(self, began_s: object = None) -> None:
        self.n_frames = 0
        self._began_s = _number(began_s)
        # seq_num, timestamp of the frame, time of the event; None where it does not tell
        self._rows: list[tuple[int, float | None, float | None]] = []
        self._has_zeros = False

    def add(self, seq_nums: Sequence[Any], timestamps: Sequence[Any], times: Sequence[Any]) -> None:
        """Take events; of one whose number came before (a run that was paused) the first counts.

        `timestamps` are those of the frame, `times` those of the event.
        """
        last = self._rows[-1][0] if self._rows else 0
        for seq_num, stamp, time in zip(seq_nums, timestamps, times, strict=False):
            number = last + 1 if seq_num is None else seq_num
            if isinstance(number, int) and number > last:
                # A clock that nobody set is no clock.
                self._has_zeros |= _number(stamp) is None and stamp is not None
                self._rows.append((number, _number(stamp), _number(time)))
                last = number

    @property
    def undecided(self) -> bool:
        """Whether events with one frame each may have begun to come, too few to tell.

        Documents of a stream of frames come before the events of these.
        """
        n_events = len(self._rows)
        fitting = 0.6 * n_events < self.n_frames < 1.6 * (n_events + 1)
        return n_events < FIRST_EVENTS and fitting

    def spacing(self) -> Spacing | None:
        """Return what the events tell; None where they do not tell how far frames are apart."""
        rows = list(self._rows)
        if len(rows) < LEAST_EVENTS or not self._one_frame_each(rows[-1][0]):
            return None
        is_reliable, found = True, _steps((row[0], row[1]) for row in rows)
        if found is None:
            # Without a timestamp the event's own time is all there is; beside one that is 0, or
            # stands still, documents may be copies that were made later.
            is_reliable = all(row[1] is None for row in rows) and not self._has_zeros
            found = _steps((row[0], row[2]) for row in rows)
        if found is None:
            return None
        numbers, times = found
        began, last = self._began_s, rows[-1][2]
        return Spacing.of(
            numbers,
            times,
            is_reliable=is_reliable,
            elapsed_s=math.inf if began is None or last is None else last - began,
        )

    def _one_frame_each(self, n_events: int) -> bool:
        return 0.6 * n_events < self.n_frames < 1.6 * n_events


def _number(value: object) -> float | None:
    """Return a time above 0; None for anything else."""
    if not isinstance(value, int | float | np.integer | np.floating) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and number > 0 else None


def _steps(rows: Iterable[tuple[int, float | None]]) -> tuple[FloatArray, FloatArray] | None:
    """Return the numbers and times of events that have one; None unless most come one by one."""
    known = [(number, time) for number, time in rows if time is not None]
    if len(known) < LEAST_EVENTS:
        return None
    numbers, times = np.array(known, np.float64).T
    forward = np.diff(times) > 0
    return (numbers, times) if forward.mean() >= LEAST_FORWARD else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spacing:
    """How far apart the frames are by the times of their events.

    Attributes
    ----------
    period_s
        From one frame to the next: the median, which a pause does not move.
    mean_s
        The mean over the whole series.
    low_s, high_s
        Two thirds of the steps lie between these.
    n_uneven, n_known
        How many steps are far from the period, of those whose two times are known.
    n_steps
        Steps from the first event to the last.
    elapsed_s
        From the start document to the last event; infinite where nobody tells.
    is_reliable
        Whether the times are those of frames, not only of documents.
    """

    period_s: float
    mean_s: float
    low_s: float
    high_s: float
    n_uneven: int
    n_known: int
    n_steps: int
    elapsed_s: float
    is_reliable: bool

    @classmethod
    def of(
        cls, numbers: FloatArray, times: FloatArray, *, is_reliable: bool, elapsed_s: float
    ) -> Spacing | None:
        """Return what the times of numbered events tell; None where they came in batches.

        Numbers ascend.
        """
        steps = np.diff(times) / np.diff(numbers)
        # Over some frames, since each may be late by another time: a whole number of pairs, too.
        far = max(1, len(steps) // 8)
        slopes = [
            (times[lag:] - times[:-lag]) / (numbers[lag:] - numbers[:-lag])
            for lag in {far, min(far + 1, len(steps))}
        ]
        # Times since 1970 have no more digits than that.
        period_s = float(f"{np.median(np.concatenate(slopes)):.6g}")
        if np.median(steps) < LEAST_STEP * period_s:
            return None
        low, high = np.quantile(steps, [1 / 6, 5 / 6])
        return cls(
            period_s=period_s,
            mean_s=float((times[-1] - times[0]) / (numbers[-1] - numbers[0])),
            low_s=float(low),
            high_s=float(high),
            n_uneven=int((np.abs(steps - period_s) > JITTER * period_s).sum()),
            n_known=len(steps),
            n_steps=int(numbers[-1] - numbers[0]),
            elapsed_s=elapsed_s,
            is_reliable=is_reliable,
        )

    def agrees(self, period_s: float) -> bool:
        """Whether frames may be that far apart; in batches they come so on average."""
        return any(abs(found / period_s - 1) <= TOLERANCE for found in (self.period_s, self.mean_s))

    def contradicts(self, period_s: float) -> bool:
        """Whether frames cannot be that far apart."""
        if self.agrees(period_s):
            return False
        if self.period_s > period_s:
            return True
        # So many frames so far apart were not possible in the time. What came later and all at
        # once says nothing of when it was taken.
        needed_s = self.n_steps * period_s
        return self.is_reliable and self.elapsed_s < needed_s * (1 - TOLERANCE)

    @property
    def notes(self) -> tuple[str, ...]:
        """What makes lags and ages approximate, a sentence each."""
        sentences: list[str] = []
        period_s = self.period_s
        if max(period_s - self.low_s, self.high_s - period_s) <= JITTER * period_s:
            if self.n_uneven > max(1.0, RARE * self.n_known):
                sentences.append(
                    f"The frames are not evenly spaced: {self.n_uneven} of {self.n_known} steps "
                    f"between them are more than {JITTER:.0%} away from {period_s:.3g} s. Lags and "
                    "ages are approximate."
                )
        else:
            sentences.append(
                f"The frames are not evenly spaced: two thirds of them came {self.low_s:.3g} to "
                f"{self.high_s:.3g} s after the one before. Lags and ages are approximate."
            )
        if self.mean_s > (1 + JITTER) * period_s:
            pause_s = self.n_steps * (self.mean_s - period_s)
            sentences.append(
                f"Between frames there were pauses of {pause_s:.3g} s in all, or a clock was set; "
                "they are not in the time axis. Lags and ages across a pause are too short."
            )
        return tuple(sentences)


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameTime:
    """The frame period of a series, s; None where nothing tells it. `notes` are sentences."""

    period_s: float | None
    notes: tuple[str, ...] = ()


NOT_FOUND = (
    "No document tells the frame period, and the times of its events do not show it: rates are "
    "per frame (1/frame), ages and delays in frames. Set frame_time_s."
)


def choose_frame_time(
    setting_s: float | None,
    documented_s: float | None,
    exposure_s: float | None,
    spacing: Spacing | None,
) -> FrameTime:
    """Return the frame period to use, and what to say of it.

    The setting always counts; what documents tell does unless events contradict it. A spacing below
    the exposure cannot be that of frames: they were announced in batches.
    """
    told_s, below = setting_s or documented_s, ()
    if is_below(setting_s, exposure_s):
        below = (
            f"The setting frame_time_s is {setting_s:.3g} s, below the exposure of "
            f"{exposure_s:.3g} s that documents tell, which cannot be; the setting is used.",
        )
    if spacing is not None and spacing.period_s < (exposure_s or 0.0) * (1 - TOLERANCE):
        spacing = None
    if spacing is None:
        return FrameTime(period_s=told_s, notes=below if told_s else (NOT_FOUND,))
    came = f"the frames came every {spacing.period_s:.3g} s by the times of their events"
    if told_s is None:
        if not (spacing.is_reliable or exposure_s):
            return FrameTime(period_s=None, notes=(NOT_FOUND,))
        note = f"No document tells a possible frame period; {came}, which is used."
        return FrameTime(period_s=spacing.period_s, notes=(note, *spacing.notes))
    if not spacing.contradicts(told_s):
        notes = spacing.notes if spacing.agrees(told_s) else ()
        return FrameTime(period_s=told_s, notes=(*below, *notes))
    if setting_s:
        note = f"The setting frame_time_s is {told_s:.3g} s, but {came}; the setting is used."
        return FrameTime(period_s=told_s, notes=(note, *spacing.notes))
    note = (
        f"The documents tell a frame period of {told_s:.3g} s, but {came}: "
        f"{spacing.period_s:.3g} s is used. Set frame_time_s if that is wrong."
    )
    return FrameTime(period_s=spacing.period_s, notes=(note, *spacing.notes))
