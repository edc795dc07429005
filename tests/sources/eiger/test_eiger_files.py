"""Frames out of the files of a DECTRIS series."""

import os
import shutil
import threading

import h5py
import numpy as np
import pytest

from tests.support.eiger_series import (
    FRAMES,
    frames_of,
    series_files,
    write_file,
    write_series,
)
from tests.support.file_roots import ANYWHERE
from tests.support.pieces import read_pieces
from xpcs_live_denoise.errors import UnreadableFramesError
from xpcs_live_denoise.records.frames import MissingFrames
from xpcs_live_denoise.sources.eiger.files import data_path, read_eiger, read_master
from xpcs_live_denoise.sources.file_roots import FileRoots
from xpcs_live_denoise.sources.frames import FrameReader

SHAPE = FRAMES.shape[1:]


def read(reference, max_bytes=10**6, **options):
    return list(
        read_eiger(reference, max_bytes, **{"roots": ANYWHERE, "timeout_s": 0.1, **options})
    )


@pytest.mark.parametrize("master", [True, False])
@pytest.mark.parametrize("stop", [23, None])
@pytest.mark.parametrize("images_per_file", [10, None])
def test_a_series_over_several_files_is_read_in_order(tmp_path, master, stop, images_per_file):
    write_series(tmp_path, master=master)
    blocks = read(frames_of(tmp_path, stop=stop, images_per_file=images_per_file))
    np.testing.assert_array_equal(np.concatenate(blocks), FRAMES)


@pytest.mark.parametrize(("start", "stop"), [(4, 7), (8, 21), (10, 20), (22, 23), (5, 5)])
def test_a_part_of_a_series_is_read_across_files(tmp_path, start, stop):
    write_series(tmp_path)
    blocks = [FRAMES[:0], *read(frames_of(tmp_path, start, stop))]
    np.testing.assert_array_equal(np.concatenate(blocks), FRAMES[start:stop])


def test_no_block_is_larger_than_asked_for(tmp_path):
    write_series(tmp_path)
    blocks = read(frames_of(tmp_path), 3 * FRAMES[0].nbytes)
    assert max(map(len, blocks)) == 3
    np.testing.assert_array_equal(np.concatenate(blocks), FRAMES)


def test_the_files_of_the_series_win_over_a_document_that_names_too_few_images_a_file(tmp_path):
    write_series(tmp_path)
    np.testing.assert_array_equal(
        np.concatenate(read(frames_of(tmp_path, images_per_file=1))), FRAMES
    )


def test_files_whose_names_only_the_master_knows_are_found(tmp_path):
    files = write_series(tmp_path)
    (tmp_path / "data").mkdir()
    with h5py.File(f"{files.series}_master.h5", "r+") as master:
        for number in (1, 2, 3):
            files.data_path(number).rename(tmp_path / "data" / f"part{number}.h5")
            name = f"/entry/data/data_{number:06d}"
            del master[name]
            master[name] = h5py.ExternalLink(f"data/part{number}.h5", "/entry/data/data")
    np.testing.assert_array_equal(np.concatenate(read(frames_of(tmp_path))), FRAMES)


@pytest.mark.parametrize("name", ["entry/data/data", "entry/data/data_000001", "odd/name"])
def test_the_dataset_is_found_under_its_usual_names(tmp_path, name):
    with h5py.File(data_path(str(tmp_path / "gel_3"), 1), "w") as file:
        file[name] = FRAMES
        file["entry/other"] = np.zeros(3)
    blocks = read(frames_of(tmp_path, images_per_file=100))
    np.testing.assert_array_equal(np.concatenate(blocks), FRAMES)


def test_two_datasets_of_frames_are_not_guessed_between(tmp_path):
    with h5py.File(data_path(str(tmp_path / "gel_3"), 1), "w") as file:
        file["one"] = file["two"] = FRAMES
        file["three"] = FRAMES
    with pytest.raises(UnreadableFramesError, match="3 datasets of frames"):
        read(frames_of(tmp_path))


def test_a_missing_file_says_where_reading_can_go_on(tmp_path):
    write_series(tmp_path, without=[2])
    blocks = []
    with pytest.raises(UnreadableFramesError, match=r"\[10, 20\).*_data_000002") as caught:
        blocks.extend(read_eiger(frames_of(tmp_path), 10**6, roots=ANYWHERE, timeout_s=0.1))
    assert caught.value.missing_until == 20


@pytest.mark.parametrize(
    ("without", "expected"),
    [
        ([2], [10, MissingFrames, 3]),
        ([1], [MissingFrames, 10, 3]),
        ([3], [10, 10, MissingFrames]),
        ([1, 2], [MissingFrames, 3]),
        ([1, 2, 3], [MissingFrames]),
    ],
)
def test_each_missing_file_is_a_gap_of_its_own_frames(tmp_path, without, expected):
    write_series(tmp_path, without=without)
    reader = FrameReader(roots=ANYWHERE, timeout_s=0.05)
    pieces = read_pieces(reader, frames_of(tmp_path), SHAPE)
    assert [
        MissingFrames if isinstance(piece, MissingFrames) else len(piece) for piece in pieces
    ] == expected
    lengths = [
        piece.n_frames if isinstance(piece, MissingFrames) else len(piece) for piece in pieces
    ]
    assert sum(lengths) == 23


def test_absurdly_many_announced_frames_are_one_gap(tmp_path):
    write_series(tmp_path)
    reader = FrameReader(roots=ANYWHERE, timeout_s=0.05)
    pieces = read_pieces(reader, frames_of(tmp_path, stop=10**15), SHAPE)
    assert [len(piece) for piece in pieces[:-1]] == [10, 10, 3]
    assert pieces[-1].n_frames == 10**15 - 23


def test_a_truncated_file_loses_its_own_frames_only(tmp_path):
    files = write_series(tmp_path)
    os.truncate(files.data_path(2), files.data_path(2).stat().st_size // 2)
    pieces = read_pieces(FrameReader(roots=ANYWHERE, timeout_s=0.05), frames_of(tmp_path), SHAPE)
    assert [isinstance(piece, MissingFrames) for piece in pieces] == [False, True, False]
    assert pieces[1].n_frames == 10
    np.testing.assert_array_equal(pieces[2], FRAMES[20:])


def test_frames_that_were_allocated_and_never_written_are_missing(tmp_path):
    files = write_series(tmp_path, without=[1])
    with h5py.File(files.data_path(1), "w") as file:
        dataset = file.create_dataset(
            "entry/data/data", (10, 12, 16), "u2", chunks=(1, 12, 16), fillvalue=0
        )
        dataset[:4] = FRAMES[:4]
    pieces = read_pieces(FrameReader(roots=ANYWHERE, timeout_s=0.05), frames_of(tmp_path), SHAPE)
    np.testing.assert_array_equal(pieces[0], FRAMES[:4])
    assert pieces[1].n_frames == 6
    np.testing.assert_array_equal(np.concatenate(pieces[2:]), FRAMES[10:])


def test_a_file_that_comes_late_is_waited_for(tmp_path):
    files = write_series(tmp_path, without=[2])
    late = threading.Timer(0.3, write_file, (files, 2))
    late.start()
    blocks = read(frames_of(tmp_path), timeout_s=20)
    late.join()
    np.testing.assert_array_equal(np.concatenate(blocks), FRAMES)


def test_a_series_without_any_file_is_told(tmp_path):
    with pytest.raises(UnreadableFramesError, match=r"gel_3: its first data file"):
        read(frames_of(tmp_path, images_per_file=None))


def test_files_outside_the_roots_are_not_read(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    write_series(outside)
    roots = FileRoots([inside])
    with pytest.raises(UnreadableFramesError, match="file_roots"):
        read(frames_of(outside), roots=roots)
    shutil.copy(outside / "gel_3_master.h5", inside)
    for number in (1, 3):
        shutil.copy(data_path(str(outside / "gel_3"), number), inside)
    (inside / "gel_3_data_000002.h5").symlink_to(outside / "gel_3_data_000002.h5")
    reader = FrameReader(timeout_s=0.05, roots=roots)
    pieces = read_pieces(reader, frames_of(inside), SHAPE)
    assert [isinstance(piece, MissingFrames) for piece in pieces] == [False, True, False]
    assert "file_roots" in pieces[1].reason


def test_links_of_a_master_do_not_lead_out_of_the_roots(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    files = write_series(outside)
    with h5py.File(inside / "gel_3_master.h5", "w") as master:
        for number in (1, 2, 3):
            target = str(files.data_path(number))
            master[f"/entry/data/data_{number:06d}"] = h5py.ExternalLink(target, "entry/data/data")
    with pytest.raises(UnreadableFramesError, match="file_roots"):
        read(frames_of(inside), roots=FileRoots([inside]))


def test_a_data_file_that_only_links_to_another_is_refused(tmp_path):
    files = write_series(tmp_path)
    files.data_path(2).rename(tmp_path / "elsewhere.h5")
    with h5py.File(files.data_path(2), "w") as file:
        file["/entry/data/data"] = h5py.ExternalLink("elsewhere.h5", "/entry/data/data")
    with pytest.raises(UnreadableFramesError, match="lies in another file"):
        read(frames_of(tmp_path))


def test_the_master_tells_frames_and_frame_time(tmp_path):
    series_files(tmp_path).write_master()
    master = read_master(str(tmp_path / "gel_3"), ANYWHERE)
    assert (master.n_frames, master.frame_time_s, sorted(master.links)) == (23, 0.01, [1, 2, 3])
    (tmp_path / "gel_3_master.h5").write_bytes(b"half")
    assert read_master(str(tmp_path / "gel_3"), ANYWHERE) is None
    assert read_master(str(tmp_path / "none_1"), ANYWHERE) is None
