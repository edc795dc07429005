"""One live line in the terminal: frames, lag behind the detector, Gamma now."""

from __future__ import annotations

import math
import time

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.text import Text

from xpcs_live_denoise.records.results import GammaTable, Publication, Result
from xpcs_live_denoise.records.run import RunEnd, RunInfo, Status
from xpcs_live_denoise.views import preference, progress_line, rate_words

# Lines that stand one under the other where the terminal cannot overwrite them: one every so often.
FRAMES_BETWEEN_LINES = 50


class TerminalSink:
    """Shows where a run stands, in one line that is overwritten.

    Parameters
    ----------
    info
        The run.
    console
        Where to write; on anything but a terminal a new line is printed every
        FRAMES_BETWEEN_LINES frames.
    """

    def __init__(self, info: RunInfo, *, console: Console | None = None) -> None:
        self._info = info
        self._console = console or Console()
        self._live: Live | None = None
        self._newest: dict[int, tuple[int, float, str]] = {}  # ROI -> rank, age, text
        self._printed_frames = 0
        self._first: tuple[float, int] | None = None  # when the first frames were shown, how many
        if self._console.is_terminal:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()

    def write(self, record: Publication | Result) -> None:
        """Show the line; the final result only closes it."""
        if isinstance(record, Result):
            return
        if record.gamma is not None:
            self._remember(record.gamma)
        self._show(record.status, record.n_frames)

    def finish(self, end: RunEnd) -> None:
        """Leave the last line standing and say how the run ended."""
        if self._live is not None:
            self._live.stop()
        if end.reason:
            self._console.print(Text(end.reason, style="yellow"))
        if end.status.message:
            self._console.print(Text(end.status.message, style="yellow"))

    def _remember(self, table: GammaTable) -> None:
        """Keep the newest rate of every ROI: a recommended one, else denoised, else raw."""
        ranks = preference(table)
        for row in np.flatnonzero(table.converged):
            rank, age_s = int(ranks[row]), float(table.age_s[row])
            roi, rate = int(table.roi[row]), float(table.relaxation_rate[row])
            if (rank, age_s) >= self._newest.get(roi, (-1, -math.inf, ""))[:2]:
                text = rate_words(rate, float(table.relaxation_rate_error[row]))
                self._newest[roi] = (rank, age_s, text)

    def _show(self, status: Status, n_frames: int) -> None:
        text = Text(self._line(status))
        if self._live is not None:
            self._live.update(text, refresh=True)
        elif n_frames - self._printed_frames >= FRAMES_BETWEEN_LINES:
            self._printed_frames = n_frames
            self._console.print(text, soft_wrap=True)

    def _line(self, status: Status) -> str:
        rates = {roi: self._newest.get(roi, (0, 0.0, "-"))[2] for roi in self._info.roi}
        line = progress_line(status, self._info.n_expected, rates, self._info.time_unit)
        left_s = self._left_s(status)
        return line if left_s is None else f"{line}, about {left_s:.0f} s left"

    def _left_s(self, status: Status) -> float | None:
        """Return how long the rest of the frames takes at the pace so far; None if not known."""
        now, n = time.monotonic(), status.n_processed + status.n_skipped
        self._first = self._first or (now, n)
        began, n_first = self._first
        total = self._info.n_expected
        if total is None or not n_first < n < total:
            return None
        return (total - n) * (now - began) / (n - n_first)
