"""Loops over the pixels that hold counts: found in frames, correlated, added to rows and lists."""

from __future__ import annotations

from typing import Any

import numpy as np

from .compiled import kernel
from .pixel_masks import AHEAD, PIECE, fetch, lowest_bit, which_hold
from .two_time_kernels import BLOCK, HAS_MORE, LENGTH, PIXEL, ROI, START

# What is known of the pixels of a ROI in some frames: their events, or why these are not known.
FOUND, TOO_MANY, NO_COUNTS, NOT_LOOKED = range(4)
MOST_COUNTS = 255


@kernel(in_order=True)
def find_events(
    frames: Any, runs: Any, room: Any, counts: Any, pixels: Any, bounds: Any, state: Any
) -> int:  # pragma: no cover (compiled)
    """Find the non-zero pixels of the ROIs in frames (k, n); return how many they are.

    `runs` are those of `gathering`. `state` (n_roi,) is FOUND for the ROIs that are looked at, and
    becomes TOO_MANY where there is no room for more, from room[roi] to room[roi + 1] in `counts`
    and `pixels`, and NO_COUNTS where a number is none from 0 to 255. Events are moved to the
    beginning of these at the end, ROI by ROI; `bounds` (n_roi, k, n_block + 1) become where those
    of each frame and block begin and end.
    """
    n_roi, k, n_edge = bounds.shape
    fill = room[:n_roi].copy()
    bounds[:] = 0
    for frame in range(k):
        row = frames[frame]
        for run in range(len(runs)):
            roi = runs[run, ROI]
            if state[roi] != FOUND:
                continue
            if run + AHEAD < len(runs):
                fetch(row, runs[run + AHEAD, START])
            start, length, pixel = runs[run, START], runs[run, LENGTH], runs[run, PIXEL]
            n = fill[roi]
            for x in range(0, length, PIECE):
                left = length - x
                bits = np.uint32(0)
                if left >= PIECE or runs[run, HAS_MORE]:
                    bits = which_hold(row, start + x)
                    if left < PIECE:
                        bits &= (np.uint32(1) << np.uint32(left)) - np.uint32(1)
                else:
                    for i in range(left):
                        bits |= np.uint32(row[start + x + i] != 0) << np.uint32(i)
                if bits and n + PIECE > room[roi + 1]:
                    state[roi] = TOO_MANY
                    break
                while bits:
                    i = x + lowest_bit(bits)
                    bits &= np.uint32(bits - np.uint32(1))
                    value = row[start + i]
                    inside = value >= 0 and value <= MOST_COUNTS  # NaN is neither
                    count = np.uint8(value if inside else 0)
                    if not inside or count != value:
                        state[roi] = NO_COUNTS
                    counts[n], pixels[n] = count, pixel + i
                    n += 1
            if n != fill[roi]:
                bounds[roi, frame, runs[run, BLOCK] + 1] += n - fill[roi]
                fill[roi] = n
    total = 0
    for roi in range(n_roi):
        if state[roi] == FOUND:
            for e in range(fill[roi] - room[roi]):  # never to the right: nothing is lost
                counts[total + e], pixels[total + e] = counts[room[roi] + e], pixels[room[roi] + e]
        else:
            bounds[roi] = 0
        for frame in range(k):
            bounds[roi, frame, 0] = total
            for block in range(1, n_edge):
                total += bounds[roi, frame, block]
                bounds[roi, frame, block] = total
    return total


@kernel(in_order=True)
def sort_events(
    counts: Any, pixels: Any, starts: Any, edges: Any, block_of: Any, seen: Any,
    sorted_counts: Any, sorted_pixels: Any, bounds: Any, state: Any,
) -> int:  # fmt: skip  # pragma: no cover (compiled)
    """Sort events (pixels of all ROIs) by ROI, frame and block; return how many are in a ROI.

    Numbers of one pixel in one frame are added; pixels below 0 are left out. `bounds` (n_roi, k,
    n_block + 1) become where the events of each begin; `state` (n_roi,), which is FOUND, becomes
    NO_COUNTS where those of a ROI are no photon counts. `seen` (n_pixels,) is filled with -1 and
    comes back so.
    """
    n_roi, k, n_edge = bounds.shape
    n_block = n_edge - 1
    n = 0
    for roi in range(n_roi):
        bounds[roi] = 0
    for frame in range(k):
        for e in range(starts[frame], starts[frame + 1]):
            if pixels[e] >= 0:
                which = block_of[pixels[e]]
                bounds[which // n_block, frame, which % n_block] += 1
    for roi in range(n_roi):
        for frame in range(k):
            for block in range(n_block):
                n, bounds[roi, frame, block] = n + bounds[roi, frame, block], n
            bounds[roi, frame, n_block] = n
    total = n
    fill = bounds[:, :, :n_block].copy()
    for frame in range(k):
        for e in range(starts[frame], starts[frame + 1]):
            pixel = pixels[e]
            if pixel < 0:
                continue
            which = block_of[pixel]
            roi, block = which // n_block, which % n_block
            at = seen[pixel]
            if at < 0:
                at = fill[roi, frame, block]
                fill[roi, frame, block] += 1
                seen[pixel] = at
                sorted_counts[at] = 0
                sorted_pixels[at] = pixel - edges[roi]
            sorted_counts[at] += counts[e]
        for e in range(starts[frame], starts[frame + 1]):
            if pixels[e] >= 0:
                seen[pixels[e]] = -1
    for roi in range(n_roi):
        for frame in range(k):
            for block in range(n_block):
                for at in range(bounds[roi, frame, block], fill[roi, frame, block]):
                    value = sorted_counts[at]
                    if not (value >= 0 and value <= MOST_COUNTS) or value != np.floor(value):
                        state[roi] = NO_COUNTS
                for at in range(fill[roi, frame, block], bounds[roi, frame, block + 1]):
                    # Was added to another number of the same pixel.
                    sorted_counts[at] = 0
                    sorted_pixels[at] = sorted_pixels[bounds[roi, frame, block]]
    return total


@kernel()
def measure_events(
    counts: Any, pixels: Any, bounds: Any, weights: Any, n_pixels: int, n_left: Any, number: Any,
    per_mean: Any, sums: Any, inverse: Any, row: int,
) -> None:  # fmt: skip  # pragma: no cover (compiled)
    """Fill the numbers of frames from `row` on: what turns counts into C2, also without a block."""
    n_block = bounds.shape[1] - 1
    for frame in range(len(bounds)):
        at = row + frame
        whole = 0.0
        for block in range(n_block):
            part = 0.0
            for e in range(bounds[frame, block], bounds[frame, block + 1]):
                part += counts[e] * (weights[pixels[e]] if len(weights) else 1.0)
            sums[block, at] = part
            whole += part
        mean = whole / n_pixels
        number[at] = 1.0 if mean > 0 else 0.0
        per_mean[at] = 1.0 / mean if mean > 0 else 0.0
        whole = 0.0
        for block in range(n_block):
            sums[block, at] *= per_mean[at]
            whole += sums[block, at]
        for block in range(n_block):
            rest = whole - sums[block, at]
            inverse[block, at] = np.sqrt(max(n_left[block], 1.0)) / rest if rest > 0 else 0.0


@kernel()
def enter_events(
    counts: Any, pixels: Any, bounds: Any, first: int, lookup: Any
) -> None:  # pragma: no cover (compiled)
    """Write frames from index `first` on into a table (n_pixels, slots) of the newest counts.

    A frame stands at its index modulo the number of slots; eight slots are emptied at a time.
    """
    n_slot = lookup.shape[1]
    for frame in range(len(bounds)):
        slot = (first + frame) % n_slot
        if slot % 8 == 0:
            for pixel in range(len(lookup)):
                for i in range(8):
                    lookup[pixel, slot + i] = 0
        for e in range(bounds[frame, 0], bounds[frame, -1]):
            lookup[pixels[e], slot] += counts[e]


@kernel()
def correlate_events(
    counts: Any, pixels: Any, bounds: Any, weights: Any, first: int, oldest: int, reach: int,
    lookup: Any, per_mean: Any, row: int, totals: Any, out: Any,
) -> None:  # fmt: skip  # pragma: no cover (compiled)
    """Enter frames from index `first` on into `lookup`, and multiply them with those before.

    `out` (n_block, n_old, k) becomes the sums over pixels of products of normalised frames: old
    ones from index `oldest` on, lags below `reach` only. `per_mean[row]` is of frame `oldest`;
    `totals` (slots,) is room for sums.
    """
    n_slot = lookup.shape[1]
    one = totals.dtype.type(1)
    for frame in range(len(bounds)):
        now = first + frame
        enter_events(counts, pixels, bounds[frame : frame + 1], now, lookup)
        new_per_mean = per_mean[row + now - oldest]
        for block in range(bounds.shape[1] - 1):
            totals[:] = 0
            for e in range(bounds[frame, block], bounds[frame, block + 1]):
                pixel = pixels[e]
                weight = weights[pixel] if len(weights) else one
                count = totals.dtype.type(counts[e]) * weight * weight
                earlier = lookup[pixel]
                for slot in range(n_slot):
                    totals[slot] += count * totals.dtype.type(earlier[slot])
            for old in range(max(oldest, now - reach + 1), now + 1):
                scale = per_mean[row + old - oldest] * new_per_mean
                out[block, old - oldest, frame] = totals[old % n_slot] * scale


@kernel()
def add_events_to_rows(
    counts: Any, pixels: Any, bounds: Any, weights: Any, per_mean: Any, at: int, first: int,
    frames_per_row: int, edges: Any, width: int, out: Any,
) -> None:  # fmt: skip  # pragma: no cover (compiled)
    """Add normalised frames from index `first` on to rows of `out`, a block every `width` columns.

    Row r holds the sum of `frames_per_row` frames from r frames_per_row on, r modulo the number of
    rows; the first of them empties it. `per_mean[at]` is of frame `first`.
    """
    for frame in range(len(bounds)):
        row, place = divmod(first + frame, frames_per_row)
        into = out[row % len(out)]
        if place == 0:
            into[:] = 0
        for block in range(bounds.shape[1] - 1):
            column = block * width - edges[block]
            for e in range(bounds[frame, block], bounds[frame, block + 1]):
                pixel = pixels[e]
                weight = weights[pixel] if len(weights) else 1.0
                into[column + pixel] += counts[e] * weight * per_mean[at + frame]


@kernel()
def add_event_images(
    counts: Any, pixels: Any, bounds: Any, weights: Any, per_mean: Any, row: int, is_known: bool,
    waiting: Any, same: Any, right: Any, images: Any, start: int, first: int, length: int,
) -> None:  # fmt: skip  # pragma: no cover (compiled)
    """Add frames from index `first` on to images and to products with the frame before.

    `waiting` (n_pixels,) is the frame before, and becomes the newest. Pixel 0 of the ROI is column
    `start` of `images`, of which each holds `length` frames.
    """
    for frame in range(len(bounds)):
        image = images[(first + frame) // length]
        scale = per_mean[row + frame]
        known = is_known or frame > 0
        begin, end = bounds[frame, 0], bounds[frame, -1]
        for e in range(begin, end):
            pixel = pixels[e]
            value = counts[e] * scale * (weights[pixel] if len(weights) else 1.0)
            image[start + pixel] += value
            if known:
                same[pixel] += waiting[pixel] * value
                if pixel:
                    right[pixel - 1] += waiting[pixel - 1] * value
        if frame == 0:
            waiting[:] = 0
        else:
            for e in range(bounds[frame - 1, 0], bounds[frame - 1, -1]):
                waiting[pixels[e]] = 0
        for e in range(begin, end):
            pixel = pixels[e]
            weight = weights[pixel] if len(weights) else 1.0
            waiting[pixel] = counts[e] * scale * weight


@kernel()
def values_of_events(
    counts: Any, pixels: Any, bounds: Any, weights: Any, per_mean: Any, row: int, first: int,
    frames_per_bin: int, places: Any, bins: Any, values: Any,
) -> None:  # fmt: skip  # pragma: no cover (compiled)
    """Write pixel, bin and normalised value of the events of frames from index `first` on."""
    n = 0
    for frame in range(len(bounds)):
        for e in range(bounds[frame, 0], bounds[frame, -1]):
            weight = weights[pixels[e]] if len(weights) else 1.0
            places[n], bins[n] = pixels[e], (first + frame) // frames_per_bin
            values[n] = counts[e] * weight * per_mean[row + frame]
            n += 1


@kernel()
def list_by_pixel(
    pixels: Any, bins: Any, values: Any, first: int, stop: int, starts: Any, out_bins: Any,
    out_values: Any,
) -> int:  # fmt: skip  # pragma: no cover (compiled)
    """Sort entries of bins [first, stop) by pixel; return how many are left.

    Entries come in the order of their bins. Those of one pixel and bin are added. `starts`
    (n_pixels + 1,) becomes where the entries of each pixel begin.
    """
    n_pixels = len(starts) - 1
    starts[:] = 0
    for e in range(len(pixels)):
        if first <= bins[e] < stop:
            starts[pixels[e] + 1] += 1
    for pixel in range(n_pixels):
        starts[pixel + 1] += starts[pixel]
    fill = starts[:n_pixels].copy()
    for e in range(len(pixels)):
        if not first <= bins[e] < stop:
            continue
        pixel = pixels[e]
        at = fill[pixel]
        if at > starts[pixel] and out_bins[at - 1] == bins[e]:
            out_values[at - 1] += values[e]
            continue
        out_bins[at], out_values[at] = bins[e], values[e]
        fill[pixel] += 1
    n = 0
    for pixel in range(n_pixels):
        begin = starts[pixel]
        starts[pixel] = n
        for e in range(begin, fill[pixel]):
            out_bins[n], out_values[n] = out_bins[e], out_values[e]
            n += 1
    starts[n_pixels] = n
    return n


@kernel()
def list_products(
    new_starts: Any, new_bins: Any, new_values: Any, starts: Any, bins: Any, values: Any,
    first: int, out: Any,
) -> None:  # fmt: skip  # pragma: no cover (compiled)
    """Add products of entries of the same pixel to out[new bin - first, bin]."""
    for pixel in range(len(starts) - 1):
        begin, end = starts[pixel], starts[pixel + 1]
        for new in range(new_starts[pixel], new_starts[pixel + 1]):
            into = out[new_bins[new] - first]
            value = new_values[new]
            for e in range(begin, end):
                into[bins[e]] += value * values[e]


@kernel()
def join_lists(
    a_starts: Any, a_bins: Any, a_values: Any, b_starts: Any, b_bins: Any, b_values: Any,
    starts: Any, bins: Any, values: Any,
) -> None:  # fmt: skip  # pragma: no cover (compiled)
    """Join two lists by pixel, the bins of the second after those of the first."""
    n = 0
    for pixel in range(len(starts) - 1):
        starts[pixel] = n
        for e in range(a_starts[pixel], a_starts[pixel + 1]):
            bins[n], values[n] = a_bins[e], a_values[e]
            n += 1
        for e in range(b_starts[pixel], b_starts[pixel + 1]):
            bins[n], values[n] = b_bins[e], b_values[e]
            n += 1
    starts[len(starts) - 1] = n


@kernel()
def lists_to_rows(
    pixels: Any, bins: Any, values: Any, edges: Any, width: int, out: Any
) -> None:  # pragma: no cover (compiled)
    """Add entries to rows, one a bin, a block every `width` columns."""
    block = 0
    for e in range(len(pixels)):
        pixel = pixels[e]
        while pixel < edges[block]:
            block -= 1
        while pixel >= edges[block + 1]:
            block += 1
        out[bins[e], block * width + pixel - edges[block]] += values[e]
