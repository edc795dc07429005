"""g2 from C2: plain means along diagonals, and errors that hold for correlated entries."""

from __future__ import annotations

import numpy as np
import pytest

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.g2 import g2_from_c2


def speckle_c2(rng, n_frames: int, n_pixels: int, rate: float) -> np.ndarray:
    """C2 of Gaussian speckle whose field decays as exp(-rate lag), so g2 - 1 = exp(-2 rate lag)."""
    kept = np.exp(-rate)
    fresh = rng.standard_normal((n_frames, n_pixels, 2)).view(complex)[..., 0] / np.sqrt(2)
    field = fresh.copy()
    for t in range(1, n_frames):
        field[t] = kept * field[t - 1] + np.sqrt(1 - kept**2) * fresh[t]
    intensity = np.abs(field) ** 2
    intensity /= intensity.mean(axis=1, keepdims=True)
    return intensity @ intensity.T / n_pixels


def test_g2_is_the_mean_along_each_diagonal_and_ignores_gaps():
    rng = np.random.default_rng(0)
    c2 = rng.random((2, 40, 40))
    c2[1, 7], c2[1, :, 7] = np.nan, np.nan
    g2, error, n_used = g2_from_c2(c2)
    for roi in range(2):
        for lag in range(1, 40):
            diagonal = np.diagonal(c2[roi], lag)
            assert n_used[roi, lag - 1] == np.isfinite(diagonal).sum()
            assert g2[roi, lag - 1] == pytest.approx(np.nanmean(diagonal), rel=1e-12)
    assert (error[np.isfinite(error)] > 0).all()


def test_a_shorter_longest_lag_gives_the_same_values():
    c2 = np.random.default_rng(1).random((2, 60, 60))
    np.testing.assert_array_equal(g2_from_c2(c2, 12)[0], g2_from_c2(c2)[0][:, :12])
    assert g2_from_c2(c2, 400)[0].shape == (2, 59)


def test_the_error_of_independent_entries_is_that_of_a_plain_mean():
    c2 = 1 + 0.2 * np.random.default_rng(2).standard_normal((1, 300, 300))
    _, error, n_used = g2_from_c2(c2, 200)
    np.testing.assert_allclose(error, 0.2 / np.sqrt(n_used), rtol=0.25)
    assert np.median(error / (0.2 / np.sqrt(n_used))) == pytest.approx(1.0, abs=0.08)


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5])
def test_the_error_is_the_scatter_between_repeated_series(rate):
    rng = np.random.default_rng(11)
    runs = [g2_from_c2(speckle_c2(rng, 150, 60, rate), 120) for _ in range(120)]
    g2 = np.array([run[0][0] for run in runs])
    error = np.array([run[1][0] for run in runs])
    at = np.array([1, 3, 10, 30, 80, 120]) - 1
    ratio = np.sqrt((error**2).mean(axis=0))[at] / g2.std(axis=0)[at]
    assert ratio.min() > 0.75
    assert ratio.max() < 1.4


def test_std_over_root_n_would_be_far_too_small():
    c2 = speckle_c2(np.random.default_rng(3), 300, 100, 0.02)
    _, error, _ = g2_from_c2(c2, 5)
    diagonal = np.diagonal(c2, 1)
    assert error[0, 0] > 3 * diagonal.std() / np.sqrt(len(diagonal))


def test_gaps_change_the_error_little():
    c2 = speckle_c2(np.random.default_rng(4), 200, 100, 0.1)
    whole = g2_from_c2(c2, 50)[1]
    for frame in (20, 21, 90, 150):
        c2[frame], c2[:, frame] = np.nan, np.nan
    np.testing.assert_allclose(g2_from_c2(c2, 50)[1], whole, rtol=0.3)


def test_noise_free_input_has_an_error_of_zero():
    lag = np.abs(np.subtract.outer(np.arange(30.0), np.arange(30.0)))
    _, error, _ = g2_from_c2(1 + np.exp(-0.1 * lag), 20)
    np.testing.assert_allclose(error, 0.0, atol=1e-12)


def test_a_roi_without_values_gives_nan_and_no_warning():
    g2, error, n_used = g2_from_c2(np.full((1, 20, 20), np.nan))
    assert np.isnan(g2).all()
    assert np.isnan(error).all()
    assert not n_used.any()


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_the_shortest_series_work(n):
    g2, error, n_used = g2_from_c2(np.ones((2, n, n)))
    assert g2.shape == error.shape == n_used.shape == (2, max(n - 1, 0))


def test_a_longest_lag_below_1_is_refused():
    with pytest.raises(InvalidInputError, match="got max_lag 0; expected at least 1"):
        g2_from_c2(np.ones((9, 9)), 0)
