"""Sends the documents of a RunEngine to an analysis in another process (0MQ, no pickle)."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque

import zmq

from xpcs_live_denoise.errors import InvalidInputError, Once, XpcsError
from xpcs_live_denoise.records.types import Fields

from .codec import packed_pieces

logger = logging.getLogger(__name__)

MAX_DOCUMENT_BYTES = 256 * 2**20
# Documents that wait in the profile for a slow network. Ten seconds of a hundred a second; what
# does not fit is counted and logged instead of being dropped in silence, as 0MQ would.
PUBLISHER_QUEUE = 1000
# And of those with frames inside, together: 28 frames of an Eiger 4M.
PUBLISHER_QUEUE_BYTES = 256 * 2**20
# A connection needs a moment; documents sent before it stands reach nobody.
CONNECT_S = 1.0
LINGER_S = 2.0
# Larger messages are handed over as they are, and told when 0MQ has done with them.
COPIED_BYTES = 2**16

_TOO_SLOW = (
    "The network is slower than the documents and the queue is full; documents are lost. Frames in "
    "files are found again with the next document."
)


class DocumentPublisher:
    """Publishes documents; subscribe it to the RunEngine. Needs neither torch nor a Tiled server.

    The messages have the form of `bluesky.callbacks.zmq`, so bluesky's proxy passes them on. A
    call never blocks and never raises: what cannot be sent is counted and logged.

    Parameters
    ----------
    address
        Where `xpcs-live-denoise serve --bind` listens, or the proxy's input:
        "tcp://127.0.0.1:5577", "host:port", or a port on this machine.
    prefix
        Tells publishers apart that share a proxy.
    queue_length
        Most documents that wait for the network.
    queue_bytes
        Most bytes that wait with them; a single document may be larger. Documents below
        COPIED_BYTES are not counted: those that say how a run goes on are never in the way.
    max_document_bytes
        A larger one is not sent; the receiver would refuse it.
    connect_s
        Longest wait for a listener here, s. The scan never waits.

    Attributes
    ----------
    n_sent, n_lost
        Documents that were handed to the network, and that could not be.

    Raises
    ------
    InvalidInputError
        For an address or a prefix that cannot be used.
    """

    def __init__(
        self,
        address: str | int,
        *,
        prefix: bytes = b"",
        queue_length: int = PUBLISHER_QUEUE,
        queue_bytes: int = PUBLISHER_QUEUE_BYTES,
        max_document_bytes: int = MAX_DOCUMENT_BYTES,
        connect_s: float = CONNECT_S,
    ) -> None:
        self.address = document_address(address)
        self.n_sent = 0
        self.n_lost = 0
        self._prefix = check_prefix(prefix)
        self._max_bytes = max_document_bytes
        self._queue_bytes = queue_bytes
        self._waiting: deque[tuple[zmq.MessageTracker, int]] = deque()  # large ones, their bytes
        self._lock = threading.Lock()  # made by one thread, called by another
        self._topics: set[bytes] = set()
        self._logged = Once()
        context = zmq.Context()
        # XPUB instead of PUB: it tells whether anybody listens, and when its queue is full.
        self._socket = context.socket(zmq.XPUB)
        self._socket.setsockopt(zmq.SNDHWM, queue_length)
        self._socket.setsockopt(zmq.XPUB_NODROP, 1)
        try:
            self._socket.connect(self.address)
        except zmq.ZMQError as error:
            context.destroy(linger=0)
            raise InvalidInputError(
                f"Address {self.address}: cannot be connected to ({error}); expected "
                '"tcp://host:port".'
            ) from error
        deadline = time.monotonic() + connect_s
        while not self._listeners() and (left := deadline - time.monotonic()) > 0:
            self._socket.poll(max(1, int(left * 1000)))

    def __call__(self, name: str, doc: Fields) -> None:
        """Send a document. Returns at once and never raises."""
        try:
            with self._lock:
                self._send(name, doc)
        except Exception as error:  # the RunEngine calls: a raise would abort the scan
            self.n_lost += 1
            self._warn_once(f"{type(error).__name__}: {error}")

    @property
    def n_bytes_waiting(self) -> int:
        """Bytes of the large documents that 0MQ has not sent yet."""
        return sum(size for tracker, size in self._waiting if not tracker.done)

    def close(self, linger_s: float = LINGER_S) -> None:
        """Send what waits, for `linger_s` at most, and close the connection."""
        with self._lock:
            if not self._socket.closed:
                self._socket.close(linger=int(1000 * linger_s))
                self._socket.context.term()

    def _send(self, name: str, doc: Fields) -> None:
        if self._socket.closed:
            raise XpcsError("The publisher is closed.")
        if name == "start" and not self._listeners():
            logger.warning(
                "Nobody listens at %s: run %s will not be analysed while it is taken. Start "
                "`xpcs-live-denoise serve`; a stored run can be analysed with `replay`.",
                self.address,
                doc.get("uid"),
            )
        pieces = packed_pieces(doc, self._refused)
        n_bytes = sum(map(len, pieces))
        if n_bytes > self._max_bytes:
            raise XpcsError(
                f"A {name} document has {n_bytes} bytes; expected at most {self._max_bytes}. "
                "Let the detector write files, or raise max_document_bytes on both sides."
            )
        is_large = n_bytes >= COPIED_BYTES
        if is_large and not self._has_room(n_bytes):
            raise XpcsError(f"{_TOO_SLOW} At most {self._queue_bytes} bytes wait (queue_bytes).")
        message = b"".join((self._prefix, b" ", name.encode(), b" ", *pieces))
        try:
            tracker = self._socket.send(message, zmq.NOBLOCK, copy=not is_large, track=is_large)
        except zmq.Again:
            raise XpcsError(_TOO_SLOW) from None
        if tracker is not None:
            self._waiting.append((tracker, n_bytes))
        self.n_sent += 1

    def _has_room(self, n_bytes: int) -> bool:
        """Whether a large document may wait beside those that 0MQ has not sent yet."""
        while self._waiting and self._waiting[0][0].done:
            self._waiting.popleft()
        return not self._waiting or self.n_bytes_waiting + n_bytes <= self._queue_bytes

    def _refused(self, kind: str) -> None:
        self._warn_once(f"A value of the type {kind} cannot be sent; None stands in its place")

    def _listeners(self) -> bool:
        """Whether anybody has subscribed; reads what came of subscriptions since the last call."""
        with contextlib.suppress(zmq.Again):
            while True:
                change = self._socket.recv(zmq.NOBLOCK)
                if change[:1] == b"\x01":
                    self._topics.add(change[1:])
                else:
                    self._topics.discard(change[1:])
        return bool(self._topics)

    def _warn_once(self, reason: str) -> None:
        if self._logged.is_news(reason):
            logger.warning(
                "Publishing documents to %s: %s. The scan goes on.", self.address, reason
            )


def document_publisher(address: str | int, prefix: bytes = b"") -> DocumentPublisher:
    """Return what to subscribe in a profile whose runs are analysed by `xpcs-live-denoise serve`.

    ``RE.subscribe(document_publisher("tcp://127.0.0.1:5577"))``
    """
    return DocumentPublisher(address, prefix=prefix)


def document_address(address: str | int) -> str:
    """Return an address as 0MQ spells it; a port alone is one on this machine."""
    text = str(address)
    if text.startswith("ipc://"):
        return text
    host, _, port = text.removeprefix("tcp://").rpartition(":")
    if "://" in host or not port.isascii() or not port.isdigit():
        raise InvalidInputError(
            f'Address {text!r}: expected "tcp://host:port", "host:port", a port, or "ipc://path".'
        )
    return f"tcp://{host or '127.0.0.1'}:{port}"


def check_prefix(prefix: bytes) -> bytes:
    """Return a prefix that can stand in front of a message: bytes without a space."""
    if not isinstance(prefix, bytes) or b" " in prefix:
        raise InvalidInputError(f"Prefix {prefix!r}: expected bytes without a space.")
    return prefix
