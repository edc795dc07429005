"""The KWW model and its batched fit: thousands of g2 curves in one call."""

# numpy's stubs leave the types of arange, indices and the like unknown.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xpcs_live_denoise.errors import InvalidInputError

from .levenberg_marquardt import BETA, Curves, grid_start, minimise

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
class KwwBounds:
    """Bounds of the parameters, each (lowest, highest).

    Attributes
    ----------
    relaxation_rate
        Gamma per frame. None: GAMMA_BOUNDS, the lower one not above 0.1 / longest lag.
    alpha, beta, baseline
        Without a unit. A beta that is given is not bounded.
    """

    relaxation_rate: Bounds | None = None
    alpha: Bounds = ALPHA_BOUNDS
    beta: Bounds = BETA_BOUNDS
    baseline: Bounds = BASELINE_BOUNDS


@dataclass(frozen=True, slots=True, kw_only=True)
class KwwFit:
    """Fitted parameters of m curves; every attribute has shape (m,).

    Attributes
    ----------
    relaxation_rate, alpha, beta, baseline
        Gamma per frame and the others; NaN where no fit was possible.
    relaxation_rate_error, alpha_error, beta_error, baseline_error
        Standard errors from the Jacobian; 0 for a beta that was given; NaN where not converged.
    reduced_chi_square
        chi-square over its degrees of freedom; NaN where no fit was possible.
    n_lags
        Lags with a finite value and a weight above 0.
    converged
        The last step was small and no parameter lies on a bound.
    """

    relaxation_rate: NDArray[np.float64]
    relaxation_rate_error: NDArray[np.float64]
    alpha: NDArray[np.float64]
    alpha_error: NDArray[np.float64]
    beta: NDArray[np.float64]
    beta_error: NDArray[np.float64]
    baseline: NDArray[np.float64]
    baseline_error: NDArray[np.float64]
    reduced_chi_square: NDArray[np.float64]
    n_lags: NDArray[np.int64]
    converged: NDArray[np.bool_]


def kww(
    lags: ArrayLike,
    relaxation_rate: ArrayLike,
    alpha: ArrayLike = 1.0,
    beta: ArrayLike = 1.0,
    baseline: ArrayLike = 1.0,
) -> NDArray[np.float64]:
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
    bounds: KwwBounds | None = None,
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
    bounds
        Default: those of `KwwBounds`.
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
    low, high = _box(bounds or KwwBounds(), lag)
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


def _fit_chunk(
    curves: Curves, *, scale_errors: bool
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
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


def _standard_errors(curvature: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the roots of the diagonal of the inverse, (m, p); NaN where it has none."""
    size = np.sqrt(np.einsum("mpp->mp", curvature))
    scaled = curvature / np.maximum(size[:, :, np.newaxis] * size[:, np.newaxis, :], 1e-300)
    good = np.isfinite(scaled).all(axis=(1, 2))
    good[good] = np.linalg.cond(scaled[good]) < 1e12
    errors = np.full(size.shape, np.nan)
    variance = np.einsum("mpp->mp", np.linalg.inv(scaled[good]))
    errors[good] = np.sqrt(np.where(variance > 0, variance, np.nan)) / size[good]
    return errors


def _box(
    bounds: KwwBounds, lag: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lower and upper bounds of theta, (4,) each."""
    slowest = min(GAMMA_BOUNDS[0], _SLOWEST / lag.max(initial=1.0))
    rate = bounds.relaxation_rate or (slowest, GAMMA_BOUNDS[1])
    box = np.array([np.log(rate), np.log(bounds.alpha), bounds.beta, bounds.baseline])
    if not (np.isfinite(box).all() and (box[:, 0] < box[:, 1]).all()):
        raise InvalidInputError(f"Fit: got {bounds}; expected (lowest, highest), rates above 0.")
    return box[:, 0], box[:, 1]


def _rows(value: ArrayLike, shape: tuple[int, ...], name: str) -> NDArray[np.float64]:
    """Return `value` broadcast to one row a curve."""
    array = np.asarray(value, np.float64)
    try:
        return np.broadcast_to(array, shape)
    except ValueError as error:
        raise InvalidInputError(
            f"Fit: got {name} of shape {array.shape}; expected {shape} or what broadcasts to it."
        ) from error
