"""Train a network for images of few counts, on simulated images or on measured ones."""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xpcs_live_denoise.denoising.devices import usable_device
from xpcs_live_denoise.denoising.frames.denoiser import (
    SMALL,
    FrameDenoiser,
    load_frame_denoiser,
    save_frame_network,
)
from xpcs_live_denoise.denoising.frames.inputs import expected_counts
from xpcs_live_denoise.denoising.frames.networks import NETWORKS
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.threads import one_thread

from .image_pairs import Batch, MeasuredImages, SimulatedImages
from .similarity import ms_ssim

LOSSES = ("poisson", "published")
REFERENCE = (
    "Oppliger et al., Nat. Mach. Intell. 6, 180 (2024): architecture; what differs is in "
    "docs/frame-denoising.md"
)
# Deviances of images are compared in the logarithm, above this share of their mean counts.
_LEAST_EXCESS = 3e-4
_WARM_UP = 100  # steps


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameRecipe:
    """The numbers of a training."""

    network: str = "light"
    loss: str = "poisson"  # or "published": 0.3 MAE + 0.7 (1 - MS-SSIM)
    minutes: float = 10.0
    steps: int = 100_000  # at most
    batch: int = 16
    learning_rate: float = 1e-3
    share_center: float = 0.6  # of batches' images whose beam center the network is told


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameProgress:
    """How far a training is; the score is that of the images that choose, lower is better."""

    seconds: float
    step: int
    score: float


def train_frames(
    images: SimulatedImages | MeasuredImages,
    out: str | Path,
    *,
    recipe: FrameRecipe | None = None,
    start: str | Path | None = SMALL,
    device: str = "cpu",
    seed: int = 0,
    name: str = "frames",
    progress: Callable[[FrameProgress], None] | None = None,
) -> FrameDenoiser:
    """Train one network, keep its best state, and write it with its card into a folder.

    Parameters
    ----------
    images
        What to learn from. Those that choose the best state are set apart there.
    out
        Folder that `load_frame_denoiser` reads.
    start
        A model to go on from, as `load_frame_denoiser` takes it; None: new weights. It must be of
        the recipe's network.
    device
        Where to compute, in torch's words.

    Raises
    ------
    InvalidInputError
        For a network or a loss that is none, and a start of another network.
    """
    recipe = recipe or FrameRecipe()
    if recipe.network not in NETWORKS or recipe.loss not in LOSSES:
        raise InvalidInputError(
            f"Recipe: got network {recipe.network!r} and loss {recipe.loss!r}; expected one of "
            f"{', '.join(NETWORKS)} and of {', '.join(LOSSES)}."
        )
    where = usable_device(device, "train-frames")
    torch.manual_seed(seed)
    network = _begin(recipe, start).to(where, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    training = _Training(network, images, recipe, torch.Generator().manual_seed(seed))
    with one_thread() if where.type == "cpu" else contextlib.nullcontext():
        training.run(progress or (lambda _: None))
    card: dict[str, Any] = {
        "name": name,
        "network": recipe.network,
        "reference": REFERENCE,
        "trained_on": images.description,
        "recipe": {
            **asdict(recipe),
            "steps": training.steps,
            "start": None if start is None else str(start),
        },
        "seed": seed,
        "device": str(where),
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
        "metrics": {
            "what": images.score_words,
            "at_first": training.first,
            "score": training.best,
            **images.by_class(training.scores()),
        },
    }
    save_frame_network(network, card, out)
    return load_frame_denoiser(out)


def _begin(recipe: FrameRecipe, start: str | Path | None) -> nn.Module:
    network = NETWORKS[recipe.network]()
    if start is None:
        return network
    begun, kind = load_frame_denoiser(start).single()
    if kind != recipe.network:
        raise InvalidInputError(
            f"Start {start}: is of the network {kind!r}, the recipe is for {recipe.network!r}; "
            "expected the same. Choose another network or start anew."
        )
    network.load_state_dict(begun.state_dict())
    return network


class _Training:
    """One network on its way: its optimizer, the steps, and its best state so far."""

    def __init__(
        self,
        network: nn.Module,
        images: SimulatedImages | MeasuredImages,
        recipe: FrameRecipe,
        generator: torch.Generator,
    ) -> None:
        self._network, self._images, self._recipe = network, images, recipe
        self._generator = generator
        self._device = next(network.parameters()).device
        self._optimizer = torch.optim.AdamW(
            network.parameters(), recipe.learning_rate, weight_decay=1e-5
        )
        self.steps = 0
        self.first = self.best = float(self.scores().mean())

    def run(self, progress: Callable[[FrameProgress], None]) -> None:
        """Train until the time or the steps have passed; the network is its best then."""
        recipe, begin = self._recipe, time.monotonic()
        state = copy.deepcopy(self._network.state_dict())
        next_score = 0.1
        done = 0.0
        while done < 1:
            self._step(done)
            self.steps += 1
            seconds = time.monotonic() - begin
            done = max(self.steps / recipe.steps, seconds / (60 * recipe.minutes))
            if done >= min(next_score, 1.0):
                next_score += 0.1
                score = float(self.scores().mean())
                if score < self.best:
                    self.best, state = score, copy.deepcopy(self._network.state_dict())
                progress(FrameProgress(seconds=seconds, step=self.steps, score=score))
        self._network.load_state_dict(state)
        self._network.eval()

    def _step(self, done: float) -> None:
        self._network.train()
        rate = min(1.0, (self.steps + 1) / _WARM_UP) * 0.5 * (1 + math.cos(math.pi * done))
        for group in self._optimizer.param_groups:
            group["lr"] = self._recipe.learning_rate * rate
        batch = self._images.batch(self._recipe.batch, self._generator).to(self._device)
        known = torch.rand(len(batch.counts), generator=self._generator) < self._recipe.share_center
        center = torch.where(known.to(self._device)[:, None], batch.center, math.nan)
        estimate = expected_counts(self._network, batch.counts, batch.valid, center)
        loss = loss_of(self._recipe.loss, estimate, batch)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)
        self._optimizer.step()

    @torch.inference_mode()
    def scores(self) -> Tensor:
        """Return the score of each image that chooses, (n,)."""
        self._network.eval()
        scores: list[Tensor] = []
        for batch in self._images.choosing():
            on_device = batch.to(self._device)
            estimate = expected_counts(
                self._network, on_device.counts, on_device.valid, on_device.center
            )
            scores.append(score_of(estimate, on_device).cpu())
        return torch.cat(scores)


def score_of(estimate: Tensor, batch: Batch) -> Tensor:
    """Return one number an image, (n,): lower is better.

    Of simulated images ln(E / mean counts), E the expected excess deviance a pixel; of measured
    ones the deviance of the target's photons, over their number, less a constant.
    """
    mean = _mean(batch.target, batch.valid).clamp_min(1e-6)
    if batch.is_truth:
        return (excess_deviance(estimate, batch.target, batch.valid) / mean).clamp_min(1e-9).log()
    estimate = estimate.clamp_min(1e-6)
    deviance = 2 * (estimate - batch.target * (estimate / mean[:, None, None]).log())
    return _mean(deviance, batch.valid) / mean


def loss_of(kind: str, estimate: Tensor, batch: Batch) -> Tensor:
    """Return what a training minimises."""
    if kind == "published":
        mean = _mean(batch.target, batch.valid).clamp_min(1e-6)[:, None, None]
        # Roots, for which the noise of all pixels is alike, of images of the same mean.
        made, wanted = (
            2 * torch.sqrt(one.clamp_min(0) / mean + 1e-6) * batch.valid
            for one in (estimate, batch.target)
        )
        return 0.3 * (made - wanted).abs().mean() + 0.7 * (1 - ms_ssim(made, wanted))
    if not batch.is_truth:
        return score_of(estimate, batch).mean()
    mean = _mean(batch.target, batch.valid).clamp_min(1e-6)
    # In the logarithm every image counts alike, whatever its counts.
    excess = excess_deviance(estimate, batch.target, batch.valid)
    return (excess / mean + _LEAST_EXCESS).log().mean()


def excess_deviance(estimate: Tensor, rate: Tensor, valid: Tensor) -> Tensor:
    """Return E of images, (n,): the expected excess deviance a measured pixel, in counts.

    2 [rate ln(rate/estimate) - (rate - estimate)] is by how much the Poisson deviance of new counts
    from an estimate exceeds that from the truth, on average.
    """
    estimate = estimate.clamp_min(1e-6)
    rate = rate.clamp_min(1e-9)
    return _mean(2 * (rate * (rate / estimate).log() - (rate - estimate)), valid)


def _mean(values: Tensor, valid: Tensor) -> Tensor:
    return (values * valid).sum(dim=(1, 2)) / valid.sum(dim=(1, 2)).clamp_min(1)
