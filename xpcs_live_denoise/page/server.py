"""Serves the page: one Bokeh server, one hub, one loop, and a gate before all of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias
from urllib.parse import parse_qsl, urlencode, urlsplit
from weakref import WeakValueDictionary

from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.document import Document as BokehDocument
from bokeh.server.server import BaseServer
from bokeh.server.tornado import BokehTornado
from bokeh.util.token import get_session_id
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.ioloop import IOLoop
from tornado.web import RequestHandler

from xpcs_live_denoise.errors import InvalidInputError

from .access import (
    HEADERS,
    LOGIN_URL,
    Access,
    SharedAccess,
    VisitorAccess,
    go_to,
    login_form,
    set_cookie,
)
from .export import Export
from .hub import Hub
from .monitor import PageMonitor
from .overview import Overview
from .page import Page, page_template
from .tiled_http import TiledHttp

Handler: TypeAlias = Any  # what Tornado calls with a request

logger = logging.getLogger(__name__)


class Closable(Protocol):
    """What is closed at the end."""

    def close(self) -> object:
        """Close it."""
        ...


SESSION_LINGER_MS = 5_000
KEEP_ALIVE_MS = 10_000
SESSION_ID, TOKEN = "bokeh-session-id", "bokeh-token"


async def serve_page(
    http: TiledHttp,
    path: str,
    *,
    host: str,
    port: int | None,
    key: str | None,
    ready: Callable[[int], None],
    login: bool = False,
    monitor: Callable[[PageMonitor], Closable] | None = None,
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
    login
        Each visitor logs in with a key of the Tiled server and sees what that key may read; `http`
        tells the address, its own key and `key` are not used.
    monitor
        Called before `ready` with what to show as metrics; what it returns is closed at the end.

    Raises
    ------
    ResultNotFoundError, TiledUnavailableError
        When the list of runs cannot be read.
    InvalidInputError
        When the port is taken or the host is not this machine's.
    """
    access: Access = SharedAccess(http, path, key)
    if login:
        access = VisitorAccess(http.with_key, path, http.counts)
    with contextlib.ExitStack() as stack:
        try:
            listener = stack.enter_context(_listener(host, port))
            await access.start()
            application = _application(access)
            web = HTTPServer(application)
            web.add_socket(listener)
            server = BaseServer(IOLoop.current(), application, web)
            server.start()
            if monitor is not None:
                stack.callback(monitor(PageMonitor(access, application)).close)
            _warm_up(Hub(http, path))
            try:
                ready(listener.getsockname()[1])
                await asyncio.Event().wait()
            finally:
                server.stop()
                web.stop()
                await web.close_all_connections()
        finally:
            await access.close()
            await http.close()


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


def _application(access: Access) -> GuardedApplication:
    exports = (r"/export", Export, {"access": access})
    template, overview = page_template(), page_template("overview.html")

    def make(document: BokehDocument) -> None:
        context: Any = document.session_context
        hub = application.hub_of(context)
        if hub is None:
            return  # the login has ended just now
        document.on_session_destroyed(application.forget)
        asked = context.request.arguments
        document.template_variables["login"] = isinstance(access, VisitorAccess)
        if not {"run", "newest"} & set(asked):
            document.template = overview
            Overview(document, hub)
            return
        wanted = asked.get("run", [b""])[0].decode(errors="replace")
        document.template = template
        Page(document, hub, wanted.strip())

    application = GuardedApplication(
        access,
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
    return application


class GuardedApplication(BokehTornado):
    """Bokeh's web application behind a gate that every request has to pass.

    A session belongs to the hub that it was made with: no other login opens it.
    """

    def __init__(
        self, access: Access, applications: Mapping[str, Application], **options: Any
    ) -> None:
        self.access = access
        self._hubs: WeakValueDictionary[str, Hub] = WeakValueDictionary()  # by id of session
        super().__init__(dict(applications), auth_provider=access.auth, **options)

    def refusal(self, request: HTTPServerRequest) -> str:
        """Return why a request may not pass, or nothing if it may."""
        if why := self.access.refusal(request):
            return why
        origin = request.headers.get("Origin")
        if (
            request.headers.get("Upgrade", "").lower() == "websocket"
            and urlsplit(origin or "").netloc.lower() != request.host.lower()
        ):
            return "origin"
        own = self.access.hub_of(request)
        known = [self._hubs.get(session) for session in _sessions_named(request)]
        return "session" if any(hub not in (None, own) for hub in known) else ""

    def hub_of(self, context: Any) -> Hub | None:
        """Return the hub of a session that is made, and keep the session for it."""
        hub = self.access.hub_of(context.request._request)
        if hub is not None:
            self._hubs[context.id] = hub
        return hub

    def forget(self, context: Any) -> None:
        """Forget a session that has ended."""
        self._hubs.pop(context.id, None)

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


def _sessions_named(request: HTTPServerRequest) -> list[str]:
    """Return the ids of Bokeh's sessions that a request names, in whichever way."""
    named = [value.decode(errors="replace") for value in request.arguments.get(SESSION_ID, [])]
    named.append(request.headers.get("Bokeh-Session-Id", ""))
    tokens = [value.decode(errors="replace") for value in request.arguments.get(TOKEN, [])]
    protocols = request.headers.get("Sec-WebSocket-Protocol", "").split(",")
    for token in (*tokens, *(protocol.strip() for protocol in protocols[1:])):
        with contextlib.suppress(ValueError, KeyError, TypeError):  # no token: Bokeh refuses it
            named.append(get_session_id(token))
    return named


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
        """Refuse what no key would open; send others to the login."""
        if self._why == "login" and self.request.path == "/" and self.request.method == "GET":
            query = urlencode({"next": self.request.uri or "/"})
            self.redirect(f"{LOGIN_URL}?{query}")
        elif self._why == "login":
            self.set_status(401)
            self.finish("Log in first.\n")
        elif self._why != "key" or self.request.method not in ("GET", "HEAD", "POST"):
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
        access = self._gate.access
        if not isinstance(access, SharedAccess) or key is None or not access.knows(key):
            self.set_status(401)
            sentence = "" if key is None else "That is not the key."
            self.finish(login_form("Key of this page", sentence))
            return
        set_cookie(self, access.token)
        query = parse_qsl(urlsplit(self.request.uri or "/").query)
        rest = urlencode([(name, value) for name, value in query if name != "key"])
        self.finish(go_to(f"/?{rest}" if rest else "/"))
