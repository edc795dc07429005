"""Cuts of one ROI that are final while the series runs: each row once, when its lags are there."""

from __future__ import annotations

import dataclasses

import numpy as np

from xpcs_live_denoise.records.types import IntArray, concatenate_rows, select_rows

from .ages import AgeEstimates, BayesEstimator
from .grid import kww_grid
from .sums import AgeSums

# Frames of a series that tell contrast and baseline well enough: Gamma made then differs from that
# of the whole series by a tenth of its error or less, mostly. A shorter one is fitted at its end.
FIRST_FRAMES = 3000
# Frames that must have come after a row, and in units of 1/Gamma: lags reach twice as far. A row is
# final with the lags that it has when it has waited for so many frames, or rows of the sums: where
# Gamma is slow, or cannot be told, nothing would be final before the end.
DELAY, _DECAYS = 500, 10.0
LONGEST_DELAY, _MOST_ROWS = 1000, 64
# Frames and rows of the sums from one row to the next, at least, where rows hold several frames:
# neighbours are much alike, and the path has every row.
_APART, _APART_ROWS = 32, 4
# Frames that are made up for with each new one, of so many at a time, so that those that wait do
# not come all at once; and fewest rows that are worth a call.
_MADE_UP, _MOST_FRAMES, _LEAST_ROWS = 2, 500, 16


def rows_apart(row_frames: int) -> int:
    """Return how many rows of the sums lie between the first frames of two that are estimated."""
    return 1 if row_frames == 1 else max(_APART // row_frames, _APART_ROWS)


def estimated_rows(first: int, stop: int, row_frames: int) -> IntArray:
    """Return which rows of the sums from `first` up to `stop` cuts are estimated at."""
    apart = rows_apart(row_frames)
    return np.arange(-(-first // apart) * apart, stop, apart, dtype=np.int64)


class FinalCuts:
    """Final estimates of one ROI, `roi` its index in the sums.

    Its state is what was estimated while a long series ran, in order of age: every row of the sums
    while these hold a frame each, else every fourth at most, 32 frames apart at least. When rows
    become twice as long, every second estimate is kept. `finish` adds the rows that are missing:
    all of them, with a fit of the whole series, if there was no `advance`.
    """

    def __init__(self, roi: int) -> None:
        self._roi = roi
        self._estimator = BayesEstimator(roi)
        self._made: AgeEstimates | None = None
        self._row_frames = 1
        self._next = 0  # frame from which on rows are missing
        self._delay = float(DELAY)
        self._n_frames = 0  # at the last call
        self._most = 0.0  # frames that may be made up for

    def advance(self, sums: AgeSums) -> None:
        """Estimate rows that are ripe, with contrast and baseline of the series so far."""
        n, size = sums.n_frames, sums.row_frames
        if n < FIRST_FRAMES:
            return
        self._merge(size)
        self._most += _MADE_UP * min(n - self._n_frames, _MOST_FRAMES)
        self._n_frames = n
        stop = min(n - self._delay, self._next + self._most)
        rows = estimated_rows(-(-self._next // size), int(stop // size), size)
        if len(rows) < _LEAST_ROWS:
            return
        found = self._estimator.estimate(sums, rows)
        since = n - found.age
        seen = since * np.exp(found.fits.ln_rate)  # in units of 1/Gamma
        longest = max(LONGEST_DELAY, _MOST_ROWS * size)
        slow = _DECAYS * float(since[-1] / max(seen[-1], 1e-9))
        self._delay = min(max(DELAY, slow), longest)
        early = np.flatnonzero(~(seen > _DECAYS / 2) & (since < longest))
        if early.size:  # slower than rows before it: once more, later
            found = select_rows(found, slice(0, int(early[0])))
        apart = rows_apart(size) * size
        self._most -= apart * len(rows)
        self._next += apart * len(found.row)
        self._made = found if self._made is None else concatenate_rows([self._made, found])

    def finish(self, sums: AgeSums) -> AgeEstimates:
        """Return the estimates of all rows."""
        self._merge(sums.row_frames)
        series = BayesEstimator(self._roi).series(sums, kww_grid(*sums.lag_bins()))
        rows = estimated_rows(-(-self._next // sums.row_frames), sums.n_rows, sums.row_frames)
        made = [] if self._made is None else [self._made]
        return self._estimator.estimate(sums, rows, remember=False, series=series, before=made)

    def _merge(self, row_frames: int) -> None:
        """Keep of what there is the rows that are estimated where they hold so many frames."""
        if row_frames == self._row_frames:
            return
        apart = rows_apart(row_frames) * row_frames
        if self._made is not None:
            first = self._made.row * self._row_frames
            kept = select_rows(self._made, first % apart == 0)
            self._made = dataclasses.replace(kept, row=first[first % apart == 0] // row_frames)
        self._next = -(-self._next // apart) * apart
        self._row_frames = row_frames
