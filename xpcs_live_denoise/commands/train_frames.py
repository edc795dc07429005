"""`train-frames` makes a model for images of few counts, `evaluate-frames` compares one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from xpcs_live_denoise.errors import InvalidInputError, UnreadableFramesError

from .frame_input import beam_of, good_pixels, series_in_tiled, summed
from .output import check_output, refuse_options, write_text
from .progress import Steps

if TYPE_CHECKING:
    from xpcs_live_denoise.denoising import FrameProgress, MeasuredImages
    from xpcs_live_denoise.sources import StoredSeries

N_GROUPS = 16  # parts of a series, each of which is two sums over consecutive frames


def train_frames(
    data: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PAIRS|FILE...|RUN",
            help="Folder with LC and HC, or HDF5 with low_count/data and high_count/data; or the "
            "files of one series, of which some frames learn from the others; with --config a run "
            "in Tiled: scan_id, uid or its first letters.",
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
    config: Annotated[
        Path | None, typer.Option(help="The settings, YAML, which find a run in Tiled.")
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
    of_data = {"--center": center, "--dataset": dataset, "--config": config}
    if simulated:
        refuse_options(
            "train-frames", of_data, "beside --simulated", "them with data alone. Leave them out."
        )
    from xpcs_live_denoise.denoising import FrameRecipe, SimulatedImages
    from xpcs_live_denoise.denoising import train_frames as train

    typer.echo("Reading ..." if data else "Simulating ...")
    images = (
        SimulatedImages(seed=seed)
        if not data
        else measured_images(data, center, seed, dataset=dataset, config=config)
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
    data: list[Path],
    center: str | None,
    seed: int,
    *,
    dataset: str | None = None,
    config: Path | None = None,
) -> MeasuredImages:
    """Return what to learn from: pairs, or one series in files or, with settings, in Tiled."""
    from xpcs_live_denoise.denoising import MeasuredImages, check_shape
    from xpcs_live_denoise.sources import open_pairs, open_series

    names = [str(path) for path in data]
    if config is not None:
        with series_in_tiled(config, names) as series:
            return _of_series(series, center, seed, {"runs": names})
    opened = [open_pairs(path.expanduser()) for path in data] if dataset is None else [None]
    pairs = [one for one in opened if one is not None]
    if not pairs:
        return _of_series(open_series(data, dataset=dataset), center, seed, {"files": names})
    if len(pairs) < len(data):
        raise InvalidInputError(
            f"train-frames: got {len(pairs)} sets of pairs beside other files; expected pairs "
            "alone, or the files of one series."
        )
    for one in pairs:
        check_shape(one.low.subject, one.low.frame_shape)
    both = [pair for one in pairs for pair in one.read()]
    return MeasuredImages.of_pairs(
        both,
        center=beam_of(pairs[0].low, center),
        description={"files": names, "pairs": len(both)},
        seed=seed,
    )


def _of_series(
    series: StoredSeries, center: str | None, seed: int, description: dict[str, Any]
) -> MeasuredImages:
    """Return a series as sums over frames in the order of time, every second one of few frames."""
    import numpy as np

    from xpcs_live_denoise.denoising import MeasuredImages, check_shape

    check_shape(series.subject, series.frame_shape)
    valid = good_pixels(series)
    views: list[Any] = []
    numbers: list[int] = []
    for of, _ in summed(series, _sizes(series.n_frames, seed), gaps_count=False):
        counts, good = of.whole()
        views.append(counts.astype(np.float32))
        numbers.append(of.n_frames)
        valid &= good
    if not views:
        raise UnreadableFramesError(f"{series.subject}: no frame could be read.")
    return MeasuredImages.of_series(
        np.stack(views),
        np.array(numbers),
        valid,
        center=beam_of(series, center),
        description={**description, "frames": sum(numbers), "groups": len(views)},
        seed=seed,
    )


def _sizes(n_frames: int, seed: int) -> Iterator[int]:
    """Yield how many frames are added up, in turn few, drawn evenly in the logarithm, and more."""
    import numpy as np

    each = max(1, n_frames // N_GROUPS)  # frames of two groups
    rng = np.random.default_rng(seed)
    while True:
        few = int(np.exp(rng.uniform(0, np.log(max(1, each // 2)))))
        yield few
        if each > few:
            yield each - few


def evaluate_frames(
    data: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PAIRS|FILE...|RUN",
            help="As of train-frames; default: simulated images, of which the truth is known.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Folder of train-frames, or large or small.")
    ] = None,
    number: Annotated[
        int | None,
        typer.Option("--images", min=1, help="Simulated images of each class; default: 12."),
    ] = None,
    center: Annotated[
        str | None, typer.Option(help="The direct beam, ROW,COL, where no file tells it.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Dataset with the frames, where a file has several.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="The settings, YAML, which find a run in Tiled.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seeds what is simulated.")] = 1,
    json: Annotated[Path | None, typer.Option(help="Write the table as JSON.")] = None,
) -> None:
    """Compare a model for images of few counts with filters: errors by class of image."""
    if json is not None:
        check_output(json, ())
    if data:
        refuse_options(
            "evaluate-frames",
            {"--images": number},
            "beside data",
            "it without: it is of simulated images. Leave it out.",
        )
    else:
        refuse_options(
            "evaluate-frames",
            {"--center": center, "--dataset": dataset, "--config": config},
            "without data",
            "pairs, files or a run, too. Without data images are simulated.",
        )
    from xpcs_live_denoise.denoising import compare_measured, compare_simulated, load_frame_denoiser

    denoiser = load_frame_denoiser(model)
    with Steps("Comparing", "images") as steps:
        if data:
            images = measured_images(data, center, seed, dataset=dataset, config=config)
            table = compare_measured(denoiser, images, seed=seed, progress=steps.show)
        else:
            table = compare_simulated(denoiser, number or 12, seed=seed, progress=steps.show)
    typer.echo(table.text())
    if json is not None:
        write_text(json, table.to_json())
