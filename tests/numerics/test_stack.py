"""What passes as a C2."""

from __future__ import annotations

import numpy as np
import pytest

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.arrays import as_stack, per_roi


def test_a_single_c2_gets_a_roi_axis_without_a_copy():
    c2 = np.ones((4, 4), np.float32)
    stack = as_stack(c2)
    assert stack.shape == (1, 4, 4)
    assert np.shares_memory(stack, c2)


def test_integers_become_floats():
    assert as_stack(np.eye(3, dtype=int)).dtype == np.float64


def test_a_scalar_is_repeated_for_every_roi():
    np.testing.assert_array_equal(per_roi(0.3, 3, "beta"), [0.3, 0.3, 0.3])
    np.testing.assert_array_equal(per_roi([0.3], 2, "beta"), [0.3, 0.3])


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4), (1, 2, 3, 3)])
def test_another_shape_is_refused(shape):
    with pytest.raises(InvalidInputError, match=r"expected \(n, n\) or \(n_roi, n, n\)"):
        as_stack(np.ones(shape))


def test_complex_numbers_and_text_are_refused():
    for bad in (np.ones((2, 2), complex), np.full((2, 2), "a")):
        with pytest.raises(InvalidInputError, match="expected real numbers"):
            as_stack(bad)


def test_another_number_of_values_than_rois_is_refused():
    with pytest.raises(InvalidInputError, match=r"beta: got shape \(2,\).* 3 ROIs"):
        per_roi([1, 2], 3, "beta")
