"""How a member is trained: every number of a recipe, with the reason for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from xpcs_live_denoise.errors import InvalidInputError

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
