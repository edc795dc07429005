"""How everything grows with the numbers of frames, pixels, ROIs and counts, and its picture."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xpcs_live_denoise.errors import InvalidInputError, MissingDependencyError, install_line

from .analyses import publications
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
    (publications, ("whole series", "frames/s")),
)
OURS = ("#0b3c8c", "#2f7ed8", "#7fb2ee", "#000000", "#12a3a3")
THEIRS = ("#c0392b", "#e08e0b", "#8e44ad", "#2e8b57", "#7f7f7f", "#d16ba5", "#8c5a2b", "#9aa80f")
MARKERS = "osD^v<>P*X"


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


def base_of(case: Case) -> Case:
    """Return what is measured where one size is varied: fewer pixels, once each."""
    n_pixels = max(case.n_rois, round(case.n_pixels * SHARE_OF_PIXELS))
    return dataclasses.replace(case, n_pixels=n_pixels, longest_s=LONGEST_S, quick=True)


def points(case: Case, say: Callable[[str], object]) -> Iterator[Point]:
    """Measure, once each; yield the points one after the other."""
    base = base_of(case)
    known: dict[Case, list[Point]] = {}
    for axis, _, values, relative in AXES:
        for value in values:
            here = changed(base, axis, value * getattr(case, axis) if relative else value)
            if here is None:
                continue
            if here not in known:
                known[here] = [*_measured(here, say)]
            for point in known[here]:
                yield dataclasses.replace(point, axis=axis, value=getattr(here, axis))


def changed(base: Case, axis: str, size: float) -> Case | None:
    """Return the case with one size changed; None where there would be more ROIs than pixels."""
    whole = axis != "mean_counts"
    sizes: dict[str, Any] = {axis: max(1, round(size)) if whole else size}
    sizes["n_series"] = sizes.get("n_frames", base.n_frames)
    try:
        return dataclasses.replace(base, **sizes)
    except InvalidInputError:
        return None


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
    style = _styles(found)
    for panel, (axis, label, _, _) in zip(axes.flat, AXES, strict=True):
        here = [point for point in found if point.axis == axis]
        for name in style:
            if line := [point for point in here if point.contestant == name]:
                _draw_line(panel, line, style[name])
        panel.set(xscale="log", yscale="log", xlabel=label)
        values = sorted({point.value for point in here})
        panel.set_xticks(values, [f"{value:,g}" for value in values], minor=False)
        panel.minorticks_off()
        panel.grid(visible=True, which="major", alpha=0.3)
    for panel in axes[:, 0]:
        panel.set_ylabel("ms a frame")
    handles = {
        text: handle
        for panel in axes.flat
        for handle, text in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside right upper",
        frameon=False,
        title="dashed: others\nhollow: extrapolated",
        alignment="left",
    )
    figure.suptitle(title, fontsize=11)
    figure.savefig(path, dpi=120)


def _styles(found: list[Point]) -> dict[str, dict[str, str]]:
    """Return colour and marker of each contestant."""
    is_peer = {point.contestant: point.peer for point in found}
    styles: dict[str, dict[str, str]] = {}
    for peer, colours in ((False, OURS), (True, THEIRS)):
        for i, name in enumerate(name for name in is_peer if is_peer[name] == peer):
            styles[name] = {
                "color": colours[i % len(colours)],
                "marker": MARKERS[i % len(MARKERS)],
            }
    return styles


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
