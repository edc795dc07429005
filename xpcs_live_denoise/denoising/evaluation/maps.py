"""Compare denoisers on whole C2 of dynamics that none was trained on: short and long lags, fits."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, uniform_filter1d

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.any_size import rows_of_maps
from xpcs_live_denoise.numerics.fits import fit_ages
from xpcs_live_denoise.records.types import Array, Document, FloatArray

from .evaluate import layout
from .unseen_dynamics import CLASSES, UnseenMap, simulate_unseen

SHORT_LAGS = 50  # up to here, and above, errors are told apart
WIDTH = 3.0  # frames, sigma of the Gaussian filter
AGES = 65  # within so many, what varies is heterogeneity
HETEROGENEITY_LAGS = (2, 24)
_HETEROGENEOUS = ("avalanches", "sawtooth")

# A denoiser of one C2, (n, n) -> (n, n). NaN where it has nothing to say.
MapMethod = Callable[[FloatArray], FloatArray]

_COLUMNS = (
    ("MSE 1-50", "mse_short", ".5f"),
    ("exp(mean ln)", "typical_mse_short", ".5f"),
    ("MSE > 50", "mse_long", ".5f"),
    ("exp(mean ln)", "typical_mse_long", ".5f"),
    ("RMS ln Gamma", "rms_ln_gamma", ".2f"),
    ("converged", "converged", ".2f"),
    ("heterogeneity", "heterogeneity", ".2f"),
    ("s a map", "seconds", ".2f"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MapEvaluation:
    """What `evaluate_maps` found.

    Attributes
    ----------
    summary
        JSON-ready: `cases`, and under `methods` for each its figures, over all cases and by
        `kinds`. MSE is in units of beta^2, at lags 1-50 and above, as mean and as exponential of
        the mean logarithm, in which every case counts alike; `rms_ln_gamma` and `converged` are of
        the paper's fit at every age, all fits, converged or not; `heterogeneity` is the variance of
        C2 within 65 ages over that of the truth: 1 kept, 0 erased.
    """

    summary: Document

    def to_json(self) -> str:
        """Return the summary as JSON text."""
        return json.dumps(self.summary, indent=2)

    def table(self) -> str:
        """Return tables to read, one line a method: of all cases, then the error by kind."""
        methods, kinds = self.summary["methods"], self.summary["kinds"]
        main = [["method", *(heading for heading, _, _ in _COLUMNS)]]
        by_kind = [["method", *kinds]]
        for name, found in methods.items():
            main.append([name, *(_cell(found[key], form) for _, key, form in _COLUMNS)])
            cells = [
                f"{_cell(found['kinds'][kind]['typical_mse_short'], '.5f')} / "
                f"{_cell(found['kinds'][kind]['typical_mse_long'], '.5f')}"
                for kind in kinds
            ]
            by_kind.append([name, *cells])
        about = f"{self.summary['n_cases']} simulated C2 of {self.summary['n_frames']} frames:"
        return "\n\n".join(
            [about, layout(main), "exp(mean ln MSE), lags 1-50 / above:", layout(by_kind)]
        )


def gaussian_map(c2: FloatArray) -> FloatArray:
    """Return a C2 after a Gaussian filter of sigma 3, its diagonal replaced by its neighbours."""
    filled = c2.copy()
    neighbours = np.diagonal(c2, 1)
    padded = np.concatenate([neighbours[:1], neighbours, neighbours[-1:]])
    np.fill_diagonal(filled, (padded[1:] + padded[:-1]) / 2)
    return gaussian_filter(filled, WIDTH)


def evaluate_maps(
    methods: Mapping[str, MapMethod],
    *,
    n_frames: Sequence[int] = (350, 1000),
    kinds: Sequence[str] = CLASSES,
    counts: Sequence[float] = (0.05, 0.3),
    modes: Sequence[int] = (4, 12),
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> MapEvaluation:
    """Simulate C2 of every kind, length, brightness and contrast, and let all methods denoise them.

    Parameters
    ----------
    methods
        What denoises a C2, (n, n) -> (n, n), by name.
    n_frames, kinds, counts, modes
        Of the cases, all combinations; see `simulate_unseen`.
    seed
        Seeds the cases.
    progress
        Called with the cases that are done, and of how many.

    Raises
    ------
    InvalidInputError
        For a kind that is none, or without methods.
    """
    if not methods or not kinds or set(kinds) - set(CLASSES):
        raise InvalidInputError(
            f"evaluate: got methods {list(methods)} and kinds {list(kinds)}; expected at least "
            f"one method, and some of {list(CLASSES)}."
        )
    cases = [(k, n, c, m) for n in n_frames for k in kinds for c in counts for m in modes]
    found: dict[str, list[Document]] = {name: [] for name in methods}
    for index, (kind, n, count, mode) in enumerate(cases):
        case = simulate_unseen(kind, n, counts=count, modes=mode, seed=seed + index)
        for name, method in methods.items():
            start = time.perf_counter()
            denoised = np.asarray(method(case.c2), np.float64)
            seconds = time.perf_counter() - start
            found[name].append({**figures(case, denoised), "seconds": seconds})
        if progress is not None:
            progress(index + 1, len(cases))
    names = ("kind", "n_frames", "counts", "modes")
    return MapEvaluation(
        summary={
            "n_cases": len(cases),
            "n_frames": list(n_frames),
            "kinds": list(kinds),
            "cases": [dict(zip(names, c, strict=True)) for c in cases],
            "methods": {
                name: {
                    **_means(rows),
                    "kinds": {
                        kind: _means([row for row in rows if row["kind"] == kind]) for kind in kinds
                    },
                }
                for name, rows in found.items()
            },
        }
    )


def figures(case: UnseenMap, denoised: FloatArray) -> Document:
    """Return how far one denoised C2 is from the truth; NaN for what cannot be said."""
    n = len(case.c2)
    rows, truth = (rows_of_maps(one[None])[0] for one in (denoised, case.truth))
    squares = (rows - truth) ** 2 / case.beta**2  # (t, lag)
    found: Document = {"kind": case.kind}
    ranges = {"short": (1, SHORT_LAGS + 1), "long": (SHORT_LAGS + 1, 7 * n // 8)}
    for name, (first, stop) in ranges.items():
        part = squares[:, first:stop]
        there = np.isfinite(truth[:, first:stop])
        known = np.isfinite(part[there]).mean() if there.any() else 0.0
        # A method that leaves out what is difficult has no error there.
        found[f"mse_{name}"] = float(np.nanmean(part)) if known > 0.99 else np.nan
    found["rms_ln_gamma"] = found["converged"] = np.nan
    if case.rate is not None and np.isfinite(denoised).all(axis=None, where=~np.eye(n, dtype=bool)):
        filled = np.where(np.isfinite(denoised), denoised, 1.0)
        fits = fit_ages(filled, beta=case.beta)
        wrong = np.log(fits.relaxation_rate / case.rate[fits.age_frame.astype(np.int64)])
        # The last ages have too few lags to be fitted at all.
        found["rms_ln_gamma"] = float(np.sqrt(np.mean(wrong[np.isfinite(wrong)] ** 2)))
        found["converged"] = float(fits.converged.mean())
    found["heterogeneity"] = np.nan
    if case.kind in _HETEROGENEOUS:
        found["heterogeneity"] = _fluctuation(rows) / _fluctuation(truth)
    return found


def _fluctuation(rows: FloatArray) -> float:
    """Return the variance of rows C2(t, t - lag), (t, lag), within 65 ages, at short lags."""
    first, last = HETEROGENEITY_LAGS
    some = rows[last:, first : last + 1]
    smooth = uniform_filter1d(some, AGES, axis=0, mode="nearest")
    return float(np.mean((some - smooth) ** 2))


def _means(rows: Sequence[Document]) -> Document:
    """Return the figures over cases; None for those that no case has."""
    found: Document = {}
    for key in ("mse_short", "mse_long", "heterogeneity", "converged", "seconds"):
        found[key] = _finite_mean(np.array([row[key] for row in rows]))
    for key in ("short", "long"):
        ln = np.log(np.array([row[f"mse_{key}"] for row in rows]))
        mean = _finite_mean(ln)
        found[f"typical_mse_{key}"] = None if mean is None else float(np.exp(mean))
    squares = _finite_mean(np.array([row["rms_ln_gamma"] for row in rows]) ** 2)
    found["rms_ln_gamma"] = None if squares is None else float(np.sqrt(squares))
    return found


def _finite_mean(values: Array) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
