"""The CNN encoder-decoder with weights shared along diagonals: what is trained and shipped."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from xpcs_live_denoise.numerics.windows import WINDOW

from .model import CHANNELS, LATENT, TRIANGLE_SHAPE, WINDOW_SHAPE, CnnEncoderDecoder
from .triangle import LAG, N_PIXELS

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
