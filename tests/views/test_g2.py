"""g2 while a run is on and afterwards, with its fit."""

import numpy as np
import pytest

from xpcs_live_denoise import views
from xpcs_live_denoise.views.g2 import NO_CURVE, g2_curve, g2_so_far


def symmetric(n, seed=0):
    noise = np.random.default_rng(seed).normal(1.0, 0.1, (n, n)).astype(np.float32)
    return (noise + noise.T) / 2


def test_g2_so_far_is_the_mean_along_each_diagonal_without_gaps():
    c2 = symmetric(80)
    c2[30], c2[:, 30] = np.nan, np.nan
    expected = [np.nanmean(np.diagonal(c2, lag)) for lag in range(1, 80)]
    lags, g2 = g2_so_far(c2, near=np.full(49, 7.0))
    np.testing.assert_array_equal(lags, np.arange(1, 80))
    np.testing.assert_allclose(g2, expected, rtol=1e-5)


@pytest.mark.parametrize(("entry", "first"), [(2, 50), (16, 64), (64, 128)])
def test_g2_of_bins_of_several_frames_has_its_short_lags_from_the_band(entry, first):
    bins = symmetric(40)
    lags, g2 = g2_so_far(bins, entry, np.linspace(2, 1, 49))
    np.testing.assert_array_equal(lags[:49], np.arange(1, 50))
    np.testing.assert_array_equal(g2[:49], np.linspace(2, 1, 49))
    np.testing.assert_array_equal(lags[49:], np.arange(first, 40 * entry, entry))
    far = [np.diagonal(bins, lag // entry).mean() for lag in lags[49:]]
    np.testing.assert_allclose(g2[49:], far, rtol=1e-5)


def decaying(n=60, step_s=0.5):
    delay_s = np.arange(1, n) * step_s
    return delay_s, 1 + 0.3 * np.exp(-2 * 0.2 * delay_s)


@pytest.mark.parametrize(
    "error", [None, np.full(59, 0.01), np.r_[np.full(30, 0.01), [np.nan] * 29]]
)
def test_g2_of_a_live_run_has_a_fit_and_its_last_lags_are_left_out(error):
    delay_s, g2 = decaying()
    curve = g2_curve(delay_s, g2, error)
    assert curve.delay_s.max() == 0.5 * 48  # 0.8 of 59 lags
    np.testing.assert_allclose(curve.g2, g2[: len(curve.g2)])
    np.testing.assert_allclose(curve.fit_g2, 1 + 0.3 * np.exp(-0.4 * curve.fit_delay_s), rtol=1e-3)
    assert (curve.upper > curve.lower).any() == (error is not None)


def test_a_final_result_shows_its_own_fit_or_none(synthetic):
    delay_s, g2 = decaying()
    row = synthetic(n_roi=1).gamma(range(1), source="series_raw")
    curve = g2_curve(delay_s, g2, fit=row, fit_now=False)
    np.testing.assert_allclose(curve.fit_g2, 0.5 + 0.5 * np.exp(-2 * np.sqrt(curve.fit_delay_s)))
    assert not g2_curve(delay_s, g2, fit_now=False).fit_g2.size


def test_a_denoised_g2_keeps_all_lags_of_a_window_in_a_long_series():
    delay_s, g2 = decaying()
    assert len(g2_curve(delay_s, g2, measured_s=500.0).g2) == 59


def test_g2_at_multi_tau_lags_is_drawn_and_fitted_at_its_delays():
    lags = np.r_[np.arange(1, 50), np.rint(np.geomspace(50, 80_000, 300))]
    g2 = 1 + 0.3 * np.exp(-2e-3 * lags)
    curve = g2_curve(0.01 * lags, g2, measured_s=1000.0)
    assert len(curve.g2) <= 120
    np.testing.assert_allclose(np.diff(np.log(curve.delay_s))[-60:], 0.094, rtol=0.5)
    np.testing.assert_allclose(curve.g2, 1 + 0.3 * np.exp(-0.2 * curve.delay_s))
    np.testing.assert_allclose(curve.fit_g2, 1 + 0.3 * np.exp(-0.2 * curve.fit_delay_s), rtol=1e-3)


def test_points_are_evenly_spread_on_the_logarithmic_axis():
    delay_s, g2 = decaying(5000)
    curve = g2_curve(delay_s, g2, fit_now=False)
    assert len(curve.g2) <= 120
    np.testing.assert_allclose(curve.delay_s[:3], delay_s[:3])


@pytest.mark.parametrize("g2", [None, np.empty(0), np.full(9, np.nan)])
def test_without_values_there_is_no_curve(g2):
    assert g2_curve(np.arange(1.0, 10), g2) is NO_CURVE
    shown = view(np.arange(1.0, 10), g2, None, n_frames=10)
    assert shown.raw is shown.denoised is NO_CURVE
    assert (shown.first_s, shown.last_s) == (1.0, 10.0)


def view(delay_s, raw, denoised, **given):
    options = {"table": None, "label": 1, "frame_time_s": 1.0, "series_s": 9.0}
    return views.g2_view(
        delay_s, raw, denoised, **{**options, "whole": False, "final": False, **given}
    )


@pytest.mark.parametrize(
    ("whole", "final", "title", "note"),
    [
        (False, False, "g₂ so far", "waiting for frames"),
        (False, True, "g₂ of 60 frames", "no frames"),
        (True, True, "g₂ of the whole series", "no frames"),
    ],
)
def test_the_title_says_of_what_g2_is_and_promises_nothing(whole, final, title, note):
    shown = view(np.empty(0), None, None, n_frames=60, whole=whole, final=final)
    assert (shown.title, shown.note) == (title, note)


def test_the_axes_hold_both_curves_and_the_rest_of_the_series(synthetic):
    delay_s, g2 = decaying()
    row = synthetic(n_roi=1).gamma(range(1), source="series_denoised")
    shown = view(
        delay_s, g2, g2[:20] + 1, table=row, n_frames=60, frame_time_s=0.5, series_s=100.0,
        whole=True, final=True,
    )  # fmt: skip
    assert shown.low < g2.min()
    assert shown.high > g2.max() + 1
    assert (shown.first_s, shown.last_s) == (0.85 * 0.5, 1.2 * 80.0)
    assert shown.title == "g₂ of the whole series"
    assert not shown.raw.fit_g2.size
    assert shown.denoised.fit_g2.size, "the fit among the rows of its ROI"
