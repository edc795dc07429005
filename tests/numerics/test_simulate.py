import itertools
import tracemalloc

import numpy as np
import pytest
from scipy.optimize import curve_fit

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.numerics.simulate import Dynamics, intensities, simulate_speckle
from xpcs_live_denoise.numerics.two_time import TwoTimeAccumulator

SIZE = 128
N_PATCH = 16


def patches():
    """Return sixteen squares of 32 x 32 pixels: the scatter between them is the error."""
    row, col = np.indices((SIZE, SIZE)) // 32
    return RoiMap.from_labels(1 + 4 * row + col)


def c2_of(frames, rois):
    accumulator = TwoTimeAccumulator(rois, dtype="float64")
    for piece in frames:
        accumulator.append(piece)
    return accumulator.c2


def kww(lag, gamma, alpha, beta):
    return 1 + beta * np.exp(-2 * (abs(gamma) * lag) ** alpha)


def assert_within_errors(samples, truth, n_sigma=4.5):
    """`samples` (n_sample, ...) are independent measurements of `truth` (...)."""
    error = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    deviation = np.abs(samples.mean(axis=0) - truth) / error
    assert deviation.max() < n_sigma, deviation


@pytest.mark.parametrize("alpha", [0.7, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("contrast", [1.0, 0.3])
def test_c2_has_the_prescribed_beta_gamma_and_alpha(alpha, contrast):
    gamma, lags = 0.06, np.arange(1, 40)
    frames = simulate_speckle(
        (SIZE, SIZE),
        240,
        relaxation_rate=gamma,
        alpha=alpha,
        contrast=contrast,
        mean_counts=3.0,
        seed=11,
    )
    c2 = c2_of(frames, patches())
    g2 = np.stack([np.diagonal(c2, lag, 1, 2).mean(axis=1) for lag in lags], axis=1)
    truth = (gamma, alpha, contrast)
    fits = np.array([curve_fit(kww, lags, one, p0=truth)[0] for one in g2])
    error = fits.std(axis=0, ddof=1) / np.sqrt(N_PATCH)
    assert (error / truth < 0.03).all()  # the test is sharp
    assert_within_errors(fits, np.array(truth))


def test_the_rate_follows_a_power_law_of_q_over_the_rois():
    edges = [(15, 25), (25, 37), (37, 50), (50, 63)]
    q = np.array([20.0, 31.0, 43.5, 56.5])
    rate = 0.05 * (q / 31) ** 2
    rois = RoiMap.rings((SIZE, SIZE), (64, 64), edges, q_inv_angstrom=q * 1e-4)
    lags = np.arange(1, 30)
    slopes = []
    for seed in range(6):
        frames = simulate_speckle(rois, 150, relaxation_rate=rate, mean_counts=5.0, seed=seed)
        c2 = c2_of(frames, rois)
        g2 = np.stack([np.diagonal(c2, lag, 1, 2).mean(axis=1) for lag in lags], axis=1)
        gamma = [abs(curve_fit(kww, lags, one, p0=(0.05, 1, 1))[0][0]) for one in g2]
        slopes.append(np.polyfit(np.log(q), np.log(gamma), 1))
    slopes = np.array(slopes)
    assert slopes[:, 0].std() < 0.1
    assert_within_errors(slopes[:, :1], np.array([2.0]))


@pytest.mark.parametrize("alpha_end", [1.0, 1.5])
def test_an_ageing_sample_has_the_prescribed_c2_at_every_age(alpha_end):
    n = 200
    rate = np.geomspace(0.2, 0.02, n)
    alpha = np.linspace(1.0, alpha_end, n)
    frames = simulate_speckle(
        (SIZE, SIZE),
        n,
        relaxation_rate=rate,
        alpha=alpha if alpha_end != 1 else 1.0,
        contrast=0.4,
        mean_counts=4.0,
        seed=5,
    )
    c2 = c2_of(frames, patches())
    clock = np.concatenate([[0], np.cumsum((rate[1:] + rate[:-1]) / 2)])
    exponent = (alpha[:, None] + alpha) / 2
    truth = 1 + 0.4 * np.exp(-2 * np.abs(clock[:, None] - clock) ** exponent)
    # Means over 20 ages at some lags: independent enough of one another, sharp enough to fail.
    for lag in (1, 2, 5, 10, 20, 40):
        measured = np.diagonal(c2, lag, 1, 2)
        expected = np.diagonal(truth, lag)
        n_bin = len(expected) // 20
        binned = measured[:, : 20 * n_bin].reshape(N_PATCH, n_bin, 20).mean(axis=2)
        assert_within_errors(binned, expected[: 20 * n_bin].reshape(n_bin, 20).mean(axis=1))
        assert binned.std(axis=0).max() < 0.04


@pytest.mark.parametrize("contrast", [1.0, 0.6, 0.5, 0.23, 0.05])
def test_counts_have_the_prescribed_mean_and_contrast_beyond_photon_noise(contrast):
    frames = np.concatenate(
        list(
            simulate_speckle(
                (SIZE, SIZE), 30, relaxation_rate=3.0, contrast=contrast, mean_counts=2.5, seed=8
            )
        )
    ).astype(float)
    assert_within_errors(frames.mean(axis=(1, 2)), 2.5)
    # var = mean + contrast mean^2: photon noise and speckle
    factorial = (frames * (frames - 1)).mean(axis=(1, 2))
    assert_within_errors(factorial, 2.5**2 * (1 + contrast))


def test_a_single_mode_has_the_photon_statistics_of_thermal_light():
    frames = np.concatenate(
        list(simulate_speckle((SIZE, SIZE), 40, relaxation_rate=5.0, mean_counts=0.8, seed=2))
    )
    counts = np.arange(5)
    share = np.stack([(frames == k).mean(axis=(1, 2)) for k in counts], axis=1)
    assert_within_errors(share, 0.8**counts / 1.8 ** (counts + 1))  # Bose-Einstein


def test_frames_are_uint16_of_the_right_shape():
    pieces = list(simulate_speckle((7, 9), 23, relaxation_rate=0.1, block=10))
    assert [piece.shape for piece in pieces] == [(10, 7, 9), (10, 7, 9), (3, 7, 9)]
    assert all(piece.dtype == np.uint16 for piece in pieces)


def test_the_brightest_speckle_fits_uint16():
    frames = np.concatenate(
        list(simulate_speckle((64, 64), 20, relaxation_rate=1.0, mean_counts=4000.0))
    )
    assert frames.max() > 20_000
    np.testing.assert_allclose(frames.mean(), 4000, rtol=0.03)


def correlation_in_space(frames, shift):
    """Intensity covariance over `shift` columns, per frame, in units of the mean squared."""
    x = frames.astype(float)
    x = x / x.mean(axis=(1, 2), keepdims=True)
    return (x[..., shift:] * x[..., : x.shape[2] - shift]).mean(axis=(1, 2)) - 1


@pytest.mark.parametrize("alpha", [1.0, 1.5])
def test_speckle_has_the_prescribed_size_and_no_less_contrast(alpha):
    frames = np.concatenate(
        list(
            simulate_speckle(
                (SIZE, SIZE + 60),
                60,
                relaxation_rate=4.0,
                alpha=alpha,
                speckle_size=4.0,
                mean_counts=50.0,
                seed=1,
            )
        )
    )
    for shift, expected in [(1, 2**-0.25), (2, 0.5), (4, 1 / 16), (20, 0.0)]:
        assert_within_errors(correlation_in_space(frames, shift), expected)
    transposed = correlation_in_space(frames.transpose(0, 2, 1), 2)
    assert_within_errors(transposed, 0.5)
    factorial = (frames * (frames - 1.0)).mean(axis=(1, 2)) / 2500
    assert_within_errors(factorial, 2.0)


def test_opposite_edges_of_large_speckle_are_independent():
    frames = np.concatenate(
        list(
            simulate_speckle(
                (64, 64), 200, relaxation_rate=5.0, speckle_size=5.0, mean_counts=50.0, seed=4
            )
        )
    ).astype(float)
    edges = frames[:, :, 0] * frames[:, :, -1] / 2500
    assert_within_errors(edges.mean(axis=1), 1.0)


def test_pixels_of_size_one_are_independent():
    frames = np.concatenate(
        list(simulate_speckle((SIZE, SIZE), 40, relaxation_rate=5.0, mean_counts=50.0, seed=3))
    )
    assert_within_errors(correlation_in_space(frames, 1), 0.0)


def test_large_speckle_keeps_its_dynamics():
    frames = simulate_speckle(
        (SIZE, SIZE), 150, relaxation_rate=0.1, speckle_size=2.0, mean_counts=10.0, seed=6
    )
    c2 = c2_of(frames, patches())
    g2 = np.stack([np.diagonal(c2, lag, 1, 2).mean(axis=1) for lag in (1, 5, 10)], axis=1)
    assert_within_errors(g2, kww(np.array([1, 5, 10]), 0.1, 1.0, 1.0))


def test_a_rate_of_zero_is_frozen_speckle():
    frames = simulate_speckle(
        (SIZE, SIZE), 60, relaxation_rate=0.0, contrast=0.5, mean_counts=20.0, seed=9
    )
    c2 = c2_of(frames, patches())
    assert_within_errors(np.diagonal(c2, 59, 1, 2), np.array([1.5]))


@pytest.mark.parametrize("alpha", [1.0, 1.5])
def test_between_two_frames_the_rate_is_the_mean_of_theirs(alpha):
    rate = np.repeat([0.0, 0.4, 0.0], 15)
    frames = simulate_speckle(
        (SIZE, SIZE), 45, relaxation_rate=rate, alpha=alpha, mean_counts=20.0, seed=13
    )
    c2 = c2_of(frames, patches())
    steps = np.stack([c2[:, 13, 14], c2[:, 14, 15], c2[:, 15, 16], c2[:, 29, 30]], axis=1)
    assert_within_errors(steps, kww(np.array([0.0, 0.2, 0.4, 0.2]), 1.0, alpha, 1.0))


def test_pixels_outside_of_the_rois_follow_the_nearest():
    labels = np.zeros((SIZE, SIZE), int)
    labels[:, 20:30], labels[:, 100:110] = 1, 2
    frames = np.concatenate(
        list(
            simulate_speckle(
                RoiMap.from_labels(labels),
                60,
                relaxation_rate=[0.0, 9.0],
                mean_counts=30.0,
                seed=0,
            )
        )
    ).astype(float)
    lag_one = (frames[1:] * frames[:-1]).mean(axis=0) / 900 - 1
    near_first, near_second = lag_one[:, :60], lag_one[:, 70:]
    np.testing.assert_allclose(near_first.mean(), 1.0, atol=0.1)
    np.testing.assert_allclose(near_second.mean(), 0.0, atol=0.02)


@pytest.mark.parametrize("alpha", [1.0, 1.4])
def test_the_block_size_has_no_influence_on_the_frames(alpha):
    options = {"relaxation_rate": 0.05, "alpha": alpha, "contrast": 0.5, "seed": 3}
    whole = np.concatenate(list(simulate_speckle((20, 20), 130, **options)))
    for block in (1, 7, 64, 1000):
        pieces = list(simulate_speckle((20, 20), 130, block=block, **options))
        assert max(len(piece) for piece in pieces) == min(block, 130)
        np.testing.assert_array_equal(np.concatenate(pieces), whole)


def test_a_seed_gives_the_same_frames_and_another_seed_others():
    def frames(seed):
        return next(simulate_speckle((16, 16), 20, relaxation_rate=0.1, seed=seed))

    np.testing.assert_array_equal(frames(1), frames(1))
    assert (frames(1) != frames(2)).mean() > 0.3


def test_equal_rois_and_one_frame_give_the_same_speckle():
    labels = np.repeat([[1, 2]], 16, axis=0).repeat(8, axis=1)
    rois = RoiMap.from_labels(labels)
    alone = next(simulate_speckle((16, 16), 10, relaxation_rate=0.1, alpha=1.3))
    for rate in ([0.1, 0.1], np.full((2, 10), 0.1), np.full(10, 0.1)):
        frames = next(simulate_speckle(rois, 10, relaxation_rate=rate, alpha=1.3))
        np.testing.assert_array_equal(frames, alone)


@pytest.mark.parametrize("alpha", [1.0, 1.5])
def test_memory_does_not_grow_with_the_series(alpha):
    def peak(n_frames):
        dynamics = Dynamics(
            shape=(64, 64),
            group=np.zeros(64 * 64, int),
            clock=0.3 * np.arange(n_frames)[np.newaxis],
            alpha=np.full((1, n_frames), alpha),
            weights=np.ones(1),
            speckle_size=1,
            seed=0,
            cache_bytes=0,
        )
        tracemalloc.start()
        for _ in intensities(dynamics):
            pass
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    more_frames = 64 * 64 * 4 * 600
    assert peak(900) < peak(300) + more_frames / 10


def test_frames_come_one_block_at_a_time():
    series = simulate_speckle((16, 16), 100_000, relaxation_rate=0.01)
    first = list(itertools.islice(series, 2))
    assert [len(piece) for piece in first] == [50, 50]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_frames": 0}, "Number of frames: got 0"),
        ({"n_frames": 2.5}, "Number of frames: got 2.5, expected a whole number"),
        ({"block": 0}, "Block: got 0"),
        ({"seed": -1}, "Seed: got -1"),
        ({"contrast": 0.0}, "Contrast: got 0.0, expected 0 < value <= 1"),
        ({"contrast": 1.2}, "Contrast: got 1.2"),
        ({"mean_counts": 0.0}, "Mean counts: got 0.0"),
        ({"mean_counts": 1e5}, "expected 0 < value <= 4000"),
        ({"speckle_size": 0.5}, "Speckle size: got 0.5, expected a FWHM of at least 1"),
        ({"relaxation_rate": -0.1}, "Relaxation rate: got -0.1, expected >= 0"),
        ({"relaxation_rate": np.nan}, "Relaxation rate: got values that are not finite"),
        ({"relaxation_rate": np.ones(3)}, r"got shape \(3,\), expected a scalar, \(1,\)"),
        ({"relaxation_rate": np.ones((2, 30))}, r"got shape \(2, 30\)"),
        ({"alpha": 0.0}, r"alpha: got values from 0\.0 to 0\.0, expected 0 < alpha <= 2"),
        ({"alpha": 2.2}, "expected 0 < alpha <= 2"),
        ({"alpha": np.ones(31)}, r"alpha: got shape \(31,\)"),
        ({"roi_map_or_shape": (16,)}, r"Frame shape: got \(16,\)"),
    ],
)
def test_impossible_arguments_are_refused_at_once(options, message):
    arguments = {"roi_map_or_shape": (16, 16), "n_frames": 30, "relaxation_rate": 0.1, **options}
    with pytest.raises(InvalidInputError, match=message):
        simulate_speckle(**arguments)


def test_one_value_a_roi_and_one_a_frame_must_not_be_mistaken_for_another():
    rois = RoiMap.from_labels(np.array([[1, 2, 3]]))
    with pytest.raises(InvalidInputError, match=r"expected shape \(3, 3\), which leaves no doubt"):
        simulate_speckle(rois, 3, relaxation_rate=[0.1, 0.2, 0.3])


def test_a_memory_that_is_too_long_is_refused_at_once():
    with pytest.raises(InvalidInputError, match="remembers more than 600 frames"):
        simulate_speckle((16, 16), 5000, relaxation_rate=1e-4, alpha=1.5)
    next(simulate_speckle((16, 16), 5000, relaxation_rate=1e-4, alpha=1.0))
    next(simulate_speckle((16, 16), 300, relaxation_rate=1e-4, alpha=1.5))
