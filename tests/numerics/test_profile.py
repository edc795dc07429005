"""The smooth profile of a ROI: what it takes out, what it leaves, and when there is none."""

import dataclasses

import numpy as np
import pytest

from tests.support.uneven_speckle import RING, frames_of, intensities, ring_profile
from xpcs_live_denoise.numerics.profile import fit_profile, smooth_terms
from xpcs_live_denoise.numerics.rois import RoiMap


def fitted(profile, *, counts=0.5, rois=RING, seed=1, flat_field=None):
    frames = frames_of(intensities(seed)[:50], profile, counts, seed)
    return fit_profile(rois.gather(frames), rois, flat_field)


def test_intensity_that_falls_with_q_and_varies_with_azimuth_is_divided_out():
    truth = ring_profile(power=4, cos_2_phi=0.2)
    profile = fitted(truth)
    assert profile.n_terms.tolist() == [7]
    assert np.var(np.log(truth)) > 0.1
    assert np.var(np.log(profile.values / truth)) < 0.002
    assert profile.values.mean() == pytest.approx(1)


def test_without_a_beam_center_a_polynomial_in_row_and_column_does_nearly_as_well():
    truth = ring_profile(power=4, cos_2_phi=0.2)
    profile = fitted(truth, rois=dataclasses.replace(RING, center=None))
    assert profile.n_terms.tolist() == [6]
    assert np.var(np.log(profile.values / truth)) < 0.004


def test_a_uniform_roi_has_no_profile():
    profile = fitted(ring_profile())
    assert profile.n_terms.tolist() == [1]
    assert not profile.too_dim.any()
    np.testing.assert_array_equal(profile.values, 1)


def test_where_counts_are_few_the_smaller_set_is_fitted_then_none():
    truth = ring_profile(power=4, cos_2_phi=0.2)
    assert fitted(truth, counts=0.2).n_terms.tolist() == [7]
    assert fitted(truth, counts=0.05).n_terms.tolist() == [3]
    dim = fitted(truth, counts=50 / 50 / len(RING.pixels))
    assert dim.too_dim.tolist() == [True]
    np.testing.assert_array_equal(dim.values, 1)


@pytest.mark.parametrize("n_frames", [0, 1, 2, 50])
def test_frames_without_counts_or_hardly_any_frames_tell_nothing(n_frames):
    profile = fit_profile(np.zeros((n_frames, len(RING.pixels)), np.uint16), RING)
    assert profile.too_dim.tolist() == [True]
    np.testing.assert_array_equal(profile.values, 1)


def test_the_flat_field_goes_before_the_profile():
    flat = ring_profile(white=0.2, seed=4)
    truth = ring_profile(power=4)
    profile = fitted(truth * flat, flat_field=3 * flat)
    ratio = profile.values / (truth * flat)
    assert np.var(np.log(ratio)) < 0.002
    assert profile.values.mean() == pytest.approx(1)


@pytest.mark.parametrize("center", [(2.0, 2.0), (2.0, 500.0), None])
def test_smooth_terms_are_orthogonal_whatever_the_roi(center):
    rois = RoiMap.from_labels(np.pad(np.ones((5, 40), int), 2))
    terms = smooth_terms(dataclasses.replace(rois, center=center), 0)
    n_pixels, n_term = terms.shape
    np.testing.assert_allclose(terms.T @ terms / n_pixels, np.eye(n_term), atol=1e-9)
    np.testing.assert_array_equal(terms[:, 0], 1)


def test_a_roi_of_one_pixel_has_the_constant_term_only():
    assert smooth_terms(RoiMap.from_labels([[0, 1]]), 0).shape == (1, 1)
