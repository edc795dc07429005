"""The command `view`: checks what it was given, and serves the web page."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import webbrowser
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import MissingDependencyError

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
    key_env
        Environment variable with the key that visitors must know.
    open_browser
        Open the page in a browser.
    """

    uri: str
    path: str = "processed"
    host: str = "127.0.0.1"
    port: int | None = None
    api_key_env: str = "TILED_API_KEY"
    key_env: str = "XPCS_VIEW_KEY"
    open_browser: bool = True


def view(options: ViewOptions, console: Console) -> None:
    """Serve the page until Ctrl-C.

    Raises
    ------
    MissingDependencyError
        Without bokeh.
    InvalidInputError
        For an address that is none, or when others could reach the page without a key.
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
    from .readers.web.gate import checked_key
    from .readers.web.server import serve_page
    from .readers.web.tiled_http import TiledHttp

    key = checked_key(
        options.host,
        os.environ.get(options.key_env) or None,
        f"the environment variable {options.key_env}",
    )
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
            console.print(f"It asks for the key in {options.key_env}.", highlight=False)
        console.print("Ctrl-C ends it.")
        if options.open_browser:
            webbrowser.open(address)

    async def serve() -> None:
        http = TiledHttp(options.uri, os.environ.get(options.api_key_env) or None)
        await serve_page(
            http, options.path, host=options.host, port=options.port, key=key, ready=ready
        )

    try:
        asyncio.run(serve())
    except KeyboardInterrupt:
        console.print("Closed.")
