"""Cost and improvement are what the paper and the issue say, computed the plain way."""

from __future__ import annotations

import numpy as np
import pytest

from xpcs_live_denoise.denoising.evaluation.metrics import (
    disjoint_truth,
    errors,
    improved,
    summary,
)
from xpcs_live_denoise.denoising.training.data import WindowData
from xpcs_live_denoise.numerics.windows import one_time, to_windows


def make_data(seed: int = 0) -> WindowData:
    rng = np.random.default_rng(seed)
    index = np.array([0] * 5 + [1] * 2 + [2] * 6)
    c2 = rng.normal(1, 0.5, (13, 1275)).astype(np.float32)
    target = np.stack([c2[index == i].mean(axis=0) for i in range(3)])
    # Series 1 has neighbours only; series 2 lacks cut 3 and starts late.
    window = np.array([0, 1, 2, 3, 4, 0, 1, 2, 4, 5, 6, 7, 9])
    return WindowData(
        c2=c2, target=target, target_index=index, window=window, experiment=np.array([0, 0, 1])
    )


def test_errors_are_eq_8_over_whole_windows():
    data = make_data()
    cost, mse_g2 = errors(data.c2, data.targets)
    out, target = to_windows(data.c2), to_windows(data.targets)
    for k in range(len(data)):
        c2_term = np.mean((out[k] - target[k]) ** 2)
        g2 = [np.diagonal(out[k] - target[k], lag).mean() for lag in range(1, 50)]
        assert mse_g2[k] == pytest.approx(np.mean(np.square(g2)), rel=1e-4)
        assert cost[k] == pytest.approx(c2_term + np.mean(np.square(g2)), rel=1e-4)


def test_g2_is_the_mean_along_each_diagonal():
    c2 = make_data().c2
    expected = [np.diagonal(to_windows(c2)[3], lag).mean() for lag in range(1, 50)]
    np.testing.assert_allclose(one_time(c2)[3], expected, rtol=1e-5)


def test_the_disjoint_truth_is_the_mean_of_cuts_two_or_more_away():
    data = make_data()
    truth, known = disjoint_truth(data)
    for k in range(len(data)):
        away = np.abs(data.window - data.window[k]) >= 2
        others = away & (data.target_index == data.target_index[k])
        assert known[k] == others.any()
        if known[k]:
            np.testing.assert_allclose(truth[k], data.c2[others].mean(axis=0), atol=1e-5)
    assert known.sum() == 11


def test_windows_nearer_to_the_disjoint_truth_are_improved():
    data = make_data()
    truth, known = disjoint_truth(data)
    better = data.c2 + 0.5 * (truth - data.c2)
    worse = data.c2 - 0.5 * (truth - data.c2)
    for c2, expected in ((better, True), (worse, False)):
        by_c2, by_g2 = improved(c2, data)
        assert by_c2.shape == by_g2.shape == (known.sum(),)
        assert (by_c2 == expected).all()
        assert (by_g2 == expected).all()


def test_the_summary_of_raw_inputs_claims_no_improvement():
    data = make_data()
    raw, copy = summary(data.c2, data), summary(data.c2.copy(), data)
    assert raw["improved_fraction"] is None
    assert copy["improved_fraction"] == copy["improved_fraction_g2"] == 0.0
    assert raw["cost"] == copy["cost"]
    assert raw["cost_median"] == pytest.approx(np.median(errors(data.c2, data.targets)[0]))
    assert raw["n_frame_disjoint"] == 11
