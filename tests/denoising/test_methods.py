"""What methods learned, what they do to windows, and what is recommended."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize

from xpcs_live_denoise.denoising.evaluation import methods as filters
from xpcs_live_denoise.denoising.evaluation.evaluate import evaluate
from xpcs_live_denoise.denoising.evaluation.methods import (
    ARRAYS_NAME,
    CARD_NAME,
    HETEROGENEITY,
    SHIPPED,
    Fitted,
    fit_at_baseline_one,
    learn,
    load_fitted,
    principal_components,
    save_fitted,
    triangle_noise,
)
from xpcs_live_denoise.denoising.evaluation.metrics import LAG_WEIGHTS
from xpcs_live_denoise.denoising.training.data import WindowData, load_windows
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.window_bayes import window_noise
from xpcs_live_denoise.numerics.windows import LAG, one_time, to_windows

TRAINING = Path(__file__).resolve().parents[2] / "../shared/data/chx_2tcf_training.npz"


@pytest.fixture(scope="module")
def data() -> WindowData:
    rng = np.random.default_rng(0)
    curves = 1 + np.exp(-2 * np.geomspace(0.02, 0.2, 12)[:, None] * np.arange(50).clip(1))
    index = np.repeat(np.arange(12), 20)
    c2 = curves[index][:, LAG] + rng.normal(0, 0.5, (240, 1275))
    target = np.stack([c2[index == k].mean(axis=0) for k in range(12)])
    return WindowData(
        c2=c2.astype(np.float32),
        target=target.astype(np.float32),
        target_index=index,
        window=np.tile(np.arange(20), 12),
        experiment=np.repeat(np.arange(4), 3),
    )


@pytest.fixture(scope="module")
def made(data: WindowData) -> Fitted:
    return learn(data, "synthetic")


def test_what_was_learned_is_read_again(made: Fitted, tmp_path: Path):
    read = load_fitted(save_fitted(made, tmp_path / "here"))
    np.testing.assert_allclose(read.prior.weight, made.prior.weight, rtol=1e-6, atol=1e-30)
    np.testing.assert_array_equal(read.components, made.components)
    assert read.prior.error_scale == pytest.approx(made.prior.error_scale)
    assert read.card["trained_on"]["inputs"] == 240


def test_the_prior_lies_where_the_training_fits_are(made: Fitted):
    prior = made.prior
    rate = np.exp(prior.ln_rate)
    by_rate = prior.weight.sum(axis=1)
    assert by_rate[(rate > 0.012) & (rate < 0.3)].sum() > 0.75
    assert np.diag(prior.lag_covariance)[:40].max() < 0.005  # the noise is white


def test_components_are_orthonormal_and_what_they_hold_is_nearer_to_the_target(
    data: WindowData, made: Fitted
):
    np.testing.assert_allclose(made.components @ made.components.T, np.eye(8), atol=1e-5)
    held = principal_components(data.c2, made.center, made.components)
    target = data.target[data.target_index]
    assert np.mean((held - target) ** 2) < 0.2 * np.mean((data.c2 - target) ** 2)


def test_the_noise_of_triangles_is_that_of_their_windows(data: WindowData):
    np.testing.assert_allclose(triangle_noise(data.c2), window_noise(to_windows(data.c2)))


def test_files_that_do_not_belong_together_are_refused(made: Fitted, tmp_path: Path):
    folder = save_fitted(made, tmp_path)
    card = json.loads((folder / CARD_NAME).read_text())
    (folder / CARD_NAME).write_text('{"sha256": "0"}', encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"card.json names 0\. The two do not belong"):
        load_fitted(folder)
    (folder / ARRAYS_NAME).write_bytes(b"nothing")
    card["sha256"] = hashlib.sha256(b"nothing").hexdigest()
    (folder / CARD_NAME).write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(InvalidInputError, match="Expected fitted"):
        load_fitted(folder)
    with pytest.raises(InvalidInputError, match="cannot be read"):
        load_fitted(tmp_path / "nowhere")


@pytest.mark.statistics
@pytest.mark.skipif(not TRAINING.exists(), reason="../shared/data is not here")
def test_the_shipped_file_is_what_the_training_data_give():
    shipped, made = load_fitted(), learn(load_windows(TRAINING), TRAINING.name)
    np.testing.assert_allclose(shipped.prior.weight, made.prior.weight, rtol=1e-3, atol=1e-9)
    np.testing.assert_allclose(
        shipped.prior.lag_covariance, made.prior.lag_covariance, rtol=1e-3, atol=1e-7
    )
    assert shipped.card["trained_on"] == made.card["trained_on"]
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < 200_000


@pytest.fixture(scope="module")
def noisy() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = (1 + np.exp(-0.1 * LAG))[np.newaxis].repeat(6, axis=0)
    return (truth + 0.5 * rng.normal(size=truth.shape)).astype(np.float32), truth


@pytest.mark.parametrize("denoise", [filters.gaussian, filters.median, filters.total_variation])
def test_a_filter_removes_noise_and_mixes_no_windows(denoise, noisy):
    c2, truth = noisy
    out = denoise(c2)
    assert out.shape == c2.shape
    assert np.mean((out - truth) ** 2) < 0.4 * np.mean((c2 - truth) ** 2)
    np.testing.assert_allclose(denoise(c2[:1]), out[:1], atol=1e-6)


def test_the_median_is_over_3x3_pixels_of_the_symmetric_window(noisy):
    c2, _ = noisy
    window, out = to_windows(c2)[2], to_windows(filters.median(c2))[2]
    assert out[20, 21] == np.median(window[19:22, 20:23])


def test_principal_components_keep_what_lies_in_them(noisy):
    c2, _ = noisy
    basis = np.linalg.qr(np.random.default_rng(1).normal(size=(1275, 8)))[0].T
    center = c2.mean(axis=0)
    inside = (center + basis[3] * 2.0)[np.newaxis]
    np.testing.assert_allclose(principal_components(inside, center, basis), inside, atol=1e-6)
    out = principal_components(c2, center, basis)
    np.testing.assert_allclose((out - c2) @ basis.T, 0, atol=1e-5)


def test_a_fixed_baseline_is_one_and_the_rest_is_the_best_fit_there(path: Path):
    c2 = load_windows(path).c2[:6]
    rates = fit_at_baseline_one(c2)
    np.testing.assert_allclose(rates["baseline"], 1, atol=1e-5)
    lags, away = np.arange(1.0, 50), np.array([0.3, -0.1, 0.1])

    def chi_square(k: int, p: np.ndarray) -> float:
        curve = 1 + p[2] * np.exp(-2 * (np.exp(p[0]) * lags) ** p[1])
        return float(LAG_WEIGHTS @ (one_time(c2[k]) - curve) ** 2)

    for k in np.flatnonzero(rates["converged"]):
        here = np.array([np.log(rates["gamma"][k]), rates["alpha"][k], rates["beta"][k]])
        best = min(
            minimize(lambda p, k=k: chi_square(k, p), start, method="Nelder-Mead").fun
            for start in (here, here + away, here - away)
        )
        assert chi_square(k, here) <= best * (1 + 1e-4)
    assert rates["converged"].sum() >= 3


def test_recommended_takes_the_raw_fit_where_it_is_sure(path: Path, tmp_path: Path):
    arrays = dict(np.load(path))
    clean = arrays["target"][arrays["target_index"]]
    rows = arrays["target_index"] >= 4
    noise = 0.02 * np.random.default_rng(1).normal(size=clean.shape)
    arrays["c2"] = np.where(rows[:, None], clean + noise, arrays["c2"]).astype(np.float32)
    np.savez(tmp_path / "half.npz", **arrays)
    evaluation = evaluate(tmp_path / "half.npz", methods=["raw_weighted", "bayes", "recommended"])
    found = evaluation.predictions
    source = found["recommended_source"]
    assert (source[rows] == "raw_weighted").all()
    assert (source == "bayes").sum() >= 15
    for method in ("raw_weighted", "bayes"):
        here = source == method
        np.testing.assert_array_equal(
            found["recommended_gamma"][here], found[f"{method}_gamma"][here]
        )
    assert np.isfinite(found["recommended_gamma_error"]).all()
    relative = found["recommended_gamma_error"] / found["recommended_gamma"]
    assert (relative[rows] >= HETEROGENEITY).all()
