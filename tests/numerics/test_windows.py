"""The sliding window against both passes written out, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.windows import WINDOW, denoise_two_time, window_inputs


class FakeEnsemble:
    """Turns each window into something that depends on its content, pixel and orientation."""

    def __init__(self, window: int = WINDOW) -> None:
        rng = np.random.default_rng(7)
        self.gain = rng.uniform(0.2, 0.8, (window, window))
        self.n_windows = 0
        self.calls: list[int] = []

    def denoise(self, windows):
        assert windows.dtype == np.float32
        assert np.isfinite(windows).all()
        self.n_windows += len(windows)
        self.calls.append(len(windows))
        whole = windows.mean(axis=(1, 2), keepdims=True)
        return self.gain * windows + whole**2, np.abs(windows - whole) * self.gain


class Echo:
    """Returns what it gets, with a spread of 1."""

    def denoise(self, windows):
        return windows, np.ones_like(windows)


def symmetric_c2(n_roi: int, n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    t = np.arange(n)
    decay = np.exp(-0.1 * np.abs(t[:, None] - t))
    noise = 0.1 * rng.standard_normal((n_roi, n, n))
    noise = (noise + noise.transpose(0, 2, 1)) / 2
    return 1.02 + 0.3 * decay + noise + 5.0 * np.eye(n)


def scaled_output(c2, ensemble, roi, start, window, contrast, baseline, seed):
    piece = c2[start : start + window, start : start + window]
    scaled = window_inputs(
        piece[None],
        np.array([start]),
        np.array([roi]),
        contrast=np.array([contrast]),
        baseline=np.array([baseline]),
        seed=seed,
    )
    mean, spread = ensemble.denoise(scaled)
    return (mean[0].astype(float) - 1) * contrast + baseline, spread[0].astype(float) * contrast


def one_pass(n, outputs, starts, window):
    """A pass as the text has it: the second value to reach a pixel is averaged with the first."""
    written = np.full((n, n), np.nan)
    for start in starts:
        for i in range(window):
            for j in range(window):
                y, there = outputs[start][i, j], written[start + i, start + j]
                written[start + i, start + j] = y if np.isnan(there) else (there + y) / 2
    return written


def plain_two_passes(
    c2, ensemble, roi, contrast, baseline, *, window, step, seed, starts_back=None
):
    """The algorithm literally: c2 (n, n) -> denoised and spread."""
    n = len(c2)
    forward = list(range(0, n - window + 1, step))
    backward = list(range(n - window, -1, -step)) if starts_back is None else starts_back
    outputs = {
        start: scaled_output(c2, ensemble, roi, start, window, contrast, baseline, seed)
        for start in {*forward, *backward}
    }
    results = []
    for quantity, outside in ((0, c2), (1, np.full_like(c2, np.nan))):
        values = {start: output[quantity] for start, output in outputs.items()}
        first = one_pass(n, values, forward, window)
        second = one_pass(n, values, backward, window)
        result = outside.copy()
        for i in range(n):
            for j in range(n):
                covered = [p[i, j] for p in (first, second) if not np.isnan(p[i, j])]
                if covered:
                    result[i, j] = sum(covered) / len(covered)
        result[np.isnan(c2)] = np.nan
        results.append(result)
    return results


@pytest.mark.parametrize("mode", ["nonequilibrium", "equilibrium"])
@pytest.mark.parametrize(
    ("n", "window", "step"),
    [(50, 50, 5), (51, 50, 5), (75, 50, 5), (83, 50, 5), (60, 20, 7), (47, 12, 12), (23, 12, 12)],
)
def test_equals_both_passes_written_out(n, window, step, mode):
    c2 = symmetric_c2(2, n, seed=n)
    ensemble = FakeEnsemble(window)
    done = denoise_two_time(c2, ensemble, window=window, step=step, mode=mode, seed=3)
    for roi in range(2):
        scale = done.contrast[roi], done.baseline[roi]
        expected, spread = plain_two_passes(
            c2[roi], ensemble, roi, *scale, window=window, step=step, seed=3
        )
        np.testing.assert_allclose(done.c2[roi], expected, atol=1e-6)
        np.testing.assert_allclose(done.spread[roi], spread, atol=1e-6)


def test_equals_both_passes_where_frames_are_missing():
    c2 = symmetric_c2(2, 83)
    for roi, frame in ((0, 0), (0, 30), (1, 82), (1, 81), (1, 31)):
        c2[roi, frame], c2[roi, :, frame] = np.nan, np.nan
    ensemble = FakeEnsemble()
    done = denoise_two_time(c2, ensemble, contrast=0.3, baseline=[1.0, 1.02])
    for roi, baseline in ((0, 1.0), (1, 1.02)):
        expected, spread = plain_two_passes(
            c2[roi], ensemble, roi, 0.3, baseline, window=50, step=5, seed=0
        )
        np.testing.assert_allclose(done.c2[roi], expected, atol=1e-6)
        np.testing.assert_allclose(done.spread[roi], spread, atol=1e-6)
    np.testing.assert_array_equal(np.isnan(done.c2), np.isnan(c2))


def test_keeps_what_the_ensemble_makes_asymmetric():
    c2 = symmetric_c2(1, 60)
    done = denoise_two_time(c2, FakeEnsemble())
    assert np.abs(done.c2 - done.c2.transpose(0, 2, 1)).max() > 0.01


def test_outside_all_windows_the_values_stay_raw_and_the_spread_is_nan():
    c2 = symmetric_c2(1, 80)
    done = denoise_two_time(c2, FakeEnsemble())
    lag = np.abs(np.subtract.outer(np.arange(80), np.arange(80)))
    np.testing.assert_array_equal(done.c2[0][lag >= 50], c2[0][lag >= 50])
    assert np.isnan(done.spread[0][lag >= 50]).all()
    assert np.isfinite(done.spread[0][lag < 45]).all()


def test_with_an_echo_only_the_diagonal_changes():
    c2 = symmetric_c2(1, 75)
    done = denoise_two_time(c2, Echo(), contrast=0.25, baseline=1.0)
    off_diagonal = ~np.eye(75, dtype=bool)
    np.testing.assert_allclose(done.c2[0][off_diagonal], c2[0][off_diagonal], rtol=2e-6)
    lag_1 = np.diagonal(c2[0], 1)
    diagonal = np.diagonal(done.c2[0])
    assert diagonal.max() <= lag_1.max() + 1e-6
    assert diagonal.min() >= lag_1.min() - 1e-6
    np.testing.assert_allclose(done.spread[np.isfinite(done.spread)], 0.25)


def test_a_window_that_both_passes_have_runs_once():
    ensemble = FakeEnsemble()
    denoise_two_time(symmetric_c2(1, 75), ensemble)
    assert ensemble.n_windows == 6
    ensemble = FakeEnsemble()
    denoise_two_time(symmetric_c2(1, 76), ensemble)
    assert ensemble.n_windows == 12


def test_the_ensemble_never_gets_more_than_256_windows_at_once():
    ensemble = FakeEnsemble(10)
    denoise_two_time(symmetric_c2(3, 120), ensemble, window=10, step=1)
    assert ensemble.n_windows == 3 * 111
    assert max(ensemble.calls) <= 256


def test_a_single_roi_without_an_axis_gives_the_same_without_an_axis():
    c2 = symmetric_c2(1, 70)
    stack, single = denoise_two_time(c2, FakeEnsemble()), denoise_two_time(c2[0], FakeEnsemble())
    np.testing.assert_array_equal(single.c2, stack.c2[0])
    np.testing.assert_array_equal(single.spread, stack.spread[0])
    assert isinstance(single.contrast, float)
    assert (single.contrast, single.baseline) == (stack.contrast[0], stack.baseline[0])


def test_a_roi_does_not_depend_on_the_windows_beside_it():
    c2 = symmetric_c2(3, 70)
    alone = denoise_two_time(c2[:1], FakeEnsemble())
    np.testing.assert_array_equal(denoise_two_time(c2, FakeEnsemble()).c2[0], alone.c2[0])


def test_float32_stays_float32_and_the_input_is_not_changed():
    c2 = symmetric_c2(1, 70).astype(np.float32)
    before = c2.copy()
    done = denoise_two_time(c2, FakeEnsemble())
    assert done.c2.dtype == done.spread.dtype == np.float32
    np.testing.assert_array_equal(c2, before)


def test_a_series_shorter_than_the_window_comes_back_as_it_is():
    c2 = symmetric_c2(2, 49)
    ensemble = FakeEnsemble()
    done = denoise_two_time(c2, ensemble)
    np.testing.assert_array_equal(done.c2, c2)
    assert np.isnan(done.spread).all()
    assert ensemble.n_windows == 0
    assert np.isfinite(done.contrast).all()


def test_a_roi_without_any_value_stays_raw_and_leaves_the_others_alone():
    c2 = symmetric_c2(2, 60)
    alone = denoise_two_time(c2, FakeEnsemble())
    c2[0] = np.nan
    done = denoise_two_time(c2, FakeEnsemble())
    assert np.isnan(done.contrast[0])
    assert np.isnan(done.c2[0]).all()
    assert np.isnan(done.spread[0]).all()
    np.testing.assert_array_equal(done.c2[1], alone.c2[1])


def test_a_roi_whose_contrast_is_not_positive_stays_raw():
    c2 = symmetric_c2(2, 60)
    c2[1] = 2.0 - c2[1]
    done = denoise_two_time(c2, FakeEnsemble())
    assert np.isnan(done.contrast[1])
    np.testing.assert_array_equal(done.c2[1], c2[1])
    assert np.isnan(done.spread[1]).all()


def test_a_contrast_given_as_nan_among_several_leaves_that_roi_raw():
    c2 = symmetric_c2(2, 60)
    done = denoise_two_time(c2, FakeEnsemble(), contrast=[np.nan, 0.3], baseline=[np.nan, 1.0])
    np.testing.assert_array_equal(done.c2[0], c2[0])
    assert np.isnan(done.spread[0]).all()
    assert np.abs(done.c2[1] - c2[1]).max() > 0.01


def test_a_contrast_without_baseline_and_a_baseline_without_contrast_are_completed():
    c2 = symmetric_c2(2, 60)
    both = denoise_two_time(c2, FakeEnsemble())
    one = denoise_two_time(c2, FakeEnsemble(), contrast=both.contrast)
    other = denoise_two_time(c2, FakeEnsemble(), baseline=both.baseline)
    np.testing.assert_array_equal(one.baseline, both.baseline)
    np.testing.assert_array_equal(other.contrast, both.contrast)
    np.testing.assert_array_equal(one.c2, other.c2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"c2": np.ones((3, 4))}, r"C2: got shape \(3, 4\); expected \(n, n\) or \(n_roi, n, n\)"),
        ({"c2": np.ones((2, 2, 3, 3))}, r"C2: got shape \(2, 2, 3, 3\)"),
        ({"c2": np.ones((60, 60), complex)}, "C2: got dtype complex128; expected real"),
        ({"contrast": 0.0}, "contrast: got 0.0; of ROI index 0 .* above 0"),
        ({"contrast": np.nan}, "contrast: got nan"),
        ({"contrast": [0.2, -0.1]}, "contrast: .* ROI index 1 .of 2. it must be finite"),
        ({"contrast": [0.2, np.inf]}, "contrast: .* ROI index 1 .of 2. it must be finite"),
        ({"contrast": [0.2, 0.2, 0.2]}, r"contrast: got shape \(3,\).* 2 ROIs"),
        ({"baseline": [np.inf, 1.0]}, "baseline: .* ROI index 0"),
        ({"mode": "ageing"}, "mode: got 'ageing'; expected one of 'nonequilibrium', 'equilibrium'"),
        ({"window": 1}, "got window 1 and step 5"),
        ({"step": 0}, "got window 50 and step 0"),
        ({"step": 51}, "1 <= step <= window"),
    ],
)
def test_what_cannot_be_used_is_refused(change, message):
    arguments = {"c2": symmetric_c2(2, 60), **change}
    with pytest.raises(InvalidInputError, match=message):
        denoise_two_time(ensemble=FakeEnsemble(), **arguments)


def test_an_ensemble_that_returns_another_shape_is_refused():
    class Wrong:
        def denoise(self, windows):
            return windows[:, 1:], windows

    with pytest.raises(InvalidInputError, match=r"Ensemble: got mean .* \(1, 49, 50\)"):
        denoise_two_time(symmetric_c2(1, 50), Wrong())
