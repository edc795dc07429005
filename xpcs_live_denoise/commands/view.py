"""The command `view`: checks what it was given, and serves the web page."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xpcs_live_denoise.errors import MissingDependencyError

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewOptions:
    """What `xpcs-live-denoise view` was asked for.

    Attributes
    ----------
    uri
        Address of the Tiled server.
    path
        Container of the derived runs.
    host, port
        Where the page is served; port None: a free one.
    api_key_env
        Environment variable with the API key of the Tiled server.
    api_key_file
        File with that key, in place of the variable.
    key_env
        Environment variable with the key that visitors must know.
    key_file
        File with that key, in place of the variable.
    open_browser
        Open the page in a browser.
    """

    uri: str
    path: str = "processed"
    host: str = "127.0.0.1"
    port: int | None = None
    api_key_env: str = "TILED_API_KEY"
    api_key_file: Path | None = None
    key_env: str = "XPCS_VIEW_KEY"
    key_file: Path | None = None
    open_browser: bool = True


def view(options: ViewOptions, console: Console) -> None:
    """Serve the page until Ctrl-C.

    Raises
    ------
    MissingDependencyError
        Without bokeh.
    InvalidInputError
        For an address that is none, a key file that is none or that others may read, or when
        others could reach the page without a key.
    ResultNotFoundError, TiledUnavailableError
        When the list of runs cannot be read.
    ServerStartError
        When the port is taken.
    """
    if importlib.util.find_spec("bokeh") is None:
        raise MissingDependencyError(
            "xpcs-live-denoise view: bokeh is not installed. It comes with the extra `view`: "
            "pip install 'xpcs-live-denoise[view]'."
        )
    from xpcs_live_denoise.page import TiledHttp, checked_key, serve_page

    where = f"the environment variable {options.key_env} or the file of --key-file"
    key = checked_key(options.host, _key(options.key_file, "--key-file", options.key_env), where)
    api_key = _key(options.api_key_file, "--api-key-file", options.api_key_env)
    # They log every request: of the page, and of the Tiled server.
    for name in ("bokeh", "httpx", "tornado.access"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It warns of every page that is left.
    logging.getLogger("bokeh.server.views.ws").setLevel(logging.ERROR)

    def ready(port: int) -> None:
        host = f"[{options.host}]" if ":" in options.host else options.host
        address = f"http://{host}:{port}/"
        console.print(f"XPCS live at {address}", soft_wrap=True, highlight=False)
        if key is not None:
            told = options.key_file or options.key_env
            console.print(f"It asks for the key in {told}.", highlight=False, markup=False)
        console.print("Ctrl-C ends it.")
        if options.open_browser:
            webbrowser.open(address)

    async def serve() -> None:
        http = TiledHttp(options.uri, api_key)
        await serve_page(
            http, options.path, host=options.host, port=options.port, key=key, ready=ready
        )

    try:
        asyncio.run(serve())
    except KeyboardInterrupt:
        console.print("Closed.")


def _key(path: Path | None, option: str, variable: str) -> str | None:
    """Return a key from the file that an option names, else from the environment."""
    from xpcs_live_denoise.catalog import key_in_file

    if path is not None:
        return key_in_file(path.expanduser(), option)
    return os.environ.get(variable) or None
