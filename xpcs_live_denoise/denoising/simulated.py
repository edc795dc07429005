"""Windows of simulated speckle with known g2: training data where no measured data are at hand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.kww import kww
from xpcs_live_denoise.numerics.windows import window_inputs
from xpcs_live_denoise.numerics.simulate import simulate_speckle
from xpcs_live_denoise.numerics.windows import WINDOW

from .data import WindowData
from .triangle import LAG, to_triangle

SIDE = 30  # pixels: 900 speckles limit C2 as the ROIs of a real detector do
GAMMA_RANGE = (0.004, 0.6)  # per frame, uniform in the logarithm
ALPHA_WIDTH, ALPHA_RANGE = 0.3, (0.5, 2.0)  # of ln alpha about 0; random fields have at most 2
NOISE_RANGE = (0.1, 3.0)  # of an entry of C2 by photons, in contrasts, uniform in the logarithm


def simulate_windows(n: int, *, seed: int = 0) -> WindowData:
    """Simulate windows, each the start of a series of its own, with its exact g2 as the target.

    The noise is that of `simulate_speckle`: photons, which make entries of C2 fluctuate
    independently by about 1 / (mean counts sqrt(pixels)), and the finite number of speckles, which
    makes neighbours fluctuate together.

    Parameters
    ----------
    n
        Number of windows.
    seed
        The same seed gives the same windows.

    Returns
    -------
    WindowData
        Contrast 1 over a baseline of 1; every window is an experiment of its own.

    Raises
    ------
    InvalidInputError
        When n is not positive.
    """
    if n < 1:
        raise InvalidInputError(f"simulate_windows: n is {n}; expected at least 1.")
    rng = np.random.default_rng([seed, WINDOW])
    gamma = _log_uniform(rng, GAMMA_RANGE, n)
    alpha = np.exp(rng.normal(0, ALPHA_WIDTH, n)).clip(*ALPHA_RANGE)
    counts = 1 / (_log_uniform(rng, NOISE_RANGE, n) * SIDE)  # a pixel and frame
    seeds = rng.integers(0, 2**31, n)
    c2 = np.stack(
        [_c2(*numbers) for numbers in zip(gamma, alpha, counts, seeds, strict=True)]
    )  # (n, 50, 50)
    ones, rows = np.ones(n), np.arange(n)
    inputs = window_inputs(c2, np.zeros_like(rows), rows, contrast=ones, baseline=ones, seed=seed)
    lag = np.arange(WINDOW).clip(1)  # lag 0 repeats lag 1, as in the inputs
    curves = kww(lag, gamma[:, None], alpha[:, None], 1.0, 1.0)  # (n, 50)
    return WindowData(
        c2=to_triangle(inputs),
        target=curves[:, LAG].astype(np.float32),
        target_index=rows,
        window=np.zeros_like(rows),
        experiment=rows,
    )


def _log_uniform(
    rng: np.random.Generator, limits: tuple[float, float], n: int
) -> NDArray[np.float64]:
    return np.exp(rng.uniform(np.log(limits[0]), np.log(limits[1]), n))


def _c2(gamma: float, alpha: float, counts: float, seed: int) -> NDArray[np.float64]:
    """Return C2 of one series of 50 frames; a frame without counts is a row and column of NaN."""
    frames = simulate_speckle(
        (SIDE, SIDE),
        WINDOW,
        relaxation_rate=gamma,
        alpha=alpha,
        mean_counts=counts,
        seed=int(seed),
    )
    pixels = np.concatenate(list(frames)).reshape(WINDOW, -1).astype(np.float64)
    mean = pixels.mean(axis=1, keepdims=True)
    scaled = pixels / np.where(mean > 0, mean, np.nan)
    return scaled @ scaled.T / pixels.shape[1]
