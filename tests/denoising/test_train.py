"""Training is deterministic, learns, chooses honestly and writes a complete card."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from xpcs_live_denoise.denoising.choice import Choice, experiments_of
from xpcs_live_denoise.denoising.data import WindowData, load_windows
from xpcs_live_denoise.denoising.ensemble import CARD_NAME, WEIGHTS_NAME, load_ensemble
from xpcs_live_denoise.denoising.linear_start import (
    lag_weights,
    reduced_rank_regression,
    set_linear_start,
)
from xpcs_live_denoise.denoising.model import TRIANGLE_SHAPE, CnnEncoderDecoder
from xpcs_live_denoise.denoising.recipe import Recipe
from xpcs_live_denoise.denoising.samples import Samples, random_curves, shuffled_diagonals
from xpcs_live_denoise.denoising.train import TrainingProgress, eq8, train, train_member
from xpcs_live_denoise.denoising.triangle import LAG, LAG_MEANS, one_time
from xpcs_live_denoise.errors import InvalidInputError

SHORT = Recipe(epochs=2, batch=8)


def write_series(path: Path, seed: int, n_series: int = 24, n_cuts: int = 6) -> Path:
    """Write series of noisy KWW curves in the data format; four series are an experiment."""
    rng = np.random.default_rng(seed)
    gamma = np.exp(rng.uniform(np.log(0.01), np.log(0.2), n_series))
    curves = 1 + np.exp(-2 * gamma[:, None] * np.arange(50).clip(1))  # (n_series, 50)
    index = np.repeat(np.arange(n_series), n_cuts)
    c2 = curves[index][:, LAG] + rng.normal(0, 0.5, (len(index), 1275))
    np.savez(
        path,
        c2=c2.astype(np.float32),
        target=np.stack([c2[index == i].mean(axis=0) for i in range(n_series)]).astype(np.float32),
        target_index=index,
        window=np.tile(np.arange(n_cuts), n_series),
        experiment=np.arange(n_series) // 4,
    )
    return path


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_series(tmp_path_factory.mktemp("data") / "training.npz", seed=1)


@pytest.fixture(scope="module")
def validation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_series(tmp_path_factory.mktemp("data") / "validation.npz", seed=2)


def test_the_same_seed_gives_the_same_bits(training: Path, tmp_path: Path):
    for name in ("first", "again"):
        train(training, tmp_path / name, members=2, recipe=SHORT, seed=11)
    train(training, tmp_path / "other", members=2, recipe=SHORT, seed=12)
    first, again, other = (
        (tmp_path / name / WEIGHTS_NAME).read_bytes() for name in ("first", "again", "other")
    )
    assert first == again
    assert first != other


def test_the_loss_falls(training: Path):
    _, losses = train_member(load_windows(training), Recipe(epochs=5, batch=8), seed=0)
    assert len(losses) == 5
    assert losses[-1] < 0.8 * losses[0]


def test_training_beats_the_linear_start_on_other_data(training: Path, validation: Path):
    data, choice = load_windows(training), Choice.of(load_windows(validation))
    start = CnnEncoderDecoder(TRIANGLE_SHAPE, generator=torch.Generator().manual_seed(0))
    set_linear_start(start, data, SHORT.offset)
    trained, _ = train_member(data, Recipe(epochs=5, batch=8), seed=0)
    assert choice.score(trained) < choice.score(start)


def test_the_best_candidates_on_the_choosing_half_are_kept(
    training: Path, validation: Path, tmp_path: Path
):
    train(training, tmp_path, validation=validation, members=2, candidates=4, recipe=SHORT)
    card = json.loads((tmp_path / CARD_NAME).read_text())
    scores = {c["seed"]: c["mse_g2_choosing"] for c in card["candidates"]}
    kept = {c["seed"] for c in card["candidates"] if c["kept"]}
    assert kept == set(sorted(scores, key=scores.__getitem__)[:2])
    assert len(scores) == 4
    assert card["choice"]["experiments"] == [0, 2, 4]
    assert card["metrics"]["held_out"]["experiments"] == [1, 3, 5]
    cnn, raw = card["metrics"]["held_out"]["cnn"], card["metrics"]["held_out"]["raw"]
    assert cnn["cost"] < 0.3 * raw["cost"]
    assert cnn["improved_fraction"] > 0.9


def test_the_card_is_complete_and_the_ensemble_loads_again(training: Path, tmp_path: Path):
    notes = {"license": "BSD-3-Clause"}
    made = train(training, tmp_path, members=2, recipe=SHORT, seed=3, name="mine", notes=notes)
    card = json.loads((tmp_path / CARD_NAME).read_text())
    assert card["name"] == "mine"
    assert card["license"] == "BSD-3-Clause"
    assert card["trained_on"]["sha256"] == load_windows(training).sha256
    assert card["trained_on"]["inputs"] == 144
    assert card["recipe"]["epochs"] == 2
    assert [c["seed"] for c in card["candidates"]] == [3, 4]
    assert card["choice"] is None
    assert card["metrics"] == {}
    windows = np.ones((2, 50, 50), np.float32)
    again = load_ensemble(tmp_path)
    assert again.info == made.info
    np.testing.assert_array_equal(again.denoise(windows)[0], made.denoise(windows)[0])


def test_progress_is_reported_until_the_last_step(training: Path, tmp_path: Path):
    seen: list[TrainingProgress] = []
    threads = torch.get_num_threads()
    train(training, tmp_path, members=2, recipe=SHORT, progress=seen.append)
    last = SHORT.n_steps(144)
    assert [(p.candidate, p.step) for p in seen if p.step == p.n_steps] == [(0, last), (1, last)]
    assert all(p.n_candidates == 2 and p.loss > 0 for p in seen)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"members": 0}, "members is 0 and candidates 0"),
        ({"members": 3, "candidates": 2}, "members is 3 and candidates 2"),
        ({"members": 1, "candidates": 2}, "no validation data to choose by"),
        ({"members": 1, "recipe": Recipe(batch=1000)}, "144 inputs; expected at least 500"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(
    training: Path, tmp_path: Path, arguments: dict, message: str
):
    with pytest.raises(InvalidInputError, match=message):
        train(training, tmp_path, **arguments)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"epochs": 0}, "epochs is 0; expected a positive"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"synthetic": 1.0}, "synthetic is 1.0; expected a part"),
    ],
)
def test_a_recipe_that_cannot_train_is_refused(fields: dict, message: str):
    with pytest.raises(InvalidInputError, match=message):
        Recipe(**fields)


def test_the_learning_rate_rises_to_its_peak_and_falls_to_nothing():
    rates = [Recipe().rate(step, 1000) for step in range(1001)]
    assert np.argmax(rates) in (99, 100)
    assert max(rates) == pytest.approx(1, abs=0.01)
    assert (np.diff(rates[:100]) > 0).all()
    assert (np.diff(rates[101:]) < 0).all()
    assert rates[1000] == 0


def test_the_loss_is_eq_8_against_the_curve():
    rng = np.random.default_rng(0)
    output, curve = rng.normal(size=(3, 1275)), rng.normal(size=(3, 50))
    residual = output - curve[:, LAG]
    weight = np.where(LAG == 0, 1, 2)
    expected = (weight * residual**2).sum(axis=1) / 2500 + (one_time(residual) ** 2).mean(axis=1)
    got = eq8(torch.tensor(output).float(), torch.tensor(curve).float())
    assert got.item() == pytest.approx(expected.mean(), rel=1e-5)


def test_reduced_rank_regression_finds_a_map_of_that_rank_and_no_worse_one():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 12))
    true = rng.normal(size=(12, 3)) @ rng.normal(size=(3, 20))
    encoder, decoder = reduced_rank_regression(x, x @ true, 3, np.ones(20))
    np.testing.assert_allclose(encoder @ decoder, true, atol=1e-3)
    np.testing.assert_allclose((x @ encoder).std(axis=0), 1, rtol=0.02)


def test_the_linear_start_is_the_linear_denoiser(training: Path):
    data = load_windows(training)
    network = CnnEncoderDecoder(TRIANGLE_SHAPE, generator=torch.Generator().manual_seed(0))
    set_linear_start(network, data, offset=8.0)
    with torch.no_grad():  # what the other channels of the decoder add is no part of the claim
        network.deconv2.weight[1:] = 0
        got = network(torch.from_numpy(data.c2).unsqueeze(1)).squeeze(1).numpy()
    g2 = one_time(data.c2.astype(np.float64))
    target = (data.target @ LAG_MEANS)[data.target_index].astype(np.float64)
    encoder, decoder = reduced_rank_regression(g2, target, 8, lag_weights())
    expected = target.mean(axis=0) + (g2 - g2.mean(axis=0)) @ encoder @ decoder
    np.testing.assert_allclose(got, expected[:, LAG], atol=2e-4)


def test_shuffled_diagonals_keep_every_pixel_on_its_diagonal():
    order = shuffled_diagonals(torch.Generator().manual_seed(0)).numpy()
    np.testing.assert_array_equal(LAG[order], LAG)
    assert sorted(order) == list(range(1275))
    assert (order != np.arange(1275)).mean() > 0.8


def test_random_curves_are_kww_curves_with_lag_1_repeated():
    curves = random_curves(500, torch.Generator().manual_seed(0)).numpy()
    np.testing.assert_array_equal(curves[:, 0], curves[:, 1])
    assert (np.diff(curves[:, 1:], axis=1) <= 1e-6).all()
    assert ((curves > 0.9) & (curves < 2.8)).all()
    decay = (curves[:, 1] - curves[:, 49]) / curves[:, 1]
    assert np.ptp(decay) > 0.4  # slow ones and fast ones


def test_batches_are_half_synthetic_and_see_every_input_once_an_epoch(training: Path):
    data = load_windows(training)
    data = WindowData(  # inputs without noise are known again by their g2
        c2=data.target[data.target_index] + np.arange(144, dtype=np.float32)[:, None],
        target=data.target,
        target_index=data.target_index,
        window=data.window,
        experiment=data.experiment,
    )
    recipe = Recipe(epochs=1, batch=8)
    batches = list(Samples.of(data).batches(recipe, 36, torch.Generator().manual_seed(0)))
    assert {tuple(x.shape) for x, _ in batches} == {(8, 1275)}
    measured = np.concatenate([one_time(x.numpy()[:4]) for x, _ in batches])
    expected = one_time(data.c2)
    order = np.argsort(measured.mean(axis=1))
    np.testing.assert_allclose(
        measured[order], expected[np.argsort(expected.mean(axis=1))], rtol=1e-4
    )


def test_the_noise_of_synthetic_inputs_is_that_of_the_measured_ones(training: Path):
    noise = Samples.of(load_windows(training)).noise.numpy()
    assert noise.std() == pytest.approx(0.5, rel=0.02)  # as `write_series` made it


def test_validation_is_divided_by_experiment(validation: Path):
    choice = Choice.of(load_windows(validation))
    assert choice.held_out is not None
    assert experiments_of(choice.choosing) == [0, 2, 4]
    assert experiments_of(choice.held_out) == [1, 3, 5]


def test_a_single_experiment_chooses_and_nothing_is_held_out(validation: Path):
    choice = Choice.of(load_windows(validation).of_experiments(np.array([2])))
    assert choice.held_out is None
    assert experiments_of(choice.choosing) == [2]
