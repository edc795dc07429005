"""The range of the denoiser on whole series: which of their rows may claim to be in it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from xpcs_live_denoise.denoising.ensemble import Ensemble, load_ensemble
from xpcs_live_denoise.denoising.latent import latent_distance
from xpcs_live_denoise.numerics.contrast import estimate_contrast
from xpcs_live_denoise.numerics.fits import fit_ages
from xpcs_live_denoise.numerics.trust_range import range_reasons, window_quality
from xpcs_live_denoise.numerics.windows import denoise_two_time

N_FRAMES, N_PIXELS = 300, 2000


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    return load_ensemble()


def moving_field(rng: np.random.Generator, rate: float) -> np.ndarray:
    """Speckle field (n, pixels) of unit intensity whose g1 is exp(-rate lag)."""
    field = np.empty((N_FRAMES, N_PIXELS), complex)
    draw = rng.standard_normal((N_FRAMES, N_PIXELS, 2)) @ np.array([1, 1j]) / np.sqrt(2)
    field[0], keep = draw[0], np.exp(-rate)
    for t in range(1, N_FRAMES):
        field[t] = keep * field[t - 1] + np.sqrt(1 - keep**2) * draw[t]
    return field


def c2_of(rng: np.random.Generator, *fields: np.ndarray, counts: float = 1.0) -> np.ndarray:
    """C2 of Poisson counts of the sum of fields, whose intensities add up to 1."""
    frames = rng.poisson(counts * np.abs(sum(fields)) ** 2).astype(float)
    frames /= frames.mean(axis=1, keepdims=True)
    return frames @ frames.T / N_PIXELS


def reasons_of(c2: np.ndarray, ensemble: Ensemble) -> np.ndarray:
    """Say why each age of a series is not in range, as an analysis does."""
    contrast, baseline = estimate_contrast(c2, mode="equilibrium")
    denoised = denoise_two_time(c2, ensemble, mode="equilibrium")
    rows = fit_ages(denoised.c2, beta=contrast, max_lag=44)
    distance, note = latent_distance(ensemble)
    assert distance is not None, note
    quality = window_quality(c2, contrast=contrast, baseline=baseline, distance=distance)
    noise, away = quality.at_ages(rows.age_frame)
    return range_reasons(
        rows.relaxation_rate, converged=rows.converged, noise=noise[0], distance=away[0]
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("rate", [0.02, 0.05, 0.08])
def test_a_simple_decay_is_in_range_at_nearly_all_ages(ensemble: Ensemble, rate: float, seed: int):
    rng = np.random.default_rng(seed)
    reasons = reasons_of(c2_of(rng, moving_field(rng, rate), counts=0.3), ensemble)
    assert (reasons == "").mean() > 0.85


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("frequency", [0.3, 0.8])
def test_a_heterodyne_series_is_out_of_range_and_unlike_training(
    ensemble: Ensemble, frequency: float, seed: int
):
    rng = np.random.default_rng(seed)
    flow = np.exp(1j * frequency * np.arange(N_FRAMES))[:, None]
    reference = rng.standard_normal((N_PIXELS, 2)) @ np.array([1, 1j]) / np.sqrt(2)
    fields = np.sqrt(0.5) * flow * reference, np.sqrt(0.5) * moving_field(rng, 0.03)
    reasons = reasons_of(c2_of(rng, *fields, counts=0.3), ensemble)
    assert (reasons == "").mean() < 0.1
    assert "unlike_training" in reasons


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_series_without_contrast_is_out_of_range(ensemble: Ensemble, seed: int):
    rng = np.random.default_rng(seed)
    frames = rng.poisson(1.0, (N_FRAMES, N_PIXELS)).astype(float)
    frames /= frames.mean(axis=1, keepdims=True)
    assert (reasons_of(frames @ frames.T / N_PIXELS, ensemble) != "").all()
