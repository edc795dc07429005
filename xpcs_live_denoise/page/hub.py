"""What all open pages share: the list of runs, and one feed for every run that is looked at."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xpcs_live_denoise.errors import ResultNotFoundError, XpcsError

from .feed import RunFeed
from .run_state import is_silent
from .subscription import (
    FIRST_DELAY_S,
    LAST_DELAY_S,
    StreamingUnavailableError,
    Subscription,
)
from .tiled_http import TiledHttp

logger = logging.getLogger(__name__)

LISTED_RUNS = 100
POLL_S = 2.0


class Hub:
    """The one connection between all open pages and a Tiled server.

    Everything runs in the loop that serves the pages.

    Parameters
    ----------
    http
        The server.
    path
        Container of the derived runs.

    Attributes
    ----------
    version
        Grows whenever the list or the notice changes.
    streaming
        False when the server offers no streams; the hub then asks every two seconds.
    """

    def __init__(self, http: TiledHttp, path: str):
        self._http, self._path = http, path.strip("/")
        self._runs: dict[str, RunSummary] = {}
        self._feeds: dict[str, tuple[RunFeed, int]] = {}
        self._lost: set[str] = set()
        self._lost_since = 0.0
        self._task: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._opening = asyncio.Lock()
        self.version = 0
        self.streaming = True

    @property
    def runs(self) -> list[RunSummary]:
        """All listed runs, the newest first."""
        return sorted(self._runs.values(), key=lambda run: run.time, reverse=True)

    def silent(self, now: float) -> frozenset[str]:
        """Return the uids of live runs of which nothing has been heard for long at a time, s."""
        live = [run for run in self._runs.values() if run.state == "live"]
        return frozenset(
            run.uid
            for run in live
            if (
                run.silent(now)
                if run.uid not in self._feeds
                else self._feeds[run.uid][0].state.silent_since(now) is not None
            )
        )

    @property
    def notice(self) -> str:
        """What is wrong with the connection, a sentence or two; empty if nothing is."""
        if self._lost:
            since = time.strftime("%H:%M:%S", time.localtime(self._lost_since))
            return (
                f"No connection to the Tiled server since {since}. Trying again; what is shown "
                "may be out of date."
            )
        if not self.streaming:
            return (
                "This Tiled server offers no streaming: the page asks for news every "
                f"{POLL_S:g} s instead."
            )
        return ""

    async def start(self) -> None:
        """Read the list of runs, and begin to follow it.

        Raises
        ------
        ResultNotFoundError
            When there is no such container, or the key does not open it.
        TiledUnavailableError
            When the server does not answer.
        """
        await self._read_list()
        self._task = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Stop following, and close all connections."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for feed, _ in self._feeds.values():
            await feed.close()
        self._feeds.clear()
        await asyncio.gather(*self._closing)
        await self._http.close()

    async def find(self, uid: str) -> str:
        """Return the uid of the derived run that a uid, its own or of its raw run, names.

        Of several analyses of one run the newest, a finished one before all others.

        Raises
        ------
        ResultNotFoundError
            When there is none.
        TiledUnavailableError
            When the server does not answer.
        """
        if uid in self._runs:
            return uid
        found = await self._http.runs(self._path, limit=LISTED_RUNS, raw_uid=uid)
        if found:
            runs = [summary(key, metadata, now=0.0) for key, metadata in found.items()]
            return max(runs, key=lambda run: (run.state != "live", run.time)).uid
        if uid and "/" not in uid:
            try:
                await self._http.metadata(f"{self._path}/{uid}")
            except ResultNotFoundError:
                pass
            else:
                return uid
        raise ResultNotFoundError(
            f"Run {uid[:80]}: no result in /{self._path}. Expected the uid of a run that was taken "
            "while LiveDenoise was subscribed, or of its result. Choose one from the list."
        )

    async def open(self, uid: str) -> RunFeed:
        """Return the feed of a derived run; give it back with `release`.

        Raises
        ------
        ResultNotFoundError, TiledUnavailableError
            When the run cannot be read.
        """
        async with self._opening:
            if uid in self._feeds:
                feed, users = self._feeds[uid]
            else:
                path = f"{self._path}/{uid}"
                feed = RunFeed(
                    self._http,
                    path,
                    await self._http.metadata(path),
                    on_lost=self._on_lost,
                    streaming=self.streaming,
                )
                feed.start()
                users = 0
            self._feeds[uid] = (feed, users + 1)
            return feed

    def release(self, feed: RunFeed) -> None:
        """Give a feed back; the last one closes it."""
        uid = feed.state.uid
        if uid not in self._feeds:
            return
        _, users = self._feeds[uid]
        if users > 1:
            self._feeds[uid] = (feed, users - 1)
        else:
            del self._feeds[uid]
            if uid in self._runs and feed.state.loaded:
                run = self._runs[uid]
                self._runs[uid] = dataclasses.replace(run, heard=feed.state.news_time)
            task = asyncio.create_task(feed.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    # --- the list --------------------------------------------------------------------------

    async def _read_list(self) -> None:
        found = await self._http.runs(self._path, limit=LISTED_RUNS)
        if not found:
            await self._http.metadata(self._path)  # an empty list, or a wrong path?
        before, self._runs = self._runs, {}
        for uid, (feed, _) in self._feeds.items():
            if uid in before and not feed.state.gone:
                self._runs[uid] = before[uid]  # open, though others may be newer
        for uid, metadata in found.items():
            self._put(uid, metadata, before.get(uid))
        self.version += 1

    def _put(self, uid: str, metadata: Mapping[str, Any], before: RunSummary | None) -> None:
        """Write one line; what is neither among the newest nor open leaves the list."""
        self._runs[uid] = summary(uid, metadata, now=time.time(), before=before)
        for run in self.runs[LISTED_RUNS:]:
            if run.uid not in self._feeds:
                del self._runs[run.uid]

    async def _attend(self) -> None:
        # What ended while the connection was lost.
        for feed, _ in list(self._feeds.values()):
            if feed.state.live or feed.state.gone:
                await feed.look()
        await self._read_list()

    def _on_update(self, update: dict[str, Any]) -> None:
        specs = {spec["name"] for spec in update.get("specs") or ()}
        if "XPCSResult" not in specs or not update.get("metadata"):
            return
        uid, metadata = update["key"], update["metadata"]
        self._put(uid, metadata, self._runs.get(uid))
        self.version += 1
        if uid in self._feeds:
            self._feeds[uid][0].on_metadata(metadata)

    async def _follow(self) -> None:
        subscription = Subscription(
            self._http,
            self._path,
            opened=self._attend,
            message=self._on_update,
            lost=self._on_lost,
        )
        try:
            await subscription.run()
        except StreamingUnavailableError as error:
            self._on_lost(self._path, False)
            logger.warning("%s The page asks every %g s instead.", error, POLL_S)
        self._on_refused()
        await self._poll()

    async def _poll(self) -> None:
        delay_s = POLL_S
        while True:
            await asyncio.sleep(delay_s)
            try:
                await self._read_list()
                for feed, _ in list(self._feeds.values()):
                    feed.streaming = False
                    if feed.state.live and feed.state.loaded:
                        await feed.refresh()
            except XpcsError:
                self._on_lost(self._path, True)
                delay_s = min(FIRST_DELAY_S + delay_s, LAST_DELAY_S)
            else:
                self._on_lost(self._path, False)
                delay_s = POLL_S

    def _on_refused(self) -> None:
        if self.streaming:
            self.streaming = False
            self.version += 1

    def _on_lost(self, path: str, lost: bool) -> None:
        if lost and not self._lost:
            self._lost_since = time.time()
        before = bool(self._lost)
        (self._lost.add if lost else self._lost.discard)(path)
        if bool(self._lost) != before:
            self.version += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One line of the list of runs.

    Attributes
    ----------
    uid, raw_uid
        Of the derived run, and of the run that it was derived from.
    scan_id, sample, detector
        Texts, empty where unknown.
    time
        Start of the analysis, s since 1970.
    n_frames, n_expected
        Frames in C2 so far, and of the whole series if known.
    frame_time_s
        Frame period, s; 0 where unknown.
    state
        "live", "success", "fail" or "abort".
    heard
        When this line was last seen to change, s on a clock of this process.
    """

    uid: str
    raw_uid: str
    scan_id: str
    sample: str
    detector: str
    time: float
    n_frames: int
    n_expected: int | None
    frame_time_s: float
    state: str
    heard: float

    def silent(self, now: float) -> bool:
        """Whether the run counts as live but has not changed for long."""
        return self.state == "live" and is_silent(now - self.heard, self.frame_time_s)


def summary(
    uid: str, metadata: Mapping[str, Any], *, now: float, before: RunSummary | None = None
) -> RunSummary:
    """Return the line of a run, whatever others may have written into its metadata.

    Parameters
    ----------
    uid
        Of the derived run.
    metadata
        Its metadata, or the part of it that a list asks for.
    now
        Time on the clock of `heard`, s.
    before
        The line so far.
    """
    start, stop = mapping(metadata.get("start")), mapping(metadata.get("stop"))
    xpcs = mapping(start.get("xpcs"))
    n_frames, state = int(_number(metadata.get("n_frames"))), str(stop.get("exit_status") or "live")
    same = before is not None and (before.n_frames, before.state) == (n_frames, state)
    return RunSummary(
        uid=uid,
        raw_uid=str(start.get("original_run_uid") or ""),
        scan_id=str(start.get("scan_id") or ""),
        sample=sample_of(start),
        detector=str(xpcs.get("detector") or ""),
        time=_number(start.get("time")),
        n_frames=n_frames,
        n_expected=int(_number(xpcs.get("n_expected"))) or None,
        frame_time_s=_number(xpcs.get("frame_time_s")),
        state=state,
        heard=before.heard if before is not None and same else now,
    )


def sample_of(start: Mapping[str, Any]) -> str:
    """Return the name of the sample in a start document, empty where there is none."""
    sample = start.get("sample") or start.get("sample_name") or ""
    return str(sample.get("name", "") if isinstance(sample, Mapping) else sample)


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a value that should be a mapping; an empty one in place of anything else."""
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0
