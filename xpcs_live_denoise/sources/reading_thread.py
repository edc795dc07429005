"""Reads on a second thread while what was read is computed."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Generator, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

READ_AHEAD = 1  # blocks that wait beside the one that is read and the one that is computed


def read_ahead(blocks: Generator[T, None, None]) -> Generator[T, None, None]:
    """Yield what a generator yields, which goes on meanwhile on a thread of its own.

    What it raises is raised in its place. Close this where it is not read to its end (as
    `contextlib.closing` does): by then the thread has ended, and the generator is closed. The first
    block is read without a thread: who waits for it has nothing else to do.
    """
    try:
        first = next(blocks)
    except StopIteration:
        return
    ahead = _Ahead(blocks)
    try:
        yield first
        yield from ahead
    finally:
        ahead.close()


class _Ahead(Generic[T]):
    """The thread that takes from a generator, and what it has that nobody took yet."""

    def __init__(self, blocks: Generator[T, None, None]) -> None:
        self._blocks = blocks
        # (block, None), or what ended it: (None, the error), (None, None) at the end.
        self._waiting: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(READ_AHEAD)
        self._closing = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="xpcs-live-denoise reading", daemon=True
        )
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        while True:
            block, error = self._waiting.get()
            if block is None:
                if error is not None:
                    raise error
                return
            yield block

    def close(self) -> None:
        """Let the thread end, and wait until it has."""
        self._closing.set()
        while self._thread.is_alive():
            try:
                self._waiting.get_nowait()  # it may wait for room
            except queue.Empty:
                self._thread.join(0.01)

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            with contextlib.closing(self._blocks):
                for block in self._blocks:
                    self._waiting.put((block, None))
                    if self._closing.is_set():
                        return
        except BaseException as raised:  # raised where the blocks are taken
            error = raised
        self._waiting.put((None, error))
