"""`train` makes an ensemble; `evaluate` compares it with other methods where truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from xpcs_live_denoise.errors import InvalidInputError

from .progress import Steps

if TYPE_CHECKING:
    from xpcs_live_denoise.denoising import Epoch


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
        Literal["own", "paper"], typer.Option(help="How to train: own, or as the paper did.")
    ] = "own",
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
    from xpcs_live_denoise.denoising import recipe_of, training_data
    from xpcs_live_denoise.denoising import train as train_ensemble

    if not simulated:
        typer.echo("Reading ...")
    with Steps("Simulating", "windows") as steps:
        learning, choosing = training_data(
            data, validation, simulated=simulated, seed=seed, progress=steps.show
        )
    chosen = recipe_of(recipe, epochs=epochs)
    # A network may end before its last epoch.
    with Steps("Training", "epochs", at_most=True) as steps:

        def show(network: int, n_networks: int, now: Epoch) -> None:
            steps.show(
                network * chosen.epochs + now.epoch,
                n_networks * chosen.epochs,
                f"(network {network + 1} of {n_networks}, epoch {now.epoch}, loss {now.loss:.4f})",
            )

        ensemble = train_ensemble(
            learning,
            out,
            validation=choosing,
            members=members,
            candidates=candidates,
            recipe=chosen,
            seed=seed,
            progress=show,
        )
    typer.echo(f"{ensemble.info['n_members']} members are in {out}.")


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
    typer.echo(result.table())
    if json is not None:
        json.write_text(result.to_json(), encoding="utf-8")
    if predictions is not None:
        with predictions.open("wb") as file:  # np.savez would add its ending to another name
            np.savez(file, **cast("dict[str, Any]", result.predictions))
