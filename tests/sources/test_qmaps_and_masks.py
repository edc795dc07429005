"""ROIs and masks as other programs write them, and the ROI file that a plan names."""

import fabio
import h5py
import numpy as np
import pytest
import tifffile

from xpcs_live_denoise import InvalidInputError, RoiMap, Settings, load_rois, save_rois
from xpcs_live_denoise.sources.roi_files import load_mask, open_rois

SHAPE = (20, 24)


def qmap(path, group="xpcs/qmap", **changes):
    """Write a q-map of 2 q and 3 phi, of whose bins the second has no pixel."""
    labels = np.zeros(SHAPE, np.uint32)
    for label in range(1, 6):
        labels[3 * label : 3 * label + 3, 4:20] = label
    static = np.repeat(np.arange(1, 21), 24).reshape(SHAPE)
    mask = np.ones(SHAPE, bool)
    mask[:, :5] = False
    content = {
        "mask": mask,
        "dynamic_roi_map": labels,
        "static_roi_map": static,
        "dynamic_v_list_dim0": [0.01, 0.02],
        "dynamic_v_list_dim1": [0.0, 90.0, 180.0],
        "dynamic_index_mapping": [0, 2, 3, 4, 5],
        "dynamic_num_pts": [2, 3],
        "static_v_list_dim0": np.linspace(0.001, 0.02, 20),
        "static_v_list_dim1": [0.0],
        "static_index_mapping": np.arange(20),
        "beam_center_x": 7.0,
        "beam_center_y": 8.0,
        "map_names": np.array([b"q", b"phi"]),
        "map_units": np.array([b"1/A", b"deg"]),
        **changes,
    }
    with h5py.File(path, "w") as file:
        for name, value in content.items():
            if value is not None:
                file[f"{group}/{name}"] = value
    return path


@pytest.mark.parametrize("group", ["xpcs/qmap", "qmap", "/"])
def test_a_q_map_has_labels_q_and_phi_and_skips_its_empty_bin(group, tmp_path):
    rois = load_rois(qmap(tmp_path / "partition.hdf", group))
    assert rois.labels.tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(rois.q_inv_angstrom, [0.01, 0.01, 0.02, 0.02, 0.02])
    np.testing.assert_allclose(rois.phi_deg, [0, 180, 0, 90, 180])
    assert rois.n_pixels.tolist() == [45] * 5  # its mask is applied
    assert rois.center == (8.0, 7.0)


def test_the_static_map_is_read_where_it_is_asked_for(tmp_path):
    rois = load_rois(qmap(tmp_path / "partition.hdf"), kind="static")
    assert rois.n_roi == 20
    assert rois.phi_deg is None  # one azimuth is that of whole rings
    np.testing.assert_allclose(rois.q_inv_angstrom, np.linspace(0.001, 0.02, 20))


def test_units_of_a_q_map_are_converted_and_other_quantities_are_no_q(tmp_path):
    units = np.array([b"1/nm", b"rad"])
    rois = load_rois(qmap(tmp_path / "a.hdf", map_units=units))
    assert rois.q_inv_angstrom[0] == pytest.approx(0.001)
    assert rois.phi_deg[3] == pytest.approx(90 * 180 / np.pi)
    other = load_rois(qmap(tmp_path / "b.hdf", map_names=np.array([b"x", b"y"])))
    assert np.isnan(other.q_inv_angstrom).all()


def test_a_roi_that_the_mask_of_a_q_map_covers_is_none(tmp_path):
    mask = np.ones(SHAPE, bool)
    mask[3:6] = False
    rois = load_rois(qmap(tmp_path / "partition.hdf", mask=mask))
    assert rois.labels.tolist() == [2, 3, 4, 5]
    assert rois.phi_deg.tolist() == [180, 0, 90, 180]


def test_a_q_map_whose_labels_have_no_bin_is_refused(tmp_path):
    path = qmap(tmp_path / "p.hdf", dynamic_v_list_dim1=[0.0], dynamic_index_mapping=None)
    with pytest.raises(InvalidInputError, match=r"labels up to 5, 2 bins .*Make the q-map anew"):
        load_rois(path)
    with h5py.File(tmp_path / "none.h5", "w") as file:
        file["frames"] = np.zeros((2, 3, 4))
    with pytest.raises(InvalidInputError, match="holds no dynamic_roi_map; expected a q-map"):
        load_rois(tmp_path / "none.h5")
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(InvalidInputError, match="cannot be read"):
        load_rois(path)


KEEP = np.ones(SHAPE, np.uint8)
KEEP[2:5, 3:9] = 0


def as_npz(path, **arrays):
    np.savez(path.with_suffix(".npz"), **arrays)
    return path.with_suffix(".npz")


def as_tiff(path):
    tifffile.imwrite(path.with_suffix(".tif"), KEEP)
    return path.with_suffix(".tif")


def as_edf(path):
    fabio.edfimage.EdfImage(data=KEEP).write(str(path.with_suffix(".edf")))
    return path.with_suffix(".edf")


def as_hdf5(path):
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        file["entry/mask"], file["entry/other"] = KEEP.astype(bool), KEEP
    return path.with_suffix(".h5")


@pytest.mark.parametrize("write", [as_tiff, as_edf, as_hdf5])
def test_masks_of_other_programs_are_read_with_1_as_keep(write, tmp_path):
    np.testing.assert_array_equal(load_mask(write(tmp_path / "m")), KEEP.astype(bool))


def test_a_mask_that_looks_inverted_is_refused_with_both_readings(tmp_path):
    bad = 1 - KEEP
    with pytest.raises(
        InvalidInputError, match=r"keeps 3.75% of .* 1 = leave out it would keep 96.25%"
    ):
        load_mask(as_npz(tmp_path / "bad", mask=bad))
    np.testing.assert_array_equal(load_mask(as_npz(tmp_path / "few", keep=bad)), bad.astype(bool))


def test_a_broken_image_is_no_mask(tmp_path):
    (tmp_path / "m.tif").write_text("gel")
    with pytest.raises(InvalidInputError, match=r"Mask file .*m.tif: .*cannot be read as an image"):
        load_mask(tmp_path / "m.tif")


def test_the_analysis_that_a_plan_names_chooses_the_roi_file(tmp_path):
    save_rois(RoiMap.rings(SHAPE, (10, 10), [(2, 5)]), tmp_path / "iso.npz")
    sectors = RoiMap.sectors(SHAPE, (10, 10), [(2, 5)], [(0, 90), (90, 180)])
    save_rois(sectors, tmp_path / "qphi.npz")
    (tmp_path / "xpcs.yml").write_text("detector: d\nrois: {iso: iso.npz, qphi: qphi.npz}\n")
    settings = Settings.load(tmp_path / "xpcs.yml")
    assert open_rois(settings, None, {"analysis": "iso"}).n_roi == 1
    opened = open_rois(settings, None, {"analysis": "qphi"})
    np.testing.assert_array_equal(opened.phi_deg, [45, 135])
    for start in ({}, {"analysis": "saxs"}, {"analysis": 5}):
        with pytest.raises(InvalidInputError, match=r"expected one of those .*: iso, qphi. Add"):
            open_rois(settings, None, start)
