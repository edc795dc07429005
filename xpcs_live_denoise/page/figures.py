"""The plots of the page: what is drawn of each view, in the colours of the live window."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from bokeh.events import MouseLeave, MouseMove, Tap
from bokeh.models import (
    AdaptiveTicker,
    BasicTicker,
    BasicTickFormatter,
    ColorBar,
    ColumnDataSource,
    CustomJS,
    CustomJSHover,
    CustomJSTicker,
    CustomJSTickFormatter,
    DataRange1d,
    HoverTool,
    LinearColorMapper,
    LogColorMapper,
    Span,
)
from bokeh.palettes import cividis, plasma, viridis
from bokeh.plotting import figure

from xpcs_live_denoise import views
from xpcs_live_denoise.records.results import GammaTable
from xpcs_live_denoise.records.types import Array, FloatArray

Plot: TypeAlias = Any  # a Bokeh figure or a part of one: its properties are made at run time
Columns: TypeAlias = dict[str, Any]  # of a ColumnDataSource

TOOLS = "pan,box_zoom,wheel_zoom,reset,save"
TICKS = """
const size = Math.abs(tick);
if (size === 0 || (size >= 1e-3 && size < 1e5)) return String(Number(tick.toPrecision(3)));
const [digits, power] = tick.toExponential(0).split("e");
const raised = (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)] ?? "";
return `${digits}·10${[...power].map(raised).join("")}`;
"""
# Hands an event of a plot over to the page's script, which finds what lies there.
POINTED = """
const detail = { plot: cb_obj.origin.name, kind: cb_obj.event_name,
                 x: cb_obj.x, y: cb_obj.y, sx: cb_obj.sx, sy: cb_obj.sy };
document.dispatchEvent(new CustomEvent("pointed", { detail }));
"""
# The ROI under the pointer, from the image of their numbers.
ROI_THERE = """
const { index, dw, dh } = rois.data;
if (!index?.length) return "–";
const [rows, cols] = index[0].shape;
const row = Math.floor(special_vars.y / dh[0] * rows);
const col = Math.floor(special_vars.x / dw[0] * cols);
return names.data.name[index[0][row * cols + col] - 1] ?? "none";
"""
# Ticks of a logarithmic axis, also where it is short: as many round numbers as have room (`most`).
DECADES = """
const [low, high] = [cb_data.start, cb_data.end].sort((a, b) => a - b);
const between = (values) => values.filter((value) => value >= low && value <= high);
const [first, last] = [low, high].map((value) => Math.floor(Math.log10(value)));
for (const digits of [[1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 5], [1, 3], [1]]) {
  const found = [];
  for (let power = first; power <= last; power += 1) {
    found.push(...digits.map((digit) => Number(`${digit}e${power}`)));
  }
  const ticks = between(found);
  if (ticks.length >= 2 && ticks.length <= most) return ticks;
}
// More decades than have room, or less than one: some of them, or linear ticks.
if (last - first > 1) {
  const step = Math.ceil((last - first + 1) / most);
  return between(Array.from({ length: most + 1 }, (_, i) => Number(`1e${first + i * step}`)));
}
const power = 10 ** Math.floor(Math.log10((high - low) / most));
const step = power * [1, 2, 5, 10].find((digit) => (high - low) / (digit * power) <= most);
return between(Array.from({ length: most + 2 }, (_, i) => (Math.floor(low / step) + i) * step));
"""
# Ticks of an axis of times in s that are round in min and h, too, and their labels.
SIXTIES = {"base": 60, "mantissas": [1, 2, 5, 10, 15, 30], "desired_num_ticks": 5}
IN_UNIT = "return String(Number((tick / unit).toPrecision(6)));"
MOST_ALONG, MOST_UP = 4, 5  # of a panel on a laptop
MOST_IN_TITLE, MOST_IN_SMALL, MOST_IN_LABEL = 24, 27, 32  # letters of a line in the narrowest panel
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
INK, PALE_INK, LINE = "#16202a", "#33404d", "#c6ccd2"
# What the live window draws with matplotlib's markers.
MARKERS = {
    "o": "circle", "s": "square", "D": "diamond", "X": "x", "^": "triangle",
    "v": "inverted_triangle", "p": "star", "P": "cross", "h": "hex",
}  # fmt: skip
SIZES = {"raw": 4, "denoised": 4, "cuts": 4, "doubtful": 7, "recommended": 6}

STACKED_BORDER = 68  # px left of panels that share an axis, so that they are as wide

# Of ROIs that are so thin that their edges would cover a larger part of them, the area is tinted.
MOST_EDGE = 0.5
LEAST_SIZE = 180  # px, of the detector on a small screen
NOT_DRAWN, CHOSEN_EDGE = "#00000000", "#ffffff"
CHOSEN_RING = 16  # px, around a point of Gamma(q)
TINT, CHOSEN_TINT = "58", "78"  # how much of the image a colour hides, of 255, hexadecimal

IMAGE_COLUMNS = ("image", "x", "y", "dw", "dh")
G2_COLUMNS = ("x", "y", "lower", "upper")
RATE_COLUMNS = (
    *("x", "y", "lower", "upper", "error", "alpha", "marker", "reason", "source", "width", "stage"),
)
Q_COLUMNS = ("x", "y", "lower", "upper", "error", "roi", "n", "colour", "ring")
ROI_COLUMNS = ("edges", "index", "x", "y", "dw", "dh")


class Figures:
    """All plots of one page.

    Attributes
    ----------
    plots
        Name, of `views.PANELS` and in that order -> Bokeh figure; those of counts are beside it.
    sources
        What is drawn, by name: "c2_raw", "c2_denoised", "detector", "rois" (from 1, in the
        order of their labels; 0: none), "roi_names", "g2_raw", "g2_raw_fit", "g2_denoised",
        "g2_denoised_fit", "power_law", "power_law_line", "heterogeneity", "g2_scale",
        "heterogeneity_scale", "gamma_scale", and a kind of `views.KINDS` each.
    """

    def __init__(self) -> None:
        self.sources: dict[str, ColumnDataSource] = {}
        self._labels: Array | None = None  # of the detector, as they are drawn
        self._thin = False
        self._unit, self._series_s = "s", 0.0  # of all times
        self._c2_hovers: list[HoverTool] = []
        self._lags = DataRange1d(range_padding=0)
        self._edges, self._chosen = (LinearColorMapper(palette=[NOT_DRAWN] * 2) for _ in range(2))
        self._c2_colours = LinearColorMapper(
            palette=viridis(256), low=1.0, high=1.5, nan_color=views.UNKNOWN
        )
        self._counts = LogColorMapper(
            palette=cividis(256), low=0.1, high=1.0, nan_color=views.UNKNOWN
        )
        g2 = self._g2()
        made = self._c2() | {
            "detector": self._detector(),
            "g2": g2,
            "heterogeneity": self._heterogeneity(g2.x_range),
            "gamma": self._gamma(),
            "power_law": self._power_law(),
        }
        self.plots: dict[str, Plot] = {name: made[name] for name in views.PANELS if name in made}

    # --- making them -----------------------------------------------------------------------

    def _source(self, name: str, columns: tuple[str, ...]) -> ColumnDataSource:
        self.sources[name] = ColumnDataSource({column: [] for column in columns})
        return self.sources[name]

    def _image(self, plot: Plot, name: str, colours: Plot) -> Plot:
        source = self._source(name, IMAGE_COLUMNS)
        return plot.image(*IMAGE_COLUMNS, source=source, color_mapper=colours)

    def _c2(self) -> dict[str, Plot]:
        ranges = {"x_range": DataRange1d(range_padding=0), "y_range": DataRange1d(range_padding=0)}
        plots = {}
        for kind in ("raw", "denoised"):
            name = f"c2_{kind}"
            plots[name] = plot = new_figure(name, **ranges)
            image = self._image(plot, name, self._c2_colours)
            self._c2_hovers.append(hover(plot, [image], **c2_tooltips(self._unit)))
            plot.add_layout(colour_bar(self._c2_colours), "right")
            plot.grid.visible = False
        return plots

    def _detector(self) -> Plot:
        plot = new_figure(
            "detector",
            x_range=DataRange1d(range_padding=0),
            y_range=DataRange1d(range_padding=0, flipped=True),
            match_aspect=True,
        )
        image = self._image(plot, "detector", self._counts)
        rois, names = self._source("rois", ROI_COLUMNS), self._source("roi_names", ("name",))
        rois.name = "rois"  # for the page's script
        for column, colours in (("index", self._chosen), ("edges", self._edges)):
            plot.image(column, "x", "y", "dw", "dh", source=rois, color_mapper=colours)
        there = CustomJSHover(args={"rois": rois, "names": names}, code=ROI_THERE)
        tooltips = {"row": "$y{0}", "column": "$x{0}", "counts": "@image{0.000}", "": "$x{custom}"}
        hover(plot, [image], **tooltips).formatters = {"$x": there}
        plot.xaxis.ticker = BasicTicker(desired_num_ticks=3)
        plot.js_on_event(Tap, CustomJS(code=POINTED))
        plot.add_layout(colour_bar(self._counts, "counts / pixel / frame"), "right")
        plot.grid.visible = False
        return plot

    def _g2(self) -> Plot:
        plot = new_figure("g2", x_axis_type="log")
        plain_decades(plot.xaxis, MOST_ALONG)
        for kind in ("raw", "denoised"):
            _, colour, marker = views.KINDS[kind]
            source = self._source(f"g2_{kind}", G2_COLUMNS)
            plot.segment("x", "lower", "x", "upper", source=source, color=colour, line_alpha=0.5)
            style = {"size": 5, "marker": MARKERS[marker], "color": colour, "legend_label": kind}
            self._points(plot, source, **style)
        for kind, colour, dash in (
            ("raw", views.FIT, "dashed"),
            ("denoised", views.DENOISED, "solid"),
        ):
            source = self._source(f"g2_{kind}_fit", ("x", "y"))
            style = {"color": colour, "line_width": 1.6, "line_dash": dash}
            plot.line("x", "y", source=source, legend_label=f"fit of {kind}", **style)
        self._scale(plot, plot.x_range, plot.y_range)
        plot.min_border_left = STACKED_BORDER
        style_legend(plot)
        return plot

    def _heterogeneity(self, delays: Plot) -> Plot:
        plot = new_figure("heterogeneity", x_axis_type="log", x_range=delays)
        plot.min_border_left = STACKED_BORDER
        plain_decades(plot.xaxis, MOST_ALONG)
        plot.title.text_font_size = "13px"
        plot.yaxis.ticker = BasicTicker(desired_num_ticks=3, num_minor_ticks=0)
        plot.yaxis.formatter = CustomJSTickFormatter(code=TICKS)
        plot.add_layout(Span(dimension="width", location=0, line_color=LINE))
        source = self._source("heterogeneity", G2_COLUMNS)
        plot.segment("x", "lower", "x", "upper", source=source, color=views.FIT, line_alpha=0.5)
        self._points(plot, source, size=5, color=views.FIT)
        self._scale(plot, plot.y_range)
        return plot

    def _gamma(self) -> Plot:
        plot = new_figure("gamma", y_axis_type="log")
        plain_decades(plot.yaxis, MOST_UP)
        for kind, (label, colour, _) in views.KINDS.items():
            source, faint = self._source(kind, RATE_COLUMNS), kind == "raw"
            bars = {"color": colour, "line_alpha": 0.25 if faint else 0.5}
            plot.segment("x", "lower", "x", "upper", source=source, **bars)
            style = {"size": SIZES[kind], "line_color": colour, "fill_color": colour}
            style |= {"line_alpha": 0.6 if faint else 1.0, "fill_alpha": "alpha"}
            self._points(plot, source, marker="marker", legend_label=label, **style)
        self._scale(plot, plot.x_range, plot.y_range)
        style_legend(plot)
        return plot

    def _power_law(self) -> Plot:
        plot = new_figure("power_law", x_axis_type="log", y_axis_type="log")
        plain_decades(plot.xaxis, MOST_ALONG)
        plain_decades(plot.yaxis, MOST_UP)
        line = self._source("power_law_line", ("x", "y"))
        plot.line("x", "y", source=line, color=views.FIT, line_width=1.6, line_dash="dashed")
        source = self._source("power_law", Q_COLUMNS)
        plot.segment("x", "lower", "x", "upper", source=source, color="colour", line_width=1.6)
        self._points(plot, source, size=9, color="colour")
        style = {"fill_color": None, "line_color": INK, "line_width": 2}
        plot.scatter("x", "y", source=source, size="ring", **style)
        return plot

    def _points(self, plot: Plot, source: ColumnDataSource, **style: Any) -> None:
        """Draw points; the page's script tells of the one nearest to the pointer."""
        plot.scatter("x", "y", source=source, name=f"{plot.name}_points", **style)
        follow_pointer(plot)

    def _scale(self, plot: Plot, *ranges: Plot) -> None:
        """Let two points that nobody sees, the corners of the view, set what its ranges show."""
        source = self._source(f"{plot.name}_scale", ("x", "y"))
        corners = plot.scatter("x", "y", source=source, size=0, alpha=0)
        for one in ranges:
            one.renderers, one.range_padding = [corners], 0

    # --- filling them ----------------------------------------------------------------------

    def show_unit(self, time_unit: str, series_s: float) -> None:
        """Label all axes for times in "s" or another unit, "frame", of a series so long."""
        known = (time_unit, views.axis_unit(time_unit, series_s))
        if known == (self._unit, views.axis_unit(self._unit, self._series_s)):
            return
        self._unit, self._series_s = time_unit, series_s
        self._label_times()

    def _label_times(self) -> None:
        """Label all axes; ages have a unit that suits the length of the series, delays s."""
        of_lags = self.plots["c2_denoised"].y_range is self._lags
        ages = {("c2_raw", 0), ("c2_raw", 1), ("c2_denoised", 0), ("gamma", 0)}
        ages |= set() if of_lags else {("c2_denoised", 1)}
        unit_s = views.axis_unit(self._unit, self._series_s)[1]
        for name, plot in self.plots.items():
            _, *labels = views.PANELS[name]
            for at, (axis, label) in enumerate(zip((plot.xaxis, plot.yaxis), labels, strict=True)):
                end_s = self._series_s if (name, at) in ages else 0.0
                axis.axis_label = views.in_unit(label, self._unit, end_s)
                if (name, at) in ages:
                    axis.ticker = BasicTicker() if unit_s == 1 else AdaptiveTicker(**SIXTIES)
                    axis.formatter = CustomJSTickFormatter(code=IN_UNIT, args={"unit": unit_s})
        if of_lags:
            lags = self.plots["c2_denoised"].yaxis
            lags.axis_label = views.in_unit(views.SHORT_LAGS_LABEL, self._unit)
            lags.ticker, lags.formatter = BasicTicker(), BasicTickFormatter()
        for tool, second in zip(self._c2_hovers, ("t2", "lag" if of_lags else "t2"), strict=True):
            tool.tooltips = list(c2_tooltips(self._unit, second).items())

    def show_c2(self, view: views.TwoTimeView, shown: str, roi: str) -> None:
        """Show the C2 of a ROI; what is hidden (`shown`) is not sent."""
        self._c2_colours.update(low=view.low, high=view.high)
        self._show_lags(view.strip is not None)
        for kind, values, title in (
            ("raw", view.raw, view.raw_title),
            ("denoised", view.denoised if view.strip is None else view.strip.values, view.title),
        ):
            plot, source = self.plots[f"c2_{kind}"], self.sources[f"c2_{kind}"]
            why = ""
            if values is None or not values.size:
                why = f": {view.empty or view.note}"
                source.data = empty(IMAGE_COLUMNS)
            elif kind == "denoised" and view.strip is not None:
                source.data = strip_columns(view.strip)
            elif shown in ("both", "model", kind):
                source.data = image_columns(values, (view.edge_s, view.edge_s))
            plot.title.text = in_lines(f"{title}, {roi}{why}")

    def _show_lags(self, of_lags: bool) -> None:
        """Let the second picture of C2 have an axis of lags, or that of the first one."""
        plot = self.plots["c2_denoised"]
        wanted = self._lags if of_lags else self.plots["c2_raw"].y_range
        if plot.y_range is wanted:
            return
        plot.y_range = wanted
        self._label_times()

    def show_detector(self, view: views.DetectorView | None, rois: Rois) -> None:
        """Show the image with its ROIs, or, for None, that there is none."""
        if view is None:
            self.plots["detector"].title.text = in_lines(f"Detector: {views.NO_IMAGE}")
            self.sources["detector"].data = empty(IMAGE_COLUMNS)
            self.sources["rois"].data = empty(ROI_COLUMNS)
            self._labels = None
            return
        self.plots["detector"].title.text = in_lines(view.title)
        self._counts.update(low=view.low, high=view.high)
        self.sources["detector"].data = image_columns(view.mean, view.size)
        if self._labels is None or not np.array_equal(self._labels, view.labels):
            self._labels = view.labels
            self.sources["rois"].data, self._thin = roi_columns(view, rois.labels)
            self.sources["roi_names"].data = {"name": rois.names}
        edges = [colour + (TINT if self._thin else "") for colour in rois.colours]
        inside = [NOT_DRAWN] * len(edges)
        edges[rois.chosen], inside[rois.chosen] = (
            CHOSEN_EDGE,
            rois.colours[rois.chosen] + CHOSEN_TINT,
        )
        for mapper, palette in ((self._edges, edges), (self._chosen, inside)):
            mapper.update(palette=[NOT_DRAWN, *palette], low=-0.5, high=len(palette) + 0.5)

    def show_g2(self, view: views.G2View, roi: str) -> None:
        """Show g2 of a ROI."""
        self.plots["g2"].title.text = in_lines(f"{view.title}, {roi}")
        for kind, curve in (("raw", view.raw), ("denoised", view.denoised)):
            self.sources[f"g2_{kind}"].data = {
                "x": curve.delay_s,
                "y": curve.g2,
                "lower": curve.lower,
                "upper": curve.upper,
            }
            self.sources[f"g2_{kind}_fit"].data = {"x": curve.fit_delay_s, "y": curve.fit_g2}
        corners: Columns = {"x": [view.first_s, view.last_s], "y": [view.low, view.high]}
        self.sources["g2_scale"].data = corners
        names = ("g2_raw", "g2_denoised", "g2_raw_fit", "g2_denoised_fit")
        self._list_in_legend("g2", names)

    def show_heterogeneity(self, view: views.HeterogeneityView) -> None:
        """Show the heterogeneity of a ROI, at the delays of its g2."""
        words = view.words
        title = words if view.known else f"{views.PANELS['heterogeneity'][0]}: {words}"
        self.plots["heterogeneity"].title.text = in_lines(title, MOST_IN_SMALL)
        self.sources["heterogeneity"].data = {
            "x": view.delay_s,
            "y": view.chi,
            "lower": view.lower,
            "upper": view.upper,
        }
        ends = [view.low, view.high] if len(view.chi) else [-1.0, 1.0]
        self.sources["heterogeneity_scale"].data = {"x": [1.0, 1.0], "y": ends}

    def show_gamma(self, view: views.GammaView, roi: str) -> None:
        """Show the rates of a ROI; what may still change is hollow."""
        title = f"{views.PANELS['gamma'][0]}, {roi}"
        self.plots["gamma"].title.text = in_lines(f"{title}: {view.note}" if view.note else title)
        label = views.in_unit(view.age_label, self._unit, self._series_s)
        self.plots["gamma"].xaxis.axis_label = in_lines(label, MOST_IN_LABEL)
        for kind, points in view.points.items():
            self.sources[kind].data = rate_columns(kind, points)
        corners: Columns = {
            "x": [-0.02 * view.end_s, 1.02 * view.end_s],
            "y": [view.low, view.high],
        }
        self.sources["gamma_scale"].data = corners
        self._list_in_legend("gamma", tuple(view.points))

    def show_power_law(self, view: views.PowerLawView, rois: Rois) -> None:
        """Show all ROIs, and which of them is chosen."""
        self.plots["power_law"].title.text = in_lines(view.words)
        index = [rois.labels.index(label) for label in view.label.tolist()]
        self.sources["power_law"].data = {
            "x": view.q_squared,
            "y": view.rate,
            "lower": np.maximum(view.rate - view.error, view.rate / 10),
            "upper": view.rate + view.error,
            "error": view.error,
            "roi": view.label,
            "n": view.n_ages,
            "colour": [rois.colours[at] for at in index],
            "ring": [CHOSEN_RING if at == rois.chosen else 0 for at in index],
        }
        self.sources["power_law_line"].data = {"x": view.line_q_squared, "y": view.line_rate}

    def _list_in_legend(self, name: str, sources: tuple[str, ...]) -> None:
        """Let a legend, whose entries are in the order of these sources, list what is there."""
        for item, source in zip(self.plots[name].legend[0].items, sources, strict=True):
            item.visible = bool(len(self.sources[source].data["x"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rois:
    """The ROIs of a run in their order, and the index of the chosen one."""

    labels: list[int]
    names: list[str]
    colours: list[str]
    chosen: int


def roi_colours(q_inv_angstrom: FloatArray) -> list[str]:
    """Return the colour of each ROI: from low q to high q, or in their order where q is unknown."""
    known = np.isfinite(q_inv_angstrom)
    order = np.argsort(np.where(known, q_inv_angstrom, np.inf), kind="stable")
    # Neither the end that is lost on a dark image nor the one that is lost on white paper.
    colours = plasma(256)[70:236]
    picked = np.linspace(0, len(colours) - 1, max(len(order), 2)).astype(int)
    rank = np.argsort(order)
    return [colours[picked[at]] for at in rank.tolist()]


def roi_columns(view: views.DetectorView, labels: list[int]) -> tuple[Columns, bool]:
    """Return the images of the ROIs' numbers, and of what is drawn; whether they are too thin."""
    index = np.zeros(view.labels.shape, np.uint16)
    for number, label in enumerate(labels, 1):
        index[view.labels == label] = number
    # As thick as a pixel of a small panel: a thinner line would be drawn in part only.
    thickness = -(-max(index.shape) // LEAST_SIZE)
    padded = np.pad(index, thickness, mode="edge")
    rows, cols = view.labels.shape
    edge = np.zeros(index.shape, np.bool_)
    for by in range(1, thickness + 1):
        for down, right in ((by, 0), (-by, 0), (0, by), (0, -by)):
            row, col = thickness + down, thickness + right
            edge |= padded[row : row + rows, col : col + cols] != index
    edge &= index > 0
    thin = bool(edge.sum() > MOST_EDGE * (index > 0).sum())
    edges = index if thin else np.where(edge, index, 0).astype(np.uint16)
    columns = image_columns(index, view.size)
    return {"index": columns.pop("image"), "edges": [edges], **columns}, thin


def empty(columns: tuple[str, ...]) -> Columns:
    """Return columns without rows."""
    return {name: [] for name in columns}


def image_columns(values: Array, size: tuple[float, float]) -> Columns:
    """Return the columns of one image from the origin, of a width and a height."""
    return {"image": [values], "x": [0.0], "y": [0.0], "dw": [size[0]], "dh": [size[1]]}


def rate_columns(kind: str, points: GammaTable) -> Columns:
    """Return the columns of the points of one kind."""
    lower, upper = views.error_bars(points)
    marker = [views.KINDS[kind][2]] * len(points)
    if kind == "doubtful":
        marker = [views.reason_marker(reason) for reason in points.reason.tolist()]
    return {
        "x": points.age_s,
        "y": points.relaxation_rate,
        "lower": lower,
        "upper": upper,
        "error": points.relaxation_rate_error,
        "alpha": points.final.astype(float),
        "marker": [MARKERS[name] for name in marker],
        "reason": list(map(views.verdict_words, points.reason.tolist(), points.caution.tolist())),
        "source": points.source.tolist(),
        "width": points.width,
        "stage": ["final" if is_final else "provisional" for is_final in points.final.tolist()],
    }


def new_figure(name: str, words: tuple[str, str, str] | None = None, /, **options: Any) -> Plot:
    """Return the figure of a panel in the style of the page, named for the template.

    `words` are title and labels of one that is not among `views.PANELS`.
    """
    title, x_label, y_label = words or views.PANELS[name]
    plot: Plot = figure(
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
    plot.title.text_color = INK
    plot.outline_line_color = LINE
    plot.background_fill_color = plot.border_fill_color = "#ffffff"
    for axis in plot.axis:
        axis.axis_label_text_font = axis.major_label_text_font = FONT
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_font_size = "13px"
        axis.major_label_text_font_size = "12px"
        axis.axis_label_text_color = axis.major_label_text_color = PALE_INK
        axis.axis_line_color = "#8a949e"
    plot.grid.grid_line_color = "#eceff2"
    return plot


def in_lines(text: str, most: int = MOST_IN_TITLE) -> str:
    """Return a title in lines that fit the narrowest panel: Bokeh cuts off what is longer."""
    return "\n".join(line for part in text.split("\n") for line in textwrap.wrap(part, most))


def follow_pointer(plot: Plot) -> None:
    """Tell the page's script where the pointer is, and what is clicked."""
    if "mousemove" not in plot.js_event_callbacks:
        plot.js_on_event(MouseMove, CustomJS(code=POINTED))
        plot.js_on_event(MouseLeave, CustomJS(code=POINTED))
        plot.js_on_event(Tap, CustomJS(code=POINTED))


def hover(plot: Plot, renderers: list[Plot], **tooltips: str) -> HoverTool:
    """Tell what lies under the pointer, of images."""
    tool = HoverTool(renderers=renderers, tooltips=list(tooltips.items()))
    plot.add_tools(tool)
    return tool


def strip_columns(strip: views.C2Strip) -> Columns:
    """Return the columns of the image of short lags against age."""
    columns = image_columns(strip.values, (strip.end_s, strip.high_s - strip.low_s))
    return {**columns, "y": [strip.low_s]}


def c2_tooltips(time_unit: str, second: str = "t2") -> dict[str, str]:
    """Return what is told of a place in C2; `second` is what its y axis is."""
    time = "{0.000} s" if time_unit == "s" else f"{{0}} {time_unit}s"
    return {"t1": f"$x{time}", second: f"$y{time}", "C2": "@image{0.0000}"}


def colour_bar(mapper: Plot, title: str | None = None) -> ColorBar:
    """Return the bar of a colour scale."""
    bar = ColorBar(color_mapper=mapper, width=10, padding=6, border_line_color=None)
    bar.major_label_text_font = bar.title_text_font = FONT
    bar.major_label_text_font_size = "12px"
    if title:
        bar.title = title
    return bar


def plain_decades(axis: Plot, most: int) -> None:
    """Label round numbers of each decade of a logarithmic axis, with numbers instead of powers."""
    axis.ticker = CustomJSTicker(major_code=DECADES, args={"most": most})
    axis.formatter = CustomJSTickFormatter(code=TICKS)


def style_legend(plot: Plot) -> None:
    """Put a small legend below the points; a click on an entry hides what it names."""
    plot.legend.label_text_font = FONT
    plot.legend.label_text_font_size = "12px"
    plot.legend.background_fill_alpha = 0.75
    plot.legend.border_line_color = None
    plot.legend.padding = plot.legend.margin = 4
    plot.legend.spacing = 4
    plot.legend.click_policy = "hide"
    plot.legend.orientation = "horizontal"
    plot.legend.ncols = 2  # of any width
    plot.add_layout(plot.legend[0], "below")
