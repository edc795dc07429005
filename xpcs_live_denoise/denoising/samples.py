"""What one training step sees: measured inputs, synthetic ones, and shuffled diagonals."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from xpcs_live_denoise.numerics.windows import WINDOW

from .data import WindowData
from .recipe import Recipe
from .triangle import LAG, LAG_MEANS, N_PIXELS

# Synthetic curves: wider than the training targets, whose contrast is 1 by Eq. 4.
GAMMA_RANGE = (0.004, 0.6)  # per frame, uniform in the logarithm
ALPHA_WIDTH, ALPHA_RANGE = 0.3, (0.3, 2.5)  # of ln alpha about 0
BETA_WIDTH = 0.15  # about 1
BASELINE_WIDTH = 0.02  # about 1

_LAG_OF_PIXEL = torch.from_numpy(LAG)  # (1275,)
_BY_LAG = torch.argsort(_LAG_OF_PIXEL, stable=True)  # (1275,): pixels, diagonal by diagonal


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Training data as tensors; `batches` draws from it.

    Attributes
    ----------
    inputs
        Shape (n, 1275): measured inputs.
    targets
        Shape (n, 50): their targets, averaged along each diagonal, lag 0 first. An equilibrium
        target has nothing else to say, and its pixels are noisy.
    noise
        Shape (n, 1275): inputs minus targets, as noisy as against a target of other inputs.
    """

    inputs: Tensor
    targets: Tensor
    noise: Tensor

    @classmethod
    def of(cls, data: WindowData) -> Samples:
        """Return the samples of a data set."""
        index = torch.from_numpy(data.target_index)
        inputs = torch.from_numpy(data.c2)
        targets = (torch.from_numpy(data.target) @ torch.from_numpy(LAG_MEANS))[index]
        residual = inputs - targets[:, _LAG_OF_PIXEL]
        # A target is the mean of k inputs, this one among them, so the g2 of their difference has
        # only (k - 1) / k of its variance. The rest of the noise is not in the averaged target.
        cuts = torch.from_numpy(data.n_cuts)[index].float()
        missing = torch.sqrt(cuts / (cuts - 1).clamp(min=1)) - 1
        g2_noise = residual @ torch.from_numpy(LAG_MEANS)  # (n, 50)
        noise = residual + missing[:, None] * g2_noise[:, _LAG_OF_PIXEL]
        return cls(inputs=inputs, targets=targets, noise=noise)

    def batches(
        self, recipe: Recipe, n_steps: int, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (inputs (batch, 1275), targets (batch, 50)), `n_steps` times."""
        n = len(self.inputs)
        per_epoch = max(1, n // recipe.n_measured)
        order = shuffle = torch.empty(0)
        for step in range(n_steps):
            if step % per_epoch == 0:
                order = torch.randperm(n, generator=generator)
            if step % recipe.shuffle_every == 0:
                shuffle = shuffled_diagonals(generator)
            place = step % per_epoch * recipe.n_measured
            rows = order[place : place + recipe.n_measured]
            inputs, targets = self.inputs[rows], self.targets[rows]
            if recipe.n_synthetic:
                synthetic, curves = self._synthetic(recipe.n_synthetic, generator)
                inputs, targets = torch.cat([inputs, synthetic]), torch.cat([targets, curves])
            yield inputs[:, shuffle], targets

    def _synthetic(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        curves = random_curves(n, generator)  # (n, 50)
        rows = torch.randint(len(self.noise), (n,), generator=generator)
        return curves[:, _LAG_OF_PIXEL] + self.noise[rows], curves


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


def shuffled_diagonals(generator: torch.Generator) -> Tensor:
    """Return an order of the pixels, shape (1275,), in which each keeps its lag.

    A shuffled equilibrium input has the same g2, so the network may learn nothing from where a
    pixel lies on its diagonal (Konstantinova et al. 2021, "Model training").
    """
    by_lag = torch.argsort(torch.rand(N_PIXELS, generator=generator) + _LAG_OF_PIXEL)
    order = torch.empty_like(by_lag)
    order[_BY_LAG] = by_lag
    return order
