"""The methods that `evaluate` compares: what they learned, and what each says of every input."""

from __future__ import annotations

import dataclasses
import io
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np

from xpcs_live_denoise.denoising.ensemble import (
    Ensemble,
    denoise_triangles,
    load_with_card,
    save_with_card,
)
from xpcs_live_denoise.denoising.training import WindowData
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.fits import fit_g2
from xpcs_live_denoise.numerics.kww import GAMMA_BOUNDS, KwwFit, fit_kww
from xpcs_live_denoise.numerics.window_bayes import (
    WindowPrior,
    WindowRates,
    excess_covariance,
    fit_windows,
    prior_from_fits,
    window_noise,
)
from xpcs_live_denoise.numerics.windows import (
    LAG,
    N_PIXELS,
    WINDOW,
    Denoiser,
    one_time,
    to_triangle,
    to_windows,
)
from xpcs_live_denoise.records.results import GammaTable
from xpcs_live_denoise.records.types import Array, Document, FloatArray

from .metrics import LAG_WEIGHTS, weighted_fit

SHIPPED = Path(__file__).parent / "window_prior"
ARRAYS_NAME, CARD_NAME = "fitted.npz", "card.json"
COMPONENTS = 8
# A fit that ended on a bound says that such series exist, not what their parameters are.
NOT_CONVERGED_WEIGHT = 0.3
# ROIs of an experiment resemble one another: k of them count like the root of k.
EXPERIMENT_POWER = -0.5
# Standard errors as they come cover 83 % of truths within 1 on one half of the validation
# experiments and 68 % on training experiments left out; this is between.
ERROR_SCALE = 0.93

# A raw fit this sure of ln Gamma needs no prior, and a prior can only pull it away.
SURE_LN_ERROR = 0.04
# A window's own ln Gamma differs from its series' by about this much, whatever the noise: median of
# the training inputs whose raw fit is sure, against the cuts that share no frame with them.
HETEROGENEITY = 0.05

# By name, each (n,): Gamma per frame, its error, the other parameters, and whether it converged.
Rates: TypeAlias = dict[str, Array]

_PRIOR = ("ln_rate", "ln_alpha", "weight", "mean", "covariance", "lag_covariance", "error_scale")
_CHUNK = 512  # windows unfolded at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """What training windows taught."""

    prior: WindowPrior  # for `fit_windows`
    center: Array  # (1275,): mean of the training inputs
    components: Array  # (8, 1275): their first principal components, orthonormal
    card: Document  # where they come from, JSON-ready


def triangle_noise(c2: Array) -> FloatArray:
    """Return `window_noise` of triangles (n, 1275)."""
    parts = [
        window_noise(to_windows(c2[first : first + _CHUNK])) for first in range(0, len(c2), _CHUNK)
    ]
    return np.concatenate(parts)


def learn(data: WindowData, name: str) -> Fitted:
    """Learn prior and components from training windows of a file of that name.

    A prior from the windows that are evaluated would flatter.
    """
    target = one_time(data.target).astype(np.float64)
    fits = fit_g2(target, weights=LAG_WEIGHTS)
    _, group, size = np.unique(data.experiment, return_inverse=True, return_counts=True)
    share = size[group].astype(np.float64) ** EXPERIMENT_POWER
    weight = share * np.where(fits.converged, 1.0, NOT_CONVERGED_WEIGHT)
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
    arrays: Document = {
        name: np.asarray(getattr(fitted.prior, name), np.float32) for name in _PRIOR
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays, center=fitted.center, components=fitted.components)
    return save_with_card(
        path, ARRAYS_NAME, buffer.getvalue(), card_name=CARD_NAME, card=fitted.card
    )


def load_fitted(path: str | Path | None = None) -> Fitted:
    """Read a folder of `save_fitted`. None: the one in this package."""
    folder = SHIPPED if path is None else Path(path)
    content, card = load_with_card(
        "Folder", folder, ARRAYS_NAME, card_name=CARD_NAME, keys=["sha256"], writer="save_fitted"
    )
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            prior = {name: file[name].astype(np.float64) for name in _PRIOR}
            center, components = file["center"], file["components"]
    except (OSError, ValueError, EOFError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise InvalidInputError(
            f"Folder {folder}: cannot be read ({error}). Expected {ARRAYS_NAME} and {CARD_NAME} "
            "as this package writes them."
        ) from error
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


def _card(data: WindowData, name: str, n_fits: int, n_converged: int) -> Document:
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
        "made_by": "xpcs_live_denoise.denoising.evaluation.methods: "
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


def rates_of(fits: GammaTable | KwwFit | WindowRates) -> Rates:
    """Return the rates that any of our fits found."""
    return {
        "gamma": fits.relaxation_rate,
        "gamma_error": fits.relaxation_rate_error,
        "alpha": fits.alpha,
        "beta": fits.beta,
        "baseline": fits.baseline,
        "converged": fits.converged,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What one method, or the truth, says of n inputs."""

    rates: Rates
    # (n, 1275): denoised triangles, for "raw" the inputs; None if the C2 is no other than these.
    c2: Array | None = None
    seconds: float = 0.0  # of all inputs together, denoising and fit
    extra: Rates = dataclasses.field(default_factory=dict)  # predictions of its own, (n, ...)


class Methods:
    """Every method on triangles (n, 1275) of scaled inputs; what others build on is computed once.

    The methods "cnn" and "paper" denoise with the ensembles of these names.
    """

    def __init__(self, c2: Array, cnn: Ensemble | None, paper: Ensemble | None) -> None:
        self.c2, self.cnn, self.paper = c2, cnn, paper

    @cached_property
    def raw_weighted(self) -> Output:
        """The fit with weights 50 - lag."""
        return self.fit(lambda c2: rates_of(weighted_fit(c2)))

    @cached_property
    def fitted(self) -> Fitted:
        """What training windows taught."""
        return load_fitted()

    @cached_property
    def bayes(self) -> Output:
        """The posterior over KWW curves: every diagonal of its C2 is the posterior mean of g2."""
        prior = self.fitted.prior
        start = time.perf_counter()
        g2 = one_time(self.c2).astype(np.float64)
        posterior = fit_windows(g2, triangle_noise(self.c2), prior=prior)
        seconds = time.perf_counter() - start
        c2 = posterior.g2[:, np.maximum(LAG, 1) - 1]
        return Output(rates=rates_of(posterior), c2=c2, seconds=seconds)

    def raw(self) -> Output:
        """Fit all lags alike, as one does who does not know better."""
        fitted = self.fit(lambda c2: rates_of(fit_g2(one_time(c2).astype(np.float64))))
        return dataclasses.replace(fitted, c2=self.c2)

    def recommended(self) -> Output:
        """Take the raw fit where it is sure, and the posterior elsewhere.

        Denoising harms clean windows and helps noisy ones; the raw fit's own error tells which is
        which. The network is never taken: it has no error bar.
        """
        raw, bayes = self.raw_weighted.rates, self.bayes.rates
        take = raw["converged"] & (raw["gamma_error"] < SURE_LN_ERROR * raw["gamma"])
        rates = {name: np.where(take, raw[name], bayes[name]) for name in raw}
        widened = np.hypot(rates["gamma_error"], HETEROGENEITY * rates["gamma"])
        rates["gamma_error"] = np.where(take, widened, rates["gamma_error"])
        return Output(
            rates=rates,
            seconds=self.raw_weighted.seconds + self.bayes.seconds,
            extra={"source": np.where(take, "raw_weighted", "bayes")},
        )

    def pca8(self) -> Output:
        """Keep the first eight principal components of the training inputs."""
        fitted = self.fitted
        return self.denoised(lambda c2: principal_components(c2, fitted.center, fitted.components))

    def by(self, ensemble: Denoiser | None) -> Output:
        """Denoise with an ensemble."""
        assert ensemble is not None, "evaluate checks that ensembles are there"  # noqa: S101
        return self.denoised(lambda c2: denoise_triangles(ensemble, c2))

    def denoised(self, denoise: Callable[[Array], Array]) -> Output:
        """Denoise, then fit with weights 50 - lag."""
        start = time.perf_counter()
        c2 = denoise(self.c2)
        rates = rates_of(weighted_fit(c2))
        return Output(rates=rates, c2=c2, seconds=time.perf_counter() - start)

    def fit(self, fit: Callable[[Array], Rates]) -> Output:
        """Fit the inputs as they are."""
        start = time.perf_counter()
        rates = fit(self.c2)
        return Output(rates=rates, seconds=time.perf_counter() - start)


METHODS: dict[str, Callable[[Methods], Output]] = {
    "raw": Methods.raw,
    "raw_weighted": lambda methods: methods.raw_weighted,
    "raw_fixed_baseline": lambda methods: methods.fit(fit_at_baseline_one),
    "gaussian": lambda methods: methods.denoised(gaussian),
    "median": lambda methods: methods.denoised(median),
    "tv": lambda methods: methods.denoised(total_variation),
    "pca8": Methods.pca8,
    "paper": lambda methods: methods.by(methods.paper),
    "cnn": lambda methods: methods.by(methods.cnn),
    "bayes": lambda methods: methods.bayes,
    "recommended": Methods.recommended,
}


def fit_at_baseline_one(c2: Array) -> Rates:
    """Fit triangles (n, 1275) with weights 50 - lag and the baseline held at 1.

    A lag at which every curve has long decayed, of value 1 and overwhelming weight, holds it.
    """
    g2 = one_time(c2).astype(np.float64)
    lags = np.append(np.arange(1.0, WINDOW), 1e12)
    values = np.column_stack([g2, np.ones(len(g2))])
    weights = np.append(LAG_WEIGHTS, 1e9)
    fit = fit_kww(lags, values, weights, rate_bounds=GAMMA_BOUNDS, scale_errors=True)
    return rates_of(fit)


# Of the total variation. The least cost on every 60th training input, among powers of 2.
TV_WEIGHT = 16.0


def gaussian(c2: Array) -> Array:
    """Return triangles (n, 1275) after a Gaussian filter, sigma 1 pixel, of their windows."""
    from scipy.ndimage import gaussian_filter

    return to_triangle(gaussian_filter(to_windows(c2), sigma=(0, 1.0, 1.0)))


def median(c2: Array) -> Array:
    """Return triangles (n, 1275) after a median filter of 3x3 pixels."""
    from scipy.ndimage import median_filter

    return to_triangle(median_filter(to_windows(c2), size=(1, 3, 3)))


def total_variation(c2: Array, weight: float = TV_WEIGHT) -> Array:
    """Return triangles (n, 1275) denoised by total variation.

    Reference: Chambolle, J. Math. Imaging Vis. 20, 89 (2004).
    """
    from skimage.restoration import denoise_tv_chambolle  # scikit-beam brings scikit-image

    windows = [np.asarray(denoise_tv_chambolle(w, weight=weight)) for w in to_windows(c2)]
    return to_triangle(np.stack(windows).astype(np.float32))


def principal_components(c2: Array, center: Array, components: Array) -> Array:
    """Return what some orthonormal components (k, 1275) hold of triangles (n, 1275)."""
    return (c2 - center) @ components.T @ components + center
