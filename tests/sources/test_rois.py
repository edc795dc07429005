"""open_rois: which ROI map an analysis uses."""

import numpy as np
import pytest

from xpcs_live_denoise import InvalidInputError, RoiMap, Settings, save_rois
from xpcs_live_denoise.sources.rois import open_rois

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
