"""Training sees every measured input, and synthetic ones with the same noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.window_series import write_series
from xpcs_live_denoise.denoising.model import LAG
from xpcs_live_denoise.denoising.training.data import load_windows
from xpcs_live_denoise.denoising.training.methods import Recipe, Samples, random_curves


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_series(tmp_path_factory.mktemp("data") / "training.npz", seed=1)


def test_random_curves_are_kww_curves_with_lag_1_repeated():
    curves = random_curves(500, torch.Generator().manual_seed(0)).numpy()
    np.testing.assert_array_equal(curves[:, 0], curves[:, 1])
    assert (np.diff(curves[:, 1:], axis=1) <= 1e-6).all()
    assert ((curves > 0.9) & (curves < 2.8)).all()
    decay = (curves[:, 1] - curves[:, 49]) / curves[:, 1]
    assert np.ptp(decay) > 0.4  # slow ones and fast ones


def test_batches_are_half_synthetic_and_see_every_input_once_an_epoch(training: Path):
    data = load_windows(training)
    recipe = Recipe(batch=8, noise_spread=0)
    samples = Samples.of(data)
    batches = list(samples.epoch(recipe, torch.Generator().manual_seed(0)))
    assert {(tuple(x.shape), tuple(y.shape)) for x, y in batches} == {((8, 1275), (8, 50))}
    measured = torch.cat([x[:4] + y[:4, LAG] for x, y in batches]).numpy()
    assert_same_rows(measured, data.c2)
    synthetic = torch.cat([x[4:] for x, _ in batches])
    assert all((row == samples.noise).all(dim=1).any() for row in synthetic)


def assert_same_rows(got: np.ndarray, expected: np.ndarray) -> None:
    orders = (np.argsort(rows[:, 0]) for rows in (got, expected))
    pairs = zip((got, expected), orders, strict=True)
    np.testing.assert_allclose(*(rows[order] for rows, order in pairs), atol=1e-5)


def test_noise_is_made_larger_and_smaller_by_the_spread(training: Path):
    samples = Samples.of(load_windows(training))

    def sizes(spread: float) -> np.ndarray:
        recipe = Recipe(batch=8, synthetic=0, noise_spread=spread)
        batches = samples.epoch(recipe, torch.Generator().manual_seed(0))
        return torch.cat([noise.std(dim=1) for noise, _ in batches]).numpy()

    assert np.log(sizes(0.4)).std() == pytest.approx(0.4, abs=0.08)
    assert np.log(sizes(0.0)).std() < 0.05


def test_the_noise_of_synthetic_inputs_is_that_of_the_measured_ones(training: Path):
    noise = Samples.of(load_windows(training)).noise.numpy()
    assert noise.std() == pytest.approx(0.5, rel=0.02)  # as `write_series` made it
