"""The sliding window: denoises a C2 in windows along its diagonal, whole or while it grows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import ArrayLike, NDArray

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.records.results import DenoisedTwoTime
from xpcs_live_denoise.records.types import Array, BoolArray, FloatArray, IntArray

from .any_size import RowDenoiser, denoise_whole, has_spread, over_raw
from .arrays import as_stack, enlarged, next_capacity, per_roi
from .band import band_of_c2
from .contrast import MODES, check_mode, estimate_contrast

WINDOW = 50  # frames
STEP = 5  # frames

# Windows in one call of the ensemble: enough for its matrix products, a few MB of memory.
_BATCH = 256


class Denoiser(Protocol):
    """What denoises windows: an `Ensemble`, or anything with this method.

    One that is a `RowDenoiser`, too, denoises C2 of any size, without windows.
    """

    def denoise(self, windows: NDArray[np.float32], /) -> tuple[FloatArray, FloatArray]:
        """Return mean and spread, each (m, w, w), of scaled windows (m, w, w).

        The spread of one member alone is NaN.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowScaling:
    """How windows are cut out of the C2 of n_roi ROIs and scaled.

    Raises InvalidInputError when window or step cannot be used.
    """

    contrast: FloatArray  # beta* and baseline*, (n_roi,); NaN where not known: a ROI is left out
    baseline: FloatArray
    window: int = WINDOW  # length of a window, frames
    step: int = STEP  # frames from one to the next
    seed: int = 0  # of the values that replace the diagonal and the gaps

    def __post_init__(self) -> None:
        if self.window < 2 or not 1 <= self.step <= self.window:
            raise InvalidInputError(
                f"Window: got window {self.window} and step {self.step} frames; expected window >= "
                "2 and 1 <= step <= window, otherwise frames lie in no window."
            )

    @property
    def known(self) -> BoolArray:
        """Which ROIs can be scaled, (n_roi,)."""
        return np.isfinite(self.contrast) & np.isfinite(self.baseline)

    def of_roi(self, roi: int) -> WindowScaling:
        """Return the scaling of one ROI."""
        return dataclasses.replace(
            self, contrast=self.contrast[[roi]], baseline=self.baseline[[roi]]
        )

    def starts(self, n: int) -> IntArray:
        """Return the first frames of the forward pass's windows in a series of `n` frames."""
        return np.arange(0, n - self.window + 1, self.step, dtype=np.int64)


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
    ensemble's spread is blended in the same way; an ensemble of one member has none.

    Parameters
    ----------
    c2
        Shape (n, n) or (n_roi, n, n). NaN pixels are filled for the ensemble and stay NaN in the
        result. A series shorter than the window comes back as it is.
    ensemble
        Has `.denoise(windows)`: scaled float32 windows (m, window, window) -> (mean, spread). Or
        one for C2 of any size (`load_ensemble(denoiser="any_size")`): it takes the whole C2 as it
        is, without windows, and what is shorter than its `least_frames` comes back raw.
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
    contrasts, baselines = _scales(stack, mode, contrast, baseline)
    scaling = WindowScaling(
        contrast=contrasts, baseline=baselines, window=window, step=step, seed=seed
    )
    if isinstance(ensemble, RowDenoiser):
        result = denoise_whole(stack, ensemble, contrasts, baselines)
    else:
        result = denoise_scaled(stack, ensemble, scaling)
    if np.ndim(c2) == 3:
        return result
    return DenoisedTwoTime(
        c2=result.c2[0],
        spread=None if result.spread is None else result.spread[0],
        reached=result.reached[0],
        contrast=float(contrasts[0]),
        baseline=float(baselines[0]),
    )


def denoise_scaled(
    stack: FloatArray, ensemble: Denoiser, scaling: WindowScaling
) -> DenoisedTwoTime:
    """Denoise C2, (n_roi, n, n), whose contrast and baseline are settled; see denoise_two_time."""
    n_roi, n = stack.shape[:2]
    ahead = scaling.starts(n)
    back = ahead + (n - scaling.window - ahead[-1]) if ahead.size else ahead
    band = band_of_c2(stack.swapaxes(1, 2), 0, n, scaling.window)
    passes: list[RunningBlend] = []
    # Both passes share their windows where the grids coincide; each window then runs once.
    for starts in (ahead,) if np.array_equal(ahead, back) else (ahead, back):
        blend = RunningBlend(n_roi, window=scaling.window, step=scaling.step, n_frames=n)
        for start, values in denoised_windows(band, 0, starts, ensemble, scaling):
            blend.add(start, values, np.isfinite(scaling.contrast))
        passes.append(blend)
    dtype = np.float32 if stack.dtype == np.float32 else np.float64
    made = np.full((2, *stack.shape), np.nan, dtype)
    forward, backward = passes[0].passes(0, n)[FORWARD], passes[-1].passes(0, n)[BACKWARD]
    for quantity in (MEAN, SPREAD):
        scatter(mean_of_passes(forward[quantity], backward[quantity]), made[quantity])
    raw = stack.astype(dtype, copy=False)
    return over_raw(raw, made[MEAN], made[SPREAD], scaling.contrast, scaling.baseline)


def denoise_new_windows(
    blend: RunningBlend, band: FloatArray, start: int, ensemble: Denoiser, scaling: WindowScaling
) -> int:
    """Denoise and blend every window that has become complete while a series grows.

    The windows are those of the forward pass; the backward pass goes over the same ones. While
    beta* and baseline* do not change, the blend equals both passes over these windows. Each window
    is put back with the beta* and baseline* of its time: with others `denoise_two_time` on the
    whole C2 is final. A ROI without a scale is left out; when it has one later, its blending begins
    there.

    `band` are the rows C2(t, t - lag) from frame `start` on up to the newest, (n_roi, k, window or
    more), those of windows that are blended already left out or not. Returns the first frame of the
    new windows: rows of the band before it have not changed. The frame after the newest if no
    window was ready.
    """
    stop = start + band.shape[1]
    starts = scaling.starts(stop)[blend.n_windows :]
    if not starts.size:
        return stop
    for first, values in denoised_windows(band, start, starts, ensemble, scaling):
        blend.add(first, values, scaling.known)
    return int(starts[0])


class WindowRows:
    """The denoised band of a series while it grows, in windows; see `denoise_new_windows`.

    A row is final when it has left every window. Its state is the blend of the windows so far.
    """

    def __init__(self, ensemble: Denoiser, n_roi: int, *, window: int, step: int) -> None:
        self._ensemble, self._step = ensemble, step
        self._blend = RunningBlend(n_roi, window=window, step=step)

    @property
    def n_final(self) -> int:
        """The frame after the last row that is final."""
        return self._blend.n_windows * self._step

    @property
    def needs(self) -> int:
        """The first row of the band that is needed when the next frames come."""
        return self.n_final

    @property
    def has_rows(self) -> bool:
        """Whether anything is denoised yet."""
        return self._blend.n_windows > 0

    @property
    def has_spread(self) -> bool:
        """Whether several members denoise."""
        return self._blend.has_spread

    def advance(self, band: FloatArray, start: int, scaling: WindowScaling) -> int:
        """Denoise what is new; return the first row that changed.

        `band` are rows C2(t, t - lag), (n_roi, k, window or more), from frame `start` on.
        """
        return denoise_new_windows(self._blend, band, start, self._ensemble, scaling)

    def rows(self, below: FloatArray, start: int, quantity: int) -> FloatArray:
        """Return a copy of `below`, rows from frame `start` on, mean or spread over it."""
        return self._blend.band(below, start, quantity)

    def release(self, before: int) -> None:
        """Forget what only rows of the band before frame `before` need."""
        self._blend.release(before)


def denoised_windows(
    band: FloatArray, start: int, starts: IntArray, ensemble: Denoiser, scaling: WindowScaling
) -> Iterator[tuple[int, FloatArray]]:
    """Denoise the windows that begin at `starts`, of all ROIs together, in bounded batches.

    `band` are C2(t, t - lag), (n_roi, k, window or more), rows from frame `start` on. Yields start
    and values in the order of `starts`; values (2, n_roi, window, window) are mean and spread in
    units of C2, NaN where C2 is and for ROIs without a scale. Raises InvalidInputError when the
    ensemble returns arrays of another shape.
    """
    rois = np.flatnonzero(scaling.known)
    block = max(1, _BATCH // max(1, rois.size))
    for first in range(0, len(starts), block):
        some = starts[first : first + block]
        raw = windows_of_band(band, start, some, scaling.window)
        values = np.full((2, *raw.shape), np.nan)
        # What was never measured stays so: of it the network is not asked.
        at, roi = np.nonzero(np.isfinite(raw).any(axis=(2, 3)) & scaling.known)
        if at.size:
            flat = raw[at, roi]  # (m, window, window)
            values[:, at, roi] = _denoised(flat, some[at], roi, ensemble, scaling)
        yield from ((int(begin), values[:, i]) for i, begin in enumerate(some))


def _denoised(
    windows: FloatArray,
    starts: IntArray,
    rois: IntArray,
    ensemble: Denoiser,
    scaling: WindowScaling,
) -> FloatArray:
    """Return mean and spread, (2, m, w, w), of windows (m, w, w) of C2 and some ROIs."""
    contrast, baseline = scaling.contrast[rois], scaling.baseline[rois]
    scaled = window_inputs(
        windows, starts, rois, contrast=contrast, baseline=baseline, seed=scaling.seed
    )
    mean, spread = (np.asarray(output) for output in ensemble.denoise(scaled))
    if mean.shape != scaled.shape or spread.shape != scaled.shape:
        raise InvalidInputError(
            f"Ensemble: got mean and spread of shapes {mean.shape} and {spread.shape} for "
            f"windows of shape {scaled.shape}; expected that shape twice."
        )
    restored = restore(mean, spread, contrast=contrast, baseline=baseline)
    restored[:, np.isnan(windows)] = np.nan
    return restored


def windows_of_band(band: FloatArray, start: int, starts: IntArray, window: int) -> FloatArray:
    """Return windows of C2, (m, n_roi, window, window), that begin at `starts`, from its band.

    `band` are C2(t, t - lag), (n_roi, k, window or more), rows from frame `start` on.
    """
    frame = np.arange(window, dtype=np.int64)
    late = np.maximum.outer(frame, frame)
    row = (starts - start)[:, np.newaxis, np.newaxis] + late
    return band[:, row, np.abs(np.subtract.outer(frame, frame))].swapaxes(0, 1)


def _scales(
    stack: FloatArray, mode: str, contrast: ArrayLike | None, baseline: ArrayLike | None
) -> tuple[FloatArray, FloatArray]:
    """Return beta* and baseline* of every ROI, as given or else estimated."""
    n_roi = len(stack)
    if baseline is not None:
        given = per_roi(baseline, n_roi, "baseline")
        _refuse(np.isinf(given), baseline, "baseline", "finite")
    estimated, baselines = estimate_contrast(stack, mode=mode, baseline=baseline)
    if contrast is None:
        return estimated, baselines
    given = per_roi(contrast, n_roi, "contrast")
    _refuse(np.isinf(given) | (given <= 0), contrast, "contrast", "finite and above 0")
    return given, baselines


def _refuse(bad: BoolArray, value: ArrayLike, name: str, expected: str) -> None:
    if np.ndim(value) == 0:  # in one value a ROI, NaN marks what is not known
        bad = bad | np.isnan(np.asarray(value, np.float64))
    if bad.any():
        raise InvalidInputError(
            f"{name}: got {value!r}; of ROI index {int(np.argmax(bad))} (of {bad.size}) it must be "
            f"{expected}. Leave it out to have it estimated."
        )


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
        self._start = 0  # the first t1 that is kept
        self.has_spread = True  # until one member alone has denoised something
        edge = np.maximum.outer(np.arange(window), np.arange(window))
        self._reach = (window - 1 - edge) // step  # how many windows back still cover a pixel
        self.n_frames = 0
        self.n_windows = 0

    def add(self, start: int, values: FloatArray, active: BoolArray) -> None:
        """Blend the window that starts at frame `start`, `step` more than at the call before.

        `values` (2, n_roi, window, window) are mean and spread; NaN pixels stay NaN. `active`
        (n_roi,) is False for a ROI that has no values for this window.
        """
        stop = start + self._window
        self.has_spread = self.has_spread and has_spread(*values)
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
        self.n_windows += 1

    def band(self, below: FloatArray, start: int, quantity: int = MEAN) -> FloatArray:
        """Return a copy of rows of a band from frame `start` on, the blend written over it.

        `below` (n_roi, k, window) are C2(t, t - lag), raw for instance, which stay outside the
        windows; written are the values of C2(t - lag, t).
        """
        result = below.copy()
        frame = np.arange(start, min(start + below.shape[1], self.n_frames), dtype=np.int64)
        lag = np.arange(below.shape[2], dtype=np.int64)
        first = frame[:, np.newaxis] - lag
        passes = self._bands[:, quantity]
        row = np.maximum(first - self._start, 0)
        forward, backward = passes[:, :, row, lag + self._window - 1]
        blended = np.where(first >= 0, mean_of_passes(forward, backward), np.nan)
        some = result[:, : len(frame)]
        np.copyto(some, blended, where=np.isfinite(blended), casting="same_kind")
        return result

    def passes(self, start: int, stop: int) -> FloatArray:
        """Return rows [start, stop): pass, quantity, ROI, t1, t2 - t1 + window - 1. A view."""
        return self._bands[:, :, :, start - self._start : stop - self._start]

    def release(self, before: int) -> None:
        """Forget what only rows of the band before frame `before` need.

        These must have left every window: none that comes begins before them.
        """
        drop = min(before - self._window + 1, self.n_frames) - self._start
        if drop <= 0:
            return
        kept = self._bands[:, :, :, drop : self.n_frames - self._start].copy()
        self._bands[:, :, :, : kept.shape[3]] = kept
        self._bands[:, :, :, kept.shape[3] :] = np.nan
        self._start += drop

    def _block(self, start: int) -> FloatArray:
        """Return a view of the square of one window: (2, 2, n_roi, window, window)."""
        corner = self._bands[:, :, :, start - self._start :, self._window - 1 :]
        # One row down at the same t2 is one row further and one step back in t2 - t1.
        row, item = corner.strides[-2:]
        return as_strided(
            corner,
            shape=(*corner.shape[:3], self._window, self._window),
            strides=(*corner.strides[:3], row - item, item),
        )

    def _reserve(self, n_frames: int) -> None:
        *before, capacity, width = self._bands.shape
        if (needed := n_frames - self._start) > capacity:
            shape = (*before, next_capacity(capacity, needed), width)
            self._bands = enlarged(self._bands, shape, np.nan)


def mean_of_passes(forward: FloatArray, backward: FloatArray) -> FloatArray:
    """Return the mean of two passes; where only one has covered a pixel, that one alone."""
    both = (forward + backward) / 2
    return np.where(np.isnan(forward), backward, np.where(np.isnan(backward), forward, both))


def scatter(band: FloatArray, into: Array) -> None:
    """Write what is finite in `band` over the same pixels of `into`, in place.

    `band` is (n_roi, k, 2 w - 1), its last axis t2 - t1 + w - 1; `into` is (n_roi, k, k).
    """
    size = into.shape[-1]
    half = band.shape[-1] // 2
    frame = np.arange(size, dtype=np.int64)[:, np.newaxis]
    other = frame + np.arange(-half, half + 1, dtype=np.int64)  # t2, (k, 2 w - 1)
    inside = (other >= 0) & (other < size)
    t1, t2 = np.nonzero(inside)[0], other[inside]
    values = band[:, inside]
    into[:, t1, t2] = np.where(np.isnan(values), into[:, t1, t2], values)


def window_inputs(
    windows: FloatArray,
    starts: IntArray,
    rois: IntArray,
    *,
    contrast: FloatArray,
    baseline: FloatArray,
    seed: int,
) -> NDArray[np.float32]:
    """Replace the diagonal and the gaps of windows, and scale them: (C2 - baseline*)/beta* + 1.

    The diagonal (lag 0) takes values drawn at random from the window's own lag-1 values. A NaN
    takes a value drawn from the finite values of its lag; where a lag has none, from the nearest
    lag that has some; where the window has none, the baseline. The generator of the draws is keyed
    by (seed, ROI, start of the window): it does not matter when or beside which others a window is
    prepared.

    `windows` are C2, (m, w, w), whose upper triangle is drawn from; the others, (m,), first frame,
    ROI index, beta* and baseline* of each. Returns (m, w, w), float32.

    References
    ----------
    Konstantinova et al., Sci. Rep. 11, 14756 (2021), Eq. 5 and 7.
    """
    values = windows.astype(np.float64)  # (m, w, w), a copy
    width = values.shape[-1]
    generators = [
        np.random.default_rng([seed % 2**64, int(roi), int(start)])
        for start, roi in zip(starts, rois, strict=True)
    ]
    draws = np.empty((len(generators), width))
    for row, generator in zip(draws, generators, strict=True):
        generator.random(out=row)
    diagonal = np.arange(width, dtype=np.int64)
    lag_1 = np.diagonal(values, offset=1, axis1=1, axis2=2)  # (m, w - 1)
    values[:, diagonal, diagonal] = _draw(lag_1, draws)
    gaps = np.flatnonzero(np.isnan(values).any(axis=(1, 2)))
    if gaps.size:
        draws = np.stack([generators[i].random((width - 1, width)) for i in gaps])
        values[gaps] = _fill(values[gaps], draws, baseline[gaps])
    scale = contrast[:, np.newaxis, np.newaxis]
    return ((values - baseline[:, np.newaxis, np.newaxis]) / scale + 1).astype(np.float32)


def restore(
    mean: FloatArray, spread: FloatArray, *, contrast: FloatArray, baseline: FloatArray
) -> FloatArray:
    """Return mean and spread, each (m, w, w), in units of C2, as (2, m, w, w): the scaling undone.

    `contrast` and `baseline` are (m,).
    """
    scale = contrast[:, np.newaxis, np.newaxis]
    back = (mean.astype(np.float64) - 1) * scale + baseline[:, np.newaxis, np.newaxis]
    return np.stack([back, spread * scale])


def _draw(pool: FloatArray, uniform: FloatArray) -> FloatArray:
    """Draw from the finite values on the last axis of `pool`; NaN where there are none."""
    missing = np.isnan(pool)
    # A stable sort on "missing" moves the finite values to the front and keeps their order.
    front = np.take_along_axis(pool, np.argsort(missing, axis=-1, kind="stable"), axis=-1)
    count = pool.shape[-1] - missing.sum(axis=-1, keepdims=True)
    return np.take_along_axis(front, (uniform * count).astype(np.intp), axis=-1)


def _fill(windows: FloatArray, uniform: FloatArray, baseline: FloatArray) -> FloatArray:
    """Fill the NaN entries of (p, w, w) windows; `uniform` (p, w - 1, w) are numbers in [0, 1)."""
    width = windows.shape[-1]
    lags = np.arange(1, width, dtype=np.int64)[:, np.newaxis]  # (w - 1, 1)
    rows = np.arange(width - 1, dtype=np.int64)  # (w - 1,)
    inside = rows + lags < width
    by_lag = windows[:, rows, np.minimum(rows + lags, width - 1)]  # (p, w - 1, w - 1)
    by_lag[:, ~inside] = np.nan
    empty = np.isnan(by_lag).all(axis=-1)  # (p, w - 1)
    distance = np.abs(lags - lags.T) + np.where(empty, width, 0)[:, np.newaxis, :]
    nearest = distance.argmin(axis=-1)  # (p, w - 1): the lag itself unless it is empty
    pool = np.take_along_axis(by_lag, nearest[:, :, np.newaxis], axis=1)
    drawn = _draw(pool, uniform)  # (p, w - 1, w): one draw for each lag and frame
    drawn = np.where(np.isnan(drawn), baseline[:, np.newaxis, np.newaxis], drawn)
    t1, t2 = np.indices((width, width))
    lag = np.maximum(np.abs(t2 - t1), 1)  # the diagonal is lag-1 values
    fill = drawn[:, lag - 1, np.minimum(t1, t2)]  # symmetric
    return np.where(np.isnan(windows), fill, windows)


# The upper triangle of a window: how 50x50 pixels, 1,275 pixels and 49 lags belong together.
ROW, COL = np.triu_indices(WINDOW)
N_PIXELS = len(ROW)
LAG = COL - ROW  # (1275,), 0..49
# How many pixels of the window a pixel of the triangle stands for: itself and its mirror image.
MULTIPLICITY = np.where(LAG == 0, 1.0, 2.0).astype(np.float32)
# (50, 50): where each pixel of the window stands in the triangle.
TRIANGLE_INDEX = np.empty((WINDOW, WINDOW), np.int64)
TRIANGLE_INDEX[ROW, COL] = TRIANGLE_INDEX[COL, ROW] = np.arange(N_PIXELS)
# (1275, 50): triangle @ LAG_MEANS is the mean along each diagonal, lag 0 first.
LAG_MEANS = (LAG[:, None] == np.arange(WINDOW)) / np.bincount(LAG).astype(np.float32)


def to_triangle(windows: Array) -> Array:
    """Return the upper triangle (n, 1275), row by row, of symmetric windows (n, 50, 50)."""
    return windows[:, ROW, COL]


def to_windows(triangles: Array) -> Array:
    """Return the symmetric windows (n, 50, 50) of upper triangles (n, 1275)."""
    return triangles[:, TRIANGLE_INDEX]


def one_time(triangles: Array) -> Array:
    """Return g2 at the lags 1..49, shape (n, 49), of upper triangles (n, 1275)."""
    return triangles @ LAG_MEANS[:, 1:].astype(triangles.dtype)
