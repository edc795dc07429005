"""Where training starts: the best linear denoiser of g2 with 8 numbers, carried by one channel."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xpcs_live_denoise.numerics.windows import WINDOW

from .data import WindowData
from .model import LATENT
from .tied import TiedEncoderDecoder
from .triangle import LAG, LAG_MEANS, MULTIPLICITY

OUTPUT_OFFSET = 1.0  # keeps the decoder's curves, which lie near 1 to 2, above its ReLU's bend
RIDGE = 1e-6  # of the inputs' mean square, a guard for data with fewer inputs than lags


def lag_weights() -> NDArray[np.float64]:
    """Return what the square of an error of the mean at each lag adds to Eq. 8, shape (50,)."""
    pixels = np.bincount(LAG, weights=MULTIPLICITY) / WINDOW**2
    return pixels + np.where(np.arange(WINDOW) > 0, 1 / (WINDOW - 1), 0.0)


def reduced_rank_regression(
    inputs: NDArray[np.float64], targets: NDArray[np.float64], rank: int, weights: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the best linear map of a given rank, as encoder (n_in, rank), decoder (rank, n_out).

    Both sides are taken as deviations from their means; `weights` (n_out,) weigh the squares of
    the errors. The encoder's outputs have unit variance, so that Adam's steps suit them all.

    Reference: Izenman, J. Multivariate Anal. 5, 248 (1975).
    """
    root = np.sqrt(weights)
    x = inputs - inputs.mean(axis=0)
    y = (targets - targets.mean(axis=0)) * root
    gram = x.T @ x
    gram += RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    full = np.linalg.solve(gram, x.T @ y)
    directions = np.linalg.svd(x @ full, full_matrices=False)[2][:rank].T  # (n_out, rank)
    encoder, decoder = full @ directions, directions.T / root
    scale = np.maximum((x @ encoder).std(axis=0), 1e-12)
    return encoder / scale, decoder * scale[:, None]


@torch.no_grad()
def set_linear_start(network: TiedEncoderDecoder, data: WindowData, offset: float) -> None:
    """Put the linear denoiser into the first channel of a network.

    The first channel carries the pixels, raised by `offset` above the ReLUs' bend; the other
    channels keep their random convolutions, join the latent numbers with weight 0, and grow from
    there. A random start leaves some members with dead latent numbers; this one cannot.
    """
    g2 = data.c2.astype(np.float64) @ LAG_MEANS[:, 1:]  # (n, 49): lag 0 is no measurement
    target = (data.target.astype(np.float64) @ LAG_MEANS)[data.target_index]  # (n, 50)
    encoder, decoder = reduced_rank_regression(g2, target, LATENT, lag_weights())

    network.conv1[0] = 1
    network.conv1_bias[0] = offset
    network.conv2[0] = 0
    network.conv2[0, 0] = 1
    network.compress.zero_()
    network.compress[0, 1:] = _float(encoder)  # (49, 8)
    network.compress_bias.copy_(_float(-(g2.mean(axis=0) + offset) @ encoder))

    network.expand[0] = _float(decoder)  # (8, 50)
    network.expand_bias[0, 0] = _float(target.mean(axis=0) + OUTPUT_OFFSET)
    network.deconv1[0] = 0  # (out, in): nothing but channel 0 enters channel 0,
    network.deconv1[:, 0] = 0  # and channel 0 enters nothing else
    network.deconv1[0, 0] = 1
    network.deconv2[0, 0] = 1
    network.deconv2_bias.fill_(-OUTPUT_OFFSET)


def _float(array: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
