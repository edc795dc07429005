"""The progress of a series in the terminal, as bluesky shows it, and of its analysis beside it."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from bluesky.utils import ProgressBarManager

from xpcs_live_denoise.records.run import Status

from .callback import LiveDenoise

PERIOD_S = 0.5


class SeriesProgress:
    """A waiting hook of the RunEngine: ``RE.waiting_hook = SeriesProgress(live_denoise)``.

    Draws what bluesky's ProgressBarManager draws, and below it how many frames are analysed and
    how far that is behind the detector.

    Parameters
    ----------
    live
        The callbacks whose runs are shown.
    manager
        What draws: anything that takes a list of status objects, or None to clear.
    """

    def __init__(
        self, *live: LiveDenoise, manager: Callable[[Iterable[Any] | None], Any] | None = None
    ) -> None:
        self._live = live
        self._draw = manager or ProgressBarManager()
        self._ended = threading.Event()  # of the wait that is shown

    def __call__(self, status_objs: Iterable[Any] | None) -> None:
        """Begin to show the progress of status objects, or clear it (None)."""
        self._ended.set()
        if status_objs is None:
            self._draw(None)
            return
        self._ended = threading.Event()
        # What a progress bar asks a status object for.
        analyses = [
            SimpleNamespace(done=False, watch=functools.partial(_watch, live, self._ended))
            for live in self._live
            if live.running
        ]
        self._draw([*status_objs, *analyses])


def _watch(live: LiveDenoise, ended: threading.Event, update: Callable[..., Any]) -> None:
    """Call `update` twice a second, on a thread, with how far the newest run is analysed."""

    def report() -> None:
        while not ended.is_set():
            newest = next(reversed(live.running.values()), None)
            if newest is not None:
                update(**_report_of(newest))
            ended.wait(PERIOD_S)

    threading.Thread(target=report, name="xpcs progress", daemon=True).start()


def _report_of(status: Status) -> dict[str, Any]:
    """Return the keywords of an update: frames analysed, of those that were seen."""
    return {
        "name": f"analysis, {status.lag_s:.1f} s behind",
        "current": status.n_processed + status.n_skipped,
        "initial": 0,
        "target": max(1, status.n_seen),
        "unit": " frames",
        "precision": 0,
    }
