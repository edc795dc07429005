"""Walks along the compressed blocks of a bitshuffle + LZ4 chunk."""

from __future__ import annotations

from xpcs_live_denoise.records.types import Array, IntArray

from .bslz4 import HEAD
from .compiled import kernel


@kernel(in_order=True)
def pack_blocks(
    chunk: Array, wanted: IntArray, n_blocks: int, n_left: int, packed: Array
) -> int:  # pragma: no cover - compiled
    """Copy the blocks `wanted`, ascending, of a chunk one behind the other; return their bytes.

    Each of `n_blocks` blocks begins with its length in 4 bytes, big-endian. The `n_left` bytes
    behind all blocks are copied, too. A block that cannot be: -1 less its number.
    """
    at, size = HEAD, len(chunk)
    n_packed, k = 0, 0
    n_walked = n_blocks if n_left else min(n_blocks, wanted[-1] + 1)
    for block in range(n_walked):
        if at + 4 > size:
            return -1 - block
        length = 4
        for byte in range(4):
            length += int(chunk[at + byte]) << (24 - 8 * byte)
        if length == 4 or length > size - at:
            return -1 - block
        if k < len(wanted) and wanted[k] == block:
            for byte in range(length):
                packed[n_packed + byte] = chunk[at + byte]
            n_packed += length
            k += 1
        at += length
    if n_left > size - at:
        return -1 - n_blocks
    for byte in range(n_left):
        packed[n_packed + byte] = chunk[at + byte]
    return n_packed + n_left
