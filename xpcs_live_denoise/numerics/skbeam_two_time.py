"""Two-time products by scikit-beam's own `lazy_two_time`, a few frames at a time."""
# scikit-beam carries no types.
# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpcs_live_denoise.records.results import FloatArray


class SkbeamProducts:
    """scikit-beam's two-time state, which is resumable, made to grow and to survive interruption.

    scikit-beam wants the number of frames in advance. When more come, a new state of the larger
    size takes over the frames and results of the old one; nothing is computed twice.

    Parameters
    ----------
    n_pixels
        Shape (n_roi,): pixels in each ROI, which stand ROI by ROI in what `multiply` gets.
    capacity
        Frames to make room for.
    """

    def __init__(self, n_pixels: NDArray[np.int64], capacity: int) -> None:
        self._labels = np.repeat(np.arange(1, len(n_pixels) + 1), n_pixels)[np.newaxis]
        self._n = 0
        self._state = self._new_state(capacity)

    def multiply(self, scaled: NDArray[Any], start: int) -> FloatArray:
        """Store frames [start, start + k) and return C2 columns (n_roi, start + k, k).

        Pixels are divided by their mean already, which C2 does not depend on. Frames of which a
        ROI has no counts give rows that the caller replaces.
        """
        from skbeam.core.correlation import lazy_two_time

        self._rewind(start)
        capacity = self._state.buf.shape[1]
        with np.errstate(divide="ignore", invalid="ignore"):  # a ROI without counts: 0 / 0
            states = lazy_two_time(
                self._labels, scaled, capacity, capacity, two_time_internal_state=self._state
            )
            for state in states:
                self._state = state
        # scikit-beam fills [later, earlier] only.
        rows = self._state.g2[:, start : start + len(scaled), : start + len(scaled)].copy()
        corner = rows[:, :, start:]
        corner += np.tril(corner, -1).transpose(0, 2, 1)
        return rows.transpose(0, 2, 1)

    def skip(self, start: int, stop: int) -> None:
        """Leave frames [start, stop) without pixels; what they multiply to is not used."""
        self.multiply(np.zeros((stop - start, self._labels.size)), start)

    def reserve(self, capacity: int) -> None:
        """Make room for `capacity` frames."""
        old, self._state = self._state, self._new_state(capacity)
        n = old.g2.shape[1]
        self._state.g2[:, :n, :n] = old.g2
        # Frame t (from 1) stands at t modulo the length of the ring.
        ring = old.buf.shape[1]
        frames = np.arange(1, n + 1)
        self._state.buf[0, frames % self._state.buf.shape[1]] = old.buf[0, frames % ring]

    def _new_state(self, capacity: int) -> Any:
        """Return an empty state for an even number of at least `capacity` frames."""
        from skbeam.core.correlation import lazy_two_time

        even = capacity + capacity % 2
        blank = np.ones((1, self._labels.size))
        return next(lazy_two_time(self._labels, blank, even, even))

    def _rewind(self, n_frames: int) -> None:
        """Set the counters to `n_frames`, from where an interrupted call may have left them."""
        state = self._state
        state.cur[0] = (n_frames + 1) % state.buf.shape[1]
        state.img_per_level[0] = n_frames
        state.count_level[0] = n_frames
        del state.time_ind[0][n_frames:]
        self._state = state._replace(current_img_time=n_frames)
