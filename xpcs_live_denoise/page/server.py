"""Serves the page: one Bokeh server, one hub, one loop, and a gate before all of it."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import secrets
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, urlencode, urlsplit

from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.document import Document as BokehDocument
from bokeh.server.server import BaseServer
from bokeh.server.tornado import BokehTornado
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.ioloop import IOLoop
from tornado.web import RequestHandler

from xpcs_live_denoise.errors import InvalidInputError

from .export import Export
from .hub import Hub
from .overview import Overview
from .page import Page, page_template
from .tiled_http import TiledHttp

Handler: TypeAlias = Any  # what Tornado calls with a request

logger = logging.getLogger(__name__)

SESSION_LINGER_MS = 5_000
KEEP_ALIVE_MS = 10_000
COOKIE = "xpcs_view"
LEAST_KEY_LENGTH = 16
LOGIN = (Path(__file__).parent / "login.html").read_text("utf-8")
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


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
    InvalidInputError
        When the port is taken or the host is not this machine's.
    """
    hub = Hub(http, path)
    try:
        with _listener(host, port) as listener:
            await hub.start()
            application = _application(hub, key)
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
        raise InvalidInputError(
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

    Page(BokehDocument(), hub, "")


def _application(hub: Hub, key: str | None) -> GuardedApplication:
    exports = (r"/export", Export, {"hub": hub})
    template, overview = page_template(), page_template("overview.html")

    def make(document: BokehDocument) -> None:
        context: Any = document.session_context
        asked = context.request.arguments
        if not {"run", "newest"} & set(asked):
            document.template = overview
            Overview(document, hub)
            return
        wanted = asked.get("run", [b""])[0].decode(errors="replace")
        document.template = template
        Page(document, hub, wanted.strip())

    return GuardedApplication(
        key,
        {"/": Application(FunctionHandler(make))},
        extra_patterns=[exports],
        extra_websocket_origins=["*"],  # the gate compares the origin with the host it was asked at
        # A session's token holds these, and the browser's scripts can read it.
        include_headers=[],
        include_cookies=[],
        unused_session_lifetime_milliseconds=SESSION_LINGER_MS,
        check_unused_sessions_milliseconds=1_000,
        keep_alive_milliseconds=KEEP_ALIVE_MS,
        websocket_max_message_size_bytes=1_000_000,
    )


def is_loopback(host: str) -> bool:
    """Whether a host is this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def checked_key(host: str, key: str | None, where: str) -> str | None:
    """Return the key that the page asks for, None where it asks for none.

    Raises
    ------
    InvalidInputError
        When others could reach the page and there is no key, or one too short to be safe.
    """
    if key is not None and len(key) < LEAST_KEY_LENGTH:
        raise InvalidInputError(
            f"Key of the page ({where}): got {len(key)} characters; expected at least "
            f"{LEAST_KEY_LENGTH}. Make one with: "
            "python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    if key is None and not is_loopback(host):
        raise InvalidInputError(
            f"Page on {host}: others could reach it, and no key is set; expected one in {where}. "
            "Make one with: python -c 'import secrets; print(secrets.token_urlsafe())', or leave "
            "--host away, so that only this machine sees the page."
        )
    return key


def _hostname(host: str) -> str:
    """Return the name in a Host header, "" where there is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


class GuardedApplication(BokehTornado):
    """Bokeh's web application behind a gate that every request has to pass.

    Without a key, those of browsers on this machine pass.
    """

    def __init__(
        self, key: str | None, applications: Mapping[str, Application], **options: Any
    ) -> None:
        self._key = key
        # The key itself never becomes a cookie: this stands for it, until the server ends.
        self.token = secrets.token_urlsafe(32)
        super().__init__(dict(applications), **options)

    def knows(self, key: str) -> bool:
        """Whether this is the key."""
        return self._key is not None and hmac.compare_digest(key.encode(), self._key.encode())

    def refusal(self, request: HTTPServerRequest) -> str:
        """Return why a request may not pass, or nothing if it may."""
        if self._key is not None:
            cookie = request.cookies.get(COOKIE)
            if cookie is None or not hmac.compare_digest(
                cookie.value.encode(), self.token.encode()
            ):
                return "key"
        elif not is_loopback(_hostname(request.host)):
            return "host"  # a foreign name that points here: another site's page asks
        origin = request.headers.get("Origin")
        if (
            request.headers.get("Upgrade", "").lower() == "websocket"
            and urlsplit(origin or "").netloc.lower() != request.host.lower()
        ):
            return "origin"
        return ""

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Handler:
        """Return the handler of a request: the page's, or the one that says no."""
        why = self.refusal(request)
        if not why:
            return super().find_handler(request, **kwargs)
        return self.get_handler_delegate(request, Refusal, {"gate": self, "why": why})

    def log_request(self, handler: RequestHandler) -> None:
        """Log a request without its query, which may hold the key."""
        request = handler.request
        logger.debug("%s %s: %d", request.method, request.path, handler.get_status())


class Refusal(RequestHandler):
    """Asks for the key, takes it, and refuses everything else."""

    def initialize(self, gate: GuardedApplication, why: str) -> None:
        """Take the gate, and why the request was stopped."""
        self._gate, self._why = gate, why

    def set_default_headers(self) -> None:
        """Keep the page out of caches, frames and other sites' logs."""
        for name, value in HEADERS.items():
            self.set_header(name, value)

    def check_xsrf_cookie(self) -> None:
        """Need none: to log someone in gains another site nothing."""

    def prepare(self) -> None:
        """Refuse what no key would open."""
        if self._why != "key" or self.request.method not in ("GET", "HEAD", "POST"):
            self.set_status(403)
            self.finish("This page is not open to requests from other sites or under this name.\n")

    def get(self) -> None:
        """Let a key in the address pass once; ask for it otherwise."""
        self._answer(self.get_query_argument("key", None))

    head = get

    def post(self) -> None:
        """Take the key from the form."""
        self._answer(self.get_body_argument("key", ""))

    def _answer(self, key: str | None) -> None:
        if key is None or not self._gate.knows(key):
            self.set_status(401)
            answer = "" if key is None else "<p role=alert>That is not the key.</p>"
            self.finish(LOGIN.replace("@answer@", answer))
            return
        self.set_cookie(
            COOKIE,
            self._gate.token,
            httponly=True,
            samesite="Strict",
            secure=self.request.protocol == "https",
            path="/",
        )
        query = parse_qsl(urlsplit(self.request.uri or "/").query)
        rest = urlencode([(name, value) for name, value in query if name != "key"])
        # Not a redirect: after a link from elsewhere a browser would hold the cookie back.
        self.finish(
            "<!doctype html><title>XPCS live</title><meta http-equiv=refresh content='0;url=/"
            + (f"?{rest}" if rest else "")
            + "'>"
        )
