"""One run on the worker's thread: frame references in, publications to its sinks out."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from xpcs_live_denoise.analysis import (
    Analysis,
    DetectorImage,
    append_note,
    library_versions,
    open_ensemble,
    open_picture_denoiser,
)
from xpcs_live_denoise.config import Settings, settings_hash
from xpcs_live_denoise.errors import (
    FrameShapeError,
    UnreadableFramesError,
    XpcsError,
    one_line,
    text_of,
)
from xpcs_live_denoise.numerics import mean_image
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.numerics.windows import Denoiser
from xpcs_live_denoise.records.frames import (
    FrameReference,
    MissingFrames,
    RoiPixels,
    StartOver,
)
from xpcs_live_denoise.records.results import Result
from xpcs_live_denoise.records.run import RunEnd, RunInfo, Status
from xpcs_live_denoise.records.types import Array, Fields, FloatArray
from xpcs_live_denoise.sources import (
    FileRoots,
    Followed,
    Following,
    FrameReader,
    RoiSelection,
    open_flat_field,
    open_mask,
    open_rois,
    read_ahead,
    read_with_gaps,
)

from .delivery import RunDeliveries, RunDelivery
from .known import Knowledge
from .time_axis import TimeAxis
from .worker import Begin, End, Message, NewFrames, Worker

logger = logging.getLogger(__name__)

NO_DESCRIPTOR = "Frames came before the descriptor of the detector."


class Session:
    """What all runs of one LiveDenoise share: settings, `roots` of files, ROIs and ensemble.

    `analysed_by` is that of `RunInfo`.

    The ensemble is loaded once, on the worker's thread, of which this is a `Consumer`.
    """

    ended = True  # it wants no ticks

    def __init__(
        self,
        settings: Settings,
        *,
        rois: RoiMap | None = None,
        ensemble: Denoiser | None = None,
        analysed_by: str = "live",
    ) -> None:
        self.settings, self.analysed_by = settings, analysed_by
        self.roots = FileRoots(settings.file_roots)
        self._rois = rois
        self._loaded = None if ensemble is None else (ensemble, "")

    @property
    def settings_hash(self) -> str:
        """That of `RunInfo`, of the files as they are now."""
        return settings_hash(self.settings, self._rois)

    def rois(self, start: Fields) -> tuple[RoiMap, FloatArray | None, str]:
        """Return ROI map, flat field and a note, read anew for each run as the settings say."""
        return open_flat_field(self.settings, open_rois(self.settings, self._rois, start))

    def image(self, rois: RoiMap) -> tuple[DetectorImage, str]:
        """Return the image of a new run, and why it is not denoised where it should be.

        Its I(q) leaves out what the mask of now does.
        """
        keep = open_mask(self.settings, rois.shape)
        denoise, note = open_picture_denoiser(self.settings)
        image = DetectorImage(rois, self.settings.orientation, keep=keep, denoise=denoise)
        return image, note

    def ensemble(self) -> tuple[Denoiser | None, str]:
        """Return the ensemble, or None and why there is none."""
        if self._loaded is None:
            self._loaded = open_ensemble(self.settings)
        return self._loaded

    def handle(self, message: Message) -> None:  # noqa: ARG002 - of the Protocol
        """Load the ensemble and what is compiled before somebody waits for it."""
        from xpcs_live_denoise.numerics import compiled  # numba takes half a second

        self.ensemble()
        compiled.prepare()

    def tick(self) -> None:
        """Do nothing."""

    def fail(self, error: Exception) -> None:
        """Log why the ensemble could not be loaded; the first run tries again."""
        logger.warning("%s: %s", type(error).__name__, error)


class LiveRun:
    """A run's analysis, driven by messages, with its results on the way to the sinks.

    Used by the worker's thread only, but for `image`, which it sets and others read (None until
    the run has begun and when it is over), `known`, which others read, too, and `n_seen`, the
    frames announced, which the RunEngine's thread counts.
    """

    def __init__(
        self,
        uid: str,
        *,
        session: Session,
        source: FrameReader,
        deliveries: Sequence[RunDelivery],
        worker: Worker,
    ) -> None:
        self.uid = uid
        self.image: DetectorImage | None = None
        self.n_seen = 0
        self.known = Knowledge()
        self.deliveries = RunDeliveries(deliveries)
        self._status = Status()
        self._session = session
        self._source = source
        self._worker = worker
        self._analysis: Analysis | None = None
        self._begun: Begun | None = None  # until the run has ended
        self._notes = Notes(uid)
        self._n_counted = 0  # of the frames seen, those that are in the session's counts

    @property
    def status(self) -> Status:
        """Where the run stands, with the reasons why sinks have not taken its results."""
        return append_note(self._status, *self.deliveries.notes)

    @property
    def ended(self) -> bool:
        """Whether it had its last message."""
        return self.deliveries.ended

    @property
    def _followed(self) -> Following:
        return Following() if self._begun is None else self._begun.axis.begin.followed

    # --- what the worker calls -------------------------------------------------------------

    def handle(self, message: Message) -> None:
        """Work on one message; a failed run takes no more frames but still ends properly."""
        if isinstance(message, End):
            self._end(message)
        elif self._notes.failure:
            return
        elif isinstance(message, Begin):
            if self._begun is None:
                self._start(message)
            else:
                self._start_over(message)  # another stream is the series
        elif not isinstance(message, NewFrames):
            self._notes.add(*message.notes)
        elif isinstance(message.frames, RoiPixels):
            n_known = self._followed.already(len(message.frames), came=True)
            self._take(message.frames.after(n_known), message.arrival)
        else:
            self._read(self._followed.reconcile(message.frames), message.arrival)

    def tick(self) -> None:
        """Read what has come to the followed files, and publish what is due."""
        if not self._notes.failure:
            found = self._followed.poll(is_current=lambda: not self._worker.depth)
            self._read(found, time.monotonic())
        self._publish_if_due(frames_wait=self._worker.depth > 0)

    def _publish_if_due(self, *, frames_wait: bool) -> None:
        """Publish if there are new frames and the last publication is long enough ago."""
        analysis, settings = self._analysis, self._session.settings
        if analysis is None or self._begun is None or self._notes.failure:
            return
        if self._begun.axis.is_held:
            return
        if self.deliveries.is_due(
            analysis.n_frames,
            window=settings.window,
            period_s=settings.publish_period_s,
            frames_wait=frames_wait,
        ):
            self._publish(analysis, self._begun)

    def fail(self, error: Exception) -> None:
        """Give the analysis up, say so once, and leave the scan alone."""
        if not self._notes.failure:
            self._notes.failure = f"The analysis stopped: {text_of(error)}"
            logger.error(
                "Run %s: the analysis stopped, the scan goes on. %s: %s",
                self.uid,
                type(error).__name__,
                text_of(error),
                # An error of ours says all there is to say.
                exc_info=None if isinstance(error, XpcsError) else error,
            )
            self._status = append_note(self._counted(self._status), self._notes.failure)

    # --- the steps -------------------------------------------------------------------------

    def _start(self, begin: Begin) -> None:
        info = run_info(begin, self._session)
        axis = TimeAxis(begin, self._session.settings.frame_time_s)
        self._begun = Begun(info=info, axis=axis)
        self.deliveries.begin(info)
        if begin.problem:
            self._notes.failure = begin.problem
            logger.warning("Run %s is not analysed. %s", self.uid, begin.problem)
            self._status = append_note(self._counted(self._status), begin.problem)
            return
        self._notes.add(*begin.notes)
        rois, self._begun.flat_field, note = self._session.rois(begin.start)
        image, no_image = self._session.image(rois)
        image.locate(begin.geometry)
        self.image = image  # before the ensemble, whose libraries take seconds to load
        _, why_not = self._session.ensemble()
        mean_image.compile_kernels()
        self._notes.add(*filter(None, (why_not, no_image, note)))

    def _begin_analysis(self, begun: Begun, image: DetectorImage) -> Analysis:
        """Begin with the first frames: files that are followed tell more by then."""
        begun.axis.begin = begin = begun.axis.begin.with_files()
        image.locate(begin.geometry)
        rois = image.rois
        settings, (ensemble, _) = self._session.settings, self._session.ensemble()
        self._analysis = analysis = Analysis(
            settings,
            rois,
            frame_time_s=1.0,  # the time axis is known later
            n_frames=begin.n_expected,
            ensemble=ensemble,
            flat_field=begun.flat_field,
        )
        begun.selection = RoiSelection(rois)
        info = run_info(begin, self._session, rois)
        begun.info = dataclasses.replace(
            info,
            engine=analysis.engine,
            model=getattr(ensemble, "info", None),
        )
        return analysis

    def _decide_time_axis(self, begun: Begun) -> None:
        """Find how far apart the frames are, and tell sinks that are still to be made."""
        before = begun.axis.found.notes
        begun.axis.decide()
        self._notes.replace(before, begun.axis.found.notes)
        begun.info = begun.axis.info(begun.info)
        self.deliveries.begin(begun.info)

    def _require_analysis(self) -> Analysis:
        if self._analysis is None and self._begun is not None and self.image is not None:
            return self._begin_analysis(self._begun, self.image)
        if self._analysis is None:
            raise UnreadableFramesError(NO_DESCRIPTOR)
        return self._analysis

    def _read(self, references: Sequence[Followed], arrival: float) -> None:
        for reference in references:
            if not isinstance(reference, StartOver):
                self._read_frames(reference, arrival)
            elif self._begun is not None:
                self._start_over(self._begun.axis.begin, reference.reason)

    def _start_over(self, begin: Begin, *reasons: str) -> None:
        """Forget what was analysed, and take back what was published of it."""
        self._analysis = None
        self.known = Knowledge()
        self._notes = Notes(self.uid)
        self._notes.add(*reasons)
        self._status = append_note(self._counted(Status()), *self._notes)
        self.deliveries.take_back(self._status)  # first: the new start may fail
        self._start(begin)
        self._status = append_note(self._counted(Status()), *self._notes)

    def _read_frames(self, reference: FrameReference, arrival: float) -> None:
        """Read the frames behind a reference block by block; what cannot be had becomes a gap."""
        if self._analysis is None:
            self._leave_out_bad_pixels(reference)
        n_done, block_bytes = 0, self._session.settings.block_bytes
        pieces = read_with_gaps(self._source, reference, block_bytes, self._selection())
        try:
            with contextlib.closing(read_ahead(pieces)) as read:
                for piece in read:
                    if isinstance(piece, MissingFrames):
                        self._skip(piece.n_frames, piece.reason)
                        n_done += piece.n_frames
                        continue
                    self._take(piece, arrival)
                    n_done += len(piece)
                    self._notes.add(*self._source.notes)
                    more = n_done < reference.n_frames or self._worker.depth > 0
                    self._publish_if_due(frames_wait=more)
        except FrameShapeError as error:
            self._skip(max(0, reference.n_frames - n_done), str(error))

    def _selection(self) -> RoiSelection:
        """Return what is wanted of frames: the ROI pixels of the analysis, which begins with it."""
        self._require_analysis()
        if self._begun is None or self._begun.selection is None:
            raise UnreadableFramesError(NO_DESCRIPTOR)
        return self._begun.selection

    def _take(self, frames: RoiPixels, arrival: float) -> None:
        """Analyse frames, and add to the picture those that are there whole."""
        self._require_analysis().push_pixels(frames.pixels)
        self._worker.counts.add("xpcs_frames_processed_total", len(frames))
        if self.image is not None:
            self.image.add_offered()
            if frames.whole is not None:
                self.image.add(frames.whole)
        self._note_lag(arrival)

    def _leave_out_bad_pixels(self, reference: FrameReference) -> None:
        """Take the pixels out of the ROIs that the file of the first frames marks as bad."""
        bad = self._source.bad_pixels(reference)
        if self.image is not None and bad is not None:
            self._notes.add(*self.image.leave_out(bad))

    def _skip(self, n_frames: int, reason: str) -> None:
        self._require_analysis().push_gap(n_frames)
        self._worker.counts.add("xpcs_frames_skipped_total", n_frames)
        self._notes.add(reason, missing=True)

    def _note_lag(self, arrival: float) -> None:
        lag_s = time.monotonic() - arrival
        self._status = dataclasses.replace(self._status, lag_s=lag_s)

    def _counted(self, status: Status) -> Status:
        n_seen = max(self.n_seen, status.n_processed + status.n_skipped)
        self._worker.counts.add("xpcs_frames_seen_total", max(0, n_seen - self._n_counted))
        self._n_counted = n_seen
        return dataclasses.replace(
            status,
            n_seen=n_seen,
            lag_s=self._status.lag_s,
            queue_depth=self._worker.depth,
        )

    def _publish(self, analysis: Analysis, begun: Begun) -> None:
        began = time.monotonic()
        if not begun.axis.is_decided:
            self._decide_time_axis(begun)
        publication = begun.axis.publication(analysis.publish(self.deliveries.n_frames))
        rows = publication.c2
        if rows is not None:  # of an array that goes on growing; rows of the band are copies
            rows = dataclasses.replace(rows, values=rows.values.copy())
        self._status = append_note(self._counted(publication.status), *self._notes)
        picture = None
        if self.image is not None:
            picture = self.image.updated(negative_is_data=analysis.negative_is_data)
        publication = dataclasses.replace(
            publication, c2=rows, status=self._status, picture=picture
        )
        cost_s = time.monotonic() - began
        self._worker.counts.observe("xpcs_publication_seconds", cost_s)
        self.deliveries.put(publication, cost_s)
        self.known.take(publication, begun.info)

    def _end(self, end: End) -> None:
        """Write the final result and close the sinks, whatever happened before."""
        try:
            result = self._final_result()
        except Exception as error:  # the run's own edge: its sinks must still be closed
            result = None
            self.fail(error)
        status = self._status = self._counted(self._status)
        n_expected = self._begun and self._begun.axis.begin.n_expected
        why = self._notes.failure or what_is_missing(status, self._notes.why_missing, n_expected)
        no_success = why_no_success(result, self._session.settings.window) if result else ""
        run_end = end_of_run(end, result, status, why, no_success)
        outcome = "success" if run_end.analysis_exit_status == "success" else "fail"
        self._worker.counts.add("xpcs_runs_total", label=outcome)
        self._source.close()
        self._analysis = self._begun = self.image = None  # many runs may wait for a server
        self.deliveries.finish(result, run_end)
        self.known.close()

    def _final_result(self) -> Result | None:
        if self._notes.failure:
            return None
        self._read(self._followed.finish(), time.monotonic())
        analysis, begun = self._require_analysis(), self._begun
        if analysis.n_taken == 0 or begun is None:
            self._notes.failure = "The run had no frames of the detector."
            self._notes.add(self._notes.failure)
            self._status = append_note(self._counted(self._status), *self._notes)
            return None
        self._decide_time_axis(begun)
        result = begun.axis.result(analysis.finish())
        self._status = append_note(self._counted(result.status), *self._notes)
        picture = None
        if self.image is not None:
            self.image.add_offered()
            picture = self.image.image(negative_is_data=analysis.negative_is_data)
        result = dataclasses.replace(result, status=self._status, picture=picture, info=begun.info)
        self.known.take(result, begun.info)
        return result


# C2 of frames that are all the same differs from place to place by no more: noise of rounding.
SAME = 1e-5
# A mean intensity this many times its noise is one; and the share of C2 that is below zero by noise
# alone, where there is one.
CLEAR, MOST_NEGATIVE = 1.5, 0.25


@dataclass(slots=True)
class Begun:
    """What a run that has begun is analysed with; the selection from its first frames on."""

    info: RunInfo
    axis: TimeAxis
    flat_field: FloatArray | None = None
    selection: RoiSelection | None = None


def run_info(begin: Begin, session: Session, rois: RoiMap | None = None) -> RunInfo:
    """Return what is known of a run; without ROIs, enough to say what went wrong with them."""
    settings = session.settings
    return RunInfo(
        start=begin.start,
        detector=settings.detector,
        image_key=begin.image_key,
        frame_shape=(begin.frame_shape or (0, 0)) if rois is None else rois.shape,
        frame_time_s=begin.frame_time_s or 1.0,
        n_expected=begin.n_expected,
        roi=() if rois is None else tuple(rois.labels.tolist()),
        q_inv_angstrom=() if rois is None else tuple(rois.q_inv_angstrom.tolist()),
        phi_deg=() if rois is None or rois.phi_deg is None else tuple(rois.phi_deg.tolist()),
        n_pixels=() if rois is None else tuple(rois.n_pixels.tolist()),
        window=settings.window,
        step=settings.step,
        mode=settings.mode,
        engine=settings.engine,
        geometry=begin.geometry,
        settings=settings.model_dump(mode="json"),
        versions=library_versions(),
        analysed_by=session.analysed_by,
        settings_hash=session.settings_hash,
    )


def missing(status: Status) -> int:
    """Return how many frames could not be had; those that screening left out are not among them."""
    return status.n_skipped - status.n_masked


def what_is_missing(status: Status, why: str, n_expected: int | None) -> str:
    """Return what a run that came to its end has not analysed, "" if that is nothing.

    `why` is what happened to the first frames that are missing; where it is "", the status tells.
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


def why_no_success(result: Result, window: int) -> str:
    """Return why a result of a run that was analysed to its end is none to rely on, "" if it is."""
    n_used, n_all = result.status.n_processed, result.band.stop
    n_wanted = min(window, max(2, n_all / 2))
    if not n_used:
        return ""  # told already
    if n_used < n_wanted:
        left_out = f" ({result.status.n_masked} left out)" if result.status.n_masked else ""
        return (
            f"Only {n_used} of {n_all} frames could be used{left_out}: too few, expected at least "
            f"{math.ceil(n_wanted)}."
        )
    c2, n_bins = result.map_values, result.map_values.shape[-1]
    n_different, has_pairs = _different(c2)
    if not has_pairs:
        return (
            "No ROI has counts in two of the frames: there is nothing to correlate. Check the "
            "shutter, the ROIs and the mask."
        )
    if n_used > 2 and n_different < min(window, max(2, n_bins / 2)):
        which = "All frames are the same"
        if n_different > 1:
            what = "frames" if result.frames_per_bin == 1 else "bins of the map of C2"
            which = f"All but {n_different} of {n_bins} {what} are the same as the one before"
        return f"{which}: there is nothing to correlate. Check that the detector writes new frames."
    if result.info is not None and _is_noise(c2, np.array(result.info.n_pixels)):
        return (
            "The frames hold noise around zero: in no ROI is the mean intensity of a frame above "
            "its noise. Check the shutter, and the dark image that was subtracted."
        )
    return ""


def _different(c2: FloatArray) -> tuple[int, bool]:
    """Return how many frames (bins of a map) differ from the one before, the first one included.

    Those without a number are passed over. Beside it whether C2 of any two has a number.
    """
    last, n_different, has_pairs = None, 0, False
    for row in range(c2.shape[-1]):  # C2 may be as large as the memory
        values = c2[:, row]
        if not np.isfinite(values).any():
            continue
        has_pairs |= bool(np.isfinite(values[:, :row]).any())
        n_different += last is None or bool((np.abs(values - last) > SAME).any())
        last = values
    return n_different, has_pairs


def _is_noise(c2: FloatArray, n_pixels: Array) -> bool:
    """Whether frames have no mean in any ROI, as the diagonal of C2 tells, 1 + (noise / mean)^2.

    Numbers that are not negative have one; else C2 is as often below zero as above.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        noise_of_pixel = np.sqrt(np.diagonal(c2, axis1=1, axis2=2) - 1)  # in units of the mean
        above = np.sqrt(n_pixels)[:, np.newaxis] / noise_of_pixel
    known = np.isfinite(c2)
    negative = (c2 < 0).sum(axis=(1, 2)) / np.maximum(known.sum(axis=(1, 2)), 1)
    is_low = [bool(np.nanmedian(one) < CLEAR) for one in above if np.isfinite(one).any()]
    return bool(is_low) and all(is_low) and float(negative.max()) > MOST_NEGATIVE


def end_of_run(
    end: End, result: Result | None, status: Status, failure: str, no_success: str = ""
) -> RunEnd:
    """Return how a run and its analysis ended; `failure`: what stopped the latter, or "".

    `no_success` is why a result that is there is none to rely on, or "".
    """
    # A success with a few gaps is one; a result that is mostly gaps is not.
    failed = result is None or missing(status) >= status.n_processed or bool(no_success)
    said = "" if end.reason in failure else end.reason
    reasons = (said, failure, no_success)
    return RunEnd(
        raw_exit_status=end.exit_status,
        analysis_exit_status="fail" if failed else "success",
        reason=" ".join(part for part in reasons if part),
        status=status,
    )


# Sentences that a run keeps: a detector that fails a thousand times must not fill the log.
MOST_NOTES = 20
# Of a sentence: what documents hold may be long.
MOST_CHARACTERS = 2000


class Notes:
    """The sentences of one run, in order.

    `why_missing` is the first of missing frames, or ""; `failure` is why the analysis was given up,
    or "".
    """

    def __init__(self, uid: str) -> None:
        self.why_missing = ""
        self.failure = ""
        self._uid = uid
        self._sentences: list[str] = []

    def add(self, *sentences: str, missing: bool = False) -> None:
        """Log and keep sentences, cut to MOST_CHARACTERS, each once, and MOST_NOTES at most.

        `missing`: they tell of frames that could not be had.
        """
        for sentence in (one_line(sentence, MOST_CHARACTERS) for sentence in sentences):
            if missing:
                self.why_missing = self.why_missing or sentence
            if sentence in self._sentences or len(self._sentences) > MOST_NOTES:
                continue
            kept = sentence
            if len(self._sentences) == MOST_NOTES:
                kept = "There was more to tell; only the beginning is kept."
            self._sentences.append(kept)
            logger.warning("Run %s: %s", self._uid, kept)

    def replace(self, before: Sequence[str], now: Sequence[str]) -> None:
        """Keep these sentences in the place of earlier ones; both are logged."""
        self._sentences = [one for one in self._sentences if one not in before or one in now]
        self.add(*now)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sentences)
