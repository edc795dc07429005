"""Where the tasks of `reprocess` are done: in this process, or on workers of dask.distributed."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast

from xpcs_live_denoise.errors import (
    MissingDependencyError,
    XpcsError,
    install_line,
    text_of,
)
from xpcs_live_denoise.numerics.threads import VARIABLE

if TYPE_CHECKING:
    from distributed import Client, Future

T = TypeVar("T")
R = TypeVar("R")

CONNECT_S = 10.0
# What a process of one thread computes with: more of them would fight for the cores.
_ONE_THREAD = {VARIABLE: "1", **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")}


class TaskLostError(XpcsError):
    """A task that nobody does any more: the scheduler is away. What is stored stays stored."""


def do_tasks(
    function: Callable[[T], R],
    tasks: Sequence[T],
    *,
    workers: int | None,
    scheduler: str | None,
    warm_up: Callable[[], object] | None = None,
) -> Iterator[tuple[T, R | Exception]]:
    """Yield each task with what the function makes of it, in the order in which they end.

    `workers` None does them one after another in this process, as does 1 where dask is not
    installed; else in so many processes of one thread. `scheduler` is the address of a Dask
    scheduler, whose workers do them. A task whose worker dies is done again by another one; one of
    which several died has an exception in the place of its result, one that nobody does any more
    TaskLostError. Each worker does `warm_up` before its first task.

    Raises
    ------
    MissingDependencyError
        Where dask.distributed is needed and not installed.
    XpcsError
        When the scheduler does not answer.
    """
    has_dask = importlib.util.find_spec("distributed") is not None
    if scheduler is None and (workers is None or (workers == 1 and not has_dask)):
        for task in tasks:
            yield task, function(task)
        return
    if not has_dask:
        raise MissingDependencyError(
            "--workers and --dask: need the library distributed, which is not installed. "
            f"{install_line('dask')}. Without both options the runs are computed one by one here."
        )
    with _client(min(workers or 1, max(len(tasks), 1)), scheduler) as client:
        # Of one thread each: what comes first is done first.
        warmed = [
            client.submit(_alone, _called, warm_up, workers=[worker], pure=False)
            for worker in (cast("Any", client).nthreads() if warm_up is not None else ())
        ]
        yield from _on(client, function, tasks)
        del warmed  # a failure is told by the first task that meets it


@contextlib.contextmanager
def _client(workers: int, scheduler: str | None) -> Iterator[Client]:
    from distributed import Client, LocalCluster

    # What it logs of connections that end is told in our own words.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=CONNECT_S, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            raise XpcsError(
                f"Dask scheduler {scheduler}: does not answer ({text_of(error, 200)}); expected "
                "the address that `dask scheduler` prints, tcp://host:8786. Start it, with "
                "workers, or use --workers N."
            ) from error
        try:
            yield client
        finally:
            with contextlib.suppress(Exception):  # of a scheduler that has gone
                client.close(timeout=1)
        return
    cluster = LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,  # pyright: ignore[reportArgumentType] (none)
        memory_limit=0,  # an analysis bounds its memory itself
        silence_logs=logging.CRITICAL,
        env=_ONE_THREAD,
    )
    with cluster, Client(cluster, set_as_default=False) as client:
        yield client


def _on(
    client: Client, function: Callable[[T], R], tasks: Sequence[T]
) -> Iterator[tuple[T, R | Exception]]:
    from distributed import as_completed

    futures: list[Future[Any]] = client.map(_alone, [function] * len(tasks), tasks, pure=False)
    of_key = {future.key: task for future, task in zip(futures, tasks, strict=True)}
    for future in as_completed(futures, loop=client.loop):
        yield of_key.pop(future.key), _result(future)
    for task in of_key.values():
        yield task, TaskLostError(_LOST)


def _called(function: Callable[[], object]) -> None:
    function()


def _alone(function: Callable[[T], R], task: T) -> R:
    """Do a task on a worker, where Tiled's client would hand its reads to the workers again.

    It reads arrays through dask, which on a worker asks that worker's scheduler: one of a single
    thread would wait for itself for ever.
    """
    from dask import config

    with config.set(scheduler="synchronous"):
        return function(task)


_LOST = (
    "The Dask scheduler went away before it was known to be done. Start the scheduler again and "
    "repeat the command with --skip-done."
)


def _result(future: Future[Any]) -> Any:
    """Return what a future that has ended brought, or why it did not."""
    from distributed import KilledWorker

    if future.status == "finished":
        try:
            return future.result(timeout=CONNECT_S)
        except Exception:  # it went away in this moment
            return TaskLostError(_LOST)
    if future.status != "error":
        return TaskLostError(_LOST)
    error = future.exception(timeout=CONNECT_S)
    if isinstance(error, KilledWorker):
        return XpcsError(
            "Every worker that computed it died, perhaps for want of memory. Compute it alone, "
            "without --workers, and look at the log of the workers."
        )
    return error
