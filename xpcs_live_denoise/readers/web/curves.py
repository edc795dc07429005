"""The figures that are curves: g2, Gamma(t), and Gamma against q squared."""

from __future__ import annotations

from typing import Any

from bokeh.models import HoverTool

from .style import (
    DENOISED,
    DOUBTFUL,
    RAW,
    RECOMMENDED,
    new_figure,
    new_source,
    plain_decades,
    style_legend,
)
from .views import G2_COLUMNS, Q_COLUMNS, RATE_COLUMNS

MARKERS = {
    "raw": ("circle", RAW, 4, "raw fits"),
    "denoised": ("square", DENOISED, 4, "denoised"),
    "doubtful": ("x", DOUBTFUL, 7, "not recommended"),
    "recommended": ("diamond", RECOMMENDED, 6, "recommended"),
}


class G2Figure:
    """g2 of the whole series, raw and denoised, with fits."""

    def __init__(self) -> None:
        self.plot = new_figure("g2", "g₂", "delay (s)", "g₂", x_axis_type="log")
        names = ("raw", "denoised", "raw_fit", "denoised_fit")
        self.sources = {name: new_source(G2_COLUMNS) for name in names}
        raw, denoised = self.sources["raw"], self.sources["denoised"]
        self.plot.segment("x", "lower", "x", "upper", source=raw, color=RAW, line_alpha=0.5)
        points = [
            self.plot.scatter(
                "x", "y", source=raw, size=5, marker="circle", color=RAW, legend_label="raw"
            ),
            self.plot.scatter(
                *("x", "y"),
                source=denoised,
                size=5,
                marker="square",
                color=DENOISED,
                legend_label="denoised",
            ),
        ]
        for name, colour, dash in (("raw", "#333333", "solid"), ("denoised", DENOISED, "dashed")):
            self.plot.line(
                *("x", "y"),
                source=self.sources[f"{name}_fit"],
                color=colour,
                line_width=1.6,
                line_dash=dash,
                legend_label=f"fit, {name}",
            )
        self.plot.add_tools(
            HoverTool(renderers=points, tooltips=[("delay", "@x{0.000} s"), ("g₂", "@y{0.0000}")])
        )
        self.plot.y_range.renderers = points
        style_legend(self.plot)

    def show(self, view: dict[str, Any], roi: str, *, live: bool) -> None:
        """Show g2 of a ROI."""
        self.plot.title.text = f"g₂, {roi}" + (", so far" if live else "")
        for item, (name, source) in zip(
            self.plot.legend[0].items, self.sources.items(), strict=True
        ):
            source.data = view[name]
            item.visible = bool(len(view[name]["x"]))


class GammaFigure:
    """Gamma(t) of a ROI."""

    def __init__(self) -> None:
        self.plot = new_figure("gamma", "Γ(t)", "age (s)", "Γ (1/s)", y_axis_type="log")
        plain_decades(self.plot.yaxis)
        self.sources = {kind: new_source(RATE_COLUMNS) for kind in MARKERS}
        self._trusted: list[Any] = []
        for kind, (marker, colour, size, label) in MARKERS.items():
            source = self.sources[kind]
            self.plot.segment(
                "x",
                "lower",
                "x",
                "upper",
                source=source,
                color=colour,
                line_alpha=0.25 if kind == "raw" else 0.5,
            )
            points = self.plot.scatter(
                *("x", "y"),
                source=source,
                marker=marker,
                size=size,
                line_color=colour,
                fill_color=colour,
                fill_alpha="filled",
                line_alpha=0.6 if kind == "raw" else 1.0,
                legend_label=label,
            )
            if kind in ("recommended", "denoised"):
                self._trusted.append(points)
            self._hover(points)
        style_legend(self.plot)

    def _hover(self, points: Any) -> None:
        self.plot.add_tools(
            HoverTool(
                renderers=[points],
                tooltips=[
                    ("age", "@x{0.000} s"),
                    ("Γ", "@y{0.0000} ± @error{0.0000} 1/s"),
                    ("from", "@source, @width frame(s), @stage"),
                    ("", "@reason"),
                ],
            )
        )

    def show(self, view: dict[str, dict[str, Any]], roi: str) -> None:
        """Show the rates of a ROI; what may still change is hollow."""
        some = any(len(points["x"]) for points in view.values())
        self.plot.title.text = f"Γ(t), {roi}" + ("" if some else ": no fit yet")
        # Fits of single frames scatter over decades: they set the scale only where nothing else is.
        better = len(view["recommended"]["x"]) or len(view["denoised"]["x"])
        self.plot.y_range.renderers = self._trusted if better else "auto"
        for item, (kind, source) in zip(
            self.plot.legend[0].items, self.sources.items(), strict=True
        ):
            source.data = view[kind]
            item.visible = bool(len(view[kind]["x"]))


class DispersionFigure:
    """One typical Gamma a ROI, against q squared."""

    def __init__(self) -> None:
        self.plot = new_figure(
            *("dispersion", "Γ against q²", "q² (1/Å²)", "typical Γ (1/s)"),
            x_axis_type="log",
            y_axis_type="log",
        )
        plain_decades(self.plot.xaxis, 3)
        plain_decades(self.plot.yaxis)
        self.points, self.line = new_source(Q_COLUMNS), new_source(("x", "y"))
        self.plot.line("x", "y", source=self.line, color="#333333", line_width=1.6)
        points = self.plot.scatter(
            *("x", "y"), source=self.points, marker="diamond", size=12, color=RECOMMENDED
        )
        self.plot.add_tools(
            HoverTool(
                renderers=[points],
                tooltips=[
                    ("ROI", "@roi"),
                    ("q²", "@x{0.00e+0} 1/Å²"),
                    ("Γ", "@y{0.0000} 1/s"),
                    ("from", "@n ages"),
                ],
            )
        )

    def show(self, view: dict[str, Any]) -> None:
        """Show all ROIs."""
        self.plot.title.text = f"Γ(q): {view['title']}"
        self.points.data, self.line.data = view["points"], view["line"]
