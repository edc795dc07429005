import numpy as np
import pytest

from xpcs_live_denoise.numerics.simulate import Dynamics, intensities, mode_weights, root_rows


def dynamics(rate, alpha, n_frames, shape=(4, 4)):
    rate = np.broadcast_to(np.asarray(rate, float), n_frames)
    clock = np.concatenate([[0.0], np.cumsum((rate[1:] + rate[:-1]) / 2)])
    return Dynamics(
        shape=shape,
        group=np.zeros(shape[0] * shape[1], np.intp),
        clock=clock[np.newaxis],
        alpha=np.broadcast_to(np.asarray(alpha, float), n_frames)[np.newaxis],
        weights=np.ones(1),
        speckle_size=1.0,
        seed=0,
    )


@pytest.mark.parametrize("contrast", [1.0, 0.9, 0.5, 0.34, 1 / 3, 0.2, 0.013])
def test_modes_have_positive_weights_of_the_prescribed_contrast(contrast):
    weights = mode_weights(contrast)
    assert len(weights) == int(np.ceil(1 / contrast - 1e-9))
    assert (weights > 0).all()
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-12)
    np.testing.assert_allclose((weights**2).sum(), contrast, rtol=1e-9)


@pytest.mark.parametrize(
    ("rate", "alpha"),
    [
        (0.05, 0.6),
        (0.05, 1.5),
        (0.05, 2.0),
        (1.0, 1.5),
        (np.geomspace(0.2, 0.02, 400), 1.3),
        (np.geomspace(0.2, 0.02, 400), np.linspace(1.0, 1.5, 400)),
        (np.geomspace(0.2, 0.02, 400), np.where(np.arange(400) < 200, 1.0, 1.5)),
    ],
    ids=["stretched", "compressed", "gaussian", "fast", "ageing", "alpha drifts", "alpha jumps"],
)
def test_the_weights_of_the_noise_frames_have_the_prescribed_correlation(rate, alpha):
    n = 400
    d = dynamics(rate, alpha, n)
    weights = np.zeros((n, n))
    for start in range(0, n, d.block):
        low, rows = root_rows(d, 0, start)
        weights[start : start + len(rows), low : low + rows.shape[1]] = rows
    exponent = (d.alpha[0][:, np.newaxis] + d.alpha[0]) / 2
    prescribed = np.exp(-2 * np.abs(d.clock[0][:, np.newaxis] - d.clock[0]) ** exponent)
    np.testing.assert_allclose((weights @ weights.T) ** 2, prescribed, atol=1e-3)


def test_both_constructions_have_the_same_statistics_where_they_meet():
    near_one = np.concatenate(list(intensities(dynamics(0.1, 1 + 1e-12, 120, (40, 40)))))
    one = np.concatenate(list(intensities(dynamics(0.1, 1.0, 120, (40, 40)))))
    for lag in (1, 5, 10):
        pairs = [(x[lag:] * x[:-lag]).mean(axis=0) for x in (near_one, one)]
        error = np.hypot(*(pair.std() for pair in pairs)) / 40
        assert abs(pairs[0].mean() - pairs[1].mean()) < 4 * error
        assert error < 0.08
