"""How far a command is: a bar on a terminal, plain lines elsewhere, and what time is left."""

from __future__ import annotations

import time
from types import TracebackType

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

LINE_EVERY_S = 5.0


class Steps:
    """Shows steps done of a total, and the time that is left. A context.

    Without a total there is no estimate, and none before the first step.

    Parameters
    ----------
    what, unit
        What is done, and what a step is called.
    at_most
        Whether fewer steps than the total may do: the estimate says so.
    """

    def __init__(
        self, what: str, unit: str, *, at_most: bool = False, console: Console | None = None
    ) -> None:
        self._what, self._unit, self._at_most = what, unit, at_most
        self._console = console or Console()
        self._began = self._last_line = time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=self._console, transient=True)
        self._task = self._bar.add_task(what, total=None)

    def __enter__(self) -> Steps:
        """Begin to show."""
        if self._console.is_terminal:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the bar away."""
        self._bar.stop()

    def show(self, done: float, total: float | None, note: str = "") -> None:
        """Show where it stands; a total that was passed is no total."""
        total = None if total is None or not 0 < done <= total else total
        line = f"{self._what}: {done:.0f}"
        line += f" {self._unit}" if total is None else f" of {total:.0f} {self._unit}"
        if total is not None and total > done:
            left_s = (time.monotonic() - self._began) * (total - done) / done
            line += f", {'at most' if self._at_most else 'about'} {_words(left_s)} left"
        line += f" {note}" if note else ""
        if self._console.is_terminal:
            self._bar.update(self._task, description=line, completed=done, total=total)
        elif (now := time.monotonic()) - self._last_line >= LINE_EVERY_S:
            self._last_line = now
            typer.echo(f"{line} ({_words(now - self._began)} so far)")


def _words(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
