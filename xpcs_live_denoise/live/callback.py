"""LiveDenoise, what a user subscribes to the RunEngine: a source, the worker and the sinks."""

from __future__ import annotations

import atexit
import functools
import logging
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakSet

from xpcs_live_denoise.config import Settings
from xpcs_live_denoise.errors import Once, short_repr, text_of
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.numerics.windows import Denoiser
from xpcs_live_denoise.records.frames import SparseFrames, TiledFrames
from xpcs_live_denoise.records.run import Delivery, Status
from xpcs_live_denoise.records.types import Array, Document
from xpcs_live_denoise.sinks import TiledDestination
from xpcs_live_denoise.sources import DocumentsByRun, FrameReader, read_tiled

from .delivery import DeliveryThread, RunDelivery, what_is_left
from .intake import Device, DocumentIntake, RecentRuns
from .known import KnownRates
from .monitor import LiveMonitor
from .outbox import SinkFactory, Timings
from .run import LiveRun, Session
from .worker import Message, Worker

if TYPE_CHECKING:
    from xpcs_live_denoise.catalog import Node
    from xpcs_live_denoise.window import LivePlot

logger = logging.getLogger(__name__)

# The runs of every LiveDenoise of this process: of several detectors' each sees all runs, and none
# needs to speak of those that another one takes.
_OF_PROCESS: WeakSet[RecentRuns] = WeakSet()
_UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}")


class LiveDenoise:
    """Two-time XPCS with denoising while the detector runs; subscribe it to the RunEngine.

    ``RE.subscribe(LiveDenoise(Settings.load("xpcs.yml")))``

    Runs without frames of the configured detector are ignored. Nothing that goes wrong behind this
    call reaches the RunEngine: it is logged once, counted (`n_faults`) and told by `status`.
    Constructing connects to nothing. One thread computes, and one for each destination delivers
    the results; they start with the first run.

    Parameters
    ----------
    settings
        What to analyse and where results go.
    rois
        The ROI map, instead of the file that `settings.rois` names.
    catalog
        A Tiled client to write to, instead of connecting to `settings.tiled.uri`.
    sinks
        Factories RunInfo -> Sink, instead of Tiled; each is called, and its sinks are written, on a
        thread of its own. One that still fails a minute after the end of a run is given up for
        that run.
    device
        The staged detector: its `read_configuration()` completes what documents say.
    raw
        A Tiled client of the root, to read frames that lie in `settings.tiled.raw_path` there.
    plot
        True shows each run in a window (see `LivePlot`), a path of a .png file writes it there,
        besides the other sinks.
    ensemble
        What denoises, instead of the ensemble that `settings.weights` names.
    timings
        How long to wait for what.
    report
        Called, on a thread, with one line for each run whose result has arrived at the first
        destination: how to read it, or why there is none. None: nobody is told.
    analysed_by
        What results say of who made them: "live", "serve", "replay" ... (see `RunInfo`).
    """

    def __init__(
        self,
        settings: Settings,
        *,
        rois: RoiMap | None = None,
        catalog: Node = None,
        sinks: Sequence[SinkFactory] | None = None,
        device: Device = None,
        raw: Node = None,
        plot: LivePlot | bool | str | Path = False,
        ensemble: Denoiser | None = None,
        timings: Timings | None = None,
        report: Callable[[str], object] | None = print,
        analysed_by: str = "live",
    ) -> None:
        self._session = Session(settings, rois=rois, ensemble=ensemble, analysed_by=analysed_by)
        self._device = device
        self._raw = raw
        self._timings = timings = timings or Timings()
        self._worker = Worker(
            queue_bytes=settings.queue_bytes,
            tick_s=min(timings.tick_s, settings.publish_period_s / 2),
        )
        destinations: list[TiledDestination | SinkFactory] = (
            [TiledDestination(settings, catalog, request_s=timings.request_s)]
            if sinks is None
            else [*sinks]
        )
        if (shown := _open_plot(plot)) is not None:
            destinations.append(shown)
        self._threads = [
            DeliveryThread(destination, timings=timings, worker=self._worker)
            for destination in destinations
        ]
        self._router = DocumentsByRun(self._begin_run)
        self._report = report
        self._runs = RecentRuns()
        _OF_PROCESS.add(self._runs)
        self._log_once = Once()
        atexit.register(self.close)

    def __call__(self, name: str, doc: Document) -> None:
        """Take a document. Returns at once and never raises."""
        try:
            self._router(name, doc)
        except Exception as error:  # the edge where the RunEngine calls us: a raise aborts the scan
            self._worker.counts.add("xpcs_faults_total", label="document")
            self._log(name, error)

    def prepare(self) -> None:
        """Load and connect in the background what the first run would have to wait for.

        Without it the first Gamma(t) of a session comes some seconds later than others: the
        ensemble and its libraries are loaded and Tiled is connected when the first run begins.
        Returns at once; what fails is logged, and tried again by the first run.
        """
        self._worker.submit(self._session, Message())
        for thread in self._threads:
            thread.connect()

    def _log(self, name: str, error: Exception) -> None:
        """Log why a document could not be used, each reason once."""
        reason = f"{type(error).__name__}: {text_of(error)}"
        if not self._log_once.is_news(_UID.sub("", reason)):
            return
        logger.warning(
            "A document %s could not be used (%s); the scan goes on. Documents of a run that "
            "began before LiveDenoise was subscribed cannot be.",
            short_repr(name),
            reason,
        )

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until every run whose stop was received is published.

        Parameters
        ----------
        timeout
            Seconds; None waits as long as it takes.

        Returns
        -------
        bool
            False if something is still under way after `timeout`.
        """
        changed = self._worker.changed
        with changed:
            return changed.wait_for(lambda: not self._runs.unfinished, timeout)

    @property
    def n_faults(self) -> int:
        """Exceptions caught on the RunEngine's thread."""
        return int(self._worker.counts.value("xpcs_faults_total", "document"))

    @property
    def status(self) -> dict[str, Status]:
        """The newest status of each recent run, by the raw run's uid, oldest first."""
        return self._runs.by_uid(lambda run: run.status)

    @property
    def running(self) -> dict[str, Status]:
        """The same of the runs that are not yet published to the end."""
        return self._runs.by_uid(lambda run: run.status, running=True)

    @property
    def measured(self) -> list[str]:
        """Uids of the runs that are being measured, oldest first: begun, and without a stop."""
        return self._runs.measured

    @property
    def rates(self) -> dict[str, KnownRates]:
        """How well Gamma of each ROI is known by now, of each recent run, by the raw run's uid."""
        return self._runs.by_uid(lambda run: run.known.rates)

    @property
    def delivery(self) -> dict[str, Delivery]:
        """How far the results of each recent run have come, by the raw run's uid."""
        return self._runs.by_uid(lambda run: run.deliveries.state)

    def monitored(self, waits_for: Callable[[], str] | None = None) -> LiveMonitor:
        """Return what /metrics and /healthz show of this session; see `serve_metrics`.

        `waits_for` returns what the source of documents waits for, "" while it has it.
        """
        return LiveMonitor(
            worker=self._worker,
            threads=self._threads,
            runs=self._runs,
            spool=self._session.settings.spool,
            waits_for=waits_for,
        )

    def close(self, timeout: float | None = 20.0) -> bool:
        """Work off and store what was received, then take nothing more.

        Returns
        -------
        bool
            False if that takes longer than `timeout` seconds, for example because the Tiled server
            is away; what is not stored by then stays in the spool, with a line in the log.
        """
        atexit.unregister(self.close)
        end = None if timeout is None else time.monotonic() + timeout
        closed = self._worker.close(timeout)
        for thread in self._threads:
            thread.begin_close(_seconds_to(end))
        for thread in self._threads:
            # A second more: what gives up at the last moment still has to say so.
            left = _seconds_to(end)
            closed &= thread.join(None if left is None else left + 1.0)
        for sentence in what_is_left(self._threads, self._runs.unfinished):
            logger.warning("%s", sentence)
        return closed

    # --- one run ---------------------------------------------------------------------------

    def _begin_run(self, start: Document) -> DocumentIntake | None:
        """Return what takes the documents of a run."""
        uid = start["uid"]
        if self._worker.closed:
            logger.warning("LiveDenoise is closed: run %s is not analysed.", uid)
            return None
        run = LiveRun(
            uid,
            session=self._session,
            source=FrameReader(
                roots=self._session.roots,
                tiled=self._read_tiled(),
                timeout_s=self._timings.read_s,
                threshold=self._session.settings.threshold,
            ),
            deliveries=[
                RunDelivery(uid, thread, report=None if number else self._report)
                for number, thread in enumerate(self._threads)
            ],
            worker=self._worker,
        )
        return DocumentIntake(
            run,
            start,
            session=self._session,
            device=self._device,
            worker=self._worker,
            runs=self._runs,
            others=_OF_PROCESS,
            log_once=self._log_once,
        )

    def _read_tiled(self) -> Callable[[TiledFrames, int], Iterator[Array | SparseFrames]] | None:
        """Return what reads frames in Tiled, None without a client."""
        if self._raw is None:
            return None
        below = self._session.settings.tiled.raw_path or ""
        return functools.partial(read_tiled, self._raw, below=below)


def _seconds_to(end: float | None) -> float | None:
    return None if end is None else max(0.0, end - time.monotonic())


def _open_plot(plot: LivePlot | bool | str | Path) -> SinkFactory | None:
    if plot is False:
        return None
    if not isinstance(plot, bool | str | Path):
        return plot
    from xpcs_live_denoise.window import LivePlot

    return LivePlot(None if isinstance(plot, bool) else plot)
