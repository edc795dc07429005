"""The command line: xpcs-live-denoise demo | catalog | train | evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console

from .errors import InvalidInputError, XpcsError

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


@app.command()
def train(
    data: Annotated[Path, typer.Argument(help="Training data, .npz with c2, target, ...")],
    out: Annotated[Path, typer.Option(help="Folder for the weights and the model card.")],
    validation: Annotated[
        Path | None,
        typer.Option(help="Data of other experiments; the best members are chosen on it."),
    ] = None,
    members: Annotated[int, typer.Option(min=1, help="Members of the ensemble.")] = 10,
    candidates: Annotated[
        int | None, typer.Option(min=1, help="Networks to choose them from; default: twice that.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seeds everything that is random.")] = 0,
) -> None:
    """Train an ensemble of CNN encoder-decoders; the setting `weights` makes a run use it."""
    from rich.progress import Progress

    from .denoising.train import TrainingProgress
    from .denoising.train import train as train_ensemble

    with Progress(console=console) as bar:
        task = bar.add_task("training", total=None)

        def show(now: TrainingProgress) -> None:
            bar.update(
                task,
                total=now.n_candidates * now.n_steps,
                completed=now.candidate * now.n_steps + now.step,
                description=f"network {now.candidate + 1} of {now.n_candidates}, "
                f"loss {now.loss:.4f}",
            )

        ensemble = train_ensemble(
            data,
            out,
            validation=validation,
            members=members,
            candidates=candidates,
            seed=seed,
            progress=show,
        )
    console.print(f"{ensemble.info['n_members']} members are in {out}.", soft_wrap=True)


@app.command()
def evaluate(
    data: Annotated[Path, typer.Argument(help="Windows with known targets, .npz.")],
    weights: Annotated[
        Path | None, typer.Option(help="Folder of an ensemble; default: the shipped one.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write the table as JSON.")] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Write what every method says of every input, .npz.")
    ] = None,
) -> None:
    """Compare raw and denoised windows with their targets: cost, g2, Gamma, alpha, beta."""
    import numpy as np

    from .denoising.ensemble import load_ensemble
    from .denoising.evaluate import evaluate as evaluate_windows

    for file in (json, predictions):
        if file is not None and not file.parent.is_dir():
            raise InvalidInputError(
                f"Output {file}: its folder does not exist; expected one that does. Create it."
            )
    result = evaluate_windows(data, load_ensemble(weights))
    console.print(result.table(), soft_wrap=True, highlight=False, markup=False)
    if json is not None:
        json.write_text(result.to_json(), encoding="utf-8")
    if predictions is not None:
        with predictions.open("wb") as file:  # np.savez would add its ending to another name
            np.savez(file, **cast("dict[str, Any]", result.predictions))


def main() -> None:
    """Run the command line; an error of ours is one line and exit status 1, no traceback."""
    try:
        app()
    except XpcsError as error:
        console.print(f"[red]Error:[/red] {error}", soft_wrap=True)
        raise SystemExit(1) from None
