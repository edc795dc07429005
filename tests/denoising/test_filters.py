"""The filters do to triangles what they do to windows."""

from __future__ import annotations

import numpy as np
import pytest

from xpcs_live_denoise.denoising.evaluation import methods as filters
from xpcs_live_denoise.denoising.model import LAG, to_windows


@pytest.fixture(scope="module")
def noisy() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = (1 + np.exp(-0.1 * LAG))[np.newaxis].repeat(6, axis=0)
    return (truth + 0.5 * rng.normal(size=truth.shape)).astype(np.float32), truth


@pytest.mark.parametrize("denoise", [filters.gaussian, filters.median, filters.total_variation])
def test_a_filter_removes_noise_and_mixes_no_windows(denoise, noisy):
    c2, truth = noisy
    out = denoise(c2)
    assert out.shape == c2.shape
    assert np.mean((out - truth) ** 2) < 0.4 * np.mean((c2 - truth) ** 2)
    np.testing.assert_allclose(denoise(c2[:1]), out[:1], atol=1e-6)


def test_the_median_is_over_3x3_pixels_of_the_symmetric_window(noisy):
    c2, _ = noisy
    window, out = to_windows(c2)[2], to_windows(filters.median(c2))[2]
    assert out[20, 21] == np.median(window[19:22, 20:23])


def test_principal_components_keep_what_lies_in_them(noisy):
    c2, _ = noisy
    basis = np.linalg.qr(np.random.default_rng(1).normal(size=(1275, 8)))[0].T
    center = c2.mean(axis=0)
    inside = (center + basis[3] * 2.0)[np.newaxis]
    np.testing.assert_allclose(
        filters.principal_components(inside, center, basis), inside, atol=1e-6
    )
    out = filters.principal_components(c2, center, basis)
    np.testing.assert_allclose((out - c2) @ basis.T, 0, atol=1e-5)
