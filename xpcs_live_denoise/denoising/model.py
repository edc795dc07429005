"""The network of the paper, and the same network with weights shared along diagonals."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from xpcs_live_denoise.numerics.windows import LAG, N_PIXELS, WINDOW

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
    arrangement: a symmetric window is known from its upper triangle alone, at half the cost.

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

    def denoise(self, pixels: Tensor) -> Tensor:
        """Return what `self(pixels)` does, for pixels (n, p) in one row, and three times faster.

        A 1x1 convolution is a product with a 10x10 matrix. With the channels as the first axis
        these products need no change of layout, forward or backward, where torch's convolutions
        need some.
        """
        n, n_pixels = pixels.shape
        p = dict(self.named_parameters())
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

    def untied(self) -> CnnEncoderDecoder:
        """Return this network, whose pixels share no weights, ready to be used."""
        return self.eval()


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

    Weights, by layer, start Xavier-uniform with the sizes of the untied network, biases zero.
    `compress` (10, 50, 8) takes the mean of a feature over a diagonal to the latent numbers,
    `expand` (10, 8, 50) gives features of each lag, `deconv1` is (out, in).
    """

    def __init__(self, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        features = CHANNELS * math.prod(WINDOW_SHAPE)

        def xavier(*shape: int, fan_in: int, fan_out: int) -> nn.Parameter:
            bound = math.sqrt(6 / (fan_in + fan_out))
            return nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator))

        def zeros(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(shape))

        square = {"fan_in": CHANNELS, "fan_out": CHANNELS}
        self.weight = nn.ParameterDict(
            {
                "conv1": xavier(CHANNELS, 1, fan_in=1, fan_out=CHANNELS),
                "conv2": xavier(CHANNELS, CHANNELS, **square),
                "compress": xavier(CHANNELS, WINDOW, LATENT, fan_in=features, fan_out=LATENT),
                "expand": xavier(CHANNELS, LATENT, WINDOW, fan_in=LATENT, fan_out=features),
                "deconv1": xavier(CHANNELS, CHANNELS, **square),  # (out, in)
                "deconv2": xavier(1, CHANNELS, fan_in=CHANNELS, fan_out=1),
            }
        )
        self.bias = nn.ParameterDict(
            {
                "conv1": zeros(CHANNELS, 1),
                "conv2": zeros(CHANNELS, 1),
                "compress": zeros(LATENT),
                "expand": zeros(CHANNELS, 1, WINDOW),
                "deconv1": zeros(CHANNELS, 1),
                "deconv2": zeros(1, 1),
            }
        )

    def forward(self, triangles: Tensor) -> Tensor:
        """Return the denoised g2, shape (n, 50), lag 0 first, of scaled triangles (n, 1275)."""
        n, w, b = len(triangles), self.weight, self.bias
        x = torch.relu(w["conv1"] * triangles.reshape(1, -1) + b["conv1"])  # (10, n * 1275)
        x = torch.relu(torch.addmm(b["conv2"], w["conv2"], x))  # (10, n * 1275)
        x = torch.bmm(x.view(CHANNELS, n, N_PIXELS), self._compress_pixels()).sum(dim=0)  # (n, 8)
        x = torch.matmul(x + b["compress"], w["expand"]) + b["expand"]  # (10, n, 50)
        x = x.reshape(CHANNELS, n * WINDOW)
        x = torch.relu(torch.addmm(b["deconv1"], w["deconv1"], x))  # (10, n * 50)
        return (w["deconv2"] @ x + b["deconv2"]).view(n, WINDOW)

    def denoise(self, triangles: Tensor) -> Tensor:
        """Return the denoised triangles, shape (n, 1275)."""
        return self(triangles)[:, LAG_OF_PIXEL]

    def _compress_pixels(self) -> Tensor:
        """Return the encoder's linear layer, (10, 1275, 8): a mean shares its weight out."""
        return (self.weight["compress"] / PIXELS_OF_LAG[:, None]).index_select(1, LAG_OF_PIXEL)

    @torch.no_grad()
    def untied(self) -> CnnEncoderDecoder:
        """Return the `CnnEncoderDecoder` for triangles that does the same."""
        w, b = self.weight, self.bias
        network = CnnEncoderDecoder(TRIANGLE_SHAPE)
        shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
        state = {
            "conv1.weight": w["conv1"],
            "conv2.weight": w["conv2"],
            "compress.weight": self._compress_pixels().permute(2, 0, 1),  # (8, 10, 1275)
            "expand.weight": w["expand"].index_select(2, LAG_OF_PIXEL).transpose(1, 2),
            "deconv1.weight": w["deconv1"].T,  # stored (in, out)
            "deconv2.weight": w["deconv2"],
            **{f"{name}.bias": bias for name, bias in b.items() if name != "expand"},
            "expand.bias": b["expand"].index_select(2, LAG_OF_PIXEL),  # (10, 1, 1275)
        }
        network.load_state_dict(
            {name: value.reshape(shapes[name]) for name, value in state.items()}
        )
        return network.eval()
