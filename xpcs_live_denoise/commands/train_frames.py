"""`train-frames` makes a model for images of few counts, `evaluate-frames` compares one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from xpcs_live_denoise.errors import InvalidInputError, UnreadableFramesError

from .denoise_frames import beam_of
from .progress import Steps

if TYPE_CHECKING:
    from xpcs_live_denoise.denoising import FrameProgress, MeasuredImages
    from xpcs_live_denoise.sources import StoredSeries

N_GROUPS = 32  # sums over consecutive frames into which a series is divided


def train_frames(
    data: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PAIRS|FILE...",
            help="Folder with LC and HC, or HDF5 with low_count/data and high_count/data; or the "
            "files of one series, of which some frames learn from the others.",
        ),
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="Folder for the weights and the model card.")],
    simulated: Annotated[
        bool, typer.Option("--simulated", help="Learn from simulated images, no file.")
    ] = False,
    network: Annotated[
        Literal["light", "irunet", "vdsr"], typer.Option(help="light: minutes on two cores.")
    ] = "light",
    loss: Annotated[
        Literal["poisson", "published"],
        typer.Option(help="Poisson likelihood, or 0.3 MAE + 0.7 (1 - MS-SSIM)."),
    ] = "poisson",
    start: Annotated[
        str | None,
        typer.Option(
            help="Model to go on from: a folder, small or large; none: new weights. Default: the "
            "shipped one of this network."
        ),
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.01, help="How long to train.")] = 10.0,
    center: Annotated[
        str | None, typer.Option(help="The direct beam, ROW,COL, where no file tells it.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Dataset with the frames, where a file has several.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where to compute: cpu, cuda.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Seeds everything that is random.")] = 0,
) -> None:
    """Train a model for `denoise-frames --model`: on your own pairs, a series, or simulated."""
    if bool(data) == simulated:
        raise InvalidInputError(
            f"train-frames: got {'data and' if data else 'neither data nor'} --simulated; "
            "expected pairs, the files of a series, or --simulated."
        )
    from xpcs_live_denoise.denoising import FrameRecipe, SimulatedImages
    from xpcs_live_denoise.denoising import train_frames as train

    typer.echo("Reading ..." if data else "Simulating ...")
    images = (
        SimulatedImages(seed=seed) if not data else measured_images(data, center, dataset, seed)
    )
    default = {"light": "small", "irunet": "large"}.get(network)
    with Steps("Training", "seconds") as steps:

        def show(now: FrameProgress) -> None:
            steps.show(now.seconds, 60 * minutes, f"(step {now.step}, score {now.score:.4f})")

        model = train(
            images,
            out,
            recipe=FrameRecipe(network=network, loss=loss, minutes=minutes),
            start=default if start is None else None if start == "none" else start,
            device=device,
            seed=seed,
            name=out.name,
            progress=show,
        )
    (info,) = model.info.values()
    metrics = info["metrics"]
    better = metrics["score"] < metrics["at_first"]
    typer.echo(
        f"{metrics['what']}: {metrics['at_first']:.4f} at first, {metrics['score']:.4f} now"
        + ("." if better else ": no better than at first, whose weights are kept. Train longer.")
    )
    typer.echo(f"The model is in {out}; denoise-frames --model {out} uses it.")


def measured_images(
    data: list[Path], center: str | None, dataset: str | None, seed: int
) -> MeasuredImages:
    """Return what to learn from, of pairs or of one series."""
    from xpcs_live_denoise.denoising import MeasuredImages, check_shape
    from xpcs_live_denoise.sources import open_pairs, open_series

    opened = [open_pairs(path.expanduser()) for path in data] if dataset is None else [None]
    pairs = [one for one in opened if one is not None]
    if pairs and len(pairs) < len(data):
        raise InvalidInputError(
            f"train-frames: got {len(pairs)} sets of pairs beside other files; expected pairs "
            "alone, or the files of one series."
        )
    description: dict[str, Any] = {"files": [str(path) for path in data]}
    if pairs:
        for one in pairs:
            check_shape(one.low.subject, one.low.frame_shape)
        both = [pair for one in pairs for pair in one.read()]
        return MeasuredImages.of_pairs(
            both,
            center=beam_of(pairs[0].low, center),
            description={**description, "pairs": len(both)},
            seed=seed,
        )
    series = open_series(data, dataset=dataset)
    check_shape(series.subject, series.frame_shape)
    groups, valid = grouped(series)
    return MeasuredImages.of_series(
        groups,
        valid,
        center=beam_of(series, center),
        description={**description, "frames": series.n_frames, "groups": len(groups)},
        seed=seed,
    )


def grouped(series: StoredSeries) -> Any:
    """Return the sums over groups of consecutive frames, and the pixels measured in all of them."""
    import numpy as np

    from xpcs_live_denoise.denoising import counts_of
    from xpcs_live_denoise.records.frames import MissingFrames

    n_each = max(1, series.n_frames // N_GROUPS)
    groups: list[Any] = []
    valid = np.ones(series.frame_shape, np.bool_)
    total, n_total = None, 0
    for block in series.frames(2**26):
        if isinstance(block, MissingFrames):
            continue
        first = 0
        while first < len(block):
            part = block[first : first + n_each - n_total]  # groups of the same number of frames
            first += len(part)
            counts, good = counts_of(part)
            valid &= good
            total = counts if total is None else total + counts
            n_total += len(part)
            if n_total == n_each:
                groups.append(total)
                total, n_total = None, 0
    if not groups:
        raise UnreadableFramesError(f"{series.subject}: no frame could be read.")
    bad = series.contents.bad_pixels
    if bad is not None and bad.shape == valid.shape:
        valid &= ~bad
    return np.stack(groups), valid


def evaluate_frames(
    data: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PAIRS|FILE...",
            help="As of train-frames; default: simulated images, of which the truth is known.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Folder of train-frames, or large or small.")
    ] = None,
    number: Annotated[
        int, typer.Option("--images", min=1, help="Simulated images of each class.")
    ] = 12,
    center: Annotated[
        str | None, typer.Option(help="The direct beam, ROW,COL, where no file tells it.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seeds what is simulated.")] = 1,
    json: Annotated[Path | None, typer.Option(help="Write the table as JSON.")] = None,
) -> None:
    """Compare a model for images of few counts with filters: errors by class of image."""
    if json is not None and not json.parent.is_dir():
        raise InvalidInputError(
            f"Output {json}: its folder does not exist; expected one that does. Create it."
        )
    from xpcs_live_denoise.denoising import compare_measured, compare_simulated, load_frame_denoiser

    denoiser = load_frame_denoiser(model)
    with Steps("Comparing", "images") as steps:
        if data:
            images = measured_images(data, center, None, seed)
            table = compare_measured(denoiser, images, seed=seed, progress=steps.show)
        else:
            table = compare_simulated(denoiser, number, seed=seed, progress=steps.show)
    typer.echo(table.text())
    if json is not None:
        json.write_text(table.to_json(), encoding="utf-8")
