"""Logarithms and exponentials of many numbers, for powers: the compiler makes vectors of them."""

from __future__ import annotations

import numpy as np

from xpcs_live_denoise.numerics.compiled import kernel
from xpcs_live_denoise.records.types import FloatArray

_LOG2_E, _LN_2, _ROOT_2 = 1.4426950408889634, 0.6931471805599453, 1.4142135623730951
_FRACTION, _ONE, _BIAS, _SHIFT = 0xFFFFFFFFFFFFF, 0x3FF0000000000000, 1023, 52  # of a float64
_LOWEST = -700.0


@kernel(makes_arrays=False)
def logarithms(x: FloatArray, whole: FloatArray, part: FloatArray, out: FloatArray) -> None:
    """Fill out with ln x for positive x, to 1e-15: the compiler makes vectors of plain sums only.

    `whole` and `part` are room for as many numbers.
    """
    bits = part.view(np.int64)
    for i in range(len(x)):
        part[i] = x[i]
    for i in range(len(x)):
        whole[i] = np.int32(bits[i] >> _SHIFT) - np.int32(_BIAS)
        bits[i] = (bits[i] & _FRACTION) | _ONE
    for i in range(len(x)):
        m, e = part[i], whole[i]
        if m > _ROOT_2:
            m *= 0.5
            e += 1.0
        s = (m - 1) / (m + 1)
        z = s * s
        p = 1 / 13 + z * (1 / 15 + z * (1 / 17 + z * (1 / 19)))
        p = 1 / 3 + z * (1 / 5 + z * (1 / 7 + z * (1 / 9 + z * (1 / 11 + z * p))))
        out[i] = e * _LN_2 + 2 * s * (1 + z * p)


@kernel(makes_arrays=False)
def exponentials(x: FloatArray, out: FloatArray) -> None:
    """Fill out with exp x for x up to 700, to 1e-15."""
    bits = out.view(np.int64)
    for i in range(len(x)):
        k = np.floor(max(x[i], _LOWEST) * _LOG2_E + 0.5)
        bits[i] = (np.int64(np.int32(k)) + _BIAS) << _SHIFT
    for i in range(len(x)):
        k = np.int32((bits[i] >> _SHIFT) - _BIAS)
        r = max(x[i], _LOWEST) - k * _LN_2
        p = 1 / 40320 + r * (1 / 362880 + r * (1 / 3628800 + r * (1 / 39916800 + r / 479001600)))
        p = 1 / 24 + r * (1 / 120 + r * (1 / 720 + r * (1 / 5040 + r * p)))
        out[i] *= 1 + r * (1 + r * (1 / 2 + r * (1 / 6 + r * p)))
