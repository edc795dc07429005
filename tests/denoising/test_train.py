"""Training is deterministic, learns, chooses honestly and writes a complete card."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.window_series import write_series
from xpcs_live_denoise.denoising.ensemble import CARD_NAME, WEIGHTS_NAME, load_ensemble
from xpcs_live_denoise.denoising.inference import is_tied, stack_members
from xpcs_live_denoise.denoising.model import CnnEncoderDecoder, TiedEncoderDecoder
from xpcs_live_denoise.denoising.training.data import load_windows, simulate_windows
from xpcs_live_denoise.denoising.training.member import Choice, experiments_of, train_member
from xpcs_live_denoise.denoising.training.methods import PaperRecipe, Recipe, set_linear_start
from xpcs_live_denoise.denoising.training.train import (
    LOG_NAME,
    TrainingProgress,
    train,
    training_data,
)
from xpcs_live_denoise.errors import InvalidInputError

SHORT = Recipe(epochs=2, batch=8)


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
    _, epochs = train_member(load_windows(training), Recipe(epochs=5, batch=8), seed=0)
    assert [e.epoch for e in epochs] == [1, 2, 3, 4, 5]
    assert epochs[-1].loss < 0.9 * epochs[0].loss


def test_training_beats_the_linear_start_on_other_data(training: Path, validation: Path):
    data, choice = load_windows(training), Choice.of(load_windows(validation))
    start = TiedEncoderDecoder(generator=torch.Generator().manual_seed(0))
    set_linear_start(start, data, SHORT.offset)
    trained, _ = train_member(data, Recipe(epochs=5, batch=8), seed=0)
    assert cost_of(trained, choice) < cost_of(start.untied(), choice)


def cost_of(network: CnnEncoderDecoder, choice: Choice) -> float:
    pixels = torch.from_numpy(choice.choosing.c2).unsqueeze(1)
    with torch.no_grad():
        return choice.score(network(pixels).squeeze(1).numpy())[0]


def test_the_network_of_the_lowest_validation_cost_is_kept_and_training_ends(
    training: Path, validation: Path
):
    data, choice = load_windows(training), Choice.of(load_windows(validation))
    wild = Recipe(epochs=40, patience=2, batch=8, learning_rate=0.02, warm_up=0)
    network, epochs = train_member(data, wild, seed=0, choice=choice)
    costs = [e.cost for e in epochs]
    best = int(np.argmin(costs))
    assert len(epochs) == best + 1 + wild.patience < wild.epochs
    assert epochs[best].best
    assert not any(e.best for e in epochs[best + 1 :])
    assert cost_of(network, choice) == pytest.approx(costs[best], rel=1e-4)
    assert cost_of(network, choice) != pytest.approx(costs[-1], rel=1e-4)


def test_the_papers_recipe_learns_and_is_untied(training: Path):
    recipe = PaperRecipe(epochs=8, learning_rate=1e-3)
    network, epochs = train_member(load_windows(training), recipe, seed=0)
    assert epochs[-1].loss < 0.5 * epochs[0].loss
    assert not is_tied(stack_members([network]))


@pytest.mark.parametrize("recipe", [SHORT, PaperRecipe(epochs=2)])
def test_a_line_of_the_log_is_an_epoch_of_a_network(
    training: Path, validation: Path, tmp_path: Path, recipe: Recipe | PaperRecipe
):
    for _ in range(2):  # a second training in the same folder starts a new log
        train(training, tmp_path, validation=validation, members=1, recipe=recipe, seed=5)
    lines = [json.loads(line) for line in (tmp_path / LOG_NAME).read_text().splitlines()]
    assert [(line["candidate"], line["seed"], line["epoch"]) for line in lines] == [
        (0, 5, 1),
        (0, 5, 2),
        (1, 6, 1),
        (1, 6, 2),
    ]
    assert all(line["loss"] > 0 and line["cost"] > line["mse_g2"] > 0 for line in lines)
    card = json.loads((tmp_path / CARD_NAME).read_text())
    assert [c["loss"] for c in card["candidates"]] == [
        [line["loss"] for line in lines[:2]],
        [line["loss"] for line in lines[2:]],
    ]
    assert card["recipe"]["kind"] == type(recipe).__name__


def test_simulated_windows_are_enough_to_train_on(tmp_path: Path):
    data, other = simulate_windows(80, seed=1), simulate_windows(40, seed=2)
    made = train(data, tmp_path, validation=other, members=1, candidates=1, recipe=SHORT)
    assert made.info["trained_on"]["file"] == "simulated"
    held_out = made.info["metrics"]["held_out"]
    assert held_out["cnn"]["cost"] < 0.2 * held_out["raw"]["cost"]


@pytest.mark.parametrize(
    ("data", "simulated", "message"),
    [
        (None, False, "neither a data file nor --simulated"),
        (Path("x.npz"), True, "a data file and --simulated"),
    ],
)
def test_training_data_are_a_file_or_simulated(data: Path | None, simulated: bool, message: str):
    with pytest.raises(InvalidInputError, match=message):
        training_data(data, None, simulated=simulated, seed=0)


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


def test_progress_is_reported_after_every_epoch(training: Path, tmp_path: Path):
    seen: list[TrainingProgress] = []
    threads = torch.get_num_threads()
    train(training, tmp_path, members=2, recipe=SHORT, progress=seen.append)
    assert [(p.candidate, p.epoch.epoch) for p in seen] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert all(p.n_candidates == 2 and p.n_epochs == 2 and p.epoch.loss > 0 for p in seen)
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


def test_validation_is_divided_by_experiment(validation: Path):
    choice = Choice.of(load_windows(validation))
    assert choice.held_out is not None
    assert experiments_of(choice.choosing) == [0, 2, 4]
    assert experiments_of(choice.held_out) == [1, 3, 5]


def test_a_single_experiment_chooses_and_nothing_is_held_out(validation: Path):
    choice = Choice.of(load_windows(validation).of_experiments(np.array([2])))
    assert choice.held_out is None
    assert experiments_of(choice.choosing) == [2]
