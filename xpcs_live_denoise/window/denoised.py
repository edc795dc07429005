"""Draws an image of few counts beside the denoised one, and how far the second can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xpcs_live_denoise.errors import MissingDependencyError, install_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from xpcs_live_denoise.records.frame_results import DenoisedFrame, RingTable

_MEASURED, _DENOISED = "#8c8c8c", "#30638e"


def draw_denoised(image: DenoisedFrame, title: str) -> Figure:
    """Draw measured and denoised image in the same colours, and I(q) or the evidence by blocks.

    Raises
    ------
    MissingDependencyError
        Without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            f"draw_denoised: matplotlib is needed to draw ({error}). {install_line('plot')}."
        ) from error
    figure = Figure(figsize=(13, 4.3), layout="constrained")
    figure.suptitle(f"{title}{': ' + image.note if image.note else ''}", fontsize=10)
    left, middle, right = figure.subplots(1, 3)
    known = image.denoised[~image.kept]
    low, high = np.percentile(known, (1, 99.7)) if known.size else (0.0, 1.0)
    for axes, values, name in ((left, image.measured, "measured"), (middle, image.denoised,
                                                                   "denoised")):  # fmt: skip
        shown = np.where(image.kept, np.nan, values)
        drawn = axes.imshow(shown, vmin=low, vmax=max(high, low + 1e-9), interpolation="nearest")
        axes.set_title(name)
        axes.set_xlabel("column")
        axes.set_ylabel("row")
    figure.colorbar(drawn, ax=middle, label="counts")
    if image.rings is not None:
        _draw_rings(right, image.rings)
    elif image.evidence is not None:
        drawn = right.imshow(image.evidence, cmap="RdBu", vmin=-6, vmax=6)
        figure.colorbar(drawn, ax=right, label="structure confirmed (> 2), contradicted (< -2)")
        right.set_title("blocks of 32 x 32 pixels")
    else:
        right.set_axis_off()
    return figure


def _draw_rings(axes: Any, rings: RingTable) -> None:
    radius = rings.radius_px
    measured, error = rings.measured, rings.measured_error
    axes.errorbar(radius, measured, error, fmt=".", color=_MEASURED, ms=3, label="measured")
    axes.plot(radius, rings.denoised, color=_DENOISED, label="denoised")
    axes.fill_between(
        radius,
        rings.denoised - rings.denoised_error,
        rings.denoised + rings.denoised_error,
        color=_DENOISED,
        alpha=0.3,
        lw=0,
    )
    pull = rings.pull[np.isfinite(rings.pull)]
    within = 100 * np.mean(np.abs(pull) <= 2) if pull.size else np.nan
    axes.set_title(f"{within:.0f} % of rings predict other photons", fontsize=10)
    axes.set_xlabel("distance from the beam (pixels)")
    axes.set_ylabel("counts a pixel")
    if np.nanmin(np.where(measured > 0, measured, np.nan), initial=np.inf) < np.inf:
        axes.set_yscale("log")
    axes.legend(frameon=False)
