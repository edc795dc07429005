"""The command line: what can be typed, and what happens to errors."""

from __future__ import annotations

import importlib.metadata
from typing import Annotated

import typer

from xpcs_live_denoise.errors import XpcsError

from .analyse import analyse
from .bench import bench
from .catalog import catalog
from .check import check
from .compare import compare
from .convert_rois import convert_rois
from .deliver import deliver
from .demo import demo
from .denoise_frames import denoise_frames
from .export import export
from .init import init
from .replay import replay
from .reprocess import reprocess
from .runs import runs
from .serve import serve
from .train import evaluate, train
from .train_frames import evaluate_frames, train_frames
from .view import view

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Live two-time XPCS with denoising, for Bluesky and Tiled.",
)
# In the order of `--help`.
for command in (
    *(demo, init, check, analyse, catalog, train, evaluate),
    *(denoise_frames, train_frames, evaluate_frames),
    *(deliver, view, runs, compare, export, convert_rois, serve, replay, reprocess, bench),
):
    app.command()(command)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"xpcs-live-denoise {importlib.metadata.version('xpcs-live-denoise')}")
        raise typer.Exit


@app.callback()
def common(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Live two-time XPCS with denoising, for Bluesky and Tiled."""


def main() -> None:
    """Run the command line; an error of ours is one line and exit status 1, no traceback."""
    try:
        app()
    except XpcsError as error:
        typer.secho("Error: ", fg="red", nl=False)
        typer.echo(str(error))
        raise SystemExit(1) from None
