"""The band of a series while it grows: its denoised values, and what has to be kept of it."""

from __future__ import annotations

import sys
from typing import Protocol

import numpy as np

from xpcs_live_denoise.numerics.any_size import GrowingRows, RowDenoiser
from xpcs_live_denoise.numerics.arrays import mean_or_nan
from xpcs_live_denoise.numerics.g2 import NOISE_REACH
from xpcs_live_denoise.numerics.windows import MEAN, SPREAD, WindowRows, WindowScaling
from xpcs_live_denoise.records.results import BandRows
from xpcs_live_denoise.records.types import FloatArray, IntArray

from .c2 import C2Analysis
from .paper_rows import PaperRows
from .profiled import ProfiledTwoTime

ADVANCE = 500  # frames after which a long series is brought up to date, published or not


class BandWriter(Protocol):
    """What takes the rows of a band that no longer change."""

    def write(self, rows: BandRows) -> None:
        """Take the next rows: they begin where those before ended."""
        ...


class GrowingBand:
    """The band of one series, denoised as far as windows are complete.

    While the series fits the map, windows are scaled by beta* and baseline* of their time, and
    nothing is forgotten. When more frames are about to come both are frozen, and all windows so far
    are denoised anew: from then on a row that has left every window is final. The paper's fits are
    made of final rows (`paper`), which are then forgotten, once they have been handed out and
    written. Its state is the windows blended so far, what is frozen, and how far rows have changed,
    are final and still needed.

    `writer` takes final rows. `is_published`: rows wait until `take` has handed them out.
    """

    def __init__(
        self,
        two_time: ProfiledTwoTime,
        of_c2: C2Analysis,
        *,
        writer: BandWriter | None = None,
        is_published: bool = True,
    ) -> None:
        self.paper: PaperRows | None = None  # of a long series
        self._two_time = two_time
        self._of_c2 = of_c2
        self._writer = writer
        self._is_published = is_published
        self._begin()
        self._due = two_time.map_frames

    def _begin(self) -> None:
        settings, n_roi = self._of_c2.settings, self._two_time.roi_map.n_roi
        ensemble = self._of_c2.ensemble
        self._denoised: WindowRows | GrowingRows | None = None
        if isinstance(ensemble, RowDenoiser):
            self._denoised = GrowingRows(ensemble, n_roi, settings.window)
        elif ensemble is not None:
            self._denoised = WindowRows(ensemble, n_roi, window=settings.window, step=settings.step)
        self._g2 = LagMeans(n_roi, settings.window)
        self._changed = 0  # rows from here on have changed since they were handed out
        self._needed = 0 if self._is_published else sys.maxsize  # what is published needs these
        self._n_final = 0

    @property
    def until_due(self) -> int:
        """How many frames may come before `keep_up` has to be called."""
        return self._due - self._two_time.n_frames

    def keep_up(self) -> None:
        """Freeze a series that will be longer than its map; bring a long one up to date.

        It is due at the same frames however a series is split: what is made then is final.
        """
        if self.paper is None:
            scaling = self._of_c2.scaling(self._two_time.c2)
            self.paper = PaperRows(self._of_c2.rates, scaling, self._two_time.n_frames)
            self._begin()
        self._due += ADVANCE
        self.advance()

    def advance(self) -> WindowScaling:
        """Denoise the windows that have become complete, and settle what is final.

        Returns how they are scaled.
        """
        if self.paper is None:
            scaling = self._of_c2.scaling(self._two_time.c2)
            self._denoise(scaling)
            return scaling
        scaling = self.paper.scaling
        self._denoise(scaling)
        made = self._denoised
        self._settle(self.paper, self._two_time.n_frames if made is None else made.n_final)
        return scaling

    def rows(self, start: int, stop: int) -> BandRows:
        """Return rows that are kept as they are now, a copy."""
        raw = self._two_time.band_rows(start, stop)[..., : self._of_c2.settings.window].copy()
        if (made := self._denoised) is None or not made.has_rows:
            return BandRows(start=start, stop=stop, c2=raw)
        return BandRows(
            start=start,
            stop=stop,
            c2=raw,
            denoised=made.rows(raw, start, MEAN),
            spread=made.rows(np.full_like(raw, np.nan), start, SPREAD) if made.has_spread else None,
        )

    def take(self, since: int) -> BandRows | None:
        """Return the rows that have changed since the last time, and those from `since` on."""
        start = max(min(self._changed, since), self._two_time.band_start)
        stop = self._two_time.n_frames
        rows = self.rows(start, stop) if start < stop else None
        self._changed = stop
        return rows

    def no_rows(self) -> BandRows:
        """Return the rows behind the last frame: none."""
        n = self._two_time.n_frames
        return self.rows(n, n)

    def release(self, before: int) -> None:
        """Say that of what has been handed out nothing before frame `before` is needed again."""
        if self._is_published:
            self._needed = min(before, self._n_final)  # the others are to be handed out again
        self._forget()

    def finish(self) -> BandRows:
        """Settle everything, the series is over; return the rows that are still there."""
        self.advance()
        rows = self.rows(self._two_time.band_start, self._two_time.n_frames)
        if self.paper is not None:
            self._settle(self.paper, self._two_time.n_frames, is_over=True)
        return rows

    def denoised_g2(self, edges: IntArray) -> FloatArray | None:
        """Return g2 of the final denoised rows in lag bins, (n_roi, n_bin), NaN beyond windows."""
        has_rows = self._denoised is not None and self._denoised.has_rows
        return self._g2.binned(edges) if has_rows else None

    # --- steps -----------------------------------------------------------------------------

    def _denoise(self, scaling: WindowScaling) -> None:
        if (made := self._denoised) is None:
            return
        band = self._two_time.band_rows(made.needs, self._two_time.n_frames)
        of_window = band[..., : self._of_c2.settings.window]
        self._changed = min(self._changed, made.advance(of_window, made.needs, scaling))

    def _settle(self, paper: PaperRows, stop: int, *, is_over: bool = False) -> None:
        """Take what has become final, the rows before `stop`, and forget what nobody needs."""
        if stop > self._n_final:
            rows = self.rows(self._n_final, stop)
            if (made := self._denoised) is not None and made.has_rows:
                self._g2.add(made.rows(np.full_like(rows.c2, np.nan), rows.start, MEAN))
            if self._writer is not None:
                self._writer.write(rows)
            self._n_final = stop
        raw = self._two_time.band_rows(self._two_time.band_start, stop)
        # An age is ripe when all rows that it is cut from and that tell its noise are final.
        until = stop if is_over else stop - NOISE_REACH - raw.shape[-1] // 2
        if until > paper.next_age:
            start = max(self._two_time.band_start, paper.next_age - self._reach)
            rows = self.rows(start, stop)
            raw = self._two_time.band_rows(start, stop)
            step = self._two_time.age_sums.row_frames
            paper.add(raw, rows.denoised, start, until, step)
        self._forget()

    @property
    def _reach(self) -> int:
        """Frames before an age whose rows are needed to fit it: its noise, and its windows'."""
        return max(NOISE_REACH, self._of_c2.settings.window)

    def _forget(self) -> None:
        if self.paper is not None:
            before = min(self._n_final, self.paper.next_age - self._reach, self._needed)
            if self._denoised is not None:
                before = min(before, self._denoised.needs)
                self._denoised.release(before)
            self._two_time.release(before)


class LagMeans:
    """Means of a denoised band along its lags; its state is sums and numbers, (n_roi, window)."""

    def __init__(self, n_roi: int, window: int) -> None:
        self._total = np.zeros((n_roi, window))
        self._number = np.zeros((n_roi, window))

    def add(self, denoised: FloatArray) -> None:
        """Add rows, (n_roi, k, window); what no window has reached, NaN, does not count."""
        counted = np.isfinite(denoised)
        self._total += np.where(counted, denoised, 0.0).sum(axis=1, dtype=np.float64)
        self._number += counted.sum(axis=1)

    def binned(self, edges: IntArray) -> FloatArray:
        """Return the means over lag bins, (n_roi, n_bin); NaN for one with lags beyond the band."""
        window = self._total.shape[1]
        means = np.full((len(self._total), len(edges) - 1), np.nan)
        inside = edges[1:] <= window
        first = edges[:-1][inside]
        if first.size:
            stop = int(edges[1:][inside][-1])
            total, number = (
                np.add.reduceat(values[:, :stop], first, axis=1)
                for values in (self._total, self._number)
            )
            means[:, inside] = mean_or_nan(total, number)
        return means
