"""Compare every method with the truth on windows with known targets: one honest table."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpcs_live_denoise.errors import InvalidInputError

from .data import WindowData, load_windows
from .ensemble import Ensemble, load_ensemble
from .fitted import triangle_noise
from .methods import METHODS, Methods, Output, Rates
from .report import c2_figures, figures, tables
from .triangle import one_time
from .truth import Truth, truths

# What each truth is, for who reads the table.
_TRUTHS = {
    "target": "the target, the mean of all cuts of the series, which holds the input",
    "frame_disjoint": "the mean of the cuts that share no frame with the input",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What `evaluate` found.

    Attributes
    ----------
    summary
        JSON-ready: the file, the ensembles, the truths, and under `methods` for each method
        `us_per_window` (denoising and fit, all inputs in one call), `improved_fraction` and
        `improved_fraction_g2` (of the windows that are nearer than the raw one to the cuts that
        share no frame with them), and under `target` and `frame_disjoint` its figures against
        either truth: `cost` (Eq. 8) and `mse_g2`, the MSE(1TCF), with medians;
        `converged_fraction`; `mre_gamma`, the mean of |Gamma - truth| / truth, with its median,
        and both in `bands` of the true Gamma and in `noise_quintiles`; `mse_alpha`, `mse_beta`,
        `mse_baseline`; `coverage_1`, `coverage_2`, of the truths within 1 and 2 standard errors
        of ln Gamma. Fits that did not converge are included everywhere but in the coverage;
        `mre_gamma_sure` and its median leave out the inputs whose truth did not converge (too slow
        or too fast for 49 lags).
    predictions
        For every input (n,) and method: `<method>_gamma` (per frame), `_gamma_error`, `_alpha`,
        `_beta`, `_baseline`, `_converged`; for denoisers, bayes and raw `<method>_g2` (n, 49), lags
        1..49; `recommended_source`, the method that was taken.
    """

    summary: dict[str, Any]
    predictions: dict[str, NDArray[Any]]

    def to_json(self) -> str:
        """Return the summary as JSON text."""
        return json.dumps(self.summary, indent=2)

    def table(self) -> str:
        """Return the figures of all methods as tables to read, one line a method."""
        return tables(self.summary)


def evaluate(
    path: str | Path,
    ensemble: Ensemble | None = None,
    *,
    paper: Ensemble | None = None,
    methods: Sequence[str] | None = None,
    experiments: Sequence[int] | None = None,
) -> Evaluation:
    """Evaluate methods on a file of windows with known targets.

    Parameters
    ----------
    path
        An .npz in the format of `load_windows`.
    ensemble
        What denoises for the method "cnn"; default: the shipped ensemble.
    paper
        An ensemble of the paper's recipe for the method "paper".
    methods
        Some of METHODS; default: all, "paper" only if its ensemble is given.
    experiments
        Only inputs of these; default: all.

    Raises
    ------
    InvalidInputError
        When the file is not in the format, a method is unknown, "paper" lacks its ensemble, or
        the experiments have no inputs.
    MissingDependencyError
        When "cnn" is asked for and torch is not installed.
    """
    chosen = _methods(methods, paper)
    data = _load(path, experiments)
    if "cnn" in chosen and ensemble is None:
        ensemble = load_ensemble()
    noise, known = triangle_noise(data.c2), truths(data)
    running = Methods(data.c2, ensemble, paper)
    found: dict[str, Any] = {}
    predictions: dict[str, NDArray[Any]] = {}
    for method in chosen:
        output = running.run(method)
        predictions |= _predictions(method, output)
        found[method] = c2_figures(output, data) | {
            name: figures(output, truth, noise) for name, truth in known.items()
        }
    about = {
        "file": Path(path).name,
        "sha256": data.sha256,
        "experiments": np.unique(data.experiment[data.target_index]).tolist(),
        "inputs": len(data),
        "targets": len(np.unique(data.target_index)),
        "ensemble": None if ensemble is None else _identity(ensemble, data),
        "paper": None if paper is None else _identity(paper, data),
        "truths": {name: _about(name, truth) for name, truth in known.items()},
    }
    return Evaluation(summary={**about, "methods": found}, predictions=predictions)


def _about(name: str, truth: Truth) -> dict[str, Any]:
    converged = float(np.mean(truth.rates.converged))
    return {"of": _TRUTHS[name], "n": len(truth.rows), "converged_fraction": converged}


def _methods(methods: Sequence[str] | None, paper: Ensemble | None) -> list[str]:
    if methods is None:
        return [method for method in METHODS if method != "paper" or paper is not None]
    unknown = [method for method in methods if method not in METHODS]
    if unknown or not methods:
        raise InvalidInputError(
            f"evaluate: methods are {list(methods)}; expected at least one of {list(METHODS)}."
        )
    if "paper" in methods and paper is None:
        raise InvalidInputError(
            'evaluate: the method "paper" has no ensemble; expected one of the paper\'s recipe, '
            "which is not shipped. Train it with `xpcs-live-denoise train --recipe paper`."
        )
    return list(methods)


def _load(path: str | Path, experiments: Sequence[int] | None) -> WindowData:
    data = load_windows(path)
    if experiments is None:
        return data
    there = np.unique(data.experiment[data.target_index])
    missing = sorted(set(experiments) - set(there.tolist()))
    if missing or not experiments:
        raise InvalidInputError(
            f"evaluate: {path} has no inputs of experiments {missing}; expected some of "
            f"{there.tolist()}."
        )
    part = data.of_experiments(np.asarray(experiments))
    return dataclasses.replace(part, sha256=data.sha256)


def _predictions(method: str, output: Output) -> dict[str, NDArray[Any]]:
    values = {name: getattr(output.rates, name) for name in Rates.__dataclass_fields__}
    if output.c2 is not None:
        values["g2"] = one_time(output.c2)
    return {f"{method}_{name}": array for name, array in (values | output.extra).items()}


def _identity(ensemble: Ensemble, data: WindowData) -> dict[str, Any]:
    """Return which ensemble it was, and whether the file is the one it was trained on."""
    info = ensemble.info
    return {
        "name": info["name"],
        "sha256": info["sha256"],
        "n_members": info["n_members"],
        "trained_on_this_file": info["trained_on"].get("sha256") == data.sha256,
    }
