"""One window of C2 as the denoiser takes it: no diagonal, no gaps, scaled; and the way back."""

# numpy's stubs leave the types of arange, indices and the like unknown.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xpcs_live_denoise.records.results import FloatArray


def window_inputs(
    windows: FloatArray,
    starts: NDArray[np.int64],
    rois: NDArray[np.int64],
    *,
    contrast: NDArray[np.float64],
    baseline: NDArray[np.float64],
    seed: int,
) -> NDArray[np.float32]:
    """Replace the diagonal and the gaps of windows, and scale them: (C2 - baseline*)/beta* + 1.

    The diagonal (lag 0) takes values drawn at random from the window's own lag-1 values. A NaN
    takes a value drawn from the finite values of its lag; where a lag has none, from the nearest
    lag that has some; where the window has none, the baseline. The generator of the draws is keyed
    by (seed, ROI, start of the window): it does not matter when or beside which others a window is
    prepared.

    Parameters
    ----------
    windows
        Shape (m, w, w), C2; the upper triangle is what is drawn from.
    starts, rois
        Shape (m,): first frame of each window and index of its ROI.
    contrast, baseline
        Shape (m,): beta* and baseline* of each window.
    seed
        Any integer.

    Returns
    -------
    NDArray
        Shape (m, w, w), float32.

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
    draws = np.stack([generator.random(width) for generator in generators])  # (m, w)
    diagonal = np.arange(width)
    lag_1 = np.diagonal(values, offset=1, axis1=1, axis2=2)  # (m, w - 1)
    values[:, diagonal, diagonal] = _draw(lag_1, draws)
    gaps = np.flatnonzero(np.isnan(values).any(axis=(1, 2)))
    if gaps.size:
        draws = np.stack([generators[i].random((width - 1, width)) for i in gaps])
        values[gaps] = _fill(values[gaps], draws, baseline[gaps])
    scale = contrast[:, np.newaxis, np.newaxis]
    return ((values - baseline[:, np.newaxis, np.newaxis]) / scale + 1).astype(np.float32)


def restore(
    mean: FloatArray,
    spread: FloatArray,
    *,
    contrast: NDArray[np.float64],
    baseline: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Undo the scaling of a denoiser's output.

    Parameters
    ----------
    mean, spread
        Shape (m, w, w), scaled.
    contrast, baseline
        Shape (m,).

    Returns
    -------
    NDArray
        Shape (2, m, w, w): mean and spread in units of C2.
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
    lags = np.arange(1, width)[:, np.newaxis]  # (w - 1, 1)
    rows = np.arange(width - 1)  # (w - 1,)
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
