"""Draw the figure of docs/any-size-denoising.md: python docs/any_size_denoising.py [MEMBERS.npz].

MEMBERS.npz are the published members of FC-DAE; without them their picture is left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np

from xpcs_live_denoise import denoise_two_time, load_ensemble
from xpcs_live_denoise.commands.train import path_image
from xpcs_live_denoise.denoising.evaluation.maps import figures, gaussian_map
from xpcs_live_denoise.denoising.evaluation.published import load_published
from xpcs_live_denoise.denoising.evaluation.unseen_dynamics import simulate_unseen

FIGURE = Path(__file__).with_name("any-size-denoising.png")


def main() -> None:
    """Simulate a series, let every method denoise it, and draw the pictures beside each other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("members", nargs="?", type=Path)
    members = parser.parse_args().members
    case = simulate_unseen("sawtooth", 350, modes=8, counts=0.1, seed=8)
    any_size = load_ensemble(denoiser="any_size")
    pictures = {
        "measured": case.c2,
        "Gaussian, sigma 3": gaussian_map(case.c2),
        "windows": denoise_two_time(case.c2, load_ensemble()).c2,
        "any_size": any_size.denoise(case.c2)[0],
        "path (c2_model)": path_image(case.c2),
        "truth": case.truth,
    }
    if members is not None:
        published = load_published(members).denoise(case.c2)[0]
        pictures = {"published members": published, **pictures}
    draw(case, pictures)


def draw(case, pictures) -> None:
    """Draw the pictures with their errors."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(2, 4, figsize=(11, 5.8), constrained_layout=True)
    order = sorted(pictures, key=lambda name: (name == "truth", name == "path (c2_model)"))
    order.sort(key=lambda name: name != "measured")
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, name in zip(axes.flat, order, strict=False):
        image = ax.imshow(pictures[name], origin="lower", vmin=1 - 0.02, vmax=1 + case.beta)
        found = figures(case, np.asarray(pictures[name], np.float64))
        errors = f"{found['mse_short']:.4f} / {found['mse_long']:.4f}"
        ax.set_title(name if name == "truth" else f"{name}\nMSE {errors}", fontsize=9)
    fig.colorbar(image, ax=axes, label="C2", shrink=0.7)
    fig.suptitle("MSE in units of beta², lags 1-50 / above", fontsize=9)
    fig.savefig(FIGURE, dpi=90)


if __name__ == "__main__":
    main()
