"""Every metric of the services by name, and what counts them; needs no Prometheus."""

from __future__ import annotations

import bisect
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"
# Upper edges of the bins of every histogram, s.
EDGES_S = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric, as Prometheus knows it.

    Attributes
    ----------
    name
        With its unit; a counter ends with "_total".
    kind
        "counter", "gauge" or "histogram".
    text
        What it is, with its unit.
    commands
        Who shows it: "serve" (and a profile), "view".
    label, values
        Name of the label and all values that it has; "" and () without one.
    """

    name: str
    kind: str
    text: str
    commands: tuple[str, ...] = ("serve",)
    label: str = ""
    values: tuple[str, ...] = ()


_BOTH = ("serve", "view")
_ALL = (
    Metric(
        name="xpcs_info",
        kind=GAUGE,
        text="1; its label is the version of xpcs_live_denoise.",
        commands=_BOTH,
        label="version",
    ),
    # --- the analysis --------------------------------------------------------------------------
    Metric(
        name="xpcs_frames_seen_total",
        kind=COUNTER,
        text="Frames that documents announced or that were found in followed files.",
    ),
    Metric(
        name="xpcs_frames_processed_total",
        kind=COUNTER,
        text="Frames that were read and analysed.",
    ),
    Metric(
        name="xpcs_frames_skipped_total",
        kind=COUNTER,
        text="Frames that could not be had: gaps in results.",
    ),
    Metric(
        name="xpcs_lag_seconds",
        kind=GAUGE,
        text="How far the analysis is behind the detector, s; of several runs the worst.",
    ),
    Metric(
        name="xpcs_busy_seconds",
        kind=GAUGE,
        text="How long the analysis has been at the message that it works on now, s.",
    ),
    Metric(
        name="xpcs_queue_messages",
        kind=GAUGE,
        text="Messages that wait for the analysis.",
    ),
    Metric(
        name="xpcs_queue_bytes",
        kind=GAUGE,
        text="Bytes of pixels that wait for the analysis.",
    ),
    Metric(
        name="xpcs_runs_running",
        kind=GAUGE,
        text="Runs that are measured or analysed now, or whose results are on their way.",
    ),
    Metric(
        name="xpcs_runs_total",
        kind=COUNTER,
        text="Runs whose analysis has ended.",
        label="outcome",
        values=("success", "fail"),
    ),
    Metric(
        name="xpcs_source_connected",
        kind=GAUGE,
        text="1 while documents, or the raw runs in Tiled, can be had; 0 while not.",
    ),
    # --- publications and their delivery -------------------------------------------------------
    Metric(
        name="xpcs_publication_seconds",
        kind=HISTOGRAM,
        text="How long the analysis took to make a publication, s.",
    ),
    Metric(
        name="xpcs_delivery_seconds",
        kind=HISTOGRAM,
        text="How long a destination took to store what it was given, s.",
    ),
    Metric(
        name="xpcs_delivery_runs",
        kind=GAUGE,
        text="Recent runs by how far their results are: delivered; waiting: on their way; failing: "
        "the last attempt failed and is repeated; refused: somebody has to put something right.",
        label="state",
        values=("delivered", "waiting", "failing", "refused"),
    ),
    Metric(
        name="xpcs_spool_runs",
        kind=GAUGE,
        text="Runs with results that wait in the spool on disk.",
    ),
    Metric(name="xpcs_spool_bytes", kind=GAUGE, text="Bytes in the spool."),
    Metric(
        name="xpcs_spool_free_bytes",
        kind=GAUGE,
        text="Bytes that are free on the disk of the spool.",
    ),
    Metric(
        name="xpcs_faults_total",
        kind=COUNTER,
        text="What went wrong and was caught: a document that could not be used, a message that "
        "the analysis failed on, a delivery that failed, a spool that could not be written.",
        label="kind",
        values=("document", "analysis", "delivery", "spool"),
    ),
    # --- the page ------------------------------------------------------------------------------
    Metric(
        name="xpcs_page_visitors", kind=GAUGE, text="Pages that are open now.", commands=("view",)
    ),
    Metric(
        name="xpcs_page_logged_in",
        kind=GAUGE,
        text="Visitors that are logged in; 0 for a page without login.",
        commands=("view",),
    ),
    Metric(
        name="xpcs_page_runs_listed",
        kind=GAUGE,
        text="Runs in the list, of all keys.",
        commands=("view",),
    ),
    Metric(
        name="xpcs_page_runs_followed",
        kind=GAUGE,
        text="Runs that open pages show.",
        commands=("view",),
    ),
    Metric(
        name="xpcs_page_tiled_connected",
        kind=GAUGE,
        text="1 while the Tiled server answers the page; 0 while not.",
        commands=("view",),
    ),
    Metric(
        name="xpcs_page_updates_total",
        kind=COUNTER,
        text="Updates that came from the Tiled server.",
        commands=("view",),
    ),
    Metric(
        name="xpcs_page_logins_total",
        kind=COUNTER,
        text="Logins of visitors.",
        commands=("view",),
        label="outcome",
        values=("accepted", "refused"),
    ),
)
METRICS: Mapping[str, Metric] = {metric.name: metric for metric in _ALL}


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Whether a service works, and what it says of itself.

    Attributes
    ----------
    ok
        False where only a new start helps. A server that is away is none of that: it is waited for.
    notes
        What it waits for or what is wrong, a sentence each.
    """

    ok: bool = True
    notes: tuple[str, ...] = ()


class Counts:
    """Counters and histograms of one service, from 0 at its start; any thread adds to them.

    A label that a metric lists no value of is an error, so that no name is misspelt in silence.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str], float] = {}
        self._bins: dict[str, list[int]] = {}  # the last bin is open

    def add(self, name: str, n: float = 1, label: str = "") -> None:
        """Count `n` more."""
        metric = METRICS[name]
        if metric.kind != COUNTER or label not in (metric.values or ("",)):
            raise KeyError(f"{name}, {label!r}")
        with self._lock:
            self._counts[name, label] = self._counts.get((name, label), 0) + n

    def observe(self, name: str, seconds: float) -> None:
        """Count something that took so long."""
        if METRICS[name].kind != HISTOGRAM:
            raise KeyError(name)
        with self._lock:
            bins = self._bins.setdefault(name, [0] * (len(EDGES_S) + 1))
            bins[bisect.bisect_left(EDGES_S, seconds)] += 1
            self._counts[name, ""] = self._counts.get((name, ""), 0) + seconds

    def value(self, name: str, label: str = "") -> float:
        """Return a counter, or of a histogram the sum of all seconds."""
        return self._counts.get((name, label), 0)

    def bins(self, name: str) -> list[int]:
        """Return how many of a histogram fall into each of its bins."""
        with self._lock:
            return list(self._bins.get(name, [0] * (len(EDGES_S) + 1)))


class Monitored(Protocol):
    """What a service shows of itself; asked on a thread of the metrics' server."""

    @property
    def counts(self) -> Counts:
        """What it has counted."""
        ...

    def gauges(self) -> Mapping[str, float | Mapping[str, float]]:
        """Return metrics of the kind "gauge" as they are now; with a label, by its values."""
        ...

    def health(self) -> Health:
        """Return whether it works."""
        ...
