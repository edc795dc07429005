"""Blends overlapping windows: the forward and the backward pass, one window at a time."""

# numpy's stubs leave the types of arange, indices and the like unknown.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from xpcs_live_denoise.records.results import FloatArray

FORWARD, BACKWARD = 0, 1
MEAN, SPREAD = 0, 1


class RunningBlend:
    """Both passes over the windows added so far, which come in order, `step` frames apart.

    In a pass a pixel that was written before becomes the average of what is there and the new
    value. With y_n the n-th value of a pixel, the forward pass is F = (F + y_n)/2 and the backward
    pass over the same windows is B = B + (y_n - y_(n-1))/2^(n-1); both are y_1 for n = 1. So a
    window is needed once. Reading consumes nothing.

    The state lies along the diagonal, (n, 2 window - 1) values a ROI, since nothing farther from
    it is ever written; NaN marks what no window has covered.
    """

    def __init__(self, n_roi: int, *, window: int, step: int, n_frames: int = 0) -> None:
        self._window, self._step = window, step
        # (pass, mean or spread, n_roi, t1, t2 - t1 + window - 1)
        self._bands = np.full((2, 2, n_roi, n_frames, 2 * window - 1), np.nan)
        self._last = np.zeros((2, n_roi, window, window))  # the newest window's values
        self._streak = np.zeros(n_roi, dtype=np.int64)  # windows in a row, per ROI
        edge = np.maximum.outer(np.arange(window), np.arange(window))
        self._reach = (window - 1 - edge) // step  # how many windows back still cover a pixel
        self.n_frames = 0

    def add(self, start: int, values: FloatArray, active: NDArray[np.bool_]) -> None:
        """Blend the window that starts at frame `start`.

        Parameters
        ----------
        start
            `step` more than at the call before.
        values
            Shape (2, n_roi, window, window): mean and spread. NaN pixels stay NaN.
        active
            Shape (n_roi,): False for a ROI that has no values for this window.
        """
        stop = start + self._window
        self._reserve(stop)
        forward, backward = self._block(start)
        before = np.minimum(self._streak[:, np.newaxis, np.newaxis], self._reach)  # n - 1
        last = np.zeros_like(self._last)
        overlap = max(self._window - self._step, 0)
        last[..., :overlap, :overlap] = self._last[..., self._step :, self._step :]
        write = active[:, np.newaxis, np.newaxis]
        again = before > 0
        new_forward = np.where(again, (forward + values) / 2, values)
        new_backward = np.where(again, backward + (values - last) * 0.5**before, values)
        np.copyto(forward, new_forward, where=write)
        np.copyto(backward, new_backward, where=write)
        self._last = values
        self._streak = np.where(active, self._streak + 1, 0)
        self.n_frames = stop

    def passes(self, start: int, stop: int) -> NDArray[np.float64]:
        """Return rows [start, stop) of both passes: (2, 2, n_roi, stop - start, 2 window - 1).

        The axes are: pass; mean or spread; ROI; t1; t2 - t1 + window - 1. A view.
        """
        return self._bands[:, :, :, start:stop]

    def _block(self, start: int) -> NDArray[np.float64]:
        """Return a view of the square of one window: (2, 2, n_roi, window, window)."""
        corner = self._bands[:, :, :, start:, self._window - 1 :]
        # One row down at the same t2 is one row further and one step back in t2 - t1.
        row, item = corner.strides[-2:]
        return as_strided(
            corner,
            shape=(*corner.shape[:3], self._window, self._window),
            strides=(*corner.strides[:3], row - item, item),
        )

    def _reserve(self, n_frames: int) -> None:
        capacity = self._bands.shape[3]
        if n_frames <= capacity:
            return
        shape = list(self._bands.shape)
        shape[3] = max(n_frames, 2 * capacity)
        bands = np.full(shape, np.nan)
        bands[:, :, :, :capacity] = self._bands
        self._bands = bands


def mean_of_passes(forward: FloatArray, backward: FloatArray) -> NDArray[np.float64]:
    """Return the mean of two passes; where only one has covered a pixel, that one alone."""
    both = (forward + backward) / 2
    return np.where(np.isnan(forward), backward, np.where(np.isnan(backward), forward, both))


def scatter(band: FloatArray, into: NDArray[Any]) -> None:
    """Write what is finite in `band` over the same pixels of `into`.

    Parameters
    ----------
    band
        Shape (n_roi, k, 2 w - 1), the last axis t2 - t1 + w - 1.
    into
        Shape (n_roi, k, k), changed in place.
    """
    size = into.shape[-1]
    half = band.shape[-1] // 2
    frame = np.arange(size)[:, np.newaxis]
    other = frame + np.arange(-half, half + 1)  # t2, (k, 2 w - 1)
    inside = (other >= 0) & (other < size)
    t1, t2 = np.nonzero(inside)[0], other[inside]
    values = band[:, inside]
    into[:, t1, t2] = np.where(np.isnan(values), into[:, t1, t2], values)
