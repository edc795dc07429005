"""Heterogeneity: what fluctuates is found, what is steady or ages is not, noise has mean zero."""

import numpy as np
import pytest

from tests.support.changing_speckle import RATES, speckle
from xpcs_live_denoise.numerics.estimator.heterogeneity import FIRST_LAG, heterogeneity
from xpcs_live_denoise.numerics.estimator.sums import AgeSums
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.numerics.two_time import TwoTimeAccumulator


def of(sums, rate=0.05, beta=0.2):
    return heterogeneity(sums, 0, beta=beta, alpha=1.0, rate=rate)


@pytest.mark.parametrize("seed", [411, 412])
@pytest.mark.parametrize("name", ["oscillating", "burst"])
def test_a_gamma_that_fluctuates_is_found(name, seed):
    found = of(speckle(name, seed), rate=float(np.median(RATES[name])))
    assert found.found
    assert not found.upper_bound
    true = np.log(RATES[name]).std()
    assert 0.4 * true < found.spread < 1.6 * true
    assert 0 < found.spread_error < found.spread / 2


@pytest.mark.parametrize("seed", [411, 412])
@pytest.mark.parametrize("name", ["constant", "ageing"])
def test_a_gamma_that_is_steady_or_ages_is_not(name, seed):
    found = of(speckle(name, seed))
    assert not found.found
    known = np.isfinite(found.fast_error)
    assert np.abs(found.fast[known] / found.fast_error[known]).max() < 6
    assert np.median(np.abs(found.fast[known] / found.fast_error[known])) < 2


def test_ageing_shows_in_the_total_and_not_in_the_fast_part():
    found = of(speckle("ageing", 411))
    best = np.nanargmax(found.total)
    assert found.total[best] > 5 * found.total_error[best]
    assert found.fast[best] < 0.2 * found.total[best]


def test_products_of_blocks_equal_the_plain_mean_over_pairs_of_different_blocks():
    sums = speckle("oscillating", 411)
    found = of(sums)
    cuts = sums.cuts(0, np.arange(350), 1)
    which = np.flatnonzero((cuts.edges[:-1] >= 10) & (cuts.edges[:-1] < 14))
    assert found.edges[4:6].tolist() == [10, 14]
    weight = cuts.n_entries[:, which]
    enough = weight.sum(axis=1) >= 2
    blocks = 8 * cuts.mean[:, which] - 7 * np.moveaxis(cuts.left_out, 2, 0)[:, :, which]
    rows = (blocks * weight).sum(axis=2)[:, enough] / weight.sum(axis=1)[enough]
    change = np.array(
        [row - [row[max(i - 32, 0) : i + 33].mean() for i in range(len(row))] for row in rows]
    )
    pairs = [np.mean(change[i] * change[j]) for i in range(8) for j in range(8) if i != j]
    assert found.fast[4] * 0.2**2 == pytest.approx(np.mean(pairs), rel=1e-6)


def test_ages_without_measurement_are_left_out():
    rois = RoiMap.from_labels(np.ones((20, 20), int))
    frames = np.random.default_rng(5).gamma(5.0, 1.0, (120, 20, 20))
    two_time = TwoTimeAccumulator(rois, sums=True)
    two_time.append(frames[:50])
    two_time.append_gap(10)
    two_time.append(frames[60:])
    found = of(two_time.age_sums)
    assert np.isfinite(found.fast[:3]).all()
    assert not found.found


def test_c2_alone_gives_an_upper_bound():
    rng = np.random.default_rng(6)
    c2 = 1 + rng.normal(0, 0.05, (200, 200))
    c2 = (c2 + c2.T) / 2
    found = of(AgeSums.from_c2(c2))
    assert found.upper_bound
    assert not found.found
    known = np.isfinite(found.fast_error)
    assert np.abs(found.fast[known]).max() < 0.1


def test_values_are_laid_out_by_lag():
    found = of(speckle("constant", 411))
    by_lag = found.at_lags(found.fast, 349)
    assert by_lag.shape == (349,)
    assert np.isnan(by_lag[: FIRST_LAG - 1]).all()
    np.testing.assert_array_equal(by_lag[9:13], found.fast[4])


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_short_series_tells_nothing(n):
    found = of(AgeSums.from_c2(np.ones((n, n))))
    assert not found.found
    assert np.isnan(found.spread)
    assert np.isnan(found.at_lags(found.fast, max(n - 1, 1))).all()
