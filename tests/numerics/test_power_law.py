"""Typical rates of ROIs that are known at different ages, and the power law through them."""

import math

import numpy as np
import pytest

from xpcs_live_denoise.numerics.fits import fit_power_law, typical_rates


def test_rois_that_are_known_at_different_ages_are_compared_at_the_same_ones():
    ages = np.arange(40)
    rates = np.array([1.0, 2.0, 4.0])[:, np.newaxis] / (1 + ages / 10)
    rates[0, 20:] = np.nan
    rates[2, :25] = np.nan
    found = typical_rates(rates)
    np.testing.assert_allclose(found / found[0], [1.0, 2.0, 4.0], rtol=1e-3)


def test_a_roi_without_any_rate_stays_unknown():
    found = typical_rates(np.array([[1.0, 2.0], [np.nan, np.nan]]))
    assert found[0] == pytest.approx(math.sqrt(2))
    assert np.isnan(found[1])


def test_nothing_known_is_no_warning():
    assert np.isnan(typical_rates(np.full((3, 4), np.nan))).all()
    assert np.isnan(typical_rates(np.empty((2, 0)))).all()


def test_the_exponent_of_a_power_law_is_found_with_its_error():
    q = np.array([0.002, 0.003, 0.005, 0.008])
    law = fit_power_law(q, 3e5 * q**2)
    assert law is not None
    assert law.exponent == pytest.approx(2.0)
    assert law.exponent_error == pytest.approx(0.0, abs=1e-9)
    assert law.scale == pytest.approx(3e5)
    noisy = fit_power_law(q, 3e5 * q**2 * np.array([1.05, 0.95, 1.05, 0.95]))
    assert noisy is not None
    assert abs(noisy.exponent - 2) < 3 * noisy.exponent_error


@pytest.mark.parametrize(
    "q", [[0.002, 0.003, np.nan], [0.002, 0.003, 0.003], [np.nan] * 3, [0.002, 0.003, 0.0]]
)
def test_fewer_than_three_known_q_give_no_law(q):
    assert fit_power_law(np.array(q), np.ones(3)) is None
