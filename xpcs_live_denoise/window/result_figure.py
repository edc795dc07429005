"""The figure of one result: C2 raw and denoised, g2, and Gamma(t)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xpcs_live_denoise.errors import MissingDependencyError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from xpcs_live_denoise.readers import XPCSResult

STYLES = {
    "raw": {"color": "0.6", "marker": ".", "markersize": 4, "zorder": 1},
    "denoised": {"color": "tab:blue", "marker": "o", "markersize": 3, "zorder": 2},
}
# What can be trusted stands out; what cannot is hollow.
RECOMMENDED = {"color": "tab:red", "marker": "o", "markersize": 4, "zorder": 4}
COLOUR_RANGE = (1, 99)  # percentiles of the raw C2 off its diagonal
SHOWN_LAGS = 0.8  # of the series: what the scale of g2 is taken from
SHOWN_RATES = (2, 98)  # percentiles of the converged rates: the scale of Gamma is three times wider
LEAST_LAG = 1  # the diagonal is no correlation


def plot_result(result: XPCSResult, roi: int) -> Figure:
    """Return the figure; see `XPCSResult.plot`.

    Both C2 share one colour scale, so that what denoising took away is seen and not rescaled.

    Raises
    ------
    MissingDependencyError
        Without matplotlib.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise MissingDependencyError(
            "XPCSResult.plot: matplotlib is not installed. It comes with the extra `plot`: "
            "pip install 'xpcs-live-denoise[plot]'."
        ) from error
    figure, axes = plt.subplots(2, 2, figsize=(11, 9), layout="constrained")
    _plot_c2(figure, axes[0], result, roi)
    _plot_g2(axes[1, 0], result, roi)
    _plot_gamma(axes[1, 1], result, roi)
    start = result.start
    q = result.c2(roi, denoised=False)["q_inv_angstrom"].item()
    figure.suptitle(
        f"scan {start.get('scan_id', '-')} ({start['original_run_uid'][:8]}), ROI {roi}"
        + (f", q = {q:.4g} 1/Å" if np.isfinite(q) else "")
    )
    return figure


def _plot_c2(figure: Figure, axes: Any, result: XPCSResult, roi: int) -> None:
    raw = result.c2(roi, denoised=False)
    lag = np.abs(np.subtract.outer(np.arange(raw.shape[0]), np.arange(raw.shape[0])))
    off_diagonal = raw.values[(lag >= LEAST_LAG) & np.isfinite(raw.values)]
    low, high = np.percentile(off_diagonal, COLOUR_RANGE) if off_diagonal.size else (0.0, 2.0)
    shown = [("raw", raw)]
    if result.has("two_time", "c2_denoised"):
        shown.append(("denoised", result.c2(roi)))
    else:
        axes[1].text(0.5, 0.5, "nothing was denoised", ha="center", transform=axes[1].transAxes)
    edge = float(raw["t1_s"][-1]) + result.xpcs["frame_time_s"]
    for axis, (name, c2) in zip(axes, shown, strict=False):
        axis.set(title=f"C2, {name}", xlabel="t1 (s)", ylabel="t2 (s)")
        image = axis.imshow(
            c2.values.T,
            origin="lower",
            extent=(0, edge, 0, edge),
            vmin=low,
            vmax=high,
            interpolation="nearest",
        )
        figure.colorbar(image, ax=axis, label="C2", shrink=0.8)


def _plot_g2(axis: Axes, result: XPCSResult, roi: int) -> None:
    table: Any = result.g2_table()
    table = table[table["roi"] == roi]
    axis.set(title="g2 of the whole series", xlabel="delay (s)", ylabel="g2")
    if not len(table):
        axis.text(0.5, 0.5, "not before the end of the run", ha="center", transform=axis.transAxes)
        return
    axis.set_xscale("log")
    axis.errorbar(
        table["delay_s"], table["g2"], table["g2_error"], linestyle="", label="raw", **STYLES["raw"]
    )
    # The last lags rest on a handful of pairs of frames; they must not set the scale.
    inner = table[table["delay_s"] <= SHOWN_LAGS * table["delay_s"].max()]
    values = inner[["g2", "g2_denoised"]].to_numpy(dtype=float)
    margin = 0.1 * (np.nanmax(values) - np.nanmin(values)) or 0.1
    axis.set_ylim(np.nanmin(values) - margin, np.nanmax(values) + margin)
    if table["g2_denoised"].notna().any():
        axis.plot(
            table["delay_s"],
            table["g2_denoised"],
            color="tab:blue",
            label="denoised",
            zorder=2,
        )
    axis.legend()


def _plot_gamma(axis: Axes, result: XPCSResult, roi: int) -> None:
    table: Any = result.gamma_table()
    table = table[(table["roi"] == roi) & table["age_frame"].notna() & table["converged"]]
    axis.set(title="Gamma(t)", xlabel="age (s)", ylabel="Gamma (1/s)")
    for source, style in STYLES.items():
        _plot_rates(axis, table[table["source"] == source], source, style)
    bayes = table[table["source"].str.startswith("bayes")]
    trusted = bayes["recommended"]
    _plot_rates(axis, bayes[trusted], "recommended", RECOMMENDED)
    hollow = {**RECOMMENDED, "markerfacecolor": "none"}
    _plot_rates(axis, bayes[~trusted], "bayes, not recommended", hollow)
    if len(table):
        axis.set_yscale("log")
        low, high = np.percentile(table["relaxation_rate"], SHOWN_RATES)
        axis.set_ylim(low / 3, high * 3)  # an error bar may reach farther than any rate
        axis.legend()
    else:
        axis.text(0.5, 0.5, "no converged fit yet", ha="center", transform=axis.transAxes)


def _plot_rates(axis: Axes, rows: Any, label: str, style: dict[str, Any]) -> None:
    if not len(rows):
        return
    # A bar that reaches below zero has no place on a logarithmic axis: cut it short.
    error = rows["relaxation_rate_error"].to_numpy()
    below = np.minimum(error, 0.9 * rows["relaxation_rate"].to_numpy())
    axis.errorbar(
        rows["age_s"],
        rows["relaxation_rate"],
        np.nan_to_num(np.stack([below, error])),
        linestyle="",
        elinewidth=0.6,
        label=f"{label} fits" if label == "raw" else label,
        **style,
    )
