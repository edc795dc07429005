"""The path of one ROI in sections of short rows, made while a series runs: for fast changes."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from xpcs_live_denoise.records.types import FloatArray, concatenate_rows, select_rows

from .ages import MOST_MISFIT, BayesEstimator
from .cuts import fit_rates
from .grid import kww_grid
from .path import (
    MOST_KNOTS,
    VAGUE_ALPHA,
    PathEstimate,
    PathSearch,
    begin,
    estimate_path,
    middles,
    of_part,
)
from .path_cells import path_cells
from .sums import AgeSums

# Rows of a section, and those at either end of it that its neighbours tell better.
LENGTH, MARGIN = MOST_KNOTS, 128
# A first look has knots of so many rows. Where ln Gamma changes from one to the next by more than
# twice this share of its error, in the mean of squares, every row becomes a knot.
_LOOK_ROWS, _ROUGH = 5, 0.2
# ln alpha of a section differs from that of the one before by as much.
_ALPHA_STEP = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class _Section:
    """What one section tells of the frames [first, stop)."""

    first: int
    stop: int
    is_rough: bool  # each of its rows was a knot
    path: PathEstimate  # at one age for each row of the sums

    @property
    def ln_alpha(self) -> tuple[float, float]:
        """What is known of ln alpha of the next section."""
        return float(self.path.shared[0]), math.hypot(self.path.shared_error[0], _ALPHA_STEP)


class FinalPath:
    """The path of one ROI, `roi` its index in the sums, in sections that overlap.

    A path of the whole series has at most 512 knots, the wider the longer the series is: enough
    where Gamma changes slowly, not where it changes within a knot. So a section of 512 rows is
    looked at when its frames are there, and their rows have not been added up yet. Where Gamma
    changes from row to row, each of them becomes a knot. Contrast and baseline are those of the
    series so far, alpha about that of the section before. A section needs no other frames than its
    own, and is final at once.

    Its state is the sections so far, with an age for each row of the sums: when these become twice
    as long, every second one is kept. `finish` consumes nothing.
    """

    def __init__(self, roi: int) -> None:
        self._roi = roi
        self._estimator = BayesEstimator(roi)
        self._made: list[_Section] = []
        self._row_frames = 1

    def advance(self, sums: AgeSums) -> None:
        """Make the sections that are complete; to be called when the first of them is."""
        self._thin(sums.row_frames)
        while (one := self._next(sums, self._made)) is not None:
            if self._made:  # only the last one leads to the next
                self._made[-1] = _without_search(self._made[-1])
            self._made.append(one)

    def finish(self, sums: AgeSums, whole: PathEstimate) -> list[PathEstimate]:
        """Return the path of all rows: `whole` where that is smooth, of sections elsewhere."""
        self._thin(sums.row_frames)
        made = list(self._made)
        while (one := self._next(sums, made)) is not None:
            made.append(one)
        if (one := self._next(sums, made, is_last=True)) is not None:
            made.append(one)
        if not made or made[-1].stop < sums.n_frames:
            return [whole]
        converged = np.array([one.path.converged for one in made])
        own = np.array([one.is_rough or _is_rough(whole, one) for one in made]) & converged
        if not whole.converged or whole.misfit > MOST_MISFIT:
            own = converged
        if not own.any():
            return [whole]
        joined = _joined([one for one, is_own in zip(made, own, strict=True) if is_own], whole)
        there = np.isin(whole.age // sums.row_frames, joined.age // sums.row_frames)
        return [joined] if there.all() else [joined, select_rows(whole, ~there)]

    # --- one section -----------------------------------------------------------------------

    def _next(
        self, sums: AgeSums, made: list[_Section], *, is_last: bool = False
    ) -> _Section | None:
        """Return the section after those that were made; None if it is not complete.

        The last one is made of the last frames of the series.
        """
        n, first = sums.n_frames, made[-1].stop if made else 0
        size = sums.rows_from(first).row_frames
        start = max(first // size - MARGIN, 0) * size
        end = start + LENGTH * size
        stop = end - MARGIN * size
        if is_last:
            start, end, stop = max(-(-n // size) - LENGTH, 0) * size, n, n
        fine = sums.rows_from(start)
        if end > n or stop <= first or fine.row_frames != size or n <= LENGTH * size:
            return None
        before = made[-1] if made else None
        series = self._estimator.series(sums, grid := kww_grid(*sums.lag_bins()))
        rows = np.arange(first // sums.row_frames, -(-stop // sums.row_frames))
        ages = sums.ages(rows)
        ages = ages[(ages >= first) & (ages < stop)]
        prior = of_part(series)
        ln_alpha = before.ln_alpha if before else VAGUE_ALPHA
        typical = fit_rates(sums.series(self._roi), grid, series.prior)[0]
        search: PathSearch | None = before.path.search if before else None
        inflation = None if sums.n_block else 1.0

        def path(step: int, search: PathSearch | None) -> PathEstimate:
            cells = path_cells(fine, self._roi, start, end, step)
            at = middles(cells)
            known = np.full(len(at), typical[0]) if search is None else search.at(at)
            begun = begin(cells, known, prior)
            if search is not None:
                begun = dataclasses.replace(begun, prior=search.prior, inflation=search.inflation)
            return estimate_path(
                cells, begun, prior, ages, known_inflation=inflation, ln_alpha=ln_alpha
            )

        found = path(_LOOK_ROWS, search)
        is_rough = found.converged and _exceeds(np.diff(found.search.ln_rate), found)
        if is_rough:
            found = path(1, found.search)
        return _Section(first=first, stop=stop, is_rough=is_rough, path=found)

    def _thin(self, row_frames: int) -> None:
        """Keep one age for each row of the sums."""
        if row_frames == self._row_frames:
            return
        self._row_frames, last = row_frames, -1
        for k, one in enumerate(self._made):
            row, kept = np.unique(one.path.age // row_frames, return_index=True)
            kept = kept[row > last]  # a row may have begun in the section before
            last = max(last, row.max(initial=-1))
            self._made[k] = dataclasses.replace(one, path=select_rows(one.path, kept))


def _exceeds(changes: FloatArray, path: PathEstimate) -> bool:
    """Whether ln Gamma changes from knot to knot by so much that narrower ones would tell more."""
    error = np.mean(path.ln_rate_error**2)
    return bool(len(changes) and np.mean(changes**2) > (2 * _ROUGH) ** 2 * error)


def _is_rough(whole: PathEstimate, section: _Section) -> bool:
    """Whether knots of the whole series are too wide within a section."""
    search = whole.search
    first = max((section.first - search.first) // search.step - 1, 0)
    stop = -(-(section.stop - search.first) // search.step) + 1
    return _exceeds(np.diff(search.ln_rate[first:stop]), section.path)


def _without_search(section: _Section) -> _Section:
    search = section.path.search
    short = dataclasses.replace(search, state=search.state[len(search.ln_rate) :])
    return dataclasses.replace(section, path=dataclasses.replace(section.path, search=short))


def _joined(sections: list[_Section], whole: PathEstimate) -> PathEstimate:
    """Return the rows of sections as one path; what frames share is their weighted mean."""
    paths = [one.path for one in sections]
    frames = np.array([one.stop - one.first for one in sections], np.float64)
    share = frames / frames.sum()

    def mean(values: list[float]) -> float:
        return float(share @ np.array(values))

    errors = np.stack([one.shared_error for one in paths])
    weights = frames[:, np.newaxis] / errors**2
    weights /= weights.sum(axis=0)
    shared = (weights * np.stack([one.shared for one in paths])).sum(axis=0)
    return dataclasses.replace(
        concatenate_rows(paths),
        shared=shared,
        shared_error=(weights * errors).sum(axis=0),
        mean_error=math.sqrt(float(share**2 @ np.array([one.mean_error**2 for one in paths]))),
        misfit=mean([one.misfit for one in paths]),
        drift=whole.drift,
        drift_error=whole.drift_error,
        reduced_chi_square=mean([one.reduced_chi_square for one in paths]),
        n_lags=max(one.n_lags for one in paths),
    )
