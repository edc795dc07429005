"""I(q): the mean over rings, in pixels and in q."""

import numpy as np
import pytest

from xpcs_live_denoise.numerics.radial import momentum_transfer, radial_mean
from xpcs_live_denoise.records.frames import Geometry

GEOMETRY = Geometry(
    beam_center=(20.0, 31.0),
    wavelength_angstrom=1.24,
    detector_distance_m=4.0,
    pixel_size_m=75e-6,
)


def radius(shape, center):
    rows, cols = np.indices(shape)
    return np.hypot(rows - center[0], cols - center[1])


def test_each_ring_has_the_mean_of_its_pixels_without_those_that_are_no_number():
    image = np.random.default_rng(0).poisson(3.0, (41, 64)).astype(np.float32)
    image[5:9] = np.nan
    found = radial_mean(image, (20.3, 31.6), GEOMETRY)
    rings = np.rint(radius(image.shape, (20.3, 31.6)))
    assert found.radius_px.tolist() == list(range(int(rings.max()) + 1))
    for at, ring in enumerate(found.radius_px):
        own = image[(rings == ring) & np.isfinite(image)]
        assert found.n_pixels[at] == own.size
        np.testing.assert_allclose(found.mean[at], own.mean() if own.size else np.nan, rtol=1e-6)


def test_q_of_a_ring_is_that_of_its_radius_and_unknown_without_wavelength():
    image = np.ones((41, 64))
    found = radial_mean(image, GEOMETRY.beam_center, GEOMETRY)
    angle = np.arctan(found.radius_px * 75e-6 / 4.0)
    np.testing.assert_allclose(
        found.q_inv_angstrom, 4 * np.pi / 1.24 * np.sin(angle / 2), rtol=1e-12
    )
    unknown = radial_mean(image, GEOMETRY.beam_center, Geometry(beam_center=(20.0, 31.0)))
    assert np.isnan(unknown.q_inv_angstrom).all()
    np.testing.assert_array_equal(unknown.mean, found.mean)


def test_a_binned_image_has_the_rings_of_the_detector_at_its_own_width():
    falling = 1 / (1 + radius((400, 600), (180.2, 305.9)))
    binned = falling.reshape(100, 4, 150, 4).mean(axis=(1, 3))
    found = radial_mean(binned, (180.2, 305.9), GEOMETRY, binning=4)
    far = found.radius_px > 40
    np.testing.assert_allclose(found.mean[far], 1 / (1 + found.radius_px[far]), rtol=0.03)


def test_a_beam_beside_the_detector_has_only_the_rings_that_touch_it():
    found = radial_mean(np.ones((10, 10)), (5.0, -2000.0), GEOMETRY)
    assert found.radius_px[0] == 2000
    assert len(found.radius_px) == 10
    assert (found.mean == 1).all()


@pytest.mark.parametrize("center", [(np.nan, 3.0), (1e9, 0.0), (np.inf, 0.0)])
def test_a_beam_that_is_nowhere_gives_no_rings(center):
    assert radial_mean(np.ones((4, 4)), center, GEOMETRY) is None


def test_a_geometry_that_cannot_be_gives_no_q():
    wrong = Geometry(wavelength_angstrom=-1.0, detector_distance_m=1.0, pixel_size_m=1e-4)
    assert momentum_transfer([1.0], wrong) is None
