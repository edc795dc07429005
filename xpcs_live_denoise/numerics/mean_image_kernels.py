"""Loops that add frames up, of counts and of numbers that may be negative."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpcs_live_denoise.records.types import Array

from .compiled import kernel

# Pixels that are summed at a time over all frames of a block: their sums stay in the fastest cache,
# and of most such pieces no pixel is marked.
PIECE = 256


@kernel(in_order=True)
def add_counts(  # noqa: PLR0912, PLR0917
    frames: Array, total: Array, left_out: Array, top: Any, mark: Any, room: int
) -> Any:
    """Add unsigned numbers (k, n), and count those that are `top` or more, `mark` or `mark` + 1.

    Sums over a block are whole numbers of 32 bits, which wrap: what is taken out again leaves no
    trace. Numbers from `room` on might fill them and are added by themselves.

    Each loop over pixels is plain enough for the compiler to take many at once.
    """
    k, n = frames.shape
    sums, marked, kept = np.zeros((3, PIECE), np.uint32)
    zero, one, highest = np.uint32(0), np.uint32(1), np.uint32(0)
    for start in range(0, n, PIECE):
        width = min(PIECE, n - start)
        sums[:] = zero
        any_marked = False
        for frame in range(k):
            pixels = frames[frame, start : start + width]
            most = pixels[0]
            for i in range(width):
                sums[i] += np.uint32(pixels[i])
                most = max(most, pixels[i])
            peak = np.uint32(most)
            if most >= mark:
                if not any_marked:
                    marked[:] = zero
                any_marked = True
                for i in range(width):
                    value = pixels[i]
                    bad = (value >= top) | (value == mark) | (value == mark + 1)
                    kept[i] = zero if bad else np.uint32(value)
                    sums[i] -= np.uint32(value) - kept[i]
                    marked[i] += one if bad else zero
                peak = zero
                for i in range(width):
                    peak = max(peak, kept[i])
            elif peak >= room:
                for i in range(width):
                    kept[i] = pixels[i]
            if peak >= room:
                for i in range(width):
                    if kept[i] >= room:
                        sums[i] -= kept[i]
                        total[start + i] += kept[i]
            highest = max(highest, peak)
        for i in range(width):
            total[start + i] += sums[i]
        if any_marked:
            for i in range(width):
                left_out[start + i] += marked[i]
    return highest


@kernel(in_order=True)
def add_numbers(  # noqa: PLR0917
    frames: Array,
    total: Array,
    left_out: Array,
    negative: Array,
    n_negative: Array,
    top: float,
    mark: float,
    mark_end: float,
) -> float:
    """Add numbers (k, n) that may be negative, and count those that are none.

    These are what is not finite, not below `top`, or from `mark` to `mark_end`.
    """
    k, n = frames.shape
    sums, marked = np.zeros(PIECE), np.zeros(PIECE, np.uint32)
    high, low = np.zeros(PIECE), np.zeros(PIECE)
    zero, one, highest = np.uint32(0), np.uint32(1), 0.0
    for start in range(0, n, PIECE):
        width = min(PIECE, n - start)
        sums[:] = 0.0
        marked[:] = zero
        low[:] = 0.0
        for frame in range(k):
            pixels = frames[frame, start : start + width]
            for i in range(width):
                value = float(pixels[i])
                good = (abs(value) < top) & ((value < mark) | (value > mark_end))  # NaN is not
                value = value if good else 0.0
                marked[i] += zero if good else one
                sums[i] += value
                high[i] = value if value > high[i] else high[i]
                low[i] = value if value < low[i] else low[i]
        lowest, any_marked = 0.0, zero
        for i in range(width):
            total[start + i] += sums[i]
            any_marked |= marked[i]
            lowest = min(lowest, low[i])
        if any_marked:
            for i in range(width):
                left_out[start + i] += marked[i]
        if lowest < 0:
            for frame in range(k):
                pixels = frames[frame, start : start + width]
                for i in range(width):
                    value = float(pixels[i])
                    below = (value < 0) & (value > -top)
                    negative[start + i] += value if below else 0.0
                    n_negative[start + i] += one if below else zero
    for i in range(PIECE):
        highest = max(highest, high[i])
    return highest
