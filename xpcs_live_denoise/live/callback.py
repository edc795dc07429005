"""LiveDenoise, what a user subscribes to the RunEngine: a source, the worker and the sinks."""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.metadata
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from numpy.typing import NDArray

from xpcs_live_denoise.analysis import open_ensemble
from xpcs_live_denoise.config import Settings
from xpcs_live_denoise.errors import short_repr, text_of
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.numerics.windows import Denoiser
from xpcs_live_denoise.records.frames import TiledFrames
from xpcs_live_denoise.records.results import Sink
from xpcs_live_denoise.records.run import RunInfo, Status
from xpcs_live_denoise.sources import DocumentsByRun, FileRoots, FrameReader, open_rois, read_tiled

from .intake import RunEdge
from .outbox import GuardedSpool, SpooledTiled, what_is_left
from .run import LiveRun, SinkFactory
from .worker import Errand, Worker

if TYPE_CHECKING:
    from xpcs_live_denoise.sinks import TiledSinkFactory
    from xpcs_live_denoise.window import LivePlot

logger = logging.getLogger(__name__)

# Runs whose status stays on show after they ended.
REMEMBERED_RUNS = 16
# Different reasons for unusable documents that are logged; all of them are counted.
MOST_REASONS = 50
_UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}")
_VERSIONED = (
    "xpcs-live-denoise",
    "numpy",
    "scikit-beam",
    "bluesky",
    "event-model",
    "tiled",
    "torch",
)


class LiveDenoise:
    """Two-time XPCS with denoising while the detector runs; subscribe it to the RunEngine.

    ``RE.subscribe(LiveDenoise(Settings.load("xpcs.yml")))``

    Runs without frames of the configured detector are ignored. Nothing that goes wrong behind this
    call reaches the RunEngine: it is logged once, counted in `n_faults` and told by `status`.
    Constructing connects to nothing; the work is done by one thread that starts with the first run.

    Parameters
    ----------
    settings
        What to analyse and where results go.
    rois
        The ROI map, instead of the file that `settings.rois` names.
    catalog
        A Tiled client to write to, instead of connecting to `settings.tiled.uri`.
    sinks
        Factories RunInfo -> Sink, instead of Tiled. One that still fails a minute after the end of
        a run is given up for that run.
    device
        The staged detector: its `read_configuration()` completes what documents say.
    raw
        A Tiled client of the root, to read frames that lie in `settings.tiled.raw_path` there.
    plot
        True shows each run in a window (see `LivePlot`), a path of a .png file writes it there,
        besides the other sinks.

    Attributes
    ----------
    n_faults
        Exceptions caught on the RunEngine's thread.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        rois: RoiMap | None = None,
        catalog: Any = None,
        sinks: Sequence[SinkFactory] | None = None,
        device: Any = None,
        raw: Any = None,
        plot: LivePlot | bool | str | Path = False,
    ) -> None:
        self._settings = settings
        self._rois = rois
        self._catalog = catalog
        self._sinks = sinks
        self._device = device
        self._raw = raw
        self._plot = _open_plot(plot)
        self._worker = Worker(
            queue_bytes=settings.queue_bytes, tick_s=min(0.1, settings.publish_period_s / 2)
        )
        self._router = DocumentsByRun(self._begin_run)
        self._runs: dict[str, LiveRun] = {}
        self._stopped: list[LiveRun] = []
        self._spools: WeakSet[GuardedSpool] = WeakSet()
        # Made by the worker's thread when the first run needs them, then kept for all runs.
        self._ensemble: tuple[Denoiser | None, str] | None = None
        self._make_tiled_sink: TiledSinkFactory | None = None
        self._told: set[str] = set()
        self.n_faults = 0
        atexit.register(self.close)

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Take a document. Returns at once and never raises."""
        try:
            self._router(name, doc)
        except Exception as error:  # the edge where the RunEngine calls us: a raise aborts the scan
            self.n_faults += 1
            self._tell(name, error)

    def prepare(self) -> None:
        """Load and connect in the background what the first run would have to wait for.

        Without it the first Gamma(t) of a session comes some seconds later than others: the
        ensemble and its libraries are loaded and Tiled is connected when the first run begins.
        Returns at once; what fails is logged, and tried again by the first run.
        """
        errand = Errand(self._prepare)
        self._worker.submit(errand, errand)

    def _prepare(self) -> None:
        self._open_ensemble()
        if self._sinks is None:
            self._tiled_factory().connect()

    def _tell(self, name: str, error: Exception) -> None:
        """Log why a document could not be used, each reason once."""
        reason = f"{type(error).__name__}: {text_of(error)}"
        if not self._is_news(_UID.sub("", reason)):
            return
        logger.warning(
            "A document %s could not be used (%s); the scan goes on. Documents of a run that "
            "began before LiveDenoise was subscribed cannot be.",
            short_repr(name),
            reason,
        )

    def _is_news(self, sentence: str) -> bool:
        """Whether a sentence was not told yet; the first few different ones are."""
        if sentence in self._told or len(self._told) >= MOST_REASONS:
            return False
        self._told.add(sentence)
        return True

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
        return self._worker.wait(lambda: all(run.done for run in self._stopped), timeout)

    @property
    def status(self) -> Mapping[str, Status]:
        """The newest status of each recent run, by the raw run's uid, oldest first."""
        # A copy: the RunEngine's thread may add a run meanwhile.
        return {uid: run.status for uid, run in dict(self._runs).items()}

    @property
    def running(self) -> dict[str, Status]:
        """The same of the runs that are not yet published to the end."""
        return {uid: run.status for uid, run in dict(self._runs).items() if not run.done}

    def close(self, timeout: float | None = 20.0) -> bool:
        """Work off and store what was received, then take nothing more.

        Returns
        -------
        bool
            False if that takes longer than `timeout` seconds, for example because the Tiled server
            is away; what is not stored by then stays in the spool, with a line in the log.
        """
        atexit.unregister(self.close)
        closed = self._worker.close(timeout)
        for sentence in what_is_left(
            self._spools, [run.uid for run in self._stopped if not run.done]
        ):
            logger.warning("%s", sentence)
        if closed and self._make_tiled_sink is not None:
            self._make_tiled_sink.close()
        return closed

    # --- one run ---------------------------------------------------------------------------

    def _begin_run(self, start: dict[str, Any]) -> RunEdge | None:
        """Return what takes the documents of a run."""
        if self._worker.closed:
            logger.warning("LiveDenoise is closed: run %s is not analysed.", start["uid"])
            return None
        run = LiveRun(
            self._settings,
            uid=start["uid"],
            open_rois=lambda: open_rois(self._settings, self._rois),
            open_ensemble=self._open_ensemble,
            source=FrameReader(
                roots=FileRoots(self._settings.file_roots), tiled=self._read_tiled()
            ),
            sink_factories=[*self._sink_factories(), *([self._plot] if self._plot else [])],
            versions=_versions(),
            queue_depth=lambda: self._worker.depth,
        )
        return RunEdge(
            run,
            start,
            settings=self._settings,
            device=self._device,
            submit=self._worker.submit,
            watch=self._watch,
            tell_once=self._is_news,
        )

    def _read_tiled(self) -> Callable[[TiledFrames, int], Iterator[NDArray[Any]]] | None:
        """Return what reads frames in Tiled, None without a client."""
        if self._raw is None:
            return None
        below = self._settings.tiled.raw_path or ""
        return functools.partial(read_tiled, self._raw, below=below)

    def _sink_factories(self) -> Sequence[SinkFactory]:
        if self._sinks is not None:
            return self._sinks
        return [SpooledTiled(self._settings, self._tiled_sink, self._spools)]

    def _tiled_sink(self, info: RunInfo, uid: str, created: float) -> Sink:
        """Make the sink for Tiled. Called by the worker's thread."""
        return self._tiled_factory()(info, uid=uid, created=created)

    def _tiled_factory(self) -> TiledSinkFactory:
        """Return what makes the sinks. Called by the worker's thread: the import takes a second."""
        if self._make_tiled_sink is None:
            from xpcs_live_denoise.sinks import TiledSinkFactory

            self._make_tiled_sink = TiledSinkFactory(self._settings.tiled, self._catalog)
        return self._make_tiled_sink

    def _open_ensemble(self) -> tuple[Denoiser | None, str]:
        """Load the ensemble once for all runs. Called by the worker's thread."""
        if self._ensemble is None:
            self._ensemble = open_ensemble(self._settings)
        return self._ensemble

    def _watch(self, run: LiveRun, stopped: bool) -> None:
        """Show the run in `status`, let `wait` wait for it once it has stopped, forget old ones."""
        if stopped:
            self._stopped.append(run)
        self._runs[run.uid] = run
        ended = [uid for uid, known in self._runs.items() if known.done]
        for uid in ended[: max(0, len(self._runs) - REMEMBERED_RUNS)]:
            del self._runs[uid]
        self._stopped = [known for known in self._stopped if not known.done]


def _open_plot(plot: LivePlot | bool | str | Path) -> SinkFactory | None:
    if plot is False:
        return None
    if not isinstance(plot, bool | str | Path):
        return plot
    from xpcs_live_denoise.window import LivePlot

    return LivePlot(None if isinstance(plot, bool) else plot)


@functools.cache
def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for library in _VERSIONED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[library] = importlib.metadata.version(library)
    return found
