"""FrameReader: files that cannot be read, and how it says so."""

from __future__ import annotations

import contextlib
import os
import time

import h5py
import numpy as np
import pytest

from tests.support.file_roots import ANYWHERE
from tests.support.hdf5_files import (
    DATASET,
    FRAME_BYTES,
    LARGE,
    read,
    reference,
    swmr_writer,
    write,
)
from xpcs_live_denoise.errors import UnreadableFramesError
from xpcs_live_denoise.sources.frames import FrameReader


def refuse(reader, ref, *messages):
    with pytest.raises(UnreadableFramesError) as caught:
        list(reader.read(ref, LARGE))
    for message in (ref.path, ref.dataset, *messages):
        assert message in str(caught.value)


@pytest.mark.parametrize("swmr", [True, False])
def test_a_missing_file_is_named(tmp_path, reader, swmr):
    refuse(
        reader,
        reference(tmp_path / "none.h5", 2, 9, swmr=swmr),
        "frames [2, 9) cannot be read",
        "No such file",
        "Check that the file is complete",
    )


def test_a_folder_and_a_text_file_are_no_hdf5(tmp_path, reader):
    (tmp_path / "notes.txt").write_text("no frames here" * 100)
    refuse(reader, reference(tmp_path / "notes.txt", 0, 1), "file signature not found")
    refuse(reader, reference(tmp_path, 0, 1), "cannot be read")


@pytest.fixture
def not_root():
    """Be nobody for a while if we are root, who may read every file."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


def test_a_file_without_permission_is_named(tmp_path, reader, frames, request):
    write(tmp_path / "a.h5", frames)
    (tmp_path / "a.h5").chmod(0)
    request.getfixturevalue("not_root")
    refuse(reader, reference(tmp_path / "a.h5", 0, 1), "Permission denied")


def test_a_missing_dataset_is_named_with_what_is_there(tmp_path, reader, frames):
    write(tmp_path / "a.h5", frames)
    refuse(
        reader, reference(tmp_path / "a.h5", 0, 1, dataset="/exchange/data"), "no such", "['entry']"
    )


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (np.zeros((4, 6)), "got a dataset of shape (4, 6) and dtype float64"),
        (np.zeros((2, 2, 3, 4, 6)), "got a dataset of shape (2, 2, 3, 4, 6)"),
        (np.zeros((2, 4, 6), complex), "dtype complex128"),
        (np.array([[[b"text"]]]), "dtype |S4"),
    ],
    ids=["2-d", "5-d", "complex", "text"],
)
def test_a_dataset_that_holds_no_frames_is_refused(tmp_path, reader, content, got):
    write(tmp_path / "a.h5", content)
    refuse(reader, reference(tmp_path / "a.h5", 0, 1), got, "shape (n, rows, cols)")


def test_frames_of_several_thresholds_need_the_setting(tmp_path, reader):
    write(tmp_path / "a.h5", np.zeros((2, 3, 4, 6)))
    got = "got frames with 3 thresholds, shape (2, 3, 4, 6), and no setting"
    refuse(reader, reference(tmp_path / "a.h5", 0, 1), got, "the setting `threshold`, 1 to 3")


def test_a_group_is_no_dataset(tmp_path, reader, frames):
    write(tmp_path / "a.h5", frames)
    refuse(reader, reference(tmp_path / "a.h5", 0, 1, dataset="/entry"), "got a group")


def test_frames_beyond_the_end_are_missed_after_those_before_it(tmp_path, reader, frames):
    write(tmp_path / "a.h5", frames)
    blocks = reader.read(reference(tmp_path / "a.h5", 25, 40), LARGE)
    np.testing.assert_array_equal(next(blocks), frames[25:])
    with pytest.raises(UnreadableFramesError, match=r"frames \[30, 40\).*holds 30 frames"):
        next(blocks)


@pytest.mark.parametrize("chunk", [1, 4])
def test_frames_that_are_allocated_but_not_written_are_no_dark_frames(
    tmp_path, reader, frames, chunk
):
    with swmr_writer(tmp_path / "a.h5", n_allocated=30, chunk=chunk) as dataset:
        dataset[:8] = frames[:8]
        dataset.flush()
        blocks = reader.read(reference(tmp_path / "a.h5", 0, 20), LARGE)
        np.testing.assert_array_equal(next(blocks), frames[:8])
        with pytest.raises(UnreadableFramesError, match=r"frames \[8, 20\)"):
            next(blocks)


@pytest.mark.parametrize("swmr", [True, False])
@pytest.mark.parametrize("chunks", [(1, 4, 6), None], ids=["chunked", "contiguous"])
def test_a_truncated_file_gives_no_invented_frames(tmp_path, reader, frames, swmr, chunks):
    write(tmp_path / "a.h5", frames, chunks=chunks)
    with h5py.File(tmp_path / "a.h5") as file:
        data = file[DATASET].id
        end = (
            data.get_chunk_info_by_coord((9, 0, 0)).byte_offset + FRAME_BYTES
            if chunks
            else data.get_offset() + 10 * FRAME_BYTES
        )
    os.truncate(tmp_path / "a.h5", end)
    got = []
    with pytest.raises(UnreadableFramesError, match="cannot be read"):
        got.extend(reader.read(reference(tmp_path / "a.h5", 0, 30, swmr=swmr), LARGE))
    n_good = sum(len(block) for block in got)
    assert n_good <= 10
    np.testing.assert_array_equal(np.concatenate([*got, frames[:0]]), frames[:n_good])


def test_a_broken_chunk_is_an_error_after_the_good_frames(tmp_path, reader, frames):
    write(tmp_path / "a.h5", frames, chunks=(10, 4, 6), fletcher32=True)
    with h5py.File(tmp_path / "a.h5") as file:
        offset = file[DATASET].id.get_chunk_info_by_coord((20, 0, 0)).byte_offset
    with (tmp_path / "a.h5").open("r+b") as raw:
        raw.seek(offset)
        raw.write(b"\xff" * 16)
    blocks = reader.read(reference(tmp_path / "a.h5", 0, 30), 10 * FRAME_BYTES)
    np.testing.assert_array_equal(np.concatenate([next(blocks), next(blocks)]), frames[:20])
    with pytest.raises(UnreadableFramesError, match="frames 20-29: the chunk cannot"):
        next(blocks)


def test_a_file_that_failed_is_not_waited_for_again_until_it_is_there(tmp_path, frames):
    def refuse_after(reader, ref):
        began = time.monotonic()
        refuse(reader, ref)
        return time.monotonic() - began

    with contextlib.closing(FrameReader(roots=ANYWHERE, timeout_s=0.5)) as reader:
        ref = reference(tmp_path / "a.h5", 0, 5)
        assert refuse_after(reader, ref) >= 0.5
        assert refuse_after(reader, ref) < 0.5
        write(tmp_path / "a.h5", frames)
        np.testing.assert_array_equal(read(reader, ref), frames[:5])
        assert refuse_after(reader, reference(tmp_path / "a.h5", 28, 40)) >= 0.5
