"""`train` makes an ensemble; `evaluate` compares it with other methods where truth is known."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from xpcs_live_denoise.errors import InvalidInputError

from .output import check_output, refuse_options, write_text
from .progress import Steps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xpcs_live_denoise.denoising import Epoch, MapEvaluation
    from xpcs_live_denoise.numerics.windows import Denoiser
    from xpcs_live_denoise.records.types import FloatArray


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
        Literal["own", "paper"] | None,
        typer.Option(help="How to train: own (default), or as the paper did."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Most epochs; default: the recipe's.")
    ] = None,
    members: Annotated[
        int | None,
        typer.Option(min=1, help="Members of the ensemble; default: 10, for any_size 2."),
    ] = None,
    candidates: Annotated[
        int | None, typer.Option(min=1, help="Networks to choose them from; default: twice that.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seeds everything that is random.")] = 0,
    denoiser: Annotated[
        Literal["windows", "any_size"],
        typer.Option(help="What to train: for windows of 50 frames, or for C2 of any size."),
    ] = "windows",
    minutes: Annotated[
        float | None,
        typer.Option(min=0.1, help="any_size: longest training of a network; default: 30."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="any_size: where to compute, in torch's words: cpu (default), cuda."),
    ] = None,
) -> None:
    """Train an ensemble; the setting `weights` makes a run use it.

    For windows: CNN encoder-decoders, on windows of a file or on simulated ones. For any_size:
    always on simulated C2; windows of a file are shown, too, each as the target of another one.
    """
    of_windows = {
        "--validation": validation,
        "--simulated": simulated,
        "--recipe": recipe,
        "--epochs": epochs,
        "--candidates": candidates,
    }
    of_any_size = {"--minutes": minutes, "--device": device}
    is_any_size = denoiser == "any_size"
    other, options = ("windows", of_windows) if is_any_size else ("any_size", of_any_size)
    refuse_options(
        "train",
        options,
        f"with --denoiser {denoiser}",
        f"them with --denoiser {other} alone. Leave them out, or train that one.",
    )
    if is_any_size:
        seconds = 60 * (minutes or 30.0)
        _train_any_size(data, out, members or 2, seed, seconds, device or "cpu")
        return
    from xpcs_live_denoise.denoising import recipe_of, training_data
    from xpcs_live_denoise.denoising import train as train_ensemble

    if not simulated:
        typer.echo("Reading ...")
    with Steps("Simulating", "windows") as steps:
        learning, choosing = training_data(
            data, validation, simulated=simulated, seed=seed, progress=steps.show
        )
    chosen = recipe_of(recipe or "own", epochs=epochs)
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
            members=members or 10,
            candidates=candidates,
            recipe=chosen,
            seed=seed,
            progress=show,
        )
    typer.echo(f"{ensemble.info['n_members']} members are in {out}.")


def _train_any_size(
    data: Path | None, out: Path, members: int, seed: int, seconds: float, device: str
) -> None:
    from xpcs_live_denoise.denoising import train_any_size

    ensemble = train_any_size(
        out,
        windows=data,
        members=members,
        seed=seed,
        seconds=seconds,
        device=device,
        progress=typer.echo,
    )
    typer.echo(f"{ensemble.info['n_members']} members are in {out}.")


def evaluate(
    data: Annotated[
        Path | None,
        typer.Argument(help="Windows with known targets, .npz. Default: simulated whole C2."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Folder of an ensemble; default: the shipped one.")
    ] = None,
    paper: Annotated[
        Path | None, typer.Option(help="Folder of an ensemble of the paper's recipe, to compare.")
    ] = None,
    any_size: Annotated[
        Path | None, typer.Option(help="Folder of an any-size ensemble; default: the shipped one.")
    ] = None,
    published: Annotated[
        Path | None, typer.Option(help="The published members of FC-DAE, .npz, to compare.")
    ] = None,
    frames: Annotated[
        list[int] | None, typer.Option(min=100, help="Length of the simulated C2; may be repeated.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seeds the simulated C2; default: 0.")] = None,
    experiment: Annotated[
        list[int] | None, typer.Option(help="Only inputs of this experiment; may be repeated.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write the table as JSON.")] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Write what every method says of every input, .npz.")
    ] = None,
) -> None:
    """Compare all methods with the truth.

    On windows of a file: cost, g2, Gamma with its error bar, alpha, beta. Without one, on simulated
    whole C2 of dynamics that no network was trained on: errors at short and long lags, the paper's
    fit, heterogeneity, time.
    """
    import numpy as np

    from xpcs_live_denoise.denoising import evaluate as evaluate_windows
    from xpcs_live_denoise.denoising import load_ensemble, load_published
    from xpcs_live_denoise.readers import written_whole

    for file in (json, predictions):
        if file is not None:
            check_output(file, ())
    of_windows = {"--paper": paper, "--experiment": experiment, "--predictions": predictions}
    of_simulated = {"--frames": frames, "--seed": seed}
    if data is None:
        refuse_options(
            "evaluate",
            of_windows,
            "without a file of windows",
            "the file, too. Without one whole C2 are simulated.",
        )
    else:
        refuse_options(
            "evaluate",
            of_simulated,
            "beside a file of windows",
            "them without one: they are of simulated C2. Leave them out.",
        )
    windows = load_ensemble(weights, denoiser="windows")
    others: dict[str, Denoiser] = {"any_size": load_ensemble(any_size, denoiser="any_size")}
    if published is not None:
        others["published"] = load_published(published)
    if data is None:
        maps = _evaluate_maps(windows, others, frames or [350, 1000], seed or 0)
        typer.echo(maps.table())
        if json is not None:
            write_text(json, maps.to_json())
        return
    result = evaluate_windows(
        data,
        windows,
        paper=None if paper is None else load_ensemble(paper, denoiser="windows"),
        others=others,
        experiments=experiment or None,
    )
    typer.echo(result.table())
    if json is not None:
        write_text(json, result.to_json())
    if predictions is not None:
        arrays = cast("dict[str, Any]", result.predictions)
        # np.savez would add its ending to the name of the part.
        with written_whole(predictions, overwrite=True) as part, part.open("wb") as file:
            np.savez(file, **arrays)


def _evaluate_maps(
    windows: Denoiser, others: dict[str, Denoiser], frames: Sequence[int], seed: int
) -> MapEvaluation:
    """Compare denoisers, a plain filter and the path's image on simulated whole C2."""
    from xpcs_live_denoise.denoising import evaluate_maps, gaussian_map
    from xpcs_live_denoise.numerics.windows import denoise_two_time

    methods = {
        "raw": lambda c2: c2,
        "gaussian": gaussian_map,
        "windows": lambda c2: denoise_two_time(c2, windows).c2,
        **{name: partial(_denoised, denoiser) for name, denoiser in others.items()},
        "path_model": path_image,
    }
    with Steps("Evaluating", "C2") as steps:
        return evaluate_maps(methods, n_frames=frames, seed=seed, progress=steps.show)


def _denoised(denoiser: Denoiser, c2: FloatArray) -> FloatArray:
    return denoiser.denoise(c2[None].astype("float32"))[0][0]


def path_image(c2: FloatArray) -> FloatArray:
    """Return a C2 as the path of Gamma explains it, NaN where there is no path."""
    import numpy as np

    from xpcs_live_denoise.config import Settings
    from xpcs_live_denoise.numerics.estimator.model_image import c2_model
    from xpcs_live_denoise.offline import analyse_c2

    result = analyse_c2(c2, settings=Settings(detector="c2", denoise=False))
    rows = result.gamma.select(result.gamma.source == "path")
    try:
        return c2_model(rows, 1, frame_time_s=1.0, n_frames=len(c2))
    except InvalidInputError:  # it did not converge
        return np.full(c2.shape, np.nan)
