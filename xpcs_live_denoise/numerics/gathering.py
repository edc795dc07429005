"""ROI pixels out of whole frames, compiled and on all cores, for the threads that compute."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import ArrayLike

from xpcs_live_denoise.records.types import Array, IntArray

from .newest_frames import KNOWN_TYPES, PixelBlocks
from .rois import RoiMap
from .threads import spread


def gather(rois: RoiMap, frames: ArrayLike) -> Array:
    """Return what `RoiMap.gather` does, in less than half the time, and raise what it raises.

    The RunEngine's thread does without: it neither compiles nor waits for other threads.
    """
    stack = rois.checked_frames(frames)
    if stack.dtype not in KNOWN_TYPES:
        return rois.gather(stack)
    gathered = np.empty((len(stack), len(rois.pixels)), stack.dtype)
    copy_pixels(stack, runs_of_frames(rois), np.ones(rois.n_roi, np.bool_), gathered)
    return gathered


def copy_pixels(frames: Array, runs: Array, wanted: Array, out: Array) -> None:
    """Copy the pixels of wanted ROIs, (n_roi,), of frames of a known type to rows of `out`."""
    from .two_time_kernels import copy_runs

    # Frame by frame: where frames are flipped views, only one at a time is made contiguous.
    def copy(index: int) -> None:
        copy_runs(frames[index].reshape(-1), runs, wanted, out[index])

    spread(copy, range(len(frames)))


@functools.lru_cache(maxsize=8)
def runs_of_frames(rois: RoiMap, n_block: int = 1) -> Array:
    """Return ROI pixels that stand side by side in a frame, in its order, for compiled loops."""
    return _runs(rois, n_block, rois.pixels, rois.shape[0] * rois.shape[1])


@functools.lru_cache(maxsize=8)
def runs_of_pixels(rois: RoiMap, n_block: int) -> Array:
    """Return the same for frames of which the ROI pixels alone are there, as `gather` gives."""
    n = len(rois.pixels)
    return _runs(rois, n_block, np.arange(n), n)


def _runs(rois: RoiMap, n_block: int, starts: IntArray, n_in_frame: int) -> Array:
    """Return runs, (n_run, 7) int32, as `copy_runs` takes them; pixel i stands at starts[i]."""
    from .pixel_masks import PIECE

    blocks, n = PixelBlocks.of(rois, n_block), len(starts)
    firsts = (blocks.starts[:, np.newaxis] + blocks.edges[:, :-1]).reshape(-1)  # of the blocks
    breaks = np.diff(starts, prepend=-2) != 1
    breaks[firsts[firsts < n]] = True
    places = np.flatnonzero(breaks)
    lengths = np.diff(places, append=n)
    which = np.searchsorted(firsts, places, side="right") - 1
    roi = which // n_block
    # Behind the end of a run come later pixels of its ROI, not the first ones of another.
    in_roi = places + lengths + PIECE <= (blocks.starts + blocks.n_pixels)[roi]
    in_frame = starts[places] + lengths + PIECE <= n_in_frame
    runs = np.stack(
        [
            starts[places],
            lengths,
            places,
            in_roi & in_frame,
            roi,
            which % n_block,
            places - blocks.starts[roi],
        ],
        axis=1,
    )
    return runs[np.argsort(runs[:, 0], kind="stable")].astype(np.int32)
