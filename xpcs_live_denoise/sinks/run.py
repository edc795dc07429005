"""The sink that writes one derived BlueskyRun per analysis to a Tiled server.

The run is laid out as bluesky-tiled-plugins' TiledWriter would, but created here: that writer gives
a run up at its first error, and this one has to go on when the server comes back.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xpcs_live_denoise.catalog import (
    CATALOG_SPEC,
    GAMMA_SCHEMA,
    RUN_SPECS,
    SCHEMA_VERSION,
    Node,
    create_container,
    departures,
    pixel_centres,
    plain,
    probe,
    results_container,
    results_path,
    start_document,
    status_columns,
    stop_document,
    time_units,
)
from xpcs_live_denoise.records.results import (
    GammaTable,
    OneTime,
    Picture,
    Publication,
    Result,
    Saxs,
)
from xpcs_live_denoise.records.run import RunEnd, RunInfo, Status
from xpcs_live_denoise.records.types import Array, Document, FloatArray, IntArray

from .claim import Claim
from .intensity import STREAM as INTENSITY
from .intensity import IntensityStream
from .nodes import RunNodes
from .summary import Summary
from .two_time import STREAM as TWO_TIME
from .two_time import TwoTimeStream

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
        Container for derived runs, "/" between levels; created if absent. Never `raw_path`, that
        of the raw runs, which is stored for readers: that raises.
    access_tags
        For every node that is created.
    max_message_bytes
        Most bytes of one message to the server, and so to its subscribers.
    picture_period_s
        Least time between two images of the detector while the run goes on, s.
    uid, created
        Of the derived run; seconds since 1970. Default: a new one, now.
    claim
        The right to write it, where other processes may write the same derived run.
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
        claim: Claim | None = None,
    ):
        self._segments = results_path(path, raw_path)
        self._info = info
        self._client = client
        self._tags = list(access_tags) or None
        self._max_bytes = max_message_bytes
        self._streams: Streams | None = None
        self._stored = Stored()
        self._picture = NewestPicture(picture_period_s)
        self._summary = Summary()
        self._claim = claim
        self._start = start_document(
            info, uid=uid or str(uuid.uuid4()), time=created or time.time(), raw_path=raw_path
        )

    @property
    def uid(self) -> str:
        """Uid of the derived run, also before it exists."""
        return self._start["uid"]

    def write(self, record: Publication | Result) -> None:
        """Write a publication, or the final result.

        Raises TiledUnavailableError when the server does not answer, httpx.HTTPError when it
        refuses, InvalidInputError when the container holds raw runs.
        """
        streams = self._open()
        if self._stored.is_finished:
            return
        self._summary.take(record)
        if isinstance(record, Publication):
            self._publish(streams, record)
        elif not self._stored.has_result:
            self._finalise(streams, record)
            self._stored.has_result = True
        for table in streams.nodes.tables.values():
            table.settle()

    def finish(self, end: RunEnd) -> None:
        """Close every stream and write the stop document; create the run if nothing else did.

        Raises as `write`; calling it again resumes.
        """
        if self._stored.is_finished:
            return
        streams = self._open()
        nodes, two_time = streams.nodes, streams.two_time
        if self._stored.is_finished:  # by another process
            return
        self._picture.write(nodes)
        two_time.trim(self._stored.n_frames or 0)
        self._write_coordinates(nodes, two_time)
        if end.status != self._stored.status:
            self._append_status(nodes, end.status)
        counts = nodes.close()
        summary = self._summary.document(self._info, end.status, self._stored.n_frames or 0)
        stop = stop_document(
            end, start_uid=self.uid, time=time.time(), num_events=counts, summary=summary
        )
        self._check("stop", stop)
        nodes.run.update_metadata({"stop": stop}, drop_revision=True)
        nodes.run.close_stream()
        self._stored.is_finished = True

    # --- records ---------------------------------------------------------------------------

    def _publish(self, streams: Streams, news: Publication) -> None:
        nodes, two_time = streams.nodes, streams.two_time
        # First of all: this is what somebody waits for.
        if news.gamma is not None and len(news.gamma):
            _append_gamma(nodes, news.gamma)
            self._describe_times(nodes)
        if news.band is not None:
            two_time.write_band(news.band)
        if news.c2 is not None:
            two_time.write_map(news.c2)
        if news.intensity is not None:
            streams.intensity.write(news.intensity)
        # After the arrays: what n_frames promises is there to be read.
        self._set_n_frames(nodes, max(news.n_frames, self._stored.n_frames or 0))
        self._picture.take(news.picture)
        if self._picture.is_due:
            self._picture.write(nodes)
        self._append_status(nodes, news.status)

    def _finalise(self, streams: Streams, result: Result) -> None:
        nodes, n_frames = streams.nodes, result.band.stop
        if n_frames:
            streams.two_time.write_result(result)
            if result.intensity is not None:
                streams.intensity.write(result.intensity)
        if len(result.g2.delay_s):
            named = ((name, getattr(result.g2, name)) for name in OneTime.__slots__)
            nodes.replace("g2", {name: values for name, values in named if values is not None})
        self._set_n_frames(nodes, n_frames)
        if len(result.gamma):
            _append_gamma(nodes, result.gamma)
        self._info = result.info or self._info  # the time axis is known better by now
        self._complete_start(nodes)
        self._picture.take(result.picture)
        self._picture.write(nodes)
        self._append_status(nodes, result.status)

    def _check(self, name: str, document: Document) -> None:
        """Say where a document is not as the schema of results has it; it is stored all the same.

        A result that others may read with some care is worth more than none.
        """
        if wrong := departures(name, document):
            logger.warning(
                "Result %s: its %s document departs from schema %s at %s. It is stored; this is a "
                "fault of xpcs_live_denoise, please report it.",
                self.uid,
                name,
                SCHEMA_VERSION,
                "; ".join(wrong[:3]),
            )

    def _write_coordinates(self, nodes: RunNodes, two_time: TwoTimeStream) -> None:
        """Write what `t_s`, `lag_s`, `t1_s` ... of the arrays are, beside them.

        The lengths are final. The coordinates of images are written with them.
        """
        lengths: dict[str, dict[str, int]] = {}
        for (stream, _), array in nodes.arrays.items():
            lengths.setdefault(stream, {}).update(array.lengths)
        info = self._info
        of_rois: dict[str, Array] = {
            "roi": np.array(info.roi, np.int64),
            "q_inv_angstrom": np.array(info.q_inv_angstrom, np.float64),
        }
        if info.phi_deg:
            of_rois["phi_deg"] = np.array(info.phi_deg, np.float64)
        for stream, of_dims in lengths.items():
            coordinates = dict(of_rois) if "roi" in of_dims else {}
            for dim in (d for d in of_dims if d != "roi" and stream in OF_TIMES):
                frames = two_time.times(dim, of_dims[dim], self._stored.n_frames or 0)
                coordinates[dim] = frames * info.frame_time_s
            if not coordinates:
                continue
            nodes.replace(stream, coordinates)
            if info.time_unit != "s":
                times = coordinates.keys() - of_rois.keys()
                nodes.describe_keys(stream, {dim: {"units": info.time_unit} for dim in times})

    def _append_status(self, nodes: RunNodes, status: Status) -> None:
        nodes.table("status").append(status_columns(status))
        self._stored.status = status

    def _describe_times(self, nodes: RunNodes) -> None:
        """Let the streams that are there say in which unit times and rates are; once a unit."""
        if self._stored.time_unit != self._info.time_unit:
            for stream, data_keys in time_units(self._info.time_unit).items():
                nodes.describe_keys(stream, data_keys)
            self._stored.time_unit = self._info.time_unit

    # --- the run's own node ------------------------------------------------------------------

    def _open(self) -> Streams:
        """Connect, and create the derived run or take over what is there of it."""
        if callable(self._client):
            self._client = self._client()
        probe(self._client)
        if self._streams is not None:
            return self._streams
        parent = results_container(
            self._client, self._segments, CATALOG_SPEC, self._tags, self._info.uid
        )
        self._check("start", self._start)
        metadata = {"start": self._start, **(self._claim.metadata if self._claim else {})}
        run = plain(create_container(parent, self.uid, metadata, RUN_SPECS, self._tags))
        if self._claim:
            self._claim.hold(run)
        nodes = RunNodes(run, self._tags, self._max_bytes)
        self._stored.n_frames = run.metadata.get("n_frames")
        self._stored.is_finished = "stop" in run.metadata
        self._start = dict(run.metadata["start"])
        if self._start["xpcs"].get("time_unit", "s") == "s":
            self._stored.time_unit = "s"
        self._streams = Streams(
            nodes=nodes, two_time=TwoTimeStream(nodes), intensity=IntensityStream(nodes)
        )
        place = "/".join((*self._segments, self.uid))
        logger.info("Results of run %s go to Tiled as %s.", self._info.uid, place)
        return self._streams

    def _complete_start(self, nodes: RunNodes) -> None:
        """Say in the start document how far apart frames are, as is known at the end."""
        stored, info = self._start["xpcs"], self._info
        known = {"frame_time_s": info.frame_time_s, "time_unit": info.time_unit}
        if info.time_unit != "s":
            self._stored.time_unit = None  # g2 came just now
        self._describe_times(nodes)
        if any(stored.get(name) != value for name, value in known.items()):
            nodes.run.update_metadata({"start": {"xpcs": known}}, drop_revision=True)
            self._start["xpcs"] = {**stored, **known}

    def _set_n_frames(self, nodes: RunNodes, n_frames: int) -> None:
        if self._stored.n_frames != n_frames:
            nodes.run.update_metadata({"n_frames": n_frames}, drop_revision=True)
            self._stored.n_frames = n_frames


# Streams whose arrays have times along their dims.
OF_TIMES = (TWO_TIME, INTENSITY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """The nodes of a derived run, and who writes the arrays that grow."""

    nodes: RunNodes
    two_time: TwoTimeStream
    intensity: IntensityStream


@dataclass(slots=True)
class Stored:
    """How far a derived run has come in Tiled, as its sink knows."""

    n_frames: int | None = None  # as the run's metadata tell it
    status: Status | None = None  # the last row
    time_unit: str | None = None  # that the data keys of the streams name; None: not known
    has_result: bool = False
    is_finished: bool = False


class NewestPicture:
    """The newest image of the detector and its I(q), written at most every `period_s`."""

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._next = float("-inf")  # time.monotonic()
        self._waiting: Picture | None = None
        self._labels: IntArray | None = None
        self._rings: tuple[FloatArray, FloatArray] | None = None

    @property
    def is_due(self) -> bool:
        """Whether the last one was written long enough ago."""
        return time.monotonic() >= self._next

    def take(self, picture: Picture | None) -> None:
        """Take an image in the place of one that still waits."""
        self._waiting = picture or self._waiting

    def write(self, nodes: RunNodes) -> None:
        """Write what waits, and the ROI labels where they differ."""
        picture = self._waiting
        if picture is None:
            return
        if self._labels is None or not np.array_equal(picture.labels, self._labels):
            centres = [pixel_centres(length, picture.binning) for length in picture.labels.shape]
            nodes.replace(
                "image", {"roi_labels": picture.labels, "row": centres[0], "col": centres[1]}
            )
            self._labels = picture.labels
        image = nodes.array("image", "image")
        image.replace(picture.mean)
        image.describe({"binning": picture.binning, "n_frames": picture.n_frames})
        for name in ("denoised", "denoised_error"):
            values = getattr(picture, name)
            if values is not None:
                nodes.array("image", f"image_{name}").replace(values)
        if picture.saxs is not None:
            self._write_saxs(nodes, picture.saxs)
        self._waiting = None
        self._next = time.monotonic() + self._period_s

    def _write_saxs(self, nodes: RunNodes, saxs: Saxs) -> None:
        """Write I(q), and where its rings are if that differs."""
        rings = saxs.radius_px, saxs.q_inv_angstrom
        before = self._rings
        if before is None or not all(map(_same, before, rings)):
            nodes.replace("saxs", dict(zip(("radius", "q"), rings, strict=True)))
            self._rings = rings
        arrays = {
            "saxs": saxs.mean,
            "n_pixels": saxs.n_pixels,
            "saxs_denoised": saxs.denoised,
            "saxs_denoised_error": saxs.denoised_error,
        }
        nodes.replace(
            "saxs", {name: values for name, values in arrays.items() if values is not None}
        )


def _same(first: FloatArray, second: FloatArray) -> bool:
    return np.array_equal(first, second, equal_nan=True)


def _append_gamma(nodes: RunNodes, gamma: GammaTable) -> None:
    nodes.table("gamma").append({name: getattr(gamma, name) for name in GAMMA_SCHEMA})
