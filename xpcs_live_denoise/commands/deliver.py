"""`deliver`: results in the spool, that sessions could not store while Tiled was away."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xpcs_live_denoise.errors import SpoolInUseError

from .preflight import tell_findings

if TYPE_CHECKING:
    from xpcs_live_denoise.config import Settings
    from xpcs_live_denoise.sinks import Spool

DIED = (
    "The process that analysed the run ended before the run did: what it had published is here. "
    "xpcs-live-denoise replay {uid} --config xpcs.yml computes the whole run."
)


def deliver(
    config: Annotated[Path, typer.Option(help="The settings, YAML.")] = Path("xpcs.yml"),
    spool: Annotated[
        Path | None, typer.Option(help="Folder of the spool; default: the settings', else yours.")
    ] = None,
    path: Annotated[str | None, typer.Option(help="Container for all; default: its own.")] = None,
    access_tag: Annotated[
        list[str] | None,
        typer.Option(help="Access tag for all, may be repeated; default: those of their time."),
    ] = None,
) -> None:
    """Deliver results that were kept on disk because the Tiled server was away."""
    from xpcs_live_denoise.catalog import results_path
    from xpcs_live_denoise.config import Settings
    from xpcs_live_denoise.sinks import default_folder, spooled_folders

    settings = Settings.load(config)
    if path is not None:
        results_path(path, None)
    root = spool or settings.spool or default_folder()
    folders = spooled_folders(root)
    if not folders:
        typer.echo(f"Nothing to deliver in {root}.")
    else:
        _tell_findings(settings)
    tags = access_tag or ()
    delivered = [deliver_run(folder, settings, path, tags) for folder in folders]
    if not all(delivered):
        raise typer.Exit(1)


def _tell_findings(settings: Settings) -> None:
    """Say once, before the first run, what will not work."""
    from xpcs_live_denoise.sinks import TiledDestination

    tiled = TiledDestination(settings)
    try:
        tiled.check()
        tell_findings(settings, tiled)
    except Exception:  # whatever it is, the line of each run says so
        return
    finally:
        tiled.close()


def deliver_run(
    folder: Path, settings: Settings, path: str | None = None, access_tags: Sequence[str] = ()
) -> bool:
    """Deliver a spooled run, remove it from the disk, and print a line on it.

    It goes into the derived run that its session began, with nothing twice; one whose process died
    ends there as aborted. Container and access tags are those of the run's own time, unless `path`
    and `access_tags` name others. False if anything is left but what a running session delivers.
    """
    from xpcs_live_denoise.sinks import Spool

    try:
        try:
            run = Spool.open(folder)
        except SpoolInUseError:
            typer.echo(f"{folder.name}: left to the process that has it.")
            return True
        except FileNotFoundError:
            typer.echo(f"{folder.name}: delivered by another process.")
            return True
        with run:
            typer.echo(_write(run, settings, path, access_tags))
            run.clear()
    except Exception as error:  # the next one may be delivered all the same
        typer.echo(f"{folder.name}: not delivered ({type(error).__name__}: {error})")
        return False
    return True


def _write(run: Spool, settings: Settings, path: str | None, access_tags: Sequence[str]) -> str:
    """Write a run to the server; return the line that says so."""
    from xpcs_live_denoise.analysis import append_note
    from xpcs_live_denoise.records.run import RunEnd, Status
    from xpcs_live_denoise.sinks import TiledDestination

    tiled = TiledDestination(settings)
    try:
        sink = tiled.sink(run, path=path, access_tags=access_tags)
        tiled.probe()
        status, end = Status(), None
        for record in run.records():
            if isinstance(record, RunEnd):
                end = record
            else:
                sink.write(record)
                status = record.status
        if end is None:
            died = DIED.format(uid=run.info.uid)
            sink.finish(
                RunEnd(
                    raw_exit_status="unknown",
                    analysis_exit_status="abort",
                    reason=died,
                    status=append_note(status, died),
                )
            )
        else:
            sink.finish(end)
    finally:
        tiled.close()
    note = "" if end else ", without an end: its process died"
    place = (run.path if path is None else path).strip("/")
    return f"Run {run.info.uid}: delivered as {place}/{run.uid}{note}."
