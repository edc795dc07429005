"""The stream `two_time` of a derived run: the map of C2, its band, and the whole denoised C2."""

from __future__ import annotations

import numpy as np

from xpcs_live_denoise.catalog import bin_centres
from xpcs_live_denoise.records.results import BandRows, C2Rows, Result
from xpcs_live_denoise.records.types import Array, FloatArray, IntArray

from .nodes import LIVE_EDGES, RunNodes, TiledArray

STREAM, MAP = "two_time", "c2"
SQUARES = {"c2_denoised": "c2", "c2_spread": "spread"}
BANDS = {"c2_band": "c2", "c2_band_denoised": "denoised", "c2_band_spread": "spread"}


class TwoTimeStream:
    """The arrays of C2 of one derived run, and which rows of them have arrived.

    A row that was written already is not sent again, whoever offers it. While the map is written
    over with other bins its `version` is odd; a reader that finds the same even version before and
    after has rows of one kind. Calls may be repeated after a failure.
    """

    def __init__(self, nodes: RunNodes) -> None:
        self._nodes = nodes
        self._arrived: dict[str, ArrivedRows] = {}
        stored = nodes.array(STREAM, MAP).metadata if (STREAM, MAP) in nodes.arrays else {}
        self._frames_per_bin = int(stored.get("frames_per_bin", 1))
        self._version = int(stored.get("version", 0))

    def write_map(self, rows: C2Rows) -> None:
        """Write rows of the map, its lower triangle; all of them where the bins are new."""
        node, digests = self._begin_map(rows), _triangle_digests(rows)
        news = self._rows(MAP).news(digests, rows.start)
        if news is not None:
            for start, stop in _strips(*news):
                part = rows.values[:, start - rows.start : stop - rows.start, :stop]
                node.patch(part, (0, start, 0))
        self._end_map(node, rows, digests)

    def write_band(self, band: BandRows) -> None:
        """Write rows of the band that differ from what was written."""
        n_roi, _, window = band.c2.shape
        # Of one length, or nobody can read the stream.
        arrays = self._nodes.arrays.items()
        lengths = [array.lengths.get("t_s", 0) for (stream, _), array in arrays if stream == STREAM]
        shape = (n_roi, max(band.stop, *lengths) if lengths else band.stop, window)
        fields: dict[str, FloatArray | None] = {
            name: getattr(band, field) for name, field in BANDS.items()
        }
        there = [n for n, v in fields.items() if v is not None or (STREAM, n) in self._nodes.arrays]
        self._nodes.reserve(STREAM, dict.fromkeys(there, shape))
        for name, values in fields.items():
            if values is None:
                continue
            node = self._nodes.array(STREAM, name)
            rows = np.ascontiguousarray(values.swapaxes(0, 1), dtype=np.float32)
            digests = np.array([_digest(row) for row in rows], np.int64)
            news = self._rows(name).news(digests, band.start)
            if news is not None:
                start, stop = news
                node.patch(values[:, start - band.start : stop - band.start], (0, start, 0))
            self._rows(name).add(digests, band.start)

    def write_result(self, result: Result) -> None:
        """Write what the final result has and the server has not: the whole square of the map."""
        values, frames_per_bin = result.map
        rows = C2Rows(start=0, stop=values.shape[1], values=values, frames_per_bin=frames_per_bin)
        node = self._begin_map(rows)
        if self._rows(MAP).is_empty:
            node.patch(values, (0, 0, 0))
            self._end_map(node, rows, _triangle_digests(rows))
        else:
            self.write_map(rows)
            for start, stop in _strips(0, rows.stop):
                node.patch(values[:, start:stop, start:], (0, start, start))
        self.write_band(result.band)
        for name, field in SQUARES.items():
            if (square := getattr(result.denoised, field, None)) is not None:
                self._nodes.array(STREAM, name).reserve(square.shape)
                self._nodes.array(STREAM, name).patch(square, (0, 0, 0))

    def trim(self, n_frames: int) -> None:
        """Cut every array of the run to so many frames; nothing may be written after that."""
        n_bins = -(-n_frames // self._frames_per_bin)
        lengths = {"t1_s": n_bins, "t2_s": n_bins, "t_s": n_frames}
        shapes: dict[str, dict[str, tuple[int, ...]]] = {}
        for (stream, name), array in self._nodes.arrays.items():
            if array.lengths.keys() & lengths.keys():
                shape = tuple(lengths.get(dim, n) for dim, n in array.lengths.items())
                array.reserve(shape)
                shapes.setdefault(stream, {})[name] = shape
        for stream, of_arrays in shapes.items():
            self._nodes.describe_shapes(stream, of_arrays)
            for name, shape in of_arrays.items():
                self._nodes.array(stream, name).trim(shape)

    def times(self, dim: str, length: int, n_frames: int) -> FloatArray:
        """Return where the entries along a dim are, in frames: of a bin its middle."""
        if dim in ("t_s", "lag_s"):
            return np.arange(length, dtype=np.float64)
        return bin_centres(length, self._frames_per_bin, n_frames)

    def _rows(self, name: str) -> ArrivedRows:
        return self._arrived.setdefault(name, ArrivedRows())

    def _begin_map(self, rows: C2Rows) -> TiledArray:
        """Return the node of the map; where it has other bins, say that it is written over."""
        node, n_roi = self._nodes.array(STREAM, MAP), len(rows.values)
        is_new, is_other = not node.lengths, rows.frames_per_bin != self._frames_per_bin
        if is_other:
            if not is_new:
                self._version += 1 - self._version % 2
                node.describe({"version": self._version})
            self._frames_per_bin = rows.frames_per_bin
            self._arrived.pop(MAP, None)
        said, shape = {"frames_per_bin": self._frames_per_bin}, (n_roi, rows.stop, rows.stop)
        if is_new:
            self._nodes.describe_shapes(STREAM, {MAP: node.capacity(shape)}, **said)
        node.reserve(shape, **said, version=self._version)
        if is_other or is_new:  # a process that died has lost the rows before
            for start, stop in _strips(0, rows.start):
                nothing = np.full((n_roi, stop - start, stop), np.nan, np.float32)
                node.patch(nothing, (0, start, 0))
        return node

    def _end_map(self, node: TiledArray, rows: C2Rows, digests: IntArray) -> None:
        self._rows(MAP).add(digests, rows.start)
        if self._version % 2:
            said = {"frames_per_bin": self._frames_per_bin}
            self._nodes.describe_keys(STREAM, {MAP: said})
            node.describe({**said, "version": self._version + 1})
            self._version += 1


class ArrivedRows:
    """What is in the rows of an array that have arrived, as far as it takes to know them again."""

    def __init__(self) -> None:
        self._digests = np.zeros(0, np.int64)  # 0: nothing has arrived

    @property
    def is_empty(self) -> bool:
        """Whether nothing has arrived."""
        return not self._digests.any()

    def news(self, digests: IntArray, start: int) -> tuple[int, int] | None:
        """Return [first, stop) of the rows from `start` on that differ; None if none does."""
        known = np.zeros(len(digests), np.int64)
        found = self._digests[start : start + len(digests)]
        known[: len(found)] = found
        different = np.flatnonzero(known != digests)
        if not len(different):
            return None
        return start + int(different[0]), start + int(different[-1]) + 1

    def add(self, digests: IntArray, start: int) -> None:
        """Take note of rows that have arrived."""
        stop = start + len(digests)
        if stop > len(self._digests):
            longer = np.zeros(max(stop, 2 * len(self._digests)), np.int64)
            longer[: len(self._digests)] = self._digests
            self._digests = longer
        self._digests[start:stop] = digests


def _digest(row: Array) -> int:
    return hash(row.tobytes()) or 1


def _triangle_digests(rows: C2Rows) -> IntArray:
    values = rows.values.astype(np.float32, copy=False)
    numbers = range(rows.start, rows.stop)
    return np.array([_digest(values[:, k - rows.start, : k + 1]) for k in numbers], np.int64)


def _strips(start: int, stop: int) -> list[tuple[int, int]]:
    """Return rows [start, stop) in parts of the edge of a chunk of the map."""
    edge = LIVE_EDGES["t1_s"]
    if start >= stop:
        return []
    starts = [start, *range(start - start % edge + edge, stop, edge)]
    return list(zip(starts, [*starts[1:], stop], strict=True))
