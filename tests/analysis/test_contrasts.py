"""The contrast by three methods, side by side in the status."""

import numpy as np
import pytest

from xpcs_live_denoise import RoiMap, Settings, analyse, analyse_c2, simulate_speckle
from xpcs_live_denoise.analysis.contrast import Contrasts

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
    pixels = ROIS.gather(frames)
    once, often = Contrasts(ROIS), Contrasts(ROIS)
    once.see(pixels[:1])
    for k in range(5):
        often.see(pixels[k : k + 3])
    c2 = np.ones((2, 1, 1))
    one, other = (seen.estimates(c2, [None, None]) for seen in (once, often))
    assert one["photon"] == other["photon"]
    assert np.isnan(one["lag_1"]).all()
    assert np.isnan(one["intercept"]).all()
