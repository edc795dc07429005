"""Delete-one jackknife over pixel blocks: variances of means and estimates, and a test of fit."""

# numpy's stubs leave the types of arange, indices and the like unknown.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SMOOTH = 5  # neighbouring lag bins over which the variance of stacked residuals is averaged


def jackknife_variance(left_out: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (B - 1)/B sum_b (x_b - mean)^2 over axis 0.

    Parameters
    ----------
    left_out
        Shape (B, ...): what is estimated without block b.

    References
    ----------
    Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 11.
    """
    n = len(left_out)
    return (n - 1) / n * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0)


class StackedResiduals:
    """Residuals of fits, stacked over ages: what a wrong model leaves at the same lags each time.

    Its state is three weighted sums a lag bin; `add` returns a new one.

    Parameters
    ----------
    weight, total
        Shape (n_bin,): sum of weights, and of weighted residuals.
    left_out
        Shape (n_block, n_bin): the same as `total` with one pixel block left out.
    """

    def __init__(
        self,
        weight: NDArray[np.float64] | None = None,
        total: NDArray[np.float64] | None = None,
        left_out: NDArray[np.float64] | None = None,
    ) -> None:
        self._weight = np.zeros(0) if weight is None else weight
        self._total = np.zeros(0) if total is None else total
        self._left_out = np.zeros((1, 0)) if left_out is None else left_out

    def add(
        self,
        weights: NDArray[np.float64],
        residual: NDArray[np.float64],
        left_out: NDArray[np.float64],
    ) -> StackedResiduals:
        """Return the stack with more ages.

        Parameters
        ----------
        weights, residual
            Shape (n_age, n_bin); not less bins than before.
        left_out
            Shape (n_block, n_age, n_bin): residuals of the fits without a block.
        """
        more = weights.shape[1] - len(self._weight)
        return StackedResiduals(
            np.pad(self._weight, (0, more)) + weights.sum(axis=0),
            np.pad(self._total, (0, more)) + (weights * residual).sum(axis=0),
            np.pad(self._left_out, ((0, 0), (0, more))) + (weights * left_out).sum(axis=1),
        )

    def misfit(self) -> float:
        """Return T: the mean over lag bins of residual^2 in units of its jackknife variance.

        The residual of a bin is the weighted mean over ages, its variance an average over 5 bins.
        T is about 1 where the model is right. NaN without data.
        """
        known = self._weight > 0
        if not known.any():
            return float("nan")
        mean = self._total[known] / self._weight[known]
        variance = jackknife_variance(self._left_out[:, known] / self._weight[known])
        ones = np.ones(min(_SMOOTH, variance.size))
        number = np.convolve(np.ones(variance.size), ones, "same")
        smooth = np.convolve(variance, ones, "same") / number
        return float(np.mean(mean**2 / np.maximum(smooth, np.finfo(np.float64).tiny)))
