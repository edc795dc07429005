"""Sparse arrays of frames: ROI pixels and picture without a dense frame."""

import functools

import numpy as np
import pytest
import scipy.sparse
import sparse

from tests.support.file_roots import ANYWHERE
from xpcs_live_denoise.analysis import DetectorImage
from xpcs_live_denoise.errors import FrameShapeError
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.records.frames import TiledFrames
from xpcs_live_denoise.sources.frames import FrameReader, read_tiled
from xpcs_live_denoise.sources.selection import RoiSelection, select_frames

SHAPE = (20, 31)
N = 150
FRAMES = np.random.default_rng(3).poisson(0.05, (N, *SHAPE)).astype(np.uint16)
FRAMES[40:45] = 0
LABELS = np.zeros(SHAPE, int)
LABELS[3:9, 4:20], LABELS[12, ::2], LABELS[-1, -1] = 1, 2, 3
ROIS = RoiMap.from_labels(LABELS)


def shuffled(coo):
    order = np.random.default_rng(1).permutation(len(coo.data))
    return scipy.sparse.coo_array(
        (coo.data[order], tuple(np.asarray(axis)[order] for axis in coo.coords)), shape=coo.shape
    )


FLAT = FRAMES.reshape(N, -1)
KINDS = {
    "COO of the library sparse": sparse.COO(FRAMES),
    "GCXS of the library sparse": sparse.GCXS(FRAMES),
    "one row of pixels a frame": sparse.COO(FLAT),
    "scipy CSR": scipy.sparse.csr_array(FLAT),
    "scipy CSC": scipy.sparse.csc_matrix(FLAT),
    "scipy COO out of order": shuffled(scipy.sparse.coo_array(FLAT)),
    "floating point": sparse.COO(FRAMES.astype(np.float32)),
    "signed": sparse.COO(FRAMES.astype(np.int64)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_roi_pixels_and_picture_are_those_of_dense_frames(kind):
    image, expected = DetectorImage(ROIS), DetectorImage(ROIS)
    expected.add(FRAMES)
    pixels = []
    for block in select_frames(KINDS[kind], 10**6, RoiSelection(ROIS)):
        pixels.append(block.pixels)
        image.add(block.whole)
    assert len(pixels) > 1
    np.testing.assert_array_equal(np.concatenate(pixels), ROIS.gather(FRAMES))
    np.testing.assert_allclose(image.image().mean, expected.image().mean)
    assert image.image().n_frames == N


def test_events_of_one_pixel_that_come_twice_are_added():
    coords = (np.array([0, 0, 1]), np.array([5, 5, 5]), np.array([6, 6, 6]))
    twice = scipy.sparse.coo_array((np.array([2, 3, 4]), coords), shape=(2, *SHAPE))
    (block,) = select_frames(twice, 10**6, RoiSelection(ROIS))
    place = np.flatnonzero(ROIS.pixels == 5 * SHAPE[1] + 6)
    np.testing.assert_array_equal(block.pixels[:, place].ravel(), [5, 4])


def test_a_photon_or_none_is_a_count():
    (block,) = select_frames(sparse.COO(FRAMES[:30] > 0), 10**6, RoiSelection(ROIS))
    np.testing.assert_array_equal(block.pixels, ROIS.gather(FRAMES[:30] > 0))


def test_marked_and_negative_numbers_are_kept_out_of_the_picture_as_in_dense_frames():
    frames = FRAMES.astype(np.int32)
    frames[:, 2, 3], frames[7:90, 1, 1], frames[3, 0, 0] = 2**31 - 1, 2**31 - 2, -5
    for negative_is_data in (True, False):
        image, expected = DetectorImage(ROIS), DetectorImage(ROIS)
        expected.add(frames)
        for block in select_frames(sparse.COO(frames), 10**6, RoiSelection(ROIS)):
            image.add(block.whole)
        got, wanted = (
            one.image(negative_is_data=negative_is_data).mean for one in (image, expected)
        )
        np.testing.assert_allclose(got, wanted)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (sparse.COO(FRAMES[:, :, :30]), r"Frames: got shape \(k, 20, 30\), expected \(k, 20, 31\)"),
        (sparse.COO(FLAT[:, :-1]), r"Sparse frames: got shape \(150, 619\), expected \(n, 20"),
        (sparse.COO(FRAMES.astype(complex)), "Sparse frames: got dtype complex128"),
        (sparse.COO(FRAMES) + 1, "got the fill value"),
    ],
    ids=["shape", "flat shape", "complex", "fill value"],
)
def test_sparse_arrays_that_are_no_frames_are_refused(array, message):
    with pytest.raises(FrameShapeError, match=message):
        list(select_frames(array, 10**6, RoiSelection(ROIS)))


@pytest.mark.parametrize("per_event", [1, 5])
def test_sparse_arrays_in_tiled_are_read_as_frames(tiled_client, per_event):
    shape = (N, *SHAPE) if per_event == 1 else (N // per_event, per_event, *SHAPE)
    coo = sparse.COO(FRAMES.reshape(shape))
    tiled_client.write_sparse(
        coords=coo.coords, data=coo.data, shape=shape, key=f"sparse{per_event}"
    )
    reader = FrameReader(roots=ANYWHERE, tiled=functools.partial(read_tiled, tiled_client))
    reference = TiledFrames(path=f"sparse{per_event}", start=12, stop=143)
    most = 50 * SHAPE[0] * SHAPE[1] // 4  # 50 frames of a quarter byte a pixel
    blocks = list(reader.read(reference, most, RoiSelection(ROIS)))
    assert len(blocks) == 3
    got = np.concatenate([block.pixels for block in blocks])
    np.testing.assert_array_equal(got, ROIS.gather(FRAMES[12:143]))
    whole = np.concatenate(list(reader.read(reference, 10**9)))
    np.testing.assert_array_equal(whole, FRAMES[12:143])
