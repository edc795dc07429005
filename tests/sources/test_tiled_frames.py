"""Frames of arrays in Tiled: right, bounded, and honest about what cannot be had."""

import numpy as np
import pytest

from tests.support.file_roots import ANYWHERE
from xpcs_live_denoise.errors import UnreadableFramesError
from xpcs_live_denoise.records.frames import TiledFrames
from xpcs_live_denoise.sources.frames import FrameReader, read_tiled

FRAMES = np.arange(20 * 3 * 4, dtype=np.uint16).reshape(20, 3, 4)
FRAME_BYTES = FRAMES[0].nbytes


def reference(start=0, stop=20, path="raw/run/primary/cam_image"):
    return TiledFrames(path=path, start=start, stop=stop)


def read(client, wanted, max_bytes=10**9, **options):
    return list(read_tiled(client, wanted, max_bytes, **{"timeout_s": 0.0, **options}))


def client_of(array):
    return {("raw", "run", "primary", "cam_image"): array}


class Growing:
    """An array of which each look shows two more frames."""

    def __init__(self):
        self.n = 0
        self.dtype = FRAMES.dtype

    def __getitem__(self, keys):
        if isinstance(keys, tuple):  # asked as a client
            self.n += 2
            return self
        return FRAMES[: self.n][keys]

    @property
    def shape(self):
        return (self.n, 3, 4)


@pytest.mark.parametrize("per_block", [1, 3, 7, 100])
def test_frames_come_in_order_in_blocks_of_bounded_size(per_block):
    blocks = read(client_of(FRAMES), reference(2, 19), per_block * FRAME_BYTES)
    np.testing.assert_array_equal(np.concatenate(blocks), FRAMES[2:19])
    assert max(map(len, blocks)) <= per_block


@pytest.mark.parametrize(("start", "stop"), [(0, 20), (1, 19), (3, 4), (7, 12)])
def test_an_array_of_several_frames_an_event_is_read_as_one_series(start, stop):
    stacked = FRAMES.reshape(5, 4, 3, 4)
    blocks = read(client_of(stacked), reference(start, stop), 4 * FRAME_BYTES)
    np.testing.assert_array_equal(np.concatenate(blocks), FRAMES[start:stop])


def test_an_array_that_grows_is_waited_for():
    blocks = read(Growing(), reference(), timeout_s=10.0)
    np.testing.assert_array_equal(np.concatenate(blocks), FRAMES)


def test_frames_before_the_missing_ones_are_given():
    blocks = read_tiled(client_of(FRAMES), reference(15, 30), 10**9, timeout_s=0.0)
    np.testing.assert_array_equal(next(blocks), FRAMES[15:])
    with pytest.raises(UnreadableFramesError, match=r"frames \[20, 30\).*holds 20 frames"):
        next(blocks)


@pytest.mark.parametrize(
    "array",
    [np.zeros(5), np.zeros((3, 4)), np.zeros((2, 3, 4), complex), np.full((2, 3, 4), "a"), {}],
)
def test_what_holds_no_frames_is_refused(array):
    with pytest.raises(UnreadableFramesError, match="expected frames, real numbers"):
        read(client_of(array), reference())


def test_an_array_that_is_not_there_is_told():
    with pytest.raises(UnreadableFramesError, match="cannot be read \\(KeyError"):
        read({}, reference())


@pytest.mark.parametrize(
    "path", ["processed/a/b/c", "raw", "", "/", "raw/../processed/a", "rawer/a/b/c"]
)
def test_a_document_cannot_have_arrays_elsewhere_read(path):
    with pytest.raises(UnreadableFramesError, match="not below 'raw'"):
        read({}, reference(path=path), below="raw")


def test_a_real_server_gives_the_same_frames(tiled_client):
    container = tiled_client["raw"].create_container("slices")
    container.write_array(FRAMES, key="frames")
    reader = FrameReader(
        roots=ANYWHERE, tiled=lambda *args: read_tiled(tiled_client, *args, below="raw")
    )
    blocks = list(reader.read(reference(3, 18, path="raw/slices/frames"), 4 * FRAME_BYTES))
    np.testing.assert_array_equal(np.concatenate(blocks), FRAMES[3:18])
    assert max(map(len, blocks)) == 4
