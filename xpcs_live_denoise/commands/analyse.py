"""`analyse`: files with frames, from the detector or a disk, to Gamma(t), a figure and a file."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xpcs_live_denoise.errors import InvalidInputError

from .frame_input import typed_center
from .output import check_output, write_figure
from .progress import Steps

if TYPE_CHECKING:
    from xpcs_live_denoise.config import Settings
    from xpcs_live_denoise.numerics.rois import RoiMap
    from xpcs_live_denoise.offline import Result
    from xpcs_live_denoise.records.frames import Geometry
    from xpcs_live_denoise.sources import StoredSeries

_NUMBER = r"\s*(-?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*"
_RANGE = re.compile(f"{_NUMBER}[-:]{_NUMBER}", re.IGNORECASE)
SUFFIXES = (".h5", ".hdf5", ".nxs")


def analyse(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="The _master.h5 of an Eiger, HDF5, .npy, TIFF or EDF; several in order; or a "
            "folder.",
        ),
    ],
    config: Annotated[Path | None, typer.Option(help="The settings, YAML.")] = None,
    rois: Annotated[
        Path | None, typer.Option(help="The ROI file: save_rois', or a q-map of APS (.hdf).")
    ] = None,
    rings: Annotated[
        str | None, typer.Option(help="Rings around the beam, pixels: 80-90,100-110.")
    ] = None,
    q: Annotated[
        str | None, typer.Option("--q", help="Rings by q, 1/Angstrom: 0.002-0.003,0.004-0.005.")
    ] = None,
    phi: Annotated[
        str | None,
        typer.Option(
            help="Cut the rings into sectors, degrees: -15-15,75-105. 0 is along the columns, 90 "
            "along the rows."
        ),
    ] = None,
    center: Annotated[
        str | None, typer.Option(help="The direct beam, ROW,COL, where no file tells it.")
    ] = None,
    mask: Annotated[Path | None, typer.Option(help="Pixel mask, 1 = keep.")] = None,
    frame_time: Annotated[
        float | None, typer.Option(help="Frame period, s, where no file tells it.")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Dataset with the frames, where a file has several.")
    ] = None,
    series: Annotated[
        int | None, typer.Option(help="Sequence id, where a folder has several series.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the result into this HDF5 file.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw a figure into this .png.")] = None,
    *,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files of these names.")
    ] = False,
) -> None:
    """Analyse frames in files: C2, g2 and Gamma(t) of each ROI, a figure, a result file."""
    for path, suffixes in ((out, SUFFIXES), (plot, (".png",))):
        if path is not None:
            check_output(path, suffixes, overwrite=overwrite)
    from xpcs_live_denoise.offline import analyse as compute
    from xpcs_live_denoise.sources import open_series

    settings = _settings(config, files[0], mask, rois, frame_time, center)
    opened = open_series(files, dataset=dataset, series=series, threshold=settings.threshold)
    given = _rois(opened, settings, rings, q, phi)
    is_long = out is not None and opened.n_frames > settings.map_frames
    # All rows of the band lie on the disk until they are in the result's file.
    beside = out.parent if out is not None and is_long else None
    with tempfile.TemporaryDirectory(prefix=".xpcs-band-", dir=beside) as folder:
        band_file = Path(folder) / "band.h5" if is_long else None
        with Steps(opened.subject, "frames") as steps:
            result = compute(opened, settings, rois=given, band_file=band_file, progress=steps.show)
        _print(opened.subject, result)
        if out is not None:
            result.save(out, overwrite=overwrite)
            typer.echo(f"Result: {out.resolve()}")
    if plot is not None:
        import matplotlib

        matplotlib.use("Agg")
        write_figure(plot, result.plot())
        typer.echo(f"Figure: {plot.resolve()}")


def _settings(
    config: Path | None,
    first: Path,
    mask: Path | None,
    rois: Path | None,
    frame_time_s: float | None,
    center: str | None,
) -> Settings:
    """Return the settings of the file, with what was typed in place of its own."""
    from xpcs_live_denoise.config import Settings

    settings = Settings(detector=first.stem) if config is None else Settings.load(config)
    changes: dict[str, Any] = {"mask": mask, "rois": rois, "frame_time_s": frame_time_s}
    changes = {name: value for name, value in changes.items() if value is not None}
    if center is not None:
        geometry = settings.geometry.model_dump()
        changes["geometry"] = {**geometry, "beam_center": typed_center(center)}
    return Settings(**{**settings.model_dump(), **changes}) if changes else settings


def _rois(
    series: StoredSeries, settings: Settings, rings: str | None, q: str | None, phi: str | None
) -> RoiMap | None:
    """Return the ROIs that were typed; None where the settings have them."""
    from xpcs_live_denoise.numerics.rois import RoiMap, radii_of_q
    from xpcs_live_denoise.records.frames import Geometry

    typed = [name for name, text in (("--rings", rings), ("--q", q)) if text is not None]
    if len(typed) > 1 or (phi is not None and not typed):
        raise InvalidInputError(
            f"ROIs: got {' and '.join([*typed, *(['--phi'] if phi else [])])}; expected --rings or "
            "--q, of which --phi makes sectors."
        )
    if not typed:
        if settings.rois is None:
            raise InvalidInputError(
                "ROIs: got none; expected --rings 80-90,100-110 (pixels), --q 0.002-0.003 "
                "(1/Angstrom), --rois FILE, or --config with the setting `rois`."
            )
        return None
    known = Geometry(**settings.geometry.model_dump()).completed(series.contents.geometry)
    turned, beam = _turned(series, settings, known)
    edges = _ranges(typed[0], rings if q is None else q)
    radii = radii_of_q(edges, known) if q is not None else edges
    if phi is None:
        return RoiMap.rings(turned, beam, radii)
    return RoiMap.sectors(turned, beam, radii, _ranges("--phi", phi))


def _turned(
    series: StoredSeries, settings: Settings, geometry: Geometry
) -> tuple[tuple[int, int], tuple[float, float]]:
    """Return shape and direct beam as ROIs see them, after the setting `orientation`."""
    if geometry.beam_center is None:
        raise InvalidInputError(
            f"{series.subject}: tells no beam center, which rings lie around. Add --center "
            "ROW,COL, or geometry.beam_center to the settings of --config."
        )
    orientation, (rows, cols) = settings.orientation, series.frame_shape
    row, col = geometry.beam_center
    if orientation.flip_rows:
        row = rows - 1 - row
    if orientation.flip_cols:
        col = cols - 1 - col
    for _ in range(orientation.rotate // 90):  # as numpy.rot90
        row, col, rows, cols = cols - 1 - col, row, cols, rows
    return (rows, cols), (row, col)


def _ranges(option: str, text: str | None) -> list[tuple[float, float]]:
    """Return what 80-90,100-110 says."""
    found = [_RANGE.fullmatch(part) for part in (text or "").split(",")]
    known = [(float(one[1]), float(one[2])) for one in found if one is not None]
    if len(known) < len(found):
        raise InvalidInputError(f"{option}: got {text!r}; expected ranges such as 80-90,100-110.")
    return known


def _print(subject: str, result: Result) -> None:
    """Print a row a ROI, and what the status says."""
    from rich import print as print_table
    from rich.table import Table

    from xpcs_live_denoise.views import caution_words

    info: Any = result.info
    unit = "1/s" if info.time_unit == "s" else "1/frame"
    table = Table(title=f"{subject}: {result.band.stop} frames", title_justify="left")
    summary = result.summary()
    heads = {
        "roi": "ROI",
        "q_inv_angstrom": "q (1/Å)",
        **({"phi_deg": "phi (°)"} if info.phi_deg else {}),
        "relaxation_rate": f"Gamma ({unit})",
        "relaxation_rate_error": "+-",
        "alpha": "alpha",
        "contrast": "beta",
        "baseline": "base",
        "n_ages": "ages",
    }
    for head in heads.values():
        table.add_column(head, justify="right", no_wrap=True)
    for row in summary[[*heads]].itertuples(index=False):
        table.add_row(*(f"{one:.3g}" if isinstance(one, float) else str(one) for one in row))
    print_table(table)
    for roi, cautions in zip(summary["roi"], summary["caution"], strict=True):
        if cautions:
            words = "; ".join(caution_words(one) for one in cautions.split(", "))
            typer.echo(f"ROI {roi}, careful: {words}.")
    if result.status.message:
        typer.echo(result.status.message)
