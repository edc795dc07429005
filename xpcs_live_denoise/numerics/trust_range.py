"""Where the denoiser can be trusted: by Gamma, and by the noise of its windows."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpcs_live_denoise.numerics.arrays import as_stack
from xpcs_live_denoise.numerics.window_bayes import window_noise
from xpcs_live_denoise.numerics.windows import WindowScaling, window_inputs
from xpcs_live_denoise.records.types import BoolArray, FloatArray

TRUSTED_RATES = (0.01, 0.15)
"""Gamma a frame (Konstantinova et al., Sci. Rep. 11, 14756 (2021))."""

TRUSTED_NOISE = 2.5
"""Highest standard deviation of an entry of C2, in units of the contrast.

On the published validation windows, against the cuts that share no frame with the input, rates of
the shipped ensemble inside TRUSTED_RATES have a median error of 0.07 to 0.16 at a noise below 1.1,
0.25 up to 2.3, 0.33 to 0.35 from there to 3.2, and 0.42 above. Raw fits are worse at every level
but the cleanest, so this is no limit of harm: it is where the error exceeds a third.
"""


def noise_at_ages(c2: ArrayLike, scaling: WindowScaling, ages: FloatArray) -> FloatArray:
    """Return the noise of the windows that hold each age, (n_roi, n_age), before denoising.

    The noise of a window is the standard deviation of an entry in units of the contrast; an age, in
    frames, has the mean over its windows, which are those of the forward pass and the last whole
    one. NaN where a ROI has no scale or no window holds the age.
    """
    stack = as_stack(c2)
    n_roi, n = stack.shape[:2]
    window, start = scaling.window, scaling.starts(stack.shape[-1])
    if start.size and start[-1] < n - window:
        start = np.append(start, n - window)
    noise = np.full((n_roi, start.size), np.nan)
    for roi in np.flatnonzero(scaling.known & bool(start.size)):  # at a time: a few MB of windows
        scaled = window_inputs(
            np.stack([stack[roi, s : s + window, s : s + window] for s in start]),
            start,
            np.full(start.size, roi),
            contrast=np.full(start.size, scaling.contrast[roi]),
            baseline=np.full(start.size, scaling.baseline[roi]),
            seed=scaling.seed,
        )
        noise[roi] = np.sqrt(window_noise(scaled))
    offset = ages[:, np.newaxis] - start  # (n_age, n_window)
    holds = ((offset >= 0) & (offset <= window - 1)).astype(np.float64)
    finite = np.isfinite(noise)
    total = np.where(finite, noise, 0.0) @ holds.T  # (n_roi, n_age)
    count = finite.astype(np.float64) @ holds.T
    return np.where(count > 0, total / np.maximum(count, 1.0), np.nan)


def range_reasons(
    relaxation_rate: FloatArray, *, converged: BoolArray, noise: ArrayLike = np.nan
) -> NDArray[np.str_]:
    """Return why each denoised rate cannot be trusted, "" where it can; the gravest reason first.

    "not_converged": the fit ended on a bound. "out_of_range": Gamma a frame lies outside of
    TRUSTED_RATES. "too_noisy": the noise is above TRUSTED_NOISE.

    Parameters
    ----------
    relaxation_rate
        Gamma per frame; per coarse frame where C2 was coarsened before it was denoised.
    converged, noise
        Of the same shape; noise as `noise_at_ages` gives it. NaN, not known, is no reason.
    """
    low, high = TRUSTED_RATES
    tests = {
        "not_converged": ~converged,
        "out_of_range": ~((relaxation_rate > low) & (relaxation_rate < high)),
        "too_noisy": np.broadcast_to(np.asarray(noise) > TRUSTED_NOISE, converged.shape),
    }
    return np.select(list(tests.values()), list(tests), default="")
