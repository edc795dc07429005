"""One stored run through the live pipeline again: what `replay` and `reprocess` have in common."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xpcs_live_denoise.errors import InvalidInputError, ResultNotFoundError, XpcsError

if TYPE_CHECKING:
    from xpcs_live_denoise.catalog import Node
    from xpcs_live_denoise.config import Settings
    from xpcs_live_denoise.live import LiveDenoise, Timings
    from xpcs_live_denoise.readers import XPCSResult
    from xpcs_live_denoise.records.run import Status
    from xpcs_live_denoise.records.types import Fields
    from xpcs_live_denoise.sources import FileRoots, TiledDocuments


def raw_path_of(settings: Settings) -> str:
    """Return the container of the raw runs; raises InvalidInputError where none is set."""
    if not settings.tiled.raw_path:
        raise InvalidInputError(
            "Setting tiled.raw_path: not set; expected the container with the raw runs, for "
            'example "raw". Set it, so that they are found.'
        )
    return settings.tiled.raw_path


def best_result(client: Node, uid: str, settings: Settings) -> XPCSResult | None:
    """Return the result of a run that `results` takes of several, None without any."""
    from xpcs_live_denoise.readers import results

    try:
        return results(client, uid, detector=settings.data_key, path=settings.tiled.path)
    except ResultNotFoundError:
        return None


def stored_documents(
    settings: Settings, client: Node, uid: str, *, series: Sequence[str] = ()
) -> TiledDocuments:
    """Return the documents of a run in `settings.tiled.raw_path`; `series` are those of `replay`.

    Raises XpcsError for a run that ended before its first event, unless its series are named.
    """
    from xpcs_live_denoise.catalog import raw_container, run_node
    from xpcs_live_denoise.sources import ChosenSeries, FileRoots, TiledDocuments

    container = raw_container(client, settings.tiled.raw_path or "")
    roots = FileRoots(settings.file_roots)
    run = run_node(container, uid).metadata
    chosen = ChosenSeries(
        names=tuple(series), detector=settings.detector, folders=_folders(settings, run["start"])
    )
    documents = TiledDocuments(
        container,
        uid,
        data_key=settings.data_key,
        roots=roots,
        stream=settings.stream,
        chosen=chosen if series else None,
    )
    detectors = run["start"].get("detectors") or ()
    if not series and settings.detector in detectors and documents.ended_before_frames:
        raise XpcsError(_which_series(uid, run, chosen.folders, roots))
    return documents


def recompute(
    live: LiveDenoise,
    documents: TiledDocuments,
    settings: Settings,
    wait: Callable[[], bool],
    timeout: float | None,
    timings: Timings,
) -> tuple[bool, Status]:
    """Analyse a stored run; return whether its result was delivered, and the last status.

    `wait` waits for the delivery and says whether it came in time. `live` is closed.

    Raises XpcsError for a run without frames of the detector.
    """
    stored = False
    try:
        for name, doc in documents.give_up():
            live(name, doc)
        stored = wait()
        status = live.status.get(documents.uid)
    finally:
        # After Ctrl-C or a refusal what waits is in the spool, and the rest is computed again.
        live.close(timeout if stored else timings.close_s)
    if status is None:
        raise XpcsError(
            f"Run {documents.uid}: has no frames of {settings.data_key!r}; expected a run of the "
            f"detector {settings.detector!r}. Set `detector` or `image_key`."
        )
    return stored, status


def _folders(settings: Settings, start: Fields) -> tuple[Path, ...]:
    """Return where the files of a run may lie of which no document names any."""
    began = datetime.datetime.fromtimestamp(float(start["time"])).astimezone()
    written = [] if settings.follow is None else [began.strftime(settings.follow.folder)]
    written += [start["data path"]] if isinstance(start.get("data path"), str) else []
    folders = (*written, *(settings.file_roots or ()))
    return tuple(Path(folder).expanduser() for folder in folders)


def _which_series(uid: str, run: Fields, folders: Sequence[Path], roots: FileRoots) -> str:
    """Return what to say of a run that ended before an event named its series."""
    from xpcs_live_denoise.sources import listed_series, series_during

    status = (run.get("stop") or {}).get("exit_status")
    found = listed_series(series_during(folders, run, roots), roots)
    looked = ", ".join(map(str, folders)) or "no folder: neither `follow` nor `file_roots` is set"
    command = f"xpcs-live-denoise replay {uid} --series"
    which = f"No series of its time was found (in {looked}). Name its master file: {command} PATH"
    if found:
        which = (
            f"Meanwhile these were taken: {found}. Name the right one by its number: {command} N"
        )
    return (
        f"Run {uid}: it ended ({status}) before an event with frames came, and nothing that is "
        f"stored names its series. {which}"
    )
