"""The running blend: weights of overlapping windows, and the band they are kept in."""

from __future__ import annotations

import numpy as np

from xpcs_live_denoise.numerics.windows import (
    BACKWARD,
    FORWARD,
    MEAN,
    RunningBlend,
    mean_of_passes,
    scatter,
)

YES = np.array([True])


def constant(value: float, window: int = 4) -> np.ndarray:
    return np.full((2, 1, window, window), value)


def dense(blend: RunningBlend, which: int, n: int) -> np.ndarray:
    result = np.full((1, n, n), np.nan)
    scatter(blend.passes(0, n)[which, MEAN], result)
    return result[0]


def test_forward_halves_the_older_and_backward_halves_the_newer_windows():
    blend = RunningBlend(1, window=4, step=1)
    for start, value in enumerate((1.0, 10.0, 100.0)):
        blend.add(start, constant(value), YES)
    forward, backward = dense(blend, FORWARD, 6), dense(blend, BACKWARD, 6)
    assert forward[3, 3] == 1 / 4 + 10 / 4 + 100 / 2
    assert backward[3, 3] == 1 / 2 + 10 / 4 + 100 / 4
    assert forward[0, 0] == backward[0, 0] == 1.0
    assert forward[4, 2] == (10 + 100) / 2
    assert np.isnan(forward[0, 4])


def test_pixels_keep_their_place_on_either_side_of_the_diagonal():
    blend = RunningBlend(1, window=4, step=4)
    values = np.arange(32.0).reshape(2, 1, 4, 4)
    blend.add(0, values, YES)
    blend.add(4, values + 100, YES)
    whole = dense(blend, FORWARD, 8)
    np.testing.assert_array_equal(whole[:4, :4], values[MEAN, 0])
    np.testing.assert_array_equal(whole[4:, 4:], values[MEAN, 0] + 100)
    assert np.isnan(whole[:4, 4:]).all()


def test_memory_that_grows_keeps_what_is_there():
    reserved = RunningBlend(1, window=4, step=2, n_frames=64)
    growing = RunningBlend(1, window=4, step=2)
    for start in range(0, 60, 2):
        for blend in (reserved, growing):
            blend.add(start, constant(float(start)), YES)
    np.testing.assert_array_equal(growing.passes(0, 62), reserved.passes(0, 62))
    assert growing.n_frames == 62


def test_a_roi_that_sits_out_a_window_begins_anew_behind_it():
    blend = RunningBlend(2, window=4, step=2)
    both, first = np.array([True, True]), np.array([True, False])
    for start, value, active in ((0, 1.0, both), (2, 3.0, first), (4, 5.0, both)):
        blend.add(start, np.full((2, 2, 4, 4), value), active)
    diagonal = blend.passes(0, 8)[FORWARD, MEAN, :, :, 3]
    np.testing.assert_array_equal(diagonal[0], [1, 1, 2, 2, 4, 4, 5, 5])
    np.testing.assert_array_equal(diagonal[1], [1, 1, 1, 1, 5, 5, 5, 5])


def test_where_one_pass_is_missing_the_other_counts_alone():
    forward, backward = np.array([1.0, np.nan, 3.0, np.nan]), np.array([3.0, 5.0, np.nan, np.nan])
    np.testing.assert_array_equal(mean_of_passes(forward, backward), [2.0, 5.0, 3.0, np.nan])
