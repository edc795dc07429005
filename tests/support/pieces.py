"""What `read_with_gaps` yields, with every pixel of the detector in one ROI."""

import numpy as np

from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.records.frames import MissingFrames
from xpcs_live_denoise.sources.frames import read_with_gaps
from xpcs_live_denoise.sources.selection import RoiSelection


def read_pieces(reader, reference, shape, max_bytes=10**6):
    """Return arrays (k, rows, cols) and MissingFrames, in order."""
    selection = RoiSelection(RoiMap.from_labels(np.ones(shape, int)))
    return [
        piece if isinstance(piece, MissingFrames) else piece.pixels.reshape(-1, *shape)
        for piece in read_with_gaps(reader, reference, max_bytes, selection)
    ]
