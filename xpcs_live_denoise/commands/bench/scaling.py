"""How everything grows with the numbers of frames, pixels, ROIs and counts, and its picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xpcs_live_denoise.errors import MissingDependencyError, install_line

from .analyses import whole_analysis
from .case import Case
from .contest import MakeSection, measure, rows_of
from .two_time import two_time

# What is varied: field of the case, its name on the axis, and its values, of the case's where
# `relative`.
AXES: tuple[tuple[str, str, tuple[float, ...], bool], ...] = (
    ("n_frames", "frames", (0.25, 0.5, 1, 2, 4), True),
    ("n_pixels", "ROI pixels", (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1), True),
    ("n_rois", "ROIs", (1, 3, 10, 30, 100), False),
    ("mean_counts", "counts a pixel and frame", (0.01, 0.03, 0.1, 0.3, 1, 3), False),
)
SHARE_OF_PIXELS = 0.25  # of the case, where pixels are not varied: the picture takes a minute
LONGEST_S = 3.0
SECTIONS: tuple[tuple[MakeSection, tuple[str, str]], ...] = (
    (two_time, ("C2", "frames/s")),
    (whole_analysis, ("whole series", "frames/s")),
)
COLOURS = ("#1f4e9c", "#5b8fd6", "#9bbbe6", "#c0392b", "#e08e0b", "#8e6bb0", "#2e8b57", "#7f7f7f")
MARKERS = "osD^v<>P"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Time a frame of one contestant, ms, where `axis` has a value."""

    axis: str
    value: float
    contestant: str
    ms_a_frame: float
    peer: bool
    extrapolated: bool


def check_plot() -> None:
    """Refuse at once where nothing can be drawn in the end."""
    import importlib.util

    if importlib.util.find_spec("matplotlib") is None:
        raise MissingDependencyError(
            f"--plot: matplotlib is not installed. {install_line('plot')}."
        )


def points(case: Case, say: Callable[[str], object]) -> Iterator[Point]:
    """Measure, once each; yield the points one after the other."""
    base = dataclasses.replace(
        case,
        n_pixels=max(case.n_rois, round(case.n_pixels * SHARE_OF_PIXELS)),
        longest_s=LONGEST_S,
        quick=True,
    )
    known: dict[Case, list[Point]] = {}
    for axis, _, values, relative in AXES:
        for value in values:
            here = changed(base, case, axis, value, relative=relative)
            if here is None:
                continue
            if here not in known:
                known[here] = [*_measured(here, say)]
            for point in known[here]:
                yield dataclasses.replace(point, axis=axis, value=getattr(here, axis))


def changed(base: Case, case: Case, axis: str, value: float, *, relative: bool) -> Case | None:
    """Return the case with one size changed; None where there cannot be such a one."""
    size = value * getattr(case, axis) if relative else value
    if axis != "mean_counts":
        size = max(1, round(size))
    if max(size if axis == "n_rois" else base.n_rois, 1) > (
        size if axis == "n_pixels" else base.n_pixels
    ):
        return None
    here = dataclasses.replace(base, **{axis: size})
    return dataclasses.replace(here, n_series=here.n_frames)


def _measured(case: Case, say: Callable[[str], object]) -> Iterator[Point]:
    for make, quantity in SECTIONS:
        with make(case) as section:
            rows = rows_of(section, [*measure(section, say)])
        for row in rows:
            if (row.quantity, row.unit) == quantity and row.median > 0:
                yield Point(
                    axis="",
                    value=0.0,
                    contestant=row.contestant,
                    ms_a_frame=1e3 / row.median,
                    peer=row.peer,
                    extrapolated=row.extrapolated,
                )


def draw(found: list[Point], path: Path, title: str) -> None:
    """Draw a panel for each size, both axes logarithmic; hollow: extrapolated."""
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(12.5, 9), layout="constrained")
    axes = figure.subplots(2, 2, sharey=True)
    names = [*dict.fromkeys(point.contestant for point in found)]
    style = {
        name: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
        for i, name in enumerate(names)
    }
    for panel, (axis, label, _, _) in zip(axes.flat, AXES, strict=True):
        for name in names:
            line = [one for one in found if one.axis == axis and one.contestant == name]
            if line:
                _draw_line(panel, line, style[name])
        panel.set(xscale="log", yscale="log", xlabel=label)
        panel.grid(visible=True, which="major", alpha=0.3)
    for panel in axes[:, 0]:
        panel.set_ylabel("ms a frame")
    handles = {
        text: handle
        for panel in axes.flat
        for handle, text in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside right center", frameon=False)
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=120)


def _draw_line(panel: Any, line: list[Point], style: dict[str, str]) -> None:
    first = line[0]
    x, y = [one.value for one in line], [one.ms_a_frame for one in line]
    dash = "--" if first.peer else "-"
    panel.plot(x, y, dash, label=first.contestant, markersize=5, **style)
    hollow = [(one.value, one.ms_a_frame) for one in line if one.extrapolated]
    if hollow:
        panel.plot(
            *zip(*hollow, strict=True),
            style["marker"],
            mfc="white",
            mec=style["color"],
            markersize=5,
        )
