"""The arrays and tables of a derived run in Tiled; each message stays below a limit."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow  # pyright: ignore[reportMissingTypeStubs]
from tiled.structures.array import ArrayStructure, BuiltinDtype  # pyright: ignore[reportMissingTypeStubs]
from tiled.structures.core import StructureFamily  # pyright: ignore[reportMissingTypeStubs]
from tiled.structures.data_source import DataSource  # pyright: ignore[reportMissingTypeStubs]

from xpcs_live_denoise.catalog import (
    ARRAY_DIMS,
    ARRAY_DTYPES,
    STREAM_SPECS,
    TABLES,
    Node,
    array_data_key,
    arrow_schema,
    create_container,
    create_or_adopt,
    descriptor_metadata,
    plain,
    table_data_keys,
)
from xpcs_live_denoise.records.types import Array, BoolArray, Document, Fields

pa: Any = pyarrow  # has no types
Table: TypeAlias = Any

TABLE_KEY = "internal"
# Room for what a message holds besides its rows: names and types of fifty columns.
MESSAGE_OVERHEAD = 64_000

# Frames along the edge of a chunk: about a window, so that a live row touches few chunks and a
# thousand frames make few files.
MIN_EDGE, DEFAULT_EDGE, MAX_EDGE = 25, 50, 100
FIRST_CAPACITY = 200


def largest_divisor(number: int, limit: int) -> int:
    """Return the largest divisor of `number` that is not above `limit` (1 at least)."""
    return max(d for d in range(1, max(1, min(number, limit)) + 1) if number % d == 0)


def live_edge(n_expected: int | None) -> tuple[int, int]:
    """Return (capacity, chunk edge) in frames for a series that is still being taken.

    The capacity is the expected number itself where it has a divisor that makes a good chunk: the
    array then never needs to be made anew. Otherwise it is the next multiple of 50 frames, and 200
    where nobody told how many to expect.
    """
    if not n_expected:
        return FIRST_CAPACITY, DEFAULT_EDGE
    edge = largest_divisor(n_expected, MAX_EDGE)
    if edge >= min(MIN_EDGE, n_expected):
        return n_expected, edge
    return math.ceil(n_expected / DEFAULT_EDGE) * DEFAULT_EDGE, DEFAULT_EDGE


def exact_chunks(shape: Sequence[int], itemsize: int, max_bytes: int) -> tuple[int, ...]:
    """Return chunks for a finished array: whole rows, as many as `max_bytes` holds.

    Every edge divides the shape: a patch of an array with a ragged last chunk would grow it.
    """
    chunks = list(shape)
    for axis in (1, 0) if len(shape) == 3 else (0,):
        others = math.prod(chunks) // chunks[axis] * itemsize
        chunks[axis] = largest_divisor(shape[axis], max_bytes // others)
    return tuple(chunks)


def boxes(
    shape: Sequence[int], unit: Sequence[int], itemsize: int, max_bytes: int
) -> Iterator[tuple[slice, ...]]:
    """Yield slices that cover an array, each of whole units and at most `max_bytes`.

    One unit is the least that is sent, also where it is larger than `max_bytes`.
    """
    edges = [min(u, n) for u, n in zip(unit, shape, strict=True)]
    for axis in reversed(range(len(edges))):
        room = max_bytes // (math.prod(edges) * itemsize)
        edges[axis] = min(shape[axis], edges[axis] * max(1, room))
    starts = (range(0, n, edge) for n, edge in zip(shape, edges, strict=True))
    for corner in itertools.product(*starts):
        yield tuple(
            slice(start, min(start + edge, n))
            for start, edge, n in zip(corner, edges, shape, strict=True)
        )


class TiledArray:
    """The state of one array node: whether it is there, and its shape.

    Every method may be called again after it failed: patches are idempotent, and a node whose
    creation was never confirmed is adopted or made anew.
    """

    def __init__(
        self,
        stream: Node,
        name: str,
        *,
        dtype: str,
        access_tags: list[str] | None,
        max_message_bytes: int,
    ):
        self._stream = stream
        self._name = name
        self._dtype = np.dtype(dtype)
        self._access_tags = access_tags
        self._max_bytes = max_message_bytes
        self._node: Node = None
        self._shape: tuple[int, ...] = ()
        self._chunks: tuple[int, ...] = ()

    @property
    def lengths(self) -> dict[str, int]:
        """The length of each dim; empty before the node is there."""
        return dict(zip(ARRAY_DIMS[self._name][0], self._shape, strict=False))

    def patch_frames(
        self, values: Array, offset: tuple[int, int], *, n_frames: int, n_expected: int | None
    ) -> None:
        """Write a block (n_roi, n_t1, n_t2) of a two-time array while the series is being taken.

        `offset` are the frames (t1, t2) of its first entry; the frames that are expected decide the
        capacity of a new node, which has room for `n_frames`.
        """
        needed, n_roi = n_frames, values.shape[0]
        if self._node is None:
            capacity, edge = live_edge(n_expected)
            while capacity < needed:
                capacity *= 2
            room = self._max_bytes // (edge * edge * self._dtype.itemsize)
            chunks = (largest_divisor(n_roi, max(1, room)), edge, edge)
            self._create((n_roi, capacity, capacity), chunks)
        self.hold(needed)
        self._patch(values, (0, *offset))

    def hold(self, n_frames: int) -> None:
        """Make room for so many frames, if the node is there."""
        if self._shape and n_frames > self._shape[1]:
            self._grow(n_frames)

    def replace(self, values: Array) -> None:
        """Make the array exactly `values`; the node is made anew only where its shape differs."""
        if self._node is None or self._shape != values.shape:
            chunks = exact_chunks(values.shape, self._dtype.itemsize, self._max_bytes)
            self._delete()
            self._create(values.shape, chunks)
        self._patch(values, (0,) * values.ndim)

    def adopt(self) -> None:
        """Go on with the node that another process left."""
        self._take(self._stream[self._name])

    def describe(self, metadata: Document) -> None:
        """Set entries of the node's own metadata; the node must be there."""
        self._node.update_metadata(metadata, drop_revision=True)

    def close(self) -> None:
        """Tell live subscribers that nothing more comes."""
        if self._node is not None:
            self._node.close_stream()

    def _create(self, shape: tuple[int, ...], chunks: tuple[int, ...]) -> None:
        self._describe(shape)
        structure = ArrayStructure(
            data_type=BuiltinDtype.from_numpy_dtype(self._dtype),
            shape=shape,
            chunks=tuple((c,) * (n // c) for n, c in zip(shape, chunks, strict=True)),
            dims=ARRAY_DIMS[self._name][0],
        )
        source = DataSource(structure=structure, structure_family=StructureFamily.array)
        node = create_or_adopt(
            self._stream,
            self._name,
            lambda: self._stream.new(
                StructureFamily.array,
                [source],
                key=self._name,
                metadata={},
                access_tags=self._access_tags,
            ),
        )
        self._take(node)
        if self._shape != shape:
            self._describe(self._shape)

    def _take(self, node: Node) -> None:
        self._node, self._shape = node, tuple(node.shape)
        self._chunks = tuple(edges[0] for edges in node.chunks)

    def _delete(self) -> None:
        self._node, self._shape = None, ()
        if self._name in self._stream:
            self._stream.delete_contents(self._name, external_only=False)

    def _grow(self, needed: int) -> None:
        capacity = self._shape[1]
        while capacity < needed:
            capacity *= 2
        shape = (self._shape[0], capacity, capacity)
        self._describe(shape)
        # One zero in the far corner: Zarr changes its shape and copies nothing.
        corner = np.zeros((1, 1, 1), self._dtype)
        self._node.patch(corner, offset=tuple(n - 1 for n in shape), extend=True)
        self._shape = shape

    def _describe(self, shape: tuple[int, ...]) -> None:
        # Before the node: documents() looks up the data key of every array that it finds.
        data_key = array_data_key(self._name, shape, self._dtype)
        self._stream.update_metadata({"data_keys": {self._name: data_key}}, drop_revision=True)

    def _patch(self, values: Array, offset: tuple[int, ...]) -> None:
        for box in boxes(values.shape, self._chunks, self._dtype.itemsize, self._max_bytes):
            block = np.ascontiguousarray(values[box], dtype=self._dtype)
            at = tuple(o + s.start for o, s in zip(offset, box, strict=True))
            self._node.patch(block, offset=at)


class TiledTable:
    """The state of one table: how many rows are in it, and which of them a failed write left.

    An append is not idempotent. When one fails, nobody knows whether its rows arrived, and the
    caller will offer them again. Before the next append the table is therefore asked how many rows
    it has, and rows that did arrive since the last `settle` are not written twice. `schema` is
    column -> (kind, unit), `key` the columns by which a row that is offered again is recognised.
    """

    def __init__(
        self,
        stream: Node,
        schema: Mapping[str, tuple[str, str]],
        *,
        key: Sequence[str],
        access_tags: list[str] | None,
        max_message_bytes: int,
    ):
        self._stream = stream
        self._kinds = dict(schema)
        self._key = tuple(key)
        self._access_tags = access_tags
        self._max_bytes = max(1, max_message_bytes - MESSAGE_OVERHEAD)
        self._node: Node = None
        self._unsettled: list[Table] = []
        self._in_doubt: Table | None = None
        self._adopted: set[tuple[str, ...]] = set()
        self.n_rows = 0

    def adopt(self) -> None:
        """Go on with the table that another process left; none of its rows is written again."""
        self._node = self._stream[TABLE_KEY]
        # Another version may have had other columns, or another order.
        self._kinds = {
            name: self._kinds[name] for name in self._node.columns if name in self._kinds
        }
        self._key = tuple(name for name in self._key if name in self._kinds)
        stored = self._node.read(["seq_num", *self._key])
        columns = {name: np.asarray(stored[name]) for name in self._key}
        self._adopted = set(self._keys(pa.table(columns)))
        self.n_rows = int(stored["seq_num"].max()) if len(stored) else 0

    def append(self, columns: Fields) -> None:
        """Append rows of every column, less those that an unsettled append has already brought."""
        if self._node is None:
            self._node = create_or_adopt(
                self._stream,
                TABLE_KEY,
                lambda: self._stream.create_appendable_table(
                    schema=arrow_schema(self._kinds), key=TABLE_KEY, access_tags=self._access_tags
                ),
            )
        self._resolve_doubt()
        table = pa.table({name: np.asarray(columns[name]) for name in self._kinds})
        table = table.filter(pa.array(self._is_new(table)))
        if not table.num_rows:
            return
        full = self._complete(table)
        rows = max(1, self._max_bytes * full.num_rows // max(1, full.nbytes))
        for start in range(0, full.num_rows, rows):
            self._send(full.slice(start, rows))

    def settle(self) -> None:
        """Forget what the caller might offer again: the whole write was a success."""
        self._unsettled.clear()

    def close(self) -> None:
        """Tell live subscribers that nothing more comes."""
        if self._node is not None:
            self._node.close_stream()

    def _send(self, part: Table) -> None:
        self._in_doubt = part  # until an answer says that it has arrived
        self._node.append_partition(0, part)
        self._confirm(part)

    def _confirm(self, part: Table) -> None:
        self._in_doubt = None
        self.n_rows += part.num_rows
        self._unsettled.append(part)

    def _resolve_doubt(self) -> None:
        """Find out whether the append of unknown fate has arrived."""
        if self._in_doubt is None:
            return
        stored = self._node.read(["seq_num"])["seq_num"]
        if len(stored) > 0 and int(stored.max()) > self.n_rows:
            self._confirm(self._in_doubt)
        self._in_doubt = None

    def _is_new(self, table: Table) -> BoolArray:
        known = {row for part in self._unsettled for row in self._keys(part)}
        if not known and not self._adopted:
            return np.ones(int(table.num_rows), dtype=bool)
        rows = self._keys(table)
        return np.array([row not in known and row not in self._adopted for row in rows], dtype=bool)

    def _keys(self, table: Table) -> list[tuple[str, ...]]:
        # As text, because NaN (the age of a whole series) is unequal to itself.
        columns = [[str(value) for value in table[name].to_pylist()] for name in self._key]
        return list(zip(*columns, strict=True))

    def _complete(self, table: Table) -> Table:
        n, now = table.num_rows, time.time()
        stamps = np.full(n, now)
        arrays: list[Any] = [np.arange(self.n_rows + 1, self.n_rows + n + 1), stamps]
        arrays += [table[name] for name in self._kinds]
        arrays += [stamps] * len(self._kinds)
        schema = arrow_schema(self._kinds)
        return pa.table(dict(zip(schema.names, arrays, strict=True))).cast(schema)


class RunNodes:
    """The nodes of one derived run: its streams, their arrays and tables, each made when needed."""

    def __init__(self, run: Node, access_tags: list[str] | None, max_message_bytes: int) -> None:
        self.run = run
        self.arrays: dict[tuple[str, str], TiledArray] = {}
        self.tables: dict[str, TiledTable] = {}
        self._streams: dict[str, Node] = {}
        self._tags = access_tags
        self._max_bytes = max_message_bytes
        for name in run:  # what another process has already written; nothing of a new run
            self._streams[name] = plain(run[name])
            for key in self._streams[name]:
                if key == TABLE_KEY:
                    self.table(name).adopt()
                else:
                    self.array(name, key).adopt()

    def array(self, stream: str, name: str) -> TiledArray:
        """Return the array of that name in a stream."""
        if (stream, name) not in self.arrays:
            self.arrays[stream, name] = TiledArray(
                self._stream(stream, {}),
                name,
                dtype=ARRAY_DTYPES.get(name, "<f8"),
                access_tags=self._tags,
                max_message_bytes=self._max_bytes,
            )
        return self.arrays[stream, name]

    def table(self, name: str) -> TiledTable:
        """Return the table of a stream."""
        if name not in self.tables:
            schema, key = TABLES[name]
            self.tables[name] = TiledTable(
                self._stream(name, table_data_keys(schema)),
                schema,
                key=key,
                access_tags=self._tags,
                max_message_bytes=self._max_bytes,
            )
        return self.tables[name]

    def describe_keys(self, stream: str, data_keys: Document) -> None:
        """Add to what a stream says of its data keys, if it is there."""
        if stream in self._streams:
            self._streams[stream].update_metadata({"data_keys": data_keys}, drop_revision=True)

    def close(self) -> dict[str, int]:
        """Close every node but the run's own; return the number of events of each stream."""
        for node in (*self.arrays.values(), *self.tables.values()):
            node.close()
        for stream in self._streams.values():
            stream.close_stream()
        counts = {name: 1 for name, _ in self.arrays}
        return counts | {name: table.n_rows for name, table in self.tables.items()}

    def _stream(self, name: str, data_keys: Document) -> Node:
        if name not in self._streams:
            metadata = descriptor_metadata(time.time(), data_keys)
            node = create_container(self.run, name, metadata, STREAM_SPECS, self._tags)
            self._streams[name] = plain(node)
        return self._streams[name]
