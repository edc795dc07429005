"""Delivers what lies in the spool: results that sessions could not store while Tiled was away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from xpcs_live_denoise.analysis import append_note
from xpcs_live_denoise.catalog import results_path
from xpcs_live_denoise.config import Settings
from xpcs_live_denoise.errors import SpoolInUseError
from xpcs_live_denoise.records.run import RunEnd, Status
from xpcs_live_denoise.sinks import Spool, TiledDestination, default_folder, spooled_folders

DIED = (
    "The process that analysed the run ended before the run did: what it had published is here. "
    "xpcs-live-denoise replay {uid} --config xpcs.yml computes the whole run."
)


def deliver(
    settings: Settings,
    *,
    spool: Path | None = None,
    path: str | None = None,
    tell: Callable[[str], None] = print,
) -> bool:
    """Deliver every spooled run to the server of the settings, and remove it from the disk.

    A run is delivered into the derived run that its session began, with nothing twice; one whose
    process died ends there as aborted.

    Parameters
    ----------
    settings
        The server and its key. The container and the access tags are those of the run's own time.
    spool
        Folder of the spool. Default: `settings.spool`, else the user's.
    path
        Container that every run goes to, instead of its own; for runs whose own does not do.
    tell
        Takes one line a run.

    Returns
    -------
    bool
        Whether nothing is left but what running sessions will deliver themselves.

    Raises
    ------
    InvalidInputError
        When `path` is empty.
    """
    if path is not None:
        results_path(path, None)
    root = spool or settings.spool or default_folder()
    folders = spooled_folders(root)
    if not folders:
        tell(f"Nothing to deliver in {root}.")
    delivered = [_deliver(folder, settings, path, tell) for folder in folders]
    return all(delivered)


def _deliver(
    folder: Path, settings: Settings, path: str | None, tell: Callable[[str], None]
) -> bool:
    try:
        try:
            run = Spool.open(folder)
        except SpoolInUseError:
            tell(f"{folder.name}: left to the process that has it.")
            return True
        except FileNotFoundError:
            tell(f"{folder.name}: delivered by another process.")
            return True
        with run:
            tell(_write(run, settings, path))
            run.clear()
    except Exception as error:  # the next one may be delivered all the same
        tell(f"{folder.name}: not delivered ({type(error).__name__}: {error})")
        return False
    return True


def _write(run: Spool, settings: Settings, path: str | None) -> str:
    """Write a run to the server; return the line that says so."""
    tiled = TiledDestination(settings)
    try:
        sink = tiled.sink(run, path=path)
        tiled.probe()
        status, end = Status(), None
        for record in run.records():
            if isinstance(record, RunEnd):
                end = record
            else:
                sink.write(record)
                status = record.status
        sink.finish(end or _died(status, run.info.uid))
    finally:
        tiled.close()
    note = "" if end else ", without an end: its process died"
    place = (run.path if path is None else path).strip("/")
    return f"Run {run.info.uid}: delivered as {place}/{run.uid}{note}."


def _died(status: Status, uid: str) -> RunEnd:
    died = DIED.format(uid=uid)
    return RunEnd(
        raw_exit_status="unknown",
        analysis_exit_status="abort",
        reason=died,
        status=append_note(status, died),
    )
