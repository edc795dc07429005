"""One C2 as it fills in, and its image for a screen."""

import numpy as np
import pytest

from xpcs_live_denoise.page.run_state import C2Map, for_screen, stride_for


def symmetric(n, seed=0):
    values = np.random.default_rng(seed).normal(1, 0.1, (n, n)).astype(np.float32)
    return values + values.T


@pytest.mark.parametrize("stride", [1, 3])
def test_rows_that_come_in_blocks_make_the_symmetric_map(stride):
    c2, n = symmetric(50), 50
    c2_map = C2Map(0)
    c2_map.stride = stride
    for start in range(0, n, 7):
        stop = min(start + 7, n)
        c2_map.patch(c2[start:stop, :stop], (start, 0))
    np.testing.assert_array_equal(c2_map.full(n), c2[::stride, ::stride])


def test_blocks_off_the_diagonal_are_mirrored_and_those_above_it_ignored():
    c2, c2_map = symmetric(20), C2Map(20)
    c2_map.patch(c2[10:15, 2:6], (10, 2))
    c2_map.patch(np.full((3, 4), 99, np.float32), (0, 15))
    shown = c2_map.full(20)
    np.testing.assert_array_equal(shown[10:15, 2:6], c2[10:15, 2:6])
    np.testing.assert_array_equal(shown[2:6, 10:15], c2[2:6, 10:15])
    assert np.isfinite(shown).sum() == 2 * 20


def test_what_was_never_written_is_unknown_and_a_gap_stays_one():
    c2_map = C2Map(3)
    c2_map.patch(np.array([[1, 0, 0], [2, 3, 0], [np.nan, 4, 5]], np.float32), (0, 0))
    expected = [[1, 2, np.nan], [2, 3, 4], [np.nan, 4, 5]]
    np.testing.assert_array_equal(c2_map.full(3), expected)
    assert np.isnan(c2_map.full(5)[3:]).all()


def test_a_long_series_is_thinned_out():
    assert [stride_for(n) for n in (0, 2000, 2001, 8000)] == [1, 1, 2, 4]


def test_a_screen_gets_means_over_squares_without_gaps_and_diagonal():
    values = np.arange(36, dtype=np.float32).reshape(6, 6)
    values[0, 3] = np.nan
    shown, edge = for_screen(values, most=2)
    assert edge == 3
    assert shown.dtype == np.float32
    block = values[:3, :3][~np.eye(3, dtype=bool)]
    np.testing.assert_allclose(shown[0, 0], block.mean())
    np.testing.assert_allclose(shown[0, 1], np.nanmean(values[:3, 3:]))


def test_a_square_of_gaps_is_one_and_a_small_map_is_left_alone():
    values = np.ones((5, 5), np.float32)
    values[:, :2] = np.nan
    shown, edge = for_screen(values, most=3)
    assert (shown.shape, edge) == ((3, 3), 2)
    assert np.isnan(shown[:, 0]).all()
    same, edge = for_screen(values, most=5)
    assert edge == 1
    np.testing.assert_array_equal(same, values)
