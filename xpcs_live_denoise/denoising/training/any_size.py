"""Train networks that denoise a C2 of any size, on simulated C2 whose truth is known."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from xpcs_live_denoise.denoising.any_size.ensemble import KIND, AnySizeEnsemble, save_any_size
from xpcs_live_denoise.denoising.any_size.network import (
    AGES,
    CHANNELS,
    LAGS,
    AnySizeNetwork,
    by_lag,
)
from xpcs_live_denoise.denoising.devices import usable_device
from xpcs_live_denoise.denoising.ensemble import load_ensemble
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.threads import one_thread
from xpcs_live_denoise.numerics.windows import to_windows

from .c2_maps import KINDS, SimulatedMaps, simulate_maps
from .data import WindowData, load_windows

LEAST_CROP = 48
SHORT_LAGS = 50  # errors at lags 1 to 50, and above, are told apart


@dataclass(frozen=True, slots=True, kw_only=True)
class AnySizeRecipe:
    """The numbers of a training."""

    # Lengths of the simulated series, frames, and how many there are of each.
    n_frames: tuple[int, ...] = (192, 320)
    n_maps: tuple[int, ...] = (400, 120)
    n_validation: int = 100  # of the first length
    steps: int = 4000  # at most
    batch: int = 8
    learning_rate: float = 4e-3
    channels: tuple[int, ...] = CHANNELS  # of the encoder
    long_weight: float = 0.5  # of lags above 50, beside those up to 50
    share_measured: float = 0.2  # of steps that show measured windows, where there are any


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPairs:
    """Measured windows, (n, 50, 50), and which pairs of them share no frame, (k, 2)."""

    windows: Tensor
    pairs: Tensor


def window_pairs(data: WindowData) -> WindowPairs:
    """Return pairs of windows of one series that share no frame: noise-to-noise targets.

    Windows are 25 frames apart; pairs are near one another, for dynamics may change.
    """
    order = np.lexsort((data.window, data.target_index))
    series, number = data.target_index[order], data.window[order]
    pairs: list[Tensor] = []
    for apart in range(1, 8):
        step = number[apart:] - number[:-apart]
        near = (series[apart:] == series[:-apart]) & (step >= 2) & (step <= 4)
        both = np.column_stack([order[:-apart][near], order[apart:][near]])
        pairs.append(torch.from_numpy(both))
    return WindowPairs(
        windows=torch.from_numpy(to_windows(data.c2)).contiguous(), pairs=torch.cat(pairs)
    )


def map_errors(out: Tensor, truth: Tensor, least: int, most: int) -> Tensor:
    """Return the mean square error at some lags of each map, (n,), of C2(t, t + lag)."""
    error = (out - truth)[:, least : most + 1]
    here = torch.isfinite(error)
    number = here.sum(dim=(1, 2)).clamp_min(1)
    return (torch.where(here, error, 0.0) ** 2).sum(dim=(1, 2)) / number


def loss_of(out: Tensor, truth: Tensor, long_weight: float) -> Tensor:
    """Return the mean of the logarithm of each map's error: a weak map counts like a strong one."""
    loss = map_errors(out, truth, 1, SHORT_LAGS).clamp_min(1e-12).log().mean()
    if out.shape[1] > SHORT_LAGS + 14:  # the last diagonals are a handful of pixels
        above = map_errors(out, truth, SHORT_LAGS + 1, 7 * out.shape[1] // 8)
        loss = loss + long_weight * above.clamp_min(1e-12).log().mean()
    return loss


class Batches:
    """Draws what a step learns from: crops of simulated maps, forwards or backwards, or windows."""

    def __init__(
        self,
        pools: Sequence[SimulatedMaps],
        recipe: AnySizeRecipe,
        measured: WindowPairs | None,
        seed: int,
    ) -> None:
        self._pools, self._recipe, self._measured = pools, recipe, measured
        self._draw = np.random.default_rng(seed)

    def next(self) -> tuple[Tensor, Tensor]:
        """Return maps (n, m, m) and what they should become."""
        draw, batch = self._draw, self._recipe.batch
        if self._measured is not None and draw.random() < self._recipe.share_measured:
            some = draw.integers(len(self._measured.pairs), size=8 * batch)
            which = self._measured.pairs[torch.from_numpy(some)]
            given, target = (self._measured.windows[which[:, k]] for k in (0, 1))
        else:
            maps = self._pools[int(draw.integers(len(self._pools)))]
            length = maps.c2.shape[-1]
            size = int(LEAST_CROP * (length / LEAST_CROP) ** draw.random() ** 0.5)
            pixels = self._recipe.n_frames[0] ** 2 * batch  # of a step, whatever the crops' size
            n = max(1, min(4 * batch, pixels // size**2))
            some = torch.from_numpy(draw.integers(len(maps.c2), size=n))
            start = int(draw.integers(length - size + 1))
            crop = slice(start, start + size)
            given, target = maps.c2[some, crop, crop], maps.truth[some, crop, crop]
        if draw.random() < 0.5:
            given, target = given.flip(1, 2), target.flip(1, 2)
        return given, target


def train_member(
    pools: Sequence[SimulatedMaps],
    validation: SimulatedMaps,
    recipe: AnySizeRecipe,
    *,
    seed: int,
    measured: WindowPairs | None = None,
    seconds: float = math.inf,
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[AnySizeNetwork, float, int]:
    """Train one network; return it, ready to be used, its error on the validation maps, its steps.

    The learning rate falls to 0 at the last step, or after `seconds` if that is earlier.
    """
    torch.manual_seed(seed)
    device = validation.c2.device
    network = AnySizeNetwork(recipe.channels).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), recipe.learning_rate, weight_decay=1e-4)
    batches, begin, step = Batches(pools, recipe, measured, seed), time.monotonic(), -1
    for step in range(recipe.steps):
        done = max(step / recipe.steps, (time.monotonic() - begin) / seconds)
        rate = min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * rate
        given, target = (by_lag(maps.to(device)) for maps in batches.next())
        loss = loss_of(network(given), target, recipe.long_weight)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if step % 200 == 199:
            progress(
                f"  step {step + 1}: ln(MSE/beta^2) {validation_error(network, validation):.3f}"
            )
            network.train()
        if done >= 1:
            break
    return network.eval(), validation_error(network, validation), step + 1


@torch.inference_mode()
def validation_error(network: AnySizeNetwork, maps: SimulatedMaps) -> float:
    """Return the mean over maps of ln(MSE/beta^2) at lags 1 to 50: every map counts alike."""
    network.eval()
    found = [
        map_errors(network(by_lag(c2[None])), by_lag(truth[None]), 1, SHORT_LAGS)
        for c2, truth in zip(maps.c2, maps.truth, strict=True)
    ]
    return float((torch.cat(found) / maps.contrast**2).log().mean())


def train_any_size(
    out_dir: str | Path,
    *,
    windows: str | Path | None = None,
    members: int = 2,
    recipe: AnySizeRecipe | None = None,
    seed: int = 0,
    seconds: float = math.inf,
    device: str = "cpu",
    name: str = "any-size",
    progress: Callable[[str], None] = lambda _: None,
) -> AnySizeEnsemble:
    """Train networks for C2 of any size on simulated C2; write weights and model card.

    Parameters
    ----------
    out_dir
        Folder for the weights and the model card, which `load_ensemble` reads.
    windows
        Measured windows, .npz in the format of `load_windows`: pairs of them that share no frame
        are shown, too, each the target of the other.
    members
        How many networks.
    recipe
        The numbers of the training.
    seed
        Seeds everything that is random.
    seconds
        A network is trained no longer than this.
    device
        Where to compute, in torch's words.
    name
        Of the ensemble, for its card.
    progress
        Called with lines to read.
    """
    recipe = recipe or AnySizeRecipe()
    if members < 1 or not seconds > 0:
        raise InvalidInputError(
            f"train: got {members} members and {seconds} s; expected at least one, and more than 0."
        )
    data = None if windows is None else load_windows(windows)
    where = usable_device(device, "train")
    generator = torch.Generator(where).manual_seed(seed)
    pools: list[SimulatedMaps] = []
    for length, n in zip(recipe.n_frames, recipe.n_maps, strict=True):
        progress(f"simulating {n} maps of {length} frames")
        pools.append(simulate_maps(n, length, generator=generator))
    validation = simulate_maps(recipe.n_validation, recipe.n_frames[0], generator=generator)
    measured = None if data is None else window_pairs(data)
    trained: list[tuple[AnySizeNetwork, float, int]] = []
    with one_thread():
        for index in range(members):
            progress(f"network {index + 1} of {members}")
            trained.append(
                train_member(
                    pools,
                    validation,
                    recipe,
                    seed=seed + index,
                    measured=measured,
                    seconds=seconds,
                    progress=progress,
                )
            )
    card = {
        "name": name,
        "architecture": {
            "kind": "convolutional encoder-decoder of FC-DAE, Nellikunnumel et al., arXiv "
            "2605.29975, whose output weighs means of the measured C2",
            "means_over_ages": AGES,
            "means_over_lags": LAGS,
        },
        "trained_on": {
            "simulated": [
                f"{n} series of {length} frames"
                for length, n in zip(recipe.n_frames, recipe.n_maps, strict=True)
            ],
            "kinds": KINDS,
            "file": None if windows is None else Path(windows).name,
            "sha256": None if data is None else data.sha256,
            "pairs": 0 if measured is None else len(measured.pairs),
        },
        "recipe": {
            **asdict(recipe),
            "steps": max(steps for *_, steps in trained),
            "seconds": seconds if math.isfinite(seconds) else None,
        },
        "seed": seed,
        "device": str(where),
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
        "metrics": {
            "validation_ln_mse_over_beta2": [error for _, error, _ in trained],
            "maps": f"{recipe.n_validation} simulated series of {recipe.n_frames[0]} frames, of "
            "the kinds it was trained on",
        },
    }
    folder = save_any_size([network.cpu() for network, *_ in trained], card, out_dir)
    return load_ensemble(folder, denoiser=KIND)
