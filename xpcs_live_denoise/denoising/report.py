"""The figures of each method against each truth, and the tables that show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .data import WindowData
from .methods import Output
from .metrics import errors_against, summary
from .truth import Truth

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


def figures(output: Output, truth: Truth, noise: NDArray[np.float64]) -> dict[str, Any]:
    """Return the figures of one method against one truth, JSON-ready.

    Parameters
    ----------
    output
        Of all n inputs.
    truth
        Of some of them; only those count.
    noise
        Shape (n,): variance of an entry of each input. Its quintiles are those of the inputs that
        count.
    """
    rows = truth.rows
    relative = np.abs(output.rates.gamma[rows] / truth.rates.relaxation_rate - 1)
    nothing = np.empty(0)
    cost, mse_g2 = (
        (nothing, nothing) if output.c2 is None else errors_against(output.c2[rows], truth.c2)
    )
    found: dict[str, Any] = {
        "n": len(rows),
        "cost": _mean(cost),
        "cost_median": _median(cost),
        "mse_g2": _mean(mse_g2),
        "mse_g2_median": _median(mse_g2),
        "converged_fraction": _mean(output.rates.converged[rows]),
        "mre_gamma": _mean(relative),
        "mre_gamma_median": _median(relative),
        "mre_gamma_sure": _mean(relative[truth.rates.converged]),
        "mre_gamma_sure_median": _median(relative[truth.rates.converged]),
    }
    for name in ("alpha", "beta", "baseline"):
        difference = getattr(output.rates, name)[rows] - getattr(truth.rates, name)
        found[f"mse_{name}"] = _mean(difference**2)
    found |= _coverage(output, truth)
    rate = truth.rates.relaxation_rate
    found["bands"] = {
        band: _part(relative, (rate >= low) & (rate < high)) for band, (low, high) in BANDS.items()
    }
    place = np.searchsorted(np.quantile(noise[rows], (0.2, 0.4, 0.6, 0.8)), noise[rows])
    found["noise_quintiles"] = {
        name: _part(relative, place == k) for k, name in enumerate(QUINTILES)
    }
    return found


def c2_figures(output: Output, data: WindowData) -> dict[str, Any]:
    """Return how much nearer to the truth than raw a method brings C2 and g2, and its speed."""
    improved = summary(data.c2 if output.c2 is None else output.c2, data)
    keep = ("improved_fraction", "improved_fraction_g2")
    speed = {"us_per_window": 1e6 * output.seconds / len(data)}
    return {key: improved[key] for key in keep} | speed


def tables(summary: Mapping[str, Any]) -> str:
    """Return the figures of all methods as tables to read: each truth, then bands and quintiles."""
    parts: list[str] = []
    for name, about in summary["truths"].items():
        shown = {
            method: {**figures, **figures[name]} for method, figures in summary["methods"].items()
        }
        parts.append(f"Against {about['of']} ({about['n']} inputs):")
        parts.append(_layout(_main_rows(shown)))
        parts.append("Median (mean) relative error of Gamma, by true Gamma a frame and by noise:")
        parts.append(_layout(_part_rows(shown)))
    return "\n\n".join(parts)


def _main_rows(shown: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    rows = [["method", *(heading for heading, _, _ in _MAIN)]]
    for method, figures in shown.items():
        values = [(figures[key], form) for _, key, form in _MAIN]
        rows.append(
            [method, *("-" if value is None else format(value, form) for value, form in values)]
        )
    return rows


def _part_rows(shown: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    rows = [["method", *BANDS, *QUINTILES]]
    for method, figures in shown.items():
        parts = [*figures["bands"].values(), *figures["noise_quintiles"].values()]
        cells = [
            f"{part['median']:.3f} ({part['mean']:.3f})" if part["n"] else "-" for part in parts
        ]
        rows.append([method, *cells])
    return rows


def _layout(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )


def _coverage(output: Output, truth: Truth) -> dict[str, float | None]:
    """Return the fractions of truths within 1 and 2 standard errors of ln Gamma.

    Rows without a standard error (fits that did not converge) are left out.
    """
    gamma, error = output.rates.gamma[truth.rows], output.rates.gamma_error[truth.rows]
    has = np.isfinite(error) & (error > 0)
    distance = np.abs(np.log(gamma / truth.rates.relaxation_rate))[has] * (gamma / error)[has]
    return {"coverage_1": _mean(distance <= 1), "coverage_2": _mean(distance <= 2)}


def _part(relative: NDArray[Any], rows: NDArray[np.bool_]) -> dict[str, Any]:
    return {"n": int(rows.sum()), "mean": _mean(relative[rows]), "median": _median(relative[rows])}


def _mean(values: NDArray[Any]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _median(values: NDArray[Any]) -> float | None:
    return float(np.median(values)) if len(values) else None
