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
from xpcs_live_denoise.numerics.frame_trust import RING_PIXELS, Rings
from xpcs_live_denoise.records.types import BoolArray, FloatArray

from .frame_methods import LEAST, METHODS, Method

MODEL = "model"
COUNTS = (0.05, 1.0)  # mean counts of a pixel: a twentieth of 1 to 20
SIZE = 128
EXPOSURES = 100  # of an image, for the bias of its rings
BLOCK = 32  # pixels along an edge, for errors of differences


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameComparison:
    """One row a method, one column a class of images or what else is said."""

    title: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[float, ...]]
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """Return a table in Markdown, the lowest of each column bold."""
        lines = [self.title, "", f"| method | {' | '.join(self.columns)} |"]
        lines.append("|---" * (1 + len(self.columns)) + "|")
        best = [np.nanmin([row[k] for row in self.rows.values()]) for k in range(len(self.columns))]
        for name, row in self.rows.items():
            cells = [
                f"**{value:.4f}**" if value == low else f"{value:.4f}"
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
            rings = Rings.of(rate.shape, center, width=width)
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

    A cell is the deviance a photon less that of the model, with its error from blocks of 32 x 32
    pixels: only differences between methods are known. Positive: the model is better.
    """
    rng = np.random.default_rng(seed)
    methods = methods_with(denoiser)
    batches = list(images.choosing())
    losses: dict[str, list[FloatArray]] = {name: [] for name in methods}
    photon_number: list[FloatArray] = []
    n_total, done = sum(len(one.counts) for one in batches), 0
    for batch in batches:
        for k in range(len(batch.counts)):
            counts, target = (one[k].double().numpy() for one in (batch.counts, batch.target))
            valid = batch.valid[k].numpy() > 0
            row, col = (float(one) for one in batch.center[k])
            center = (row, col) if np.isfinite([row, col]).all() else None
            for name, method in methods.items():
                made = np.maximum(method(counts, valid, center, rng), LEAST)
                deviance = np.where(valid, 2 * (made - target * np.log(made)), 0.0)
                losses[name].append(_block_sums(deviance))
            photon_number.append(_block_sums(np.where(valid, target, 0.0)))
            done += 1
            if progress is not None:
                progress(done, n_total)
    n_photons = np.concatenate([one.ravel() for one in photon_number]).sum()
    rows: dict[str, tuple[float, ...]] = {}
    own = np.concatenate([one.ravel() for one in losses[MODEL]])
    for name, parts in losses.items():
        difference = np.concatenate([one.ravel() for one in parts]) - own
        error = np.sqrt(len(difference)) * difference.std()
        rows[name] = (float(difference.sum() / n_photons), float(error / n_photons))
    return FrameComparison(
        title=f"Deviance a photon of the target, less that of the model, {n_total} cuts",
        columns=("difference", "error"),
        rows=rows,
        notes=("Positive: the model predicts photons better.",),
    )


def excess(made: FloatArray, rate: FloatArray, valid: BoolArray) -> float:
    """Return E, the expected excess deviance of a measured pixel, in counts."""
    made, rate = np.maximum(made[valid], LEAST), np.maximum(rate[valid], 1e-9)
    return float((2 * (rate * np.log(rate / made) - (rate - made))).mean())


def _block_sums(image: FloatArray) -> FloatArray:
    for axis in (0, 1):
        image = np.add.reduceat(image, np.arange(0, image.shape[axis], BLOCK), axis=axis)
    return image
