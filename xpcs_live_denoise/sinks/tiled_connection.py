"""Connects to a Tiled server, and finds out in short time that it is away."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false

from __future__ import annotations

import os
from typing import Any

import httpx
from tiled.client import from_uri
from tiled.client.utils import handle_error

from xpcs_live_denoise.config import TiledSettings
from xpcs_live_denoise.errors import InvalidInputError, TiledUnavailableError

PROBE_TIMEOUT_S = 5.0


def connect(settings: TiledSettings) -> Any:
    """Return a client of the root of the server that the settings name.

    Raises
    ------
    InvalidInputError
        When the environment variable with the API key is not set.
    TiledUnavailableError
        When the server does not answer.
    """
    key = os.environ.get(settings.api_key_env)
    if not key:
        # Tiled would ask for a password at the prompt, from a thread that nobody watches.
        raise InvalidInputError(
            f"Tiled server {settings.uri}: the environment variable {settings.api_key_env} is not "
            "set; expected the API key in it. Set it before the session starts, name another one "
            "in settings.tiled.api_key_env, or pass a connected client as LiveDenoise(catalog=...)."
        )
    try:
        httpx.get(settings.uri, timeout=PROBE_TIMEOUT_S)
    except httpx.TransportError as error:
        raise _unavailable(settings.uri, error) from error
    return from_uri(settings.uri, api_key=key)


def probe(client: Any) -> None:
    """Ask the server for a sign of life.

    Raises
    ------
    TiledUnavailableError
        When it gives none within some seconds.
    """
    # Without retries, unlike the client's own calls: those would hold the worker for 45 s each.
    uri = client.context.api_uri
    try:
        handle_error(client.context.http_client.get(uri, timeout=PROBE_TIMEOUT_S))
    except httpx.TransportError as error:
        raise _unavailable(str(uri), error) from error


def _unavailable(uri: str, error: Exception) -> TiledUnavailableError:
    return TiledUnavailableError(
        f"Tiled server {uri}: no answer ({type(error).__name__}). Expected a running server; "
        "results are kept and offered again."
    )
