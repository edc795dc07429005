"""What one run still owes one destination: in memory, and on disk where that cannot keep up."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from xpcs_live_denoise.monitoring import Counts
from xpcs_live_denoise.records.results import (
    BandRows,
    C2Rows,
    GammaTable,
    Intensity,
    Publication,
    Result,
    Sink,
)
from xpcs_live_denoise.records.run import RunEnd, RunInfo
from xpcs_live_denoise.sinks import Spool, TiledDestination, read_record

logger = logging.getLogger(__name__)

SinkFactory: TypeAlias = Callable[[RunInfo], Sink]
# Of publications that wait in memory for one destination, where there is a disk; and of those that
# are delivered as one.
MOST_BYTES = 64 * 2**20


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
    close_s
        A command that is interrupted or refused tries so long what fails.
    """

    tick_s: float = 0.1
    read_s: float = 2.0
    first_pause_s: float = 2.0
    longest_pause_s: float = 60.0
    give_up_s: float = 60.0
    slow_s: float = 2.0
    disk_pause_s: float = 60.0
    request_s: float = 10.0
    close_s: float = 5.0


@dataclass(slots=True, eq=False)
class Piece:
    """A publication that waits, in memory or in a file of the spool; `n_bytes` of its arrays.

    `first_row` is the first of the band's, None without any. `rows_before`: once the final result
    waits, only rows of the band before that frame count; it does not hold them.
    """

    publication: Publication | None
    path: Path | None
    n_bytes: int
    first_row: int | None = None
    rows_before: int | None = None

    @classmethod
    def of(cls, publication: Publication) -> Piece:
        """Return the piece of a publication that is in memory."""
        first_row = None if publication.band is None else publication.band.start
        return cls(publication, None, _n_bytes(publication), first_row)

    def read(self) -> Publication:
        """Return the publication."""
        publication = self.publication  # the other thread may write it to the disk just now
        if publication is None:
            if self.path is None:
                raise RuntimeError("A piece is neither in memory nor on disk.")
            publication = read_record(self.path)
        before = self.rows_before
        return publication if before is None else publication.rows_before(before)

    def keep_rows_before(self, frame: int) -> bool:
        """Keep of the publication only rows of the band before a frame; False if it has none."""
        if self.first_row is None or self.first_row >= frame:
            return False
        self.rows_before = frame
        if self.publication is not None:
            self.publication = self.publication.rows_before(frame)
            self.n_bytes = _n_bytes(self.publication)
        return True


class Outbox:
    """What one run still owes one destination, oldest first.

    The worker's thread puts; the delivery thread reads, and says what was delivered. Who puts
    beyond `most_bytes` in memory, or while the destination does not answer, writes to the spool,
    which a destination that makes users' sinks does not have. `end` is how the run ended: None
    before it did and when that is delivered.
    """

    def __init__(
        self,
        destination: TiledDestination | SinkFactory,
        *,
        timings: Timings,
        most_bytes: int = MOST_BYTES,
        counts: Counts | None = None,
    ) -> None:
        self.end: RunEnd | None = None
        self._destination = destination
        self._timings = timings
        self._most_bytes = most_bytes
        self._counts = counts or Counts()
        self._lock = threading.RLock()
        self._info: RunInfo | None = None
        self._spool: Spool | None = None
        self._pieces: list[Piece] = []
        self._result: Result | None = None
        self._end_path: Path | None = None
        self._disk_fault = float("-inf")  # time.monotonic() of the last

    @property
    def info(self) -> RunInfo | None:
        """What is known of the run; None before it began."""
        return self._info

    @property
    def has_spool(self) -> bool:
        """Whether what waits can be kept on disk."""
        return isinstance(self._destination, TiledDestination)

    @property
    def is_empty(self) -> bool:
        """Whether everything was delivered."""
        return not self._pieces and self.end is None

    @property
    def has_end_on_disk(self) -> bool:
        """Whether the end, and the final result, are kept on disk."""
        return self._end_path is not None

    @property
    def folder(self) -> Path | None:
        """Where on disk something waits; None where nothing does."""
        kept = self.has_end_on_disk or any(piece.path for piece in self._pieces)
        return self._spool.folder if self._spool is not None and kept else None

    # --- what the worker calls ----------------------------------------------------------------

    def begin(self, info: RunInfo) -> None:
        """Take what is known of the run; the newest before the sink is made counts."""
        self._info = info

    def put(self, publication: Publication, *, on_disk: bool) -> None:
        """Add a publication. `on_disk`: the destination may not take it soon."""
        with self._lock:
            self._pieces.append(Piece.of(publication))
            if on_disk or self._bytes_in_memory() > self._most_bytes:
                self.spill()

    def put_end(self, result: Result | None, end: RunEnd, *, on_disk: bool) -> None:
        """Add the end; a final result takes the place of everything provisional.

        Of a long series it holds the last rows of the band alone: those before it stay.
        """
        with self._lock:
            if result is not None:
                first = result.band.start
                self._pieces = [piece for piece in self._pieces if piece.keep_rows_before(first)]
            self._result, self.end = result, end
            if on_disk:
                self.spill(last_chance=True)

    def spill(self, *, last_chance: bool = False) -> None:
        """Write what is only in memory to the spool, where there is one.

        Many runs may wait for a server: what is on disk is forgotten here. A fault of the disk is
        logged once, and leaves everything in memory. `last_chance`: try again after one at once.
        """
        with self._lock:
            patient = not last_chance and self._disk_fault > float("-inf")
            if patient and time.monotonic() < self._disk_fault + self._timings.disk_pause_s:
                return
            try:
                self._write()
            except Exception as error:  # a disk is foreign ground: the analysis goes on in memory
                self._note_disk_fault(error)

    # --- what the delivery thread calls -------------------------------------------------------

    def open_sink(self) -> Sink:
        """Return the sink of the run; may raise whatever a user's code or a server makes it."""
        if self._info is None:
            raise RuntimeError("A sink was opened before its run began.")
        if isinstance(self._destination, TiledDestination):
            return self._destination.sink(self._require_spool(self._destination))
        return self._destination(self._info)

    def first(self) -> Sequence[Piece]:
        """Return the oldest pieces, as many as are delivered as one.

        After a failure it returns these again, and later ones too: a table that took some of their
        rows is offered them once more.
        """
        n_bytes, first = 0, list[Piece]()
        for piece in list(self._pieces):
            n_bytes += piece.n_bytes
            if first and n_bytes > self._most_bytes:
                break
            first.append(piece)
        return first

    def read(self, pieces: Sequence[Piece]) -> Publication | None:
        """Return pieces as one publication; None if a final result has taken their place."""
        try:
            # Without the lock: who puts something must not wait for the disk.
            publication = joined([piece.read() for piece in pieces]) if pieces else None
        except Exception:
            if self._has(pieces):
                raise
            return None  # its file was removed while it was read
        return publication if self._has(pieces) else None

    def _has(self, pieces: Sequence[Piece]) -> bool:
        with self._lock:
            return all(piece in self._pieces for piece in pieces)

    def read_result(self) -> Result | None:
        """Return the final result, from wherever it is; raises where nobody would take it now."""
        if self._end_path is None:
            return self._result
        if isinstance(self._destination, TiledDestination):
            self._destination.probe()  # before a large result is read from the disk
        return read_record(self._end_path)["result"]

    def delivered(self, pieces: Sequence[Piece]) -> None:
        """Forget pieces that have arrived."""
        with self._lock:
            left = [piece for piece in self._pieces if piece not in pieces]
            for piece in pieces:
                if piece.path is not None:
                    piece.path.unlink(missing_ok=True)
            if not left and self.end is None:
                self._clear_spool()
            self._pieces = left

    def end_delivered(self) -> None:
        """Forget everything: the run has arrived."""
        with self._lock:
            self._clear_spool()
            self.forget()

    def forget(self) -> None:
        """Keep nothing in memory any more; what is on disk stays."""
        with self._lock:
            self._pieces, self._result, self.end = [], None, None

    def close(self) -> None:
        """Let another process deliver what is on disk."""
        with self._lock:
            if self._spool is not None:
                self._spool.close()

    # --- the disk ------------------------------------------------------------------------------

    def _write(self) -> None:
        if self._info is None or not isinstance(self._destination, TiledDestination):
            return
        spool = self._require_spool(self._destination)
        for piece in self._pieces:
            if piece.publication is not None:
                piece.path = spool.put(piece.publication)
                piece.publication = None
        if self.end is not None and self._end_path is None:
            self._end_path = spool.put_end(self._result, self.end)
            self._result = None

    def _require_spool(self, destination: TiledDestination) -> Spool:
        with self._lock:
            if self._spool is None:
                if self._info is None:
                    raise RuntimeError("A spool was opened before its run began.")
                self._spool = destination.spool(self._info)
            return self._spool

    def _clear_spool(self) -> None:
        self._end_path = None
        if self._spool is None:
            return
        try:
            self._spool.clear()
        except OSError as error:
            self._note_disk_fault(error)

    def _note_disk_fault(self, error: Exception) -> None:
        self._counts.add("xpcs_faults_total", label="spool")
        if self._disk_fault == float("-inf") and self._info is not None:
            logger.warning(
                "Run %s: what the server does not take cannot be kept on disk (%s: %s). It "
                "stays in memory until the server is back; make room, or set `spool` to "
                "another folder.",
                self._info.uid,
                type(error).__name__,
                error,
            )
        self._disk_fault = time.monotonic()

    def _bytes_in_memory(self) -> int:
        return sum(piece.n_bytes for piece in self._pieces if piece.publication is not None)


def joined(publications: Sequence[Publication]) -> Publication:
    """Return publications that follow each other as one, with the newest's status and picture."""
    tables = [one.gamma for one in publications if one.gamma is not None]
    pictures = [one.picture for one in publications if one.picture is not None]
    rows = [one.c2 for one in publications if one.c2 is not None]
    bands = [one.band for one in publications if one.band is not None]
    counted = [one.intensity for one in publications if one.intensity is not None]
    return dataclasses.replace(
        publications[-1],
        c2=C2Rows.concatenate(rows) if rows else None,
        band=BandRows.concatenate(bands) if bands else None,
        gamma=GammaTable.concatenate(tables) if tables else None,
        picture=pictures[-1] if pictures else None,
        intensity=Intensity.concatenate(counted) if counted else None,
    )


def _n_bytes(publication: Publication) -> int:
    arrays = [] if publication.c2 is None else [publication.c2.values]
    if (band := publication.band) is not None:
        arrays += [values for values in (band.c2, band.denoised, band.spread) if values is not None]
    if publication.picture is not None:
        arrays += [publication.picture.mean, publication.picture.labels]
    if publication.intensity is not None:
        arrays += [publication.intensity.total, publication.intensity.roi_mean]
    n_rows = 0 if publication.gamma is None else len(publication.gamma)
    return sum(array.nbytes for array in arrays) + 500 * n_rows
