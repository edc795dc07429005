"""C2 for drawing: thinned, growing, with the means along its diagonals."""

import numpy as np
import pytest

from xpcs_live_denoise.records.results import Band, C2Rows
from xpcs_live_denoise.views.state import MOST_EDGE, ShownC2


def symmetric(n, n_roi=2, seed=0):
    noise = np.random.default_rng(seed).normal(1.0, 0.1, (n_roi, n, n)).astype(np.float32)
    return (noise + noise.swapaxes(1, 2)) / 2


def feed(shown, c2, step=7):
    n = c2.shape[-1]
    for start in range(0, n, step):
        stop = min(n, start + step)
        shown.add_rows(C2Rows(start=start, stop=stop, values=c2[:, start:stop, :stop]))


@pytest.mark.parametrize("n_expected", [None, 100, 150, 2000])
def test_rows_in_parts_make_up_the_whole_c2(n_expected):
    c2 = symmetric(100)
    shown = ShownC2(2, n_expected, 50)
    feed(shown, c2)
    raw, denoised = shown.images(1)
    np.testing.assert_array_equal(raw, c2[1, :: shown.step, :: shown.step])
    assert denoised is None
    assert shown.n_frames == 100


def test_a_series_longer_than_a_screen_is_thinned_also_when_nobody_knew_its_length():
    c2 = symmetric(1100, n_roi=1)
    for n_expected in (None, 1100):
        shown = ShownC2(1, n_expected, 50)
        feed(shown, c2, step=61)
        raw, _ = shown.images(0)
        assert shown.step == 4
        assert len(raw) <= MOST_EDGE
        np.testing.assert_array_equal(raw, c2[0, ::4, ::4])


def test_g2_so_far_is_the_mean_along_each_diagonal_without_gaps():
    c2 = symmetric(80)
    c2[:, 30], c2[:, :, 30] = np.nan, np.nan
    shown = ShownC2(2, None, 50)
    feed(shown, c2)
    g2, _ = shown.g2(0)
    expected = [np.nanmean(np.diagonal(c2[0], lag)) for lag in range(1, 80)]
    np.testing.assert_allclose(g2, expected, rtol=1e-5)


def test_rows_that_come_twice_count_once():
    c2 = symmetric(40)
    shown = ShownC2(2, 40, 50)
    feed(shown, c2)
    shown.add_rows(C2Rows(start=20, stop=40, values=c2[:, 20:40, :40]))
    g2, _ = shown.g2(1)
    expected = [np.diagonal(c2[1], lag).mean() for lag in range(1, 40)]
    np.testing.assert_allclose(g2, expected, rtol=1e-5)


@pytest.mark.parametrize("n_expected", [None, 90, 1200])
def test_denoised_squares_lie_over_the_raw_c2_where_windows_reached(n_expected):
    c2 = symmetric(90)
    near = abs(np.subtract.outer(np.arange(90), np.arange(90))) < 50
    spread = np.where(near, 0.1, np.nan)
    denoised = np.where(near, c2 + 1, c2)
    shown = ShownC2(2, n_expected, 50)
    feed(shown, c2)
    for start, stop in ((0, 60), (40, 90), (20, 80)):
        block = np.s_[:, start:stop, start:stop]
        shown.add_band(
            Band(
                start=start,
                stop=stop,
                c2=denoised[block],
                spread=np.broadcast_to(spread, c2.shape)[block],
            )
        )
    raw, image = shown.images(0)
    covered = np.zeros((90, 90), bool)
    for start, stop in ((0, 60), (40, 90), (20, 80)):
        covered[start:stop, start:stop] = True
    expected = np.where(covered & near, c2[0] + 1, c2[0])
    np.testing.assert_allclose(image, expected[:: shown.step, :: shown.step])
    _, g2 = shown.g2(0)
    lags = [np.diagonal(expected, lag)[np.diagonal(covered, lag)].mean() for lag in range(1, 50)]
    np.testing.assert_allclose(g2, lags, rtol=1e-5)
    np.testing.assert_array_equal(raw, c2[0, :: shown.step, :: shown.step])


def test_the_final_c2_replaces_what_was_shown(synthetic):
    run = synthetic(n_frames=60)
    shown = ShownC2(2, 60, 50)
    feed(shown, run.c2[:, :30, :30])
    shown.finish(run.result())
    raw, denoised = shown.images(0)
    np.testing.assert_array_equal(raw, run.c2[0])
    np.testing.assert_array_equal(denoised, run.denoised[0])
    shown.finish(run.result(denoised=False))
    assert shown.images(0)[1] is None
