"""The sink that writes one derived BlueskyRun per analysis to a Tiled server.

The run is laid out as bluesky-tiled-plugins' TiledWriter would, but created here: that writer gives
a run up at its first error, and this one has to go on when the server comes back.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence

import numpy as np

from xpcs_live_denoise.catalog import (
    ARRAY_DTYPES,
    CATALOG_SPEC,
    GAMMA_SCHEMA,
    RUN_SPECS,
    STREAM_SPECS,
    TABLES,
    Node,
    create_container,
    descriptor_metadata,
    json_safe,
    plain,
    probe,
    results_container,
    results_path,
    start_document,
    status_columns,
    stop_document,
    table_data_keys,
)
from xpcs_live_denoise.records.results import GammaTable, Picture, Publication, Result
from xpcs_live_denoise.records.run import RunEnd, RunInfo, Status
from xpcs_live_denoise.records.types import Document, Fields, IntArray

from .arrays import TiledArray
from .tables import TABLE_KEY, TiledTable

logger = logging.getLogger(__name__)

PICTURE_PERIOD_S = 5.0  # an image of the detector is as large as thousands of rows
MAX_MESSAGE_BYTES = 900_000  # subscribers' connections end at a message of 1 MB


class TiledSink:
    """Writes one analysis as one derived run, live and finished.

    Nothing is created before the first `write` or `finish`. When one of them raises, the caller
    repeats it with the news since the last success; what had already arrived stays and is not
    doubled. A derived run that is there already, left by a process that died, is gone on with.

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
    picture_period_s
        Least time between two images of the detector while the run goes on, s.
    uid, created
        Of the derived run; seconds since 1970. Default: a new one, now.

    Raises
    ------
    InvalidInputError
        When `path` is empty or is the container of the raw runs.
    """

    def __init__(
        self,
        info: RunInfo,
        *,
        client: Node,
        path: str = "processed",
        raw_path: str | None = None,
        access_tags: Sequence[str] = (),
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        picture_period_s: float = PICTURE_PERIOD_S,
        uid: str | None = None,
        created: float | None = None,
    ):
        self._segments = results_path(path, raw_path)
        self._info = info
        self._client = client
        self._tags = list(access_tags) or None
        self._max_bytes = max_message_bytes
        self._run: Node = None
        self._streams: dict[str, Node] = {}
        self._arrays: dict[tuple[str, str], TiledArray] = {}
        self._tables: dict[str, TiledTable] = {}
        self._metadata: Document = {}
        self._last_status: Status | None = None
        self._finished = False
        self._labels: IntArray | None = None
        self._picture: Picture | None = None  # the newest that is not written yet
        self._picture_period_s = picture_period_s
        self._next_picture = float("-inf")  # time.monotonic()
        self._start = start_document(
            info, uid=uid or str(uuid.uuid4()), time=created or time.time(), raw_path=raw_path
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
        httpx.HTTPError, InvalidInputError
            When it breaks off or refuses; when the container holds raw runs.
        """
        self._open()
        if self._finished:
            return
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
        if not self._finished:
            self._open()
        if self._finished:
            return
        self._write_picture()
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
        # First of all: this is what somebody waits for.
        if news.gamma is not None and len(news.gamma):
            self._append_gamma(news.gamma)
        if news.c2 is not None:
            rows = self._array("two_time", "c2")
            rows.patch_frames(news.c2.values, (news.c2.start, 0), n_expected)
        for band in news.bands:
            at = (band.start, band.start)
            self._array("two_time", "c2_denoised").patch_frames(band.c2, at, n_expected)
            self._array("two_time", "c2_spread").patch_frames(band.spread, at, n_expected)
        # After the arrays: what n_frames promises is there to be read.
        self._update_metadata({"n_frames": max(news.n_frames, self._metadata.get("n_frames", 0))})
        self._picture = news.picture or self._picture
        if time.monotonic() >= self._next_picture:
            self._write_picture()
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
        self._picture = result.picture or self._picture
        self._write_picture()
        self._append_status(result.status)

    def _write_picture(self) -> None:
        picture = self._picture
        if picture is None:
            return
        if self._labels is None or not np.array_equal(picture.labels, self._labels):
            self._array("image", "roi_labels").replace(picture.labels)
            self._labels = picture.labels
        image = self._array("image", "image")
        image.replace(picture.mean)
        image.describe({"binning": picture.binning, "n_frames": picture.n_frames})
        self._picture = None
        self._next_picture = time.monotonic() + self._picture_period_s

    def _append_status(self, status: Status) -> None:
        self._table("status").append(status_columns(status))
        self._last_status = status

    def _append_gamma(self, gamma: GammaTable) -> None:
        self._table("gamma").append({name: getattr(gamma, name) for name in GAMMA_SCHEMA})

    # --- nodes -----------------------------------------------------------------------------

    def _open(self) -> None:
        """Connect, and create the derived run, unless that has been done."""
        if callable(self._client):
            self._client = self._client()
        probe(self._client)
        if self._run is not None:
            return
        parent = results_container(
            self._client, self._segments, CATALOG_SPEC, self._tags, self._info.uid
        )
        start = {"start": self._start}
        run = plain(create_container(parent, self.uid, start, RUN_SPECS, self._tags))
        self._adopt(run)
        self._run = run
        logger.info(
            "Results of run %s go to Tiled as %s/%s.",
            self._info.uid,
            "/".join(self._segments),
            self.uid,
        )

    def _adopt(self, run: Node) -> None:
        """Take over what another process has already written of this run; nothing of a new one."""
        self._metadata = {k: v for k, v in run.metadata.items() if k not in ("start", "stop")}
        self._finished = "stop" in run.metadata
        self._start = dict(run.metadata["start"])
        for name in run:
            self._streams[name] = plain(run[name])
            for key in self._streams[name]:
                if key == TABLE_KEY:
                    self._table(name).adopt()
                else:
                    self._array(name, key).adopt()

    def _stream(self, name: str, data_keys: Document) -> Node:
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
                dtype=ARRAY_DTYPES.get(name, "<f8"),
                access_tags=self._tags,
                max_message_bytes=self._max_bytes,
            )
        return self._arrays[key]

    def _table(self, name: str) -> TiledTable:
        if name not in self._tables:
            schema, key = TABLES[name]
            self._tables[name] = TiledTable(
                self._stream(name, table_data_keys(schema)),
                schema,
                key=key,
                access_tags=self._tags,
                max_message_bytes=self._max_bytes,
            )
        return self._tables[name]

    def _update_metadata(self, facts: Fields) -> None:
        # The documents are written once and never edited, whatever a later descriptor says.
        safe = {k: json_safe(v) for k, v in facts.items() if k not in ("start", "stop")}
        changed = {
            k: v for k, v in safe.items() if k not in self._metadata or self._metadata[k] != v
        }
        if changed:
            self._run.update_metadata(changed, drop_revision=True)
            self._metadata.update(changed)
