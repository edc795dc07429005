"""One run, read and then followed: shared by every page that shows it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import numpy as np

from xpcs_live_denoise.errors import XpcsError

from .run_state import RunState
from .subscription import FIRST_DELAY_S, LAST_DELAY_S, StreamingUnavailableError, Subscription
from .tiled_http import TiledHttp, read_arrow

logger = logging.getLogger(__name__)

C2_KINDS = ("c2", "c2_denoised")
PICTURE = ("image", "roi_labels")
G2 = ("g2", "g2_error", "g2_denoised", "delay_s")
# stream -> what in it is followed; g2 comes with the end of the run, which is read as a whole.
FOLLOWED = {
    "two_time": C2_KINDS,
    "image": PICTURE,
    "gamma": ("internal",),
    "status": ("internal",),
}


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
        self._indices = {0}
        self._following: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loading: asyncio.Task[None] | None = None
        self._read_frames = 0
        self._loaded = asyncio.Event()

    def start(self) -> None:
        """Read the stored state, then follow the run until it ends."""
        if self._loading is not None:
            self._loading.cancel()  # what it has asked for may be older than what is asked for now
        self._loading = self._spawn(self._load())

    async def loaded(self, timeout_s: float) -> bool:
        """Wait until the stored state has been read; return whether it has."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._loaded.wait(), timeout_s)
        return self._loaded.is_set()

    async def close(self) -> None:
        """Stop following."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for path in self._following:
            self._on_lost(path, False)
        self._following.clear()

    def want(self, index: int) -> None:
        """Make the C2 of one more ROI (its index) available."""
        if index not in self._indices and 0 <= index < len(self.state.labels):
            self._indices.add(index)
            self._spawn(self._read_roi(index))

    def on_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Take news of the run's metadata; with its stop everything is read once more."""
        was_live = self.state.live
        self.state.set_metadata(metadata)
        if was_live and not self.state.live:
            for path, task in self._following.items():
                task.cancel()
                self._on_lost(path, False)
            self._following.clear()
            self.start()

    async def refresh(self) -> None:
        """Without streams: ask for the metadata, and read what is new."""
        before = self._read_frames
        self.on_metadata(await self._http.metadata(self._path))
        if self.state.live and self.state.n_frames > before:
            # A live window reaches back as far as its length; older blocks no longer change.
            await self._read_all(max(0, before - 2 * int(self.state.xpcs.get("window", 50))))

    # --- stored state ----------------------------------------------------------------------

    async def _load(self) -> None:
        delay_s = FIRST_DELAY_S
        while True:
            try:
                self.state.set_metadata(await self._http.metadata(self._path))
                ended = not self.state.live
                await self._read_all(0)
                break
            except XpcsError as error:
                self._on_lost(self._path, True)
                logger.info("Run %s: %s", self.state.uid, error)
                await asyncio.sleep(delay_s)
                delay_s = min(2 * delay_s, LAST_DELAY_S)
        self._on_lost(self._path, False)
        self.state.loaded, self.state.complete = True, ended
        self.state.touch()
        self._loaded.set()
        if not ended and self.streaming:
            self._follow(self._path, self._attend_run, self._on_run_child)

    async def _read_all(self, first_frame: int) -> None:
        n_frames, wanted = self.state.n_frames, FOLLOWED | {"g2": G2}
        streams = await self._http.children(self._path)
        reads = [self._read_stream(s, wanted[s], first_frame) for s in streams if s in wanted]
        await asyncio.gather(*reads)
        self._read_frames = n_frames

    async def _read_stream(self, stream: str, names: tuple[str, ...], first_frame: int) -> None:
        children = await self._http.children(f"{self._path}/{stream}")
        await asyncio.gather(
            *(
                self._read_node(stream, name, children[name], first_frame)
                for name in names
                if name in children
            )
        )

    async def _read_node(
        self, stream: str, name: str, attributes: Mapping[str, Any], first_frame: int = 0
    ) -> None:
        path, structure = f"{self._path}/{stream}/{name}", attributes["structure"]
        if name == "internal":
            self.state.append(stream, await self._http.table(path), afresh=True)
        elif stream == "two_time":
            for index in sorted(self._indices):
                await self._read_c2(path, name, structure, index, first_frame)
        else:
            values = await self._http.array(path, structure)
            if name == "image":
                self.state.picture_facts = attributes.get("metadata") or {}
            (self.state.picture if stream == "image" else self.state.g2)[name] = values
            self.state.touch()

    async def _read_c2(
        self, path: str, name: str, structure: Mapping[str, Any], index: int, first_frame: int
    ) -> None:
        c2 = self.state.map_of(index, name)
        n_frames = min(self.state.n_frames, structure["shape"][1])
        k, first = c2.stride, -(-first_frame // c2.stride)
        rows = slice(first * k, n_frames, k)
        # Raw rows reach back to the first frame; what is denoised lies near the diagonal.
        cols = slice(0, n_frames, k) if name == "c2" else rows
        if rows.start >= n_frames:
            return  # Tiled answers an empty slice with an error
        values = await self._http.array(path, structure, (index, rows, cols))
        c2.place(values, (first, first if cols == rows else 0))
        self.state.touch()

    async def _read_roi(self, index: int) -> None:
        try:
            children = await self._http.children(f"{self._path}/two_time")
            for name in C2_KINDS:
                if name in children:
                    path = f"{self._path}/two_time/{name}"
                    await self._read_c2(path, name, children[name]["structure"], index, 0)
        except XpcsError as error:
            self._indices.discard(index)  # asked for again by the next look at it
            logger.info("Run %s, ROI %d: %s", self.state.uid, index, error)

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

        self._following[path] = self._spawn(run())

    def _follows(self, path: str) -> bool:
        return path in self._following and not self._following[path].done()

    async def _attend_run(self) -> None:
        for stream in await self._http.children(self._path):
            self._follow_stream(stream)

    def _on_run_child(self, update: dict[str, Any]) -> None:
        if update["type"] == "container-child-created":
            self._follow_stream(update["key"])

    def _follow_stream(self, stream: str) -> None:
        path = f"{self._path}/{stream}"
        if stream not in FOLLOWED or self._follows(path):
            return

        async def opened() -> None:
            for name in await self._http.children(path):
                self._follow_node(stream, name, again=False)

        def message(update: dict[str, Any]) -> None:
            if update["type"] == "container-child-created":
                self._follow_node(stream, update["key"], again=True)
            elif update["key"] == "image":
                self.state.picture_facts = update["metadata"]

        self._follow(path, opened, message)

    def _follow_node(self, stream: str, name: str, *, again: bool) -> None:
        path = f"{self._path}/{stream}/{name}"
        if name not in FOLLOWED[stream] or (self._follows(path) and not again):
            return

        async def opened() -> None:
            children = await self._http.children(f"{self._path}/{stream}")
            if name in children:
                await self._read_node(stream, name, children[name])

        def message(update: dict[str, Any]) -> None:
            try:
                self._take(stream, name, update)
            except (KeyError, ValueError, TypeError) as error:
                logger.warning("Update of %s cannot be used: %r", path, error)

        self._follow(path, opened, message)

    def _take(self, stream: str, name: str, update: Mapping[str, Any]) -> None:
        if update["type"] == "table-data":
            self.state.append(stream, read_arrow(update["payload"]))
            return
        dtype = np.dtype("<f4") if stream == "two_time" else self.state.picture[name].dtype
        values = np.frombuffer(update["payload"], dtype).reshape(update["shape"])
        offset = tuple(update["offset"] or (0,) * values.ndim)
        if stream == "two_time":
            self.state.patch(name, values, (offset[0], offset[1], offset[2]))
        else:
            self.state.patch_picture(name, values, offset)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_report)
        return task


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        logger.error("Following a run failed.", exc_info=task.exception())
