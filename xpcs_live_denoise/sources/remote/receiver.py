"""Documents from another process over 0MQ: what `serve` listens to. Never opens a pickle."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Any

import zmq
from event_model import DocumentNames
from zmq.utils.monitor import recv_monitor_message

from xpcs_live_denoise.errors import InvalidInputError, Once
from xpcs_live_denoise.records.types import Document

from .codec import unpack_document
from .publisher import MAX_DOCUMENT_BYTES, check_prefix, document_address

logger = logging.getLogger(__name__)

# Documents that wait while the process is busy, for example while torch is imported: a hundred
# seconds of a hundred a second. Beyond it the publisher's queue fills, which counts what is lost.
RECEIVER_QUEUE = 10_000
POLL_MS = 100
BURST = 1000
_NAMES = frozenset(name.name for name in DocumentNames)


class RemoteDocuments:
    """Receives documents and calls back with each of them, on a thread of its own.

    Use it as a context manager or through `start` and `stop`. Whatever arrives, it goes on: what
    is no document is counted in `n_malformed` and logged, each reason once. Documents that were
    lost on the way show as missing `seq_num`, which the callback's run tells as a gap.

    Parameters
    ----------
    address
        The output of bluesky's proxy or, with `bind`, where publishers connect to: as for
        DocumentPublisher. A port alone is one on this machine.
    callback
        Called as callback(name, doc). What it raises is logged.
    prefix
        Take only messages of publishers that have it; b"": all.
    bind
        Listen at the address instead of connecting to it: no proxy is needed. One that cannot be
        listened at is an InvalidInputError of `start`.
    max_document_bytes
        A publisher of a larger message is disconnected before the message is in memory. 0MQ counts
        every part of a message by itself: who may connect can still fill the memory.

    Attributes
    ----------
    n_received, n_malformed
        Documents handed to the callback, and messages that were none.
    address
        As 0MQ spells it; with a port of 0, the one that was found free.
    """

    def __init__(
        self,
        address: str | int,
        callback: Callable[[str, Document], Any],
        *,
        prefix: bytes = b"",
        bind: bool = False,
        max_document_bytes: int = MAX_DOCUMENT_BYTES,
    ) -> None:
        self.address = document_address(address)
        self.n_received = 0
        self.n_malformed = 0
        self._n_connected = 0
        self._logged = Once()
        self._callback = callback
        self._prefix = check_prefix(prefix)
        self._bind = bind
        self._max_bytes = max_document_bytes
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> RemoteDocuments:
        """Listen; returns at once."""
        context = zmq.Context()
        socket = context.socket(zmq.SUB)
        try:
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.RCVHWM, RECEIVER_QUEUE)
            socket.setsockopt(zmq.MAXMSGSIZE, self._max_bytes)
            socket.subscribe(self._prefix + b" " if self._prefix else b"")
            monitor = socket.get_monitor_socket(
                zmq.EVENT_CONNECTED | zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED
            )
            if self._bind:
                any_port = self.address.startswith("tcp://") and self.address.endswith(":0")
                socket.bind(f"{self.address[:-1]}*" if any_port else self.address)
                self.address = socket.getsockopt_string(zmq.LAST_ENDPOINT)
            else:
                socket.connect(self.address)
        except zmq.ZMQError as error:
            context.destroy(linger=0)
            raise InvalidInputError(
                f"Address {self.address}: cannot be listened at ({error}); expected a free port "
                'of this machine with --bind, else the output of a proxy, "tcp://host:port".'
            ) from error
        self._thread = threading.Thread(
            target=self._run, args=(context, socket, monitor), name="xpcs-documents", daemon=True
        )
        self._thread.start()
        return self

    @property
    def waits_for(self) -> str:
        """Who is still to connect, a sentence; "" once somebody has."""
        if self._n_connected > 0 or self.n_received:
            return ""
        if self._bind:
            return f"No publisher has connected to {self.address} yet; waiting."
        return (
            f"Nothing answers at {self.address} yet: waiting for the output of bluesky's proxy "
            "there (bluesky-0MQ-proxy IN_PORT OUT_PORT). To take documents from publishers "
            "themselves, without a proxy, add --bind."
        )

    def stop(self) -> None:
        """Stop listening. Repeats are harmless."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> RemoteDocuments:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    # --- on the thread ------------------------------------------------------------------------

    def _run(self, context: zmq.Context[Any], socket: zmq.Socket[Any], monitor: Any) -> None:
        try:
            while not self._stopping.is_set():
                if socket.poll(POLL_MS):
                    self._take_burst(socket)
                begun, ended = _changes(monitor)
                self._n_connected += begun - ended
                if ended:
                    self._reconnect(socket)
        finally:
            socket.disable_monitor()
            monitor.close(linger=0)
            socket.close()
            context.term()

    def _take_burst(self, socket: zmq.Socket[Any]) -> None:
        """Take what is there, but look up now and then."""
        for _ in range(BURST):
            try:
                parts = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                self._take(parts)
            except Exception:  # the callback's own fault; the next document may be better
                logger.exception("A document could not be handled; going on.")

    def _take(self, parts: list[bytes]) -> None:
        try:
            name, doc = self._decode(parts)
        except InvalidInputError as error:
            self.n_malformed += 1
            if self._logged.is_news(str(error)):
                logger.warning("A message at %s was refused: %s", self.address, error)
            return
        if name:
            self.n_received += 1
            self._callback(name, doc)

    def _decode(self, parts: list[bytes]) -> tuple[str, Document]:
        """Return name and document; ("", {}) for a message to somebody else."""
        fields = parts[0].split(b" ", 2)
        if len(parts) != 1 or len(fields) != 3:
            raise InvalidInputError('Not a message of bluesky; expected "prefix name document".')
        prefix, name, body = fields
        if self._prefix and prefix != self._prefix:
            return "", {}
        text = name.decode("ascii", "replace")
        if text not in _NAMES:
            raise InvalidInputError("Unknown document name; expected one of the event model.")
        return text, unpack_document(body)

    def _reconnect(self, socket: zmq.Socket[Any]) -> None:
        """Connect again: 0MQ gives a connection up for good over one message that is too large."""
        self._take_burst(socket)
        logger.info(
            "A connection at %s ended: its process did, or it sent more than %d bytes at once.",
            self.address,
            self._max_bytes,
        )
        if self._bind:
            return
        with contextlib.suppress(zmq.ZMQError):  # given up already
            socket.disconnect(self.address)
        socket.connect(self.address)


def _changes(monitor: zmq.Socket[Any]) -> tuple[int, int]:
    """Return how many connections have begun and ended since the last call."""
    begun, ended = 0, 0
    while monitor.poll(0):
        is_end = recv_monitor_message(monitor)["event"] == zmq.EVENT_DISCONNECTED
        begun, ended = begun + (not is_end), ended + is_end
    return begun, ended
