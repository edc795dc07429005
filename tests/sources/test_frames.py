"""FrameReader: references to frames become blocks of pixels, from files good, growing and bad."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import h5py
import hdf5plugin
import numpy as np
import pytest

from tests.support.file_roots import ANYWHERE
from tests.support.hdf5_files import (
    DATASET,
    FRAME_BYTES,
    LARGE,
    append,
    read,
    reference,
    swmr_writer,
    write,
)
from xpcs_live_denoise.records.frames import InlineFrames
from xpcs_live_denoise.sources.frames import FrameReader
from xpcs_live_denoise.sources.hdf5 import MAX_OPEN_FILES

# --- good files -------------------------------------------------------------------------------


def test_inline_frames_come_as_views_of_bounded_size(reader, frames):
    blocks = list(reader.read(InlineFrames(frames=frames), 7 * FRAME_BYTES))
    assert [len(block) for block in blocks] == [7, 7, 7, 7, 2]
    np.testing.assert_array_equal(np.concatenate(blocks), frames)
    assert all(np.shares_memory(block, frames) for block in blocks)


@pytest.mark.parametrize("swmr", [True, False])
@pytest.mark.parametrize(
    "options",
    [{}, {"chunks": (1, 4, 6)}, {"chunks": (8, 2, 3)}, dict(hdf5plugin.Bitshuffle(cname="lz4"))],
    ids=["contiguous", "a chunk a frame", "chunks across frames", "bslz4"],
)
def test_a_range_of_a_finished_file_is_read_exactly(tmp_path, reader, frames, options, swmr):
    write(tmp_path / "a.h5", frames, **options)
    np.testing.assert_array_equal(
        read(reader, reference(tmp_path / "a.h5", 3, 29, swmr=swmr)), frames[3:29]
    )


@pytest.mark.parametrize(
    ("max_bytes", "sizes"), [(10 * FRAME_BYTES, [10, 10, 5]), (1, [1] * 25), (LARGE, [25])]
)
def test_blocks_stay_below_max_bytes_but_hold_a_frame(tmp_path, reader, frames, max_bytes, sizes):
    write(tmp_path / "a.h5", frames)
    blocks = list(reader.read(reference(tmp_path / "a.h5", 5, 30), max_bytes))
    assert [len(block) for block in blocks] == sizes


def test_blocks_end_where_chunks_end(tmp_path, reader, frames):
    write(tmp_path / "a.h5", frames, chunks=(4, 4, 6))
    blocks = list(reader.read(reference(tmp_path / "a.h5", 2, 30), 7 * FRAME_BYTES))
    assert [len(block) for block in blocks] == [6, 4, 4, 4, 4, 6]
    np.testing.assert_array_equal(np.concatenate(blocks), frames[2:])


def test_no_frames_are_no_blocks(reader, tmp_path):
    assert list(reader.read(reference(tmp_path / "never.h5", 4, 4), LARGE)) == []


# --- files that grow --------------------------------------------------------------------------


def test_a_file_is_read_while_this_process_writes_it(tmp_path, reader, frames):
    with swmr_writer(tmp_path / "a.h5") as dataset:
        for start in range(0, 30, 10):
            append(dataset, frames[start : start + 10])
            got = read(reader, reference(tmp_path / "a.h5", start, start + 10))
            np.testing.assert_array_equal(got, frames[start : start + 10])
    np.testing.assert_array_equal(read(reader, reference(tmp_path / "a.h5", 0, 30)), frames)


@pytest.mark.parametrize("locking", [False, True])
def test_the_way_of_locking_of_a_writer_in_this_process_is_found(tmp_path, reader, frames, locking):
    with h5py.File(tmp_path / "a.h5", "w", libver="latest", locking=locking) as file:
        file.create_dataset(DATASET, data=frames, chunks=(1, 4, 6), maxshape=(None, 4, 6))
        file.swmr_mode = True
        np.testing.assert_array_equal(read(reader, reference(tmp_path / "a.h5", 0, 30)), frames)


WRITER = """
import sys
import h5py, numpy as np
with h5py.File(sys.argv[1], "w", libver="latest") as file:
    dataset = file.create_dataset(
        "/entry/data/data", (0, 4, 6), maxshape=(None, 4, 6), chunks=(1, 4, 6), dtype="u2")
    file.swmr_mode = True
    for line in sys.stdin:
        start, stop = map(int, line.split())
        dataset.resize(stop, axis=0)
        for i in range(start, stop):
            dataset[i] = np.full((4, 6), i)
        dataset.flush()
        print("written", flush=True)
"""


@pytest.fixture
def other_process(tmp_path):
    """Return a function that lets another process write frames [start, stop)."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "a.h5")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def write_frames(start, stop, *, wait=True):
        process.stdin.write(f"{start} {stop}\n")
        process.stdin.flush()
        if wait:
            assert process.stdout.readline() == "written\n"

    write_frames.process = process
    yield write_frames
    with process:
        process.stdin.close()


def test_a_file_is_read_while_another_process_writes_it(tmp_path, reader, other_process):
    for start, stop in ((0, 3), (3, 20), (20, 21)):
        other_process(start, stop)
        got = read(reader, reference(tmp_path / "a.h5", start, stop))
        np.testing.assert_array_equal(got[:, 0, 0], np.arange(start, stop))
    assert other_process.process.poll() is None


def test_frames_that_are_announced_early_are_waited_for(tmp_path, patient_reader, other_process):
    other_process(0, 5)
    blocks = patient_reader.read(reference(tmp_path / "a.h5", 0, 12), LARGE)
    first = next(blocks)
    np.testing.assert_array_equal(first[:, 0, 0], np.arange(5))
    other_process(5, 12, wait=False)
    np.testing.assert_array_equal(np.concatenate(list(blocks))[:, 0, 0], np.arange(5, 12))


def test_a_file_that_does_not_exist_yet_is_waited_for(tmp_path, patient_reader, frames):
    def write_late():
        time.sleep(0.1)
        write(tmp_path / "part.h5", frames)
        os.rename(tmp_path / "part.h5", tmp_path / "a.h5")

    writer = threading.Thread(target=write_late)
    writer.start()
    got = read(patient_reader, reference(tmp_path / "a.h5", 0, 30))
    writer.join()
    np.testing.assert_array_equal(got, frames)


def test_the_writer_of_a_file_without_swmr_is_not_kept_out(tmp_path, reader, frames):
    """A reader's lock would; another process appends between two reads."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset(DATASET, data=frames[:10], maxshape=(None, 4, 6))
    np.testing.assert_array_equal(read(reader, reference(path, 0, 10, swmr=False)), frames[:10])
    code = (
        "import h5py, sys; file = h5py.File(sys.argv[1], 'a'); d = file['/entry/data/data'];"
        "d.resize(12, axis=0); d[10:] = 99; file.close()"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert (read(reader, reference(path, 10, 12, swmr=False)) == 99).all()


def test_a_file_that_was_replaced_is_opened_again(tmp_path, reader, frames):
    write(tmp_path / "a.h5", frames)
    read(reader, reference(tmp_path / "a.h5", 0, 30))
    write(tmp_path / "b.h5", frames[::-1])
    os.replace(tmp_path / "b.h5", tmp_path / "a.h5")
    got = read(reader, reference(tmp_path / "a.h5", 0, 30))
    np.testing.assert_array_equal(got, frames[::-1])


def test_a_growing_file_is_opened_once(tmp_path, reader, frames, monkeypatch):
    opened = []

    class CountedFile(h5py.File):
        def __init__(self, *args, **options):
            opened.append(args)
            super().__init__(*args, **options)

    with swmr_writer(tmp_path / "a.h5") as dataset:
        monkeypatch.setattr(h5py, "File", CountedFile)
        for i in range(5):
            append(dataset, frames[i : i + 1])
            read(reader, reference(tmp_path / "a.h5", i, i + 1))
    assert len(opened) == 1


def n_open_files():
    return h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE)


def test_few_files_are_held_open_and_close_closes_them(tmp_path, frames):
    reader, before = FrameReader(roots=ANYWHERE), n_open_files()
    for i in range(12):
        write(tmp_path / f"{i}.h5", frames)
        read(reader, reference(tmp_path / f"{i}.h5", 0, 1))
    assert n_open_files() == before + MAX_OPEN_FILES
    reader.close()
    assert n_open_files() == before
    np.testing.assert_array_equal(read(reader, reference(tmp_path / "3.h5", 0, 1)), frames[:1])
    reader.close()
