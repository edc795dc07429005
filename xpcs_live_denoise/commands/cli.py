"""The command line: what can be typed, and what happens to errors."""

from __future__ import annotations

import typer

from xpcs_live_denoise.errors import XpcsError

from .catalog import catalog
from .convert_rois import convert_rois
from .deliver import deliver
from .demo import demo
from .replay import replay
from .serve import serve
from .train import evaluate, train
from .view import view

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Live two-time XPCS with denoising, for Bluesky and Tiled.",
)
# In the order of `--help`.
for command in (demo, catalog, train, evaluate, deliver, view, convert_rois, serve, replay):
    app.command()(command)


def main() -> None:
    """Run the command line; an error of ours is one line and exit status 1, no traceback."""
    try:
        app()
    except XpcsError as error:
        typer.secho("Error: ", fg="red", nl=False)
        typer.echo(str(error))
        raise SystemExit(1) from None
