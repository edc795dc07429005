"""Sums over pixels of products of frames, in compiled code."""

from __future__ import annotations

from typing import Any

import numpy as np

from .compiled import compiled


@compiled(fastmath={"reassoc", "contract", "nsz"})
def block_products(
    old: Any, first_old: int, new: Any, first_new: int, shift: int, lowest: int, out: Any
) -> None:  # pragma: no cover (compiled)
    """Add sums over pixels of products of old and new frames to `out`.

    `old` and `new` are (n_block, rows, width), C-contiguous, and may be the same; `out` is (n_block,
    n_old, n_new), or (1, n_old, n_new) for all blocks together: out[b, i, j] is of the rows
    first_old + i and first_new + j. The lag of the two is shift + j - i; those below `lowest` may be
    left out. Four old and five new rows at a time stay in registers: every number that is loaded is
    used five or four times.
    """
    n_old, n_new = out.shape[1:]
    width = old.shape[2]
    for b in range(len(old)):
        into = out[b % len(out)]
        for j in range(0, n_new - 4, 5):
            for i in range(0, n_old - 3, 4):
                if shift + j + 4 - i < lowest:
                    break
                o0, o1 = old[b, first_old + i], old[b, first_old + i + 1]
                o2, o3 = old[b, first_old + i + 2], old[b, first_old + i + 3]
                n0, n1 = new[b, first_new + j], new[b, first_new + j + 1]
                n2, n3 = new[b, first_new + j + 2], new[b, first_new + j + 3]
                n4 = new[b, first_new + j + 4]
                zero = out.dtype.type(0)
                a00 = a01 = a02 = a03 = a04 = zero
                a10 = a11 = a12 = a13 = a14 = zero
                a20 = a21 = a22 = a23 = a24 = zero
                a30 = a31 = a32 = a33 = a34 = zero
                for x in range(width):
                    p0, p1, p2, p3 = o0[x], o1[x], o2[x], o3[x]
                    q = n0[x]
                    a00 += p0 * q
                    a10 += p1 * q
                    a20 += p2 * q
                    a30 += p3 * q
                    q = n1[x]
                    a01 += p0 * q
                    a11 += p1 * q
                    a21 += p2 * q
                    a31 += p3 * q
                    q = n2[x]
                    a02 += p0 * q
                    a12 += p1 * q
                    a22 += p2 * q
                    a32 += p3 * q
                    q = n3[x]
                    a03 += p0 * q
                    a13 += p1 * q
                    a23 += p2 * q
                    a33 += p3 * q
                    q = n4[x]
                    a04 += p0 * q
                    a14 += p1 * q
                    a24 += p2 * q
                    a34 += p3 * q
                r0, r1, r2, r3 = into[i], into[i + 1], into[i + 2], into[i + 3]
                r0[j] += a00
                r0[j + 1] += a01
                r0[j + 2] += a02
                r0[j + 3] += a03
                r0[j + 4] += a04
                r1[j] += a10
                r1[j + 1] += a11
                r1[j + 2] += a12
                r1[j + 3] += a13
                r1[j + 4] += a14
                r2[j] += a20
                r2[j + 1] += a21
                r2[j + 2] += a22
                r2[j + 3] += a23
                r2[j + 4] += a24
                r3[j] += a30
                r3[j + 1] += a31
                r3[j + 2] += a32
                r3[j + 3] += a33
                r3[j + 4] += a34
        # What is left over: rows beyond the last four, and new frames beyond the last five.
        for j in range(n_new):
            begin = n_old // 4 * 4 if j < n_new // 5 * 5 else 0
            n0 = new[b, first_new + j]
            for i in range(begin, n_old - 3, 4):
                o0, o1 = old[b, first_old + i], old[b, first_old + i + 1]
                o2, o3 = old[b, first_old + i + 2], old[b, first_old + i + 3]
                a00 = a10 = a20 = a30 = out.dtype.type(0)
                for x in range(width):
                    q = n0[x]
                    a00 += o0[x] * q
                    a10 += o1[x] * q
                    a20 += o2[x] * q
                    a30 += o3[x] * q
                into[i, j] += a00
                into[i + 1, j] += a10
                into[i + 2, j] += a20
                into[i + 3, j] += a30
            for i in range(n_old // 4 * 4, n_old):
                o0 = old[b, first_old + i]
                a00 = out.dtype.type(0)
                for x in range(width):
                    a00 += o0[x] * n0[x]
                into[i, j] += a00
