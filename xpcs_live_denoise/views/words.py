"""The words of a run, and how everything looks: title, facts, reasons, colours, markers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from xpcs_live_denoise.records.run import Status
from xpcs_live_denoise.records.types import Fields, FloatArray

# Okabe and Ito's colours, which the colour-blind can tell apart; the markers differ as well.
RAW, DENOISED, RECOMMENDED, DOUBTFUL = "#8C8C8C", "#0072B2", "#D55E00", "#8A4A83"
CUTS = "#E69F00"
# Of several runs or results over each other: theirs without yellow and black, and two of ours.
OVERLAY = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#8A4A83", "#8C8C8C",
)  # fmt: skip
FIT = "#404040"  # of raw data, and of Gamma against q
UNKNOWN = "#E8E8E8"  # pixels of which nothing is known
C2_COLOURS, DETECTOR_COLOURS = "viridis", "cividis"

# The panels in their order, row by row: title, x label, y label. The heterogeneity stands below g2,
# with its delays.
PANELS: Mapping[str, tuple[str, str, str]] = {
    "detector": ("Detector", "column (px)", "row (px)"),
    "c2_raw": ("Raw C2", "t₁ (s)", "t₂ (s)"),
    "c2_denoised": ("Denoised C2", "t₁ (s)", "t₂ (s)"),
    "g2": ("g₂", "", "g₂"),
    "heterogeneity": ("Heterogeneity", "delay (s)", "χ"),
    "gamma": ("Γ(t)", "age (s)", "Γ (1/s)"),
    "power_law": ("Γ against q²", "q² (Å⁻²)", "typical Γ (1/s)"),
}

MODEL_TITLE = "Model C2, of the path"  # in the place of the denoised one where a user asks for it
# In its place where a bin of the map holds several frames: by whether anything was denoised.
SHORT_LAGS_TITLES = ("Short lags, raw", "Short lags, denoised")
SHORT_LAGS_LABEL = "lag (s)"
NO_IMAGE = "no image"  # of the detector

# Kinds of points of Gamma(t), later ones over earlier ones: legend, colour, marker of matplotlib.
KINDS: Mapping[str, tuple[str, str, str]] = {
    "raw": ("raw fits", RAW, "o"),
    "denoised": ("denoised", DENOISED, "s"),
    "cuts": ("fits of cuts", CUTS, "D"),
    "doubtful": ("not recommended", DOUBTFUL, "X"),
    "recommended": ("recommended", RECOMMENDED, "o"),
}

OTHER_MARKER = "h"
# Why a rate is not recommended: what to call it, and its marker. Limits point where the value is.
REASONS: Mapping[str, tuple[str, str]] = {
    "prior": ("error of ln Γ above 0.5", "p"),
    "no_contrast": ("no contrast: lower limit", "^"),
    "too_slow": ("too slow: upper limit", "v"),
    "no_data": ("no frames at this age", OTHER_MARKER),
    "grid_edge": ("edge of the grid: a limit", "s"),
    "not_kww": ("another curve than KWW", "P"),
    "static_or_nonuniform": ("static or non-uniform: Γ up to twice as high", "X"),
}
# Why to be careful with a rate that is recommended; the factor by which it may be higher follows.
CAUTIONS: Mapping[str, str] = {
    "static_not_excluded": "static speckle is not excluded",
    "static_undecidable": "speckle is too small to tell static speckle from a white flat field",
    "static_or_nonuniform": "static or non-uniform, which C2 alone cannot tell",
    "baseline_below_1": "the baseline is below 1: intensity drifts inside the ROI",
    "alpha_is_prior": "the data hardly tell alpha",
    "several_rates": "alpha below 0.6: maybe several rates at once",
    "contrast_drifts": "the contrast changes with age, as with a background",
    "per_frame": "the frame period is not known: Γ in 1/frame, ages in frames",
    "errors_uncertain": "errors may be off by a factor of 2",
}

# Units of an axis of times: name, s, and the end from which on it has this unit, s.
LONG_UNITS = (("h", 3600.0, 10_800.0), ("min", 60.0, 600.0), ("s", 1.0, -math.inf))

# What the exit status of a run is called; a run without one is live.
STATES: Mapping[str, str] = {"success": "finished", "fail": "failed", "abort": "aborted"}
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")


def axis_unit(time_unit: str, end_s: float) -> tuple[str, float]:
    """Return the unit of an axis of times that ends at `end_s`, and how many of `time_unit` it is.

    Long series are read in minutes or hours; "frame" stays "frame".
    """
    if time_unit != "s":
        return time_unit, 1.0
    return next((name, long) for name, long, least in LONG_UNITS if end_s >= least)


def in_unit(label: str, time_unit: str, end_s: float = 0.0) -> str:
    """Return the label of an axis for times in "s", or in another unit: "frame".

    An axis that ends late has the unit of `axis_unit`.
    """
    if time_unit == "s":
        return label.replace("(s)", f"({axis_unit(time_unit, end_s)[0]})")
    return label.replace("(s)", f"({time_unit}s)").replace("(1/s)", f"(1/{time_unit})")


def reason_words(reason: str) -> str:
    """Return what to call a reason for not recommending a rate; "recommended" for none."""
    if not reason:
        return "recommended"
    return REASONS[reason][0] if reason in REASONS else reason.replace("_", " ")


def caution_words(caution: str) -> str:
    """Return what the cautions of a row say, "" for none."""
    said: list[str] = []
    for one in caution.split():
        name, _, factor = one.partition(":")
        words = CAUTIONS.get(name, name.replace("_", " "))
        said.append(f"{words}: Γ up to {factor} times as high" if factor else words)
    return "; ".join(said)


def verdict_words(reason: str, caution: str) -> str:
    """Return whether a rate is recommended, why not, and what to be careful with."""
    return "; ".join(part for part in (reason_words(reason), caution_words(caution)) if part)


def reason_marker(reason: str) -> str:
    """Return matplotlib's marker for rates that are not recommended for this reason."""
    return REASONS[reason][1] if reason in REASONS else OTHER_MARKER


def default_roi(labels: Sequence[int], wanted: int | None = None) -> int:
    """Return the index of the ROI that is shown: the wanted one (its label), or the middle one."""
    return labels.index(wanted) if wanted in labels else len(labels) // 2


def sample_name(start: Fields) -> str:
    """Return the name of the sample in a start document, empty where there is none."""
    sample = start.get("sample") or start.get("sample_name") or ""
    return str(sample.get("name", "") if isinstance(sample, Mapping) else sample)


def run_title(start: Fields, uid: str, *parts: str) -> str:
    """Return what a run is called: "Scan 77 · 1a2b3c4d · silica", and what else is given.

    `uid` is that of the raw run; empty parts are left out. Names are as long as they are: who draws
    the title shortens it.
    """
    xpcs = start.get("xpcs")
    scan = start.get("scan_id") or (xpcs.get("scan_id") if isinstance(xpcs, Mapping) else None)
    known = (f"Scan {scan}" if scan else "Run", uid[:8], sample_name(start))
    return " · ".join(part for part in (*known, *parts) if part)


def map_title(frames_per_bin: int) -> str:
    """Return what the map of C2 is called."""
    title = PANELS["c2_raw"][0]
    return title if frames_per_bin == 1 else f"{title}, {frames_per_bin} frames/bin"


def roi_title(label: int, q_inv_angstrom: float, phi_deg: float = math.nan) -> str:
    """Return what a ROI is called, with its q and azimuth where these are known."""
    known = f", q = {q_inv_angstrom:.4g} Å⁻¹" if math.isfinite(q_inv_angstrom) else ""
    known += f", φ = {phi_deg:.4g}°" if math.isfinite(phi_deg) else ""
    return f"ROI {label}{known}"


def facts(
    status: Status,
    roi: int,
    *,
    n_frames: int,
    n_expected: int | None,
    frame_time_s: float,
    time_unit: str = "s",
    counts: float,
    live: bool,
) -> list[tuple[str, str]]:
    """Return the facts of a run and the ROI with an index, (name, value) pairs in their order.

    `n_frames` are in C2, `counts` a pixel and frame, NaN where not known. The dose is what a pixel
    of the ROI has counted in all, mean counts times frames: the flux of the beam is not known here.
    """
    contrast = status.contrast[roi] if roi < len(status.contrast) else math.nan
    found = [
        ("frames", f"{n_frames} of {n_expected}" if n_expected else f"{n_frames}"),
        ("contrast β*", f"{contrast:.3f}" if math.isfinite(contrast) else "–"),
    ]
    if math.isfinite(counts):
        found.append(("counts", f"{counts:.3g} /px/frame"))
        if status.n_processed:
            found.append(("dose", f"{counts * status.n_processed:.3g} counts/px"))
    if live and math.isfinite(status.lag_s):
        found.append(("behind the detector", f"{status.lag_s:.2f} s"))
    found.append(("skipped frames", f"{status.n_skipped}"))
    known = time_unit == "s"
    found.append(("frame time", f"{frame_time_s * 1e3:.4g} ms" if known else "unknown"))
    return found


def message(*texts: str) -> str:
    """Return what a user should know, each sentence of the texts once."""
    sentences = [one for text in texts for one in SENTENCE_END.split(text.strip()) if one]
    # One that ends another, "Analysis failed: ..." for example, is said there.
    said = [one for one in sentences if not any(_ends(two, one) for two in sentences)]
    return " ".join(dict.fromkeys(said))


def _ends(whole: str, part: str) -> bool:
    return whole != part and whole.endswith(f": {part}")


def has_denoiser(xpcs: Fields) -> bool:
    """Whether the analysis of a result has an ensemble; earlier versions did not tell."""
    return xpcs.get("model", {}) is not None


def why_not_denoised(n_frames: int, window: int, *, final: bool, has_denoiser: bool = True) -> str:
    """Return why there is no denoised C2 to show."""
    if not has_denoiser:
        return "no denoiser"
    return "not denoised" if final or n_frames >= window else f"denoised from {window} frames on"


def why_no_rates(window: int, *, final: bool) -> str:
    """Return why there is no rate to show."""
    return "no fit converged" if final else f"waiting for the first {window} frames"


def why_no_frames(*, final: bool) -> str:
    """Return why there is nothing at all to show."""
    return "no frames" if final else "waiting for frames"


def age_label(n_effective: FloatArray) -> str:
    """Return the label of the axis of ages, of points worth `n_effective` (n,) independent ones."""
    label, known = PANELS["gamma"][1], n_effective[np.isfinite(n_effective)]
    if not known.size:
        return label
    return f"{label}, worth {known[-1]:.2g} independent points"


def rate_words(rate: float, error: float) -> str:
    """Return a rate with its error, where that is known."""
    return f"{rate:.3g}" if math.isnan(error) else f"{rate:.3g} +- {error:.1g}"


def progress_line(
    status: Status, n_expected: int | None, rates: Mapping[int, str], time_unit: str = "s"
) -> str:
    """Return one line that says where a run stands, with the newest rate of each ROI label."""
    expected = "" if n_expected is None else f"/{n_expected}"
    skipped = f"  skipped {status.n_skipped}" if status.n_skipped else ""
    newest = "  ".join(f"ROI {label} {rate}" for label, rate in rates.items())
    return (
        f"frames seen {status.n_seen}{expected}  processed {status.n_processed}{skipped}  "
        f"lag {status.lag_s:.2f} s  {in_unit('Gamma now (1/s)', time_unit)}: {newest}"
    )
