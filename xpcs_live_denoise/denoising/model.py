"""The CNN encoder-decoder of Konstantinova et al. 2021, for whole windows or their triangles."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from xpcs_live_denoise.numerics.windows import WINDOW

from .triangle import MULTIPLICITY, N_PIXELS, TRIANGLE_INDEX

CHANNELS = 10
LATENT = 8
WINDOW_SHAPE = (WINDOW, WINDOW)
TRIANGLE_SHAPE = (1, N_PIXELS)


class CnnEncoderDecoder(nn.Module):
    """Denoise one scaled 50x50 two-time correlation function through 8 latent numbers.

    Encoder: two 1x1 convolutions (1 -> 10 -> 10 channels), each with a ReLU, and a linear layer
    to the latent space. Decoder: a linear layer back, and two 1x1 transposed convolutions
    (10 -> 10 with a ReLU, 10 -> 1). Weights are Xavier-uniform, biases zero.

    All convolutions are 1x1, so the pixels meet in the linear layers only and may be given in any
    arrangement: a symmetric window is told by its upper triangle alone, at half the cost.
    `mirrored` gives the network for whole windows that such a network stands for.

    Parameters
    ----------
    shape
        Pixels of the input: (50, 50), or (1, 1275) for the upper triangle, row by row.
    generator
        Source of the initial weights.

    References
    ----------
    Konstantinova et al., Sci. Rep. 11, 14756 (2021), Fig. 2 and "Model training details".
    """

    def __init__(
        self,
        shape: tuple[int, int] = WINDOW_SHAPE,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.shape = shape
        features = CHANNELS * math.prod(shape)
        self.conv1 = nn.Conv2d(1, CHANNELS, kernel_size=1)
        self.conv2 = nn.Conv2d(CHANNELS, CHANNELS, kernel_size=1)
        self.compress = nn.Linear(features, LATENT)
        self.expand = nn.Linear(LATENT, features)
        self.deconv1 = nn.ConvTranspose2d(CHANNELS, CHANNELS, kernel_size=1)
        self.deconv2 = nn.ConvTranspose2d(CHANNELS, 1, kernel_size=1)
        for name, parameter in self.named_parameters():
            if name.endswith("weight"):
                nn.init.xavier_uniform_(parameter, generator=generator)
            else:
                nn.init.zeros_(parameter)

    def forward(self, scaled: Tensor) -> Tensor:
        """Return the denoised pixels, shape (n, *shape), of scaled ones of the same shape."""
        x = scaled.unsqueeze(1)  # (n, 1, *shape)
        x = torch.relu(self.conv1(x))  # (n, 10, *shape)
        x = torch.relu(self.conv2(x))  # (n, 10, *shape)
        x = self.compress(x.flatten(1))  # (n, 8)
        x = self.expand(x).unflatten(1, (CHANNELS, *self.shape))  # (n, 10, *shape)
        x = torch.relu(self.deconv1(x))  # (n, 10, *shape)
        return self.deconv2(x).squeeze(1)  # (n, *shape)


def forward_by_products(network: CnnEncoderDecoder, pixels: Tensor) -> Tensor:
    """Return what `network(pixels)` does, for pixels (n, p) in one row, and three times faster.

    A 1x1 convolution is a product with a 10x10 matrix. With the channels as the first axis these
    products need no change of layout, forward or backward, where torch's convolutions need some.
    """
    n, n_pixels = pixels.shape
    p = dict(network.named_parameters())
    x = pixels.reshape(1, n * n_pixels)
    x = torch.relu(p["conv1.weight"].flatten(1) * x + p["conv1.bias"][:, None])  # (10, n * p)
    x = torch.relu(torch.addmm(p["conv2.bias"][:, None], p["conv2.weight"].flatten(1), x))
    compress = p["compress.weight"].unflatten(1, (CHANNELS, n_pixels)).permute(1, 2, 0)
    x = torch.bmm(x.view(CHANNELS, n, n_pixels), compress).sum(dim=0)  # (n, 8)
    x = x + p["compress.bias"]
    expand = p["expand.weight"].unflatten(0, (CHANNELS, n_pixels)).transpose(1, 2)
    x = torch.matmul(x, expand)  # (10, n, p)
    x = x + p["expand.bias"].view(CHANNELS, 1, n_pixels)
    x = x.reshape(CHANNELS, n * n_pixels)
    deconv1 = p["deconv1.weight"].flatten(1).T  # (out, in)
    x = torch.relu(torch.addmm(p["deconv1.bias"][:, None], deconv1, x))  # (10, n * p)
    x = p["deconv2.weight"].view(1, CHANNELS) @ x + p["deconv2.bias"]  # (1, n * p)
    return x.view(n, n_pixels)


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
