"""Computes stored runs again through the live pipeline, and compares with what was there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from .callback import LiveDenoise
from .config import Settings
from .errors import InvalidInputError, ResultNotFoundError, XpcsError, text_of
from .readers.client import results
from .sinks.tiled_connection import connect
from .sources.file_roots import FileRoots
from .sources.tiled_documents import TiledDocuments, raw_container

if TYPE_CHECKING:
    from .numerics.rois import RoiMap
    from .readers.client import XPCSResult

KEYS = ["roi", "age_frame", "source", "width"]
UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How a new result differs from an earlier one of the same run.

    Attributes
    ----------
    n_frames, n_gaps, exit_status
        Of the new result and of the earlier one.
    n_compared
        Frames whose C2 both have.
    c2_difference
        Largest |dC2| where both have a number, NaN where nowhere.
    n_one_sided
        Elements of C2 that are a number in one of them only.
    n_rates
        Recommended rows that both have.
    rate_difference
        Largest |dGamma| / Gamma of them, NaN without any.
    """

    n_frames: tuple[int, int]
    n_gaps: tuple[int, int]
    exit_status: tuple[str, str]
    n_compared: int
    c2_difference: float
    n_one_sided: int
    n_rates: int
    rate_difference: float


def replay(
    settings: Settings,
    uids: Sequence[str],
    console: Console,
    *,
    rois: RoiMap | None = None,
    timeout: float | None = None,
) -> dict[str, Comparison | None]:
    """Analyse stored runs again; each becomes a new derived run.

    A run that fails gets one line and holds up none after it. Frames are read from the files where
    they are readable here (below `settings.file_roots`), else by slices from Tiled.

    Parameters
    ----------
    settings
        `tiled.raw_path` says where the raw runs are.
    uids
        Of the raw runs.
    console
        Where the tables go.
    rois
        The ROI map, instead of the file that `settings.rois` names.
    timeout
        Longest wait for the end of a run, s; None waits as long as it takes.

    Returns
    -------
    dict
        By uid: the comparison with the newest earlier result, None where there was none.

    Raises
    ------
    InvalidInputError
        Without `tiled.raw_path`.
    XpcsError
        When a run failed, after all were tried: it is not there (ResultNotFoundError, of a single
        run), has no frames of the detector, or its results could not be stored.
    """
    if not settings.tiled.raw_path:
        raise InvalidInputError(
            "Setting tiled.raw_path: not set; expected the container with the raw runs, for "
            'example "raw". Set it, so that they are found.'
        )
    client = connect(settings.tiled)
    comparisons: dict[str, Comparison | None] = {}
    failed: list[str] = []
    try:
        for uid in uids:
            try:
                comparisons[uid] = _replay_one(
                    settings, uid, client, console, rois=rois, timeout=timeout
                )
            except Exception as error:  # of this run: the next one may go well
                if len(uids) == 1:
                    raise
                failed.append(uid)
                line = f"Run {uid}: failed ({type(error).__name__}: {text_of(error)})"
                console.print(line, style="red", markup=False, highlight=False, soft_wrap=True)
    finally:
        client.context.close()
    if failed:
        raise XpcsError(
            f"{len(failed)} of {len(uids)} runs were not replayed: {', '.join(failed)}. "
            "The lines above say why; the others are stored."
        )
    return comparisons


def compare(new: XPCSResult, earlier: XPCSResult) -> Comparison:
    """Return how two results of one run differ."""
    n_compared = min(new.n_frames, earlier.n_frames)
    difference, n_one_sided = -math.inf, 0
    for roi in sorted({*new.xpcs["roi"]} & {*earlier.xpcs["roi"]}) if n_compared else ():
        ours, theirs = (
            result.c2(roi, denoised=False).values[:n_compared, :n_compared]
            for result in (new, earlier)
        )
        both = np.isfinite(ours) & np.isfinite(theirs)
        n_one_sided += int((np.isfinite(ours) != np.isfinite(theirs)).sum())
        difference = max(difference, float(np.abs(ours - theirs)[both].max(initial=-math.inf)))
    n_rates, rate_difference = _compare_rates(new, earlier)
    return Comparison(
        n_frames=(new.n_frames, earlier.n_frames),
        n_gaps=(_gaps(new), _gaps(earlier)),
        exit_status=(_exit_status(new), _exit_status(earlier)),
        n_compared=n_compared,
        c2_difference=difference if difference >= 0 else math.nan,
        n_one_sided=n_one_sided,
        n_rates=n_rates,
        rate_difference=rate_difference,
    )


def _replay_one(
    settings: Settings,
    uid: str,
    client: Any,
    console: Console,
    *,
    rois: RoiMap | None,
    timeout: float | None,
) -> Comparison | None:
    earlier = _newest(client, uid, settings)
    documents = TiledDocuments(
        raw_container(client, settings.tiled.raw_path or ""),
        uid,
        data_key=settings.data_key,
        roots=FileRoots(settings.file_roots),
    )
    live = LiveDenoise(settings, rois=rois, catalog=client, raw=client)
    try:
        console.print(f"Run {uid}: computing ...", highlight=False, markup=False)
        for name, doc in documents.give_up():
            live(name, doc)
        stored = live.wait(timeout)
        status = live.status.get(uid)
    finally:
        live.close(timeout)
    if status is None:
        raise XpcsError(
            f"Run {uid}: has no frames of {settings.data_key!r}; expected a run of the detector "
            f"{settings.detector!r}. Set `detector` or `image_key`."
        )
    new = _newest(client, uid, settings)
    if not stored or new is None or (earlier is not None and _uid(new) == _uid(earlier)):
        raise XpcsError(f"Run {uid}: no new result was stored. {status.message}")
    if status.message:
        console.print(status.message, style="yellow", markup=False, highlight=False)
    comparison = None if earlier is None else compare(new, earlier)
    console.print(_table(new, earlier, comparison))
    return comparison


def _newest(client: Any, uid: str, settings: Settings) -> XPCSResult | None:
    try:
        return results(client, uid, path=settings.tiled.path)
    except ResultNotFoundError:
        return None


def _uid(result: XPCSResult) -> str:
    return result.start["uid"]


def _gaps(result: XPCSResult) -> int:
    table = result.status_table()
    return int(table["n_skipped"].iloc[-1]) if len(table) else 0


def _exit_status(result: XPCSResult) -> str:
    metadata: Any = result.metadata
    return (metadata.get("stop") or {}).get("exit_status", UNFINISHED)


def _compare_rates(new: XPCSResult, earlier: XPCSResult) -> tuple[int, float]:
    """Return how many recommended rows both have, and their largest relative difference."""
    tables: list[Any] = [result.gamma_table() for result in (new, earlier)]
    if any(table.empty for table in tables):
        return 0, math.nan
    chosen = [table.loc[table["recommended"], [*KEYS, "relaxation_rate"]] for table in tables]
    # Fits of the whole series have no age: NaN joins NaN.
    both = chosen[0].merge(chosen[1], on=KEYS, suffixes=("", "_earlier"))
    both = both[both["relaxation_rate_earlier"] > 0]
    if both.empty:
        return 0, math.nan
    ratio = both["relaxation_rate"] / both["relaxation_rate_earlier"]
    return len(both), float((ratio - 1).abs().max())


def _table(new: XPCSResult, earlier: XPCSResult | None, comparison: Comparison | None) -> Table:
    table = Table(title=f"Run {new.start['original_run_uid']}", title_justify="left")
    table.add_column("")
    table.add_column("new", justify="right")
    table.add_column("earlier" if comparison else "earlier (none)", justify="right")
    if comparison is None or earlier is None:
        for name, value in (
            ("derived run", _uid(new)),
            ("frames", new.n_frames),
            ("gaps", _gaps(new)),
            ("exit status", _exit_status(new)),
        ):
            table.add_row(name, str(value), "-")
        return table
    table.add_row("derived run", _uid(new), _uid(earlier))
    for name, values in (
        ("frames", comparison.n_frames),
        ("gaps", comparison.n_gaps),
        ("exit status", comparison.exit_status),
    ):
        table.add_row(name, *map(str, values))
    table.add_section()
    c2 = f"max |dC2| over {comparison.n_compared} frames"
    table.add_row(c2, f"{comparison.c2_difference:.3g}", "")
    table.add_row("numbers of C2 in one only", str(comparison.n_one_sided), "")
    rates = f"max |dGamma| / Gamma of {comparison.n_rates} recommended rows"
    table.add_row(rates, f"{comparison.rate_difference:.3g}", "")
    return table
