"""The embedded server: its configuration, its start, its end."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml

from xpcs_live_denoise.catalog.server import (
    EmbeddedServer,
    embedded_config,
    examine_arguments_once,
)
from xpcs_live_denoise.errors import (
    InvalidInputError,
    MissingDependencyError,
    TiledUnavailableError,
)

ROOT = Path(__file__).resolve().parents[2]


def alive(pid):
    """Whether a process runs; one that has ended and was not yet reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def test_the_configuration_is_the_deployed_one_and_holds_no_key():
    assert embedded_config() == ROOT / "deploy/tiled/embedded.yml"
    config = yaml.safe_load(embedded_config().read_text())
    assert config["authentication"]["single_user_api_key"] == "${XPCS_TILED_API_KEY}"
    assert config["uvicorn"]["host"] == "127.0.0.1"
    assert config["uvicorn"]["ws_per_message_deflate"] is False


def test_a_wheel_would_hold_the_configuration_beside_the_module():
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included["deploy/tiled/embedded.yml"] == "xpcs_live_denoise/catalog/embedded.yml"


def test_a_missing_configuration_names_both_places(monkeypatch):
    monkeypatch.setattr(Path, "is_file", lambda _: False)
    with pytest.raises(InvalidInputError, match=r"catalog/embedded\.yml and .*deploy/tiled"):
        embedded_config()


def test_the_server_has_both_containers_and_is_only_on_the_loopback(tiled_server, tiled_client):
    assert {"raw", "processed"} <= set(tiled_client)
    for name in ("raw", "processed"):
        spec = tiled_client[name].specs[0]
        assert (spec.name, spec.version) == ("CatalogOfBlueskyRuns", "3.0")
    assert tiled_server.uri.startswith("http://127.0.0.1:")


def test_the_key_is_in_no_log_and_on_no_command_line(tiled_server, tiled_client):
    assert len(tiled_server.api_key) == 64
    assert list(tiled_client)
    log = tiled_server.log_path.read_text()
    assert "Uvicorn running" in log
    assert tiled_server.api_key not in log
    assert "api_key=" not in log
    command = Path(f"/proc/{tiled_server.pid}/cmdline")
    if command.exists():
        assert b"embedded.yml" in command.read_bytes()
        assert tiled_server.api_key.encode() not in command.read_bytes()


def test_a_new_catalog_is_made_by_the_servers_own_process(tiled_server):
    # Of a second Python, which costs as long again, Tiled would log what it said.
    assert "Database initialized." in tiled_server.log_path.read_text().splitlines()


def test_the_uri_of_a_server_that_never_started_is_an_error(tmp_path):
    with pytest.raises(InvalidInputError, match=r"call start\(\) first"):
        _ = EmbeddedServer(tmp_path).uri
    assert EmbeddedServer(tmp_path, port=8123).uri == "http://127.0.0.1:8123"


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "zarr" else found(name)
    )
    with pytest.raises(MissingDependencyError, match=r"zarr not .*\[server\]"):
        EmbeddedServer(tmp_path).start()


def test_stopping_twice_or_before_the_start_is_harmless(tmp_path):
    server = EmbeddedServer(tmp_path)
    server.stop()
    server.stop()
    server.wait()
    assert not server.running


def test_what_a_function_of_the_server_wants_is_found_out_once(monkeypatch):
    from fastapi.dependencies import utils

    examined = []

    def examine(**arguments):
        examined.append(arguments)
        return object()

    monkeypatch.setattr(utils, "get_dependant", examine)
    examine_arguments_once()
    one = {"path": "/a", "call": len, "name": None, "parent_oauth_scopes": ["read"]}
    first = utils.get_dependant(**one)
    assert utils.get_dependant(**one) is first
    others = [{**one, "path": "/b"}, {**one, "call": max}, {**one, "parent_oauth_scopes": []}]
    assert len({first, *(utils.get_dependant(**other) for other in others)}) == 4
    assert examined == [one, *others]


def test_a_taken_port_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InvalidInputError, match=rf"port {port} on 127\.0\.0\.1 is taken"):
            EmbeddedServer(tmp_path, port=port).start()


@pytest.mark.slow
@pytest.mark.system
def test_a_server_that_fails_is_explained_by_its_last_words(tmp_path):
    (tmp_path / "catalog.db").write_text("this is no database, and long enough to be seen as none")
    server = EmbeddedServer(tmp_path)
    with pytest.raises(TiledUnavailableError, match=r"ended with status \d before") as caught:
        server.start()
    assert "file is not a database" in str(caught.value)
    assert server.api_key not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert not server.running


@pytest.mark.slow
@pytest.mark.system
def test_a_slow_start_is_an_error_and_leaves_no_process(tmp_path):
    server = EmbeddedServer(tmp_path)
    with pytest.raises(TiledUnavailableError, match=r"no answer within 0\.2 s"):
        server.start(timeout=0.2)
    assert not server.running


@pytest.mark.slow
@pytest.mark.system
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for the process in /proc")
def test_the_server_ends_with_its_owner_and_its_directory_is_served_again(tmp_path):
    code = (
        "import sys, numpy; from xpcs_live_denoise.catalog.server import EmbeddedServer\n"
        "server = EmbeddedServer(sys.argv[1]).start()\n"
        "server.client().write_array(numpy.arange(6.0).reshape(2, 3), key='kept')\n"
        "print(server.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        pid = int(owner.stdout.readline())
        assert alive(pid)
        os.kill(owner.pid, signal.SIGKILL)
    assert wait_for(lambda: not alive(pid))
    with EmbeddedServer(tmp_path) as again:
        kept = again.client()["kept"].read()
        os.kill(again.pid, signal.SIGTERM)
        again.wait()
        assert not again.running
    np.testing.assert_array_equal(kept, np.arange(6.0).reshape(2, 3))
    assert not again.running


def test_several_writers_of_tables_wait_for_each_other(tiled_server):
    columns = pa.table({"value": np.arange(200)})
    answers, lengths = [], []

    def write(number):
        client = tiled_server.client()
        # Tiled's client tries again what failed, and nobody would know.
        client.context.http_client.event_hooks["response"].append(answers.append)
        node = client.create_appendable_table(columns.schema, key=f"written-at-once-{number}")
        for _ in range(12):
            node.append_partition(0, columns)
        lengths.append(len(node.read()))
        client.context.close()

    writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert lengths == [12 * 200] * 3
    assert not [answer for answer in answers if answer.is_server_error]
