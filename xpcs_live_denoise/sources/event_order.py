"""Which events are new: a paused run repeats some, a network loses some."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from xpcs_live_denoise.errors import InvalidInputError, short_repr

# Frames that may be missing between two events; beyond it a seq_num is a mistake.
MOST_LOST_FRAMES = 100_000


def new_events(
    last: int, seq_nums: Sequence[Any], frames_per_event: int = 1
) -> tuple[list[int | None], int]:
    """Sort out the events of one stream by their numbers.

    Parameters
    ----------
    last
        Highest `seq_num` so far; 0 before the first event, which has 1.
    seq_nums
        Of the events in the order in which they came. None: the next one.
    frames_per_event
        Frames that each of them stands for.

    Returns
    -------
    n_lost
        For each event how many are missing before it; None for one whose number came before.
    last
        Highest `seq_num` now.

    Raises
    ------
    InvalidInputError
        When more frames than MOST_LOST_FRAMES would be missing, or a number is below 1.
    TypeError
        For what is no whole number.
    """
    n_lost: list[int | None] = []
    n_missing = 0
    for seq_num in seq_nums:
        number = last + 1 if seq_num is None else operator.index(seq_num)
        if number < 1:
            raise InvalidInputError(
                f"An event has the seq_num {short_repr(number)}; expected >= 1."
            )
        if number <= last:
            n_lost.append(None)
            continue
        n_missing += number - last - 1
        if n_missing * frames_per_event > MOST_LOST_FRAMES:
            raise InvalidInputError(
                f"An event has the seq_num {short_repr(number)} after {last}; expected the next "
                f"one, or a gap of at most {MOST_LOST_FRAMES} frames. The document is left out."
            )
        n_lost.append(number - last - 1)
        last = number
    return n_lost, last
