"""LiveDenoise, what a user subscribes to the RunEngine: a source, the worker and the sinks."""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.metadata
import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from event_model import RunRouter

from .config import Settings
from .errors import FrameShapeError
from .live_run import LiveRun, SinkFactory
from .messages import Begin, End, Gathered, Missing, Referenced
from .numerics.rois import RoiMap
from .numerics.windows import Denoiser
from .pipeline import open_ensemble
from .records import FrameReference, InlineFrames, RunInfo, Sink, Status
from .sources.documents import RunDocuments
from .sources.frames import FrameReader
from .sources.geometry import find_frame_time, find_geometry, geometry_conflicts
from .sources.rois import open_rois
from .worker import Worker

if TYPE_CHECKING:
    from .sinks.tiled_factory import TiledSinkFactory

logger = logging.getLogger(__name__)

# Runs whose status stays on show after they ended.
REMEMBERED_RUNS = 16
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
        Factories RunInfo -> Sink, instead of Tiled.
    device
        The staged detector: its `read_configuration()` completes what documents say.

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
    ) -> None:
        self._settings = settings
        self._rois = rois
        self._catalog = catalog
        self._sinks = sinks
        self._device = device
        self._worker = Worker(
            queue_bytes=settings.queue_bytes, tick_s=min(0.1, settings.publish_period_s / 2)
        )
        self._router = RunRouter([self._begin_run])
        self._runs: dict[str, LiveRun] = {}
        self._stopped: list[LiveRun] = []
        # Made by the worker's thread when the first run needs them, then kept for all runs.
        self._ensemble: tuple[Denoiser | None, str] | None = None
        self._make_tiled_sink: TiledSinkFactory | None = None
        self.n_faults = 0
        atexit.register(self.close)

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Take a document. Returns at once and never raises."""
        try:
            self._router(name, doc)
        except Exception as error:  # the edge where the RunEngine calls us: a raise aborts the scan
            self.n_faults += 1
            logger.warning(
                "A document %r could not be used (%s: %s); the scan goes on.",
                name,
                type(error).__name__,
                error,
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
        return self._worker.wait(lambda: all(run.done for run in self._stopped), timeout)

    @property
    def status(self) -> Mapping[str, Status]:
        """The newest status of each recent run, by the raw run's uid, oldest first."""
        return {uid: run.status for uid, run in self._runs.items()}

    def close(self, timeout: float | None = 60.0) -> bool:
        """Work off what was received, then take nothing more. False if that outlasts `timeout`."""
        atexit.unregister(self.close)
        closed = self._worker.close(timeout)
        if closed and self._make_tiled_sink is not None:
            self._make_tiled_sink.close()
        return closed

    # --- one run ---------------------------------------------------------------------------

    def _begin_run(self, _name: str, start: dict[str, Any]) -> tuple[list[Any], list[Any]]:
        """Start-level factory of the RunRouter: one `_RunEdge` a run."""
        run = LiveRun(
            self._settings,
            uid=start["uid"],
            open_rois=lambda: open_rois(self._settings, self._rois),
            open_ensemble=self._open_ensemble,
            source=FrameReader(),
            sink_factories=self._sink_factories(),
            versions=_versions(),
            queue_depth=lambda: self._worker.depth,
        )
        edge = _RunEdge(self, run, start)
        return [edge], []

    def _sink_factories(self) -> Sequence[SinkFactory]:
        if self._sinks is not None:
            return self._sinks
        return [self._tiled_sink]

    def _tiled_sink(self, info: RunInfo) -> Sink:
        """Make the sink for Tiled. Called by the worker's thread: the import takes a second."""
        if self._make_tiled_sink is None:
            from .sinks.tiled_factory import TiledSinkFactory

            self._make_tiled_sink = TiledSinkFactory(self._settings.tiled, self._catalog)
        return self._make_tiled_sink(info)

    def _open_ensemble(self) -> tuple[Denoiser | None, str]:
        """Load the ensemble once for all runs. Called by the worker's thread."""
        if self._ensemble is None:
            self._ensemble = open_ensemble(self._settings)
        return self._ensemble

    def _watch(self, run: LiveRun) -> None:
        """Show the run in `status`, forget the oldest that has ended."""
        self._runs[run.uid] = run
        ended = [uid for uid, known in self._runs.items() if known.done]
        for uid in ended[: max(0, len(self._runs) - REMEMBERED_RUNS)]:
            del self._runs[uid]
        self._stopped = [known for known in self._stopped if not known.done]


class _RunEdge:
    """The documents of one run, turned into messages for the worker, on the RunEngine's thread."""

    def __init__(self, owner: LiveDenoise, run: LiveRun, start: dict[str, Any]) -> None:
        self._owner = owner
        self._run = run
        self._documents = RunDocuments(
            start, detector=owner._settings.detector, data_key=owner._settings.data_key
        )
        self._begun = False

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        try:
            references = self._documents.receive(name, doc)
        finally:
            # Whatever a document was like, the run begins and ends.
            if not self._begun and self._documents.image_descriptor is not None:
                self._begin()
            if name == "stop":
                self._end(doc)
        for reference in references:
            self._send_frames(reference)

    def _begin(self, problem: str = "") -> None:
        settings, documents = self._owner._settings, self._documents
        self._begun = True
        device = _read_configuration(self._owner._device)
        facts = (documents.start, device, documents.configuration, settings.detector)
        self._submit(
            Begin(
                start=documents.start,
                image_key=settings.data_key,
                frame_shape=documents.frame_shape,
                frame_time_s=find_frame_time(settings.frame_time_s, *facts),
                n_expected=documents.n_expected,
                geometry=find_geometry(settings.geometry, *facts),
                notes=geometry_conflicts(settings, *facts),
                problem=problem,
            )
        )
        self._owner._watch(self._run)

    def _send_frames(self, reference: FrameReference) -> None:
        self._run.n_seen += reference.n_frames
        arrival = time.monotonic()
        if isinstance(reference, InlineFrames):
            message = self._gather(reference, arrival)
        else:
            message = Referenced(reference=reference, arrival=arrival)
        if not self._submit(message):
            self._submit(
                Missing(
                    n_frames=reference.n_frames,
                    reason="Frames were skipped: the analysis fell behind the detector and its "
                    "queue was full (setting `queue_bytes`).",
                )
            )

    def _gather(self, reference: InlineFrames, arrival: float) -> Gathered | Missing | Referenced:
        """Take the ROI pixels out of inline frames; the document's array may be used again."""
        if self._run.roi_map is None:
            frames = np.array(reference.frames)
            return Referenced(
                reference=InlineFrames(frames=frames), arrival=arrival, n_bytes=frames.nbytes
            )
        try:
            return Gathered(pixels=self._run.roi_map.gather(reference.frames), arrival=arrival)
        except FrameShapeError as error:
            return Missing(n_frames=reference.n_frames, reason=str(error))

    def _end(self, stop: dict[str, Any]) -> None:
        if not self._begun:
            self._explain_absence()
        if self._begun:
            self._owner._stopped.append(self._run)
            self._submit(
                End(exit_status=stop.get("exit_status", "fail"), reason=stop.get("reason", ""))
            )

    def _explain_absence(self) -> None:
        """Say why a run is not analysed, as loudly as it is likely to be a mistake."""
        settings, documents = self._owner._settings, self._documents
        found = ", ".join(documents.image_like_keys) or "none"
        problem = (
            f"No data key {settings.data_key!r} in the run; keys that look like frames: {found}. "
            "Set `detector` or `image_key`."
        )
        if settings.detector in (documents.start.get("detectors") or ()):
            self._begin(problem)
        elif documents.image_like_keys:
            logger.warning("Run %s is not analysed. %s", self._run.uid, problem)
        else:
            logger.debug("Run %s has no frames: not analysed.", self._run.uid)

    def _submit(self, message: Any) -> bool:
        return self._owner._worker.submit(self._run, message)


def _read_configuration(device: Any) -> Mapping[str, Any]:
    """Return the device's configuration, empty where there is none or it cannot be read."""
    if device is None:
        return {}
    try:
        return device.read_configuration()
    except Exception as error:  # a device's own code; the documents still tell most of it
        logger.warning("The configuration of %r cannot be read (%s).", device, error)
        return {}


@functools.cache
def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for library in _VERSIONED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[library] = importlib.metadata.version(library)
    return found
