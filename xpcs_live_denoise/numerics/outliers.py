"""Which frames of a series do not belong to it: decided frame by frame, from the pixels alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .levels import Levels

BELONGS = ""
DARK = "no counts before the first light"
BEAM_DUMP = "no counts (beam dump)"
DROP = "intensity far below its level"
BURST = "intensity far above its level"
COSMIC = "single pixels far above all others (cosmic hit)"
DUPLICATE = "the same as the frame before"
STRAY = "unlike both neighbours, which are alike"

CLEAR = 6.0
"""Standard deviations by which a correlation must be missing."""

SURE = 25.0
"""Counts that cannot be zero, or ln of odds that two frames cannot be equal, by chance."""

SAMPLE = 16384
"""Most pixels of a frame that are correlated with its neighbours."""


@dataclass(frozen=True, slots=True)
class _Frame:
    pixels: NDArray[Any]
    sums: NDArray[np.float64]
    largest: float
    pattern: NDArray[np.float32]
    power: float


class OutlierDetector:
    """Verdicts on the frames of one series, in their order.

    How the series is cut into blocks has no influence. A frame is compared with the last 50 that
    belong: all counts gone, fewer than 0.3 times or more than 3 times their median intensity (of a
    ROI of 50 pixels or more, or of all), a pixel 20 times brighter than their brightest ones. It
    is compared with its neighbours: equal to the one before, or uncorrelated with both while these
    are correlated with one another. Each must be beyond what counting statistics and the scatter
    of the frames before explain, so that few counts and fast dynamics flag nothing. Ten frames in
    a row that agree with one another are a new level, no outliers; a known level is one at once.

    Parameters
    ----------
    n_pixels
        Shape (n_roi,): pixels of each ROI, in the order in which frames hold them.
    counts
        Whether pixels are counts (integers), with counting statistics.

    Attributes
    ----------
    dawn
        Whether the first frame with counts had so many that those before it had none for a reason.
    """

    def __init__(self, n_pixels: NDArray[np.int64], *, counts: bool) -> None:
        self._n_pixels = n_pixels.astype(np.float64)
        self._counts = counts
        self._levels = Levels(n_pixels, counts=counts)
        step = max(1, -(-int(n_pixels.sum()) // SAMPLE))
        self._sample = slice(None, None, step)
        ends = -(-np.cumsum(n_pixels) // step)
        self._n_sampled = np.diff(ends, prepend=0)  # of each ROI
        self._before: _Frame | None = None  # the frame in front of the newest, if adjacent
        self._held: tuple[_Frame, str] | None = None
        self._differ = False  # whether two adjacent frames have ever differed
        self._lit = False
        self.dawn = False

    @property
    def new_levels(self) -> int:
        """How often a new level of intensity has been accepted."""
        return self._levels.n_accepted

    def see(self, pixels: NDArray[Any], sums: NDArray[np.float64], largest: float) -> list[str]:
        """Judge a frame.

        Parameters
        ----------
        pixels
            Shape (sum of n_pixels,). Copied where it is needed later.
        sums
            Shape (n_roi,): the sum over each ROI.
        largest
            The largest pixel.

        Returns
        -------
        list of str
            Verdicts on the frames that are decided now, in order: the frame that was held back, if
            there is one, then this one, unless it is held back itself until the next is there.
            BELONGS or the reason why not.
        """
        frame = self._frame(pixels, sums, largest)
        held, self._held = self._held, None
        twin = self._is_twin(frame, None if held is None else held[0])
        reason = self._by_itself(frame)
        verdicts: list[str] = []
        settled = False
        if held is not None:
            verdict = self._decide(*held, frame, twin=twin, good=not reason)
            verdicts.append(verdict)
            if not verdict:
                self._levels.take(held[0].sums, held[0].largest)
            settled = verdict == STRAY
            if not settled:
                self._before = held[0]
        if twin and not reason:
            reason = DUPLICATE if self._differ else BELONGS
            if not self._differ:
                self._held = (frame, DUPLICATE)
                return verdicts
        elif self._before is not None and not twin and frame.largest > 0:
            self._differ = True
        if not reason and not settled and self._is_suspicious(frame):
            self._held = (frame, STRAY)
            return verdicts
        if not reason:
            self._levels.take(frame.sums, frame.largest)
        self._before = frame if not reason or reason == DUPLICATE else None
        return [*verdicts, reason]

    def interrupt(self) -> list[str]:
        """Return the verdict on the frame held back, if any: frames are missing, or all came."""
        held, self._held, self._before = self._held, None, None
        if held is None:
            return []
        self._levels.take(held[0].sums, held[0].largest)
        return [BELONGS]

    # --- one frame -------------------------------------------------------------------------

    def _frame(self, pixels: NDArray[Any], sums: NDArray[np.float64], largest: float) -> _Frame:
        """Keep what later frames are compared with; the pattern is I / <I> - 1 of some pixels."""
        lit = sums > 0
        inverse = np.divide(self._n_pixels, sums, out=np.zeros_like(sums), where=lit)
        pattern = pixels[self._sample].astype(np.float32)
        pattern *= np.repeat(inverse.astype(np.float32), self._n_sampled)
        pattern -= 1 if lit.all() else np.repeat(lit.astype(np.float32), self._n_sampled)
        power = float(np.dot(pattern, pattern)) / len(pattern)
        return _Frame(pixels.copy(), sums, largest, pattern, power)

    def _by_itself(self, frame: _Frame) -> str:
        """Judge what needs no neighbour."""
        total = float(frame.sums.sum())
        if total == 0:
            if not self._lit:
                return DARK
            expected = self._levels.total
            return BEAM_DUMP if expected > (SURE if self._counts else 0) else BELONGS
        if not self._lit:
            self._lit = True
            self.dawn = total > SURE or not self._counts
        verdict = self._levels.judge(frame.sums, frame.largest)
        return {"": BELONGS, "low": DROP, "high": BURST, "pixel": COSMIC}[verdict]

    # --- neighbours ------------------------------------------------------------------------

    def _is_twin(self, frame: _Frame, held: _Frame | None) -> bool:
        """Whether a frame equals the one before, and that is no chance."""
        other = held or self._before
        if other is None or frame.largest != other.largest:
            return False
        if not np.array_equal(frame.sums, other.sums):
            return False
        if not np.array_equal(frame.pixels, other.pixels):
            return False
        if not self._counts:
            return bool((frame.pixels != frame.pixels[0]).sum() >= SURE)
        # Two Poisson numbers of mean m are equal with probability exp(-2 m) I0(2 m).
        mean = np.minimum(frame.sums / self._n_pixels, 100.0)
        surprise = self._n_pixels @ (2 * mean - np.log(np.i0(2 * mean)))
        return bool(surprise > 2 * SURE and frame.pixels.min() < frame.largest)

    def _is_suspicious(self, frame: _Frame) -> bool:
        """Whether the correlation with the frame before is missing; remember what it is."""
        before = self._before
        if before is None:
            return False
        value = self._correlation(before, frame)
        expected, scatter = self._levels.correlation
        noise = max(self._noise(before, frame), scatter)
        if value < expected / 2 and expected - value > CLEAR * noise:
            return True
        self._levels.take_correlation(value)
        return False

    def _decide(self, held: _Frame, doubt: str, after: _Frame, *, twin: bool, good: bool) -> str:
        """Return the verdict on the frame held back, now that the next is there."""
        if doubt == DUPLICATE:  # an image that never changes has no duplicates
            return BELONGS if twin or not good else DUPLICATE
        before = self._before
        if before is None or not good:
            return BELONGS
        across = self._correlation(before, after)
        sides = (self._correlation(before, held), self._correlation(held, after))
        noise = max(self._noise(before, held), self._noise(held, after), self._noise(before, after))
        missing = across - max(sides)
        stray = missing > across / 2 and missing > CLEAR * noise
        if not stray:  # the dynamics have changed
            self._levels.take_correlation(sides[0])
        return STRAY if stray else BELONGS

    def _correlation(self, one: _Frame, other: _Frame) -> float:
        return float(np.dot(one.pattern, other.pattern)) / len(one.pattern)

    def _noise(self, one: _Frame, other: _Frame) -> float:
        return float(np.sqrt(one.power * other.power / len(one.pattern)))
