"""The sliding window: denoises a whole C2 in windows along its diagonal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.records.results import (DenoisedTwoTime, FloatArray)

from .blend import BACKWARD, FORWARD, MEAN, SPREAD, RunningBlend, mean_of_passes, scatter
from .contrast import MODES, check_mode, estimate_contrast
from .scaling import restore, window_inputs
from .stack import as_stack, per_roi

__all__ = ["MODES", "STEP", "WINDOW", "Denoiser", "denoise_two_time", "denoised_windows"]

WINDOW = 50  # frames
STEP = 5  # frames

# Windows in one call of the ensemble: enough for its matrix products, a few MB of memory.
_BATCH = 256


class Denoiser(Protocol):
    """What denoises windows: an `Ensemble`, or anything with this method."""

    def denoise(self, windows: NDArray[np.float32]) -> tuple[FloatArray, FloatArray]:
        """Return mean and spread, each (m, w, w), of scaled windows (m, w, w)."""
        ...


def denoise_two_time(
    c2: ArrayLike,
    ensemble: Denoiser,
    *,
    window: int = WINDOW,
    step: int = STEP,
    mode: str = MODES[0],
    contrast: ArrayLike | None = None,
    baseline: ArrayLike | None = None,
    seed: int = 0,
) -> DenoisedTwoTime:
    """Denoise C2 in windows along its diagonal, in a forward and a backward pass.

    The windows of the forward pass start at frames 0, step, 2 step, ..., those of the backward
    pass at n - window, n - window - step, ... In a pass, a pixel that was written before becomes
    the average of what is there and the new output. The result is the mean of the passes; where
    only one has covered a pixel, that one alone; what lies outside all windows stays raw. The
    ensemble's spread is blended in the same way.

    Parameters
    ----------
    c2
        Shape (n, n) or (n_roi, n, n). NaN pixels are filled for the ensemble and stay NaN in the
        result. A series shorter than the window comes back as it is.
    ensemble
        Has `.denoise(windows)`: scaled float32 windows (m, window, window) -> (mean, spread).
    window, step
        In frames.
    mode
        "nonequilibrium" or "equilibrium": how contrast and baseline are estimated.
    contrast, baseline
        beta* and baseline*, scalars or (n_roi,); default: `estimate_contrast(c2, mode=mode)`. A
        ROI whose contrast cannot be estimated, or is given as NaN among those of several ROIs,
        stays raw; its spread is NaN.
    seed
        Seeds the values that replace the diagonal and the gaps.

    Returns
    -------
    DenoisedTwoTime
        float32 for float32, else float64. It is not made symmetric.

    Raises
    ------
    InvalidInputError
        For a C2 of another shape, a given contrast that is not positive and finite, a given
        baseline that is not finite, window or step that cannot be used, and an unknown mode.

    References
    ----------
    Konstantinova et al., Sci. Rep. 11, 14756 (2021), Methods, "Non-equilibrium test".
    """
    stack = as_stack(c2)
    check_mode(mode)
    check_window(window, step)
    n_roi, n = stack.shape[:2]
    contrasts, baselines = _scales(stack, mode, contrast, baseline)
    scale: dict[str, Any] = {"contrast": contrasts, "baseline": baselines, "seed": seed}
    ahead = window_starts(n, window, step)
    back = ahead + (n - window - ahead[-1]) if ahead.size else ahead
    passes: list[RunningBlend] = []
    # Both passes share their windows where the grids coincide; each window then runs once.
    for starts in (ahead,) if np.array_equal(ahead, back) else (ahead, back):
        blend = RunningBlend(n_roi, window=window, step=step, n_frames=n)
        for start, values in denoised_windows(stack, starts, ensemble, window=window, **scale):
            blend.add(start, values, np.isfinite(contrasts))
        passes.append(blend)
    denoised = stack.astype(stack.dtype if stack.dtype == np.float32 else np.float64)  # a copy
    spread = np.full_like(denoised, np.nan)
    forward, backward = passes[0].passes(0, n)[FORWARD], passes[-1].passes(0, n)[BACKWARD]
    for quantity, result in ((MEAN, denoised), (SPREAD, spread)):
        scatter(mean_of_passes(forward[quantity], backward[quantity]), result)
    single = np.ndim(c2) == 2
    return DenoisedTwoTime(
        c2=denoised[0] if single else denoised,
        spread=spread[0] if single else spread,
        contrast=float(contrasts[0]) if single else contrasts,
        baseline=float(baselines[0]) if single else baselines,
    )


def window_starts(n: int, window: int, step: int) -> NDArray[np.int64]:
    """Return the first frames of the forward pass's windows in a series of `n` frames."""
    return np.arange(0, n - window + 1, step, dtype=np.int64)


def denoised_windows(
    stack: FloatArray,
    starts: NDArray[np.int64] | Sequence[int],
    ensemble: Denoiser,
    *,
    window: int,
    contrast: NDArray[np.float64],
    baseline: NDArray[np.float64],
    seed: int,
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Denoise the windows that begin at `starts`, of all ROIs together, in bounded batches.

    Parameters
    ----------
    stack
        C2, shape (n_roi, n, n).
    starts
        First frames of the windows.
    ensemble, window, seed
        As in `denoise_two_time`.
    contrast, baseline
        Shape (n_roi,); ROIs that have one that is not finite are left out, their values are NaN.

    Yields
    ------
    start, values
        In the order of `starts`; values (2, n_roi, window, window) are mean and spread in units of
        C2, NaN where C2 is.

    Raises
    ------
    InvalidInputError
        When the ensemble returns arrays of another shape.
    """
    rois = np.flatnonzero(np.isfinite(contrast) & np.isfinite(baseline))
    block = max(1, _BATCH // max(1, rois.size))
    for first in range(0, len(starts), block):
        some = np.asarray(starts[first : first + block])
        values = np.full((2, len(some), stack.shape[0], window, window), np.nan)
        if rois.size:
            raw = np.stack([stack[rois, s : s + window, s : s + window] for s in some])
            flat = raw.reshape(-1, window, window)  # (len(some) * rois.size, window, window)
            which = np.tile(rois, len(some))
            scale = {"contrast": contrast[which], "baseline": baseline[which]}
            scaled = window_inputs(flat, np.repeat(some, rois.size), which, seed=seed, **scale)
            mean, spread = (np.asarray(output) for output in ensemble.denoise(scaled))
            if mean.shape != scaled.shape or spread.shape != scaled.shape:
                raise InvalidInputError(
                    f"Ensemble: got mean and spread of shapes {mean.shape} and {spread.shape} for "
                    f"windows of shape {scaled.shape}; expected that shape twice."
                )
            restored = restore(mean, spread, **scale)
            restored[:, np.isnan(flat)] = np.nan
            values[:, :, rois] = restored.reshape(2, *raw.shape)
        yield from ((int(start), values[:, i]) for i, start in enumerate(some))


def check_window(window: int, step: int) -> None:
    """Raise InvalidInputError unless windows of `window` frames can slide by `step` frames."""
    if window < 2 or not 1 <= step <= window:
        raise InvalidInputError(
            f"Window: got window {window} and step {step} frames; expected window >= 2 and "
            "1 <= step <= window, otherwise frames lie in no window."
        )


def _scales(
    stack: FloatArray, mode: str, contrast: ArrayLike | None, baseline: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return beta* and baseline* of every ROI, as given or else estimated."""
    n_roi = len(stack)
    if baseline is not None:
        given = per_roi(baseline, n_roi, "baseline")
        _refuse(np.isinf(given) | _lone_nan(baseline), baseline, "baseline", "finite")
    estimated, baselines = estimate_contrast(stack, mode=mode, baseline=baseline)
    if contrast is None:
        return estimated, baselines
    given = per_roi(contrast, n_roi, "contrast")
    bad = np.isinf(given) | (given <= 0) | _lone_nan(contrast)
    _refuse(bad, contrast, "contrast", "finite and above 0")
    return given, baselines


def _lone_nan(value: ArrayLike) -> bool:
    """Return whether a value is a scalar NaN; in one value a ROI, NaN marks what is not known."""
    return np.ndim(value) == 0 and bool(np.isnan(value))


def _refuse(bad: NDArray[np.bool_], value: ArrayLike, name: str, expected: str) -> None:
    if bad.any():
        raise InvalidInputError(
            f"{name}: got {value!r}; of ROI index {int(np.argmax(bad))} (of {bad.size}) it must be "
            f"{expected}. Leave it out to have it estimated."
        )
