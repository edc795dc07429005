"""The two published networks that denoise images of few counts, VDSR and IRUNet."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from .inputs import N_INPUTS


class Vdsr(nn.Module):
    """Twenty 3x3 convolutions of 64 channels with PReLU, and one to the result.

    References
    ----------
    Oppliger et al., Nat. Mach. Intell. 6, 180 (2024).
    """

    def __init__(self, width: int = 64, depth: int = 20) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(depth):
            layers += [
                nn.Conv2d(N_INPUTS if index == 0 else width, width, 3, padding=1),
                nn.PReLU(),
            ]
        layers.append(nn.Conv2d(width, 1, 3, padding=1))
        self.layers = nn.Sequential(*layers)
        _start_at_zero(layers[-1])

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the correction of ln(rate), (n, 1, rows, cols), of inputs (n, 4, rows, cols)."""
        return self.layers(inputs)


class Block(nn.Module):
    """Three convolutions side by side, joined by a 1x1 convolution and added to what came in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(width, width, 3, padding=1)
        self.wide = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.dilated = nn.Conv2d(width, width, 3, padding=2, dilation=2)
        self.join = nn.Conv2d(4 * width, width, 1)
        self.activate = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        branches = [self.narrow(x), self.wide(x), self.dilated(x)]
        return x + self.join(self.activate(torch.cat(branches, dim=1)))


class Reduction(nn.Module):
    """Halve an image: the largest of four pixels and a convolution with stride 2, side by side."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stride = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.join = nn.Conv2d(2 * width, width, 1)
        self.activate = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of half the rows and columns, which are even."""
        pooled = functional.max_pool2d(x, 2)
        return self.activate(self.join(torch.cat([pooled, self.stride(x)], dim=1)))


class IRUNet(nn.Module):
    """Inception blocks on five scales, from the image itself to a sixteenth, and back.

    As published but for its input, its skip connection at full resolution, and that it ends without
    a sigmoid: counts have no upper bound. `width` is the channels of a layer; `light` puts one
    convolution in the place of the block at full resolution, which costs more than all others.

    References
    ----------
    Oppliger et al., Nat. Mach. Intell. 6, 180 (2024).
    """

    def __init__(self, width: int = 64, *, light: bool = False) -> None:
        super().__init__()
        self.head = nn.Conv2d(N_INPUTS, width, 3, padding=1)
        self.reductions = nn.ModuleList([Reduction(width) for _ in range(4)])
        self.down = nn.ModuleList([Block(width) for _ in range(4)])
        self.enlarge = nn.ModuleList(
            [nn.ConvTranspose2d(width, width, 2, stride=2) for _ in "four"]
        )
        self.merge = nn.ModuleList([nn.Conv2d(2 * width, width, 1) for _ in "four"])
        full = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True))
        blocks: list[nn.Module] = [Block(width) for _ in range(3)]
        self.up = nn.ModuleList([*blocks, full if light else Block(width)])
        self.last = nn.Conv2d(width, 1, 3, padding=1)
        self.activate = nn.ReLU(inplace=True)
        _start_at_zero(self.last)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the correction of ln(rate), (n, 1, rows, cols); sides are multiples of 16."""
        x = self.activate(self.head(inputs))
        kept = [x]
        for reduction, block in zip(self.reductions, self.down, strict=True):
            x = block(reduction(x))
            kept.append(x)
        for level, (enlarge, merge, block) in enumerate(
            zip(self.enlarge, self.merge, self.up, strict=True)
        ):
            x = torch.cat([enlarge(x), kept[3 - level]], dim=1)
            x = block(self.activate(merge(x)))
        return self.last(x)


def _start_at_zero(last: nn.Module) -> None:
    """Make a new network leave the smooth estimate as it is."""
    for parameter in last.parameters():
        nn.init.zeros_(parameter)


# What a model card calls them.
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "irunet": IRUNet,
    "light": lambda: IRUNet(16, light=True),
    "vdsr": Vdsr,
}
