"""`serve`: the analysis in a process of its own, of runs of other processes, until it is ended."""

from __future__ import annotations

import contextlib
import math
import queue
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xpcs_live_denoise.errors import (
    InvalidInputError,
    MissingDependencyError,
    TiledUnavailableError,
    install_line,
)

from .metrics import MetricsHost, MetricsPort, tell_metrics
from .output import check_output
from .preflight import tell_findings

if TYPE_CHECKING:
    from xpcs_live_denoise.catalog import Node
    from xpcs_live_denoise.config import Settings
    from xpcs_live_denoise.live import LiveDenoise
    from xpcs_live_denoise.records.run import Status
    from xpcs_live_denoise.sources import RemoteDocuments, TiledRuns

LINE_EVERY_S = 5.0  # how often a run that goes on gets a line
TICK_S = 0.5
CONNECT_S = 2.0  # connecting takes less where somebody answers
# Results that wait for Tiled are in the spool: ending need not wait for it.
CLOSE_S = 20.0
LOOPBACK = ("127.0.0.1", "localhost", "[::1]", "ipc://")


def serve(
    config: Annotated[Path, typer.Option(help="The settings, YAML.")] = Path("xpcs.yml"),
    documents: Annotated[
        str | None,
        typer.Option(help="Documents over 0MQ: tcp://host:port of the proxy's output."),
    ] = None,
    bind: Annotated[
        bool, typer.Option("--bind", help="Listen there for publishers; needs no proxy.")
    ] = False,
    prefix: Annotated[str, typer.Option(help="Only documents of publishers that have it.")] = "",
    tiled: Annotated[
        bool, typer.Option("--tiled", help="Follow the raw runs in Tiled (tiled.raw_path).")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Show the newest run in this .png, while it goes on.")
    ] = None,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = "127.0.0.1",
) -> None:
    """Analyse runs of other processes, in this one, until Ctrl-C."""
    from xpcs_live_denoise.catalog import connect
    from xpcs_live_denoise.config import Settings
    from xpcs_live_denoise.live import LiveDenoise, serve_metrics
    from xpcs_live_denoise.sources import open_flat_field, open_rois, roi_choices

    if plot is not None:
        check_output(plot, (".png",))
    settings = Settings.load(config)
    _check(settings, documents, tiled)
    # Better now than in the first run, at night.
    for each in roi_choices(settings):
        _, _, note = open_flat_field(each, open_rois(each, None))
        if note:
            typer.echo(note, err=True)
    _check_server(settings, followed=tiled)
    with contextlib.ExitStack() as stack:
        client = None
        if tiled:
            client = connect(settings.tiled)
            stack.callback(client.context.close)
        live = LiveDenoise(
            settings,
            raw=client,
            plot=plot or False,
            report=typer.echo,
            analysed_by="serve",
        )
        ended = stack.enter_context(_signals())
        if documents is None:
            source = _follow(settings, live, client)
        else:
            source = listen(documents, live, bind=bind, prefix=prefix)
        if metrics_port is not None:
            metrics = serve_metrics(
                live, port=metrics_port, host=metrics_host, waits_for=lambda: source.waits_for
            )
            stack.callback(metrics.close)
            tell_metrics(metrics)
        stored = analyse_until(ended, source, live)
    if not stored:
        raise typer.Exit(1)


def analyse_until(
    ended: queue.SimpleQueue[None],
    source: RemoteDocuments | TiledRuns,
    live: LiveDenoise,
    *,
    close_s: float = CLOSE_S,
) -> bool:
    """Print where the runs stand until there is something in `ended`; then store what is there.

    The source is stopped and `live` closed, which may take `close_s`. False if results could not
    be stored in that time; they are in the spool then.
    """
    live.prepare()  # not before: what cannot be started must not wait for imports
    # A line that a program which started us can wait for.
    typer.echo("Ready. Ctrl-C ends it.")
    shown: dict[str, tuple[float, str]] = {}
    waits_for, began = "", time.monotonic()
    try:
        while True:
            with contextlib.suppress(queue.Empty):
                ended.get(timeout=TICK_S)
                break
            if source.waits_for != waits_for and time.monotonic() - began > CONNECT_S:
                waits_for = source.waits_for
                typer.echo(waits_for or "Connected.")
            show_status(live.status, shown)
    finally:
        source.stop()
    typer.echo("Ending: storing what is there ...")
    stored = live.close(close_s)
    show_status(live.status, shown, every_s=0.0)
    if not stored:
        typer.secho(
            "Not everything could be stored in time. What is in the spool is stored by "
            "`xpcs-live-denoise deliver --config xpcs.yml`, runs that were under way by "
            "`xpcs-live-denoise replay UID --config xpcs.yml`.",
            fg="yellow",
        )
    return stored


def _check(settings: Settings, documents: str | None, tiled: bool) -> None:
    if settings.file_roots is None:
        raise InvalidInputError(
            "Setting file_roots: not set; expected the folders below which the detectors write. "
            "Documents of other processes name files, and only those below these folders are read."
        )
    if missing := [str(root) for root in settings.file_roots if not root.expanduser().is_dir()]:
        raise InvalidInputError(
            f"Setting file_roots: got {', '.join(missing)}; expected folders that are there, on "
            "this machine. Correct the path, or mount it before."
        )
    if documents is None and not tiled:
        raise InvalidInputError(
            "Nothing to serve: expected --documents tcp://host:port, or --tiled."
        )
    if documents is not None and tiled:
        raise InvalidInputError(
            "Got --documents and --tiled: a run that comes both ways would be counted twice; "
            "expected one of them. Start a second `serve` for other runs."
        )
    if tiled and not settings.tiled.raw_path:
        raise InvalidInputError(
            "Setting tiled.raw_path: not set; expected the container with the raw runs to follow."
        )


def _check_server(settings: Settings, *, followed: bool) -> None:
    """Raise if results cannot be stored, unless only the server is away and is not followed.

    What else will not work is said; results wait in the spool then.
    """
    from xpcs_live_denoise.sinks import TiledDestination

    tiled = TiledDestination(settings)
    try:
        tiled.check()
        tell_findings(settings, tiled)
    except TiledUnavailableError as error:
        if followed:
            raise
        typer.secho(f"{error} Key and container could not be checked.", fg="yellow")
        tell_findings(settings, None)
    finally:
        tiled.close()


def _follow(settings: Settings, live: LiveDenoise, client: Node) -> TiledRuns:
    from xpcs_live_denoise.catalog import raw_container
    from xpcs_live_denoise.sources import FileRoots, TiledRuns

    path = settings.tiled.raw_path or ""
    runs = TiledRuns(
        raw_container(client, path),
        live,
        detector=settings.detector,
        data_key=settings.data_key,
        stream=settings.stream,
        roots=FileRoots(settings.file_roots),
    ).start()
    typer.echo(f"Following the runs in {settings.tiled.uri}, container {path}.")
    return runs


def listen(
    address: str, live: LiveDenoise, *, bind: bool = False, prefix: str = ""
) -> RemoteDocuments:
    """Start to take documents from publishers, and say where.

    `address` is the proxy's, or with `bind` the one to listen at: "tcp://host:port". Only
    publishers with `prefix` are heard.
    """
    try:
        from xpcs_live_denoise.sources import RemoteDocuments
    except ImportError as error:
        raise MissingDependencyError(
            f"Documents over 0MQ: {error.name} is not installed. It needs the extra `remote`: "
            f"{install_line('remote')}."
        ) from error
    remote = RemoteDocuments(address, live, prefix=prefix.encode(), bind=bind).start()
    how = "Listening for publishers at" if bind else "Taking documents from"
    typer.echo(f"{how} {remote.address}.")
    if bind and not any(name in remote.address for name in LOOPBACK):
        typer.secho(
            "Whoever reaches this port can have runs analysed and the files below file_roots "
            "read. Keep it inside the beamline's network.",
            fg="yellow",
        )
    return remote


@contextlib.contextmanager
def _signals() -> Iterator[queue.SimpleQueue[None]]:
    """Give a queue that Ctrl-C and SIGTERM put into; afterwards they do what they did before."""
    # No `threading.Event`: a signal may interrupt one that holds its own lock.
    ended: queue.SimpleQueue[None] = queue.SimpleQueue()
    before = {
        number: signal.signal(number, lambda *_: ended.put(None))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def show_status(
    runs: Mapping[str, Status],
    shown: dict[str, tuple[float, str]],
    *,
    every_s: float = LINE_EVERY_S,
) -> None:
    """Print where each run stands: lines that have changed, of each run at most every `every_s` s.

    `shown` holds the time and the text of the last line of each run, and is kept up to date.
    """
    now = time.monotonic()
    for uid, status in runs.items():
        line = status_line(uid, status)
        when, before = shown.get(uid, (-math.inf, ""))
        if line != before and now - when >= every_s:
            shown[uid] = (now, line)
            typer.echo(line)
    for uid in [uid for uid in shown if uid not in runs]:
        del shown[uid]


def status_line(uid: str, status: Status) -> str:
    """Return one line on a run."""
    skipped = f", {status.n_skipped} skipped" if status.n_skipped else ""
    message = f". {status.message}" if status.message else ""
    return (
        f"Run {uid[:8]}: {status.n_processed} of {status.n_seen} frames{skipped}, "
        f"lag {status.lag_s:.2f} s{message}"
    )
