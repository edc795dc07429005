"""How wide a cut may be: the bias that a width brings where Gamma changes with age."""

# numpy's stubs leave the types of arange, indices and the like unknown.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WIDTHS = (3, 5, 9, 15, 25, 41, 65)
"""Widths of cuts, frames, of which each age takes the best."""

CURVE_WIDTH = 41
"""Width of the cuts whose Gamma tells slope and curvature."""

REACH = 40
"""Ages that tell slope and curvature at one: up to this many frames away."""


def slope_and_curvature(
    age: NDArray[np.float64],
    curve_age: NDArray[np.float64],
    ln_rate: NDArray[np.float64],
    ln_rate_sd: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return first and second derivative of ln Gamma with age, from a weighted quadratic.

    Parameters
    ----------
    age
        Shape (n,): where they are wanted, frames.
    curve_age, ln_rate, ln_rate_sd
        Shape (m,): the curve and its standard deviations, which weigh it.

    Returns
    -------
    slope, curvature
        Shape (n,): per frame, per frame^2. 0 where less than four points tell.
    """
    distance = (curve_age - age[:, np.newaxis]) / REACH  # (n, m)
    near = np.abs(distance) <= 1
    weight = np.where(near, 1 / np.maximum(ln_rate_sd, 1e-3) ** 2, 0.0)
    weight /= np.maximum(weight.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    powers = distance[..., np.newaxis] ** np.arange(3)  # (n, m, 3)
    matrix = np.einsum("nm,nmi,nmj->nij", weight, powers, powers)
    vector = np.einsum("nm,nmi,m->ni", weight, powers, ln_rate)
    enough = near.sum(axis=1) >= 4
    solved = np.zeros((len(age), 3))
    if enough.any():
        inverse = np.linalg.pinv(matrix[enough], hermitian=True)
        solved[enough] = np.einsum("nij,nj->ni", inverse, vector[enough])
    return solved[:, 1] / REACH, 2 * solved[:, 2] / REACH**2


def width_bias(
    slope: NDArray[np.float64], curvature: NDArray[np.float64], rows: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the bias of ln Gamma that each width brings: r^2/24 (|curvature| + slope^2).

    Parameters
    ----------
    slope, curvature
        Shape (n,), of `slope_and_curvature`.
    rows
        Shape (n, n_width): r, frames that the cuts of WIDTHS have; less than their width where
        they leave the series or would reach across a jump.
    """
    return rows**2 / 24 * (np.abs(curvature) + slope**2)[:, np.newaxis]


def cut_rows(
    age: NDArray[np.int64], first: NDArray[np.int64], stop: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return how many frames of [first, stop) the cuts of WIDTHS at each age have, (n, n_width)."""
    reach = np.array(WIDTHS) // 2
    low = np.maximum(age[:, np.newaxis] - reach, first[:, np.newaxis])
    high = np.minimum(age[:, np.newaxis] + reach + 1, stop[:, np.newaxis])
    return high - low
