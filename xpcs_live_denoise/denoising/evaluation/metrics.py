"""How far denoised windows are from the truth: Eq. 8, and a truth that excludes the input."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xpcs_live_denoise.denoising.training import WindowData
from xpcs_live_denoise.numerics.fits import fit_g2
from xpcs_live_denoise.numerics.windows import MULTIPLICITY, WINDOW, one_time
from xpcs_live_denoise.records.results import GammaTable
from xpcs_live_denoise.records.types import Array


def errors(c2: Array, truth: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return cost and MSE(1TCF), each of shape (n,), of triangles (n, 1275) against others.

    cost = MSE over the 2,500 pixels of C2 + MSE over the lags 1..49 of g2, Eq. 8 of Konstantinova
    et al. 2021; the second term alone is the MSE(1TCF).
    """
    mse_g2 = _mse_g2(c2, truth)
    return _mse(c2, truth) + mse_g2, mse_g2


def disjoint_truth(data: WindowData) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the mean of the cuts that share no frame with each input, and where there are any.

    Shapes (n, 1275), 0 where there is no such cut, and (n,). Consecutive cuts of a series overlap
    by half a window, so those are the cuts whose `window` differs by 2 or more. Other than the
    target, this truth holds nothing of the input's noise.
    """
    series, cut = data.target_index, data.window - data.window.min()
    key = series * (cut.max() + 3) + cut + 1  # a free place between one series and the next
    keys, group = np.unique(key, return_inverse=True)
    sums = np.zeros((len(keys), data.c2.shape[1]))
    np.add.at(sums, group, data.c2)
    counts = np.bincount(group).astype(np.float64)
    total = np.zeros((len(data.target), data.c2.shape[1]))
    np.add.at(total, series, data.c2)
    total, n = total[series], data.n_cuts[series].astype(np.float64)
    for near in (-1, 0, 1):
        place = np.searchsorted(keys, key + near).clip(max=len(keys) - 1)
        there = keys[place] == key + near
        total -= np.where(there[:, None], sums[place], 0)
        n -= np.where(there, counts[place], 0)
    known = n > 0
    return np.where(known[:, None], total / np.maximum(n, 1)[:, None], 0).astype(np.float32), known


def improved(c2: Array, data: WindowData) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which denoised windows are nearer to the frame-disjoint truth than the raw ones.

    By the MSE over all pixels, and by the MSE(1TCF), which is the harder test: g2 is an average
    already. Shape (number of inputs that have such a truth,).
    """
    truth, known = disjoint_truth(data)
    truth, denoised, raw = truth[known], c2[known], data.c2[known]
    by_c2 = _mse(denoised, truth) < _mse(raw, truth)
    return by_c2, _mse_g2(denoised, truth) < _mse_g2(raw, truth)


def summary(c2: Array, data: WindowData) -> dict[str, float | int | None]:
    """Return means and medians of `errors` and the fractions of improved windows, JSON-ready.

    The fractions are None for the raw inputs themselves, and where no input has a frame-disjoint
    truth.
    """
    cost, mse_g2 = errors(c2, data.targets)
    by_c2, by_g2 = improved(c2, data)
    compared = c2 is not data.c2 and len(by_c2) > 0
    return {
        "n": len(data),
        "cost": float(cost.mean()),
        "cost_median": float(np.median(cost)),
        "mse_g2": float(mse_g2.mean()),
        "mse_g2_median": float(np.median(mse_g2)),
        "n_frame_disjoint": len(by_c2),
        "improved_fraction": float(by_c2.mean()) if compared else None,
        "improved_fraction_g2": float(by_g2.mean()) if compared else None,
    }


def _mse(c2: Array, truth: Array) -> NDArray[np.float64]:
    """Return the mean square difference over all pixels of the windows, shape (n,)."""
    return (((c2 - truth) ** 2) @ MULTIPLICITY).astype(np.float64) / WINDOW**2


def _mse_g2(c2: Array, truth: Array) -> NDArray[np.float64]:
    """Return the mean square difference of the g2 over the lags 1..49, shape (n,)."""
    return np.mean((one_time(c2) - one_time(truth)).astype(np.float64) ** 2, axis=1)


# Entries of C2 behind each lag 1..49 of a window's g2: the weights of every weighted fit here.
LAG_WEIGHTS = (WINDOW - np.arange(1, WINDOW)).astype(np.float64)


def weighted_fit(c2: Array) -> GammaTable:
    """Fit g2 of triangles (n, 1275), weights 50 - lag, all parameters free; rates per frame."""
    return fit_g2(one_time(c2).astype(np.float64), weights=LAG_WEIGHTS)
