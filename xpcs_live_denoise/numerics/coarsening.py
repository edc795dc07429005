"""Where the denoiser can be trusted, and C2 averaged over squares of frames for slow dynamics."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.records.results import GammaTable, RowSource
from xpcs_live_denoise.records.types import BoolArray, FloatArray, IntArray

from .arrays import as_stack, mean_or_nan, per_roi
from .band import band_of_c2
from .fits import fit_age_cuts
from .window_bayes import window_noise
from .windows import (
    WINDOW,
    Denoiser,
    WindowScaling,
    denoise_scaled,
    window_inputs,
    windows_of_band,
)

# Gamma a frame. The authors give 0.01 to 0.15 (Konstantinova et al., Sci. Rep. 11, 14756 (2021));
# below 0.02 windows of 50 frames hold too little of the decay, and rates come out too high. In this
# range and below this noise the median error of 64 simulated series was 3 to 10 %.
TRUSTED_RATES = (0.02, 0.15)
COARSE_SLOWEST = 0.006  # Gamma a frame of the series, down to which coarsened rows are good
TRUSTED_NOISE = 1.0  # highest standard deviation of an entry of C2, in units of the contrast


def noise_at_ages(c2: ArrayLike, scaling: WindowScaling, ages: FloatArray) -> FloatArray:
    """Return the noise of the windows that hold each age, (n_roi, n_age), before denoising.

    The noise of a window is the standard deviation of an entry in units of the contrast; an age, in
    frames, has the mean over its windows, which are those of the forward pass and the last whole
    one. NaN where a ROI has no scale or no window holds the age.
    """
    stack = as_stack(c2)
    n = stack.shape[-1]
    starts = scaling.starts(n)
    if starts.size and starts[-1] < n - scaling.window:
        starts = np.append(starts, n - scaling.window)
    band = band_of_c2(stack.swapaxes(1, 2), 0, n, scaling.window)
    return _noise_at(band, 0, starts, scaling, ages)


def band_noise(
    band: FloatArray, start: int, scaling: WindowScaling, ages: FloatArray
) -> FloatArray:
    """Return the noise as `noise_at_ages` from rows of a band, of the forward pass's windows alone.

    `band` are C2(t, t - lag), (n_roi, k, window or more), rows from frame `start` on; windows that
    begin before it do not count.
    """
    starts = scaling.starts(start + band.shape[1])
    if not ages.size:
        return np.full((len(band), 0), np.nan)
    first = max(start, float(ages.min()) - scaling.window + 1)
    starts = starts[(starts >= first) & (starts <= ages.max())]
    return _noise_at(band, start, starts, scaling, ages)


def _noise_at(
    band: FloatArray, start: int, starts: IntArray, scaling: WindowScaling, ages: FloatArray
) -> FloatArray:
    noise = np.full((len(band), starts.size), np.nan)
    for roi in np.flatnonzero(scaling.known & bool(starts.size)):  # at a time: a few MB of windows
        scaled = window_inputs(
            windows_of_band(band[[roi]], start, starts, scaling.window)[:, 0],
            starts,
            np.full(starts.size, roi),
            contrast=np.full(starts.size, scaling.contrast[roi]),
            baseline=np.full(starts.size, scaling.baseline[roi]),
            seed=scaling.seed,
        )
        noise[roi] = np.sqrt(window_noise(scaled))
    offset = ages[:, np.newaxis] - starts  # (n_age, n_window)
    holds = ((offset >= 0) & (offset <= scaling.window - 1)).astype(np.float64)
    finite = np.isfinite(noise)
    total = np.where(finite, noise, 0.0) @ holds.T  # (n_roi, n_age)
    return mean_or_nan(total, finite.astype(np.float64) @ holds.T)


def range_reasons(
    relaxation_rate: FloatArray,
    *,
    converged: BoolArray,
    noise: ArrayLike = np.nan,
    factor: int = 1,
) -> NDArray[np.str_]:
    """Return why each denoised rate cannot be trusted, "" where it can; the gravest reason first.

    "not_converged": the fit ended on a bound. "rate_unknown": the estimator knows no Gamma there.
    "out_of_range": Gamma a (coarse) frame lies outside of TRUSTED_RATES, or Gamma a frame below
    COARSE_SLOWEST. "too_noisy": the noise is above TRUSTED_NOISE.

    Parameters
    ----------
    relaxation_rate
        Shape (n,): Gamma per frame as the estimator knows it, never the denoised one: the network
        saturates, and what it makes of slow dynamics looks as if it were in range.
    converged
        Shape (n,), of the fit to denoised data.
    noise
        That of `noise_at_ages`; NaN, not known, is no reason.
    factor
        By which C2 was coarsened before it was denoised.
    """
    low, high = TRUSTED_RATES
    rate, coarse = relaxation_rate, relaxation_rate * factor
    tests = {
        "not_converged": ~converged,
        "rate_unknown": ~np.isfinite(rate),
        "out_of_range": ~((coarse >= low) & (coarse <= high) & (rate >= COARSE_SLOWEST)),
        "too_noisy": np.broadcast_to(np.asarray(noise) > TRUSTED_NOISE, converged.shape),
    }
    return np.select(list(tests.values()), list(tests), default="")


def coarsen(c2: ArrayLike, factor: int) -> FloatArray:
    """Average C2 over squares of `factor` x `factor` frames.

    Pixel (i, j) of the result is the mean of the finite entries of C2 at t1 in [f i, f i + f), t2
    in [f j, f j + f), without those of lag 0; frames beyond the last whole square are left out.
    Frame i of the result has the age f i + (f - 1)/2. On its diagonal are lags of 1 to f - 1 only:
    like lag 0 of any C2, it is never used.

    A pixel at lag L mixes the lags f L + d of C2, |d| < f, with weights (f - |d|)/f^2. Hence, with
    G = f Gamma the rate a coarse frame,

        g2(L) = baseline + beta sum_d (f - |d|)/f^2 exp(-2 (Gamma (f L + d))^alpha).

    For alpha = 1 the sum is kappa exp(-2 G L): Gamma, alpha and baseline are exact, and beta rises
    by kappa = (sinh G / (f sinh Gamma))^2, about 1 + G^2/3, which is 1.0075 at G = 0.15. For other
    exponents the curve is changed by (f^2 - 1)/12 times its curvature, which is large at short lags
    for stretched ones only. Fits of noise-free curves, beta held at that of C2, G in 0.01 to 0.15,
    f up to 16, were off by up to 0.8 % in Gamma for alpha in 0.8 to 2, 2.2 % at 0.6 and 4.5 % at
    0.5, and by up to 0.03 in alpha and 0.007 in baseline. The denoiser's own error is ten times
    that, so nothing is corrected for it.

    `c2` is (n, n) or (n_roi, n, n); the result has m = n // factor frames on both axes, NaN where a
    square has no finite entry. A factor of 1 returns C2 as it is. The cost is one pass over C2.

    Raises
    ------
    InvalidInputError
        When C2 has another shape, or the factor is below 1.
    """
    stack = as_stack(c2)
    if factor < 1:
        raise InvalidInputError(f"Coarsening: got factor {factor}; expected at least 1 frame.")
    if factor == 1:
        return stack if np.ndim(c2) == 3 else stack[0]
    m = stack.shape[-1] // factor
    coarse = np.full((len(stack), m, m), np.nan, stack.dtype)
    frame = np.arange(m * factor, dtype=np.int64)
    for roi, one in enumerate(stack):  # one at a time: the copies below stay small
        kept = one[: m * factor, : m * factor]
        counted = np.isfinite(kept)
        counted[frame, frame] = False
        squares = (m, factor, m, factor)
        total = np.where(counted, kept, 0).reshape(squares).sum(axis=(1, 3), dtype=np.float64)
        count = counted.reshape(squares).sum(axis=(1, 3))
        np.divide(total, count, out=coarse[roi], where=count > 0, casting="same_kind")
    return coarse if np.ndim(c2) == 3 else coarse[0]


def choose_factor(
    relaxation_rate: float, n_frames: int, *, window: int = WINDOW, frames_per_bin: int = 1
) -> int:
    """Return the power of two that brings Gamma a coarse frame into the denoiser's range.

    Of multiples of `frames_per_bin` that bring it into 0.02 to 0.15 and leave a whole window, the
    one that brings it nearest to the middle, 0.055: at the lower end the denoiser makes slow
    dynamics faster. 1 where none is needed (Gamma a frame is in range, or above) or possible, or
    Gamma is not known (NaN).
    """
    low, high = TRUSTED_RATES
    if not 0 < relaxation_rate < low:
        return 1
    longest = max(n_frames // window, 1).bit_length()  # 2^longest leaves no whole window
    possible = [
        factor
        for factor in (2**power for power in range(1, longest))
        if low <= relaxation_rate * factor <= high and factor % frames_per_bin == 0
    ]
    middle = math.sqrt(low * high)
    return min(possible, key=lambda f: abs(math.log(relaxation_rate * f / middle)), default=1)


def denoise_coarse(
    c2: ArrayLike,
    ensemble: Denoiser,
    scaling: WindowScaling,
    *,
    relaxation_rate: ArrayLike,
    frame_time_s: float = 1.0,
    frames_per_bin: int = 1,
) -> GammaTable:
    """Denoise and fit the ROIs whose dynamics are too slow for the denoiser frame by frame.

    Each is coarsened by its own factor (`choose_factor`), denoised as by `denoise_two_time` and
    fitted as by `fit_ages`, at lags up to window - step - 1 coarse frames. Contrast and baseline
    are those of C2 itself, where lag 1 is nearer to lag 0 than on the coarse grid.

    Parameters
    ----------
    c2, ensemble
        As in `denoise_two_time`.
    scaling
        Window and step in coarse frames, contrast and baseline of C2.
    relaxation_rate
        Shape (n_roi,) or (n_roi, n): Gamma per frame as the estimator knows it, of each ROI or at
        each frame (each bin) of C2; NaN where it is not known.
    frame_time_s
        Frame period, s.
    frames_per_bin
        Where C2 is a map: frames that are averaged in it already, a power of two. A ROI for which
        this is too coarse has no rows.

    Returns
    -------
    GammaTable
        One row a coarse frame of the ROIs that were coarsened: ages in frames of the original
        series, rates in s^-1, `width` the factor, `in_range` and `reason` by `range_reasons`, never
        recommended. Errors are those of a fit to denoised data: they say nothing of the truth.

    Raises
    ------
    InvalidInputError
        When there is not one rate a ROI, or a ROI and frame.
    """
    stack = as_stack(c2)
    n = stack.shape[-1]
    rates = np.asarray(relaxation_rate, np.float64)
    if rates.shape != (len(stack), n):
        rates = np.repeat(per_roi(rates, len(stack), "relaxation_rate")[:, np.newaxis], n, axis=1)
    tables = [fit_age_cuts(stack, (), beta=1.0)]  # no row, all columns
    for roi, typical in enumerate(median_rates(rates)):
        factor = choose_factor(
            float(typical), n * frames_per_bin, window=scaling.window, frames_per_bin=frames_per_bin
        )
        if factor > 1:
            rows = _coarse_rows(
                stack[[roi]],
                ensemble,
                scaling.of_roi(roi),
                factor,
                rates[roi],
                frames_per_bin=frames_per_bin,
            )
            rows = rows.replace(
                roi=roi + 1,
                age_s=rows.age_s * frame_time_s,
                relaxation_rate=rows.relaxation_rate / frame_time_s,
                relaxation_rate_error=rows.relaxation_rate_error / frame_time_s,
            )
            tables.append(rows)
    return GammaTable.concatenate(tables)


def median_rates(rates: FloatArray) -> FloatArray:
    """Return the median over the frames of (n_roi, n) that are known, (n_roi,), NaN for none."""
    return np.array([np.median(one[np.isfinite(one)]) if np.isfinite(one).any() else np.nan
                     for one in rates])  # fmt: skip


def _coarse_rows(
    c2: FloatArray,
    ensemble: Denoiser,
    scaling: WindowScaling,
    factor: int,
    rates: FloatArray,
    *,
    frames_per_bin: int,
) -> GammaTable:
    """Fit every age of the coarse C2 of one ROI; ages, times and rates are in frames.

    `rates` (n,) are those of the estimator at each bin of C2.
    """
    coarse = coarsen(c2, factor // frames_per_bin)
    ages = np.arange(coarse.shape[-1], dtype=np.float64)
    rows = fit_age_cuts(
        denoise_scaled(coarse, ensemble, scaling).c2,
        ages,
        beta=scaling.contrast,
        frame_time_s=factor,
        max_lag=scaling.window - scaling.step - 1,
    )
    middle = (factor - 1) / 2  # of the frames in a coarse frame, whose first has its age times f
    reason = range_reasons(
        rates[((ages * factor + middle) / frames_per_bin).astype(np.int64)],
        converged=rows.converged,
        noise=noise_at_ages(coarse, scaling, ages)[0],
        factor=factor,
    )
    return rows.replace(
        source=RowSource.DENOISED_COARSE,
        width=factor,
        age_frame=rows.age_frame * factor + middle,
        age_s=rows.age_s + middle,
        in_range=reason == "",
        recommended=False,
        reason=reason,
    )
