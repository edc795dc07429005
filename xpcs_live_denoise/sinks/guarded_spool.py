"""A run's spool as a feed wants it: it takes what is new, and a fault of the disk costs nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from xpcs_live_denoise.records.results import (Result, RunEnd)
from xpcs_live_denoise.sink_feed import Backlog

from .spool import RunSpool

logger = logging.getLogger(__name__)

PAUSE_S = 60.0  # after a fault of the disk


class GuardedSpool:
    """How much of a backlog is on disk. Only `result` raises; a fault is logged once.

    Parameters
    ----------
    make
        Returns the spool; called when the first record is written.
    uid
        Of the raw run.

    Attributes
    ----------
    uid
        Of the raw run.
    has_end
        Whether the end and the final result are on disk.
    """

    def __init__(self, make: Callable[[], RunSpool], uid: str) -> None:
        self.has_end = False
        self.uid = uid
        self._make = make
        self._spool: RunSpool | None = None
        self._n_pieces = 0
        self._n_frames = 0
        self._not_before = 0.0
        self._told = False

    @property
    def folder(self) -> Path | None:
        """Where it lies; None where nothing does."""
        kept = self._n_pieces > 0 or self.has_end
        return self._spool.folder if self._spool is not None and kept else None

    def keep(self, backlog: Backlog) -> None:
        """Write what the backlog got since the last call."""
        if len(backlog) <= self._n_pieces or time.monotonic() < self._not_before:
            return
        news = backlog.joined(self._n_pieces, self._n_frames)
        if self._guard(lambda: self._open().put(news)):
            self._n_pieces, self._n_frames = len(backlog), news.n_frames

    def keep_end(self, backlog: Backlog, result: Result | None, end: RunEnd) -> None:
        """Write the end, once; `backlog` holds the facts that a result does not."""
        if self.has_end:
            return
        self._not_before = 0.0  # it may be the last chance
        if result is None:
            self.keep(backlog)
        facts = backlog.joined() if len(backlog) and result is not None else None
        self.has_end = self._guard(lambda: self._open().put_end(facts, result, end))

    def result(self) -> Result | None:
        """Return the result that `keep_end` was given.

        Raises
        ------
        InvalidInputError, OSError
            When it cannot be read any more.
        """
        return None if self._spool is None else self._spool.result()

    def clear(self) -> None:
        """Remove everything: it is delivered."""
        self._n_pieces = self._n_frames = 0
        self.has_end = False
        if self._spool is not None:
            self._guard(self._spool.clear)

    def close(self) -> None:
        """Let another process deliver what is there."""
        if self._spool is not None:
            self._guard(self._spool.close)

    def _open(self) -> RunSpool:
        if self._spool is None:
            self._spool = self._make()
        return self._spool

    def _guard(self, call: Callable[[], None]) -> bool:
        try:
            call()
        except Exception as error:  # a disk is foreign ground: the analysis goes on in memory
            self._not_before = time.monotonic() + PAUSE_S
            if not self._told:
                logger.warning(
                    "Run %s: what the server does not take cannot be kept on disk (%s: %s). It "
                    "stays in memory until the server is back; make room, or set `spool` to "
                    "another folder.",
                    self.uid,
                    type(error).__name__,
                    error,
                )
            self._told = True
            return False
        return True
