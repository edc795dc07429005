"""A recipe says what is minimised, from where, at which rate and with which samples."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from xpcs_live_denoise.denoising.model import TiedEncoderDecoder
from xpcs_live_denoise.denoising.training.data import load_windows
from xpcs_live_denoise.denoising.training.recipes import (
    PaperRecipe,
    Recipe,
    eq8,
    eq8_of_curves,
    lag_weights,
    random_curves,
    recipe_of,
    reduced_rank_regression,
    set_linear_start,
    training_samples,
)
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.windows import LAG, LAG_MEANS, one_time


def test_the_papers_start_is_that_of_its_network_for_whole_windows(training: Path):
    generator = torch.Generator().manual_seed(0)
    start = PaperRecipe().begin(load_windows(training), generator)[0]
    bound = math.sqrt(6 / 25_008)
    encoder = start.compress.weight.detach().view(8, 10, 1275)
    off_diagonal = encoder[..., torch.from_numpy(LAG) > 0]
    assert off_diagonal.abs().max() <= 2 * bound
    assert off_diagonal.std().item() == pytest.approx(bound * math.sqrt(2 / 3), rel=0.02)
    assert encoder[..., torch.from_numpy(LAG) == 0].abs().max() <= bound
    assert start.expand.weight.detach().std().item() == pytest.approx(
        bound / math.sqrt(3), rel=0.02
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epochs": 0}, "epochs is 0; expected a positive"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"synthetic": 1.0}, "synthetic is 1.0; expected a part"),
        ({"noise_spread": -0.1}, "noise_spread is -0.1; expected 0 <= noise_spread < 2"),
    ],
)
def test_a_recipe_that_cannot_train_is_refused(fields: dict, message: str):
    with pytest.raises(InvalidInputError, match=message):
        Recipe(**fields)


def test_a_recipe_is_found_by_name_and_may_have_other_epochs():
    assert recipe_of("own") == Recipe()
    assert recipe_of("paper", epochs=3) == PaperRecipe(epochs=3)


def test_the_learning_rate_rises_to_its_peak_and_falls_to_nothing():
    recipe = Recipe(epochs=10, batch=8, synthetic=0.5)
    rates = [recipe.rate(step, 400) for step in range(1001)]
    assert np.argmax(rates) in (99, 100)
    assert max(rates) == pytest.approx(1, abs=0.01)
    assert (np.diff(rates[:100]) > 0).all()
    assert (np.diff(rates[101:]) < 0).all()
    assert rates[1000] == 0


def test_the_papers_learning_rate_falls_with_every_epoch():
    recipe = PaperRecipe(batch=8, decay=0.5)
    assert [recipe.rate(step, 24) for step in range(7)] == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]


def test_the_loss_is_eq_8():
    rng = np.random.default_rng(0)
    output, target = rng.normal(size=(2, 3, 1275))
    residual = output - target
    weight = np.where(LAG == 0, 1, 2)
    expected = (weight * residual**2).sum(axis=1) / 2500 + (one_time(residual) ** 2).mean(axis=1)
    got = eq8(torch.tensor(output).float(), torch.tensor(target).float())
    assert got.item() == pytest.approx(expected.mean(), rel=1e-5)


def test_the_loss_of_curves_is_eq_8_of_their_windows():
    output, target = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(0))
    each = [eq8(o[None, LAG], t[None, LAG]) for o, t in zip(output, target, strict=True)]
    torch.testing.assert_close(eq8_of_curves(output, target), torch.stack(each))


def test_reduced_rank_regression_finds_a_map_of_that_rank_and_no_worse_one():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 12))
    true = rng.normal(size=(12, 3)) @ rng.normal(size=(3, 20))
    encoder, decoder = reduced_rank_regression(x, x @ true, 3, np.ones(20))
    np.testing.assert_allclose(encoder @ decoder, true, atol=1e-3)
    np.testing.assert_allclose((x @ encoder).std(axis=0), 1, rtol=0.02)


def test_the_linear_start_is_the_linear_denoiser(training: Path):
    data = load_windows(training)
    network = TiedEncoderDecoder(generator=torch.Generator().manual_seed(0))
    set_linear_start(network, data, offset=8.0)
    with torch.no_grad():  # what the other channels of the decoder add is no part of the claim
        network.weight["deconv2"][:, 1:] = 0
        got = network(torch.from_numpy(data.c2)).numpy()
    g2 = one_time(data.c2.astype(np.float64))
    target = (data.target @ LAG_MEANS)[data.target_index].astype(np.float64)
    encoder, decoder = reduced_rank_regression(g2, target, 8, lag_weights())
    expected = target.mean(axis=0) + (g2 - g2.mean(axis=0)) @ encoder @ decoder
    np.testing.assert_allclose(got, expected, atol=2e-4)


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
    samples = training_samples(data)
    batches = list(recipe.batches(samples, torch.Generator().manual_seed(0)))
    assert {(tuple(x.shape), tuple(y.shape)) for x, y in batches} == {((8, 1275), (8, 50))}
    measured = torch.cat([x[:4] + y[:4, LAG] for x, y in batches]).numpy()
    assert_same_rows(measured, data.c2)
    synthetic = torch.cat([x[4:] for x, _ in batches])
    assert all((row == samples[2]).all(dim=1).any() for row in synthetic)


def assert_same_rows(got: np.ndarray, expected: np.ndarray) -> None:
    orders = (np.argsort(rows[:, 0]) for rows in (got, expected))
    pairs = zip((got, expected), orders, strict=True)
    np.testing.assert_allclose(*(rows[order] for rows, order in pairs), atol=1e-5)


def test_noise_is_made_larger_and_smaller_by_the_spread(training: Path):
    samples = training_samples(load_windows(training))

    def sizes(spread: float) -> np.ndarray:
        recipe = Recipe(batch=8, synthetic=0, noise_spread=spread)
        batches = recipe.batches(samples, torch.Generator().manual_seed(0))
        return torch.cat([noise.std(dim=1) for noise, _ in batches]).numpy()

    assert np.log(sizes(0.4)).std() == pytest.approx(0.4, abs=0.08)
    assert np.log(sizes(0.0)).std() < 0.05


def test_the_noise_of_synthetic_inputs_is_that_of_the_measured_ones(training: Path):
    noise = training_samples(load_windows(training))[2].numpy()
    assert noise.std() == pytest.approx(0.5, rel=0.02)  # as `write_series` made it
