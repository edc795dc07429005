"""Follows the raw runs of a Tiled server while they are taken, and turns them into documents."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from xpcs_live_denoise.errors import XpcsError, text_of
from xpcs_live_denoise.sources.file_roots import FileRoots

from .documents import TiledDocuments

logger = logging.getLogger(__name__)

# The subscription wakes us at once; looking now and then finds what it missed (a restarted server,
# a message that was too large), and stop documents, which it does not tell of.
POLL_S = 1.0
# Nodes that every look asks for; twice as many, and again, until one of them is known.
NEWEST = 20
MOST_NEW = 5120
MOST_KNOWN = 2 * MOST_NEW
# Runs that are opened in one look, and that are open at a time: the others wait.
AT_ONCE = 50
# A node that cannot be opened is given up after so many looks.
MOST_TRIES = 600
# Between two looks, however much news there is.
PAUSE_S = 0.1
# A run without a stop is taken up when we start only if it may still be under way.
MAY_BE_RUNNING_S = 3600.0
# Nothing new for so long, and a later run has begun: its writer has died.
IDLE_S = 600.0
# Frames of a stored run that cannot be found for so long: it is ended, and its stop says why.
MISSING_S = 30.0
LEAVE_S = 5.0
MAX_MESSAGE_BYTES = 64 * 2**20
MOST_REASONS = 50


class TiledRuns:
    """Calls back with the documents of every new raw run that may have frames of the detector.

    Use it as a context manager or through `start` and `stop`. A server that is away is waited for.

    Parameters
    ----------
    container
        Tiled client of the container with the raw runs.
    callback
        Called as callback(name, doc) on one thread.
    detector, data_key
        Runs whose start names other detectors alone are left out; the data key has the frames.
    roots
        Where files may be read, see TiledDocuments.
    poll_s
        Longest time between two looks at the server, s.
    """

    def __init__(
        self,
        container: Any,
        callback: Callable[[str, dict[str, Any]], Any],
        *,
        detector: str,
        data_key: str,
        roots: FileRoots,
        poll_s: float = POLL_S,
    ) -> None:
        self._subscription: Any = None
        self._container = container
        self._callback = callback
        self._detector = detector
        self._data_key = data_key
        self._roots = roots
        self._poll_s = poll_s
        self._known: dict[str, None] = {}  # oldest first
        self._pending: dict[str, int] = {}  # known and not opened yet: failed attempts
        self._open: dict[str, TiledDocuments] = {}
        self._last_news: dict[str, float] = {}
        self._refused: dict[str, float] = {}  # since when
        self._before: frozenset[str] | None = None  # what was there when we came
        self._since = time.time()
        self._told: set[str] = set()
        self._news = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> TiledRuns:
        """Follow from now on; returns at once."""
        self._thread = threading.Thread(target=self._run, name="xpcs-tiled-runs", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop following; runs under way get no stop. Repeats are harmless.

        A thread that waits for a server that is away, as Tiled's client does for a minute, is left
        behind after LEAVE_S.
        """
        self._stopping.set()
        self._news.set()
        if self._thread is not None:
            self._thread.join(LEAVE_S)

    def __enter__(self) -> TiledRuns:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def subscribed(self) -> bool:
        """Whether the server tells of news by itself."""
        return self._subscription is not None

    # --- on the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        # On its own: without an answer of the server it waits for ever.
        threading.Thread(target=self._subscribe, name="xpcs-tiled-news", daemon=True).start()
        while not self._stopping.is_set():
            self._news.clear()
            self._try(self._look, "looking for new runs")
            for run in list(self._open.values()):
                self._try(lambda run=run: self._pass_on(run), f"run {run.uid}")
            self._stopping.wait(min(PAUSE_S, self._poll_s))
            self._news.wait(self._poll_s)
        self._disconnect()

    def _disconnect(self) -> None:
        if self._subscription is not None:
            with contextlib.suppress(Exception):  # of a server that has gone
                self._subscription.disconnect()

    def _try(self, step: Callable[[], None], what: str) -> None:
        try:
            step()
        except Exception as error:  # the server is foreign ground; the next look may go well
            reason = f"{what}: {type(error).__name__}: {text_of(error, 300)}"
            if reason not in self._told and len(self._told) < MOST_REASONS:
                self._told.add(reason)
                logger.warning("Following runs in Tiled, %s. Trying again.", reason)

    def _subscribe(self) -> None:
        """Have the server tell of news; without that, looking now and then must do."""
        from bluesky_tiled_plugins.streaming import subscribe_to_streams

        try:
            self._subscription = subscribe_to_streams(
                self._container,
                lambda _update: self._news.set(),
                streams=None,
                run_filter=self._run_created,
                start=None,
                max_size=MAX_MESSAGE_BYTES,
            )
        except Exception as error:  # an older server, or a key that may not subscribe
            self._tell_no_subscription(error)
            return
        if self._stopping.is_set():
            self._disconnect()

    def _tell_no_subscription(self, error: Exception) -> None:
        logger.warning(
            "Tiled does not tell of news by itself (%s: %s); looking every %g s instead. It needs "
            "a `streaming_cache`, and a key with the scopes create:apikeys and revoke:apikeys.",
            type(error).__name__,
            text_of(error, 300),
            self._poll_s,
        )

    def _run_created(self, _update: Any) -> bool:
        self._news.set()
        return True

    def _look(self) -> None:
        """Open what has come to the container since the last look."""
        newest = self._newest()
        if self._before is None:
            self._before = frozenset(newest)
        for uid in newest:
            if uid not in self._known:
                self._known[uid] = None
                self._pending[uid] = 0
        while len(self._known) > MOST_KNOWN:
            del self._known[next(iter(self._known))]
        for uid in list(self._pending)[:AT_ONCE]:
            if len(self._open) < AT_ONCE:
                # A node that cannot be opened must not hide those after it.
                self._try(lambda uid=uid: self._take_up(uid), f"run {uid}")
        self._give_up_the_dead(newest[-1] if newest else "")

    def _newest(self) -> list[str]:
        """Return the newest nodes, oldest first, as far back as there may be one of interest."""
        n = NEWEST
        while True:
            newest: list[str] = list(self._container.keys().tail(n))
            if len(newest) < n or any(uid in self._known for uid in newest):
                return newest
            if self._start_time(newest[0]) < self._since - MAY_BE_RUNNING_S:
                return newest
            if n >= MOST_NEW:
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

    def _take_up(self, uid: str) -> None:
        n_failed = self._pending.pop(uid)
        try:
            metadata = self._container[uid].metadata
        except Exception:
            if n_failed < MOST_TRIES:
                self._pending[uid] = n_failed + 1
            raise
        if self._is_wanted(uid, metadata):
            self._open[uid] = TiledDocuments(
                self._container, uid, data_key=self._data_key, roots=self._roots
            )
            self._last_news[uid] = time.monotonic()

    def _is_wanted(self, uid: str, metadata: Any) -> bool:
        """Whether a node is a run that may have frames of the detector, and may still be on."""
        start = metadata.get("start")
        if not start:
            return False  # no run
        if uid in (self._before or ()) and (
            "stop" in metadata or time.time() - start.get("time", 0) > MAY_BE_RUNNING_S
        ):
            return False
        detectors = start.get("detectors")
        return not detectors or self._detector in detectors

    def _give_up_the_dead(self, newest: str) -> None:
        for uid, run in list(self._open.items()):
            if uid != newest and time.monotonic() - self._last_news[uid] > IDLE_S:
                try:
                    self._pass_all(run, run.give_up())
                except XpcsError as error:
                    self._pass_all(run, run.break_off(text_of(error)))
                self._close(uid)

    def _pass_on(self, run: TiledDocuments) -> None:
        try:
            self._pass_all(run, run.news())
            self._refused.pop(run.uid, None)
        except XpcsError as error:  # files may come late
            now = time.monotonic()
            if now - self._refused.setdefault(run.uid, now) < MISSING_S:
                raise
            self._pass_all(run, run.break_off(text_of(error)))
        if run.ended:
            self._close(run.uid)

    def _pass_all(self, run: TiledDocuments, documents: Iterator[tuple[str, Any]]) -> None:
        for name, doc in documents:
            self._last_news[run.uid] = time.monotonic()
            self._callback(name, doc)

    def _close(self, uid: str) -> None:
        del self._open[uid]
        del self._last_news[uid]
        self._refused.pop(uid, None)
