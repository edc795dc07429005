"""Cuts of one ROI that are final while the series runs: each row once, when its lags are there."""

from __future__ import annotations

import numpy as np

from xpcs_live_denoise.records.types import concatenate_rows, select_rows

from .ages import AgeEstimates, BayesEstimator, coarser
from .grid import kww_grid
from .sums import AgeSums

# Frames of a series that tell contrast and baseline well enough: Gamma made then differs from that
# of the whole series by a tenth of its error or less, mostly. A shorter one is fitted at its end.
FIRST_FRAMES = 3000
# Frames that must have come after a row, and in units of 1/Gamma: lags reach twice as far.
DELAY, _DECAYS = 1000, 10.0
# Rows that are made for each new frame, of so many frames at a time, so that those that wait do not
# come all at once; and fewest rows that are worth a call.
_ROWS_A_FRAME, _MOST_FRAMES, _LEAST_ROWS = 0.5, 500, 16


class FinalCuts:
    """Final estimates of one ROI, `roi` its index in the sums.

    Its state is what was estimated while a long series ran, rows 0, 1, 2 ... in order. When rows
    become twice as long, two estimates become their mean. `finish` adds the rows that are missing:
    all of them, with a fit of the whole series, if there was no `advance`.
    """

    def __init__(self, roi: int) -> None:
        self._roi = roi
        self._estimator = BayesEstimator(roi)
        self._made: AgeEstimates | None = None
        self._row_frames = 1
        self._delay = float(DELAY)
        self._n_frames = 0  # at the last call
        self._most = 0.0  # rows that may be made

    def advance(self, sums: AgeSums) -> None:
        """Estimate rows that are ripe, with contrast and baseline of the series so far."""
        n, size = sums.n_frames, sums.row_frames
        if n < FIRST_FRAMES:
            return
        self._merge(size)
        self._most += _ROWS_A_FRAME * min(n - self._n_frames, _MOST_FRAMES)
        self._n_frames = n
        first = self._n_made
        stop = min(int((n - self._delay) // size), first + int(self._most))
        if stop - first < _LEAST_ROWS:
            return
        self._most -= stop - first
        found = self._estimator.estimate(sums, np.arange(first, stop))
        seen = (n - found.age) * np.exp(found.fits.ln_rate)  # in units of 1/Gamma
        self._delay = max(DELAY, _DECAYS * float((n - found.age[-1]) / max(seen[-1], 1e-9)))
        early = np.flatnonzero(~(seen > _DECAYS / 2))
        if early.size:  # slower than rows before it: once more, later
            found = select_rows(found, slice(0, int(early[0])))
        self._made = found if self._made is None else concatenate_rows([self._made, found])

    def finish(self, sums: AgeSums) -> AgeEstimates:
        """Return the estimates of all rows."""
        self._merge(sums.row_frames)
        series = BayesEstimator(self._roi).series(sums, kww_grid(*sums.lag_bins()))
        rows = np.arange(self._n_made, sums.n_rows)
        made = [] if self._made is None else [self._made]
        return self._estimator.estimate(sums, rows, remember=False, series=series, before=made)

    @property
    def _n_made(self) -> int:
        return 0 if self._made is None else len(self._made.row)

    def _merge(self, row_frames: int) -> None:
        """Make of what there is rows of so many frames."""
        if row_frames != self._row_frames and self._made is not None:
            self._made = coarser(self._made, row_frames // self._row_frames, row_frames)
        self._row_frames = row_frames
