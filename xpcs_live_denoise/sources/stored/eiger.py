"""A classic Eiger's run in Tiled as the documents that it had: resource, datums and events."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xpcs_live_denoise.errors import InvalidInputError, UnreadableFramesError, short_repr
from xpcs_live_denoise.records.types import Document, Fields
from xpcs_live_denoise.sources.assets import EIGER_SPECS, ImageKey, local_path
from xpcs_live_denoise.sources.eiger.files import MASTER, Master, masters_in, read_master
from xpcs_live_denoise.sources.file_roots import FileRoots

from .chosen import ChosenSeries, listed_series, n_on_disk, series_during

if TYPE_CHECKING:
    from xpcs_live_denoise.catalog import Node

logger = logging.getLogger(__name__)

_SPECS = ", ".join(sorted(EIGER_SPECS))
# Names of the table with the events of a stream; the second where it has very many columns.
_TABLES = ("internal", "internal_0")


class TiledEigerEvents:
    """The events of one stream whose frames an Eiger wrote; reading `new_documents` consumes it."""

    def __init__(
        self, uid: str, data_key: str, roots: FileRoots, chosen: ChosenSeries | None = None
    ) -> None:
        self.chosen = chosen
        self._uid = uid
        self._subject = f"Run {uid}, {data_key}"
        self._data_key = data_key
        self._roots = roots
        self._given: list[str] = []  # series of the events that were given out
        self._resources: dict[str, str] = {}  # by prefix

    def new_documents(
        self, start: Fields, stream: Node, descriptor: Fields, *, over: bool
    ) -> list[tuple[str, Document]]:
        """Return the documents of the events that have come since the last call, in order.

        Where the run is over and its series cannot be found, an UnreadableFramesError: what cannot
        be told by then never will be.
        """
        events = _events_in(stream)
        if len(events) <= len(self._given):
            return []
        try:
            found = series_of_events(
                self._subject,
                self._prefixes(stream),
                began_s=float(start["time"]),
                times_s=sorted(time for _, time in events),
                n_images=_n_images(descriptor, self._data_key),
                roots=self._roots,
            )
            if [one.series for one in found[: len(self._given)]] != self._given:
                raise UnreadableFramesError(
                    f"{self._subject}: its first series were {', '.join(self._given)}, and now "
                    f"{', '.join(one.series for one in found)} fit; expected the same ones. "
                    "Compute it again with: xpcs-live-denoise replay"
                )
        except UnreadableFramesError:
            if over:
                raise
            return []  # files and metadata may still come
        documents: list[tuple[str, Document]] = []
        for series, event in list(zip(found, events, strict=True))[len(self._given) :]:
            documents += self._documents(series, event, descriptor)
        self._given = [one.series for one in found]
        return documents

    def of_chosen(
        self, run: Fields, stream: Node, descriptor: Fields | None
    ) -> list[tuple[str, Document]]:
        """Return descriptor, resources, datums and events of a run whose series a user named.

        `run` is its metadata; `stream` and `descriptor` are None where it ended before its first
        event.
        """
        if self.chosen is None:
            return []
        if stream is not None:
            events = _events_in(stream)
            candidates = [
                one for prefix in self._prefixes(stream) for one in _series(prefix, self._roots)
            ]
        else:
            events = []
            candidates = series_during(self.chosen.folders, run, self._roots)
        series = self.chosen.among(candidates, self._uid, self._roots)
        events = events or [(1 + k, one.written_s) for k, one in enumerate(series)]
        if len(events) != len(series):
            raise InvalidInputError(
                f"Run {self._uid}: has {len(events)} events, and --series names {len(series)} "
                "series; expected one for each event, in order."
            )
        if descriptor is None:
            descriptor = self.chosen.descriptor(series[0], run["start"], self._data_key)
        documents: list[tuple[str, Document]] = [("descriptor", dict(descriptor))]
        for one, event in zip(series, events, strict=True):
            n_frames = n_on_disk(one, self._roots)
            documents += self._documents(one, event, descriptor, n_frames=n_frames)
        return documents

    def _prefixes(self, stream: Node) -> list[str]:
        """Return the paths of the files up to, without, "_<sequence_id>"."""
        node = stream.base[self._data_key]
        sources = node.include_data_sources().data_sources() or []
        spec = node.metadata.get("spec")
        # TiledWriter adds it at the end of the run.
        if spec is not None and spec not in EIGER_SPECS:
            raise UnreadableFramesError(
                f"{self._subject}: stored as a file of the spec {short_repr(spec)} that Tiled "
                f"cannot read; expected an array, or a series of an Eiger ({_SPECS}). Give "
                "TiledWriter the mimetype of the spec (spec_to_mimetype)."
            )
        prefixes: list[str] = []
        for uri in dict.fromkeys(asset.data_uri for source in sources for asset in source.assets):
            path = local_path(uri)
            if path is None:
                raise UnreadableFramesError(
                    f"{self._subject}: stored as {short_repr(uri)}; expected a local file, "
                    "file://localhost/... Run the analysis where the file system with the frames "
                    "is mounted."
                )
            prefixes.append(path)
        return prefixes

    def _documents(
        self,
        series: Master,
        event: tuple[int, float],
        descriptor: Fields,
        *,
        n_frames: int | None = None,
    ) -> list[tuple[str, Document]]:
        """Return what the detector said of one event; the uids are ours.

        `n_frames`: those of the series that count, where that is not what the documents say.
        """
        documents: list[tuple[str, Document]] = []
        prefix, _, sequence_id = series.series.rpartition("_")
        if prefix not in self._resources:
            uid = f"{self._uid}-{self._data_key}-{len(self._resources)}"
            self._resources[prefix] = uid
            each = images_per_file(series, self._roots)
            resource = {
                "uid": uid,
                "run_start": self._uid,
                "spec": "AD_EIGER2",
                "root": "/",
                "resource_path": prefix.lstrip("/"),
                "resource_kwargs": {} if each is None else {"images_per_file": each},
                "path_semantics": "posix",
            }
            documents.append(("resource", resource))
        resource_uid, (seq_num, time_s) = self._resources[prefix], event
        datum_id = f"{resource_uid}/{sequence_id}"
        datum = {
            "datum_id": datum_id,
            "resource": resource_uid,
            "datum_kwargs": {
                "seq_id": int(sequence_id),
                **({} if n_frames is None else {"n_frames": n_frames}),
            },
        }
        read = {
            "uid": f"{datum_id}/{seq_num}",
            "descriptor": descriptor["uid"],
            "seq_num": seq_num,
            "time": time_s,
            "data": {self._data_key: datum_id},
            "timestamps": {self._data_key: time_s},
            "filled": {self._data_key: False},
        }
        return [*documents, ("datum", datum), ("event", read)]


def event_times(stream: Node, data_key: str) -> tuple[list[int], list[float], list[float] | None]:
    """Return numbers and times of the events of a stream, and the timestamps of its frames.

    The last are None where Tiled keeps none; a row that was written twice counts once.
    """
    name = next((name for name in _TABLES if name in stream.base), None)
    if name is None:
        return [], [], None
    node = stream.base[name]
    stamp = f"ts_{data_key}"
    columns = ["seq_num", "time", *([stamp] if stamp in node.columns else [])]
    table = node.read(columns).drop_duplicates("seq_num").sort_values("seq_num")
    stamps = [float(one) for one in table[stamp]] if stamp in columns else None
    return [int(n) for n in table["seq_num"]], [float(one) for one in table["time"]], stamps


def _events_in(stream: Node) -> list[tuple[int, float]]:
    """Return (seq_num, time) of each event in order; a row that was written twice counts once."""
    name = next((name for name in _TABLES if name in stream.base), None)
    if name is None:
        return []
    table = stream.base[name].read(["seq_num", "time"])
    rows = zip(table["seq_num"].tolist(), table["time"].tolist(), strict=True)
    return list(dict.fromkeys((int(seq_num), float(time)) for seq_num, time in rows))


def _n_images(descriptor: Fields, data_key: str) -> int | None:
    """Return the frames of one trigger as the descriptor tells, None where it does not."""
    detector = descriptor["data_keys"][data_key].get("object_name") or data_key
    try:
        return ImageKey.of(descriptor, data_key, detector).frames_per_asset
    except (LookupError, TypeError, ValueError):  # its reader says so, of the descriptor itself
        return None


# How far the clock of the detector's files may be from that of the documents, s: the smallest with
# which enough series are found. Times of files are no finer than the first.
CLOCKS_DIFFER_S = (0.01, 2.0, 60.0)
# Data files that are opened to see how many frames a full one holds.
MOST_COUNTED = 10


def series_of_events(
    subject: str,
    prefixes: Sequence[str],
    *,
    began_s: float,
    times_s: Sequence[float],
    n_images: int | None,
    roots: FileRoots,
) -> list[Master]:
    """Return the series of each event of a run in Tiled, in order.

    `subject` stands in messages. `prefixes` are paths up to, without, "_<sequence_id>"; `began_s`
    and `times_s` say when the run began and when each event was made, in order, s since 1970;
    `n_images` are the frames of one trigger.

    Raises
    ------
    UnreadableFramesError
        When there is not exactly one for each event, or files lie outside the roots.
    """
    there = [found for prefix in prefixes for found in _series(prefix, roots)]
    # A master counts the frames of all triggers.
    found = [one for one in there if not n_images or (one.n_frames or 0) % n_images == 0]
    if last := _last_before_each(subject, found, began_s, times_s):
        return last
    wanted, in_time = len(times_s), []
    for difference_s in CLOCKS_DIFFER_S if wanted else ():
        first, last = began_s - difference_s, times_s[-1] + difference_s
        in_time = [one for one in found if first <= one.written_s <= last]
        if len(in_time) >= wanted:
            break
    if len(in_time) > wanted:  # a paused scan takes a series again, and keeps one that broke off
        in_time = [one for one in in_time if _is_complete(one, roots)]
    if len(in_time) == wanted:
        return in_time
    frames = "" if n_images is None else f" of {n_images} frames each trigger"
    stored = ", ".join(short_repr(prefix) for prefix in prefixes[:5])
    names = listed_series(there, roots) or "no master file"
    raise UnreadableFramesError(
        f"{subject}: Tiled stores only the path {stored} of its files, "
        f"and {len(in_time)} series there{frames} fit the time of the run; expected {wanted}, one "
        f"for each event. There is {names}. Name the series with "
        "`xpcs-live-denoise replay UID --series N`, once for each event; or make the files "
        "readable here, with their times kept if they were copied (rsync -t)."
    )


def _last_before_each(
    subject: str, found: Sequence[Master], began_s: float, times_s: Sequence[float]
) -> list[Master]:
    """Return the last series before each event, none where clocks do not agree.

    The detector writes a series, then its event comes. Those before it that have no event are of a
    run that was paused: it takes its exposure again.
    """
    chosen: list[Master] = []
    left: list[Master] = []
    after = began_s - CLOCKS_DIFFER_S[0]
    for time_s in times_s:
        until = time_s + CLOCKS_DIFFER_S[0]
        between = [one for one in found if after <= one.written_s <= until]
        if not between:
            return []
        *before, last = sorted(between, key=lambda one: (one.written_s, _number(one)))
        chosen.append(last)
        left += before
        after = until
    if left:
        logger.warning(
            "%s: %s came before the same events as %s and are left out: a run that is paused takes "
            "its exposure again. `replay --series N` takes another one.",
            subject,
            *(", ".join(Path(one.series).name for one in some) for some in (left, chosen)),
        )
    return chosen


def _number(series: Master) -> int:
    return int(series.series.rpartition("_")[2])


def images_per_file(series: Master, roots: FileRoots) -> int | None:
    """Return the frames of a full data file, None where no file that is there tells."""
    numbers = series.numbers()
    # The last one may hold fewer.
    counts = (_count(series, number, roots) for number in numbers[:-1] or numbers)
    return max(itertools.islice((n for n in counts if n), MOST_COUNTED), default=None)


def _series(prefix: str, roots: FileRoots) -> Iterator[Master]:
    """Yield the series with that prefix whose master is there, by their sequence ids."""
    folder, name = roots.inside(prefix).parent, Path(prefix).name
    for number in sorted(n for found, n in masters_in(folder) if Path(found).name == name):
        series = f"{prefix}_{number}"
        try:
            written_s = os.stat(series + MASTER).st_mtime
            yield read_master(series, roots) or Master(series=series, written_s=written_s)
        except OSError:  # outside the roots, or gone
            continue


def _is_complete(series: Master, roots: FileRoots) -> bool:
    """Whether the data files hold all the frames that the master tells of."""
    held = sum(_count(series, number, roots) or 0 for number in series.numbers())
    return held >= (series.n_frames or 1)


def _count(series: Master, number: int, roots: FileRoots) -> int | None:
    try:
        return series.count(number, roots)
    except UnreadableFramesError:
        return None
