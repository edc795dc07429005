"""`xpcs-live-denoise train` trains without a data file, by either recipe, and refuses nonsense."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from xpcs_live_denoise.commands.cli import app
from xpcs_live_denoise.denoising.ensemble import CARD_NAME, load_ensemble
from xpcs_live_denoise.denoising.training import train as train_module
from xpcs_live_denoise.denoising.training.train import LOG_NAME
from xpcs_live_denoise.errors import InvalidInputError


@pytest.fixture(autouse=True)
def few_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_module, "N_SIMULATED", 40)
    monkeypatch.setattr(train_module, "N_SIMULATED_VALIDATION", 20)


@pytest.mark.parametrize(("recipe", "kind"), [("own", "Recipe"), ("paper", "PaperRecipe")])
def test_an_ensemble_is_trained_on_simulated_windows(tmp_path: Path, recipe: str, kind: str):
    arguments = ["--simulated", "--recipe", recipe, "--epochs", "1", "--members", "1"]
    got = CliRunner().invoke(app, ["train", "--out", str(tmp_path), *arguments])
    assert got.exit_code == 0, got.output
    assert "1 members are in" in got.output
    assert load_ensemble(tmp_path).info["trained_on"]["file"] == "simulated"
    card = json.loads((tmp_path / CARD_NAME).read_text())
    assert card["recipe"]["kind"] == kind
    assert len((tmp_path / LOG_NAME).read_text().splitlines()) == 2  # two candidates by default


def test_nothing_to_train_on_is_refused_with_the_remedy(tmp_path: Path):
    got = CliRunner().invoke(app, ["train", "--out", str(tmp_path)])
    assert isinstance(got.exception, InvalidInputError)
    assert "neither a data file nor --simulated" in str(got.exception)


def test_another_recipe_is_refused(tmp_path: Path):
    arguments = ["train", "--simulated", "--out", str(tmp_path), "--recipe", "best"]
    got = CliRunner().invoke(app, arguments)
    assert got.exit_code == 2
    assert "best" in got.output
