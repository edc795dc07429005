"""Logarithmic bins of the lag: what long lags tell, in few numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RATIO = 1.07
"""Upper edge over lower edge of a bin, where bins are wider than one lag."""


def lag_bin_edges(longest: int) -> NDArray[np.int64]:
    """Return the edges of the bins that hold the lags 1 .. `longest`.

    A longer series has the same bins and some more: the edges do not depend on `longest`, which
    only says where to stop.

    Parameters
    ----------
    longest
        Longest lag, frames, at least 1.

    Returns
    -------
    edges
        Shape (n_bin + 1,): bin i holds the lags edges[i] .. edges[i + 1] - 1. The first ones hold
        one lag each; the last may reach beyond `longest`.
    """
    edges = [1]
    while edges[-1] <= longest:
        edges.append(max(edges[-1] + 1, round(RATIO * edges[-1])))
    return np.array(edges, dtype=np.int64)


def bin_of_lag(edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the bin of every lag 1 .. edges[-1] - 1, in that order."""
    return np.repeat(np.arange(len(edges) - 1), np.diff(edges))
