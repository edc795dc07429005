"""Who writes a derived run that several processes may begin: one of them, and who dies is replaced.

A derived run that is computed again has a uid that follows from what it is computed from, so that
all who compute it mean one node in Tiled, and only one of them creates it. Its metadata say who
that is, and a counter of them that goes on tells the others that he is still there.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tiled.client.metadata_update import DELETE_KEY  # pyright: ignore[reportMissingTypeStubs]

from xpcs_live_denoise.catalog import Node
from xpcs_live_denoise.errors import ResultInUseError, XpcsError
from xpcs_live_denoise.records.results import Publication, Result, Sink
from xpcs_live_denoise.records.run import RunEnd
from xpcs_live_denoise.records.types import Document, Fields

KEY = "claim"  # of a derived run's metadata, until it has its stop document


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimTimes:
    """Times of claims, s: all processes that compute the same runs need the same.

    Attributes
    ----------
    beat_s
        From one sign of life to the next.
    dead_s
        Who gives none for so long has died. Several times what a write to the server may take.
    settle_s
        From taking a claim over to looking whether another one did so, too; longer than a request.
    """

    beat_s: float = 5.0
    dead_s: float = 90.0
    settle_s: float = 1.0


class Claim:
    """The right of this process to write one derived run; `lock` is held while it is written."""

    def __init__(self, times: ClaimTimes | None = None) -> None:
        self.lock = threading.Lock()
        self._times = times or ClaimTimes()
        self._owner = f"{_place()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
        self._beats = 0
        self._node: Node = None
        self._lost: ResultInUseError | None = None
        self._released = threading.Event()

    @property
    def metadata(self) -> Fields:
        """What the metadata of a derived run say while it is claimed."""
        return {KEY: {"owner": self._owner, "beats": self._beats}}

    def hold(self, run: Node) -> None:
        """Claim a derived run that is there: one just created, or left by a process that died.

        Raises ResultInUseError if a living process has it, which may take `dead_s` to find out.
        """
        if "stop" in run.metadata or self._node is not None:
            return
        found: Fields = run.metadata.get(KEY) or {}
        if found.get("owner") != self._owner:
            if not self._is_dead(run, found):
                raise _in_use(run, found)
            run.update_metadata(self.metadata, drop_revision=True)
            time.sleep(self._times.settle_s)  # who else found it dead has written by now, too
            now: Fields = run.refresh().metadata.get(KEY) or {}
            if now.get("owner") != self._owner:
                raise _in_use(run, now)
        self._node = run.new_variation()
        threading.Thread(target=self._beat, name="xpcs claim", daemon=True).start()

    def check(self) -> None:
        """Raise ResultInUseError if another process has taken the claim over."""
        if self._lost is not None:
            raise self._lost

    def release(self) -> None:
        """Give the claim back: the run has its stop, or another process may write it."""
        self._released.set()
        with self.lock, contextlib.suppress(Exception):  # of a server that is away: it runs out
            if self._node is not None and self._lost is None:
                node, self._node = self._node.refresh(), None
                claim = cast("Document", node.metadata.get(KEY) or {})
                if claim.get("owner") == self._owner:
                    node.update_metadata({KEY: DELETE_KEY}, drop_revision=True)

    def _beat(self) -> None:
        while not self._released.wait(self._times.beat_s):
            # Two writes of metadata at a time: the server would lose one.
            with self.lock:
                if self._released.is_set():
                    return
                try:
                    self._say_alive()
                except ResultInUseError as error:
                    self._lost = error
                    return
                except Exception:  # noqa: S112 - a server that is away; the writer says so
                    continue

    def _say_alive(self) -> None:
        found: Fields = self._node.refresh().metadata.get(KEY) or {}
        if found.get("owner") != self._owner:
            raise _in_use(self._node, found)
        self._beats += 1
        self._node.update_metadata(self.metadata, drop_revision=True)

    def _is_dead(self, run: Node, found: Fields) -> bool:
        """Whether the owner of a claim is: known at once on this machine, else by its silence."""
        place, _, rest = str(found.get("owner", "")).rpartition("/")[0].rpartition("/")
        if not found or (place == _place() and not _is_running(rest)):
            return True
        end = time.monotonic() + self._times.dead_s
        while time.monotonic() < end:
            time.sleep(min(self._times.beat_s, self._times.dead_s) / 2)
            metadata = run.refresh().metadata
            if "stop" in metadata or metadata.get(KEY) != found:
                return False
        return True


class ClaimedSink:
    """Writes while a claim is held, and leaves nothing of an analysis that failed at once.

    `is_stored` after the stop document is; else `why` is what hindered it: another process that has
    the derived run, or an analysis that failed before there were numbers: an earlier result of the
    run would not be found behind it.
    """

    def __init__(self, sink: Sink, claim: Claim) -> None:
        self.is_stored = False
        self.why: XpcsError | None = None
        self._sink, self._claim = sink, claim
        self._without_frames: list[Publication | Result] = []  # until there is a frame: not stored
        self._has_frames = False

    def write(self, record: Publication | Result) -> None:
        """Write a publication, or the final result."""
        with self._claim.lock:
            self._has_frames = self._has_frames or record.status.n_processed > 0
            if not self._has_frames:
                self._without_frames.append(record)
            elif self._may_write():
                while self._without_frames:
                    self._write(self._without_frames[0])
                    del self._without_frames[0]
                self._write(record)

    def finish(self, end: RunEnd) -> None:
        """Write the end; the claim is held until `Claim.release`."""
        with self._claim.lock:
            if end.analysis_exit_status != "success" and not self._has_frames:
                self.why = XpcsError(f"{end.reason} Nothing was stored.")
            elif self._may_write():
                self._attempt(lambda: self._sink.finish(end))
                self.is_stored = self.why is None

    def _may_write(self) -> bool:
        self._attempt(self._claim.check)
        return self.why is None

    def _write(self, record: Publication | Result) -> None:
        self._attempt(lambda: self._sink.write(record))

    def _attempt(self, write: Callable[[], None]) -> None:
        try:
            write()
        except ResultInUseError as error:  # for good: no fault of the server to try again after
            self.why = error


def _place() -> str:
    """Return the machine, and the container on it, in which process numbers mean something."""
    parts = [socket.gethostname()]
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")[:8])
        parts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    except OSError:  # no Linux
        pass
    return ":".join(parts)


def _is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True


def _in_use(run: Node, found: Fields) -> ResultInUseError:
    owner = str(found.get("owner", "another process"))
    place, _, pid = owner.rpartition("/")[0].rpartition("/")
    who = f"process {pid} on {place.partition(':')[0]}" if place else owner
    return ResultInUseError(
        f"Its new result {run.path_parts[-1]} is being computed by another job ({who}); expected "
        "one job for a run. It is left to that job: with --skip-done a later one computes it only "
        "if that one died."
    )
