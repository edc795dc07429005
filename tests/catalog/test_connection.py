"""The API key: from the environment or a file, and in no message."""

import dataclasses
import logging
import os
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from tiled.client.utils import retry_context

from xpcs_live_denoise.catalog.connection import connect
from xpcs_live_denoise.config import Settings, TiledSettings
from xpcs_live_denoise.errors import InvalidInputError, TiledUnavailableError
from xpcs_live_denoise.records.run import RunEnd, Status
from xpcs_live_denoise.sinks.run import TiledSink

KEY = "5e1f0c0ffee5ec4e7" * 3
AWAY = "http://127.0.0.1:9"
NO_SERVER = (TiledUnavailableError, InvalidInputError)


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "tiled.key"
    path.write_text(f"{KEY}\n")
    path.chmod(0o600)
    return path


@pytest.fixture(autouse=True)
def no_variable(monkeypatch):
    monkeypatch.delenv("XPCS_TEST_KEY", raising=False)


def settings_with(path=None, uri=AWAY):
    return TiledSettings(uri=uri, api_key_env="XPCS_TEST_KEY", api_key_file=path)


def test_the_variable_comes_before_the_file(
    tiled_server, key_file, monkeypatch, closed_connections
):
    settings = settings_with(key_file, tiled_server.uri)
    with pytest.raises(InvalidInputError, match="status 401"):
        connect(settings)
    monkeypatch.setenv("XPCS_TEST_KEY", tiled_server.api_key)
    assert "processed" in connect(settings)
    key_file.write_text(tiled_server.api_key)
    monkeypatch.setenv("XPCS_TEST_KEY", "another")
    with pytest.raises(InvalidInputError, match="status 401"):
        connect(settings)
    monkeypatch.delenv("XPCS_TEST_KEY")
    assert "processed" in connect(settings)


def test_a_file_that_others_may_read_is_refused_with_the_remedy(key_file):
    key_file.chmod(0o640)
    match = rf"setting tiled.api_key_file\): others may .*Run: chmod 600 {key_file}"
    with pytest.raises(InvalidInputError, match=match) as caught:
        connect(settings_with(key_file))
    assert KEY not in repr(caught.value)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "got 0 bytes"),
        (f"key: {KEY}".encode(), "got 2 words"),
        (KEY.encode() * 100, "got 4097 bytes"),
        ("sch\u00f6n".encode(), "letters that no key has"),
    ],
)
def test_a_file_with_anything_else_is_refused_without_a_word_of_it(key_file, content, what):
    key_file.write_bytes(content)
    with pytest.raises(InvalidInputError, match=what) as caught:
        connect(settings_with(key_file))
    assert KEY not in repr(caught.value)


def test_a_file_that_is_not_there_and_no_file_at_all_are_told_apart(tmp_path):
    with pytest.raises(InvalidInputError, match=r"cannot be read \(No such file"):
        connect(settings_with(tmp_path / "none"))
    with pytest.raises(InvalidInputError, match=r"XPCS_TEST_KEY is not set.*api_key_file"):
        connect(settings_with())


class Frozen:
    """A server that takes connections and never answers."""

    def __enter__(self):
        self._socket = socket.create_server(("127.0.0.1", 0))
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __exit__(self, *_):
        self._socket.close()


def test_a_request_of_our_own_client_ends_in_time(tiled_server, monkeypatch):
    monkeypatch.setenv("XPCS_TEST_KEY", tiled_server.api_key)
    client = connect(settings_with(uri=tiled_server.uri), request_s=0.3)
    http, uri = client.context.http_client, client.context.api_uri
    assert http.get(uri).status_code == 200
    with Frozen() as frozen:
        began = time.monotonic()
        with pytest.raises(TiledUnavailableError, match=f"{frozen}: no answer .ReadTimeout"):
            http.patch(f"{frozen}/api/v1/array/full/x", content=b"1")
        assert time.monotonic() - began < 3
    with pytest.raises(TiledUnavailableError, match="ConnectError"):
        http.get(f"{AWAY}/api/v1/")
    client.context.close()


class Faulty(BaseHTTPRequestHandler):
    """A server whose answer to a PATCH is a fault; to one of `/broken` it hangs up."""

    n_asked = 0

    def do_PATCH(self):
        type(self).n_asked += 1
        if self.path == "/broken":
            self.connection.shutdown(socket.SHUT_RDWR)
        else:
            self.send_error(int(self.path[1:]))

    def log_message(self, *_):
        pass


@pytest.mark.parametrize(
    ("path", "why"),
    [("500", "status 500"), ("429", "status 429"), ("broken", "RemoteProtocolError|ReadError")],
)
def test_a_fault_of_the_server_is_raised_and_not_tried_again_for_a_minute(
    tiled_server, monkeypatch, path, why
):
    monkeypatch.setenv("XPCS_TEST_KEY", tiled_server.api_key)
    client = connect(settings_with(uri=tiled_server.uri), request_s=5.0)
    with ThreadingHTTPServer(("127.0.0.1", 0), Faulty) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        Faulty.n_asked = 0

        def patch():
            for attempt in retry_context():  # as every call of Tiled's client
                with attempt:
                    client.context.http_client.patch(
                        f"http://127.0.0.1:{server.server_port}/{path}"
                    )

        with pytest.raises(TiledUnavailableError, match=rf"no answer \(({why})\)"):
            patch()
        assert Faulty.n_asked == 1
        server.shutdown()
    client.context.close()


class BadGateway(BaseHTTPRequestHandler):
    """A proxy whose server is away."""

    def do_GET(self):
        self.send_error(502)

    def log_message(self, *_):
        pass


def test_a_proxy_without_its_server_is_a_server_that_is_away(key_file):
    with ThreadingHTTPServer(("127.0.0.1", 0), BadGateway) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        with pytest.raises(TiledUnavailableError, match=r"no answer \(status 502\)"):
            connect(settings_with(key_file, f"http://127.0.0.1:{proxy.server_port}"))
        proxy.shutdown()


def causes(error):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("uri", [AWAY, "http://host:port"])
def test_no_exception_and_no_log_holds_the_key(key_file, caplog, uri):
    settings = settings_with(key_file, uri)
    with caplog.at_level(logging.DEBUG), pytest.raises(NO_SERVER, match=uri) as caught:
        connect(settings)
    for error in causes(caught.value):
        assert KEY not in f"{error!r} {error} {vars(error)}"
    assert KEY not in caplog.text
    assert KEY not in repr(settings)


@pytest.mark.parametrize("key", ["secr\u00e9t", "sec ret\nkey"])
def test_a_variable_with_anything_else_is_refused_without_a_word_of_it(monkeypatch, key):
    monkeypatch.setenv("XPCS_TEST_KEY", key)
    with pytest.raises(InvalidInputError, match="XPCS_TEST_KEY: holds characters") as caught:
        connect(settings_with())
    assert "sec" not in str(caught.value)


def test_what_is_no_address_is_told(key_file):
    with pytest.raises(InvalidInputError, match="no address"):
        connect(settings_with(key_file, "http://127.0.0.1:http"))


@pytest.fixture
def closed_connections(monkeypatch):
    """Close every connection: Tiled's client leaves those that are refused to the collector."""
    made, begin = [], httpx.Client.__init__

    def remembered(self, *args, **kwargs):
        made.append(self)
        begin(self, *args, **kwargs)

    monkeypatch.setattr(httpx.Client, "__init__", remembered)
    yield
    for client in made:
        client.close()


@pytest.mark.usefixtures("closed_connections")
def test_a_refused_key_is_in_no_message(tiled_server, key_file, caplog):
    refused = pytest.raises(InvalidInputError, match=r"refused the connection \(status 401\)")
    with caplog.at_level(logging.DEBUG), refused as caught:
        connect(settings_with(key_file, tiled_server.uri))
    for error in causes(caught.value):
        assert KEY not in f"{error!r} {error}"
    assert KEY not in caplog.text


def test_the_derived_run_holds_the_settings_but_no_key(tiled_server, synthetic, tmp_path):
    path = tmp_path / "key"
    path.write_text(tiled_server.api_key)
    path.chmod(0o600)
    tiled = {"uri": tiled_server.uri, "api_key_env": "XPCS_TEST_KEY", "api_key_file": path}
    settings = Settings(detector="eiger", tiled=tiled)
    run = synthetic()
    client = connect(settings.tiled)
    info = dataclasses.replace(run.info, settings=settings.model_dump(mode="json"))
    sink = TiledSink(info, client=client)
    sink.write(run.publication(0, 20))
    sink.finish(
        RunEnd(raw_exit_status="fail", analysis_exit_status="fail", reason="", status=Status())
    )
    stored = client["processed", sink.uid]
    assert tiled_server.api_key not in f"{dict(stored.metadata)} {list(stored.documents())}"
    assert tiled_server.api_key not in str(settings.model_dump(mode="json"))
    assert tiled_server.api_key not in os.environ.values()
    client.context.close()
