"""Evaluation: figures against plain formulas, and the shipped ensemble on the real windows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from xpcs_live_denoise.commands.cli import app
from xpcs_live_denoise.denoising.ensemble import load_ensemble
from xpcs_live_denoise.denoising.evaluation.evaluate import Evaluation, evaluate, truths
from xpcs_live_denoise.denoising.evaluation.methods import METHODS
from xpcs_live_denoise.denoising.evaluation.metrics import (
    LAG_WEIGHTS,
    disjoint_truth,
    errors,
    weighted_fit,
)
from xpcs_live_denoise.denoising.training.data import load_windows
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.fits import fit_g2
from xpcs_live_denoise.numerics.windows import LAG, one_time

VALIDATION = Path(__file__).resolve().parents[2] / "../shared/data/chx_2tcf_validation.npz"


NAMES = ("gamma", "gamma_error", "alpha", "beta", "baseline", "converged")
DEFAULT = [method for method in METHODS if method != "paper"]


@pytest.fixture(scope="module")
def evaluation(path: Path) -> Evaluation:
    return evaluate(path)


def test_predictions_have_a_value_for_every_input_and_method(evaluation: Evaluation):
    curves = {f"{m}_g2" for m in DEFAULT if m not in ("raw_weighted", "raw_fixed_baseline")}
    expected = {f"{method}_{name}" for method in DEFAULT for name in NAMES} | curves
    expected = (expected - {"recommended_g2"}) | {"recommended_source"}
    predictions = evaluation.predictions
    assert set(predictions) == expected
    for name, array in predictions.items():
        assert array.shape == ((40, 49) if name.endswith("_g2") else (40,)), name
    assert predictions["raw_converged"].dtype == bool


def test_raw_predictions_are_the_fits_to_the_inputs(evaluation: Evaluation, path: Path):
    g2 = one_time(load_windows(path).c2)
    for method, weights in (("raw", None), ("raw_weighted", 50.0 - np.arange(1, 50))):
        fits = fit_g2(g2, weights=weights)
        found = evaluation.predictions[f"{method}_gamma"]
        np.testing.assert_allclose(found, fits.relaxation_rate, rtol=1e-4)
    np.testing.assert_array_equal(LAG_WEIGHTS, np.arange(49, 0, -1))
    np.testing.assert_array_equal(evaluation.predictions["raw_g2"], g2)


def test_figures_follow_from_the_predictions(evaluation: Evaluation, path: Path):
    data = load_windows(path)
    truth = np.geomspace(0.02, 0.12, 8)[data.target_index]
    for method in DEFAULT:
        figures = evaluation.summary["methods"][method]["target"]
        predicted = {name: evaluation.predictions[f"{method}_{name}"] for name in NAMES}
        relative = np.abs(predicted["gamma"] - truth) / truth
        assert figures["mre_gamma"] == pytest.approx(relative.mean(), rel=1e-3)
        assert figures["mre_gamma_median"] == pytest.approx(np.median(relative), rel=1e-3)
        assert figures["mre_gamma_sure"] == figures["mre_gamma"]  # every truth converged
        assert figures["mse_alpha"] == pytest.approx(np.mean((predicted["alpha"] - 1) ** 2), 1e-3)
        assert figures["converged_fraction"] == predicted["converged"].mean()
        has = np.isfinite(predicted["gamma_error"])
        away = np.abs(np.log(predicted["gamma"] / truth)) * predicted["gamma"]
        away = away[has] / predicted["gamma_error"][has]
        for k in (1, 2):
            assert figures[f"coverage_{k}"] == pytest.approx(np.mean(away <= k), abs=0.03)
        bands = figures["bands"]
        middle = (truth > 0.01) & (truth < 0.05)
        assert bands["0.01-0.05"]["n"] == middle.sum()
        assert bands["0.01-0.05"]["median"] == pytest.approx(np.median(relative[middle]), rel=1e-3)
        assert bands["<0.01"] == {"n": 0, "mean": None, "median": None}
        assert [part["n"] for part in figures["noise_quintiles"].values()] == [8] * 5
    cost, mse_g2 = errors(data.c2, data.targets)
    raw = evaluation.summary["methods"]["raw"]["target"]
    assert raw["cost"] == pytest.approx(cost.mean())
    assert raw["mse_g2"] == pytest.approx(mse_g2.mean())
    assert evaluation.summary["truths"]["target"]["converged_fraction"] == 1.0


def test_without_cuts_that_share_no_frame_there_is_one_truth_only(path: Path, tmp_path: Path):
    arrays = dict(np.load(path))
    arrays["window"] = np.zeros_like(arrays["window"])
    np.savez(tmp_path / "one.npz", **arrays)
    evaluation = evaluate(tmp_path / "one.npz", methods=["raw_weighted"])
    assert set(evaluation.summary["truths"]) == {"target"}
    assert "frame_disjoint" not in evaluation.summary["methods"]["raw_weighted"]
    assert "Against the target" in evaluation.table()


def test_inputs_without_a_sure_truth_are_counted_apart(path: Path, tmp_path: Path):
    arrays = dict(np.load(path))
    arrays["target"][2] = 1 + np.exp(-2 * 0.0008 * LAG)  # far too slow for 49 lags
    np.savez(tmp_path / "slow.npz", **arrays)
    evaluation = evaluate(tmp_path / "slow.npz", methods=["raw_weighted"])
    figures = evaluation.summary["methods"]["raw_weighted"]["target"]
    assert evaluation.summary["truths"]["target"]["converged_fraction"] == 35 / 40
    truth = np.geomspace(0.02, 0.12, 8)[arrays["target_index"]]
    gamma = evaluation.predictions["raw_weighted_gamma"]
    sure = (np.abs(gamma - truth) / truth)[arrays["target_index"] != 2]
    assert figures["mre_gamma_sure"] == pytest.approx(sure.mean(), rel=1e-3)
    assert figures["mre_gamma_sure_median"] == pytest.approx(np.median(sure), rel=1e-3)


@pytest.mark.parametrize("method", ["cnn", "bayes", "pca8"])
def test_the_denoised_g2_is_nearer_to_the_target(evaluation: Evaluation, path: Path, method: str):
    data = load_windows(path)
    target = one_time(data.target)[data.target_index]
    mse = np.mean((evaluation.predictions[f"{method}_g2"] - target) ** 2)
    figures = evaluation.summary["methods"][method]["target"]
    assert mse == pytest.approx(figures["mse_g2"], rel=1e-4)
    assert mse < 0.5 * np.mean((one_time(data.c2) - target) ** 2)


def test_the_summary_is_json_and_the_table_has_a_line_a_method(evaluation: Evaluation):
    assert json.loads(evaluation.to_json()) == evaluation.summary
    assert evaluation.summary["ensemble"]["sha256"] == load_ensemble().info["sha256"]
    assert evaluation.summary["ensemble"]["trained_on_this_file"] is False
    parts = evaluation.table().split("\n\n")
    assert [part.splitlines()[0][:7] for part in parts[::2]] == ["Against", "Median "] * 2
    for part in parts[1::2]:
        lines = part.splitlines()
        assert len({len(line) for line in lines}) == 1
        assert [line.split()[0] for line in lines] == ["method", *DEFAULT]
    assert "in 2 SE" in parts[1]
    assert " - " in parts[1].splitlines()[2]  # raw_weighted has no C2 of its own


def test_the_raw_methods_and_bayes_need_no_ensemble(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
    evaluation = evaluate(path, methods=["raw", "bayes", "recommended"])
    assert evaluation.summary["ensemble"] is None
    assert set(evaluation.summary["methods"]) == {"raw", "bayes", "recommended"}


def test_the_papers_ensemble_is_compared_where_it_is_given(path: Path):
    evaluation = evaluate(path, paper=load_ensemble(), methods=["paper", "cnn"])
    methods = evaluation.summary["methods"]
    assert methods["paper"]["target"] == methods["cnn"]["target"]
    assert evaluation.summary["paper"]["name"] == load_ensemble().info["name"]
    with pytest.raises(InvalidInputError, match='"paper" has no ensemble'):
        evaluate(path, methods=["paper"])


def test_only_some_experiments_are_evaluated(path: Path, tmp_path: Path):
    arrays = dict(np.load(path))
    arrays["experiment"] = np.arange(8) // 4
    np.savez(tmp_path / "two.npz", **arrays)
    part = evaluate(tmp_path / "two.npz", methods=["raw_weighted"], experiments=[1])
    whole = evaluate(tmp_path / "two.npz", methods=["raw_weighted"])
    assert part.summary["experiments"] == [1]
    np.testing.assert_allclose(
        part.predictions["raw_weighted_gamma"],
        whole.predictions["raw_weighted_gamma"][20:],
        rtol=1e-5,  # products in single precision
    )
    assert part.summary["sha256"] == whole.summary["sha256"]
    with pytest.raises(InvalidInputError, match=r"no inputs of experiments \[7\]"):
        evaluate(tmp_path / "two.npz", experiments=[1, 7])


def test_the_command_writes_table_and_predictions(path: Path, tmp_path: Path):
    table, predictions = tmp_path / "table.json", tmp_path / "all.npz"
    command = ["evaluate", str(path), "--experiment", "0", "--json", str(table)]
    found = CliRunner().invoke(app, [*command, "--predictions", str(predictions)])
    assert found.exit_code == 0, found.output
    assert "Against the target" in found.output
    methods = list(json.loads(table.read_text())["methods"])
    assert [method for method in methods if method != "any_size"] == DEFAULT
    assert "any_size" in methods, "the shipped network is compared, too"
    with np.load(predictions) as file:
        assert file["recommended_gamma"].shape == (40,)
        assert set(file["recommended_source"]) <= {"bayes", "raw_weighted"}


@pytest.mark.parametrize("methods", [["wavelet"], []])
def test_unknown_methods_are_refused(path: Path, methods: list[str]):
    with pytest.raises(
        InvalidInputError, match=r"expected at least one of \['raw', 'raw_weighted'"
    ):
        evaluate(path, methods=methods)


@pytest.fixture(scope="module")
def real() -> Evaluation:
    """Return the evaluation of windows of other experiments than those of the training."""
    if not VALIDATION.exists():
        pytest.skip("../shared/data is not here")
    return evaluate(VALIDATION, methods=["raw", "raw_weighted", "cnn", "bayes"])


def test_the_shipped_ensemble_is_as_good_as_the_papers_on_the_real_windows(real: Evaluation):
    raw, cnn = (real.summary["methods"][method] for method in ("raw", "cnn"))
    assert raw["target"]["cost"] == pytest.approx(2.45, abs=0.01)
    assert raw["target"]["mse_g2"] == pytest.approx(0.202, abs=0.001)
    # The ensemble of Konstantinova et al. 2021 on this file.
    assert cnn["target"]["cost"] < 0.1126
    assert cnn["target"]["mse_g2"] < 0.01252
    assert cnn["improved_fraction"] > 0.966
    assert cnn["improved_fraction_g2"] > 0.966
    for truth in ("target", "frame_disjoint"):
        weighted = real.summary["methods"]["raw_weighted"][truth]
        assert cnn[truth]["converged_fraction"] > weighted["converged_fraction"]
        assert cnn[truth]["mre_gamma_median"] < weighted["mre_gamma_median"]
    assert real.summary["ensemble"]["trained_on_this_file"] is False


def test_bayes_is_nearer_to_the_target_than_the_papers_ensemble(real: Evaluation):
    bayes = real.summary["methods"]["bayes"]["target"]
    assert bayes["mse_g2"] < 0.93 * 0.01252  # Konstantinova et al. 2021 on this file
    assert bayes["cost"] < 0.1126


def test_the_figures_of_the_shipped_card_are_true(real: Evaluation):
    metrics = load_ensemble().info["metrics"]
    found = real.summary["methods"]["cnn"]
    figures = {**found["target"], **found, "n_frame_disjoint": found["frame_disjoint"]["n"]}
    for name, value in metrics["all"]["cnn"].items():
        assert figures[name] == pytest.approx(value, rel=1e-3), name
    held_out = set(metrics["held_out"]["experiments"])
    assert held_out.isdisjoint(metrics["choosing"]["experiments"])


@pytest.mark.statistics
@pytest.mark.skipif(not VALIDATION.exists(), reason="../shared/data is not here")
def test_bayes_and_the_recommendation_keep_their_promises_on_the_held_out_experiments():
    """Neither the prior nor any choice has seen these experiments."""
    methods = ["raw_weighted", "bayes", "recommended"]
    evaluation = evaluate(VALIDATION, methods=methods, experiments=[4, 6, 8, 11, 13, 18])
    for truth in ("target", "frame_disjoint"):
        raw, bayes, recommended = (evaluation.summary["methods"][m][truth] for m in methods)
        for figures in (bayes, recommended):
            assert figures["mre_gamma"] < 0.5 * raw["mre_gamma"]
            assert figures["mre_gamma_median"] < 0.75 * raw["mre_gamma_median"]
        cleanest = [figures["noise_quintiles"]["cleanest"] for figures in (recommended, raw)]
        assert cleanest[0]["median"] <= 1.1 * cleanest[1]["median"]
        assert 0.58 < recommended["coverage_1"] < 0.82
        assert recommended["coverage_2"] > 0.9


def test_each_truth_is_the_weighted_fit_to_its_c2(path: Path):
    data = load_windows(path)
    known = truths(data)
    fits = weighted_fit(data.target)
    for k in (0, 17, 39):
        expected = fits.relaxation_rate[data.target_index[k]]
        assert known["target"][1].rates["gamma"][k] == pytest.approx(expected)
    c2, has = disjoint_truth(data)
    rows, disjoint = known["frame_disjoint"]
    np.testing.assert_array_equal(rows, np.flatnonzero(has))
    expected = weighted_fit(c2[has]).relaxation_rate
    np.testing.assert_array_equal(disjoint.rates["gamma"], expected)


def test_the_frame_disjoint_truth_holds_nothing_of_the_input(path: Path, tmp_path: Path):
    arrays = dict(np.load(path))
    arrays["c2"][0] += 3 * np.exp(-0.3 * LAG)  # input 0 of series 0; cuts 2, 3 and 4 are its truth
    np.savez(tmp_path / "odd.npz", **arrays)
    before, after = (load_windows(file) for file in (path, tmp_path / "odd.npz"))
    (_, one), (_, other) = (truths(data)["frame_disjoint"] for data in (before, after))
    np.testing.assert_array_equal(one.c2[0], other.c2[0])
    assert one.rates["gamma"][0] == other.rates["gamma"][0]
    assert one.rates["gamma"][4] != other.rates["gamma"][4]
