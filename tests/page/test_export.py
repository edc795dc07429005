"""The shown run as a file, asked of the page's own server."""

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor

import h5py
import httpx
import pytest
from tiled.client.utils import ClientError

from tests.support import written
from tests.support.proxy import KeyedProxy
from tests.support.served_page import DEADLINE_S, Served
from xpcs_live_denoise.page.export import write_result
from xpcs_live_denoise.page.tiled_http import TiledHttp
from xpcs_live_denoise.sinks.run import TiledSink

KEY = "a key that only visitors know"


@pytest.fixture(scope="module")
def uids(module_client, synthetic):
    """Uids of a finished result and of one that is on."""
    finished = synthetic(n_frames=60, n_roi=1, start={"scan_id": 881})
    sink = TiledSink(finished.info, client=module_client)
    written.end(sink, finished.result())
    live = TiledSink(synthetic(n_roi=1).info, client=module_client)
    live.write(synthetic(n_roi=1).publication(0, 5))
    return sink.uid, live.uid, finished.raw_uid


@pytest.fixture(scope="module")
def ask(tiled_server, uids):
    """Ask the page's server for an address, with and without the visitors' key."""
    with (
        Served(tiled_server, KEY) as page,
        httpx.Client(base_url=page.address, trust_env=False, timeout=DEADLINE_S) as stranger,
        httpx.Client(base_url=page.address, trust_env=False, timeout=DEADLINE_S) as visitor,
    ):
        visitor.post("/", data={"key": KEY})
        yield lambda query, known=True: (visitor if known else stranger).get(f"/export?{query}")


def test_a_finished_run_is_sent_as_a_file_with_a_name_of_its_own(ask, uids, tmp_path):
    uid, _, raw_uid = uids
    answer = ask(f"run={uid}&format=h5")
    assert answer.status_code == 200, answer.text
    name = f"881_{raw_uid[:8]}_eiger.h5"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}"'
    (tmp_path / name).write_bytes(answer.content)
    with h5py.File(tmp_path / name) as file:
        assert file["entry/twotime/two_time_corr_func"].shape == (1, 60, 60)
    rows = ask(f"run={uid}&format=csv").text.splitlines()
    assert rows[0].startswith("roi,")
    assert len(rows) > 60


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("run={live}&format=h5", "its run is still on, 5 frames so far"),
        ("run={uid}&format=xls", "Format 'xls': expected one of h5, csv, png"),
        ("run=nowhere&format=h5", "Run nowhere: no result in"),
        ("format=h5", "names no run"),
    ],
)
def test_what_cannot_be_exported_is_said_in_a_sentence(ask, uids, query, words):
    answer = ask(query.format(uid=uids[0], live=uids[1]))
    assert answer.status_code == 409
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert answer.text.startswith("Not exported: ")
    assert words in answer.text


def test_who_has_no_key_gets_no_file(ask, uids):
    answer = ask(f"run={uids[0]}&format=h5", known=False)
    assert answer.status_code == 401
    assert "attachment" not in answer.headers.get("Content-Disposition", "")


def test_a_visitor_gets_the_file_that_the_own_key_may_read(tiled_server, uids, monkeypatch):
    monkeypatch.setenv("TILED_API_KEY", "of the operator, who may read nothing here")
    with (
        Served(tiled_server, login=True) as page,
        httpx.Client(base_url=page.address, trust_env=False, timeout=DEADLINE_S) as visitor,
    ):
        query = f"/export?run={uids[0]}&format=csv"
        assert visitor.get(query).status_code == 401
        visitor.post("/login", data={"key": tiled_server.api_key})
        answer = visitor.get(query)
    assert answer.text.startswith("roi,")
    assert answer.headers["Cache-Control"] == "no-store"


def test_the_key_in_the_environment_opens_nothing_for_a_page_without_a_key(
    tiled_server, uids, monkeypatch, tmp_path
):
    monkeypatch.setenv("TILED_API_KEY", tiled_server.api_key)
    with contextlib.closing(KeyedProxy(tiled_server.uri, tiled_server.api_key, {})) as server:
        http = TiledHttp(server.uri, None)
        with pytest.raises(ClientError, match="401"):
            write_result(http, "processed", uids[0], "csv", tmp_path)
        assert set(server.authorizations) == {""}  # it is not even told
        asyncio.run(http.close())
    assert not list(tmp_path.iterdir())


def test_the_exports_of_two_visitors_stay_apart(tiled_server, uids):
    """At the same time, too; and what one has exported is not there for the other."""
    finished, live, _ = uids
    runs = {"alice": {finished}, "bob": {live}}
    with (
        contextlib.closing(KeyedProxy(tiled_server.uri, tiled_server.api_key, runs)) as server,
        Served(server, login=True) as page,
        contextlib.ExitStack() as stack,
        ThreadPoolExecutor(4) as pool,
    ):
        visitors = {}
        for key in runs:
            client = httpx.Client(base_url=page.address, trust_env=False, timeout=DEADLINE_S)
            visitors[key] = stack.enter_context(client)
            client.post("/login", data={"key": key})
        query = f"/export?run={finished}&format=csv"
        asked = [pool.submit(visitors[key].get, query) for key in ("alice", "bob") * 2]
        mine, theirs, mine_again, theirs_again = [one.result() for one in asked]
    assert mine.text.startswith("roi,")
    assert mine_again.text == mine.text
    for answer in (theirs, theirs_again):
        assert answer.status_code != 200
        assert "roi," not in answer.text
