"""One run on the worker's thread: frame references in, publications to its sinks out."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from xpcs_live_denoise.analysis import Analysis, DetectorImage, append_note
from xpcs_live_denoise.config import Settings
from xpcs_live_denoise.errors import (
    FrameShapeError,
    InvalidInputError,
    UnreadableFramesError,
    XpcsError,
    one_line,
    text_of,
)
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.numerics.windows import Denoiser
from xpcs_live_denoise.records.frames import (
    FollowedFrames,
    FrameReference,
    FrameSource,
    Gap,
    NothingFollowed,
    read_with_gaps,
)
from xpcs_live_denoise.records.results import Result, Sink
from xpcs_live_denoise.records.run import RunEnd, RunInfo, Status

from .messages import Begin, Contradiction, End, Gathered, Missing, Referenced
from .outbox import SinkFeed

logger = logging.getLogger(__name__)

SinkFactory: TypeAlias = Callable[[RunInfo], Sink]


class LiveRun:
    """A run's analysis and its sinks, driven by messages. Used by the worker's thread only.

    Parameters
    ----------
    settings
        What to do.
    open_rois
        Returns the ROI map; called when the run begins.
    open_ensemble
        Returns the ensemble, or None and why; called when the run begins.
    source
        Reads frames behind references.
    sink_factories
        One sink each, made when the first frames are there.
    versions
        Library versions, for RunInfo.
    queue_depth
        Returns the number of messages that wait for the worker.

    Attributes
    ----------
    roi_map
        None until the run has begun; the RunEngine's thread gathers inline frames with it.
    picture
        The detector; None until the run has begun. The RunEngine's thread offers inline frames.
    n_seen
        Frames announced; counted by the RunEngine's thread.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        uid: str,
        open_rois: Callable[[], RoiMap],
        open_ensemble: Callable[[], tuple[Denoiser | None, str]],
        source: FrameSource,
        sink_factories: Sequence[SinkFactory],
        versions: Mapping[str, str],
        queue_depth: Callable[[], int],
    ) -> None:
        self.uid = uid
        self.roi_map: RoiMap | None = None
        self.picture: DetectorImage | None = None
        self.n_seen = 0
        self._status = Status()
        self._ended = False
        self._settings = settings
        self._open_rois = open_rois
        self._open_ensemble = open_ensemble
        self._source = source
        self._versions = versions
        self._queue_depth = queue_depth
        self._feeds = [SinkFeed(factory, uid) for factory in sink_factories]
        self._analysis: Analysis | None = None
        self._begin: Begin | None = None
        self._ensemble: Denoiser | None = None
        self._followed: FollowedFrames = NothingFollowed()
        self._notes = Notes(uid)
        self._later_facts: tuple[str, ...] = ()
        self._failure = ""
        self._published_frames = 0
        self._last_publication = float("-inf")
        self._lag_s = 0.0

    @property
    def status(self) -> Status:
        """Where the run stands, with the troubles of its sinks."""
        return append_note(self._status, *(feed.trouble for feed in self._feeds))

    @property
    def done(self) -> bool:
        """True when the run has ended and every sink has its final results."""
        return self._ended and not self.delivering

    @property
    def delivering(self) -> bool:
        """True when the run has ended and a sink has not taken its final results yet."""
        return any(feed.delivering for feed in self._feeds)

    # --- what the worker calls -------------------------------------------------------------

    def handle(self, message: Any) -> None:
        """Work on one message; a failed run takes no more frames but still ends properly."""
        if isinstance(message, End):
            self._end(message)
        elif self._failure:
            return
        elif isinstance(message, Begin):
            self._start(message)
        elif isinstance(message, Contradiction):
            for sentence in message.sentences:
                self._notes.add(sentence)
            self._later_facts += message.sentences
        elif isinstance(message, Missing):
            self._skip(message.n_frames - self._followed.already(message.n_frames), message.reason)
        elif isinstance(message, Gathered):
            n_known = self._followed.already(len(message.pixels), came=True)
            self._require_analysis().push_pixels(message.pixels[n_known:])
            self._lag_s = time.monotonic() - message.arrival
        elif isinstance(message, Referenced):
            for reference in self._followed.reconcile(message.reference):
                self._read(reference, message.arrival)

    def tick(self) -> None:
        """Read what has come to the followed files, and publish what is due."""
        if not self._failure:
            for reference in self._followed.poll():
                self._read(reference, time.monotonic())
        self._publish_if_due()

    def _publish_if_due(self) -> None:
        """Publish if there is news and the last publication is long enough ago."""
        for feed in self._feeds:
            feed.retry()
        if self._analysis is None or self._failure:
            return
        n, published = self._analysis.n_frames, self._published_frames
        waited_s = time.monotonic() - self._last_publication
        # The first Gamma(t) waits for nothing.
        first_window = published < self._settings.window <= n
        if n > published and (first_window or waited_s >= self._settings.publish_period_s):
            self._publish(self._analysis)

    def fail(self, error: Exception) -> None:
        """Give the analysis up, say so once, and leave the scan alone."""
        if not self._failure:
            self._failure = f"The analysis stopped: {text_of(error)}"
            logger.error(
                "Run %s: the analysis stopped, the scan goes on. %s: %s",
                self.uid,
                type(error).__name__,
                text_of(error),
                # An error of ours says all there is to say.
                exc_info=None if isinstance(error, XpcsError) else error,
            )
            self._status = append_note(self._counted(self._status), self._failure)

    def abandon(self) -> None:
        """Give up what the sinks have not taken."""
        for feed in self._feeds:
            feed.abandon()

    # --- the steps -------------------------------------------------------------------------

    def _start(self, begin: Begin) -> None:
        self._begin = begin
        for feed in self._feeds:
            feed.info = run_info(begin, self._settings, self._versions)
        if begin.problem:
            raise InvalidInputError(begin.problem)
        for note in begin.notes:
            self._notes.add(note)
        rois = self._open_rois().with_q(begin.geometry)
        self.picture = DetectorImage(rois, self._settings.orientation)
        self.roi_map = rois  # before the ensemble, whose libraries take seconds to load
        self._ensemble, why_not = self._open_ensemble()
        if why_not:
            self._notes.add(why_not)
        self._followed = begin.followed

    def _begin_analysis(self, begin: Begin, rois: RoiMap) -> Analysis:
        """Begin with the first frames: files that are followed tell more by then."""
        self._begin = begin = begin.with_files()
        frame_time_s, rois = begin.frame_time_s, rois.with_q(begin.geometry)
        if frame_time_s is None:
            frame_time_s = 1.0
            self._notes.add(NO_FRAME_TIME)
        self._analysis = Analysis(
            self._settings,
            rois,
            frame_time_s=frame_time_s,
            n_frames=begin.n_expected,
            ensemble=self._ensemble,
        )
        info = run_info(begin, self._settings, self._versions, rois)
        for feed in self._feeds:
            feed.info = dataclasses.replace(
                info,
                frame_time_s=frame_time_s,
                engine=self._analysis.engine,
                n_expected=info.n_expected and min(info.n_expected, self._analysis.most_frames),
                model=getattr(self._ensemble, "info", None),
            )
        return self._analysis

    def _require_analysis(self) -> Analysis:
        if self._analysis is None and self._begin is not None and self.roi_map is not None:
            return self._begin_analysis(self._begin, self.roi_map)
        if self._analysis is None:
            raise UnreadableFramesError("Frames came before the descriptor of the detector.")
        return self._analysis

    def _read(self, reference: FrameReference, arrival: float) -> None:
        """Read the frames behind a reference block by block; what cannot be had becomes a gap."""
        analysis, n_done = self._require_analysis(), 0
        try:
            for piece in read_with_gaps(self._source, reference, self._settings.block_bytes):
                if isinstance(piece, Gap):
                    self._skip(piece.n_frames, piece.reason)
                    n_done += piece.n_frames
                    continue
                analysis.push(piece)
                n_done += len(piece)
                if self.picture is not None:
                    self.picture.add(piece)
                self._lag_s = time.monotonic() - arrival
                self._publish_if_due()
        except FrameShapeError as error:
            self._skip(max(0, reference.n_frames - n_done), str(error))

    def _skip(self, n_frames: int, reason: str) -> None:
        self._require_analysis().push_gap(n_frames)
        self._notes.add(reason, missing=True)

    def _counted(self, status: Status) -> Status:
        return dataclasses.replace(
            status,
            n_seen=max(self.n_seen, status.n_processed + status.n_skipped),
            lag_s=self._lag_s,
            queue_depth=self._queue_depth(),
        )

    def _publish(self, analysis: Analysis) -> None:
        since = min(feed.n_frames for feed in self._feeds) if self._feeds else 0
        news = analysis.publish(since)
        status = append_note(self._counted(news.status), *self._notes)
        metadata = {"later_descriptors": list(self._later_facts)} if self._later_facts else {}
        picture = None if self.picture is None else self.picture.updated()
        news = dataclasses.replace(news, status=status, metadata=metadata, picture=picture)
        self._status = status
        self._published_frames = news.n_frames
        for feed in self._feeds:
            feed.write(news)
        self._last_publication = time.monotonic()

    def _end(self, end: End) -> None:
        """Write the final result and close the sinks, whatever happened before."""
        try:
            result = self._final_result()
        except Exception as error:  # the run's own edge: its sinks must still be closed
            result = None
            self.fail(error)
        status = self._status = self._counted(self._status)
        n_expected = self._begin and self._begin.n_expected
        why = self._failure or what_is_missing(status, self._notes.why_missing, n_expected)
        run_end = end_of_run(end, result, status, why)
        self._source.close()
        self._analysis, self._followed = None, NothingFollowed()
        self.roi_map = self.picture = None  # many runs may wait for a server
        self._ended = True
        for feed in self._feeds:
            feed.finish(result, run_end)

    def _final_result(self) -> Result | None:
        if self._failure:
            return None
        for reference in self._followed.finish():
            self._read(reference, time.monotonic())
        analysis = self._require_analysis()
        if analysis.n_taken == 0:
            self._failure = "The run had no frames of the detector."
            self._notes.add(self._failure)
            self._status = append_note(self._counted(self._status), *self._notes)
            return None
        if self._later_facts:
            self._publish(analysis)  # a result carries no metadata
        result = analysis.finish()
        self._status = append_note(self._counted(result.status), *self._notes)
        picture = None if self.picture is None else self.picture.image()
        return dataclasses.replace(result, status=self._status, picture=picture)


NO_FRAME_TIME = (
    "No document tells the frame period: rates are per frame, as if it were 1 s. Set frame_time_s."
)


def run_info(
    begin: Begin, settings: Settings, versions: Mapping[str, str], rois: RoiMap | None = None
) -> RunInfo:
    """Return what is known of a run; without ROIs, enough to say what went wrong with them.

    Parameters
    ----------
    begin
        What the documents tell.
    settings
        Stored with the result; they hold nothing secret.
    versions
        Library name -> version.
    rois
        The ROIs, once they are there.
    """
    return RunInfo(
        start=begin.start,
        detector=settings.detector,
        image_key=begin.image_key,
        frame_shape=(begin.frame_shape or (0, 0)) if rois is None else rois.shape,
        frame_time_s=begin.frame_time_s or 1.0,
        n_expected=begin.n_expected,
        roi=() if rois is None else tuple(rois.labels.tolist()),
        q_inv_angstrom=() if rois is None else tuple(rois.q_inv_angstrom.tolist()),
        n_pixels=() if rois is None else tuple(rois.n_pixels.tolist()),
        window=settings.window,
        step=settings.step,
        mode=settings.mode,
        engine=settings.engine,
        geometry=begin.geometry,
        settings=settings.model_dump(mode="json"),
        versions=versions,
    )


def missing(status: Status) -> int:
    """Return how many frames could not be had; those that screening left out are not among them."""
    return status.n_skipped - status.n_masked


def what_is_missing(status: Status, why: str, n_expected: int | None) -> str:
    """Return what a run that came to its end has not analysed, "" if that is nothing.

    Parameters
    ----------
    status
        The last status.
    why
        What happened to the first frames that are missing; "": the status tells.
    n_expected
        Frames that were announced when the run began, None where nobody did.
    """
    n_missing = missing(status)
    all_frames = status.n_processed + status.n_skipped
    words: list[str] = []
    if all_frames < (n_expected or 0):
        words.append(f"{all_frames} of {n_expected} announced frames came.")
    if n_missing:
        gaps = f"{n_missing} of {all_frames} frames could not be had."
        words.append(f"{gaps} {why or status.message}")
    elif not status.n_processed:
        words.append(f"None of the {all_frames} frames could be used. {status.message}")
    return " ".join(words)


def end_of_run(end: End, result: Result | None, status: Status, failure: str) -> RunEnd:
    """Return how a run and its analysis ended.

    Parameters
    ----------
    end
        The stop document.
    result
        None where there is none.
    status
        The last status.
    failure
        What went wrong with the analysis, "" if nothing did.
    """
    # A success with a few gaps is one; a result that is mostly gaps is not.
    failed = result is None or missing(status) >= status.n_processed
    return RunEnd(
        raw_exit_status=end.exit_status,
        analysis_exit_status="fail" if failed else "success",
        reason=" ".join(part for part in (end.reason, failure) if part),
        status=status,
    )


# Sentences that a run keeps: a detector that fails a thousand times must not fill the log.
MOST_NOTES = 20
# Of a sentence: what documents hold may be long.
MOST_CHARACTERS = 2000


class Notes:
    """The sentences of one run, in order; iterating consumes nothing.

    Parameters
    ----------
    uid
        Of the run, for the log.

    Attributes
    ----------
    why_missing
        The first sentence that told of missing frames, "" if none did.
    """

    def __init__(self, uid: str) -> None:
        self.why_missing = ""
        self._uid = uid
        self._sentences: list[str] = []

    def add(self, sentence: str, *, missing: bool = False) -> None:
        """Log and keep a sentence, cut to MOST_CHARACTERS, once, and unless MOST_NOTES were.

        `missing`: it tells of frames that could not be had.
        """
        sentence = one_line(sentence, MOST_CHARACTERS)
        if missing:
            self.why_missing = self.why_missing or sentence
        if sentence in self._sentences or len(self._sentences) > MOST_NOTES:
            return
        if len(self._sentences) == MOST_NOTES:
            sentence = "There was more to tell; only the beginning is kept."
        self._sentences.append(sentence)
        logger.warning("Run %s: %s", self._uid, sentence)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sentences)
