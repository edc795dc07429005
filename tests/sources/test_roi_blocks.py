"""ROI pixels of compressed frames: only the blocks that hold them are decompressed."""

from __future__ import annotations

import os

import h5py
import hdf5plugin
import numpy as np
import pytest

from tests.support.file_roots import ANYWHERE
from tests.support.hdf5_files import DATASET, LARGE, append, reference, swmr_writer, write
from xpcs_live_denoise.errors import FrameShapeError, UnreadableFramesError
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.records.frames import MissingFrames
from xpcs_live_denoise.sources.frames import FrameReader, read_with_gaps
from xpcs_live_denoise.sources.selection import RoiSelection

SHAPE = (61, 83)  # no multiple of 8 pixels
BSLZ4 = dict(hdf5plugin.Bitshuffle(nelems=64, cname="lz4"))  # 80 blocks a frame
LABELS = np.zeros(SHAPE, int)
LABELS[20:24, 30:40], LABELS[40, ::9], LABELS[-1, -3:] = 1, 2, 3
ROIS = RoiMap.from_labels(LABELS)


def counts(n, dtype="u2", seed=0):
    return np.random.default_rng(seed).poisson(0.4, (n, *SHAPE)).astype(dtype)


def select(reader, ref, max_bytes=LARGE, rois=ROIS):
    blocks = list(reader.read(ref, max_bytes, RoiSelection(rois)))
    whole = [block.whole for block in blocks if block.whole is not None]
    return np.concatenate([block.pixels for block in blocks]), np.concatenate(whole)


def damage(path, frame, *, at=100, content=b"\xff" * 64, dataset=DATASET):
    """Overwrite a part of the chunk that holds a frame."""
    with h5py.File(path) as file:
        data = file[dataset]
        first = frame // data.chunks[0] * data.chunks[0]
        offset = data.id.get_chunk_info_by_coord((first, *(0,) * (data.ndim - 1))).byte_offset
    with path.open("r+b") as raw:
        raw.seek(offset + at)
        raw.write(content)


# --- the same pixels, whatever the file is like -----------------------------------------------


@pytest.mark.parametrize("swmr", [True, False])
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "i4", "f4"])
def test_roi_pixels_are_those_of_whole_frames(tmp_path, reader, dtype, swmr):
    frames = counts(75, dtype)
    write(tmp_path / "a.h5", frames, chunks=(1, *SHAPE), **BSLZ4)
    pixels, whole = select(reader, reference(tmp_path / "a.h5", 3, 73, swmr=swmr))
    np.testing.assert_array_equal(pixels, ROIS.gather(frames[3:73]))
    assert pixels.dtype == dtype
    np.testing.assert_array_equal(whole, frames[3:73][[0, 1, 4, 16, 64]])


@pytest.mark.parametrize(
    "options",
    [
        {"chunks": (4, *SHAPE), **BSLZ4},
        {"chunks": (30, *SHAPE), **BSLZ4},
        {"chunks": (1, 30, 83), **BSLZ4},
        {"chunks": (1, *SHAPE), **dict(hdf5plugin.Bitshuffle(cname="none"))},
        {"chunks": (1, *SHAPE), **dict(hdf5plugin.Bitshuffle(cname="zstd"))},
        {"chunks": (1, *SHAPE), **dict(hdf5plugin.LZ4())},
        {"chunks": (1, *SHAPE), "compression": "gzip"},
        {"chunks": (1, *SHAPE), "fletcher32": True, **BSLZ4},
        {"chunks": (1, *SHAPE)},
        {},
    ],
    ids=[
        *("four frames a chunk", "thirty frames a chunk", "parts of a frame", "bitshuffle alone"),
        *("bitshuffle and zstd", "lz4", "gzip", "two filters", "no filter", "no chunks"),
    ],
)
def test_every_compression_gives_the_same_pixels(tmp_path, reader, options):
    frames = counts(33)
    write(tmp_path / "a.h5", frames, **options)
    pixels, _ = select(reader, reference(tmp_path / "a.h5", 5, 32), 7 * frames[0].nbytes)
    np.testing.assert_array_equal(pixels, ROIS.gather(frames[5:32]))


def test_a_chunk_that_was_written_without_its_filter_is_read(tmp_path, reader):
    frames = counts(8)
    write(tmp_path / "a.h5", frames, chunks=(1, *SHAPE), **BSLZ4)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file[DATASET].id.write_direct_chunk((5, 0, 0), frames[5].tobytes(), filter_mask=1)
    pixels, _ = select(reader, reference(tmp_path / "a.h5", 0, 8))
    np.testing.assert_array_equal(pixels, ROIS.gather(frames))


@pytest.mark.parametrize("threshold", [1, 2])
@pytest.mark.parametrize("together", [True, False])
def test_of_several_thresholds_the_chosen_one_is_read(tmp_path, threshold, together):
    frames = np.stack([counts(12, seed=1), counts(12, seed=2)], axis=1)
    chunks = (2, 2 if together else 1, *SHAPE)
    write(tmp_path / "a.h5", frames, chunks=chunks, **BSLZ4)
    write(tmp_path / "flat.h5", frames.reshape(-1, *SHAPE), chunks=(1, *SHAPE), **BSLZ4)
    flat = reference(tmp_path / "flat.h5", 2, 12)
    flat = type(flat)(path=flat.path, dataset=flat.dataset, start=2, stop=12, n_thresholds=2)
    for ref in (reference(tmp_path / "a.h5", 2, 12), flat):
        reader = FrameReader(roots=ANYWHERE, timeout_s=0.05, threshold=threshold)
        pixels, _ = select(reader, ref)
        np.testing.assert_array_equal(pixels, ROIS.gather(frames[2:, threshold - 1]))
        reader.close()


def test_frames_behind_an_external_link_are_read(tmp_path, reader):
    frames = counts(12)
    write(tmp_path / "data.h5", frames, chunks=(1, *SHAPE), **BSLZ4)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file[DATASET] = h5py.ExternalLink("data.h5", DATASET)
    pixels, _ = select(reader, reference(tmp_path / "a.h5", 0, 12))
    np.testing.assert_array_equal(pixels, ROIS.gather(frames))


def test_a_file_is_read_while_it_is_written(tmp_path, reader):
    frames, got = counts(30), []
    with swmr_writer(tmp_path / "a.h5", SHAPE, **BSLZ4) as dataset:
        chosen = RoiSelection(ROIS)
        for start in range(0, 30, 10):
            append(dataset, frames[start : start + 10])
            ref = reference(tmp_path / "a.h5", start, start + 10)
            got += [block.pixels for block in reader.read(ref, LARGE, chosen)]
    np.testing.assert_array_equal(np.concatenate(got), ROIS.gather(frames))


def test_frames_of_another_shape_are_refused(tmp_path, reader):
    write(tmp_path / "a.h5", np.zeros((3, 83, 61), "u2"), chunks=(1, 83, 61), **BSLZ4)
    with pytest.raises(FrameShapeError, match=r"got shape \(k, 83, 61\), expected \(k, 61, 83\)"):
        select(reader, reference(tmp_path / "a.h5", 0, 3))


# --- what it saves ----------------------------------------------------------------------------


def test_blocks_without_roi_pixels_are_never_decompressed(tmp_path, reader):
    frames = counts(8)
    write(tmp_path / "a.h5", frames, chunks=(1, *SHAPE), **BSLZ4)
    for frame in (2, 3, 5, 6, 7):
        damage(tmp_path / "a.h5", frame, at=16, content=b"\xff" * 8)  # in the first block
    pixels, whole = select(reader, reference(tmp_path / "a.h5", 0, 8))
    np.testing.assert_array_equal(pixels, ROIS.gather(frames))
    np.testing.assert_array_equal(whole, frames[[0, 1, 4]])


# --- damaged chunks ---------------------------------------------------------------------------


def outline(tmp_path, start, stop, max_bytes=LARGE):
    """Return the pieces of a file, arrays and MissingFrames."""
    reader = FrameReader(roots=ANYWHERE, timeout_s=0.05)
    ref = reference(tmp_path / "a.h5", start, stop, swmr=False)
    return list(read_with_gaps(reader, ref, max_bytes, RoiSelection(ROIS)))


@pytest.mark.parametrize(
    "options",
    [BSLZ4, {"compression": "gzip"}, dict(hdf5plugin.Bitshuffle(cname="zstd"))],
    ids=["bslz4", "gzip", "bitshuffle and zstd"],
)
@pytest.mark.parametrize("frame", [0, 12, 29])
def test_a_damaged_chunk_is_a_gap_and_the_rest_goes_on(tmp_path, options, frame):
    frames = counts(30)
    write(tmp_path / "a.h5", frames, chunks=(1, *SHAPE), **options)
    damage(tmp_path / "a.h5", frame, content=b"\xff" * 800)
    pieces = outline(tmp_path, 0, 30)
    (gap,) = [piece for piece in pieces if isinstance(piece, MissingFrames)]
    assert gap.n_frames == 1
    assert f"a.h5, dataset '{DATASET}': frame {frame}: the chunk cannot be dec" in gap.reason
    good = np.concatenate([p.pixels for p in pieces if not isinstance(p, MissingFrames)])
    np.testing.assert_array_equal(good, ROIS.gather(np.delete(frames, frame, axis=0)))
    before = pieces[: pieces.index(gap)]
    assert sum(len(piece) for piece in before) == frame


def test_frames_that_share_a_damaged_chunk_are_one_gap(tmp_path):
    frames = counts(30)
    write(tmp_path / "a.h5", frames, chunks=(3, *SHAPE), **BSLZ4)
    damage(tmp_path / "a.h5", 12, content=b"\xff" * 4000)
    pieces = outline(tmp_path, 2, 30)
    (gap,) = [piece for piece in pieces if isinstance(piece, MissingFrames)]
    assert gap.n_frames == 3
    assert "frames 12-14: the chunk cannot be decompressed" in gap.reason
    good = np.concatenate([p.pixels for p in pieces if not isinstance(p, MissingFrames)])
    np.testing.assert_array_equal(good, ROIS.gather(np.delete(frames, range(12, 15), 0)[2:]))


def test_a_truncated_chunk_is_a_gap(tmp_path):
    frames = counts(10)
    write(tmp_path / "a.h5", frames, chunks=(1, *SHAPE), **BSLZ4)
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        data = file[DATASET].id
        data.write_direct_chunk((6, 0, 0), data.read_direct_chunk((6, 0, 0))[1][:900])
    pieces = outline(tmp_path, 0, 10)
    assert [getattr(piece, "n_frames", None) or len(piece) for piece in pieces] == [6, 1, 3]
    assert "does not end within the chunk" in pieces[1].reason


def test_a_chunk_that_is_still_copied_is_waited_for(tmp_path):
    frames = counts(6)
    write(tmp_path / "a.h5", frames, chunks=(1, *SHAPE), **BSLZ4)
    content = (tmp_path / "a.h5").read_bytes()
    with h5py.File(tmp_path / "a.h5") as file:
        size = file[DATASET].id.get_chunk_info_by_coord((5, 0, 0)).size
    damage(tmp_path / "a.h5", 5, at=0, content=b"\0" * size)
    reader = FrameReader(roots=ANYWHERE, timeout_s=30)
    blocks = reader.read(reference(tmp_path / "a.h5", 0, 6), LARGE, RoiSelection(ROIS))
    first = next(blocks)
    np.testing.assert_array_equal(first.pixels, ROIS.gather(frames[:5]))
    (tmp_path / "b.h5").write_bytes(content)
    os.replace(tmp_path / "b.h5", tmp_path / "a.h5")
    np.testing.assert_array_equal(next(blocks).pixels, ROIS.gather(frames[5:]))
    reader.close()


def test_whole_frames_are_read_around_a_damaged_chunk(tmp_path, reader):
    frames = counts(9)
    write(tmp_path / "a.h5", frames, chunks=(1, *SHAPE), **BSLZ4)
    damage(tmp_path / "a.h5", 4, content=b"\xff" * 800)
    blocks, got = reader.read(reference(tmp_path / "a.h5", 0, 9), LARGE), []
    with pytest.raises(UnreadableFramesError, match="frame 4: ") as caught:
        got.extend(blocks)
    np.testing.assert_array_equal(np.concatenate(got), frames[:4])
    assert caught.value.missing_until == 5
