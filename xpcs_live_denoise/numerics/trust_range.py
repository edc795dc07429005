"""Where the denoiser can be trusted: by Gamma, by the noise, and by likeness to what it learned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpcs_live_denoise.numerics.arrays import as_stack, per_roi
from xpcs_live_denoise.numerics.window_bayes import window_noise
from xpcs_live_denoise.numerics.windows import (
    STEP,
    WINDOW,
    check_window,
    window_inputs,
    window_starts,
)
from xpcs_live_denoise.records.types import BoolArray, FloatArray, IntArray

TRUSTED_RATES = (0.01, 0.15)
"""Gamma a frame (Konstantinova et al., Sci. Rep. 11, 14756 (2021))."""

TRUSTED_NOISE = 2.5
"""Highest standard deviation of an entry of C2, in units of the contrast.

On the published validation windows, against the cuts that share no frame with the input, rates of
the shipped ensemble inside TRUSTED_RATES have a median error of 0.07 to 0.16 at a noise below 1.1,
0.25 up to 2.3, 0.33 to 0.35 from there to 3.2, and 0.42 above. Raw fits are worse at every level
but the cleanest, so this is no limit of harm: it is where the error exceeds a third.
"""

Distance = Callable[[NDArray[np.float32], FloatArray], FloatArray]
"""How far windows are from what the denoiser learned: scaled windows (n, w, w) and the standard
deviation of an entry of each (n,) -> (n,), 1 at the limit of what is like it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowQuality:
    """What the windows of a C2 are like, before they are denoised.

    Attributes
    ----------
    start
        Shape (n_window,): first frames, ascending.
    window
        Length of a window, frames.
    noise
        Shape (n_roi, n_window): standard deviation of an entry in units of the contrast; NaN where
        a window has no scale.
    distance
        Shape (n_roi, n_window): in units of its limit; NaN also where no distance was given.
    """

    start: IntArray
    window: int
    noise: FloatArray
    distance: FloatArray

    def at_ages(self, ages: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return noise and distance, each (n_roi, n_age): means over the windows that hold an age.

        Parameters
        ----------
        ages
            Shape (n_age,), frames.
        """
        offset = ages[:, np.newaxis] - self.start  # (n_age, n_window)
        holds = ((offset >= 0) & (offset <= self.window - 1)).astype(np.float64)
        return _mean_where(self.noise, holds), _mean_where(self.distance, holds)


def window_quality(
    c2: ArrayLike,
    *,
    contrast: ArrayLike,
    baseline: ArrayLike,
    window: int = WINDOW,
    step: int = STEP,
    seed: int = 0,
    distance: Distance | None = None,
) -> WindowQuality:
    """Return noise and distance of the windows that `denoise_two_time` denoises.

    The windows are those of its forward pass, and the last whole one.

    Parameters
    ----------
    c2
        Shape (n, n) or (n_roi, n, n), not denoised.
    contrast, baseline
        beta* and baseline*, scalars or (n_roi,); NaN: not known.
    window, step, seed
        As in `denoise_two_time`.
    distance
        None: distances are NaN.

    Raises
    ------
    InvalidInputError
        As in `denoise_two_time`.
    """
    stack = as_stack(c2)
    check_window(window, step)
    n_roi, n = stack.shape[:2]
    contrasts = per_roi(contrast, n_roi, "contrast")
    baselines = per_roi(baseline, n_roi, "baseline")
    start = window_starts(n, window, step)
    if start.size and start[-1] < n - window:
        start = np.append(start, n - window)
    noise = np.full((n_roi, start.size), np.nan)
    away = np.full((n_roi, start.size), np.nan)
    known = np.isfinite(contrasts) & np.isfinite(baselines) & bool(start.size)
    for roi in np.flatnonzero(known):  # one ROI at a time: a few MB of windows
        scaled = window_inputs(
            np.stack([stack[roi, s : s + window, s : s + window] for s in start]),
            start,
            np.full(start.size, roi),
            contrast=np.full(start.size, contrasts[roi]),
            baseline=np.full(start.size, baselines[roi]),
            seed=seed,
        )
        noise[roi] = np.sqrt(window_noise(scaled))
        if distance is not None:
            away[roi] = distance(scaled, noise[roi])
    return WindowQuality(start=start, window=window, noise=noise, distance=away)


def range_reasons(
    relaxation_rate: FloatArray, *, converged: BoolArray, noise: FloatArray, distance: FloatArray
) -> NDArray[np.str_]:
    """Return why each denoised rate cannot be trusted, "" where it can; the gravest reason first.

    "not_converged": the fit ended on a bound. "out_of_range": Gamma a frame lies outside of
    TRUSTED_RATES. "too_noisy": the noise is above TRUSTED_NOISE. "unlike_training": the window is
    farther from the training windows than 99 % of them, at its noise. Heterodyne oscillations are,
    up to a noise of about 0.6; two-step curves and static components only in clean windows, at a
    noise near 0.1, since within 50 frames they look like a stretched decay to another baseline.

    Parameters
    ----------
    relaxation_rate
        Gamma per frame; per coarse frame where C2 was coarsened before it was denoised.
    converged, noise, distance
        Of the same shape; noise and distance as `WindowQuality.at_ages` gives them. NaN, not known,
        is no reason.
    """
    low, high = TRUSTED_RATES
    in_range = (relaxation_rate > low) & (relaxation_rate < high)
    tests = {
        "not_converged": ~converged,
        "out_of_range": ~in_range,
        "too_noisy": noise > TRUSTED_NOISE,
        "unlike_training": distance > 1,
    }
    return np.select(list(tests.values()), list(tests), default="")


def _mean_where(values: FloatArray, holds: FloatArray) -> FloatArray:
    """Return means over the finite values that each row of `holds` (n_age, n_window) names."""
    finite = np.isfinite(values)
    total = np.where(finite, values, 0.0) @ holds.T  # (n_roi, n_age)
    count = finite.astype(np.float64) @ holds.T
    return np.where(count > 0, total / np.maximum(count, 1.0), np.nan)
