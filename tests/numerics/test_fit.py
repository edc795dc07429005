"""The batched fit against scipy and lmfit, one curve at a time."""

from __future__ import annotations

import lmfit
import numpy as np
import pytest
from scipy.optimize import least_squares

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.kww import fit_kww, kww

LAGS = np.arange(1.0, 61.0)
LOW = np.array([1e-3, 0.3, 0.05, 0.5])
HIGH = np.array([1.0, 2.5, 2.0, 1.5])


def noisy_curves(count: int, sigma: float, seed: int = 0):
    rng = np.random.default_rng(seed)
    rate = np.exp(rng.uniform(np.log(0.015), np.log(0.2), count))
    alpha = rng.uniform(0.7, 1.8, count)
    spread = sigma * rng.uniform(0.5, 1.5, LAGS.size)
    y = kww(LAGS, rate[:, None], alpha[:, None], 0.3, 1.0)
    return rate, alpha, y + spread * rng.standard_normal(y.shape), 1 / spread**2


def scipy_fit(y, weights, beta=None):
    """Return the best of bounded least-squares fits from many starts: (Gamma, alpha, beta, C)."""

    def full(p):
        return p if beta is None else np.array([p[0], p[1], beta, p[2]])

    def residuals(p):
        rate, alpha, contrast, baseline = full(p)
        model = baseline + contrast * np.exp(-2 * (rate * LAGS) ** alpha)
        return np.sqrt(weights) * (y - model)

    free = [0, 1, 2, 3] if beta is None else [0, 1, 3]
    best = min(
        (
            least_squares(
                residuals,
                np.array([rate, alpha, 0.3, 1.0])[free],
                bounds=(LOW[free], HIGH[free]),
                x_scale=np.array([0.05, 1.0, 0.3, 1.0])[free],
                ftol=1e-13,
                xtol=1e-13,
                gtol=1e-13,
            )
            for rate in (0.005, 0.02, 0.08, 0.3)
            for alpha in (0.6, 1.2, 2.0)
        ),
        key=lambda fit: fit.cost,
    )
    return full(best.x), 2 * best.cost


@pytest.mark.parametrize("beta", [None, 0.3])
@pytest.mark.parametrize("sigma", [0.01, 0.1])
def test_finds_the_minimum_that_scipy_finds_from_many_starts(sigma, beta):
    _, _, y, weights = noisy_curves(12, sigma, seed=3)
    fit = fit_kww(LAGS, y, weights, beta=beta)
    n_free = 4 if beta is None else 3
    assert fit.converged.sum() >= 6
    for i in range(12):
        expected, chi_square = scipy_fit(y[i], weights, beta)
        got = [fit.relaxation_rate[i], fit.alpha[i], fit.beta[i], fit.baseline[i]]
        reduced = chi_square / (LAGS.size - n_free)
        assert fit.reduced_chi_square[i] <= reduced * (1 + 1e-5)
        if fit.converged[i]:
            error = [fit.relaxation_rate_error[i], fit.alpha_error[i]]
            assert np.abs(got[0] - expected[0]) < 0.01 * error[0]
            assert np.abs(got[1] - expected[1]) < 0.01 * error[1]


@pytest.mark.parametrize("scale_errors", [False, True])
@pytest.mark.parametrize("beta", [None, 0.3])
def test_standard_errors_are_those_of_lmfit(beta, scale_errors):
    _, _, y, weights = noisy_curves(8, 0.02, seed=5)
    fit = fit_kww(LAGS, y, weights, beta=beta, scale_errors=scale_errors)
    model = lmfit.Model(kww)
    for i in np.flatnonzero(fit.converged):
        start = model.make_params(
            relaxation_rate=fit.relaxation_rate[i] * 1.05,
            alpha=fit.alpha[i] * 0.97,
            beta=0.31,
            baseline=1.0,
        )
        if beta is not None:
            start["beta"].set(value=beta, vary=False)
        reference = model.fit(
            y[i], start, lags=LAGS, weights=np.sqrt(weights), scale_covar=scale_errors
        )
        for name in reference.var_names:
            error = reference.params[name].stderr
            assert getattr(fit, f"{name}_error")[i] == pytest.approx(error, rel=0.02)
            off = getattr(fit, name)[i] - reference.params[name].value
            assert abs(off) < 0.01 * error
        assert fit.reduced_chi_square[i] == pytest.approx(reference.redchi, rel=1e-4)
    assert fit.converged.sum() >= 6


@pytest.mark.parametrize("beta", [None, 0.3])
def test_noise_free_curves_give_back_every_gamma_and_alpha_of_the_range(beta):
    lags = np.arange(1.0, 151.0)
    rate, alpha = (
        grid.ravel() for grid in np.meshgrid(np.geomspace(0.006, 0.4, 25), np.linspace(0.5, 2.0, 9))
    )
    y = kww(lags, rate[:, None], alpha[:, None], 0.3, 1.02)
    fit = fit_kww(lags, y, np.full(y.shape, 1e6), beta=beta)
    assert fit.converged.all()
    np.testing.assert_allclose(fit.relaxation_rate, rate, rtol=1e-5)
    np.testing.assert_allclose(fit.alpha, alpha, rtol=1e-5)
    np.testing.assert_allclose(fit.baseline, 1.02, rtol=1e-6)
    np.testing.assert_allclose(fit.beta, 0.3, rtol=1e-5)


@pytest.mark.parametrize("beta", [None, 0.3])
def test_standard_errors_cover_the_truth_as_often_as_they_should(beta):
    rng = np.random.default_rng(9)
    truth = {"relaxation_rate": 0.06, "alpha": 1.2, "baseline": 1.0, "beta": 0.3}
    y = kww(LAGS, **truth) + 0.01 * rng.standard_normal((3000, LAGS.size))
    fit = fit_kww(LAGS, y, 1e4, beta=beta)
    assert fit.converged.mean() > 0.99
    for name in ("relaxation_rate", "alpha", "baseline"):
        pull = (getattr(fit, name) - truth[name]) / getattr(fit, f"{name}_error")
        pull = pull[fit.converged]
        assert np.mean(np.abs(pull) < 1) == pytest.approx(0.683, abs=0.03)
        assert np.mean(np.abs(pull) < 2) == pytest.approx(0.954, abs=0.015)
    assert np.mean(fit.reduced_chi_square) == pytest.approx(1.0, abs=0.02)


def test_errors_scaled_by_the_scatter_do_not_depend_on_the_scale_of_the_weights():
    _, _, y, weights = noisy_curves(20, 0.02)
    one = fit_kww(LAGS, y, weights, scale_errors=True)
    other = fit_kww(LAGS, y, 1e5 * weights, scale_errors=True)
    np.testing.assert_allclose(other.relaxation_rate, one.relaxation_rate, rtol=1e-6)
    np.testing.assert_allclose(other.relaxation_rate_error, one.relaxation_rate_error, rtol=1e-5)


def test_a_curve_does_not_depend_on_the_curves_beside_it():
    _, _, y, weights = noisy_curves(2000, 0.05)
    many = fit_kww(LAGS, y, weights)
    few = fit_kww(LAGS, y[777:780], weights)
    np.testing.assert_allclose(few.relaxation_rate, many.relaxation_rate[777:780], rtol=1e-6)


def test_missing_lags_are_left_out():
    _, _, y, weights = noisy_curves(4, 0.02)
    kept = np.ones(LAGS.size, dtype=bool)
    kept[[0, 3, 17, 58, 59]] = False
    expected = fit_kww(LAGS[kept], y[:, kept], weights[kept], beta=0.3)
    y[:2, ~kept] = np.nan
    missing = np.broadcast_to(weights, y.shape).copy()
    missing[2, ~kept], missing[3, ~kept] = 0.0, np.nan
    fit = fit_kww(LAGS, y, missing, beta=0.3)
    np.testing.assert_array_equal(fit.n_lags, LAGS.size - 5)
    np.testing.assert_allclose(fit.relaxation_rate, expected.relaxation_rate, rtol=1e-5)
    np.testing.assert_allclose(fit.alpha_error, expected.alpha_error, rtol=1e-4)


def test_a_curve_that_wants_out_of_the_box_ends_on_its_edge_without_an_error():
    y = kww(LAGS, 0.05, 1.0, 0.3, 0.9)[None]
    fit = fit_kww(LAGS, y, 1e4, baseline_bounds=(0.95, 1.5))
    assert fit.baseline[0] == pytest.approx(0.95, abs=1e-12)
    assert not fit.converged[0]
    assert np.isnan(fit.relaxation_rate_error[0])
    assert np.isfinite(fit.relaxation_rate[0])
    assert fit.reduced_chi_square[0] > 0


def test_no_result_leaves_the_box():
    y = np.random.default_rng(0).normal(1.0, 3.0, (300, LAGS.size))
    fit = fit_kww(LAGS, y, 1.0)
    values = np.stack([fit.relaxation_rate, fit.alpha, fit.beta, fit.baseline], axis=1)
    assert (values >= LOW * (1 - 1e-12)).all()
    assert (values <= HIGH * (1 + 1e-12)).all()
    assert np.isfinite(fit.reduced_chi_square).all()


def test_the_slowest_rate_allowed_follows_the_longest_lag():
    lags = np.arange(1.0, 1001.0)
    rate = np.array([2e-4, 6e-4])
    y = kww(lags, rate[:, None], 1.0, 0.3, 1.0)
    fit = fit_kww(lags, y, 1e6)
    np.testing.assert_allclose(fit.relaxation_rate, rate, rtol=1e-3)
    slow = fit_kww(LAGS, kww(LAGS, 2e-4, 1.0, 0.3, 1.0)[None], 1e6, beta=0.3)
    assert slow.relaxation_rate[0] >= 1e-3 * (1 - 1e-12)
    assert not slow.converged[0]


def test_what_cannot_be_fitted_gives_nan_and_never_an_exception():
    y = np.full((5, LAGS.size), np.nan)
    y[1, :4] = 1.1
    y[2] = 1.0
    y[3] = np.inf
    y[4] = kww(LAGS, 0.05, 1.0, 0.3, 1.0)
    fit = fit_kww(LAGS, y, 1e4, beta=[0.3, 0.3, 0.3, 0.3, np.nan])
    np.testing.assert_array_equal(fit.n_lags, [0, 4, 60, 0, 60])
    assert not fit.converged.any()
    for i in (0, 1, 3, 4):
        for name in KWW_FLOATS:
            assert np.isnan(getattr(fit, name)[i]), name


KWW_FLOATS = [
    f"{name}{ending}"
    for name in ("relaxation_rate", "alpha", "beta", "baseline")
    for ending in ("", "_error")
]


@pytest.mark.parametrize("beta", [0.0, -0.2, np.inf])
def test_a_contrast_that_is_none_makes_the_fit_impossible(beta):
    _, _, y, weights = noisy_curves(2, 0.02)
    fit = fit_kww(LAGS, y, weights, beta=beta)
    assert not fit.converged.any()
    assert np.isnan(fit.relaxation_rate).all()


def test_no_curves_give_no_fits():
    fit = fit_kww(LAGS, np.empty((0, LAGS.size)), 1.0)
    assert fit.converged.shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lags": [0.0, 1.0, 2.0]}, r"lags .* above 0"),
        ({"y": np.ones((2, 4))}, r"curves of shape \(2, 4\)"),
        ({"weights": np.ones(5)}, r"weights of shape \(5,\)"),
        ({"beta": [0.1, 0.2, 0.3]}, r"beta of shape \(3,\)"),
        ({"alpha_bounds": (2.0, 1.0)}, r"expected \(lowest, highest\)"),
    ],
)
def test_what_does_not_fit_together_is_refused(arguments, message):
    usual = {"lags": [1.0, 2.0, 3.0], "y": np.ones((2, 3)), "weights": 1.0}
    with pytest.raises(InvalidInputError, match=message):
        fit_kww(**{**usual, **arguments})
