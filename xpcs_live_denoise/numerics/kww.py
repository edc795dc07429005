"""The KWW model: its curves on a grid, and its batched fit of thousands of g2 curves."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.records.types import AXIS_1, SHARED, BoolArray, FloatArray, IntArray

Bounds = tuple[float, float]

GAMMA_BOUNDS: Bounds = (1e-3, 1.0)  # per frame
ALPHA_BOUNDS: Bounds = (0.3, 2.5)
BETA_BOUNDS: Bounds = (0.05, 2.0)
BASELINE_BOUNDS: Bounds = (0.5, 1.5)

# Fewer lags than this do not tell the parameters apart.
MIN_LAGS = 5
# The lowest Gamma allowed turns 2 (Gamma lag) into 0.2 at the longest lag, or is that of the paper.
_SLOWEST = 0.1
# Numbers in one array of a chunk: a chunk stays in the processor's cache.
_CHUNK = 2**17
# A parameter nearer to a bound than this share of its range lies on it.
_EDGE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class KwwFit:
    """Fitted parameters of m curves; every attribute has shape (m,)."""

    # Gamma per frame and the others; NaN where no fit was possible. Standard errors come from the
    # Jacobian: 0 for a beta that was given, NaN where not converged.
    relaxation_rate: FloatArray
    relaxation_rate_error: FloatArray
    alpha: FloatArray
    alpha_error: FloatArray
    beta: FloatArray
    beta_error: FloatArray
    baseline: FloatArray
    baseline_error: FloatArray
    reduced_chi_square: FloatArray  # NaN where no fit was possible
    n_lags: IntArray  # lags with a finite value and a weight above 0
    converged: BoolArray  # the last step was small and no parameter lies on a bound


def kww(
    lags: ArrayLike,
    relaxation_rate: ArrayLike,
    alpha: ArrayLike = 1.0,
    beta: ArrayLike = 1.0,
    baseline: ArrayLike = 1.0,
) -> FloatArray:
    """Return g2 = baseline + beta exp(-2 (Gamma lag)^alpha), Eq. 3 of the paper.

    Parameters
    ----------
    lags, relaxation_rate
        In frames and per frame, or any pair of units whose product has none. All broadcast.

    References
    ----------
    Konstantinova et al., Sci. Rep. 11, 14756 (2021).
    """
    decay = (np.asarray(relaxation_rate, np.float64) * np.asarray(lags)) ** np.asarray(alpha)
    return np.asarray(baseline) + np.asarray(beta) * np.exp(-2 * decay)


def fit_kww(
    lags: ArrayLike,
    y: ArrayLike,
    weights: ArrayLike,
    *,
    beta: ArrayLike | None = None,
    rate_bounds: Bounds | None = None,
    alpha_bounds: Bounds = ALPHA_BOUNDS,
    baseline_bounds: Bounds = BASELINE_BOUNDS,
    scale_errors: bool = False,
) -> KwwFit:
    """Fit g2 = baseline + beta exp(-2 (Gamma lag)^alpha) to m curves.

    Every curve starts from the best point of a grid of (Gamma, alpha), where beta and baseline are
    solved for, and goes on with bounded Levenberg-Marquardt steps.

    Parameters
    ----------
    lags
        Shape (n_lag,), frames, above 0, ascending.
    y, weights
        Shape (m, n_lag) or (n_lag,): g2 and the inverse variance of each value. NaN in either, or a
        weight of 0, leaves the lag out.
    beta
        Scalar or (m,): held there. A value that is not finite and positive makes that fit
        impossible. Default: beta is free.
    rate_bounds, alpha_bounds, baseline_bounds
        (lowest, highest); of Gamma per frame by default GAMMA_BOUNDS, the lower one not above 0.1
        / longest lag. A free beta stays within BETA_BOUNDS.
    scale_errors
        True where weights are known up to a factor only: the errors are then multiplied by the
        square root of the reduced chi-square.

    Returns
    -------
    KwwFit
        A curve with fewer than 5 lags gives NaN and `converged` False, never an exception.

    Raises
    ------
    InvalidInputError
        When shapes do not fit or lags are not positive.
    """
    lag = np.asarray(lags, np.float64)
    values = np.atleast_2d(np.asarray(y, np.float64))
    if lag.ndim != 1 or values.ndim != 2 or values.shape[1] != lag.size or (lag <= 0).any():
        raise InvalidInputError(
            f"Fit: got lags of shape {lag.shape} and curves of shape {values.shape}; expected lags "
            "(n_lag,) above 0 and curves (m, n_lag)."
        )
    weight = _rows(weights, values.shape, "weights")
    fixed = None if beta is None else _rows(beta, (len(values),), "beta")
    counted = np.isfinite(values) & np.isfinite(weight) & (weight > 0)
    n_lags = counted.sum(axis=1)
    possible = n_lags >= MIN_LAGS
    if fixed is not None:
        possible &= np.isfinite(fixed) & (fixed > 0)
    low, high = _box(rate_bounds, alpha_bounds, baseline_bounds, lag)
    values, weight = np.where(counted, values, 0.0), np.where(counted, weight, 0.0)
    out = np.full((9, len(values)), np.nan)
    settled = np.zeros(len(values), dtype=np.bool_)
    todo = np.flatnonzero(possible)
    size = max(1, _CHUNK // max(1, lag.size))
    for some in (todo[i : i + size] for i in range(0, todo.size, size)):
        # No lag beyond the longest that any of these curves has.
        n = int(np.flatnonzero(counted[some].any(axis=0))[-1]) + 1
        curves = Curves(
            ln_lag=np.log(lag[:n]),
            y=values[some, :n],
            weights=weight[some, :n],
            beta=None if fixed is None else fixed[some],
            low=low,
            high=high,
        )
        out[:, some], settled[some] = _fit_chunk(curves, scale_errors=scale_errors)
    return KwwFit(
        **dict(zip(KwwFit.__dataclass_fields__, out, strict=False)),
        n_lags=n_lags,
        converged=settled,
    )


def _fit_chunk(curves: Curves, *, scale_errors: bool) -> tuple[FloatArray, BoolArray]:
    """Return the nine float columns of KwwFit, (9, m), and `converged` (m,)."""
    theta, curvature, chi_square, settled = minimise(curves, grid_start(curves))
    free, low, high = curves.free, curves.low, curves.high
    margin = _EDGE * (high - low)
    inside = ((theta > low + margin) & (theta < high - margin))[:, free].all(axis=1)
    freedom = curves.freedom
    reduced = np.where(freedom > 0, chi_square / np.maximum(freedom, 1), np.nan)
    error = np.zeros_like(theta)
    error[:, free] = _standard_errors(curvature)
    converged = settled & inside & np.isfinite(error).all(axis=1)
    if scale_errors:
        error *= np.sqrt(reduced)[:, np.newaxis]
    error[~converged] = np.nan
    theta[:, :BETA] = np.exp(theta[:, :BETA])
    error[:, :BETA] *= theta[:, :BETA]  # d Gamma = Gamma d ln Gamma
    columns = np.stack([theta, error], axis=2).reshape(len(theta), 8)  # value, error, value, ...
    return np.column_stack([columns, reduced]).T, converged


def _standard_errors(curvature: FloatArray) -> FloatArray:
    """Return the roots of the diagonal of the inverse, (m, p); NaN where it has none."""
    size = np.sqrt(np.einsum("mpp->mp", curvature))
    scaled: FloatArray = curvature / np.maximum(
        size[:, :, np.newaxis] * size[:, np.newaxis, :], 1e-300
    )
    good = np.asarray(np.isfinite(scaled).all(axis=(1, 2)), np.bool_)
    good[good] = np.linalg.cond(scaled[good]) < 1e12
    errors = np.full(size.shape, np.nan)
    variance = np.einsum("mpp->mp", np.linalg.inv(scaled[good]).astype(np.float64))
    errors[good] = np.sqrt(np.where(variance > 0, variance, np.nan)) / size[good]
    return errors


def _box(
    rate: Bounds | None, alpha: Bounds, baseline: Bounds, lag: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the lower and upper bounds of theta, (4,) each."""
    slowest = min(GAMMA_BOUNDS[0], _SLOWEST / lag.max(initial=1.0))
    rate = rate or (slowest, GAMMA_BOUNDS[1])
    box = np.array([np.log(rate), np.log(alpha), BETA_BOUNDS, baseline])
    if not (np.isfinite(box).all() and (box[:, 0] < box[:, 1]).all()):
        raise InvalidInputError(
            f"Fit: got the bounds {rate} of Gamma, {alpha} of alpha and {baseline} of the "
            "baseline; expected (lowest, highest), rates above 0."
        )
    return box[:, 0], box[:, 1]


def _rows(value: ArrayLike, shape: tuple[int, ...], name: str) -> FloatArray:
    """Return `value` broadcast to one row a curve."""
    array = np.asarray(value, np.float64)
    try:
        return np.broadcast_to(array, shape)
    except ValueError as error:
        raise InvalidInputError(
            f"Fit: got {name} of shape {array.shape}; expected {shape} or what broadcasts to it."
        ) from error


# Columns of theta (m, 4). The logarithms keep steps and bounds of the same size everywhere.
LN_GAMMA, LN_ALPHA, BETA, BASELINE = range(4)

_N_GRID_GAMMA, _N_GRID_ALPHA = 28, 8
_MAX_STEPS = 200
# A step is small where it lowers chi-square by less than this share of chi-square per degree of
# freedom (1e-3 standard errors), or where no parameter changes by more than _SMALL_STEP.
_SMALL_GAIN = 1e-6
_SMALL_STEP = 1e-9
_FIRST_DAMPING, _LEAST_DAMPING, _MOST_DAMPING = 1e-3, 1e-10, 1e10


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """m curves to fit, and the box that theta is kept in."""

    ln_lag: FloatArray  # (n_lag,)
    y: FloatArray  # (m, n_lag), finite
    weights: FloatArray  # (m, n_lag), finite, 0 for what does not count
    beta: FloatArray | None  # (m,) where it is fixed, and then outside the box, too
    low: FloatArray  # (4,)
    high: FloatArray  # (4,)

    @property
    def free(self) -> list[int]:
        """Columns of theta that may change."""
        return [LN_GAMMA, LN_ALPHA, *([BETA] if self.beta is None else []), BASELINE]

    @property
    def freedom(self) -> IntArray:
        """Degrees of freedom, (m,)."""
        return np.count_nonzero(self.weights, axis=1) - len(self.free)


def grid_start(curves: Curves) -> FloatArray:
    """Return the best of a grid of (Gamma, alpha) as theta, (m, 4), inside the box.

    All curves share the grid and the lags, so the sums of the linear problems are three matrix
    products, whatever the number of curves.
    """
    low, high = curves.low, curves.high
    # Half a grid step inside the box: a start on a bound would be a bad one.
    axes = [_middles(low[LN_GAMMA], high[LN_GAMMA], _N_GRID_GAMMA)]
    axes += [_middles(low[LN_ALPHA], high[LN_ALPHA], _N_GRID_ALPHA)]
    ln_gamma, ln_alpha = grid_points(*axes)
    grid = GridCurves.of(kww_curves(ln_gamma, ln_alpha, curves.ln_lag))
    w = curves.weights / curves.weights.sum(axis=1, keepdims=True)
    mean = (w * curves.y).sum(axis=1, keepdims=True)
    # About the mean: no digits are lost in the sums, and that of the data is 0.
    s_ff, s_f, _, s_fy, _ = normal_equations(grid, w, w * (curves.y - mean))
    if curves.beta is None:
        slope = s_fy / np.maximum(s_ff - s_f**2, 1e-12)
        slope = np.clip(slope, low[BETA], high[BETA])
    else:
        slope = curves.beta[:, np.newaxis]
    offset = np.clip(mean - slope * s_f, low[BASELINE], high[BASELINE])
    about = offset - mean
    # chi-square less its part that no parameter changes
    cost = slope * (slope * s_ff - 2 * s_fy + 2 * about * s_f) + about**2
    best = cost.argmin(axis=1)
    at = np.arange(len(best)), best
    slopes = np.broadcast_to(slope, cost.shape)
    return np.stack([ln_gamma[best], ln_alpha[best], slopes[at], offset[at]], axis=1)


def _middles(low: float, high: float, count: int) -> FloatArray:
    """Return the middles of `count` equal parts of [low, high]."""
    edges = np.linspace(low, high, count + 1, dtype=np.float64)
    return (edges[1:] + edges[:-1]) / 2


def minimise(
    curves: Curves, start: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, BoolArray]:
    """Minimise sum w (y - model)^2 of every curve over its free parameters, inside the box.

    Each curve has its own damping and stops on its own. A parameter on a bound that wants to leave
    the box stays there for the step. Returns theta (m, 4); J^T W J there, (m, p, p) for p free
    parameters, whose inverse is their covariance; chi-square (m,); and whether the last step was
    small (m,).

    References
    ----------
    Marquardt, J. SIAM 11, 431 (1963); damping scaled by the diagonal of J^T W J.
    """
    theta, free = start.copy(), np.array(curves.free)
    box = curves.low[free], curves.high[free]
    freedom = np.maximum(curves.freedom, 1)
    todo = np.arange(len(theta))
    chi_square, gradient, curvature = _normal_equations(curves, todo, theta)
    settled = np.zeros(len(theta), dtype=np.bool_)
    damping = np.full(len(theta), _FIRST_DAMPING)
    for _ in range(_MAX_STEPS):
        here = theta[np.ix_(todo, free)]
        force = gradient[todo]
        step = _step_in_box(curvature[todo], force, damping[todo], here, box)
        bend = np.einsum("mp,mpq,mq->m", step, curvature[todo], step)
        gain = 2 * (force * step).sum(axis=1) - bend
        small = np.abs(gain) <= _SMALL_GAIN * chi_square[todo] / freedom[todo]
        small |= np.abs(step).max(axis=1) <= _SMALL_STEP
        small &= damping[todo] < 1  # a short step is no sign of a minimum while it is held back
        settled[todo[small]] = True
        go = ~small & (damping[todo] < _MOST_DAMPING)
        todo, here, step = todo[go], here[go], step[go]
        if not todo.size:
            break
        trial = theta[todo]
        trial[:, free] = here + step
        cost, slope, bends = _normal_equations(curves, todo, trial)
        chi_square_before = chi_square[todo]
        better = cost < chi_square_before
        won = todo[better]
        theta[won], chi_square[won] = trial[better], cost[better]
        gradient[won], curvature[won] = slope[better], bends[better]
        # How much of the gain that was expected came: a straight valley takes less damping, a bent
        # one more.
        came, expected = chi_square_before - cost, np.maximum(gain[go], 0.0)
        factor = np.where(better, 2.0, 8.0)
        factor[came > 0.25 * expected] = 0.5
        factor[came > 0.75 * expected] = 0.1
        damping[todo] = np.maximum(damping[todo] * factor, _LEAST_DAMPING)
    return theta, curvature, chi_square, settled


def _normal_equations(
    curves: Curves, some: IntArray, theta: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return chi-square (m,), J^T W r (m, p) and J^T W J (m, p, p) of `some` at theta (m, 4)."""
    from . import fit_kernels as kernels

    free = np.array(curves.free)
    exponent = np.exp(theta[:, LN_ALPHA, np.newaxis]) * (
        theta[:, LN_GAMMA, np.newaxis] + curves.ln_lag
    )
    decay = np.exp(exponent)
    f = np.exp(-2 * decay)
    m, p = len(some), len(free)
    chi_square, gradient, curvature = np.empty(m), np.empty((m, p)), np.empty((m, p, p))
    known = (np.require(one, np.float64, ["C", "W"]) for one in (curves.y, curves.weights))
    kernels.normal_equations(
        *known, some, theta, exponent, decay, f, free, chi_square, gradient, curvature
    )
    return chi_square, gradient, curvature


def _step_in_box(
    curvature: FloatArray,
    gradient: FloatArray,
    damping: FloatArray,
    here: FloatArray,
    box: tuple[FloatArray, FloatArray],
) -> FloatArray:
    """Return the damped step (m, p) that ends inside the box.

    What presses against a bound stays; what would cross a bound stops on it, and the step of the
    others is solved for anew, since it is not theirs any more.
    """
    low, high = box
    size = np.sqrt(np.einsum("mpp->mp", curvature))
    size = np.where(size > 0, size, 1.0)
    scaled = curvature / (size[:, :, np.newaxis] * size[:, np.newaxis, :])
    diagonal = np.arange(size.shape[1], dtype=np.int64)
    held = ((here <= low) & (gradient < 0)) | ((here >= high) & (gradient > 0))
    step = np.zeros_like(here)
    for _ in range(size.shape[1]):
        pull = np.einsum("mpq,mq->mp", scaled, np.where(held, step * size, 0.0))
        force = np.where(held, 0.0, gradient / size - pull)
        matrix = np.where(held[:, :, np.newaxis] | held[:, np.newaxis, :], 0.0, scaled)
        # A parameter without effect has no diagonal: the damping alone keeps the matrix regular.
        matrix[:, diagonal, diagonal] += np.where(held, 1.0, damping[:, np.newaxis])
        solved = np.linalg.solve(matrix, force[:, :, np.newaxis])[:, :, 0] / size
        wanted = np.where(held, step, solved)
        step = np.clip(here + wanted, low, high) - here
        crossing = ~held & ((here + wanted < low) | (here + wanted > high))
        if not crossing.any():
            break
        held |= crossing
    return step


# --- the model on a grid: contrast and offset solved for at each point -----------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class GridCurves:
    """Curves f of a model y = offset * one + beta f, with the products that sums over lags need.

    f = exp(-2 (Gamma lag)^alpha) at single lags, averaged over bins of lags or in another basis.
    """

    f: FloatArray = field(metadata=AXIS_1)  # (n_lag, n_grid)
    squared: FloatArray = field(metadata=AXIS_1)  # f^2
    cross: FloatArray = field(metadata=AXIS_1)  # f times `one`
    # (n_lag,): what an offset of 1 is in the basis of the lags; None: 1 at each.
    one: FloatArray | None = field(default=None, metadata=SHARED)

    @classmethod
    def of(cls, f: FloatArray, one: FloatArray | None = None) -> GridCurves:
        """Return curves from f, (n_grid, n_lag)."""
        table = np.ascontiguousarray(f.T)
        cross = table if one is None else np.ascontiguousarray((f * one).T)
        return cls(f=table, squared=table**2, cross=cross, one=one)

    def lags(self, n: int) -> GridCurves:
        """Return the first n lags of the curves, whose offset is 1; views."""
        return GridCurves(f=self.f[:n], squared=self.squared[:n], cross=self.cross[:n])


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearSolution:
    """beta and offset of n sets of data at every grid point; arrays (n, n_grid) or (n, 1)."""

    # A = X^T W X + P with X = (f, one), and its determinant: A^-1 is the covariance.
    a11: FloatArray
    a12: FloatArray
    a22: FloatArray
    determinant: FloatArray
    # A^-1 b with b = X^T W y + P m.
    beta: FloatArray
    offset: FloatArray
    # b^T A^-1 b / 2 - ln(det A) / 2, up to what no grid point changes.
    log_evidence: FloatArray


def grid_points(ln_rates: FloatArray, ln_alphas: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return ln Gamma and ln alpha of every point of a grid, alpha running fastest."""
    return np.repeat(ln_rates, ln_alphas.size), np.tile(ln_alphas, ln_rates.size)


def kww_curves(ln_rate: FloatArray, ln_alpha: FloatArray, ln_lag: FloatArray) -> FloatArray:
    """Return exp(-2 (Gamma lag)^alpha) of n grid points, (n, n_lag)."""
    power = np.exp(ln_alpha)[:, np.newaxis] * (ln_rate[:, np.newaxis] + ln_lag)
    return np.exp(-2 * np.exp(np.minimum(power, 50.0)))  # 0 long before that


def normal_equations(
    curves: GridCurves, weights: FloatArray, weighted: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return a11, a12, a22, b1, b2 of X^T W X and X^T W y; (n, n_grid), a22 and b2 (n, 1).

    `weights` are inverse variances, `weighted` they times the data, both (n, n_lag).
    """
    if curves.one is None:
        a22, b2 = weights.sum(axis=1), weighted.sum(axis=1)
    else:
        a22, b2 = weights @ curves.one**2, weighted @ curves.one
    return (
        weights @ curves.squared,
        weights @ curves.cross,
        a22[:, np.newaxis],
        weighted @ curves.f,
        b2[:, np.newaxis],
    )


def solve_linear(
    curves: GridCurves,
    weights: FloatArray,
    weighted: FloatArray,
    *,
    precision: FloatArray,
    pull: FloatArray,
) -> LinearSolution:
    """Solve for beta and offset at every grid point, with a Gaussian prior of both.

    `precision` P and `pull` P m of the prior are (n, 1, 2, 2) and (n, 1, 2), or (1, n_grid, 2, 2)
    and (1, n_grid, 2); the others as for `normal_equations`.
    """
    a11, a12, a22, b1, b2 = normal_equations(curves, weights, weighted)
    a11 += precision[..., 0, 0]
    a12 += precision[..., 0, 1]
    a22 = a22 + precision[..., 1, 1]
    b1 += pull[..., 0]
    b2 = b2 + pull[..., 1]
    determinant = a11 * a22 - a12**2
    beta = (a22 * b1 - a12 * b2) / determinant
    offset = (b2 - a12 * beta) / a22
    return LinearSolution(
        a11=a11,
        a12=a12,
        a22=a22,
        determinant=determinant,
        beta=beta,
        offset=offset,
        log_evidence=(b1 * beta + b2 * offset - np.log(determinant)) / 2,
    )


def grid_mass(log_weight: FloatArray) -> FloatArray:
    """Return the probability of each grid point, (n, n_grid), from its logarithm and a constant."""
    # What is far below the maximum would be a denormal number, which is slow and adds nothing.
    mass = np.exp(np.maximum(log_weight - log_weight.max(axis=1, keepdims=True), -60.0))
    return mass / mass.sum(axis=1, keepdims=True)


def grid_moments(mass: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return mean and standard deviation of `values` (n_grid,) under each `mass` (n, n_grid)."""
    centre = values.mean()
    first = mass @ (values - centre)
    second = mass @ (values - centre) ** 2
    return centre + first, np.sqrt(np.maximum(second - first**2, 0.0))


def linear_moments(mass: FloatArray, solved: LinearSolution) -> tuple[FloatArray, FloatArray]:
    """Return mean (n, 2) and covariance (n, 2, 2) of beta and offset over the grid."""
    mean = np.stack([(mass * solved.beta).sum(axis=1), (mass * solved.offset).sum(axis=1)], axis=1)
    d_beta, d_offset = solved.beta - mean[:, :1], solved.offset - mean[:, 1:]
    over = mass / solved.determinant
    c11 = np.einsum("ng,ng,ng->n", mass, d_beta, d_beta) + (over * solved.a22).sum(axis=1)
    c12 = np.einsum("ng,ng,ng->n", mass, d_beta, d_offset) - (over * solved.a12).sum(axis=1)
    c22 = np.einsum("ng,ng,ng->n", mass, d_offset, d_offset) + (over * solved.a11).sum(axis=1)
    return mean, np.stack([c11, c12, c12, c22], axis=1).reshape(-1, 2, 2)
