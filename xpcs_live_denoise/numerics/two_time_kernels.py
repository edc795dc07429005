"""Loops of the two-time correlation: frames, their products, and what becomes of these."""

from __future__ import annotations

from typing import Any

import numpy as np

from .compiled import kernel


@kernel()
def copy_runs(frame: Any, runs: Any, out: Any) -> None:  # pragma: no cover (compiled)
    """Copy pixels that stand side by side in a frame: (n_run, 2), the first one and how many."""
    at = 0
    for run in range(len(runs)):
        start, length = runs[run, 0], runs[run, 1]
        some, into = frame[start : start + length], out[at : at + length]
        for x in range(length):
            into[x] = some[x]
        at += length


@kernel()
def scale_frames(
    values: Any, first: int, weights: Any, edges: Any, n_left: Any, room: Any, out: Any,
    number: Any, per_mean: Any, sums: Any, inverse: Any, row: int,
) -> None:  # fmt: skip  # pragma: no cover (compiled)
    """Divide one ROI's pixels of frames (k, n) by weights and their mean, into rows from `row` on.

    The ROI's pixels stand from `first` on. `room` (n_pixels,) holds those of a frame, in its
    precision, so that frames are read once.
    """
    n_pixels = len(room)
    n_block = len(edges) - 1
    for frame in range(len(values)):
        own = values[frame, first : first + n_pixels]
        for x in range(n_pixels):
            room[x] = own[x]
        total = 0.0
        if len(weights):
            for x in range(n_pixels):
                room[x] *= weights[x]
        for x in range(n_pixels):
            total += room[x]
        mean = total / n_pixels
        measured = np.isfinite(mean) and mean > 0
        number[row + frame] = 1.0 if measured else 0.0
        scale = 1.0 / mean if measured else 0.0
        per_mean[row + frame] = scale
        for block in range(n_block):
            start, stop = edges[block], edges[block + 1]
            part = 0.0
            scaled = out[block, row + frame]
            some = room[start:stop]
            if measured:
                for x in range(stop - start):
                    value = some[x] * scale
                    scaled[x] = value
                    part += value
            else:
                scaled[:] = 0
            sums[block, row + frame] = part
        whole = sums[:, row + frame].sum()
        for block in range(n_block):
            rest = whole - sums[block, row + frame]
            known = rest > 0
            inverse[block, row + frame] = np.sqrt(max(n_left[block], 1.0)) / rest if known else 0.0


@kernel()
def pair_numbers(
    finer_number: Any, finer_sums: Any, begin: int, number: Any, sums: Any, inverse: Any, row: int,
    n_new: int, n_left: Any,
) -> None:  # fmt: skip  # pragma: no cover (compiled)
    """Add numbers and sums of frames of a finer ring in pairs, from its row `begin` on."""
    n_block = len(sums)
    for k in range(n_new):
        at, one = row + k, begin + 2 * k
        number[at] = finer_number[one] + finer_number[one + 1]
        whole = 0.0
        for block in range(n_block):
            sums[block, at] = finer_sums[block, one] + finer_sums[block, one + 1]
            whole += sums[block, at]
        for block in range(n_block):
            rest = whole - sums[block, at]
            inverse[block, at] = np.sqrt(max(n_left[block], 1.0)) / rest if rest > 0 else 0.0


@kernel()
def add_rows(
    rows: Any, row: int, n_new: int, first: int, frames_per_row: int, first_row: int, out: Any
) -> None:  # pragma: no cover (compiled)
    """Add frames (n_block, rows, width), from `row` on, to rows of `out` for several frames each.

    Row r holds the sum of `frames_per_row` frames from (r + first_row) frames_per_row on; the first
    of them empties it. `first` is the index of the first frame.
    """
    n_block, _, width = out.shape
    k = 0
    while k < n_new:
        at, place = divmod(first + k, frames_per_row)
        both = place == 0 and frames_per_row > 1 and k + 1 < n_new
        for block in range(n_block):
            into, new = out[block, at - first_row], rows[block, row + k]
            if both:
                later = rows[block, row + k + 1]
                for x in range(width):
                    into[x] = new[x] + later[x]
            elif place == 0:
                for x in range(width):
                    into[x] = new[x]
            else:
                for x in range(width):
                    into[x] += new[x]
        k += 2 if both else 1


@kernel(in_order=True)
def write_map(
    products: Any, number: Any, n_pixels: int, start: int, values: Any
) -> None:  # pragma: no cover (compiled)
    """Write C2 of bins [0, start + k) with bins [start, start + k), from products (k, start + k).

    `number` are the measured frames in each bin. Rounding depends on the order of the factors: one
    triangle decides for both.
    """
    for new in range(len(products)):
        at = start + new
        for old in range(at + 1):
            n = number[old] * number[at]
            value = products[new, old] / (n * n_pixels) if n > 0 else np.nan
            values[at, old] = value
            values[old, at] = value


@kernel(in_order=True)
def halve_map(values: Any, number: Any, out: Any) -> None:  # pragma: no cover (compiled)
    """Average entries of bins in pairs, NaN left out: those of bins with `number` frames each."""
    for row in range(len(out)):
        for column in range(row + 1):
            total, count = 0.0, 0.0
            for i in range(2 * row, 2 * row + 2):
                for j in range(2 * column, 2 * column + 2):
                    n = number[i] * number[j]
                    if n > 0:
                        total += n * values[i, j]
                        count += n
            value = total / count if count > 0 else np.nan
            out[row, column] = value
            out[column, row] = value


@kernel()
def add_images(
    rows: Any, row: int, measured: Any, edges: Any, is_known: bool, waiting: Any, same: Any,
    right: Any, images: Any, start: int, first: int, length: int,
) -> None:  # fmt: skip  # pragma: no cover (compiled)
    """Add frames (n_block, rows, width), from `row` on, to images, and products with those before.

    `waiting` (n_pixels,) is the frame before the first, and becomes the newest. Pixel 0 of the ROI
    is column `start` of `images`, of which each holds `length` frames; `first` is the index of the
    first frame.
    """
    for frame in range(len(measured)):
        image = images[(first + frame) // length]
        if is_known or frame:
            for block in range(len(edges) - 1):
                begin, end = edges[block], edges[block + 1]
                before, later = waiting[begin:end], rows[block, row + frame]
                into = same[begin:end]
                for x in range(end - begin):
                    into[x] += before[x] * later[x]
                skip = 1 if begin == 0 else 0  # the first pixel has none on its left
                before, later = waiting[begin + skip - 1 : end - 1], later[skip:]
                into = right[begin + skip - 1 : end - 1]
                for x in range(len(into)):
                    into[x] += before[x] * later[x]
        for block in range(len(edges) - 1):
            begin, end = edges[block], edges[block + 1]
            before, later = waiting[begin:end], rows[block, row + frame]
            into = image[start + begin : start + end]
            for x in range(end - begin):
                before[x] = later[x]
                into[x] += later[x]


@kernel()
def block_products(
    old: Any, first_old: int, new: Any, first_new: int, shift: int, lowest: int, out: Any
) -> None:  # pragma: no cover (compiled)
    """Add sums over pixels of products of old and new frames to `out`.

    `old` and `new` are (n_block, rows, width), C-contiguous, and may be the same; `out` is
    (n_block, n_old, n_new), or (1, n_old, n_new) for all blocks together: out[b, i, j] is of the
    rows first_old + i and first_new + j. The lag of the two is shift + j - i; those below `lowest`
    may be left out. Four old and five new rows at a time stay in registers: every number that is
    loaded is used five or four times.
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


@kernel(in_order=True)
def write_band(
    products: Any, old: Any, new: Any, per_pixel: float, first: int, oldest: int, out: Any
) -> None:  # pragma: no cover (compiled)
    """Write C2(t, t - lag), (k, width), of k new frames from products (block, old frame, frame).

    `old` and `new` are 1 for a frame that was measured; index 0 of the old ones is frame `oldest`.
    """
    for j in range(len(new)):
        for lag in range(out.shape[1]):
            i = first + j - lag - oldest
            if i < 0 or old[i] * new[j] == 0:
                out[j, lag] = np.nan
                continue
            total = 0.0
            for block in range(products.shape[0]):
                total += products[block, i, j]
            out[j, lag] = total * per_pixel


@kernel(in_order=True)
def add_entries(
    products: Any, old: Any, new: Any, old_inverse: Any, new_inverse: Any, per_pixel: float,
    first: int, oldest: int, power: int, begin: int, row_frames: int, bins: Any, sums: Any,
    counts: Any, left_out: Any, squares: Any, pairs: Any, previous: Any,
) -> None:  # fmt: skip  # pragma: no cover (compiled)
    """Add products (block, old frame, new frame) of one level to the tables of one ROI.

    Row 0 begins at frame `begin`; entries of ages before it, or of lags beyond the tables, do not
    count.
    """
    n_block = left_out.shape[2]
    size = 1 << power
    values = np.empty(n_block)
    for j in range(products.shape[2]):
        frame = first + j
        for lag in range(1, len(bins)):
            lag_bin = bins[lag]
            i = frame - lag - oldest
            if lag_bin < 0 or lag_bin >= sums.shape[1]:
                continue
            n = old[i] * new[j] if i >= 0 else 0.0
            value, total = np.nan, 0.0
            if n > 0:
                for block in range(products.shape[0]):
                    total += products[block, i, j]
                value = total * per_pixel / n - 1
            if power == 0:
                change = value - previous[lag]
                # previous[lag] is that of the frame before, one age earlier
                if np.isfinite(change):
                    row = ((2 * frame - 2 - lag) // 2 - begin) // row_frames
                    if row >= 0:
                        squares[row] += change * change / 2
                        pairs[row] += 1
                previous[lag] = value
            age = (size * frame - size * lag // 2 if power else (2 * frame - lag) // 2) - begin
            if n <= 0 or age + size <= 0:
                continue
            for block in range(n_block):
                rest = total - products[block, i, j]
                values[block] = rest * old_inverse[block, i] * new_inverse[block, j] - 1
            weight = n / size
            for row in range(max(age // row_frames, 0), (age + size - 1) // row_frames + 1):
                inside = min(age + size, (row + 1) * row_frames) - max(age, row * row_frames)
                share = weight * inside
                sums[row, lag_bin] += share * value
                counts[row, lag_bin] += share
                for block in range(n_block):
                    left_out[row, lag_bin, block] += share * values[block]


@kernel(in_order=True)
def add_square(
    c2: Any, bins: Any, row_frames: int, sums: Any, counts: Any, squares: Any, pairs: Any
) -> None:  # pragma: no cover (compiled)
    """Add the upper triangle of C2 (n, n) to the tables of one ROI."""
    n = len(c2)
    for first in range(n):
        for second in range(first + 1, n):
            value = c2[first, second] - 1
            if not np.isfinite(value):
                continue
            row = (first + second) // 2 // row_frames
            sums[row, bins[second - first]] += value
            counts[row, bins[second - first]] += 1
            if second + 1 < n:
                change = c2[first + 1, second + 1] - 1 - value
                if np.isfinite(change):
                    squares[row] += change * change / 2
                    pairs[row] += 1
