"""How all figures of the page look: colours, type, axes, legends."""

from __future__ import annotations

from typing import Any

from bokeh.models import ColorBar, ColumnDataSource, CustomJSTickFormatter, LogTicker
from bokeh.plotting import figure

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
