"""Compare raw and denoised windows with the truth: Eq. 8, and the fits of g2."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.kww import fit_g2
from xpcs_live_denoise.numerics.windows import WINDOW
from xpcs_live_denoise.records import GammaTable

from .data import WindowData, load_windows
from .ensemble import Ensemble, denoise_triangles, load_ensemble
from .metrics import summary
from .triangle import one_time

METHODS = ("raw", "cnn")

# Entries of C2 behind each lag 1..49 of a window's g2: the weights of every fit here.
LAG_WEIGHTS = (WINDOW - np.arange(1, WINDOW)).astype(np.float64)

# Which column of the fits each prediction is.
_PREDICTED = {
    "gamma": "relaxation_rate",
    "gamma_error": "relaxation_rate_error",
    "alpha": "alpha",
    "beta": "beta",
    "baseline": "baseline",
    "converged": "converged",
}

# Columns of the text table: heading, entry of a method's summary, format.
_TABLE = (
    ("cost", "cost", ".4g"),
    ("median", "cost_median", ".4g"),
    ("MSE(1TCF)", "mse_g2", ".4g"),
    ("median", "mse_g2_median", ".4g"),
    ("improved", "improved_fraction", ".1%"),
    ("in g2", "improved_fraction_g2", ".1%"),
    ("converged", "converged_fraction", ".1%"),
    ("MRE Gamma", "mre_gamma", ".3f"),
    ("median", "mre_gamma_median", ".3f"),
    ("where sure", "mre_gamma_sure", ".3f"),
    ("median", "mre_gamma_sure_median", ".3f"),
    ("MSE alpha", "mse_alpha", ".3f"),
    ("MSE beta", "mse_beta", ".3f"),
    ("MSE baseline", "mse_baseline", ".4f"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What `evaluate` found.

    Attributes
    ----------
    summary
        JSON-ready: the file, the ensemble, the truth, and under `methods` the figures of each
        method: `cost` (Eq. 8 against the target) and `mse_g2`, the MSE(1TCF), with medians;
        `improved_fraction` and `improved_fraction_g2`, of the windows nearer (in C2, in g2) than
        the raw one to the mean of their series' cuts that share no frame with them;
        `converged_fraction` of the fits; `mre_gamma`, the
        mean of |Gamma - truth| / truth, with its median; `mse_alpha`, `mse_beta`, `mse_baseline`.
        Fits that did not converge are included everywhere; `mre_gamma_sure` and its median leave
        out the inputs whose truth did not converge (too slow or too fast for 49 lags).
    predictions
        For every input (n,) and method: `<method>_gamma` (per frame), `_gamma_error`, `_alpha`,
        `_beta`, `_baseline`, `_converged`; for denoisers `<method>_g2` (n, 49), lags 1..49.
    """

    summary: dict[str, Any]
    predictions: dict[str, NDArray[Any]]

    def to_json(self) -> str:
        """Return the summary as JSON text."""
        return json.dumps(self.summary, indent=2)

    def table(self) -> str:
        """Return the figures of all methods as a table to read, one line a method."""
        rows = [["method", *(heading for heading, _, _ in _TABLE)]]
        for method, figures in self.summary["methods"].items():
            values = [figures[key] for _, key, _ in _TABLE]
            shown = [
                "-" if value is None else format(value, form)
                for value, (_, _, form) in zip(values, _TABLE, strict=True)
            ]
            rows.append([method, *shown])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            for row in rows
        )


def evaluate(
    path: str | Path, ensemble: Ensemble | None = None, *, methods: Sequence[str] = METHODS
) -> Evaluation:
    """Evaluate methods on a file of windows with known targets.

    g2 = baseline + beta exp(-2 (Gamma lag)^alpha) is fitted to the g2 of every input, raw and
    denoised, all four parameters free, lag weights 50 - lag; the truth is the same fit to the
    target's g2.

    Parameters
    ----------
    path
        An .npz in the format of `load_windows`.
    ensemble
        What denoises for the method "cnn"; default: the shipped ensemble.
    methods
        Some of "raw", "cnn".

    Raises
    ------
    InvalidInputError
        When the file is not in the format, or a method is unknown.
    MissingDependencyError
        When "cnn" is asked for and torch is not installed.
    """
    unknown = [method for method in methods if method not in METHODS]
    if unknown or not methods:
        raise InvalidInputError(
            f"evaluate: methods are {list(methods)}; expected at least one of {list(METHODS)}."
        )
    data = load_windows(path)
    if "cnn" in methods and ensemble is None:
        ensemble = load_ensemble()
    of_targets = _fit(data.target)
    truth = of_targets.select(data.target_index)
    figures: dict[str, Any] = {}
    predictions: dict[str, NDArray[Any]] = {}
    for method in methods:
        c2 = data.c2
        if method == "cnn" and ensemble is not None:
            c2 = denoise_triangles(ensemble, data.c2)
            predictions["cnn_g2"] = one_time(c2)
        fits = _fit(c2)
        figures[method] = summary(c2, data) | _fit_figures(fits, truth)
        for name, column in _PREDICTED.items():
            predictions[f"{method}_{name}"] = getattr(fits, column)
    return Evaluation(
        summary={
            "file": Path(path).name,
            "sha256": data.sha256,
            "inputs": len(data),
            "targets": len(data.target),
            "ensemble": None if ensemble is None else _identity(ensemble, data),
            "truth": {
                "of": "the same fit to the g2 of each target",
                "converged_fraction": float(truth.converged.mean()),
            },
            "methods": figures,
        },
        predictions=predictions,
    )


def _fit(c2: NDArray[np.float32]) -> GammaTable:
    """Fit the g2 of triangles (n, 1275), all parameters free; rates are per frame."""
    return fit_g2(one_time(c2).astype(np.float64), weights=LAG_WEIGHTS)


def _fit_figures(fits: GammaTable, truth: GammaTable) -> dict[str, float | None]:
    relative = np.abs(fits.relaxation_rate - truth.relaxation_rate) / truth.relaxation_rate
    figures: dict[str, float | None] = {
        "converged_fraction": float(fits.converged.mean()),
        "mre_gamma": float(relative.mean()),
        "mre_gamma_median": float(np.median(relative)),
    }
    sure = relative[truth.converged]
    figures["mre_gamma_sure"] = float(sure.mean()) if len(sure) else None
    figures["mre_gamma_sure_median"] = float(np.median(sure)) if len(sure) else None
    for name in ("alpha", "beta", "baseline"):
        difference = getattr(fits, name) - getattr(truth, name)
        figures[f"mse_{name}"] = float(np.mean(difference**2))
    return figures


def _identity(ensemble: Ensemble, data: WindowData) -> dict[str, Any]:
    """Return which ensemble it was, and whether the file is the one it was trained on."""
    info = ensemble.info
    return {
        "name": info["name"],
        "sha256": info["sha256"],
        "n_members": info["n_members"],
        "trained_on_this_file": info["trained_on"].get("sha256") == data.sha256,
    }
