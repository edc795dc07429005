"""Sums over ranges of rows are those of slices."""

import numpy as np

from xpcs_live_denoise.numerics.arrays import range_sums

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
