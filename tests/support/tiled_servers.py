"""Tiled servers for tests: the embedded one, in processes that have Tiled imported already.

Importing Tiled's server takes nearly all of the 6 s of a start. Here one process a worker imports
it and forks; a server started or restarted from it answers within a second. Whatever else may
differ from `EmbeddedServer` is looked at by tests/catalog/test_server.py and tests/system.
"""

import contextlib
import http.client
import multiprocessing
import os
import secrets
import signal
import socket
import sqlite3
import threading
import time
from http import HTTPStatus
from pathlib import Path

from xpcs_live_denoise.catalog.server import (
    embedded_config,
    examine_arguments_once,
    let_writers_wait,
)

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "tests.support.tiled_servers",
        "adbc_driver_sqlite.dbapi",
        "bluesky_tiled_plugins.exporters",
        "bluesky_tiled_plugins.routers.validator",
        "duckdb",
        "tiled.adapters.hdf5",
        "tiled.catalog.adapter",
        "tiled.commandline._catalog",
        "tiled.config",
        "tiled.server.app",
        "tiled.server.logging_config",
        "uvicorn.lifespan.on",
        "uvicorn.loops.auto",
        "uvicorn.protocols.http.auto",
        "uvicorn.protocols.websockets.auto",
        "zarr",
    ]
)


def configuration(directory, readable, api_key):
    """The parsed configuration of the embedded server; makes its folders."""
    from tiled.commandline._catalog import init
    from tiled.config import parse_configs

    (directory / "arrays").mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(directory / "tables.db")) as tables:
        tables.execute("PRAGMA journal_mode=WAL")
    variables = {
        "XPCS_TILED_DIRECTORY": str(directory),
        "XPCS_TILED_READABLE": str(readable),
        "XPCS_TILED_API_KEY": api_key,
    }
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        config = parse_configs(embedded_config())
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    # Tiled would start another process for that, which imports everything again.
    (tree,) = config.trees
    init(tree.args["uri"], if_not_exists=True)
    tree.args["init_if_not_exists"] = False
    return config


def create_containers(client):
    """The two containers that the embedded server has from its start."""
    from tiled.client.utils import ClientError
    from tiled.structures.core import Spec

    for path in ("raw", "processed"):
        try:
            client.create_container(path, specs=[Spec("CatalogOfBlueskyRuns", "3.0")])
        except ClientError as error:  # from an earlier start, or by who waited for the server
            if error.response.status_code != HTTPStatus.CONFLICT:
                raise


def _serve(directory, readable, api_key, port, log_path):
    with log_path.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.environ.pop("TILED_SINGLE_USER_API_KEY", None)
    owner = multiprocessing.parent_process()

    def watch():
        owner.join()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    import uvicorn
    from tiled.server.app import build_app_from_config
    from tiled.server.logging_config import LOGGING_CONFIG

    let_writers_wait()
    config = configuration(directory, readable, api_key)
    app = build_app_from_config(config)
    examine_arguments_once()
    options = {**config.uvicorn, "port": port, "log_config": LOGGING_CONFIG}
    uvicorn.run(app, **options)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """The embedded server to start, stop, kill, freeze and start again; address and key stay.

    Parameters
    ----------
    directory
        Holds the catalog, the arrays and the tables, as that of an `EmbeddedServer`.
    readable
        Directory with detector files that raw runs may refer to. Default: `directory`.
    """

    def __init__(self, directory, *, readable=None):
        self.directory = Path(directory).resolve()
        self.readable = self.directory if readable is None else Path(readable).resolve()
        self.log_path = self.directory / "server.log"
        self.api_key = secrets.token_hex(32)
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process = None
        self._clients = []

    @property
    def running(self):
        return self._process is not None and self._process.is_alive()

    @property
    def pid(self):
        return self._process.pid

    def start(self, timeout=60):
        if self.running:
            return self
        self.directory.mkdir(parents=True, exist_ok=True)
        self._process = FORKS.Process(
            target=_serve,
            args=(self.directory, self.readable, self.api_key, self.port, self.log_path),
        )
        self._process.start()
        deadline = time.monotonic() + timeout
        while not self._answers():
            if not self.running or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(
                    f"The server did not start:\n{self.log_path.read_text()[-2000:]}"
                )
            time.sleep(0.02)
        client = self.client()
        create_containers(client)
        self._clients.pop()
        client.context.close()
        return self

    def _answers(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def stop(self, timeout=10):
        """End it as an operator would; killed if that takes longer."""
        if self._process is not None:
            self._process.terminate()
            self._process.join(timeout)
            self.kill()

    def kill(self):
        """End it without a warning: SIGKILL."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.join()
            process.close()

    def freeze(self):
        """It takes connections from now on and answers none."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self):
        os.kill(self.pid, signal.SIGCONT)

    def client(self):
        """A new client of the root; closed with the server's context."""
        from tiled.client import from_uri

        client = from_uri(self.uri, api_key=self.api_key)
        self._clients.append(client)
        return client

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        while self._clients:
            self._clients.pop().context.close()
        self.kill()
