"""How far windows are from those the ensemble learned from, in its own 8 numbers a window."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xpcs_live_denoise.denoising.evaluation import triangle_noise
from xpcs_live_denoise.denoising.training import WindowData, random_curves
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.windows import WINDOW

from .ensemble import Ensemble, load_carded, save_carded
from .inference import PIXEL, REAL, WIDTH, TiedKernel
from .model import CHANNELS, LAG, LATENT, N_PIXELS, to_triangle

# Two training series this far apart, in units of their scatter, are as good as one: the width of
# the kernel about each. 0.1 flags simple decays in clean windows, 0.2 lets two-step curves pass.
KERNEL = 0.15
# Share of the training windows that lie inside the limit.
INSIDE = 0.99
# Targets of fewer cuts are too noisy themselves to tell a window's noise.
LEAST_CUTS = 4
# Synthetic training curves beside the measured ones, and the seed that draws them. Without them,
# compressed exponents count as unlike training, which the ensemble denoises well.
SYNTHETIC, SEED = 400, 0

Array = NDArray[np.float64]

_CHUNK = 128  # windows at a time: bounds the memory


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentRange:
    """Where the training windows lie among the latent numbers of m members.

    Attributes
    ----------
    axes
        Shape (m, 8, 8): latent numbers times its transpose are coordinates in which the training
        series scatter with variance 1 and the noise of a window is independent.
    series
        Shape (m, n_series, 8): the training series in these coordinates, measured and synthetic.
    noise
        Shape (m, 8): variance that a window of scaled noise 1 has about its series.
    limit
        The distance within which INSIDE of the training windows lie.
    weights_sha256
        Of the weights that it belongs to.
    card
        Where it comes from, JSON-ready.
    """

    axes: Array
    series: Array
    noise: Array
    limit: float
    weights_sha256: str
    card: dict[str, Any]

    def distance(self, latent: Array, noise: Array) -> Array:
        """Return the distance of windows to the nearest training series, in units of the limit.

        For each member, the Mahalanobis distance to each training series with the covariance
        KERNEL^2 (of the series) + s^2 (of a window's noise), s the window's own scaled noise; its
        minimum over the series, averaged over the members. One covariance for all windows would
        be that of the noisiest, and flag nothing in a clean one.

        Fluctuations of the speckle itself, alike along a diagonal, are more than s says. Where they
        rule, at a noise near 0.1 (5 counts, 4-pixel speckle), up to two thirds of the windows of a
        simple decay come out beyond the limit: there a raw fit is the better one anyway.

        Parameters
        ----------
        latent
            Shape (m, n, 8).
        noise
            Shape (n,): standard deviation of an entry of each scaled window.
        """
        place = latent @ self.axes.transpose(0, 2, 1)  # (m, n, 8)
        total = np.zeros(len(noise))
        for series, at, spread in zip(self.series, place, self.noise, strict=True):
            for first in range(0, len(noise), _CHUNK):
                some = slice(first, first + _CHUNK)
                inverse = 1 / (KERNEL**2 + noise[some, np.newaxis] ** 2 * spread)  # (k, 8)
                # (x - y)^2 / v, summed over the 8, as three products.
                square = (at[some] ** 2 * inverse).sum(axis=1, keepdims=True)
                square = square - 2 * (at[some] * inverse) @ series.T + inverse @ (series**2).T
                total[some] += np.sqrt(np.maximum(square.min(axis=1), 0.0))
        return total / (len(self.series) * self.limit)


def latent_values(ensemble: Ensemble, triangles: NDArray[np.float32]) -> Array:
    """Return every member's latent numbers, shape (m, n, 8), for triangles (n, 1275)."""
    encode = _tied if isinstance(ensemble._members, TiedKernel) else _fused
    parts = [
        encode(ensemble._members, triangles[first : first + _CHUNK])
        for first in range(0, max(len(triangles), 1), _CHUNK)
    ]
    return np.concatenate(parts, axis=1)


def learn_latent_range(
    ensemble: Ensemble, data: WindowData, name: str, *, synthetic: int = SYNTHETIC
) -> LatentRange:
    """Learn where training windows lie.

    Parameters
    ----------
    ensemble
        Trained on these windows.
    data
        The training windows.
    name
        Of the training file, for the card.
    synthetic
        How many of the synthetic curves of training count as training series; 0 for an ensemble
        that was trained without.
    """
    latent, target = latent_values(ensemble, data.c2), latent_values(ensemble, data.target)
    noise = np.sqrt(triangle_noise(data.c2))
    cuts = data.n_cuts[data.target_index].astype(np.float64)
    several = cuts >= min(LEAST_CUTS, cuts.max())
    # The target holds the input, so their difference has (k - 1) / k of the variance.
    scale = np.sqrt(cuts / np.maximum(cuts - 1, 1)) / noise
    strays = ((latent - target[:, data.target_index]) * scale[:, np.newaxis])[:, several]
    strays_covariance = strays.transpose(0, 2, 1) @ strays / several.sum()  # (m, 8, 8)
    around = target - target.mean(axis=1, keepdims=True)
    covariance = around.transpose(0, 2, 1) @ around / target.shape[1]
    whiten = np.linalg.inv(np.linalg.cholesky(covariance))
    spread, turn = np.linalg.eigh(whiten @ strays_covariance @ whiten.transpose(0, 2, 1))
    axes = turn.transpose(0, 2, 1) @ whiten
    curves = random_curves(synthetic, torch.Generator().manual_seed(SEED)).numpy()
    drawn = latent_values(ensemble, curves[:, LAG])
    found = LatentRange(
        axes=axes,
        series=np.concatenate([target, drawn], axis=1) @ axes.transpose(0, 2, 1),
        noise=spread,
        limit=1.0,
        weights_sha256=ensemble.info["sha256"],
        card=_card(data, name, synthetic),
    )
    limit = float(np.quantile(found.distance(latent, noise), INSIDE))
    return dataclasses.replace(found, limit=limit)


class LatentDistance:
    """The distance of scaled windows to what an ensemble learned from, for `window_quality`.

    Parameters
    ----------
    ensemble
        Whose latent numbers are compared.
    learned
        What `learn_latent_range` has found for it.
    """

    def __init__(self, ensemble: Ensemble, learned: LatentRange) -> None:
        self._ensemble, self._learned = ensemble, learned

    def __call__(self, windows: NDArray[np.float32], noise: Array) -> Array:
        """Return distances (n,), 1 at the limit, of windows (n, 50, 50) of scaled noise (n,)."""
        triangles = np.ascontiguousarray(to_triangle(windows), dtype=np.float32)
        return self._learned.distance(latent_values(self._ensemble, triangles), noise)


def _tied(members: Any, triangles: NDArray[np.float32]) -> Array:
    sums = np.empty((len(members._expand), len(triangles), LATENT))
    pixels = np.ascontiguousarray(triangles[:, PIXEL])  # (n, 50, 64)
    members._compiled(pixels, REAL, WIDTH, *members._encoder, sums)
    return sums + members._compress_bias


@torch.inference_mode()
def _fused(members: Any, triangles: NDArray[np.float32]) -> Array:
    m, k = members.n_members, len(triangles)
    pixels = torch.from_numpy(triangles).to(members.device).reshape(1, 1, k * N_PIXELS)
    x = torch.relu_(members._conv1_bias + members._conv1 * pixels)  # (m, 10, k * 1275)
    x = torch.baddbmm(members._conv2_bias, members._conv2, x).relu_()
    x = torch.bmm(x.view(m * CHANNELS, k, N_PIXELS), members._compress)  # (m * 10, k, 8)
    latent = x.view(m, CHANNELS, k, LATENT).sum(dim=1) + members._compress_bias
    return latent.cpu().numpy().astype(np.float64)


def _card(data: WindowData, name: str, synthetic: int) -> dict[str, Any]:
    return {
        "name": "latent-range-chx-1",
        "license": "BSD-3-Clause",
        "data_doi": "10.11578/dc.20210704.1",
        "data_license": "BSD-3-Clause, Brookhaven National Laboratory",
        "trained_on": {
            "file": name,
            "sha256": data.sha256,
            "inputs": len(data),
            "targets": len(data.target),
        },
        "window": WINDOW,
        "kernel": KERNEL,
        "inside": INSIDE,
        "synthetic": synthetic,
        "made_by": "xpcs_live_denoise.denoising.latent: save_latent_range("
        "learn_latent_range(load_ensemble(), load_windows(FILE), name), folder)",
        "chosen_on": "the kernel, on simulated curves (KWW, heterodyne, two-step, static) with the "
        "validation windows in view",
    }


SHIPPED = Path(__file__).parent / "latent_range"
ARRAYS_NAME = "latent_range.npz"

# Half precision: a thousandth of the scatter, far below the kernel.
_DTYPES = {"axes": np.float32, "series": np.float16, "noise": np.float32}


def latent_distance(
    ensemble: Any, path: str | Path | None = None
) -> tuple[LatentDistance | None, str]:
    """Return the distance to an ensemble's training windows, and a note where there is none.

    Parameters
    ----------
    ensemble
        Anything that denoises; only an `Ensemble` has latent numbers.
    path
        Folder of `save_latent_range`. None: the one in this package, which belongs to the shipped
        ensemble.

    Returns
    -------
    distance, note
        None and a sentence where the statistics cannot be read or belong to other weights: rows
        then do without, which is no reason to stop an analysis.
    """
    if not isinstance(ensemble, Ensemble):
        return None, "No latent-space distance: this denoiser is no ensemble of this package."
    try:
        learned = load_latent_range(path)
    except InvalidInputError as error:
        return None, f"No latent-space distance: {error}"
    digest = ensemble.info["sha256"]
    if learned.weights_sha256 != digest:
        return None, (
            f"No latent-space distance: the statistics of training windows belong to the weights "
            f"{learned.weights_sha256[:12]}, this ensemble has {digest[:12]}. Learn them with "
            "learn_latent_range and save them beside the weights."
        )
    return LatentDistance(ensemble, learned), ""


def save_latent_range(learned: LatentRange, path: str | Path) -> Path:
    """Write arrays and card into a folder that `load_latent_range` reads."""
    arrays: dict[str, Any] = {
        name: getattr(learned, name).astype(dtype) for name, dtype in _DTYPES.items()
    }
    arrays["limit"] = np.float64(learned.limit)
    card = {**learned.card, "weights_sha256": learned.weights_sha256, "limit": learned.limit}
    return save_carded(path, ARRAYS_NAME, arrays, card)


def load_latent_range(path: str | Path | None = None) -> LatentRange:
    """Read a folder of `save_latent_range`. None: the one in this package.

    Raises
    ------
    InvalidInputError
        When a file is missing or cannot be read, lacks an entry, or does not belong to the card.
    """
    folder = SHIPPED if path is None else Path(path)
    found, card = load_carded(
        folder, ARRAYS_NAME, arrays=(*_DTYPES, "limit"), card=("weights_sha256",)
    )
    arrays = {name: values.astype(np.float64) for name, values in found.items()}
    limit = float(arrays.pop("limit"))
    return LatentRange(**arrays, limit=limit, weights_sha256=card["weights_sha256"], card=card)
