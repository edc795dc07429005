"""Chunks compressed by bitshuffle and LZ4: only blocks with wanted elements are decompressed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from xpcs_live_denoise.records.types import Array, IntArray

HEAD = 12  # bytes that tell the size of the chunk and of a block: uint64, uint32, big-endian
ROOM = 16  # bytes that are copied at once
ITEMSIZES = (1, 2, 4, 8)  # bytes of an element


class WantedElements:
    """Which blocks of a chunk hold the wanted elements, and where these are in them.

    A chunk of `n_elements` numbers of `dtype`, of 1, 2, 4 or 8 bytes each, is compressed in blocks
    of some KiB, each for itself; what is left of the last one beyond a multiple of 8 numbers is
    stored as it is. `wanted` are flat indices into the chunk: (n,), in any order, or a range
    without steps.
    """

    def __init__(self, wanted: IntArray | range, n_elements: int, dtype: np.dtype[Any]) -> None:
        self.n_wanted = len(wanted)
        self._n_elements = n_elements
        self._dtype = dtype
        self._runs = _side_by_side(wanted)
        self._blocks: _Blocks | None = None  # as the head of a chunk says

    def take(self, chunk: bytes) -> Array:
        """Return the wanted elements of a chunk as it lies in the file, (n,); see `take_into`."""
        out: Array = np.empty(self.n_wanted, self._dtype)
        self.take_into(chunk, out)
        return out

    def take_into(self, chunk: bytes, out: Array) -> None:
        """Write the wanted elements of a chunk as it lies in the file to `out`, (n,).

        Threads may do so at the same time.

        Raises
        ------
        ValueError
            When the chunk is damaged: its head, or a block on the way to the last wanted one.
        """
        from .bslz4_kernels import take_elements

        blocks = self._read_head(chunk[:HEAD])
        if not self.n_wanted:
            return
        raw: Array = np.frombuffer(chunk, np.uint8)
        as_bits = out.view(f"u{self._dtype.itemsize}")
        fault = take_elements(
            raw, blocks.edges, blocks.n, blocks.wanted, blocks.first_runs, blocks.runs, as_bits
        )
        if fault > 0:
            raise ValueError(f"block {fault - 1} does not end within the chunk")
        if fault < 0:
            raise ValueError(f"block {-1 - fault} cannot be decompressed")

    def _read_head(self, head: bytes) -> _Blocks:
        itemsize, blocks = self._dtype.itemsize, self._blocks
        n_bytes, block_bytes = int.from_bytes(head[:8], "big"), int.from_bytes(head[8:], "big")
        if len(head) < HEAD or n_bytes != self._n_elements * itemsize:
            raise ValueError(
                f"its head tells of {n_bytes} bytes, expected {self._n_elements * itemsize}"
            )
        if not block_bytes or block_bytes % (8 * itemsize):
            raise ValueError(f"its head tells of blocks of {block_bytes} bytes")
        if blocks is None or blocks.n_per_block != block_bytes // itemsize:
            n_per_block = block_bytes // itemsize
            self._blocks = blocks = _cut(self._runs, self._n_elements, n_per_block)
        return blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class _Blocks:
    """The blocks of a chunk, and the runs of wanted elements in them, as `take_elements` takes it.

    `n` are compressed, of `n_per_block` elements each, but the last one.
    """

    n: int
    n_per_block: int
    edges: Array
    wanted: Array
    first_runs: Array
    runs: Array


def _side_by_side(wanted: IntArray | range) -> IntArray:
    """Return elements that follow each other: the first, how many, their place, (n_run, 3)."""
    if isinstance(wanted, range):
        return np.array([[wanted.start, len(wanted), 0]])
    places = np.flatnonzero(np.diff(wanted, prepend=-2) != 1)
    return np.stack([wanted[places], np.diff(places, append=len(wanted)), places], axis=1)


def _cut(runs: IntArray, n_elements: int, n_per_block: int) -> _Blocks:
    """Cut runs of elements where blocks end."""
    n_shuffled = n_elements - n_elements % 8
    n_blocks = -(-n_shuffled // n_per_block)
    edges: IntArray = np.minimum(np.arange(n_blocks + 1) * n_per_block, n_shuffled)
    edges = np.append(edges, n_elements)  # no block where all are shuffled: nothing is in it
    starts: IntArray = runs[:, 0]
    stops: IntArray = starts + runs[:, 1]
    first = np.searchsorted(edges, starts, side="right") - 1
    n_touched = np.searchsorted(edges, stops) - first
    run = np.repeat(np.arange(len(runs)), n_touched)
    block = np.arange(len(run)) - np.repeat(np.cumsum(n_touched) - n_touched - first, n_touched)
    low = np.maximum(starts[run], edges[block])
    high = np.minimum(stops[run], edges[block + 1])
    order = np.argsort(block, kind="stable")
    places = runs[run, 2] + low - starts[run]
    pieces = np.stack([low - edges[block], high - low, places], axis=1)
    wanted, first_runs = np.unique(block[order], return_index=True)
    return _Blocks(
        n=n_blocks,
        n_per_block=n_per_block,
        edges=edges.astype(np.uint64),
        wanted=wanted.astype(np.uint64),
        first_runs=np.append(first_runs, len(run)).astype(np.uint64),
        runs=pieces[order].astype(np.uint64),
    )


def compile_kernels() -> None:
    """Compile what takes elements out of chunks of the usual types, or read it from disk."""
    for dtype in (np.dtype(np.uint16), np.dtype(np.uint32)):
        head = (2 * dtype.itemsize).to_bytes(8, "big") + (8 * dtype.itemsize).to_bytes(4, "big")
        WantedElements(range(2), 2, dtype).take(head + bytes(2 * dtype.itemsize))
