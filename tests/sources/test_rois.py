"""open_rois: which ROI map an analysis uses."""

import itertools

import numpy as np
import pytest

from xpcs_live_denoise import InvalidInputError, RoiMap, Settings, analyse, save_rois
from xpcs_live_denoise.config import OrientationSettings
from xpcs_live_denoise.records.frames import Geometry
from xpcs_live_denoise.sources.roi_files import open_rois

ROIS = RoiMap.from_labels(np.repeat([[1], [2]], 4, axis=1))


def test_a_map_that_is_passed_comes_before_the_file(tmp_path):
    other = RoiMap.from_labels(np.ones((3, 3), int))
    save_rois(other, tmp_path / "rois.npz")
    settings = Settings(detector="d", rois=tmp_path / "rois.npz")
    assert open_rois(settings, ROIS) is ROIS
    assert open_rois(settings, None).shape == (3, 3)


def test_the_mask_applies_to_either(tmp_path):
    mask = np.array([[1, 1, 0, 0], [1, 0, 0, 0]])
    np.save(tmp_path / "mask.npy", mask)
    save_rois(ROIS, tmp_path / "rois.npz")
    settings = Settings(detector="d", rois=tmp_path / "rois.npz", mask=tmp_path / "mask.npy")
    for rois in (ROIS, None):
        assert open_rois(settings, rois).n_pixels.tolist() == [2, 1]


def test_no_rois_at_all_is_an_error_that_says_what_to_do():
    with pytest.raises(InvalidInputError, match=r"No ROIs for detector 'd'.*save_rois"):
        open_rois(Settings(detector="d"), None)


ORIENTATIONS = [
    {"flip_rows": rows, "flip_cols": cols, "rotate": angle}
    for rows, cols, angle in itertools.product((False, True), (False, True), (0, 90, 180, 270))
]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_turning_rois_back_once_equals_turning_every_frame(orientation, tmp_path):
    frames = np.random.default_rng(0).poisson(3.0, (12, 8, 14)).astype(np.uint16)
    as_seen = np.stack([OrientationSettings(**orientation).turn(frame) for frame in frames])
    labels = np.random.default_rng(1).integers(0, 4, as_seen.shape[1:])
    mask = np.random.default_rng(2).random(labels.shape) > 0.2
    np.save(tmp_path / "mask.npy", mask)
    rois = RoiMap.from_labels(labels, q_inv_angstrom=[0.1, np.nan, 0.3])
    fields = {"detector": "d", "mask": tmp_path / "mask.npy", "denoise": False}
    result = analyse(frames, Settings(**fields, orientation=orientation), rois=rois)
    expected = analyse(as_seen, Settings(**fields), rois=rois)
    np.testing.assert_allclose(result.c2, expected.c2, rtol=1e-5)
    opened = open_rois(Settings(**fields, orientation=orientation), rois)
    assert opened.shape == (8, 14)
    np.testing.assert_array_equal(opened.q_inv_angstrom, [0.1, np.nan, 0.3])


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_turning_back_undoes_turning(orientation):
    image = np.arange(6).reshape(2, 3)
    how = OrientationSettings(**orientation)
    np.testing.assert_array_equal(how.turn_back(how.turn(image)), image)


def test_the_orientation_is_flips_first_and_then_the_rotation_of_numpy():
    image = np.arange(6).reshape(2, 3)
    how = OrientationSettings(flip_rows=True, rotate=90)
    np.testing.assert_array_equal(how.turn(image), np.rot90(image[::-1]))


def test_the_beam_center_is_in_pixels_of_the_frames_as_documents_deliver_them():
    labels = np.zeros((14, 8), int)  # as seen, after a rotation by 90 degrees
    labels[12, 1] = 1  # seen at (row 12, col 1) = frame's (row 1, col 14 - 1 - 12)
    rois = RoiMap.from_labels(labels)
    settings = Settings(detector="d", orientation={"rotate": 90})
    opened = open_rois(settings, rois)
    assert np.argwhere(opened.label_array).tolist() == [[1, 1]]
    geometry = Geometry(
        beam_center=(1.0, 1.0),
        wavelength_angstrom=1.0,
        detector_distance_m=5.0,
        pixel_size_m=75e-6,
    )
    assert opened.with_q(geometry).q_inv_angstrom.tolist() == [0.0]


def test_frames_that_were_turned_already_are_refused_by_their_shape():
    settings = Settings(detector="d", orientation={"rotate": 90})
    rois = RoiMap.from_labels(np.ones((14, 8), int))
    with pytest.raises(InvalidInputError, match=r"expected \(k, 8, 14\)"):
        analyse(np.ones((5, 14, 8)), settings, rois=rois)
