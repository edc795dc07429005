"""The status object that a simulated detector gives to bluesky."""

from __future__ import annotations

import threading
from collections.abc import Callable


class SimulatedStatus:
    """A bluesky Status: done once, with or without an exception."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._exception: BaseException | None = None
        self._callbacks: list[Callable[[SimulatedStatus], None]] = []

    def finish(self, exception: BaseException | None = None) -> None:
        """Mark as done; later calls change nothing."""
        with self._lock:
            if self._done.is_set():
                return
            self._exception = exception
            self._done.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    def add_callback(self, callback: Callable[[SimulatedStatus], None]) -> None:
        """Call `callback` with this status when it is done, at once if it is."""
        with self._lock:
            if not self._done.is_set():
                self._callbacks.append(callback)
                return
        callback(self)

    def exception(self, timeout: float | None = 0.0) -> BaseException | None:
        """Return what went wrong, None if nothing did, after at most `timeout` s."""
        if not self._done.wait(timeout):
            raise TimeoutError("The status is not done.")
        return self._exception

    @property
    def done(self) -> bool:
        """Whether the operation has ended."""
        return self._done.is_set()

    @property
    def success(self) -> bool:
        """Whether it has ended well."""
        return self.done and self._exception is None
