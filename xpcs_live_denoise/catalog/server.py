"""Starts the embedded Tiled server, for the demo, the tests and a laptop without a beamline."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

import httpx

from xpcs_live_denoise.errors import (
    InvalidInputError,
    MissingDependencyError,
    TiledUnavailableError,
    install_line,
)

if TYPE_CHECKING:
    from .nodes import Node

RAW_PATH = "raw"
PROCESSED_PATH = "processed"
SERVER_MODULES = ("fastapi", "uvicorn", "zarr", "adbc_driver_sqlite")
LOG_LINES = 15
NICENESS = 5  # of the server beside an analysis on the same cores: a third of its share
BUSY_MS = 10_000  # a write takes milliseconds; nobody waits longer for others
COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # terminal codes in the server's log


def embedded_config() -> Path:
    """Return the path of the server's configuration, in a wheel or in the source tree."""
    here = Path(__file__).resolve()
    places = (here.with_name("embedded.yml"), here.parents[2] / "deploy/tiled/embedded.yml")
    for place in places:
        if place.is_file():
            return place
    raise InvalidInputError(
        "Configuration of the embedded Tiled server: not found. Looked at "
        f"{' and '.join(map(str, places))}; install the package again."
    )


class EmbeddedServer:
    """A Tiled server in a process of its own, on the loopback interface, for one user.

    Use it as a context manager or through `start` and `stop`. It ends with the process that
    started it, however that ends.

    Parameters
    ----------
    directory
        Holds the catalog (SQLite), the arrays (files) and the tables (SQLite). Created if absent;
        a directory that an earlier server filled is served again.
    port
        Port on 127.0.0.1. Default: a free one.
    log_path
        File that the server's log is appended to. Default: a temporary file, removed on stop.
    readable
        Directory with detector files that raw runs may refer to. Default: `directory`.

    Attributes
    ----------
    api_key
        The key, generated. It reaches the server through its environment, never its command line.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        port: int | None = None,
        log_path: str | Path | None = None,
        readable: str | Path | None = None,
    ):
        self.directory = Path(directory).resolve()
        self.readable = self.directory if readable is None else Path(readable).resolve()
        self.log_path = None if log_path is None else Path(log_path)
        self.api_key = secrets.token_hex(32)
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._clients: list[Node] = []

    @property
    def uri(self) -> str:
        """Address of the server; an error before `start`, when the port is not known."""
        if self._port is None:
            raise InvalidInputError(
                "EmbeddedServer.uri: the server was never started and no port was given; "
                "call start() first."
            )
        return f"http://127.0.0.1:{self._port}"

    @property
    def running(self) -> bool:
        """Whether the server's process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Id of the server's process; None where there is none."""
        return None if self._process is None else self._process.pid

    def start(self, timeout: float = 60.0) -> EmbeddedServer:
        """Start the server and wait until it answers; then create its two containers.

        Parameters
        ----------
        timeout
            Longest wait, s. It takes about 6 s.

        Raises
        ------
        MissingDependencyError
            Without the `server` extra.
        InvalidInputError
            When the port is taken.
        TiledUnavailableError
            When the process ends or does not answer in time; with the last lines of its log.
        """
        if self.running:
            return self
        _require_server()
        for name in ("", "arrays"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(self.directory / "tables.db")) as tables:
            tables.execute("PRAGMA journal_mode=WAL")  # whoever reads does not lock the writer out
        self._port = _claim_port(self._port)
        self._log = _open_log(self.log_path)
        self._process = self._spawn(self._log)
        try:
            self._wait_until_up(time.monotonic() + timeout, timeout)
            self._create_containers()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self, timeout: float = 10.0) -> None:
        """End the server; killed if it takes longer than `timeout` seconds. Repeats are harmless.

        The port and the key stay, so that a later `start` serves the same address.
        """
        process, self._process = self._process, None
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()
            process.terminate()
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._log is not None:
            self._log.close()
            self._log = None

    def wait(self) -> None:
        """Return when the server has ended, whoever ended it; at once if it does not run."""
        if self._process is not None:
            self._process.wait()

    def client(self) -> Node:
        """Return a new Tiled client of the root: `client["raw"]`, `client["processed"]`.

        Its connections are closed when the server is left as a context manager; it outlives
        `stop` and `start`, as a beamline's client outlives a restart.
        """
        from tiled.client import from_uri

        client = from_uri(self.uri, api_key=self.api_key)
        self._clients.append(client)
        return client

    def __enter__(self) -> EmbeddedServer:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        while self._clients:
            self._clients.pop().context.close()
        self.stop()

    def _spawn(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        package_root = str(Path(__file__).resolve().parents[2])  # it may be no installed one
        search_path = os.pathsep.join(filter(None, (package_root, os.environ.get("PYTHONPATH"))))
        environment = {
            **os.environ,
            "PYTHONPATH": search_path,
            "XPCS_TILED_DIRECTORY": str(self.directory),
            "XPCS_TILED_READABLE": str(self.readable),
            "XPCS_TILED_API_KEY": self.api_key,
        }
        environment.pop("TILED_SINGLE_USER_API_KEY", None)  # Tiled lets it win over the file
        command = [sys.executable, "-m", __name__, str(embedded_config()), str(self._port)]
        return subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=self.directory,
            # Ctrl-C in the terminal pauses a RunEngine; it must not end the server.
            start_new_session=True,
        )

    def _wait_until_up(self, deadline: float, timeout: float) -> None:
        # One client: each reads the certificates of the machine anew.
        with httpx.Client(timeout=1.0, trust_env=False) as client:
            while time.monotonic() < deadline:
                process = self._process
                if process is None or process.poll() is not None:
                    code = None if process is None else process.returncode
                    raise TiledUnavailableError(
                        f"Embedded Tiled server on {self.uri}: its process ended with status "
                        f"{code} before it answered. Its log ends with:\n{self._log_tail()}"
                    )
                try:
                    if client.get(f"{self.uri}/healthz").is_success:
                        return
                except httpx.HTTPError:
                    time.sleep(0.1)
        raise TiledUnavailableError(
            f"Embedded Tiled server on {self.uri}: no answer within {timeout:g} s; give start() "
            f"a longer timeout on a slow machine. Its log ends with:\n{self._log_tail()}"
        )

    def _create_containers(self) -> None:
        from tiled.structures.core import Spec

        from .schema import CATALOG_SPEC

        client = self.client()
        for path in (RAW_PATH, PROCESSED_PATH):
            if path not in client:
                client.create_container(path, specs=[Spec(*CATALOG_SPEC)])
        self._clients.pop()  # by its place: comparing clients would read all that is stored
        client.context.close()

    def _log_tail(self) -> str:
        if self._log is None:
            return ""
        self._log.seek(0)
        text = COLOUR.sub("", self._log.read().decode(errors="replace"))
        lines = text.replace(self.api_key, "<key>").splitlines()
        return "\n".join(lines[-LOG_LINES:])


def _require_server() -> None:
    missing = [name for name in SERVER_MODULES if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependencyError(
            f"Embedded Tiled server: {', '.join(missing)} not installed. It needs the extra "
            f"`server`: {install_line('server')}."
        )


def _claim_port(wanted: int | None) -> int:
    """Return the wanted port, or a free one. Another program's answers must not pass for ours."""
    with socket.socket() as probe:
        # As the server will: a port that has only just been left is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted or 0))
        except OSError as error:
            raise InvalidInputError(
                f"Embedded Tiled server: port {wanted} on 127.0.0.1 is taken ({error.strerror}); "
                "expected a free one. Give another, or none to have one chosen."
            ) from error
        return probe.getsockname()[1]


def _open_log(path: Path | None) -> IO[bytes]:
    if path is None:
        return tempfile.TemporaryFile()
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a+b")


def let_writers_wait() -> None:
    """Let those who write tables in SQLite wait for each other, in this server's process.

    ADBC's driver, which Tiled writes them with, fails at once where another connection writes: two
    workers of `reprocess` got an error for two of three rows that they stored at the same time.
    """
    from tiled.storage import EmbeddedSQLStorage

    storage: Any = EmbeddedSQLStorage
    connect = storage.connect

    def patient(self: Any) -> Any:
        connection = connect(self)
        if self.uri.startswith("sqlite:"):
            with connection.cursor() as cursor:
                cursor.execute(f"PRAGMA busy_timeout={BUSY_MS}")
                cursor.fetchall()
        return connection

    storage.connect = patient


def examine_arguments_once() -> None:
    """Let FastAPI find out what its functions want once, not at each request, in this process.

    It keeps what it found out unless a dependency is overridden; Tiled overrides that of its
    settings, and examining signatures was a third of the time of each request.
    """
    from fastapi.dependencies import utils

    module: Any = utils
    if (examine := getattr(module, "get_dependant", None)) is None:  # no public name
        return
    known: dict[tuple[Any, ...], Any] = {}

    def examined(**arguments: Any) -> Any:
        values = (tuple(one) if isinstance(one, list) else one for one in arguments.values())
        key = (*arguments, *values)
        if key not in known:
            known[key] = examine(**arguments)
        return known[key]

    module.get_dependant = examined


def serve_until_orphaned(config_path: str, port: str) -> None:
    """Be the server's process until its owner is gone.

    The owner holds the other end of this process' standard input. The system closes that end
    however the owner dies, so that no server outlives it.
    """
    owner = sys.stdin.fileno()

    def watch() -> None:
        while os.read(owner, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="owner").start()
    if hasattr(os, "nice"):  # frames that wait for the analysis go before readers
        os.nice(NICENESS)

    import uvicorn
    from tiled.config import parse_configs
    from tiled.server.app import build_app_from_config
    from tiled.server.logging_config import LOGGING_CONFIG

    let_writers_wait()
    # As `tiled serve config` does, but for its banner, and for the second Python that it would
    # start for the catalog's tables: importing Tiled there once more takes seconds.
    config: Any = parse_configs(Path(config_path))
    (tree,) = config.trees
    with contextlib.suppress(ImportError):  # no public name: a later Tiled may have another
        from tiled.commandline._catalog import init

        init(tree.args["uri"], if_not_exists=True)
        tree.args["init_if_not_exists"] = False
    options = {**config.uvicorn, "port": int(port), "log_config": LOGGING_CONFIG}
    app = build_app_from_config(config)
    examine_arguments_once()  # from now on: routes change theirs while they are made
    uvicorn.run(app, **options)


if __name__ == "__main__":
    serve_until_orphaned(*sys.argv[1:])
