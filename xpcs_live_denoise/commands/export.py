"""`export`: stored results as files."""

from __future__ import annotations

import warnings
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xpcs_live_denoise.errors import InvalidInputError, ResultNotFoundError, XpcsError, text_of

if TYPE_CHECKING:
    from xpcs_live_denoise.catalog import Node
    from xpcs_live_denoise.readers import XPCSResult


class Format(StrEnum):
    """What a result can be written as."""

    H5 = "h5"
    CSV = "csv"
    PNG = "png"


def export(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Scan_ids, uids or their first letters; -1 behind -- is the newest.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the files; made if absent.")],
    formats: Annotated[
        list[Format],
        typer.Option(
            "--format",
            help="h5: everything, for pyXpcsViewer and as NXxpcs; csv: the recommended rows of "
            "Gamma(t); png: the figure. Once for each.",
        ),
    ] = [Format.H5],  # noqa: B006 - typer copies it
    config: Annotated[Path, typer.Option(help="The settings, YAML.")] = Path("xpcs.yml"),
    detector: Annotated[
        str | None, typer.Option(help="Of a run of several detectors: whose result.")
    ] = None,
    *,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files.")] = False,
) -> None:
    """Write stored results into files: HDF5 (NXxpcs, pyXpcsViewer), CSV, PNG."""
    from xpcs_live_denoise.catalog import connect
    from xpcs_live_denoise.config import Settings
    from xpcs_live_denoise.readers import file_name

    settings = Settings.load(config).tiled
    if out.exists() and not out.is_dir():
        raise InvalidInputError(f"--out {out}: is a file; expected a folder. Give another name.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError(
            f"--out {out}: cannot be made ({text_of(error)}). Give a folder that you may write to."
        ) from error
    client, n_failed = connect(settings), 0
    try:
        for word in runs:
            try:
                result = named_result(client, word, settings.path, detector)
                for one in formats:
                    path = out / f"{file_name(result)}.{one}"
                    result.export(path, overwrite=overwrite)
                    typer.echo(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
            except XpcsError as error:  # the next one may be written all the same
                n_failed += 1
                typer.echo(f"{word}: not exported. {error}")
    finally:
        client.context.close()
    if n_failed:
        typer.echo(f"{n_failed} of {len(runs)} runs were not exported.")
        raise typer.Exit(1)


def named_result(client: Node, word: str, path: str, detector: str | None) -> XPCSResult:
    """Return the result that a word names: digits are a scan_id first. Prints what is doubtful."""
    from xpcs_live_denoise.readers import readings, results

    *others, last = readings(word, scan_id_first=True)
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        for reading in others:
            try:
                result = results(client, reading, detector=detector, path=path)
                break
            except ResultNotFoundError:
                continue
        else:
            result = results(client, last, detector=detector, path=path)
    for note in notes:
        typer.echo(f"{word}: {note.message}")
    return result
