"""What one training step of our recipe sees: measured inputs and synthetic ones."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from xpcs_live_denoise.numerics.windows import WINDOW

from .data import WindowData
from .recipe import Recipe
from .triangle import LAG, LAG_MEANS

# Synthetic curves: wider than the training targets, whose contrast is 1 by Eq. 4.
GAMMA_RANGE = (0.004, 0.6)  # per frame, uniform in the logarithm
ALPHA_WIDTH, ALPHA_RANGE = 0.3, (0.3, 2.5)  # of ln alpha about 0
BETA_WIDTH = 0.15  # about 1
BASELINE_WIDTH = 0.02  # about 1

_LAG_OF_PIXEL = torch.from_numpy(LAG)  # (1275,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Training data as tensors; `epoch` draws from it.

    Attributes
    ----------
    residuals
        Shape (n, 1275): measured inputs minus their targets.
    targets
        Shape (n, 50): their targets, averaged along each diagonal, lag 0 first. An equilibrium
        target has nothing else to say, and its pixels are noisy.
    noise
        Shape (n, 1275): the residuals, as noisy as against a target of other inputs.
    """

    residuals: Tensor
    targets: Tensor
    noise: Tensor

    @classmethod
    def of(cls, data: WindowData) -> Samples:
        """Return the samples of a data set."""
        index = torch.from_numpy(data.target_index)
        means = torch.from_numpy(LAG_MEANS)
        targets = (torch.from_numpy(data.target) @ means)[index]
        residuals = torch.from_numpy(data.c2) - targets[:, _LAG_OF_PIXEL]
        # A target is the mean of k inputs, this one among them, so the g2 of their difference has
        # only (k - 1) / k of its variance. The rest of the noise is not in the averaged target.
        cuts = torch.from_numpy(data.n_cuts)[index].float()
        missing = torch.sqrt(cuts / (cuts - 1).clamp(min=1)) - 1
        noise = residuals + missing[:, None] * (residuals @ means)[:, _LAG_OF_PIXEL]
        return cls(residuals=residuals, targets=targets, noise=noise)

    def epoch(self, recipe: Recipe, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield noise (batch, 1275) and curves (batch, 50); inputs are their sum.

        Every measured input comes once, but for the rest that does not fill a batch.
        """
        n = len(self.targets)
        order = torch.randperm(n, generator=generator)
        for place in range(0, n - recipe.n_measured + 1, recipe.n_measured):
            rows = order[place : place + recipe.n_measured]
            noise, curves = self.residuals[rows], self.targets[rows]
            if recipe.n_synthetic:
                others = torch.randint(n, (recipe.n_synthetic,), generator=generator)
                noise = torch.cat([noise, self.noise[others]])
                curves = torch.cat([curves, random_curves(recipe.n_synthetic, generator)])
            factor = torch.exp(
                recipe.noise_spread * torch.randn(len(noise), 1, generator=generator)
            )
            yield noise * factor, curves


def random_curves(n: int, generator: torch.Generator) -> Tensor:
    """Return random KWW curves, baseline + beta exp(-2 (Gamma lag)^alpha), shape (n, 50).

    Lag 0 repeats lag 1, as in the inputs, whose diagonal was replaced by values of lag 1.
    """
    low, high = (math.log(gamma) for gamma in GAMMA_RANGE)
    gamma = torch.exp(low + (high - low) * torch.rand(n, 1, generator=generator))
    alpha = torch.exp(ALPHA_WIDTH * torch.randn(n, 1, generator=generator)).clamp(*ALPHA_RANGE)
    beta = 1 + BETA_WIDTH * torch.randn(n, 1, generator=generator)
    baseline = 1 + BASELINE_WIDTH * torch.randn(n, 1, generator=generator)
    lag = torch.arange(WINDOW, dtype=torch.float32).clamp(min=1)
    return baseline + beta * torch.exp(-2 * (gamma * lag) ** alpha)
