"""Feeds one sink of one run: makes it when needed, keeps what it could not take, tries again."""

from __future__ import annotations

import dataclasses
import logging
import shlex
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable
from weakref import WeakSet

from xpcs_live_denoise.config import Settings
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.records.results import Band, C2Rows, GammaTable, Publication, Result, Sink
from xpcs_live_denoise.records.run import RunEnd, RunInfo
from xpcs_live_denoise.sinks import RunSpool, default_folder

logger = logging.getLogger(__name__)

# Pause after a failure, s: doubled each time, so that a dead server does not stall the analysis.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 2.0, 60.0
# A sink without a spool has so long after the end of its run, s; then the run is done without it.
GIVE_UP_S = 60.0
# How `trouble` begins: what may pass by itself, and what a user must put right.
NOT_STORED, REFUSED = "Not stored yet: ", "Not stored: "
END_STORED = "its final results are stored"


class Spool(Protocol):
    """Where a feed keeps on disk what its sink could not take; only `result` may raise."""

    has_end: bool
    """Whether the end and the final result are there."""

    @property
    def folder(self) -> Any:
        """Where it lies."""

    def keep(self, backlog: Backlog) -> None:
        """Write what the backlog got since the last call."""

    def keep_end(self, backlog: Backlog, result: Result | None, end: RunEnd) -> None:
        """Write the end; a result stands for all that was kept before."""

    def result(self) -> Result | None:
        """Return the result that `keep_end` was given."""

    def clear(self) -> None:
        """Forget everything: it is delivered."""

    def close(self) -> None:
        """Let another process deliver what is there."""


@runtime_checkable
class Spooling(Protocol):
    """A sink factory whose results are kept on disk until they are delivered."""

    def open_spool(self, info: RunInfo) -> Spool:
        """Return the spool of the run. Touches no disk."""
        ...


@runtime_checkable
class Probing(Protocol):
    """A sink that can tell cheaply whether it would take anything."""

    def probe(self) -> None:
        """Raise if it would not."""


class SinkFeed:
    """The state between a run and one of its sinks.

    Parameters
    ----------
    factory
        Makes the sink; may raise, for example while the server is down. If it is `Spooling`, what
        the sink does not take is kept on disk too.
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
        self.trouble = ""
        self._factory = factory
        self._uid = uid
        self._sink: Sink | None = None
        self._backlog = Backlog()
        self._opened_spool: Spool | None = None
        self._end: RunEnd | None = None
        self._result: Result | None = None
        self._pause_s = 0.0
        self._not_before = 0.0
        self._give_up = float("inf")  # time.monotonic() after which nothing is offered again

    def write(self, news: Publication) -> None:
        """Offer a publication, with what the sink could not take before."""
        if news.c2 is not None:  # only the rows that this sink has not
            news = dataclasses.replace(news, c2=rows_from(news.c2, self.n_frames))
        self._backlog.add(news)
        if self._pause_s and self._spool is not None:
            self._spool.keep(self._backlog)
        self.retry()

    def finish(self, result: Result | None, end: RunEnd) -> None:
        """Write the final result if there is one, and close the sink; `retry` if that fails."""
        self._result, self._end = result, end
        if result is not None:
            self._backlog.leave_facts(self.n_frames)
        self._not_before = 0.0
        if self._pause_s:
            self._keep_end()
        if not isinstance(self._factory, Spooling):
            self._give_up = time.monotonic() + GIVE_UP_S
        self.retry()

    def retry(self) -> None:
        """Offer again what is left, the final result too, if the pause is over."""
        nothing_left = self._end is None and not self._backlog
        if nothing_left or time.monotonic() < self._not_before:
            return
        try:
            sink = self._open()
            if self._backlog:
                news = self._backlog.joined()
                sink.write(news)
                self.n_frames = max(self.n_frames, news.n_frames)
                self._backlog = Backlog()
            if self._end is not None:
                self._write_end(sink, self._end)
        except Exception as error:  # a sink is foreign ground: its fault must not end the analysis
            self._failed(error)
            return
        if self._pause_s:
            now = "publishing again, nothing was lost" if self._end is None else END_STORED
            logger.warning("Run %s: %s.", self._uid, now)
        self._pause_s, self.trouble = 0.0, ""
        if self._end is not None:
            self._sink = None  # a plot holds the whole result, and runs stay on show in `status`
        self._end = self._result = None
        if self._opened_spool is not None:
            self._opened_spool.clear()

    @property
    def delivering(self) -> bool:
        """Whether a final result is still to be delivered."""
        return self._end is not None

    def abandon(self) -> None:
        """Give up a final result, and say so, and where it lies; another process may deliver."""
        if self._end is not None:
            self._give_up_result()
        if self._opened_spool is not None:
            self._opened_spool.close()

    def _give_up_result(self) -> None:
        self._keep_end()
        self._end = self._result = self._sink = None
        self._backlog = Backlog()
        remedy = f"xpcs-live-denoise replay {self._uid} --config xpcs.yml or analyse repeats it."
        if self._spool is not None and self._spool.has_end:
            remedy = (
                f"They are kept in {self._spool.folder}: xpcs-live-denoise deliver --config "
                "xpcs.yml stores them when the server is back."
            )
        logger.error(
            "Run %s: the final results could not be stored. %s %s", self._uid, self.trouble, remedy
        )

    def _open(self) -> Sink:
        if self._sink is None:
            if self.info is None:
                raise RuntimeError(f"Run {self._uid}: a sink was opened before the run began.")
            self._sink = self._factory(self.info)
        return self._sink

    @property
    def _spool(self) -> Spool | None:
        """The spool, None where there is none or the run has not begun."""
        if self._opened_spool is None and self.info and isinstance(self._factory, Spooling):
            self._opened_spool = self._factory.open_spool(self.info)
        return self._opened_spool

    def _write_end(self, sink: Sink, end: RunEnd) -> None:
        result = self._result
        if self._opened_spool is not None and self._opened_spool.has_end:
            if isinstance(sink, Probing):
                sink.probe()  # before a large result is read from the disk
            result = self._opened_spool.result()
        if result is not None:
            sink.write(result)
        sink.finish(end)

    def _keep_end(self) -> None:
        """Put the final result on disk, and forget it here: many runs may wait for a server."""
        if self._end is not None and self._spool is not None:
            self._spool.keep_end(self._backlog, self._result, self._end)
            if self._spool.has_end:
                self._result = None

    def _failed(self, error: Exception) -> None:
        lasts = isinstance(error, InvalidInputError)
        self.trouble = f"{REFUSED if lasts else NOT_STORED}{' '.join(str(error).split())}"
        if not self._pause_s:
            logger.warning(
                "Run %s: results cannot be published (%s: %s). The scan and the analysis go on; "
                "trying again.",
                self._uid,
                type(error).__name__,
                error,
            )
        self._pause_s = min(max(2 * self._pause_s, FIRST_PAUSE_S), LONGEST_PAUSE_S)
        now = time.monotonic()
        self._not_before = min(now + self._pause_s, self._give_up)
        if now >= self._give_up:
            self.abandon()
        elif self._end is not None:
            self._keep_end()
        elif self._spool is not None:
            self._spool.keep(self._backlog)


class Backlog:
    """Publications that a sink could not take, oldest first. Reading it consumes nothing.

    Attributes
    ----------
    pieces
        The publications without their rows of C2.
    rows
        All rows that the sink lacks: every publication brings them all.
    """

    def __init__(self) -> None:
        self.pieces: list[Publication] = []
        self.rows: C2Rows | None = None

    def __len__(self) -> int:
        return len(self.pieces)

    def add(self, news: Publication) -> None:
        """Put a publication at the end."""
        self.rows = news.c2 if news.c2 is not None else self.rows
        self.pieces.append(dataclasses.replace(news, c2=None))

    def leave_facts(self, n_frames: int) -> None:
        """Keep only what a final result does not hold; the sink has the rows of `n_frames`."""
        self.rows = None
        if not self.pieces:
            return
        joined = self.joined()
        facts = dataclasses.replace(
            joined, n_frames=n_frames, bands=(), gamma=None, picture=None, c2=None
        )
        self.pieces = [facts] if facts.metadata else []

    def joined(self, first: int = 0, from_frame: int = 0) -> Publication:
        """Return the pieces from number `first` on as one publication, the newest's status."""
        pieces = self.pieces[first:]
        tables = [piece.gamma for piece in pieces if piece.gamma is not None]
        metadata: dict[str, Any] = {}
        for piece in pieces:
            metadata |= piece.metadata
        pictures = [piece.picture for piece in pieces if piece.picture is not None]
        return dataclasses.replace(
            pieces[-1],
            c2=None if self.rows is None else rows_from(self.rows, from_frame),
            bands=_uncovered([band for piece in pieces for band in piece.bands]),
            gamma=GammaTable.concatenate(tables) if tables else None,
            metadata=metadata,
            picture=pictures[-1] if pictures else None,
        )


def rows_from(rows: C2Rows, first: int) -> C2Rows | None:
    """Return the rows from frame `first` on, None if there are none."""
    if rows.start >= first:
        return rows
    if rows.stop <= first:
        return None
    return C2Rows(start=first, stop=rows.stop, values=rows.values[:, first - rows.start :])


def _uncovered(bands: list[Band]) -> tuple[Band, ...]:
    """Return the bands that no later one covers, in order."""
    left: list[Band] = []
    for band in bands:
        while left and band.start <= left[-1].start and band.stop >= left[-1].stop:
            left.pop()
        left.append(band)
    return tuple(left)


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


class SpooledTiled:
    """A sink factory for one run whose spool carries the same derived uid as its sink.

    Parameters
    ----------
    settings
        Where results go, and the folder of the spool.
    make_sink
        Makes the sink from RunInfo, uid and time of the derived run. Imported and connected as
        late as possible, so not by this module.
    opened
        Gets every spool that is opened; for `what_is_left`.
    """

    def __init__(
        self,
        settings: Settings,
        make_sink: Callable[[RunInfo, str, float], Sink],
        opened: WeakSet[GuardedSpool] | None = None,
    ) -> None:
        self._opened: WeakSet[GuardedSpool] = WeakSet() if opened is None else opened
        self.uid = str(uuid.uuid4())
        self._created = time.time()
        self._settings = settings
        self._make_sink = make_sink

    def __call__(self, info: RunInfo) -> Sink:
        """Return the sink of the run."""
        return self._make_sink(info, self.uid, self._created)

    def open_spool(self, info: RunInfo) -> GuardedSpool:
        """Return the spool of the run. Touches no disk."""
        spool = GuardedSpool(lambda: self._spool(info), info.uid)
        self._opened.add(spool)
        return spool

    def _spool(self, info: RunInfo) -> RunSpool:
        tiled = self._settings.tiled
        root: Path = self._settings.spool or default_folder()
        return RunSpool(
            root,
            info,
            uid=self.uid,
            time=self._created,
            path=tiled.path,
            raw_path=tiled.raw_path,
            access_tags=tiled.access_tags,
        )


def what_is_left(spools: Iterable[GuardedSpool], unfinished: Sequence[str]) -> list[str]:
    """Return what a session that ends should say of results that are not stored, a line each.

    Parameters
    ----------
    spools
        Those that were opened.
    unfinished
        Uids of raw runs whose stop came but whose results are not delivered yet.
    """
    waiting = [spool for spool in list(spools) if spool.folder is not None]
    lines: list[str] = []
    if waiting and waiting[0].folder is not None:
        root = waiting[0].folder.parent
        runs = "1 run wait" if len(waiting) == 1 else f"{len(waiting)} runs wait"
        lines.append(
            f"Results of {runs} in {root}: `xpcs-live-denoise deliver --config xpcs.yml --spool "
            f"{shlex.quote(str(root))}` stores them when the server is back."
        )
    kept = {spool.uid for spool in waiting if spool.has_end}
    if lost := [uid for uid in unfinished if uid not in kept]:
        lines.append(
            f"Not stored to the end and not on disk: {len(lost)} run(s). `xpcs-live-denoise replay "
            f"{' '.join(lost)} --config xpcs.yml` computes them again."
        )
    return lines
