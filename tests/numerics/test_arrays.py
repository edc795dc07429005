"""Sums over ranges of rows, ranges that touch, arrays that grow."""

import numpy as np
import pytest

from xpcs_live_denoise.numerics.arrays import enlarged, merged_ranges, next_capacity, range_sums

VALUES = np.random.default_rng(0).normal(size=(20, 3, 2))


def test_a_range_is_summed_as_its_slice_is():
    begin, end = np.array([0, 4, 7]), np.array([20, 9, 7])
    sums = range_sums(VALUES, begin, end)
    for one, first, stop in zip(sums, begin, end, strict=True):
        np.testing.assert_allclose(one, VALUES[first:stop].sum(axis=0), atol=1e-12)


def test_each_column_may_have_its_own_range():
    begin, end = np.array([[0, 4, 7], [1, 2, 3]]), np.array([[20, 9, 7], [2, 20, 11]])
    sums = range_sums(VALUES, begin, end)
    for row in range(2):
        for column in range(3):
            some = VALUES[begin[row, column] : end[row, column], column]
            np.testing.assert_allclose(sums[row, column], some.sum(axis=0), atol=1e-12)


def test_ranges_that_touch_are_joined():
    assert merged_ranges([(5, 6), (1, 3), (3, 4), (8, 9), (8, 10)]) == ((1, 4), (5, 6), (8, 10))
    assert merged_ranges([]) == ()


@pytest.mark.parametrize(
    ("needed", "most", "capacity"), [(8, None, 8), (9, None, 16), (30, None, 30), (9, 12, 12)]
)
def test_room_doubles_up_to_what_is_ever_needed(needed, most, capacity):
    assert next_capacity(8, needed, most) == capacity


def test_a_larger_array_has_the_old_one_in_its_corner():
    old = np.arange(6, dtype=np.int32).reshape(2, 3)
    new = enlarged(old, (4, 5), -1)
    assert new.dtype == np.int32
    np.testing.assert_array_equal(new[:2, :3], old)
    assert (new[2:] == -1).all()
    assert (new[:, 3:] == -1).all()
