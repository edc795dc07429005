"""Typical rates of ROIs that are known at different ages, and the power law through them."""

import numpy as np
import pytest

from xpcs_live_denoise import InvalidInputError, PowerLaw, fit_power_law
from xpcs_live_denoise.numerics.estimator.sums import n_effective
from xpcs_live_denoise.numerics.fits import fit_g2, power_law, typical_rates
from xpcs_live_denoise.numerics.kww import kww
from xpcs_live_denoise.records.results import GammaTable

Q = np.array([0.002, 0.003, 0.005, 0.008])


def table_of(rates, error=0.1, q=Q, n_effective=np.nan) -> GammaTable:
    """Return rows of rates (n_roi, n_age), NaN where there is none; `error` is of ln Gamma."""
    rates = np.asarray(rates, float)
    n_roi, n_age = rates.shape
    # Any rows will do: what counts is set below.
    rows = fit_g2(np.tile(kww(np.arange(1, 20), 0.1), (n_roi * n_age, 1)))
    rows = rows.replace(
        roi=np.repeat(np.arange(1, n_roi + 1), n_age),
        q_inv_angstrom=np.repeat(q, n_age),
        age_frame=np.tile(np.arange(n_age), n_roi),
        source="bayes",
        relaxation_rate=rates.ravel(),
        relaxation_rate_error=(rates * error).ravel(),
        n_effective=np.repeat(np.broadcast_to(n_effective, n_roi), n_age),
        recommended=True,
        converged=True,
    )
    return rows.select(np.isfinite(rates.ravel()))


def test_rois_that_are_known_at_different_ages_are_compared_at_the_same_ones():
    ages = np.arange(40)
    rates = np.array([1.0, 2.0, 4.0, 8.0])[:, np.newaxis] / (1 + ages / 10)
    rates[0, 20:] = np.nan
    rates[2, :25] = np.nan
    found = typical_rates(table_of(rates))
    np.testing.assert_allclose(np.diff(found.ln_rate), np.log(2), rtol=1e-3)
    assert found.n_ages.tolist() == [20, 40, 15, 40]


def test_the_error_of_a_roi_is_that_of_its_independent_values():
    rows = table_of(np.ones((4, 100)), error=0.3, n_effective=[1.0, 4.0, 2.25, np.nan])
    found = typical_rates(rows).ln_rate_error
    np.testing.assert_allclose(found[:3], [0.3, 0.15, 0.2])
    np.testing.assert_allclose(found[3], 0.3 / np.sqrt(n_effective(np.arange(100.0))))
    few = table_of(np.ones((4, 3)), error=0.3, n_effective=9.0)
    assert (typical_rates(few).ln_rate_error > 0.28).all(), "three ages in a row are one"


def test_rows_that_are_not_recommended_do_not_count():
    rows = table_of(np.ones((4, 10)))
    rows = rows.replace(recommended=rows.roi > 1, converged=rows.roi < 4)
    assert typical_rates(rows).roi.tolist() == [2, 3]
    unknown = rows.replace(recommended=True, converged=True, relaxation_rate_error=np.nan)
    assert not typical_rates(unknown).roi.size


def test_the_exponent_of_a_power_law_is_found_with_its_error():
    rows = table_of(3e5 * Q[:, np.newaxis] ** 2, error=0.05)
    law = fit_power_law(rows)
    assert law.exponent == pytest.approx(2.0)
    assert law.prefactor == pytest.approx(3e5)
    assert law.n_roi == 4
    slope_error = 0.05 / np.sqrt(np.sum((np.log(Q) - np.log(Q).mean()) ** 2))
    assert law.exponent_error == pytest.approx(slope_error)
    assert fit_power_law(rows.to_pandas()) == law
    # At q = 1 / Angstrom: far outside, hence much less known than at the ROIs.
    at_zero = np.sqrt(0.05**2 / 4 + (slope_error * np.log(Q).mean()) ** 2)
    assert law.prefactor_error == pytest.approx(3e5 * at_zero)


def test_a_roi_that_is_hardly_known_hardly_counts():
    rates = 3e5 * Q[:, np.newaxis] ** 2 * np.array([[1.0], [1.0], [1.0], [3.0]])
    error = np.array([[0.01], [0.01], [0.01], [2.0]])
    assert fit_power_law(table_of(rates, error)).exponent == pytest.approx(2.0, abs=1e-3)


def test_rois_that_scatter_beyond_their_errors_make_the_error_larger():
    up_and_down = np.array([[1.2], [0.8], [1.2], [0.8]])
    rates = 3e5 * Q[:, np.newaxis] ** 2
    small = fit_power_law(table_of(rates, error=1e-4))
    wide = fit_power_law(table_of(rates * up_and_down, error=1e-4))
    assert wide.exponent_error > 100 * small.exponent_error
    # The scatter takes the place of the errors: chi-square equals its degrees of freedom.
    x, y = np.log(Q), np.log(rates * up_and_down)[:, 0]
    slope, offset = np.polyfit(x, y, 1)
    scatter = np.sum((y - offset - slope * x) ** 2) / 2
    expected = np.sqrt(scatter / np.sum((x - x.mean()) ** 2))
    assert wide.exponent_error == pytest.approx(expected, rel=1e-3)


def test_with_alpha_the_law_is_that_of_gamma_to_the_power_of_it():
    # g1 = exp(-D q^2 t^0.7): Gamma = (D q^2)^(1/0.7)
    rows = table_of((40 * Q[:, np.newaxis] ** 2) ** (1 / 0.7), error=0.05)
    law = fit_power_law(rows, alpha=0.7)
    assert law.exponent == pytest.approx(2.0)
    assert law.prefactor == pytest.approx(40.0)
    assert law.exponent_error == pytest.approx(0.7 * fit_power_law(rows).exponent_error)


@pytest.mark.parametrize(
    "q", [[0.002, 0.003, np.nan], [0.002, 0.003, 0.003], [np.nan] * 3, [0.002, 0.003, 0.0]]
)
def test_fewer_than_three_known_q_give_no_law(q):
    rows = table_of(np.ones((3, 5)), q=np.array(q))
    assert power_law(typical_rates(rows)) is None
    with pytest.raises(InvalidInputError, match=r"3 ROIs, with [0-2] different known q"):
        fit_power_law(rows)


def test_nothing_recommended_is_no_law_and_no_warning():
    rows = table_of(np.ones((4, 5))).replace(recommended=False)
    assert power_law(typical_rates(rows)) is None
    with pytest.raises(InvalidInputError, match="recommended rates of 0 ROIs"):
        fit_power_law(rows)


def test_a_table_of_an_earlier_version_has_a_power_law():
    rows = table_of(3e5 * Q[:, np.newaxis] ** 2 * np.ones(50)).to_pandas()
    law = fit_power_law(rows.drop(columns="n_effective"))
    assert law == fit_power_law(rows)
    with pytest.raises(InvalidInputError, match="no column recommended; expected"):
        fit_power_law(rows.drop(columns="recommended"))


@pytest.mark.parametrize("alpha", [0.0, -1.0, np.nan])
def test_an_alpha_that_cannot_be_is_refused(alpha):
    with pytest.raises(InvalidInputError, match="alpha: got"):
        fit_power_law(table_of(np.ones((4, 2))), alpha=alpha)


def pulls(n_roi, n_draws=400):
    """Return (exponent - truth) / error of draws whose errors correlate as the estimator's do."""
    rng = np.random.default_rng(n_roi)
    n_age, step = 36, 10  # a series of 350 frames
    distance = step * np.abs(np.subtract.outer(np.arange(n_age), np.arange(n_age)))
    root = np.linalg.cholesky(0.2 + 0.8 * np.exp(-distance / 45) + 1e-9 * np.eye(n_age))
    independent = 1 / (root @ root.T).mean()
    q = np.linspace(0.003, 0.01, n_roi)
    laws: list[PowerLaw] = []
    for _ in range(n_draws):
        sd = np.exp(rng.uniform(np.log(0.04), np.log(0.2), n_roi))
        logs = sd[:, np.newaxis] * (rng.standard_normal((n_roi, n_age)) @ root.T)
        # Eight blocks tell a variance as seven degrees of freedom do.
        said = sd * np.sqrt(rng.chisquare(7, n_roi) / 7)
        rows = table_of(1e3 * q[:, np.newaxis] ** 2 * np.exp(logs), said[:, np.newaxis], q=q,
                        n_effective=independent)  # fmt: skip
        laws.append(fit_power_law(rows.replace(age_frame=step * rows.age_frame)))
    return np.array([(law.exponent - 2) / law.exponent_error for law in laws])


@pytest.mark.statistics
@pytest.mark.parametrize("n_roi", [3, 5, 10])
def test_the_error_of_the_exponent_covers_the_truth_as_often_as_it_should(n_roi):
    pull = pulls(n_roi)
    assert 0.58 <= np.mean(np.abs(pull) < 1) <= 0.80
    assert np.mean(np.abs(pull) < 2) >= 0.90
    assert 0.6 <= np.mean(pull**2) <= 1.6


def test_with_the_exponent_held_the_prefactor_is_d_and_one_roi_is_enough():
    rates = 3.0 * Q**2
    law = power_law(typical_rates(table_of(rates[:, np.newaxis])), exponent=2.0)
    assert (law.exponent, law.exponent_error, law.n_roi) == (2.0, 0.0, 4)
    np.testing.assert_allclose([law.prefactor, law.prefactor_error], [3.0, 0.15], rtol=1e-6)
    one = power_law(typical_rates(table_of(rates[:1, np.newaxis], q=Q[:1])), exponent=2.0)
    np.testing.assert_allclose([one.prefactor, one.prefactor_error], [3.0, 0.3], rtol=1e-6)
    scattered = rates * np.array([1.5, 0.7, 1.4, 0.6])
    wide = power_law(typical_rates(table_of(scattered[:, np.newaxis])), exponent=2.0)
    assert wide.prefactor_error > 2 * law.prefactor_error * wide.prefactor / law.prefactor
