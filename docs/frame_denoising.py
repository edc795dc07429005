"""Write the tables of docs/frame-denoising.md and draw its figure: python docs/frame_denoising.py.

`pip install bm3d` adds BM3D to the tables; --data FOLDER adds measured averages (.npy), thinned.
What stands between the markers of frame-denoising.md is replaced, its text is kept.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from scipy import ndimage

from xpcs_live_denoise import (
    TwoTimeAccumulator,
    denoise_frames,
    load_frame_denoiser,
    simulate_speckle,
)
from xpcs_live_denoise.commands.train_frames import measured_images
from xpcs_live_denoise.denoising.evaluation.frame_methods import METHODS
from xpcs_live_denoise.denoising.evaluation.frames import (
    compare_measured,
    compare_simulated,
    excess,
    methods_with,
    ring_bias,
)
from xpcs_live_denoise.denoising.training.images import CLASSES, photons, simulate_images
from xpcs_live_denoise.numerics.rois import RoiMap

HERE = Path(__file__).parent
SERIES = "brownian_speckle_300x424x424.npz"


def simulated(n_each: int) -> str:
    """Return the table of errors by class, of both shipped models."""
    parts = []
    for name in ("large", "small"):
        table = compare_simulated(load_frame_denoiser(name), n_each)
        parts.append(f"Model `{name}`. {table.text()}")
        print(parts[-1], flush=True)
    return "\n\n".join(parts)


def biases(exposures: int) -> str:
    """Return how many rings keep their sums."""
    lines = ["| model | width of a ring | rings | " + " | ".join(CLASSES) + " | all |"]
    lines.append("|---" * (len(CLASSES) + 4) + "|")
    limit = 0.2 + 2 / np.sqrt(exposures)
    for name in ("large", "small"):
        for width, found in ring_bias(load_frame_denoiser(name), exposures=exposures).items():
            within = [np.abs(one) < limit for one in found]
            cells = [f"{one.mean():.0%}" for one in (*within, np.concatenate(within))]
            n_rings = sum(map(len, within))
            lines.append(f"| {name} | {width:g} | {n_rings} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    return "\n".join(lines)


def peaks_over_background(n: int) -> str:
    """Return signal to residual background of a peak at a twentieth of the counts."""
    rows, cols = np.indices((128, 128))
    peak = np.exp(-((rows - 64) ** 2 + (cols - 64) ** 2) / (2 * 1.5**2))
    high = 2.0 + 12.0 * peak
    rng = np.random.default_rng(0)
    near = np.hypot(rows - 64, cols - 64) < 4
    far = np.hypot(rows - 64, cols - 64) > 12
    every = np.ones(near.shape, bool)
    methods: dict[str, Any] = {"measured": lambda counts, *_: counts}
    methods |= methods_with(load_frame_denoiser("large"))
    found: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(n):
        counts = rng.poisson(high / 20).astype(np.float64)
        for name, method in methods.items():
            made = method(counts, every, None, rng)
            signal = made[near].mean() - made[far].mean()
            found[name].append(signal / max(made[far].std(), 1e-9))
    lines = ["| method | signal / residual background |", "|---|---|"]
    lines += [f"| {name} | {np.median(values):.1f} |" for name, values in found.items()
              if name not in {"flat mean", "azimuthal mean"}]  # fmt: skip
    return "\n".join(lines)


def correlated() -> str:
    """Return what filters of frames do to contrast and baseline of a correlation."""
    shape, n = (96, 96), 240
    frames = np.concatenate(
        list(simulate_speckle(shape, n, relaxation_rate=0.15, mean_counts=0.3, speckle_size=2.0))
    ).astype(np.float32)
    mean = frames.mean(axis=0)
    small = load_frame_denoiser("small")
    filters: dict[str, Any] = {
        "none": lambda one: one,
        "Gaussian, width 1": lambda one: ndimage.gaussian_filter(one, 1.0),
        "median, 3 x 3": lambda one: ndimage.median_filter(one, 3),
        "soft threshold at 1 count": lambda one: np.maximum(one - 1, 0),
        "half way to the mean of the series": lambda one: 0.5 * one + 0.5 * mean,
        "the network (small)": lambda one: (
            denoise_frames(one, model=small, trust=False)[0].denoised
        ),
    }
    lines = ["| filter of each frame | beta | C2 - 1 at long lags |", "|---|---|---|"]
    for name, one in filters.items():
        accumulator = TwoTimeAccumulator(RoiMap.from_labels(np.ones(shape, int)), engine="dense")
        accumulator.append(np.stack([one(frame) for frame in frames]))
        c2 = accumulator.c2[0]
        g2 = np.array([np.nanmean(np.diagonal(c2, lag)) for lag in range(n // 2)])
        baseline = g2[60:].mean() - 1
        lags = np.arange(1, 8)
        beta = np.exp(np.polyfit(lags, np.log(np.maximum(g2[1:8] - 1 - baseline, 1e-6)), 1)[1])
        lines.append(f"| {name} | {beta:.2f} | {baseline:.3f} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def measured(folder: Path | None) -> str:
    """Return errors on measured averages, thinned to few counts: real scenes, simulated noise."""
    if folder is None:
        return "No measured averages were given."
    rng = np.random.default_rng(0)
    lines = ["| image | counts a pixel | method | E / mean counts |", "|---|---|---|---|"]
    for path in sorted(folder.glob("*_[0-9]*x[0-9]*.npy")):
        image = np.load(path).astype(np.float64)
        if image.ndim != 2:
            continue
        valid = np.isfinite(image) & (image > 0)
        rate = ndimage.gaussian_filter(np.where(valid, image, 0), 0.7)
        for level in (0.1, 1.0):
            scaled = np.maximum(rate / rate[valid].mean() * level, 1e-4)
            counts = np.where(valid, rng.poisson(scaled), 0).astype(np.float64)
            for name, method in methods_with(load_frame_denoiser("large")).items():
                made = method(counts, valid, None, rng)
                value = excess(made, scaled, valid) / level
                lines.append(f"| {path.stem} | {level:g} | {name} | {value:.4f} |")
    return "\n".join(lines)


def measured_series(folder: Path | None) -> str:
    """Return how well sums over frames of a measured series predict photons of later ones."""
    if folder is None:
        return "No measured series was given."
    found = {}
    for name in ("large", "small"):
        images = measured_images([folder / SERIES], "212,212", 1, dataset="frames")
        found[name] = compare_measured(load_frame_denoiser(name), images).rows
    lines = ["| method | less `large` | less `small` |", "|---|---|---|"]
    for method in found["large"]:
        cells = [f"{value:.4f} ± {error:.4f}" for value, error in
                 (rows[method] for rows in found.values())]  # fmt: skip
        lines += [] if method == "model" else [f"| {method} | {' | '.join(cells)} |"]
    return "\n".join(lines)


def draw(path: Path) -> None:
    """Draw an image of each class: truth, photons, the best filter, the network."""
    generator = torch.Generator().manual_seed(12)
    images = simulate_images(len(CLASSES), 128, generator=generator, counts=(0.3, 0.3))
    counts = photons(images, generator).double().numpy()
    rng = np.random.default_rng(0)
    figure, axes = plt.subplots(4, len(CLASSES), figsize=(11, 9), layout="constrained")
    for k, kind in enumerate(CLASSES):
        center = float(images.center[k, 0]), float(images.center[k, 1])
        valid = images.valid[k].numpy() > 0
        methods = methods_with(load_frame_denoiser("large"))
        rate = images.rate[k].double().numpy()
        shown = {
            "truth": rate,
            "photons": counts[k],
            "Gaussian, held-out width": METHODS["Gaussian"](counts[k], valid, center, rng),
            "network": methods["model"](counts[k], valid, center, rng),
        }
        low, high = np.percentile(rate, (1, 99.5))
        for row, (name, image) in enumerate(shown.items()):
            axes[row, k].imshow(np.where(valid, image, np.nan), vmin=low, vmax=high)
            axes[row, k].set(xticks=[], yticks=[])
            if k == 0:
                axes[row, k].set_ylabel(name)
        axes[0, k].set_title(kind)
    figure.savefig(path, dpi=80)


def main() -> None:
    """Write tables and figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=16, help="of each class")
    parser.add_argument("--exposures", type=int, default=100, help="of an image, for its rings")
    parser.add_argument("--data", type=Path, help="folder with measured averages, .npy")
    parser.add_argument("--only", nargs="*", help="names of tables; default: all, and the figure")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    page = HERE / "frame-denoising.md"
    for name, made in (
        ("correlated", correlated),
        ("peaks", lambda: peaks_over_background(10)),
        ("simulated", lambda: simulated(chosen.images)),
        ("measured", lambda: measured(chosen.data)),
        ("series", lambda: measured_series(chosen.data)),
        ("rings", lambda: biases(chosen.exposures)),
    ):
        if chosen.only and name not in chosen.only:
            continue
        marked = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        table = made()
        text = re.sub(
            marked, lambda found, table=table: f"{found[1]}{table}\n{found[2]}",
            page.read_text(encoding="utf-8"), flags=re.DOTALL,
        )  # fmt: skip
        page.write_text(text, encoding="utf-8")
    if not chosen.only:
        draw(HERE / "frame-denoising.png")


if __name__ == "__main__":
    main()
