"""The two ways to train a network: our recipe and the paper's, behind one small Protocol."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from .data import WindowData
from .linear_start import lag_weights, set_linear_start
from .model import CHANNELS, LATENT, TRIANGLE_SHAPE, CnnEncoderDecoder, forward_by_products
from .recipe import PaperRecipe, Recipe
from .samples import Samples
from .tied import LAG_OF_PIXEL, TiedEncoderDecoder
from .triangle import LAG_MEANS, MULTIPLICITY, N_PIXELS

PIXEL_WEIGHTS = torch.from_numpy(MULTIPLICITY / MULTIPLICITY.sum())  # (1275,)
G2_MEANS = torch.from_numpy(np.ascontiguousarray(LAG_MEANS[:, 1:]))  # (1275, 49)
LAG_WEIGHTS = torch.from_numpy(lag_weights().astype(np.float32))  # (50,)


class Course(Protocol):
    """How one network is trained on given data."""

    @property
    def network(self) -> nn.Module:
        """What is trained; its state is what a best epoch is remembered by."""
        ...

    def parameters(self) -> list[dict[str, Any]]:
        """Return the parameters in groups with their rates, as torch's optimizers take them."""
        ...

    def losses(self) -> Iterator[Tensor]:
        """Yield the loss of every batch of one epoch."""
        ...

    def denoise(self, triangles: Tensor) -> Tensor:
        """Return the denoised triangles (n, 1275) of triangles (n, 1275)."""
        ...

    def result(self) -> CnnEncoderDecoder:
        """Return the network for triangles as it is now."""
        ...


class OwnCourse:
    """Our recipe: tied diagonals, a linear start, curves as targets, half synthetic inputs."""

    def __init__(self, recipe: Recipe, data: WindowData, generator: torch.Generator) -> None:
        self._recipe, self._generator = recipe, generator
        self._samples = Samples.of(data)
        self.network = TiedEncoderDecoder(generator=generator)
        set_linear_start(self.network, data, recipe.offset)

    def parameters(self) -> list[dict[str, Any]]:
        """Return one group."""
        return [{"params": list(self.network.parameters()), "lr": self._recipe.learning_rate}]

    def losses(self) -> Iterator[Tensor]:
        """Yield Eq. 8 against the curves, noisy samples weighing less."""
        floor = self._recipe.noise_floor
        for noise, curves in self._samples.epoch(self._recipe, self._generator):
            weights = 1 / (floor + (noise * noise) @ PIXEL_WEIGHTS)  # (batch,)
            output = self.network(noise + curves[:, LAG_OF_PIXEL])  # (batch, 50)
            yield (weights * eq8_of_curves(output, curves)).sum() / weights.sum()

    def denoise(self, triangles: Tensor) -> Tensor:
        """Return the denoised triangles."""
        return self.network(triangles)[:, LAG_OF_PIXEL]

    def result(self) -> CnnEncoderDecoder:
        """Return the untied network."""
        return self.network.untied()


class PaperCourse:
    """The paper's recipe, with the weights of mirrored pixels merged.

    Inputs are symmetric, so the encoder's weights of a pixel and its mirror image act as their
    sum: it starts as the sum of two Xavier weights and moves at twice the rate. Of the decoder's
    two outputs, which differ by their random start alone, one is trained.
    """

    def __init__(self, recipe: PaperRecipe, data: WindowData, generator: torch.Generator) -> None:
        self._recipe, self._generator = recipe, generator
        self._inputs, self._targets = torch.from_numpy(data.c2), torch.from_numpy(data.target)
        self._index = torch.from_numpy(data.target_index)
        self.network = CnnEncoderDecoder(TRIANGLE_SHAPE, generator=generator)
        bound = math.sqrt(6 / (CHANNELS * MULTIPLICITY.sum() + LATENT))
        with torch.no_grad():
            for weight in (self.network.compress.weight, self.network.expand.weight):
                weight.uniform_(-bound, bound, generator=generator)
            encoder = self.network.compress.weight.view(LATENT, CHANNELS, N_PIXELS)
            mirror = torch.empty_like(encoder).uniform_(-bound, bound, generator=generator)
            encoder += mirror * torch.from_numpy(MULTIPLICITY - 1)

    def parameters(self) -> list[dict[str, Any]]:
        """Return the encoder's linear layer, and the rest."""
        rate, merged = self._recipe.learning_rate, self.network.compress.weight
        rest = [parameter for parameter in self.network.parameters() if parameter is not merged]
        return [{"params": [merged], "lr": 2 * rate}, {"params": rest, "lr": rate}]

    def losses(self) -> Iterator[Tensor]:
        """Yield Eq. 8 against the measured targets."""
        order = torch.randperm(len(self._inputs), generator=self._generator)
        for rows in order.split(self._recipe.batch):
            yield eq8(self.denoise(self._inputs[rows]), self._targets[self._index[rows]])

    def denoise(self, triangles: Tensor) -> Tensor:
        """Return the denoised triangles."""
        return forward_by_products(self.network, triangles)

    def result(self) -> CnnEncoderDecoder:
        """Return the network."""
        return self.network.eval()


def course_of(recipe: Recipe | PaperRecipe, data: WindowData, generator: torch.Generator) -> Course:
    """Return the course that a recipe describes."""
    if isinstance(recipe, PaperRecipe):
        return PaperCourse(recipe, data, generator)
    return OwnCourse(recipe, data, generator)


def eq8(output: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of triangles (batch, 1275) against triangles.

    MSE over the 2,500 pixels of the window plus MSE over the lags 1..49 of its g2, Eq. 8 of
    Konstantinova et al. 2021.
    """
    residual = output - targets
    c2 = ((residual * residual) @ PIXEL_WEIGHTS).mean()
    return c2 + ((residual @ G2_MEANS) ** 2).mean()


def eq8_of_curves(output: Tensor, targets: Tensor) -> Tensor:
    """Return Eq. 8 of each curve (batch, 50), lag 0 first, against a curve; shape (batch,)."""
    residual = output - targets
    return (residual * residual) @ LAG_WEIGHTS
