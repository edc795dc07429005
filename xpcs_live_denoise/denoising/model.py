"""The upper triangle of a window: how 50x50 pixels, 1,275 pixels and 49 lags belong together."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xpcs_live_denoise.numerics.windows import WINDOW

ROW, COL = np.triu_indices(WINDOW)
N_PIXELS = len(ROW)
LAG = COL - ROW  # (1275,), 0..49
# How many pixels of the window a pixel of the triangle stands for: itself and its mirror image.
MULTIPLICITY = np.where(LAG == 0, 1.0, 2.0).astype(np.float32)


def _index() -> NDArray[np.int64]:
    index = np.empty((WINDOW, WINDOW), np.int64)
    index[ROW, COL] = index[COL, ROW] = np.arange(N_PIXELS)
    return index


# (50, 50): where each pixel of the window stands in the triangle.
TRIANGLE_INDEX = _index()


def _lag_means() -> NDArray[np.float32]:
    means = (LAG[:, None] == np.arange(WINDOW)).astype(np.float32)
    return means / means.sum(axis=0)


# (1275, 50): triangle @ LAG_MEANS is the mean along each diagonal, lag 0 first.
LAG_MEANS = _lag_means()


def to_triangle(windows: NDArray[Any]) -> NDArray[Any]:
    """Return the upper triangle (n, 1275), row by row, of symmetric windows (n, 50, 50)."""
    return windows[:, ROW, COL]


def to_windows(triangles: NDArray[Any]) -> NDArray[Any]:
    """Return the symmetric windows (n, 50, 50) of upper triangles (n, 1275)."""
    return triangles[:, TRIANGLE_INDEX]


def one_time(triangles: NDArray[Any]) -> NDArray[Any]:
    """Return g2 at the lags 1..49, shape (n, 49), of upper triangles (n, 1275)."""
    return triangles @ LAG_MEANS[:, 1:].astype(triangles.dtype)


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


LAG_OF_PIXEL = torch.from_numpy(LAG)  # (1275,)
PIXELS_OF_LAG = torch.from_numpy(np.bincount(LAG).astype(np.float32))  # (50,)


class TiedEncoderDecoder(nn.Module):
    """`CnnEncoderDecoder` for triangles, in which pixels of equal lag share their weights.

    An equilibrium two-time correlation function has the same 1TCF whatever the order of the
    pixels on a diagonal (Konstantinova et al. 2021, "Model training"), so a good network may learn
    nothing from that order. Shuffled inputs teach it so slowly; here it is built in. The encoder
    sees the mean of each feature over each diagonal, the decoder gives one value a lag: 8,759
    weights instead of 217,009, and nothing else in the architecture changes. `untied` gives the
    network of the paper that this one stands for.

    Parameters
    ----------
    generator
        Source of the initial weights. They are Xavier-uniform with the sizes of the untied
        network, biases zero.

    Attributes
    ----------
    compress
        Shape (10, 50, 8): from the mean of a feature over a diagonal to the latent numbers.
    expand, expand_bias
        Shapes (10, 8, 50) and (10, 1, 50): from the latent numbers to features of each lag.
    """

    def __init__(self, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        features = CHANNELS * math.prod(WINDOW_SHAPE)

        def xavier(*shape: int, fan_in: int, fan_out: int) -> nn.Parameter:
            bound = math.sqrt(6 / (fan_in + fan_out))
            return nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator))

        self.conv1 = xavier(CHANNELS, 1, fan_in=1, fan_out=CHANNELS)
        self.conv1_bias = nn.Parameter(torch.zeros(CHANNELS, 1))
        self.conv2 = xavier(CHANNELS, CHANNELS, fan_in=CHANNELS, fan_out=CHANNELS)
        self.conv2_bias = nn.Parameter(torch.zeros(CHANNELS, 1))
        self.compress = xavier(CHANNELS, WINDOW, LATENT, fan_in=features, fan_out=LATENT)
        self.compress_bias = nn.Parameter(torch.zeros(LATENT))
        self.expand = xavier(CHANNELS, LATENT, WINDOW, fan_in=LATENT, fan_out=features)
        self.expand_bias = nn.Parameter(torch.zeros(CHANNELS, 1, WINDOW))
        self.deconv1 = xavier(CHANNELS, CHANNELS, fan_in=CHANNELS, fan_out=CHANNELS)  # (out, in)
        self.deconv1_bias = nn.Parameter(torch.zeros(CHANNELS, 1))
        self.deconv2 = xavier(1, CHANNELS, fan_in=CHANNELS, fan_out=1)
        self.deconv2_bias = nn.Parameter(torch.zeros(1, 1))

    def forward(self, triangles: Tensor) -> Tensor:
        """Return the denoised g2, shape (n, 50), lag 0 first, of scaled triangles (n, 1275)."""
        n = len(triangles)
        x = torch.relu(self.conv1 * triangles.reshape(1, -1) + self.conv1_bias)  # (10, n * 1275)
        x = torch.relu(torch.addmm(self.conv2_bias, self.conv2, x))  # (10, n * 1275)
        x = torch.bmm(x.view(CHANNELS, n, N_PIXELS), self._compress_pixels()).sum(dim=0)  # (n, 8)
        x = torch.matmul(x + self.compress_bias, self.expand) + self.expand_bias  # (10, n, 50)
        x = x.reshape(CHANNELS, n * WINDOW)
        x = torch.relu(torch.addmm(self.deconv1_bias, self.deconv1, x))  # (10, n * 50)
        return (self.deconv2 @ x + self.deconv2_bias).view(n, WINDOW)

    def _compress_pixels(self) -> Tensor:
        """Return the encoder's linear layer, (10, 1275, 8): a mean shares its weight out."""
        return (self.compress / PIXELS_OF_LAG[:, None]).index_select(1, LAG_OF_PIXEL)

    @torch.no_grad()
    def untied(self) -> CnnEncoderDecoder:
        """Return the `CnnEncoderDecoder` for triangles that does the same."""
        expand = self.expand.index_select(2, LAG_OF_PIXEL)  # (10, 8, 1275)
        expand_bias = self.expand_bias.index_select(2, LAG_OF_PIXEL)  # (10, 1, 1275)
        square = (CHANNELS, CHANNELS, 1, 1)
        network = CnnEncoderDecoder(TRIANGLE_SHAPE)
        network.load_state_dict(
            {
                "conv1.weight": self.conv1.reshape(CHANNELS, 1, 1, 1),
                "conv1.bias": self.conv1_bias.flatten(),
                "conv2.weight": self.conv2.reshape(square),
                "conv2.bias": self.conv2_bias.flatten(),
                "compress.weight": self._compress_pixels().permute(2, 0, 1).flatten(1),
                "compress.bias": self.compress_bias,
                "expand.weight": expand.transpose(1, 2).flatten(0, 1),
                "expand.bias": expand_bias.flatten(),
                "deconv1.weight": self.deconv1.T.reshape(square),  # stored (in, out)
                "deconv1.bias": self.deconv1_bias.flatten(),
                "deconv2.weight": self.deconv2.reshape(CHANNELS, 1, 1, 1),
                "deconv2.bias": self.deconv2_bias.flatten(),
            }
        )
        return network.eval()
