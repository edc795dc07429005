"""Series through the production server as deploy/ has it: nobody sees what is not theirs."""

import asyncio
import contextlib
import json
import os
import subprocess
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
import websockets.exceptions
from bluesky.run_engine import RunEngine
from websockets.sync.client import connect

from tests.support.production import DATABASES, DEPLOY, POSTGRES_BIN, Redis, production
from tests.support.served_page import Served
from tests.support.serving import (
    Serving,
    differences,
    speckle,
    stripes,
    wait_for_result,
    write_settings,
)
from xpcs_live_denoise import results
from xpcs_live_denoise.catalog import redis_findings, server_findings
from xpcs_live_denoise.errors import ResultNotFoundError
from xpcs_live_denoise.monitoring import Counts
from xpcs_live_denoise.page.access import VisitorAccess
from xpcs_live_denoise.page.tiled_http import TiledHttp
from xpcs_live_denoise.simulation import SimulatedEiger, fly_series, recorded
from xpcs_live_denoise.sources.remote.publisher import document_publisher

pytestmark = [pytest.mark.deployment, pytest.mark.timeout(900)]

SHAPE = (40, 50)
ROIS = stripes(SHAPE, 2)
ONE, TWO = "pass-300001", "pass-300002"
ACCESS = """
keys:
  xpcs-serve: {role: writer}
  alice: {role: subscriber}
  bob: {role: reader}
  carol: {role: reader}
containers: [raw, processed]
tags:
  pass-300001: [alice, carol]
  pass-300002: [bob, carol]
"""


@pytest.fixture(scope="module")
def server():
    with production(ACCESS) as made:
        yield made


@pytest.fixture(scope="module")
def serving(server, tmp_path_factory):
    """`serve` with the writer's key; `.take(...)` measures a series of a proposal."""
    folder = tmp_path_factory.mktemp("beamline")
    tiled = {"uri": server.uri, "raw_path": "raw", "access_tags": ["{data_session}"]}
    settings = write_settings(folder, ROIS, server.uri, frame_time_s=0.02, tiled=tiled)
    with Serving(folder / "xpcs.yml", server.key("xpcs-serve"), folder / "state") as made:
        publisher = document_publisher(made.address)
        engine = RunEngine({}, context_managers=[])
        engine.subscribe(publisher)

        def take(frames, session, rate=50):
            detector = SimulatedEiger(
                recorded(frames),
                folder / "detector",
                n_frames=len(frames),
                name="eiger",
                frame_rate_hz=rate,
            )
            return engine(fly_series(detector, md={"data_session": session}))[0]

        made.take, made.settings = take, settings
        yield made
        publisher.close()


@pytest.fixture(scope="module")
def runs(server, serving):
    """A finished result of each of two proposals: uid of the raw run and of the derived one."""
    found = {}
    for session, seed in ((ONE, 1), (TWO, 2)):
        uid = serving.take(speckle(60, SHAPE, seed=seed), session)
        result = wait_for_result(server.client("xpcs-serve"), uid, timeout=400)
        found[session] = (uid, result.path_parts[-1])
    return found


def assert_complete(result, frames, settings):
    found = differences(result, frames, settings)
    assert found["missing"] == 0
    assert found["c2"] < 1e-5
    assert found["recommended"] > 0
    assert found["gamma"] < 1e-3
    assert result.metadata["stop"]["exit_status"] == "success"
    table = result.gamma_table(final=False)
    assert not table.duplicated(["roi", "age_frame", "source", "width", "final"]).any()


def get(server, path, key=None):
    headers = {"Authorization": f"Apikey {server.key(key)}"} if key else {}
    return httpx.get(f"{server.uri}/api/v1{path}", headers=headers, trust_env=False, timeout=30)


@pytest.mark.parametrize(("key", "sees"), [("alice", [ONE]), ("bob", [TWO]), ("carol", [ONE, TWO])])
def test_a_key_reads_the_runs_of_its_proposals_and_no_other(server, runs, key, sees):
    client = server.client(key)
    assert set(client["processed"]) == {runs[session][1] for session in sees}
    for session, (raw, derived) in runs.items():
        if session in sees:
            assert len(results(client, raw).gamma_table()) > 0
            assert results(client, raw).validate()
            continue
        with pytest.raises(ResultNotFoundError):
            results(client, raw)
        for kind in ("metadata", "search"):
            assert get(server, f"/{kind}/processed/{derived}", key).status_code == 404
        assert derived not in get(server, "/search/processed", key).text


def test_anonymous_sees_nothing(server, runs):
    paths = ["/search/", "/search/processed", "/metadata/", "/metadata/processed"]
    paths += [f"/metadata/processed/{derived}" for _, derived in runs.values()]
    for path in paths:
        answer = get(server, path)
        assert answer.status_code == 401, path
        assert not any(derived in answer.text for _, derived in runs.values())


def test_a_key_whose_name_is_taken_out_of_access_yml_is_revoked(server):
    server.grant(ACCESS.replace("containers:", "  dave: {role: reader}\ncontainers:"))
    dave = server.key("dave")
    headers = {"Authorization": f"Apikey {dave}"}
    address = f"{server.uri}/api/v1/metadata/processed"
    assert httpx.get(address, headers=headers, trust_env=False).status_code == 200
    server.grant(ACCESS)
    assert httpx.get(address, headers=headers, trust_env=False).status_code == 401
    assert not (server.keys / "dave.key").exists()
    assert get(server, "/metadata/processed", "carol").status_code == 200


@pytest.mark.parametrize("key", ["alice", "bob"])
def test_who_reads_cannot_write(server, runs, key):
    headers = {"Authorization": f"Apikey {server.key(key)}"}
    derived = runs[ONE if key == "alice" else TWO][1]
    with httpx.Client(base_url=f"{server.uri}/api/v1", headers=headers, trust_env=False) as http:
        new = {"structure_family": "container", "metadata": {}, "specs": [], "data_sources": []}
        asked = [
            http.post("/metadata/processed", json=new),
            http.post(f"/metadata/processed/{derived}", json=new),
            http.patch(f"/metadata/processed/{derived}", json={"metadata": {"n_frames": 1}}),
            http.delete(f"/metadata/processed/{derived}"),
            http.delete(f"/stream/close/processed/{derived}"),
        ]
    assert [answer.status_code in (401, 403) for answer in asked] == [True] * len(asked)


@pytest.mark.parametrize("key", ["alice", "bob"])
def test_a_subscriber_hears_of_its_own_runs_alone(server, runs, key):
    """Not through the container either, whose updates hold the metadata of every run."""

    def opened(path):
        return connect(
            f"{server.uri.replace('http', 'ws')}/api/v1/stream/single/{path}",
            additional_headers={"Authorization": f"Apikey {server.key(key)}"},
            proxy=None,
            open_timeout=30,
        )

    own, other = (ONE, TWO) if key == "alice" else (TWO, ONE)
    for path in ("processed", "", f"processed/{runs[other][1]}"):
        with pytest.raises((websockets.exceptions.WebSocketException, OSError)):
            opened(path).recv(timeout=10)
    with opened(f"processed/{runs[own][1]}") as socket:
        assert "schema" in json.dumps(json.loads(socket.recv(timeout=30)))


def test_the_page_shows_a_visitor_what_the_own_key_may_read(server, runs):
    async def look():
        counts = Counts()
        http = TiledHttp(server.uri, None, counts)
        access = VisitorAccess(http.with_key, "processed", counts)
        try:
            for key in ("alice", "bob", "carol"):
                await access.login(server.key(key))
            return [await seen(hub) for hub in access.hubs]
        finally:
            await access.close()
            await http.close()

    async def seen(hub):
        found = []
        for session, (raw, derived) in runs.items():
            listed = derived in {run.uid for run in hub.runs}
            for word in (raw, derived, raw[:8]):
                try:
                    assert listed, await hub.find(word)
                except ResultNotFoundError:
                    continue
                assert (await hub.find(word))[0] == derived
            if not listed:
                with pytest.raises(ResultNotFoundError):
                    await hub.open(derived)
                continue
            feed = await hub.open(derived)
            assert await feed.loaded(60)
            hub.release(feed)
            found.append(session)
        return found

    assert asyncio.run(look()) == [[ONE], [TWO], [ONE, TWO]]


def test_each_visitor_exports_what_the_own_key_may_read(server, runs):
    with Served(server, login=True) as page:
        for key, own, other in (("alice", ONE, TWO), ("bob", TWO, ONE)):
            with httpx.Client(base_url=page.address, trust_env=False, timeout=60) as visitor:
                visitor.post("/login", data={"key": server.key(key)})
                exported = visitor.get(f"/export?run={runs[own][1]}&format=csv")
                assert exported.text.startswith("roi,")
                assert visitor.get(f"/export?run={runs[other][1]}&format=csv").status_code == 409


@pytest.mark.parametrize(
    ("key", "tags", "said"),
    [
        ("xpcs-serve", (ONE,), []),
        ("xpcs-serve", ("{data_session}",), []),
        ("xpcs-serve", ("pass-0",), ["takes no results with the access tags pass-0", "pass-0"]),
        (
            "bob",
            (TWO,),
            ["lacks the scopes create:node, write:metadata, write:data, register", "no results"],
        ),
    ],
)
def test_what_a_key_and_its_tags_cannot_do_is_said_at_the_start(server, key, tags, said):
    found = [one.text for one in server_findings(server.client(key), "processed", tags)]
    assert bool(found) == bool(said)
    for words in said:
        assert any(words in text for text in found), found


def test_a_redis_that_keeps_nothing_is_said(server, tmp_path):
    assert list(redis_findings(server.redis.uri)) == []
    forgetful = Redis(tmp_path)
    forgetful.start(config=None)
    try:
        (finding,) = redis_findings(forgetful.uri)
    finally:
        forgetful.end()
    assert finding.problem
    assert "keeps nothing on disk" in finding.text
    assert "appendonly yes" in finding.text


@pytest.mark.parametrize("which", ["redis", "postgres"])
def test_a_restart_in_the_middle_of_a_series_loses_nothing(server, serving, which):
    program = getattr(server, which)
    frames = speckle(150, SHAPE, seed=5)

    def restart():
        serving.wait_for(" of 1")  # the run has begun to be analysed
        program.end()
        time.sleep(1.0)
        program.start()

    thread = threading.Thread(target=restart)
    thread.start()
    uid = serving.take(frames, ONE)
    thread.join()
    result = wait_for_result(server.client("carol"), uid, timeout=400)
    assert_complete(result, frames, serving.settings)
    assert result.validate()


def test_a_backup_put_into_an_empty_place_is_the_same_server(server, runs, tmp_path):
    """Keys, tags, containers, tables and arrays; through backup.sh and restore.sh as they are."""
    environment = {**os.environ, **server.environment, "XPCS_KEYS": str(server.keys)}
    environment["PATH"] = f"{POSTGRES_BIN}:{environment['PATH']}"

    def script(name, folder, **variables):
        return subprocess.run(
            ["sh", DEPLOY / f"bin/{name}.sh", folder],
            env={**environment, **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    made = script("backup", tmp_path)
    assert made.returncode == 0, made.stderr
    folder = Path(made.stdout.strip())
    raw, derived = runs[ONE]
    client = server.client("alice")
    before = results(client, raw)
    table, c2 = before.gamma_table(), before.c2(denoised=False).values

    refused = script("restore", folder)
    assert refused.returncode != 0
    assert "not empty; expected an empty folder" in refused.stderr
    with contextlib.ExitStack() as undo:
        undo.callback(server.start_tiled)
        server.end()
        for name in DATABASES:
            server.postgres.sql(f"ALTER DATABASE {name} RENAME TO {name}_lost")
            server.postgres.sql(f"CREATE DATABASE {name}")
        for place in (server.arrays, server.keys):
            place.rename(place.with_name(f"{place.name}_lost"))
        restored = script("restore", folder)
        assert restored.returncode == 0, restored.stderr
    after = results(server.client("alice"), raw)
    assert after.path_parts[-1] == derived
    assert after.gamma_table().equals(table)
    np.testing.assert_array_equal(after.c2(denoised=False).values, c2)
    with pytest.raises(ResultNotFoundError):
        results(server.client("alice"), runs[TWO][0])
    damaged = next(folder.glob("TABLES.dump"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert "FAILED" in script("restore", folder).stdout + script("restore", folder).stderr
