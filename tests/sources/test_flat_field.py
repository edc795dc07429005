"""Flat fields: which files are read, which pixels are left out, what is said of bad ones."""

import h5py
import numpy as np
import pytest
import tifffile

from xpcs_live_denoise.config import OrientationSettings, Settings
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.sources.roi_files import load_flat_field, open_flat_field

FLAT = np.linspace(0.5, 1.5, 12).reshape(3, 4)
ROIS = RoiMap.from_labels([[1, 1, 0, 2], [1, 1, 0, 2], [0, 0, 0, 2]])


def write_npy(path):
    np.save(path, FLAT)


def write_npz(path):
    np.savez(path, flat_field=FLAT, other=np.ones(3))


def write_tif(path):
    tifffile.imwrite(path, FLAT.astype(np.float32))


def write_h5(path):
    with h5py.File(path, "w") as file:
        file["entry/instrument/detector/flatfield"] = FLAT
        file["entry/instrument/detector/pixel_mask"] = np.zeros((3, 4))


@pytest.mark.parametrize(
    ("name", "write"),
    [("f.npy", write_npy), ("f.npz", write_npz), ("f.tif", write_tif), ("f.h5", write_h5)],
)
def test_a_flat_field_is_read_from_every_kind_of_file(tmp_path, name, write):
    write(tmp_path / name)
    np.testing.assert_allclose(load_flat_field(tmp_path / name), FLAT, rtol=1e-6)


def write_several(path):
    with h5py.File(path, "w") as file:
        file["a"], file["b"] = FLAT, FLAT


def write_words(path):
    np.save(path, np.full((3, 4), "a"))


def write_cube(path):
    np.save(path, np.ones((2, 3, 4)))


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("no.npy", lambda path: None, "cannot be read"),
        ("no.h5", lambda path: None, "cannot be read"),
        ("text.tif", lambda path: path.write_text("no image"), "cannot be used"),
        ("text.h5", lambda path: path.write_text("no image"), "cannot be"),
        ("two.h5", write_several, r"got the arrays \['a', 'b'\], expected one array"),
        ("words.npy", write_words, "expected real numbers"),
        ("cube.npy", write_cube, r"got shape \(2, 3, 4\), expected \(rows, cols\)"),
    ],
)
def test_a_file_that_holds_no_flat_field_is_refused(tmp_path, name, write, message):
    write(tmp_path / name)
    with pytest.raises(InvalidInputError, match=message):
        load_flat_field(tmp_path / name)


def opened(tmp_path, flat, rois=ROIS, **fields):
    np.save(tmp_path / "flat.npy", flat)
    settings = Settings(detector="cam", flat_field=tmp_path / "flat.npy", **fields)
    return open_flat_field(settings, rois)


def test_without_the_setting_there_is_none():
    assert open_flat_field(Settings(detector="cam"), ROIS) == (ROIS, None, "")


def test_a_good_flat_field_leaves_the_rois_alone(tmp_path):
    rois, flat, note = opened(tmp_path, FLAT)
    assert (rois, note) == (ROIS, "")
    np.testing.assert_array_equal(flat, FLAT)


def test_pixels_without_sensitivity_are_left_out(tmp_path):
    bad = FLAT.copy()
    bad[0, 0], bad[2, 3], bad[1, 1], bad[2, 0] = 0, np.nan, -1, 0  # the last lies in no ROI
    rois, flat, note = opened(tmp_path, bad)
    assert rois.n_pixels.tolist() == [2, 2]
    assert note.startswith("3 pixels of the ROIs are left out")
    assert (flat > 0).all()


@pytest.mark.parametrize(
    ("flat", "said"),
    [
        (np.ones((4, 3)), r"got shape (4, 3), expected (3, 4), that of the frames"),
        (np.where(ROIS.label_array == 2, 0.0, 1.0), "labels [2] keep no pixel"),
    ],
)
def test_a_flat_field_that_does_not_fit_is_named_and_not_used(tmp_path, flat, said):
    rois, used, note = opened(tmp_path, flat)
    assert rois is ROIS
    assert used is None
    assert note.startswith("No flat field: ")
    assert said in note


def test_a_flat_field_is_turned_like_the_mask(tmp_path):
    turned = OrientationSettings(flip_rows=True, rotate=90).turn(FLAT)
    _, flat, note = opened(tmp_path, turned, orientation={"flip_rows": True, "rotate": 90})
    assert note == ""
    np.testing.assert_array_equal(flat, FLAT)
