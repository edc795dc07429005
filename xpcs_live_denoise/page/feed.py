"""One run, read and then followed: shared by every page that shows it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine

import numpy as np

from xpcs_live_denoise import views
from xpcs_live_denoise.errors import ResultNotFoundError, XpcsError
from xpcs_live_denoise.records.types import Document, Fields

from .c2_node import C2Node, bins_of, c2_to_read
from .run_state import BAND_FIELDS, RunState
from .tiled_http import (
    FIRST_DELAY_S,
    LAST_DELAY_S,
    TiledHttp,
    end_tasks,
    follow,
    read_arrow,
    start_task,
)

logger = logging.getLogger(__name__)

LOOK_S = 0.05
C2_KINDS = ("c2", *BAND_FIELDS)
# stream -> what in it is followed.
FOLLOWED = {
    "two_time": C2_KINDS,
    "image": ("image", "roi_labels", "image_denoised", "image_denoised_error"),
    "gamma": ("internal",),
    "status": ("internal",),
}
# g2 comes with the end of the run, when all of it is read once more; I(t) and I(q) are read when
# there are new frames.
COUNTED = {"intensity": ("roi_mean",), "saxs": ("saxs", "q", "radius", "n_pixels")}
READ = FOLLOWED | {"g2": ("g2", "g2_error", "g2_denoised", "delay_s")} | COUNTED


class RunFeed:
    """Keeps a RunState up to date: of the derived run at a path, with its metadata as they stand.

    Where it is not `streaming`, it does not subscribe, and `refresh` must be called instead. It is
    `refused` once the server has the run, but offered no stream of it.
    """

    def __init__(
        self, http: TiledHttp, path: str, metadata: Fields, *, streaming: bool = True
    ) -> None:
        self._http, self._path = http, path
        self.streaming, self.refused = streaming, False
        self.state = RunState(path.rpartition("/")[2])
        self.state.set_metadata(metadata)
        self.state.wanted = {views.default_roi(self.state.labels)}
        self._n_read = 0  # frames that the last reading of everything has read
        # Where rows of C2 begin that are stored, but that the metadata did not count when the
        # rows before them were read.
        self._late_from: int | None = None
        self._counting = False
        self._following: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loading: asyncio.Task[None] | None = None
        self._loaded = asyncio.Event()

    @property
    def followed(self) -> frozenset[str]:
        """Paths of the nodes whose updates are followed."""
        return frozenset(path for path, task in self._following.items() if not task.done())

    def start(self) -> None:
        """Read the stored state, then follow the run until it ends."""
        if self._loading is not None:
            self._loading.cancel()  # what it has asked for may be older than what is asked for now
        self._loading = self._start(self._load())

    async def loaded(self, timeout_s: float) -> bool:
        """Wait until the stored state has been read; return whether it has."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._loaded.wait(), timeout_s)
        return self._loaded.is_set()

    async def close(self) -> None:
        """Stop following."""
        await end_tasks(self._tasks, cancel=True)
        self._leave_all()
        self._http.report(self._path, broken=False)

    def want(self, index: int) -> None:
        """Make the C2 of one more ROI (its index) available."""
        if index not in self.state.wanted and 0 <= index < len(self.state.labels):
            self.state.wanted.add(index)
            self._start(self._read_roi(index))

    async def shown(self, index: int, timeout_s: float) -> bool:
        """Wait until what is stored of a ROI (its index) has been read; return whether it has.

        Of a run without a stored g2, as one that is on, that is its C2, too.
        """
        end = time.monotonic() + timeout_s
        self.want(index)
        if not await self.loaded(timeout_s):
            return False
        data, labels = self.state.data, self.state.labels
        while "delay_s" not in data.g2 and index not in data.maps and 0 <= index < len(labels):
            if time.monotonic() > end or not self.state.n_frames:
                break
            await asyncio.sleep(LOOK_S)
        return True

    def on_metadata(self, metadata: Fields) -> None:
        """Take newer metadata of the run; with its stop everything is read once more."""
        live, gone, n_frames = self.state.live, self.state.gone, self.state.n_frames
        self.state.set_metadata(metadata)
        if self.state.n_frames > n_frames:
            self.state.hear(time.time())
            if self._late_from is not None:
                self._start(self._read_late())
            if self.streaming and self.state.loaded and self.state.live:
                self._start(self._read_counted(self._changing_from(n_frames)))
        if gone or (live and not self.state.live):
            self._leave_all()
            self.start()

    async def _read_counted(self, first_frame: int) -> None:
        """Read I(t) from a frame on, and the newest I(q); not while that is done already."""
        if self._counting:
            return
        self._counting = True
        try:
            streams = await self._http.children(self._path)
            for stream in COUNTED.keys() & streams.keys():
                path, names = f"{self._path}/{stream}", COUNTED[stream]
                await read_stream(self._http, path, self.state, names, first_frame)
        except XpcsError as error:
            logger.info("Run %s, I(t): %s", self.state.uid, error)  # the next frames bring it
        finally:
            self._counting = False

    async def look(self) -> None:
        """Ask for the metadata, and whether the run is still there."""
        try:
            self.on_metadata(await self._http.metadata(self._path))
        except ResultNotFoundError as error:
            self._leave_all()
            self.state.lose(str(error))

    async def refresh(self) -> None:
        """Without streams: ask for the metadata, and read what is new."""
        before = self._n_read
        await self.look()
        if self.state.live and self.state.n_frames > before:
            await self._read_stored(self._changing_from(before))

    def _changing_from(self, frame: int) -> int:
        """Return the first row of C2 that updates from a frame on may change."""
        # A live window reaches back as far as its length; older blocks no longer change.
        return max(0, frame - 2 * self.state.window)

    # --- stored state ----------------------------------------------------------------------

    async def _load(self) -> None:
        delay_s = FIRST_DELAY_S
        while True:
            try:
                await self._read_run()
                break
            except XpcsError as error:
                logger.info("Run %s: %s", self.state.uid, error)
            self._http.report(self._path, broken=True)
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, LAST_DELAY_S)
        self._http.report(self._path, broken=False)
        self._loaded.set()
        if self.streaming and self.state.live:
            self._follow(self._path, self._run_opened, self._on_run_update)

    async def _read_run(self) -> None:
        """Read all that is stored, or find that there is nothing any more."""
        try:
            self.state.set_metadata(await self._http.metadata(self._path))
        except ResultNotFoundError as error:
            self.state.lose(str(error))
            return
        ended = not self.state.live
        await self._read_stored()
        self.state.loaded, self.state.complete = True, ended
        self.state.touch()

    async def _read_stored(self, first_frame: int = 0) -> None:
        n_frames = self.state.n_frames
        await read_stored(self._http, self._path, self.state, first_frame)
        self._n_read = n_frames

    async def _read_roi(self, index: int) -> None:
        try:
            await self._count_rows()
            await read_roi(self._http, self._path, self.state, index)
        except XpcsError as error:
            self.state.wanted.discard(index)  # asked for again by the next look at it
            logger.info("Run %s, ROI %d: %s", self.state.uid, index, error)

    async def _count_rows(self) -> None:
        """Before reading C2 of a live run: learn which rows count; the next update brings the rest.

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
            first = self._changing_from(late)
            await read_stream(self._http, f"{self._path}/two_time", self.state, C2_KINDS, first)
        except XpcsError as error:
            self._remember_late(late)  # again with the next update
            logger.info("Run %s, rows from %d on: %s", self.state.uid, late, error)

    # --- live updates ----------------------------------------------------------------------

    def _follow(
        self,
        path: str,
        opened: Callable[[], Coroutine[None, None, None]],
        message: Callable[[Document], None],
    ) -> None:
        if path in self._following:
            self._following.pop(path).cancel()  # the node was made anew

        async def run() -> None:
            # The hub decides whether there is streaming: it has seen more of the server.
            while self.streaming and not await follow(
                self._http, path, opened=opened, message=message
            ):
                self.refused |= path == self._path
                await asyncio.sleep(FIRST_DELAY_S)

        self._following[path] = self._start(run())

    async def _run_opened(self) -> None:
        for stream in await self._http.children(self._path):
            self._follow_stream(stream)

    def _on_run_update(self, update: Document) -> None:
        if update["type"] == "container-child-created":
            self._follow_stream(update["key"])

    def _follow_stream(self, stream: str) -> None:
        path = f"{self._path}/{stream}"
        if stream not in FOLLOWED or path in self.followed:
            return

        async def opened() -> None:
            for name in await self._http.children(path):
                self._follow_node(stream, name, again=False)

        def message(update: Document) -> None:
            metadata = update.get("metadata") or {}
            if update["type"] == "container-child-created":
                self._follow_node(stream, update["key"], again=True)
            elif update["key"] == "image":
                self.state.data.picture_facts = metadata
            elif update["key"] == "c2":
                version, frames_per_bin = bins_of(metadata)
                if version % 2 == 0 and frames_per_bin != self.state.data.frames_per_bin:
                    self._start(self._read_again())

        self._follow(path, opened, message)

    async def _read_again(self) -> None:
        """Read the map, whose bins hold another number of frames from now on."""
        try:
            await self._count_rows()
            await read_stream(self._http, f"{self._path}/two_time", self.state, ("c2",))
        except XpcsError as error:
            self._remember_late(0)  # again with the next update
            logger.info("Run %s, its map: %s", self.state.uid, error)

    def _follow_node(self, stream: str, name: str, *, again: bool) -> None:
        path = f"{self._path}/{stream}/{name}"
        if name not in FOLLOWED[stream] or (path in self.followed and not again):
            return

        async def opened() -> None:
            if stream == "two_time":
                await self._count_rows()
            await read_stream(self._http, f"{self._path}/{stream}", self.state, (name,))

        def message(update: Document) -> None:
            try:
                take_update(self.state, stream, name, update)
            except (LookupError, ValueError, TypeError) as error:
                logger.warning("Update of %s cannot be used: %r", path, error)
            self.state.hear(time.time())

        self._follow(path, opened, message)

    def _start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        return start_task(self._tasks, work, f"Run {self.state.uid}")

    def _leave_all(self) -> None:
        for path, task in self._following.items():
            task.cancel()
            self._http.report(path, broken=False)
        self._following.clear()


async def read_stored(http: TiledHttp, path: str, state: RunState, first_frame: int = 0) -> None:
    """Read into the state all that is stored of a run, of C2 the rows from a frame on."""
    streams = await http.children(path)
    await asyncio.gather(
        *(
            read_stream(http, f"{path}/{stream}", state, names, first_frame)
            for stream, names in READ.items()
            if stream in streams
        )
    )


async def read_stream(
    http: TiledHttp,
    path: str,
    state: RunState,
    names: tuple[str, ...],
    first_frame: int = 0,
) -> None:
    """Read into the state those nodes of the stream at a path that are there."""
    children = await http.children(path)
    known = [name for name in names if name in children]
    if path.endswith("/two_time"):
        known = c2_to_read(children, known, live=state.live, any_size=state.any_size)
    await asyncio.gather(
        *(_read_node(http, f"{path}/{name}", state, children[name], first_frame) for name in known)
    )


async def read_roi(http: TiledHttp, path: str, state: RunState, index: int) -> None:
    """Read into the state C2 of one ROI (its index) of the run at a path."""
    children = await http.children(f"{path}/two_time")
    known = [name for name in C2_KINDS if name in children]
    for name in c2_to_read(children, known, live=state.live, any_size=state.any_size):
        node = C2Node(http, f"{path}/two_time/{name}", children[name], state)
        await node.read([index])


def take_update(state: RunState, stream: str, name: str, update: Document) -> None:
    """Take into the state an update of an array or a table, as Tiled sends it.

    Raises LookupError, ValueError or TypeError when it cannot be used.
    """
    data = state.data
    if update["type"] == "table-data":
        state.append(stream, read_arrow(update["payload"]))
        return
    dtype = np.dtype("<f4") if stream == "two_time" else data.picture[name].dtype
    values = np.frombuffer(update["payload"], dtype).reshape(update["shape"])
    offset = tuple(update["offset"] or (0,) * values.ndim)  # None: it is all of the array
    if stream == "two_time":
        at = (offset[0], offset[1], offset[2])
        if name == "c2":
            data.patch_c2(values, at)
        else:
            data.patch_band(name, values, at)
    else:
        data.patch_picture(name, values, offset)
    state.touch()


async def _read_node(
    http: TiledHttp, path: str, state: RunState, node: Document, first_frame: int
) -> None:
    try:
        await _read_values(http, path, state, node, first_frame)
    except XpcsError:
        raise
    except Exception:  # what another version wrote, say: the page shows the rest
        logger.exception("%s cannot be used.", path)


async def _read_values(
    http: TiledHttp, path: str, state: RunState, node: Document, first_frame: int
) -> None:
    *_, stream, name = path.split("/")
    structure = node["structure"]
    if name == "internal":
        state.append(stream, await http.table(path), afresh=True)
    elif stream == "two_time":
        await C2Node(http, path, node, state).read(sorted(state.wanted), first_frame)
    elif name == "roi_mean":
        await _read_trace(http, path, state, structure, first_frame)
    else:
        values, data = await http.array(path, structure), state.data
        if name == "image":
            data.picture_facts = node.get("metadata") or {}
        {"image": data.picture, "saxs": data.saxs}.get(stream, data.g2)[name] = values
        state.touch()


async def _read_trace(
    http: TiledHttp, path: str, state: RunState, structure: Fields, first_frame: int
) -> None:
    """Read I(t), from a frame on or, where frames before it are not known, from the first."""
    data, (length, n_roi) = state.data, structure["shape"]
    if data.trace is None:
        data.trace = views.IntensityTrace(n_roi)
    first = min(first_frame, data.trace.n_frames)
    frames = data.trace.to_read(min(state.n_frames, length), first)
    if frames.start < frames.stop:
        values = await http.array(path, structure, (frames, slice(0, n_roi)))
        data.trace.add(frames.start, values, step=frames.step)
        state.touch()
