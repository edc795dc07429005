"""Gamma against q: one rate a ROI out of many ages, and the power law through them."""

# numpy's stubs leave the types of arange, indices and the like unknown.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST_ROIS = 3
_SWEEPS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerLaw:
    """Gamma = scale q^exponent.

    Attributes
    ----------
    exponent, exponent_error
        Of q, not of q^2: 2 for diffusion. The error is that of the straight line through the
        logarithms, from the scatter about it.
    scale
        Gamma at q = 1 / Angstrom, in the unit of the rates.
    """

    exponent: float
    exponent_error: float
    scale: float


def typical_rates(rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return one rate a ROI, comparable between ROIs that are known at different ages.

    ln Gamma(roi, age) = a(roi) + b(age) is fitted by sweeps over both means; the result is
    exp(a + mean of b). While a sample ages, plain means of what is known of each ROI would compare
    different ages.

    Parameters
    ----------
    rates
        Shape (n_roi, n_age), NaN where a rate is not known.

    Returns
    -------
    NDArray
        Shape (n_roi,), NaN for a ROI of which nothing is known.
    """
    logs = np.log(np.where(rates > 0, rates, np.nan))
    known = np.isfinite(logs)
    logs[~known] = 0.0
    n_ages, n_rois = known.sum(axis=1), known.sum(axis=0)
    of_roi, of_age = np.zeros(logs.shape[0]), np.zeros(logs.shape[1])
    for _ in range(_SWEEPS):
        of_roi = ((logs - of_age) * known).sum(axis=1) / np.maximum(n_ages, 1)
        of_age = ((logs - of_roi[:, np.newaxis]) * known).sum(axis=0) / np.maximum(n_rois, 1)
    middle = of_age[n_rois > 0].mean() if n_rois.any() else 0.0
    return np.where(n_ages > 0, np.exp(of_roi + middle), np.nan)


def fit_power_law(q: NDArray[np.float64], rates: NDArray[np.float64]) -> PowerLaw | None:
    """Fit a straight line to ln Gamma against ln q.

    Parameters
    ----------
    q, rates
        Shape (n_roi,); entries that are not both finite and positive are left out.

    Returns
    -------
    PowerLaw or None
        None with fewer than LEAST_ROIS different q.
    """
    good = np.isfinite(q) & np.isfinite(rates) & (q > 0) & (rates > 0)
    if len(np.unique(q[good])) < LEAST_ROIS:
        return None
    x, y = np.log(q[good]), np.log(rates[good])
    away = x - x.mean()
    exponent = float(away @ y / (away @ away))
    offset = float(y.mean() - exponent * x.mean())
    scatter = float(np.sum((y - offset - exponent * x) ** 2) / (len(x) - 2))
    return PowerLaw(
        exponent=exponent,
        exponent_error=math.sqrt(scatter / float(away @ away)),
        scale=math.exp(offset),
    )
