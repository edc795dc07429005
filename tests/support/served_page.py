"""The web page, served by the test's own process."""

import asyncio
import concurrent.futures
import contextlib
import threading

from xpcs_live_denoise.page.server import serve_page
from xpcs_live_denoise.page.tiled_http import TiledHttp

DEADLINE_S = 60


class Served:
    """The page of a server, in a thread with a loop of its own; a context manager."""

    def __init__(self, server, key=None, *, login=False, monitor=None):
        self._server, self._key, self._login, self._monitor = server, key, login, monitor
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._ready = concurrent.futures.Future()

    async def _serve(self):
        http = TiledHttp(self._server.uri, None if self._login else self._server.api_key)
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        with contextlib.suppress(asyncio.CancelledError):
            await serve_page(
                http,
                "processed",
                host="127.0.0.1",
                port=None,
                key=self._key,
                login=self._login,
                monitor=self._monitor,
                ready=self._ready.set_result,
            )

    def __enter__(self):
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._ready.result(DEADLINE_S)}"
        return self

    def __exit__(self, *exception):
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()
