"""beta* and baseline* against plain means over the pixels that the text names."""

from __future__ import annotations

import numpy as np
import pytest

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.contrast import default_ranges, estimate_contrast


def ageing_c2(n: int, n_roi: int = 2) -> np.ndarray:
    rng = np.random.default_rng(n)
    t = np.arange(n)
    rate = 0.2 / (1 + t / 40)
    phase = np.cumsum(rate)
    c2 = 1.02 + 0.3 * np.exp(-2 * np.abs(phase[:, None] - phase))
    noise = 0.05 * rng.standard_normal((n_roi, n, n))
    return c2 + (noise + noise.transpose(0, 2, 1)) / 2 + 9.0 * np.eye(n)


def plain_estimate(c2, lags, frames):
    n = len(c2)
    long = [c2[i, j] for i in range(n) for j in range(n) if lags[0] <= j - i < lags[1]]
    quiet = [c2[t, t + 1] for t in range(frames[0], frames[1] - 1)]
    baseline = np.nanmean(long)
    return np.nanmean(quiet) - baseline, baseline


def test_the_default_ranges_are_those_of_the_paper_for_400_frames():
    assert default_ranges(400) == ((270, 301), (250, 301))


@pytest.mark.parametrize("n", [*range(2, 60), 100, 399, 1000])
def test_the_default_ranges_fit_into_every_series(n):
    (lag, last_lag), (frame, last_frame) = default_ranges(n)
    assert 1 <= lag < last_lag <= n
    assert 0 <= frame <= last_frame - 2 <= n - 2
    if n >= 100:
        assert lag / n == pytest.approx(0.675, abs=0.01)
        assert last_frame / n == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize(
    ("n", "options"),
    [
        (120, {}),
        (33, {}),
        (120, {"baseline_lags": (70, 90), "contrast_frames": (10, 30)}),
        (120, {"baseline_lags": (119, 120), "contrast_frames": (118, 120)}),
    ],
)
def test_nonequilibrium_is_the_mean_over_both_ranges(n, options):
    c2 = ageing_c2(n)
    lags, frames = default_ranges(n)
    lags = options.get("baseline_lags", lags)
    frames = options.get("contrast_frames", frames)
    contrast, baseline = estimate_contrast(c2, **options)
    for roi in range(2):
        expected = plain_estimate(c2[roi], lags, frames)
        np.testing.assert_allclose((contrast[roi], baseline[roi]), expected, rtol=1e-12)


def test_equilibrium_is_g2_at_lag_1_above_a_baseline_of_1():
    c2 = ageing_c2(80)
    contrast, baseline = estimate_contrast(c2, mode="equilibrium")
    expected = [np.diagonal(c2[roi], 1).mean() - 1 for roi in range(2)]
    np.testing.assert_allclose(contrast, expected, rtol=1e-12)
    np.testing.assert_array_equal(baseline, [1.0, 1.0])


def test_missing_frames_are_left_out_of_the_means():
    c2 = ageing_c2(100)
    for frame in (5, 66, 70, 99):
        c2[0, frame], c2[0, :, frame] = np.nan, np.nan
    contrast, baseline = estimate_contrast(c2)
    expected = plain_estimate(c2[0], *default_ranges(100))
    np.testing.assert_allclose((contrast[0], baseline[0]), expected, rtol=1e-12)


def test_a_given_baseline_is_what_the_contrast_is_measured_from():
    c2 = ageing_c2(100)
    contrast, baseline = estimate_contrast(c2)
    from_one, one = estimate_contrast(c2, baseline=1.0)
    np.testing.assert_array_equal(one, [1.0, 1.0])
    np.testing.assert_allclose(from_one + 1, contrast + baseline)


def test_float32_loses_no_digits_in_the_sums():
    c2 = ageing_c2(300, n_roi=1).astype(np.float32)
    single, double = estimate_contrast(c2), estimate_contrast(c2.astype(np.float64))
    np.testing.assert_allclose(single, double, rtol=1e-9)


@pytest.mark.parametrize("n", [3, 4, 7, 20, 50])
@pytest.mark.parametrize("mode", ["nonequilibrium", "equilibrium"])
def test_short_series_have_an_estimate(n, mode):
    _, baseline = estimate_contrast(ageing_c2(n), mode=mode)
    assert np.isfinite(baseline).all()


@pytest.mark.parametrize("n", [0, 1])
def test_a_series_without_a_lag_has_none(n):
    contrast, baseline = estimate_contrast(np.ones((2, n, n)))
    assert np.isnan(contrast).all()
    assert np.isnan(baseline).all()


def test_a_roi_without_values_or_without_contrast_gives_nan():
    c2 = ageing_c2(60, n_roi=3)
    c2[0] = np.nan
    c2[1] = 2.0 - c2[1]
    contrast, baseline = estimate_contrast(c2)
    np.testing.assert_array_equal(np.isnan(contrast), [True, True, False])
    np.testing.assert_array_equal(np.isnan(baseline), [True, False, False])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline_lags": (50, 61)}, r"baseline_lags: got \(50, 61\) for a series of 60 frames"),
        ({"baseline_lags": (0, 5)}, "1 <= first"),
        ({"baseline_lags": (7, 7)}, "at least 1 in it"),
        ({"contrast_frames": (-1, 9)}, "0 <= first, last < 60"),
        ({"contrast_frames": (9, 10)}, "at least 2 in it"),
        ({"mode": "other"}, "mode: got 'other'; expected one of"),
        ({"baseline": [1.0, 1.0, 1.0]}, r"baseline: got shape \(3,\)"),
    ],
)
def test_what_cannot_be_used_is_refused(options, message):
    with pytest.raises(InvalidInputError, match=message):
        estimate_contrast(ageing_c2(60), **options)


def test_one_frame_has_no_default_ranges():
    with pytest.raises(InvalidInputError, match="got 1 frames; expected at least 2"):
        default_ranges(1)
