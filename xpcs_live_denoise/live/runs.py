"""The runs that LiveDenoise shows: those under way, and the newest of those that ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from .run import LiveRun

# Runs that stay on show after they ended.
REMEMBERED_RUNS = 16
Shown = TypeVar("Shown")


class RecentRuns:
    """The runs of a session, oldest first; the RunEngine's thread adds, anybody may look."""

    def __init__(self) -> None:
        self._runs: dict[str, LiveRun] = {}
        self._stopped: list[LiveRun] = []

    def began(self, run: LiveRun) -> None:
        """Show a run, and forget old ones."""
        self._runs[run.uid] = run
        ended = [uid for uid, known in self._runs.items() if known.done]
        for uid in ended[: max(0, len(self._runs) - REMEMBERED_RUNS)]:
            del self._runs[uid]

    def stopped(self, run: LiveRun) -> None:
        """Count a run as one that will end."""
        self._stopped = [known for known in self._stopped if not known.done] + [run]
        self.began(run)

    @property
    def unfinished(self) -> list[str]:
        """Uids of the runs whose stop came and whose results are not delivered."""
        return [run.uid for run in self._stopped if not run.done]

    def by_uid(
        self, show: Callable[[LiveRun], Shown], *, running: bool = False
    ) -> dict[str, Shown]:
        """Return what `show` makes of each run; `running`: of those that are not done."""
        # A copy: the RunEngine's thread may add a run meanwhile.
        runs = dict(self._runs).values()
        return {run.uid: show(run) for run in runs if not (running and run.done)}
