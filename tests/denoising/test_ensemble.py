"""The ensemble denoises as its members do one by one, and says what it cannot use."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from tests.support.networks import mirrored
from xpcs_live_denoise import denoise_two_time
from xpcs_live_denoise.denoising.ensemble import (
    CARD_NAME,
    SHIPPED,
    WEIGHTS_NAME,
    load_ensemble,
    save_ensemble,
)
from xpcs_live_denoise.denoising.inference import is_tied
from xpcs_live_denoise.denoising.model import TRIANGLE_SHAPE, CnnEncoderDecoder
from xpcs_live_denoise.errors import InvalidInputError, MissingDependencyError

CARD = {"name": "test", "trained_on": {"file": "none"}, "metrics": {}}


def make_members(n: int) -> list[CnnEncoderDecoder]:
    generator = torch.Generator().manual_seed(7)
    members = [CnnEncoderDecoder(TRIANGLE_SHAPE, generator=generator) for _ in range(n)]
    with torch.no_grad():
        for member in members:
            for parameter in member.parameters():
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return members


def make_windows(n: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(n, 50, 50))
    lag = np.abs(np.subtract.outer(np.arange(50), np.arange(50)))
    windows = 1 + np.exp(-2 * 0.05 * lag) + 0.5 * (noise + noise.transpose(0, 2, 1))
    return windows.astype(np.float32)


@pytest.fixture(scope="module")
def members() -> list[CnnEncoderDecoder]:
    return make_members(3)


@pytest.fixture
def folder(members: list[CnnEncoderDecoder], tmp_path: Path) -> Path:
    return save_ensemble(members, CARD, tmp_path / "ensemble")


@pytest.mark.parametrize("n", [1, 7, 8, 21])
def test_fused_members_equal_a_loop_over_whole_window_modules(folder: Path, n: int):
    windows = make_windows(n)
    with torch.no_grad():
        each = np.stack([mirrored(m)(torch.from_numpy(windows)).numpy() for m in make_members(3)])
    mean, spread = load_ensemble(folder).denoise(windows)
    np.testing.assert_allclose(mean, each.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(spread, each.std(axis=0), atol=1e-5)
    assert mean.dtype == spread.dtype == np.float32
    assert spread.max() > 0.01


def test_output_is_symmetric(folder: Path):
    mean, spread = load_ensemble(folder).denoise(make_windows(3))
    np.testing.assert_array_equal(mean, mean.transpose(0, 2, 1))
    np.testing.assert_array_equal(spread, spread.transpose(0, 2, 1))


def test_a_window_is_denoised_the_same_whatever_comes_with_it(folder: Path):
    ensemble, windows = load_ensemble(folder), make_windows(12)
    together = ensemble.denoise(windows)[0]
    alone = np.concatenate([ensemble.denoise(window[None])[0] for window in windows])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_no_windows_give_no_windows(folder: Path):
    mean, spread = load_ensemble(folder).denoise(np.zeros((0, 50, 50), np.float32))
    assert mean.shape == spread.shape == (0, 50, 50)


def test_the_windows_are_left_as_they_were(folder: Path):
    windows = make_windows(2)
    before = windows.copy()
    load_ensemble(folder).denoise(windows)
    np.testing.assert_array_equal(windows, before)


def test_a_single_member_has_no_spread(tmp_path: Path):
    save_ensemble(make_members(1), CARD, tmp_path)
    ensemble = load_ensemble(tmp_path)
    assert np.isnan(ensemble.denoise(make_windows(2))[1]).all()
    c2 = 1 + 0.2 * make_windows(1)[0]
    made = denoise_two_time(c2, ensemble)
    assert made.spread is None
    assert made.reached.any()
    np.testing.assert_array_equal(made.c2[~made.reached], c2[~made.reached])


def test_info_is_json_and_names_the_weights(folder: Path):
    info = load_ensemble(folder).info
    assert json.loads(json.dumps(info)) == info
    assert list(info) == ["name", "sha256", "n_members", "window", "trained_on", "metrics"]
    assert (info["name"], info["n_members"], info["window"]) == ("test", 3, 50)


def test_members_are_stored_exactly_one_after_the_other(folder: Path):
    stored = safetensors.torch.load_file(folder / WEIGHTS_NAME)
    for i, member in enumerate(make_members(3)):
        for name, value in member.state_dict().items():
            assert torch.equal(stored[name][i], value), name


def test_other_floating_types_are_converted(folder: Path):
    ensemble, windows = load_ensemble(folder), make_windows(2)
    mean = ensemble.denoise(windows.astype(np.float64))[0]
    assert mean.dtype == np.float32
    np.testing.assert_array_equal(mean, ensemble.denoise(windows)[0])


def test_loading_and_denoising_leave_torchs_threads_alone(folder: Path):
    before = torch.get_num_threads()
    load_ensemble(folder).denoise(make_windows(1))
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        (np.zeros((50, 50), np.float32), r"shape \(50, 50\); expected \(n, 50, 50\)"),
        (np.zeros((2, 50, 49), np.float32), r"shape \(2, 50, 49\)"),
        (np.zeros((2, 50, 50), np.int64), "dtype int64; expected float32"),
        (np.full((2, 50, 50), np.nan, np.float32), "2 of 2 windows have NaN"),
        (np.full((1, 50, 50), np.inf, np.float32), "1 of 1 windows have NaN or infinite"),
    ],
)
def test_windows_that_cannot_be_used_are_refused(folder: Path, windows: np.ndarray, message: str):
    with pytest.raises(InvalidInputError, match=message):
        load_ensemble(folder).denoise(windows)


@pytest.mark.parametrize("name", [WEIGHTS_NAME, CARD_NAME])
def test_a_missing_file_is_named(folder: Path, name: str):
    (folder / name).unlink()
    with pytest.raises(InvalidInputError, match=f"{name} cannot be read"):
        load_ensemble(folder)


def test_weights_of_another_ensemble_are_refused(folder: Path, tmp_path: Path):
    other = save_ensemble(make_members(2), CARD, tmp_path / "other")
    (folder / WEIGHTS_NAME).write_bytes((other / WEIGHTS_NAME).read_bytes())
    with pytest.raises(InvalidInputError, match="do not belong together"):
        load_ensemble(folder)


def test_a_card_of_another_size_is_refused(folder: Path):
    card = json.loads((folder / CARD_NAME).read_text())
    (folder / CARD_NAME).write_text(json.dumps({**card, "n_members": 4}))
    with pytest.raises(InvalidInputError, match="for 4 members of this architecture"):
        load_ensemble(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is no JSON"), ("[1]", "lacks name, sha256"), ('{"name": "x"}', "lacks sha256")],
)
def test_a_card_that_is_none_is_refused(folder: Path, text: str, message: str):
    (folder / CARD_NAME).write_text(text)
    with pytest.raises(InvalidInputError, match=message):
        load_ensemble(folder)


def test_a_file_that_is_no_safetensors_is_refused(folder: Path):
    import hashlib

    (folder / WEIGHTS_NAME).write_bytes(b"nonsense")
    card = json.loads((folder / CARD_NAME).read_text())
    card["sha256"] = hashlib.sha256(b"nonsense").hexdigest()
    (folder / CARD_NAME).write_text(json.dumps(card))
    with pytest.raises(InvalidInputError, match="is no safetensors file"):
        load_ensemble(folder)


@pytest.mark.parametrize("device", ["abacus", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(folder: Path, device: str):
    with pytest.raises(InvalidInputError, match=f"device '{device}' cannot be used"):
        load_ensemble(folder, device=device)


@pytest.mark.parametrize("library", ["torch", "safetensors"])
def test_a_missing_library_is_named_with_the_remedy(
    folder: Path, monkeypatch: pytest.MonkeyPatch, library: str
):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependencyError, match=rf"{library}.*pip install '\.\[torch\]'"):
        load_ensemble(folder)


def test_without_torch_the_faces_can_be_imported_and_the_remedy_is_named():
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from xpcs_live_denoise.denoising import evaluate, load_ensemble\n"
        "try:\n    load_ensemble()\n"
        "except ImportError as error:\n    print(type(error).__name__, error)"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    assert run.stdout.startswith("MissingDependencyError load_ensemble: torch and safetensors")


def test_members_for_whole_windows_cannot_be_saved(tmp_path: Path):
    with pytest.raises(InvalidInputError, match=r"shapes \[\(50, 50\)\]; expected"):
        save_ensemble([CnnEncoderDecoder()], CARD, tmp_path)


def test_a_card_without_a_name_cannot_be_saved(tmp_path: Path):
    with pytest.raises(InvalidInputError, match="the card lacks name"):
        save_ensemble(make_members(1), {"trained_on": {}, "metrics": {}}, tmp_path)


def test_the_shipped_ensemble_is_small_and_its_card_is_complete():
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 20e6
    card = json.loads((SHIPPED / CARD_NAME).read_text())
    assert card["n_members"] == 10
    assert card["license"] == "BSD-3-Clause"
    assert card["data_doi"] == "10.11578/dc.20210704.1"
    assert len(card["trained_on"]["sha256"]) == 64
    assert sum(candidate["kept"] for candidate in card["candidates"]) == 10
    assert {"architecture", "recipe", "choice", "metrics", "data_license"} <= set(card)


def test_the_shipped_ensemble_cleans_a_simulated_window():
    lag = np.abs(np.subtract.outer(np.arange(50), np.arange(50))).clip(1)
    truth = 1 + np.exp(-2 * 0.05 * lag)
    noisy = make_windows(20, seed=4)
    mean, _ = load_ensemble().denoise(noisy)
    assert np.mean((mean - truth) ** 2) < 0.05 * np.mean((noisy - truth) ** 2)


def test_the_shipped_ensemble_shares_its_weights_along_diagonals():
    assert is_tied(safetensors.torch.load_file(SHIPPED / WEIGHTS_NAME))
    card = json.loads((SHIPPED / CARD_NAME).read_text())
    assert card["architecture"]["diagonals"] == "pixels of equal lag share their weights"
    assert card["size"].startswith(f"{card['n_members']} of {len(card['candidates'])} trained")


def test_the_shipped_ensemble_equals_a_loop_over_its_modules():
    stacked = safetensors.torch.load_file(SHIPPED / WEIGHTS_NAME)
    windows = make_windows(4)
    outputs = []
    for i in range(len(stacked["conv1.weight"])):
        member = CnnEncoderDecoder(TRIANGLE_SHAPE)
        member.load_state_dict({name: tensor[i] for name, tensor in stacked.items()})
        with torch.no_grad():
            outputs.append(mirrored(member)(torch.from_numpy(windows)).numpy())
    mean, spread = load_ensemble().denoise(windows)
    np.testing.assert_allclose(mean, np.mean(outputs, axis=0), atol=1e-5)
    np.testing.assert_allclose(spread, np.std(outputs, axis=0), atol=1e-5)
