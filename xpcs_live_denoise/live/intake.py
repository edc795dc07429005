"""One run on the RunEngine's thread: its documents in, messages for the worker out."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np

from xpcs_live_denoise.config import GeometrySettings, Settings
from xpcs_live_denoise.errors import FrameShapeError, Once, one_line, short_repr, text_of
from xpcs_live_denoise.records.frames import (
    FrameReference,
    Geometry,
    InlineFrames,
    MissingFrames,
    RoiPixels,
)
from xpcs_live_denoise.records.types import Document, Fields
from xpcs_live_denoise.sources import (
    Following,
    RunDocuments,
    find_exposure,
    find_frame_time,
    find_geometry,
    follow,
    geometry_conflicts,
    plain_document,
    positive_int,
)

from .run import MOST_CHARACTERS, LiveRun, Session
from .worker import Begin, End, Message, NewFrames, Worker

Device: TypeAlias = Any  # of ophyd or ophyd-async; None where there is none

logger = logging.getLogger(__name__)

REMEMBERED_RUNS = 16  # stay on show after they ended
Shown = TypeVar("Shown")

QUEUE_FULL = (
    "Frames were skipped: the analysis fell behind the detector and its queue was full (setting "
    "`queue_bytes`)."
)


class RecentRuns:
    """The runs of a session, oldest first; the RunEngine's thread adds, anybody may look."""

    def __init__(self) -> None:
        self._runs: dict[str, LiveRun] = {}
        self._stopped: list[LiveRun] = []
        self._expected: dict[str, None] = {}  # uids, oldest first

    def expect(self, uid: str) -> None:
        """Take note that a run has frames of the detector, before it begins."""
        self._expected[uid] = None
        if len(self._expected) > REMEMBERED_RUNS:
            del self._expected[next(iter(self._expected))]

    def began(self, run: LiveRun) -> None:
        """Show a run, and forget old ones."""
        self._runs[run.uid] = run
        ended = [uid for uid, known in self._runs.items() if known.deliveries.done]
        for uid in ended[: max(0, len(self._runs) - REMEMBERED_RUNS)]:
            del self._runs[uid]

    def stopped(self, run: LiveRun) -> None:
        """Count a run as one that will end."""
        self._stopped = [known for known in self._stopped if not known.deliveries.done] + [run]
        self.began(run)

    def __contains__(self, uid: str) -> bool:
        """Whether a run is expected, or shown."""
        return uid in self._runs or uid in self._expected

    @property
    def unfinished(self) -> list[str]:
        """Uids of the runs whose stop came and whose results are not delivered."""
        return [run.uid for run in self._stopped if not run.deliveries.done]

    @property
    def measured(self) -> list[str]:
        """Uids of the runs that are shown and whose stop has not come, oldest first."""
        stopped = {run.uid for run in self._stopped}
        runs = dict(self._runs).values()
        return [run.uid for run in runs if run.uid not in stopped and not run.deliveries.done]

    def by_uid(
        self, show: Callable[[LiveRun], Shown], *, running: bool = False
    ) -> dict[str, Shown]:
        """Return what `show` makes of each run; `running`: of those that are not done."""
        # A copy: the RunEngine's thread may add a run meanwhile.
        runs = dict(self._runs).values()
        return {run.uid: show(run) for run in runs if not (running and run.deliveries.done)}


class DocumentIntake:
    """The documents of one run, on the RunEngine's thread; call it with each of them.

    `device` is the staged detector; `runs` learns of the run when it begins and when it ends, and
    `others` are those of all callbacks of the process.
    """

    def __init__(
        self,
        run: LiveRun,
        start: Document,
        *,
        session: Session,
        device: Device,
        worker: Worker,
        runs: RecentRuns,
        others: Iterable[RecentRuns],
        log_once: Once,
    ) -> None:
        self._run = run
        self._session = session
        self._settings = settings = session.settings
        self._device = device
        self._worker = worker
        self._runs = runs
        self._others = others
        self._log_once = log_once
        self._documents = RunDocuments(
            start,
            detector=settings.detector,
            data_key=settings.data_key,
            stream=settings.stream,
            threshold=settings.threshold,
        )
        self._begin: Begin | None = None
        self._followed = Following()

    def __call__(self, name: str, doc: Document) -> None:
        """Turn a document into messages; a malformed one raises, and the run goes on."""
        references: tuple[FrameReference, ...] = ()
        try:
            references = self._documents.receive(name, doc)
        finally:
            # Whatever a document was like, the run begins and ends.
            if name == "start":
                self._follow()
            elif self._is_to_begin():
                self._send_begin()
            elif name == "descriptor" and self._begin is None and self._documents.streams:
                self._runs.expect(self._run.uid)
            elif name == "descriptor":
                self._learn_stream()
                self._compare(doc)
            for reference in references:
                self._send_frames(reference)
            if name == "stop":
                self._send_end(doc)

    def _is_to_begin(self) -> bool:
        """Whether the stream with the frames is known now, or is another one than was believed."""
        descriptor, begin = self._documents.image_descriptor, self._begin
        if descriptor is None or begin is None:
            return descriptor is not None
        return begin.stream is not None and begin.stream != _stream(descriptor)

    def _learn_stream(self) -> None:
        """Note which stream is the series of a run that began with its files."""
        descriptor, begin = self._documents.image_descriptor, self._begin
        if begin is not None and begin.stream is None and descriptor is not None:
            self._begin = dataclasses.replace(begin, stream=_stream(descriptor))

    def _follow(self) -> None:
        """Begin at once where the detector's files can be followed."""
        try:
            found = follow(self._device, self._settings, self._documents.start, self._session.roots)
        except Exception as error:  # a device's own code, a folder: the documents tell it later
            logger.warning("Files are not followed (%s: %s).", type(error).__name__, error)
            return
        if found is not None:
            self._followed = found
            self._send_begin()

    def _send_begin(self, problem: str = "") -> None:
        try:
            begin = self._describe(problem)
        except Exception as error:  # documents may hold anything; the derived run tells of it
            begin = Begin(
                start=plain_document(self._documents.start),
                image_key=self._settings.data_key,
                frame_shape=None,
                frame_time_s=None,
                n_expected=None,
                geometry=Geometry(),
                problem="The run's documents cannot be used "
                f"({type(error).__name__}: {text_of(error)}).",
            )
        if not self._submit(begin):
            return  # the callback is closed
        if self._begin is not None:
            self._run.n_seen = 0
        self._begin = begin
        self._runs.began(self._run)

    def _describe(self, problem: str) -> Begin:
        """Return what the documents tell of the run."""
        settings, documents = self._settings, self._documents
        device = _read_configuration(self._device)
        facts = (documents.start, device, documents.configuration, documents.device)
        n_expected = self._followed.n_expected or documents.n_expected
        left_out = [] if self._begin is None else [documents.left_out]
        joined = _joined(positive_int(documents.start.get("num_points")), n_expected)
        return Begin(
            start=plain_document(documents.start),
            image_key=settings.data_key,
            frame_shape=documents.frame_shape,
            stream=None
            if documents.image_descriptor is None
            else _stream(documents.image_descriptor),
            frame_time_s=find_frame_time(None, *facts),
            exposure_s=find_exposure(*facts),
            documents=documents,
            n_expected=n_expected,
            geometry=find_geometry(settings.geometry, *facts),
            notes=(*geometry_conflicts(settings, *facts), *joined, *filter(None, left_out)),
            problem=problem,
            followed=self._followed,
        )

    def _compare(self, descriptor: Document) -> None:
        """Tell what a later descriptor says differently; the analysis keeps what it has."""
        if self._begin is None or self._begin.image_key not in descriptor["data_keys"]:
            return
        if self._begin.stream not in (None, _stream(descriptor)):
            return  # of frames that are left out
        settings = self._settings
        used = {
            "frame_time_s": settings.frame_time_s or self._begin.frame_time_s,
            "geometry": GeometrySettings.model_construct(
                **dataclasses.asdict(self._begin.geometry)
            ),
        }
        sentences = geometry_conflicts(
            settings.model_copy(update=used),
            {},
            None,
            descriptor.get("configuration"),
            self._documents.device,
        )
        if sentences:
            self._submit(Message(notes=sentences))

    def _send_frames(self, reference: FrameReference) -> None:
        self._run.n_seen += reference.n_frames
        arrival = time.monotonic()
        if not isinstance(reference, InlineFrames):
            self._submit(NewFrames(frames=reference, arrival=arrival))
            return
        settings, frame_bytes = self._settings, max(1, reference.frames[0].nbytes)
        if frame_bytes > (most := max(settings.queue_bytes, settings.block_bytes)):
            reason = f"Frames of {frame_bytes} bytes each; the settings allow {most} (queue_bytes)."
            self._submit(_missing(reference, reason, arrival))
            return
        # An event may hold a whole series: in parts, what fits into the queue is not lost.
        step = max(1, settings.block_bytes // frame_bytes)
        for first in range(0, reference.n_frames, step):
            part = InlineFrames(frames=reference.frames[first : first + step])
            if not self._submit(self._gather(part, arrival)):
                self._submit(_missing(part, QUEUE_FULL, arrival))

    def _gather(self, reference: InlineFrames, arrival: float) -> NewFrames:
        """Take the ROI pixels out of inline frames; the document's array may be used again."""
        image = self._run.image
        if image is None:
            frames = np.array(reference.frames)
            return NewFrames(frames=InlineFrames(frames=frames), arrival=arrival)
        try:
            pixels = image.rois.gather(reference.frames)
        except FrameShapeError as error:
            return _missing(reference, str(error), arrival)
        image.offer(reference.frames)
        return NewFrames(frames=RoiPixels(pixels=pixels), arrival=arrival)

    def _send_end(self, stop: Document) -> None:
        if self._begin is None:
            self._explain_absence(stop)
        if self._begin is not None:
            if left_out := self._documents.left_out:
                self._submit(Message(notes=(left_out,)))
            status, reason = stop.get("exit_status", "fail"), stop.get("reason", "")
            if self._submit(End(exit_status=_text(status), reason=_text(reason))):
                self._runs.stopped(self._run)

    def _explain_absence(self, stop: Document) -> None:
        """Say why a run is not analysed, as loudly as it is likely to be a mistake."""
        settings, documents = self._settings, self._documents
        problem = _why_absent(settings, documents, stop)
        detectors = documents.start.get("detectors")
        if isinstance(detectors, Sequence) and settings.detector in detectors:
            self._send_begin(problem)
        elif any(self._run.uid in runs for runs in list(self._others)):
            logger.debug("Run %s is of another detector.", self._run.uid)
        elif documents.image_like_keys:
            level = logging.WARNING if self._log_once.is_news(problem) else logging.DEBUG
            logger.log(level, "Run %s is not analysed. %s", self._run.uid, problem)
        else:
            logger.debug("Run %s has no frames: not analysed.", self._run.uid)

    def _submit(self, message: Message) -> bool:
        return self._worker.submit(self._run, message)


def _why_absent(settings: Settings, documents: RunDocuments, stop: Document) -> str:
    """Return why a run that is over has no frames of the detector."""
    key, streams = settings.data_key, documents.streams
    if streams:  # the setting `stream` names another one
        names = ", ".join(map(short_repr, streams))
        return (
            f"No stream {settings.stream!r} with the data key {key!r} in the run; streams that "
            f"have it: {names}. Set `stream`."
        )
    status, reason = _text(stop.get("exit_status", "fail")), _text(stop.get("reason", ""))
    ended = f"The plan ended with {status!r} before" if status != "success" else "The run ended"
    said = f" It says: {reason}" if reason else ""
    if not documents.has_descriptor:
        before = "any data came" if status != "success" else "without any data"
        return f"{ended} {before}: there is nothing to analyse.{said}"
    found = ", ".join(documents.image_like_keys)
    if not found and status != "success":
        return f"{ended} a frame of {settings.detector!r} came: there is nothing to analyse.{said}"
    return (
        f"No data key {key!r} in the run; keys that look like frames: {found or 'none'}. "
        "Set `detector` or `image_key`."
    )


def _stream(descriptor: Document | Fields) -> str:
    return short_repr(descriptor.get("name"))


def _missing(reference: InlineFrames, reason: str, arrival: float) -> NewFrames:
    missing = MissingFrames(n_frames=reference.n_frames, reason=reason)
    return NewFrames(frames=missing, arrival=arrival)


def _joined(n_points: int | None, n_expected: int | None) -> tuple[str, ...]:
    """Return what to say of a run whose points are series of frames, each triggered by itself."""
    if n_points is None or n_expected is None or not 1 < n_points < n_expected:
        return ()
    return (
        f"The run joins {n_points} series of {n_expected // n_points} frames; the pauses between "
        "them are not in its time axis: lags and ages across a join are too short. Take one series "
        "a run to avoid that.",
    )


def _text(value: object) -> str:
    return one_line(value, MOST_CHARACTERS) if isinstance(value, str) else short_repr(value)


def _read_configuration(device: Device) -> Fields:
    """Return the device's configuration, empty where there is none or it cannot be read."""
    if device is None:
        return {}
    try:
        configuration = device.read_configuration()
    except Exception as error:  # a device's own code; the documents still tell most of it
        logger.warning("The configuration of %r cannot be read (%s).", device, error)
        return {}
    if inspect.isawaitable(configuration):
        # ophyd-async answers in the RunEngine's event loop only; its descriptor tells the same.
        getattr(configuration, "close", lambda: None)()
        return {}
    return configuration if isinstance(configuration, Mapping) else {}
