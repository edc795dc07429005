"""The jackknife knows the variance of a mean; stacked residuals know a wrong model."""

import numpy as np
import pytest

from xpcs_live_denoise.numerics.estimator.sums import (
    StackedResiduals,
    jackknife_variance,
    n_effective,
)


def test_of_a_mean_the_jackknife_is_the_textbook_variance():
    values = np.random.default_rng(0).normal(size=(8, 5))
    left_out = (values.sum(axis=0) - values) / 7
    np.testing.assert_allclose(jackknife_variance(left_out), values.var(axis=0, ddof=1) / 8)


@pytest.mark.parametrize(("together", "expected"), [(1, 60), (6, 10), (60, 1)])
def test_ages_that_fluctuate_together_count_as_one(together, expected):
    rng = np.random.default_rng(together)
    found: list[float] = []
    for _ in range(200):
        blocks = np.repeat(rng.normal(size=(8, 60 // together)), together, axis=1)
        left_out = (blocks.sum(axis=0) - blocks) / 7
        found.append(1 / n_effective(np.arange(60.0), left_out))
    assert 1 / np.mean(found) == pytest.approx(expected, rel=0.15)


def test_without_blocks_350_frames_are_worth_under_three_values_and_1000_four():
    assert n_effective(np.arange(350.0)) == pytest.approx(2.6, abs=0.1)
    assert n_effective(np.arange(1000.0)) == pytest.approx(3.7, abs=0.1)
    assert n_effective(np.arange(1.0)) == pytest.approx(1.0, abs=0.02)
    assert np.isnan(n_effective(np.empty(0)))


def stacked(offset, seed):
    """Residuals of 30 ages and 20 bins whose mean over 8 blocks has an error of 1."""
    rng = np.random.default_rng(seed)
    blocks = rng.normal(offset, np.sqrt(8 * 30), (8, 30, 20))
    left_out = (blocks.sum(axis=0) - blocks) / 7
    return StackedResiduals().add(np.ones((30, 20)), blocks.mean(axis=0), left_out)


def test_the_misfit_is_near_one_for_noise_and_large_for_a_shift_of_three_errors():
    noise = np.array([stacked(0.0, seed).misfit() for seed in range(40)])
    assert np.median(noise) == pytest.approx(1.0, abs=0.2)
    assert np.min([stacked(3.0, seed).misfit() for seed in range(40)]) > noise.max()


def test_ages_may_come_in_parts_and_bring_new_bins():
    rng = np.random.default_rng(1)
    weights, residual = rng.random((6, 4)), rng.normal(size=(6, 4))
    left_out = rng.normal(size=(8, 6, 4))
    weights[:3, 3] = 0.0
    whole = StackedResiduals().add(weights, residual, left_out)
    some = StackedResiduals().add(weights[:3, :3], residual[:3, :3], left_out[:, :3, :3])
    parts = some.add(weights[3:], residual[3:], left_out[:, 3:])
    assert parts.misfit() == pytest.approx(whole.misfit())


def test_nothing_stacked_is_no_misfit_that_could_be_told():
    assert np.isnan(StackedResiduals().misfit())
