"""C2 of any size is denoised by means of what was measured, gaps and all; errors say what to do."""

from __future__ import annotations

import json

import numpy as np
import pytest
import safetensors.torch
import torch
from scipy.ndimage import gaussian_filter

from xpcs_live_denoise import denoise_two_time
from xpcs_live_denoise.denoising.any_size.ensemble import LEAST_FRAMES, save_any_size
from xpcs_live_denoise.denoising.any_size.network import AnySizeNetwork, by_lag
from xpcs_live_denoise.denoising.ensemble import CARD_NAME, KINDS, WEIGHTS_NAME, load_ensemble
from xpcs_live_denoise.denoising.evaluation.unseen_dynamics import CLASSES, simulate_unseen
from xpcs_live_denoise.denoising.training.any_size import AnySizeRecipe, train_any_size
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.any_size import maps_of_rows, rows_of_maps

CARD = {"name": "test", "trained_on": {}, "metrics": {}}


def two_time(n, *, rate=0.02, noise=0.3, seed=0):
    lag = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    truth = 1 + 0.2 * np.exp(-2 * rate * lag)
    scatter = np.random.default_rng(seed).normal(0, noise, (n, n))
    scatter = np.triu(scatter) + np.triu(scatter, 1).T
    return (truth + scatter).astype(np.float32), truth


@pytest.fixture(scope="module")
def shipped():
    return load_ensemble(denoiser="any_size")


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(5)
    networks = [AnySizeNetwork((4, 6)).eval() for _ in range(2)]
    return save_any_size(networks, CARD, tmp_path / "any")


@pytest.mark.parametrize("n", [LEAST_FRAMES, 31, 50, 300])
def test_a_c2_of_any_size_is_denoised_at_all_lags(shipped, n):
    noisy, truth = two_time(n)
    mean, spread = shipped.denoise(noisy)
    assert mean.shape == spread.shape == (n, n)
    assert np.isnan(spread).all()  # one network: nothing that it could disagree with
    assert mean.dtype == np.float32
    np.testing.assert_array_equal(mean, mean.T)
    off = ~np.eye(n, dtype=bool)
    assert np.mean((mean - truth)[off] ** 2) < 0.25 * np.mean((noisy - truth)[off] ** 2)


def test_dynamics_that_it_never_saw_come_out_better_than_smoothed(shipped):
    lag = np.abs(np.subtract.outer(np.arange(100), np.arange(100)))
    ratios = []
    for kind in CLASSES:
        seen = simulate_unseen(kind, 100, counts=0.1, modes=2, seed=1)
        errors = [
            np.mean((c2 - seen.truth)[(lag >= 1) & (lag <= 50)] ** 2)
            for c2 in (shipped.denoise(seen.c2)[0], gaussian_filter(np.where(lag, seen.c2, 1), 3))
        ]
        ratios.append(np.log(errors[0] / errors[1]))
    assert np.mean(ratios) < np.log(0.75)


def test_contrast_and_baseline_go_through_unchanged(shipped):
    noisy, _ = two_time(80)
    expected = 5 + 0.1 * shipped.denoise(noisy)[0]
    np.testing.assert_allclose(shipped.denoise(5 + 0.1 * noisy)[0], expected, atol=2e-4)


def test_nothing_comes_out_that_was_not_measured(shipped):
    noisy, _ = two_time(120, noise=1.0)
    off = ~np.eye(120, dtype=bool)
    mean = shipped.denoise(noisy)[0]
    assert noisy[off].min() <= mean.min()
    assert mean.max() <= noisy[off].max()


def test_the_photon_noise_of_single_frames_is_not_used(shipped):
    noisy, _ = two_time(60)
    other = noisy.copy()
    np.fill_diagonal(other, 40.0)
    np.testing.assert_array_equal(shipped.denoise(other)[0], shipped.denoise(noisy)[0])


def test_gaps_stay_gaps_and_do_not_reach_beyond_them(shipped):
    noisy, truth = two_time(160)
    gap = noisy.copy()
    gap[70:74] = gap[:, 70:74] = np.nan
    mean, _ = shipped.denoise(gap)
    np.testing.assert_array_equal(np.isnan(mean), np.isnan(gap))
    made = denoise_two_time(gap, shipped)
    np.testing.assert_array_equal(made.reached, np.isfinite(gap))
    assert made.spread is None
    here = np.isfinite(gap) & ~np.eye(160, dtype=bool)
    assert np.mean((mean - truth)[here] ** 2) < 0.1 * np.mean((gap - truth)[here] ** 2)


def test_a_c2_of_nan_alone_stays_one(shipped):
    mean, _ = shipped.denoise(np.full((2, 20, 20), np.nan))
    assert np.isnan(mean).all()


def test_several_rois_are_denoised_as_each_alone(shipped):
    stack = np.stack([two_time(40, seed=seed)[0] for seed in range(3)])
    together = shipped.denoise(stack)[0]
    for one, alone in zip(stack, together, strict=True):
        np.testing.assert_allclose(shipped.denoise(one)[0], alone, atol=1e-6)


def test_a_large_c2_in_strips_is_what_the_networks_make_of_the_whole(folder):
    noisy = two_time(300)[0]
    stored = safetensors.torch.load_file(folder / WEIGHTS_NAME)
    outputs = []
    for index in range(2):
        network = AnySizeNetwork((4, 6)).eval()
        state = {n[2:]: t.float() for n, t in stored.items() if n.startswith(f"{index}/")}
        network.load_state_dict(state, strict=False)
        with torch.inference_mode():
            backwards = torch.from_numpy(noisy[None, ::-1, ::-1].copy())
            outputs.append(network(by_lag(backwards))[0].numpy()[:, ::-1].T)
    mean, spread = load_ensemble(folder).denoise(noisy)
    np.testing.assert_allclose(mean, maps_of_rows(np.mean(outputs, 0)[None])[0], atol=2e-3)
    np.testing.assert_allclose(spread, maps_of_rows(np.std(outputs, 0)[None])[0], atol=2e-3)


def test_rows_are_those_of_the_map(shipped):
    noisy, _ = two_time(40)
    rows = shipped.denoise_rows(rows_of_maps(noisy[None]))[0]
    np.testing.assert_array_equal(maps_of_rows(rows)[0], shipped.denoise(noisy)[0])


def test_denoise_two_time_takes_it_in_the_place_of_windows(shipped):
    noisy, _ = two_time(70)
    found = denoise_two_time(noisy, shipped)
    np.testing.assert_allclose(found.c2, shipped.denoise(noisy)[0], atol=1e-6)
    short = denoise_two_time(noisy[:5, :5], shipped)
    np.testing.assert_array_equal(short.c2, noisy[:5, :5])
    assert not short.reached.any()


@pytest.mark.parametrize(
    ("c2", "message"),
    [
        (np.ones((5, 5), np.float32), r"shape \(5, 5\); expected at least 8 frames a side"),
        (np.ones((1, 7, 7)), r"shape \(1, 7, 7\)"),
        (np.ones((20, 20), int), "dtype int64; expected float32 or float64"),
        (np.full((20, 20), np.inf), "infinite values; expected finite ones, or NaN"),
        (np.ones((20, 21)), r"\(20, 21\)"),
    ],
)
def test_a_c2_that_cannot_be_used_is_refused(shipped, c2, message):
    with pytest.raises(InvalidInputError, match=message):
        shipped.denoise(c2)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_the_other_kind_are_refused(kind):
    (other,) = KINDS.keys() - {kind}
    with pytest.raises(InvalidInputError, match=f"for the denoiser '{kind}'; expected.*'{other}'"):
        load_ensemble(KINDS[kind], denoiser=other)


def test_a_folder_says_what_kind_it_holds(folder):
    info = load_ensemble(folder).info
    assert json.loads(json.dumps(info)) == info
    assert (info["name"], info["kind"], info["n_members"]) == ("test", "any_size", 2)


def test_a_denoiser_that_is_none_is_refused():
    with pytest.raises(InvalidInputError, match=r"denoiser 'maps'; expected one of \['windows'"):
        load_ensemble(denoiser="maps")


@pytest.mark.parametrize(
    "changed", [{"channels": [4, 7]}, {"channels": None}, {"n_members": 1}, {"n_members": 3}]
)
def test_weights_that_do_not_fit_their_card_are_refused(folder, changed):
    card = json.loads((folder / CARD_NAME).read_text())
    (folder / CARD_NAME).write_text(json.dumps({**card, **changed}))
    with pytest.raises(InvalidInputError, match="does not fit its card"):
        load_ensemble(folder)


def test_a_kind_of_a_later_version_is_refused(folder):
    card = json.loads((folder / CARD_NAME).read_text())
    (folder / CARD_NAME).write_text(json.dumps({**card, "kind": "video"}))
    with pytest.raises(InvalidInputError, match="kind 'video'; expected one of"):
        load_ensemble(folder)


def test_the_shipped_weights_are_small_and_their_card_is_complete():
    where = KINDS["any_size"]
    assert sum(path.stat().st_size for path in where.iterdir()) < 1e6
    card = json.loads((where / CARD_NAME).read_text())
    assert card["license"] == "BSD-3-Clause"
    assert card["data_doi"] == "10.11578/dc.20210704.1"
    assert {"architecture", "recipe", "trained_on", "metrics", "versions"} <= card.keys()


def test_a_training_makes_weights_that_load(training, tmp_path):
    recipe = AnySizeRecipe(
        n_frames=(50,), n_maps=(3,), n_validation=1, steps=3, batch=2, channels=(4,)
    )
    lines = []
    made = train_any_size(
        tmp_path, windows=training, members=1, recipe=recipe, seed=3, progress=lines.append
    )
    assert "network 1 of 1" in lines
    assert made.info["trained_on"]["pairs"] > 0
    assert len(made.info["metrics"]["validation_ln_mse_over_beta2"]) == 1
    again = train_any_size(tmp_path / "2", windows=training, members=1, recipe=recipe, seed=3)
    noisy = two_time(30)[0]
    np.testing.assert_array_equal(again.denoise(noisy)[0], made.denoise(noisy)[0])


def test_a_training_without_members_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="got 0 members"):
        train_any_size(tmp_path, members=0)
