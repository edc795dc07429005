"""How alike two images look, on several scales."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of scales, the finest first


def ms_ssim(first: Tensor, second: Tensor, n_scales: int = 3) -> Tensor:
    """Return the multi-scale structural similarity of images (n, rows, cols), 1 for equal ones.

    References
    ----------
    Wang, Simoncelli and Bovik, Asilomar Conf. Signals 2, 1398 (2003).
    """
    weights = torch.tensor(WEIGHTS[:n_scales])
    weights = weights / weights.sum()
    x, y = first[:, None], second[:, None]
    at = torch.arange(-5, 6, device=x.device, dtype=x.dtype)
    kernel = torch.exp(-0.5 * (at / 1.5) ** 2)
    kernel = kernel / kernel.sum()
    window = (kernel[:, None] * kernel).view(1, 1, 11, 11)
    span = float(second.max() - second.min()) or 1.0
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    result = torch.ones(len(x), device=x.device)
    for scale in range(n_scales):
        mx, my = functional.conv2d(x, window), functional.conv2d(y, window)
        vx = functional.conv2d(x * x, window) - mx**2
        vy = functional.conv2d(y * y, window) - my**2
        both = functional.conv2d(x * y, window) - mx * my
        structure = (2 * both + c2) / (vx + vy + c2)
        if scale == n_scales - 1:
            structure = structure * (2 * mx * my + c1) / (mx**2 + my**2 + c1)
        result = result * structure.mean(dim=(1, 2, 3)).clamp_min(1e-3) ** float(weights[scale])
        x, y = functional.avg_pool2d(x, 2), functional.avg_pool2d(y, 2)
    return result.mean()
