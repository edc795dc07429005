"""How a member is trained: every number of the recipe, with the reason for it."""

from __future__ import annotations

from dataclasses import dataclass

from xpcs_live_denoise.errors import InvalidInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Numbers of one training run; the defaults made the shipped ensemble.

    Attributes
    ----------
    epochs
        Times that every measured input is seen.
    batch
        Samples of one step.
    synthetic
        Part of a batch that is a KWW curve with measured noise instead of a measured input.
    learning_rate
        Peak rate of Adam for the two linear layers, whose gradients gather 1,275 pixels.
    fast
        How many times that rate the convolutions and the latent bias get: some hundred numbers
        that every pixel shares, and that would stand still at the linear layers' rate.
    warm_up
        Part of the steps over which the rate rises to its peak; it falls linearly to 0 after.
    shuffle_every
        Steps for which one shuffle of the diagonals is kept.
    offset
        Added to the scaled pixels that the linear start sends through its ReLU, so that only
        those below -offset are cut.

    Raises
    ------
    InvalidInputError
        For a number with which no training is possible.
    """

    epochs: int = 6
    batch: int = 32
    synthetic: float = 0.5
    learning_rate: float = 3e-5
    fast: float = 300.0
    warm_up: float = 0.1
    shuffle_every: int = 4
    offset: float = 8.0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "shuffle_every", "learning_rate", "fast"):
            if not getattr(self, name) > 0:
                raise InvalidInputError(
                    f"Recipe: {name} is {getattr(self, name)}; expected a positive number."
                )
        for name in ("synthetic", "warm_up"):
            if not 0 <= getattr(self, name) < 1:
                raise InvalidInputError(
                    f"Recipe: {name} is {getattr(self, name)}; expected a part, 0 <= {name} < 1."
                )

    @property
    def n_synthetic(self) -> int:
        """Synthetic samples in a batch; at least one sample is measured."""
        return min(round(self.synthetic * self.batch), self.batch - 1)

    @property
    def n_measured(self) -> int:
        """Measured inputs in a batch."""
        return self.batch - self.n_synthetic

    def n_steps(self, n_inputs: int) -> int:
        """Return the steps of a training run on so many measured inputs."""
        return max(1, self.epochs * (n_inputs // self.n_measured))

    def rate(self, step: int, n_steps: int) -> float:
        """Return the learning rate at a step, as a part of its peak."""
        rising = (step + 1) / max(1.0, self.warm_up * n_steps)
        falling = (n_steps - step) / max(1.0, (1 - self.warm_up) * n_steps)
        return min(1.0, rising, falling)
