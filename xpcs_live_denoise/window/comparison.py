"""Gamma(t) and g2 of several results over each other, as a matplotlib figure."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from xpcs_live_denoise import views
from xpcs_live_denoise.errors import MissingDependencyError, install_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE_INCHES = (11.0, 4.8)
MARKERS = "osD^vpP*"


def plot_curves(
    curves: Mapping[str, tuple[Any, Any]], *, title: str, time_unit: str = "s"
) -> Figure:
    """Return a figure of curves by name: rows of Gamma(t) and of g2 (two DataFrames) each.

    Raises MissingDependencyError without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            f"plot: matplotlib is not installed. {install_line('plot')}."
        ) from error
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    left, right = figure.subplots(1, 2)
    styles = itertools.cycle(zip(views.OVERLAY, MARKERS, strict=True))
    for (name, (gamma, g2)), (colour, marker) in zip(curves.items(), styles, strict=False):
        style = {"color": colour, "marker": marker, "markersize": 3.5, "linestyle": "none"}
        label = name if len(gamma) else f"{name} (no recommended row)"
        errors = gamma["relaxation_rate_error"].to_numpy(float)
        _points(left, gamma["age_s"], gamma["relaxation_rate"], errors, label=label, **style)
        _points(right, g2["delay_s"], g2["g2"], g2["g2_error"], label=name, **style)
    left.set(xlabel=f"age ({time_unit})", ylabel=f"Γ (1/{time_unit})", yscale="log")
    right.set(xlabel=f"delay ({time_unit})", ylabel="g₂", xscale="log")
    for axes, words in ((left, "Γ(t), recommended rows"), (right, "g₂")):
        axes.set_title(words, fontsize="medium")
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize="small"
    )
    return figure


def _points(axes: Axes, x: Any, y: Any, error: Any, **style: Any) -> None:
    errors = np.nan_to_num(np.asarray(error, float))
    values = np.asarray(y, float)
    ends = np.stack([np.minimum(errors, 0.9 * np.abs(values)), errors])  # above 0 on a log axis
    axes.errorbar(np.asarray(x, float), values, ends, elinewidth=0.7, **style)
