"""C2 of a result in Tiled as a reader finds it, also while it is written: the map and the band."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from xpcs_live_denoise.errors import ResultNotFoundError
from xpcs_live_denoise.records.types import Array, FloatArray

if TYPE_CHECKING:
    from xpcs_live_denoise.catalog import Node

# How often, and how long apart, a map is read again that is written over with other bins.
TRIES, PAUSE_S = 20, 0.25
# What a result of a version without a band has in its place.
SQUARES = {"c2_band": "c2", "c2_band_denoised": "c2_denoised", "c2_band_spread": "c2_spread"}

LONG_NAMES = {
    "c2": "C2",
    "c2_denoised": "denoised C2",
    "c2_band": "C2",
    "c2_band_denoised": "denoised C2",
    "c2_band_spread": "spread of denoised C2",
}
BINNED = (
    "raw, the mean over blocks of frames_per_bin x frames_per_bin frames; band() has each frame"
)


def read_map(
    stream: Mapping[str, Node], which: slice | int, n_frames: int
) -> tuple[FloatArray, int]:
    """Return the map of `n_frames` frames, (..., m, m), and how many frames a bin holds.

    `which` selects ROIs. The version of the map is compared before and after: a map that got other
    bins meanwhile is read again. Raises ResultNotFoundError if that does not end.
    """
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE_S)
        node = stream["c2"]  # as it is now: its metadata, its shape
        version = node.metadata.get("version", 0)
        if version % 2:
            continue  # it is written over just now
        frames_per_bin = node.metadata.get("frames_per_bin", 1)
        bins = slice(0, min(-(-n_frames // frames_per_bin), node.shape[-1]))
        values = np.asarray(node[which, bins, bins])
        if stream["c2"].metadata.get("version", 0) == version:
            return mirrored(values), frames_per_bin
    raise ResultNotFoundError(
        f"Map of C2 in {'/'.join(stream['c2'].path_parts)}: got other bins each time it was read, "
        f"for {TRIES * PAUSE_S:.0f} s; expected one that stands still for a moment. Ask again; "
        "`band()` can be read. If nobody measures any more, `xpcs-live-denoise deliver` or "
        "`replay` completes the result."
    )


def read_band(
    stream: Mapping[str, Node], name: str, which: slice | int, frames: range, window: int
) -> Array:
    """Return rows of the array `name` of the band, (..., n, window); None if it is not there."""
    if name in stream:
        return np.asarray(stream[name][which, frames.start : frames.stop])
    from xpcs_live_denoise.numerics.two_time import band_of_c2

    # The frames of the square that these rows need.
    first = max(0, frames.start - window + 1)
    part = slice(first, frames.stop)
    square = np.asarray(stream[SQUARES[name]][which, part, part])
    rows = square.reshape(-1, *square.shape[-2:])  # (n_roi, k, k)
    if name != "c2_band":  # both halves are there, and the band holds C2(t - lag, t)
        rows = rows.swapaxes(1, 2)
    band = band_of_c2(rows, frames.start - first, frames.stop - first, window)
    return band.reshape(*square.shape[:-2], *band.shape[1:])


def raw_where_unwritten(denoised: Array, raw: Callable[[], Any]) -> Array:
    """Return a denoised C2 with the raw values, which `raw` reads, where no window was written.

    Tiled reads 0 there, and a denoised C2 is never exactly 0.
    """
    unwritten = denoised == 0
    return np.where(unwritten, raw(), denoised) if unwritten.any() else denoised


def with_band(c2: FloatArray, band: Array) -> FloatArray:
    """Return C2 (..., n, n) with the values of a band (..., n, window) near its diagonal."""
    whole, n = c2.copy(), c2.shape[-1]
    for lag in range(min(n, band.shape[-1])):
        later = np.arange(lag, n)
        values = band[..., lag:n, lag]
        whole[..., later, later - lag] = whole[..., later - lag, later] = values
    return whole


def mirrored(lower: Array) -> FloatArray:
    """Return the symmetric array of a lower triangle; what is above the diagonal is ignored."""
    below = np.tril(lower, -1)
    return np.tril(lower) + np.swapaxes(below, -1, -2)
