"""The thread that delivers results to one destination: Tiled, a window, a user's sink."""

from __future__ import annotations

import dataclasses
import logging
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.monitoring import Counts
from xpcs_live_denoise.records.results import (
    GAMMA_COLUMNS,
    BandRows,
    C2Rows,
    GammaTable,
    Intensity,
    Publication,
    Result,
    Sink,
)
from xpcs_live_denoise.records.run import Delivery, DeliveryState, RunEnd, RunInfo, Status
from xpcs_live_denoise.records.types import Array
from xpcs_live_denoise.sinks import TiledDestination

from .outbox import Outbox, SinkFactory, Timings
from .worker import Worker

logger = logging.getLogger(__name__)

DEFAULT_PATH = "processed"  # where `results` looks by itself
# Frames that wait are worked on so many times as long as the last publication took, before the
# next; but not longer than this, s: somebody watches.
WORK_BETWEEN, LONGEST_WORK_S = 4.0, 5.0
END_STORED = "its final results are stored"


class RunDelivery:
    """The results of one run, named by its raw uid, on their way to one destination.

    `report` is called with one line when it has arrived.

    `begin`, `put` and `finish` belong to the worker's thread and never wait for the destination;
    `attempt` and `give_up` belong to the delivery thread. `outbox` holds what is still to be
    delivered, `ended` tells whether the run has, `attempted` is time.monotonic() of the last
    attempt.
    """

    def __init__(
        self, uid: str, thread: DeliveryThread, *, report: Callable[[str], object] | None = None
    ) -> None:
        self.uid = uid
        self._report = report
        self.outbox = Outbox(thread.destination, timings=thread.timings, counts=thread.counts)
        self.ended = False
        self.attempted = 0.0
        self._thread = thread
        self._sink: Sink | None = None
        self._failed = ""
        self._refused = False
        self._pause_s = 0.0
        self._give_up_at = float("inf")  # time.monotonic(): a sink without a spool

    @property
    def state(self) -> Delivery:
        """How far it has come."""
        if self._failed:
            state = DeliveryState.REFUSED if self._refused else DeliveryState.WAITING
        else:
            state = DeliveryState.DELIVERED if self.outbox.is_empty else DeliveryState.WAITING
        return Delivery(state=state, reason=self._failed)

    @property
    def done(self) -> bool:
        """Whether the run has ended and everything was delivered, or given up."""
        return self.ended and self.outbox.is_empty

    @property
    def failing(self) -> bool:
        """Whether the last attempt failed."""
        return self._pause_s > 0

    @property
    def due(self) -> float:
        """time.monotonic() from which there is something to do; infinite while there is not."""
        if self.outbox.is_empty:
            return float("inf")
        return min(self.attempted + self._pause_s, self._give_up_at)

    # --- what the worker calls ----------------------------------------------------------------

    def begin(self, info: RunInfo) -> None:
        """Take what is known of the run."""
        self.outbox.begin(info)
        self._thread.add(self)

    def put(self, publication: Publication) -> None:
        """Take a publication."""
        self.outbox.put(publication, on_disk=self.failing or self._thread.is_slow)
        self._thread.wake()

    def finish(self, result: Result | None, end: RunEnd) -> None:
        """Take the final result, if there is one, and the end."""
        if not self.outbox.has_spool:
            self._give_up_at = time.monotonic() + self._thread.timings.give_up_s
        self.outbox.put_end(result, end, on_disk=self.failing or self._thread.is_slow)
        self.ended = True
        self.attempted = float("-inf")  # at once, whatever failed before
        self._thread.wake()

    # --- what the delivery thread calls -------------------------------------------------------

    def attempt(self) -> None:
        """Deliver the oldest publications, or the end; what fails is left for the next attempt."""
        failing, began = self.failing, time.monotonic()
        try:
            self._deliver()
        except Exception as error:  # a sink is foreign ground: its fault must not end the thread
            self.attempted = time.monotonic()
            self._thread.counts.add("xpcs_faults_total", label="delivery")
            self._note_failure(error)
            return
        self.attempted = time.monotonic()
        self._thread.counts.observe("xpcs_delivery_seconds", self.attempted - began)
        self._pause_s, self._failed = 0.0, ""
        if failing:
            now = END_STORED if self.done else "publishing again, nothing was lost"
            logger.warning("Run %s: %s.", self.uid, now)
            self._thread.is_back()

    def give_up(self) -> None:
        """Deliver nothing more; another process may."""
        self.outbox.spill(last_chance=True)
        if self.outbox.end is not None:
            remedy = f"xpcs-live-denoise replay {self.uid} --config xpcs.yml or analyse repeats it."
            if self.outbox.has_end_on_disk:
                remedy = (
                    f"They are kept in {self.outbox.folder}: xpcs-live-denoise deliver --config "
                    "xpcs.yml stores them when the server is back."
                )
            logger.error(
                "Run %s: the final results could not be stored. %s %s",
                self.uid,
                self.state.note,
                remedy,
            )
            self.outbox.forget()
        self._sink = None
        self.outbox.close()

    def _deliver(self) -> None:
        outbox = self.outbox
        if self._sink is None:
            self._sink = outbox.open_sink()
        pieces = outbox.first()
        publication = outbox.read(pieces)
        if publication is not None:
            self._sink.write(publication)
            outbox.delivered(pieces)
        elif outbox.end is not None and not outbox.first():
            self._deliver_end(self._sink, outbox.end)

    def _deliver_end(self, sink: Sink, end: RunEnd) -> None:
        result = self.outbox.read_result()
        if result is not None:
            sink.write(result)
        sink.finish(end)
        self._sink = None  # a plot holds the whole result, and runs stay on show in `status`
        info, path = self.outbox.info, self._thread.path
        self.outbox.end_delivered()
        if self._report is not None and info is not None:
            try:
                self._report(end_line(info, end, path))
            except Exception as error:  # somebody's own code
                logger.warning("Run %s: its last line could not be shown (%s).", self.uid, error)

    def _note_failure(self, error: Exception) -> None:
        self._refused = isinstance(error, InvalidInputError)
        self._failed = " ".join(str(error).split()) or type(error).__name__
        if not self.failing:
            logger.warning(
                "Run %s: results cannot be published (%s: %s). The scan and the analysis go on; "
                "trying again.",
                self.uid,
                type(error).__name__,
                error,
            )
        timings = self._thread.timings
        longer = max(2 * self._pause_s, timings.first_pause_s)
        self._pause_s = min(longer, timings.longest_pause_s)
        if time.monotonic() >= self._give_up_at:
            self.give_up()
        else:
            self.outbox.spill(last_chance=self.ended)


class RunDeliveries:
    """The results of one run on their way to all destinations; for the worker's thread.

    `ended` tells whether the run has; `n_frames` were published so far.
    """

    def __init__(self, deliveries: Sequence[RunDelivery]) -> None:
        self.ended = False
        self.n_frames = 0
        self._deliveries = deliveries
        self._last_s = float("-inf")  # time.monotonic() of the last publication
        self._cost_s = 0.0  # of that
        self._published = Published()

    @property
    def state(self) -> Delivery:
        """How far they have come, to the destination that is worst off."""
        return Delivery.worst(delivery.state for delivery in self._deliveries)

    @property
    def notes(self) -> list[str]:
        """Why destinations have not taken them, a sentence each; "" where they have."""
        return [delivery.state.note for delivery in self._deliveries]

    @property
    def done(self) -> bool:
        """Whether the run has ended and every destination has everything, or was given up."""
        return self.ended and all(delivery.done for delivery in self._deliveries)

    def begin(self, info: RunInfo) -> None:
        """Take what is known of the run."""
        for delivery in self._deliveries:
            delivery.begin(info)

    def is_due(
        self, n_frames: int, *, window: int, period_s: float, frames_wait: bool = False
    ) -> bool:
        """Whether a publication of so many frames is new, and the last one is long enough ago.

        While frames wait they go first: a publication that takes long is made less often.
        """
        # The first Gamma(t) waits for nothing.
        first_window = self.n_frames < window <= n_frames
        least_s = period_s
        if frames_wait:
            least_s = max(period_s, min(self._cost_s * WORK_BETWEEN, LONGEST_WORK_S))
        waited = time.monotonic() - self._last_s >= least_s
        return n_frames > self.n_frames and (first_window or waited)

    def put(self, publication: Publication, cost_s: float = 0.0) -> None:
        """Take a publication, which took `cost_s` to make."""
        for delivery in self._deliveries:
            delivery.put(publication)
        self._published.add(publication)
        self.n_frames, self._last_s = publication.n_frames, time.monotonic()
        self._cost_s = cost_s

    def take_back(self, status: Status) -> None:
        """Write over what was published so far: no numbers, and rows that say why."""
        published, self._published = self._published, Published()
        for nothing in published.taken_back(status):
            for delivery in self._deliveries:
                delivery.put(nothing)
        self.n_frames = 0

    def finish(self, result: Result | None, end: RunEnd) -> None:
        """Take the final result, if there is one, and the end."""
        for delivery in self._deliveries:
            delivery.finish(result, end)
        self._published = Published()
        self.ended = True


# Columns that tell which row of Gamma one is.
WHICH = ("roi", "q_inv_angstrom", "age_s", "age_frame", "source", "width")


class Published:
    """What was published of a run, as far as it takes to write over it.

    Of rows of Gamma that is which there were: some 50 bytes each, where a row has a thousand.
    """

    def __init__(self) -> None:
        self._n_frames = 0
        self._rows: C2Rows | None = None
        self._band: BandRows | None = None
        self._intensity: Intensity | None = None
        self._row: GammaTable | None = None  # any one, for the other columns
        self._which: list[list[Array]] = []  # columns WHICH of each publication

    def add(self, publication: Publication) -> None:
        """Take note of a publication."""
        self._n_frames = publication.n_frames
        self._rows = publication.c2 or self._rows
        self._band = publication.band or self._band
        self._intensity = publication.intensity or self._intensity
        if publication.gamma is not None:
            self._add_rows(publication.gamma)

    def _add_rows(self, gamma: GammaTable) -> None:
        if not len(gamma):
            return
        self._row = gamma.select(np.array([0]))
        columns: list[Array] = [getattr(gamma, name) for name in WHICH]
        self._which.append([one.astype("S") if one.dtype.kind == "U" else one for one in columns])

    def _gone_rows(self) -> GammaTable | None:
        """Return all rows, without a number."""
        if self._row is None:
            return None
        columns = dict(zip(WHICH, map(np.concatenate, zip(*self._which, strict=True)), strict=True))
        columns["source"] = columns["source"].astype(np.str_)
        numbers = [name for name in GAMMA_COLUMNS if getattr(self._row, name).dtype.kind == "f"]
        return self._row.select(np.zeros(len(columns["roi"]), np.int64)).replace(
            **{
                **dict.fromkeys(numbers, np.nan),
                **columns,
                "converged": False,
                "recommended": False,
                "reason": "another_series",
                "caution": "",
            }
        )

    def taken_back(self, status: Status) -> Iterator[Publication]:
        """Yield what replaces all of it, in parts that need no memory; nothing if nothing was."""
        gone = self._gone_rows()
        nothing = Publication(
            n_frames=self._n_frames, c2=None, band=None, gamma=None, status=status
        )
        parts = [dataclasses.replace(nothing, c2=rows) for rows in self._empty_map()]
        parts += [dataclasses.replace(nothing, band=rows) for rows in self._empty_band()]
        parts += [dataclasses.replace(nothing, intensity=rows) for rows in self._empty_intensity()]
        for part in parts:
            yield dataclasses.replace(part, gamma=gone)
            gone = None

    def _empty_map(self) -> Iterator[C2Rows]:
        """Yield the rows of the map up to the last ones, without a number."""
        last = self._rows
        if last is None:
            return
        n_roi, dtype = len(last.values), last.values.dtype
        for start, stop in _parts(last.stop, n_roi * last.stop * dtype.itemsize):
            nothing = np.broadcast_to(np.array(np.nan, dtype), (n_roi, stop - start, stop))
            yield dataclasses.replace(last, start=start, stop=stop, values=nothing)

    def _empty_band(self) -> Iterator[BandRows]:
        """Yield the rows of the band up to the last ones, without a number."""
        last = self._band
        if last is None:
            return
        n_roi, _, window = last.c2.shape
        for start, stop in _parts(last.stop, 3 * n_roi * window * last.c2.itemsize):
            shape = (n_roi, stop - start, window)
            nothing = np.broadcast_to(np.array(np.nan, last.c2.dtype), shape)
            denoised, spread = (
                None if values is None else nothing for values in (last.denoised, last.spread)
            )
            yield BandRows(start=start, stop=stop, c2=nothing, denoised=denoised, spread=spread)

    def _empty_intensity(self) -> Iterator[Intensity]:
        """Yield I(t) up to the last frame, without a number."""
        last = self._intensity
        if last is None:
            return
        n_roi = last.roi_mean.shape[1]
        for start, stop in _parts(last.stop, 4 * n_roi + 8):
            roi_mean = np.broadcast_to(np.float32(np.nan), (stop - start, n_roi))
            total = np.broadcast_to(np.float64(np.nan), (stop - start,))
            yield Intensity(start=start, stop=stop, total=total, roi_mean=roi_mean)


# Of rows that are written over, in one publication: what a sink or a disk makes of them.
MOST_PART_BYTES = 16 * 2**20


def _parts(n_rows: int, row_bytes: int) -> Iterator[tuple[int, int]]:
    edge = max(1, MOST_PART_BYTES // row_bytes)
    for start in range(0, n_rows, edge):
        yield start, min(start + edge, n_rows)


class DeliveryThread:
    """One daemon thread that makes and feeds the sinks of all runs for one destination.

    A run that is still measured goes before runs that wait. Only this thread opens and closes
    nodes and gives the spool's folders free. The worker's `changed` is notified when something was
    delivered or given up.
    """

    def __init__(
        self,
        destination: TiledDestination | SinkFactory,
        *,
        timings: Timings,
        worker: Worker,
    ) -> None:
        self.destination = destination
        self.timings = timings
        self._worker = worker
        self._runs: list[RunDelivery] = []
        self._thread: threading.Thread | None = None
        self._to_check = False
        self._gave_up = False
        self._attempt_began = float("inf")
        self._give_up_at: float | None = None  # time.monotonic(): set when it closes

    @property
    def path(self) -> str | None:
        """The container for derived runs in Tiled; None for another destination."""
        return self.destination.path if isinstance(self.destination, TiledDestination) else None

    @property
    def runs(self) -> Sequence[RunDelivery]:
        """The runs that are not done."""
        return self._runs

    @property
    def counts(self) -> Counts:
        """The counts of the session."""
        return self._worker.counts

    @property
    def broken(self) -> bool:
        """Whether the thread has died before it was to end."""
        thread = self._thread
        return thread is not None and not thread.is_alive() and self._give_up_at is None

    @property
    def is_slow(self) -> bool:
        """Whether the destination takes long over what it was given."""
        return time.monotonic() - self._attempt_began > self.timings.slow_s

    def add(self, run: RunDelivery) -> None:
        """Serve a run from now on."""
        with self._worker.changed:
            if run not in self._runs:
                self._runs.append(run)

    def connect(self) -> None:
        """Connect to Tiled in the background, if that is the destination; a fault is logged."""
        self._to_check = isinstance(self.destination, TiledDestination)
        self.wake()

    def wake(self) -> None:
        """Look for something to do."""
        with self._worker.changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="xpcs delivery", daemon=True)
                self._thread.start()
            self._worker.changed.notify_all()

    def is_back(self) -> None:
        """Try at once what else failed: the destination took something again."""
        with self._worker.changed:
            for run in self._runs:
                if run.state.state is DeliveryState.WAITING:
                    run.attempted = float("-inf")

    def begin_close(self, timeout: float | None) -> None:
        """Go on until nothing waits, or for `timeout` seconds with what fails; then end.

        It does not end before the worker, which may still put something.
        """
        with self._worker.changed:
            seconds = float("inf") if timeout is None else timeout
            self._give_up_at = time.monotonic() + seconds
            self._worker.changed.notify_all()

    def join(self, timeout: float | None) -> bool:
        """Wait for the end after `begin_close`; False if results are left, on disk if possible."""
        if self._thread is None:
            return True
        self._thread.join(timeout)
        if self._thread.is_alive():
            # It waits for an answer. Its lock on the spool goes with the process: were it given
            # free here, `deliver` would be a second writer.
            for run in list(self._runs):
                run.outbox.spill(last_chance=True)
            return False
        return not self._gave_up

    # --- the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        while self._wait():
            if self._to_check:
                self._check()
            run = self._next()
            if run is None:
                continue
            self._attempt_began = time.monotonic()
            run.attempt()
            self._attempt_began = float("inf")
            with self._worker.changed:
                self._runs = [known for known in self._runs if not known.done]
                self._worker.changed.notify_all()
        for run in self._runs:
            self._gave_up |= run.outbox.end is not None
            run.give_up()
        if isinstance(self.destination, TiledDestination):
            self.destination.close()
        with self._worker.changed:
            self._worker.changed.notify_all()

    def _wait(self) -> bool:
        """Wait until there is something to do; False if the thread is to end."""
        with self._worker.changed:
            while True:
                now, closing = time.monotonic(), self._give_up_at is not None
                runs = self._worth_trying(now)
                first = min((run.due for run in runs), default=float("inf"))
                if first <= now or self._to_check:
                    return True
                if closing and first == float("inf") and self._worker.ended:
                    return False
                if self._give_up_at is not None and now < self._give_up_at:
                    first = min(first, self._give_up_at)
                self._worker.changed.wait(None if first == float("inf") else first - now)

    def _next(self) -> RunDelivery | None:
        """Return the run to serve: one that is still measured, the one that waited longest."""
        now = time.monotonic()
        due = [run for run in self._worth_trying(now) if run.due <= now]
        return min(due, key=lambda run: (run.ended, run.attempted), default=None)

    def _worth_trying(self, now: float) -> list[RunDelivery]:
        """Return the runs whose results may still be delivered: all, unless the thread closes."""
        if self._give_up_at is None:
            return self._runs
        in_time = now < self._give_up_at
        return [run for run in self._runs if not run.failing or (run.ended and in_time)]

    def _check(self) -> None:
        self._to_check = False
        try:
            if isinstance(self.destination, TiledDestination):
                self.destination.check()
        except Exception as error:  # the first run tries again
            logger.warning("%s: %s", type(error).__name__, error)


def end_line(info: RunInfo, end: RunEnd, path: str | None) -> str:
    """Return the line that says how a run ended; `path` is the container that its result is in."""
    status, run = end.status, info.uid[:8]
    if end.analysis_exit_status != "success":
        return f"Run {run}: the analysis failed. {end.reason}".strip()
    n_all = status.n_processed + status.n_skipped
    frames = f"{status.n_processed}{f' of {n_all}' * (n_all != status.n_processed)} frames"
    how = "" if end.raw_exit_status == "success" else f" (the run ended with {end.raw_exit_status})"
    line = f"Run {run} analysed{how}: {frames}, {len(info.roi)} ROI{'s' * (len(info.roi) != 1)}"
    if path is None:
        return f"{line}."
    where = "" if path == DEFAULT_PATH else f", path={path!r}"
    return f"{line}; results(catalog, {run!r}{where})"


def what_is_left(threads: Sequence[DeliveryThread], unfinished: Sequence[str]) -> list[str]:
    """Return what a session that ends should say of results that are not stored, a line each.

    `unfinished` are uids of raw runs whose stop came but whose results are not delivered yet.
    """
    waiting = [run for thread in threads for run in thread.runs if run.outbox.folder is not None]
    lines: list[str] = []
    if waiting and waiting[0].outbox.folder is not None:
        root = waiting[0].outbox.folder.parent
        runs = "1 run wait" if len(waiting) == 1 else f"{len(waiting)} runs wait"
        lines.append(
            f"Results of {runs} in {root}: `xpcs-live-denoise deliver --config xpcs.yml --spool "
            f"{shlex.quote(str(root))}` stores them when the server is back."
        )
    kept = {run.uid for run in waiting if run.outbox.has_end_on_disk}
    if lost := [uid for uid in unfinished if uid not in kept]:
        lines.append(
            f"Not stored to the end and not on disk: {len(lost)} run(s). `xpcs-live-denoise replay "
            f"{' '.join(lost)} --config xpcs.yml` computes them again."
        )
    return lines
