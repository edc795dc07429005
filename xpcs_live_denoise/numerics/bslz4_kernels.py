"""Decompresses blocks of a bitshuffle + LZ4 chunk, of which only some elements are wanted.

Numbers are unsigned all over: the compiler takes many at a time where none can count from the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xpcs_live_denoise.records.types import Array, IntArray

from .bslz4 import HEAD, ROOM
from .compiled import kernel

U = np.uint64
ONE, GROUP = U(1), U(8)  # elements whose bits share a byte
# 8 bits, in a number of 8 bytes with one in each.
APART: IntArray = np.array(
    [sum((bits >> i & 1) << 8 * i for i in range(8)) for bits in range(256)], np.uint64
)


@kernel(in_order=True)
def take_elements(  # noqa: PLR0917
    chunk: Array, edges: Array, n_blocks: int, blocks: Array, firsts: Array, runs: Array, out: Array
) -> int:  # pragma: no cover - compiled
    """Write the wanted elements of a chunk to `out` (unsigned); return 0.

    Block b of the chunk holds elements [edges[b], edges[b + 1]); behind `n_blocks` compressed ones
    may stand one that is stored as it is. `blocks` are the wanted ones, ascending, runs [firsts[k],
    firsts[k + 1]) those in blocks[k]: the first element in it, how many, and their place in `out`,
    (n_run, 3). A block that does not end within the chunk: its number + 1; one that cannot be
    decompressed: -1 less its number.
    """
    at, size, n_bytes, k = U(HEAD), U(len(chunk)), U(out.itemsize), 0
    longest = U(0)
    for block in blocks:
        longest = max(longest, edges[block + ONE] - edges[block])
    content = np.empty(longest * n_bytes + U(ROOM), np.uint8)
    groups = np.empty(longest // GROUP + ONE, np.uint64)
    flat = groups.view(np.uint8)
    rows = np.empty(GROUP * n_bytes, np.uint64)
    for block in range(min(U(n_blocks), blocks[-1] + ONE)):
        if at + U(4) > size:
            return block + 1
        length = U(0)
        for _ in range(4):
            length = (length << GROUP) + U(chunk[at])
            at += ONE
        if length == 0 or length > size - at:
            return block + 1
        if blocks[k] == block:
            n = edges[block + ONE] - edges[block]
            if not _decompress(chunk, at, at + length, content, n * n_bytes):
                return -1 - block
            n_rows = _find_rows(content, n // GROUP, rows)
            for run in range(firsts[k], firsts[k + 1]):
                _unshuffle(content, n // GROUP, rows, n_rows, runs[run], groups, flat, out)
            k += 1
        at += length
    if k < len(blocks):
        if (edges[n_blocks + 1] - edges[n_blocks]) * n_bytes > size - at:
            return n_blocks + 1
        for run in range(firsts[k], firsts[k + 1]):
            _copy_elements(chunk, at, n_bytes, runs[run], out)
    return 0


@kernel(in_order=True)
def _copy_elements(
    chunk: Array, at: Any, n_bytes: Any, run: Array, out: Array
) -> None:  # pragma: no cover - compiled
    """Write elements that stand side by side in a block that begins at byte `at`, as it is."""
    for i in range(run[1]):
        value = U(0)
        for byte in range(n_bytes):
            value |= U(chunk[at + (run[0] + i) * n_bytes + byte]) << GROUP * byte
        out[run[2] + i] = value


@kernel(in_order=True)
def _decompress(
    chunk: Array, at: Any, stop: Any, out: Array, size: Any
) -> bool:  # pragma: no cover - compiled
    """Decompress LZ4 data, bytes [at, stop) of a chunk; False unless they are `size` bytes.

    Behind these `out` has ROOM for what is copied too much: most pieces are short.
    """
    n_there, done, short = U(len(chunk)), U(0), U(ROOM)
    while at < stop:
        token = U(chunk[at])
        n, at = _length(chunk, at + ONE, stop, token >> U(4))
        if n > stop - at or n > size - done:
            return False
        if n <= short and n_there - at >= short:
            _copy_room(chunk, at, out, done)
        else:
            _copy(chunk, at, out, done, n)
        at += n
        done += n
        if at == stop:
            return done == size
        if stop - at < U(2):
            return False
        back = U(chunk[at]) + (U(chunk[at + ONE]) << GROUP)
        n, at = _length(chunk, at + U(2), stop, token & U(15))
        n += U(4)
        if back == 0 or back > done or n > size - done:
            return False
        first, end = done - back, done + n
        if n <= short and back >= short:
            _copy_room(out, first, out, done)
            done = end
        while done < end:  # what repeats itself is doubled
            step = min(done - first, end - done)
            _copy(out, first, out, done, step)
            done += step
    return False


@kernel(in_order=True)
def _length(
    chunk: Array, at: Any, stop: Any, n: Any
) -> tuple[Any, Any]:  # pragma: no cover - compiled
    """Return a length that begins with `n`, and where it ends."""
    more = U(255) if n == U(15) else U(0)
    while more == U(255) and at < stop:
        more = U(chunk[at])
        n += more
        at += ONE
    return n, at


@kernel(in_order=True)
def _copy(
    source: Array, first: Any, out: Array, place: Any, n: Any
) -> None:  # pragma: no cover - compiled
    for i in range(n):
        out[place + i] = source[first + i]


@kernel(in_order=True)
def _copy_room(
    source: Array, first: Any, out: Array, place: Any
) -> None:  # pragma: no cover - compiled
    """Copy ROOM bytes: all are read before one is written, which one instruction does."""
    a, b, c, d = source[first], source[first + U(1)], source[first + U(2)], source[first + U(3)]
    first += U(4)
    e, f, g, h = source[first], source[first + U(1)], source[first + U(2)], source[first + U(3)]
    first += U(4)
    i, j, k, m = source[first], source[first + U(1)], source[first + U(2)], source[first + U(3)]
    first += U(4)
    n, o, p, q = source[first], source[first + U(1)], source[first + U(2)], source[first + U(3)]
    out[place], out[place + U(1)], out[place + U(2)], out[place + U(3)] = a, b, c, d
    place += U(4)
    out[place], out[place + U(1)], out[place + U(2)], out[place + U(3)] = e, f, g, h
    place += U(4)
    out[place], out[place + U(1)], out[place + U(2)], out[place + U(3)] = i, j, k, m
    place += U(4)
    out[place], out[place + U(1)], out[place + U(2)], out[place + U(3)] = n, o, p, q


@kernel(in_order=True)
def _find_rows(content: Array, n_groups: Any, rows: Array) -> Any:  # pragma: no cover - compiled
    """Find the bits that any element has: a block stores one bit of all, then the next.

    Of photon counts these are few.
    """
    found = U(0)
    for row in range(U(len(rows))):
        some = np.uint8(0)
        for i in range(row * n_groups, (row + ONE) * n_groups):
            some |= content[i]
        if some:
            rows[found] = row
            found += ONE
    return found


@kernel(in_order=True)
def _unshuffle(  # noqa: PLR0917
    content: Array, n_groups: Any, rows: Array, n_rows: Any, run: Array, groups: Array, flat: Array,
    out: Array,
) -> None:  # fmt: skip  # pragma: no cover - compiled
    """Write elements that stand side by side in a block, byte by byte, from their bits.

    `groups` has room for a byte of each element; `flat` is the same memory.
    """
    first, n, place = run[0], run[1], run[2]
    group = first // GROUP
    skipped = first - group * GROUP
    n_touched = (skipped + n + U(7)) // GROUP
    begin = U(0)
    while True:
        byte = rows[begin] // GROUP if begin < n_rows else U(0)
        end = begin
        while end < n_rows and rows[end] // GROUP == byte:
            end += ONE
        for g in range(n_touched):
            packed = U(0)
            for row in range(begin, end):
                bits = content[rows[row] * n_groups + group + g]
                packed |= APART[bits] << (rows[row] & U(7))
            groups[g] = packed
        if begin == 0:
            for i in range(n):
                out[place + i] = U(flat[skipped + i]) << GROUP * byte
        else:
            for i in range(n):
                out[place + i] |= U(flat[skipped + i]) << GROUP * byte
        begin = end
        if begin == n_rows:
            return
