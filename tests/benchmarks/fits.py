"""KWW fits a second, and their ratio to a loop over scipy's curve_fit in the same run.

    python -m tests.benchmarks.fits [--curves 2000] [--lags 50 350] [--noise 0.03] [--reference 40]

The curves are g2 with known parameters and white noise, contrast 0.3. The loop gets bounds and a
good guess; it runs over the first curves only, and its rate does not depend on how many.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import curve_fit

from xpcs_live_denoise.numerics.kww import fit_kww, kww

BETA = 0.3


def curves(count: int, n_lag: int, noise: float) -> np.ndarray[Any, Any]:
    """Return `count` noisy g2, (count, n_lag), of rates that a series of that length tells."""
    rng = np.random.default_rng(0)
    rate = np.exp(rng.uniform(np.log(2.0 / n_lag), np.log(0.2), (count, 1)))
    alpha = rng.uniform(0.7, 1.8, (count, 1))
    g2 = kww(np.arange(1, n_lag + 1), rate, alpha, BETA, 1.0)
    return g2 + noise * rng.standard_normal(g2.shape)


def seconds_ours(g2: np.ndarray[Any, Any], noise: float, beta: float | None) -> float:
    """Return the time of one batched fit of all curves."""
    lags = np.arange(1, g2.shape[1] + 1)
    begin = time.perf_counter()
    fit_kww(lags, g2, 1 / noise**2, beta=beta)
    return time.perf_counter() - begin


def seconds_scipy(g2: np.ndarray[Any, Any], noise: float, beta: float | None) -> float:
    """Return the time of a loop that fits one curve after another."""
    lags = np.arange(1.0, g2.shape[1] + 1)
    low, high, start = [1e-3, 0.3, 0.5, 0.05], [1.0, 2.5, 1.5, 2.0], [0.05, 1.0, 1.0, BETA]
    n_free = 4 if beta is None else 3

    def model(lag: Any, rate: float, alpha: float, baseline: float, contrast: float = BETA) -> Any:
        return kww(lag, rate, alpha, contrast, baseline)

    begin = time.perf_counter()
    for curve in g2:
        try:
            curve_fit(
                model,
                lags,
                curve,
                start[:n_free],
                sigma=np.full(lags.size, noise),
                absolute_sigma=True,
                bounds=(low[:n_free], high[:n_free]),
            )
        except RuntimeError:  # too many evaluations: part of what such a loop costs
            continue
    return time.perf_counter() - begin


def run(n_curves: int, n_lag: int, noise: float, n_reference: int) -> dict[str, float]:
    """Return fits a second of both, for beta fixed and free, and the ratios."""
    g2 = curves(n_curves, n_lag, noise)
    rates: dict[str, float] = {}
    for name, beta in (("beta fixed", BETA), ("beta free", None)):
        rates[f"ours, {name}"] = n_curves / seconds_ours(g2, noise, beta)
        some = g2[:n_reference]
        rates[f"scipy, {name}"] = len(some) / seconds_scipy(some, noise, beta)
        rates[f"ratio, {name}"] = rates[f"ours, {name}"] / rates[f"scipy, {name}"]
    return rates


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--curves", type=int, default=2000)
    parser.add_argument("--lags", type=int, nargs="+", default=[50, 350])
    parser.add_argument("--noise", type=float, default=0.03)
    parser.add_argument("--reference", type=int, default=40, help="curves in the scipy loop")
    options = parser.parse_args(arguments)
    for n_lag in options.lags:
        rates = run(options.curves, n_lag, options.noise, options.reference)
        for name in ("beta fixed", "beta free"):
            print(
                f"{n_lag} lags, {name}: {rates[f'ours, {name}']:.0f} fits/s, "
                f"{rates[f'ratio, {name}']:.0f} times a curve_fit loop "
                f"({rates[f'scipy, {name}']:.0f} fits/s)"
            )


if __name__ == "__main__":
    main()
