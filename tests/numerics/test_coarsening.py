"""Coarsening: means over squares, their bias, the factor, and slow dynamics that come out right."""

from __future__ import annotations

import numpy as np
import pytest

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.coarsening import (
    choose_factor,
    coarsen,
    denoise_coarse,
)
from xpcs_live_denoise.numerics.contrast import estimate_contrast
from xpcs_live_denoise.numerics.fits import fit_ages
from xpcs_live_denoise.numerics.kww import fit_kww, kww
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.numerics.simulate import simulate_speckle
from xpcs_live_denoise.numerics.two_time import TwoTimeAccumulator
from xpcs_live_denoise.numerics.windows import WindowScaling, denoise_two_time


class Echo:
    """Returns what it gets: the fits then see the coarse C2 itself."""

    def denoise(self, windows):
        return windows, np.zeros_like(windows)


class Flat:
    """Returns a slow decay whatever it gets."""

    def denoise(self, windows):
        clean = noise_free(windows.shape[-1], 0.032)
        return np.broadcast_to(clean, windows.shape), np.zeros_like(windows)


def noise_free(n: int, rate: float, alpha: float = 1.0) -> np.ndarray:
    frame = np.arange(n)
    return kww(np.abs(frame[:, None] - frame), rate, alpha) + 3.0 * np.eye(n)


def speckle_c2(n: int, rate: float, *, counts: float, seed: int) -> np.ndarray:
    rois = RoiMap.from_labels(np.ones((40, 50), int))
    accumulator = TwoTimeAccumulator(rois, dtype="float64")
    for frames in simulate_speckle(
        rois, n, relaxation_rate=rate, mean_counts=counts, contrast=1.0, seed=seed
    ):
        accumulator.append(frames)
    return accumulator.c2


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_a_coarse_pixel_is_the_mean_of_its_square_without_lag_zero_and_gaps(factor: int):
    rng = np.random.default_rng(factor)
    c2 = rng.normal(1, 1, (2, 14, 14))
    c2[0, 5] = c2[0, :, 5] = np.nan
    c2[1, :4] = c2[1, :, :4] = np.nan
    coarse = coarsen(c2, factor)
    m = 14 // factor
    assert coarse.shape == (2, m, m)
    for roi in range(2):
        for i in range(m):
            for j in range(m):
                entries = [
                    c2[roi, t1, t2]
                    for t1 in range(i * factor, (i + 1) * factor)
                    for t2 in range(j * factor, (j + 1) * factor)
                    if t1 != t2 and np.isfinite(c2[roi, t1, t2])
                ]
                expected = np.mean(entries) if entries else np.nan
                assert coarse[roi, i, j] == pytest.approx(expected, nan_ok=True)


def test_the_dtype_stays_and_one_roi_needs_no_axis():
    c2 = noise_free(20, 0.01).astype(np.float32)
    assert coarsen(c2, 4).dtype == np.float32
    assert coarsen(c2, 4).shape == (5, 5)
    np.testing.assert_array_equal(coarsen(c2, 1), c2)


def test_a_factor_below_one_is_refused():
    with pytest.raises(InvalidInputError, match="got factor 0; expected at least 1"):
        coarsen(np.ones((4, 4)), 0)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_an_exponential_keeps_its_rate_and_gains_the_contrast_that_is_stated(factor: int):
    rate = 0.1 / factor
    coarse = coarsen(noise_free(40 * factor, rate), factor)
    kappa = (np.sinh(0.1) / (factor * np.sinh(rate))) ** 2
    np.testing.assert_allclose(coarse[0, 1:] - 1, kappa * np.exp(-0.2 * np.arange(1, 40)))


@pytest.mark.parametrize(
    ("alpha", "bound"), [(0.5, 0.045), (0.6, 0.023), (0.8, 0.008), (1.4, 0.008), (2.0, 0.008)]
)
@pytest.mark.parametrize("factor", [2, 16])
def test_the_bias_of_noise_free_fits_stays_within_what_is_stated(
    alpha: float, bound: float, factor: int
):
    lag = np.arange(1, 45)
    for coarse_rate in (0.01, 0.02, 0.04, 0.08, 0.15):
        c2 = noise_free(45 * factor, coarse_rate / factor, alpha)
        fit = fit_kww(lag, coarsen(c2, factor)[0, 1:], np.ones(44), beta=1.0)
        assert abs(fit.relaxation_rate[0] / coarse_rate - 1) < bound
        assert abs(fit.alpha[0] - alpha) < 0.03
        assert abs(fit.baseline[0] - 1) < 0.007


@pytest.mark.parametrize(
    ("rate", "n_frames", "factor"),
    [
        (0.003, 600, 8),  # 16 would leave no window; 8 is nearer to the middle than 4
        (0.006, 250, 4),
        (0.003, 250, 1),  # 4 does not bring it into range
        (0.008, 1000, 8),
        (0.001, 2000, 32),
        (0.001, 400, 1),
        (0.02, 1000, 1),
        (0.5, 1000, 1),
        (0.019, 99, 1),
        (0.019, 100, 2),
        (0.0, 1000, 1),
        (np.nan, 1000, 1),
    ],
)
def test_the_factor_brings_gamma_to_the_middle_of_the_range_and_leaves_a_window(
    rate: float, n_frames: int, factor: int
):
    assert choose_factor(rate, n_frames) == factor


def scaled(contrast, baseline=1.0) -> WindowScaling:
    contrast = np.atleast_1d(np.asarray(contrast, float))
    return WindowScaling(
        contrast=contrast, baseline=np.broadcast_to(baseline, contrast.shape).copy()
    )


def test_every_roi_has_its_own_factor_and_only_slow_ones_have_rows():
    rates = np.array([0.008, 0.05, 0.003, np.nan])
    c2 = np.stack([noise_free(820, rate) for rate in (0.008, 0.05, 0.003, 0.1)])
    table = denoise_coarse(c2, Echo(), scaled(np.ones(4)), relaxation_rate=rates)
    assert set(zip(table.roi.tolist(), table.width.tolist(), strict=True)) == {(1, 8), (3, 16)}
    assert (table.roi == 1).sum() == 820 // 8
    assert not table.recommended.any()


def test_rows_are_in_units_of_the_original_series():
    c2 = noise_free(480, 0.008)
    table = denoise_coarse(c2, Echo(), scaled(1.0), relaxation_rate=0.008, frame_time_s=0.5)
    np.testing.assert_allclose(table.age_frame, 8 * np.arange(60) + 3.5)
    middle = slice(20, 40)
    np.testing.assert_allclose(table.relaxation_rate[middle], 0.016, rtol=2e-3)  # s^-1
    # A cut takes odd lags half a coarse frame, 4 frames, later: 2 in the mean.
    late = table.age_s / 0.5 - table.age_frame
    assert ((late[middle] > 1.5) & (late[middle] < 2.5)).all()
    assert (table.source == "denoised_coarse").all()
    assert table.in_range[middle].all()


def test_the_range_is_that_of_the_rate_at_each_frame_and_not_of_the_denoised_one():
    rates = np.where(np.arange(480) < 240, 0.008, 0.003)
    c2 = noise_free(480, 0.008)
    table = denoise_coarse(c2, Echo(), scaled(1.0), relaxation_rate=rates[np.newaxis])
    good = table.converged
    np.testing.assert_array_equal(table.in_range[good], table.age_frame[good] < 240)
    assert set(table.reason[good & (table.age_frame > 240)]) == {"out_of_range"}


def test_a_roi_whose_contrast_is_not_known_gives_rows_that_did_not_converge():
    c2 = np.stack([noise_free(400, 0.004)] * 2)
    table = denoise_coarse(c2, Echo(), scaled([np.nan, 1.0]), relaxation_rate=[0.004, 0.004])
    assert (table.reason[table.roi == 1] == "not_converged").all()
    assert table.converged[table.roi == 2].any()


def test_nothing_to_coarsen_is_a_table_without_rows():
    table = denoise_coarse(noise_free(120, 0.05), Echo(), scaled(1.0), relaxation_rate=0.05)
    assert len(table) == 0


def test_one_rate_a_roi_is_needed():
    with pytest.raises(InvalidInputError, match="relaxation_rate: got shape"):
        denoise_coarse(noise_free(120, 0.05), Echo(), scaled(1.0), relaxation_rate=[0.1, 0.2, 0.3])


def test_the_contrast_that_is_given_is_held_and_lags_end_at_44():
    table = denoise_coarse(noise_free(480, 0.009, 0.8), Echo(), scaled(0.9), relaxation_rate=0.009)
    assert set(table.beta[table.converged].tolist()) == {0.9}
    assert table.n_lags.max() == 44


def test_windows_that_are_too_noisy_put_rows_out_of_range():
    noise = np.triu(np.random.default_rng(0).normal(0, 30.0, (480, 480)), 1)
    c2 = noise_free(480, 0.008) + noise + noise.T
    table = denoise_coarse(c2, Flat(), scaled(1.0), relaxation_rate=0.008)
    assert "too_noisy" in table.reason
    assert not table.in_range.any()


@pytest.mark.parametrize(
    ("counts", "seed"),
    [
        (0.3, 0),
        pytest.param(0.3, 1, marks=pytest.mark.statistics),
        pytest.param(1.0, 2, marks=pytest.mark.statistics),
    ],
)
def test_slow_speckle_comes_out_twice_as_well_as_without_coarsening(counts: float, seed: int):
    pytest.importorskip("torch")
    from xpcs_live_denoise.denoising.ensemble import load_ensemble

    truth, ensemble = 0.003, load_ensemble()
    c2 = speckle_c2(600, truth, counts=counts, seed=seed)
    contrast, baseline = estimate_contrast(c2, mode="equilibrium")
    scaling = WindowScaling(contrast=contrast, baseline=baseline)
    coarse = denoise_coarse(c2, ensemble, scaling, relaxation_rate=[truth])
    fine = denoise_two_time(c2, ensemble, mode="equilibrium")
    plain = fit_ages(fine.c2, beta=fine.contrast, max_lag=44)

    def median_error(rates):
        return np.nanmedian(np.abs(rates / truth - 1))

    assert set(coarse.width.tolist()) == {8}
    assert median_error(coarse.relaxation_rate) <= 0.5 * median_error(plain.relaxation_rate)
    assert median_error(coarse.relaxation_rate) < 0.2
    assert not coarse.in_range.any(), "slower than what coarse rows are good for in general"
