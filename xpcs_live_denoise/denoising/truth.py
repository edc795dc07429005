"""What methods are compared with: each input's target, and the cuts that share no frame with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpcs_live_denoise.records.results import GammaTable
from xpcs_live_denoise.numerics.fits import fit_g2
from xpcs_live_denoise.numerics.windows import WINDOW

from .data import WindowData
from .metrics import disjoint_truth
from .triangle import one_time

# Entries of C2 behind each lag 1..49 of a window's g2: the weights of every weighted fit here.
LAG_WEIGHTS = (WINDOW - np.arange(1, WINDOW)).astype(np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """One truth for every input that has it.

    Attributes
    ----------
    rows
        Shape (n,): the inputs that have it.
    c2
        Shape (n, 1275), triangles.
    rates
        The weighted fit to each g2, all parameters free; Gamma per frame.
    """

    rows: NDArray[np.int64]
    c2: NDArray[np.float32]
    rates: GammaTable


def truths(data: WindowData) -> dict[str, Truth]:
    """Return the two truths of a data set.

    "target": the mean of all cuts of a series. It contains the input, which flatters methods that
    leave the input as it is. "frame_disjoint": the mean of the cuts that share no frame with the
    input, which is noisier and flatters none; inputs without such cuts are left out, and so is
    this truth where there are none.
    """
    fits = weighted_fit(data.target).select(data.target_index)
    c2, known = disjoint_truth(data)
    rows = np.flatnonzero(known)
    everyone, target = np.arange(len(data)), data.target[data.target_index]
    found = {"target": Truth(rows=everyone, c2=target, rates=fits)}
    if len(rows):
        found["frame_disjoint"] = Truth(rows=rows, c2=c2[rows], rates=weighted_fit(c2[rows]))
    return found


def weighted_fit(c2: NDArray[Any]) -> GammaTable:
    """Fit g2 of triangles (n, 1275), weights 50 - lag, all parameters free; rates per frame."""
    return fit_g2(one_time(c2).astype(np.float64), weights=LAG_WEIGHTS)
