"""C2Analysis: where denoised rows can be trusted, and what is done for slow dynamics."""

import numpy as np
import pytest

from xpcs_live_denoise import RoiMap, Settings, analyse, simulate_speckle

ROIS = RoiMap.from_labels(np.repeat([1, 2], 2000).reshape(40, 100), q_inv_angstrom=[0.1, 0.2])
SLOW, FAST = 0.007, 0.06


@pytest.fixture(scope="module")
def gamma():
    """Rows of a series with a slow and a fast ROI, by the shipped ensemble."""
    made = simulate_speckle(
        ROIS, 400, relaxation_rate=[SLOW, FAST], contrast=0.5, mean_counts=1.0, seed=21
    )
    settings = Settings(detector="d", frame_time_s=0.1, mode="equilibrium")
    return analyse(np.concatenate(list(made)), settings, rois=ROIS).gamma


def rows_of(gamma, roi, source):
    return gamma.select((gamma.roi == roi) & (gamma.source == source))


def test_slow_dynamics_are_coarsened_and_come_out_right(gamma):
    coarse, fine = rows_of(gamma, 1, "denoised_coarse"), rows_of(gamma, 1, "denoised")
    (width,) = set(coarse.width.tolist())
    assert width in (4, 8)
    assert 0.02 < SLOW * width < 0.15
    error = {
        name: np.median(np.abs(rows.relaxation_rate[rows.converged] * 0.1 / SLOW - 1))
        for name, rows in (("coarse", coarse), ("fine", fine))
    }
    assert error["coarse"] < 0.3
    assert error["coarse"] < error["fine"]
    assert coarse.age_s.max() < 40.0
    np.testing.assert_allclose(np.diff(coarse.age_frame), width)
    assert (coarse.q_inv_angstrom == 0.1).all()
    assert not coarse.recommended.any()
    assert np.isnan(coarse.relaxation_rate_error).all()


def test_dynamics_that_are_fast_enough_are_left_as_they_are(gamma):
    assert len(rows_of(gamma, 2, "denoised_coarse")) == 0


def test_rows_outside_of_the_range_say_why(gamma):
    slow, fast = rows_of(gamma, 1, "denoised"), rows_of(gamma, 2, "denoised")
    assert fast.in_range.mean() > 0.8
    assert set(fast.reason[fast.in_range]) == {"no_error_bar"}
    assert set(slow.reason[slow.converged]) == {"out_of_range"}
    assert rows_of(gamma, 1, "denoised_coarse").in_range.mean() > 0.6
    assert not rows_of(gamma, 1, "series_denoised").in_range.any()
    assert rows_of(gamma, 2, "series_denoised").in_range.all()
