"""What methods learn from training windows: the prior of `bayes`, the components of `pca8`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpcs_live_denoise.denoising.ensemble import load_carded, save_carded
from xpcs_live_denoise.denoising.model import N_PIXELS, one_time, to_windows
from xpcs_live_denoise.denoising.training import WindowData
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.fits import fit_g2
from xpcs_live_denoise.numerics.window_bayes import (
    WindowPrior,
    excess_covariance,
    prior_from_fits,
    window_noise,
)

from .metrics import LAG_WEIGHTS

SHIPPED = Path(__file__).parent / "window_prior"
ARRAYS_NAME = "fitted.npz"
COMPONENTS = 8
# A fit that ended on a bound says that such series exist, not what their parameters are.
NOT_CONVERGED_WEIGHT = 0.3
# ROIs of an experiment resemble one another: k of them count like the root of k.
EXPERIMENT_POWER = -0.5
# Standard errors as they come cover 83 % of truths within 1 on one half of the validation
# experiments and 68 % on training experiments left out; this is between.
ERROR_SCALE = 0.93

_PRIOR = ("ln_rate", "ln_alpha", "weight", "mean", "covariance", "lag_covariance", "error_scale")
_CHUNK = 512  # windows unfolded at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What training windows taught.

    Attributes
    ----------
    prior
        For `fit_windows`.
    center, components
        Shapes (1275,) and (8, 1275): mean of the training inputs and their first principal
        components, as triangles; the components are orthonormal.
    card
        Where they come from, JSON-ready.
    """

    prior: WindowPrior
    center: NDArray[np.float32]
    components: NDArray[np.float32]
    card: dict[str, Any]


def triangle_noise(c2: NDArray[Any]) -> NDArray[np.float64]:
    """Return `window_noise` of triangles (n, 1275)."""
    parts = [
        window_noise(to_windows(c2[first : first + _CHUNK])) for first in range(0, len(c2), _CHUNK)
    ]
    return np.concatenate(parts)


def learn(data: WindowData, name: str) -> Fitted:
    """Learn prior and components from training windows.

    Parameters
    ----------
    data
        Training windows; a prior from the windows that are evaluated would flatter.
    name
        Of the training file, for the card.
    """
    target = one_time(data.target).astype(np.float64)
    fits = fit_g2(target, weights=LAG_WEIGHTS)
    _, group, size = np.unique(data.experiment, return_inverse=True, return_counts=True)
    crowd = size[group].astype(np.float64) ** EXPERIMENT_POWER
    weight = crowd * np.where(fits.converged, 1.0, NOT_CONVERGED_WEIGHT)
    parameters = np.column_stack(
        [np.log(fits.relaxation_rate), np.log(fits.alpha), fits.beta, fits.baseline]
    )
    cuts = data.n_cuts[data.target_index].astype(np.float64)
    several = cuts > 1
    # The target holds the input, so their difference has (k - 1) / k of the variance.
    residual = one_time(data.c2).astype(np.float64) - target[data.target_index]
    residual = residual[several] * np.sqrt(cuts / np.maximum(cuts - 1, 1))[several, np.newaxis]
    covariance = excess_covariance(residual, triangle_noise(data.c2)[several])
    center = data.c2.mean(axis=0)
    gram = (data.c2 - center).astype(np.float64)
    components = np.linalg.eigh(gram.T @ gram)[1][:, : -COMPONENTS - 1 : -1].T
    return Fitted(
        prior=prior_from_fits(parameters, weight, covariance, ERROR_SCALE),
        center=center.astype(np.float32),
        components=components.astype(np.float32),
        card=_card(data, name, len(fits), int(fits.converged.sum())),
    )


def save_fitted(fitted: Fitted, path: str | Path) -> Path:
    """Write arrays and card into a folder that `load_fitted` reads."""
    arrays: dict[str, Any] = {
        name: np.asarray(getattr(fitted.prior, name), np.float32) for name in _PRIOR
    }
    arrays |= {"center": fitted.center, "components": fitted.components}
    return save_carded(path, ARRAYS_NAME, arrays, fitted.card)


def load_fitted(path: str | Path | None = None) -> Fitted:
    """Read a folder of `save_fitted`. None: the one in this package.

    Raises
    ------
    InvalidInputError
        When a file is missing or cannot be read, lacks an array, or does not belong to the card.
    """
    folder = SHIPPED if path is None else Path(path)
    arrays, card = load_carded(folder, ARRAYS_NAME, arrays=(*_PRIOR, "center", "components"))
    prior = {name: arrays[name].astype(np.float64) for name in _PRIOR}
    center, components = arrays["center"], arrays["components"]
    if components.shape != (COMPONENTS, N_PIXELS) or center.shape != (N_PIXELS,):
        raise InvalidInputError(
            f"Folder {folder}: components have shape {components.shape}; expected "
            f"({COMPONENTS}, {N_PIXELS})."
        )
    scale = float(prior.pop("error_scale"))
    return Fitted(
        prior=WindowPrior(**prior, error_scale=scale),
        center=center,
        components=components,
        card=card,
    )


def _card(data: WindowData, name: str, n_fits: int, n_converged: int) -> dict[str, Any]:
    return {
        "name": "window-prior-chx-1",
        "license": "BSD-3-Clause",
        "data_doi": "10.11578/dc.20210704.1",
        "data_license": "BSD-3-Clause, Brookhaven National Laboratory",
        "trained_on": {
            "file": name,
            "sha256": data.sha256,
            "inputs": len(data),
            "targets": len(data.target),
            "experiments": len(np.unique(data.experiment)),
        },
        "made_by": "xpcs_live_denoise.denoising.evaluation.fitted: "
        "save_fitted(learn(load_windows(FILE), name), folder)",
        "prior": {
            "from": "50-lag weighted fits of the training targets",
            "fits": n_fits,
            "converged": n_converged,
            "weight_of_not_converged": NOT_CONVERGED_WEIGHT,
            "error_scale": ERROR_SCALE,
            "lag_covariance": "of inputs minus targets beyond independent noise, shrunk half way "
            "to its diagonal",
            "chosen_on": "training experiments left out in turn, and validation experiments 0, 5, "
            "7, 10, 12 and 16, with the others in view",
        },
        "components": "principal components of the training inputs, mean removed",
    }
