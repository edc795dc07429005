"""Gamma of many runs against what was set, and the Arrhenius slope."""

import numpy as np
import pytest

from xpcs_live_denoise.views import is_temperature, trend_view

R = 8.314462618e-3  # kJ/(mol K)


def rates(celsius, energy=20.0):
    """Gamma of two ROIs, the second four times as fast."""
    one = np.exp(-energy / R * (1 / (np.asarray(celsius) + 273.15) - 1 / 293.15))
    return np.r_[one, 4 * one]


@pytest.mark.parametrize(
    ("key", "shift", "unit"),
    [
        ("T_sample", 0.0, "°C"),
        ("sample.T", 273.15, "K"),
        ("temperature (K)", 273.15, "K"),
        ("temp_C", 0.0, "°C"),
    ],
)
def test_the_arrhenius_slope_is_that_of_all_rois_and_the_unit_is_said(key, shift, unit):
    celsius = np.array([10.0, 20, 30, 40])
    gamma = rates(celsius)
    view = trend_view(key, np.tile(celsius + shift, 2), gamma, 0.1 * gamma, np.repeat([1, 2], 4))
    assert view.words.startswith("E = 20 ± ")
    assert view.words.endswith(f"{key} taken as {unit}")
    ends = view.line_rate[np.isfinite(view.line_rate)].reshape(2, -1)
    np.testing.assert_allclose(ends[:, 0] / ends[0, 0], [1, 4], rtol=1e-6)
    np.testing.assert_allclose(ends[:, -1], gamma[[3, 7]], rtol=1e-6)


def test_points_that_scatter_more_than_their_errors_make_the_error_of_e_wider():
    celsius = np.array([10.0, 20, 30, 40, 50, 60])
    gamma = np.split(rates(celsius), 2)[0]
    uneven = gamma * np.array([1.3, 0.8, 1.2, 0.7, 1.4, 0.8])
    roi = np.ones(6)
    exact, wide = (
        trend_view("T", celsius, one, 0.01 * one, roi).words.split()[4] for one in (gamma, uneven)
    )
    assert float(wide) > 5 * float(exact)


def test_a_concentration_has_no_arrhenius_line_and_what_is_missing_is_said():
    gamma = np.array([1.0, 2.0, np.nan, 3.0])
    view = trend_view("concentration", [1, 2, 3, np.nan], gamma, gamma / 10, [1, 1, 1, 1])
    assert view.x.tolist() == [1, 2]
    assert view.words == ""
    assert not view.line_x.size
    two = trend_view("T", [20, 20, 30], [1.0, 1.0, 2.0], [0.1] * 3, [1, 1, 1])
    assert two.words == "Arrhenius: needs 3 temperatures"
    apart = trend_view("T", [20, 30, 40], [1.0, 1.0, 2.0], [0.1] * 3, [1, 2, 3])
    assert apart.words == "Arrhenius: each ROI needs more temperatures"
    assert "no run with a rate" in trend_view("T", [], [], [], []).words


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("T", True), ("T_sample", True), ("sample.T", True), ("LakeShore temp", True),
        ("Temperature_setpoint", True), ("transmission", False), ("attempt", False),
        ("count_T1", False), ("time", False),
    ],
)  # fmt: skip
def test_names_of_temperatures_are_known(key, found):
    assert is_temperature(key) is found
