"""Methods that are more than a call: the fit at a fixed baseline, and what is recommended."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from xpcs_live_denoise.denoising.evaluation.evaluate import evaluate
from xpcs_live_denoise.denoising.evaluation.methods import HETEROGENEITY, fit_at_baseline_one
from xpcs_live_denoise.denoising.evaluation.metrics import LAG_WEIGHTS
from xpcs_live_denoise.denoising.model import one_time
from xpcs_live_denoise.denoising.training.data import load_windows


def test_a_fixed_baseline_is_one_and_the_rest_is_the_best_fit_there(path: Path):
    c2 = load_windows(path).c2[:6]
    rates = fit_at_baseline_one(c2)
    np.testing.assert_allclose(rates.baseline, 1, atol=1e-5)
    lags, away = np.arange(1.0, 50), np.array([0.3, -0.1, 0.1])

    def chi_square(k: int, p: np.ndarray) -> float:
        curve = 1 + p[2] * np.exp(-2 * (np.exp(p[0]) * lags) ** p[1])
        return float(LAG_WEIGHTS @ (one_time(c2[k]) - curve) ** 2)

    for k in np.flatnonzero(rates.converged):
        here = np.array([np.log(rates.gamma[k]), rates.alpha[k], rates.beta[k]])
        best = min(
            minimize(lambda p, k=k: chi_square(k, p), start, method="Nelder-Mead").fun
            for start in (here, here + away, here - away)
        )
        assert chi_square(k, here) <= best * (1 + 1e-4)
    assert rates.converged.sum() >= 3


def test_recommended_takes_the_raw_fit_where_it_is_sure(path: Path, tmp_path: Path):
    arrays = dict(np.load(path))
    clean = arrays["target"][arrays["target_index"]]
    rows = arrays["target_index"] >= 4
    noise = 0.02 * np.random.default_rng(1).normal(size=clean.shape)
    arrays["c2"] = np.where(rows[:, None], clean + noise, arrays["c2"]).astype(np.float32)
    np.savez(tmp_path / "half.npz", **arrays)
    said = evaluate(tmp_path / "half.npz", methods=["raw_weighted", "bayes", "recommended"])
    said = said.predictions
    source = said["recommended_source"]
    assert (source[rows] == "raw_weighted").all()
    assert (source == "bayes").sum() >= 15
    for method in ("raw_weighted", "bayes"):
        here = source == method
        np.testing.assert_array_equal(
            said["recommended_gamma"][here], said[f"{method}_gamma"][here]
        )
    assert np.isfinite(said["recommended_gamma_error"]).all()
    relative = said["recommended_gamma_error"] / said["recommended_gamma"]
    assert (relative[rows] >= HETEROGENEITY).all()
