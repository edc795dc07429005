"""The figures that are images: C2, raw and denoised, and the detector."""

from __future__ import annotations

from typing import Any

from bokeh.models import DataRange1d, HoverTool, LinearColorMapper, LogColorMapper
from bokeh.palettes import Cividis256, Greys256

from .style import RECOMMENDED, colour_bar, new_figure, new_source
from .views import IMAGE_COLUMNS


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
