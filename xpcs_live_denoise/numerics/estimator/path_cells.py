"""C2 of one ROI in cells of age and lag, laid over the knots of a path of Gamma."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xpcs_live_denoise.records.types import Array, FloatArray, IntArray

from .sums import AgeSums

_LEAST_VARIANCE = 1e-13  # of an entry of C2, near 1 and known to 1e-7 in single precision
# Of the entries of a cell that must be there: with more gaps it has another mean lag than its bin;
# a row at either end of the series, which lacks those of its outer ages, has another age.
_LEAST_SHARE, _LEAST_END = 0.5, 0.25


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
    first, stop = first - sums.first, stop - sums.first
    size = step * sums.row_frames
    begin = np.arange(first, stop, size)  # frame with which each row begins
    middle = begin // sums.row_frames + step // 2
    cuts = sums.cuts(roi, middle, step, longest=stop - first - 1)
    width = np.diff(cuts.edges)[:, np.newaxis]
    last = cuts.edges[1:, np.newaxis] - 1
    ages = np.ascontiguousarray(cuts.n_entries.T) / width  # (n_bin, n_row)
    after_first = begin - last // 2 >= first
    full = after_first & (begin + size - 1 + (last + 1) // 2 < stop)
    known = np.isfinite(cuts.noise)
    ends = (
        ~full
        & (ages >= _LEAST_END * size)
        & known
        & (after_first | (first + sums.first == 0))
        & (size > 1)
    )
    # What lacks of a row at the begin lies before its mean age, at the end behind it.
    lacking = np.where(full, 0.0, np.where(after_first, -0.5, 0.5) * (size - ages))
    before, after = _times(cuts.edges, cuts.lag) + (size - 1) / 2
    moved = begin + lacking - first
    ends &= (moved + before[:, np.newaxis] >= 0) & (
        moved + after[:, np.newaxis] <= stop - first - 1
    )
    some = full.any(axis=1)
    low, high = np.argmax(full, axis=1), full.shape[1] - np.argmax(full[:, ::-1], axis=1)
    of_end, end_row = np.nonzero(ends)
    bins = np.concatenate([np.flatnonzero(some), of_end])
    times = np.stack([before[bins], after[bins]])
    times[:, len(bins) - len(of_end) :] += lacking[ends]
    node = np.floor(times / size)

    def laid_out(table: Array) -> Array:  # (..., n_row, n_bin), line by line
        by_bin = table.swapaxes(-1, -2)
        return np.ascontiguousarray(np.concatenate([by_bin[..., full], by_bin[..., ends]], axis=-1))

    there = laid_out((ages >= _LEAST_SHARE * size).T & known[:, np.newaxis])
    there[len(there) - len(of_end) :] = True
    value = np.where(there, laid_out(cuts.mean), 0.0)
    noise = np.maximum(np.nan_to_num(cuts.noise), _LEAST_VARIANCE)[:, np.newaxis]
    left_out = None
    if cuts.left_out is not None:
        left_out = np.where(there, laid_out(np.moveaxis(cuts.left_out, 2, 0)) - value, 0.0)
    lengths = np.concatenate([(high - low)[some], np.ones(len(of_end), np.int64)])
    return PathCells(
        first=first + sums.first,
        n_frames=stop - first,
        step=size,
        n_knot=max(-(-(stop - first - 1) // size), 1),
        place=2 * np.arange(len(begin)) / max(len(begin) - 1, 1) - 1,
        value=value,
        weight=np.where(there, laid_out(cuts.n_entries / noise), 0.0),
        left_out=left_out,
        bin=bins,
        row=np.concatenate([low[some], end_row]),
        at=np.concatenate([[0], np.cumsum(lengths)]),
        node=node.astype(np.int64),
        share=times / size - node,
    )


def _times(edges: IntArray, mean_lag: FloatArray) -> FloatArray:
    """Return when the two times of each lag bin are, on average, from the age on: (2, n_bin)."""
    # Sums of lag // 2 and of (lag + 1) // 2 over all lags below an edge.
    below = (edges - 1) ** 2 // 4, edges**2 // 4
    earlier, later = (np.diff(total) / np.diff(edges) for total in below)
    before, after = -earlier, later
    longer = (mean_lag - (after - before)) / 2  # entries of a level have another mean lag
    return np.stack([before - longer, after + longer])
