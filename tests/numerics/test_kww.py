"""Tables of Gamma(t): ages, units, weights and what is recommended."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import curve_fit

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.fits import fit_age_cuts, fit_ages, fit_g2
from xpcs_live_denoise.numerics.g2 import age_cuts
from xpcs_live_denoise.numerics.kww import fit_kww, kww

BETA = 0.3


def constant_c2(n: int, rate: float = 0.05, sigma: float = 0.0, n_roi: int = 2) -> np.ndarray:
    rng = np.random.default_rng(n)
    lag = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    c2 = kww(lag, rate, 1.0, BETA, 1.0) + sigma * rng.standard_normal((n_roi, n, n))
    upper = np.triu(c2)
    return upper + np.triu(c2, 1).transpose(0, 2, 1)


def test_there_is_a_row_for_every_roi_and_frame_in_order():
    table = fit_ages(constant_c2(40, n_roi=3), beta=BETA)
    np.testing.assert_array_equal(table.roi, np.repeat([1, 2, 3], 40))
    np.testing.assert_array_equal(table.age_frame, np.tile(np.arange(40), 3))
    assert set(table.source) == {"raw"}
    assert set(table.error_kind) == {"residual"}
    assert set(table.width) == {1}
    assert np.isnan(table.q_inv_angstrom).all()
    assert table.final.all()


def test_noise_free_c2_gives_back_its_rate_where_lags_are_enough():
    table = fit_ages(constant_c2(120), beta=BETA)
    middle = (table.age_frame > 30) & (table.age_frame < 89)
    assert table.converged[middle].all()
    np.testing.assert_allclose(table.relaxation_rate[middle], 0.05, rtol=1e-5)
    np.testing.assert_allclose(table.alpha[middle], 1.0, rtol=1e-5)
    np.testing.assert_array_equal(table.beta[middle], BETA)
    np.testing.assert_array_equal(table.beta_error[middle], 0.0)


def test_the_first_and_last_frames_have_too_few_lags_and_say_so():
    table = fit_ages(constant_c2(60, n_roi=1), beta=BETA)
    ends = [0, 1, 58, 59]
    np.testing.assert_array_equal(table.n_lags[ends], [1, 3, 2, 0])
    assert not table.converged[ends].any()
    assert np.isnan(table.relaxation_rate[ends]).all()
    assert set(table.reason[ends]) == {"not_converged"}


def test_rates_are_per_second_and_ages_in_seconds():
    c2 = constant_c2(80, sigma=0.01)
    frames = fit_ages(c2, beta=BETA)
    seconds = fit_ages(c2, beta=BETA, frame_time_s=0.002)
    good = frames.converged
    np.testing.assert_allclose(seconds.relaxation_rate[good], frames.relaxation_rate[good] / 0.002)
    np.testing.assert_allclose(
        seconds.relaxation_rate_error[good], frames.relaxation_rate_error[good] / 0.002
    )
    np.testing.assert_allclose(seconds.age_s, frames.age_s * 0.002)
    np.testing.assert_array_equal(seconds.age_frame, frames.age_frame)
    np.testing.assert_array_equal(seconds.recommended, frames.recommended)


def test_the_age_is_the_mean_age_of_the_pixels_used():
    c2 = constant_c2(60, n_roi=1)
    table = fit_age_cuts(c2, [20, 31], beta=BETA, width=3, frame_time_s=0.5)
    cuts = age_cuts(c2, ages=[20, 31], width=3)
    np.testing.assert_array_equal(table.age_s, 0.5 * cuts.mean_age[0])
    np.testing.assert_array_equal(table.age_frame, [20, 31])
    np.testing.assert_array_equal(table.width, [3, 3])


def test_some_ages_give_the_rows_of_all_ages():
    c2 = constant_c2(300, sigma=0.02)
    everything = fit_ages(c2, beta=BETA, max_lag=100)
    ages = [150, 7, 201]
    some = fit_age_cuts(c2, ages, beta=BETA, max_lag=100)
    rows = np.concatenate([np.array(ages), 300 + np.array(ages)])
    for name in ("relaxation_rate", "relaxation_rate_error", "reduced_chi_square", "age_s"):
        np.testing.assert_allclose(getattr(some, name), getattr(everything, name)[rows], rtol=1e-5)
    np.testing.assert_array_equal(some.roi, np.repeat([1, 2], 3))
    np.testing.assert_array_equal(some.age_frame, np.tile(ages, 2))


def test_lags_weigh_with_their_pixels_over_the_local_noise():
    c2 = constant_c2(90, sigma=0.02, n_roi=1)
    cuts = age_cuts(c2, width=5, ages=[40])
    expected = fit_kww(cuts.lag, cuts.mean[0], cuts.n_pixels[0] / cuts.noise[0, 0], beta=BETA)
    table = fit_age_cuts(c2, [40], beta=BETA, width=5)
    assert len(set(cuts.n_pixels[0, 0])) > 2
    assert table.relaxation_rate[0] == expected.relaxation_rate[0]
    scatter = max(1.0, expected.reduced_chi_square[0] ** 0.5)
    np.testing.assert_allclose(
        table.relaxation_rate_error[0], expected.relaxation_rate_error[0] * scatter
    )
    assert table.reduced_chi_square[0] == expected.reduced_chi_square[0]


@pytest.mark.parametrize("width", [1, 4])
def test_errors_cover_the_truth_where_the_noise_of_pixels_is_independent(width):
    c2 = constant_c2(160, sigma=0.03, n_roi=8)
    ages = np.arange(50, 110, width)
    table = fit_age_cuts(c2, ages, beta=BETA, width=width)
    assert table.converged.mean() > 0.95
    good = table.converged
    pull = (np.log(table.relaxation_rate / 0.05) * table.relaxation_rate)[good]
    pull /= table.relaxation_rate_error[good]
    assert np.mean(np.abs(pull) < 1) == pytest.approx(0.68, abs=0.09)
    assert np.mean(table.reduced_chi_square) == pytest.approx(1.0, abs=0.05)


def test_the_contrast_may_differ_between_rois_and_be_unknown_in_one():
    c2 = constant_c2(80)
    c2[1] = 1 + (c2[1] - 1) / 2
    table = fit_ages(c2, beta=[BETA, BETA / 2])
    middle = (table.age_frame > 30) & (table.age_frame < 50)
    np.testing.assert_allclose(table.relaxation_rate[middle], 0.05, rtol=1e-5)
    unknown = fit_ages(c2, beta=[BETA, np.nan])
    assert not unknown.converged[80:].any()
    assert unknown.converged[:80].any()


def test_a_missing_frame_costs_its_two_lags_and_not_the_fit():
    c2 = constant_c2(80, n_roi=1)
    c2[0, 33], c2[0, :, 33] = np.nan, np.nan
    table = fit_age_cuts(c2, [40], beta=BETA)
    whole = fit_age_cuts(constant_c2(80, n_roi=1), [40], beta=BETA)
    assert table.n_lags[0] == whole.n_lags[0] - 2
    assert table.relaxation_rate[0] == pytest.approx(0.05, rel=1e-5)


def test_only_what_converged_with_a_small_error_is_recommended():
    c2 = constant_c2(100, sigma=0.1, n_roi=4)
    table = fit_ages(c2, beta=BETA)
    ln_error = table.relaxation_rate_error / table.relaxation_rate
    expected = table.converged & (ln_error <= 0.5)
    np.testing.assert_array_equal(table.recommended, expected)
    assert set(table.reason[expected]) == {""}
    assert set(table.reason[~table.converged]) == {"not_converged"}
    assert set(table.reason[table.converged & ~expected]) == {"imprecise"}
    np.testing.assert_array_equal(table.in_range, table.converged)
    assert np.isnan(table.relaxation_rate_error[~table.converged]).all()


def test_the_longest_lag_bounds_the_fit():
    table = fit_age_cuts(constant_c2(80), [40], beta=BETA, max_lag=44)
    np.testing.assert_array_equal(table.n_lags, [44, 44])


@pytest.mark.parametrize("n", [0, 1, 3, 6])
def test_the_shortest_series_give_rows_that_did_not_converge(n):
    table = fit_ages(np.ones((2, n, n)), beta=BETA)
    assert len(table) == 2 * n
    assert not table.recommended.any()


def test_no_ages_give_an_empty_table():
    assert len(fit_age_cuts(constant_c2(30), [], beta=BETA)) == 0


def test_g2_with_free_contrast_gives_back_all_four_parameters():
    rate = np.array([0.02, 0.06, 0.15])
    lags = np.arange(1, 101)
    g2 = kww(lags, rate[:, None], 1.3, [[0.2], [0.3], [0.9]], 1.01)
    table = fit_g2(g2, frame_time_s=0.1)
    np.testing.assert_allclose(table.relaxation_rate, rate / 0.1, rtol=1e-5)
    np.testing.assert_allclose(table.alpha, 1.3, rtol=1e-5)
    np.testing.assert_allclose(table.beta, [0.2, 0.3, 0.9], rtol=1e-5)
    np.testing.assert_allclose(table.baseline, 1.01, rtol=1e-6)
    np.testing.assert_array_equal(table.roi, [1, 2, 3])
    assert set(table.source) == {"series_raw"}
    assert set(table.width) == {101}
    assert np.isnan(table.age_s).all()
    assert np.isnan(table.age_frame).all()


def test_g2_may_be_one_curve_with_a_known_contrast_and_weights():
    g2 = kww(np.arange(1, 50), 0.05, 1.0, BETA, 1.0)
    g2 += 0.01 * np.random.default_rng(2).standard_normal(49)
    weights = 50 - np.arange(1.0, 50.0)
    table = fit_g2(g2, beta=BETA, weights=weights)
    expected = fit_kww(np.arange(1, 50), g2, weights, beta=BETA, scale_errors=True)
    assert len(table) == 1
    assert table.relaxation_rate[0] == expected.relaxation_rate[0]
    scatter = max(1.0, expected.reduced_chi_square[0] ** 0.5)
    np.testing.assert_allclose(
        table.relaxation_rate_error[0], expected.relaxation_rate_error[0] * scatter
    )
    assert table.error_kind[0] == "residual"


def test_known_errors_of_g2_are_used_as_they_are():
    rng = np.random.default_rng(3)
    error = np.linspace(0.005, 0.03, 80)
    g2 = kww(np.arange(1, 81), 0.05, 1.0, BETA, 1.0) + error * rng.standard_normal((2000, 80))
    table = fit_g2(g2, g2_error=error, frame_time_s=2.0)
    good = table.converged
    pull = (table.relaxation_rate[good] - 0.025) / table.relaxation_rate_error[good]
    assert np.mean(np.abs(pull) < 1) == pytest.approx(0.683, abs=0.04)
    assert np.mean(table.reduced_chi_square) == pytest.approx(1.0, abs=0.02)
    assert set(table.error_kind) == {"fit"}


MULTI_TAU = np.concatenate([np.arange(1, 17), *(2**k * np.arange(9, 17) for k in range(1, 6))])


@pytest.mark.parametrize("beta", [None, BETA])
def test_a_multi_tau_curve_is_fitted_as_scipy_fits_it(beta):
    rng = np.random.default_rng(8)
    error = np.geomspace(0.01, 0.003, MULTI_TAU.size)
    g2 = kww(MULTI_TAU, 0.01, 1.2, BETA, 1.01) + error * rng.standard_normal(MULTI_TAU.size)
    table = fit_g2(g2, lags=MULTI_TAU, beta=beta, g2_error=error, frame_time_s=0.5)

    def model(lag, rate, alpha, baseline, contrast=BETA):
        return kww(lag, rate, alpha, contrast, baseline)

    start = [0.02, 1.0, 1.0] if beta else [0.02, 1.0, 1.0, 0.2]
    best, covariance = curve_fit(
        model, MULTI_TAU, g2, start, sigma=error, absolute_sigma=True,
        bounds=(1e-6, 10), x_scale=start, xtol=1e-12, ftol=1e-12,
    )  # fmt: skip
    names = ("relaxation_rate", "alpha", "baseline", "beta")[: len(start)]
    scale = np.array([2.0, 1, 1, 1])[: len(start)]  # Gamma in 1/s
    got = np.array([getattr(table, name)[0] for name in names])
    errors = np.array([getattr(table, f"{name}_error")[0] for name in names])
    np.testing.assert_allclose(got, scale * best, rtol=1e-4)
    np.testing.assert_allclose(errors, scale * np.sqrt(np.diag(covariance)), rtol=0.01)
    assert table.converged.all()
    assert set(table.width) == {MULTI_TAU[-1] + 1}


def test_lags_that_are_given_change_nothing_where_they_are_the_usual_ones():
    g2 = kww(np.arange(1, 50), 0.05, 1.0, BETA, 1.0)
    g2 += 0.01 * np.random.default_rng(2).standard_normal(49)
    usual, given = fit_g2(g2), fit_g2(g2, lags=range(1, 50))
    assert given.relaxation_rate[0] == usual.relaxation_rate[0]
    assert given.width[0] == usual.width[0]


def test_lags_may_be_fractions_of_a_frame_and_values_of_g2_missing():
    lags = MULTI_TAU + 0.5
    g2 = kww(lags, 0.01, 1.0, BETA, 1.0)
    g2[[0, 7]] = np.nan
    table = fit_g2(g2, lags=lags)
    np.testing.assert_allclose(table.relaxation_rate, 0.01, rtol=1e-5)
    assert table.n_lags[0] == lags.size - 2


@pytest.mark.parametrize(
    ("lags", "message"),
    [
        ([1, 2, 3, 4, 5, 7, 6, 8, 9], "got 7, then 6; .*sort lags and g2 together"),
        ([1, 2, 3, 4, 4, 5, 6, 7, 8], "got 4, then 4; .*keep one value of each"),
        ([0, 1, 2, 3, 4, 5, 6, 7, 8], "got 0; .*Leave lag 0"),
        ([-1, 1, 2, 3, 4, 5, 6, 7, 8], "got -1; .*above 0"),
        ([1, 2, 3, 4, np.nan, 6, 7, 8, 9], "got nan; expected 9 lags"),
        ([1, 2, 3, 4, 5, 6, 7, 8, np.inf], "got inf"),
        ([1, 2, 3], r"got shape \(3,\); expected 9 lags"),
        (np.ones((2, 9)), r"got shape \(2, 9\)"),
    ],
)
def test_lags_that_cannot_be_are_refused(lags, message):
    with pytest.raises(InvalidInputError, match=f"^lags: {message}"):
        fit_g2(np.ones(9), lags=lags)


def test_errors_from_the_scatter_hold_without_any_weights():
    rng = np.random.default_rng(4)
    g2 = kww(np.arange(1, 81), 0.05, 1.0, BETA, 1.0) + 0.02 * rng.standard_normal((2000, 80))
    table = fit_g2(g2, beta=BETA)
    good = table.converged
    pull = (table.relaxation_rate[good] - 0.05) / table.relaxation_rate_error[good]
    assert np.mean(np.abs(pull) < 1) == pytest.approx(0.683, abs=0.04)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit_ages(np.ones((9, 8)), beta=BETA), r"C2: got shape \(9, 8\)"),
        (lambda: fit_ages(np.ones((2, 9, 9)), beta=[1, 1, 1]), r"beta: got shape \(3,\)"),
        (lambda: fit_ages(np.ones((9, 9)), beta=BETA, frame_time_s=0), "frame_time_s: got 0"),
        (lambda: fit_ages(np.ones((9, 9)), beta=BETA, width=0), "got width 0"),
        (lambda: fit_g2(np.ones(9), frame_time_s=np.nan), "frame_time_s: got nan"),
        (lambda: fit_g2(np.ones(9), weights=1.0, g2_error=1.0), "both weights and g2_error"),
        (lambda: fit_g2(np.ones(9), g2_error=-1.0), "g2_error: got -1"),
        (lambda: fit_g2(np.ones((2, 3, 9))), r"curves of shape \(2, 3, 9\)"),
        (lambda: fit_g2(np.ones(9), weights=np.ones(8)), r"weights of shape \(8,\)"),
    ],
)
def test_what_cannot_be_used_is_refused(call, message):
    with pytest.raises(InvalidInputError, match=message):
        call()
