"""C2 from the path: exact from its rows, close to the truth, and a residual of noise alone."""

import dataclasses

import numpy as np
import pytest

from tests.support.changing_speckle import RATES
from xpcs_live_denoise import analyse_c2, c2_model
from xpcs_live_denoise.config import Settings
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.estimator.model_image import c2_residual

N, BETA, ALPHA, BASELINE, NOISE, FRAME_TIME_S = 350, 0.2, 1.3, 1.01, 0.1, 0.5


def image(ln_rate):
    """C2 for ln Gamma of every interval between frames."""
    total = np.concatenate([[0.0], np.cumsum(np.exp(ln_rate))])
    return BASELINE + BETA * np.exp(-2 * abs(np.subtract.outer(total, total)) ** ALPHA)


def path_rows(run, ln_rate):
    """The rows of the path for these intervals, as the analysis writes them."""
    ends = np.concatenate([ln_rate[:1], (ln_rate[:-1] + ln_rate[1:]) / 2, ln_rate[-1:]])
    table = run.gamma(range(run.n_frames), source="path")
    table = table.select(table.roi == 2)
    rate = np.exp(ends) / FRAME_TIME_S
    return table.replace(relaxation_rate=rate, alpha=ALPHA, beta=BETA, baseline=BASELINE)


def off_diagonal(values):
    return values[~np.eye(len(values), dtype=bool)]


@pytest.fixture(scope="module")
def noisy():
    """A C2 of Gamma that oscillates, with the noise of photons, and the truth."""
    truth = image(np.log(RATES["oscillating"][1:]))
    noise = np.random.default_rng(31).normal(0, NOISE * np.sqrt(2), (N, N))
    return truth + (noise + noise.T) / 2, truth


def test_the_image_of_a_path_is_exact_from_its_rows(synthetic):
    ln_rate = np.random.default_rng(1).normal(-3, 1, 59)  # jumps from frame to frame
    rows = path_rows(synthetic(), ln_rate)
    model = c2_model(rows, 2, frame_time_s=FRAME_TIME_S)
    assert np.isnan(np.diagonal(model)).all()
    np.testing.assert_allclose(off_diagonal(model), off_diagonal(image(ln_rate)), rtol=1e-9)
    again = c2_model(rows.to_pandas(), 2, frame_time_s=FRAME_TIME_S)
    np.testing.assert_array_equal(again, model)


def test_a_contrast_that_changes_with_age_is_that_of_the_age_of_an_entry(synthetic):
    ln_rate = np.full(59, -3.0)
    rows = path_rows(synthetic(), ln_rate)
    change = 1 - 0.4 * rows.age_frame / 59
    model = c2_model(rows.replace(beta=BETA * change), 2, frame_time_s=FRAME_TIME_S)
    frame = np.arange(60)
    at_age = 1 - 0.4 * np.add.outer(frame, frame) / 2 / 59
    expected = BASELINE + (image(ln_rate) - BASELINE) * at_age
    np.testing.assert_allclose(off_diagonal(model), off_diagonal(expected), rtol=1e-9)


def test_between_rows_that_are_missing_gamma_is_interpolated(synthetic):
    ln_rate = np.linspace(-2, -3, 59)
    rows = path_rows(synthetic(), ln_rate).select(np.array([0, 7, 20, 41, 50]))
    model = c2_model(rows, 2, frame_time_s=FRAME_TIME_S, n_frames=60)
    assert model.shape == (60, 60)
    np.testing.assert_allclose(off_diagonal(model), off_diagonal(image(ln_rate)), atol=0.01)


def test_the_image_is_closer_to_the_truth_than_what_was_measured(noisy):
    c2, truth = noisy
    settings = Settings(detector="c2", denoise=False)
    result = analyse_c2(c2, settings=settings, frame_time_s=FRAME_TIME_S)
    model = c2_model(result.gamma, 1, frame_time_s=FRAME_TIME_S)
    lag = abs(np.subtract.outer(np.arange(N), np.arange(N)))
    near = (lag > 0) & (lag <= 50)
    assert np.mean((model - truth)[near] ** 2) / BETA**2 < 0.004
    residual = c2_residual(c2, model)
    assert np.isnan(np.diagonal(residual)).all()
    assert residual[near].std() == pytest.approx(1, abs=0.05)


def test_a_residual_shows_what_the_model_lacks(noisy):
    c2, truth = noisy
    c2 = c2.copy()
    c2[100:110, 200:210] += 1.0
    residual = c2_residual(c2, truth)
    assert np.median(residual[100:110, 200:210]) == pytest.approx(1 / NOISE, rel=0.15)
    assert abs(np.median(residual[100:110, 220:230])) < 1


@pytest.mark.parametrize(
    ("roi", "columns"), [(1, {}), (2, {"source": "bayes"}), (2, {"converged": False})]
)
def test_without_a_path_there_is_no_image(synthetic, roi, columns):
    rows = path_rows(synthetic(), np.full(59, -3.0)).replace(**columns)
    with pytest.raises(InvalidInputError, match=rf"ROI {roi}: got no converged row .* ROI 2\."):
        c2_model(rows, roi)


def test_a_series_of_two_frames_has_an_image(synthetic):
    rows = path_rows(synthetic(n_frames=2), np.array([-2.0]))
    model = c2_model(rows, 2, frame_time_s=FRAME_TIME_S)
    np.testing.assert_allclose(off_diagonal(model), off_diagonal(image(np.array([-2.0]))))


def test_rows_that_were_rounded_still_give_the_image(synthetic):
    ln_rate = np.random.default_rng(2).normal(-3, 0.1, 59)
    rows = path_rows(synthetic(), ln_rate)
    rows = dataclasses.replace(rows, relaxation_rate=np.round(rows.relaxation_rate, 3))
    model = c2_model(rows, 2, frame_time_s=FRAME_TIME_S)
    np.testing.assert_allclose(off_diagonal(model), off_diagonal(image(ln_rate)), atol=0.01)


@pytest.mark.parametrize(("n_bin_frames", "last"), [(2, 2), (4, 4), (8, 4)])
def test_the_image_of_a_map_is_the_mean_over_its_bins(synthetic, n_bin_frames, last):
    ln_rate = np.linspace(np.log(0.02), np.log(0.1), 59)
    rows = path_rows(synthetic(), ln_rate)
    found = c2_model(rows, 2, frame_time_s=FRAME_TIME_S, frames_per_bin=n_bin_frames)
    edges = np.arange(0, 60, n_bin_frames)
    assert len(found) == len(edges)
    assert 60 - edges[-1] == last  # frames of the last bin
    size = np.diff(np.append(edges, 60))
    total = np.add.reduceat(np.add.reduceat(image(ln_rate), edges), edges, axis=1)
    expected = total / np.outer(size, size)
    at_centre = c2_model(rows, 2, frame_time_s=FRAME_TIME_S, stride=n_bin_frames)
    error = np.nanmax(np.abs(off_diagonal(found - expected)))
    assert error < 0.004 * BETA
    assert error < 0.2 * np.max(np.abs(off_diagonal(at_centre - expected)))


def test_rows_of_several_frames_give_the_image_of_a_long_series(synthetic):
    ln_rate = np.linspace(-4, -5, 59)
    rows = path_rows(synthetic(), ln_rate)
    middles = np.arange(0, 60, 4) + 1.5
    rates = np.exp(np.interp(middles, np.arange(59) + 0.5, ln_rate)) / FRAME_TIME_S
    rows = rows.select(np.arange(15)).replace(age_frame=middles, relaxation_rate=rates)
    model = c2_model(rows, 2, frame_time_s=FRAME_TIME_S, n_frames=60)
    np.testing.assert_allclose(off_diagonal(model), off_diagonal(image(ln_rate)), atol=0.002)
