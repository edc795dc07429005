"""`view`: checks what it was given, and serves the web page."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from xpcs_live_denoise.errors import MissingDependencyError, install_line


def view(
    uri: Annotated[str, typer.Argument(help="Address of the Tiled server.")],
    path: Annotated[str, typer.Option(help="Container of the derived runs.")] = "processed",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port; a free one by default.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; beyond this machine only with a key.")
    ] = "127.0.0.1",
    api_key_env: Annotated[
        str, typer.Option(help="Environment variable with the Tiled server's API key.")
    ] = "TILED_API_KEY",
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
    api_key = _key(api_key_file, "--api-key-file", api_key_env)
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
        http = TiledHttp(uri, api_key)
        await serve_page(http, path, host=host, port=port, key=key, ready=ready)

    try:
        asyncio.run(serve())
    except KeyboardInterrupt:
        typer.echo("Closed.")


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
