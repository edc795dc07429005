"""Reading references with gaps, where the source is not what the documents say."""

import numpy as np

from tests.support.pieces import read_pieces
from xpcs_live_denoise.records.frames import AssetFrames, MissingFrames


class Short:
    """A source that has so many frames, whatever was announced."""

    def __init__(self, n_frames):
        self.n_frames = n_frames

    def read(self, reference, max_bytes, selection):
        yield selection.of_frames(np.zeros((self.n_frames, 4, 5), np.uint16))


def test_frames_that_a_handler_does_not_give_keep_their_places():
    announced = AssetFrames(resource={}, datum={}, n_frames=10)
    frames, gap = read_pieces(Short(7), announced, (4, 5))
    assert (len(frames), gap) == (
        7,
        MissingFrames(n_frames=3, reason="A document announced 10 frames, 7 are there."),
    )
    assert [len(piece) for piece in read_pieces(Short(10), announced, (4, 5))] == [10]
    assert [len(piece) for piece in read_pieces(Short(12), announced, (4, 5))] == [12]
