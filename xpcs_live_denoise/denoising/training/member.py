"""Train one network: epochs, rates, and the end when the validation cost no longer falls."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xpcs_live_denoise.denoising.ensemble import Ensemble, denoise_triangles
from xpcs_live_denoise.denoising.evaluation import errors, summary
from xpcs_live_denoise.denoising.model import CnnEncoderDecoder

from .data import WindowData
from .methods import Course, PaperRecipe, Recipe, course_of

CHUNK = 64  # inputs in one pass: bounds the memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One epoch of one network.

    Attributes
    ----------
    epoch
        From 1.
    loss
        Mean over the epoch's batches of what the recipe minimises.
    cost, mse_g2
        Eq. 8 and MSE(1TCF) on the validation experiments that choose; None without them.
    best
        Whether this epoch's network is the best so far.
    """

    epoch: int
    loss: float
    cost: float | None = None
    mse_g2: float | None = None
    best: bool = True


def train_member(
    data: WindowData,
    recipe: Recipe | PaperRecipe,
    seed: int,
    *,
    choice: Choice | None = None,
    report: Callable[[Epoch], None] | None = None,
) -> tuple[CnnEncoderDecoder, list[Epoch]]:
    """Train one network for triangles.

    Parameters
    ----------
    data
        What it learns from.
    recipe
        How.
    seed
        Of everything random: the same seed on the same machine gives the same bits.
    choice
        Validation data. The network of the epoch with the lowest cost on the experiments that
        choose is returned, and training ends after `recipe.patience` epochs without a lower one.
        None: the network of the last epoch.
    report
        Called after every epoch.

    Returns
    -------
    network, epochs
        The network, and what became of it epoch by epoch.
    """
    course = course_of(recipe, data, torch.Generator().manual_seed(seed))
    optimizer = torch.optim.Adam(course.parameters(), fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: recipe.rate(s, len(data)))
    epochs: list[Epoch] = []
    best, best_state = 0, copy.deepcopy(course.network.state_dict())
    with _one_thread():
        for number in range(1, recipe.epochs + 1):
            epoch = _one_epoch(course, number, optimizer, schedule)
            if choice is not None:
                epoch = _validated(epoch, course, choice, epochs)
            epochs.append(epoch)
            if report is not None:
                report(epoch)
            if epoch.best:
                best, best_state = number, copy.deepcopy(course.network.state_dict())
            elif number - best >= recipe.patience:
                break
    course.network.load_state_dict(best_state)
    return course.result(), epochs


def _one_epoch(
    course: Course,
    number: int,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> Epoch:
    losses: list[float] = []
    for loss in course.losses():
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return Epoch(epoch=number, loss=float(np.mean(losses)))


def _validated(epoch: Epoch, course: Course, choice: Choice, before: list[Epoch]) -> Epoch:
    with torch.inference_mode():
        parts = torch.from_numpy(choice.choosing.c2).split(CHUNK)
        output = torch.cat([course.denoise(part) for part in parts]).numpy()
    cost, mse_g2 = choice.score(output)
    lowest = min((e.cost for e in before if e.cost is not None), default=float("inf"))
    return Epoch(epoch=epoch.epoch, loss=epoch.loss, cost=cost, mse_g2=mse_g2, best=cost < lowest)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: the products are too small for two, which are slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Validation data, divided by experiment: one half chooses the members, the other reports.

    Attributes
    ----------
    all_data, choosing
        Every experiment, and every second one.
    held_out
        The others; None where there is but one experiment.
    """

    all_data: WindowData
    choosing: WindowData
    held_out: WindowData | None

    @classmethod
    def of(cls, data: WindowData) -> Choice:
        """Divide validation data."""
        experiments = np.unique(data.experiment[data.target_index])
        others = experiments[1::2]
        held_out = data.of_experiments(others) if len(others) else None
        choosing = data.of_experiments(experiments[::2])
        return cls(all_data=data, choosing=choosing, held_out=held_out)

    def description(self) -> dict[str, Any]:
        """Return how members are chosen, for the model card."""
        return {
            "by": "epochs by cost, members by MSE(1TCF), on every second validation experiment",
            "validation_sha256": self.all_data.sha256,
            "experiments": experiments_of(self.choosing),
        }

    def score(self, output: NDArray[np.float32]) -> tuple[float, float]:
        """Return cost and MSE(1TCF) of denoised triangles of the experiments that choose."""
        cost, mse_g2 = errors(output, self.choosing)
        return float(cost.mean()), float(mse_g2.mean())

    def metrics(self, ensemble: Ensemble) -> dict[str, Any]:
        """Return the ensemble's figures, raw ones beside them, on each part of the data."""
        parts = {"all": self.all_data, "held_out": self.held_out, "choosing": self.choosing}
        return {
            part: {
                "experiments": experiments_of(data),
                "raw": summary(data.c2, data),
                "cnn": summary(denoise_triangles(ensemble, data.c2), data),
            }
            for part, data in parts.items()
            if data is not None
        }


def experiments_of(data: WindowData) -> list[int]:
    """Return the experiments that have inputs."""
    return np.unique(data.experiment[data.target_index]).tolist()
