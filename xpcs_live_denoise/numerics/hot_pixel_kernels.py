"""Loops over the pixels of a ROI that tell which of them are far from the others."""

from __future__ import annotations

from typing import Any

import numpy as np

from .compiled import kernel


@kernel("f8(f8, f8, f8)")
def gamma_reach(mean: float, variance: float, clear: float) -> float:  # pragma: no cover (compiled)
    """Return how far above its mean a gamma distribution lies, but for a small chance.

    That of a normal distribution beyond `clear` standard deviations, by Wilson and Hilferty, PNAS
    17, 684 (1931). Where the relative variance is above 1, or the mean not above 0, noise takes
    over that has no such tail: as many standard deviations as at 1.
    """
    relative = variance / mean**2 if mean > 0 else np.inf
    root = np.sqrt(min(max(relative, 1e-6), 1.0))
    return ((1 - root**2 / 9 + clear * root / 3) ** 3 - 1) / root * np.sqrt(variance)


@kernel(in_order=True)
def sum_rois(pixels: Any, edges: Any, sums: Any) -> None:  # pragma: no cover (compiled)
    """Write the sum over each ROI, (k, n_roi), of frames of unsigned numbers (k, n_pixels).

    ROI r has the pixels [edges[r], edges[r + 1]), unsigned.
    """
    for frame in range(len(pixels)):
        for roi in range(len(edges) - 1):
            total = np.uint64(0)
            for i in range(edges[roi], edges[roi + 1]):
                total += np.uint64(pixels[frame, i])
            sums[frame, roi] = total


@kernel("i8(f8[::1], f8, f8, f8, f8, i8, b1[::1])")
def far_from_usual(
    values: Any, middle: float, most: float, floor: float, clear: float, passes: int, far: Any
) -> int:  # pragma: no cover (compiled)
    """Mark values, (n,), that no gamma distribution explains; return how many there are.

    It is that of the usual ones, within `most` of `middle` at first, then those that are not far;
    `floor` is the least variance. Returns -1 where none is usual.
    """
    for i in range(len(values)):
        far[i] = abs(values[i] - middle) > most
    n_far = 0
    for _ in range(passes):
        n, total = 0, 0.0
        for i in range(len(values)):
            if not far[i]:
                n += 1
                total += values[i]
        if n == 0:
            return -1
        mean, squares = total / n, 0.0
        for i in range(len(values)):
            if not far[i]:
                squares += (values[i] - mean) ** 2
        reach = gamma_reach(mean, max(squares / n, floor), clear)
        changed, n_far = False, 0
        for i in range(len(values)):
            is_far = abs(values[i] - mean) > reach
            changed |= is_far != far[i]
            far[i] = is_far
            n_far += is_far
        if not changed:
            break
    return n_far


@kernel("void(f8[::1], i8[::1], f8, f8, b1[::1])")
def may_be_far(
    values: Any, starts: Any, clear: float, trimmed: float, out: Any
) -> None:  # pragma: no cover (compiled)
    """Tell whether `far_from_usual` may mark any of values[starts[roi]:starts[roi + 1]], (n_roi,).

    It cannot where even the farthest value is within the reach of all but a share `trimmed` of the
    values, whichever these are: their variance has a lower bound. NaN does not count.
    """
    for roi in range(len(out)):
        some = values[starts[roi] : starts[roi + 1]]
        n, total, low, high = 0, 0.0, np.inf, -np.inf
        for i in range(len(some)):  # without branches: eight values at a time
            known = abs(some[i]) < np.inf
            n += 1 if known else 0
            total += some[i] if known else 0.0
            less, more = some[i] if known else np.inf, some[i] if known else -np.inf
            low, high = low if low < less else less, high if high > more else more
        mean, squares = total / max(n, 1), 0.0
        for i in range(len(some)):
            away = some[i] - mean if abs(some[i]) < np.inf else 0.0
            squares += away * away
        most = max(1, int(trimmed * n + 1))  # values that are left aside
        if n <= 2 * most:
            out[roi] = True
            continue
        away = max(high - mean, mean - low)
        shift = away * most / (n - most)  # of the mean without them
        least = (squares - most * away**2) / (n - most) - shift**2
        usual = gamma_reach(mean + shift, least, clear) if least > 0 else 0.0
        out[roi] = not away + shift <= min(usual, gamma_reach(mean, squares / n, clear))


@kernel("void(f8[:, ::1], f8[::1])")
def median_of_five(rows: Any, out: Any) -> None:  # pragma: no cover (compiled)
    """Write the median over the five rows of each column; NaN where there is one."""
    for i in range(len(out)):
        a, b, c, d, e = rows[0, i], rows[1, i], rows[2, i], rows[3, i], rows[4, i]
        low = max(min(a, b), min(c, d))
        high = min(max(a, b), max(c, d))
        value = max(min(low, high), min(max(low, high), e))
        out[i] = np.nan if np.isnan(a + b + c + d + e) else value
