"""Evaluation: figures against plain formulas, and the shipped ensemble on the real windows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from xpcs_live_denoise.denoising.data import load_windows
from xpcs_live_denoise.denoising.ensemble import load_ensemble
from xpcs_live_denoise.denoising.evaluate import LAG_WEIGHTS, evaluate
from xpcs_live_denoise.denoising.metrics import errors
from xpcs_live_denoise.denoising.triangle import LAG, one_time
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.kww import fit_g2

VALIDATION = Path(__file__).resolve().parents[2] / "../shared/data/chx_2tcf_validation.npz"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write eight series of five noisy windows."""
    rng = np.random.default_rng(0)
    gamma = np.geomspace(0.02, 0.12, 8)
    curves = 1 + np.exp(-2 * gamma[:, None] * np.arange(50).clip(1))
    index = np.repeat(np.arange(8), 5)
    c2 = curves[index][:, LAG] + rng.normal(0, 0.6, (40, 1275))
    file = tmp_path_factory.mktemp("data") / "windows.npz"
    np.savez(
        file,
        c2=c2.astype(np.float32),
        target=curves[:, LAG].astype(np.float32),
        target_index=index,
        window=np.tile(np.arange(5), 8),
        experiment=np.zeros(8, int),
    )
    return file


def test_predictions_have_a_value_for_every_input_and_method(path: Path):
    predictions = evaluate(path).predictions
    names = ("gamma", "gamma_error", "alpha", "beta", "baseline", "converged")
    expected = {f"{method}_{name}" for method in ("raw", "cnn") for name in names} | {"cnn_g2"}
    assert set(predictions) == expected
    assert predictions["cnn_g2"].shape == (40, 49)
    assert all(predictions[name].shape == (40,) for name in expected - {"cnn_g2"})
    assert predictions["raw_converged"].dtype == bool


def test_raw_predictions_are_the_weighted_fit_to_the_inputs(path: Path):
    predictions = evaluate(path, methods=["raw"]).predictions
    fits = fit_g2(one_time(load_windows(path).c2), weights=50.0 - np.arange(1, 50))
    np.testing.assert_allclose(predictions["raw_gamma"], fits.relaxation_rate, rtol=1e-4)
    np.testing.assert_array_equal(LAG_WEIGHTS, np.arange(49, 0, -1))


def test_figures_follow_from_the_predictions(path: Path):
    evaluation, data = evaluate(path), load_windows(path)
    truth = np.geomspace(0.02, 0.12, 8)[data.target_index]
    for method in ("raw", "cnn"):
        figures = evaluation.summary["methods"][method]
        relative = np.abs(evaluation.predictions[f"{method}_gamma"] - truth) / truth
        assert figures["mre_gamma"] == pytest.approx(relative.mean(), rel=1e-3)
        assert figures["mre_gamma_median"] == pytest.approx(np.median(relative), rel=1e-3)
        assert figures["mre_gamma_sure"] == figures["mre_gamma"]  # every truth converged
        alpha = evaluation.predictions[f"{method}_alpha"]
        assert figures["mse_alpha"] == pytest.approx(np.mean((alpha - 1) ** 2), rel=1e-3)
        converged = evaluation.predictions[f"{method}_converged"]
        assert figures["converged_fraction"] == converged.mean()
    cost, mse_g2 = errors(data.c2, data)
    assert evaluation.summary["methods"]["raw"]["cost"] == pytest.approx(cost.mean())
    assert evaluation.summary["methods"]["raw"]["mse_g2"] == pytest.approx(mse_g2.mean())
    assert evaluation.summary["truth"]["converged_fraction"] == 1.0


def test_inputs_without_a_sure_truth_are_counted_apart(path: Path, tmp_path: Path):
    arrays = dict(np.load(path))
    arrays["target"][2] = 1 + np.exp(-2 * 0.0008 * LAG)  # far too slow for 49 lags
    np.savez(tmp_path / "slow.npz", **arrays)
    evaluation = evaluate(tmp_path / "slow.npz", methods=["raw"])
    figures = evaluation.summary["methods"]["raw"]
    assert evaluation.summary["truth"]["converged_fraction"] == 35 / 40
    truth = np.geomspace(0.02, 0.12, 8)[arrays["target_index"]]
    sure = (np.abs(evaluation.predictions["raw_gamma"] - truth) / truth)[
        arrays["target_index"] != 2
    ]
    assert figures["mre_gamma_sure"] == pytest.approx(sure.mean(), rel=1e-3)
    assert figures["mre_gamma_sure_median"] == pytest.approx(np.median(sure), rel=1e-3)


def test_the_denoised_g2_is_nearer_to_the_target(path: Path):
    evaluation, data = evaluate(path, methods=["cnn"]), load_windows(path)
    target = one_time(data.target)[data.target_index]
    mse = np.mean((evaluation.predictions["cnn_g2"] - target) ** 2)
    assert mse == pytest.approx(evaluation.summary["methods"]["cnn"]["mse_g2"], rel=1e-4)
    assert mse < 0.5 * np.mean((one_time(data.c2) - target) ** 2)


def test_the_summary_is_json_and_the_table_has_a_line_a_method(path: Path):
    evaluation = evaluate(path)
    assert json.loads(evaluation.to_json()) == evaluation.summary
    assert evaluation.summary["ensemble"]["sha256"] == load_ensemble().info["sha256"]
    assert evaluation.summary["ensemble"]["trained_on_this_file"] is False
    lines = evaluation.table().splitlines()
    assert len({len(line) for line in lines}) == 1
    assert [line.split()[0] for line in lines] == ["method", "raw", "cnn"]
    assert "MRE Gamma" in lines[0]
    assert " - " in lines[1]  # raw improves nothing over raw


def test_the_method_raw_needs_no_ensemble(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
    evaluation = evaluate(path, methods=["raw"])
    assert evaluation.summary["ensemble"] is None
    assert set(evaluation.summary["methods"]) == {"raw"}


@pytest.mark.parametrize("methods", [["bayes"], []])
def test_unknown_methods_are_refused(path: Path, methods: list[str]):
    with pytest.raises(InvalidInputError, match=r"expected at least one of \['raw', 'cnn'\]"):
        evaluate(path, methods=methods)


@pytest.mark.skipif(not VALIDATION.exists(), reason="../shared/data is not here")
def test_the_shipped_ensemble_is_as_good_as_the_papers_on_the_real_windows():
    evaluation = evaluate(VALIDATION)
    raw, cnn = evaluation.summary["methods"]["raw"], evaluation.summary["methods"]["cnn"]
    assert raw["cost"] == pytest.approx(2.45, abs=0.01)
    assert raw["mse_g2"] == pytest.approx(0.202, abs=0.001)
    assert cnn["cost"] < 0.1126  # the ensemble of Konstantinova et al. 2021 on this file
    assert cnn["mse_g2"] < 0.01252
    assert cnn["improved_fraction"] > 0.966
    assert cnn["improved_fraction_g2"] > 0.966
    assert cnn["converged_fraction"] > raw["converged_fraction"]
    assert cnn["mre_gamma_median"] < raw["mre_gamma_median"]
    assert evaluation.summary["ensemble"]["trained_on_this_file"] is False


@pytest.mark.skipif(not VALIDATION.exists(), reason="../shared/data is not here")
def test_the_figures_of_the_shipped_card_are_true():
    metrics = load_ensemble().info["metrics"]
    figures = evaluate(VALIDATION, methods=["cnn"]).summary["methods"]["cnn"]
    for name, value in metrics["all"]["cnn"].items():
        assert figures[name] == pytest.approx(value, rel=1e-3), name
    held_out = set(metrics["held_out"]["experiments"])
    assert held_out.isdisjoint(metrics["choosing"]["experiments"])
