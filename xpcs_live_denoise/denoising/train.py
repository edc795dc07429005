"""Train CNN encoder-decoders on measured two-time correlation functions, and keep the best.

`train` tells the story, `train_member` trains one network. Architecture and loss are the paper's,
the recipe is not: a linear start, shuffled diagonals, half synthetic inputs, and for the
convolutions a rate of their own reach a lower validation cost in a minute a member.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xpcs_live_denoise.errors import InvalidInputError

from .choice import Choice
from .data import WindowData, load_windows
from .ensemble import Ensemble, load_ensemble, save_ensemble
from .linear_start import set_linear_start
from .model import CHANNELS, LATENT, TRIANGLE_SHAPE, CnnEncoderDecoder, forward_by_products
from .recipe import Recipe
from .samples import Samples
from .triangle import LAG, LAG_MEANS, MULTIPLICITY

REPORT_EVERY = 25  # steps
PIXEL_WEIGHTS = torch.from_numpy(MULTIPLICITY / MULTIPLICITY.sum())  # (1275,)
LAG_OF_PIXEL = torch.from_numpy(LAG)  # (1275,)
G2_MEANS = torch.from_numpy(np.ascontiguousarray(LAG_MEANS[:, 1:]))  # (1275, 49)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrainingProgress:
    """Where a training run stands.

    Attributes
    ----------
    candidate, n_candidates
        The network in training, from 0, and how many will be trained.
    step, n_steps
        Steps done of this network.
    loss
        Mean loss (Eq. 8) of the steps since the last report.
    """

    candidate: int
    n_candidates: int
    step: int
    n_steps: int
    loss: float


def train(
    data_path: str | Path,
    out_dir: str | Path,
    *,
    validation: str | Path | None = None,
    members: int = 10,
    candidates: int | None = None,
    recipe: Recipe | None = None,
    seed: int = 0,
    name: str = "cnn-ed",
    notes: Mapping[str, str] | None = None,
    progress: Callable[[TrainingProgress], None] | None = None,
) -> Ensemble:
    """Train networks, keep the best, and write them with their model card.

    Parameters
    ----------
    data_path
        Training data, an .npz in the format of `load_windows`.
    out_dir
        Folder for the weights and the model card.
    validation
        Data to choose by, from other experiments. Members are chosen by their MSE(1TCF) on every
        second experiment of it; the card reports the ensemble on the others and on all. None:
        every network that is trained is kept, and the card has no metrics.
    members
        Networks to keep.
    candidates
        Networks to train. Default: twice as many with validation data, else as many.
    recipe
        The numbers of the training; default `Recipe()`.
    seed
        Candidate i starts from seed + i; the same seed on the same machine gives the same bits.
    name
        The ensemble's name.
    notes
        More entries for the model card: where the data come from, their licence, ...
    progress
        Called with a `TrainingProgress` every 25 steps.

    Returns
    -------
    Ensemble
        The ensemble as loaded from `out_dir`.

    Raises
    ------
    InvalidInputError
        When a file cannot be used, or the numbers do not fit together.
    """
    recipe = recipe or Recipe()
    candidates = candidates or (members if validation is None else 2 * members)
    _check_numbers(members, candidates, validation is not None)
    data = load_windows(data_path)
    choice = None if validation is None else Choice.of(load_windows(validation))
    if len(data) < recipe.n_measured:
        raise InvalidInputError(
            f"Training data {data_path}: {len(data)} inputs; expected at least "
            f"{recipe.n_measured}, the measured inputs of one batch."
        )

    networks: list[CnnEncoderDecoder] = []
    log: list[dict[str, Any]] = []
    for i in range(candidates):
        report = _of_candidate(progress, i, candidates)
        network, losses = train_member(data, recipe, seed + i, progress=report)
        networks.append(network)
        log.append({"seed": seed + i, "loss": losses})
        if choice is not None:
            log[i]["mse_g2_choosing"] = choice.score(network)

    kept = list(range(members))
    if choice is not None:
        kept = sorted(range(candidates), key=lambda i: log[i]["mse_g2_choosing"])[:members]
    for i in range(candidates):
        log[i]["kept"] = i in kept
    best = [networks[i] for i in kept]
    card = {"name": name, **(notes or {}), **_card(Path(data_path), data, choice, recipe, log)}
    ensemble = load_ensemble(save_ensemble(best, card, out_dir))
    if choice is not None:  # the figures are those of the ensemble as a user will load it
        card["metrics"] = choice.metrics(ensemble)
        ensemble = load_ensemble(save_ensemble(best, card, out_dir))
    return ensemble


def train_member(
    data: WindowData,
    recipe: Recipe,
    seed: int,
    *,
    progress: Callable[[int, int, float], None] | None = None,
) -> tuple[CnnEncoderDecoder, list[float]]:
    """Train one network for triangles; return it with the mean loss of every epoch."""
    generator = torch.Generator().manual_seed(seed)
    network = CnnEncoderDecoder(TRIANGLE_SHAPE, generator=generator)
    set_linear_start(network, data, recipe.offset)
    slow = [network.compress.weight, network.expand.weight, network.expand.bias]
    slow_ids = {id(parameter) for parameter in slow}
    fast = [parameter for parameter in network.parameters() if id(parameter) not in slow_ids]
    rate = recipe.learning_rate
    optimizer = torch.optim.Adam(
        [{"params": slow, "lr": rate}, {"params": fast, "lr": rate * recipe.fast}],
        fused=True,
    )
    n_steps = recipe.n_steps(len(data))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: recipe.rate(s, n_steps))
    losses: list[float] = []
    with _one_thread():
        batches = Samples.of(data).batches(recipe, n_steps, generator)
        for step, (inputs, targets) in enumerate(batches, start=1):
            loss = eq8(forward_by_products(network, inputs), targets)  # inputs (batch, 1275)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            if progress is not None and (step % REPORT_EVERY == 0 or step == n_steps):
                progress(step, n_steps, float(np.mean(losses[-REPORT_EVERY:])))
    epochs = np.array_split(losses, min(recipe.epochs, n_steps))
    return network.eval(), [float(np.mean(epoch)) for epoch in epochs]


def eq8(output: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of triangles (batch, 1275) against curves (batch, 50), lag 0 first.

    MSE over the 2,500 pixels of the window plus MSE over the lags 1..49 of its g2, Eq. 8 of
    Konstantinova et al. 2021.
    """
    residual = output - targets[:, LAG_OF_PIXEL]
    c2 = ((residual * residual) @ PIXEL_WEIGHTS).mean()
    return c2 + ((residual @ G2_MEANS) ** 2).mean()


def _card(
    source: Path,
    data: WindowData,
    choice: Choice | None,
    recipe: Recipe,
    candidates: list[dict[str, Any]],
) -> dict[str, Any]:
    """Return what the model card says of the training, before there are metrics."""
    return {
        "architecture": {
            "kind": "CNN encoder-decoder, Konstantinova et al., Sci. Rep. 11, 14756 (2021)",
            "channels": CHANNELS,
            "latent": LATENT,
            "pixels": "upper triangle, row by row (1275); equal to the network for 50x50 windows "
            "in which mirrored pixels share their weights",
        },
        "trained_on": {
            "file": source.name,
            "sha256": data.sha256,
            "inputs": len(data),
            "targets": len(data.target),
            "experiments": len(np.unique(data.experiment)),
        },
        "recipe": dataclasses.asdict(recipe),
        "choice": None if choice is None else choice.description(),
        "candidates": candidates,
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
        "metrics": {},
    }


def _of_candidate(
    progress: Callable[[TrainingProgress], None] | None, candidate: int, n_candidates: int
) -> Callable[[int, int, float], None] | None:
    if progress is None:
        return None

    def report(step: int, n_steps: int, loss: float) -> None:
        progress(
            TrainingProgress(
                candidate=candidate,
                n_candidates=n_candidates,
                step=step,
                n_steps=n_steps,
                loss=loss,
            )
        )

    return report


def _check_numbers(members: int, candidates: int, choosing: bool) -> None:
    if not 1 <= members <= candidates:
        raise InvalidInputError(
            f"train: members is {members} and candidates {candidates}; expected "
            "1 <= members <= candidates."
        )
    if candidates > members and not choosing:
        raise InvalidInputError(
            f"train: {candidates} candidates for {members} members, and no validation data to "
            "choose by; give validation=..., or candidates equal to members."
        )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: the products are too small for two, which are slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
