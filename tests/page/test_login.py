"""A page where each visitor logs in: nobody sees more than the own key may read."""

import asyncio
import contextlib
import re
import time

import httpx
import pytest
import websockets.exceptions
from websockets.sync.client import connect

from tests.support.proxy import KeyedProxy
from tests.support.served_page import DEADLINE_S, Served
from xpcs_live_denoise.errors import InvalidInputError, ResultNotFoundError
from xpcs_live_denoise.monitoring import METRICS, Counts, serve_monitored
from xpcs_live_denoise.page.access import VisitorAccess, next_page
from xpcs_live_denoise.page.tiled_http import TiledHttp


@pytest.fixture(scope="module")
def page(tiled_server):
    with Served(tiled_server, login=True) as served:
        yield served


@pytest.fixture
def visitor(page):
    """A function that returns a browser without a cookie."""
    with contextlib.ExitStack() as clients:

        def visit(**options):
            client = httpx.Client(
                base_url=page.address, trust_env=False, timeout=DEADLINE_S, **options
            )
            return clients.enter_context(client)

        yield visit


def log_in(client, key, query=""):
    return client.post(f"/login{query}", data={"key": key})


@pytest.mark.parametrize(
    "path", ["/static/js/bokeh.min.js", "/metadata", "/ws", "/autoload.js", "/export", "/?run=x"]
)
def test_nothing_is_served_before_the_login(visitor, page, path):
    answer = visitor().get(path)
    if path == "/?run=x":  # a person is sent to the form
        assert answer.status_code == 302
        assert answer.headers["location"] == "/login?next=%2F%3Frun%3Dx"
    else:
        assert answer.status_code == 401
    assert "Your key of the Tiled server" in visitor(follow_redirects=True).get("/").text


def test_a_key_becomes_a_random_cookie_and_stays_on_the_server(visitor, tiled_server):
    client, key = visitor(), tiled_server.api_key
    answer = log_in(client, key, "?next=%2F%3Frun%3Dx")
    assert answer.status_code == 200
    assert "url=/?run=x" in answer.text
    cookie = answer.headers["set-cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=Strict", "Max-Age=43200"))
    other = log_in(visitor(), key).cookies["xpcs_view"]
    assert client.cookies["xpcs_view"] != other
    opened = client.get("/?newest")
    assert opened.status_code == 200
    assert "Log out" in opened.text
    for text in (answer.text, opened.text, cookie):
        assert key not in text
    assert client.cookies["xpcs_view"] not in opened.text


@pytest.mark.parametrize(
    ("headers", "secure"),
    [
        ({}, False),
        ({"X-Forwarded-Proto": "http"}, False),
        ({"X-Forwarded-Proto": "https"}, True),
        ({"X-Forwarded-Proto": "HTTPS, http"}, True),  # two proxies
        ({"X-Forwarded-Proto": "http, https"}, False),
        ({"Forwarded": 'for=10.0.0.7;proto="https";host=xpcs'}, True),
        ({"Forwarded": "for=10.0.0.7;proto=http, proto=https"}, False),
    ],
)
def test_where_tls_ends_at_a_proxy_the_cookie_is_secure(visitor, tiled_server, headers, secure):
    answer = log_in(visitor(headers=headers), tiled_server.api_key)
    assert answer.status_code == 200
    assert ("Secure" in answer.headers["set-cookie"]) is secure


@pytest.mark.parametrize("key", ["", "nonsense", "sch\u00f6n", "a" * 72])
def test_a_key_that_is_none_opens_nothing(visitor, key):
    client = visitor()
    answer = log_in(client, key)
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert "<p role=alert>" in answer.text
    assert key == "" or key not in answer.text
    assert client.get("/metadata").status_code == 401


def test_after_the_logout_the_cookie_opens_nothing(visitor, tiled_server):
    client = visitor()
    log_in(client, tiled_server.api_key)
    cookie = client.cookies["xpcs_view"]
    assert "You have logged out." in client.get("/logout").text
    client.cookies.set("xpcs_view", cookie)
    for path in ("/metadata", "/export?run=x"):
        assert client.get(path).status_code == 401


def test_the_page_shows_its_metrics(tiled_server):
    made = []

    def monitor(page):
        made.append(serve_monitored(page, "view", port=0))
        return made[0]

    with Served(tiled_server, login=True, monitor=monitor) as page:
        with httpx.Client(base_url=page.address, trust_env=False) as client:
            log_in(client, "nonsense")
            log_in(client, tiled_server.api_key)
            assert client.get("/").status_code == 200
        text = httpx.get(f"{made[0].address}/metrics", trust_env=False).text
        health = httpx.get(f"{made[0].address}/healthz", trust_env=False)
    found = {
        re.sub(r"(_total)?\{.*", r"\1", line.split()[0])
        for line in text.splitlines()
        if line[0] != "#"
    }
    assert found >= {name for name, metric in METRICS.items() if "view" in metric.commands}
    assert 'xpcs_page_logins_total{outcome="refused"} 1.0' in text
    assert "xpcs_page_logged_in 1.0" in text
    assert "xpcs_page_visitors 1.0" in text
    assert "xpcs_page_tiled_connected 1.0" in text
    assert health.json() == {"status": "ok", "notes": []}


def test_a_session_opens_for_the_login_that_made_it_alone(page, visitor, tiled_server):
    mine, theirs = visitor(), visitor()
    for client in (mine, theirs):
        log_in(client, tiled_server.api_key)
    token = re.search(r'"token":"([^"]+)"', mine.get("/?newest").text).group(1)

    def opened(client):
        return connect(
            page.address.replace("http", "ws") + "/ws",
            origin=page.address,
            subprotocols=["bokeh", token],
            additional_headers={"Cookie": f"xpcs_view={client.cookies['xpcs_view']}"},
            proxy=None,
            open_timeout=DEADLINE_S,
        )

    with pytest.raises(websockets.exceptions.InvalidStatus) as error:
        opened(theirs)
    assert error.value.response.status_code == 403
    assert theirs.get("/", params={"bokeh-token": token}).status_code == 403
    with opened(mine) as socket:
        assert "ACK" in str([socket.recv() for _ in range(3)])


@pytest.mark.parametrize(
    ("asked", "opens"),
    [
        *(("/?run=a", "/?run=a"), ("/", "/"), ("", "/"), ("//evil.example/?a", "/")),
        *(("https://evil.example/?a=b", "/"), ("/login?x", "/"), ("javascript:alert(1)", "/")),
    ],
)
def test_the_login_leads_to_this_page_alone(asked, opens):
    assert next_page(asked) == opens


def with_access(server, work):
    """Run a coroutine function with an access of its own."""

    async def run():
        counts = Counts()
        http = TiledHttp(server.uri, None, counts)
        access = VisitorAccess(http.with_key, "processed", counts)
        try:
            await work(access, counts)
        finally:
            await access.close()
            await http.close()

    asyncio.run(run())


def test_each_login_has_a_connection_and_a_list_of_its_own(tiled_server):
    async def work(access, counts):
        for _ in range(2):
            await access.login(tiled_server.api_key)
        with pytest.raises(ResultNotFoundError, match="refused the request"):
            await access.login("nonsense")
        with pytest.raises(InvalidInputError, match="got none"):
            await access.login("  ")
        first, second = access.hubs
        assert first is not second
        assert access.n_logged_in == 2
        assert counts.value("xpcs_page_logins_total", "accepted") == 2
        assert counts.value("xpcs_page_logins_total", "refused") == 1
        await access.recheck()
        assert access.n_logged_in == 2

    with_access(tiled_server, work)


def test_a_key_that_is_revoked_while_its_visitor_looks_shows_nothing_more(
    tiled_server, monkeypatch
):
    monkeypatch.setattr("xpcs_live_denoise.page.access.RECHECK_S", 0.1)
    runs = {"alice": set(), "bob": set()}
    with (
        contextlib.closing(KeyedProxy(tiled_server.uri, tiled_server.api_key, runs)) as server,
        Served(server, login=True) as page,
        httpx.Client(base_url=page.address, trust_env=False, timeout=DEADLINE_S) as alice,
        httpx.Client(base_url=page.address, trust_env=False, timeout=DEADLINE_S) as bob,
    ):
        log_in(alice, "alice"), log_in(bob, "bob")
        token = re.search(r'"token":"([^"]+)"', alice.get("/").text).group(1)
        with connect(
            page.address.replace("http", "ws") + "/ws",
            origin=page.address,
            subprotocols=["bokeh", token],
            additional_headers={"Cookie": f"xpcs_view={alice.cookies['xpcs_view']}"},
            proxy=None,
        ):
            del runs["alice"]
            deadline = time.monotonic() + DEADLINE_S
            while alice.get("/metadata").status_code != 401:
                assert time.monotonic() < deadline
        assert alice.get("/export?run=x").status_code == 401
        assert log_in(alice, "alice").status_code == 401
        n_requests = server.authorizations.count("Apikey alice")
        time.sleep(0.5)
        assert server.authorizations.count("Apikey alice") == n_requests  # nothing is followed
        assert bob.get("/metadata").status_code == 200
