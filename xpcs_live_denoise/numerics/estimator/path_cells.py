"""C2 of one ROI in cells of age and lag, laid over the knots of a path of Gamma."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xpcs_live_denoise.records.types import FloatArray, IntArray

from .sums import AgeSums


@dataclass(frozen=True, slots=True, kw_only=True)
class PathCells:
    """Means of C2 - 1 of one ROI by lag bin and age row, laid over the knots of a path.

    Knot k is the time from frame `first` + k `step` on, `step` frames long; its nodes are k, where
    it begins, and k + 1. Rows are as wide as knots. Cells come in lines, of one lag bin and
    neighbouring rows, which lie alike over the nodes: the two times of the cell in row r are by
    `share` on the way from node r + `node` to the next one. A row that lacks ages is a line of its
    own.
    """

    first: int  # frame
    n_frames: int
    step: int  # frames
    n_knot: int
    place: FloatArray  # (n_row,): where a row lies in the stretch, -1 at its begin to 1 at its end
    value: FloatArray  # (n,): line by line; 0 where a gap leaves no cell
    weight: FloatArray  # (n,): inverse variance if the entries of a cell were independent
    left_out: FloatArray | None  # (n_block, n): without one pixel block, less `value`
    bin: IntArray  # (n_line,)
    row: IntArray  # (n_line,): the first one
    at: IntArray  # (n_line + 1,): where in `value` each line begins
    node: IntArray  # (2, n_line): the node before either time, for row 0
    share: FloatArray  # (2, n_line): how far either time is on the way to the next node, 0 to 1

    @property
    def n_cells(self) -> int:
        """How many cells there are."""
        return int(np.count_nonzero(self.weight))


def path_cells(sums: AgeSums, roi: int, first: int, stop: int, step: int) -> PathCells:
    """Lay the sums of one ROI over knots of `step` rows, an odd number.

    Frames are [first, stop), of the series also where the sums are those of its newest ages;
    `first` is the begin of a row of the sums.
    """
    from . import cell_kernels as kernels

    first, stop = first - sums.first, stop - sums.first
    size = step * sums.row_frames
    begin = np.arange(first, stop, size)  # frame with which each row begins
    middle = begin // sums.row_frames + step // 2
    cuts = sums.cuts(roi, middle, step, longest=stop - first - 1)
    times = _times(cuts.edges, cuts.lag) + (size - 1) / 2
    stretch = (first, stop, size)
    data = (cuts.edges.copy(), times, cuts.n_entries, cuts.noise)
    spans = np.empty((2, len(cuts.lag)), np.int64)
    is_end = np.zeros(cuts.mean.shape, np.bool_)
    n_line, n = kernels.lines(*stretch, *data, first + sums.first == 0, spans, is_end)
    lines, at = np.empty((4, n_line), np.int64), np.empty(n_line + 1, np.int64)
    share, value, weight = np.empty((2, n_line)), np.empty(n), np.empty(n)
    blocks = np.empty((*cuts.mean.shape, 0)) if cuts.left_out is None else cuts.left_out
    left_out = np.empty((sums.n_block, n))
    known = (cuts.mean, blocks, spans, is_end)
    kernels.lay(*stretch, *data, *known, lines, at, share, value, weight, left_out)
    return PathCells(
        first=first + sums.first,
        n_frames=stop - first,
        step=size,
        n_knot=max(-(-(stop - first - 1) // size), 1),
        place=2 * np.arange(len(begin)) / max(len(begin) - 1, 1) - 1,
        value=value,
        weight=weight,
        left_out=None if cuts.left_out is None else left_out,
        bin=lines[0],
        row=lines[1],
        at=at,
        node=lines[2:],
        share=share,
    )


def _times(edges: IntArray, mean_lag: FloatArray) -> FloatArray:
    """Return when the two times of each lag bin are, on average, from the age on: (2, n_bin)."""
    # Sums of lag // 2 and of (lag + 1) // 2 over all lags below an edge.
    below = (edges - 1) ** 2 // 4, edges**2 // 4
    earlier, later = (np.diff(total) / np.diff(edges) for total in below)
    before, after = -earlier, later
    longer = (mean_lag - (after - before)) / 2  # entries of a level have another mean lag
    return np.stack([before - longer, after + longer])
