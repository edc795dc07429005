"""The level of intensity of a series, as the last frames that belong to it tell."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Judgement: TypeAlias = Literal["", "low", "high", "pixel"]

MEMORY = 50
"""Frames that tell the level."""

FEWEST = 10
"""Frames from which on it is a level; as many that agree with one another are a new one."""

LOW, HIGH = 0.3, 3.0
"""Changes of intensity between these are no outliers."""

CLEAR = 8.0
"""Standard deviations by which an intensity must be off."""

BRIGHT = 20.0
"""A pixel brighter than the usual brightest one by this factor."""

FEW_COUNTS = 4.0
"""Counts of which the noise is taken where there are fewer."""

FEWEST_PIXELS = 50
"""Pixels of a ROI whose own intensity is looked at."""

MOST_LEVELS = 8
_NORMAL = 1.4826  # standard deviations in a median absolute deviation, for a normal distribution


@dataclass(slots=True)
class _Level:
    """Sums and largest pixels of the newest frames, and what follows from them."""

    sums: NDArray[np.float64]  # (MEMORY, n_group), a ring
    largest: NDArray[np.float64] = field(default_factory=lambda: np.zeros(MEMORY))
    n: int = 0
    middle: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))  # (n_group,)
    scatter: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    usual_largest: float = 0.0

    def take(self, sums: NDArray[np.float64], largest: float) -> None:
        place = self.n % MEMORY
        self.sums[place], self.largest[place] = sums, largest
        self.n += 1
        if self.n % FEWEST == 0:
            known = slice(0, min(self.n, MEMORY))
            self.middle = np.median(self.sums[known], axis=0)
            self.scatter = _NORMAL * np.median(np.abs(self.sums[known] - self.middle), axis=0)
            self.usual_largest = float(np.median(self.largest[known]))


class Levels:
    """The present level of intensity, and those that the series had before.

    Parameters
    ----------
    n_pixels
        Shape (n_roi,): pixels of each ROI.
    counts
        Whether intensities are counts, with counting statistics.

    Attributes
    ----------
    n_accepted
        How often ten frames in a row became a new level.
    """

    def __init__(self, n_pixels: NDArray[np.int64], *, counts: bool) -> None:
        self.n_accepted = 0
        self._counts = counts
        self._looked_at = n_pixels >= FEWEST_PIXELS
        self._n_group = int(self._looked_at.sum()) + 1
        self._now = self._empty()
        self._known = [self._now]
        self._away: list[tuple[NDArray[np.float64], float]] = []
        self._correlations = np.zeros(MEMORY)
        self._n_correlations = 0
        self._correlation = (0.0, 0.0)

    @property
    def total(self) -> float:
        """Intensity of all ROIs that a frame should have; 0 while nothing is known."""
        if len(self._now.middle):
            return float(self._now.middle[-1])
        return float(self._now.sums[: self._now.n, -1].mean()) if self._now.n else 0.0

    @property
    def correlation(self) -> tuple[float, float]:
        """Median and standard deviation of the correlation of adjacent frames; (0, 0) unknown."""
        return self._correlation

    def take(self, sums: NDArray[np.float64], largest: float) -> None:
        """Add a frame that belongs, `sums` (n_roi,)."""
        self._now.take(self._groups(sums), largest)

    def take_correlation(self, value: float) -> None:
        """Add the correlation of two adjacent frames that belong."""
        self._correlations[self._n_correlations % MEMORY] = value
        self._n_correlations += 1
        if self._n_correlations % FEWEST == 0:
            known = self._correlations[: min(self._n_correlations, MEMORY)]
            middle = float(np.median(known))
            self._correlation = (middle, _NORMAL * float(np.median(np.abs(known - middle))))

    def judge(self, sums: NDArray[np.float64], largest: float) -> Judgement:
        """Return what is wrong with the intensity of a frame with counts, "" if nothing is."""
        groups = self._groups(sums)
        verdict = self._against(self._now, groups, largest)
        if not verdict:
            self._away = []
            return ""
        for level in self._known[:-1]:
            if not self._against(level, groups, largest):
                self._known.remove(level)
                self._known.append(level)
                self._now, self._away = level, []
                return ""
        if self._away and not _agree(groups, self._away[-1][0]):
            self._away = []
        self._away.append((groups, largest))
        if len(self._away) < FEWEST:
            return verdict
        self._accept()
        return ""

    def _accept(self) -> None:
        """Make the frames that agreed with one another, without the last, the new level."""
        self._now = self._empty()
        self._known = [*self._known, self._now][-MOST_LEVELS:]
        for sums, largest in [*self._away[:-1], self._away[-2]]:
            self._now.take(sums, largest)
        self._away = []
        self.n_accepted += 1

    def _against(self, level: _Level, groups: NDArray[np.float64], largest: float) -> Judgement:
        if not len(level.middle):
            return ""
        counting = np.sqrt(np.maximum(level.middle, FEW_COUNTS)) if self._counts else 0.0
        noise = CLEAR * np.maximum(level.scatter, counting)
        away = groups - level.middle
        steady = level.scatter < level.middle / 2
        if steady[-1] and groups[-1] < LOW * level.middle[-1] and -away[-1] > noise[-1]:
            return "low"
        if (steady & (groups > HIGH * level.middle) & (away > noise)).any():
            return "high"
        usual = max(level.usual_largest, 1.0) if self._counts else level.usual_largest
        return "pixel" if largest > BRIGHT * usual > 0 else ""

    def _groups(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.append(sums[self._looked_at], sums.sum())

    def _empty(self) -> _Level:
        return _Level(np.zeros((MEMORY, self._n_group)))


def _agree(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether the intensities of all ROIs together are of one size."""
    return bool(0.5 * other[-1] < one[-1] < 2.0 * other[-1])
