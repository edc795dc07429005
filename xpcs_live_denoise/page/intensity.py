"""The plots of what the detector counted: I(t) of the ROIs and I(q)."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from bokeh.models import BasicTicker, ColumnDataSource, DataRange1d

from xpcs_live_denoise import views

from .figures import (
    CHOSEN_RING,
    INK,
    MOST_ALONG,
    MOST_IN_SMALL,
    MOST_UP,
    STACKED_BORDER,
    Rois,
    follow_pointer,
    in_lines,
    new_figure,
    plain_decades,
)

Plot: TypeAlias = Any  # a Bokeh figure: its properties are made at run time
LINES, BARS, POINTS = ("xs", "ys", "colour"), ("x", "lower", "upper"), ("x", "y")
ON_CURVE = ("x", "y", "roi", "colour", "ring")
FAINT = 0.35  # of the ROIs beside the chosen one


class IntensityFigures:
    """The plots "intensity", at the ages of `gamma`, and "saxs", with their sources."""

    def __init__(self, gamma: Plot) -> None:
        self._gamma = gamma
        gamma.min_border_left = STACKED_BORDER
        self._sources = {
            name: ColumnDataSource({column: [] for column in columns})
            for name, columns in {
                "others": LINES, "chosen": LINES, "bars": BARS, "total": POINTS,
                "curve": POINTS, "on_curve": ON_CURVE,
            }.items()
        }  # fmt: skip
        self.plots = {"intensity": self._intensity(), "saxs": self._saxs()}

    def _intensity(self) -> Plot:
        plot = new_figure("intensity", x_range=self._gamma.x_range)
        plot.min_border_left = STACKED_BORDER
        plot.title.text_font_size = "13px"
        plot.xaxis.axis_label = ""  # that of Gamma(t), above
        plot.yaxis.ticker = BasicTicker(desired_num_ticks=3, num_minor_ticks=0)
        plot.y_range = DataRange1d(range_padding=0, only_visible=True)
        of = self._sources
        plot.multi_line("xs", "ys", color="colour", alpha=FAINT, source=of["others"])
        plot.segment("x", "lower", "x", "upper", color=views.FIT, alpha=FAINT, source=of["bars"])
        plot.line("x", "y", color=views.FIT, line_dash="dashed", source=of["total"])
        plot.multi_line("xs", "ys", color="colour", line_width=1.8, source=of["chosen"])
        self._corners = ColumnDataSource({"x": [], "y": []})
        plot.y_range.renderers = [plot.scatter("x", "y", source=self._corners, size=0, alpha=0)]
        return plot

    def _saxs(self) -> Plot:
        plot = new_figure("saxs", x_axis_type="log", y_axis_type="log")
        plot.min_border_left = STACKED_BORDER
        plot.title.text_font_size = "13px"
        plain_decades(plot.xaxis, MOST_ALONG)
        plain_decades(plot.yaxis, MOST_UP)
        plot.line("x", "y", color=views.FIT, line_width=1.4, source=self._sources["curve"])
        source = self._sources["on_curve"]
        plot.scatter("x", "y", color="colour", size=8, source=source, name="saxs_points")
        style = {"fill_color": None, "line_color": INK, "line_width": 2}
        plot.scatter("x", "y", size="ring", source=source, **style)
        follow_pointer(plot)
        return plot

    def show_intensity(self, view: views.IntensityView | None, rois: Rois) -> None:
        """Show I(t) of all ROIs, the chosen one foremost."""
        if view is None:
            return
        chosen, words = view.chosen, view.words
        for own, above in zip(self.plots["intensity"].xaxis, self._gamma.xaxis, strict=True):
            own.update(ticker=above.ticker, formatter=above.formatter)
        self.plots["intensity"].title.text = in_lines(f"I(t): {words}", MOST_IN_SMALL)
        of = self._sources
        others = [at for at in range(len(view.relative)) if at != chosen]
        for name, which in (("others", others), ("chosen", [chosen])):
            of[name].data = {
                "xs": [view.age_s] * len(which),
                "ys": [view.relative[at].astype(np.float32) for at in which],
                "colour": [rois.colours[at] for at in which],
            }
        of["bars"].data = {"x": view.age_s, "lower": view.lower, "upper": view.upper}
        of["total"].data = {"x": view.age_s, "y": view.total}
        self._corners.data = {"x": [0.0, 0.0], "y": [view.low, view.high]}

    def show_saxs(self, view: views.SaxsView | None, rois: Rois) -> None:
        """Show I(q), with the ROIs on it."""
        if view is None:
            return
        self.plots["saxs"].xaxis.axis_label = view.x_label
        self._sources["curve"].data = {"x": view.x, "y": view.counts}
        self._sources["on_curve"].data = {
            "x": view.roi_x,
            "y": view.roi_counts,
            "roi": [rois.labels[at] for at in view.roi.tolist()],
            "colour": [rois.colours[at] for at in view.roi.tolist()],
            "ring": [CHOSEN_RING if at == rois.chosen else 0 for at in view.roi.tolist()],
        }
