"""One run, read and then followed: shared by every page that shows it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from xpcs_live_denoise.errors import ResultNotFoundError, XpcsError

from .run_state import RunState
from .stored import C2_KINDS, FOLLOWED, StoredRun
from .subscription import FIRST_DELAY_S, LAST_DELAY_S, StreamingUnavailableError, Subscription
from .tasks import Tasks
from .tiled_http import TiledHttp
from .updates import UNUSABLE, take

logger = logging.getLogger(__name__)


class RunFeed:
    """Keeps a RunState up to date.

    Parameters
    ----------
    http
        The server.
    path
        Of the derived run.
    metadata
        Of the derived run, as it stands.
    on_lost
        Called with (path of a node, whether its connection is lost).

    Attributes
    ----------
    state
        What is known of the run.
    streaming
        False: the feed does not subscribe, `refresh` must be called instead.
    """

    def __init__(
        self,
        http: TiledHttp,
        path: str,
        metadata: Mapping[str, Any],
        *,
        on_lost: Callable[[str, bool], None],
        streaming: bool = True,
    ):
        self._http, self._path = http, path
        self._on_lost = on_lost
        self.streaming = streaming
        self.state = RunState(path.rpartition("/")[2])
        self.state.set_metadata(metadata)
        self._stored = StoredRun(http, path, self.state)
        # Where rows of C2 begin that are stored, but that the metadata did not count when the
        # rows before them were read.
        self._late_from: int | None = None
        self._following: dict[str, asyncio.Task[None]] = {}
        self._tasks = Tasks(f"Run {self.state.uid}")
        self._loading: asyncio.Task[None] | None = None
        self._loaded = asyncio.Event()

    def start(self) -> None:
        """Read the stored state, then follow the run until it ends."""
        if self._loading is not None:
            self._loading.cancel()  # what it has asked for may be older than what is asked for now
        self._loading = self._tasks.start(self._load())

    async def loaded(self, timeout_s: float) -> bool:
        """Wait until the stored state has been read; return whether it has."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._loaded.wait(), timeout_s)
        return self._loaded.is_set()

    async def close(self) -> None:
        """Stop following."""
        await self._tasks.close()
        self._leave_all()
        self._on_lost(self._path, False)

    def want(self, index: int) -> None:
        """Make the C2 of one more ROI (its index) available."""
        if index not in self._stored.indices and 0 <= index < len(self.state.labels):
            self._stored.indices.add(index)
            self._tasks.start(self._read_roi(index))

    def on_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Take news of the run's metadata; with its stop everything is read once more."""
        live, gone, n_frames = self.state.live, self.state.gone, self.state.n_frames
        self.state.set_metadata(metadata)
        if self.state.n_frames > n_frames:
            self.state.hear(time.time())
            if self._late_from is not None:
                self._tasks.start(self._read_late())
        if gone or (live and not self.state.live):
            self._leave_all()
            self.start()

    async def look(self) -> None:
        """Ask for the metadata, and whether the run is still there."""
        try:
            self.on_metadata(await self._stored.metadata())
        except ResultNotFoundError as error:
            self._leave_all()
            self.state.lose(str(error))

    async def refresh(self) -> None:
        """Without streams: ask for the metadata, and read what is new."""
        before = self._stored.n_frames
        await self.look()
        if self.state.live and self.state.n_frames > before:
            await self._stored.read(self._changing_from(before))

    def _changing_from(self, frame: int) -> int:
        """Return the first row of C2 that news from a frame on may change."""
        # A live window reaches back as far as its length; older blocks no longer change.
        return max(0, frame - 2 * int(self.state.xpcs.get("window") or 50))

    # --- stored state ----------------------------------------------------------------------

    async def _load(self) -> None:
        delay_s = FIRST_DELAY_S
        while True:
            try:
                await self._read_run()
                break
            except XpcsError as error:
                logger.info("Run %s: %s", self.state.uid, error)
            self._on_lost(self._path, True)
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, LAST_DELAY_S)
        self._on_lost(self._path, False)
        self._loaded.set()
        if self.streaming and self.state.live:
            self._follow(self._path, self._attend_run, self._on_run_child)

    async def _read_run(self) -> None:
        """Read all that is stored, or find that there is nothing any more."""
        try:
            self.state.set_metadata(await self._stored.metadata())
        except ResultNotFoundError as error:
            self.state.lose(str(error))
            return
        ended = not self.state.live
        await self._stored.read()
        self.state.loaded, self.state.complete = True, ended
        self.state.touch()

    async def _read_roi(self, index: int) -> None:
        try:
            await self._count_rows()
            await self._stored.read_c2(index)
        except XpcsError as error:
            self._stored.indices.discard(index)  # asked for again by the next look at it
            logger.info("Run %s, ROI %d: %s", self.state.uid, index, error)

    async def _count_rows(self) -> None:
        """Before reading C2 of a live run: learn which rows count; the next news bring the rest.

        A row is stored before the metadata count it. One that comes between the two is neither read
        now nor announced later.
        """
        await self.look()
        if self.state.live:
            self._remember_late(self.state.n_frames)

    def _remember_late(self, frame: int) -> None:
        self._late_from = frame if self._late_from is None else min(frame, self._late_from)

    async def _read_late(self) -> None:
        late, self._late_from = self._late_from, None
        if late is None:
            return
        try:
            await self._stored.read_stream("two_time", C2_KINDS, self._changing_from(late))
        except XpcsError as error:
            self._remember_late(late)  # again with the next news
            logger.info("Run %s, rows from %d on: %s", self.state.uid, late, error)

    # --- live updates ----------------------------------------------------------------------

    def _follow(
        self,
        path: str,
        opened: Callable[[], Coroutine[Any, Any, None]],
        message: Callable[[dict[str, Any]], None],
    ) -> None:
        if path in self._following:
            self._following.pop(path).cancel()  # the node was made anew

        async def run() -> None:
            subscription = Subscription(
                self._http, path, opened=opened, message=message, lost=self._on_lost
            )
            while self.streaming:  # the hub decides, which has seen more of the server
                try:
                    await subscription.run()
                    return
                except StreamingUnavailableError:
                    self._on_lost(path, False)
                    await asyncio.sleep(FIRST_DELAY_S)

        self._following[path] = self._tasks.start(run())

    def _follows(self, path: str) -> bool:
        return path in self._following and not self._following[path].done()

    async def _attend_run(self) -> None:
        for stream in await self._stored.streams():
            self._follow_stream(stream)

    def _on_run_child(self, update: dict[str, Any]) -> None:
        if update["type"] == "container-child-created":
            self._follow_stream(update["key"])

    def _follow_stream(self, stream: str) -> None:
        path = f"{self._path}/{stream}"
        if stream not in FOLLOWED or self._follows(path):
            return

        async def opened() -> None:
            for name in await self._stored.children(stream):
                self._follow_node(stream, name, again=False)

        def message(update: dict[str, Any]) -> None:
            if update["type"] == "container-child-created":
                self._follow_node(stream, update["key"], again=True)
            elif update["key"] == "image":
                self.state.picture_facts = update.get("metadata") or {}

        self._follow(path, opened, message)

    def _follow_node(self, stream: str, name: str, *, again: bool) -> None:
        path = f"{self._path}/{stream}/{name}"
        if name not in FOLLOWED[stream] or (self._follows(path) and not again):
            return

        async def opened() -> None:
            if stream == "two_time":
                await self._count_rows()
            await self._stored.read_stream(stream, (name,))

        def message(update: dict[str, Any]) -> None:
            try:
                take(self.state, stream, name, update)
            except UNUSABLE as error:
                logger.warning("Update of %s cannot be used: %r", path, error)
            self.state.hear(time.time())

        self._follow(path, opened, message)

    def _leave_all(self) -> None:
        for path, task in self._following.items():
            task.cancel()
            self._on_lost(path, False)
        self._following.clear()
