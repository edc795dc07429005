"""The live estimator on simulated series with known Gamma(t): accuracy, errors, what it refuses."""

import functools

import numpy as np
import pytest

from tests.benchmarks.estimator import CASES, Case, final, frames_of, live, score, sums_of
from xpcs_live_denoise.numerics.estimator.ages import BayesEstimator, reasons
from xpcs_live_denoise.numerics.estimator.sums import AgeSums, n_effective
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.numerics.two_time import TwoTimeAccumulator

# Not among the seeds (0-3, 20-55, 100-107, 200-207) on which constants were chosen.
SEEDS = range(300, 304)


def rms(scores):
    return np.sqrt(np.mean([one.rms**2 for one in scores]))


@functools.cache
def score_of(name, seed):
    case = CASES[name]
    return score(case, [final(frames_of(case, seed))])


def scores_of(name, seeds=SEEDS):
    return [score_of(name, seed) for seed in seeds]


# --- one series of each claim; the same with several seeds below is marked `statistics` -------


def test_gamma_and_error_bars_of_an_ageing_series_are_right():
    one = score_of("ageing", 300)
    assert one.rms <= 0.18
    assert one.recommended >= 0.95
    assert one.misfit < 2.5
    assert one.within_two >= 0.85


def test_a_live_run_knows_gamma_of_25_frames_ago():
    case = CASES["ageing"]
    assert score(case, live(frames_of(case, 300), (25,), step=20)[25]).rms <= 0.2


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("heterodyne", {"not_kww"}),
        ("too_fast", {"no_contrast", "grid_edge", "prior"}),
        ("too_slow", {"no_contrast", "too_slow", "grid_edge", "prior"}),
    ],
)
def test_a_series_that_tells_no_gamma_is_never_recommended(name, expected):
    one = score_of(name, 300)
    assert one.recommended == 0
    assert set(one.reasons) <= expected
    assert (one.misfit > 2.5) == (name == "heterodyne")


def test_a_correct_kww_curve_is_taken_for_one():
    assert "not_kww" not in score_of("constant", 300).reasons


# --- many seeds --------------------------------------------------------------------------------


@pytest.mark.statistics
@pytest.mark.parametrize(("name", "most"), [("ageing", 0.13), ("fast", 0.15), ("step", 0.18)])
def test_the_error_of_ln_gamma_of_ageing_series_is_small(name, most):
    scores = scores_of(name)
    assert rms(scores) <= most
    assert min(one.recommended for one in scores) >= 0.95
    assert max(one.misfit for one in scores) < 2.5


@pytest.mark.statistics
def test_a_live_run_knows_gamma_of_25_and_12_frames_ago():
    case = CASES["ageing"]
    told = [live(frames_of(case, seed), step=10) for seed in SEEDS[:3]]
    assert rms([score(case, one[25]) for one in told]) <= 0.15
    assert rms([score(case, one[12]) for one in told]) <= 0.20


@pytest.mark.statistics
@pytest.mark.parametrize("name", ["ageing", "bright"])
def test_error_bars_hold(name):
    scores = scores_of(name, range(300, 308))
    assert 0.58 <= np.mean([one.within_one for one in scores]) <= 0.78
    assert np.mean([one.within_two for one in scores]) >= 0.90


@pytest.mark.statistics
@pytest.mark.parametrize("name", ["heterodyne", "heterodyne_dim"])
def test_what_is_no_single_kww_curve_is_never_recommended(name):
    for one in scores_of(name, range(300, 305)):
        assert one.recommended == 0
        assert set(one.reasons) == {"not_kww"}


@pytest.mark.statistics
def test_a_correct_kww_curve_is_taken_for_another_in_one_of_twenty_runs_at_most():
    flagged = ["not_kww" in one.reasons for one in scores_of("constant", range(300, 320))]
    assert sum(flagged) <= 1


@pytest.mark.statistics
@pytest.mark.parametrize("name", ["too_fast", "too_fast_bright", "too_slow", "too_slow_bright"])
def test_rates_that_no_series_can_tell_are_never_recommended(name):
    for one in scores_of(name, SEEDS[:2]):
        assert one.recommended == 0
        assert set(one.reasons) <= {"no_contrast", "too_slow", "grid_edge", "prior"}


def small(seed=1, n_frames=60):
    """A short bright series of 400 pixels; Gamma 0.1 a frame."""
    case = Case(rate=0.1, counts=5.0, shape=(20, 20))
    return frames_of(case, seed)[:n_frames]


def test_all_ages_at_once_or_in_two_calls_have_the_same_rates_and_widths():
    sums = sums_of(small())
    whole = BayesEstimator(0).estimate(sums, np.arange(60))
    estimator = BayesEstimator(0)
    parts = [estimator.estimate(sums, ages) for ages in (np.arange(30), np.arange(30, 60))]
    rate = np.concatenate([part.fits.ln_rate for part in parts])
    same = np.concatenate([part.width for part in parts]) == whole.width
    assert same.mean() > 0.9  # slope and curvature come from fewer ages in a part
    np.testing.assert_allclose(rate[same], whole.fits.ln_rate[same], atol=1e-9)
    assert parts[1].misfit > 0


def test_neighbouring_ages_are_worth_few_independent_values():
    sums = sums_of(small())
    whole = BayesEstimator(0).estimate(sums, np.arange(60))
    assert 1 <= whole.n_effective < 15
    estimator = BayesEstimator(0)
    first = estimator.estimate(sums, np.arange(3))
    assert 1 <= first.n_effective < 2, "three neighbours"
    # Ages of an earlier call count as well.
    assert estimator.estimate(sums, np.arange(30, 60)).n_effective > first.n_effective


def test_without_pixels_all_ages_count_not_only_those_that_are_fitted_at_once():
    sums = AgeSums.from_c2(np.ones((200, 200)))
    told = BayesEstimator(0).estimate(sums, np.arange(200))
    assert told.n_effective == n_effective(np.arange(200.0))


def test_an_age_that_is_not_remembered_leaves_no_trace():
    sums = sums_of(small())
    fresh, asked = BayesEstimator(0), BayesEstimator(0)
    asked.estimate(sums, [50, 51], remember=False)
    one, other = (each.estimate(sums, [30]) for each in (fresh, asked))
    assert one.ln_rate_error == other.ln_rate_error
    assert one.misfit == other.misfit
    assert one.n_effective == other.n_effective


def test_a_c2_without_pixels_has_errors_widened_by_its_scatter_and_no_misfit():
    rng = np.random.default_rng(4)
    frame = np.arange(80)
    lag = np.abs(frame - frame[:, np.newaxis])
    noise = rng.normal(0, 0.03, lag.shape)
    c2 = 1 + 0.2 * np.exp(-2 * 0.06 * lag) + (noise + noise.T) / np.sqrt(2)
    told = BayesEstimator(0).estimate(AgeSums.from_c2(c2), frame)
    assert np.isnan(told.misfit)
    assert np.median(np.abs(told.fits.ln_rate - np.log(0.06))) < 0.15
    assert (told.ln_rate_error >= told.fits.ln_rate_sd).all()


@pytest.mark.parametrize("n_frames", [1, 2, 5])
def test_too_few_frames_are_told_as_such(n_frames):
    told = BayesEstimator(0).estimate(sums_of(small(n_frames=n_frames)), np.arange(n_frames))
    assert (reasons(told) != "").all()


def test_a_roi_without_counts_has_no_contrast():
    frames = small()
    frames[:] = 0
    told = BayesEstimator(0).estimate(sums_of(frames), np.arange(60))
    assert set(reasons(told)) == {"no_contrast"}


def test_a_live_run_knows_the_prior_of_a_run_that_repeats_all_fits_to_a_part_of_its_width():
    frames = frames_of(CASES["ageing"], 300)[:250]
    rois = RoiMap.from_labels(np.ones(frames.shape[1:], np.int64))
    two_time, estimator = TwoTimeAccumulator(rois, sums=True), BayesEstimator(0)
    for first in range(0, 250, 10):
        two_time.append(frames[first : first + 10])
        if first < 60:
            continue
        ages = np.arange(first - 20, first - 15)
        updated = estimator.estimate(two_time.age_sums, ages)
        repeated = BayesEstimator(0).estimate(two_time.age_sums, ages)
        sd = np.sqrt(np.diagonal(repeated.series.prior.covariance))
        away = np.abs(updated.series.prior.mean - repeated.series.prior.mean) / sd
        assert away.max() < 0.25
        assert updated.series.beta == repeated.series.beta
        off = np.abs(updated.fits.ln_rate - repeated.fits.ln_rate) / repeated.ln_rate_error
        assert off.max() < 0.25
