"""The arrays and tables of a derived run in Tiled; each message stays below a limit."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow  # pyright: ignore[reportMissingTypeStubs]
from tiled import utils  # pyright: ignore[reportMissingTypeStubs]
from tiled.client import utils as client_utils  # pyright: ignore[reportMissingTypeStubs]
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

# Without types.
pa: Any = pyarrow
tiled_utils: Any = utils
tiled_client: Any = client_utils
Table: TypeAlias = Any

TABLE_KEY = "internal"
ARROW = "application/vnd.apache.arrow.file"
HTTP_FORBIDDEN = 403

# Dims that grow while a series is taken, and frames along the edge of a chunk of each: so that a
# live row touches few chunks and a long series makes few files.
LIVE_EDGES = {"t1_s": 50, "t2_s": 50, "t_s": 200}
FIRST_CAPACITY = 200
# Of arrays with a few numbers a frame, a chunk holds more frames.
ROW_EDGE = 3200


def largest_divisor(number: int, limit: int) -> int:
    """Return the largest divisor of `number` that is not above `limit` (1 at least)."""
    return max(d for d in range(1, max(1, min(number, limit)) + 1) if number % d == 0)


def live_layout(
    dims: Sequence[str], shape: Sequence[int], itemsize: int, max_bytes: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return (capacity, chunks) of a new array that has to hold `shape` and may grow."""
    capacity, chunks = list(shape), list(shape)
    few = dims[0] == "t_s"
    for axis, dim in enumerate(dims):
        if dim in LIVE_EDGES:
            chunks[axis] = ROW_EDGE if few else LIVE_EDGES[dim]
            capacity[axis] = doubled(ROW_EDGE if few else FIRST_CAPACITY, shape[axis])
    if "roi" in dims:  # of many ROIs a part
        roi = dims.index("roi")
        others = math.prod(chunks) // chunks[roi] * itemsize
        chunks[roi] = largest_divisor(shape[roi], max_bytes // others)
    return tuple(capacity), tuple(chunks)


def dtype_of(name: str) -> np.dtype[Any]:
    """Return the type of the numbers in an array of that name."""
    return np.dtype(ARRAY_DTYPES.get(name, "<f8"))


def new_layout(
    name: str, shape: tuple[int, ...], max_bytes: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return (capacity, chunks) of a new array of that name, as `live_layout`."""
    return live_layout(ARRAY_DIMS[name][0], shape, dtype_of(name).itemsize, max_bytes)


def doubled(capacity: int, needed: int) -> int:
    """Return the capacity, doubled as often as it takes to hold what is needed."""
    while capacity < needed:
        capacity *= 2
    return capacity


def exact_chunks(shape: Sequence[int], itemsize: int, max_bytes: int) -> tuple[int, ...]:
    """Return chunks for a small array that is written at once: rows, as many as `max_bytes` holds.

    Every edge divides the shape: a patch of an array with a ragged last chunk would grow it.
    """
    row_bytes = max(1, math.prod(shape[1:]) * itemsize)
    return (largest_divisor(shape[0], max_bytes // row_bytes), *shape[1:])


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
        access_tags: list[str] | None,
        max_message_bytes: int,
    ):
        self._stream = stream
        self._name = name
        self._dtype = dtype_of(name)
        self._access_tags = access_tags
        self._max_bytes = max_message_bytes
        self._node: Any = None
        self._shape: tuple[int, ...] = ()
        self._chunks: tuple[int, ...] = ()

    @property
    def lengths(self) -> dict[str, int]:
        """The length of each dim; empty before the node is there."""
        return dict(zip(ARRAY_DIMS[self._name][0], self._shape, strict=False))

    @property
    def metadata(self) -> Document:
        """The node's own metadata as they were when it was made or taken over."""
        return {} if self._node is None else dict(self._node.metadata)

    def reserve(self, shape: tuple[int, ...], **metadata: Any) -> None:
        """Make room for `shape`: make the node, with `metadata`, or let it grow by doubling."""
        if not self._shape:
            self._create(*new_layout(self._name, shape, self._max_bytes), metadata)
        larger = self.capacity(shape)
        if larger != self._shape:
            self._describe(larger)
            # One zero in the far corner: Zarr changes its shape and copies nothing.
            corner = np.zeros((1,) * len(larger), self._dtype)
            self._node.patch(corner, offset=tuple(n - 1 for n in larger), extend=True)
            self._shape = larger

    def capacity(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape that it has once there is room for `shape`."""
        if not self._shape:
            return new_layout(self._name, shape, self._max_bytes)[0]
        room = zip(self._shape, shape, strict=True)
        return tuple(have if have >= n else doubled(max(have, 1), n) for have, n in room)

    def patch(self, values: Array, offset: tuple[int, ...]) -> None:
        """Write a block into the room that is there; `offset` is where its first entry stands."""
        for box in boxes(values.shape, self._chunks, self._dtype.itemsize, self._max_bytes):
            block = np.ascontiguousarray(values[box], dtype=self._dtype)
            at = tuple(o + s.start for o, s in zip(offset, box, strict=True))
            self._node.patch(block, offset=at)
        # What an earlier process had cut to its length has its whole capacity again.
        self._shape = tuple(self._node.shape)

    def trim(self, shape: tuple[int, ...]) -> None:
        """Cut the array to its final shape; nothing is copied. A later `patch` undoes it.

        Where the key may not, what lies beyond the shape stays, and reads 0.
        """
        if self._node is None or self._shape == shape:
            return
        chunks = tuple(_ragged(n, edge) for n, edge in zip(shape, self._chunks, strict=True))
        source = self._node.data_sources()[0]
        source.structure = self._structure(shape, chunks)
        body = tiled_utils.safe_json_dump({"data_source": source})
        uri = self._node.uri.replace("/metadata/", "/data_source/", 1)
        self._describe(shape)
        for attempt in tiled_client.retry_context():
            with attempt:
                answer = self._node.context.http_client.put(uri, content=body)
                if answer.status_code == HTTP_FORBIDDEN:  # a key without the scope `register`
                    self._describe(self._shape)
                    return
                tiled_client.handle_error(answer)
        self._shape = shape

    def replace(self, values: Array) -> None:
        """Make a small array exactly `values`; the node is made anew where its shape differs."""
        chunks = exact_chunks(values.shape, self._dtype.itemsize, self._max_bytes)
        if self._node is None:
            self._create(values.shape, chunks, {})
        if self._shape != values.shape:
            self._delete()
            self._create(values.shape, chunks, {})
        self.patch(values, (0,) * values.ndim)

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

    def _create(self, shape: tuple[int, ...], chunks: tuple[int, ...], metadata: Document) -> None:
        self._describe(shape)
        structure = self._structure(
            shape, tuple((c,) * (n // c) for n, c in zip(shape, chunks, strict=True))
        )
        source = DataSource(structure=structure, structure_family=StructureFamily.array)
        node = create_or_adopt(
            self._stream,
            self._name,
            lambda: self._stream.new(
                StructureFamily.array,
                [source],
                key=self._name,
                metadata=metadata,
                access_tags=self._access_tags,
            ),
        )
        self._take(node)
        if self._shape != shape:
            self._describe(self._shape)

    def _structure(self, shape: tuple[int, ...], chunks: tuple[tuple[int, ...], ...]) -> Any:
        return ArrayStructure(
            data_type=BuiltinDtype.from_numpy_dtype(self._dtype),
            shape=shape,
            chunks=chunks,
            dims=ARRAY_DIMS[self._name][0],
        )

    def _take(self, node: Node) -> None:
        self._node, self._shape = node, tuple(node.shape)
        self._chunks = tuple(edges[0] for edges in node.chunks)

    def _delete(self) -> None:
        self._node, self._shape = None, ()
        if self._name in self._stream:
            self._stream.delete_contents(self._name, external_only=False)

    def data_key(self, shape: tuple[int, ...]) -> Document:
        """Return what the stream says of this array where it has that shape."""
        return array_data_key(self._name, shape, self._dtype)

    def _describe(self, shape: tuple[int, ...]) -> None:
        # Before the node: documents() looks up the data key of every array that it finds.
        describe_keys(self._stream, {self._name: self.data_key(shape)})


def describe_keys(stream: Node, data_keys: Mapping[str, Document]) -> None:
    """Let a stream say so of data keys, beside what it says; nothing is sent that it says."""
    said = stream.metadata["data_keys"]
    if any({**said.get(name, {}), **key} != said.get(name) for name, key in data_keys.items()):
        stream.update_metadata({"data_keys": dict(data_keys)}, drop_revision=True)


def _ragged(length: int, edge: int) -> tuple[int, ...]:
    """Return the edges of chunks that end with the array."""
    rest = length % edge
    return (edge,) * (length // edge) + ((rest,) if rest else ())


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
        self._max_bytes = max_message_bytes
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
        for part, message in self._messages(self._complete(table)):
            self._send(part, message)

    def settle(self) -> None:
        """Forget what the caller might offer again: the whole write was a success."""
        self._unsettled.clear()

    def close(self) -> None:
        """Tell live subscribers that nothing more comes."""
        if self._node is not None:
            self._node.close_stream()

    def _messages(self, table: Table) -> Iterator[tuple[Table, bytes]]:
        """Yield the rows in parts, each with its message: as few as the size of one allows."""
        start = 0
        n_rows = table.num_rows
        while start < table.num_rows:
            part = table.slice(start, n_rows)
            message = _compressed(part)
            if len(message) > self._max_bytes and part.num_rows > 1:
                n_rows = max(1, int(0.9 * part.num_rows * self._max_bytes / len(message)))
                continue
            yield part, message
            start += part.num_rows

    def _send(self, part: Table, message: bytes) -> None:
        self._in_doubt = part  # until an answer says that it has arrived
        uri = self._node.item["links"]["partition"].format(index=0)
        # As the client's own append_partition, which compresses nothing.
        for attempt in tiled_client.retry_context(on=tiled_client.should_retry_if_unprocessed):
            with attempt:
                answer = self._node.context.http_client.patch(
                    uri, content=message, headers={"Content-Type": ARROW}
                )
                tiled_client.handle_error(answer)
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


def _compressed(table: Table) -> bytes:
    """Return an Arrow file of a table; most columns hold few values, many times."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_file(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


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

    def describe_keys(self, stream: str, data_keys: Mapping[str, Document]) -> None:
        """Add to what a stream says of its data keys, if it is there."""
        if stream in self._streams:
            describe_keys(self._streams[stream], data_keys)

    def describe_shapes(
        self, stream: str, shapes: Mapping[str, tuple[int, ...]], **said: Any
    ) -> None:
        """Say of which shape arrays of a stream are about to be: in one request, not one each.

        `said` is what else is true of each. A stream that is not there is made with it.
        """
        keys = {
            name: {**array_data_key(name, shape, dtype_of(name)), **said}
            for name, shape in shapes.items()
        }
        describe_keys(self._stream(stream, keys), keys)

    def reserve(self, stream: str, shapes: Mapping[str, tuple[int, ...]], **said: Any) -> None:
        """Make room in arrays of a stream, and say so in one request as `describe_shapes` does."""
        capacities: dict[str, tuple[int, ...]] = {}
        for name, shape in shapes.items():
            array = self.arrays.get((stream, name))
            new = new_layout(name, shape, self._max_bytes)[0]
            capacities[name] = new if array is None else array.capacity(shape)
        self.describe_shapes(stream, capacities, **said)
        for name, shape in shapes.items():
            self.array(stream, name).reserve(shape)

    def replace(self, stream: str, arrays: Mapping[str, Array]) -> None:
        """Make small arrays of a stream exactly these."""
        self.describe_shapes(stream, {name: values.shape for name, values in arrays.items()})
        for name, values in arrays.items():
            self.array(stream, name).replace(values)

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
