"""`train`: an ensemble from data or from simulated speckle."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from xpcs_live_denoise.denoising import TrainingProgress


class RecipeChoice(StrEnum):
    """The recipes that `train` knows."""

    own = "own"
    paper = "paper"


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

    from xpcs_live_denoise.denoising import recipe_of, training_data
    from xpcs_live_denoise.denoising import train as train_ensemble

    with Progress() as bar:
        task = bar.add_task("simulating" if simulated else "reading", total=None)
        learning, choosing = training_data(data, validation, simulated=simulated, seed=seed)
        ensemble = train_ensemble(
            learning,
            out,
            validation=choosing,
            members=members,
            candidates=candidates,
            recipe=recipe_of(recipe.value, epochs=epochs),
            seed=seed,
            progress=lambda now: _show(now, bar, task),
        )
    typer.echo(f"{ensemble.info['n_members']} members are in {out}.")


def _show(now: TrainingProgress, bar: Progress, task: TaskID) -> None:
    bar.update(
        task,
        total=now.n_candidates * now.n_epochs,
        completed=now.candidate * now.n_epochs + now.epoch.epoch,
        description=f"network {now.candidate + 1} of {now.n_candidates}, epoch "
        f"{now.epoch.epoch}, loss {now.epoch.loss:.4f}",
    )
