"""Eiger files of today: an axis of thresholds, and a pixel_mask in the master file."""

import contextlib

import h5py
import numpy as np
import pytest

from xpcs_live_denoise.errors import UnreadableFramesError
from xpcs_live_denoise.records.frames import EigerFrames, HDF5Frames
from xpcs_live_denoise.sources import FileRoots, FrameReader

FRAMES = np.arange(5 * 2 * 3 * 4, dtype=np.uint16).reshape(5, 2, 3, 4)
BAD = np.zeros((3, 4), np.uint32)
BAD[1, 2], BAD[0, 3] = 1, 16


def series(folder, frames, mask_at="detectorSpecific/pixel_mask", mask=BAD):
    with h5py.File(folder / "s_7_data_000001.h5", "w") as file:
        file["entry/data/data"] = frames
    with h5py.File(folder / "s_7_master.h5", "w") as file:
        file["entry/data/data_000001"] = h5py.ExternalLink("s_7_data_000001.h5", "entry/data/data")
        if mask_at:
            file[f"entry/instrument/detector/{mask_at}"] = mask
    return EigerFrames(prefix=str(folder / "s"), sequence_id=7, start=0, stop=5)


def linked(folder):
    path = str(folder / "s_7_master.h5")
    return HDF5Frames(path=path, dataset="entry/data/data_000001", start=0, stop=5, swmr=False)


def read(reference, threshold=None):
    roots = FileRoots(None)
    reader = FrameReader(roots=roots, timeout_s=0.05, threshold=threshold)
    with contextlib.closing(reader):
        return np.concatenate(list(reader.read(reference, 50))), reader.notes


@pytest.mark.parametrize("threshold", [None, 1, 2])
def test_an_axis_of_one_threshold_is_squeezed(tmp_path, threshold):
    reference = series(tmp_path, FRAMES[:, :1])
    for one in (reference, linked(tmp_path)):
        frames, notes = read(one, threshold)
        np.testing.assert_array_equal(frames, FRAMES[:, 0])
        assert notes == ()


@pytest.mark.parametrize("threshold", [1, 2])
def test_the_setting_chooses_among_several_thresholds(tmp_path, threshold):
    reference = series(tmp_path, FRAMES)
    for one in (reference, linked(tmp_path)):
        np.testing.assert_array_equal(read(one, threshold)[0], FRAMES[:, threshold - 1])


def test_without_a_choice_an_eigers_first_threshold_is_read_and_told(tmp_path):
    frames, notes = read(series(tmp_path, FRAMES))
    np.testing.assert_array_equal(frames, FRAMES[:, 0])
    assert "The frames have 2 thresholds: the first is analysed. Set `threshold`" in notes[0]


def test_a_threshold_that_is_not_there_is_told_and_so_is_a_stream_without_a_choice(tmp_path):
    reference = series(tmp_path, FRAMES)
    with pytest.raises(UnreadableFramesError, match=r"2 thresholds.*threshold: 3; expected"):
        read(reference, 3)
    with pytest.raises(UnreadableFramesError, match=r"2 thresholds.*no setting; expected"):
        read(linked(tmp_path))


@pytest.mark.parametrize("where", ["pixel_mask", "detectorSpecific/pixel_mask"])
def test_the_masters_pixel_mask_is_found(tmp_path, where):
    reader = FrameReader(roots=FileRoots(None))
    reference = series(tmp_path, FRAMES, where)
    for one in (reference, linked(tmp_path)):
        np.testing.assert_array_equal(reader.bad_pixels(one), BAD != 0)


def test_the_mask_of_the_master_counts_where_documents_name_the_data_file(tmp_path):
    reference = series(tmp_path, FRAMES)
    path = f"{reference.series}_data_000001.h5"
    named = HDF5Frames(path=path, dataset="/entry/data/data", start=0, stop=1, swmr=False)
    found = FrameReader(roots=FileRoots(None)).bad_pixels(named)
    np.testing.assert_array_equal(found, BAD != 0)


def test_each_threshold_may_have_its_own_pixel_mask(tmp_path):
    reference = series(tmp_path, FRAMES, "pixel_mask", np.stack([BAD, 0 * BAD]))
    found = FrameReader(roots=FileRoots(None), threshold=2).bad_pixels(reference)
    assert not found.any()


def test_without_a_pixel_mask_there_is_none(tmp_path):
    reader = FrameReader(roots=FileRoots(None))
    assert reader.bad_pixels(series(tmp_path, FRAMES, "")) is None
    elsewhere = FrameReader(roots=FileRoots([tmp_path / "other"]))
    assert elsewhere.bad_pixels(series(tmp_path, FRAMES)) is None
