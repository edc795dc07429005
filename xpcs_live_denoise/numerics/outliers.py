"""Which frames of a series do not belong to it: decided frame by frame, from the pixels alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xpcs_live_denoise.records.types import Array, FloatArray, IntArray

BELONGS = ""
DARK = "no counts before the first light"
BEAM_DUMP = "no counts (beam dump)"
DROP = "intensity far below its level"
BURST = "intensity far above its level"
COSMIC = "single pixels far above all others (cosmic hit)"
DUPLICATE = "the same as the frame before"
STRAY = "unlike both neighbours, which are alike"

CLEAR = 6.0  # standard deviations by which a correlation must be missing
SURE = 25.0  # counts that cannot be zero, or ln of odds that two frames cannot be equal, by chance
CLEARLY_LIT = 4.0  # times the largest sum that noise has: a beam that is on, where noise hides it
SAMPLE = 16384  # most pixels of a frame that are correlated with its neighbours


@dataclass(frozen=True, slots=True)
class _Frame:
    pixels: Array
    sums: FloatArray
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

    `n_pixels` (n_roi,) are the pixels of each ROI, in the order in which frames hold them; `counts`
    says whether pixels are counts (integers), with counting statistics. `dawn` is whether the first
    frame with counts had so many that those before it had none for a reason.
    """

    def __init__(self, n_pixels: IntArray, *, counts: bool) -> None:
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

    def see(self, pixels: Array, sums: FloatArray, largest: float, noise: float = 0.0) -> list[str]:
        """Judge a frame: its pixels, the sum over each ROI (n_roi,), its largest pixel.

        `noise` is the standard deviation that the sum over all has without any light, 0 where that
        is without counts. Pixels, (sum of n_pixels,), are copied where they are needed later.
        Returns verdicts on the
        frames that are decided now, in order: the frame that was held back, if there is one, then
        this one, unless it is held back itself until the next is there. BELONGS or the reason why
        not.
        """
        frame = self._frame(pixels, sums, largest)
        dark = CLEAR * noise
        held, self._held = self._held, None
        twin = self._is_twin(frame, None if held is None else held[0])
        reason = self._by_itself(frame, dark)
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

    def _frame(self, pixels: Array, sums: FloatArray, largest: float) -> _Frame:
        """Keep what later frames are compared with; the pattern is I / <I> - 1 of some pixels."""
        lit = sums > 0
        inverse = np.divide(self._n_pixels, sums, out=np.zeros_like(sums), where=lit)
        pattern = pixels[self._sample].astype(np.float32)
        pattern *= np.repeat(inverse.astype(np.float32), self._n_sampled)
        pattern -= 1 if lit.all() else np.repeat(lit.astype(np.float32), self._n_sampled)
        power = float(np.dot(pattern, pattern)) / len(pattern)
        return _Frame(pixels.copy(), sums, largest, pattern, power)

    def _by_itself(self, frame: _Frame, dark: float) -> str:
        """Judge what needs no neighbour; a sum up to `dark` is none."""
        total = float(frame.sums.sum())
        clear = SURE if self._counts else CLEARLY_LIT * dark
        if total <= dark:
            if not self._lit:
                return DARK
            return BEAM_DUMP if self._levels.total > clear else BELONGS
        if not self._lit:
            self._lit = True
            self.dawn = total > clear
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


Judgement: TypeAlias = Literal["", "low", "high", "pixel"]

MEMORY = 50  # frames that tell the level
FEWEST = 10  # frames from which on it is a level; as many that agree with one another are a new one
LOW, HIGH = 0.3, 3.0  # changes of intensity between these are no outliers
CLEAR_OF_LEVEL = 8.0  # standard deviations by which an intensity must be off
BRIGHT = 20.0  # A pixel brighter than the usual brightest one by this factor
FEW_COUNTS = 4.0  # counts of which the noise is taken where there are fewer
FEWEST_PIXELS = 50  # pixels of a ROI whose own intensity is looked at
MOST_LEVELS = 8
_NORMAL = 1.4826  # standard deviations in a median absolute deviation, for a normal distribution


@dataclass(slots=True)
class _Level:
    """Sums and largest pixels of the newest frames, and what follows from them."""

    sums: FloatArray  # (MEMORY, n_group), a ring
    largest: FloatArray = field(default_factory=lambda: np.zeros(MEMORY))
    n: int = 0
    middle: FloatArray = field(default_factory=lambda: np.zeros(0))  # (n_group,)
    scatter: FloatArray = field(default_factory=lambda: np.zeros(0))
    usual_largest: float = 0.0

    def take(self, sums: FloatArray, largest: float) -> None:
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

    `n_accepted` is how often ten frames in a row became a new level.
    """

    def __init__(self, n_pixels: IntArray, *, counts: bool) -> None:
        self.n_accepted = 0
        self._counts = counts
        self._looked_at = n_pixels >= FEWEST_PIXELS
        self._n_group = int(self._looked_at.sum()) + 1
        self._now = self._empty()
        self._known = [self._now]
        self._away: list[tuple[FloatArray, float]] = []
        self._correlations = np.zeros(MEMORY)
        self._n_correlations = 0
        # Median and standard deviation of the correlation of adjacent frames; (0, 0) unknown.
        self.correlation = (0.0, 0.0)

    @property
    def total(self) -> float:
        """Intensity of all ROIs that a frame should have; 0 while nothing is known."""
        if len(self._now.middle):
            return float(self._now.middle[-1])
        return float(self._now.sums[: self._now.n, -1].mean()) if self._now.n else 0.0

    def take(self, sums: FloatArray, largest: float) -> None:
        """Add a frame that belongs, `sums` (n_roi,)."""
        self._now.take(self._groups(sums), largest)

    def take_correlation(self, value: float) -> None:
        """Add the correlation of two adjacent frames that belong."""
        self._correlations[self._n_correlations % MEMORY] = value
        self._n_correlations += 1
        if self._n_correlations % FEWEST == 0:
            known = self._correlations[: min(self._n_correlations, MEMORY)]
            middle = float(np.median(known))
            self.correlation = (middle, _NORMAL * float(np.median(np.abs(known - middle))))

    def judge(self, sums: FloatArray, largest: float) -> Judgement:
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

    def _against(self, level: _Level, groups: FloatArray, largest: float) -> Judgement:
        if not len(level.middle):
            return ""
        counting = np.sqrt(np.maximum(level.middle, FEW_COUNTS)) if self._counts else 0.0
        noise = CLEAR_OF_LEVEL * np.maximum(level.scatter, counting)
        away = groups - level.middle
        steady = level.scatter < level.middle / 2
        if steady[-1] and groups[-1] < LOW * level.middle[-1] and -away[-1] > noise[-1]:
            return "low"
        if (steady & (groups > HIGH * level.middle) & (away > noise)).any():
            return "high"
        usual = max(level.usual_largest, 1.0) if self._counts else level.usual_largest
        return "pixel" if largest > BRIGHT * usual > 0 else ""

    def _groups(self, sums: FloatArray) -> FloatArray:
        groups = np.empty(self._n_group)
        groups[:-1], groups[-1] = sums[self._looked_at], sums.sum()
        return groups

    def _empty(self) -> _Level:
        return _Level(np.zeros((MEMORY, self._n_group)))


def _agree(one: FloatArray, other: FloatArray) -> bool:
    """Whether the intensities of all ROIs together are of one size."""
    return bool(0.5 * other[-1] < one[-1] < 2.0 * other[-1])
