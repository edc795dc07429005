"""The production server as deploy/ has it: real PostgreSQL, Redis and Tiled on free ports."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import pytest

from tests.support.tiled_servers import free_port

DEPLOY = Path(__file__).parents[2] / "deploy"
POSTGRES_BIN = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
DATABASES = ("catalog", "users", "tables")


def require_programs():
    """Skip where the Debian packages are not installed: CI installs them."""
    missing = [name for name in ("redis-server", "redis-cli") if shutil.which(name) is None]
    if missing or POSTGRES_BIN is None:
        pytest.skip("apt-get install postgresql redis-server")


def until(what, timeout=60):
    deadline = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
        time.sleep(0.05)


def _output(command):
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()


class Program:
    """A process that is started, killed and started again on the same port."""

    def __init__(self, folder, name):
        self.port = free_port()
        self.log = folder / f"{name}.log"
        self._process = None

    def run(self, command, **options):
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, **options
            )

    @property
    def running(self):
        return self._process is not None and self._process.poll() is None

    def end(self, number=signal.SIGTERM):
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(60)


class Redis(Program):
    """Redis with deploy/redis.conf."""

    def __init__(self, folder):
        super().__init__(folder, "redis")
        self.folder = folder / "redis"
        self.folder.mkdir()
        self.uri = f"redis://127.0.0.1:{self.port}/0"

    def start(self, config=DEPLOY / "redis.conf"):
        given = [config] if config else ["--save", ""]
        where = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        self.run(["redis-server", *given, *where])
        until(self._answers)

    def _answers(self):
        asked = ["redis-cli", "-p", str(self.port), "ping"]
        return _output(asked) == "PONG"


class Postgres(Program):
    """A cluster of its own, of the user `postgres` where the tests are root's."""

    def __init__(self, folder):
        super().__init__(folder, "postgres")
        self.folder = folder / "postgres"
        self.folder.mkdir()
        # PostgreSQL refuses to run as root.
        self._as = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        if self._as:
            shutil.chown(self.folder, "postgres", "postgres")
        self.password = secrets.token_hex(8)
        given = folder / "password"
        given.write_text(self.password)
        given.chmod(0o644)
        self._do(
            *("initdb", "-D", self.folder, "-U", "xpcs", "-A", "scram-sha-256"),
            *(f"--pwfile={given}", "--no-sync"),
        )
        given.unlink()

    def _do(self, program, *options):
        command = [POSTGRES_BIN / program, *map(str, options)]
        subprocess.run(command, check=True, capture_output=True, cwd="/", **self._as)

    def uri(self, database, driver=""):
        return f"postgresql{driver}://xpcs@127.0.0.1:{self.port}/{database}"

    def start(self):
        command = [POSTGRES_BIN / "postgres", "-D", self.folder, "-p", str(self.port)]
        self.run([*command, "-k", "", "-c", "listen_addresses=127.0.0.1"], cwd="/", **self._as)
        until(lambda: self._is_ready() or not self.running)

    def _is_ready(self):
        asked = [POSTGRES_BIN / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(asked, check=False).returncode == 0

    def sql(self, text, database="postgres"):
        command = [POSTGRES_BIN / "psql", "-qAt", self.uri(database), "-c", text]
        environment = {**os.environ, "PGPASSWORD": self.password}
        return subprocess.run(
            command, check=True, capture_output=True, text=True, env=environment
        ).stdout

    def end(self, number=signal.SIGINT):
        """Fast shutdown: connections are cut."""
        super().end(number)


class Production(Program):
    """The whole: databases, Redis, Tiled with deploy/tiled/production.yml, keys of `access`.

    `folder` must be one that others may enter: PostgreSQL runs as another user.
    """

    def __init__(self, folder, access):
        super().__init__(folder, "tiled")
        self.folder, self.access = folder, access
        self.postgres, self.redis = Postgres(folder), Redis(folder)
        self.uri = f"http://127.0.0.1:{self.port}"
        self.keys = folder / "keys"
        self.arrays = folder / "arrays"
        self.arrays.mkdir()
        postgres = self.postgres
        self.environment = {
            "PGPASSWORD": postgres.password,
            "XPCS_TILED_CATALOG": postgres.uri("catalog", "+asyncpg"),
            "XPCS_TILED_USERS": postgres.uri("users", "+asyncpg"),
            "XPCS_TILED_TABLES": postgres.uri("tables"),
            "XPCS_TILED_ARRAYS": str(self.arrays),
            "XPCS_TILED_READABLE": str(folder),
            "XPCS_TILED_REDIS": self.redis.uri,
            "XPCS_TILED_SECRET": secrets.token_hex(32),
            "XPCS_TILED_ADMIN_PASSWORD": secrets.token_hex(16),
        }
        self._clients = []

    def start(self):
        self.postgres.start()
        self.redis.start()
        for database in DATABASES:
            self.postgres.sql(f"CREATE DATABASE {database}")
        self.start_tiled()
        self.grant(self.access)
        return self

    def start_tiled(self):
        config = DEPLOY / "tiled/production.yml"
        command = [sys.executable, "-m", "tiled", "serve", "config", config, "--host", "127.0.0.1"]
        environment = {**os.environ, **self.environment}
        self.run([*command, "--port", str(self.port)], env=environment)
        until(lambda: self._answers() or not self.running, 120)
        assert self.running, self.log.read_text()[-4000:]

    def _answers(self):
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.uri}/healthz", timeout=2, trust_env=False).is_success

    def grant(self, access):
        """Store keys and tags, as an operator does."""
        file = self.folder / "access.yml"
        file.write_text(access)
        script = [sys.executable, DEPLOY / "tiled/access.py", file]
        done = subprocess.run(
            [*script, "--uri", self.uri, "--keys", self.keys],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def key(self, name):
        return (self.keys / f"{name}.key").read_text().strip()

    def client(self, name):
        from tiled.client import from_uri

        self._clients.append(from_uri(self.uri, api_key=self.key(name)))
        return self._clients[-1]

    def stop(self):
        while self._clients:
            self._clients.pop().context.close()
        for program in (super(), self.redis, self.postgres):
            program.end()


@contextlib.contextmanager
def production(access):
    """The whole, in a folder of /tmp that goes with it."""
    require_programs()
    folder = Path(tempfile.mkdtemp(prefix="xpcs-production-"))
    folder.chmod(0o755)
    try:
        made = Production(folder, access)
        try:
            yield made.start()
        finally:
            made.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
