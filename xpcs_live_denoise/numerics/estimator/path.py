"""Gamma of every frame at once: the path whose integral explains C2 at all ages and lags.

C2(t1, t2) = C + beta exp(-2 S^alpha), S(t1, t2) = the sum of Gamma over the frame intervals from t1
to t2. A cut needs a Gamma that is steady over its width; the path does not.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xpcs_live_denoise.records.types import SHARED, FloatArray, IntArray

from .cuts import SeriesFit, vague_prior
from .grid import ALPHA_SCATTER, LinearPrior, rate_range
from .path_cells import PathCells, path_cells
from .sums import AgeSums, StackedResiduals, jackknife_variance

# --- the priors --------------------------------------------------------------------------------

# Increments of ln Gamma from knot to knot have a Student distribution: smooth where they are small,
# and jumps cost little. nu and lam, its scale to the power of -2, the data choose: the result is
# the mixture of all, each with its evidence. Here are the powers of ten of lam for knots of one
# frame. The scale grows with the root of the frames of a knot, so that these choose the same.
_STUDENT, _STUDENT_RANGE = (*np.arange(0.5, 3.0, 0.5), *np.arange(3.0, 15.0, 0.75)), (0.5, 6.0)
FIRST_PRIOR = 6  # of these, tried first
# Avalanches have longer tails: tried where one of the loosest of the others, those below this power
# and at least two, is the best; a search that is resumed with them goes back from the loosest.
_LONG_TAILED, _LONG_TAILED_RANGE = tuple(np.arange(0.0, 12.0, 0.5)), (0.0, 3.0)
_LOOSE, _LEAST_LOOSE = 1.75, 2
_NU, _LONG_TAILED_NU = 2.0, 0.5

# The contrast may change with age, a priori by this share of beta from the middle to the end: where
# a background stays while the beam falls, or a plateau grows.
_DRIFT_SD = 0.1
VAGUE_ALPHA = (0.0, ALPHA_SCATTER)  # what is known of ln alpha before, and its standard deviation
_N_SHARED = 4  # drift, ln alpha, beta and baseline - 1, which all frames share

# --- the noise ---------------------------------------------------------------------------------

_MODEL_ERROR = 0.002  # of beta: what a curve at the middle of a lag bin misses of the bin's mean
_INFLATION_PASSES, _INFLATION_TOLERANCE = 4, 0.15
_SMOOTH_REACH = 20  # frames over which the jackknife variance is averaged: 8 blocks tell 50 %

# --- the search --------------------------------------------------------------------------------

_LEAST_CELLS = 10  # that can tell anything
MOST_KNOTS = 512  # unknowns; a longer series has knots of several frames
_ITERATIONS, _FIRST_LOOK = 20, 5  # of one solution; of one that only tells where evidence is
_CONVERGED = 0.5  # the last step must not explain more, in ln probability
# In ln evidence below the best: a solution that is left out of the mixture, and one beyond which a
# search that is resumed does not look.
_NEGLIGIBLE, _RESUMED = 6.0, 1.0


# --- the most probable path --------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Problem:
    """Data and what is known before: how probable a path is, and the most probable one.

    A state is ln Gamma of every knot, drift, ln alpha, beta and baseline - 1: (n_knot + 4,).
    """

    cells: PathCells
    weights: FloatArray  # (n,): inverse variances of cells
    nu: float
    lam: float
    centre: FloatArray  # (5,): of the mean of ln Gamma, of drift, ln alpha, beta and baseline - 1
    precision: FloatArray  # (5,)

    @property
    def of_cells(self) -> tuple[Any, ...]:
        """What kernels need to know of the data."""
        cells = self.cells
        data = (cells.value, self.weights, cells.step)
        return (cells.node, cells.share, cells.row, cells.at, cells.place, *data)

    def solve(
        self, state: FloatArray, iterations: int, room: _Room, *, with_errors: bool = False
    ) -> _Solution:
        """Find the most probable path from a state on, and its errors while they cost little.

        Raises
        ------
        numpy.linalg.LinAlgError
            Where the curvature is not positive definite.
        """
        from . import path_kernels as kernels

        end, before, result = state.copy(), np.empty(len(state)), np.empty(3)
        room.known = kernels.solve(
            self.of_cells,
            self.nu,
            self.lam,
            self.centre,
            self.precision,
            iterations,
            end,
            before,
            *room.evaluated,
            room.known_at(state, self.weights),
            room.matrix,
            result,
        )
        room.state, room.weights = end, self.weights
        if room.known < 0:
            raise np.linalg.LinAlgError
        cost, gain, log_volume = result.tolist()
        # What makes the Laplace integral of the increments one, up to a constant.
        known = (self.cells.n_knot - 1) / 2 * math.log(self.lam * (self.nu + 1) / self.nu)
        return _Solution(
            problem=self,
            state=end,
            before=before,
            evidence=known - cost - log_volume,
            converged=gain < _CONVERGED,
            known_errors=self.errors(end, room) if with_errors else None,
        )

    def errors(self, state: FloatArray, room: _Room) -> _Errors:
        """Return the variances of a state, right after it was solved for."""
        from . import path_kernels as kernels

        left_out = self.cells.left_out
        none = np.empty((0, len(self.weights)))
        variance, mean = np.empty((3, len(state))), np.empty(3)
        kernels.variances(
            self.of_cells,
            state,
            self.stiffness(state),
            self.precision,
            room.matrix,
            none if left_out is None else left_out,
            variance,
            mean,
        )
        white, jackknife, prior = variance
        of_mean = float(mean[2] + max(mean[:2]))
        return _Errors(white=white, jackknife=jackknife, prior=prior, mean=of_mean)

    def stiffness(self, state: FloatArray) -> FloatArray:
        """Return the second derivatives of the prior by the increments, (n_knot - 1,)."""
        change = np.diff(state[:-_N_SHARED])
        return self.lam * (self.nu + 1) / (self.nu + self.lam * change**2)


class _Room:
    """Memory that the searches of one stretch share.

    Its state is what the last one knows of the place where it ended: the next one, with another
    prior, often begins there.
    """

    def __init__(self, n_knot: int) -> None:
        from .path_kernels import PAD

        n_state = n_knot + _N_SHARED
        size = -(-n_state // 4) * 4
        self.matrix = np.empty((size, size))
        self.evaluated = (
            np.zeros((n_knot + 2, n_knot + 2 + PAD)),
            np.empty((2, n_knot, n_knot)),
            np.empty((2, _N_SHARED, n_state)),
            np.empty((2, n_knot), np.int64),
            np.empty((2, n_state)),
            np.empty(2),
        )
        self.known = -1
        self.state: FloatArray | None = None
        self.weights: FloatArray | None = None

    def known_at(self, state: FloatArray, weights: FloatArray) -> int:
        """Return where a search from a state on finds that evaluated; -1: nowhere."""
        return self.known if state is self.state and weights is self.weights else -1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Solution:
    """The most probable path for one prior."""

    problem: _Problem
    state: FloatArray  # (n_knot + 4,)
    before: FloatArray  # where the last step began: the curvature is that there
    evidence: float  # ln, up to a constant that all priors share
    converged: bool
    known_errors: _Errors | None  # None where nobody has asked for them

    def residual(self) -> FloatArray:
        """Return value less model, (n,)."""
        from . import path_kernels as kernels

        residual = np.empty(len(self.problem.weights))
        nothing = np.empty((0, len(residual))), np.empty((0, len(self.state)))
        kernels.project(self.problem.of_cells, self.state, *nothing, residual)
        return residual

    def errors(self, room: _Room) -> _Errors:
        """Return the variances of its state."""
        if self.known_errors is not None:
            return self.known_errors
        self.problem.solve(self.before, 0, room)
        return self.problem.errors(self.state, room)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Errors:
    """Variances of one solution, (n_knot + 4,), and of the mean of ln Gamma."""

    white: FloatArray  # from independent entries
    jackknife: FloatArray  # from pixel blocks; `white` without any
    prior: FloatArray  # what the prior leaves open
    mean: float

    @property
    def inflation(self) -> float:
        """How much larger the variance of ln Gamma is than from independent entries."""
        return float(self.jackknife[:-_N_SHARED].mean() / self.white[:-_N_SHARED].mean())


# --- what the path is --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PathEstimate:
    """Gamma along a stretch of one series, and what all of its frames share; rates per frame."""

    age: FloatArray  # (n,): frames
    ln_rate: FloatArray  # (n,)
    ln_rate_error: FloatArray  # (n,): standard errors; neighbours share most of theirs
    beta: FloatArray  # (n,): the contrast at each age
    width: IntArray  # (n,): frames of the knots
    shared: FloatArray = field(metadata=SHARED)  # (3,): ln alpha, beta, baseline - 1
    shared_error: FloatArray = field(metadata=SHARED)  # (3,)
    # Standard error of the mean of ln Gamma over the stretch.
    mean_error: float = field(metadata=SHARED)
    # T, see `StackedResiduals`; NaN without pixel blocks.
    misfit: float = field(metadata=SHARED)
    # By which share of beta the contrast changes from the middle to the end of the stretch, and its
    # standard error.
    drift: float = field(metadata=SHARED)
    drift_error: float = field(metadata=SHARED)
    reduced_chi_square: float = field(metadata=SHARED)
    n_lags: int = field(metadata=SHARED)  # lag bins that were fitted
    converged: bool = field(metadata=SHARED)
    search: PathSearch = field(metadata=SHARED)

    @property
    def n_effective(self) -> float:
        """As many independent values would tell the mean of ln Gamma as well."""
        return max(1.0, float(np.mean(self.ln_rate_error**2)) / self.mean_error**2)


@dataclass(frozen=True, slots=True, kw_only=True)
class PathSearch:
    """Where a search ended: the next one of the same series, some frames later, begins there."""

    first: int  # frame
    step: int  # frames a knot
    state: FloatArray  # (n_knot + 4,): ln Gamma of each knot, drift, ln alpha, beta, baseline - 1
    prior: int  # index of the prior with most evidence
    # The weights of entries were divided by it: they share pixels and frames.
    inflation: float

    @property
    def ln_rate(self) -> FloatArray:
        """Ln Gamma of each knot."""
        return self.state[:-_N_SHARED]

    def at(self, frames: FloatArray) -> FloatArray:
        """Return ln Gamma at frames (n,); beyond either end, what it is there."""
        middle = self.first + (np.arange(len(self.state) - _N_SHARED) + 0.5) * self.step
        return np.interp(frames, middle, self.ln_rate)


def knot_step(n_rows: int, most_knots: int = MOST_KNOTS) -> int:
    """Return the rows of a knot, an odd number, so that a series has at most `most_knots`."""
    step = max(1, -(-(n_rows - 1) // most_knots))
    return step + 1 - step % 2


def estimate_path(
    cells: PathCells,
    start: PathSearch,
    series: LinearPrior,
    ages: FloatArray,
    *,
    known_inflation: float | None = None,
    ln_alpha: tuple[float, float] = VAGUE_ALPHA,
    resume: bool = False,
) -> PathEstimate:
    """Estimate Gamma at every age of a stretch.

    Parameters
    ----------
    cells
        C2 of the stretch.
    start
        Where the search begins; its state has one ln Gamma for each knot of `cells`.
    series
        What is known of beta and baseline - 1.
    ages
        Shape (n,), frames of the stretch; between frames where rows hold an even number of them.
    known_inflation
        How much larger the variance of sums of entries is than if these were independent. None:
        the scatter between pixel blocks tells.
    ln_alpha
        What is known of ln alpha, and its standard deviation.
    resume
        Trust the prior and the inflation with which `start` ended, and look no further than the
        evidence rises: for a stretch that has a few frames more than the one before. An estimate
        says the inflation that its own blocks tell, so that the next one follows.
    """
    if cells.n_cells < _LEAST_CELLS:
        return _unknown(ages, start)
    ladder = _Ladder(cells, series, ln_alpha)
    try:
        return _mixed(ladder, start, ages, known_inflation, resume=resume)
    except np.linalg.LinAlgError:  # numbers beyond what a detector counts
        return _unknown(ages, start)


def _mixed(
    ladder: _Ladder,
    start: PathSearch,
    ages: FloatArray,
    known_inflation: float | None,
    *,
    resume: bool,
) -> PathEstimate:
    inflation = known_inflation or start.inflation
    enough = _RESUMED if resume else _NEGLIGIBLE
    iterations = _ITERATIONS if resume else _FIRST_LOOK
    tried = ladder.look(inflation, start.prior, start.state, enough=enough, iterations=iterations)
    if not resume and known_inflation is None:
        inflation, tried = ladder.inflated(inflation, tried)
    best = _best(tried)
    if best < ladder.n_loose or best >= ladder.n_student:
        begin = ladder.first_long_tailed if best < ladder.n_loose else 0
        tried |= ladder.look(
            inflation, begin, tried[best].state, enough=enough, iterations=iterations
        )
    mixture = _mixture(tried if resume else ladder.settled(inflation, tried), ladder.room)
    if known_inflation is None:
        inflation = max(1.0, inflation * mixture.inflation)
    return _at_ages(mixture, ages, inflation)


def _unknown(ages: FloatArray, start: PathSearch) -> PathEstimate:
    """Return the estimate where there are no data."""
    nothing = np.full(len(ages), math.nan)
    return PathEstimate(
        age=ages,
        ln_rate=nothing,
        ln_rate_error=nothing,
        shared=np.full(3, math.nan),
        shared_error=np.full(3, math.nan),
        beta=nothing,
        width=np.full(len(ages), start.step),
        mean_error=math.nan,
        misfit=math.nan,
        drift=math.nan,
        drift_error=math.nan,
        reduced_chi_square=math.nan,
        n_lags=0,
        converged=False,
        search=start,
    )


def _scales(powers: tuple[float, ...], range_: tuple[float, float], step: int) -> FloatArray:
    """Return lam for knots of `step` frames: from near the lower end of a range to beyond it."""
    powers_here = np.array(powers) - math.log10(step)
    first, last = (np.argmax(powers_here >= one) for one in (range_[0] - 0.25, range_[1] - 1e-9))
    return 10.0 ** powers_here[first : last + 1]


class _Ladder:
    """The problems of all priors, by their index, for the data of one stretch."""

    def __init__(
        self, cells: PathCells, series: LinearPrior, ln_alpha: tuple[float, float]
    ) -> None:
        least, most = rate_range(max(cells.n_frames - 1, 1))
        linear_sd = np.sqrt(np.diagonal(series.covariance))
        sd = np.array([(most - least) / math.sqrt(12), _DRIFT_SD, ln_alpha[1], *linear_sd])
        self._centre = np.array([(least + most) / 2, 0.0, ln_alpha[0], *series.mean])
        self._precision = sd**-2
        self._cells = cells
        student, long_tailed = (
            _scales(powers, range_, cells.step)
            for powers, range_ in ((_STUDENT, _STUDENT_RANGE), (_LONG_TAILED, _LONG_TAILED_RANGE))
        )
        self.n_student, self._lam = len(student), np.concatenate([student, long_tailed])
        self.n_loose = max(_LEAST_LOOSE, int((student * cells.step < 10**_LOOSE).sum()))
        self.room = _Room(cells.n_knot)
        self._weights = cells.weight / (1 + cells.weight * (_MODEL_ERROR * series.mean[0]) ** 2)
        self._inflation, self._inflated = 1.0, self._weights

    @property
    def first_long_tailed(self) -> int:
        """Which of the long-tailed ones is tried first: that in the middle."""
        return (self.n_student + len(self._lam)) // 2

    def solve(
        self,
        inflation: float,
        index: int,
        state: FloatArray,
        iterations: int = _ITERATIONS,
    ) -> _Solution:
        """Return the most probable path for one prior; after a first look, without its errors."""
        if inflation != self._inflation:
            self._inflation, self._inflated = inflation, self._weights / inflation
        problem = _Problem(
            cells=self._cells,
            weights=self._inflated,
            nu=_NU if index < self.n_student else _LONG_TAILED_NU,
            lam=float(self._lam[index]),
            centre=self._centre,
            precision=self._precision,
        )
        with_errors = iterations > _FIRST_LOOK
        return problem.solve(state, iterations, self.room, with_errors=with_errors)

    def look(
        self,
        inflation: float,
        first: int,
        state: FloatArray,
        *,
        enough: float = _NEGLIGIBLE,
        iterations: int = _FIRST_LOOK,
    ) -> dict[int, _Solution]:
        """Solve for a prior, then for its neighbours on either side while they have evidence.

        Each begins where its neighbour ended. The last one on a side has `enough` less ln evidence
        than the best.
        """
        first, n_student = min(first, len(self._lam) - 1), self.n_student
        family = range(n_student) if first < n_student else range(n_student, len(self._lam))
        tried = {first: self.solve(inflation, first, state, iterations)}
        for direction in (1, -1):
            index = first + direction
            while index in family:
                before = tried[index - direction].state
                tried[index] = self.solve(inflation, index, before, iterations)
                if tried[index].evidence < tried[_best(tried)].evidence - enough:
                    break
                index += direction
        return tried

    def settled(self, inflation: float, tried: dict[int, _Solution]) -> dict[int, _Solution]:
        """Return the solutions that have evidence, gone on with to the end."""
        least = tried[_best(tried)].evidence - _NEGLIGIBLE
        return {
            index: self.solve(inflation, index, one.state)
            for index, one in tried.items()
            if one.evidence > least
        }

    def inflated(
        self, inflation: float, tried: dict[int, _Solution]
    ) -> tuple[float, dict[int, _Solution]]:
        """Return the inflation of the noise that pixel blocks tell, and the solutions with it.

        It is the jackknife variance of ln Gamma over what independent entries would give. A larger
        one leaves less to the data, and a stiffer path with it: until neither changes.
        """
        if self._cells.left_out is None:
            return inflation, tried
        best = _best(tried)
        for _ in range(_INFLATION_PASSES):
            larger = max(1.0, inflation * tried[best].errors(self.room).inflation)
            if abs(math.log(larger / inflation)) < _INFLATION_TOLERANCE:
                break
            inflation = larger
            tried = {best: self.solve(inflation, best, tried[best].state)}
        return inflation, self.look(inflation, best, tried[best].state)


def _best(tried: dict[int, _Solution]) -> int:
    return max(tried, key=lambda index: tried[index].evidence)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mixture:
    """What all solutions say together, each as its evidence allows."""

    state: FloatArray  # (n_knot + 4,)
    variance: FloatArray
    mean_variance: float
    inflation: float  # by which weights should be divided further; 1 without pixel blocks
    prior: int  # index of the one with most evidence
    best: _Solution


def _mixture(tried: dict[int, _Solution], room: _Room) -> _Mixture:
    best = _best(tried)
    step = tried[best].problem.cells.step
    some = [one for one in tried.values() if one.evidence > tried[best].evidence - _NEGLIGIBLE]
    share = np.exp(np.array([one.evidence - tried[best].evidence for one in some]))
    share /= share.sum()
    errors = [one.errors(room) for one in some]
    state = share @ np.stack([one.state for one in some])
    spread = np.stack([one.state - state for one in some])
    variance = np.stack([_variance(one, step) for one in errors])
    mean_variance = np.array([one.mean for one in errors])
    return _Mixture(
        state=state,
        variance=share @ (variance + spread**2),
        mean_variance=float(share @ (mean_variance + spread[:, :-_N_SHARED].mean(axis=1) ** 2)),
        inflation=float(share @ np.array([one.inflation for one in errors])),
        prior=best,
        best=tried[best],
    )


def _variance(errors: _Errors, step: int) -> FloatArray:
    """Return the variance of a state: at least the jackknife's, which neighbours tell together."""
    nearby = errors.jackknife.copy()
    nearby[:-_N_SHARED] = _running_mean(nearby[:-_N_SHARED], step)
    return np.maximum(errors.white, nearby) + errors.prior


def _running_mean(values: FloatArray, step: int) -> FloatArray:
    """Return the mean over the knots within `_SMOOTH_REACH` frames."""
    reach = _SMOOTH_REACH // step
    total = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    low, high = np.maximum(at - reach, 0), np.minimum(at + reach + 1, len(values))
    return (total[high] - total[low]) / (high - low)


def _at_ages(mixture: _Mixture, ages: FloatArray, inflation: float) -> PathEstimate:
    ln_rate, variance = mixture.state[:-_N_SHARED], mixture.variance[:-_N_SHARED]
    problem, residual = mixture.best.problem, mixture.best.residual()
    cells = problem.cells
    at = ages - cells.first
    place = 2 * at / max(cells.n_frames - 1, 1) - 1
    before, after = (  # the knots of half a frame before an age, and after it
        np.clip((at + half) // cells.step, 0, cells.n_knot - 1).astype(np.int64)
        for half in (-0.5, 0.5)
    )
    return PathEstimate(
        age=ages,
        ln_rate=(ln_rate[before] + ln_rate[after]) / 2,
        ln_rate_error=np.sqrt((variance[before] + variance[after]) / 2),
        shared=mixture.state[-3:],
        shared_error=np.sqrt(mixture.variance[-3:]),
        beta=mixture.state[-2] * (1 + mixture.state[-4] * place),
        width=np.full(len(ages), cells.step),
        mean_error=math.sqrt(mixture.mean_variance),
        misfit=_misfit(cells, problem.weights, residual),
        drift=float(mixture.state[-4]),
        drift_error=math.sqrt(mixture.variance[-4]),
        reduced_chi_square=float(problem.weights @ residual**2) / cells.n_cells,
        n_lags=len(set(cells.bin.tolist())),
        converged=mixture.best.converged,
        search=PathSearch(
            first=cells.first,
            step=cells.step,
            state=mixture.state,
            prior=mixture.prior,
            inflation=inflation,
        ),
    )


def _misfit(cells: PathCells, weights: FloatArray, residual: FloatArray) -> float:
    """Return T of residuals stacked over ages."""
    if cells.left_out is None:
        return math.nan

    weighted = weights * np.vstack([np.ones_like(residual), residual, residual + cells.left_out])
    of_line = np.add.reduceat(weighted, cells.at[:-1], axis=1)
    of_bin = np.zeros((len(weighted), int(cells.bin.max()) + 1))
    for total, one in zip(of_bin, of_line, strict=True):
        total[:] = np.bincount(cells.bin, one)
    return StackedResiduals(of_bin[0], of_bin[1], of_bin[2:]).misfit()


# --- while a run is on -------------------------------------------------------------------------

# Frames of the stretch that a publication looks at, in knots; they reach over this many 1/Gamma.
_LIVE_KNOTS, _LIVE_DECAYS = 160, 4.0
# For the newest frames the contrast of the series so far is a prior, widened by this share of beta.
_LIVE_WIDEN = (0.1, 0.05)


class PathEstimator:
    """The path of one ROI, `roi` its index in the sums.

    Its state is where the search of the last publication ended, if it converged. Reading consumes
    nothing.
    """

    def __init__(self, roi: int) -> None:
        self._roi = roi
        self._search: PathSearch | None = None

    def whole(
        self,
        sums: AgeSums,
        series: SeriesFit,
        curve: tuple[FloatArray | IntArray, FloatArray],
        *,
        inflation: float | None = None,
    ) -> PathEstimate:
        """Estimate Gamma in the middle of every row of the sums: at every frame of a short series.

        `curve` are ages, frames, and ln Gamma (each (n,), finite) of a smoother estimate: the
        search begins there. `inflation`, see `estimate_path`: 1 by default where there are no
        pixel blocks.
        """
        cells = path_cells(sums, self._roi, 0, sums.n_frames, knot_step(sums.n_rows))
        if not sums.n_block and inflation is None:
            inflation = 1.0
        beta = np.array([max(abs(series.beta), series.beta_error)])
        vague = vague_prior(beta)
        prior = LinearPrior(mean=vague.mean[0], covariance=vague.covariance[0])
        start = begin(cells, np.interp(middles(cells), *curve), prior)
        return estimate_path(
            cells, start, prior, sums.ages(np.arange(sums.n_rows)), known_inflation=inflation
        )

    def newest(
        self, sums: AgeSums, series: SeriesFit, ages: FloatArray | IntArray, ln_rate: float
    ) -> PathEstimate:
        """Estimate Gamma at those of `ages` (n,), frames, that are among the newest ones.

        `ln_rate` is typical of them; it says how far back the stretch has to reach.
        """
        n = sums.n_frames
        if not math.isfinite(ln_rate):
            ln_rate = float(np.mean(rate_range(max(n - 1, 1))))
        reach = _LIVE_DECAYS / math.exp(ln_rate)
        first, step = _live_stretch(sums, n, reach)
        if sums.recent is not None:  # rows as they were before others were added up, if they do
            asked = n - float(ages.min(initial=n))
            of_recent, rows = _live_stretch(sums.recent, n, reach, asked)
            if of_recent >= sums.recent.first:
                sums, first, step = sums.recent, of_recent, rows
        cells = path_cells(sums, self._roi, first, n, step)
        prior = of_part(series)
        known = self._search
        if known is None:
            start = begin(cells, np.full(cells.n_knot, ln_rate), prior)
        else:
            state = np.concatenate([known.at(middles(cells)), known.state[-_N_SHARED:]])
            start = dataclasses.replace(known, first=first, step=cells.step, state=state)
        inside = np.asarray(ages[ages >= first], np.float64)
        found = estimate_path(cells, start, prior, inside, resume=known is not None)
        # A search that led nowhere, in the dark for example, must not lead the next one.
        self._search = found.search if found.converged else None
        return found


def _live_stretch(
    sums: AgeSums, n_frames: int, reach: float, least: float = 0.0
) -> tuple[int, int]:
    """Return the first frame of the newest knots, and the rows of each.

    Knots are narrow where they reach over `reach` frames, all that `least` asks for in any case.
    """
    size = sums.row_frames
    step = min(knot_step(sums.n_rows, _LIVE_KNOTS), _odd(reach / _LIVE_KNOTS / size))
    step = max(step, knot_step(math.ceil(least / size), _LIVE_KNOTS))
    return max(0, n_frames - _LIVE_KNOTS * step * size - 1) // size * size, step


def of_part(series: SeriesFit) -> LinearPrior:
    """Return the prior of contrast and baseline of a part of a series."""
    widen = np.diag(np.array(_LIVE_WIDEN) * series.prior.mean[0]) ** 2
    covariance = np.asarray(series.prior.covariance) + widen
    return LinearPrior(mean=series.prior.mean, covariance=covariance)


def _first_inflation(cells: PathCells) -> float:
    """Return what the cells alone tell of it: they share pixels, that they share frames is left."""
    if cells.left_out is None or not cells.n_cells:
        return 1.0
    return max(1.0, float(jackknife_variance(cells.left_out) @ cells.weight) / cells.n_cells)


def _odd(frames: float) -> int:
    return 2 * int(frames / 2) + 1


def middles(cells: PathCells) -> FloatArray:
    """Return the middle of each knot, frames."""
    return cells.first + (np.arange(cells.n_knot) + 0.5) * cells.step


def begin(cells: PathCells, ln_rate: FloatArray, prior: LinearPrior) -> PathSearch:
    """Return where a search begins that knows ln Gamma of each knot, about."""
    return PathSearch(
        first=cells.first,
        step=cells.step,
        state=np.concatenate([ln_rate, [0.0, 0.0], prior.mean]),
        prior=FIRST_PRIOR,
        inflation=_first_inflation(cells),
    )
