"""Follows one node of a Tiled server through its stream of updates, over broken connections."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Coroutine

from xpcs_live_denoise.errors import XpcsError
from xpcs_live_denoise.records.types import Document

from .tiled_http import TiledHttp

logger = logging.getLogger(__name__)

FIRST_DELAY_S, LAST_DELAY_S = 0.5, 5.0
OPEN_TIMEOUT_S = 10.0
# A subscriber that had to take less would lose its connection at the first larger update.
MAX_MESSAGE_BYTES = 64_000_000
# The server announces an update before it stores it: what is read at once may lack it.
SETTLE_S = 0.2
PRODUCER_ENDED = 1000
GONE, REFUSED = 404, (401, 403)


class StreamingUnavailableError(XpcsError, ConnectionError):
    """The server answers requests but offers no stream of updates."""


class Subscription:
    """The stream of one node, which also tells its server when the connection breaks or is back.

    `opened` is awaited after every connection, before the first message, and reads the stored
    state; messages that come meanwhile wait, so that nothing falls between the two. `message` is
    called with every update.
    """

    def __init__(
        self,
        http: TiledHttp,
        path: str,
        *,
        opened: Callable[[], Awaitable[None]],
        message: Callable[[Document], None],
    ) -> None:
        self._http, self._path = http, path
        self._opened, self._message = opened, message
        self._delay_s = FIRST_DELAY_S
        self._was_open = False

    async def run(self) -> None:
        """Follow the node until its producer ends it, or it is gone.

        Raises StreamingUnavailableError when the server answers but offers no streams.
        """
        from websockets.exceptions import InvalidStatus, WebSocketException

        while True:
            try:
                if await self._follow():
                    break
            except InvalidStatus as error:
                status = error.response.status_code
                if status == GONE or status in REFUSED:
                    break
                if not self._was_open:
                    await self._check_offer(status)
            except (OSError, EOFError, XpcsError, WebSocketException) as error:
                logger.info("Updates of %s: %r; trying again.", self._path, error)
            except Exception:
                # Whatever a server says while it dies: the page tells, and tries again.
                logger.warning("Updates of %s; trying again.", self._path, exc_info=True)
            self._http.report(self._path, broken=True)
            await asyncio.sleep(self._delay_s)
            self._delay_s = min(2 * self._delay_s, LAST_DELAY_S)
        self._http.report(self._path, broken=False)

    async def _follow(self) -> bool:
        """Connect and hand on messages; return whether the producer has ended the stream."""
        import msgpack
        from websockets.asyncio.client import connect

        address = self._http.stream_address(self._path)
        tls = ssl.create_default_context() if address.startswith("wss") else None
        async with connect(
            address,
            additional_headers=self._http.headers,
            max_size=MAX_MESSAGE_BYTES,
            open_timeout=OPEN_TIMEOUT_S,
            close_timeout=1,
            ssl=tls,
            proxy=None,
            # No compression: both ends would spend more time on it than on the update.
            compression=None,
        ) as socket:
            self._was_open = True  # a refusal from now on is a restart
            await socket.recv()  # the schema; every update tells its own shape
            await asyncio.sleep(SETTLE_S)
            await self._opened()
            self._http.report(self._path, broken=False)
            self._delay_s = FIRST_DELAY_S
            last = None
            async for data in socket:
                update = msgpack.unpackb(data)
                if last is not None and update["sequence"] != last + 1:
                    await self._opened()  # updates were dropped: read what they said
                last = update["sequence"]
                self._message(update)
            return socket.close_code == PRODUCER_ENDED

    async def _check_offer(self, status: int) -> None:
        """Raise if the server is well but has no stream."""
        try:
            await self._http.children(self._path.rpartition("/")[0])
        except XpcsError:
            return
        raise StreamingUnavailableError(
            f"Tiled server {self._http.address}: offers no streaming (status {status})."
        )


class Tasks:
    """The running tasks of one owner, which the log names."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._running: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Run a coroutine; an exception that ends it is logged."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._done)
        return task

    async def finish(self) -> None:
        """Wait for all that are running."""
        await asyncio.gather(*self._running, return_exceptions=True)

    async def close(self) -> None:
        """Cancel all that are running, and wait for them."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("%s: a task failed.", self._owner, exc_info=task.exception())
