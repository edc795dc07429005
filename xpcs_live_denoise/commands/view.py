"""`view`: checks what it was given, and serves the web page."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xpcs_live_denoise.errors import InvalidInputError, MissingDependencyError, install_line

if TYPE_CHECKING:
    from xpcs_live_denoise.config import TiledSettings

DEFAULT_CONFIG = Path("xpcs.yml")
# Options that say where results are, of `runs`, too.
Address = Annotated[
    str | None,
    typer.Argument(help="Address of the Tiled server; by default that of the settings."),
]
Config = Annotated[
    Path | None,
    typer.Option(
        help="The settings, YAML: address, container and key. Without an address xpcs.yml."
    ),
]
Container = Annotated[
    str | None,
    typer.Option(help="Container of the results; by default the settings', else processed."),
]
KeyVariable = Annotated[
    str | None,
    typer.Option(
        help="Environment variable with the Tiled server's API key; by default the settings', "
        "else TILED_API_KEY."
    ),
]


def view(
    uri: Address = None,
    config: Config = None,
    path: Container = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port; a free one by default.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; beyond this machine only with a key.")
    ] = "127.0.0.1",
    api_key_env: KeyVariable = None,
    api_key_file: Annotated[Path | None, typer.Option(help="A file with it instead.")] = None,
    key_env: Annotated[str, typer.Option(help="Variable with visitors' key.")] = "XPCS_VIEW_KEY",
    key_file: Annotated[Path | None, typer.Option(help="A file with it instead.")] = None,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
) -> None:
    """Serve a web page with all runs, live and finished, until Ctrl-C."""
    if importlib.util.find_spec("bokeh") is None:
        raise MissingDependencyError(
            "xpcs-live-denoise view: bokeh is not installed. It comes with the extra `view`: "
            f"{install_line('view')}."
        )
    from xpcs_live_denoise.page import TiledHttp, checked_key, serve_page

    where = f"the environment variable {key_env} or the file of --key-file"
    key = checked_key(host, _key(key_file, "--key-file", key_env), where)
    tiled = tiled_settings(uri, config, "view")
    api_key = _api_key(tiled, api_key_file, api_key_env)
    _quieten_libraries()

    def ready(port: int) -> None:
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        typer.echo(f"XPCS live at {address}")
        if key is not None:
            typer.echo(f"It asks for the key in {key_file or key_env}.")
        typer.echo("Ctrl-C ends it.")
        if browser:
            webbrowser.open(address)

    async def serve() -> None:
        http = TiledHttp(uri or tiled.uri, api_key)
        where = tiled.path if path is None else path
        await serve_page(http, where, host=host, port=port, key=key, ready=ready)

    try:
        asyncio.run(serve())
    except KeyboardInterrupt:
        typer.echo("Closed.")


def tiled_settings(uri: str | None, config: Path | None, command: str) -> TiledSettings:
    """Return where the results are: what the settings say, if an address does not do without."""
    from xpcs_live_denoise.config import Settings, TiledSettings

    if config is None and uri is not None:
        return TiledSettings()
    if config is None and not DEFAULT_CONFIG.exists():
        raise InvalidInputError(
            f"xpcs-live-denoise {command}: no address of a Tiled server, and no xpcs.yml in this "
            f"folder; expected one of both. Give the address (xpcs-live-denoise {command} "
            "http://127.0.0.1:8000) or the settings (--config PATH)."
        )
    return Settings.load(config or DEFAULT_CONFIG).tiled


def _api_key(tiled: TiledSettings, path: Path | None, variable: str | None) -> str | None:
    """Return Tiled's key: as the options say, else as the settings say."""
    if path is not None or variable is not None:
        return _key(path, "--api-key-file", variable or tiled.api_key_env)
    found = _key(None, "", tiled.api_key_env)
    if found is None and tiled.api_key_file is not None:
        return _key(tiled.api_key_file, "setting tiled.api_key_file", "")
    return found


def _key(path: Path | None, option: str, variable: str) -> str | None:
    """Return a key from the file that an option names, else from the environment."""
    from xpcs_live_denoise.catalog import key_in_file

    if path is not None:
        return key_in_file(path.expanduser(), option)
    return os.environ.get(variable) or None


def _quieten_libraries() -> None:
    # They log every request: of the page, and of the Tiled server.
    for name in ("bokeh", "httpx", "tornado.access"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It warns of every page that is left.
    logging.getLogger("bokeh.server.views.ws").setLevel(logging.ERROR)
