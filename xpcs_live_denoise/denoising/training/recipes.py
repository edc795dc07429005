"""How a network is trained: every number of a recipe, its start, its samples and its loss."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xpcs_live_denoise.denoising.model import (
    CHANNELS,
    LAG_OF_PIXEL,
    LATENT,
    TRIANGLE_SHAPE,
    CnnEncoderDecoder,
    TiedEncoderDecoder,
)
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.windows import LAG, LAG_MEANS, MULTIPLICITY, N_PIXELS, WINDOW
from xpcs_live_denoise.records.types import Array, Document

from .data import WindowData

RecipeName = Literal["own", "paper"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Our recipe: tied diagonals, a linear start, curves as targets, half synthetic inputs.

    The default numbers made the shipped ensemble.

    Attributes
    ----------
    epochs
        Most times that every measured input is seen.
    patience
        Epochs without a lower validation cost after which training ends. The network of the
        lowest cost is kept. Without validation data it runs all epochs.
    batch
        Samples of one step.
    synthetic
        Part of a batch that is a KWW curve with measured noise instead of a measured input.
    learning_rate
        Peak rate of Adam. One rate suits all weights where diagonals share theirs.
    warm_up
        Part of the steps over which the rate rises to its peak; it falls linearly to 0 after.
    noise_spread
        Standard deviation of ln of the factor by which the noise of each sample is changed, so
        that the network meets cleaner and noisier data than those it was given.
    noise_floor
        A sample weighs 1 / (noise_floor + variance of its noise) in the loss, in squares of the
        contrast. Without it the few noisiest experiments would be all that is learned.
    offset
        Added to the scaled pixels that the linear start sends through its ReLU, so that only
        those below -offset are cut.
    """

    epochs: int = 6
    patience: int = 3
    batch: int = 32
    synthetic: float = 0.5
    learning_rate: float = 3e-3
    warm_up: float = 0.1
    noise_spread: float = 0.4
    noise_floor: float = 1.0
    offset: float = 8.0

    def __post_init__(self) -> None:
        check_positive(self, "epochs", "patience", "batch", "learning_rate", "noise_floor")
        for name in ("synthetic", "warm_up"):
            if not 0 <= getattr(self, name) < 1:
                raise InvalidInputError(
                    f"Recipe: {name} is {getattr(self, name)}; expected a part, 0 <= {name} < 1."
                )
        if not 0 <= self.noise_spread < 2:
            raise InvalidInputError(
                f"Recipe: noise_spread is {self.noise_spread}; expected 0 <= noise_spread < 2."
            )

    @property
    def n_synthetic(self) -> int:
        """Synthetic samples in a batch; at least one sample is measured."""
        return min(round(self.synthetic * self.batch), self.batch - 1)

    @property
    def n_measured(self) -> int:
        """Measured inputs in a batch."""
        return self.batch - self.n_synthetic

    def rate(self, step: int, n_inputs: int) -> float:
        """Return the learning rate at a step, as a part of its peak."""
        n_steps = self.epochs * max(1, n_inputs // self.n_measured)
        rising = (step + 1) / max(1.0, self.warm_up * n_steps)
        falling = (n_steps - step) / max(1.0, (1 - self.warm_up) * n_steps)
        return min(1.0, rising, falling)

    def begin(
        self, data: WindowData, generator: torch.Generator
    ) -> tuple[TiedEncoderDecoder, list[Document], Iterator[Iterator[Tensor]]]:
        """Return a network, its parameters in groups with their rates, and its losses to come.

        These are, epoch after epoch, the loss of every batch: Eq. 8 against the curves, noisy
        samples weighing less.
        """
        network = TiedEncoderDecoder(generator=generator)
        set_linear_start(network, data, self.offset)
        groups: list[Document] = [{"params": list(network.parameters()), "lr": self.learning_rate}]
        return network, groups, self._losses(network, data, generator)

    def _losses(
        self, network: TiedEncoderDecoder, data: WindowData, generator: torch.Generator
    ) -> Iterator[Iterator[Tensor]]:
        samples = training_samples(data)
        for _ in range(self.epochs):
            yield (
                self._loss(network(noise + curves[:, LAG_OF_PIXEL]), noise, curves)
                for noise, curves in self.batches(samples, generator)
            )

    def _loss(self, output: Tensor, noise: Tensor, curves: Tensor) -> Tensor:
        weights = 1 / (self.noise_floor + (noise * noise) @ PIXEL_WEIGHTS)  # (batch,)
        return (weights * eq8_of_curves(output, curves)).sum() / weights.sum()

    def batches(
        self, samples: tuple[Tensor, Tensor, Tensor], generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the noise (batch, 1275) and curves (batch, 50) of one epoch; inputs are their sum.

        Every measured input of `training_samples` comes once, but for the rest that does not fill
        a batch.
        """
        residuals, targets, noises = samples
        n = len(targets)
        order = torch.randperm(n, generator=generator)
        for place in range(0, n - self.n_measured + 1, self.n_measured):
            rows = order[place : place + self.n_measured]
            noise, curves = residuals[rows], targets[rows]
            if self.n_synthetic:
                others = torch.randint(n, (self.n_synthetic,), generator=generator)
                noise = torch.cat([noise, noises[others]])
                curves = torch.cat([curves, random_curves(self.n_synthetic, generator)])
            spread = self.noise_spread * torch.randn(len(noise), 1, generator=generator)
            yield noise * torch.exp(spread), curves


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperRecipe:
    """The published recipe, for comparison: Xavier weights, measured inputs and targets only.

    Attributes
    ----------
    epochs
        Most times that every input is seen; the paper needed 9 to 82.
    patience
        As in `Recipe`; the paper stops early by the validation cost and names no number.
    batch
        Inputs of one step.
    learning_rate
        Rate of Adam at the start; the paper's lie between 2.5e-6 and 4e-5, of which the highest
        needs the least time.
    decay
        Factor on the rate after every epoch.

    Notes
    -----
    The weights of mirrored pixels are merged. Inputs are symmetric, so the encoder's weights of a
    pixel and its mirror image act as their sum: it starts as the sum of two Xavier weights and
    moves at twice the rate. Of the decoder's two outputs, which differ by their random start
    alone, one is trained.

    References
    ----------
    Konstantinova et al., Sci. Rep. 11, 14756 (2021), "Model training details".
    """

    epochs: int = 82
    patience: int = 12
    batch: int = 8
    learning_rate: float = 4e-5
    decay: float = 0.9995

    def __post_init__(self) -> None:
        check_positive(self, "epochs", "patience", "batch", "learning_rate", "decay")

    @property
    def n_measured(self) -> int:
        """Measured inputs in a batch: all of it."""
        return self.batch

    def rate(self, step: int, n_inputs: int) -> float:
        """Return the learning rate at a step, as a part of the first."""
        return self.decay ** (step // max(1, n_inputs // self.batch))

    def begin(
        self, data: WindowData, generator: torch.Generator
    ) -> tuple[CnnEncoderDecoder, list[Document], Iterator[Iterator[Tensor]]]:
        """Return a network, its parameters in groups with their rates, and its losses to come.

        The loss is Eq. 8 against the measured targets.
        """
        network = CnnEncoderDecoder(TRIANGLE_SHAPE, generator=generator)
        bound = math.sqrt(6 / (CHANNELS * MULTIPLICITY.sum() + LATENT))
        with torch.no_grad():
            for weight in (network.compress.weight, network.expand.weight):
                weight.uniform_(-bound, bound, generator=generator)
            encoder = network.compress.weight.view(LATENT, CHANNELS, N_PIXELS)
            mirror = torch.empty_like(encoder).uniform_(-bound, bound, generator=generator)
            encoder += mirror * torch.from_numpy(MULTIPLICITY - 1)
        merged = network.compress.weight
        rest = [parameter for parameter in network.parameters() if parameter is not merged]
        groups: list[Document] = [
            {"params": [merged], "lr": 2 * self.learning_rate},
            {"params": rest, "lr": self.learning_rate},
        ]
        return network, groups, self._losses(network, data, generator)

    def _losses(
        self, network: CnnEncoderDecoder, data: WindowData, generator: torch.Generator
    ) -> Iterator[Iterator[Tensor]]:
        inputs, targets = torch.from_numpy(data.c2), torch.from_numpy(data.target)
        index = torch.from_numpy(data.target_index)
        for _ in range(self.epochs):
            order = torch.randperm(len(inputs), generator=generator)
            yield (
                eq8(network.denoise(inputs[rows]), targets[index[rows]])
                for rows in order.split(self.batch)
            )


def recipe_of(name: RecipeName, *, epochs: int | None = None) -> Recipe | PaperRecipe:
    """Return a recipe by name, with other epochs if given."""
    recipe = PaperRecipe() if name == "paper" else Recipe()
    return recipe if epochs is None else replace(recipe, epochs=epochs)


def check_positive(recipe: object, *names: str) -> None:
    """Raise InvalidInputError where one of a recipe's numbers is not positive."""
    for name in names:
        value = getattr(recipe, name)
        if not value > 0:
            raise InvalidInputError(
                f"{type(recipe).__name__}: {name} is {value}; expected a positive number."
            )


def training_samples(data: WindowData) -> tuple[Tensor, Tensor, Tensor]:
    """Return what our recipe learns from: residuals (n, 1275), targets (n, 50), noise (n, 1275).

    Residuals are the measured inputs minus their targets, which are averaged along each diagonal,
    lag 0 first: an equilibrium target has nothing else to say, and its pixels are noisy. Noise is
    the residuals, as noisy as against a target of other inputs.
    """
    index = torch.from_numpy(data.target_index)
    means = torch.from_numpy(LAG_MEANS)
    targets = (torch.from_numpy(data.target) @ means)[index]
    residuals = torch.from_numpy(data.c2) - targets[:, LAG_OF_PIXEL]
    # A target is the mean of k inputs, this one among them, so the g2 of their difference has
    # only (k - 1) / k of its variance. The rest of the noise is not in the averaged target.
    cuts = torch.from_numpy(data.n_cuts)[index].float()
    missing = torch.sqrt(cuts / (cuts - 1).clamp(min=1)) - 1
    noise = residuals + missing[:, None] * (residuals @ means)[:, LAG_OF_PIXEL]
    return residuals, targets, noise


# Synthetic curves: wider than the training targets, whose contrast is 1 by Eq. 4.
GAMMA_RANGE = (0.004, 0.6)  # per frame, uniform in the logarithm
ALPHA_WIDTH, ALPHA_RANGE = 0.3, (0.3, 2.5)  # of ln alpha about 0
BETA_WIDTH = 0.15  # about 1
BASELINE_WIDTH = 0.02  # about 1


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


OUTPUT_OFFSET = 1.0  # keeps the decoder's curves, which lie near 1 to 2, above its ReLU's bend
RIDGE = 1e-6  # of the inputs' mean square, a guard for data with fewer inputs than lags


def lag_weights() -> NDArray[np.float64]:
    """Return what the square of an error of the mean at each lag adds to Eq. 8, shape (50,)."""
    pixels = np.bincount(LAG, weights=MULTIPLICITY) / WINDOW**2
    return pixels + np.where(np.arange(WINDOW) > 0, 1 / (WINDOW - 1), 0.0)


def reduced_rank_regression(
    inputs: NDArray[np.float64], targets: NDArray[np.float64], rank: int, weights: Array
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the best linear map of a given rank, as encoder (n_in, rank), decoder (rank, n_out).

    Both sides are taken as deviations from their means; `weights` (n_out,) weigh the squares of
    the errors. The encoder's outputs have unit variance, so that Adam's steps suit them all.

    Reference: Izenman, J. Multivariate Anal. 5, 248 (1975).
    """
    root = np.sqrt(weights)
    x = inputs - inputs.mean(axis=0)
    y = (targets - targets.mean(axis=0)) * root
    gram = x.T @ x
    gram += RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    full = np.linalg.solve(gram, x.T @ y)
    directions = np.linalg.svd(x @ full, full_matrices=False)[2][:rank].T  # (n_out, rank)
    encoder, decoder = full @ directions, directions.T / root
    scale = np.maximum((x @ encoder).std(axis=0), 1e-12)
    return encoder / scale, decoder * scale[:, None]


@torch.no_grad()
def set_linear_start(network: TiedEncoderDecoder, data: WindowData, offset: float) -> None:
    """Put the linear denoiser into the first channel of a network.

    The first channel carries the pixels, raised by `offset` above the ReLUs' bend; the other
    channels keep their random convolutions, join the latent numbers with weight 0, and grow from
    there. A random start leaves some members with dead latent numbers; this one cannot.
    """
    g2 = data.c2.astype(np.float64) @ LAG_MEANS[:, 1:]  # (n, 49): lag 0 is no measurement
    target = (data.target.astype(np.float64) @ LAG_MEANS)[data.target_index]  # (n, 50)
    encoder, decoder = reduced_rank_regression(g2, target, LATENT, lag_weights())

    weight, bias = network.weight, network.bias
    weight["conv1"][0] = 1
    bias["conv1"][0] = offset
    weight["conv2"][0] = 0
    weight["conv2"][0, 0] = 1
    weight["compress"].zero_()
    weight["compress"][0, 1:] = _float(encoder)  # (49, 8)
    bias["compress"].copy_(_float(-(g2.mean(axis=0) + offset) @ encoder))

    weight["expand"][0] = _float(decoder)  # (8, 50)
    bias["expand"][0, 0] = _float(target.mean(axis=0) + OUTPUT_OFFSET)
    weight["deconv1"][0] = 0  # (out, in): nothing but channel 0 enters channel 0,
    weight["deconv1"][:, 0] = 0  # and channel 0 enters nothing else
    weight["deconv1"][0, 0] = 1
    weight["deconv2"][0, 0] = 1
    bias["deconv2"].fill_(-OUTPUT_OFFSET)


def _float(array: Array) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


PIXEL_WEIGHTS = torch.from_numpy(MULTIPLICITY / MULTIPLICITY.sum())  # (1275,)
G2_MEANS = torch.from_numpy(np.ascontiguousarray(LAG_MEANS[:, 1:]))  # (1275, 49)
LAG_WEIGHTS = torch.from_numpy(lag_weights().astype(np.float32))  # (50,)


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
