"""A compiled encoder for members whose weights are shared along diagonals, where numba is there.

A diagonal goes from pixels to latent numbers in the nearest cache, 16 pixels at a time, and the
decoder gives 50 values instead of 1,275. Without numba the products of `fused.py` give the same
numbers more slowly.
"""

# numba carries no types.
# pyright: reportMissingTypeStubs=false, reportMissingImports=false

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xpcs_live_denoise.numerics.windows import WINDOW

from .model import CHANNELS, LATENT
from .triangle import LAG, N_PIXELS

# A register holds 16 numbers, or two registers 8 each: loops end on whole ones.
LANES = 16
# Places a lag takes, at most 50 pixels and their filling.
PLACES = -(-WINDOW // LANES) * LANES
WIDTH = -(-np.bincount(LAG) // LANES) * LANES  # (50,): places of each lag that are used


def _layout() -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the pixel at each place of each lag, and 1 where it is no filling; (50, 64)."""
    pixel = np.zeros((WINDOW, PLACES), np.int64)
    real = np.zeros((WINDOW, PLACES), np.float32)
    for lag in range(WINDOW):
        pixels = np.flatnonzero(lag == LAG)
        pixel[lag, : len(pixels)] = pixels
        real[lag, : len(pixels)] = 1
    return pixel, real


PIXEL, REAL = _layout()


class TiedKernel:
    """Members whose weights are shared along diagonals, ready for the compiled encoder.

    Parameters
    ----------
    stacked
        The members' parameters as float32 arrays, named and shaped as in `stack_members`.
    compiled
        What `compiled_encoder` returns.
    """

    def __init__(self, stacked: Mapping[str, Tensor], compiled: Callable[..., None]) -> None:
        p = {name: tensor.numpy() for name, tensor in stacked.items()}
        m = len(p["conv1.weight"])
        square = (m, CHANNELS, CHANNELS)
        # The first row of a window, with which a triangle begins, holds every lag once.
        compress = p["compress.weight"].reshape(m, LATENT, CHANNELS, N_PIXELS)[..., :WINDOW]
        deconv1 = p["deconv1.weight"].reshape(square)  # (m, in, out)
        expand = p["expand.weight"].reshape(m, CHANNELS, N_PIXELS, LATENT)[:, :, :WINDOW]
        expand_bias = p["expand.bias"].reshape(m, CHANNELS, N_PIXELS)[:, :, :WINDOW]
        bias = np.einsum("mio,mip->mop", deconv1, expand_bias) + p["deconv1.bias"][..., None]
        self._compiled = compiled
        self._encoder = tuple(
            np.ascontiguousarray(array, dtype=np.float32)
            for array in (
                p["conv1.weight"].reshape(m, CHANNELS),
                p["conv1.bias"],
                p["conv2.weight"].reshape(square),
                p["conv2.bias"],
                compress.transpose(0, 3, 2, 1),  # (m, 50, 10, 8)
            )
        )
        self._compress_bias = p["compress.bias"][:, None]  # (m, 1, 8)
        self._expand = np.einsum("mio,mipk->mokp", deconv1, expand)  # (m, 10, 8, 50)
        self._expand_bias = bias[:, :, None]  # (m, 10, 1, 50)
        self._deconv2 = p["deconv2.weight"].reshape(m, 1, CHANNELS)
        self._deconv2_bias = p["deconv2.bias"].reshape(m, 1, 1)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return torch.device("cpu")

    def __call__(self, triangles: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and population standard deviation over the members, each (n, 1275)."""
        outputs = self.outputs(triangles.numpy())  # (m, n, 50)
        mean, spread = outputs.mean(axis=0), outputs.std(axis=0)  # (n, 50)
        return torch.from_numpy(mean[:, LAG]), torch.from_numpy(spread[:, LAG])

    def outputs(self, triangles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return every member's g2, shape (m, n, 50), lag 0 first, for triangles (n, 1275)."""
        m, n = len(self._expand), len(triangles)
        sums = np.empty((m, n, LATENT))
        pixels = np.ascontiguousarray(triangles[:, PIXEL])  # (n, 50, 64)
        self._compiled(pixels, REAL, WIDTH, *self._encoder, sums)
        latent = (sums + self._compress_bias).astype(np.float32)
        x = np.matmul(latent[:, None], self._expand)  # (m, 10, n, 50)
        x = np.maximum(x + self._expand_bias, 0).reshape(m, CHANNELS, n * WINDOW)
        return (self._deconv2 @ x + self._deconv2_bias).reshape(m, n, WINDOW)


def is_tied(stacked: Mapping[str, Tensor]) -> bool:
    """Return whether pixels of equal lag have the same weights, bit by bit, in every member."""
    m = len(stacked["conv1.weight"])
    lag = torch.from_numpy(LAG)
    return all(
        torch.equal(weights, weights.index_select(axis, lag))
        for weights, axis in (
            (stacked["compress.weight"].reshape(m, LATENT, CHANNELS, N_PIXELS), 3),
            (stacked["expand.weight"].reshape(m, CHANNELS, N_PIXELS, LATENT), 2),
            (stacked["expand.bias"].reshape(m, CHANNELS, N_PIXELS), 2),
        )
    )


@cache
def compiled_encoder() -> Callable[..., None] | None:
    """Return the compiled encoder, or None where numba is not installed."""
    try:
        import numba
    except ImportError:
        return None
    # Inputs are finite and sums short: fastmath, with which sums may take 16 lanes, loses nothing.
    options: dict[str, Any] = {"nogil": True, "fastmath": True}
    try:
        return numba.njit(_SIGNATURE, cache=True, **options)(_encode)
    except (RuntimeError, OSError):  # no folder that numba may write to
        return numba.njit(_SIGNATURE, **options)(_encode)


# Given, so that it is compiled when an ensemble is loaded, not at the first window.
_F2, _F3, _F4 = (f"float32[{', '.join([':'] * n + ['::1'])}]" for n in (1, 2, 3))
_SIGNATURE = (
    f"void({_F3}, {_F2}, int64[::1], {_F2}, {_F2}, {_F3}, {_F2}, {_F4}, float64[:, :, ::1])"
)


def _encode(  # noqa: PLR0917 (numba knows no keyword-only arguments)
    pixels: Any,
    real: Any,
    width: Any,
    conv1: Any,
    conv1_bias: Any,
    conv2: Any,
    conv2_bias: Any,
    compress: Any,
    latent: Any,
) -> None:
    """Fill latent (m, n, 8), without its bias, from pixels (n, 50, 64).

    Latent numbers are small differences of large sums, which are kept in double precision.

    Every index comes from a range that starts at 0: only then is the compiler sure that none is
    negative, and takes 16 pixels at once.
    """
    zero = np.float32(0)
    x = np.empty((CHANNELS, PLACES), np.float32)
    for member in range(conv1.shape[0]):
        for window in range(pixels.shape[0]):
            for k in range(LATENT):
                latent[member, window, k] = 0.0
            for lag in range(WINDOW):
                n = width[lag]
                for i in range(CHANNELS):
                    u, v = conv1[member, i], conv1_bias[member, i]
                    for p in range(n):
                        x[i, p] = max(u * pixels[window, lag, p] + v, zero)
                for j in range(CHANNELS):
                    b, w = conv2_bias[member, j], conv2[member, j]
                    # Ten weights in registers: a loop over them would go through memory.
                    w0, w1, w2, w3, w4 = w[0], w[1], w[2], w[3], w[4]
                    w5, w6, w7, w8, w9 = w[5], w[6], w[7], w[8], w[9]
                    total = zero
                    for p in range(n):
                        h = b + w0 * x[0, p] + w1 * x[1, p] + w2 * x[2, p] + w3 * x[3, p]
                        h += w4 * x[4, p] + w5 * x[5, p] + w6 * x[6, p] + w7 * x[7, p]
                        h += w8 * x[8, p] + w9 * x[9, p]
                        total += real[lag, p] * max(h, zero)
                    for k in range(LATENT):
                        latent[member, window, k] += total * compress[member, lag, j, k]
