"""`reprocess`: a beamtime computed again, one task a run, and what changed."""

from __future__ import annotations

import functools
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xpcs_live_denoise.errors import InvalidInputError, XpcsError, text_of

from .dask_workers import TaskLostError, do_tasks
from .output import check_output, write_text
from .recompute import raw_path_of
from .reprocess_report import write_report
from .reprocess_run import Outcome, State, Task, reprocess_run, warmed_up

if TYPE_CHECKING:
    from xpcs_live_denoise.catalog import Node
    from xpcs_live_denoise.config import Settings
    from xpcs_live_denoise.readers import RawRun

GOOD = (State.DONE, State.SKIPPED, State.TAKEN)
COLOURS = {State.FAILED: "red", State.PENDING: "yellow", State.TAKEN: "yellow"}
MOST_ROIS_SHOWN = 3


def reprocess(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN]...", help="Uids, their first letters, or scan_ids."),
    ] = None,
    *,
    config: Annotated[Path, typer.Option(help="The settings, YAML.")] = Path("xpcs.yml"),
    since: Annotated[
        str | None, typer.Option(metavar="DATE", help="Runs from then on: 2026-11-20[T14:00].")
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="DATE", help="Runs before then; a day includes it.")
    ] = None,
    sample: Annotated[str | None, typer.Option(help="Runs of this sample.")] = None,
    scan_ids: Annotated[
        str | None, typer.Option(metavar="N-M", help="Ranges of scan_ids: 100-200,205.")
    ] = None,
    skip_done: Annotated[
        bool,
        typer.Option("--skip-done", help="Leave runs that have a result with the same settings."),
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes of one thread (dask) on this machine.")
    ] = None,
    dask: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="A Dask scheduler: tcp://host:8786.")
    ] = None,
    status: Annotated[
        Path | None, typer.Option(help="A .json file that says where each run stands.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            help="A .csv file of what changed, one row a run and ROI; a page with plots (.html) is "
            "written beside it."
        ),
    ] = None,
) -> None:
    """Compute stored runs again with other settings, and tell what changed.

    Exit status: 0 all good, 1 some failed or are still to be done, 2 a mistake in the command.
    """
    by_query = any(given is not None for given in (since, until, sample, scan_ids))
    if bool(runs) == by_query:
        raise typer.BadParameter(
            "expected the names of runs, or some of --since, --until, --sample and --scan-ids "
            f"(got {'both' if runs else 'neither'})."
        )
    if workers is not None and dask is not None:
        raise typer.BadParameter("expected --workers or --dask, not both.")
    first, last, ranges = _wanted(since, until, scan_ids)
    settings = _settings(config, status, report)
    selected = _select(settings, runs or (), first, last, sample, ranges)
    began = time.time()
    job = Job(settings, selected, status)
    tasks = [
        Task(
            uid=run.uid,
            scan_id=run.scan_id,
            settings=settings,
            skip_done=skip_done,
            job_began=began,
        )
        for run in selected
    ]
    try:
        run_tasks(job, tasks, workers=workers, scheduler=dask)
    finally:
        if report is not None:
            page = write_report(report, job.outcomes)
            typer.echo(f"Report: {report}{f' and {page}' if page else ''}")
    typer.echo(f"{job.summary}.")
    if not job.is_good:
        raise typer.Exit(1)


def run_tasks(
    job: Job, tasks: Sequence[Task], *, workers: int | None, scheduler: str | None
) -> None:
    """Do all tasks, and let the job note and print each outcome as it comes."""
    warm_up = functools.partial(warmed_up, tasks[0].settings) if tasks else None
    outcomes = do_tasks(reprocess_run, tasks, workers=workers, scheduler=scheduler, warm_up=warm_up)
    for task, outcome in outcomes:
        if isinstance(outcome, TaskLostError):
            job.note(Outcome.of(task, State.PENDING, reason=text_of(outcome)))
        elif isinstance(outcome, Exception):
            job.note(Outcome.of(task, State.FAILED, reason=text_of(outcome)))
        else:
            job.note(outcome)


class Job:
    """Where each run of a job stands, in the terminal and in the status file."""

    def __init__(self, settings: Settings, runs: Sequence[RawRun], status: Path | None) -> None:
        from xpcs_live_denoise.config import settings_hash

        self._began = time.time()
        self._path = status
        self._hash = settings_hash(settings)
        self._of_runs = {
            run.uid: Outcome(uid=run.uid, scan_id=run.scan_id, state=State.PENDING) for run in runs
        }
        self._n_ended = 0
        self._said = False  # that the status file cannot be written
        self._write()

    @property
    def outcomes(self) -> list[Outcome]:
        """What is known of every run, in the order of the selection."""
        return list(self._of_runs.values())

    @property
    def is_good(self) -> bool:
        """Whether no run failed, and none is still to be done."""
        return all(outcome.state in GOOD for outcome in self._of_runs.values())

    @property
    def summary(self) -> str:
        """How many runs are in each state."""
        counts = Counter(outcome.state for outcome in self._of_runs.values())
        words = [f"{counts[state]} {state}" for state in State if counts[state]]
        return f"{len(self._of_runs)} runs: {', '.join(words) or 'nothing to do'}"

    def note(self, outcome: Outcome) -> None:
        """Take what became of a run, and print a line."""
        self._of_runs[outcome.uid] = outcome
        self._n_ended += 1
        self._write()
        which = f"[{self._n_ended}/{len(self._of_runs)}] Run {outcome.uid[:8]}"
        scan = f" (scan {outcome.scan_id})" if outcome.scan_id else ""
        line = f"{which}{scan}: {outcome.state}{_in_words(outcome)}"
        typer.secho(line, fg=COLOURS.get(outcome.state))

    def _write(self) -> None:
        if self._path is None:
            return
        content = {
            "settings_hash": self._hash,
            "began": self._began,
            "updated": time.time(),
            "counts": Counter(str(outcome.state) for outcome in self._of_runs.values()),
            "runs": [outcome.as_json() for outcome in self._of_runs.values()],
        }
        try:
            write_text(self._path, json.dumps(content, indent=1))
        except XpcsError as error:  # runs are stored in Tiled all the same
            if not self._said:
                typer.secho(f"Status: {error} The job goes on.", fg="yellow")
            self._said = True


def _in_words(outcome: Outcome) -> str:
    if outcome.reason:
        return f". {outcome.reason}"
    shown = [
        f"ROI {one.roi} {one.gamma_before:.4g} -> {one.gamma_after:.4g} ({one.in_errors:+.1f})"
        for one in outcome.changes[:MOST_ROIS_SHOWN]
        if one.gamma_before > 0
    ]
    more = ", ..." if len(outcome.changes) > MOST_ROIS_SHOWN else ""
    unit = outcome.changes[0].time_unit if shown else ""
    what = f"; Gamma in 1/{unit} (change in errors): {', '.join(shown)}{more}" if shown else ""
    return f" in {outcome.seconds:.1f} s{what}" if outcome.state is State.DONE else what


# --- what was asked for --------------------------------------------------------------------------


def _settings(config: Path, status: Path | None, report: Path | None) -> Settings:
    """Return the settings; raise typer.BadParameter for what cannot be used."""
    from xpcs_live_denoise.config import Settings

    try:
        # Workers may be elsewhere: no path may depend on where this command was typed.
        settings = Settings.load(config.resolve())
        raw_path_of(settings)
        for path, suffix in ((status, ".json"), (report, ".csv")):
            if path is not None:
                check_output(path, [suffix])
    except InvalidInputError as error:
        raise typer.BadParameter(str(error)) from error
    return settings


def _wanted(
    since: str | None, until: str | None, scan_ids: str | None
) -> tuple[float | None, float | None, list[tuple[int, int]]]:
    """Return times, seconds since 1970, and ranges of scan_ids, read as `runs` reads them."""
    from xpcs_live_denoise.readers import scan_ranges, seconds_of

    try:
        return (
            seconds_of("--since", since),
            seconds_of("--until", until, end_of_day=True),
            [] if scan_ids is None else [*scan_ranges(scan_ids)],
        )
    except InvalidInputError as error:
        raise typer.BadParameter(str(error)) from error


def _select(
    settings: Settings,
    names: Sequence[str],
    since: float | None,
    until: float | None,
    sample: str | None,
    ranges: Sequence[tuple[int, int]],
) -> list[RawRun]:
    """Return the runs that are meant, each once."""
    from xpcs_live_denoise.catalog import connect
    from xpcs_live_denoise.readers import select_raw_runs

    client = connect(settings.tiled)
    try:
        if names:
            return _named(settings, client, names)
        found = select_raw_runs(
            client,
            raw_path=settings.tiled.raw_path or "",
            detector=settings.detector,
            since=since,
            until=until,
            sample=sample,
            scan_ids=ranges,
        )
        if not found:
            typer.secho("No run fits what was asked for.", fg="yellow")
        return found
    finally:
        client.context.close()


def _named(settings: Settings, client: Node, names: Sequence[str]) -> list[RawRun]:
    from xpcs_live_denoise.catalog import raw_container, run_node
    from xpcs_live_denoise.readers import RawRun, find_raw_run

    raw_path, path = settings.tiled.raw_path or "", settings.tiled.path
    found: dict[str, RawRun] = {}
    for name in names:
        try:
            uid, note = find_raw_run(client, name, raw_path=raw_path, path=path)
        except XpcsError:  # its task says why; the others go on
            found[name] = RawRun(uid=name)
            continue
        if note:
            typer.secho(note, fg="yellow")
        start = run_node(raw_container(client, raw_path), uid).metadata["start"]
        found[uid] = RawRun.from_start(start, of_result=False)
    return list(found.values())
