"""The band of C2 while it grows: rows as they are, and means of older ones."""

import numpy as np
import pytest

from xpcs_live_denoise.numerics.two_time import band_of_c2
from xpcs_live_denoise.views import C2Band

WINDOW = 6


def bands(n, n_roi=2, seed=0):
    """Raw rows, and denoised ones that no window reached at the last lag."""
    raw = np.random.default_rng(seed).normal(1.0, 0.1, (n_roi, n, WINDOW)).astype(np.float32)
    for lag in range(WINDOW):
        raw[:, :lag, lag] = np.nan
    denoised = raw + np.float32(0.5)
    denoised[..., -1] = raw[..., -1]
    return raw, denoised


def fed(raw, denoised, most, step=7):
    band = C2Band(len(raw), WINDOW, most)
    for start in range(0, raw.shape[1], step):
        # What comes again has better values.
        first = max(0, start - 3)
        late = slice(first, start + step)
        band.add(first, raw[:, late], None if denoised is None else denoised[:, late])
    return band


def test_a_short_series_has_its_denoised_square_near_the_diagonal():
    noise = np.random.default_rng(1).normal(1.0, 0.1, (2, 40, 40)).astype(np.float32)
    c2 = noise + noise.swapaxes(1, 2)
    raw = band_of_c2(c2, 0, 40, WINDOW)
    band = fed(raw, raw + 1, 64)
    near = abs(np.subtract.outer(np.arange(40), np.arange(40))) < WINDOW
    np.testing.assert_allclose(band.square(1, 40), np.where(near, c2[1] + 1, np.nan))
    np.testing.assert_allclose(band.square(1, 44, 2)[:20, :20], band.square(1, 40)[::2, ::2])
    assert fed(raw, None, 64).square(1, 40) is None


@pytest.mark.parametrize("n", [30, 64, 65, 200, 1000, 4321])
def test_a_strip_of_any_length_is_the_mean_over_its_ages(n):
    raw, denoised = bands(n)
    band = fed(raw, denoised, 64)
    values, is_denoised = band.strip(1)
    by = band.frames_per_bin
    assert is_denoised
    assert values.shape == (WINDOW - 1, -(-n // by))
    assert values.shape[1] <= 64
    reached = np.r_[np.full(WINDOW - 2, 0.5), 0.0]
    for column in (0, len(values.T) // 2, len(values.T) - 1):
        rows = raw[1, column * by : (column + 1) * by, 1:]
        known = np.isfinite(rows).any(axis=0)
        expected = np.nanmean(rows[:, known], axis=0) + reached[known]
        np.testing.assert_allclose(values[known, column], expected, rtol=1e-5)


@pytest.mark.parametrize("n", [50, 3000])
def test_g2_of_the_band_is_the_mean_over_all_rows_and_denoised_only_where_windows_reached(n):
    raw, denoised = bands(n)
    g2, smooth = fed(raw, denoised, 64).g2(0)
    np.testing.assert_allclose(g2, np.nanmean(raw[0, :, 1:], axis=0), rtol=1e-5)
    np.testing.assert_allclose(smooth[:-1], g2[:-1] + 0.5, rtol=1e-5)
    assert np.isnan(smooth[-1])
    assert fed(raw, None, 64).g2(0)[1] is None


def test_rows_that_come_anew_from_the_first_on_replace_all_before():
    raw, denoised = bands(300)
    band = fed(raw, denoised, 64)
    band.add(0, raw[:, :20] + 1, None)
    assert (band.n_frames, band.frames_per_bin) == (20, 1)
    values, is_denoised = band.strip(0)
    assert not is_denoised
    np.testing.assert_allclose(values, raw[0, :20, 1:].T + 1)


def test_raw_and_denoised_rows_may_come_one_after_the_other_and_anew():
    raw, denoised = bands(40)
    band = C2Band(2, WINDOW, 64)
    band.add(0, denoised=denoised[:, :30])
    band.add(0, raw[:, :40])
    np.testing.assert_allclose(band.strip(0)[0][:-1, :30], denoised[0, :30, 1:-1].T)
    np.testing.assert_allclose(band.strip(0)[0][:, 30:], raw[0, 30:, 1:].T)
    band.add(0, raw[:, :20])
    band.add(0, denoised=denoised[:, :20])
    assert band.n_frames == 20


def test_the_last_rows_of_a_long_series_need_no_place_for_those_before():
    raw, _ = bands(30)
    band = C2Band(2, WINDOW, 64)
    band.add(100_000, raw, None)
    values, _ = band.strip(0)
    assert values.shape[1] <= 64
    assert np.isfinite(values[:, -1]).all()
    assert np.isnan(values[:, :-1]).all()


def test_rows_far_apart_stand_for_those_between():
    raw, denoised = bands(4000)
    band = C2Band(2, WINDOW, 64)
    band.add(0, raw[:, :3900:50], denoised[:, :3900:50], step=50)
    band.add(3900, raw[:, 3900:], denoised[:, 3900:])
    values, _ = band.strip(1)
    assert band.n_frames == 4000
    assert np.isfinite(values[:, 1:]).all()
    np.testing.assert_allclose(values[:-1].mean(), 1.5, atol=0.02)
