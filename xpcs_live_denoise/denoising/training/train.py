"""Train CNN encoder-decoders on two-time correlation functions, and keep the best.

`train` tells the story, `train_member` trains one network. Architecture and loss are the paper's;
our recipe differs: weights shared along diagonals, a linear start, half synthetic inputs.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xpcs_live_denoise.denoising.ensemble import Ensemble, load_ensemble, save_ensemble
from xpcs_live_denoise.denoising.model import CHANNELS, LATENT, CnnEncoderDecoder
from xpcs_live_denoise.errors import InvalidInputError

from .data import WindowData, load_windows, simulate_windows
from .member import Choice, Epoch, train_member
from .methods import PaperRecipe, Recipe

LOG_NAME = "training.jsonl"
# Simulated windows to learn from and to choose by: half a minute of computing.
N_SIMULATED, N_SIMULATED_VALIDATION = 3000, 600


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TrainingProgress:
    """Where a training run stands, after an epoch.

    Attributes
    ----------
    candidate, n_candidates
        The network in training, from 0, and how many will be trained.
    n_epochs
        Most epochs of a network.
    epoch
        What the epoch brought.
    """

    candidate: int
    n_candidates: int
    n_epochs: int
    epoch: Epoch


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
    progress: Callable[[TrainingProgress], None] | None = None,
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
        Called after every epoch.

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
    source = "simulated" if isinstance(data, WindowData) else Path(data).name
    data = _windows(data)
    choice = None if validation is None else Choice.of(_windows(validation))
    if len(data) < recipe.n_measured:
        raise InvalidInputError(
            f"Training data {source}: {len(data)} inputs; expected at least "
            f"{recipe.n_measured}, the measured inputs of one batch."
        )

    report = _reporter(Path(out_dir) / LOG_NAME, recipe, candidates, progress)
    networks: list[CnnEncoderDecoder] = []
    log: list[dict[str, Any]] = []
    for i in range(candidates):
        network, epochs = train_member(
            data, recipe, seed + i, choice=choice, report=partial(report, i, seed + i)
        )
        networks.append(network)
        log.append(_candidate(seed + i, epochs))

    kept = list(range(members))
    if choice is not None:
        kept = sorted(range(candidates), key=lambda i: log[i]["mse_g2_choosing"])[:members]
    for i in range(candidates):
        log[i]["kept"] = i in kept
    best = [networks[i] for i in kept]
    card = {"name": name, **(notes or {}), **_card(source, data, choice, recipe, log)}
    ensemble = load_ensemble(save_ensemble(best, card, out_dir))
    if choice is not None:  # the figures are those of the ensemble as a user will load it
        card["metrics"] = choice.metrics(ensemble)
        ensemble = load_ensemble(save_ensemble(best, card, out_dir))
    return ensemble


def training_data(
    data: Path | None, validation: Path | None, *, simulated: bool, seed: int
) -> tuple[Path | WindowData, Path | WindowData | None]:
    """Return what to train on and what to choose by: files, or simulated windows.

    Raises
    ------
    InvalidInputError
        When there is neither a file nor `simulated`, or both.
    """
    if simulated == (data is not None):
        got = "a data file and --simulated" if simulated else "neither a data file nor --simulated"
        raise InvalidInputError(f"train: got {got}; expected one of them.")
    if data is not None:
        return data, validation
    choosing = validation or simulate_windows(N_SIMULATED_VALIDATION, seed=seed + 1)
    return simulate_windows(N_SIMULATED, seed=seed), choosing


def _windows(source: str | Path | WindowData) -> WindowData:
    return source if isinstance(source, WindowData) else load_windows(source)


def _reporter(
    log_path: Path,
    recipe: Recipe | PaperRecipe,
    n_candidates: int,
    progress: Callable[[TrainingProgress], None] | None,
) -> Callable[[int, int, Epoch], None]:
    """Start a new log; return what adds an epoch of a candidate with its seed, and tells of it."""
    log_path.parent.mkdir(parents=True, exist_ok=True)
    log_path.unlink(missing_ok=True)

    def report(candidate: int, seed: int, epoch: Epoch) -> None:
        entry = {"candidate": candidate, "seed": seed, **dataclasses.asdict(epoch)}
        with log_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        if progress is not None:
            now = TrainingProgress(
                candidate=candidate, n_candidates=n_candidates, n_epochs=recipe.epochs, epoch=epoch
            )
            progress(now)

    return report


def _candidate(seed: int, epochs: list[Epoch]) -> dict[str, Any]:
    """Return what the card says of a network: the losses, and the epoch that was kept."""
    best = [epoch for epoch in epochs if epoch.best][-1]
    entry = {"seed": seed, "loss": [epoch.loss for epoch in epochs], "epoch": best.epoch}
    return entry if best.mse_g2 is None else {**entry, "mse_g2_choosing": best.mse_g2}


def _card(
    source: str,
    data: WindowData,
    choice: Choice | None,
    recipe: Recipe | PaperRecipe,
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
            "diagonals": "untied"
            if isinstance(recipe, PaperRecipe)
            else "pixels of equal lag share their weights",
        },
        "trained_on": {
            "file": source,
            "sha256": data.sha256,
            "inputs": len(data),
            "targets": len(data.target),
            "experiments": len(np.unique(data.experiment)),
        },
        "recipe": {"kind": type(recipe).__name__, **dataclasses.asdict(recipe)},
        "choice": None if choice is None else choice.description(),
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
