"""Denoisers of whole C2 are compared with the truth, on dynamics that none was trained on."""

import json
from pathlib import Path

import numpy as np
import pytest

from xpcs_live_denoise.denoising.evaluation.maps import evaluate_maps, figures, gaussian_map
from xpcs_live_denoise.denoising.evaluation.published import load_published
from xpcs_live_denoise.denoising.evaluation.unseen_dynamics import CLASSES, simulate_unseen
from xpcs_live_denoise.errors import InvalidInputError

MEMBERS = Path(__file__).parents[3] / "shared" / "data" / "fc_dae_members.npz"


def test_the_truth_has_no_error_and_smoothing_erases_heterogeneity():
    case = simulate_unseen("avalanches", 150, seed=2)
    best, smooth = figures(case, case.truth), figures(case, np.full_like(case.truth, 1.1))
    assert best["mse_short"] == best["mse_long"] == 0
    assert best["heterogeneity"] == pytest.approx(1)
    assert smooth["heterogeneity"] == pytest.approx(0, abs=1e-9)


def test_the_fit_of_the_truth_finds_its_rate():
    case = simulate_unseen("ageing", 150, seed=2)
    best, raw = figures(case, case.truth), figures(case, case.c2.astype(float))
    assert best["rms_ln_gamma"] < 0.3 < raw["rms_ln_gamma"]
    assert best["converged"] > raw["converged"]


def test_a_method_that_leaves_long_lags_out_has_no_figure_there():
    case = simulate_unseen("flow", 120, seed=1)
    lag = np.abs(np.subtract.outer(np.arange(120), np.arange(120)))
    found = figures(case, np.where(lag <= 50, case.truth, np.nan))
    assert found["mse_short"] == 0
    assert np.isnan([found["mse_long"], found["rms_ln_gamma"], found["heterogeneity"]]).all()


def test_all_methods_stand_in_one_table_with_the_same_cases():
    done = []
    found = evaluate_maps(
        {"raw": lambda c2: c2, "gaussian": gaussian_map},
        n_frames=[110],
        kinds=["ageing", "gelation"],
        counts=[0.3],
        modes=[4],
        progress=lambda n, total: done.append((n, total)),
    )
    assert done == [(1, 2), (2, 2)]
    methods = json.loads(found.to_json())["methods"]
    assert methods["gaussian"]["mse_short"] < 0.1 * methods["raw"]["mse_short"]
    assert methods["raw"]["kinds"]["gelation"]["rms_ln_gamma"] is None  # it has no single rate
    lines = found.table().splitlines()
    assert lines[0] == "2 simulated C2 of [110] frames:"
    assert [line.split()[0] for line in lines[3:5]] == ["raw", "gaussian"]


@pytest.mark.parametrize("kind", CLASSES)
def test_simulated_c2_lie_around_their_truth(kind):
    seen = simulate_unseen(kind, 60, counts=5.0, modes=4, seed=3)
    off = ~np.eye(60, dtype=bool)
    assert seen.truth.diagonal() == pytest.approx(1.25)
    assert abs(np.mean((seen.c2 - seen.truth)[off])) < 0.03
    assert np.std((seen.c2 - seen.truth)[off]) < 0.1


def test_a_kind_that_is_none_is_refused():
    with pytest.raises(InvalidInputError, match=r"kinds.*'melting'.*expected at least"):
        evaluate_maps({"raw": np.array}, kinds=["melting"])


def test_a_file_without_published_members_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", **{"0/nothing": np.zeros(1)})
    with pytest.raises(InvalidInputError, match=r"Expected an \.npz"):
        load_published(tmp_path / "x.npz")


@pytest.mark.skipif(not MEMBERS.exists(), reason="the published members are not here")
def test_the_published_members_denoise():
    case = simulate_unseen("flow", 100, seed=5)
    published = load_published(MEMBERS)
    assert published.info["n_members"] == 10
    mean, spread = published.denoise(case.c2)
    assert figures(case, mean)["mse_short"] < 0.1 * figures(case, case.c2)["mse_short"]
    assert spread.shape == (100, 100)
