"""Where Gamma jumps: a cut that reaches across mixes what came before with what came after."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xpcs_live_denoise.records.types import FloatArray, IntArray, select_rows

from .cuts import fit_cuts, fit_rates
from .grid import KwwGrid, LinearPrior, Posterior
from .sums import AgeSums, BinnedCuts, jackknife_variance

# Frames here are rows of the sums: of one frame each, of several in long series.

# Frames on either side that tell Gamma before and after, at least and at most.
_LEAST_SIDE, _SIDE = 20, 40
# Frames between the places that are tried first, and how far around the best one it may lie.
_STEP, _AROUND = 4, 16
# A jump is at least this far, in ln Gamma and in standard errors of the difference.
_LEAST_CHANGE, _LEAST_SIGNIFICANCE = 0.7, 4.5
# Of both: what a rough look must find before a place is looked at closely.
_NEARLY = 0.9
# By how much ln likelihood it must beat a steady change between the same two values.
_LEAST_ODDS = 5.0
# What is not known of the place beyond entries that are independent, as Gamma on either side is
# held fixed, frames.
_PLACE_SD = 1.0
_FAR = 2**40  # beyond any row and frame: where no jump bounds a cut
_GONE = 20.0  # (Gamma lag)^alpha beyond which nothing of the contrast is left: e^-40


@dataclass(frozen=True, slots=True, kw_only=True)
class Jump:
    """A jump of Gamma."""

    first: int  # first frame after it
    change: float  # of ln Gamma, after minus before
    places: IntArray  # (n,): frames that may be that first one
    probability: FloatArray  # (n,): how probable each is

    def doubt(self, ages: IntArray) -> FloatArray:
        """Return how probable it is that an age lies on the other side, shape (n,)."""
        is_after = ages >= self.first
        after = (ages[:, np.newaxis] >= self.places) @ self.probability
        return np.clip(np.where(is_after, 1 - after, after), 0.0, 1.0)


def find_jumps(
    sums: AgeSums, roi: int, grid: KwwGrid, prior: LinearPrior, span: tuple[int, int]
) -> list[Jump]:
    """Return the jumps of Gamma of one ROI between the first and last frame of `span`, in order.

    At every fourth frame Gamma is fitted to the 40 frames before, and to the 40 after, none of
    which reaches across. Where they differ by a factor of 2 and 4.5 standard errors, a model of all
    entries nearby, g2 = C + beta exp(-2 (integral of Gamma from t1 to t2)^alpha), tells the frame;
    it must explain them better than a Gamma that changes steadily between the same values.
    `span` and the jumps are in rows of the sums, and so is what is said here of frames.
    """
    low = max(span[0], _LEAST_SIDE)
    high = min(span[1], sums.n_rows - _LEAST_SIDE + 1)
    # Places do not depend on the span, or a live run would see others than a later one.
    places = np.arange(-(-low // _STEP) * _STEP, high, _STEP)
    if not len(places):
        return []
    sides = [sums.cuts(roi, *side) for side in _sides(places)]
    change, error = _changes(sides, grid, prior, rough=True)
    some = (change > _NEARLY * _LEAST_CHANGE) & (change > _NEARLY * _LEAST_SIGNIFICANCE * error)
    z = np.zeros(len(places))
    if some.any():
        sides = [select_rows(side, some) for side in sides]
        change, error = _changes(sides, grid, prior, rough=False)
        z[some] = np.where(change > _LEAST_CHANGE, change / error, 0.0)
    jumps: list[Jump] = []
    while z.max() > _LEAST_SIGNIFICANCE:
        best = int(places[np.argmax(z)])
        jump = _locate(sums, roi, grid, prior, best)
        z[np.abs(places - best) < _SIDE] = 0.0
        if jump is not None:
            jumps.append(jump)
            z[np.abs(places - jump.first) < _SIDE] = 0.0
    return sorted(jumps, key=lambda jump: jump.first)


def bounds(jumps: list[Jump], ages: IntArray) -> IntArray:
    """Return the frames [first, stop) between jumps that hold each age, shape (2, n)."""
    edges = np.array([-_FAR, *(jump.first for jump in jumps), _FAR], np.int64)
    piece = np.searchsorted(edges, ages, side="right")
    return np.stack([edges[piece - 1], edges[piece]])


def _sides(places: IntArray) -> list[tuple[IntArray, int, IntArray]]:
    """Return ages, width and bounds of the cuts before and after each place."""
    never = np.full(len(places), _FAR)
    reach = _SIDE // 2
    return [
        (places - reach, _SIDE + 1, np.stack([-never, places])),
        (places + reach, _SIDE + 1, np.stack([places, never])),
    ]


def _changes(
    sides: list[BinnedCuts], grid: KwwGrid, prior: LinearPrior, *, rough: bool
) -> tuple[FloatArray, FloatArray]:
    """Return by how much ln Gamma differs after each place, and the error of that."""
    (before, before_sd), (after, after_sd) = (
        fit_rates(side, grid, prior, rough=rough) for side in sides
    )
    return np.abs(after - before), np.hypot(before_sd, after_sd)


def _locate(sums: AgeSums, roi: int, grid: KwwGrid, prior: LinearPrior, about: int) -> Jump | None:
    """Return the jump near frame `about`; None where a steady change explains as much."""
    sides = [sums.cuts(roi, *side) for side in _sides(np.array([about]))]
    fits = [fit_cuts(side, grid, prior)[0] for side in sides]
    rates = [float(fit.ln_rate[0]) for fit in fits]
    middles = [float(side.mean_row[0]) + 0.25 / sums.row_frames for side in sides]
    rows = np.arange(max(about - _SIDE, 0), min(about + _SIDE, sums.n_rows))
    cells = sums.cuts(roi, rows, 1)
    places = np.arange(max(about - _AROUND, 1), min(about + _AROUND, sums.n_rows - 1) + 1)
    slope = (rates[1] - rates[0]) / (middles[1] - middles[0])
    steady = rates[0] + slope * (np.arange(sums.n_rows) - middles[0])
    ends = (min(rates) - abs(rates[1] - rates[0]), max(rates) + abs(rates[1] - rates[0]))
    decays = [
        _decay_of_step(rates, places, sums.n_rows, *_reached(rows, cells.lag, sums.row_frames)),
        _decay(np.clip(steady, *ends), *_reached(rows, cells.lag, sums.row_frames))[np.newaxis],
    ]
    curves = _curves(fits, np.concatenate(decays) * sums.row_frames)
    likelihood = _likelihood(cells.weights, cells.mean[np.newaxis], curves)[0]
    best = int(np.argmax(likelihood[:-1]))
    mass = np.exp(likelihood[:-1] - likelihood[best])
    odds = np.log(mass.mean()) + likelihood[best] - likelihood[-1]
    if odds < _LEAST_ODDS or best in (0, len(places) - 1):
        return None
    mean, variance = _moments(mass, places)
    if cells.left_out is not None:
        others = _likelihood(cells.weights, np.moveaxis(cells.left_out, 2, 0), curves)[:, :-1]
        others = np.exp(others - others.max(axis=1, keepdims=True))
        variance += jackknife_variance(np.array([_moments(one, places)[0] for one in others]))
    probability = np.exp(-((places - mean) ** 2) / 2 / (variance + _PLACE_SD**2))
    return Jump(
        first=round(mean),
        change=rates[1] - rates[0],
        places=places,
        probability=probability / probability.sum(),
    )


def _likelihood(weights: FloatArray, data: FloatArray, curves: FloatArray) -> FloatArray:
    """Return ln likelihood of data (m, n_row, n_bin) for curves (k, n_row, n_bin), shape (m, k)."""
    total = np.einsum("rb,mrb->m", weights, data**2)[:, np.newaxis]
    cross = (data * weights).reshape(len(data), -1) @ curves.reshape(len(curves), -1).T
    return cross - (total + np.einsum("rb,krb->k", weights, curves**2)) / 2


def _moments(mass: FloatArray, places: IntArray) -> tuple[float, float]:
    mean = float(mass @ places / mass.sum())
    return mean, float(mass @ (places - mean) ** 2 / mass.sum())


def _reached(rows: IntArray, lag: FloatArray, row_frames: int) -> tuple[FloatArray, FloatArray]:
    """Return from where to where the lags at each row reach, in rows, each (n_row, n_bin)."""
    # Odd lags, half of all, stand half a frame later than their row.
    centre, reach = rows[:, np.newaxis] + 0.5 + 0.25 / row_frames, lag / 2 / row_frames
    return centre - reach, centre + reach


def _decay(ln_rate: FloatArray, begin: FloatArray, end: FloatArray) -> FloatArray:
    """Return the sum of a Gamma that changes from row to row from `begin` to `end`."""
    edges = np.arange(len(ln_rate) + 1)
    passed = np.concatenate([[0.0], np.cumsum(np.exp(ln_rate))])
    return np.interp(end, edges, passed) - np.interp(begin, edges, passed)


def _decay_of_step(
    ln_rates: list[float], places: IntArray, n_rows: int, begin: FloatArray, end: FloatArray
) -> FloatArray:
    """Return `_decay`, (n_place, n_row, n_bin), of a Gamma that has one value before each place."""
    begin, end = np.clip(begin, 0, n_rows), np.clip(end, 0, n_rows)
    before, after = np.exp(ln_rates)
    place = places[:, np.newaxis, np.newaxis]
    on_one_side = np.minimum(end, place) - np.minimum(begin, place)
    return after * (end - begin) + (before - after) * on_one_side


def _curves(fits: list[Posterior], decay: FloatArray) -> FloatArray:
    """Return g2 - 1 of what Gamma adds up to between the two frames of an entry."""
    alpha = np.exp(np.mean([fit.ln_alpha[0] for fit in fits]))
    beta, offset = np.mean([fit.linear[0] for fit in fits], axis=0)
    left = np.zeros(decay.shape)
    some = decay < _GONE ** (1 / alpha)
    left[some] = np.exp(-2 * decay[some] ** alpha)
    return offset + beta * left
