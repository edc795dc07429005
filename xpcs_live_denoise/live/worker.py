"""The one thread that computes: messages in a bounded queue in front, every fault caught behind."""

from __future__ import annotations

import dataclasses
import functools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from xpcs_live_denoise.monitoring import Counts
from xpcs_live_denoise.records.frames import (
    EigerFrames,
    FrameReference,
    Geometry,
    HDF5Frames,
    InlineFrames,
    MissingFrames,
    RoiPixels,
    TiledFrames,
)
from xpcs_live_denoise.records.types import Fields
from xpcs_live_denoise.sources import Following, RunDocuments

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What waits in the worker's queue. `notes` are sentences for the status.

    By itself it brings those, such as what a later descriptor says otherwise: the analysis goes on
    with what it began with. A `Session` loads what runs will need when it gets one.
    """

    notes: tuple[str, ...] = ()

    @property
    def n_bytes(self) -> int:
        """Bytes that this message holds on to; 0 for references."""
        return 0

    def merge(self, later: Message) -> Message | None:  # noqa: ARG002 - of those that join
        """Return one message for both, or None if they do not join."""
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin(Message):
    """The run has frames of the detector: what its documents say of them, as in RunInfo.

    `frame_time_s`, as documents tell it, and `exposure_s` are None where nothing does,
    `frame_shape` where the first frame must. `problem` is why the run cannot be analysed, or "";
    `stream` names the one with the frames, None before it is known.
    `followed` finds frames on disk while the run goes on, `documents` tell when its events were
    made. A second one begins the run anew: another stream is the series.
    """

    start: Fields
    image_key: str
    frame_shape: tuple[int, int] | None
    frame_time_s: float | None
    n_expected: int | None
    geometry: Geometry
    problem: str = ""
    stream: str | None = None
    exposure_s: float | None = None
    documents: RunDocuments | None = None
    followed: Following = dataclasses.field(default_factory=Following)

    def with_files(self) -> Begin:
        """Return this with what followed files tell by now and documents did not."""
        files = self.followed
        return dataclasses.replace(
            self,
            n_expected=self.n_expected or files.n_expected,
            frame_time_s=self.frame_time_s or files.frame_time_s,
            geometry=self.geometry.completed(files.geometry),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFrames(Message):
    """Frames that a document announced; `arrival` is its time.monotonic().

    `frames` is where they are to be read, or, of inline frames, their ROI pixels.
    """

    frames: FrameReference | RoiPixels
    arrival: float

    @property
    def n_bytes(self) -> int:
        """Bytes of pixels and of inline frames; 0 for files."""
        if isinstance(self.frames, InlineFrames):
            return self.frames.frames.nbytes
        return self.frames.n_bytes if isinstance(self.frames, RoiPixels) else 0

    def merge(self, later: Message) -> NewFrames | None:
        """Join frames of the same dataset or series that follow directly, or of one reason."""
        if not isinstance(later, NewFrames):
            return None
        joined = _joined(self.frames, later.frames)
        return None if joined is None else NewFrames(frames=joined, arrival=later.arrival)


def _joined(here: object, there: object) -> FrameReference | None:
    """Return both in one; None for another place, another kind of reference or another reason."""
    if isinstance(here, MissingFrames) and isinstance(there, MissingFrames):
        n_frames = here.n_frames + there.n_frames
        same = here.reason == there.reason
        return dataclasses.replace(here, n_frames=n_frames) if same else None
    if not isinstance(here, HDF5Frames | EigerFrames | TiledFrames):
        return None
    if not isinstance(there, HDF5Frames | EigerFrames | TiledFrames):
        return None
    same = dataclasses.replace(there, start=0, stop=0) == dataclasses.replace(here, start=0, stop=0)
    return dataclasses.replace(here, stop=there.stop) if same and here.stop == there.start else None


@dataclass(frozen=True, slots=True, kw_only=True)
class End(Message):
    """The stop document: how the raw run ended."""

    exit_status: str
    reason: str


class Consumer(Protocol):
    """What the worker works for: one live run."""

    def handle(self, message: Message) -> None:
        """Work on one message."""
        ...

    def tick(self) -> None:
        """Do what is due by the clock. Called after every message and while the queue is empty."""
        ...

    def fail(self, error: Exception) -> None:
        """Note that `handle` or `tick` raised."""
        ...

    @property
    def ended(self) -> bool:
        """True when it had its last message."""
        ...


class Worker:
    """One daemon thread that takes messages in order and gives each to its consumer.

    At most `queue_bytes` may wait. A message that holds bytes is refused beyond it, a message that
    holds none (a reference) never is: those merge with the one before where they can. Consumers
    tick at least every `tick_s`. `changed` is notified after every message and tick, and by whoever
    delivers results: a run has come further. `counts` are those of all that work for its session,
    exceptions that consumers raised (faults of the kind "analysis") among them.
    """

    def __init__(self, *, queue_bytes: int, tick_s: float) -> None:
        self.counts = Counts()
        self._queue_bytes = queue_bytes
        self._tick_s = tick_s
        self._turns: deque[Consumer] = deque()  # one for each message that waits, in order
        self._messages: dict[int, deque[Message]] = {}  # id(consumer) -> those of it that wait
        self._waiting_bytes = 0
        self._consumers: list[Consumer] = []
        self.changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._ended = False
        self._began = float("inf")  # time.monotonic() of the message that is worked on

    @property
    def closed(self) -> bool:
        """Whether messages are refused since `close`."""
        return self._closing

    @property
    def ended(self) -> bool:
        """Whether it is closed and nothing more will come of it."""
        return self._ended or (self._closing and self._thread is None)

    @property
    def broken(self) -> bool:
        """Whether the thread has died, which nothing should make it do."""
        thread = self._thread
        return thread is not None and not thread.is_alive() and not self.ended

    @property
    def depth(self) -> int:
        """Number of messages that wait."""
        return len(self._turns)

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the messages that wait."""
        return self._waiting_bytes

    @property
    def busy_s(self) -> float:
        """How long it has been at the message, or the tick, that it works on; 0 while it waits."""
        return max(0.0, time.monotonic() - self._began)

    def submit(self, consumer: Consumer, message: Message) -> bool:
        """Queue a message; False when its bytes do not fit and it was refused.

        Never blocks for longer than it takes to append.
        """
        with self.changed:
            if self._closing:
                return False
            # What is larger than the bound by itself may wait alone: refusing it would never end.
            waiting = self._waiting_bytes
            if message.n_bytes and waiting and waiting + message.n_bytes > self._queue_bytes:
                return False
            self._waiting_bytes += message.n_bytes
            own = self._messages.setdefault(id(consumer), deque())
            merged = own[-1].merge(message) if own else None
            if merged is not None:
                own[-1] = merged
            else:
                own.append(message)
                self._turns.append(consumer)
            if not any(known is consumer for known in self._consumers):
                self._consumers.append(consumer)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="xpcs-live-denoise", daemon=True
                )
                self._thread.start()
            self.changed.notify_all()
        return True

    def close(self, timeout: float | None) -> bool:
        """Take nothing more, work off what waits; False if that takes longer than `timeout` s."""
        with self.changed:
            self._closing = True
            self.changed.notify_all()
            thread = self._thread
        if thread is None:
            return True
        thread.join(timeout)
        return not thread.is_alive()

    def _run(self) -> None:
        next_tick = time.monotonic() + self._tick_s
        while True:
            taken = self._take(next_tick)
            if taken is not None:
                consumer, message = taken
                self._guard(consumer, functools.partial(consumer.handle, message))
                self._guard(consumer, consumer.tick)
            elif self._closing and not self._turns:
                with self.changed:
                    self._ended = True
                    self.changed.notify_all()
                return
            if time.monotonic() >= next_tick:
                for consumer in list(self._consumers):
                    self._guard(consumer, consumer.tick)
                next_tick = time.monotonic() + self._tick_s
            with self.changed:
                if taken is not None:
                    self._waiting_bytes -= taken[1].n_bytes
                self._consumers = [known for known in self._consumers if not known.ended]
                self.changed.notify_all()

    def _take(self, until: float) -> tuple[Consumer, Message] | None:
        """Return the next message and whose it is; None at the time `until` or at the end."""
        with self.changed:
            self.changed.wait_for(
                lambda: bool(self._turns) or self._closing,
                # Nobody to tick for: sleep until somebody comes.
                max(0.0, until - time.monotonic()) if self._consumers else None,
            )
            if not self._turns:
                return None
            consumer = self._turns.popleft()
            own = self._messages[id(consumer)]
            message = own.popleft()
            if not own:
                del self._messages[id(consumer)]
            return consumer, message

    def _guard(self, consumer: Consumer, call: Callable[[], None]) -> None:
        """Call; whatever is raised goes to the consumer, never out of the thread."""
        self._began = time.monotonic()
        try:
            call()
        except Exception as error:  # the edge of the thread: nothing may end it
            self.counts.add("xpcs_faults_total", label="analysis")
            try:
                consumer.fail(error)
            except Exception:
                logger.exception("A live run could not note its own fault")
        finally:
            self._began = float("inf")
