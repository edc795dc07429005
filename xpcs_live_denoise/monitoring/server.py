"""Answers /metrics for Prometheus and /healthz for whoever restarts services."""

from __future__ import annotations

import importlib.metadata
import ipaddress
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, cast

from xpcs_live_denoise.errors import InvalidInputError, MissingDependencyError, install_line

from .metrics import COUNTER, EDGES_S, GAUGE, METRICS, Metric, Monitored

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric as Family

logger = logging.getLogger(__name__)

REQUEST_S = 10.0  # a client that says nothing is left alone after so long


def serve_monitored(
    monitored: Monitored, command: str, *, port: int, host: str = "127.0.0.1"
) -> MetricsServer:
    """Answer http://host:port/metrics and /healthz, on threads of their own, until closed.

    Parameters
    ----------
    monitored
        What to show.
    command
        "serve" or "view": which metrics it has.
    port
        0: a free one, see `MetricsServer.address`.
    host
        Address to listen on. Whoever reaches it can read the metrics; they hold numbers alone.

    Raises
    ------
    MissingDependencyError
        Without the extra `service`.
    InvalidInputError
        When the port is taken or the host is not this machine's.
    """
    try:
        registry = _registry(monitored, command)
    except ImportError as error:
        raise MissingDependencyError(
            f"Metrics: {error.name} is not installed. It comes with the extra `service`: "
            f"{install_line('service')}."
        ) from error
    try:
        return MetricsServer(monitored, registry, host, port)
    except OSError as error:
        raise InvalidInputError(
            f"Metrics on {host}, port {port}: {error.strerror or error}. Expected an address of "
            "this machine and a free port; give another with --metrics-host or --metrics-port."
        ) from error


class MetricsServer(ThreadingHTTPServer):
    """The small web server of the metrics; `close` ends it. Its threads end with the process."""

    daemon_threads = True

    def __init__(
        self, monitored: Monitored, registry: CollectorRegistry, host: str, port: int
    ) -> None:
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Request)
        self.monitored, self.registry = monitored, registry
        threading.Thread(target=self.serve_forever, name="xpcs metrics", daemon=True).start()

    @property
    def address(self) -> str:
        """Where it answers: "http://host:port"."""
        host, port = str(self.server_address[0]), self.server_address[1]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    @property
    def is_open(self) -> bool:
        """Whether others than this machine reach it."""
        return not ipaddress.ip_address(str(self.server_address[0])).is_loopback

    def close(self) -> None:
        """Answer no more."""
        self.shutdown()
        self.server_close()


class _Request(BaseHTTPRequestHandler):
    """One request: /metrics, /healthz, or nothing that is there."""

    timeout = REQUEST_S
    server_version, sys_version = "xpcs-live-denoise", ""

    def do_GET(self) -> None:
        """Answer a request."""
        answers: dict[str, Callable[[], tuple[int, str, bytes]]] = {
            "/metrics": self._metrics,
            "/healthz": self._health,
        }
        answer = answers.get(self.path.partition("?")[0])
        if answer is None:
            self._send(HTTPStatus.NOT_FOUND, "text/plain", b"Here are /metrics and /healthz.\n")
            return
        try:
            self._send(*answer())
        except (OSError, ValueError) as error:  # the other end has gone
            logger.debug("Metrics: %r", error)

    do_HEAD = do_GET  # noqa: N815 - as the base class calls it

    @property
    def _owner(self) -> MetricsServer:
        return cast("MetricsServer", self.server)

    def _metrics(self) -> tuple[int, str, bytes]:
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return HTTPStatus.OK, CONTENT_TYPE_LATEST, generate_latest(self._owner.registry)

    def _health(self) -> tuple[int, str, bytes]:
        health = self._owner.monitored.health()
        status = HTTPStatus.OK if health.ok else HTTPStatus.SERVICE_UNAVAILABLE
        said = {"status": "ok" if health.ok else "fault", "notes": health.notes}
        return status, "application/json", (json.dumps(said) + "\n").encode()

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - of the base class
        """Leave a request that comes every few seconds out of the log."""
        logger.debug(format, *args)


def _registry(monitored: Monitored, command: str) -> CollectorRegistry:
    """Return what Prometheus collects from: our metrics, and memory and CPU of the process."""
    from prometheus_client import CollectorRegistry, ProcessCollector

    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    registry.register(_Collector(monitored, command))  # pyright: ignore[reportArgumentType]
    return registry


class _Collector:
    """Makes Prometheus' families of what a service shows, at each request anew."""

    def __init__(self, monitored: Monitored, command: str) -> None:
        self._monitored = monitored
        self._metrics = [one for one in METRICS.values() if command in one.commands]
        self._version = importlib.metadata.version("xpcs-live-denoise")

    def collect(self) -> Iterator[Family]:
        """Yield a family a metric; a gauge that is not known now is left out."""
        gauges = {**self._monitored.gauges(), "xpcs_info": {self._version: 1.0}}
        for metric in self._metrics:
            if metric.kind != GAUGE:
                yield self._counted(metric)
            elif metric.name in gauges:
                yield _gauge(metric, gauges[metric.name])

    def _counted(self, metric: Metric) -> Family:
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        counts = self._monitored.counts
        if metric.kind == COUNTER:
            labels = [metric.label] if metric.label else []
            family = CounterMetricFamily(metric.name, metric.text, labels=labels)
            for value in metric.values or ("",):
                family.add_metric([value] if labels else [], counts.value(metric.name, value))
            return family
        histogram = HistogramMetricFamily(metric.name, metric.text)
        total, buckets = 0, list[tuple[str, float]]()
        for edge, n in zip((*map(str, EDGES_S), "+Inf"), counts.bins(metric.name), strict=True):
            total += n
            buckets.append((edge, total))
        histogram.add_metric([], buckets, counts.value(metric.name))
        return histogram


def _gauge(metric: Metric, value: Any) -> Family:
    from prometheus_client.core import GaugeMetricFamily

    if not metric.label:
        return GaugeMetricFamily(metric.name, metric.text, value=value)
    family = GaugeMetricFamily(metric.name, metric.text, labels=[metric.label])
    for name, number in value.items():
        family.add_metric([name], number)
    return family
