"""The members of an ensemble as one network: batched products instead of a loop over modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xpcs_live_denoise.numerics.threads import evenly, n_threads, spread
from xpcs_live_denoise.numerics.windows import LAG, N_PIXELS, WINDOW
from xpcs_live_denoise.records.types import Array

from .model import CHANNELS, LATENT, TRIANGLE_SHAPE, CnnEncoderDecoder

# Windows in one pass. On a CPU the features of ten members then take 1 MB, which stay in the cache
# and are not given back to the system between two products; a GPU wants large products.
CPU_CHUNK = 2
GPU_CHUNK = 256


def stack_members(members: Sequence[CnnEncoderDecoder]) -> dict[str, Tensor]:
    """Return the members' parameters by name, stacked along a new first axis."""
    states = [member.state_dict() for member in members]
    return {name: torch.stack([state[name] for state in states]) for name in states[0]}


def expected_shapes(n_members: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of every stacked parameter of an ensemble."""
    with torch.device("meta"):  # shapes only: no memory, and no random numbers drawn
        state = CnnEncoderDecoder(TRIANGLE_SHAPE).state_dict()
    return {name: (n_members, *tensor.shape) for name, tensor in state.items()}


# Triangles (n, 1275) on the CPU -> mean and (population) standard deviation over the members,
# each (n, 1275).
Members: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
# Of each layer its weight and its bias.
Layers: TypeAlias = dict[str, tuple[Tensor, Tensor]]


def fuse(stacked: Mapping[str, Tensor], device: torch.device) -> Members:
    """Return the fastest form of the members on this device; all forms give the same numbers."""
    if device.type == "cpu" and is_tied(stacked):
        return tied_members(stacked)
    return fused_members(stacked, device)


def fused_members(stacked: Mapping[str, Tensor], device: torch.device) -> Members:
    """Return m members, parameters as of `stack_members`, that denoise the same triangles at once.

    Between the decoder's linear layer and its first transposed convolution lies no ReLU, so the
    two are folded into one linear layer, once.
    """
    p = {name: tensor.to(device, torch.float32) for name, tensor in stacked.items()}
    m = len(p["conv1.weight"])
    column, square = (m, CHANNELS, 1), (m, CHANNELS, CHANNELS)
    compress = p["compress.weight"].reshape(m, LATENT, CHANNELS, N_PIXELS).permute(0, 2, 3, 1)
    expand = p["expand.weight"].reshape(m, CHANNELS, N_PIXELS, LATENT)
    expand_bias = p["expand.bias"].reshape(m, CHANNELS, N_PIXELS)
    deconv1 = p["deconv1.weight"].reshape(square)  # (m, in, out)
    folded = torch.einsum("mio,mipk->mokp", deconv1, expand)  # (m, 10, 8, 1275)
    bias = torch.einsum("mio,mip->mop", deconv1, expand_bias)
    layers: Layers = {
        "conv1": (p["conv1.weight"].reshape(column), p["conv1.bias"].reshape(column)),
        "conv2": (p["conv2.weight"].reshape(square), p["conv2.bias"].reshape(column)),
        "compress": (  # one product for every channel, the channels are summed after
            compress.reshape(m * CHANNELS, N_PIXELS, LATENT),
            p["compress.bias"].reshape(m, 1, LATENT),
        ),
        "expand": (
            folded.reshape(m, CHANNELS, LATENT, N_PIXELS).contiguous(),
            bias + p["deconv1.bias"].reshape(column),  # (m, 10, 1275)
        ),
        "deconv2": (
            p["deconv2.weight"].reshape(m, 1, CHANNELS),
            p["deconv2.bias"].reshape(m, 1, 1),
        ),
    }
    return partial(_denoise_in_chunks, layers, device)


@torch.inference_mode()
def _denoise_in_chunks(
    layers: Layers, device: torch.device, triangles: Tensor
) -> tuple[Tensor, Tensor]:
    triangles = triangles.to(device)
    mean = torch.empty_like(triangles)
    spread = torch.empty_like(triangles)
    chunk = CPU_CHUNK if device.type == "cpu" else GPU_CHUNK
    for start in range(0, len(triangles), chunk):
        part = slice(start, start + chunk)
        output = _outputs(layers, triangles[part])  # (m, k, 1275)
        mean[part] = output.mean(dim=0)
        # torch.std does the same in three times the time.
        spread[part] = (output - mean[part]).square_().mean(dim=0).sqrt_()
    return mean, spread


def _outputs(layers: Layers, triangles: Tensor) -> Tensor:
    """Return every member's output, shape (m, k, 1275), for triangles (k, 1275)."""
    (conv1, conv1_bias), (conv2, conv2_bias) = layers["conv1"], layers["conv2"]
    (compress, compress_bias), (expand, expand_bias) = layers["compress"], layers["expand"]
    deconv2, deconv2_bias = layers["deconv2"]
    m, k = len(conv1), len(triangles)
    pixels = triangles.reshape(1, 1, k * N_PIXELS)
    x = torch.relu_(conv1_bias + conv1 * pixels)  # (m, 10, k * 1275)
    x = torch.baddbmm(conv2_bias, conv2, x).relu_()  # (m, 10, k * 1275)
    x = torch.bmm(x.view(m * CHANNELS, k, N_PIXELS), compress)  # (m * 10, k, 8)
    latent = x.view(m, CHANNELS, k, LATENT).sum(dim=1) + compress_bias  # (m, k, 8)
    x = torch.matmul(latent.unsqueeze(1), expand)  # (m, 10, k, 1275)
    x = x.add_(expand_bias.unsqueeze(2)).relu_().view(m, CHANNELS, k * N_PIXELS)
    return torch.baddbmm(deconv2_bias, deconv2, x).view(m, k, N_PIXELS)


# A register holds 16 numbers, or two registers 8 each: loops end on whole ones.
LANES = 16
FEWEST_OF_THREAD = 20  # windows: fewer are denoised before another thread has begun
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


def tied_members(stacked: Mapping[str, Tensor]) -> Members:
    """Return members whose weights are shared along diagonals, with a compiled encoder."""
    p = {name: tensor.numpy() for name, tensor in stacked.items()}
    m = len(p["conv1.weight"])
    square = (m, CHANNELS, CHANNELS)
    # The first row of a window, with which a triangle begins, holds every lag once.
    compress = p["compress.weight"].reshape(m, LATENT, CHANNELS, N_PIXELS)[..., :WINDOW]
    deconv1 = p["deconv1.weight"].reshape(square)  # (m, in, out)
    expand = p["expand.weight"].reshape(m, CHANNELS, N_PIXELS, LATENT)[:, :, :WINDOW]
    expand_bias = p["expand.bias"].reshape(m, CHANNELS, N_PIXELS)[:, :, :WINDOW]
    bias = np.einsum("mio,mip->mop", deconv1, expand_bias) + p["deconv1.bias"][..., None]
    encoder = tuple(
        np.ascontiguousarray(array, dtype=np.float32)
        for array in (
            p["conv1.weight"].reshape(m, CHANNELS),
            p["conv1.bias"],
            p["conv2.weight"].reshape(square),
            p["conv2.bias"],
            compress.transpose(0, 3, 2, 1),  # (m, 50, 10, 8)
        )
    )
    decoder = (
        p["compress.bias"][:, None],  # (m, 1, 8)
        np.einsum("mio,mipk->mokp", deconv1, expand),  # (m, 10, 8, 50)
        bias[:, :, None],  # (m, 10, 1, 50)
        p["deconv2.weight"].reshape(m, 1, CHANNELS),
        p["deconv2.bias"].reshape(m, 1, 1),
    )
    return partial(_denoise_tied, compiled_encoder(), encoder, decoder)


def _denoise_tied(
    encode: Callable[..., None],
    encoder: tuple[Array, ...],
    decoder: tuple[Array, ...],
    triangles: Tensor,
) -> tuple[Tensor, Tensor]:
    pixels = triangles.numpy()

    def denoise(part: range) -> Array:
        return _tied_outputs(encode, encoder, decoder, pixels[part.start : part.stop])

    n_parts = min(n_threads(), max(1, len(pixels) // FEWEST_OF_THREAD))
    outputs = np.concatenate(spread(denoise, evenly(len(pixels), n_parts)), axis=1)  # (m, n, 50)
    mean, scatter = outputs.mean(axis=0), outputs.std(axis=0)  # (n, 50)
    return torch.from_numpy(mean[:, LAG]), torch.from_numpy(scatter[:, LAG])


def _tied_outputs(
    encode: Callable[..., None],
    encoder: tuple[Array, ...],
    decoder: tuple[Array, ...],
    triangles: Array,
) -> Array:
    """Return every member's g2, shape (m, n, 50), lag 0 first, for triangles (n, 1275)."""
    compress_bias, expand, expand_bias, deconv2, deconv2_bias = decoder
    m, n = len(expand), len(triangles)
    sums = np.empty((m, n, LATENT))
    pixels = np.ascontiguousarray(triangles[:, PIXEL])  # (n, 50, 64)
    encode(pixels, REAL, WIDTH, *encoder, sums)
    latent = (sums + compress_bias).astype(np.float32)
    x = np.matmul(latent[:, None], expand)  # (m, 10, n, 50)
    x = np.maximum(x + expand_bias, 0).reshape(m, CHANNELS, n * WINDOW)
    return (deconv2 @ x + deconv2_bias).reshape(m, n, WINDOW)


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
def compiled_encoder() -> Callable[..., None]:
    """Return the compiled encoder."""
    import numba  # half a second, which a session without denoising need not wait

    # Inputs are finite and sums short: fastmath, with which sums may take 16 lanes, loses nothing.
    try:
        return numba.njit(_SIGNATURE, nogil=True, fastmath=True, cache=True)(_encode)
    except (RuntimeError, OSError):  # no folder that numba may write to
        return numba.njit(_SIGNATURE, nogil=True, fastmath=True)(_encode)


# Given, so that it is compiled when an ensemble is loaded, not at the first window.
_F2, _F3, _F4 = (f"float32[{', '.join([':'] * n + ['::1'])}]" for n in (1, 2, 3))
_SIGNATURE = (
    f"void({_F3}, {_F2}, int64[::1], {_F2}, {_F2}, {_F3}, {_F2}, {_F4}, float64[:, :, ::1])"
)


def _encode(  # noqa: PLR0917 (numba knows no keyword-only arguments)
    pixels: Array,
    real: Array,
    width: Array,
    conv1: Array,
    conv1_bias: Array,
    conv2: Array,
    conv2_bias: Array,
    compress: Array,
    latent: Array,
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
