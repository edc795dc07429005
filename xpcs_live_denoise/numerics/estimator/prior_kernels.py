"""Gaussian priors of contrast and baseline: their precisions, and what data add to them."""

from __future__ import annotations

import math

from xpcs_live_denoise.numerics.compiled import kernel
from xpcs_live_denoise.records.types import FloatArray

from .grid import BETA, COVARIANCE, OFFSET, VAR_BETA, VAR_OFFSET

_PRIORS = "float64[:, ::1], float64[:, :, ::1]"


@kernel(f"void({_PRIORS}, float64[:, ::1])", makes_arrays=False)
def know(mean: FloatArray, covariance: FloatArray, known: FloatArray) -> None:
    """Fill known (n, 5) with P11, P12, P22 and P m of priors, one of them or n."""
    for i in range(len(known)):
        at = min(i, len(mean) - 1)
        a, b, c = covariance[at, 0, 0], covariance[at, 0, 1], covariance[at, 1, 1]
        determinant = a * c - b * b
        p, q, r = c / determinant, -b / determinant, a / determinant
        known[i, 0], known[i, 1], known[i, 2] = p, q, r
        known[i, 3] = p * mean[at, 0] + q * mean[at, 1]
        known[i, 4] = q * mean[at, 0] + r * mean[at, 1]


@kernel(
    f"void(float64[:, :, ::1], {_PRIORS}, float64[:, :, :, ::1], float64[:, :, ::1])",
    makes_arrays=False,
)
def gain(
    columns: FloatArray,
    mean: FloatArray,
    covariance: FloatArray,
    gained: FloatArray,
    pull: FloatArray,
) -> None:
    """Fill what posteriors (n_prior, n, N_COLUMN) of pieces tell beyond their priors (n_prior, 2).

    The gain in the precision of beta and offset, (n_prior, n, 2, 2), and that times what a piece
    says of them, (n_prior, n, 2). A posterior that is no Gaussian can be wider than the prior in
    some direction: no gain.
    """
    for i in range(columns.shape[0]):
        a, b, c = covariance[i, 0, 0], covariance[i, 0, 1], covariance[i, 1, 1]
        over = 1 / (a * c - b * b)
        p11, p12, p22 = c * over, -b * over, a * over
        for j in range(columns.shape[1]):
            found = columns[i, j]
            a, b, c = found[VAR_BETA], found[COVARIANCE], found[VAR_OFFSET]
            over = 1 / (a * c - b * b)
            g11, g12, g22 = c * over - p11, -b * over - p12, a * over - p22
            middle, root = (g11 + g22) / 2, math.sqrt(((g11 - g22) / 2) ** 2 + g12 * g12)
            least, most = middle - root, middle + root
            if least < 0:
                share = most / (most - least) if most > 0 else 0.0
                g11, g12, g22 = share * (g11 - least), share * g12, share * (g22 - least)
            gained[i, j, 0, 0], gained[i, j, 0, 1] = g11, g12
            gained[i, j, 1, 0], gained[i, j, 1, 1] = g12, g22
            # The offset of a piece is its gain in information times what it says: this is wanted.
            x, y = found[BETA] - mean[i, 0], found[OFFSET] - mean[i, 1]
            pull[i, j, 0] = g11 * found[BETA] + g12 * found[OFFSET] + p11 * x + p12 * y
            pull[i, j, 1] = g12 * found[BETA] + g22 * found[OFFSET] + p12 * x + p22 * y


@kernel(f"void({_PRIORS}, float64[:, :, ::1], float64[:, ::1], {_PRIORS})", makes_arrays=False)
def join(  # noqa: PLR0917
    mean: FloatArray,
    covariance: FloatArray,
    precision: FloatArray,
    pull: FloatArray,
    joint_mean: FloatArray,
    joint_covariance: FloatArray,
) -> None:
    """Fill mean and covariance of priors (n, 2) together with what pieces told beyond them."""
    for i in range(len(mean)):
        a, b, c = covariance[i, 0, 0], covariance[i, 0, 1], covariance[i, 1, 1]
        over, x, y = 1 / (a * c - b * b), mean[i, 0], mean[i, 1]
        p11, p12, p22 = c * over, -b * over, a * over
        u, v = pull[i, 0] + p11 * x + p12 * y, pull[i, 1] + p12 * x + p22 * y
        p11, p12, p22 = (
            p11 + precision[i, 0, 0],
            p12 + precision[i, 0, 1],
            p22 + precision[i, 1, 1],
        )
        over = 1 / (p11 * p22 - p12 * p12)
        a, b, c = p22 * over, -p12 * over, p11 * over
        joint_covariance[i, 0, 0], joint_covariance[i, 0, 1] = a, b
        joint_covariance[i, 1, 0], joint_covariance[i, 1, 1] = b, c
        joint_mean[i, 0], joint_mean[i, 1] = a * u + b * v, b * u + c * v
