"""The result of `analyse` as a file."""

import h5py
import numpy as np
import pandas as pd
import pytest
from pyxpcsviewer.core.xpcs_file import XpcsFile

from xpcs_live_denoise import RoiMap, Settings, analyse, analyse_c2, simulate_speckle
from xpcs_live_denoise.errors import InvalidInputError

SHAPE, CENTER = (40, 40), (19.5, 19.5)
EDGES, PHI = [(4, 10), (11, 18)], [(-45, 45), (45, 135)]


@pytest.fixture(scope="module")
def made():
    """A result of sectors: two rings by two directions."""
    rois = RoiMap.sectors(SHAPE, CENTER, EDGES, PHI, q_inv_angstrom=[0.01, 0.02])
    frames = np.concatenate(
        list(simulate_speckle(rois, 70, relaxation_rate=0.05, mean_counts=2.0, seed=1))
    )
    settings = Settings(detector="d", frame_time_s=0.1, denoise=False)
    return rois, analyse(frames, settings, rois=rois)


def test_a_result_of_sectors_keeps_q_and_phi_in_the_file(made, tmp_path):
    rois, result = made
    result.save(tmp_path / "gel.h5")
    seen = XpcsFile(str(tmp_path / "gel.h5"))
    assert seen.dynamic_num_pts.tolist() == [2, 2]
    np.testing.assert_allclose(seen.dqlist, [0.01, 0.02])
    np.testing.assert_allclose(seen.dplist, [0, 90], atol=1)
    assert seen.get_qbin_label(2).startswith("q=0.01000 1/A, φ=")
    # The bin under a pixel is the ROI that the viewer's own g2 of this bin belongs to.
    for row, col in ((20, 27), (33, 20)):
        index = seen.dqmap[row, col] - 1
        assert rois.label_array[row, col] == rois.labels[index]
        np.testing.assert_allclose(seen.g2[:, index], result.g2.g2[index])
    with h5py.File(tmp_path / "gel.h5") as file:
        entry = file["entry"]
        np.testing.assert_allclose(entry["instrument/masks/dynamic_phi_list"], rois.phi_deg)
        assert '"torch"' in entry["analysis/versions/data"].asstr()[()]
        assert "when the file was written" in entry["start_time"].attrs["note"]
        assert "entry_identifier_uuid" not in entry
        assert "denoising" not in entry


def test_csv_png_and_what_is_no_format(made, tmp_path):
    _, result = made
    result.save(tmp_path / "gel.csv")
    rows = pd.read_csv(tmp_path / "gel.csv")
    assert len(rows) == result.gamma.recommended.sum() > 100
    result.save(tmp_path / "gel.png")
    assert (tmp_path / "gel.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InvalidInputError, match=r"got the format '.xls'; expected h5, csv or png"):
        result.save(tmp_path / "gel.xls")
    with pytest.raises(InvalidInputError, match="is there already"):
        result.save(tmp_path / "gel.csv")


@pytest.mark.filterwarnings("ignore:Mean of empty slice")  # nobody has looked at the detector
def test_a_c2_alone_opens_in_the_viewer_too(made, tmp_path):
    result = analyse_c2(made[1].c2, settings=Settings(detector="c2", denoise=False))
    result.save(tmp_path / "c2.hdf")
    seen = XpcsFile(str(tmp_path / "c2.hdf"))
    assert seen.dqmap.tolist() == [[1, 2, 3, 4]]
    assert seen.get_qbin_label(4) == "roi=4.000 "
    upper = np.triu_indices(70, 1)
    np.testing.assert_array_equal(seen.get_twotime_c2(3)["c2_mat"][upper], result.c2[3][upper])


LONG = {"detector": "d", "frame_time_s": 0.1, "denoise": False, "map_frames": 64, "window": 20}


@pytest.fixture(scope="module")
def long_series(made):
    """Frames of more than the map has bins, their ROIs and settings."""
    rois, _ = made
    frames = list(simulate_speckle(rois, 150, relaxation_rate=0.05, mean_counts=2.0, seed=2))
    return np.concatenate(frames), rois, Settings(**LONG)


def test_all_rows_of_the_band_of_a_long_series_come_from_its_file(long_series, tmp_path):
    frames, rois, settings = long_series
    result = analyse(frames, settings, rois=rois, band_file=tmp_path / "band.h5")
    assert result.band.start > 0
    result.save(tmp_path / "long.h5")
    with h5py.File(tmp_path / "band.h5") as band, h5py.File(tmp_path / "long.h5") as file:
        np.testing.assert_array_equal(file["entry/band/c2"], band["c2"])
        np.testing.assert_allclose(file["entry/band/t"], 0.1 * np.arange(150))
        np.testing.assert_allclose(band.attrs["phi_deg"], rois.phi_deg)
        assert "note" not in file["entry/band"].attrs


def test_without_a_file_the_last_rows_of_the_band_are_saved_with_their_times(long_series, tmp_path):
    frames, rois, settings = long_series
    result = analyse(frames, settings, rois=rois, band_file=tmp_path / "band.h5")
    (tmp_path / "band.h5").unlink()
    result.save(tmp_path / "long.h5")
    first = result.band.start
    with h5py.File(tmp_path / "long.h5") as file:
        np.testing.assert_array_equal(file["entry/band/c2"], result.band.c2)
        np.testing.assert_allclose(file["entry/band/t"], 0.1 * np.arange(first, 150))
        words = f"the last rows: those before frame {first} were not kept"
        assert file["entry/band"].attrs["note"] == words
