"""g2 while a run is on and afterwards, with its fit."""

import numpy as np
import pytest

from xpcs_live_denoise import views
from xpcs_live_denoise.records.results import Band, C2Rows
from xpcs_live_denoise.views.g2 import MOST_WITH_ERRORS, NO_CURVE, g2_curve


def symmetric(n, n_roi=2, seed=0):
    noise = np.random.default_rng(seed).normal(1.0, 0.1, (n_roi, n, n)).astype(np.float32)
    return (noise + noise.swapaxes(1, 2)) / 2


def fed(c2, step=7):
    sums = views.DiagonalSums(len(c2), 50)
    for start in range(0, c2.shape[-1], step):
        stop = min(c2.shape[-1], start + step)
        sums.add_rows(C2Rows(start=start, stop=stop, values=c2[:, start:stop, :stop]))
    return sums


def test_g2_so_far_is_the_mean_along_each_diagonal_without_gaps():
    c2 = symmetric(80)
    c2[:, 30], c2[:, :, 30] = np.nan, np.nan
    expected = [np.nanmean(np.diagonal(c2[0], lag)) for lag in range(1, 80)]
    np.testing.assert_allclose(fed(c2).raw(0), expected, rtol=1e-5)
    g2, error = views.g2_so_far(c2[0])
    np.testing.assert_allclose(g2, expected, rtol=1e-5)
    assert np.isfinite(error[:40]).all()


def test_rows_that_come_anew_from_the_first_on_replace_all_before():
    c2 = symmetric(60)
    sums = fed(c2 + 1)
    sums.add_rows(C2Rows(start=0, stop=60, values=c2))
    np.testing.assert_allclose(sums.raw(0), fed(c2).raw(0), rtol=1e-6)


def test_a_long_series_has_g2_without_errors():
    n = MOST_WITH_ERRORS + 1
    c2 = np.ones((n, n), np.float32)
    c2[5] = np.nan
    c2[0, n - 1] = 7.0  # the one entry of the longest lag
    g2, error = views.g2_so_far(c2)
    assert error is None
    assert g2[-1] == 7.0
    np.testing.assert_allclose(g2[:-1], 1.0)


def test_rows_that_come_twice_count_once():
    c2 = symmetric(40)
    sums = fed(c2)
    sums.add_rows(C2Rows(start=20, stop=40, values=c2[:, 20:40, :40]))
    expected = [np.diagonal(c2[1], lag).mean() for lag in range(1, 40)]
    np.testing.assert_allclose(sums.raw(1), expected, rtol=1e-5)


def test_denoised_g2_is_the_mean_where_windows_reached():
    c2 = symmetric(90)
    near = abs(np.subtract.outer(np.arange(90), np.arange(90))) < 50
    spread = np.broadcast_to(np.where(near, 0.1, np.nan), c2.shape)
    sums, covered = fed(c2), np.zeros((90, 90), bool)
    assert sums.denoised(0) is None
    for start, stop in ((0, 60), (40, 90), (20, 80)):
        block = np.s_[:, start:stop, start:stop]
        sums.add_band(Band(start=start, stop=stop, c2=c2[block] + 1, spread=spread[block]))
        covered[start:stop, start:stop] = True
    lags = [np.diagonal(c2[0] + 1, lag)[np.diagonal(covered, lag)].mean() for lag in range(1, 50)]
    np.testing.assert_allclose(sums.denoised(0), lags, rtol=1e-5)


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
    assert len(g2_curve(delay_s, g2, n_frames=1000).g2) == 59


def test_points_are_evenly_spread_on_the_logarithmic_axis():
    delay_s, g2 = decaying(5000)
    curve = g2_curve(delay_s, g2, fit_now=False)
    assert len(curve.g2) <= 120
    np.testing.assert_allclose(curve.delay_s[:3], delay_s[:3])


@pytest.mark.parametrize("g2", [None, np.empty(0), np.full(9, np.nan)])
def test_without_values_there_is_no_curve(g2):
    assert g2_curve(np.arange(1.0, 10), g2) is NO_CURVE
    delay_s = np.arange(1.0, 10)
    shown = views.g2_view(delay_s, g2, None, table=None, label=1, series_s=9.0, final=False)
    assert shown.raw is shown.denoised is NO_CURVE
    assert (shown.first_s, shown.last_s) == (1.0, 10.0)
    assert shown.title == "g₂ so far"


def test_the_axes_hold_both_curves_and_the_rest_of_the_series(synthetic):
    delay_s, g2 = decaying()
    row = synthetic(n_roi=1).gamma(range(1), source="series_denoised")
    shown = views.g2_view(
        delay_s, g2, g2[:20] + 1, table=row, label=1, series_s=100.0, final=True, n_frames=60
    )
    assert shown.low < g2.min()
    assert shown.high > g2.max() + 1
    assert (shown.first_s, shown.last_s) == (0.85 * 0.5, 1.2 * 80.0)
    assert shown.title == "g₂ of the whole series"
    assert not shown.raw.fit_g2.size
    assert shown.denoised.fit_g2.size, "the fit among the rows of its ROI"
