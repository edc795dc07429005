"""Train CNN encoder-decoders on two-time correlation functions, and keep the best.

`train` does it all, `train_member` trains one network. Architecture and loss are the
paper's; our recipe differs: weights shared along diagonals, a linear start, half synthetic inputs.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from xpcs_live_denoise.denoising.ensemble import (
    Ensemble,
    denoise_triangles,
    load_ensemble,
    save_ensemble,
)
from xpcs_live_denoise.denoising.evaluation import errors, summary
from xpcs_live_denoise.denoising.model import (
    CHANNELS,
    LATENT,
    CnnEncoderDecoder,
    TiedEncoderDecoder,
)
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.threads import one_thread
from xpcs_live_denoise.records.types import Document

from .data import WindowData, load_windows, simulate_windows
from .recipes import PaperRecipe, Recipe

LOG_NAME = "training.jsonl"
# Simulated windows to learn from and to choose by: half a minute of computing.
N_SIMULATED, N_SIMULATED_VALIDATION = 3000, 600
CHUNK = 64  # inputs in one pass: bounds the memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """One epoch of one network."""

    epoch: int  # from 1
    loss: float  # mean over the epoch's batches of what the recipe minimises
    cost: float | None = None  # Eq. 8 on the validation experiments that choose, if there are any
    mse_g2: float | None = None  # MSE(1TCF) on them
    best: bool = True  # of the network's epochs so far


def train(
    data: str | Path | WindowData,
    out_dir: str | Path,
    *,
    validation: str | Path | WindowData | None = None,
    members: int = 10,
    candidates: int | None = None,
    recipe: Recipe | PaperRecipe | None = None,
    seed: int = 0,
    name: str = "cnn-ed",
    notes: Mapping[str, str] | None = None,
    progress: Callable[[int, int, Epoch], None] | None = None,
) -> Ensemble:
    """Train networks, keep the best, and write them with their model card and a log.

    Parameters
    ----------
    data
        Training data: an .npz in the format of `load_windows`, or what it holds.
    out_dir
        Folder for the weights, the model card, and the log of the loss: one JSON object an epoch,
        one a line, written as the training goes on.
    validation
        Data to choose by, from other experiments. Epochs are chosen by their cost and members by
        their MSE(1TCF), both on every second experiment of it; the card reports the ensemble on
        the others and on all. None: every network that is trained is kept as its last epoch left
        it, and the card has no metrics.
    members
        Networks to keep.
    candidates
        Networks to train. Default: twice as many with validation data, else as many.
    recipe
        The numbers of the training; default `Recipe()`. `PaperRecipe()` is the published one.
    seed
        Candidate i starts from seed + i; the same seed on the same machine gives the same bits.
    name
        The ensemble's name.
    notes
        More entries for the model card: where the data come from, their licence, ...
    progress
        Called after every epoch: number of the network, from 0, of how many, and the epoch.

    Returns
    -------
    Ensemble
        The ensemble as loaded from `out_dir`.
    """
    recipe = recipe or Recipe()
    n = candidates or (members if validation is None else 2 * members)
    _check_numbers(members, n, validation is not None)
    source = "simulated" if isinstance(data, WindowData) else Path(data).name
    data = _windows(data)
    parts = {} if validation is None else validation_parts(_windows(validation))
    if len(data) < recipe.n_measured:
        raise InvalidInputError(
            f"Training data {source}: {len(data)} inputs; expected at least "
            f"{recipe.n_measured}, the measured inputs of one batch."
        )

    log_path = Path(out_dir) / LOG_NAME
    log_path.parent.mkdir(parents=True, exist_ok=True)
    log_path.unlink(missing_ok=True)

    def report(i: int, epoch: Epoch) -> None:
        entry = {"candidate": i, "seed": seed + i, **asdict(epoch)}
        with log_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        if progress is not None:
            progress(i, n, epoch)

    networks: list[CnnEncoderDecoder] = []
    log: list[Document] = []
    choosing = parts.get("choosing")
    for i in range(n):
        network, epochs = train_member(
            data, recipe, seed + i, choosing=choosing, report=partial(report, i)
        )
        networks.append(network)
        log.append(_candidate(seed + i, epochs))

    kept = list(range(members))
    if parts:
        kept = sorted(range(n), key=lambda i: log[i]["mse_g2_choosing"])[:members]
    for i in range(n):
        log[i]["kept"] = i in kept
    best = [networks[i] for i in kept]
    card = {"name": name, **(notes or {}), **_card(source, data, parts, recipe, log)}
    ensemble = load_ensemble(save_ensemble(best, card, out_dir))
    if parts:  # the figures are those of the ensemble as a user will load it
        card["metrics"] = _metrics(ensemble, parts)
        ensemble = load_ensemble(save_ensemble(best, card, out_dir))
    return ensemble


def train_member(
    data: WindowData,
    recipe: Recipe | PaperRecipe,
    seed: int,
    *,
    choosing: WindowData | None = None,
    report: Callable[[Epoch], None] | None = None,
) -> tuple[CnnEncoderDecoder, list[Epoch]]:
    """Train one network for triangles; return it, and what became of it epoch by epoch.

    The network is that of the epoch with the lowest cost on the data `choosing`, and training ends
    after `recipe.patience` epochs without a lower one; without such data, that of the last epoch.
    """
    generator = torch.Generator().manual_seed(seed)
    network, parameters, losses_of_epochs = recipe.begin(data, generator)
    optimizer = torch.optim.Adam(parameters, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: recipe.rate(s, len(data)))
    epochs: list[Epoch] = []
    best, best_state = 0, copy.deepcopy(network.state_dict())
    with one_thread():  # the products are too small for two
        for number, losses in enumerate(losses_of_epochs, start=1):
            epoch = Epoch(epoch=number, loss=_learn(losses, optimizer, schedule))
            if choosing is not None:
                epoch = _validated(epoch, network, choosing, epochs)
            epochs.append(epoch)
            if report is not None:
                report(epoch)
            if epoch.best:
                best, best_state = number, copy.deepcopy(network.state_dict())
            elif number - best >= recipe.patience:
                break
    network.load_state_dict(best_state)
    return network.untied(), epochs


def _learn(
    losses: Iterator[torch.Tensor],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> float:
    """Take a step for the loss of each batch; return the mean of the losses."""
    values: list[float] = []
    for loss in losses:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        values.append(loss.item())
    return float(np.mean(values))


def _validated(
    epoch: Epoch,
    network: CnnEncoderDecoder | TiedEncoderDecoder,
    choosing: WindowData,
    before: list[Epoch],
) -> Epoch:
    with torch.inference_mode():
        parts = torch.from_numpy(choosing.c2).split(CHUNK)
        output = torch.cat([network.denoise(part) for part in parts]).numpy()
    cost, mse_g2 = (float(values.mean()) for values in errors(output, choosing.targets))
    lowest = min((e.cost for e in before if e.cost is not None), default=float("inf"))
    return replace(epoch, cost=cost, mse_g2=mse_g2, best=cost < lowest)


def validation_parts(data: WindowData) -> dict[str, WindowData]:
    """Divide validation data by experiment: every second one chooses members, the others report.

    Parts are "all", "held_out" where there is more than one experiment, and "choosing".
    """
    experiments = data.experiments
    parts = {"all": data}
    if len(experiments) > 1:
        parts["held_out"] = data.of_experiments(experiments[1::2])
    return {**parts, "choosing": data.of_experiments(experiments[::2])}


def _metrics(ensemble: Ensemble, parts: Mapping[str, WindowData]) -> Document:
    """Return the ensemble's figures, raw ones beside them, on each part of validation data."""
    return {
        part: {
            "experiments": data.experiments.tolist(),
            "raw": summary(data.c2, data),
            "cnn": summary(denoise_triangles(ensemble, data.c2), data),
        }
        for part, data in parts.items()
    }


def training_data(
    data: Path | None,
    validation: Path | None,
    *,
    simulated: bool,
    seed: int,
    n_simulated: tuple[int, int] = (N_SIMULATED, N_SIMULATED_VALIDATION),
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Path | WindowData, Path | WindowData | None]:
    """Return what to train on and what to choose by: files, or numbers of simulated windows.

    `progress` is called with the number of windows that are simulated, and of all.
    """
    if simulated == (data is not None):
        got = "a data file and --simulated" if simulated else "neither a data file nor --simulated"
        raise InvalidInputError(f"train: got {got}; expected one of them.")
    if data is not None:
        return data, validation
    n_training, n_validation = n_simulated
    total = n_training + (0 if validation else n_validation)

    def show(done: int) -> None:
        if progress is not None:
            progress(done, total)

    learning = simulate_windows(n_training, seed=seed, progress=show)
    if validation is not None:
        return learning, validation
    choosing = simulate_windows(
        n_validation, seed=seed + 1, progress=lambda done: show(n_training + done)
    )
    return learning, choosing


def _windows(source: str | Path | WindowData) -> WindowData:
    return source if isinstance(source, WindowData) else load_windows(source)


def _candidate(seed: int, epochs: list[Epoch]) -> Document:
    """Return what the card says of a network: the losses, and the epoch that was kept."""
    best = [epoch for epoch in epochs if epoch.best][-1]
    entry = {"seed": seed, "loss": [epoch.loss for epoch in epochs], "epoch": best.epoch}
    return entry if best.mse_g2 is None else {**entry, "mse_g2_choosing": best.mse_g2}


def _card(
    source: str,
    data: WindowData,
    parts: Mapping[str, WindowData],
    recipe: Recipe | PaperRecipe,
    candidates: list[Document],
) -> Document:
    """Return what the model card says of the training, before there are metrics."""
    untied = isinstance(recipe, PaperRecipe)
    choice: Document = (
        {
            "by": "epochs by cost, members by MSE(1TCF), on every second validation experiment",
            "validation_sha256": parts["all"].sha256,
            "experiments": parts["choosing"].experiments.tolist(),
        }
        if parts
        else {}
    )
    return {
        "architecture": {
            "kind": "CNN encoder-decoder, Konstantinova et al., Sci. Rep. 11, 14756 (2021)",
            "channels": CHANNELS,
            "latent": LATENT,
            "pixels": "upper triangle, row by row (1275); equal to the network for 50x50 windows "
            "in which mirrored pixels share their weights",
            "diagonals": "untied" if untied else "pixels of equal lag share their weights",
        },
        "trained_on": {
            "file": source,
            "sha256": data.sha256,
            "inputs": len(data),
            "targets": len(data.target),
            "experiments": len(np.unique(data.experiment)),
        },
        "recipe": {"kind": type(recipe).__name__, **asdict(recipe)},
        "choice": choice or None,
        "candidates": candidates,
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
        "metrics": {},
    }


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
