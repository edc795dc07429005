"""The shipped statistics of latent numbers: written, read, and matched with an ensemble."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from xpcs_live_denoise.errors import InvalidInputError

from .carded import load_carded, save_carded
from .ensemble import Ensemble
from .latent import LatentDistance, LatentRange

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
