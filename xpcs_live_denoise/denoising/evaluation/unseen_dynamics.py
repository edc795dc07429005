"""C2 of dynamics that no network was trained on, by another simulator, and their truth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from xpcs_live_denoise.records.types import Array, FloatArray

CLASSES = ("ageing", "avalanches", "sawtooth", "two_processes", "gelation", "flow")
SIDE = 48  # pixels of the ROI, a square
SPECKLE = 2.0  # pixels, FWHM of the field's point spread
_LEAST_EIGENVALUE = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class UnseenMap:
    """One C2 of n frames, and what is known of it."""

    kind: str  # one of CLASSES
    c2: FloatArray  # (n, n)
    truth: FloatArray  # (n, n), in the mean over many pixels
    beta: float  # contrast of the truth
    rate: FloatArray | None  # (n,): Gamma per frame; None where there is no single one


def simulate_unseen(
    kind: str, n_frames: int, *, modes: int = 8, counts: float = 0.3, seed: int = 0
) -> UnseenMap:
    """Simulate pixels whose field has a prescribed correlation, and correlate them.

    The field of each incoherent mode is made of the eigenvectors of its correlation matrix g1,
    white in space, then smoothed over pixels as by a point spread; `counts` photons a pixel and
    frame are Poisson, with a readout noise of 0.05. Truth: C2 = 1 + g1^2 contrast / modes, where
    contrast and its loss are measured, not assumed (the pixels sample the speckle).
    """
    rng = np.random.default_rng(seed)
    g1, rate = _correlation(kind, n_frames, rng)
    values, vectors = np.linalg.eigh(g1)
    kept = values > _LEAST_EIGENVALUE
    root = (vectors[:, kept] * np.sqrt(values[kept])).astype(np.float32)
    root /= np.linalg.norm(root, axis=1, keepdims=True)
    g1 = (root @ root.T).astype(np.float64)  # what is simulated, if g1 was no correlation matrix
    intensity = np.zeros((n_frames, SIDE * SIDE), np.float32)
    for _ in range(2 * modes):  # real and imaginary parts
        white = rng.standard_normal((root.shape[1], SIDE, SIDE), dtype=np.float32)
        smooth = gaussian_filter(white, (0, SPECKLE / 2.355, SPECKLE / 2.355), mode="wrap")
        smooth /= smooth.std()
        intensity += (root @ smooth.reshape(len(smooth), -1)) ** 2
    intensity /= 2 * modes
    photons = rng.poisson(counts * intensity) + 0.05 * rng.standard_normal(intensity.shape)
    normal = photons / photons.mean(axis=1, keepdims=True)
    c2 = (normal @ normal.T / normal.shape[1]).astype(np.float32)
    return UnseenMap(kind=kind, c2=c2, truth=1 + g1**2 / modes, beta=1 / modes, rate=rate)


def _correlation(
    kind: str, n: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray | None]:
    """Return g1(t1, t2), (n, n), and Gamma a frame where one rate tells it."""
    time = np.linspace(0, 1, n)
    slow = math.exp(rng.uniform(math.log(0.01), math.log(0.1)))
    alpha = rng.uniform(0.8, 1.6)
    if kind == "ageing":  # as the real ageing series: tenfold slower, alpha rises
        rate = 4 * slow * np.exp(-2.3 * time)
        return _kww(rate, np.linspace(1.0, 1.5, n)), rate
    if kind == "avalanches":
        jumps = rng.random(n) < 0.03
        rate = 0.3 * slow + jumps * rng.pareto(1.5, n).clip(max=20) * 0.3
        return _kww(rate, 1.0), rate
    if kind == "sawtooth":
        period = rng.uniform(0.1, 0.4)
        rate = slow * np.exp(1.6 * ((time / period) % 1.0) - 0.8)
        return _kww(rate, alpha), rate
    if kind == "two_processes":
        share = rng.uniform(0.3, 0.7)
        fast = np.full(n, 5 * slow)
        return share * _kww(fast, 1.0) + (1 - share) * _kww(fast / 15, 1.0), None
    if kind == "gelation":
        static = np.sqrt(0.8 / (1 + np.exp(-12 * (time - rng.uniform(0.3, 0.7)))))
        moving = np.sqrt(1 - static**2)
        rate = np.full(n, 2 * slow)
        return np.outer(static, static) + np.outer(moving, moving) * _kww(rate, alpha), None
    clock = np.cumsum(np.full(n, slow))  # flow: speeds are spread evenly, g1 is a sinc
    apart = np.abs(np.subtract.outer(clock, clock))
    return np.sinc(apart), None


def _kww(rate: FloatArray, alpha: float | Array) -> FloatArray:
    clock = np.concatenate([[0.0], np.cumsum((rate[1:] + rate[:-1]) / 2)])
    exponent = np.broadcast_to(np.asarray(alpha, np.float64), rate.shape)
    apart = np.abs(np.subtract.outer(clock, clock))
    return np.exp(-(apart ** (np.add.outer(exponent, exponent) / 2)))
