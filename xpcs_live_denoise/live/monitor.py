"""What a session shows of itself while it runs: its counts, how far it is, whether it is well."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xpcs_live_denoise.monitoring import METRICS, Counts, Health, MetricsServer, serve_monitored
from xpcs_live_denoise.records.run import Delivery, DeliveryState
from xpcs_live_denoise.sinks import default_folder, spooled_folders

from .delivery import DeliveryThread
from .intake import RecentRuns
from .worker import Worker

if TYPE_CHECKING:
    from .callback import LiveDenoise


def serve_metrics(
    live: LiveDenoise,
    *,
    port: int,
    host: str = "127.0.0.1",
    waits_for: Callable[[], str] | None = None,
) -> MetricsServer:
    """Answer Prometheus at http://host:port/metrics, and /healthz, of a LiveDenoise.

    One line in a profile: ``serve_metrics(live_denoise, port=9464)``. Needs the extra `service`.

    Parameters
    ----------
    live
        Whose frames, queue, spool, faults and deliveries are shown.
    port
        Port to listen on; 0: a free one, which `address` of the returned server tells.
    host
        Address to listen on. Beyond this machine everybody who reaches it can read the metrics.
    waits_for
        Returns what the source of documents waits for, "" while it has it; None where documents
        come from the RunEngine of this process.

    Returns
    -------
    MetricsServer
        `close()` ends it; it ends with the process by itself.

    Raises
    ------
    MissingDependencyError
        Without prometheus-client.
    InvalidInputError
        When the port is taken or the host is not this machine's.
    """
    return serve_monitored(live.monitored(waits_for), "serve", port=port, host=host)


class LiveMonitor:
    """A session as the metrics' server asks for it, on threads of that server."""

    def __init__(
        self,
        *,
        worker: Worker,
        threads: Sequence[DeliveryThread],
        runs: RecentRuns,
        spool: Path | None,
        waits_for: Callable[[], str] | None,
    ) -> None:
        self._worker = worker
        self._threads = threads
        self._runs = runs
        self._spool = spool
        self._waits_for = waits_for

    @property
    def counts(self) -> Counts:
        """What the session has counted."""
        return self._worker.counts

    def gauges(self) -> Mapping[str, float | Mapping[str, float]]:
        """Return what is as it is now."""
        running = self._runs.by_uid(lambda run: run.status, running=True)
        found: dict[str, float | Mapping[str, float]] = {
            "xpcs_lag_seconds": max((status.lag_s for status in running.values()), default=0.0),
            "xpcs_busy_seconds": self._worker.busy_s,
            "xpcs_queue_messages": self._worker.depth,
            "xpcs_queue_bytes": self._worker.waiting_bytes,
            "xpcs_runs_running": len(running),
            "xpcs_delivery_runs": self._delivery_states(),
            **_spool_sizes(self._spool or default_folder()),
        }
        if self._waits_for is not None:
            found["xpcs_source_connected"] = float(not self._waits_for())
        return found

    def health(self) -> Health:
        """Return whether all threads live; who is away is named, and is no fault of ours."""
        faults: list[str] = []
        if self._worker.broken:
            faults.append("The thread of the analysis has ended. Start the service again.")
        if any(thread.broken for thread in self._threads):
            faults.append("A thread that delivers results has ended. Start the service again.")
        states = self._runs.by_uid(lambda run: run.deliveries.state, running=True)
        notes = [state.note for state in states.values() if state.note]
        if self._waits_for is not None and (waits := self._waits_for()):
            notes.append(waits)
        return Health(ok=not faults, notes=tuple(dict.fromkeys([*faults, *notes])))

    def _delivery_states(self) -> Mapping[str, float]:
        found = dict.fromkeys(METRICS["xpcs_delivery_runs"].values, 0.0)
        for delivery in self._runs.by_uid(lambda run: run.deliveries.state).values():
            found[_state(delivery)] += 1
        return found


def _state(delivery: Delivery) -> str:
    """Return the value of the label: a delivery that failed is told from one on its way."""
    failed = delivery.state is DeliveryState.WAITING and bool(delivery.reason)
    return "failing" if failed else delivery.state.value


def _spool_sizes(root: Path) -> Mapping[str, float]:
    """Return how many runs and bytes wait on disk, and what is free there.

    A disk that cannot be asked has no numbers: their absence is what alerts ask for.
    """
    try:
        folders = spooled_folders(root)
        n_bytes = sum(_size(file) for folder in folders for file in folder.glob("*"))
        there = next(one for one in (root, *root.absolute().parents) if one.exists())
        free = shutil.disk_usage(there).free
    except OSError:
        return {}
    return {
        "xpcs_spool_runs": len(folders),
        "xpcs_spool_bytes": n_bytes,
        "xpcs_spool_free_bytes": free,
    }


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0  # it has been delivered meanwhile
