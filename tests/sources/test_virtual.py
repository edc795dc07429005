"""Virtual datasets: read from the datasets that they are made of, as fast as these."""

from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest

from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.records.frames import HDF5Frames, MissingFrames
from xpcs_live_denoise.sources.file_roots import FileRoots
from xpcs_live_denoise.sources.frames import FrameReader, read_with_gaps
from xpcs_live_denoise.sources.selection import RoiSelection, select_frames
from xpcs_live_denoise.sources.virtual import parts_of

SHAPE = (61, 83)
BSLZ4 = dict(hdf5plugin.Bitshuffle(nelems=64, cname="lz4"))
LABELS = np.zeros(SHAPE, int)
LABELS[20:24, 30:40], LABELS[-1, -3:] = 1, 2
ROIS = RoiMap.from_labels(LABELS)
FRAMES = np.random.default_rng(0).poisson(0.4, (30, *SHAPE)).astype("u2")
DATA = "entry/data"


def master(folder, layout, files=((0, 12), (12, 30)), *, in_same_file=False, dtype="u2"):
    """Write files of frames and one with a virtual dataset of them; return its path."""
    path = folder / "master.h5"
    with h5py.File(path, "w") as file:
        for number, (start, stop) in enumerate(files):
            name, there = f"data_{number}", file
            if not in_same_file:
                there = h5py.File(folder / f"{name}.h5", "w")
            there.create_dataset(name, data=FRAMES[start:stop], chunks=(1, *SHAPE), **BSLZ4)
            if not in_same_file:
                there.close()
        file.create_virtual_dataset(DATA, layout(dtype), fillvalue=9)
    return path


def source(number, n, *, same=False):
    name = f"data_{number}"
    return h5py.VirtualSource("." if same else f"{name}.h5", name, (n, *SHAPE), "u2")


def one_after_the_other(dtype="u2", *, same=False):
    layout = h5py.VirtualLayout((30, *SHAPE), dtype)
    layout[:12], layout[12:] = source(0, 12, same=same), source(1, 18, same=same)
    return layout


def in_the_same_file(dtype="u2"):
    return one_after_the_other(dtype, same=True)


def some_frames_of_each(dtype="u2"):
    layout = h5py.VirtualLayout((13, *SHAPE), dtype)
    layout[:6], layout[6:] = source(1, 18)[3:9], source(0, 12)[5:12]
    return layout


def every_other_frame(dtype="u2"):
    layout = h5py.VirtualLayout((30, *SHAPE), dtype)
    layout[::2], layout[1::2] = source(1, 18)[:15], source(1, 18)[3:]
    return layout


def with_a_hole(dtype="u2"):
    layout = h5py.VirtualLayout((30, *SHAPE), dtype)
    layout[:12], layout[15:] = source(0, 12), source(1, 18)[:15]
    return layout


def parts_of_frames(dtype="u2"):
    layout = h5py.VirtualLayout((12, *SHAPE), dtype)
    layout[:, :, :40], layout[:, :, 40:] = source(0, 12)[:, :, :40], source(1, 18)[:12, :, 40:]
    return layout


def selected(dataset, max_bytes=10 * FRAMES[0].nbytes):
    return list(select_frames(dataset, max_bytes, RoiSelection(ROIS)))


@pytest.mark.parametrize(
    ("layout", "n_parts"),
    [
        (one_after_the_other, 2),
        (in_the_same_file, 2),
        (some_frames_of_each, 2),
        (every_other_frame, 0),
        (with_a_hole, 0),
        (parts_of_frames, 0),
    ],
)
def test_frames_are_those_that_hdf5_gives_whatever_they_are_made_of(tmp_path, layout, n_parts):
    path = master(tmp_path, layout, in_same_file=layout is in_the_same_file)
    with h5py.File(path) as file:
        dataset = file[DATA]
        assert len(parts_of(dataset)) == n_parts
        pixels = np.concatenate([piece.pixels for piece in selected(dataset)])
        np.testing.assert_array_equal(pixels, ROIS.gather(dataset[()]))


@pytest.mark.parametrize("dtype", ["u4", "f4"])
def test_frames_of_another_type_than_their_source_are_converted(tmp_path, dtype):
    path = master(tmp_path, one_after_the_other, dtype=dtype)
    with h5py.File(path) as file:
        pixels = np.concatenate([piece.pixels for piece in selected(file[DATA])])
        assert pixels.dtype == dtype
        np.testing.assert_array_equal(pixels, ROIS.gather(FRAMES))


@pytest.mark.parametrize("swmr", [False, True])
@pytest.mark.parametrize(
    "layout", [one_after_the_other, in_the_same_file, some_frames_of_each, every_other_frame]
)
def test_a_path_gives_the_frames_of_its_virtual_dataset(tmp_path, layout, swmr):
    path = master(tmp_path, layout, in_same_file=layout is in_the_same_file)
    with h5py.File(path) as file:
        expected, n_parts = file[DATA][()], len(parts_of(file[DATA]))
    pieces = of_path(path, 2, len(expected) - 1, swmr=swmr)
    pixels = np.concatenate([piece.pixels for piece in pieces])
    np.testing.assert_array_equal(pixels, ROIS.gather(expected[2:-1]))
    # Whole frames are those that were decompressed whole.
    n_whole = sum(len(piece.whole) for piece in pieces)
    assert n_whole < 5 if n_parts else n_whole == len(pixels)


def test_one_frame_a_file_is_read_from_a_path_too(tmp_path):
    def layout(dtype):
        made = h5py.VirtualLayout((30, *SHAPE), dtype)
        for k in range(30):
            made[k] = source(k, 1)[0]
        return made

    path = master(tmp_path, layout, [(k, k + 1) for k in range(30)])
    pixels = np.concatenate([piece.pixels for piece in of_path(path, 0, 30)])
    np.testing.assert_array_equal(pixels, ROIS.gather(FRAMES))


def of_path(path, start, stop, *, swmr=False):
    reference = HDF5Frames(path=str(path), dataset=DATA, start=start, stop=stop, swmr=swmr)
    reader = FrameReader(roots=FileRoots([str(path.parent)]), timeout_s=0.0)
    try:
        selection = RoiSelection(ROIS)
        return list(read_with_gaps(reader, reference, 10 * FRAMES[0].nbytes, selection))
    finally:
        reader.close()


def shorten(path):
    with h5py.File(path, "r+") as file:
        del file["data_1"]
        file.create_dataset("data_1", data=FRAMES[12:22], chunks=(1, *SHAPE), **BSLZ4)


def empty(path):
    with h5py.File(path, "r+") as file:
        del file["data_1"]


@pytest.mark.parametrize(
    ("damage", "n_left", "said"),
    [
        (shorten, 22, "data_1.h5 holds 10 frames"),
        (empty, 12, "data_1' of data_1.h5 cannot be read"),
        (Path.unlink, 12, "data_1' of data_1.h5 cannot be read"),
    ],
)
def test_frames_that_no_source_holds_are_gaps_and_no_fill_values(tmp_path, damage, n_left, said):
    path = master(tmp_path, one_after_the_other)
    damage(tmp_path / "data_1.h5")
    with h5py.File(path) as file:
        *good, gap = selected(file[DATA])
    assert isinstance(gap, MissingFrames)
    assert gap.n_frames == 30 - n_left
    assert f"frames [{n_left}, 30) are not there: dataset 'data_1' of data_1.h5" in gap.reason
    assert said in gap.reason
    pixels = np.concatenate([piece.pixels for piece in good])
    np.testing.assert_array_equal(pixels, ROIS.gather(FRAMES[:n_left]))


@pytest.mark.parametrize("damage", [shorten, empty])
def test_frames_that_no_source_holds_are_gaps_of_a_path_too(tmp_path, damage):
    path = master(tmp_path, one_after_the_other)
    damage(tmp_path / "data_1.h5")
    *good, gap = of_path(path, 0, 30)
    n_left = sum(len(piece) for piece in good)
    assert n_left == (22 if damage is shorten else 12)
    assert isinstance(gap, MissingFrames)
    assert gap.n_frames == 30 - n_left
    assert "cannot be read" in gap.reason


def test_a_master_that_was_written_anew_is_read_anew(tmp_path):
    path = master(tmp_path, one_after_the_other)
    reader = FrameReader(roots=FileRoots(None), timeout_s=0.0)
    reference = HDF5Frames(path=str(path), dataset=DATA, start=0, stop=13, swmr=False)
    for layout in (one_after_the_other, some_frames_of_each):
        master(tmp_path, layout)
        with h5py.File(path) as file:
            expected = file[DATA][:13]
        frames = np.concatenate(list(reader.read(reference, 10**6)))
        np.testing.assert_array_equal(frames, expected)
    reader.close()


def test_a_dataset_that_is_made_of_itself_is_left_to_hdf5(tmp_path):
    layout = h5py.VirtualLayout((3, *SHAPE), "u2")
    layout[:] = h5py.VirtualSource(".", DATA, (3, *SHAPE), "u2")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        made = file.create_virtual_dataset(DATA, layout)
        (part,) = parts_of(made)
        with part.source(made, range(3)) as (dataset, there):
            assert (dataset, there) == (made, range(3))


def test_a_damaged_chunk_of_a_source_is_a_gap_that_names_it(tmp_path):
    path = master(tmp_path, one_after_the_other)
    with h5py.File(tmp_path / "data_1.h5") as file:
        offset = file["data_1"].id.get_chunk_info_by_coord((5, 0, 0)).byte_offset
    with (tmp_path / "data_1.h5").open("r+b") as raw:
        raw.seek(offset + 100)
        raw.write(b"\xff" * 800)
    with h5py.File(path) as file:
        pieces = selected(file[DATA])
    (gap,) = [piece for piece in pieces if isinstance(piece, MissingFrames)]
    assert gap.n_frames == 1
    assert "data_1.h5, dataset '/data_1': frame 5: the chunk cannot be dec" in gap.reason
    good = np.concatenate([one.pixels for one in pieces if one is not gap])
    np.testing.assert_array_equal(good, ROIS.gather(np.delete(FRAMES, 17, axis=0)))
