"""The sliding window while a series grows: provisional denoised C2, each window denoised once."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpcs_live_denoise.numerics.windows import (
    MEAN,
    SPREAD,
    STEP,
    WINDOW,
    Denoiser,
    RunningBlend,
    check_window,
    denoised_windows,
    mean_of_passes,
    scatter,
    window_starts,
)
from xpcs_live_denoise.records.results import Band
from xpcs_live_denoise.records.types import FloatArray, IntArray


class LiveWindows:
    """Denoised C2 of a growing series, over the windows complete so far.

    The windows are those of the forward pass; the backward pass goes over the same ones. While
    beta* and baseline* do not change, the result equals both passes over these windows. Each window
    is put back with the beta* and baseline* of its time, so everything here is provisional;
    `denoise_two_time` on the whole C2 is final. Reading consumes nothing.

    Parameters
    ----------
    n_roi
        Number of ROIs.
    window, step
        In frames.
    seed
        Seeds the values that replace the diagonal and the gaps.

    Raises
    ------
    InvalidInputError
        When window or step cannot be used.
    """

    def __init__(
        self, n_roi: int, *, window: int = WINDOW, step: int = STEP, seed: int = 0
    ) -> None:
        check_window(window, step)
        self._n_roi, self._window, self._step, self._seed = n_roi, window, step, seed
        self._blend = RunningBlend(n_roi, window=window, step=step)
        self._n_done = 0
        self._n_frames = 0

    def ready(self, n_frames: int) -> IntArray:
        """Return the first frames of the windows that `n_frames` complete and that are not done."""
        return window_starts(n_frames, self._window, self._step)[self._n_done :]

    def push(
        self, c2: FloatArray, ensemble: Denoiser, contrast: FloatArray, baseline: FloatArray
    ) -> tuple[Band, ...]:
        """Denoise and blend every window that has become complete.

        Parameters
        ----------
        c2
            Shape (n_roi, n, n): C2 of all frames so far; a view is enough.
        ensemble
            As in `denoise_two_time`.
        contrast, baseline
            Shape (n_roi,): beta* and baseline* as known now. A ROI without (NaN) is left out; when
            it has them later, its blending begins there.

        Returns
        -------
        tuple of Band
            What changed, as one band; empty if no window was ready.
        """
        self._n_frames = c2.shape[-1]
        starts = self.ready(self._n_frames)
        if not starts.size:
            return ()
        contrast, baseline = np.asarray(contrast, float), np.asarray(baseline, float)
        active = np.isfinite(contrast) & np.isfinite(baseline)
        scale: dict[str, Any] = {"contrast": contrast, "baseline": baseline, "seed": self._seed}
        for start, values in denoised_windows(c2, starts, ensemble, window=self._window, **scale):
            self._blend.add(start, values, active)
        self._n_done += starts.size
        first, stop = int(starts[0]), self._blend.n_frames
        block = c2[:, first:stop, first:stop]
        return (
            Band(
                start=first,
                stop=stop,
                c2=self._over(block, MEAN, first),
                spread=self._over(np.full_like(block, np.nan), SPREAD, first),
            ),
        )

    def c2(self, c2_raw: FloatArray) -> FloatArray:
        """Return the provisional denoised C2: raw outside the windows, NaN where raw is NaN.

        Parameters
        ----------
        c2_raw
            Shape (n_roi, n, n), of no fewer frames than the last push had.
        """
        return self.square(c2_raw, 0, c2_raw.shape[-1])

    def square(self, c2_raw: FloatArray, start: int, stop: int) -> FloatArray:
        """Return the provisional denoised C2 of frames [start, stop) alone.

        Parameters
        ----------
        c2_raw
            Shape (n_roi, n, n), as for `c2`; only the square is read.
        start, stop
            0 <= start <= stop <= n.

        Returns
        -------
        NDArray
            Shape (n_roi, stop - start, stop - start).
        """
        return self._over(c2_raw[:, start:stop, start:stop], MEAN, start)

    @property
    def spread(self) -> FloatArray:
        """The ensemble's spread, (n_roi, n, n) for the n frames of the last push, units of C2."""
        empty = np.full((self._n_roi, self._n_frames, self._n_frames), np.nan)
        return self._over(empty, SPREAD, 0)

    def _over(self, below: FloatArray, quantity: int, start: int) -> FloatArray:
        """Return a copy of `below`, which begins at frame `start`, with the blend written over."""
        result = below.copy()
        stop = min(start + below.shape[-1], self._blend.n_frames)
        size = max(stop - start, 0)
        forward, backward = self._blend.passes(start, start + size)[:, quantity]
        scatter(mean_of_passes(forward, backward), result[:, :size, :size])
        return result
