"""What networks for images of few counts learn from: counts, and what is to be said of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.mean_image import MeanImage
from xpcs_live_denoise.records.types import Array, BoolArray, FloatArray, IntArray

from .images import CLASSES, COUNTS, photons, simulate_images

SIZE = 128  # pixels along an edge of what is learned from
N_CHOOSING = 3  # batches of eight cuts that choose the best state
MOST_HELD_OUT = 96  # cuts that a comparison takes
SET_APART = 5  # of so many images one chooses the best state and is not learned from


# Counts, target and valid pixels, (SIZE, SIZE), and the beam of a cut.
Cut: TypeAlias = tuple[FloatArray, FloatArray, BoolArray, FloatArray]


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

    def __init__(self, n_images: int = 6000, n_choosing: int = 50, *, seed: int = 0) -> None:
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
            "simulated": n_images, "choosing": n_choosing, "classes": list(CLASSES), "size": SIZE,
            "counts": list(COUNTS), "seed": seed,
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

    @staticmethod
    def by_class(scores: Tensor) -> dict[str, Any]:
        """Return what a card says more of the scores of the images that choose, (n,)."""
        of = {kind: scores[k :: len(CLASSES)] for k, kind in enumerate(CLASSES)}
        return {"ln_excess": {kind: float(one.mean()) for kind, one in of.items() if len(one)}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Measured images of the same, each with noise of its own."""

    views: FloatArray  # (n_view, rows, cols): sums of frames, in the order of time
    n_frames: IntArray  # (n_view,): how many frames each is of
    valid: BoolArray  # (rows, cols)
    target: FloatArray | None = None  # (rows, cols); None: other views are
    n_target: int = 0  # frames of the target; 0: not known, its counts tell

    @property
    def places(self) -> list[tuple[int, int]]:
        """The first row and column of cuts that share no pixel and cover it."""
        rows, cols = (range(0, n, SIZE) for n in self.valid.shape)
        return list(itertools.product(rows, cols))


class MeasuredImages:
    """Measured images, of which each shows the same several times with noise of its own.

    Of a scene a sum of some views is the input; the target is an image of more counts, or the sum
    of other views. By how much more counts the target has is divided out. Views that are next to
    those of the input in time are no target: they share speckle with it, which is no structure.
    """

    score_words = "mean deviance of the photons of images that were set apart, over their number"

    def __init__(
        self,
        scenes: Sequence[Scene],
        *,
        center: tuple[float, float] | None = None,
        description: dict[str, Any],
        seed: int = 0,
    ) -> None:
        self._center = center or (math.nan, math.nan)
        n_apart = max(1, len(scenes) // SET_APART) if len(scenes) > 1 else 0
        self._learning = list(scenes[: len(scenes) - n_apart])
        self._apart = list(scenes[len(scenes) - n_apart :])
        if not n_apart:  # one scene: its last views choose, and nobody learns from them
            (one,) = scenes
            n_last = max(1, len(one.views) // SET_APART)
            early = replace(one, views=one.views[:-n_last], n_frames=one.n_frames[:-n_last])
            self._learning = [early]
            last = one.views[-n_last:].sum(axis=0)
            n_target = int(one.n_frames[-n_last:].sum())
            first = replace(one, views=one.views[:1], n_frames=one.n_frames[:1])
            self._apart = [replace(first, target=last, n_target=n_target)]
        generator = torch.Generator().manual_seed(seed)
        self._choosing = [self._drawn(self._apart, 8, generator) for _ in range(N_CHOOSING)]
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
        scenes: list[Scene] = []
        for pair in pairs:
            both = (MeanImage.of(one[np.newaxis]).whole() for one in pair)
            (few, good), (many, also_good) = both
            views, target = few[np.newaxis].astype(np.float32), many.astype(np.float32)
            one_frame = np.ones(1, np.int64)
            scenes.append(
                Scene(views=views, n_frames=one_frame, valid=good & also_good, target=target)
            )
        return cls(scenes, center=center, description=description, seed=seed)

    @classmethod
    def of_series(
        cls,
        views: FloatArray,
        n_frames: IntArray,
        valid: BoolArray,
        *,
        center: tuple[float, float] | None = None,
        description: dict[str, Any],
        seed: int = 0,
    ) -> MeasuredImages:
        """Take sums over frames of a series, (n, rows, cols), in the order of time, disjoint."""
        if len(views) < 4:
            raise InvalidInputError(
                f"Series: got {len(views)} groups of frames; expected at least 4: some are summed "
                "to an image of few counts, others are its target. Give a series of more frames."
            )
        scene = Scene(views=views, n_frames=n_frames, valid=valid)
        return cls([scene], center=center, description=description, seed=seed)

    def batch(self, n: int, generator: torch.Generator) -> Batch:
        """Return n cuts of images, turned at random."""
        return _turned(self._drawn(self._learning, n, generator), generator)

    def choosing(self) -> Iterator[Batch]:
        """Yield the cuts that choose, always the same."""
        yield from self._choosing

    @staticmethod
    def by_class(scores: Tensor) -> dict[str, Any]:  # noqa: ARG004
        """Return what a card says more of scores: nothing, measured images have no classes."""
        return {}

    def held_out(self, generator: torch.Generator) -> Iterator[tuple[tuple[int, int], Batch]]:
        """Yield cuts of what nobody learns from, each once, and where they begin.

        Cuts of one image share no pixel. Of more than `MOST_HELD_OUT` some are drawn.
        """
        every = [(scene, place) for scene in self._apart for place in scene.places]
        order = torch.randperm(len(every), generator=generator)[:MOST_HELD_OUT].sort().values
        for scene, place in (every[k] for k in order.tolist()):
            yield place, self._stacked([self._cut(scene, place, generator)])

    def _drawn(
        self,
        scenes: Sequence[Scene],
        n: int,
        generator: torch.Generator,
    ) -> Batch:
        cuts: list[Cut] = []
        for _ in range(n):
            scene = scenes[_below(len(scenes), generator)]
            rows, cols = scene.valid.shape
            row, col = (_below(max(1, n - SIZE + 1), generator) for n in (rows, cols))
            cuts.append(self._cut(scene, (row, col), generator))
        return self._stacked(cuts)

    @staticmethod
    def _stacked(cuts: Sequence[Cut]) -> Batch:
        counts, target, valid, center = (np.stack(one) for one in zip(*cuts, strict=True))
        return Batch(
            counts=torch.from_numpy(counts).float(),
            valid=torch.from_numpy(valid).float(),
            center=torch.from_numpy(center).float(),
            target=torch.from_numpy(target).float(),
            is_truth=False,
        )

    def _cut(self, scene: Scene, at: tuple[int, int], generator: torch.Generator) -> Cut:
        """Return counts, target, valid pixels and beam of the cut of a scene that begins there."""
        row, col = at
        place = slice(row, row + SIZE), slice(col, col + SIZE)
        cut, target, valid = scene.views[:, *place], scene.target, scene.valid
        if target is None:
            some, others = _some_and_others(len(cut), generator)
            low, high = cut[some].sum(axis=0), cut[others].sum(axis=0)
            ratio = float(scene.n_frames[others].sum() / scene.n_frames[some].sum())
        else:
            low, high = cut.sum(axis=0), target[place]
            by_counts = target[valid].sum() / max(scene.views[:, valid].sum(), 1.0)
            ratio = scene.n_target / scene.n_frames.sum() if scene.n_target else float(by_counts)
        known = valid[place]
        made = [_filled(one) for one in (low * known, high * known / max(ratio, 1e-9), known)]
        center = np.array([self._center[0] - row, self._center[1] - col])
        return made[0], made[1], made[2], center


def _some_and_others(n: int, generator: torch.Generator) -> tuple[IntArray, IntArray]:
    """Draw up to an eighth of n views, and return those that lie apart from them in time."""
    n_some, guard = 1 + _below(max(1, n // 8), generator), min(2, n // 8)
    some = torch.randperm(n, generator=generator)[:n_some].numpy()
    apart = np.abs(np.subtract.outer(np.arange(n, dtype=np.int64), some)).min(axis=1)
    return some, np.flatnonzero(apart > guard)


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
