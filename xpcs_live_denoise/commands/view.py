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

from xpcs_live_denoise.errors import (
    InvalidInputError,
    MissingDependencyError,
    TiledUnavailableError,
    install_line,
)

from .metrics import MetricsHost, MetricsPort, tell_metrics

if TYPE_CHECKING:
    from xpcs_live_denoise.config import TiledSettings
    from xpcs_live_denoise.monitoring import MetricsServer
    from xpcs_live_denoise.page import PageMonitor

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
        str,
        typer.Option(help="Address to listen on; beyond this machine only with a key or a login."),
    ] = "127.0.0.1",
    login: Annotated[
        bool | None,
        typer.Option(
            "--login/--no-login",
            help="Each visitor logs in with a key of the Tiled server, and sees what that key may "
            "read. On by itself beyond this machine where the server has users.",
        ),
    ] = None,
    api_key_env: KeyVariable = None,
    api_key_file: Annotated[Path | None, typer.Option(help="A file with it instead.")] = None,
    key_env: Annotated[str, typer.Option(help="Variable with visitors' key.")] = "XPCS_VIEW_KEY",
    key_file: Annotated[Path | None, typer.Option(help="A file with it instead.")] = None,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = "127.0.0.1",
) -> None:
    """Serve a web page with all runs, live and finished, until Ctrl-C."""
    if importlib.util.find_spec("bokeh") is None:
        raise MissingDependencyError(
            "xpcs-live-denoise view: bokeh is not installed. It comes with the extra `view`: "
            f"{install_line('view')}."
        )
    from xpcs_live_denoise.catalog import has_users
    from xpcs_live_denoise.monitoring import serve_monitored
    from xpcs_live_denoise.page import TiledHttp, checked_key, is_loopback, serve_page

    tiled = tiled_settings(uri, config, "view")
    _quieten_libraries()
    address = uri or tiled.uri
    where = f"the environment variable {key_env} or the file of --key-file"
    if login is None and not is_loopback(host):
        try:
            login = has_users(address)
        except TiledUnavailableError:
            checked_key(host, _key(key_file, "--key-file", key_env), where)
            raise
    key, api_key = None, None
    if not login:
        key = checked_key(host, _key(key_file, "--key-file", key_env), where)
        api_key = _api_key(tiled, api_key_file, api_key_env)
    login = bool(login)
    _tell_rights(address, host, login=login, loopback=is_loopback(host))

    def ready(port: int) -> None:
        shown = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        typer.echo(f"XPCS live at {shown}")
        if login:
            typer.echo("Visitors log in with their own key of the Tiled server.")
        elif key is not None:
            typer.echo(f"It asks for the key in {key_file or key_env}.")
        typer.echo("Ctrl-C ends it.")
        if browser:
            webbrowser.open(shown)

    def monitor(page: PageMonitor) -> MetricsServer:
        metrics = serve_monitored(page, "view", port=metrics_port or 0, host=metrics_host)
        tell_metrics(metrics)
        return metrics

    async def serve() -> None:
        await serve_page(
            TiledHttp(address, api_key),
            tiled.path if path is None else path,
            host=host,
            port=port,
            key=key,
            ready=ready,
            login=login,
            monitor=None if metrics_port is None else monitor,
        )

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


def _tell_rights(uri: str, host: str, *, login: bool, loopback: bool) -> None:
    """Say whose rights visitors have where that is easily overlooked."""
    if login and not loopback:
        typer.secho(
            "Keys of visitors travel as the page does: put a proxy with TLS before it that sends "
            "X-Forwarded-Proto; on this machine, and leave --host away, or with a safe way to it.",
            fg="yellow",
        )
    elif not login and not loopback:
        typer.secho(
            f"Every visitor on {host} sees what this key may read in {uri}, past access tags. "
            "--login lets each visitor log in with an own key of the Tiled server.",
            fg="yellow",
        )


def _quieten_libraries() -> None:
    # They log every request: of the page, and of the Tiled server.
    for name in ("bokeh", "httpx", "tornado.access"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # It warns of every page that is left.
    logging.getLogger("bokeh.server.views.ws").setLevel(logging.ERROR)
