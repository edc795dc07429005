"""What all open pages share: the list of runs, and one feed for every run that is looked at."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from typing import Any

from xpcs_live_denoise.errors import ResultNotFoundError, XpcsError
from xpcs_live_denoise.readers import NEEDED, NEEDED_OF_EACH, labels_of, mapping, table_of
from xpcs_live_denoise.records.run import RESULT_SPEC
from xpcs_live_denoise.records.types import Document, Fields

from .feed import RunFeed
from .run_list import LISTED_RUNS, RunSummary, find_result, summary
from .tiled_http import (
    FIRST_DELAY_S,
    LAST_DELAY_S,
    TiledHttp,
    check_container,
    end_tasks,
    follow,
    start_task,
)

logger = logging.getLogger(__name__)

POLL_S = 2.0


class Hub:
    """The one connection between all open pages and the container of derived runs on a server.

    Everything runs in the loop that serves the pages. `version` grows whenever the list changes;
    where the server offers no streams, it is not `streaming` and asks every POLL_S instead.
    `follow_list`: subscribe to the container, too; without, the list is asked for, and holds what
    the server finds for this connection's key.
    """

    def __init__(self, http: TiledHttp, path: str, *, follow_list: bool = True) -> None:
        self.http, self.path = self._http, self._path = http, path.strip("/")
        self._follow_list = follow_list
        self._closed = False
        self._runs: dict[str, RunSummary] = {}
        self._feeds: dict[str, tuple[RunFeed, int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()  # of feeds that nobody looks at any more
        self._opening = asyncio.Lock()
        # Of which runs in which state, and the table; of all results or one a run.
        self._tables: dict[bool, tuple[object, Any]] = {}
        self.version = 0
        self.streaming = True

    @property
    def runs(self) -> list[RunSummary]:
        """All listed runs, the newest first."""
        return sorted(self._runs.values(), key=lambda run: run.time, reverse=True)

    def silent(self, now: float) -> frozenset[str]:
        """Return the uids of live runs of which nothing has been heard for long at a time, s."""
        return frozenset(uid for uid, run in self._runs.items() if self._silent(run, now))

    def _silent(self, run: RunSummary, now: float) -> bool:
        if run.state == "live" and run.uid in self._feeds:
            return self._feeds[run.uid][0].state.silent_since(now) is not None
        return run.silent(now)

    @property
    def notice(self) -> str:
        """What is wrong with the connection, a sentence or two; empty if nothing is."""
        if self._closed:
            return "You are logged out: this page shows nothing new. Log in again."
        if self._http.broken:
            since = time.strftime("%H:%M:%S", time.localtime(self._http.broken_since))
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

    @property
    def connected(self) -> bool:
        """Whether the server answers."""
        return not self._http.broken

    @property
    def n_listed(self) -> int:
        """Runs in the list."""
        return len(self._runs)

    @property
    def n_followed(self) -> int:
        """Runs that open pages show."""
        return len(self._feeds)

    async def is_refused(self) -> bool:
        """Whether the server does not take the key any more; no if it does not answer."""
        try:
            await self._http.kind(self._path)
        except ResultNotFoundError:
            return True
        except XpcsError:
            return False
        return False

    async def start(self) -> None:
        """Read the list of runs, and begin to follow it.

        Raises ResultNotFoundError when there is no such container, when it can hold no results, or
        the key does not open it, and TiledUnavailableError when the server does not answer.
        """
        await check_container(self._http, self._path)
        await self.read_list()
        start_task(self._tasks, self._follow(), "List of runs")

    async def close(self) -> None:
        """Stop following, close all connections, and forget what was read."""
        self._closed = True
        await end_tasks(self._tasks, cancel=True)
        await end_tasks(self._closing, cancel=False)
        for feed, _ in self._feeds.values():
            await feed.close()
        self._feeds.clear()
        self._runs, self._tables = {}, {}
        self.version += 1
        await self._http.close()

    async def find(self, word: str) -> tuple[str, str]:
        """Return the uid of the result that a word names, and a remark: see `find_result`."""
        if word in self._runs:
            return word, ""
        return await find_result(self._http, self._path, word)

    async def open(self, uid: str) -> RunFeed:
        """Return the feed of a derived run; give it back with `release`.

        Raises ResultNotFoundError or TiledUnavailableError when the run cannot be read.
        """
        async with self._opening:
            if self._closed:
                raise ResultNotFoundError(self.notice)
            if uid in self._feeds:
                feed, users = self._feeds[uid]
            else:
                path = f"{self._path}/{uid}"
                metadata = await self._http.metadata(path)
                feed = RunFeed(self._http, path, metadata, streaming=self.streaming)
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
                self._runs[uid] = dataclasses.replace(run, heard=feed.state.heard)
            start_task(self._closing, feed.close(), f"Run {uid}")

    # --- the list --------------------------------------------------------------------------

    async def table(self, *, every: bool = False) -> Any:
        """Return the table of all listed runs, as `readers.runs` makes it; read where it changed.

        `every`: all results of each run, labelled. Raises as `TiledHttp.runs`.
        """
        key = frozenset((run.uid, run.state) for run in self._runs.values())
        if every not in self._tables or self._tables[every][0] != key:
            needed = NEEDED_OF_EACH if every else NEEDED
            found = await self._http.runs(self._path, limit=LISTED_RUNS, needed=needed)
            self._tables[every] = key, table_of(found, every=every)
        return self._tables[every][1]

    async def result_names(self, raw_uid: str) -> dict[str, str]:
        """Return what each result of a raw run is called, by uid. Raises as `TiledHttp.runs`."""
        where = ("eq", "start.original_run_uid", raw_uid)
        found = await self._http.runs(
            self._path, limit=LISTED_RUNS, where=where, needed=NEEDED_OF_EACH
        )
        by_detector: dict[str, list[Fields]] = {}
        for metadata in found.values():
            start = mapping(metadata.get("start"))
            detector = str(mapping(start.get("xpcs")).get("image_key"))
            by_detector.setdefault(detector, []).append(start)
        return {
            str(start.get("uid")): label
            for starts in by_detector.values()
            for start, label in zip(starts, labels_of(starts), strict=True)
        }

    async def read_list(self) -> None:
        """Read the list of runs."""
        found = await self._http.runs(self._path, limit=LISTED_RUNS)
        if not found:
            await self._http.metadata(self._path)  # empty, or deleted?
        before, self._runs = self._runs, {}
        for uid, (feed, _) in self._feeds.items():
            if uid in before and not feed.state.gone:
                self._runs[uid] = before[uid]  # open, though others may be newer
        for uid, metadata in found.items():
            self._put(uid, metadata, before.get(uid))
        self.version += 1

    def _put(self, uid: str, metadata: Fields, before: RunSummary | None) -> None:
        """Write one line; what is neither among the newest nor open leaves the list."""
        self._runs[uid] = summary(uid, metadata, now=time.time(), before=before)
        for run in self.runs[LISTED_RUNS:]:
            if run.uid not in self._feeds:
                del self._runs[run.uid]

    async def look(self) -> None:
        """Read the list, and what ended while the connection was lost."""
        for feed, _ in list(self._feeds.values()):
            if feed.state.live or feed.state.gone:
                await feed.look()
        await self.read_list()

    def on_update(self, update: Document) -> None:
        """Take what the container of the runs says of one of them."""
        specs = {spec["name"] for spec in update.get("specs") or ()}
        if RESULT_SPEC not in specs or not update.get("metadata"):
            return
        uid, metadata = update["key"], update["metadata"]
        self._put(uid, metadata, self._runs.get(uid))
        self.version += 1
        if uid in self._feeds:
            self._feeds[uid][0].on_metadata(metadata)

    async def _follow(self) -> None:
        if self._follow_list and not await follow(
            self._http, self._path, opened=self.look, message=self.on_update
        ):
            self._without_streams()
        await self._poll()

    def _without_streams(self) -> None:
        logger.warning(
            "Tiled server %s: offers no streaming. The page asks every %g s instead.",
            self._http.address,
            POLL_S,
        )
        self.streaming = False

    async def _poll(self) -> None:
        delay_s = POLL_S
        while True:
            await asyncio.sleep(delay_s)
            try:
                await self.read_list()
                if self.streaming and any(feed.refused for feed, _ in self._feeds.values()):
                    self._without_streams()
                for feed, _ in list(self._feeds.values()):
                    feed.streaming = self.streaming
                    if feed.state.live and feed.state.loaded:
                        await (feed.look() if self.streaming else feed.refresh())
            except XpcsError:
                self._http.report(self._path, broken=True)
                delay_s = min(FIRST_DELAY_S + delay_s, LAST_DELAY_S)
            else:
                self._http.report(self._path, broken=False)
                delay_s = POLL_S
