"""`evaluate`: every method against windows whose truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from xpcs_live_denoise.errors import InvalidInputError


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
