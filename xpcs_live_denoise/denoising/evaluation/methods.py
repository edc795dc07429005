"""The methods that `evaluate` compares: what each says of every input, and in what time."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpcs_live_denoise.denoising.ensemble import Ensemble, denoise_triangles
from xpcs_live_denoise.denoising.model import LAG, one_time, to_triangle, to_windows
from xpcs_live_denoise.numerics.fits import fit_g2
from xpcs_live_denoise.numerics.kww import GAMMA_BOUNDS, KwwBounds, KwwFit, fit_kww
from xpcs_live_denoise.numerics.window_bayes import WindowRates, fit_windows
from xpcs_live_denoise.numerics.windows import WINDOW
from xpcs_live_denoise.records.results import GammaTable

from .fitted import Fitted, load_fitted, triangle_noise
from .metrics import LAG_WEIGHTS, weighted_fit

# A raw fit this sure of ln Gamma needs no prior, and a prior can only pull it away.
SURE_LN_ERROR = 0.04
# A window's own ln Gamma differs from its series' by about this much, whatever the noise: median of
# the training inputs whose raw fit is sure, against the cuts that share no frame with them.
HETEROGENEITY = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Parameters of every input, each of shape (n,): Gamma per frame, its error, and the others."""

    gamma: NDArray[np.float64]
    gamma_error: NDArray[np.float64]
    alpha: NDArray[np.float64]
    beta: NDArray[np.float64]
    baseline: NDArray[np.float64]
    converged: NDArray[np.bool_]

    @classmethod
    def of(cls, fits: GammaTable | KwwFit | WindowRates) -> Rates:
        """Return the rates that any of our fits found."""
        return cls(
            gamma=fits.relaxation_rate,
            gamma_error=fits.relaxation_rate_error,
            alpha=fits.alpha,
            beta=fits.beta,
            baseline=fits.baseline,
            converged=fits.converged,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What one method says of n inputs.

    Attributes
    ----------
    rates
        Parameters of every input.
    c2
        Shape (n, 1275): the denoised triangles, for "raw" the inputs; None for a method whose C2
        is no other than these.
    seconds
        Time of all inputs together, denoising and fit.
    extra
        Further predictions of its own, by name, each of shape (n, ...).
    """

    rates: Rates
    c2: NDArray[Any] | None
    seconds: float
    extra: dict[str, NDArray[Any]]


class Methods:
    """Every method on one set of inputs; those that build on others compute them once.

    Parameters
    ----------
    c2
        Shape (n, 1275): triangles of scaled inputs.
    ensemble, paper
        What the methods "cnn" and "paper" denoise with.
    """

    def __init__(
        self, c2: NDArray[np.float32], ensemble: Ensemble | None, paper: Ensemble | None
    ) -> None:
        self.c2, self._ensemble, self._paper = c2, ensemble, paper

    def run(self, method: str) -> Output:
        """Return what a method, one of METHODS, says."""
        return METHODS[method](self)

    @cached_property
    def fitted(self) -> Fitted:
        """What training windows taught."""
        return load_fitted()

    @cached_property
    def raw_weighted(self) -> Output:
        """The fit with weights 50 - lag."""
        return self._fitting(lambda c2: Rates.of(weighted_fit(c2)))

    @cached_property
    def bayes(self) -> Output:
        """The posterior over KWW curves: every diagonal of its C2 is the posterior mean of g2."""
        prior = self.fitted.prior
        start = time.perf_counter()
        g2 = one_time(self.c2).astype(np.float64)
        posterior = fit_windows(g2, triangle_noise(self.c2), prior=prior)
        seconds = time.perf_counter() - start
        c2 = posterior.g2[:, np.maximum(LAG, 1) - 1]
        return Output(rates=Rates.of(posterior), c2=c2, seconds=seconds, extra={})

    def raw(self) -> Output:
        """Fit all lags alike, as one does who does not know better."""
        fitted = self._fitting(lambda c2: Rates.of(fit_g2(one_time(c2).astype(np.float64))))
        return dataclasses.replace(fitted, c2=self.c2)

    def raw_fixed_baseline(self) -> Output:
        """Fit with weights 50 - lag and the baseline held at 1."""
        return self._fitting(fit_at_baseline_one)

    def recommended(self) -> Output:
        """Take the raw fit where it is sure, and the posterior elsewhere.

        Denoising harms clean windows and helps noisy ones; the raw fit's own error tells which is
        which. The network is never taken: it has no error bar.
        """
        raw, bayes = self.raw_weighted, self.bayes
        take = raw.rates.converged & (raw.rates.gamma_error < SURE_LN_ERROR * raw.rates.gamma)
        values = {
            name: np.where(take, getattr(raw.rates, name), getattr(bayes.rates, name))
            for name in Rates.__dataclass_fields__
        }
        widened = np.hypot(values["gamma_error"], HETEROGENEITY * values["gamma"])
        values["gamma_error"] = np.where(take, widened, values["gamma_error"])
        return Output(
            rates=Rates(**values),
            c2=None,
            seconds=raw.seconds + bayes.seconds,
            extra={"source": np.where(take, "raw_weighted", "bayes")},
        )

    def denoised(self, denoise: Callable[[NDArray[np.float32]], NDArray[Any]]) -> Output:
        """Denoise, then fit with weights 50 - lag."""
        start = time.perf_counter()
        c2 = denoise(self.c2)
        rates = Rates.of(weighted_fit(c2))
        return Output(rates=rates, c2=c2, seconds=time.perf_counter() - start, extra={})

    def pca8(self) -> Output:
        """Keep the first eight principal components of the training inputs."""
        learned = self.fitted
        return self.denoised(
            lambda c2: principal_components(c2, learned.center, learned.components)
        )

    def cnn(self) -> Output:
        """Denoise with the ensemble."""
        return self._by(self._ensemble)

    def paper(self) -> Output:
        """Denoise with an ensemble of the paper's recipe."""
        return self._by(self._paper)

    def _by(self, ensemble: Ensemble | None) -> Output:
        assert ensemble is not None, "evaluate checks that ensembles are there"  # noqa: S101
        return self.denoised(lambda c2: denoise_triangles(ensemble, c2))

    def _fitting(self, fit: Callable[[NDArray[np.float32]], Rates]) -> Output:
        start = time.perf_counter()
        rates = fit(self.c2)
        return Output(rates=rates, c2=None, seconds=time.perf_counter() - start, extra={})


METHODS: dict[str, Callable[[Methods], Output]] = {
    "raw": Methods.raw,
    "raw_weighted": lambda methods: methods.raw_weighted,
    "raw_fixed_baseline": Methods.raw_fixed_baseline,
    "gaussian": lambda methods: methods.denoised(gaussian),
    "median": lambda methods: methods.denoised(median),
    "tv": lambda methods: methods.denoised(total_variation),
    "pca8": Methods.pca8,
    "paper": Methods.paper,
    "cnn": Methods.cnn,
    "bayes": lambda methods: methods.bayes,
    "recommended": Methods.recommended,
}


def fit_at_baseline_one(c2: NDArray[Any]) -> Rates:
    """Fit triangles (n, 1275) with weights 50 - lag and the baseline held at 1.

    A lag at which every curve has long decayed, of value 1 and overwhelming weight, holds it.
    """
    g2 = one_time(c2).astype(np.float64)
    lags = np.append(np.arange(1.0, WINDOW), 1e12)
    values = np.column_stack([g2, np.ones(len(g2))])
    weights = np.append(LAG_WEIGHTS, 1e9)
    bounds = KwwBounds(relaxation_rate=GAMMA_BOUNDS)
    return Rates.of(fit_kww(lags, values, weights, bounds=bounds, scale_errors=True))


GAUSSIAN_SIGMA = 1.0  # pixels
MEDIAN_SIZE = 3  # pixels
# Of the total variation. The least cost on every 60th training input, among powers of 2.
TV_WEIGHT = 16.0

Triangles = NDArray[np.float32]


def gaussian(c2: Triangles) -> Triangles:
    """Return triangles (n, 1275) after a Gaussian filter over the windows they stand for."""
    from scipy.ndimage import gaussian_filter

    sigma = (0, GAUSSIAN_SIGMA, GAUSSIAN_SIGMA)
    return to_triangle(gaussian_filter(to_windows(c2), sigma=sigma))


def median(c2: Triangles) -> Triangles:
    """Return triangles (n, 1275) after a median filter of 3x3 pixels."""
    from scipy.ndimage import median_filter

    return to_triangle(median_filter(to_windows(c2), size=(1, MEDIAN_SIZE, MEDIAN_SIZE)))


def total_variation(c2: Triangles, weight: float = TV_WEIGHT) -> Triangles:
    """Return triangles (n, 1275) denoised by total variation.

    Reference: Chambolle, J. Math. Imaging Vis. 20, 89 (2004).
    """
    from skimage.restoration import denoise_tv_chambolle  # scikit-beam brings scikit-image

    windows: Any = [denoise_tv_chambolle(window, weight=weight) for window in to_windows(c2)]
    return to_triangle(np.stack(windows).astype(np.float32))


def principal_components(
    c2: Triangles, center: Triangles, components: Triangles
) -> NDArray[np.floating[Any]]:
    """Return what some orthonormal components (k, 1275) hold of triangles (n, 1275)."""
    return (c2 - center) @ components.T @ components + center
