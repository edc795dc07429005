"""The one thread that computes: a bounded queue in front, every fault caught behind."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

logger = logging.getLogger(__name__)


class Message(Protocol):
    """What may wait in the queue."""

    @property
    def n_bytes(self) -> int:
        """Bytes that this message holds on to; 0 for references."""
        ...

    def merge(self, later: Any) -> Message | None:
        """Return one message for both, or None if they do not join."""
        ...


class Consumer(Protocol):
    """What the worker works for: one live run."""

    def handle(self, message: Any) -> None:
        """Work on one message."""
        ...

    def tick(self) -> None:
        """Do what is due by the clock. Called after every message and while the queue is empty."""
        ...

    def fail(self, error: Exception) -> None:
        """Note that `handle` or `tick` raised."""
        ...

    def abandon(self) -> None:
        """Give up what is still to be delivered: the worker closes, nothing more will come."""
        ...

    @property
    def done(self) -> bool:
        """True when nothing more will come of it."""
        ...

    @property
    def delivering(self) -> bool:
        """True when it has had its last message but is not done yet."""
        ...


@dataclass(slots=True)
class _Entry:
    consumer: Consumer
    message: Message


class Errand:
    """A call that the worker makes once, in its turn: message and consumer in one.

    Parameters
    ----------
    call
        What it raises is logged.
    """

    n_bytes = 0
    delivering = False

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self.done = False

    def merge(self, later: Any) -> None:
        """Never joins another message."""

    def handle(self, message: Any) -> None:  # noqa: ARG002 - of the Protocol
        """Make the call."""
        self.done = True
        self._call()

    def tick(self) -> None:
        """Do nothing: the call is all there is."""

    def abandon(self) -> None:
        """Do nothing: there is nothing to deliver."""

    def fail(self, error: Exception) -> None:
        """Log what the call raised."""
        logger.warning("%s: %s", type(error).__name__, error)


class Worker:
    """One daemon thread that takes messages in order and gives each to its consumer.

    Parameters
    ----------
    queue_bytes
        Most bytes that may wait. A message that holds bytes is refused beyond it, a message that
        holds none (a reference) never is: those merge with the one before where they can.
    tick_s
        Longest time between two ticks, s.

    Attributes
    ----------
    n_faults
        Exceptions that consumers raised.
    """

    def __init__(self, *, queue_bytes: int, tick_s: float) -> None:
        self._queue_bytes = queue_bytes
        self._tick_s = tick_s
        self._entries: deque[_Entry] = deque()
        self._last: dict[int, _Entry] = {}  # id(consumer) -> its newest entry still waiting
        self._waiting_bytes = 0
        self._consumers: list[Consumer] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._abandoned = False
        self._give_up = float("inf")  # time.monotonic() after which a closing worker stops waiting
        self.n_faults = 0

    @property
    def closed(self) -> bool:
        """Whether messages are refused since `close`."""
        return self._closing

    @property
    def depth(self) -> int:
        """Number of messages that wait."""
        return len(self._entries)

    def submit(self, consumer: Consumer, message: Message) -> bool:
        """Queue a message; False when its bytes do not fit and it was refused.

        Never blocks for longer than it takes to append.
        """
        with self._changed:
            if self._closing:
                return False
            # What is larger than the bound by itself may wait alone: refusing it would never end.
            waiting = self._waiting_bytes
            if message.n_bytes and waiting and waiting + message.n_bytes > self._queue_bytes:
                return False
            self._waiting_bytes += message.n_bytes
            last = self._last.get(id(consumer))
            merged = last.message.merge(message) if last is not None else None
            if last is not None and merged is not None:
                last.message = merged
            else:
                entry = _Entry(consumer, message)
                self._entries.append(entry)
                self._last[id(consumer)] = entry
            if not any(known is consumer for known in self._consumers):
                self._consumers.append(consumer)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="xpcs-live-denoise", daemon=True
                )
                self._thread.start()
            self._changed.notify_all()
        return True

    def wait(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until `condition()` holds; False if it does not within `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(condition, timeout)

    def close(self, timeout: float | None) -> bool:
        """Take nothing more, work off what waits and what is still to be delivered.

        Returns False if that took longer than `timeout` seconds; what was not delivered by then is
        given up.
        """
        with self._changed:
            self._closing = True
            if timeout is not None:
                self._give_up = time.monotonic() + timeout
            self._changed.notify_all()
            thread = self._thread
        if thread is None:
            return True
        # A second more: what gives up at the last moment still has to say so.
        thread.join(None if timeout is None else timeout + 1.0)
        return not thread.is_alive() and not self._abandoned

    def _run(self) -> None:
        next_tick = time.monotonic() + self._tick_s
        while True:
            entry = self._take(next_tick)
            if entry is not None:
                self._guard(
                    entry.consumer, lambda entry=entry: entry.consumer.handle(entry.message)
                )
                self._guard(entry.consumer, entry.consumer.tick)
            elif self._closing and not self._entries and not self._still_delivering():
                for consumer in self._consumers:
                    self._guard(consumer, consumer.abandon)
                return
            if time.monotonic() >= next_tick:
                for consumer in list(self._consumers):
                    self._guard(consumer, consumer.tick)
                next_tick = time.monotonic() + self._tick_s
            with self._changed:
                if entry is not None:
                    self._waiting_bytes -= entry.message.n_bytes
                self._consumers = [known for known in self._consumers if not known.done]
                self._changed.notify_all()

    def _still_delivering(self) -> bool:
        """Whether a closing worker must go on: something is to be delivered, and there is time."""
        delivering = any(known.delivering for known in self._consumers)
        self._abandoned = delivering and time.monotonic() >= self._give_up
        return delivering and not self._abandoned

    def _take(self, until: float) -> _Entry | None:
        """Return the next entry, or None when the clock reads `until` or the worker closes."""
        with self._changed:
            self._changed.wait_for(
                lambda: bool(self._entries) or (self._closing and not self._consumers),
                # Nobody to tick for: sleep until somebody comes.
                max(0.0, until - time.monotonic()) if self._consumers else None,
            )
            if not self._entries:
                return None
            entry = self._entries.popleft()
            if self._last.get(id(entry.consumer)) is entry:
                del self._last[id(entry.consumer)]
            return entry

    def _guard(self, consumer: Consumer, call: Callable[[], None]) -> None:
        """Call; whatever is raised goes to the consumer, never out of the thread."""
        try:
            call()
        except Exception as error:  # the edge of the thread: nothing may end it
            self.n_faults += 1
            try:
                consumer.fail(error)
            except Exception:
                logger.exception("A live run could not note its own fault")
