"""The range of the denoiser on whole series: which of their rows may claim to be in it."""

from __future__ import annotations

import numpy as np
import pytest

from xpcs_live_denoise import analyse_c2

N_FRAMES, N_PIXELS = 150, 2000


def moving_field(rng: np.random.Generator, rate: float) -> np.ndarray:
    """Speckle field (n, pixels) of unit intensity whose g1 is exp(-rate lag)."""
    field = np.empty((N_FRAMES, N_PIXELS), complex)
    draw = rng.standard_normal((N_FRAMES, N_PIXELS, 2)) @ np.array([1, 1j]) / np.sqrt(2)
    field[0], keep = draw[0], np.exp(-rate)
    for t in range(1, N_FRAMES):
        field[t] = keep * field[t - 1] + np.sqrt(1 - keep**2) * draw[t]
    return field


def correlated(counts: np.ndarray) -> np.ndarray:
    """Return the C2 of counts (n, pixels)."""
    frames = counts / counts.mean(axis=1, keepdims=True)
    return frames @ frames.T / N_PIXELS


def reasons_of(counts: np.ndarray) -> np.ndarray:
    """Say why each denoised age of counts (n, pixels) is not in range; "" where it is."""
    gamma = analyse_c2(correlated(counts)).gamma
    rows = gamma.select(gamma.source == "denoised")
    return np.where(rows.in_range, "", rows.reason)


@pytest.mark.parametrize("rate", [0.03, 0.08])
def test_a_simple_decay_is_in_range_at_nearly_all_ages(rate: float):
    rng = np.random.default_rng(0)
    reasons = reasons_of(rng.poisson(0.3 * np.abs(moving_field(rng, rate)) ** 2))
    assert len(reasons) > 100
    assert (reasons == "").mean() > 0.85


def test_a_network_that_makes_slow_dynamics_faster_does_not_bring_them_into_range():
    class Faster:
        def denoise(self, windows):
            lag = np.abs(np.subtract.outer(np.arange(50), np.arange(50)))
            return np.broadcast_to(1 + np.exp(-2 * 0.05 * lag), windows.shape), windows * 0

    rng = np.random.default_rng(0)
    gamma = analyse_c2(correlated(rng.poisson(np.abs(moving_field(rng, 0.008)) ** 2)),
                       ensemble=Faster()).gamma  # fmt: skip
    rows = gamma.select((gamma.source == "denoised") & gamma.converged)
    assert np.median(rows.relaxation_rate) == pytest.approx(0.05, rel=0.2)
    assert set(rows.reason) == {"out_of_range"}


def test_a_series_without_contrast_is_out_of_range():
    rng = np.random.default_rng(0)
    assert (reasons_of(rng.poisson(1.0, (N_FRAMES, N_PIXELS))) != "").all()
