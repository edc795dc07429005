"""Simulated windows have the g2 they were made with, and the form of measured ones."""

from __future__ import annotations

import numpy as np
import pytest

from xpcs_live_denoise.denoising.model import LAG, one_time
from xpcs_live_denoise.denoising.training.data import simulate_windows
from xpcs_live_denoise.errors import InvalidInputError


def test_the_mean_of_many_inputs_is_that_of_their_targets():
    data = simulate_windows(400, seed=3)
    difference = one_time(data.c2 - data.target)  # (400, 49)
    error = difference.std(axis=0) / np.sqrt(400)
    # Normalising by the mean of 900 speckles takes about 1 / 900 from C2.
    assert (np.abs(difference.mean(axis=0)) < 4 * error + 0.005).all()


def test_noise_runs_from_clean_to_noisier_than_the_contrast():
    data = simulate_windows(200, seed=4)
    noise = (data.c2 - data.target).std(axis=1)
    assert noise.min() < 0.25
    assert noise.max() > 2
    assert np.ptp(one_time(data.target)[:, 0]) > 0.5  # slow ones and fast ones


def test_the_same_seed_gives_the_same_windows():
    first, again, other = (simulate_windows(5, seed=seed).c2 for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.isclose(first, other).any(axis=1).all()


def test_the_diagonal_holds_values_of_lag_1():
    window = simulate_windows(1, seed=0).c2[0]
    assert np.isin(window[LAG == 0], window[LAG == 1]).all()


def test_no_windows_cannot_be_simulated():
    with pytest.raises(InvalidInputError, match="n is 0; expected at least 1"):
        simulate_windows(0)
