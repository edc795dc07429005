"""Chunks compressed by bitshuffle and LZ4: only blocks with wanted elements are decompressed."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from xpcs_live_denoise.records.types import Array, IntArray

HEAD = 12  # bytes that tell the size of the chunk and of a block: uint64, uint32, big-endian


class WantedElements:
    """Which blocks of a chunk hold the wanted elements, and where these are in them.

    A chunk of `n_elements` numbers of `dtype` is compressed in blocks of some KiB, each for itself;
    what is left of the last one beyond a multiple of 8 numbers is stored as it is. `wanted` are
    flat indices into the chunk: (n,), in any order, or a range without steps.

    Not for two threads at once: it keeps memory for the blocks.
    """

    def __init__(self, wanted: IntArray | range, n_elements: int, dtype: np.dtype[Any]) -> None:
        self._wanted = wanted
        self._n_elements = n_elements
        self._dtype = dtype
        self._n_per_block = 0  # as the head of a chunk says
        self._packed: Array = np.zeros(0, np.uint8)

    def take(self, chunk: bytes) -> Array:
        """Return the wanted elements of a chunk as it lies in the file, (n,).

        Raises
        ------
        ValueError
            When the chunk is damaged: its head, or a block on the way to the last wanted one.
        """
        from .bslz4_kernels import pack_blocks

        self._read_head(chunk[:HEAD])
        raw: Array = np.frombuffer(chunk, np.uint8)
        if len(self._packed) < len(raw):
            self._packed = np.empty(len(raw), np.uint8)
        n_packed = pack_blocks(
            raw, self._blocks, self._n_shuffled_blocks, self._n_left, self._packed
        )
        if n_packed < 0:
            raise ValueError(f"block {-1 - n_packed} does not end within the chunk")
        try:
            elements = _bitshuffle().decompress_lz4(
                self._packed[:n_packed], (self._n_packed_elements,), self._dtype, self._n_per_block
            )
        except Exception as error:  # what it raises is a plain Exception
            raise ValueError(f"a block cannot be decompressed: {error}") from error
        places = self._places
        return elements[places] if isinstance(places, slice) else elements.take(places)

    def _read_head(self, head: bytes) -> None:
        itemsize = self._dtype.itemsize
        n_bytes, block_bytes = int.from_bytes(head[:8], "big"), int.from_bytes(head[8:], "big")
        if len(head) < HEAD or n_bytes != self._n_elements * itemsize:
            raise ValueError(
                f"its head tells of {n_bytes} bytes, expected {self._n_elements * itemsize}"
            )
        if not block_bytes or block_bytes % (8 * itemsize):
            raise ValueError(f"its head tells of blocks of {block_bytes} bytes")
        if block_bytes // itemsize != self._n_per_block:
            self._n_per_block = block_bytes // itemsize
            self._find_blocks(self._n_per_block)

    def _find_blocks(self, n_per_block: int) -> None:
        """Find the blocks that hold wanted elements, and these in the blocks behind each other."""
        n_full, n_last = divmod(self._n_elements, n_per_block)
        wanted = self._wanted
        self._blocks: IntArray
        self._places: IntArray | slice
        if isinstance(wanted, range):
            self._blocks = np.arange(wanted.start // n_per_block, -(-wanted.stop // n_per_block))
            start = wanted.start % n_per_block
            self._places = slice(start, start + len(wanted))
        else:
            of_element = wanted // n_per_block
            self._blocks = np.unique(of_element)
            place = np.searchsorted(self._blocks, of_element)
            self._places = place * n_per_block + wanted % n_per_block
        with_last = bool(len(self._blocks)) and self._blocks[-1] == n_full
        self._n_left = n_last % 8 * self._dtype.itemsize if with_last else 0
        self._n_shuffled_blocks = n_full + (n_last >= 8)
        n_full_wanted = len(self._blocks) - with_last
        self._n_packed_elements = n_full_wanted * n_per_block + (n_last if with_last else 0)


def available() -> bool:
    """Whether the library is there that decompresses blocks."""
    try:
        return bool(_bitshuffle())
    except ImportError:
        return False


def compile_kernels() -> None:
    """Compile what walks along blocks, or read it from disk."""
    from .bslz4_kernels import pack_blocks

    chunk: Array = np.frombuffer(bytes(HEAD), np.uint8)  # which cannot be written to
    pack_blocks(chunk, np.zeros(1, np.int64), 0, 0, np.zeros(0, np.uint8))


def _bitshuffle() -> Any:
    return importlib.import_module("bitshuffle")
