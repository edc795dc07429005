"""Training is deterministic, learns, chooses honestly and writes a complete card."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from xpcs_live_denoise.commands.cli import app
from xpcs_live_denoise.denoising.ensemble import (
    CARD_NAME,
    WEIGHTS_NAME,
    Ensemble,
    load_ensemble,
)
from xpcs_live_denoise.denoising.evaluation.metrics import errors
from xpcs_live_denoise.denoising.inference import is_tied, stack_members
from xpcs_live_denoise.denoising.model import CnnEncoderDecoder, TiedEncoderDecoder
from xpcs_live_denoise.denoising.training.data import WindowData, load_windows, simulate_windows
from xpcs_live_denoise.denoising.training.recipes import PaperRecipe, Recipe, set_linear_start
from xpcs_live_denoise.denoising.training.train import (
    LOG_NAME,
    Epoch,
    train,
    train_member,
    training_data,
    validation_parts,
)
from xpcs_live_denoise.errors import InvalidInputError

SHORT = Recipe(epochs=2, batch=8)


@dataclass
class Trained:
    """One training of two members, chosen from four candidates: what it returned and wrote."""

    folder: Path
    ensemble: Ensemble
    progress: list[tuple[int, int, Epoch]]

    @property
    def card(self) -> dict:
        return json.loads((self.folder / CARD_NAME).read_text())


@pytest.fixture(scope="module")
def trained(training: Path, validation: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder, seen = tmp_path_factory.mktemp("trained"), []
    (folder / LOG_NAME).write_text("the log of an earlier training in this folder\n")
    made = train(
        training,
        folder,
        validation=validation,
        members=2,
        candidates=4,
        recipe=SHORT,
        seed=3,
        name="mine",
        notes={"license": "BSD-3-Clause"},
        progress=lambda *now: seen.append(now),
    )
    return Trained(folder, made, seen)


def test_the_same_seed_gives_the_same_bits(training: Path, tmp_path: Path):
    for name, seed in (("first", 11), ("again", 11), ("other", 12)):
        train(training, tmp_path / name, members=1, recipe=Recipe(epochs=1, batch=8), seed=seed)
    first, again, other = (
        (tmp_path / name / WEIGHTS_NAME).read_bytes() for name in ("first", "again", "other")
    )
    assert first == again
    assert first != other


def test_training_lowers_the_loss_and_beats_the_linear_start_on_other_data(
    training: Path, validation: Path
):
    data, choosing = load_windows(training), choosing_part(validation)
    start = TiedEncoderDecoder(generator=torch.Generator().manual_seed(0))
    set_linear_start(start, data, SHORT.offset)
    network, epochs = train_member(data, Recipe(epochs=5, batch=8), seed=0)
    assert [e.epoch for e in epochs] == [1, 2, 3, 4, 5]
    assert epochs[-1].loss < 0.9 * epochs[0].loss
    assert cost_of(network, choosing) < cost_of(start.untied(), choosing)


def choosing_part(path: Path) -> WindowData:
    return validation_parts(load_windows(path))["choosing"]


def cost_of(network: CnnEncoderDecoder, data: WindowData) -> float:
    with torch.no_grad():
        output = network(torch.from_numpy(data.c2).unsqueeze(1)).squeeze(1).numpy()
    return errors(output, data.targets)[0].mean()


def test_the_network_of_the_lowest_validation_cost_is_kept_and_training_ends(
    training: Path, validation: Path
):
    data, choosing = load_windows(training), choosing_part(validation)
    wild = Recipe(epochs=40, patience=2, batch=8, learning_rate=0.02, warm_up=0)
    network, epochs = train_member(data, wild, seed=0, choosing=choosing)
    costs = [e.cost for e in epochs]
    best = int(np.argmin(costs))
    assert len(epochs) == best + 1 + wild.patience < wild.epochs
    assert epochs[best].best
    assert not any(e.best for e in epochs[best + 1 :])
    assert cost_of(network, choosing) == pytest.approx(costs[best], rel=1e-4)
    assert cost_of(network, choosing) != pytest.approx(costs[-1], rel=1e-4)


def test_the_papers_recipe_learns_and_is_untied(training: Path, validation: Path):
    recipe = PaperRecipe(epochs=6, learning_rate=1e-3)
    network, epochs = train_member(
        load_windows(training), recipe, seed=0, choosing=choosing_part(validation)
    )
    assert epochs[-1].loss < 0.5 * epochs[0].loss
    assert epochs[-1].cost < epochs[0].cost
    assert not is_tied(stack_members([network]))


def test_a_line_of_the_log_is_an_epoch_of_a_network(trained: Trained):
    lines = [json.loads(line) for line in (trained.folder / LOG_NAME).read_text().splitlines()]
    expected = [(i, 3 + i, epoch) for i in range(4) for epoch in (1, 2)]
    assert [(line["candidate"], line["seed"], line["epoch"]) for line in lines] == expected
    assert all(line["loss"] > 0 and line["cost"] > line["mse_g2"] > 0 for line in lines)
    losses = [loss for candidate in trained.card["candidates"] for loss in candidate["loss"]]
    assert losses == [line["loss"] for line in lines]


def test_simulated_windows_are_enough_to_train_on(simulated: WindowData, tmp_path: Path):
    data, other = (simulated.of_experiments(np.arange(*span)) for span in ((100,), (100, 150)))
    made = train(data, tmp_path, validation=other, members=1, candidates=1, recipe=SHORT)
    assert made.info["trained_on"]["file"] == "simulated"
    held_out = made.info["metrics"]["held_out"]
    assert held_out["cnn"]["cost"] < 0.2 * held_out["raw"]["cost"]


def test_without_a_file_windows_are_simulated_to_learn_from_and_to_choose_by():
    learning, choosing = training_data(None, None, simulated=True, seed=4, n_simulated=(2, 1))
    np.testing.assert_array_equal(learning.c2, simulate_windows(2, seed=4).c2)
    np.testing.assert_array_equal(choosing.c2, simulate_windows(1, seed=5).c2)
    _, given = training_data(None, Path("own.npz"), simulated=True, seed=4, n_simulated=(1, 1))
    assert given == Path("own.npz")


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


def test_the_best_candidates_on_the_choosing_half_are_kept(trained: Trained):
    card = trained.card
    scores = {c["seed"]: c["mse_g2_choosing"] for c in card["candidates"]}
    kept = {c["seed"] for c in card["candidates"] if c["kept"]}
    assert kept == set(sorted(scores, key=scores.__getitem__)[:2])
    assert sorted(scores) == [3, 4, 5, 6]
    assert card["choice"]["experiments"] == [0, 2, 4]
    assert card["metrics"]["held_out"]["experiments"] == [1, 3, 5]
    cnn, raw = card["metrics"]["held_out"]["cnn"], card["metrics"]["held_out"]["raw"]
    assert cnn["cost"] < 0.3 * raw["cost"]
    assert cnn["improved_fraction"] > 0.9


def test_the_card_is_complete_and_the_ensemble_loads_again(trained: Trained, training: Path):
    card = trained.card
    assert card["name"] == "mine"
    assert card["license"] == "BSD-3-Clause"
    assert card["trained_on"]["sha256"] == load_windows(training).sha256
    assert card["trained_on"]["inputs"] == 144
    assert card["recipe"]["kind"] == "Recipe"
    assert card["recipe"]["epochs"] == 2
    windows = np.ones((2, 50, 50), np.float32)
    again = load_ensemble(trained.folder)
    assert again.info == trained.ensemble.info
    np.testing.assert_array_equal(again.denoise(windows)[0], trained.ensemble.denoise(windows)[0])


def test_progress_is_reported_after_every_epoch(trained: Trained):
    seen = [(i, n, epoch.epoch) for i, n, epoch in trained.progress]
    assert seen == [(i, 4, epoch) for i in range(4) for epoch in (1, 2)]
    assert all(epoch.loss > 0 for _, _, epoch in trained.progress)


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
    parts = validation_parts(load_windows(validation))
    assert parts["all"].experiments.tolist() == [0, 1, 2, 3, 4, 5]
    assert parts["choosing"].experiments.tolist() == [0, 2, 4]
    assert parts["held_out"].experiments.tolist() == [1, 3, 5]


def test_a_single_experiment_chooses_and_nothing_is_held_out(validation: Path):
    parts = validation_parts(load_windows(validation).of_experiments(np.array([2])))
    assert "held_out" not in parts
    assert parts["choosing"].experiments.tolist() == [2]


# --- the command --------------------------------------------------------------------------------


@pytest.mark.parametrize(("recipe", "kind"), [("own", "Recipe"), ("paper", "PaperRecipe")])
def test_the_command_trains_by_either_recipe(
    training: Path, tmp_path: Path, recipe: str, kind: str
):
    options = ["--recipe", recipe, "--epochs", "1", "--members", "1"]
    threads = torch.get_num_threads()
    got = CliRunner().invoke(app, ["train", str(training), "--out", str(tmp_path), *options])
    assert got.exit_code == 0, got.output
    assert "1 members are in" in got.output
    assert load_ensemble(tmp_path).info["trained_on"]["file"] == "training.npz"
    card = json.loads((tmp_path / CARD_NAME).read_text())
    assert card["recipe"]["kind"] == kind
    assert card["choice"] is None
    assert card["metrics"] == {}
    assert len((tmp_path / LOG_NAME).read_text().splitlines()) == 1
    assert torch.get_num_threads() == threads


def test_nothing_to_train_on_is_refused_with_the_remedy(tmp_path: Path):
    got = CliRunner().invoke(app, ["train", "--out", str(tmp_path)])
    assert isinstance(got.exception, InvalidInputError)
    assert "neither a data file nor --simulated" in str(got.exception)


def test_another_recipe_is_refused(tmp_path: Path):
    arguments = ["train", "--simulated", "--out", str(tmp_path), "--recipe", "best"]
    got = CliRunner().invoke(app, arguments)
    assert got.exit_code == 2
    assert "best" in got.output
