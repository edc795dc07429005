"""Who may see the page, and whose rights a visitor has: the operator's, or those of an own key."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias
from urllib.parse import urlsplit

from bokeh.server.auth_provider import AuthProvider, NullAuth
from tornado.httputil import HTTPServerRequest
from tornado.web import RequestHandler

from xpcs_live_denoise.errors import InvalidInputError, ResultNotFoundError, XpcsError
from xpcs_live_denoise.monitoring import Counts

from .hub import Hub
from .tiled_http import TiledHttp, end_tasks, start_task

Request: TypeAlias = HTTPServerRequest

logger = logging.getLogger(__name__)

COOKIE = "xpcs_view"
LEAST_KEY_LENGTH = 16
LOGIN_URL, LOGOUT_URL = "/login", "/logout"
LOGIN = (Path(__file__).parent / "login.html").read_text("utf-8")
SESSION_S = 12 * 3600.0
# A key that was revoked, or a run that was taken away, is noticed after so long.
RECHECK_S = 60.0
MOST_VISITORS = 100
MOST_CHECKS = 4  # of keys at a time: who tries many waits
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Access(Protocol):
    """Which requests pass, and which hub a request reads through.

    `auth` are Bokeh's own hooks, `counts` those of the page.
    """

    auth: AuthProvider
    counts: Counts

    @property
    def hubs(self) -> list[Hub]:
        """All hubs that are open."""
        ...

    @property
    def n_logged_in(self) -> int:
        """Visitors that are logged in."""
        ...

    def hub_of(self, request: Request) -> Hub | None:
        """Return the hub of a request, None for one that may see nothing."""
        ...

    def refusal(self, request: Request) -> str:
        """Return why a request may not pass: "key", "login", "host"; "" if it may."""
        ...

    async def start(self) -> None:
        """Begin; raises where the page cannot be served."""
        ...

    async def close(self) -> None:
        """End all connections to the Tiled server."""
        ...


class SharedAccess:
    """All visitors see what the operator's key may read: on this machine, or with the page's key.

    Without a `key`, requests of browsers on this machine pass.
    """

    n_logged_in = 0

    def __init__(self, http: TiledHttp, path: str, key: str | None) -> None:
        self.auth: AuthProvider = NullAuth()
        self.counts = http.counts
        self._hub, self._key = Hub(http, path), key
        # The key itself never becomes a cookie: this stands for it, until the server ends.
        self.token = secrets.token_urlsafe(32)

    @property
    def hubs(self) -> list[Hub]:
        """The one."""
        return [self._hub]

    def hub_of(self, request: Request) -> Hub | None:
        """Return the one hub, of requests that may pass."""
        return None if self.refusal(request) else self._hub

    def refusal(self, request: Request) -> str:
        """Return why a request may not pass, or nothing if it may."""
        if self._key is None:
            # A foreign name that points here: another site's page asks.
            return "" if is_loopback(_hostname(request.host)) else "host"
        return "" if same(cookie_of(request), self.token) else "key"

    def knows(self, key: str) -> bool:
        """Whether this is the key."""
        known = self._key is not None and same(key, self._key)
        self.counts.add("xpcs_page_logins_total", label="accepted" if known else "refused")
        return known

    async def start(self) -> None:
        """Read the list of runs; raises as `Hub.start`."""
        await self._hub.start()

    async def close(self) -> None:
        """Close the hub."""
        await self._hub.close()


@dataclass(slots=True, eq=False)
class Visitor:
    """One login: a connection with the visitor's own key, and when it ends (time.monotonic())."""

    hub: Hub
    ends: float


class VisitorAccess:
    """Each visitor logs in with a key of the Tiled server, and sees what that key may read.

    A login has a connection, a list of runs and feeds of its own; nothing that one key has read is
    shown to another. The key stays in this process: the browser gets a random cookie.
    `connect` makes a connection with a key.
    """

    def __init__(self, connect: Callable[[str], TiledHttp], path: str, counts: Counts) -> None:
        self.auth: AuthProvider = VisitorAuth(self)
        self.counts = counts
        self._connect, self._path = connect, path
        self._visitors: dict[str, Visitor] = {}  # by cookie
        self._tasks: set[asyncio.Task[None]] = set()
        self._checks = asyncio.Semaphore(MOST_CHECKS)

    @property
    def hubs(self) -> list[Hub]:
        """One a login."""
        return [visitor.hub for visitor in list(self._visitors.values())]

    @property
    def n_logged_in(self) -> int:
        """Logins that have not ended."""
        return len(self._visitors)

    def hub_of(self, request: Request) -> Hub | None:
        """Return the hub of the login that a request's cookie stands for."""
        visitor = self._visitors.get(cookie_of(request))
        return visitor.hub if visitor is not None and time.monotonic() < visitor.ends else None

    def refusal(self, request: Request) -> str:
        """Return "login" for a request of somebody who is not logged in."""
        if request.path in (LOGIN_URL, LOGOUT_URL) or self.hub_of(request) is not None:
            return ""
        return "login"

    async def login(self, key: str) -> str:
        """Return the cookie of a new login.

        Raises InvalidInputError or ResultNotFoundError for a key that the Tiled server does not
        take, TiledUnavailableError when it does not answer.
        """
        if not key.strip():
            raise InvalidInputError("Key: got none; expected an API key of the Tiled server.")
        async with self._checks:
            if len(self._visitors) >= MOST_VISITORS:
                raise InvalidInputError(
                    f"{MOST_VISITORS} visitors are logged in, the most that this page takes. Try "
                    "again later."
                )
            # Only what this key's own requests bring: a container tells its subscribers of all.
            hub = Hub(self._connect(key.strip()), self._path, follow_list=False)
            try:
                await hub.start()
            except BaseException as error:
                if isinstance(error, ResultNotFoundError):  # not where the server is away
                    self.counts.add("xpcs_page_logins_total", label="refused")
                await hub.close()
                raise
        self.counts.add("xpcs_page_logins_total", label="accepted")
        cookie = secrets.token_urlsafe(32)
        self._visitors[cookie] = Visitor(hub, time.monotonic() + SESSION_S)
        return cookie

    async def logout(self, cookie: str) -> None:
        """End a login: its open pages get nothing more."""
        visitor = self._visitors.pop(cookie, None)
        if visitor is not None:
            await visitor.hub.close()

    async def start(self) -> None:
        """Begin to look after logins; the server may be away."""
        start_task(self._tasks, self._look_after(), "Visitors")

    async def close(self) -> None:
        """End all logins."""
        await end_tasks(self._tasks, cancel=True)
        for cookie in list(self._visitors):
            await self.logout(cookie)

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(RECHECK_S)
            try:
                await self.recheck()
            except Exception:  # or revoked keys would not be noticed any more
                logger.exception("Logins could not be checked; they are again in a minute.")

    async def recheck(self) -> None:
        """End logins that are over, or whose key the server does not take any more."""
        for cookie, visitor in list(self._visitors.items()):
            if cookie not in self._visitors:
                continue  # logged out meanwhile
            if time.monotonic() >= visitor.ends or await visitor.hub.is_refused():
                await self.logout(cookie)


class VisitorAuth(AuthProvider):
    """Bokeh's hooks: who a request is of, where to log in and out."""

    def __init__(self, access: VisitorAccess) -> None:
        self._access = access
        super().__init__()

    @property
    def get_user(self) -> Any:
        """A function: request handler -> its hub, None where nobody is logged in."""
        return lambda handler: self._access.hub_of(handler.request)

    @property
    def login_url(self) -> str:
        """Where to log in."""
        return LOGIN_URL

    @property
    def login_handler(self) -> type[RequestHandler]:
        """What asks for the key and takes it."""
        return _bound(Login, self._access)

    @property
    def logout_url(self) -> str:
        """Where to log out."""
        return LOGOUT_URL

    @property
    def logout_handler(self) -> type[RequestHandler]:
        """What ends a login."""
        return _bound(Logout, self._access)


def _bound(handler: type[_Form], access: VisitorAccess) -> type[RequestHandler]:
    """Return a handler of this access; Bokeh hands handlers nothing."""
    return type(handler.__name__, (handler,), {"access": access})


class _Form(RequestHandler):
    """A small page before the page."""

    access: VisitorAccess

    def set_default_headers(self) -> None:
        """Keep the page out of caches, frames and other sites' logs."""
        for name, value in HEADERS.items():
            self.set_header(name, value)

    def check_xsrf_cookie(self) -> None:
        """Need none: to log someone in gains another site nothing."""

    def ask(self, status: int, sentence: str = "") -> None:
        """Show the form, with a sentence about what was given."""
        self.set_status(status)
        self.finish(login_form("Your key of the Tiled server", sentence))


class Login(_Form):
    """Asks for a key of the Tiled server, and gives a cookie for it."""

    def get(self) -> None:
        """Show the form."""
        self.ask(200)

    async def post(self) -> None:
        """Take the key; it is in the body, so that no log of addresses holds it."""
        try:
            cookie = await self.access.login(self.get_body_argument("key", ""))
        except XpcsError as error:
            logger.info("A login was refused: %s", error)
            refused = isinstance(error, LookupError)
            self.ask(401, "The Tiled server does not take this key." if refused else str(error))
            return
        set_cookie(self, cookie, SESSION_S)
        self.finish(go_to(next_page(self.get_query_argument("next", "/"))))


class Logout(_Form):
    """Ends the login, and shows the form again."""

    async def get(self) -> None:
        """End it."""
        await self.access.logout(cookie_of(self.request))
        self.clear_cookie(COOKIE, path="/")
        self.ask(200, "You have logged out.")


def login_form(label: str, sentence: str = "") -> str:
    """Return the page that asks for a key."""
    from html import escape

    answer = f"<p role=alert>{escape(sentence)}</p>" if sentence else ""
    return LOGIN.replace("@answer@", answer).replace("@label@", label)


def set_cookie(handler: RequestHandler, value: str, seconds: float | None = None) -> None:
    """Give a cookie that scripts and other sites cannot use."""
    handler.set_cookie(
        COOKIE,
        value,
        httponly=True,
        samesite="Strict",
        secure=came_by_tls(handler.request),
        path="/",
        max_age=None if seconds is None else int(seconds),
    )


def came_by_tls(request: Request) -> bool:
    """Whether the browser's request was encrypted, up to a proxy before the page at least.

    Whoever says so is believed, on whatever host TLS ends: who lies gets a cookie that the own
    browser does not send back, and nothing else.
    """
    first, _, _ = request.headers.get("X-Forwarded-Proto", "").partition(",")
    by, _, _ = request.headers.get("Forwarded", "").partition(",")  # RFC 7239
    standard = re.search(r'\bproto="?https\b', by, re.IGNORECASE) is not None
    return standard or "https" in (request.protocol, first.strip().lower())


def go_to(address: str) -> str:
    """Return a page that opens another one at once.

    Not a redirect: after a link from elsewhere a browser would hold the cookie back.
    """
    from html import escape

    return (
        "<!doctype html><title>XPCS live</title><meta http-equiv=refresh content='0;url="
        f"{escape(address, quote=True)}'>"
    )


def next_page(asked: str) -> str:
    """Return the address on this page that was asked for; "/" for one anywhere else."""
    parts = urlsplit(asked)
    return f"/?{parts.query}" if parts.query and not parts.netloc and parts.path == "/" else "/"


def cookie_of(request: Request) -> str:
    """Return the cookie of a request, "" without one."""
    cookie = request.cookies.get(COOKIE)
    return "" if cookie is None else cookie.value


def same(given: str, expected: str) -> bool:
    """Whether two secrets are the same; takes as long whatever differs."""
    return hmac.compare_digest(given.encode(), expected.encode())


def is_loopback(host: str) -> bool:
    """Whether a host is this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _hostname(host: str) -> str:
    """Return the name in a Host header, "" where there is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


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
            "Make one with: python -c 'import secrets; print(secrets.token_urlsafe())', or let "
            "each visitor log in with a key of the Tiled server (--login), or leave --host away, "
            "so that only this machine sees the page."
        )
    return key
