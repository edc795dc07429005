"""Compare every method with the truth on windows with known targets: one honest table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xpcs_live_denoise.denoising.ensemble import Ensemble, load_ensemble
from xpcs_live_denoise.denoising.training import WindowData, load_windows
from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.windows import Denoiser, one_time
from xpcs_live_denoise.records.types import Array, Document, Fields, FloatArray, IntArray

from .methods import METHODS, Methods, Output, rates_of, triangle_noise
from .metrics import disjoint_truth, errors, summary, weighted_fit

# What each truth is, for who reads the table.
_TRUTHS = {
    "target": "the target, the mean of all cuts of the series, which holds the input",
    "frame_disjoint": "the mean of the cuts that share no frame with the input",
}


# Of the true Gamma, per frame: the paper trusts its network in the two in the middle.
BANDS = {
    "<0.01": (0.0, 0.01),
    "0.01-0.05": (0.01, 0.05),
    "0.05-0.15": (0.05, 0.15),
    ">0.15": (0.15, np.inf),
}
QUINTILES = ("cleanest", "2nd", "3rd", "4th", "noisiest")

# Columns of the text tables: heading, path to the figure, format.
_MAIN = (
    ("cost", "cost", ".4g"),
    ("MSE(1TCF)", "mse_g2", ".4g"),
    ("median", "mse_g2_median", ".4g"),
    ("conv.", "converged_fraction", ".3f"),
    ("MRE", "mre_gamma", ".3f"),
    ("median", "mre_gamma_median", ".3f"),
    ("MSE alpha", "mse_alpha", ".3f"),
    ("MSE beta", "mse_beta", ".3f"),
    ("MSE base", "mse_baseline", ".4f"),
    ("in 1 SE", "coverage_1", ".3f"),
    ("in 2 SE", "coverage_2", ".3f"),
    ("us/window", "us_per_window", ".0f"),
)


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

    summary: Document
    predictions: dict[str, Array]

    def to_json(self) -> str:
        """Return the summary as JSON text."""
        return json.dumps(self.summary, indent=2)

    def table(self) -> str:
        """Return tables to read, one line a method: of each truth, then by bands and quintiles."""
        parts: list[str] = []
        for name, about in self.summary["truths"].items():
            shown = {
                method: {**found, **found[name]}
                for method, found in self.summary["methods"].items()
            }
            parts.append(f"Against {about['of']} ({about['n']} inputs):")
            parts.append(layout(_main_rows(shown)))
            parts.append(
                "Median (mean) relative error of Gamma, by true Gamma a frame and by noise:"
            )
            parts.append(layout(_part_rows(shown)))
        return "\n\n".join(parts)


def evaluate(
    path: str | Path,
    ensemble: Ensemble | None = None,
    *,
    paper: Ensemble | None = None,
    others: Mapping[str, Denoiser] | None = None,
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
    others
        More denoisers of windows, by the names that the table shall give them.
    methods
        Some of METHODS; default: all, "paper" only if its ensemble is given.
    experiments
        Only inputs of these; default: all.
    """
    chosen = _methods(methods, paper)
    data = _load(path, experiments)
    if "cnn" in chosen and ensemble is None:
        ensemble = load_ensemble()
    noise, known = triangle_noise(data.c2), truths(data)
    running = Methods(data.c2, ensemble, paper)
    found: Document = {}
    predictions: dict[str, Array] = {}
    more = {name: partial(running.by, denoiser) for name, denoiser in (others or {}).items()}
    for method in (*chosen, *more):
        output = more[method]() if method in more else METHODS[method](running)
        predictions |= _predictions(method, output)
        improved = summary(data.c2 if output.c2 is None else output.c2, data)
        found[method] = {
            "improved_fraction": improved["improved_fraction"],
            "improved_fraction_g2": improved["improved_fraction_g2"],
            "us_per_window": 1e6 * output.seconds / len(data),
            **{name: figures(output, *truth, noise) for name, truth in known.items()},
        }
    about = {
        "file": Path(path).name,
        "sha256": data.sha256,
        "experiments": data.experiments.tolist(),
        "inputs": len(data),
        "targets": len(np.unique(data.target_index)),
        "ensemble": None if ensemble is None else _identity(ensemble, data),
        "paper": None if paper is None else _identity(paper, data),
        "truths": {
            name: {
                "of": _TRUTHS[name],
                "n": len(rows),
                "converged_fraction": _mean(truth.rates["converged"]),
            }
            for name, (rows, truth) in known.items()
        },
    }
    return Evaluation(summary={**about, "methods": found}, predictions=predictions)


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
    there = data.experiments
    missing = sorted(set(experiments) - set(there.tolist()))
    if missing or not experiments:
        raise InvalidInputError(
            f"evaluate: {path} has no inputs of experiments {missing}; expected some of "
            f"{there.tolist()}."
        )
    return data.of_experiments(np.asarray(experiments))


def _predictions(method: str, output: Output) -> dict[str, Array]:
    values = output.rates | output.extra
    if output.c2 is not None:
        values["g2"] = one_time(output.c2)
    return {f"{method}_{name}": array for name, array in values.items()}


def _identity(ensemble: Ensemble, data: WindowData) -> Document:
    """Return which ensemble it was, and whether the file is the one it was trained on."""
    info = ensemble.info
    return {
        "name": info["name"],
        "sha256": info["sha256"],
        "n_members": info["n_members"],
        "trained_on_this_file": info["trained_on"].get("sha256") == data.sha256,
    }


def truths(data: WindowData) -> dict[str, tuple[IntArray, Output]]:
    """Return the two truths of a data set: the inputs that have it, and what it says of them.

    "target": the mean of all cuts of a series. It contains the input, which flatters methods that
    leave the input as it is. "frame_disjoint": the mean of the cuts that share no frame with the
    input, which is noisier and flatters none; inputs without such cuts are left out, and so is
    this truth where there are none. The rates are those of `weighted_fit`.
    """
    fits = weighted_fit(data.target).select(data.target_index)
    c2, known = disjoint_truth(data)
    rows = np.flatnonzero(known)
    target = Output(rates=rates_of(fits), c2=data.targets)
    found: dict[str, tuple[IntArray, Output]] = {"target": (np.arange(len(data)), target)}
    if len(rows):
        rates = rates_of(weighted_fit(c2[rows]))
        found["frame_disjoint"] = (rows, Output(rates=rates, c2=c2[rows]))
    return found


def figures(output: Output, rows: IntArray, truth: Output, noise: FloatArray) -> Document:
    """Return the figures of one method against one truth, JSON-ready.

    The inputs `rows`, which have this truth, count. `noise` (n,) is the variance of an entry of
    each input.
    """
    rate, sure = truth.rates["gamma"], truth.rates["converged"]
    relative = np.abs(output.rates["gamma"][rows] / rate - 1)
    cost = mse_g2 = np.empty(0)
    if output.c2 is not None and truth.c2 is not None:
        cost, mse_g2 = errors(output.c2[rows], truth.c2)
    found: Document = {
        "n": len(rows),
        "cost": _mean(cost),
        "cost_median": _median(cost),
        "mse_g2": _mean(mse_g2),
        "mse_g2_median": _median(mse_g2),
        "converged_fraction": _mean(output.rates["converged"][rows]),
        "mre_gamma": _mean(relative),
        "mre_gamma_median": _median(relative),
        "mre_gamma_sure": _mean(relative[sure]),
        "mre_gamma_sure_median": _median(relative[sure]),
    }
    for name in ("alpha", "beta", "baseline"):
        difference = output.rates[name][rows] - truth.rates[name]
        found[f"mse_{name}"] = _mean(difference**2)
    found |= _coverage(output, rows, rate)
    found["bands"] = {
        band: _part(relative, (rate >= low) & (rate < high)) for band, (low, high) in BANDS.items()
    }
    place = np.searchsorted(np.quantile(noise[rows], (0.2, 0.4, 0.6, 0.8)), noise[rows])
    found["noise_quintiles"] = {
        name: _part(relative, place == k) for k, name in enumerate(QUINTILES)
    }
    return found


def _main_rows(shown: Mapping[str, Fields]) -> list[list[str]]:
    rows = [["method", *(heading for heading, _, _ in _MAIN)]]
    for method, figures in shown.items():
        values = [(figures[key], form) for _, key, form in _MAIN]
        rows.append(
            [method, *("-" if value is None else format(value, form) for value, form in values)]
        )
    return rows


def _part_rows(shown: Mapping[str, Fields]) -> list[list[str]]:
    rows = [["method", *BANDS, *QUINTILES]]
    for method, figures in shown.items():
        parts = [*figures["bands"].values(), *figures["noise_quintiles"].values()]
        cells = [
            f"{part['median']:.3f} ({part['mean']:.3f})" if part["n"] else "-" for part in parts
        ]
        rows.append([method, *cells])
    return rows


def layout(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as text, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )


def _coverage(output: Output, rows: IntArray, rate: FloatArray) -> dict[str, float | None]:
    """Return the fractions of truths within 1 and 2 standard errors of ln Gamma.

    Rows without a standard error (fits that did not converge) are left out.
    """
    gamma, error = output.rates["gamma"][rows], output.rates["gamma_error"][rows]
    has = np.isfinite(error) & (error > 0)
    distance = np.abs(np.log(gamma / rate))[has] * (gamma / error)[has]
    return {"coverage_1": _mean(distance <= 1), "coverage_2": _mean(distance <= 2)}


def _part(relative: Array, rows: NDArray[np.bool_]) -> Document:
    return {"n": int(rows.sum()), "mean": _mean(relative[rows]), "median": _median(relative[rows])}


def _mean(values: Array) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _median(values: Array) -> float | None:
    return float(np.median(values)) if len(values) else None
