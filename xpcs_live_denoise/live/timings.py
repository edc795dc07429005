"""How long LiveDenoise waits for what; one record, so that a test can be impatient."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Times of a session, s.

    Attributes
    ----------
    tick_s
        Longest time between two looks of the analysis at what is due.
    read_s
        How long frames behind a reference may take to appear in their file.
    first_pause_s, longest_pause_s
        Pause after a failed delivery: doubled each time, from the first to the longest.
    give_up_s
        A sink without a spool has so long after the end of its run.
    slow_s
        While a delivery takes longer, what waits behind it goes to the spool on disk.
    disk_pause_s
        Pause after a fault of that disk.
    request_s
        Longest time that the Tiled server may take for an answer.
    """

    tick_s: float = 0.1
    read_s: float = 2.0
    first_pause_s: float = 2.0
    longest_pause_s: float = 60.0
    give_up_s: float = 60.0
    slow_s: float = 2.0
    disk_pause_s: float = 60.0
    request_s: float = 10.0
