"""From counts to what a network sees, and from what it says to expected counts."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

DIVISOR = 16  # IRUNet halves an image four times
N_INPUTS = 4
# Width of the smooth estimate that networks correct, pixels, and the counts that are added to it.
SMOOTH_PIXELS, LEAST_COUNTS = 2.0, 0.02
MOST_CORRECTION = 8.0  # of a logarithm


def inputs_of(counts: Tensor, valid: Tensor, center: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return what a network sees of images, (n, 4, rows, cols), and the logarithm it corrects.

    `counts` and `valid` (1 where a pixel was measured, else 0) are (n, rows, cols), `center` (n, 2)
    row and column of the direct beam, NaN or None where it is not known. The inputs are: the
    counts, their noise made alike by the root (Anscombe), less that of the smooth estimate; the
    logarithm of the smooth estimate, a Gaussian mean over measured pixels, which is what the
    network corrects; by how much the logarithm of the mean over a pixel's ring differs from it; and
    that mean's relative error. Without a beam center the last two are 0 and 1.
    """
    counts = torch.where(valid > 0, counts, 0.0)
    total = _smooth(torch.stack([counts, valid], dim=1))
    base = total[:, 0] / total[:, 1].clamp_min(1e-6) + LEAST_COUNTS
    root = (2 * torch.sqrt(counts + 0.375) - 2 * torch.sqrt(base + 0.375)) * valid
    ring, error = torch.zeros_like(base), torch.ones_like(base)
    if center is not None:
        for index in range(len(counts)):
            if torch.isfinite(center[index]).all():
                mean, error[index] = ring_means(counts[index], valid[index], center[index])
                ring[index] = (mean + LEAST_COUNTS).log() - base[index].log()
    return torch.stack([root, base.log(), ring, error], dim=1), base.log()


def ring_means(counts: Tensor, valid: Tensor, center: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean counts of each pixel's ring, one pixel wide, and 1/sqrt(1 + its photons).

    Between the middles of rings the mean is interpolated. All (rows, cols).
    """
    rows, cols = (torch.arange(n, device=counts.device, dtype=counts.dtype) for n in counts.shape)
    radius = torch.sqrt((rows - center[0])[:, None] ** 2 + (cols - center[1])[None] ** 2)
    radius = radius - radius.min()
    index = radius.long()
    n_rings = int(index.max()) + 1
    flat = index.reshape(-1)
    photons = torch.zeros(n_rings, device=counts.device).index_add_(0, flat, counts.reshape(-1))
    number = torch.zeros_like(photons).index_add_(0, flat, valid.reshape(-1))
    known = number > 0
    mean = torch.where(
        known, photons / number.clamp_min(1), counts.sum() / valid.sum().clamp_min(1)
    )
    below = (radius - 0.5).floor().long().clamp(0, n_rings - 1)
    above = (below + 1).clamp_max(n_rings - 1)
    share = (radius - 0.5 - below).clamp(0, 1)
    interpolated = mean[below] * (1 - share) + mean[above] * share
    return interpolated, torch.rsqrt(1 + photons[index])


def _smooth(images: Tensor) -> Tensor:
    """Return a Gaussian mean of (n, k, rows, cols)."""
    reach = math.ceil(3 * SMOOTH_PIXELS)
    at = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-0.5 * (at / SMOOTH_PIXELS) ** 2)
    kernel = kernel / kernel.sum()
    k = images.shape[1]
    rows = kernel.view(1, 1, -1, 1).expand(k, 1, -1, 1)
    cols = kernel.view(1, 1, 1, -1).expand(k, 1, 1, -1)
    images = functional.conv2d(images, rows, padding=(reach, 0), groups=k)
    return functional.conv2d(images, cols, padding=(0, reach), groups=k)


def expected_counts(
    network: nn.Module, counts: Tensor, valid: Tensor, center: Tensor | None = None
) -> Tensor:
    """Return the expected counts of images, (n, rows, cols), of any size."""
    return corrected(network, *inputs_of(counts, valid, center))


def corrected(network: nn.Module, inputs: Tensor, base: Tensor) -> Tensor:
    """Return the expected counts (n, rows, cols) of the inputs (n, 4, rows, cols) of a network."""
    rows, cols = base.shape[-2:]
    # Beyond the edges lies a copy of what is inside.
    more = (0, -cols % DIVISOR, 0, -rows % DIVISOR)
    inputs = functional.pad(inputs, more, mode="replicate") if any(more) else inputs
    inputs = inputs.contiguous(memory_format=torch.channels_last)
    correction = network(inputs).squeeze(1)[..., :rows, :cols]
    return (base + correction.clamp(-MOST_CORRECTION, MOST_CORRECTION)).exp()
