"""How many threads compute, decided here only: our own pool, BLAS, and what torch runs on.

Compiled loops release the interpreter's lock and run on one thread each; `spread` gives ROIs to the
cores. Libraries that start threads of their own for every small product are held to one.
"""

from __future__ import annotations

import functools
import itertools
import os
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController  # pyright: ignore[reportMissingTypeStubs]

T = TypeVar("T")
R = TypeVar("R")

# The number of threads that compute, where it is not to be that of the cores of this process.
VARIABLE = "XPCS_LIVE_DENOISE_THREADS"


def n_threads() -> int:
    """Return how many threads `spread` uses: one a core that this process may run on.

    The environment variable XPCS_LIVE_DENOISE_THREADS sets fewer, or more where a container hides
    cores. What is no number from 1 on is ignored with a warning.
    """
    has_affinity = hasattr(os, "sched_getaffinity")
    n_cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return n_cores
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    warnings.warn(
        f"Environment variable {VARIABLE}: got {text!r}, expected a whole number from 1 on. All "
        f"{n_cores} cores are used.",
        stacklevel=2,
    )
    return n_cores


def evenly(n: int, n_part: int) -> list[range]:
    """Split range(n) into parts of equal size, as far as it goes."""
    ends = [n * i // n_part for i in range(n_part + 1)]
    return [range(*two) for two in itertools.pairwise(ends)]


def spread(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Return function(item) for every item, in their order, computed on all cores.

    The calling thread computes too, so that a function which spreads itself never waits for ever,
    and a process without a pool (one core, the interpreter ends) does it all alone. It pays where
    most of the time is spent without the interpreter's lock. Items begin in their order: the
    longest one should be first. The function must not change what others of its calls read.

    Raises what the function raises, of the first item where several fail, after all threads have
    stopped; items that had not begun are left out then.
    """
    if len(items) < 2 or (n := min(n_threads(), len(items))) < 2:
        return [function(item) for item in items]
    waiting = deque(enumerate(items))
    results: dict[int, R] = {}
    errors: dict[int, BaseException] = {}

    def work() -> None:
        while waiting:
            try:
                index, item = waiting.popleft()
            except IndexError:  # another thread took the last one
                return
            try:
                results[index] = function(item)
            except BaseException as error:
                errors[index] = error
                waiting.clear()

    with one_thread():
        helpers = _helpers(work, n - 1)
        try:
            work()
        finally:
            _join(helpers, waiting)
    if errors:
        raise errors[min(errors)]
    return [results[index] for index in range(len(items))]


def _helpers(work: Callable[[], None], n: int) -> list[Future[None]]:
    """Start `work` on n more threads, as soon as they are free."""
    try:
        return [_pool().submit(work) for _ in range(n)]
    except RuntimeError:  # the interpreter ends, or the system gives no thread
        return []


def _join(helpers: list[Future[None]], waiting: deque[Any]) -> None:
    """Wait until no helper runs: they write into arrays that the caller goes on with."""
    interrupted: KeyboardInterrupt | None = None
    for helper in helpers:
        while not helper.cancel() and not helper.done():
            try:
                wait([helper])
            except KeyboardInterrupt as error:
                waiting.clear()
                interrupted = error
    if interrupted is not None:
        raise interrupted


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(n_threads() - 1, 1), thread_name_prefix="xpcs-compute")


class _Limit:
    """Holds libraries to one thread while somebody asks for it; its state is how many do.

    BLAS has one number for the process: the first who comes sets it, the last who goes sets it
    back, so that two analyses at a time do not leave it at one for ever.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_inside = 0
        self._limiter: Any = None

    def enter(self) -> None:
        with self._lock:
            if not self._n_inside:
                self._limiter = _libraries(len(sys.modules)).limit(limits=1, user_api="blas")
            self._n_inside += 1

    def leave(self) -> None:
        with self._lock:
            self._n_inside -= 1
            if not self._n_inside:
                self._limiter.restore_original_limits()


@contextmanager
def one_thread() -> Generator[None]:
    """Return a context in which numpy's BLAS uses one thread, and torch in the thread that asks.

    The fits multiply thousands of small matrices. On a machine whose cores are busy (the detector,
    the server, the scan) two threads took ten times as long for them as one.
    """
    limit = _limit()
    limit.enter()
    try:
        # OpenMP, on which torch runs, has a number for each thread.
        with _libraries(len(sys.modules)).limit(limits=1, user_api="openmp"):
            yield
    finally:
        limit.leave()


@functools.cache
def _limit() -> _Limit:
    return _Limit()


@functools.lru_cache(maxsize=1)
def _libraries(n_modules: int) -> Any:  # noqa: ARG001 (whatever is imported may bring its own)
    return ThreadpoolController()


def _forget() -> None:
    """Forget threads and locks of the parent: a process that was forked has neither."""
    _pool.cache_clear()
    _limit.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
