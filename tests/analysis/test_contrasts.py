"""The contrast by three methods, side by side in the status."""

import numpy as np
import pytest

from xpcs_live_denoise import RoiMap, Settings, analyse, analyse_c2, simulate_speckle
from xpcs_live_denoise.analysis.c2 import contrast_estimates
from xpcs_live_denoise.analysis.rates import one_time

ROIS = RoiMap.from_labels(np.repeat([1, 2], 2000).reshape(40, 100))
BETA, RATE = 0.3, 0.1


class Identity:
    def denoise(self, windows):
        return windows, np.zeros_like(windows)


@pytest.fixture(scope="module")
def frames():
    made = simulate_speckle(
        ROIS, 150, relaxation_rate=RATE, contrast=BETA, mean_counts=1.5, seed=12
    )
    return np.concatenate(list(made))


def test_three_methods_agree_within_their_errors_about_what_each_measures(frames):
    result = analyse(frames, Settings(detector="d"), rois=ROIS, ensemble=Identity())
    found = {name: np.array(value) for name, value in result.status.contrast_estimates.items()}
    truth = {"intercept": BETA, "lag_1": BETA * np.exp(-2 * RATE), "photon": BETA}
    for name, beta in truth.items():
        error = found[f"{name}_error"]
        assert (np.abs(found[name] - beta) < 4 * error).all(), name
        assert (error < 0.4 * beta).all(), name


def test_a_bare_c2_tells_no_photon_statistics(frames):
    c2 = analyse(frames, Settings(detector="d"), rois=ROIS, ensemble=Identity()).c2
    found = analyse_c2(c2, ensemble=Identity()).status.contrast_estimates
    assert np.isnan(found["photon"]).all()
    assert np.isfinite(found["intercept"]).all()


def test_only_the_first_frame_is_looked_at(frames):
    settings = Settings(detector="d", denoise=False)
    first, rest = frames[:60].copy(), frames[:60].copy()
    rest[1:] = frames[60:119]
    one, other = (analyse(some, settings, rois=ROIS).status for some in (first, rest))
    assert one.contrast_estimates["photon"] == other.contrast_estimates["photon"]
    assert one.contrast_estimates["lag_1"] != other.contrast_estimates["lag_1"]


def test_of_one_frame_without_counts_nothing_is_known():
    found = contrast_estimates(one_time(np.ones((2, 1, 1)), None, 1.0), [None, None], None)
    assert all(np.isnan(values).all() for values in found.values())
