"""The stream `intensity` of a derived run: I(t) in total and of each ROI."""

from __future__ import annotations

import numpy as np

from xpcs_live_denoise.records.results import Intensity
from xpcs_live_denoise.records.types import IntArray

from .nodes import RunNodes
from .two_time import ArrivedRows

STREAM = "intensity"


class IntensityStream:
    """The arrays of I(t) of one derived run, and which frames of them have arrived.

    A frame that was written already is not sent again. Calls may be repeated after a failure.
    """

    def __init__(self, nodes: RunNodes) -> None:
        self._nodes = nodes
        self._arrived = ArrivedRows()

    def write(self, rows: Intensity) -> None:
        """Write the frames that differ from what was written."""
        digests = _digests(rows)
        news = self._arrived.news(digests, rows.start)
        if news is None:
            return
        start, stop = news
        arrays = {"total": rows.total, "roi_mean": rows.roi_mean}
        nodes = self._nodes.arrays
        there = [nodes[STREAM, name].lengths for name in arrays if (STREAM, name) in nodes]
        # Both of one length, or nobody can read.
        length = max([rows.stop, *(lengths.get("t_s", 0) for lengths in there)])
        shapes = {name: (length, *values.shape[1:]) for name, values in arrays.items()}
        self._nodes.reserve(STREAM, shapes)
        for name, values in arrays.items():
            new = values[start - rows.start : stop - rows.start]
            self._nodes.array(STREAM, name).patch(new, (start, *(0,) * (values.ndim - 1)))
        self._arrived.add(digests, rows.start)


def _digests(rows: Intensity) -> IntArray:
    """Return what tells each frame from another, never 0, of as many frames as there are."""
    total = np.ascontiguousarray(rows.total, np.float64).view(np.uint32).reshape(-1, 2)
    roi_mean = np.ascontiguousarray(rows.roi_mean, np.float32).view(np.uint32)
    bits = np.column_stack([total, roi_mean]).astype(np.uint64)
    factors = np.random.default_rng(0).integers(1, 2**63, bits.shape[1], np.uint64) * 2 + 1
    return ((bits * factors).sum(axis=1, dtype=np.uint64) | np.uint64(1)).view(np.int64)
