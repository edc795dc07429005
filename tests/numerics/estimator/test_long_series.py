"""Rows of several frames tell the same Gamma, and final rows are made while a series runs."""

import numpy as np
import pytest

from xpcs_live_denoise.numerics.estimator import final_cuts, sums
from xpcs_live_denoise.numerics.estimator.ages import BayesEstimator, cut_widths
from xpcs_live_denoise.numerics.estimator.final_cuts import FinalCuts
from xpcs_live_denoise.numerics.estimator.heterogeneity import heterogeneity
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.numerics.simulate import simulate_speckle
from xpcs_live_denoise.numerics.two_time import TwoTimeAccumulator

N_FRAMES = 800
RATE = np.geomspace(0.15, 0.04, N_FRAMES)
ROIS = RoiMap.from_labels(np.ones((30, 40), np.int64))


@pytest.fixture(scope="module")
def frames():
    pieces = simulate_speckle(
        ROIS, N_FRAMES, relaxation_rate=RATE, contrast=0.25, mean_counts=0.5, seed=5
    )
    return np.concatenate(list(pieces))


def accumulator(most_rows):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sums, "MOST_ROWS", most_rows)
        return TwoTimeAccumulator(ROIS, sums=True, map_frames=100)


def sums_of(frames, most_rows):
    two_time = accumulator(most_rows)
    two_time.append(frames)
    return two_time.age_sums


@pytest.fixture(scope="module")
def single(frames):
    return sums_of(frames, N_FRAMES)


@pytest.fixture(scope="module")
def double(frames):
    return sums_of(frames, N_FRAMES // 2)


@pytest.fixture(scope="module")
def told(single):
    return BayesEstimator(0).estimate(single, np.arange(N_FRAMES))


def test_a_cut_that_ends_with_rows_of_two_frames_is_that_of_single_frames(single, double):
    assert (single.row_frames, double.row_frames) == (1, 2)
    one, other = (each.cuts_of_frames(0, [99.5, 299.5], 40) for each in (single, double))
    for name in ("mean", "n_entries", "mean_age", "longest_lag", "left_out"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(one.noise, other.noise, rtol=0.05)


def test_of_a_row_that_a_cut_divides_a_share_counts(single, double):
    wide, narrow = (double.cuts_of_frames(0, [100], width) for width in (41, 43))
    whole = single.cuts(0, [100], 41)
    np.testing.assert_allclose(wide.n_entries[:, :30], whole.n_entries[:, :30], rtol=0.03)
    assert (narrow.n_entries >= wide.n_entries).all()
    assert abs(wide.mean_age[0] - whole.mean_age[0]) < 0.3


def test_within_bounds_both_frames_of_an_entry_lie_for_rows_of_any_length(single, double):
    bounds = [[80], [130]]
    one, other = (each.cuts_of_frames(0, [105], 40, bounds) for each in (single, double))
    assert one.longest_lag[0] == other.longest_lag[0] < 50
    assert other.n_entries.sum() == pytest.approx(one.n_entries.sum(), rel=0.1)


@pytest.mark.parametrize(
    ("row_frames", "expected"),
    [
        (1, (3, 5, 9, 15, 25, 41, 65)),
        (2, (3, 5, 9, 15, 25, 41, 65)),
        (8, (8, 15, 25, 41, 65)),
        (64, (64,)),
        (512, (512,)),
    ],
)
def test_no_cut_is_narrower_than_a_row(row_frames, expected):
    assert cut_widths(row_frames) == expected


def test_gamma_of_rows_of_two_frames_is_that_of_single_ones(told, double):
    found = BayesEstimator(0).estimate(double, np.arange(double.n_rows))
    np.testing.assert_array_equal(found.age, 2 * np.arange(N_FRAMES // 2) + 0.5)
    expected = np.interp(found.age, told.age, told.fits.ln_rate)
    error = np.interp(found.age, told.age, told.ln_rate_error)
    away = np.abs(found.fits.ln_rate - expected) / error
    assert (away < 0.1).mean() >= 0.95
    np.testing.assert_allclose(found.ln_rate_error, error, rtol=0.3)
    assert found.n_effective == pytest.approx(told.n_effective, rel=0.3)


@pytest.mark.parametrize("most_rows", [100, 50])
def test_gamma_of_rows_that_are_wider_than_most_cuts_is_right(frames, most_rows):
    long = sums_of(frames, most_rows)
    found = BayesEstimator(0).estimate(long, np.arange(long.n_rows))
    truth = np.log(np.interp(found.age, np.arange(N_FRAMES), RATE))
    off = (found.fits.ln_rate - truth) / found.ln_rate_error
    assert np.sqrt(np.mean((found.fits.ln_rate - truth) ** 2)) < 0.15
    assert (np.abs(off) < 2).mean() > 0.8
    assert (found.width >= long.row_frames).all()


def test_heterogeneity_of_rows_of_two_frames_is_that_of_single_ones(single, double):
    one, other = (
        heterogeneity(each, 0, beta=0.25, alpha=1.0, rate=0.1) for each in (single, double)
    )
    np.testing.assert_array_equal(one.edges, other.edges)
    away = np.abs(one.fast - other.fast) / np.hypot(one.fast_error, other.fast_error)
    assert np.nanmax(away) < 3
    assert one.found == other.found


# --- final rows --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(frames):
    """What was made while a series ran, whose rows were doubled twice; and its sums."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(final_cuts, "FIRST_FRAMES", 250)
        patch.setattr(final_cuts, "DELAY", 200)
        two_time, final = accumulator(200), FinalCuts(0)
        for start in range(0, N_FRAMES, 50):
            two_time.append(frames[start : start + 50])
            so_far = two_time.age_sums
            if so_far.n_frames > 100:
                final.advance(so_far)
        assert so_far.row_frames == 4
        yield final, so_far


def test_every_eighth_row_has_one_final_estimate_whenever_it_was_made(run):
    final, so_far = run
    found = final.finish(so_far)
    np.testing.assert_array_equal(found.row, np.arange(0, N_FRAMES // 4, 8))
    # The age of what was measured, also where rows held fewer frames then.
    np.testing.assert_array_equal(found.age // 4, found.row)
    assert set(found.age % 4) <= {0.0, 0.5, 1.5}
    again = final.finish(so_far)  # reading consumes nothing
    np.testing.assert_allclose(found.fits.ln_rate, again.fits.ln_rate, rtol=1e-9)
    np.testing.assert_allclose(found.ln_rate_error, again.ln_rate_error, rtol=1e-9)


def test_rows_that_were_made_while_the_series_ran_are_not_made_again(run):
    final, so_far = run
    found, anew = final.finish(so_far), FinalCuts(0).finish(so_far)
    differs = np.flatnonzero(np.abs(found.fits.ln_rate - anew.fits.ln_rate) > 1e-9)
    assert len(differs) > 12  # these had fewer lags, and an earlier prior
    off = (found.fits.ln_rate - anew.fits.ln_rate) / anew.ln_rate_error
    assert np.quantile(np.abs(off), 0.95) < 0.7
    np.testing.assert_allclose(found.ln_rate_error, anew.ln_rate_error, rtol=0.5)
    assert found.series.beta == pytest.approx(anew.series.beta)
    truth = np.log(np.interp(found.age, np.arange(N_FRAMES), RATE))
    assert (np.abs(found.fits.ln_rate - truth) < 2 * found.ln_rate_error).mean() > 0.85


@pytest.mark.parametrize("kind", ["no contrast", "static"])
def test_rows_do_not_wait_for_a_gamma_that_cannot_be_told(frames, monkeypatch, kind):
    monkeypatch.setattr(final_cuts, "FIRST_FRAMES", 250)
    monkeypatch.setattr(final_cuts, "DELAY", 50)
    monkeypatch.setattr(final_cuts, "LONGEST_DELAY", 200)
    monkeypatch.setattr(final_cuts, "_MOST_ROWS", 50)
    monkeypatch.setattr(final_cuts, "_LEAST_ROWS", 4)
    rng = np.random.default_rng(5)
    mean = np.ones_like(frames[0]) if kind == "no contrast" else frames[0] + 0.5
    two_time, final = accumulator(200), FinalCuts(0)
    for _ in range(N_FRAMES // 50):
        two_time.append(rng.poisson(3 * mean, (50, *mean.shape)).astype(frames.dtype))
        final.advance(two_time.age_sums)
    calls = []
    monkeypatch.setattr(
        BayesEstimator,
        "estimate",
        lambda self, sums, rows, **_: calls.append(rows),
    )
    final.finish(two_time.age_sums)
    assert len(calls[0]) * 32 <= 200 + 32 * 5


def test_a_series_that_ends_early_is_fitted_as_a_whole(single, told):
    final = FinalCuts(0)
    final.advance(single)
    found = final.finish(single)
    np.testing.assert_allclose(found.fits.ln_rate, told.fits.ln_rate, rtol=1e-9)
    np.testing.assert_allclose(found.ln_rate_error, told.ln_rate_error, rtol=1e-9)
