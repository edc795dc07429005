"""Gamma of every frame at once: the path whose integral explains C2 at all ages and lags.

C2(t1, t2) = C + beta exp(-2 S^alpha), S(t1, t2) = the sum of Gamma over the frame intervals from t1
to t2. A cut needs a Gamma that is steady over its width; the path does not.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import lapack  # pyright: ignore[reportMissingTypeStubs]

from xpcs_live_denoise.records.types import FloatArray, IntArray

from .cuts import SeriesFit, vague_prior
from .grid import ALPHA_SCATTER, LinearPrior, rate_range
from .path_cells import PathCells, path_cells
from .sums import AgeSums, StackedResiduals, jackknife_variance

_lapack: Any = lapack  # scipy carries no types

# --- the priors --------------------------------------------------------------------------------

# Increments of ln Gamma from knot to knot have a Student distribution: smooth where they are small,
# and jumps cost little. nu and lam, its scale to the power of -2, the data choose: the result is
# the mixture of all, each with its evidence.
_STUDENT = tuple((2.0, 10.0**power) for power in (0.5, 1, 1.5, 2, 2.5, 3, 3.75, 4.5, 5.25, 6))
FIRST_PRIOR = 6  # of these, tried first
# Avalanches have longer tails: tried where the loosest of the others are among the best.
_LONG_TAILED = tuple((0.5, 10.0**power) for power in np.arange(0.0, 3.1, 0.5))
_LOOSE = 3
_N_PRIOR = len(_STUDENT) + len(_LONG_TAILED)

# The contrast may change with age, a priori by this share of beta from the middle to the end: where
# a background stays while the beam falls, or a plateau grows.
_DRIFT_SD = 0.1
_N_SHARED = 4  # drift, ln alpha, beta and baseline - 1, which all frames share

# --- the noise ---------------------------------------------------------------------------------

_MODEL_ERROR = 0.002  # of beta: what a curve at the middle of a lag bin misses of the bin's mean
_INFLATION_PASSES, _INFLATION_TOLERANCE = 4, 0.15
_SMOOTH_REACH = 20  # frames over which the jackknife variance is averaged: 8 blocks tell 50 %

# --- the search --------------------------------------------------------------------------------

_LEAST_CELLS = 10  # that can tell anything
MOST_KNOTS = 512  # unknowns; a longer series has knots of several frames
_ITERATIONS, _FIRST_LOOK = 20, 5  # of one solution; of one that only tells where evidence is
_ENOUGH = 0.02  # a step that explains no more than this, in ln probability, is the last
_CONVERGED = 0.5  # the last one must not explain more
_LONGEST_STEP = 2.0  # in ln Gamma and ln alpha
_HIGHEST = 20.0  # logarithm that is raised to a power: a step on the way may go far
_DAMPING_FACTOR, _MOST_DAMPING = 8.0, 1e8
# In ln evidence below the best: a solution that is left out of the mixture, and one beyond which a
# search that is resumed does not look.
_NEGLIGIBLE, _RESUMED = 6.0, 1.0


# --- probability of a path ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prior:
    """What is known before: of increments, and of what all frames share."""

    nu: float
    lam: float
    centre: FloatArray  # (5,): of the mean of ln Gamma, of drift, ln alpha, beta and baseline - 1
    precision: FloatArray  # (5,)

    def of(self, state: FloatArray) -> float:
        """Return -ln of its probability, up to a constant."""
        change = np.diff(state[:-_N_SHARED])
        far = self._shared(state) - self.centre
        tails = (self.nu + 1) / 2 * np.log1p(self.lam * change**2 / self.nu).sum()
        return float(tails + (self.precision * far**2).sum() / 2)

    def gradient(self, state: FloatArray) -> FloatArray:
        """Return the gradient of `of`."""
        n_knot = len(state) - _N_SHARED
        pull = self.stiffness(state) * np.diff(state[:-_N_SHARED])
        shared = self.precision * (self._shared(state) - self.centre)
        total = np.empty(len(state))
        total[:n_knot] = shared[0] / n_knot
        total[: n_knot - 1] -= pull
        total[1:n_knot] += pull
        total[n_knot:] = shared[1:]
        return total

    def add_curvature(self, state: FloatArray, matrix: FloatArray) -> None:
        """Add the second derivatives to a matrix, those of the tails as if they were a Gaussian."""
        n_knot = len(state) - _N_SHARED
        stiffness = self.stiffness(state)
        at = np.arange(n_knot - 1)
        matrix[:n_knot, :n_knot] += self.precision[0] / n_knot**2
        matrix[at, at] += stiffness
        matrix[at + 1, at + 1] += stiffness
        matrix[at, at + 1] -= stiffness
        matrix[at + 1, at] -= stiffness
        others = np.arange(n_knot, n_knot + _N_SHARED)
        matrix[others, others] += self.precision[1:]

    def log_normalisation(self, n_knot: int) -> float:
        """Return what makes the Laplace integral of the increments one, up to a constant."""
        return (n_knot - 1) / 2 * math.log(self.lam * (self.nu + 1) / self.nu)

    def stiffness(self, state: FloatArray) -> FloatArray:
        """Return the second derivatives with respect to the increments, (n_knot - 1,)."""
        return self.lam * (self.nu + 1) / (self.nu + self.lam * np.diff(state[:-_N_SHARED]) ** 2)

    def _shared(self, state: FloatArray) -> FloatArray:
        return np.array([state[:-_N_SHARED].mean(), *state[-_N_SHARED:]])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Point:
    """The model at one state (ln Gamma of every knot, drift, ln alpha, beta, baseline - 1)."""

    state: FloatArray  # (n_knot + 4,)
    rate: FloatArray  # (n_knot,): Gamma times frames of a knot
    residual: FloatArray  # (n,): value less model
    # (6, n): of the model with S, drift, ln alpha, beta and baseline; and the residual.
    slopes: FloatArray
    downhill: FloatArray  # (n_knot + 4,): J^T W residual
    curvature: FloatArray  # (n_knot + 4, n_knot + 4): J^T W J
    cost: float  # -ln probability, up to a constant


@dataclass(frozen=True, slots=True, kw_only=True)
class _Problem:
    """Data and one prior: how probable a path is, and the most probable one."""

    cells: PathCells
    weights: FloatArray  # (n,): inverse variances
    prior: _Prior

    def point(self, state: FloatArray) -> _Point:
        """Evaluate the model."""
        from . import path_kernels as kernels

        cells, size = self.cells, len(state)
        rate = np.exp(np.minimum(state[:-_N_SHARED], _HIGHEST)) * cells.step
        decay = np.empty(len(cells.value))
        kernels.decays(cells.node, cells.share, rate, decay)
        drift, ln_alpha, beta, offset = state[-_N_SHARED:].tolist()
        alpha = math.exp(min(ln_alpha, _HIGHEST))
        ln_decay = np.log(decay)
        power = np.exp(np.minimum(alpha * ln_decay, _HIGHEST))  # beyond, nothing is left of C2
        curve = np.exp(-2 * power)
        contrast = 1 + drift * cells.place  # in units of beta
        slopes = np.empty((2 + _N_SHARED, len(cells.value)))
        np.multiply(contrast, curve, out=slopes[3])
        by_ln_decay = (-2 * alpha * beta) * power * slopes[3]
        np.divide(by_ln_decay, decay, out=slopes[0])
        np.multiply(beta * cells.place, curve, out=slopes[1])
        np.multiply(by_ln_decay, ln_decay, out=slopes[2])
        slopes[4] = 1.0
        np.subtract(cells.value - offset, beta * slopes[3], out=slopes[5])
        of_shared = (slopes * self.weights) @ slopes.T
        downhill, curvature = np.empty(size), np.empty((size, size))
        kernels.normal_equations(
            cells.node, cells.share, self.weights, rate, slopes, of_shared, downhill, curvature
        )
        return _Point(
            state=state,
            rate=rate,
            residual=slopes[5],
            slopes=slopes,
            downhill=downhill,
            curvature=curvature,
            cost=float(of_shared[5, 5]) / 2 + self.prior.of(state),
        )

    def projected(self, point: _Point, values: FloatArray) -> FloatArray:
        """Return J^T W values, (m, n_knot + 4), for values (m, n)."""
        from . import path_kernels as kernels

        out = np.empty((len(values), len(point.state)))
        cells = self.cells
        kernels.project(
            cells.node, cells.share, self.weights, point.rate, point.slopes, values, out
        )
        return out

    def curvature(self, point: _Point) -> FloatArray:
        """Return J^T W J and the curvature of the prior, (n_knot + 4, n_knot + 4)."""
        matrix = point.curvature.copy()
        self.prior.add_curvature(point.state, matrix)
        return matrix

    def solve(self, state: FloatArray, iterations: int) -> _Solution:
        """Find the most probable path by Gauss-Newton steps with Levenberg's damping."""
        point = self.point(state)
        damping, gain = 1e-3, math.inf
        curvature = np.zeros((len(state), len(state)))
        for _ in range(iterations):
            curvature = self.curvature(point)
            new, damping = self._step(point, curvature, damping)
            gain, point = point.cost - new.cost, new
            if gain < _ENOUGH:  # the curvature has not changed either
                break
        factor = _cholesky(curvature)
        log_volume = float(np.log(np.diagonal(factor)).sum())
        return _Solution(
            problem=self,
            point=point,
            factor=factor,
            evidence=self.prior.log_normalisation(self.cells.n_knot) - point.cost - log_volume,
            converged=gain < _CONVERGED,
        )

    def _step(self, point: _Point, curvature: FloatArray, damping: float) -> tuple[_Point, float]:
        """Return the point after one step, never a less probable one, and the next damping."""
        downhill = point.downhill - self.prior.gradient(point.state)
        diagonal = np.arange(len(downhill))
        steepness = curvature[diagonal, diagonal].copy()
        found = point
        while damping < _MOST_DAMPING:
            curvature[diagonal, diagonal] = steepness * (1 + damping)
            step: FloatArray = _lapack.dpotrs(_cholesky(curvature), downhill, lower=1)[0]
            longest = float(np.abs(step[:-2]).max())
            step *= min(1.0, _LONGEST_STEP / longest) if longest > 0 else 1.0
            new = self.point(point.state + step)
            if new.cost <= point.cost:
                found, damping = new, max(damping / _DAMPING_FACTOR, 1e-7)
                break
            damping *= _DAMPING_FACTOR
        curvature[diagonal, diagonal] = steepness
        return found, damping


def _cholesky(matrix: FloatArray) -> FloatArray:
    """Return the Cholesky factor of a symmetric matrix, its lower half, as LAPACK goes on with it.

    Raises
    ------
    numpy.linalg.LinAlgError
        Where the matrix is not positive definite.
    """
    factor, failed = _lapack.dpotrf(matrix.copy().T, lower=1, clean=0, overwrite_a=1)
    if failed:
        raise np.linalg.LinAlgError
    return factor


@dataclass(frozen=True, slots=True, kw_only=True)
class _Solution:
    """The most probable path for one prior."""

    problem: _Problem
    point: _Point
    factor: FloatArray  # of the curvature, see `_cholesky`
    evidence: float  # ln, up to a constant that all priors share
    converged: bool

    @property
    def state(self) -> FloatArray:
        """Where it is, (n_knot + 4,)."""
        return self.point.state

    def errors(self) -> _Errors:
        """Return the variances of its state."""
        from . import path_kernels as kernels

        n_knot, prior = self.problem.cells.n_knot, self.problem.prior
        inverse: FloatArray = _lapack.dpotri(self.factor, lower=1)[0].T
        stiffness = prior.stiffness(self.state)
        open_ = np.empty(len(self.state))
        mean_open = kernels.open_variance(inverse, stiffness, prior.precision, open_)
        white = np.diagonal(inverse) - open_
        mean_white = float(inverse[:n_knot, :n_knot].mean()) - mean_open
        jackknife, mean_data = white, mean_white
        left_out = self.problem.cells.left_out
        if left_out is not None:
            shifts = self.problem.projected(self.point, left_out) @ inverse
            jackknife = jackknife_variance(shifts)
            of_level = float(jackknife_variance(shifts[:, :n_knot].mean(axis=1)))
            mean_data = max(mean_white, of_level)
        return _Errors(white=white, jackknife=jackknife, prior=open_, mean=mean_open + mean_data)


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

    age: IntArray  # (n,): frames
    ln_rate: FloatArray  # (n,)
    ln_rate_error: FloatArray  # (n,): standard errors; neighbours share most of theirs
    shared: FloatArray  # (3,): ln alpha, beta, baseline - 1
    shared_error: FloatArray  # (3,)
    beta: FloatArray  # (n,): the contrast at each age
    mean_error: float  # standard error of the mean of ln Gamma over the stretch
    misfit: float  # T, see `StackedResiduals`; NaN without pixel blocks
    # By which share of beta the contrast changes from the middle to the end of the stretch, and its
    # standard error.
    drift: float
    drift_error: float
    reduced_chi_square: float
    n_lags: int  # lag bins that were fitted
    converged: bool
    search: PathSearch

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

    def at(self, frames: FloatArray) -> FloatArray:
        """Return ln Gamma at frames (n,); beyond either end, what it is there."""
        middle = self.first + (np.arange(len(self.state) - _N_SHARED) + 0.5) * self.step
        return np.interp(frames, middle, self.state[:-_N_SHARED])


def knot_step(n_frames: int, most_knots: int = MOST_KNOTS) -> int:
    """Return the frames of a knot, an odd number, so that a series has at most `most_knots`."""
    step = max(1, -(-(n_frames - 1) // most_knots))
    return step + 1 - step % 2


def estimate_path(
    cells: PathCells,
    start: PathSearch,
    series: LinearPrior,
    ages: IntArray,
    *,
    known_inflation: float | None = None,
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
        Shape (n,), whole frames of the stretch.
    known_inflation
        How much larger the variance of sums of entries is than if these were independent. None:
        the scatter between pixel blocks tells.
    resume
        Trust the prior and the inflation with which `start` ended, and look no further than the
        evidence rises: for a stretch that has a few frames more than the one before. An estimate
        says the inflation that its own blocks tell, so that the next one follows.
    """
    if len(cells.value) < _LEAST_CELLS:
        return _unknown(ages, start)
    try:
        return _mixed(cells, start, series, ages, known_inflation, resume=resume)
    except np.linalg.LinAlgError:  # numbers beyond what a detector counts
        return _unknown(ages, start)


def _mixed(
    cells: PathCells,
    start: PathSearch,
    series: LinearPrior,
    ages: IntArray,
    known_inflation: float | None,
    *,
    resume: bool,
) -> PathEstimate:
    ladder = _Ladder(cells, series)
    inflation = known_inflation or start.inflation
    enough = _RESUMED if resume else _NEGLIGIBLE
    iterations = _ITERATIONS if resume else _FIRST_LOOK
    tried = ladder.look(inflation, start.prior, start.state, enough=enough, iterations=iterations)
    if not resume and known_inflation is None:
        inflation, tried = ladder.inflated(inflation, tried)
    best = _best(tried)
    if best < _LOOSE:
        begin = len(_STUDENT) + len(_LONG_TAILED) // 2
        tried |= ladder.look(
            inflation, begin, tried[best].state, enough=enough, iterations=iterations
        )
    mixture = _mixture(tried if resume else ladder.settled(inflation, tried))
    if known_inflation is None:
        inflation = max(1.0, inflation * mixture.inflation)
    return _at_ages(mixture, ages, inflation)


def _unknown(ages: IntArray, start: PathSearch) -> PathEstimate:
    """Return the estimate where there are no data."""
    nothing = np.full(len(ages), math.nan)
    return PathEstimate(
        age=ages,
        ln_rate=nothing,
        ln_rate_error=nothing,
        shared=np.full(3, math.nan),
        shared_error=np.full(3, math.nan),
        beta=nothing,
        mean_error=math.nan,
        misfit=math.nan,
        drift=math.nan,
        drift_error=math.nan,
        reduced_chi_square=math.nan,
        n_lags=0,
        converged=False,
        search=start,
    )


class _Ladder:
    """The problems of all priors, by their index, for the data of one stretch."""

    def __init__(self, cells: PathCells, series: LinearPrior) -> None:
        least, most = rate_range(max(cells.n_frames - 1, 1))
        linear_sd = np.sqrt(np.diagonal(series.covariance))
        sd = np.array([(most - least) / math.sqrt(12), _DRIFT_SD, ALPHA_SCATTER, *linear_sd])
        self._centre = np.array([(least + most) / 2, 0.0, 0.0, *series.mean])
        self._precision = sd**-2
        self._cells = cells
        self._weights = cells.weight / (1 + cells.weight * (_MODEL_ERROR * series.mean[0]) ** 2)

    def solve(
        self, inflation: float, index: int, state: FloatArray, iterations: int = _ITERATIONS
    ) -> _Solution:
        """Return the most probable path for one prior."""
        nu, lam = (*_STUDENT, *_LONG_TAILED)[index]
        prior = _Prior(nu=nu, lam=lam, centre=self._centre, precision=self._precision)
        problem = _Problem(cells=self._cells, weights=self._weights / inflation, prior=prior)
        return problem.solve(state, iterations)

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
        n_student = len(_STUDENT)
        family = range(n_student) if first < n_student else range(n_student, _N_PRIOR)
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
            larger = max(1.0, inflation * tried[best].errors().inflation)
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


def _mixture(tried: dict[int, _Solution]) -> _Mixture:
    best = _best(tried)
    step = tried[best].problem.cells.step
    some = [one for one in tried.values() if one.evidence > tried[best].evidence - _NEGLIGIBLE]
    share = np.exp(np.array([one.evidence - tried[best].evidence for one in some]))
    share /= share.sum()
    errors = [one.errors() for one in some]
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


def _at_ages(mixture: _Mixture, ages: IntArray, inflation: float) -> PathEstimate:
    ln_rate, variance = mixture.state[:-_N_SHARED], mixture.variance[:-_N_SHARED]
    problem, residual = mixture.best.problem, mixture.best.point.residual
    cells = problem.cells
    at = np.asarray(ages, np.int64) - cells.first
    place = 2 * at / max(cells.n_frames - 1, 1) - 1
    before = np.clip((at - 1) // cells.step, 0, cells.n_knot - 1)  # of the interval before a frame,
    after = np.clip(at // cells.step, 0, cells.n_knot - 1)  # and of that after it
    return PathEstimate(
        age=np.asarray(ages, np.int64),
        ln_rate=(ln_rate[before] + ln_rate[after]) / 2,
        ln_rate_error=np.sqrt((variance[before] + variance[after]) / 2),
        shared=mixture.state[-3:],
        shared_error=np.sqrt(mixture.variance[-3:]),
        beta=mixture.state[-2] * (1 + mixture.state[-4] * place),
        mean_error=math.sqrt(mixture.mean_variance),
        misfit=_misfit(cells, problem.weights, residual),
        drift=float(mixture.state[-4]),
        drift_error=math.sqrt(mixture.variance[-4]),
        reduced_chi_square=float(problem.weights @ residual**2) / len(residual),
        n_lags=int(np.unique(cells.bin).size),
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

    def laid_out(values: FloatArray) -> FloatArray:
        table = np.zeros((cells.n_row, cells.n_bin))
        table[cells.row, cells.bin] = values
        return table

    left_out = np.stack([laid_out(residual + one) for one in cells.left_out])
    return StackedResiduals().add(laid_out(weights), laid_out(residual), left_out).misfit()


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
        curve: tuple[IntArray, FloatArray],
        *,
        inflation: float | None = None,
    ) -> PathEstimate:
        """Estimate Gamma at every frame of a series.

        `curve` are ages and ln Gamma (each (n,), finite) of a smoother estimate: the search begins
        there. `inflation`, see `estimate_path`: 1 by default where there are no pixel blocks.
        """
        n = sums.n_frames
        cells = path_cells(sums, self._roi, 0, n, knot_step(n))
        if not sums.n_block and inflation is None:
            inflation = 1.0
        beta = np.array([max(abs(series.beta), series.beta_error)])
        vague = vague_prior(beta)
        prior = LinearPrior(mean=vague.mean[0], covariance=vague.covariance[0])
        start = _begin(cells, np.interp(_middles(cells), *curve), prior)
        return estimate_path(cells, start, prior, np.arange(n), known_inflation=inflation)

    def newest(
        self, sums: AgeSums, series: SeriesFit, ages: IntArray, ln_rate: float
    ) -> PathEstimate:
        """Estimate Gamma at those of `ages` (n,) that are among the newest frames.

        `ln_rate` is typical of them; it says how far back the stretch has to reach.
        """
        n = sums.n_frames
        if not math.isfinite(ln_rate):
            ln_rate = float(np.mean(rate_range(max(n - 1, 1))))
        longest = _odd(_LIVE_DECAYS / math.exp(ln_rate) / _LIVE_KNOTS)
        step = min(knot_step(n, _LIVE_KNOTS), longest)
        first = max(0, n - _LIVE_KNOTS * step - 1)
        cells = path_cells(sums, self._roi, first, n, step)
        widen = np.diag(np.array(_LIVE_WIDEN) * series.prior.mean[0]) ** 2
        prior = LinearPrior(
            mean=series.prior.mean, covariance=np.asarray(series.prior.covariance) + widen
        )
        known = self._search
        if known is None:
            start = _begin(cells, np.full(cells.n_knot, ln_rate), prior)
        else:
            state = np.concatenate([known.at(_middles(cells)), known.state[-_N_SHARED:]])
            start = dataclasses.replace(known, first=first, step=step, state=state)
        inside = ages[ages >= first]
        found = estimate_path(cells, start, prior, inside, resume=known is not None)
        # A search that led nowhere, in the dark for example, must not lead the next one.
        self._search = found.search if found.converged else None
        return found


def _first_inflation(cells: PathCells) -> float:
    """Return what the cells alone tell of it: they share pixels, that they share frames is left."""
    if cells.left_out is None or not cells.value.size:
        return 1.0
    return max(1.0, float(np.mean(jackknife_variance(cells.left_out) * cells.weight)))


def _odd(frames: float) -> int:
    return 2 * int(frames / 2) + 1


def _middles(cells: PathCells) -> FloatArray:
    return cells.first + (np.arange(cells.n_knot) + 0.5) * cells.step


def _begin(cells: PathCells, ln_rate: FloatArray, prior: LinearPrior) -> PathSearch:
    return PathSearch(
        first=cells.first,
        step=cells.step,
        state=np.concatenate([ln_rate, [0.0, 0.0], prior.mean]),
        prior=FIRST_PRIOR,
        inflation=_first_inflation(cells),
    )
