"""C2 of one ROI in cells of age and lag, laid over the knots of a path of Gamma."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xpcs_live_denoise.records.types import FloatArray, IntArray

from .sums import AgeSums

_LEAST_VARIANCE = 1e-13  # of an entry of C2, near 1 and known to 1e-7 in single precision


@dataclass(frozen=True, slots=True, kw_only=True)
class PathCells:
    """Means of C2 - 1 of one ROI by age row and lag bin, laid over the knots of a path.

    Knot k is the time from frame `first` + k `step` on, `step` frames long; its nodes are k, where
    it begins, and k + 1. A cell's two times lie between nodes.
    """

    first: int
    n_frames: int
    step: int
    n_knot: int
    n_row: int
    n_bin: int
    row: IntArray  # (n,): the age row of each cell, and
    bin: IntArray  # (n,): its lag bin
    place: FloatArray  # (n,): where the age lies in the stretch, -1 at its begin to 1 at its end
    value: FloatArray  # (n,)
    weight: FloatArray  # (n,): inverse variance if the entries of a cell were independent
    left_out: FloatArray | None  # (n_block, n): without one pixel block, less `value`
    node: IntArray  # (2, n): the node before either time
    share: FloatArray  # (2, n): how far either time is on the way to the next node, 0 to 1

    def decay(self, passed: FloatArray) -> FloatArray:
        """Return S of every cell, (n,), from the integral of Gamma up to each node."""
        at = passed[self.node] + self.share * (passed[self.node + 1] - passed[self.node])
        return at[1] - at[0]


def path_cells(sums: AgeSums, roi: int, first: int, stop: int, step: int) -> PathCells:
    """Lay the sums of one ROI, frames [first, stop), over knots of `step` frames, an odd number."""
    half = step // 2
    centres = np.arange(first + half, stop, step)
    cuts = sums.cuts(roi, centres, step)
    edges = cuts.edges
    last = edges[1:] - 1
    fits = (centres[:, np.newaxis] - half - last // 2 >= first) & (
        centres[:, np.newaxis] + half + (last + 1) // 2 < stop
    )
    # A cell of which gaps left less than half has another mean lag than its bin.
    enough = cuts.n_entries >= 0.5 * step * np.diff(edges)
    row, col = np.nonzero(fits & enough & np.isfinite(cuts.noise)[:, np.newaxis])
    value = cuts.mean[row, col]
    n_knot = max(-(-(stop - first - 1) // step), 1)
    lag = np.arange(1, int(edges[-1]), dtype=np.int64)
    before, after = (
        np.add.reduceat(frames, edges[:-1] - 1) / np.diff(edges)
        for frames in (-(lag // 2), (lag + 1) // 2)
    )
    longer = (cuts.lag - (after - before)) / 2  # entries of a level have another mean lag
    before, after = before - longer, after + longer
    times = np.stack([before[col], after[col]]) + centres[row] - first
    node = np.minimum(times // step, n_knot - 1).astype(np.int32)
    share = times / step - node
    return PathCells(
        first=first,
        n_frames=stop - first,
        step=step,
        n_knot=n_knot,
        n_row=len(centres),
        n_bin=len(edges) - 1,
        row=row,
        bin=col,
        place=2 * row / max(len(centres) - 1, 1) - 1,
        value=value,
        weight=cuts.n_entries[row, col] / np.maximum(cuts.noise, _LEAST_VARIANCE)[row],
        left_out=None
        if cuts.left_out is None
        else np.ascontiguousarray(cuts.left_out[:, row, col] - value),
        node=node,
        share=share,
    )
