"""Which frames of a series do not belong to it: decided frame by frame, from the pixels alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.records.types import Array, BoolArray, FloatArray, IntArray

from .rois import RoiMap

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

    def see(self, pixels: Array, sums: FloatArray, largest: float) -> list[str]:
        """Judge a frame: its pixels, the sum over each ROI (n_roi,), its largest pixel.

        Pixels, (sum of n_pixels,), are copied where they are needed later. Returns verdicts on the
        frames that are decided now, in order: the frame that was held back, if there is one, then
        this one, unless it is held back itself until the next is there. BELONGS or the reason why
        not.
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

    def _frame(self, pixels: Array, sums: FloatArray, largest: float) -> _Frame:
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
        return np.append(sums[self._looked_at], sums.sum())

    def _empty(self) -> _Level:
        return _Level(np.zeros((MEMORY, self._n_group)))


def _agree(one: FloatArray, other: FloatArray) -> bool:
    """Whether the intensities of all ROIs together are of one size."""
    return bool(0.5 * other[-1] < one[-1] < 2.0 * other[-1])


FEW = 0.01  # fraction of a ROI's pixels that may turn bad in a frame that is still used
# A frame with more bad pixels does not tell which of them are bad for good, unless all do so.
MOST_BAD = 0.5
PATIENCE = 5  # frames with more bad pixels before one is believed
FEWEST_LEFT = 2  # pixels that a ROI needs
_SIXTEEN_BIT = 65535
_NEGATIVE_IS_DATA = 0.1


class BadPixels:
    """Which pixels of a series are bad: for good, or in single frames. Learns from one frame.

    A pixel is bad where it is NaN or infinite, negative, or the largest number of its integer
    dtype, which DECTRIS and others write for masked and saturated pixels. In integers wider than
    16 bits, 65535 is bad in the frame it learns from: 16-bit frames that were converted. Negative
    floating point numbers are data where more than a tenth of the pixels is negative (a background
    was subtracted). `roi_map` are the ROIs, without the pixels that are bad for good once `learn`
    has seen a frame.
    """

    def __init__(self, roi_map: RoiMap) -> None:
        self.roi_map = roi_map
        self.n_bad = 0
        self._keep: BoolArray | None = None
        self._negative_is_data = False
        self._n_refused = 0

    def learn(self, frame: Array) -> bool:
        """Take the first frame, (n_pixels,); False if it is too bad to learn from.

        A frame with more than half of its pixels bad is taken if five of the kind came before.
        Raises InvalidInputError when a ROI is left with fewer than two pixels.
        """
        if frame.dtype.kind == "f":
            self._negative_is_data = bool((frame < 0).mean() > _NEGATIVE_IS_DATA)
        bad = self._bad(frame)
        if frame.dtype.kind in "ui" and frame.dtype.itemsize > 2:
            bad |= frame == _SIXTEEN_BIT
        if bad.mean() > MOST_BAD:
            self._n_refused += 1
            if self._n_refused <= PATIENCE or bad.all():
                return False
        if bad.any():
            self._leave_out(bad)
        return True

    def without(self, pixels: Array) -> Array:
        """Return pixels (k, n_pixels) without those that are bad for good."""
        return pixels if self._keep is None else pixels[:, self._keep]

    def repair(self, pixels: Array) -> tuple[Array, BoolArray]:
        """Give the few pixels that are bad in a frame their ROI's mean, which says nothing.

        `pixels` (k, n_pixels), as `without` returns them, are not changed: the same array comes
        back where nothing is bad, else floating point numbers; beside it which frames have too many
        bad pixels, (k,).
        """
        broken = np.zeros(len(pixels), np.bool_)
        repaired = pixels
        for index in np.flatnonzero(self._suspicious(pixels)):
            bad = self._bad(pixels[index])
            if not bad.any():
                continue
            if repaired is pixels:
                repaired = pixels.astype(np.result_type(pixels.dtype, np.float32))
            broken[index] = not self._fill(repaired[index], bad)
        return repaired, broken

    def _leave_out(self, bad: BoolArray) -> None:
        rois = self.roi_map
        left = np.add.reduceat(~bad, [one.start for one in rois.slices], dtype=np.int64)
        if (left < np.minimum(FEWEST_LEFT, rois.n_pixels)).any():
            few = int(np.argmin(left))
            raise InvalidInputError(
                f"ROI {rois.labels[few]}: got {left[few]} good pixels of {rois.n_pixels[few]} in "
                f"the first frame, expected at least {FEWEST_LEFT} that are neither NaN nor "
                "negative nor the detector's bad-pixel value. Take the ROI out of the ROI file, "
                "or correct ROIs, mask and orientation."
            )
        mask = np.ones(rois.shape, np.bool_)
        mask.ravel()[rois.pixels[bad]] = False
        self.roi_map = rois.with_mask(mask)
        self._keep = ~bad
        self.n_bad = int(bad.sum())

    def _suspicious(self, pixels: Array) -> BoolArray:
        """Return which frames may have bad pixels, (k,); cheap."""
        if not pixels.size:
            return np.zeros(len(pixels), np.bool_)
        highest = pixels.max(axis=1)
        if pixels.dtype.kind == "u":
            return highest == np.iinfo(pixels.dtype).max
        lowest = pixels.min(axis=1)
        if pixels.dtype.kind == "i":
            return (highest == np.iinfo(pixels.dtype).max) | (lowest < 0)
        odd = ~(np.isfinite(highest) & np.isfinite(lowest))
        return odd if self._negative_is_data else odd | (lowest < 0)

    def _bad(self, values: Array) -> BoolArray:
        if values.dtype.kind in "ui":
            return (values < 0) | (values == np.iinfo(values.dtype).max)
        bad = ~np.isfinite(values)
        return bad if self._negative_is_data else bad | (values < 0)

    def _fill(self, frame: Array, bad: BoolArray) -> bool:
        """Fill bad pixels in place; False if a ROI has too many of them."""
        for one in self.roi_map.slices:
            wrong = bad[one]
            n_bad = int(wrong.sum())
            if n_bad > max(1.0, FEW * wrong.size) or n_bad == wrong.size:
                return False
            if n_bad:
                values = frame[one]
                values[wrong] = values[~wrong].mean(dtype=np.float64)
        return True
