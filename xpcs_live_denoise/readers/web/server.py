"""Serves the page: one Bokeh server, one hub, one loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.document import Document
from bokeh.server.server import BaseServer
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop

from xpcs_live_denoise.errors import ServerStartError

from .gate import Gate, GuardedApplication
from .hub import Hub
from .page import Page, page_template
from .tiled_http import TiledHttp

SESSION_LINGER_MS = 5_000
KEEP_ALIVE_MS = 10_000


async def serve_page(
    http: TiledHttp,
    path: str,
    *,
    host: str,
    port: int | None,
    key: str | None,
    ready: Callable[[int], None],
) -> None:
    """Serve the page until cancelled.

    Parameters
    ----------
    http
        The Tiled server.
    path
        Container of the derived runs.
    host, port
        Address to listen on; port None: a free one.
    key
        What visitors must know, None for none.
    ready
        Called with the port when the page can be opened.

    Raises
    ------
    ResultNotFoundError, TiledUnavailableError
        When the list of runs cannot be read.
    ServerStartError
        When the port is taken or the host is not this machine's.
    """
    hub = Hub(http, path)
    try:
        with _listener(host, port) as listener:
            await hub.start()
            application = _application(hub, Gate(key))
            web = HTTPServer(application)
            web.add_socket(listener)
            server = BaseServer(IOLoop.current(), application, web)
            server.start()
            _warm_up(hub)
            try:
                ready(listener.getsockname()[1])
                await asyncio.Event().wait()
            finally:
                server.stop()
                web.stop()
                await web.close_all_connections()
    finally:
        await hub.close()


def _listener(host: str, port: int | None) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port or 0))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ServerStartError(
            f"Page on {host}, port {port or 'any'}: {error.strerror}. Expected an address of this "
            "machine and a free port; give another with --host or --port."
        ) from error
    listener.setblocking(False)
    return listener


def _warm_up(hub: Hub) -> None:
    """Import and fill caches now, not while the first visitor waits."""
    import pandas  # noqa: F401
    import pyarrow.ipc  # noqa: F401
    import websockets.asyncio.client  # noqa: F401

    Page(Document(), hub, "")


def _application(hub: Hub, gate: Gate) -> GuardedApplication:
    template = page_template()

    def make(document: Document) -> None:
        context: Any = document.session_context
        wanted = context.request.arguments.get("run", [b""])[0].decode(errors="replace")
        document.template = template
        Page(document, hub, wanted.strip())

    return GuardedApplication(
        gate,
        {"/": Application(FunctionHandler(make))},
        extra_websocket_origins=["*"],  # the gate compares the origin with the host it was asked at
        # A session's token holds these, and the browser's scripts can read it.
        include_headers=[],
        include_cookies=[],
        unused_session_lifetime_milliseconds=SESSION_LINGER_MS,
        check_unused_sessions_milliseconds=1_000,
        keep_alive_milliseconds=KEEP_ALIVE_MS,
        websocket_max_message_size_bytes=1_000_000,
    )
