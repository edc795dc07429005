"""How all figures of the page look: colours, type, axes, legends."""

from __future__ import annotations

from typing import Any

from bokeh.models import (
    ColorBar,
    ColumnDataSource,
    CustomJSTickFormatter,
    DataRange1d,
    HoverTool,
    LinearColorMapper,
    LogColorMapper,
    LogTicker,
)
from bokeh.palettes import Cividis256, Greys256
from bokeh.plotting import figure

from .views import G2_COLUMNS, IMAGE_COLUMNS, Q_COLUMNS, RATE_COLUMNS

# Okabe and Ito's colours, told apart with any colour vision; the markers differ as well.
RAW, DENOISED, RECOMMENDED, DOUBTFUL = "#777777", "#0072B2", "#D55E00", "#AA4499"
TOOLS = "pan,box_zoom,wheel_zoom,reset,save"
TICKS = """
if (tick >= 1e-3 && tick < 1e5) return String(Number(tick.toPrecision(3)));
const [digits, power] = tick.toExponential(0).split("e");
const raised = (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)] ?? "";
return `${digits}·10${[...power].map(raised).join("")}`;
"""
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"


def new_figure(name: str, title: str, x_label: str, y_label: str, **options: Any) -> Any:
    """Return a figure in the style of the page, named for the template."""
    plot: Any = figure(
        name=name,
        title=title,
        tools=TOOLS,
        active_drag="box_zoom",
        sizing_mode="stretch_both",
        x_axis_label=x_label,
        y_axis_label=y_label,
        min_border_right=12,
        **options,
    )
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    plot.title.text_font = FONT
    plot.title.text_font_size = "15px"
    plot.title.text_color = "#16202a"
    plot.outline_line_color = "#c6ccd2"
    plot.background_fill_color = "#ffffff"
    plot.border_fill_color = "#ffffff"
    for axis in plot.axis:
        axis.axis_label_text_font = axis.major_label_text_font = FONT
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_font_size = "13px"
        axis.major_label_text_font_size = "12px"
        axis.axis_label_text_color = axis.major_label_text_color = "#33404d"
        axis.axis_line_color = "#8a949e"
    plot.grid.grid_line_color = "#eceff2"
    return plot


def new_source(columns: tuple[str, ...]) -> ColumnDataSource:
    """Return a source with empty columns."""
    return ColumnDataSource({name: [] for name in columns})


def colour_bar(mapper: Any, title: str | None = None) -> ColorBar:
    """Return the bar of a colour scale."""
    bar = ColorBar(color_mapper=mapper, width=10, padding=6, border_line_color=None)
    bar.major_label_text_font = bar.title_text_font = FONT
    bar.major_label_text_font_size = "12px"
    if title:
        bar.title = title
    return bar


def fill(plot: Any, sources: dict[str, ColumnDataSource], view: dict[str, Any]) -> None:
    """Give every source its columns; the legend, which is in their order, lists what is there."""
    for item, (name, source) in zip(plot.legend[0].items, sources.items(), strict=True):
        source.data = view[name]
        item.visible = bool(len(view[name]["x"]))


def plain_decades(axis: Any, n_ticks: int = 6) -> None:
    """Label 1, 2 and 5 of each decade of a logarithmic axis, with numbers instead of powers."""
    axis.ticker = LogTicker(mantissas=[1, 2, 5], num_minor_ticks=0, desired_num_ticks=n_ticks)
    axis.formatter = CustomJSTickFormatter(code=TICKS)


def style_legend(plot: Any) -> None:
    """Make a legend small; a click on an entry hides what it names."""
    plot.legend.label_text_font = FONT
    plot.legend.label_text_font_size = "12px"
    plot.legend.background_fill_alpha = 0.75
    plot.legend.border_line_color = None
    plot.legend.padding = plot.legend.margin = 4
    plot.legend.spacing = 0
    plot.legend.click_policy = "hide"


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


class C2Figures:
    """Raw and denoised C2, on one colour scale and with one zoom."""

    def __init__(self) -> None:
        ranges = {"x_range": DataRange1d(range_padding=0), "y_range": DataRange1d(range_padding=0)}
        self.mapper = LinearColorMapper(palette=Cividis256, low=1.0, high=1.5, nan_color="#e7eaee")
        self.plots, self.sources = {}, {}
        for kind, title in (("raw", "Raw C2"), ("denoised", "Denoised C2")):
            plot = new_figure(f"c2_{kind}", title, "t₁ (s)", "t₂ (s)", **ranges)
            self.sources[kind] = new_source(IMAGE_COLUMNS)
            image = plot.image(
                "image", "x", "y", "dw", "dh", source=self.sources[kind], color_mapper=self.mapper
            )
            plot.add_tools(
                HoverTool(
                    renderers=[image],
                    tooltips=[
                        ("t₁", "$x{0.000} s"),
                        ("t₂", "$y{0.000} s"),
                        ("C2", "@image{0.0000}"),
                    ],
                )
            )
            plot.add_layout(colour_bar(self.mapper), "right")
            plot.grid.visible = False
            self.plots[kind] = plot

    def show(self, views: dict[str, Any], shown: str, roi: str) -> None:
        """Show the C2 of a ROI; what the reader has hidden (`shown`) is not sent."""
        self.mapper.update(low=views["low"], high=views["high"])
        for kind, plot in self.plots.items():
            name = kind.capitalize()
            if views[kind] is None:
                plot.title.text = f"{name} C2, {roi}: nothing yet"
                self.sources[kind].data = {column: [] for column in IMAGE_COLUMNS}
            else:
                plot.title.text = f"{name} C2, {roi}"
                if shown in ("both", kind):
                    self.sources[kind].data = views[kind]


class DetectorFigure:
    """The average detector image, with the outlines of the ROIs."""

    def __init__(self) -> None:
        self.plot = new_figure(
            "detector",
            "Detector",
            "column (pixels)",
            "row (pixels)",
            x_range=DataRange1d(range_padding=0),
            y_range=DataRange1d(range_padding=0, flipped=True),
            match_aspect=True,
        )
        self.mapper = LogColorMapper(palette=Greys256, low=0.1, high=1.0, nan_color="#ffffff")
        self.image, self.outline = new_source(IMAGE_COLUMNS), new_source(IMAGE_COLUMNS)
        image = self.plot.image(
            "image", "x", "y", "dw", "dh", source=self.image, color_mapper=self.mapper
        )
        self.plot.image(
            *("image", "x", "y", "dw", "dh"),
            source=self.outline,
            color_mapper=LinearColorMapper(
                palette=["#56B4E9", RECOMMENDED], low=0, high=1, nan_color="rgba(0, 0, 0, 0)"
            ),
        )
        self.plot.add_tools(
            HoverTool(
                renderers=[image],
                tooltips=[("row", "$y{0}"), ("column", "$x{0}"), ("counts", "@image{0.000}")],
            )
        )
        self.plot.add_layout(colour_bar(self.mapper, "counts per frame"), "right")
        self.plot.grid.visible = False

    def show(self, view: dict[str, Any] | None, *, live: bool) -> None:
        """Show the image; None says that the run has none."""
        if view is None:
            missing = "no image yet" if live else "no image in this result"
            self.plot.title.text = f"Detector: {missing}"
            self.image.data = self.outline.data = {column: [] for column in IMAGE_COLUMNS}
            return
        frames = view["frames"]
        self.plot.title.text = "Detector, mean" + (f" of {frames} frames" if frames else "")
        self.mapper.update(low=view["low"], high=view["high"])
        self.image.data, self.outline.data = view["image"], view["outline"]
