"""What networks for images of few counts learn from: counts, and what is to be said of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.mean_image import MeanImage
from xpcs_live_denoise.records.types import Array, BoolArray, FloatArray

from .images import CLASSES, photons, simulate_images

SIZE = 128  # pixels along an edge of what is learned from
N_CHOOSING = 3  # batches of eight cuts that choose the best state
SET_APART = 5  # of so many images one chooses the best state and is not learned from


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Images of few counts with their targets, on the scale of the counts."""

    counts: Tensor  # (n, rows, cols), photons
    valid: Tensor  # (n, rows, cols), 1 where a pixel was measured, else 0
    center: Tensor  # (n, 2): row and column of the direct beam, NaN where it is not known
    target: Tensor  # (n, rows, cols): expected counts, or photons, which are those but for noise
    is_truth: bool  # whether the target is without noise

    def to(self, device: torch.device) -> Batch:
        """Return it on another device."""
        names = ("counts", "valid", "center", "target")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


class SimulatedImages:
    """Images of known rates, simulated once; photons are new in every batch.

    Parameters
    ----------
    n_images, n_choosing
        Images to learn from, and to choose by.
    """

    score_words = "mean over simulated images of ln(E / mean counts), E the excess deviance a pixel"

    def __init__(self, n_images: int = 1000, n_choosing: int = 50, *, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._learning = simulate_images(n_images, SIZE, generator=generator)
        chosen = simulate_images(n_choosing, SIZE, generator=generator)
        self._choosing = Batch(
            counts=photons(chosen, generator),
            valid=chosen.valid,
            center=chosen.center,
            target=chosen.rate,
            is_truth=True,
        )
        self.description: dict[str, Any] = {
            "simulated": n_images, "classes": list(CLASSES), "size": SIZE, "seed": seed,
        }  # fmt: skip

    def batch(self, n: int, generator: torch.Generator) -> Batch:
        """Return n images, turned at random, with new photons."""
        some = torch.randint(len(self._learning.rate), (n,), generator=generator)
        images = replace(
            self._learning,
            rate=self._learning.rate[some],
            valid=self._learning.valid[some],
            center=self._learning.center[some],
        )
        return _turned(
            Batch(
                counts=photons(images, generator),
                valid=images.valid,
                center=images.center,
                target=images.rate,
                is_truth=True,
            ),
            generator,
        )

    def choosing(self) -> Iterator[Batch]:
        """Yield the images that choose, always the same."""
        yield from _parts(self._choosing)


class MeasuredImages:
    """Measured images, of which each shows the same several times with noise of its own.

    `views` are (n_view, rows, cols) of each: a sum of some is the input, the disjoint rest, or the
    last, the target. `ratio` is by how much more counts the target has, which is divided out.
    """

    score_words = "mean deviance of the photons of images that were set apart, over their number"

    def __init__(
        self,
        scenes: Sequence[tuple[FloatArray, FloatArray | None, BoolArray]],
        *,
        center: tuple[float, float] | None = None,
        description: dict[str, Any],
        seed: int = 0,
    ) -> None:
        """Take scenes: views (n_view, rows, cols), a target (None: other views), valid pixels."""
        self._center = center or (math.nan, math.nan)
        self._scenes = list(scenes)
        n_apart = max(1, len(scenes) // SET_APART) if len(scenes) > 1 else 0
        self._learning = self._scenes[: len(scenes) - n_apart]
        generator = torch.Generator().manual_seed(seed)
        self._choosing: list[Batch] = []
        if n_apart:
            apart = self._scenes[len(scenes) - n_apart :]
        else:  # one scene: its last views choose, and nobody learns from them
            views, _, valid = self._scenes[0]
            n_last = max(1, len(views) // SET_APART)
            self._learning = [(views[:-n_last], None, valid)]
            apart = [(views[:1], views[-n_last:].sum(axis=0), valid)]
        for _ in range(N_CHOOSING):
            self._choosing.append(self._drawn(apart, 8, generator))
        self.description = description

    @classmethod
    def of_pairs(
        cls,
        pairs: Sequence[tuple[Array, Array]],
        *,
        center: tuple[float, float] | None = None,
        description: dict[str, Any],
        seed: int = 0,
    ) -> MeasuredImages:
        """Take pairs of images of few and of many counts, each (rows, cols)."""
        if len(pairs) < 2:
            raise InvalidInputError(
                f"Pairs: got {len(pairs)} that can be read; expected at least 2, of which one is "
                "set apart to choose by."
            )
        scenes: list[tuple[FloatArray, FloatArray | None, BoolArray]] = []
        for low, high in pairs:
            (few, good), (many, also_good) = counts_of(low[np.newaxis]), counts_of(high[np.newaxis])
            scenes.append((few[np.newaxis], many, good & also_good))
        return cls(scenes, center=center, description=description, seed=seed)

    @classmethod
    def of_series(
        cls,
        groups: FloatArray,
        valid: BoolArray,
        *,
        center: tuple[float, float] | None = None,
        description: dict[str, Any],
        seed: int = 0,
    ) -> MeasuredImages:
        """Take the sums over groups of frames of a series that are disjoint, (n, rows, cols)."""
        if len(groups) < 4:
            raise InvalidInputError(
                f"Series: got {len(groups)} groups of frames; expected at least 4: some are summed "
                "to an image of few counts, others are its target. Give a series of more frames."
            )
        return cls([(groups, None, valid)], center=center, description=description, seed=seed)

    def batch(self, n: int, generator: torch.Generator) -> Batch:
        """Return n cuts of images, turned at random."""
        return _turned(self._drawn(self._learning, n, generator), generator)

    def choosing(self) -> Iterator[Batch]:
        """Yield the cuts that choose, always the same."""
        yield from self._choosing

    def _drawn(
        self,
        scenes: Sequence[tuple[FloatArray, FloatArray | None, BoolArray]],
        n: int,
        generator: torch.Generator,
    ) -> Batch:
        drawn = [self._cut(scenes[_below(len(scenes), generator)], generator) for _ in range(n)]
        counts, target, valid, center = (np.stack(one) for one in zip(*drawn, strict=True))
        return Batch(
            counts=torch.from_numpy(counts).float(),
            valid=torch.from_numpy(valid).float(),
            center=torch.from_numpy(center).float(),
            target=torch.from_numpy(target).float(),
            is_truth=False,
        )

    def _cut(
        self, scene: tuple[FloatArray, FloatArray | None, BoolArray], generator: torch.Generator
    ) -> tuple[FloatArray, FloatArray, BoolArray, FloatArray]:
        """Return counts, target, valid pixels and beam of a cut of one scene."""
        views, target, valid = scene
        rows, cols = valid.shape
        row = _below(max(1, rows - SIZE + 1), generator)
        col = _below(max(1, cols - SIZE + 1), generator)
        place = slice(row, row + SIZE), slice(col, col + SIZE)
        cut = views[:, *place]
        if target is None:
            # Of n views up to an eighth are the input, and all others, in any order, the target.
            order = torch.randperm(len(views), generator=generator).numpy()
            few = 1 + _below(max(1, len(views) // 8), generator)
            low, high = cut[order[:few]].sum(axis=0), cut[order[few:]].sum(axis=0)
            ratio = (len(views) - few) / few
        else:
            low, high = cut.sum(axis=0), target[place]
            ratio = float(target[valid].sum() / max(views[:, valid].sum(), 1.0))
        known = valid[place]
        made = [_filled(one) for one in (low * known, high * known / max(ratio, 1e-9), known)]
        center = np.array([self._center[0] - row, self._center[1] - col])
        return made[0], made[1], made[2], center


def counts_of(frames: Array) -> tuple[FloatArray, BoolArray]:
    """Return the sum of frames (k, rows, cols), and which pixels were measured in all of them."""
    mean = MeanImage((frames.shape[1], frames.shape[2]))
    mean.add(frames)
    total, counted = mean.sums(negative_is_data=False)
    return total.astype(np.float32), counted == len(frames)


def _filled(image: Array) -> Array:
    """Return an image of SIZE x SIZE pixels, what is missing 0 (not measured)."""
    rows, cols = image.shape
    if (rows, cols) == (SIZE, SIZE):
        return image
    return np.pad(image, ((0, SIZE - rows), (0, SIZE - cols)))


def _below(n: int, generator: torch.Generator) -> int:
    return int(torch.randint(n, (), generator=generator))


def _parts(batch: Batch, n: int = 10) -> Iterator[Batch]:
    for first in range(0, len(batch.counts), n):
        some = slice(first, first + n)
        yield replace(
            batch,
            counts=batch.counts[some],
            valid=batch.valid[some],
            center=batch.center[some],
            target=batch.target[some],
        )


def _turned(batch: Batch, generator: torch.Generator) -> Batch:
    """Return images turned by one of the eight symmetries of a square."""
    turn = _below(8, generator)
    images = {name: getattr(batch, name) for name in ("counts", "valid", "target")}
    center, last = batch.center, SIZE - 1
    if turn & 1:
        images = {name: one.flip(1) for name, one in images.items()}
        center = torch.stack([last - center[:, 0], center[:, 1]], dim=1)
    if turn & 2:
        images = {name: one.flip(2) for name, one in images.items()}
        center = torch.stack([center[:, 0], last - center[:, 1]], dim=1)
    if turn & 4:
        images = {name: one.transpose(1, 2) for name, one in images.items()}
        center = center.flip(1)
    return replace(batch, center=center, **images)
