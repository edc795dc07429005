"""Windows as the denoiser takes them: diagonal, gaps, scale and way back."""

from __future__ import annotations

import numpy as np
import pytest

from xpcs_live_denoise.numerics.windows import restore, window_inputs

SIZE = 12


def noisy_windows(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.uniform(1.0, 1.5, (count, SIZE, SIZE))
    return (values + values.transpose(0, 2, 1)) / 2


def prepared(windows, *, starts=None, rois=None, contrast=1.0, baseline=1.0, seed=0):
    count = len(windows)
    return window_inputs(
        windows,
        np.arange(count) * 5 if starts is None else np.asarray(starts),
        np.zeros(count, int) if rois is None else np.asarray(rois),
        contrast=np.full(count, contrast),
        baseline=np.full(count, baseline),
        seed=seed,
    )


def test_the_diagonal_takes_values_of_lag_1_and_nothing_else_changes():
    windows = noisy_windows(3)
    inputs = prepared(windows)
    for window, got in zip(windows.astype(np.float32), inputs, strict=True):
        assert set(np.diagonal(got)) <= set(np.diagonal(window, 1))
        assert len(set(np.diagonal(got))) > 3
        off_diagonal = ~np.eye(SIZE, dtype=bool)
        np.testing.assert_allclose(got[off_diagonal], window[off_diagonal], rtol=1e-6)


def test_the_draws_are_keyed_by_seed_roi_and_start_alone():
    window = noisy_windows(1)
    same = np.repeat(window, 4, axis=0)
    first = prepared(same, starts=[5, 5, 10, 5], rois=[0, 1, 0, 0])
    np.testing.assert_array_equal(first[0], first[3])
    np.testing.assert_array_equal(first[:1], prepared(window, starts=[5]))
    for other in (first[1], first[2], prepared(window, starts=[5], seed=1)[0]):
        assert (np.diagonal(other) != np.diagonal(first[0])).any()


def test_a_negative_seed_works():
    assert np.isfinite(prepared(noisy_windows(1), seed=-3)).all()


def test_scaling_brings_baseline_to_one_and_contrast_to_two():
    windows = np.full((1, SIZE, SIZE), 1.02)
    windows[0, 0, 1] = windows[0, 1, 0] = 1.32
    inputs = prepared(windows, contrast=0.3, baseline=1.02)
    assert inputs.dtype == np.float32
    assert inputs[0, 0, 1] == pytest.approx(2.0, abs=1e-6)
    assert inputs[0, 0, 5] == pytest.approx(1.0, abs=1e-6)


def test_restoring_undoes_the_scaling():
    windows = noisy_windows(2)
    inputs = prepared(windows, contrast=0.3, baseline=1.02)
    scale = {"contrast": np.full(2, 0.3), "baseline": np.full(2, 1.02)}
    mean, spread = restore(inputs, np.ones_like(inputs), **scale)
    off_diagonal = ~np.eye(SIZE, dtype=bool)
    np.testing.assert_allclose(mean[:, off_diagonal], windows[:, off_diagonal], rtol=1e-6)
    np.testing.assert_allclose(spread, 0.3)


def test_gaps_take_values_of_their_own_lag_and_stay_symmetric():
    windows = noisy_windows(2)
    windows[0, 4], windows[0, :, 4] = np.nan, np.nan
    inputs = prepared(windows)
    full = windows[0].astype(np.float32)
    for i in range(SIZE):
        lag = abs(i - 4)
        if lag and np.isfinite(np.diagonal(full, lag)).any():
            assert inputs[0, 4, i] in np.diagonal(full, lag)
            assert inputs[0, i, 4] == inputs[0, 4, i]
    assert inputs[0, 4, 4] in np.diagonal(full, 1)
    np.testing.assert_array_equal(inputs[1], prepared(windows)[1])


def test_a_lag_without_values_takes_those_of_the_nearest_lag():
    windows = noisy_windows(1)
    windows[0, 0], windows[0, :, 0] = np.nan, np.nan
    inputs = prepared(windows)
    # The longest lag has one entry, which is missing; the next one still has the other end.
    assert inputs[0, 0, SIZE - 1] == np.float32(windows[0, 1, SIZE - 1])


def test_a_window_without_lag_1_takes_the_diagonal_from_lag_2():
    windows = noisy_windows(1)
    i = np.arange(SIZE - 1)
    windows[0, i, i + 1] = windows[0, i + 1, i] = np.nan
    inputs = prepared(windows)
    allowed = set(np.diagonal(windows[0].astype(np.float32), 2))
    assert set(np.diagonal(inputs[0])) <= allowed
    assert set(np.diagonal(inputs[0], 1)) <= allowed


def test_a_window_without_values_is_the_baseline():
    inputs = prepared(np.full((1, SIZE, SIZE), np.nan), contrast=0.2, baseline=1.1)
    np.testing.assert_allclose(inputs, 1.0)
