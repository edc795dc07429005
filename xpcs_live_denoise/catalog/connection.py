"""Connects to a Tiled server, and finds out in short time that it is away."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from tiled.client import from_uri
from tiled.client.utils import handle_error

from xpcs_live_denoise.config import TiledSettings
from xpcs_live_denoise.errors import InvalidInputError, TiledUnavailableError, one_line

from .nodes import Node

PROBE_TIMEOUT_S = 5.0
MOST_KEY_BYTES = 4096
TOO_MANY_REQUESTS = 429
REFUSED = (401, 403)


def connect(settings: TiledSettings, *, request_s: float | None = None) -> Node:
    """Return a client of the root of the server that the settings name.

    With `request_s`, a request that takes longer, or that the server refuses, raises one of our own
    errors at once; by default Tiled's client asks again for 45 s.

    Raises
    ------
    InvalidInputError
        When there is no API key, neither in the environment nor in the file, or its file may be
        read by others; when the server refuses it, or the address is no Tiled server's.
    TiledUnavailableError
        When the server does not answer.
    """
    key = _api_key(settings)
    answer = _ask(settings.uri, lambda: httpx.get(settings.uri, timeout=PROBE_TIMEOUT_S))
    if answer.is_server_error:  # a proxy whose server is away; Tiled's client would try for long
        raise _unavailable(settings.uri, f"status {answer.status_code}")
    try:
        client = from_uri(settings.uri, api_key=key)
    except httpx.HTTPStatusError as error:
        raise InvalidInputError(
            f"Tiled server {settings.uri}: refused the connection (status "
            f"{error.response.status_code}); expected the address of a Tiled server, and the key "
            f"of somebody who may write in the environment variable {settings.api_key_env} or the "
            "file of the setting tiled.api_key_file."
        ) from error
    if request_s is not None:
        _bound_requests(client.context.http_client, request_s)
    return client


def has_users(uri: str) -> bool:
    """Whether a server has users and services with keys of their own, not one key for all.

    Raises TiledUnavailableError when it does not answer, InvalidInputError for no Tiled server.
    """
    address = f"{uri.rstrip('/').removesuffix('/api/v1')}/api/v1/"
    answer = _ask(uri, lambda: httpx.get(address, timeout=PROBE_TIMEOUT_S))
    try:
        return bool(answer.json()["authentication"]["providers"])
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(
            f"Tiled server {uri}: answers {address} with status {answer.status_code} and nothing "
            "of a Tiled server; expected the address of one."
        ) from error


def _bound_requests(http: httpx.Client, request_s: float) -> None:
    """Let a client raise what Tiled would try again for a minute: a server that is away."""
    send = http.send
    http.timeout = httpx.Timeout(request_s, connect=min(request_s, PROBE_TIMEOUT_S))

    def send_once(request: httpx.Request, **options: Any) -> httpx.Response:
        uri = f"{request.url.scheme}://{request.url.netloc.decode()}"
        try:
            response = send(request, **options)
        except (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError) as error:
            raise _unavailable(uri, type(error).__name__) from error
        if response.is_server_error or response.status_code == TOO_MANY_REQUESTS:
            response.close()
            raise _unavailable(uri, f"status {response.status_code}")
        if response.status_code in REFUSED:
            response.read()
            raise InvalidInputError(
                f"Tiled server {uri}: refuses {request.method} {request.url.path} (status "
                f"{response.status_code}): {_detail(response)} Expected an API key with the scopes "
                "to create, write and read there, and access tags that it may give "
                "(tiled.access_tags). `xpcs-live-denoise check` says which are missing."
            )
        return response

    http.send = send_once


def _detail(response: httpx.Response) -> str:
    """Return what the server says in its answer, one sentence."""
    try:
        said = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        said = response.reason_phrase
    return one_line(str(said), 500).rstrip(".") + "."


def _api_key(settings: TiledSettings) -> str:
    """Return the key from the environment, else from the file. No message of ours holds it."""
    key = os.environ.get(settings.api_key_env, "").strip()
    if key.isascii() and key.isprintable() and key:
        return key
    if key:
        raise InvalidInputError(
            f"API key in the environment variable {settings.api_key_env}: holds characters that no "
            "key has; expected the key and nothing else."
        )
    if settings.api_key_file is not None:
        key = key_in_file(settings.api_key_file, "setting tiled.api_key_file")
        if key.isascii() and len(key.split()) == 1:
            return key
        raise InvalidInputError(
            f"Key file {settings.api_key_file} (setting tiled.api_key_file): got "
            f"{len(key.split())} words, or letters that no key has; expected the key and nothing "
            "else. Write it anew."
        )
    # Tiled would ask for a password at the prompt, from a thread that nobody watches.
    raise InvalidInputError(
        f"Tiled server {settings.uri}: the environment variable {settings.api_key_env} is not "
        "set; expected the API key in it. Set it before the session starts, name another one "
        "in settings.tiled.api_key_env or a file in settings.tiled.api_key_file, or pass a "
        "connected client as LiveDenoise(catalog=...)."
    )


def key_in_file(path: Path, option: str) -> str:
    """Return the one line of a file that only its owner may read; no message holds any of it.

    `option`, of the command line or the settings, named the file and is named in messages.
    """
    subject = f"Key file {path} ({option})"
    try:
        # Not to wait for the writer of a pipe.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as f:
            mode = os.fstat(f.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise InvalidInputError(f"{subject}: no regular file; expected one with the key.")
            data = f.read(MOST_KEY_BYTES + 1)
    except OSError as error:
        raise InvalidInputError(
            f"{subject}: cannot be read ({error.strerror}); expected a file with the key."
        ) from error
    if mode & 0o077:
        raise InvalidInputError(
            f"{subject}: others may read or change it (mode {stat.S_IMODE(mode):o}); "
            f"expected a file of yours alone. Run: chmod 600 {path}"
        )
    try:
        lines = data.decode().strip().splitlines()
    except UnicodeDecodeError:
        lines = []
    if len(lines) != 1 or len(data) > MOST_KEY_BYTES:
        raise InvalidInputError(
            f"{subject}: got {len(data)} bytes that are not one line of text; expected the key and "
            "nothing else. Write it anew."
        )
    return lines[0]


def probe(client: Node) -> None:
    """Raise TiledUnavailableError if the server gives no sign of life within some seconds."""
    # Without retries, unlike the client's own calls: those would hold the worker for 45 s each.
    http, uri = client.context.http_client, client.context.api_uri
    handle_error(_ask(str(uri), lambda: http.get(uri, timeout=PROBE_TIMEOUT_S)))


def _ask(uri: str, request: Callable[[], httpx.Response]) -> httpx.Response:
    """Return the answer; a server that gives none is away."""
    try:
        return request()
    except httpx.InvalidURL as error:
        raise InvalidInputError(
            f"Tiled server {uri}: no address ({error}); expected one such as http://127.0.0.1:8000."
        ) from error
    except httpx.TransportError as error:
        raise _unavailable(uri, type(error).__name__) from error


def _unavailable(uri: str, why: str) -> TiledUnavailableError:
    return TiledUnavailableError(
        f"Tiled server {uri}: no answer ({why}). Expected a running server; "
        "results are kept and offered again."
    )
