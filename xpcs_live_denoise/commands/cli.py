"""The command line: demo, serve, replay, deliver, view, and what belongs to the denoiser."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console
from rich.text import Text

from xpcs_live_denoise.errors import InvalidInputError, XpcsError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Live two-time XPCS with denoising, for Bluesky and Tiled.",
)
console = Console()

Port = Annotated[int | None, typer.Option(min=1, max=65535, help="Port; a free one by default.")]


class RecipeChoice(StrEnum):
    """The recipes that `train` knows."""

    own = "own"
    paper = "paper"


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
            help="A recorded series instead of the simulation: .npy of frames (n, rows, cols), or "
            ".npz with `frames` "
            "and, if known, `center` (row, col), `fps`, `px_per_um`."
        ),
    ] = None,
    plot: Annotated[
        str | None, typer.Option(help='Show the run live: "window", or a .png file to write it to.')
    ] = None,
) -> None:
    """Run the main job: an ageing sample, from the detector's documents to Gamma(t) in Tiled."""
    from .demo import DemoOptions, run_demo

    run_demo(
        DemoOptions(frames=frames, rate=rate, rois=rois, out=out, data=data, plot=plot), console
    )


@app.command()
def catalog(
    folder: Annotated[Path, typer.Argument(help="A folder that `demo --out` left.")],
    port: Port = None,
) -> None:
    """Serve a catalog again, on this machine only, until Ctrl-C."""
    from .demo import serve_catalog

    serve_catalog(folder, port, console)


@app.command()
def train(
    data: Annotated[
        Path | None, typer.Argument(help="Training data, .npz with c2, target, ...")
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="Folder for the weights, the model card and the log.")],
    validation: Annotated[
        Path | None,
        typer.Option(help="Data of other experiments: chooses epochs and members."),
    ] = None,
    simulated: Annotated[
        bool, typer.Option("--simulated", help="Train and validate on simulated speckle, no file.")
    ] = False,
    recipe: Annotated[
        RecipeChoice, typer.Option(help="How to train: own, or as the paper did.")
    ] = RecipeChoice.own,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Most epochs; default: the recipe's.")
    ] = None,
    members: Annotated[int, typer.Option(min=1, help="Members of the ensemble.")] = 10,
    candidates: Annotated[
        int | None, typer.Option(min=1, help="Networks to choose them from; default: twice that.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seeds everything that is random.")] = 0,
) -> None:
    """Train an ensemble of CNN encoder-decoders; the setting `weights` makes a run use it."""
    from rich.progress import Progress

    from xpcs_live_denoise.denoising import TrainingProgress, recipe_of, training_data
    from xpcs_live_denoise.denoising import train as train_ensemble

    with Progress(console=console) as bar:
        task = bar.add_task("simulating" if simulated else "reading", total=None)

        def show(now: TrainingProgress) -> None:
            bar.update(
                task,
                total=now.n_candidates * now.n_epochs,
                completed=now.candidate * now.n_epochs + now.epoch.epoch,
                description=f"network {now.candidate + 1} of {now.n_candidates}, epoch "
                f"{now.epoch.epoch}, loss {now.epoch.loss:.4f}",
            )

        learning, choosing = training_data(data, validation, simulated=simulated, seed=seed)
        ensemble = train_ensemble(
            learning,
            out,
            validation=choosing,
            members=members,
            candidates=candidates,
            recipe=recipe_of(recipe.value, epochs=epochs),
            seed=seed,
            progress=show,
        )
    console.print(Text(f"{ensemble.info['n_members']} members are in {out}."), soft_wrap=True)


@app.command()
def evaluate(
    data: Annotated[Path, typer.Argument(help="Windows with known targets, .npz.")],
    weights: Annotated[
        Path | None, typer.Option(help="Folder of an ensemble; default: the shipped one.")
    ] = None,
    paper: Annotated[
        Path | None, typer.Option(help="Folder of an ensemble of the paper's recipe, to compare.")
    ] = None,
    experiment: Annotated[
        list[int] | None, typer.Option(help="Only inputs of this experiment; may be repeated.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write the table as JSON.")] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Write what every method says of every input, .npz.")
    ] = None,
) -> None:
    """Compare all methods with the truth: cost, g2, Gamma with its error bar, alpha, beta."""
    import numpy as np

    from xpcs_live_denoise.denoising import evaluate as evaluate_windows
    from xpcs_live_denoise.denoising import load_ensemble

    for file in (json, predictions):
        if file is not None and not file.parent.is_dir():
            raise InvalidInputError(
                f"Output {file}: its folder does not exist; expected one that does. Create it."
            )
    result = evaluate_windows(
        data,
        load_ensemble(weights),
        paper=None if paper is None else load_ensemble(paper),
        experiments=experiment or None,
    )
    console.print(result.table(), soft_wrap=True, highlight=False, markup=False)
    if json is not None:
        json.write_text(result.to_json(), encoding="utf-8")
    if predictions is not None:
        with predictions.open("wb") as file:  # np.savez would add its ending to another name
            np.savez(file, **cast("dict[str, Any]", result.predictions))


@app.command()
def deliver(
    config: Annotated[Path, typer.Option(help="The settings, YAML.")] = Path("xpcs.yml"),
    spool: Annotated[
        Path | None, typer.Option(help="Folder of the spool; default: the settings', else yours.")
    ] = None,
    path: Annotated[str | None, typer.Option(help="Container for all; default: its own.")] = None,
) -> None:
    """Deliver results that were kept on disk because the Tiled server was away."""
    from xpcs_live_denoise.config import Settings

    from .deliver import deliver as deliver_spool

    def tell(line: str) -> None:
        console.print(line, soft_wrap=True, highlight=False, markup=False)

    if not deliver_spool(Settings.load(config), spool=spool, path=path, tell=tell):
        raise typer.Exit(1)


@app.command()
def view(
    uri: Annotated[str, typer.Argument(help="Address of the Tiled server.")],
    path: Annotated[str, typer.Option(help="Container of the derived runs.")] = "processed",
    port: Port = None,
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
    from .view import ViewOptions
    from .view import view as serve_view

    serve_view(
        ViewOptions(
            uri=uri,
            path=path,
            host=host,
            port=port,
            api_key_env=api_key_env,
            api_key_file=api_key_file,
            key_env=key_env,
            key_file=key_file,
            open_browser=browser,
        ),
        console,
    )


@app.command()
def convert_rois(
    old: Annotated[Path, typer.Argument(help="A pickle [roi_mask, qval_dict], as CHX has them.")],
    new: Annotated[Path, typer.Argument(help="The ROI file to write, .npz or .json.")],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; for scripts.")] = False,
) -> None:
    """Turn a pickled ROI set into a ROI file. A pickle can run code: know who wrote it."""
    from .convert_rois import WARNING
    from .convert_rois import convert_rois as convert

    warning = WARNING.format(path=old)
    console.print(warning, style="yellow", soft_wrap=True, highlight=False, markup=False)
    if not yes:
        typer.confirm("Open it?", abort=True)
    rois, notes = convert(old, new)
    for note in notes:
        console.print(note, style="yellow", soft_wrap=True, highlight=False, markup=False)
    console.print(Text(f"{rois.n_roi} ROIs are in {new}."), soft_wrap=True)


@app.command()
def serve(
    config: Annotated[Path, typer.Option(help="The settings, YAML.")] = Path("xpcs.yml"),
    documents: Annotated[
        str | None,
        typer.Option(help="Documents over 0MQ: tcp://host:port of the proxy's output."),
    ] = None,
    bind: Annotated[
        bool, typer.Option("--bind", help="Listen there for publishers; needs no proxy.")
    ] = False,
    prefix: Annotated[str, typer.Option(help="Only documents of publishers that have it.")] = "",
    tiled: Annotated[
        bool, typer.Option("--tiled", help="Follow the raw runs in Tiled (tiled.raw_path).")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Show the newest run in this .png, while it goes on.")
    ] = None,
) -> None:
    """Analyse runs of other processes, in this one, until Ctrl-C."""
    from xpcs_live_denoise.config import Settings

    from .serve import ServeOptions
    from .serve import serve as serve_runs

    options = ServeOptions(documents=documents, bind=bind, prefix=prefix, tiled=tiled, plot=plot)
    if not serve_runs(Settings.load(config), options, console):
        raise typer.Exit(1)


@app.command()
def replay(
    uids: Annotated[list[str], typer.Argument(metavar="UID...", help="Uids of raw runs.")],
    config: Annotated[Path, typer.Option(help="The settings, YAML.")] = Path("xpcs.yml"),
) -> None:
    """Compute stored runs again, and compare with their earlier results."""
    from xpcs_live_denoise.config import Settings

    from .replay import replay as replay_runs

    replay_runs(Settings.load(config), uids, console)


def main() -> None:
    """Run the command line; an error of ours is one line and exit status 1, no traceback."""
    try:
        app()
    except XpcsError as error:
        # No markup: what an error shows may hold brackets.
        console.print(Text.assemble(("Error: ", "red"), str(error)), soft_wrap=True)
        raise SystemExit(1) from None
