"""The analysis in a process of its own: takes documents of other processes until it is ended."""

from __future__ import annotations

import contextlib
import queue
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from xpcs_live_denoise.config import Settings
from xpcs_live_denoise.errors import InvalidInputError, TiledUnavailableError
from xpcs_live_denoise.live import LiveDenoise
from xpcs_live_denoise.records.run import Status
from xpcs_live_denoise.sources import FileRoots, open_rois

# How often a run that goes on gets a line, s.
LINE_EVERY_S = 5.0
TICK_S = 0.5
# Results that wait for Tiled are in the spool: ending need not wait for it.
CLOSE_S = 20.0
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """What `xpcs-live-denoise serve` was asked for.

    Attributes
    ----------
    documents
        Address that documents come from over 0MQ; None: not from there.
    bind
        Listen at that address, where publishers connect, instead of connecting to a proxy.
    prefix
        Take only documents of publishers with this prefix; "": all.
    tiled
        Follow the raw runs in `settings.tiled.raw_path`; instead of documents.
    plot
        A .png that shows the newest run, written anew every few seconds.
    """

    documents: str | None = None
    bind: bool = False
    prefix: str = ""
    tiled: bool = False
    plot: Path | None = None


class _Source(Protocol):
    def stop(self) -> None: ...


class _Ending(Protocol):
    def wait(self, timeout: float) -> bool: ...


class _Signalled:
    """An event for signal handlers, which may interrupt a `threading.Event` that holds its lock."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[None] = queue.SimpleQueue()

    def set(self) -> None:
        self._calls.put(None)

    def wait(self, timeout: float) -> bool:
        with contextlib.suppress(queue.Empty):
            self._calls.get(timeout=timeout)
            return True
        return False


def serve(
    settings: Settings,
    options: ServeOptions,
    console: Console,
    *,
    ending: _Ending | None = None,
) -> bool:
    """Analyse what comes, until Ctrl-C or SIGTERM; then store what is there.

    Parameters
    ----------
    settings
        `file_roots` must be set: the files that foreign documents name are read.
    options
        Where documents come from.
    console
        Where a line for every run goes, now and then.
    ending
        Ends it when set, instead of signals.

    Returns
    -------
    bool
        False if results could not be stored; they are in the spool then.

    Raises
    ------
    InvalidInputError
        Without `file_roots`, without a source, or when ROIs, address, API key or container cannot
        be used.
    """
    _check(settings, options)
    open_rois(settings, None)  # better now than in the first run, at night
    _check_server(settings, options, console)
    with ExitStack() as stack:
        client = None
        if options.tiled:
            from xpcs_live_denoise.catalog import connect

            client = connect(settings.tiled)
            stack.callback(client.context.close)
        live = LiveDenoise(settings, raw=client, plot=options.plot or False)
        ended = ending or stack.enter_context(_until_signal())
        sources = _start_sources(settings, options, live, client, console)
        live.prepare()  # not before: what cannot be started must not wait for imports
        # A line that a program which started us can wait for.
        console.print("Ready. Ctrl-C ends it.", highlight=False)
        lines = StatusLines(console)
        try:
            while not ended.wait(TICK_S):
                lines.show(live.status)
        finally:
            for source in sources:
                source.stop()
        console.print("Ending: storing what is there ...", highlight=False)
        closed = live.close(CLOSE_S)
        lines.show(live.status, last=True)
    if not closed:
        console.print(
            "Not everything could be stored in time. What is in the spool is stored by "
            "`xpcs-live-denoise deliver --config xpcs.yml`, runs that were under way by "
            "`xpcs-live-denoise replay UID --config xpcs.yml`.",
            style="yellow",
            soft_wrap=True,
        )
    return closed


def _check(settings: Settings, options: ServeOptions) -> None:
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
    if options.documents is None and not options.tiled:
        raise InvalidInputError(
            "Nothing to serve: expected --documents tcp://host:port, or --tiled."
        )
    if options.documents is not None and options.tiled:
        raise InvalidInputError(
            "Got --documents and --tiled: a run that comes both ways would be counted twice; "
            "expected one of them. Start a second `serve` for other runs."
        )
    if options.tiled and not settings.tiled.raw_path:
        raise InvalidInputError(
            "Setting tiled.raw_path: not set; expected the container with the raw runs to follow."
        )


def _check_server(settings: Settings, options: ServeOptions, console: Console) -> None:
    """Raise if results cannot be stored, unless only the server is away and is not followed."""
    from xpcs_live_denoise.sinks import TiledDestination

    tiled = TiledDestination(settings)
    try:
        tiled.check()
    except TiledUnavailableError as error:
        if options.tiled:
            raise
        line = f"{error} Key and container could not be checked."
        console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)
    finally:
        tiled.close()


def _start_sources(
    settings: Settings, options: ServeOptions, live: LiveDenoise, client: Any, console: Console
) -> list[_Source]:
    sources: list[_Source] = []
    if options.documents is not None:
        sources.append(_start_remote(options, live, console))
    if options.tiled:
        from xpcs_live_denoise.sources import TiledRuns, raw_container

        path = settings.tiled.raw_path or ""
        sources.append(
            TiledRuns(
                raw_container(client, path),
                live,
                detector=settings.detector,
                data_key=settings.data_key,
                roots=FileRoots(settings.file_roots),
            ).start()
        )
        where = f"Following the runs in {settings.tiled.uri}, container {path}."
        console.print(where, markup=False, soft_wrap=True)
    return sources


def _start_remote(options: ServeOptions, live: LiveDenoise, console: Console) -> _Source:
    try:
        from xpcs_live_denoise.sources import RemoteDocuments
    except ImportError as error:
        from xpcs_live_denoise.errors import MissingDependencyError

        raise MissingDependencyError(
            f"Documents over 0MQ: {error.name} is not installed. It needs the extra `remote`: "
            "pip install 'xpcs-live-denoise[remote]'."
        ) from error
    remote = RemoteDocuments(
        options.documents or "", live, prefix=options.prefix.encode(), bind=options.bind
    ).start()
    how = "Listening for publishers at" if options.bind else "Taking documents from"
    console.print(f"{how} {remote.address}.", highlight=False)
    if options.bind and not any(name in remote.address for name in (*LOOPBACK, "ipc://")):
        console.print(
            "Whoever reaches this port can have runs analysed and the files below file_roots "
            "read. Keep it inside the beamline's network.",
            style="yellow",
            soft_wrap=True,
        )
    return remote


@contextlib.contextmanager
def _until_signal() -> Iterator[_Ending]:
    """Give an event that Ctrl-C and SIGTERM set; afterwards they do what they did before."""
    ended = _Signalled()
    before = {
        number: signal.signal(number, lambda *_: ended.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StatusLines:
    """Prints where each run stands: when it begins, every LINE_EVERY_S, and when it has ended.

    Parameters
    ----------
    console
        Where to print.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown: dict[str, tuple[float, str]] = {}

    def show(self, runs: Any, *, last: bool = False) -> None:
        """Print the lines that are due.

        Parameters
        ----------
        runs
            `LiveDenoise.status`.
        last
            Print every line that has changed.
        """
        now = time.monotonic()
        for uid, status in runs.items():
            line = status_line(uid, status)
            when, shown = self._shown.get(uid, (-LINE_EVERY_S, ""))
            if line == shown or (now - when < LINE_EVERY_S and not last):
                continue
            self._shown[uid] = (now, line)
            self._console.print(line, soft_wrap=True, highlight=False, markup=False)
        for uid in [uid for uid in self._shown if uid not in runs]:
            del self._shown[uid]


def status_line(uid: str, status: Status) -> str:
    """Return one line on a run."""
    skipped = f", {status.n_skipped} skipped" if status.n_skipped else ""
    message = f". {status.message}" if status.message else ""
    return (
        f"Run {uid[:8]}: {status.n_processed} of {status.n_seen} frames{skipped}, "
        f"lag {status.lag_s:.2f} s{message}"
    )
