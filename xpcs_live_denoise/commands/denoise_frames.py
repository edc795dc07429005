"""`denoise-frames`: images of few counts in files, to images of expected counts."""

from __future__ import annotations

from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xpcs_live_denoise.errors import InvalidInputError

from .analyse import SUFFIXES
from .frame_input import beam_of, good_pixels, summed
from .output import check_output, write_figure
from .progress import Steps

if TYPE_CHECKING:
    from xpcs_live_denoise.records.frame_results import DenoisedFrame
    from xpcs_live_denoise.records.frames import Geometry


def denoise_frames(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="The _master.h5 of an Eiger, HDF5, .npy, TIFF or EDF; several in order; a folder; "
            "of pairs (LC and HC, low_count/data and high_count/data) those of few counts.",
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(help="Write the images into this HDF5 file.")],
    model: Annotated[
        str | None,
        typer.Option(help="Folder of train-frames, or large or small; default: by the image."),
    ] = None,
    add: Annotated[
        int, typer.Option("--sum", min=0, help="Frames that are added up to an image; 0: all.")
    ] = 1,
    center: Annotated[
        str | None, typer.Option(help="The direct beam, ROW,COL, where no file tells it.")
    ] = None,
    mask: Annotated[Path | None, typer.Option(help="Pixel mask, 1 = keep.")] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Dataset with the frames, where a file has several.")
    ] = None,
    series: Annotated[
        int | None, typer.Option(help="Sequence id, where a folder has several series.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the last image into this .png.")] = None,
    trust: Annotated[
        bool, typer.Option("--trust/--no-trust", help="Say how far it can be trusted.")
    ] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files of these names.")
    ] = False,
) -> None:
    """Denoise images of few counts: for looking and I(q), never for a correlation."""
    for path, suffixes in ((out, SUFFIXES), (plot, (".png",))):
        if path is not None:
            check_output(path, suffixes, overwrite=overwrite)
    import numpy as np

    from xpcs_live_denoise.denoising import check_shape, denoise_sum, load_frame_denoiser
    from xpcs_live_denoise.sources import open_images

    opened = open_images(files, dataset=dataset, series=series)
    check_shape(opened.subject, opened.frame_shape)
    beam, good = beam_of(opened, center), good_pixels(opened, mask)
    denoiser = load_frame_denoiser(model)
    n_each = opened.n_frames if add == 0 else add
    n_images = -(-opened.n_frames // n_each)
    rng = np.random.default_rng(0) if trust else None
    facts = {"files": [str(one) for one in files], "frames_per_image": n_each,
             "beam_center": beam, "model": denoiser.info}  # fmt: skip
    from .denoised_file import DenoisedFile

    summary = _Summary()
    image: DenoisedFrame | None = None
    with DenoisedFile(out, facts) as file, Steps(opened.subject, "images") as steps:
        for of, last in summed(opened, repeat(n_each), gaps_count=True):
            image = denoise_sum(of, last, denoiser, center=beam, good=good, rng=rng)
            file.write(image, _q_of(image, opened.contents.geometry))
            summary.add(image)
            steps.show(file.n_images, n_images)
        if image is None:
            raise InvalidInputError(f"{opened.subject}: not a single image could be read.")
    typer.echo(f"{opened.subject}: {summary.words()}")
    typer.echo(f"Denoised: {out.resolve()}")
    for note in opened.notes:
        typer.echo(note)
    if plot is not None:
        import matplotlib

        matplotlib.use("Agg")
        from xpcs_live_denoise.window import draw_denoised

        write_figure(plot, draw_denoised(image, opened.subject))
        typer.echo(f"Figure: {plot.resolve()}")


class _Summary:
    """Counts over images what a line says of them."""

    def __init__(self) -> None:
        self._n = self._kept = self._rings = self._within = 0
        self._blocks = [0, 0, 0]  # seen, not to be seen, contradicted
        self._notes: dict[str, None] = {}

    def add(self, image: DenoisedFrame) -> None:
        """Take what an image says of itself."""
        import numpy as np

        self._n += 1
        self._kept += int(image.kept.sum())
        if image.note:
            self._notes.setdefault(image.note)
        if image.rings is not None:
            pull = image.rings.pull[np.isfinite(image.rings.pull)]
            self._rings += len(pull)
            self._within += int((np.abs(pull) <= 2).sum())
        if image.evidence is not None:
            known = image.evidence[np.isfinite(image.evidence)]
            seen, against = int((known > 2).sum()), int((known < -2).sum())
            for k, number in enumerate((seen, len(known) - seen - against, against)):
                self._blocks[k] += number

    def words(self) -> str:
        """Return one line for a person."""
        parts = [f"{self._n} images", f"{self._kept} pixels kept as measured"]
        if self._rings:
            parts.append(
                f"{100 * self._within / self._rings:.0f} % of the rings agree within 2 errors with "
                "photons that took no part (95 % are expected)"
            )
        if sum(self._blocks):
            seen, none, against = self._blocks
            parts.append(
                f"of blocks of 32 x 32 pixels {seen} show structure that such photons confirm, "
                f"{none} show none, {against} contradict them"
            )
        return "; ".join([*parts, *list(self._notes)[:3]]) + "."


def _q_of(image: DenoisedFrame, geometry: Geometry) -> Any:
    """Return q of the rings, None where the geometry is not known."""
    from xpcs_live_denoise.numerics.radial import momentum_transfer

    if image.rings is None:
        return None
    return momentum_transfer(image.rings.radius_px, geometry)
