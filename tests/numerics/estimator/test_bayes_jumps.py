"""Jumps of Gamma are found where they are, and only there; cuts do not reach across."""

from functools import cache

import numpy as np
import pytest

from tests.benchmarks.estimator import Case, final, frames_of, sums_of
from xpcs_live_denoise.numerics.estimator.cuts import fit_series
from xpcs_live_denoise.numerics.estimator.grid import kww_grid
from xpcs_live_denoise.numerics.estimator.jumps import Jump, bounds, find_jumps
from xpcs_live_denoise.numerics.estimator.sums import AgeSums

N_FRAMES, AT = 160, 80
STEP = np.where(np.arange(350) < AT, 0.15, 0.03)
SMOOTH = np.geomspace(0.2, 0.02, 350)


@cache
def frames(step, seed=11):
    """A bright series of 900 pixels."""
    case = Case(rate=STEP if step else SMOOTH, counts=1.0, shape=(30, 30))
    return frames_of(case, seed)[:N_FRAMES]


def jumps_of(sums, span=(0, N_FRAMES)):
    grid = kww_grid(sums.series(0).edges, sums.series(0).lag)
    pieces = sums.cuts(0, np.arange(20, sums.n_frames - 20, 41), 41)
    prior = fit_series(sums.series(0), pieces, grid).prior
    return find_jumps(sums, 0, grid, prior, span)


def test_a_jump_is_found_to_a_few_frames():
    (jump,) = jumps_of(sums_of(frames(step=True)))
    assert abs(jump.first - AT) <= 2
    assert jump.change == pytest.approx(np.log(0.2), abs=0.5)
    assert jump.probability.sum() == pytest.approx(1)


def test_a_steady_change_is_no_jump():
    assert jumps_of(sums_of(frames(step=False))) == []


def test_a_jump_outside_of_the_span_is_not_looked_for():
    assert jumps_of(sums_of(frames(step=True)), span=(0, AT - 30)) == []


@pytest.mark.parametrize("n_frames", [1, 30, 41])
def test_a_series_too_short_to_tell_has_no_jumps(n_frames):
    assert jumps_of(sums_of(frames(step=False)[:n_frames])) == []


def test_bounds_hold_their_ages_and_no_jump():
    places = np.arange(99, 102)
    jump = Jump(first=100, change=-1.0, places=places, probability=np.array([0.2, 0.7, 0.1]))
    ages = np.array([0, 99, 100, 300])
    first, stop = bounds([jump], ages)
    np.testing.assert_array_equal(stop[:2], 100)
    np.testing.assert_array_equal(first[2:], 100)
    assert (first <= ages).all()
    assert (stop > ages).all()
    # On the other side where the jump is at 99; where it is at 101.
    np.testing.assert_allclose(jump.doubt(ages), [0, 0.2, 0.1, 0], atol=1e-12)


def test_a_cut_within_bounds_is_that_of_a_series_that_ends_there():
    c2 = np.random.default_rng(3).normal(1.1, 0.1, (60, 60))
    whole, part = AgeSums.from_c2(c2), AgeSums.from_c2(c2[20:, 20:])
    ages = np.array([22, 30, 45])
    inside = np.repeat([[20], [60]], 3, axis=1)
    cuts, expected = whole.cuts(0, ages, 9, inside), part.cuts(0, ages - 20, 9)
    single = np.diff(expected.edges) == 1  # wider bins count only where all their lags do
    n_bin = int(np.argmin(single))
    np.testing.assert_array_equal(cuts.n_entries[:, :n_bin], expected.n_entries[:, :n_bin])
    np.testing.assert_allclose(cuts.mean[:, :n_bin], expected.mean[:, :n_bin], atol=1e-12)


def test_ages_beside_a_jump_have_the_rate_of_their_side_or_say_that_they_do_not_know():
    told = final(frames(step=True))
    error = np.abs(told.fits.ln_rate - np.log(STEP[:N_FRAMES]))
    beside = np.abs(told.age - AT) <= 20
    known = told.ln_rate_error <= 0.5
    assert (error < 3 * told.ln_rate_error)[beside].all()
    assert known[beside].mean() > 0.7
    assert np.sqrt(np.mean(error[beside & known] ** 2)) < 0.3
