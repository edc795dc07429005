"""The command line: xpcs-live-denoise demo | train | evaluate | catalog."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from .errors import XpcsError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Live two-time XPCS with denoising, for Bluesky and Tiled.",
)
console = Console()


@app.command()
def demo(
    frames: Annotated[int, typer.Option(min=1, help="Frames of the series.")] = 300,
    rate: Annotated[
        float | None,
        typer.Option(min=0.1, help="Frames a second; by default the recording's, else 25."),
    ] = None,
    rois: Annotated[int, typer.Option(min=1, help="Rings around the beam.")] = 3,
    out: Annotated[
        Path | None, typer.Option(help="Keep catalog, files and figure in this folder.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="A recorded series instead of the simulation: .npz with `frames` (n, rows, cols) "
            "and, if known, `center` (row, col), `fps`, `px_per_um`."
        ),
    ] = None,
) -> None:
    """Run the main job: an ageing sample, from the detector's documents to Gamma(t) in Tiled."""
    from .demo import DemoOptions, run_demo

    run_demo(DemoOptions(frames=frames, rate=rate, rois=rois, out=out, data=data), console)


@app.command()
def catalog(
    folder: Annotated[Path, typer.Argument(help="A folder that `demo --out` left.")],
    port: Annotated[int | None, typer.Option(help="Port; a free one by default.")] = None,
) -> None:
    """Serve a catalog again, on this machine only, until Ctrl-C."""
    from .demo import serve_catalog

    serve_catalog(folder, port, console)


def main() -> None:
    """Run the command line; an error of ours is one line and exit status 1, no traceback."""
    try:
        app()
    except XpcsError as error:
        console.print(f"[red]Error:[/red] {error}", soft_wrap=True)
        raise SystemExit(1) from None
