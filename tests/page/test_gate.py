"""Who may see the page, and what it gives away to those who may not."""

import asyncio
import base64
import contextlib
import json
import logging
import re
import socket
import zlib

import httpx
import pytest
import websockets.exceptions
from websockets.sync.client import connect

from tests.support.served_page import DEADLINE_S, Served
from xpcs_live_denoise.errors import (
    InvalidInputError,
    ResultNotFoundError,
    TiledUnavailableError,
)
from xpcs_live_denoise.page.access import checked_key, is_loopback
from xpcs_live_denoise.page.server import serve_page
from xpcs_live_denoise.page.tiled_http import TiledHttp, base_address

KEY = "a key that only visitors know"


@pytest.fixture(scope="module")
def open_page(tiled_server):
    with Served(tiled_server) as page:
        yield page


@pytest.fixture(scope="module")
def keyed_page(tiled_server):
    with Served(tiled_server, KEY) as page:
        yield page


@pytest.fixture
def visitor():
    """A function that returns a browser without a cookie, at a page."""
    with contextlib.ExitStack() as clients:

        def visit(page):
            client = httpx.Client(base_url=page.address, trust_env=False, timeout=DEADLINE_S)
            return clients.enter_context(client)

        yield visit


def test_beyond_this_machine_the_page_needs_a_key():
    with pytest.raises(InvalidInputError, match="others could reach it, and no key is set"):
        checked_key("0.0.0.0", None, "XPCS_VIEW_KEY")
    assert checked_key("127.0.0.1", None, "XPCS_VIEW_KEY") is None
    assert checked_key("0.0.0.0", KEY, "XPCS_VIEW_KEY") == KEY


def test_a_short_key_is_refused_without_being_told():
    with pytest.raises(InvalidInputError, match="got 6 characters; expected at least 16") as error:
        checked_key("127.0.0.1", "secret", "XPCS_VIEW_KEY")
    assert "secret'" not in str(error.value)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        *(("127.0.0.1", True), ("127.0.0.5", True), ("::1", True), ("localhost", True)),
        *(("0.0.0.0", False), ("beamline.example", False), ("localhost.example", False)),
    ],
)
def test_loopback_is_told_from_every_other_host(host, local):
    assert is_loopback(host) is local


@pytest.mark.parametrize("path", ["/", "/?run=x", "/static/js/bokeh.min.js", "/metadata", "/ws"])
def test_nothing_is_served_without_the_key(keyed_page, visitor, path):
    client = visitor(keyed_page)
    answer = client.get(path)
    assert answer.status_code == 401
    assert "Key of this page" in answer.text
    wrong = client.get("/", params={"key": "a key that nobody knows"})
    assert wrong.status_code == 401
    assert "That is not the key" in wrong.text
    assert not wrong.cookies


def test_the_key_opens_once_and_a_cookie_that_is_not_the_key_from_then_on(
    keyed_page, visitor, caplog
):
    client = visitor(keyed_page)
    caplog.set_level(logging.WARNING, "httpx")  # the test's own client
    with caplog.at_level(logging.DEBUG):
        answer = client.get("/", params={"key": KEY, "run": "a b"})
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert KEY not in cookie
    assert "url=/?run=a+b" in answer.text
    page = client.get("/")
    assert page.status_code == 200
    assert "bokeh" in page.text
    client.cookies.clear()
    answer = client.post("/", data={"key": KEY})
    assert answer.status_code == 200
    assert "set-cookie" in answer.headers
    assert KEY not in caplog.text
    assert KEY.replace(" ", "+") not in caplog.text


def test_no_credential_is_in_what_a_browser_gets(tiled_server, keyed_page, visitor):
    client = visitor(keyed_page)
    cookie = client.get("/", params={"key": KEY}).cookies["xpcs_view"]
    page = client.get("/").text
    token = re.search(r'"token":"([^"]+)"', page).group(1)
    session = json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))
    hidden = session.pop("__bk__zlib_", "")
    inside = zlib.decompress(base64.urlsafe_b64decode(hidden + "==")).decode() if hidden else ""
    for text in (page, inside, json.dumps(session)):
        for secret in (tiled_server.api_key, KEY, cookie):
            assert secret not in text
    assert "headers" in inside or "headers" in session  # the token is what we think it is


@pytest.mark.parametrize(
    ("origin", "status"), [("http://evil.example", 403), (None, 403), ("same", None)]
)
def test_a_web_socket_opens_for_this_page_only(open_page, visitor, origin, status):
    token = re.search(r'"token":"([^"]+)"', visitor(open_page).get("/").text).group(1)

    def opened():
        return connect(
            open_page.address.replace("http", "ws") + "/ws",
            origin=open_page.address if origin == "same" else origin,
            subprotocols=["bokeh", token],
            proxy=None,
            open_timeout=DEADLINE_S,
        )

    if status is None:
        with opened() as socket:
            assert "ACK" in str([socket.recv() for _ in range(3)])
    else:
        with pytest.raises(websockets.exceptions.InvalidStatus) as error:
            opened()
        assert error.value.response.status_code == status


def test_a_foreign_name_that_points_here_is_refused(open_page, visitor):
    client = visitor(open_page)
    for host in ("evil.example", "127.0.0.1.evil.example", "[", "[::1", ""):
        answer = client.get("/", headers={"Host": host})
        assert answer.status_code in (400, 403)
    assert client.get("/").status_code == 200


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("processed", "expected an address"),
        ("http://[::1", "expected an address"),
        ("http://127.0.0.1:http", "expected an address"),
        ("http://127.0.0.1:65536", "expected an address"),
        ("http://h:1/?api_key=abc", "holds a key or a password"),
    ],
)
def test_an_address_that_is_none_or_holds_a_key_is_refused(uri, told):
    with pytest.raises(InvalidInputError, match=told) as error:
        base_address(uri)
    assert "abc" not in str(error.value)


@pytest.mark.parametrize("key", ["secret\u00e9", "sec\nret", "secret\r\nHost: a"])
def test_a_key_that_is_none_is_refused_without_being_told(key):
    with pytest.raises(InvalidInputError, match="API key of the Tiled server") as error:
        TiledHttp("http://127.0.0.1:9", key)
    assert "ret" not in str(error.value)


def test_an_address_may_be_that_of_the_api():
    assert base_address("https://tiled.example/tiled/api/v1/") == "https://tiled.example/tiled"


def serve(uri, api_key, path="processed", port=None):
    asyncio.run(
        serve_page(
            TiledHttp(uri, api_key),
            path,
            host="127.0.0.1",
            port=port,
            key=None,
            ready=lambda _: None,
        )
    )


def test_a_page_that_cannot_start_says_why(tiled_server):
    with pytest.raises(ResultNotFoundError, match=r"'nowhere' .*there is none"):
        serve(tiled_server.uri, tiled_server.api_key, "nowhere")
    with pytest.raises(ResultNotFoundError, match="refused the request"):
        serve(tiled_server.uri, "a wrong key")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InvalidInputError, match=f"port {port}: Address already in use"):
            serve(tiled_server.uri, tiled_server.api_key, port=port)
    with pytest.raises(TiledUnavailableError, match="no answer"):
        serve(f"http://127.0.0.1:{port}", "key")
