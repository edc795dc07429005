"""The range of the denoiser: noise and distance of windows, and what they say of a rate."""

from __future__ import annotations

import numpy as np
import pytest

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.trust_range import (
    TRUSTED_NOISE,
    WindowQuality,
    range_reasons,
    window_quality,
)


def noisy_c2(n: int, noise: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    frame = np.arange(n)
    upper = np.triu(noise * rng.standard_normal((n, n)), 1)
    return 1 + 0.2 * np.exp(-0.1 * np.abs(frame[:, None] - frame)) + upper + upper.T


def reason_of(**changed: float | bool) -> str:
    one = {"rate": 0.05, "converged": True, "noise": 0.5, "distance": 0.5} | changed
    return str(
        range_reasons(
            np.array([one["rate"]]),
            converged=np.array([one["converged"]]),
            noise=np.array([one["noise"]]),
            distance=np.array([one["distance"]]),
        )[0]
    )


def test_the_noise_is_that_of_one_entry_in_units_of_the_contrast():
    c2 = np.stack([noisy_c2(120, 0.02), noisy_c2(120, 0.3)])
    quality = window_quality(c2, contrast=[0.2, 0.2], baseline=1.0)
    np.testing.assert_allclose(quality.noise[0], 0.1, rtol=0.1)
    np.testing.assert_allclose(quality.noise[1], 1.5, rtol=0.1)
    assert np.isnan(quality.distance).all()


def test_the_windows_reach_the_last_frame():
    quality = window_quality(noisy_c2(103, 0.1), contrast=0.2, baseline=1.0)
    np.testing.assert_array_equal(quality.start, [*range(0, 51, 5), 53])


def test_a_series_shorter_than_a_window_has_none_and_nothing_is_known_of_its_ages():
    quality = window_quality(noisy_c2(30, 0.1), contrast=0.2, baseline=1.0)
    noise, distance = quality.at_ages(np.arange(30.0))
    assert noise.shape == (1, 30)
    assert np.isnan(noise).all()
    assert np.isnan(distance).all()


def test_a_roi_without_a_scale_has_no_noise_and_gaps_do_not_matter():
    c2 = np.stack([noisy_c2(80, 0.1)] * 2)
    c2[1, 7] = c2[1, :, 7] = np.nan
    quality = window_quality(c2, contrast=[np.nan, 0.2], baseline=1.0)
    assert np.isnan(quality.noise[0]).all()
    np.testing.assert_allclose(quality.noise[1], 0.5, rtol=0.1)


def test_the_distance_sees_scaled_windows_and_their_noise():
    seen = []

    def distance(windows, noise):
        seen.append((windows, noise))
        return windows.mean(axis=(1, 2))

    c2 = noisy_c2(60, 0.1)
    quality = window_quality(c2, contrast=0.2, baseline=1.0, distance=distance)
    windows, noise = seen[0]
    assert windows.dtype == np.float32
    np.testing.assert_allclose(windows[0, 0, 1:], (c2[0, 1:50] - 1) / 0.2 + 1, rtol=1e-5)
    np.testing.assert_array_equal(noise, quality.noise[0])
    np.testing.assert_array_equal(quality.distance[0], windows.mean(axis=(1, 2)))


def test_an_age_takes_the_mean_of_the_windows_that_hold_it():
    quality = WindowQuality(
        start=np.array([0, 5, 10]),
        window=10,
        noise=np.array([[1.0, 2.0, 6.0]]),
        distance=np.array([[1.0, np.nan, 3.0]]),
    )
    noise, distance = quality.at_ages(np.array([0.0, 4.0, 5.0, 9.0, 10.0, 19.0, 20.0]))
    np.testing.assert_allclose(noise[0], [1, 1, 1.5, 1.5, 4, 6, np.nan])
    np.testing.assert_allclose(distance[0], [1, 1, 1, 1, 3, 3, np.nan])


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, ""),
        ({"rate": 0.009}, "out_of_range"),
        ({"rate": 0.16}, "out_of_range"),
        ({"rate": np.nan, "converged": False}, "not_converged"),
        ({"noise": 1.01 * TRUSTED_NOISE}, "too_noisy"),
        ({"distance": 1.01}, "unlike_training"),
        ({"noise": np.nan, "distance": np.nan}, ""),
        ({"rate": 0.5, "noise": 9.0, "distance": 9.0}, "out_of_range"),
    ],
)
def test_the_gravest_reason_is_named_and_what_is_not_known_is_none(changed, reason):
    assert reason_of(**changed) == reason


def test_a_window_that_cannot_slide_is_refused():
    with pytest.raises(InvalidInputError, match="Window: got window 50 and step 0"):
        window_quality(noisy_c2(60, 0.1), contrast=0.2, baseline=1.0, step=0)
