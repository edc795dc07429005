"""One array node of a derived run: its capacity, its chunks, and its messages below a limit."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
from tiled.structures.array import ArrayStructure, BuiltinDtype  # pyright: ignore[reportMissingTypeStubs]
from tiled.structures.core import StructureFamily  # pyright: ignore[reportMissingTypeStubs]
from tiled.structures.data_source import DataSource  # pyright: ignore[reportMissingTypeStubs]

from xpcs_live_denoise.catalog import ARRAY_DIMS, Node, array_data_key, create_or_adopt
from xpcs_live_denoise.records.types import Array, Document

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

    Parameters
    ----------
    stream
        Client (plain container) of the stream's node.
    name
        Name of the array, one of schema.ARRAY_DIMS.
    dtype
        What is stored; everything is converted to it.
    access_tags
        For the node; None where the server asks for none.
    max_message_bytes
        Most bytes of one message.
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

    def patch_frames(self, values: Array, offset: tuple[int, int], n_expected: int | None) -> None:
        """Write a block of a two-time array while the series is being taken.

        Parameters
        ----------
        values
            Shape (n_roi, n_t1, n_t2).
        offset
            Frames (t1, t2) of its first entry.
        n_expected
            Frames of the whole series, if known; decides the capacity when the node is created.
        """
        needed = max(offset[0] + values.shape[1], offset[1] + values.shape[2])
        n_roi = values.shape[0]
        if self._node is None:
            capacity, edge = live_edge(n_expected)
            while capacity < needed:
                capacity *= 2
            room = self._max_bytes // (edge * edge * self._dtype.itemsize)
            chunks = (largest_divisor(n_roi, max(1, room)), edge, edge)
            self._create((n_roi, capacity, capacity), chunks)
        if needed > self._shape[1]:
            self._grow(needed)
        self._patch(values, (0, *offset))

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
