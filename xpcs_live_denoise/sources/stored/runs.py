"""Follows the raw runs of a Tiled server while they are taken, and turns them into documents."""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xpcs_live_denoise.errors import Once, XpcsError, text_of
from xpcs_live_denoise.records.types import Document, Fields
from xpcs_live_denoise.sources.file_roots import FileRoots

from .documents import TiledDocuments

if TYPE_CHECKING:
    from xpcs_live_denoise.catalog import Node

logger = logging.getLogger(__name__)

# The subscription wakes us at once; looking now and then finds what it missed (a restarted server,
# a message that was too large), and stop documents, which it does not tell of.
POLL_S = 1.0
# Nodes that every look asks for; twice as many, and again, until one of them is known.
NEWEST = 20
MOST_NEW = 5120
# Runs that are opened in one look, and that are open at a time: the others wait.
AT_ONCE = 50
# A node that cannot be opened is given up after so many looks.
MOST_TRIES = 600
# Between two looks, however much there is to look at.
PAUSE_S = 0.1
# A run without a stop is taken up when we start only if it may still be under way.
MAY_BE_RUNNING_S = 3600.0
# Nothing new for so long, and a later run has begun: its writer has died.
IDLE_S = 600.0
# Frames of a stored run that cannot be found for so long: it is ended, and its stop says why.
MISSING_S = 30.0
LEAVE_S = 5.0
MAX_MESSAGE_BYTES = 64 * 2**20


@contextlib.contextmanager
def _going_on(logged: Once, what: str) -> Iterator[None]:
    """Log what goes wrong, each reason once: the server is foreign ground, the next look may do."""
    try:
        yield
    except Exception as error:
        reason = f"{what}: {type(error).__name__}: {text_of(error, 300)}"
        if logged.is_news(reason):
            logger.warning("Following runs in Tiled, %s. Trying again.", reason)


@dataclass(slots=True)
class _OpenRun:
    """A run that is passed on."""

    documents: TiledDocuments
    last_document_s: float  # time.monotonic() when its last document came
    missing_since_s: float | None = None  # since when its frames cannot be found


class TiledRuns:
    """Calls back with the documents of every new raw run that may have frames of the detector.

    Use it as a context manager or through `start` and `stop`. A server that is away is waited for.

    Parameters
    ----------
    container
        Tiled client of the container with the raw runs.
    callback
        Called as callback(name, doc) on one thread.
    detector, data_key, stream
        Runs whose start names other detectors alone are left out; the data key has the frames, and
        the setting `stream` names their stream where it is not the usual one.
    roots
        Where files may be read, see TiledDocuments.
    poll_s
        Longest time between two looks at the server, s.
    idle_s, missing_s
        A run is ended that brings nothing for so long, while a later one has begun, or whose
        frames cannot be found for so long, s.
    """

    def __init__(
        self,
        container: Node,
        callback: Callable[[str, Document], Any],
        *,
        detector: str,
        data_key: str,
        roots: FileRoots,
        stream: str | None = None,
        poll_s: float = POLL_S,
        idle_s: float = IDLE_S,
        missing_s: float = MISSING_S,
    ) -> None:
        self._documents_of = functools.partial(
            TiledDocuments, container, data_key=data_key, roots=roots, stream=stream
        )
        self._callback = callback
        self._poll_s = poll_s
        self._idle_s = idle_s
        self._missing_s = missing_s
        self._logged = Once()
        self._new_runs = NewRuns(container, detector, logged=self._logged)
        self._updates = ServerUpdates(container)
        self._open: dict[str, _OpenRun] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def waits_for(self) -> str:
        """Nobody is to connect: "", as of a RemoteDocuments."""
        return ""

    def start(self) -> TiledRuns:
        """Follow from now on; returns at once."""
        self._thread = threading.Thread(target=self._run, name="xpcs-tiled-runs", daemon=True)
        self._thread.start()
        return self

    def stop(self, leave_s: float = LEAVE_S) -> None:
        """Stop following; runs under way get no stop. Repeats are harmless.

        A thread that waits for a server that is away, as Tiled's client does for a minute, is left
        behind after `leave_s`.
        """
        self._stopping.set()
        self._updates.arrived.set()
        if self._thread is not None:
            self._thread.join(leave_s)

    def __enter__(self) -> TiledRuns:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def subscribed(self) -> bool:
        """Whether the server tells of updates by itself."""
        return self._updates.subscription is not None

    def look(self) -> None:
        """Look once, as the thread does over and over: pass on what has come."""
        with _going_on(self._logged, "looking for new runs"):
            newest = self._new_runs.look()
            for uid in self._new_runs.take(AT_ONCE - len(self._open)):
                self._open[uid] = _OpenRun(self._documents_of(uid), time.monotonic())
            self._end_the_dead(newest)
        for run in list(self._open.values()):
            with _going_on(self._logged, f"run {run.documents.uid}"):
                self._pass_on(run)

    # --- on the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        self._updates.subscribe(self._poll_s)
        while not self._stopping.is_set():
            self._updates.arrived.clear()
            self.look()
            self._stopping.wait(min(PAUSE_S, self._poll_s))
            self._updates.arrived.wait(self._poll_s)
        self._updates.close()

    def _end_the_dead(self, newest: str) -> None:
        for uid, run in list(self._open.items()):
            if uid != newest and time.monotonic() - run.last_document_s > self._idle_s:
                try:
                    self._pass_all(run, run.documents.give_up())
                except XpcsError as error:
                    self._pass_all(run, run.documents.break_off(text_of(error)))
                del self._open[uid]

    def _pass_on(self, run: _OpenRun) -> None:
        try:
            self._pass_all(run, run.documents.new_documents())
            run.missing_since_s = None
        except XpcsError as error:  # files may come late
            now = time.monotonic()
            if run.missing_since_s is None:
                run.missing_since_s = now
            if now - run.missing_since_s < self._missing_s:
                raise
            self._pass_all(run, run.documents.break_off(text_of(error)))
        if run.documents.ended:
            del self._open[run.documents.uid]

    def _pass_all(self, run: _OpenRun, documents: Iterator[tuple[str, Document]]) -> None:
        for name, doc in documents:
            run.last_document_s = time.monotonic()
            self._callback(name, doc)


class NewRuns:
    """The runs that come to a container; `take` consumes what it returns.

    Every look asks for the `newest` nodes, and for twice as many and again, up to `most_new`, until
    one of them is known. A node that cannot be opened is given up after `most_tries` looks.
    """

    def __init__(
        self,
        container: Node,
        detector: str,
        *,
        logged: Once,
        newest: int = NEWEST,
        most_new: int = MOST_NEW,
        most_tries: int = MOST_TRIES,
    ) -> None:
        self._container = container
        self._detector = detector
        self._logged = logged
        self._n_newest, self._most_new = newest, most_new
        self._most_tries = most_tries
        self._known: dict[str, None] = {}  # oldest first
        self._pending: dict[str, int] = {}  # known and not opened yet: failed attempts
        self._before: frozenset[str] | None = None  # what was there when we came
        self._since_s = time.time()

    @property
    def n_known(self) -> int:
        """Nodes that are remembered."""
        return len(self._known)

    def look(self) -> str:
        """See what has come to the container; return the key of the newest node, "" without any."""
        newest = self._newest()
        if self._before is None:
            self._before = frozenset(newest)
        for uid in newest:
            if uid not in self._known:
                self._known[uid] = None
                self._pending[uid] = 0
        while len(self._known) > 2 * self._most_new:
            del self._known[next(iter(self._known))]
        return newest[-1] if newest else ""

    def take(self, most: int) -> Iterator[str]:
        """Yield runs of interest that were seen and not taken yet, the oldest first."""
        for uid in list(self._pending)[:AT_ONCE]:
            if most <= 0:
                return
            is_wanted = False
            # A node that cannot be opened must not hide those after it.
            with _going_on(self._logged, f"run {uid}"):
                is_wanted = self._is_wanted(uid)
            if is_wanted:
                most -= 1
                yield uid

    def _newest(self) -> list[str]:
        """Return the newest nodes, oldest first, as far back as there may be one of interest."""
        n = self._n_newest
        while True:
            newest: list[str] = list(self._container.keys().tail(n))
            if len(newest) < n or any(uid in self._known for uid in newest):
                return newest
            if self._start_time(newest[0]) < self._since_s - MAY_BE_RUNNING_S:
                return newest
            if n >= self._most_new:
                logger.warning(
                    "Following runs in Tiled: more than %d runs came at once; those before the "
                    "newest %d are left out. xpcs-live-denoise replay computes them.",
                    n,
                    n,
                )
                return newest
            n *= 2

    def _start_time(self, uid: str) -> float:
        """Return when a run began, s since 1970; infinity if the node cannot tell."""
        try:
            return float(self._container[uid].metadata["start"]["time"])
        except Exception:  # no run, or one that cannot be opened: those before it may tell
            return float("inf")

    def _is_wanted(self, uid: str) -> bool:
        """Whether a node is a run that may have frames of the detector, and may still be on."""
        n_failed = self._pending.pop(uid)
        try:
            metadata: Fields = self._container[uid].metadata
        except Exception:
            if n_failed < self._most_tries:
                self._pending[uid] = n_failed + 1
            raise
        start = metadata.get("start")
        if not start:
            return False  # no run
        if uid in (self._before or ()) and (
            "stop" in metadata or time.time() - start.get("time", 0) > MAY_BE_RUNNING_S
        ):
            return False
        detectors = start.get("detectors")
        return not detectors or self._detector in detectors


class ServerUpdates:
    """Sets `arrived` when the server tells of an update; without that, no `subscription`."""

    def __init__(self, container: Node) -> None:
        self.arrived = threading.Event()
        self.subscription: Any = None
        self._container = container
        self._closed = False

    def close(self) -> None:
        """End the subscription."""
        self._closed = True
        if self.subscription is not None:
            with contextlib.suppress(Exception):  # of a server that has gone
                self.subscription.disconnect()

    def subscribe(self, poll_s: float) -> None:
        """Ask the server to tell, on a thread: without its answer that waits for ever.

        `poll_s` is how often somebody looks instead, for the log.
        """
        threading.Thread(
            target=self._subscribe, args=(poll_s,), name="xpcs-tiled-updates", daemon=True
        ).start()

    def _subscribe(self, poll_s: float) -> None:
        from bluesky_tiled_plugins.streaming import subscribe_to_streams

        try:
            self.subscription = subscribe_to_streams(
                self._container,
                lambda _update: self.arrived.set(),
                streams=None,
                run_filter=self._run_created,
                start=None,
                max_size=MAX_MESSAGE_BYTES,
            )
        except Exception as error:  # an older server, or a key that may not subscribe
            logger.warning(
                "Tiled does not tell of news by itself (%s: %s); looking every %g s instead. It "
                "needs a `streaming_cache`, and a key with the scopes create:apikeys and "
                "revoke:apikeys.",
                type(error).__name__,
                text_of(error, 300),
                poll_s,
            )
        if self._closed:
            self.close()

    def _run_created(self, _update: object) -> bool:
        self.arrived.set()
        return True
