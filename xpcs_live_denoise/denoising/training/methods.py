"""How a member is trained: every number of a recipe, with the reason for it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xpcs_live_denoise.denoising.model import (
    CHANNELS,
    LAG,
    LAG_MEANS,
    LAG_OF_PIXEL,
    LATENT,
    MULTIPLICITY,
    N_PIXELS,
    TRIANGLE_SHAPE,
    CnnEncoderDecoder,
    TiedEncoderDecoder,
    forward_by_products,
)
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.windows import WINDOW

from .data import WindowData

RecipeName = Literal["own", "paper"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Numbers of one training run; the defaults made the shipped ensemble.

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

    Raises
    ------
    InvalidInputError
        For a number with which no training is possible.
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


OUTPUT_OFFSET = 1.0  # keeps the decoder's curves, which lie near 1 to 2, above its ReLU's bend
RIDGE = 1e-6  # of the inputs' mean square, a guard for data with fewer inputs than lags


def lag_weights() -> NDArray[np.float64]:
    """Return what the square of an error of the mean at each lag adds to Eq. 8, shape (50,)."""
    pixels = np.bincount(LAG, weights=MULTIPLICITY) / WINDOW**2
    return pixels + np.where(np.arange(WINDOW) > 0, 1 / (WINDOW - 1), 0.0)


def reduced_rank_regression(
    inputs: NDArray[np.float64], targets: NDArray[np.float64], rank: int, weights: NDArray[Any]
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

    network.conv1[0] = 1
    network.conv1_bias[0] = offset
    network.conv2[0] = 0
    network.conv2[0, 0] = 1
    network.compress.zero_()
    network.compress[0, 1:] = _float(encoder)  # (49, 8)
    network.compress_bias.copy_(_float(-(g2.mean(axis=0) + offset) @ encoder))

    network.expand[0] = _float(decoder)  # (8, 50)
    network.expand_bias[0, 0] = _float(target.mean(axis=0) + OUTPUT_OFFSET)
    network.deconv1[0] = 0  # (out, in): nothing but channel 0 enters channel 0,
    network.deconv1[:, 0] = 0  # and channel 0 enters nothing else
    network.deconv1[0, 0] = 1
    network.deconv2[0, 0] = 1
    network.deconv2_bias.fill_(-OUTPUT_OFFSET)


def _float(array: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


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
