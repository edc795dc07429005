"""Rows of the estimator while a series grows, and at its end."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpcs_live_denoise.numerics.estimator.sums import AgeSums
from xpcs_live_denoise.numerics.estimator.ages import BayesEstimator
from xpcs_live_denoise.numerics.estimator.cuts import SeriesFit
from .rates import RateFitter
from xpcs_live_denoise.records.results import GammaTable

# Source of rows that are said early, with fewer frames behind them.
BAYES_EARLY = "bayes_early"
# Frames behind an age when it is said early, and most rows of either kind in one publication.
EARLY_DELAY, LIVE_ROWS = 12, 40


class BayesRates:
    """Rows of the live estimator: of every age at the end, of some as they get ripe.

    Its state is one estimator a ROI, and the first age that was not said early.

    Parameters
    ----------
    fitter
        Makes rows of estimates.

    Attributes
    ----------
    series
        The newest fit of the whole series of each ROI.
    """

    def __init__(self, fitter: RateFitter) -> None:
        self._fitter = fitter
        self._estimators = [BayesEstimator(roi) for roi in range(fitter.rois.n_roi)]
        self.series: list[SeriesFit | None] = [None] * fitter.rois.n_roi
        self._next_early = 0

    def final(self, sums: AgeSums) -> GammaTable:
        """Return a row for every ROI and age, from nothing but the whole series."""
        fresh = BayesRates(self._fitter)
        table = fresh._rows(sums, np.arange(sums.n_frames), remember=True)
        self.series = fresh.series
        return table

    def live(self, sums: AgeSums, first: int, last: int) -> GammaTable:
        """Return rows of ages in [first, last), which are ripe, and early ones of younger ages.

        Where many ages got ripe at once, rows are spread evenly over them and the newest is
        always there: a publication must not take longer the faster frames come. finish() has all.
        """
        n_each = max(1, LIVE_ROWS // len(self._estimators))
        early = self._rows(
            sums,
            _spread(max(last, self._next_early), sums.n_frames - EARLY_DELAY + 1, n_each),
            remember=False,
        )
        self._next_early = max(self._next_early, sums.n_frames - EARLY_DELAY + 1)
        ripe = self._rows(sums, _spread(first, last, n_each), remember=True)
        return GammaTable.concatenate([ripe, early.replace(source=BAYES_EARLY)])

    def _rows(self, sums: AgeSums, ages: NDArray[Any], *, remember: bool) -> GammaTable:
        tables: list[GammaTable] = []
        for roi, one in enumerate(self._estimators):
            estimates = one.estimate(sums, ages, remember=remember)
            self.series[roi] = estimates.series
            tables.append(self._fitter.bayes(estimates, roi))
        return GammaTable.concatenate(tables)


def _spread(first: int, last: int, most: int) -> NDArray[Any]:
    """Return at most `most` of the ages in [first, last), the last one always."""
    n = max(last - first, 0)
    steps = np.arange(min(n, most))
    return last - 1 - steps[::-1] * n // max(min(n, most), 1)
