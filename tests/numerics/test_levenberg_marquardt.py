"""The engine of the fits: starts near the minimum, steps that respect the box."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.optimize import minimize

from xpcs_live_denoise.numerics.kww import (
    BASELINE,
    LN_ALPHA,
    LN_GAMMA,
    Curves,
    grid_start,
    kww,
    minimise,
)

LAGS = np.arange(1.0, 81.0)
LOW = np.array([np.log(1e-3), np.log(0.3), 0.05, 0.5])
HIGH = np.array([0.0, np.log(2.5), 2.0, 1.5])


def curves_of(y, *, beta=None, low=LOW, high=HIGH) -> Curves:
    y = np.atleast_2d(y)
    return Curves(
        ln_lag=np.log(LAGS),
        y=y,
        weights=np.ones_like(y),
        beta=None if beta is None else np.full(len(y), beta),
        low=low,
        high=high,
    )


@pytest.mark.parametrize("beta", [None, 0.3])
def test_the_start_is_within_a_grid_step_of_a_noise_free_curve(beta):
    rate = np.geomspace(0.01, 0.2, 15)
    y = kww(LAGS, rate[:, None], 1.1, 0.3, 1.02)
    start = grid_start(curves_of(y, beta=beta))
    assert np.abs(start[:, LN_GAMMA] - np.log(rate)).max() < 0.4
    assert np.abs(start[:, LN_ALPHA] - np.log(1.1)).max() < 0.4
    assert np.abs(start[:, BASELINE] - 1.02).max() < 0.05
    assert ((start[:, [0, 1, 3]] > LOW[[0, 1, 3]]) & (start[:, [0, 1, 3]] < HIGH[[0, 1, 3]])).all()


@pytest.mark.parametrize("column", range(4))
@pytest.mark.parametrize("side", ["low", "high"])
def test_a_minimum_on_a_wall_of_the_box_is_the_best_point_inside(column, side):
    y = kww(LAGS, 0.05, 1.1, 0.3, 1.02)
    truth = np.array([np.log(0.05), np.log(1.1), 0.3, 1.02])
    low, high = LOW.copy(), HIGH.copy()
    # The wall lies between the truth and the rest of the box.
    if side == "low":
        low[column] = truth[column] + 0.1
    else:
        high[column] = truth[column] - 0.1
    curves = curves_of(y, low=low, high=high)
    theta, _, chi_square, settled = minimise(curves, grid_start(curves))
    wall = low[column] if side == "low" else high[column]
    assert theta[0, column] == pytest.approx(wall, abs=1e-12)
    assert settled[0]

    def cost(p):
        return np.sum((y - kww(LAGS, np.exp(p[0]), np.exp(p[1]), p[2], p[3])) ** 2)

    best = min(
        minimize(
            cost,
            np.clip(truth + shift, low, high),
            bounds=list(zip(low, high, strict=True)),
            method="L-BFGS-B",
            options={"ftol": 1e-15, "gtol": 1e-12, "maxiter": 5000},
        ).fun
        for shift in (0.0, 0.2, -0.2)
    )
    assert chi_square[0] <= best * (1 + 1e-4) + 1e-12


def test_a_fixed_contrast_stays_as_it_is_even_outside_the_box():
    y = kww(LAGS, 0.05, 1.0, 3.0, 1.0)
    curves = curves_of(y, beta=3.0)
    theta, curvature, _, settled = minimise(curves, grid_start(curves))
    np.testing.assert_allclose(np.exp(theta[0, :2]), [0.05, 1.0], rtol=1e-6)
    assert theta[0, 2] == 3.0
    assert curvature.shape == (1, 3, 3)
    assert settled[0]


def test_the_curvature_is_that_of_chi_square_at_the_minimum():
    y = kww(LAGS, 0.05, 1.1, 0.3, 1.02)
    curves = curves_of(y)
    theta, curvature, _, _ = minimise(curves, grid_start(curves))

    def model(p):
        return kww(LAGS, np.exp(p[0]), np.exp(p[1]), p[2], p[3])

    step = 1e-5 * np.eye(4)
    jacobian = np.array([(model(theta[0] + e) - model(theta[0] - e)) / 2e-5 for e in step])
    np.testing.assert_allclose(curvature[0], jacobian @ jacobian.T, rtol=1e-5, atol=1e-8)


def test_certain_noise_that_no_curve_fits_overflows_nothing():
    # Huge chi-squares, and steps that the box cuts until they promise nothing.
    rng = np.random.default_rng(0)
    y = 1 + rng.normal(size=(20, len(LAGS))) * 10
    curves = dataclasses.replace(curves_of(y), weights=1e12 * rng.uniform(size=y.shape) ** 8)
    theta, _, chi_square, _ = minimise(curves, grid_start(curves))
    assert np.isfinite(theta).all()
    assert np.isfinite(chi_square).all()
