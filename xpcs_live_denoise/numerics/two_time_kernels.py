"""Loops of the two-time correlation: frames, their products, and what becomes of these."""

from __future__ import annotations

from typing import Any

import numpy as np

from .compiled import kernel
from .pixel_masks import AHEAD, PIECE, fetch

# Columns of four old and five new rows that fit into the first cache.
COLUMNS = 1024
# Columns of `runs`, (n_run, 7): ROI pixels of one block that stand side by side in a frame. The
# first one's place in the frame, how many they are, its place among the pixels of all ROIs, whether
# at least 15 more of this ROI follow there, and in the frame; the ROI, the block, and the first
# one's place in the ROI.
START, LENGTH, PLACE, HAS_MORE, ROI, BLOCK, PIXEL = range(7)


@kernel()
def copy_runs(frame: Any, runs: Any, wanted: Any, out: Any) -> None:  # pragma: no cover (compiled)
    """Copy the pixels of wanted ROIs, (n_roi,) truth values, to their places among all.

    `runs` stand in the order of the frame. They are short, and whole pieces of them faster: what is
    too much is written over later.
    """
    one = np.uint64(1)
    for run in range(len(runs)):
        if not wanted[runs[run, ROI]]:
            continue
        if run + AHEAD < len(runs):
            fetch(frame, runs[run + AHEAD, START])
        start, at = np.uint64(runs[run, START]), np.uint64(runs[run, PLACE])
        length = np.uint64(runs[run, LENGTH])
        if runs[run, HAS_MORE]:
            for x in range(np.uint64(0), length, np.uint64(PIECE)):
                for i in range(PIECE):
                    out[at + x + np.uint64(i)] = frame[start + x + np.uint64(i)]
        else:
            for x in range(np.uint64(0), length, one):
                out[at + x] = frame[start + x]


@kernel()
def scale_frames(
    values: Any, first: int, weights: Any, edges: Any, width: int, n_left: Any, room: Any, out: Any,
    number: Any, per_mean: Any, sums: Any, inverse: Any, at: int, first_frame: int,
) -> None:  # fmt: skip  # pragma: no cover (compiled)
    """Divide one ROI's pixels of frames (k, n) by weights and their mean.

    The ROI's pixels stand from `first` on. Numbers go to `at` and on, pixels to the rows of `out`,
    frame f to row f modulo their number, a block every `width` columns, 0 between. `room`
    (n_pixels,) holds those of a frame, in its precision, so that frames are read once.
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
        number[at + frame] = 1.0 if measured else 0.0
        scale = 1.0 / mean if measured else 0.0
        per_mean[at + frame] = scale
        row = out[(first_frame + frame) % len(out)]
        for block in range(n_block):
            start, stop = edges[block], edges[block + 1]
            part = 0.0
            scaled = row[block * width : block * width + stop - start]
            some = room[start:stop]
            if measured:
                for x in range(stop - start):
                    value = some[x] * scale
                    scaled[x] = value
                    part += value
            else:
                scaled[:] = 0
            row[block * width + stop - start : (block + 1) * width] = 0
            sums[block, at + frame] = part
        row[n_block * width :] = 0
        whole = sums[:, at + frame].sum()
        for block in range(n_block):
            rest = whole - sums[block, at + frame]
            known = rest > 0
            inverse[block, at + frame] = np.sqrt(max(n_left[block], 1.0)) / rest if known else 0.0


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
def add_pairs(finer: Any, first: int, n_new: int, out: Any) -> None:  # pragma: no cover (compiled)
    """Write sums of two frames each: frame f, from `first` on, those of frames 2f and 2f + 1.

    A frame stands in the row of its index modulo the number of rows.
    """
    for frame in range(first, first + n_new):
        one, two = finer[2 * frame % len(finer)], finer[(2 * frame + 1) % len(finer)]
        into = out[frame % len(out)]
        for x in range(len(into)):
            into[x] = one[x] + two[x]


@kernel()
def add_to_bins(
    rows: Any, first: int, n_new: int, frames_per_bin: int, out: Any
) -> None:  # pragma: no cover (compiled)
    """Add frames from index `first` on, in rows (index modulo their number), to those of bins.

    The first frame of a bin empties it.
    """
    frame, stop = first, first + n_new
    while frame < stop:
        into, new = out[frame // frames_per_bin], rows[frame % len(rows)]
        is_first = frame % frames_per_bin == 0
        both = frames_per_bin > 1 and is_first and frame + 1 < stop
        if both:
            later = rows[(frame + 1) % len(rows)]
            for x in range(len(into)):
                into[x] = new[x] + later[x]
        elif is_first:
            for x in range(len(into)):
                into[x] = new[x]
        else:
            for x in range(len(into)):
                into[x] += new[x]
        frame += 2 if both else 1


@kernel(in_order=True)
def write_map(
    products: Any, number: Any, n_pixels: int, start: int, values: Any
) -> None:  # pragma: no cover (compiled)
    """Write C2 of bins [0, start + k) with bins [start, start + k), from products (k, start + k).

    `number` are the measured frames in each bin. Rounding depends on the order of the factors: one
    triangle decides for both. It is written row by row.
    """
    for new in range(len(products)):
        at = start + new
        for old in range(at + 1):
            n = number[old] * number[at]
            values[at, old] = products[new, old] / (n * n_pixels) if n > 0 else np.nan
    for old in range(start + len(products)):
        for at in range(max(old + 1, start), start + len(products)):
            values[old, at] = values[at, old]


@kernel(in_order=True)
def halve_map(
    values: Any, number: Any, n_row: int, out: Any
) -> None:  # pragma: no cover (compiled)
    """Average entries of bins in pairs, NaN left out: those of bins with `number` frames each.

    `n_row` rows and columns of `out` become means.
    """
    for row in range(n_row):
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
    rows: Any, first: int, measured: Any, edges: Any, width: int, is_known: bool, waiting: Any,
    same: Any, right: Any, images: Any, start: int, length: int,
) -> None:  # fmt: skip  # pragma: no cover (compiled)
    """Add frames from index `first` on to images, and products with those before.

    A frame stands in the row of its index modulo the number of rows, a block every `width` columns.
    `waiting` (n_pixels,) is the frame before the first, and becomes the newest. Pixel 0 of the ROI
    is column `start` of `images`, of which each holds `length` frames.
    """
    for frame in range(len(measured)):
        image, row = images[(first + frame) // length], rows[(first + frame) % len(rows)]
        if is_known or frame:
            for block in range(len(edges) - 1):
                begin, end = edges[block], edges[block + 1]
                before, later = waiting[begin:end], row[block * width :]
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
            before, later = waiting[begin:end], row[block * width :]
            into = image[start + begin : start + end]
            for x in range(end - begin):
                before[x] = later[x]
                into[x] += later[x]


@kernel()
def block_products(
    old: Any, first_old: int, new: Any, first_new: int, begin: int, width: int, shift: int,
    lowest: int, highest: int, out: Any,
) -> None:  # fmt: skip  # pragma: no cover (compiled)
    """Add sums over columns of products of old and new rows to `out` (n_part, n_old, n_new).

    Part p is of the `width` columns from begin + p width on. out[p, i, j] is of the rows
    first_old + i and first_new + j, modulo the numbers of rows. The lag of the two is
    shift + j - i; those below `lowest` and above `highest` may be left out. Four old and five new
    rows at a time stay in registers: every number that is loaded is used five or four times; and
    so many columns that these rows stay in the cache.
    """
    n_part, n_old, n_new = out.shape
    at_old, at_new = first_old % len(old), first_new % len(new)  # divided once only
    zero = out.dtype.type(0)
    for part in range(n_part):
        into = out[part]
        end = begin + (part + 1) * width
        for x0 in range(begin + part * width, end, COLUMNS):
            x1 = min(x0 + COLUMNS, end)
            for i0 in range(0, n_old, 4):
                i = max(min(i0, n_old - 4), 0)  # the last four again where fewer are left
                last = n_old - 1
                r0, r1 = at_old + i, at_old + min(i + 1, last)
                r2, r3 = at_old + min(i + 2, last), at_old + min(i + 3, last)
                o0 = old[r0 if r0 < len(old) else r0 - len(old), x0:x1]
                o1 = old[r1 if r1 < len(old) else r1 - len(old), x0:x1]
                o2 = old[r2 if r2 < len(old) else r2 - len(old), x0:x1]
                o3 = old[r3 if r3 < len(old) else r3 - len(old), x0:x1]
                for j0 in range(0, n_new, 5):
                    if shift + j0 + 4 - i0 < lowest or shift + j0 - i0 - 3 > highest:
                        continue
                    j = max(min(j0, n_new - 5), 0)
                    last = n_new - 1
                    r0, r1 = at_new + j, at_new + min(j + 1, last)
                    r2, r3 = at_new + min(j + 2, last), at_new + min(j + 3, last)
                    r4 = at_new + min(j + 4, last)
                    n0 = new[r0 if r0 < len(new) else r0 - len(new), x0:x1]
                    n1 = new[r1 if r1 < len(new) else r1 - len(new), x0:x1]
                    n2 = new[r2 if r2 < len(new) else r2 - len(new), x0:x1]
                    n3 = new[r3 if r3 < len(new) else r3 - len(new), x0:x1]
                    n4 = new[r4 if r4 < len(new) else r4 - len(new), x0:x1]
                    a00 = a01 = a02 = a03 = a04 = zero
                    a10 = a11 = a12 = a13 = a14 = zero
                    a20 = a21 = a22 = a23 = a24 = zero
                    a30 = a31 = a32 = a33 = a34 = zero
                    for x in range(x1 - x0):
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
                    if i == i0 and j == j0 and n_old >= 4 and n_new >= 5:
                        row = into[i + 0]
                        row[j + 0] += a00
                        row[j + 1] += a01
                        row[j + 2] += a02
                        row[j + 3] += a03
                        row[j + 4] += a04
                        row = into[i + 1]
                        row[j + 0] += a10
                        row[j + 1] += a11
                        row[j + 2] += a12
                        row[j + 3] += a13
                        row[j + 4] += a14
                        row = into[i + 2]
                        row[j + 0] += a20
                        row[j + 1] += a21
                        row[j + 2] += a22
                        row[j + 3] += a23
                        row[j + 4] += a24
                        row = into[i + 3]
                        row[j + 0] += a30
                        row[j + 1] += a31
                        row[j + 2] += a32
                        row[j + 3] += a33
                        row[j + 4] += a34
                        continue
                    tile = (
                        (a00, a01, a02, a03, a04),
                        (a10, a11, a12, a13, a14),
                        (a20, a21, a22, a23, a24),
                        (a30, a31, a32, a33, a34),
                    )
                    for r in range(i0 - i, min(4, n_old - i)):
                        for c in range(j0 - j, min(5, n_new - j)):
                            into[i + r, j + c] += tile[r][c]


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
