"""`replay`: stored runs through the live pipeline again, and compared with what was there."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from xpcs_live_denoise.errors import InvalidInputError, XpcsError, text_of

from .progress import Steps
from .recompute import best_result, raw_path_of, recompute, stored_documents

if TYPE_CHECKING:
    from rich.table import Table

    from xpcs_live_denoise.catalog import Node
    from xpcs_live_denoise.config import Settings
    from xpcs_live_denoise.live import LiveDenoise, Timings
    from xpcs_live_denoise.numerics.rois import RoiMap
    from xpcs_live_denoise.readers import XPCSResult
    from xpcs_live_denoise.records.types import FloatArray

KEYS = ["roi", "age_frame", "source", "width"]
UNFINISHED = "unfinished"
BAND_ROWS = 20_000  # frames of the band that are compared at a time
LOOK_S = 0.5  # how often a wait looks for what the server says

Differences: TypeAlias = dict[str, float]  # see `compare`


def replay(
    uids: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Uids, their first letters, or scan_ids.")
    ],
    config: Annotated[Path, typer.Option(help="The settings, YAML.")] = Path("xpcs.yml"),
    *,
    series: Annotated[
        list[str] | None,
        typer.Option(
            help="Of a run of an Eiger: the sequence id of its series, or the path of the master "
            "file, where nothing stored tells (an aborted run). Once for each event."
        ),
    ] = None,
) -> None:
    """Compute stored runs again, and compare with their earlier results."""
    from xpcs_live_denoise.config import Settings

    replay_runs(Settings.load(config), uids, series=series or ())


def replay_runs(
    settings: Settings,
    uids: Sequence[str],
    *,
    series: Sequence[str] = (),
    rois: RoiMap | None = None,
    timeout: float | None = None,
    timings: Timings | None = None,
) -> dict[str, Differences | None]:
    """Analyse stored runs again; each becomes a new derived run, and is printed as a table.

    A run that fails gets one line and holds up none after it; the error comes at the end, of a
    single run at once. Frames are read from the files where they are readable here (below
    `settings.file_roots`), else by slices from Tiled. `series` names those of the one run, by
    sequence ids or paths of master files, where nothing stored tells them. `timeout` is the longest
    wait for the end of a run, s; without `timings` Tiled's client asks a server again that is away.
    Returned, by uid, is how it differs from the newest earlier result, as `compare` says, None
    without one.
    """
    from xpcs_live_denoise.catalog import connect

    raw_path_of(settings)
    if series and len(uids) != 1:
        raise InvalidInputError(
            f"--series: got {len(uids)} runs; expected one, whose series they are. Replay the "
            "others by themselves."
        )
    client = connect(settings.tiled, request_s=None if timings is None else timings.request_s)
    comparisons: dict[str, Differences | None] = {}
    failed: list[str] = []
    try:
        for uid in uids:
            try:
                comparisons[uid] = _replay_one(
                    settings, uid, client, series, rois, timeout, timings
                )
            except Exception as error:  # of this run: the next one may go well
                if len(uids) == 1:
                    raise
                failed.append(uid)
                typer.secho(
                    f"Run {uid}: failed ({type(error).__name__}: {text_of(error)})", fg="red"
                )
    finally:
        client.context.close()
    if failed:
        raise XpcsError(
            f"{len(failed)} of {len(uids)} runs were not replayed: {', '.join(failed)}. "
            "The lines above say why; the others are stored."
        )
    return comparisons


def compare(new: XPCSResult, earlier: XPCSResult) -> Differences:
    """Return how two results of one run differ.

    Returns
    -------
    dict
        `n_compared`: frames whose C2 both have. `c2_difference`: largest |dC2| where both have a
        number, NaN where nowhere: of their maps where those have the same bins, and of their bands
        where a map averages several frames. `n_one_sided`: elements of these that are a number in
        one of them only. `n_rates`: recommended rows that both have. `rate_difference`: largest
        |dGamma| / Gamma of them, NaN without any.
    """
    import numpy as np

    n_compared = min(new.n_frames, earlier.n_frames)
    difference, n_one_sided = -math.inf, 0
    for roi in sorted({*new.xpcs["roi"]} & {*earlier.xpcs["roi"]}) if n_compared else ():
        for ours, theirs in _pairs_of_c2(new, earlier, roi, n_compared):
            both = np.isfinite(ours) & np.isfinite(theirs)
            n_one_sided += int((np.isfinite(ours) != np.isfinite(theirs)).sum())
            difference = max(difference, float(np.abs(ours - theirs)[both].max(initial=-math.inf)))
    n_rates, rate_difference = _compare_rates(new, earlier)
    return {
        "n_compared": n_compared,
        "c2_difference": difference if difference >= 0 else math.nan,
        "n_one_sided": n_one_sided,
        "n_rates": n_rates,
        "rate_difference": rate_difference,
    }


def _pairs_of_c2(
    new: XPCSResult, earlier: XPCSResult, roi: int, n_frames: int
) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Yield what both have of C2 of a ROI over so many frames: parts of one shape."""
    maps = [result.c2(roi, denoised=False) for result in (new, earlier)]
    bins = [int(one.attrs.get("frames_per_bin", 1)) for one in maps]
    if bins[0] == bins[1]:
        # The last bin of the shorter series may hold fewer frames than that of the other.
        same = new.n_frames == earlier.n_frames
        n = -(-n_frames // bins[0]) if same else n_frames // bins[0]
        yield maps[0].values[:n, :n], maps[1].values[:n, :n]
    if max(bins) == 1:
        return  # the band is a part of it
    for start in range(0, n_frames, BAND_ROWS):
        stop = min(start + BAND_ROWS, n_frames)
        bands = [
            result.band(roi, denoised=False, start=start, stop=stop).values
            for result in (new, earlier)
        ]
        n_lags = min(band.shape[1] for band in bands)
        yield bands[0][:, :n_lags], bands[1][:, :n_lags]


def _replay_one(
    settings: Settings,
    uid: str,
    client: Node,
    series: Sequence[str],
    rois: RoiMap | None,
    timeout: float | None,
    timings: Timings | None,
) -> Differences | None:
    from rich import print as print_table

    from xpcs_live_denoise.catalog import refuse_raw_runs, results_path
    from xpcs_live_denoise.live import LiveDenoise, Timings
    from xpcs_live_denoise.readers import find_raw_run, results_of

    timings, raw_path = timings or Timings(), settings.tiled.raw_path or ""
    uid, note = find_raw_run(client, uid, raw_path=raw_path, path=settings.tiled.path)
    if note:
        typer.secho(note, fg="yellow")
    refuse_raw_runs(client, results_path(settings.tiled.path, raw_path), uid)
    earlier = best_result(client, uid, settings)
    documents = stored_documents(settings, client, uid, series=series)
    live = LiveDenoise(
        settings,
        rois=rois,
        catalog=client,
        raw=client,
        timings=timings,
        report=None,
        analysed_by="replay",
    )
    typer.echo(f"Run {uid}: computing ...")
    stored, status = recompute(
        live, documents, settings, lambda: _wait(live, uid, timeout), timeout, timings
    )
    new = next(iter(results_of(client, uid, settings.data_key, path=settings.tiled.path)), None)
    if not stored or new is None or (earlier is not None and _uid(new) == _uid(earlier)):
        raise XpcsError(f"Run {uid}: no new result was stored. {status.message}")
    if status.message:
        typer.secho(status.message, fg="yellow")
    comparison = None if earlier is None else compare(new, earlier)
    print_table(_table(new, earlier, comparison))
    _raise_if_failed(uid, new, earlier, settings.tiled.path)
    return comparison


def _wait(live: LiveDenoise, uid: str, timeout: float | None) -> bool:
    """Wait until the run is stored, and tell each reason why it is not; False after `timeout` s."""
    end = math.inf if timeout is None else time.monotonic() + timeout
    with Steps(f"Run {uid[:8]}", "frames") as steps:
        return _wait_until(live, uid, end, steps)


def _wait_until(live: LiveDenoise, uid: str, end: float, steps: Steps) -> bool:
    from xpcs_live_denoise.records.run import Delivery, DeliveryState

    reported = ""
    while not live.wait(min(LOOK_S, max(0.0, end - time.monotonic()))):
        if (status := live.status.get(uid)) is not None:
            done, total = status.n_processed + status.n_skipped, status.n_seen
            steps.show(done, total, "; fits of the whole series follow" if done == total else "")
        delivery = live.delivery.get(uid, Delivery())
        if delivery.state is DeliveryState.REFUSED:
            raise InvalidInputError(f"Run {uid}: its result cannot be stored. {delivery.reason}")
        if delivery.reason and delivery.reason != reported:
            reported = delivery.reason
            typer.secho(
                f"The server does not take the result: {reported} Trying again, Ctrl-C ends it.",
                fg="yellow",
            )
        if time.monotonic() >= end:
            return False
    return True


def _raise_if_failed(uid: str, new: XPCSResult, earlier: XPCSResult | None, path: str) -> None:
    """Raise if the new analysis failed, and tell where the earlier result is."""
    if _ended(new, "analysis_exit_status") == "success":
        return
    kept = ""
    if earlier is not None and _ended(earlier, "exit_status") == "success":
        kept = (
            " The earlier result is the one that results() finds, "
            f'catalog["{path.strip("/")}"]["{_uid(earlier)}"].'
        )
    raise XpcsError(
        f"Run {uid}: its analysis failed, and {_uid(new)} is what there is of it. "
        f"{_ended(new, 'reason')}{kept}"
    )


def _uid(result: XPCSResult) -> str:
    return result.start["uid"]


def _gaps(result: XPCSResult) -> int:
    table = result.status_table()
    return int(table["n_skipped"].iloc[-1]) if len(table) else 0


def _ended(result: XPCSResult, name: str = "exit_status") -> str:
    metadata: Any = result.metadata
    return (metadata.get("stop") or {}).get(name, UNFINISHED)


def _compare_rates(new: XPCSResult, earlier: XPCSResult) -> tuple[int, float]:
    """Return how many recommended rows both have, and their largest relative difference."""
    tables = [result.gamma_table() for result in (new, earlier)]
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


def _table(new: XPCSResult, earlier: XPCSResult | None, differences: Differences | None) -> Table:
    from rich.table import Table

    table = Table(title=f"Run {new.start['original_run_uid']}", title_justify="left")
    table.add_column("")
    table.add_column("new", justify="right")
    table.add_column("earlier" if differences else "earlier (none)", justify="right")
    for name, of in (
        ("derived run", _uid),
        ("frames", lambda result: result.n_frames),
        ("gaps", _gaps),
        ("exit status", _ended),
    ):
        table.add_row(name, str(of(new)), "-" if earlier is None else str(of(earlier)))
    if differences is None:
        return table
    table.add_section()
    c2 = f"max |dC2| over {differences['n_compared']} frames"
    table.add_row(c2, f"{differences['c2_difference']:.3g}", "")
    table.add_row("numbers of C2 in one only", str(differences["n_one_sided"]), "")
    rates = f"max |dGamma| / Gamma of {differences['n_rates']} recommended rows"
    table.add_row(rates, f"{differences['rate_difference']:.3g}", "")
    return table
