"""The range of the denoiser: the noise of windows, and what it says of a rate."""

from __future__ import annotations

import numpy as np
import pytest

from xpcs_live_denoise.numerics.coarsening import TRUSTED_NOISE, noise_at_ages, range_reasons
from xpcs_live_denoise.numerics.windows import WindowScaling


def noisy_c2(n: int, noise: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    frame = np.arange(n)
    upper = np.triu(noise * rng.standard_normal((n, n)), 1)
    return 1 + 0.2 * np.exp(-0.1 * np.abs(frame[:, None] - frame)) + upper + upper.T


def scaled(*contrast: float, **fields) -> WindowScaling:
    return WindowScaling(contrast=np.array(contrast), baseline=np.ones(len(contrast)), **fields)


def test_the_noise_is_that_of_one_entry_in_units_of_the_contrast():
    c2 = np.stack([noisy_c2(120, 0.02), noisy_c2(120, 0.3)])
    noise = noise_at_ages(c2, scaled(0.2, 0.2), np.arange(120.0))
    np.testing.assert_allclose(noise[0], 0.1, rtol=0.1)
    np.testing.assert_allclose(noise[1], 1.5, rtol=0.1)


def test_the_windows_reach_the_last_frame_and_no_age_beyond():
    noise = noise_at_ages(noisy_c2(103, 0.1), scaled(0.2), np.array([-1.0, 0.0, 102.0, 103.0]))
    np.testing.assert_array_equal(np.isfinite(noise[0]), [False, True, True, False])


def test_a_series_shorter_than_a_window_has_none_and_nothing_is_known_of_its_ages():
    noise = noise_at_ages(noisy_c2(30, 0.1), scaled(0.2), np.arange(30.0))
    assert noise.shape == (1, 30)
    assert np.isnan(noise).all()


def test_a_roi_without_a_scale_has_no_noise_and_gaps_do_not_matter():
    c2 = np.stack([noisy_c2(80, 0.1)] * 2)
    c2[1, 7] = c2[1, :, 7] = np.nan
    noise = noise_at_ages(c2, scaled(np.nan, 0.2), np.arange(80.0))
    assert np.isnan(noise[0]).all()
    np.testing.assert_allclose(noise[1], 0.5, rtol=0.1)


def test_an_age_takes_the_mean_of_the_windows_that_hold_it():
    c2 = noisy_c2(20, 0.1)
    c2[10:, 10:] = noisy_c2(10, 0.4, seed=1)
    scaling = scaled(0.2, window=10, step=5)
    alone = [
        noise_at_ages(c2, scaled(0.2, window=10, step=5), np.array([age]))[0, 0]
        for age in (0.0, 19.0)
    ]
    first, both, middle, last = noise_at_ages(c2, scaling, np.array([4.0, 5.0, 9.0, 15.0]))[0]
    assert (first, last) == (alone[0], alone[1])
    assert both == middle
    assert first < both


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, ""),
        ({"rate": 0.019}, "out_of_range"),
        ({"rate": 0.16}, "out_of_range"),
        ({"rate": np.nan}, "rate_unknown"),
        ({"rate": np.nan, "converged": False}, "not_converged"),
        ({"noise": 1.01 * TRUSTED_NOISE}, "too_noisy"),
        ({"noise": np.nan}, ""),
        ({"rate": 0.5, "noise": 9.0}, "out_of_range"),
        ({"rate": 0.007, "factor": 8}, ""),
        ({"rate": 0.007, "factor": 2}, "out_of_range"),
        ({"rate": 0.02, "factor": 8}, "out_of_range"),
        ({"rate": 0.005, "factor": 8}, "out_of_range"),
    ],
)
def test_the_gravest_reason_is_named_and_what_is_not_known_is_none(changed, reason):
    one = {"rate": 0.05, "converged": True, "noise": 0.5, "factor": 1} | changed
    found = range_reasons(
        np.array([one["rate"]]),
        converged=np.array([one["converged"]]),
        noise=np.array([one["noise"]]),
        factor=one["factor"],
    )
    assert found.tolist() == [reason]


def test_a_noise_that_nobody_knows_is_no_reason_for_any_row():
    assert not range_reasons(np.full(3, 0.05), converged=np.ones(3, bool)).any()
