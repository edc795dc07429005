"""Networks for tests: with weights shared along diagonals, and for whole windows."""

from __future__ import annotations

import torch

from xpcs_live_denoise.denoising.model import (
    CHANNELS,
    WINDOW_SHAPE,
    CnnEncoderDecoder,
    TiedEncoderDecoder,
)
from xpcs_live_denoise.numerics.windows import MULTIPLICITY, N_PIXELS, TRIANGLE_INDEX


def mirrored(triangle: CnnEncoderDecoder) -> CnnEncoderDecoder:
    """Return the network for whole windows that equals a network for their triangles.

    A pixel and its mirror image share the triangle's weight in the encoder, half each, and both
    take the triangle's weight in the decoder. For a symmetric window the two networks agree.
    """
    index = torch.from_numpy(TRIANGLE_INDEX)  # (50, 50)
    share = 1 / torch.from_numpy(MULTIPLICITY)[index]  # (50, 50)
    state = triangle.state_dict()
    encoder = state["compress.weight"].unflatten(1, (CHANNELS, N_PIXELS))  # (8, 10, 1275)
    state["compress.weight"] = (encoder[..., index] * share).flatten(1)  # (8, 25000)
    for name in ("expand.weight", "expand.bias"):
        pixels = state[name].unflatten(0, (CHANNELS, N_PIXELS))  # (10, 1275, ...)
        state[name] = pixels[:, index].flatten(0, 2)  # (25000, ...)
    whole = CnnEncoderDecoder(WINDOW_SHAPE)
    whole.load_state_dict(state)
    return whole


def tied(seed: int) -> TiedEncoderDecoder:
    """Return a network none of whose weights is 0."""
    generator = torch.Generator().manual_seed(seed)
    made = TiedEncoderDecoder(generator=generator)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return made
