"""The sums over lags of least-squares fits of the KWW model, curve by curve."""

from __future__ import annotations

import numpy as np

from xpcs_live_denoise.records.types import FloatArray, IntArray

from .compiled import kernel


@kernel(
    "void(float64[:, ::1], float64[:, ::1], int64[::1], float64[:, ::1], float64[:, ::1],"
    " float64[:, ::1], float64[:, ::1], int64[::1], float64[::1], float64[:, ::1],"
    " float64[:, :, ::1])"
)
def normal_equations(  # noqa: PLR0917 (numba knows no keyword-only arguments)
    y: FloatArray,
    weights: FloatArray,
    some: IntArray,
    theta: FloatArray,
    exponent: FloatArray,
    decay: FloatArray,
    f: FloatArray,
    free: IntArray,
    chi_square: FloatArray,
    gradient: FloatArray,
    curvature: FloatArray,
) -> None:
    """Fill chi-square (m,), J^T W r (m, p) and J^T W J (m, p, p) of the curves `some` (m,).

    `exponent` (m, n_lag) is ln (Gamma lag)^alpha, `decay` its exponential and f that of -2 decay;
    theta (m, 4) are ln Gamma, ln alpha, beta and baseline, of which the columns `free` may change.
    """
    m, n_lag = f.shape
    jacobian, residual = np.ones((4, n_lag)), np.empty(n_lag)
    for k in range(m):
        values, weight, curve = y[some[k]], weights[some[k]], f[k]
        alpha, beta, baseline = np.exp(theta[k, 1]), theta[k, 2], theta[k, 3]
        total = 0.0
        for b in range(n_lag):
            slope = -2 * beta * decay[k, b] * curve[b]
            jacobian[0, b], jacobian[1, b] = slope * alpha, slope * exponent[k, b]
            jacobian[2, b] = curve[b]
            r = values[b] - baseline - beta * curve[b]
            residual[b] = weight[b] * r
            total += weight[b] * r * r
        chi_square[k] = total
        for i in range(len(free)):
            row = jacobian[free[i]]
            total = 0.0
            for b in range(n_lag):
                total += row[b] * residual[b]
            gradient[k, i] = total
            for j in range(i + 1):
                other = jacobian[free[j]]
                total = 0.0
                for b in range(n_lag):
                    total += weight[b] * row[b] * other[b]
                curvature[k, i, j] = total
                curvature[k, j, i] = total
