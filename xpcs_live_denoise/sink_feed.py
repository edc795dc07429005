"""Feeds one sink of one run: makes it when needed, keeps what it could not take, tries again."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable

from .records import GammaTable, Publication, Result, RunEnd, RunInfo, Sink

logger = logging.getLogger(__name__)

# Pause after a failure, s: doubled each time, so that a dead server does not stall the analysis.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 60.0


class SinkFeed:
    """The state between a run and one of its sinks.

    Parameters
    ----------
    factory
        Makes the sink; may raise, for example while the server is down.
    uid
        Of the raw run, for the log.

    Attributes
    ----------
    info
        What the sink is made from; set when the run begins.
    n_frames
        Frames whose rows of C2 the sink has.
    trouble
        Why the last attempt failed, one sentence; empty if it did not.
    """

    def __init__(self, factory: Callable[[RunInfo], Sink], uid: str) -> None:
        self.info: RunInfo | None = None
        self.n_frames = 0
        self._factory = factory
        self._uid = uid
        self._sink: Sink | None = None
        self._kept: Publication | None = None
        self._final: tuple[Result | None, RunEnd] | None = None
        self.trouble = ""
        self._pause_s = 0.0
        self._not_before = 0.0

    def write(self, news: Publication) -> None:
        """Offer a publication, with what the sink could not take before."""
        self._kept = news if self._kept is None else _join(self._kept, news)
        if time.monotonic() < self._not_before:
            return
        try:
            self._open().write(self._from_here(self._kept))
        except Exception as error:  # a sink is foreign ground: its fault must not end the analysis
            self._failed(error)
            return
        if self._pause_s:
            logger.warning("Run %s: publishing again, nothing was lost.", self._uid)
        self._pause_s, self.trouble = 0.0, ""
        self.n_frames = self._kept.n_frames
        self._kept = None

    def finish(self, result: Result | None, end: RunEnd) -> None:
        """Write the final result if there is one, and close the sink; `retry` if that fails."""
        self._final = (result, end)
        self._kept = None  # the result holds it all
        self._not_before = 0.0
        self.retry()

    def retry(self) -> None:
        """Offer the final result again, if there is one left and the pause is over."""
        if self._final is None or time.monotonic() < self._not_before:
            return
        result, end = self._final
        try:
            sink = self._open()
            if result is not None:
                sink.write(result)
            sink.finish(end)
        except Exception as error:  # as above; both calls may be repeated
            self._failed(error)
            return
        if self._pause_s:
            logger.warning("Run %s: its final results are stored now.", self._uid)
        self._pause_s, self.trouble, self._final = 0.0, "", None

    @property
    def delivering(self) -> bool:
        """Whether a final result is still to be delivered."""
        return self._final is not None

    def abandon(self) -> None:
        """Give up a final result, and say so."""
        if self._final is not None:
            self._final = None
            logger.error(
                "Run %s: the final results could not be stored. %s The raw data are untouched: "
                "compute them again with xpcs_live_denoise.analyse.",
                self._uid,
                self.trouble,
            )

    def _open(self) -> Sink:
        if self._sink is None:
            if self.info is None:
                raise RuntimeError(f"Run {self._uid}: a sink was opened before the run began.")
            self._sink = self._factory(self.info)
        return self._sink

    def _from_here(self, news: Publication) -> Publication:
        """Drop the rows of C2 that this sink has already."""
        if news.c2 is None or news.c2.start >= self.n_frames:
            return news
        first = self.n_frames - news.c2.start
        rows = dataclasses.replace(news.c2, start=self.n_frames, values=news.c2.values[:, first:])
        return dataclasses.replace(news, c2=rows if rows.values.shape[1] else None)

    def _failed(self, error: Exception) -> None:
        self.trouble = f"Not stored yet: {' '.join(str(error).split())}"
        if not self._pause_s:
            logger.warning(
                "Run %s: results cannot be published (%s: %s). The scan and the analysis go on; "
                "trying again.",
                self._uid,
                type(error).__name__,
                error,
            )
        self._pause_s = min(max(2 * self._pause_s, FIRST_PAUSE_S), LONGEST_PAUSE_S)
        self._not_before = time.monotonic() + self._pause_s


def _join(kept: Publication, news: Publication) -> Publication:
    """Return the newer publication with the windows and ages of the older one in front."""
    tables = [table for table in (kept.gamma, news.gamma) if table is not None]
    return dataclasses.replace(
        news,
        bands=kept.bands + news.bands,
        gamma=GammaTable.concatenate(tables) if tables else None,
        metadata={**kept.metadata, **news.metadata},
    )
