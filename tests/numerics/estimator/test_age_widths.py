"""Slope and curvature are those of the curve, and a bias grows with both."""

import numpy as np

from xpcs_live_denoise.numerics.estimator.ages import (
    WIDTHS,
    cut_frames,
    slope_and_curvature,
    width_bias,
)


def test_a_parabola_gives_its_own_derivatives_also_at_its_ends():
    age = np.arange(0.0, 200.0, 4)
    curve = 0.5 - 0.01 * age + 2e-5 * age**2
    slope, curvature = slope_and_curvature(age, age, curve, np.full(age.size, 0.1))
    np.testing.assert_allclose(slope, -0.01 + 4e-5 * age, atol=1e-9)
    np.testing.assert_allclose(curvature, 4e-5, atol=1e-9)


def test_an_uncertain_point_weighs_little():
    age = np.arange(0.0, 81.0, 4)
    curve, sd = 0.01 * age, np.full(age.size, 0.05)
    curve[5] += 3.0
    sd[5] = 50.0
    slope, _ = slope_and_curvature(np.array([40.0]), age, curve, sd)
    np.testing.assert_allclose(slope, 0.01, atol=1e-4)


def test_three_points_tell_nothing():
    age = np.array([0.0, 4.0, 8.0])
    slope, curvature = slope_and_curvature(age, age, age**2, np.ones(3))
    assert not slope.any()
    assert not curvature.any()


def test_the_bias_of_a_cut_is_that_of_the_mean_over_it():
    bias = width_bias(np.array([0.0]), np.array([3e-4]), np.array([WIDTHS]))[0]
    for width, predicted in zip(WIDTHS, bias, strict=True):
        offset = np.linspace(-width / 2, width / 2, 2001)
        np.testing.assert_allclose(predicted, np.mean(3e-4 * offset**2 / 2), rtol=2e-3)


def test_a_cut_that_reaches_out_of_its_bounds_has_less_rows():
    rows = cut_frames(np.array([50.0, 10.0]), np.array([[0, 10], [100, 100]]))
    np.testing.assert_array_equal(rows[0], WIDTHS)
    np.testing.assert_array_equal(rows[1], [(width + 1) // 2 for width in WIDTHS])
