"""KWW curves on a grid of Gamma and alpha, averaged over lag bins."""

# numpy's stubs leave the types of arange, indices and the like unknown.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .lag_bins import lag_bin_edges

N_RATE, N_ALPHA = 160, 20
"""Grid points of ln Gamma and of ln alpha."""
HIGHEST_RATE = 1.5
"""Highest Gamma of the grid, per frame; the lowest is 0.1 over the longest lag."""
_LOWEST_RATE_BY_LAG = 0.1
_ALPHA_RANGE = (0.3, 2.5)
_ALPHA_SCATTER = 0.35  # standard deviation of ln alpha about 0, a priori
_EDGE = 3  # values of Gamma that count as the grid's edge, at either end


@dataclass(frozen=True, slots=True, kw_only=True)
class KwwGrid:
    """Curves f = exp(-2 (Gamma lag)^alpha), averaged over lag bins.

    Attributes
    ----------
    ln_rate, ln_alpha
        Shape (n_grid,): Gamma per frame.
    log_prior
        Shape (n_grid,): uniform in ln Gamma, normal in ln alpha; up to a constant.
    curves
        Shape (n_grid, n_bin).
    at_edge
        Shape (n_grid,): the outermost values of Gamma and alpha.
    step
        Step of ln Gamma.
    """

    ln_rate: NDArray[np.float64]
    ln_alpha: NDArray[np.float64]
    log_prior: NDArray[np.float64]
    curves: NDArray[np.float64]
    at_edge: NDArray[np.bool_]
    step: float

    def part(self, some: slice) -> KwwGrid:
        """Return some points of the grid."""
        return KwwGrid(
            ln_rate=self.ln_rate[some],
            ln_alpha=self.ln_alpha[some],
            log_prior=self.log_prior[some],
            curves=self.curves[some],
            at_edge=self.at_edge[some],
            step=self.step,
        )


def kww_grid(longest_lag: int) -> KwwGrid:
    """Return the grid for a series: Gamma from 0.1 / longest lag to 1.5 per frame, both in ln.

    The longest lag is rounded up to the end of its bin, so that a growing series seldom needs a
    new grid.
    """
    return _grid(int(lag_bin_edges(max(longest_lag, 1))[-1]) - 1)


@functools.lru_cache(maxsize=8)
def _grid(longest_lag: int) -> KwwGrid:
    edges = lag_bin_edges(longest_lag)
    axis_rate = np.linspace(np.log(_LOWEST_RATE_BY_LAG / longest_lag), np.log(HIGHEST_RATE), N_RATE)
    axis_alpha = np.linspace(np.log(_ALPHA_RANGE[0]), np.log(_ALPHA_RANGE[1]), N_ALPHA)
    ln_rate = np.repeat(axis_rate, N_ALPHA)
    ln_alpha = np.tile(axis_alpha, N_RATE)
    ln_lag = np.log(np.arange(1, edges[-1]))
    curves = np.empty((ln_rate.size, len(edges) - 1))
    for first in range(0, ln_rate.size, N_ALPHA):  # a value of Gamma at a time bounds the memory
        some = slice(first, first + N_ALPHA)
        exponent = np.exp(ln_alpha[some, np.newaxis])
        values = np.exp(-2 * np.exp(exponent * (ln_rate[some, np.newaxis] + ln_lag)))
        curves[some] = np.add.reduceat(values, edges[:-1] - 1, axis=1) / np.diff(edges)
    rate_index, alpha_index = np.divmod(np.arange(ln_rate.size), N_ALPHA)
    return KwwGrid(
        ln_rate=ln_rate,
        ln_alpha=ln_alpha,
        log_prior=-((ln_alpha / _ALPHA_SCATTER) ** 2) / 2,
        curves=curves,
        at_edge=(np.minimum(rate_index, N_RATE - 1 - rate_index) < _EDGE)
        | (np.minimum(alpha_index, N_ALPHA - 1 - alpha_index) < 1),
        step=float(axis_rate[1] - axis_rate[0]),
    )
