"""The sink that writes one derived BlueskyRun per analysis to a Tiled server.

The run is laid out as bluesky-tiled-plugins' TiledWriter would, but created here: that writer gives
a run up at its first error, and this one has to go on when the server comes back.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence
from typing import Any

from xpcs_live_denoise.records import GammaTable, Publication, Result, RunEnd, RunInfo, Status

from .schema import (
    CATALOG_SPEC,
    GAMMA_KEY,
    GAMMA_SCHEMA,
    RUN_SPECS,
    STATUS_SCHEMA,
    STREAM_SPECS,
    descriptor_metadata,
    json_safe,
    start_document,
    status_columns,
    stop_document,
    table_data_keys,
)
from .tiled_arrays import TiledArray
from .tiled_connection import probe
from .tiled_nodes import create_container, plain, results_path
from .tiled_tables import TiledTable

logger = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 900_000  # subscribers' connections end at a message of 1 MB


class TiledSink:
    """Writes one analysis as one derived run, live and finished.

    Nothing is created before the first `write` or `finish`. When one of them raises, the caller
    repeats it with the news since the last success; what had already arrived stays and is not
    doubled.

    Parameters
    ----------
    info
        The run that is analysed.
    client
        Tiled client of the root, or a function that connects and returns one; it is called at the
        first write, and again until it succeeds.
    path
        Container for derived runs, "/" between levels; created if absent.
    raw_path
        Container of the raw runs, stored for readers. Never the same as `path`.
    access_tags
        For every node that is created.
    max_message_bytes
        Most bytes of one message to the server, and so to its subscribers.

    Raises
    ------
    InvalidInputError
        When `path` is empty or is the container of the raw runs.
    """

    def __init__(
        self,
        info: RunInfo,
        *,
        client: Any,
        path: str = "processed",
        raw_path: str | None = None,
        access_tags: Sequence[str] = (),
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ):
        self._segments = results_path(path, raw_path)
        self._raw_path = raw_path
        self._info = info
        self._client = client
        self._tags = list(access_tags) or None
        self._max_bytes = max_message_bytes
        self._run: Any = None
        self._streams: dict[str, Any] = {}
        self._arrays: dict[tuple[str, str], TiledArray] = {}
        self._tables: dict[str, TiledTable] = {}
        self._metadata: dict[str, Any] = {}
        self._last_status: Status | None = None
        self._finished = False
        self._start = start_document(
            info, uid=str(uuid.uuid4()), time=time.time(), raw_path=raw_path
        )

    @property
    def uid(self) -> str:
        """Uid of the derived run, also before it exists."""
        return self._start["uid"]

    def write(self, record: Publication | Result) -> None:
        """Write a publication, or the final result.

        Raises
        ------
        TiledUnavailableError
            When the server does not answer.
        httpx.HTTPError
            When it breaks off or refuses.
        """
        self._open()
        if isinstance(record, Publication):
            self._publish(record)
        else:
            self._finalise(record)
        for table in self._tables.values():
            table.settle()

    def finish(self, end: RunEnd) -> None:
        """Close every stream and write the stop document; create the run if nothing else did.

        Raises
        ------
        TiledUnavailableError
            When the server does not answer. Calling it again resumes.
        httpx.HTTPError
            When it breaks off or refuses.
        """
        if self._finished:
            return
        self._open()
        if end.status != self._last_status:
            self._append_status(end.status)
        for node in (*self._arrays.values(), *self._tables.values()):
            node.close()
        for stream in self._streams.values():
            stream.close_stream()
        counts = {name: 1 for name, _ in self._arrays}
        counts |= {name: table.n_rows for name, table in self._tables.items()}
        stop = stop_document(end, start_uid=self.uid, time=time.time(), num_events=counts)
        self._run.update_metadata({"stop": stop}, drop_revision=True)
        self._run.close_stream()
        self._finished = True

    # --- records ---------------------------------------------------------------------------

    def _publish(self, news: Publication) -> None:
        n_expected = self._info.n_expected
        if news.c2 is not None:
            rows = self._array("two_time", "c2")
            rows.patch_frames(news.c2.values, (news.c2.start, 0), n_expected)
        for band in news.bands:
            at = (band.start, band.start)
            self._array("two_time", "c2_denoised").patch_frames(band.c2, at, n_expected)
            self._array("two_time", "c2_spread").patch_frames(band.spread, at, n_expected)
        # After the arrays: what n_frames promises is there to be read.
        self._update_metadata({**news.metadata, "n_frames": news.n_frames})
        if news.gamma is not None and len(news.gamma):
            self._append_gamma(news.gamma)
        self._append_status(news.status)

    def _finalise(self, result: Result) -> None:
        n_frames = result.c2.shape[1]
        if n_frames:
            self._array("two_time", "c2").replace(result.c2)
        if n_frames and result.denoised is not None:
            self._array("two_time", "c2_denoised").replace(result.denoised.c2)
            self._array("two_time", "c2_spread").replace(result.denoised.spread)
        if len(result.g2.delay_s):
            for name in ("g2", "g2_error", "g2_denoised", "delay_s"):
                values = getattr(result.g2, name)
                if values is not None:
                    self._array("g2", name).replace(values)
        self._update_metadata({"n_frames": n_frames})
        if len(result.gamma):
            self._append_gamma(result.gamma)
        self._append_status(result.status)

    def _append_status(self, status: Status) -> None:
        self._table("status", STATUS_SCHEMA, tuple(STATUS_SCHEMA)).append(status_columns(status))
        self._last_status = status

    def _append_gamma(self, gamma: GammaTable) -> None:
        columns = {name: getattr(gamma, name) for name in GAMMA_SCHEMA}
        self._table("gamma", GAMMA_SCHEMA, GAMMA_KEY).append(columns)

    # --- nodes -----------------------------------------------------------------------------

    def _open(self) -> None:
        """Connect, and create the derived run, unless that has been done."""
        if callable(self._client):
            self._client = self._client()
        probe(self._client)
        if self._run is not None:
            return
        parent = self._client
        for segment in self._segments[:-1]:
            parent = self._container(parent, segment, ())
        parent = self._container(parent, self._segments[-1], (CATALOG_SPEC,))
        start = {"start": self._start}
        self._run = plain(create_container(parent, self.uid, start, RUN_SPECS, self._tags))
        logger.info(
            "Results of run %s go to Tiled as %s/%s.",
            self._info.uid,
            "/".join(self._segments),
            self.uid,
        )

    def _container(self, parent: Any, key: str, specs: Sequence[tuple[str, str | None]]) -> Any:
        if key in parent:
            return parent[key]
        return create_container(parent, key, {}, specs, self._tags)

    def _stream(self, name: str, data_keys: dict[str, Any]) -> Any:
        if name not in self._streams:
            metadata = descriptor_metadata(time.time(), data_keys)
            node = create_container(self._run, name, metadata, STREAM_SPECS, self._tags)
            self._streams[name] = plain(node)
        return self._streams[name]

    def _array(self, stream: str, name: str) -> TiledArray:
        key = (stream, name)
        if key not in self._arrays:
            self._arrays[key] = TiledArray(
                self._stream(stream, {}),
                name,
                dtype="<f4" if stream == "two_time" else "<f8",
                access_tags=self._tags,
                max_message_bytes=self._max_bytes,
            )
        return self._arrays[key]

    def _table(
        self, name: str, schema: dict[str, tuple[str, str]], key: Sequence[str]
    ) -> TiledTable:
        if name not in self._tables:
            self._tables[name] = TiledTable(
                self._stream(name, table_data_keys(schema)),
                schema,
                key=key,
                access_tags=self._tags,
                max_message_bytes=self._max_bytes,
            )
        return self._tables[name]

    def _update_metadata(self, news: dict[str, Any]) -> None:
        # The documents are written once and never edited, whatever a later descriptor says.
        safe = {k: json_safe(v) for k, v in news.items() if k not in ("start", "stop")}
        changed = {
            k: v for k, v in safe.items() if k not in self._metadata or self._metadata[k] != v
        }
        if changed:
            self._run.update_metadata(changed, drop_revision=True)
            self._metadata.update(changed)
