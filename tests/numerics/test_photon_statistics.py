"""The contrast from single frames, against counts with known statistics."""

import numpy as np
import pytest

from xpcs_live_denoise import RoiMap, simulate_speckle
from xpcs_live_denoise.numerics.contrast import photon_contrast

LABELS = np.repeat([1, 2], 4000).reshape(80, 100)
ROIS = RoiMap.from_labels(LABELS)


def negative_binomial(contrast, mean, shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.poisson(mean * rng.gamma(1 / contrast, contrast, shape))


@pytest.mark.parametrize(("contrast", "mean"), [(0.1, 2.0), (0.3, 0.5), (0.9, 5.0)])
def test_the_contrast_of_counts_is_found_within_its_error(contrast, mean):
    found, error = photon_contrast(negative_binomial(contrast, mean, (1, 8000)), ROIS)
    assert (np.abs(found - contrast) < 3 * error).all()
    assert (error < 0.3 * contrast).all()


def test_the_error_is_as_large_as_the_scatter():
    found, error = np.array(
        [photon_contrast(negative_binomial(0.3, 0.5, (1, 8000), seed), ROIS) for seed in range(60)]
    ).transpose(1, 0, 2)
    covered = np.mean(np.abs(found - 0.3) < error)
    assert 0.55 < covered < 0.8
    assert 0.8 < error.mean() / found.std() < 1.25


def test_frames_of_different_intensity_are_no_contrast():
    rng = np.random.default_rng(1)
    frames = rng.poisson(np.array([[1.0], [3.0], [0.3]]), (3, 8000))
    found, error = photon_contrast(frames, ROIS)
    assert (found < 0.03).all()
    assert (found < 3 * error).all(), "told from zero"


def test_more_frames_make_the_error_smaller():
    one = photon_contrast(negative_binomial(0.3, 0.3, (1, 8000)), ROIS)[1]
    nine = photon_contrast(negative_binomial(0.3, 0.3, (9, 8000)), ROIS)[1]
    np.testing.assert_allclose(one / nine, 3, rtol=0.25)


def test_simulated_speckle_has_the_contrast_it_was_made_with():
    frames = next(
        simulate_speckle(ROIS, 1, relaxation_rate=0.1, contrast=0.25, mean_counts=1.0, seed=5)
    )
    found, error = photon_contrast(ROIS.gather(frames), ROIS)
    assert (np.abs(found - 0.25) < 3 * error).all()


@pytest.mark.parametrize("bad", [0.5, -1.0, np.nan, 20_000.0])
def test_what_is_no_count_of_photons_gives_no_contrast(bad):
    frames = negative_binomial(0.3, 1.0, (1, 8000)).astype(float)
    frames[0, 0] = bad
    found, error = photon_contrast(frames, ROIS)
    np.testing.assert_array_equal(np.isnan(found), [True, False])
    np.testing.assert_array_equal(np.isnan(error), [True, False])


def test_a_roi_without_counts_has_none():
    found, error = photon_contrast(np.zeros((2, 8000), np.uint16), ROIS)
    assert np.isnan(found).all()
    assert np.isnan(error).all()
