"""Compare a model for images of few counts with other methods: errors by class, bias of rings."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import torch

from xpcs_live_denoise.denoising.frames.denoise import denoise_counts
from xpcs_live_denoise.denoising.frames.denoiser import FrameDenoiser
from xpcs_live_denoise.denoising.training.image_pairs import MeasuredImages
from xpcs_live_denoise.denoising.training.images import CLASSES, photons, simulate_images
from xpcs_live_denoise.numerics.frame_trust import BLOCK, block_sums
from xpcs_live_denoise.numerics.radial import RING_PIXELS, Rings
from xpcs_live_denoise.records.types import BoolArray, FloatArray

from .frame_methods import LEAST, METHODS, Method

MODEL = "model"
COUNTS = (0.05, 1.0)  # mean counts of a pixel: a twentieth of 1 to 20
SIZE = 128
EXPOSURES = 100  # of an image, for the bias of its rings


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameComparison:
    """One row a method, one column a class of images or what else is said."""

    title: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[float, ...]]
    notes: tuple[str, ...] = ()
    lowest_is_best: bool = True

    def text(self) -> str:
        """Return a table in Markdown, the lowest of each column bold where it is the best."""
        lines = [self.title, "", f"| method | {' | '.join(self.columns)} |"]
        lines.append("|---" * (1 + len(self.columns)) + "|")
        of_columns = list(zip(*self.rows.values(), strict=True))
        best = [min((x for x in one if np.isfinite(x)), default=np.nan) for one in of_columns]
        for name, row in self.rows.items():
            cells = [
                f"**{value:.4f}**" if self.lowest_is_best and value == low else f"{value:.4f}"
                for value, low in zip(row, best, strict=True)
            ]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        return "\n".join([*lines, *(f"\n{note}" for note in self.notes)])

    def to_json(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self), indent=1)


def methods_with(denoiser: FrameDenoiser) -> dict[str, Method]:
    """Return all methods that can run here, the model first."""

    def by_model(
        counts: FloatArray,
        valid: BoolArray,
        center: tuple[float, float] | None,
        rng: np.random.Generator,  # noqa: ARG001
    ) -> FloatArray:
        return denoise_counts(counts, valid, denoiser, center=center).denoised.astype(np.float64)

    methods: dict[str, Method] = {MODEL: by_model, **METHODS}
    try:
        import bm3d  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        del methods["BM3D"]
    return methods


def compare_simulated(
    denoiser: FrameDenoiser,
    n_each: int = 12,
    *,
    seed: int = 1,
    size: int = SIZE,
    progress: Callable[[int, int], None] | None = None,
) -> FrameComparison:
    """Compare on simulated images with few counts, of other seeds than those of the training.

    A cell is the geometric mean over the images of a class of E / mean counts, E the expected
    excess deviance a pixel. BM3D takes part where the library `bm3d` is installed.
    """
    generator = torch.Generator().manual_seed(1_000_000 + seed)
    rng = np.random.default_rng(seed)
    images = simulate_images(n_each * len(CLASSES), size, generator=generator, counts=COUNTS)
    counts = photons(images, generator).double().numpy()
    methods = methods_with(denoiser)
    found: dict[str, list[float]] = {name: [] for name in methods}
    for k, image in enumerate(counts):
        rate = images.rate[k].double().numpy()
        valid = images.valid[k].numpy() > 0
        center = float(images.center[k, 0]), float(images.center[k, 1])
        for name, method in methods.items():
            made = method(image, valid, center, rng)
            found[name].append(excess(made, rate, valid) / rate[valid].mean())
        if progress is not None:
            progress(k + 1, len(counts))
    rows = {
        name: tuple(float(np.exp(np.log(values[k :: len(CLASSES)]).mean()))
                    for k in range(len(CLASSES)))
        for name, values in found.items()
    }  # fmt: skip
    rivals = [row for name, row in rows.items() if name != MODEL]
    ratios = [rows[MODEL][k] / min(row[k] for row in rivals) for k in range(len(CLASSES))]
    words = ", ".join(f"{kind} {ratio:.2f}" for kind, ratio in zip(CLASSES, ratios, strict=True))
    return FrameComparison(
        title=f"Excess deviance over mean counts, {n_each} images of each class, {size} x {size} "
        f"pixels, {COUNTS[0]:g} to {COUNTS[1]:g} counts a pixel",
        columns=CLASSES,
        rows=rows,
        notes=(f"Model over the best other method: {words}.",),
    )


def ring_bias(
    denoiser: FrameDenoiser,
    n_images: int = len(CLASSES),
    *,
    exposures: int = EXPOSURES,
    seed: int = 1,
    widths: tuple[float, ...] = (1.0, RING_PIXELS, 10.0),
) -> dict[float, list[FloatArray]]:
    """Return the bias of ring sums over many exposures of the same images, one image a class.

    The mean over exposures of (S - S_true) / sqrt(S_true), (n_ring,) an image, by the width of the
    rings in pixels. 0.2 + 2 / sqrt(exposures) is what may pass for none.
    """
    generator = torch.Generator().manual_seed(2_000_000 + seed)
    images = simulate_images(n_images, SIZE, generator=generator, counts=COUNTS)
    bias: dict[float, list[FloatArray]] = {width: [] for width in widths}
    for k in range(n_images):
        rate, valid = images.rate[k].double().numpy(), images.valid[k].numpy() > 0
        center = float(images.center[k, 0]), float(images.center[k, 1])
        mean = np.zeros_like(rate)
        for _ in range(exposures):
            drawn = torch.poisson(images.rate[k], generator=generator).double().numpy()
            made = denoise_counts(np.where(valid, drawn, 0), valid, denoiser, center=center)
            mean += np.where(valid, made.denoised, 0.0) / exposures
        for width in widths:
            if (rings := Rings.of(rate.shape, center, width=width)) is None:
                continue  # the beam of a simulated image is near
            true = rings.sums(np.where(valid, rate, 0.0))
            some = true > 0
            bias[width].append((rings.sums(mean) - true)[some] / np.sqrt(true[some]))
    return bias


def compare_measured(
    denoiser: FrameDenoiser,
    images: MeasuredImages,
    *,
    seed: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> FrameComparison:
    """Compare on measured images, by how well the photons of their targets are predicted.

    A cell is the deviance a photon less that of the model: only differences between methods are
    known. Positive: the model is better. Its error comes from blocks of 32 x 32 pixels: images that
    were set apart are cut so that no pixel counts twice, and blocks at one place of several images,
    which show the same structure, count as one.
    """
    rng = np.random.default_rng(seed)
    methods = methods_with(denoiser)
    cuts = list(images.held_out(torch.Generator().manual_seed(seed)))
    # Of each block of the detector, (row, column): what is summed over images.
    blocks: dict[tuple[int, int], FloatArray] = {}
    for done, ((row, col), batch) in enumerate(cuts):
        counts, target = (one[0].double().numpy() for one in (batch.counts, batch.target))
        valid = batch.valid[0].numpy() > 0
        beam = float(batch.center[0, 0]), float(batch.center[0, 1])
        center = beam if np.isfinite(beam).all() else None
        made = [np.maximum(one(counts, valid, center, rng), LEAST) for one in methods.values()]
        deviances = [2 * (one - target * np.log(one)) for one in made]
        parts = [np.where(valid, one, 0.0) for one in (*deviances, target, np.ones_like(target))]
        sums = np.stack([block_sums(one) for one in parts], axis=-1)  # (rows, cols, ...)
        for at in zip(*np.nonzero(sums[..., -1]), strict=True):
            place = row // BLOCK + int(at[0]), col // BLOCK + int(at[1])
            blocks[place] = blocks.get(place, 0.0) + sums[at]
        if progress is not None:
            progress(done + 1, len(cuts))
    found = np.stack(list(blocks.values()))  # (n_block, ...)
    n_photons = max(found[:, -2].sum(), 1.0)
    rows: dict[str, tuple[float, ...]] = {}
    for index, name in enumerate(methods):
        difference = found[:, index] - found[:, 0]
        error = np.sqrt(len(found)) * difference.std(ddof=1) if len(found) > 1 else np.nan
        rows[name] = (float(difference.sum() / n_photons), float(error / n_photons))
    return FrameComparison(
        title=f"Deviance a photon of the target, less that of the model, {len(cuts)} cuts, "
        f"{len(found)} blocks",
        columns=("difference", "error"),
        rows=rows,
        notes=("Positive: the model predicts photons better.",),
        lowest_is_best=False,
    )


def excess(made: FloatArray, rate: FloatArray, valid: BoolArray) -> float:
    """Return E, the expected excess deviance of a measured pixel, in counts."""
    made, rate = np.maximum(made[valid], LEAST), np.maximum(rate[valid], 1e-9)
    return float((2 * (rate * np.log(rate / made) - (rate - made))).mean())
