"""What the plots show of a run's state: plain dicts of columns, ready to be sent to a browser."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from xpcs_live_denoise.numerics.fits import fit_g2, fit_power_law, typical_rates
from xpcs_live_denoise.numerics.g2 import g2_from_c2

from .run_state import RunState, for_screen, of_roi, rates_by_roi

COLOUR_RANGE = (1, 99)  # percentiles of the raw C2 off its diagonal
MOST_POINTS = 600  # of one kind in the plot of Gamma(t)
MOST_LAGS = 120
SHOWN_LAGS = 0.85  # of the series
CURVE_POINTS = 200
MOST_WITH_ERRORS = 600  # frames: a longer live series gets the error bars of its g2 at its end
LEAST_FRAMES = 5  # below it g2 has no shape to fit
RATE_COLUMNS = (
    *("x", "y", "lower", "upper", "error", "filled", "reason", "source", "width", "stage"),
)
G2_COLUMNS = ("x", "y", "lower", "upper")
Q_COLUMNS = ("x", "y", "roi", "n")
IMAGE_COLUMNS = ("image", "x", "y", "dw", "dh")
REASONS = {
    "prior": "prior: the data hardly narrow the answer down",
    "no_contrast": "no_contrast: the speckle contrast is too small",
    "too_slow": "too_slow: slower than the series is long, a limit",
    "grid_edge": "grid_edge: at the edge of what is looked for, a limit",
    "not_kww": "not_kww: g2 has another shape than the model",
    "static_or_nonuniform": "static_or_nonuniform: Gamma may be up to twice as high",
}


def two_time(state: RunState, index: int) -> dict[str, Any]:
    """Return the C2 of a ROI: columns of two images, "raw" and "denoised", and their `low`, `high`.

    An image is None where there is nothing to see.
    """
    return state.cached(("c2", index), lambda: _two_time(state, index))


def _two_time(state: RunState, index: int) -> dict[str, Any]:
    n = state.n_frames
    shown: dict[str, Any] = {"raw": None, "denoised": None, "low": 1.0, "high": 1.5}
    if not n or (index, "c2") not in state.maps:
        return shown
    raw = state.map_of(index, "c2").full(n)
    small, edge = for_screen(raw)
    pixel_s = edge * state.map_of(index, "c2").stride * state.frame_time_s
    off = small[~np.eye(len(small), dtype=bool)]
    off = off[np.isfinite(off)]
    if off.size:
        low, high = np.percentile(off, COLOUR_RANGE)
        shown["low"], shown["high"] = float(low), float(max(high, low + 1e-6))
    shown["raw"] = _image(small, pixel_s)
    if (index, "c2_denoised") in state.maps:
        denoised = state.map_of(index, "c2_denoised").full(n)
        both, _ = for_screen(np.where(np.isfinite(denoised), denoised, raw))
        shown["denoised"] = _image(both, pixel_s)
    return shown


def _image(values: np.ndarray, pixel_s: float) -> dict[str, list[Any]]:
    size = len(values) * pixel_s
    return {"image": [values], "x": [0.0], "y": [0.0], "dw": [size], "dh": [size]}


def detector(state: RunState, index: int) -> dict[str, Any] | None:
    """Return the detector image and the outlines of the ROIs, None where the run has none."""
    image = state.picture.get("image")
    if image is None or image.ndim != 2:
        return None
    return state.cached(("picture", index), lambda: _detector(state, index))


def _detector(state: RunState, index: int) -> dict[str, Any]:
    image = np.asarray(state.picture["image"], np.float32)
    rows, cols = image.shape
    binning = state.picture_facts.get("binning") or 1
    height, width = float(rows * binning), float(cols * binning)
    place = {"x": [0.0], "y": [0.0], "dw": [width], "dh": [height]}
    finite = image[np.isfinite(image) & (image > 0)]
    low, high = np.percentile(finite, (2, 99.5)) if finite.size else (0.1, 1.0)
    outline = np.full(image.shape, np.nan, np.float32)
    labels = state.picture.get("roi_labels")
    if labels is not None and labels.shape == image.shape:
        edge = _edges(labels)
        outline[edge] = 0
        outline[edge & (labels == state.labels[index])] = 1
    return {
        "image": {"image": [image], **place},
        "outline": {"image": [outline], **place},
        "low": float(low),
        "high": float(max(high, low * 1.01)),
        "frames": state.picture_facts.get("n_frames"),
    }


def _edges(labels: np.ndarray) -> np.ndarray:
    """Return where a ROI's pixel touches another ROI or the background."""
    padded = np.pad(labels, 1, mode="edge")
    differs = np.zeros(labels.shape, bool)
    for near in (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]):
        differs |= near != labels
    return differs & (labels > 0)


def one_time(state: RunState, index: int) -> dict[str, Any]:
    """Return g2 of a ROI: columns of "raw", "denoised" (points) and of their fits (curves)."""
    return state.cached(("g2", index), lambda: _one_time(state, index))


def _one_time(state: RunState, index: int) -> dict[str, Any]:
    curves = {name: _empty(G2_COLUMNS) for name in ("raw", "denoised", "raw_fit", "denoised_fit")}
    for name in ("raw", "denoised"):
        found = _g2(state, index, name)
        if found is None or not len(found[0]):
            continue
        delay, g2, error = found
        # The last lags rest on a handful of pairs of frames.
        kept = np.flatnonzero(np.isfinite(g2) & (delay <= SHOWN_LAGS * delay[-1]))
        if not len(kept):
            continue
        near = np.geomspace(1, kept[-1] + 1, MOST_LAGS).astype(int) - 1
        kept = kept[np.isin(kept, near)]
        bars = np.nan_to_num(error[kept])
        curves[name] = {
            "x": delay[kept],
            "y": g2[kept],
            "lower": g2[kept] - bars,
            "upper": g2[kept] + bars,
        }
        fit = _series_fit(state, index, name, (delay, g2, error))
        if fit is not None:
            x = np.geomspace(delay[0], delay[kept[-1]], CURVE_POINTS)
            decay = np.exp(-2 * (fit["relaxation_rate"] * x) ** fit["alpha"])
            y = fit["baseline"] + fit["beta"] * decay
            curves[f"{name}_fit"] = {"x": x, "y": y, "lower": y, "upper": y}
    return curves


def _g2(state: RunState, index: int, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return (delay in s, g2, error): the stored one of a finished run, else of C2 so far."""
    delay = state.g2.get("delay_s")
    if state.complete and delay is not None:
        shape = (len(state.labels), len(delay))
        # An analysis that broke off may have left some of them out.
        usable = {key: values[index] for key, values in state.g2.items() if values.shape == shape}
        g2 = usable.get("g2" if name == "raw" else "g2_denoised")
        if g2 is not None:
            unknown = np.full_like(g2, np.nan)
            return delay, g2, usable.get("g2_error", unknown) if name == "raw" else unknown
        if name == "denoised":
            return None
    key = (index, "c2" if name == "raw" else "c2_denoised")
    if key not in state.maps or state.n_frames < LEAST_FRAMES:
        return None
    c2 = state.maps[key]
    values = c2.full(state.n_frames)
    delay = np.arange(1, len(values)) * c2.stride * state.frame_time_s
    if name == "raw" and len(values) <= MOST_WITH_ERRORS:
        g2, error, _ = g2_from_c2(values)
        return delay, g2[0], error[0]
    g2 = means_of_diagonals(values)
    return delay, g2, np.full_like(g2, np.nan)


def means_of_diagonals(c2: np.ndarray) -> np.ndarray:
    """Return the mean of C2 (n, n) at lags 1..n-1, without NaN; NaN where there is nothing else."""
    n = len(c2)
    finite = np.isfinite(c2)
    sums = [_sums_of_diagonals(part) for part in (np.where(finite, c2, 0.0), finite)]
    return np.divide(sums[0], sums[1], where=sums[1] > 0, out=np.full(n - 1, np.nan))


def _sums_of_diagonals(values: np.ndarray) -> np.ndarray:
    n = len(values)
    padded = np.zeros((n, 2 * n))
    padded[:, :n] = values[::-1]
    # One column less shears the rows: diagonals become columns, in the order of their lags.
    return padded.ravel()[:-n].reshape(n, 2 * n - 1).sum(axis=0)[n:]


def _series_fit(
    state: RunState, index: int, name: str, curve: tuple[np.ndarray, ...]
) -> Mapping[str, float] | None:
    """Return the parameters of the fit of the whole series; while it grows, those of a new fit."""
    if state.gamma is not None and state.complete:
        rows = state.gamma
        rows = rows[(rows["source"] == f"series_{name}") & (rows["roi"] == state.labels[index])]
        rows = rows[rows["converged"] & (rows["relaxation_rate"] > 0)].tail(1)
        return rows.iloc[0].to_dict() if len(rows) else None
    delay, g2, error = curve
    known = np.isfinite(error) & (error > 0)
    fit = fit_g2(
        np.where(known, g2, np.nan) if known.any() else g2,
        g2_error=np.where(known, error, 1.0) if known.any() else None,
        frame_time_s=float(delay[0]),
    )
    if not fit.converged[0]:
        return None
    names = ("relaxation_rate", "alpha", "baseline", "beta")
    return {column: float(getattr(fit, column)[0]) for column in names}


def rates(state: RunState, index: int) -> dict[str, dict[str, Any]]:
    """Return Gamma(t) of a ROI: columns of "raw", "denoised", "recommended" and "doubtful"."""
    return state.cached(("gamma", index), lambda: _rates(state, index))


def _rates(state: RunState, index: int) -> dict[str, dict[str, Any]]:
    kinds = ("raw", "denoised", "recommended", "doubtful")
    rows = of_roi(state.gamma, state.labels[index]) if state.labels else None
    if rows is None:
        return {kind: _empty(RATE_COLUMNS) for kind in kinds}
    source, trusted = rows["source"], rows["recommended"]
    chosen = {
        "raw": (source == "raw") & ~trusted,
        "denoised": source.isin(["denoised", "denoised_coarse"]) & ~trusted,
        "recommended": trusted,
        "doubtful": source.str.startswith("bayes") & ~trusted,
    }
    return {kind: _points(rows[mask]) for kind, mask in chosen.items()}


def _points(rows: Any) -> dict[str, Any]:
    if len(rows) > MOST_POINTS:
        rows = rows.iloc[np.linspace(0, len(rows) - 1, MOST_POINTS).astype(int)]
    rate = rows["relaxation_rate"].to_numpy(float)
    error = rows["relaxation_rate_error"].to_numpy(float)
    bar = np.nan_to_num(error)
    final = rows["final"].to_numpy(bool)
    return {
        "x": rows["age_s"].to_numpy(float),
        "y": rate,
        # A bar that reaches below zero has no place on a logarithmic axis: cut it short.
        "lower": np.maximum(rate - bar, 0.1 * rate),
        "upper": rate + bar,
        "error": error,
        "filled": final.astype(float),
        "reason": [REASONS.get(reason, reason) or "recommended" for reason in rows["reason"]],
        "source": rows["source"].tolist(),
        "width": rows["width"].to_numpy(int),
        "stage": ["final" if is_final else "provisional" for is_final in final],
    }


def dispersion(state: RunState) -> dict[str, Any]:
    """Return one typical Gamma a ROI against q^2: "points", "line", and a `title`."""
    return state.cached("q", lambda: _dispersion(state))


def _dispersion(state: RunState) -> dict[str, Any]:
    line = _empty(("x", "y"))
    q = state.q_inv_angstrom
    if not (q > 0).any():
        return {"points": _empty(Q_COLUMNS), "line": line, "title": "q of the ROIs is not known"}
    rates_of_all = rates_by_roi(state.gamma, state.labels)
    typical = typical_rates(rates_of_all) if rates_of_all.shape[1] else np.full(len(q), np.nan)
    good = (q > 0) & np.isfinite(typical)
    points = {
        "x": q[good] ** 2,
        "y": typical[good],
        "roi": np.array(state.labels)[good],
        "n": np.isfinite(rates_of_all).sum(axis=1)[good],
    }
    law = fit_power_law(q, typical)
    if law is None:
        title = f"{good.sum()} of {len(q)} ROIs so far"
    else:
        ends = np.array([q[good].min() / 1.1, q[good].max() * 1.1])
        line = {"x": ends**2, "y": law.scale * ends**law.exponent}
        title = f"Γ ∝ q^({law.exponent:.2f} ± {law.exponent_error:.2f})"
    return {"points": points, "line": line, "title": title}


def _empty(columns: tuple[str, ...]) -> dict[str, Any]:
    return {name: [] for name in columns}
