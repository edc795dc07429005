"""Fits many KWW curves at once: a start from a grid, then damped Gauss-Newton steps in a box."""

# numpy's stubs leave the types of arange, indices and the like unknown.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

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
    """m curves to fit.

    Attributes
    ----------
    ln_lag
        Shape (n_lag,).
    y, weights
        Shape (m, n_lag), finite; weight 0 for what does not count.
    beta
        Shape (m,) where it is fixed, else None.
    low, high
        Shape (4,): the box that theta is kept in, but for a fixed beta.
    """

    ln_lag: Floats
    y: Floats
    weights: Floats
    beta: Floats | None
    low: Floats
    high: Floats

    @property
    def free(self) -> list[int]:
        """Columns of theta that may change."""
        return [LN_GAMMA, LN_ALPHA, *([BETA] if self.beta is None else []), BASELINE]

    @property
    def freedom(self) -> NDArray[np.int64]:
        """Degrees of freedom, (m,)."""
        return np.count_nonzero(self.weights, axis=1) - len(self.free)


def grid_start(curves: Curves) -> Floats:
    """Return the best of a grid of (Gamma, alpha), beta and baseline solved for at each point.

    All curves share the grid and the lags, so the sums of the linear problems are three matrix
    products, whatever the number of curves.

    Returns
    -------
    NDArray
        Shape (m, 4), inside the box but for a fixed beta.
    """
    low, high, weights = curves.low, curves.high, curves.weights
    # Half a grid step inside the box: a start on a bound would be a bad one.
    edges = [
        np.linspace(low[k], high[k], count + 1)
        for k, count in ((LN_GAMMA, _N_GRID_GAMMA), (LN_ALPHA, _N_GRID_ALPHA))
    ]
    ln_gamma, ln_alpha = np.meshgrid(*((edge[1:] + edge[:-1]) / 2 for edge in edges))
    ln_gamma, ln_alpha = ln_gamma.reshape(-1, 1), ln_alpha.reshape(-1, 1)
    f = np.exp(-2 * np.exp(np.exp(ln_alpha) * (ln_gamma + curves.ln_lag)))  # (n_grid, n_lag)
    w = weights / weights.sum(axis=1, keepdims=True)
    mean = (w * curves.y).sum(axis=1, keepdims=True)
    wy = w * (curves.y - mean)  # about the mean: no digits are lost in the sums
    s_f, s_ff, s_fy = w @ f.T, w @ (f * f).T, wy @ f.T  # (m, n_grid) each
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
    return np.stack([ln_gamma[best, 0], ln_alpha[best, 0], slopes[at], offset[at]], axis=1)


def minimise(curves: Curves, start: Floats) -> tuple[Floats, Floats, Floats, NDArray[np.bool_]]:
    """Minimise sum w (y - model)^2 of every curve over its free parameters, inside the box.

    Each curve has its own damping and stops on its own. A parameter on a bound that wants to leave
    the box stays there for the step.

    Parameters
    ----------
    start
        Shape (m, 4).

    Returns
    -------
    theta
        Shape (m, 4).
    curvature
        Shape (m, p, p) for p free parameters: J^T W J there, whose inverse is their covariance.
    chi_square
        Shape (m,).
    settled
        Shape (m,): the last step was small.

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
    curves: Curves, some: NDArray[np.int64], theta: Floats
) -> tuple[Floats, Floats, Floats]:
    """Return chi-square (m,), J^T W r (m, p) and J^T W J (m, p, p) of `some` at theta (m, 4)."""
    y, weights = curves.y[some], curves.weights[some]
    ln_gamma, ln_alpha, beta, baseline = (theta[:, k, np.newaxis] for k in range(4))
    alpha = np.exp(ln_alpha)
    exponent = alpha * (ln_gamma + curves.ln_lag)  # ln (Gamma lag)^alpha, (m, n_lag)
    decay = np.exp(exponent)
    jacobian = np.empty((len(y), 4, y.shape[1]))
    f = np.exp(-2 * decay, out=jacobian[:, BETA])
    jacobian[:, BASELINE] = 1.0
    np.multiply(decay, f, out=decay)
    np.multiply(decay, -2 * beta * alpha, out=jacobian[:, LN_GAMMA])
    np.multiply(decay, -2 * beta * exponent, out=jacobian[:, LN_ALPHA])
    residual = y - baseline - beta * f
    if curves.beta is not None:
        jacobian = jacobian[:, curves.free]
    weighted = jacobian * weights[:, np.newaxis]
    gradient = (weighted @ residual[:, :, np.newaxis])[:, :, 0]
    curvature = weighted @ jacobian.transpose(0, 2, 1)
    return np.einsum("ml,ml,ml->m", weights, residual, residual), gradient, curvature


def _step_in_box(
    curvature: Floats,
    gradient: Floats,
    damping: Floats,
    here: Floats,
    box: tuple[Floats, Floats],
) -> Floats:
    """Return the damped step (m, p) that ends inside the box.

    What presses against a bound stays; what would cross a bound stops on it, and the step of the
    others is solved for anew, since it is not theirs any more.
    """
    low, high = box
    size = np.sqrt(np.einsum("mpp->mp", curvature))
    size = np.where(size > 0, size, 1.0)
    scaled = curvature / (size[:, :, np.newaxis] * size[:, np.newaxis, :])
    diagonal = np.arange(size.shape[1])
    held = ((here <= low) & (gradient < 0)) | ((here >= high) & (gradient > 0))
    step = np.zeros_like(here)
    for _ in diagonal:
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
