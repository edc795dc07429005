"""The figure of a run: its panels with title, facts and message, drawn by matplotlib."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.colors import LogNorm, Normalize
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from xpcs_live_denoise import views
from xpcs_live_denoise.records.results import GammaTable
from xpcs_live_denoise.records.types import Array

from . import axes as drawing
from .layout import Layout, MouseEvent, line_height, wrapped
from .lettering import LABEL_SIZE, SMALL, letter, width_of
from .run_view import RunView

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from matplotlib.text import Text

SIZE_INCHES, RESULT_INCHES, DPI = (15.0, 9.0), (14.0, 8.4), 100
KEYS = {"up": -1, "pageup": -1, "down": 1, "pagedown": 1}
SIZES = {
    "raw": 3.0,
    "denoised": 2.8,
    "cuts": 2.4,
    "doubtful": 5.0,
    "recommended": 4.0,
}  # of markers
FEW_ROIS, MANY_ROIS = 6.0, 4.0  # of markers of Gamma against q, for up to MOST_LARGE ROIs or more
MOST_LARGE = 12
LEAST_AHEAD = 0.12  # of the series: less of it has no room for a word
HEADROOM = 0.3  # of the range of chi: above it stand words
MOST_LEGEND = 0.5  # of the height of Gamma(t) that is kept free for its legend
LEGEND_MARKER = 0.3  # inches beside the words of a legend


class RunFigure:
    """Draws a RunView into a figure, by changing what is drawn already.

    Limits that a user has chosen (zoomed) stay until `show_all`; those of values that belong to one
    ROI, such as g2, only as long as it is shown.

    Parameters
    ----------
    figure
        Empty; belongs to this object from now on.
    step, choose
        Called with +1 or -1 (next or previous ROI), or with a label, when a user chooses by the
        buttons, by the keys up and down, or by a click into the detector's image.
    """

    def __init__(
        self,
        figure: Figure,
        *,
        step: Callable[[int], None] | None = None,
        choose: Callable[[int], None] | None = None,
    ) -> None:
        self.figure = figure
        self.view: RunView | None = None
        figure.set_facecolor("white")
        figure.set_layout_engine("none")  # a user's style may have another
        self.axes = drawing.panels(figure)
        self.layout = Layout(figure, self.axes, step)
        self._lines: dict[str, Line2D] = {}
        self._images: dict[str, AxesImage] = {}
        self._bars: dict[str, Axes] = {}  # of colours
        self._limits: dict[tuple[str, str], tuple[float, float]] = {}
        self._texts: dict[str, Text] = {}
        self._listed: dict[str, list[str]] = {}  # in the legend of a panel
        self._make_images()
        self._make_curves()
        # matplotlib keeps only weak references to methods: these keep the whole object.
        for name in ("c2_raw", "c2_denoised"):
            self.axes[name].callbacks.connect(
                "ylim_changed", lambda _axes, name=name: self._zoom_together(name)
            )
        figure.canvas.mpl_connect("resize_event", lambda _event: self._resized())
        if step is not None and choose is not None:
            self._listen(step, choose)

    def update(self, view: RunView, *, grow: bool = False) -> None:
        """Show a view; the caller draws. With `grow` a long message makes the figure higher."""
        if self.view is not None and self.view.label != view.label:
            for name in ("g2", "heterogeneity", "gamma", "intensity"):
                self._limits.pop((name, "y"), None)
        self.view = view
        self.layout.arrange(view, grow=grow)
        _, unit_s = views.axis_unit(view.time_unit, view.two_time.series_s)
        for axis in self._axes_of_times(view):
            drawing.show_times(axis, unit_s)
        self._show_detector(view.detector)
        self._show_two_time(view.two_time)
        self._show_g2(view.g2)
        self._show_heterogeneity(view.heterogeneity)
        self._show_gamma(view.gamma)
        self._show_power_law(view.power_law, view.label)
        self._texts["law x"].set_text("" if view.saxs is None else views.PANELS["power_law"][1])
        self._show_intensity(view.intensity)
        self._show_saxs(view.saxs)
        letter(self.figure)

    def _axes_of_times(self, view: RunView) -> list[Axis]:
        raw, second, gamma = (self.axes[name] for name in ("c2_raw", "c2_denoised", "gamma"))
        found = [raw.xaxis, raw.yaxis, gamma.xaxis]  # that of I(t) is the last of these
        return found if view.two_time.strip is not None else [*found, second.yaxis]

    def show_all(self) -> None:
        """Forget the limits that a user has chosen, from the next update on."""
        self._limits.clear()

    def _resized(self) -> None:
        """Place everything anew in a window of another size; matplotlib draws it then."""
        if self.view is not None:
            self.update(self.view)

    @property
    def words(self) -> str:
        """What the lines above and below the panels say."""
        return self.layout.words

    # --- what there is from the beginning ------------------------------------------------------

    def _make_images(self) -> None:
        c2_norm = Normalize(0.9, 1.5)  # one scale for both
        for name, colours, norm in (
            ("detector", views.DETECTOR_COLOURS, LogNorm(0.1, 1.0)),
            ("c2_raw", views.C2_COLOURS, c2_norm),
            ("c2_denoised", views.C2_COLOURS, c2_norm),
        ):
            axes = self.axes[name]
            self._images[name] = axes.imshow(
                np.full((1, 1), np.nan),
                cmap=matplotlib.colormaps[colours].with_extremes(bad=views.UNKNOWN),
                norm=norm,
                origin="upper" if name == "detector" else "lower",
                interpolation="nearest",
            )
            self._note(name)
        self._images["outline"] = self.axes["detector"].imshow(np.zeros((1, 1, 4), np.uint8))
        counts = drawing.colour_bar(
            self.axes["detector"], self._images["detector"], "counts/px/frame"
        )
        drawing.round_numbers(counts.ax.yaxis)
        counts.locator, counts.formatter = drawing.Decades(), FuncFormatter(drawing.number)
        counts.minorticks_off()
        values = drawing.colour_bar(self.axes["c2_denoised"], self._images["c2_denoised"], "C2")
        self._bars = {"detector": counts.ax, "c2": values.ax}
        self._texts["ahead"] = self.axes["c2_raw"].text(
            0.04, 0.96, "", transform=self.axes["c2_raw"].transAxes, va="top", fontsize=SMALL
        )
        # Where the signal lies on the scale: the baseline, and the baseline plus the contrast.
        for name in ("baseline", "top"):
            self._lines[name] = values.ax.axhline(np.nan, color="white", linewidth=2.2)

    def _make_curves(self) -> None:
        g2, gamma, law = (self.axes[name] for name in ("g2", "gamma", "power_law"))
        for axes, names in ((g2, "x"), (gamma, "y"), (law, "xy")):
            drawing.logarithmic(axes, names)
        g2.ticklabel_format(axis="y", useOffset=False)
        for name, dashes in (("raw", "--"), ("denoised", "-")):
            _, colour, marker = views.KINDS[name]
            fit = views.FIT if name == "raw" else colour
            self._add_bars(g2, f"g2 {name} bars", colour, 1)
            self._lines[f"g2 {name}"] = drawing.points(g2, colour, marker, 3.2, level=2, label=name)
            (self._lines[f"g2 {name} fit"],) = g2.plot(
                [], [], dashes, lw=1.3, color=fit, label=f"fit of {name}", zorder=3
            )
        self._note("g2")
        heterogeneity = self.axes["heterogeneity"]
        heterogeneity.axhline(0, color=views.UNKNOWN, lw=1, zorder=0)
        self._add_bars(heterogeneity, "chi bars", views.FIT, 1)
        self._lines["chi"] = drawing.points(heterogeneity, views.FIT, "o", 3.2, level=2)
        self._texts["chi"] = heterogeneity.text(
            0.985,
            0.95,
            "",
            transform=heterogeneity.transAxes,
            va="top",
            ha="right",
            fontsize=SMALL - 0.5,
        )
        for level, (kind, (_, colour, marker)) in enumerate(views.KINDS.items(), 1):
            if kind != "doubtful":  # those have a marker for each reason
                self._add_rates(kind, colour, marker, SIZES[kind], level)
        self._note("gamma")
        (self._lines["law"],) = law.plot([], [], "--", lw=1.3, color=views.FIT)
        marker = views.KINDS["recommended"][2]
        self._add_bars(law, "typical bars", views.RECOMMENDED, 1)
        self._lines["typical"] = drawing.points(law, views.RECOMMENDED, marker, FEW_ROIS, level=2)
        self._lines["chosen"] = drawing.points(law, "black", "o", 12, level=3, hollow=True)
        self._lines["chosen"].set_markeredgewidth(1.4)
        self._texts["law"] = law.text(
            0.03, 0.97, "", transform=law.transAxes, va="top", fontsize=SMALL
        )
        self._texts["law x"] = law.text(
            0.98, 0.04, "", transform=law.transAxes, ha="right", fontsize=SMALL
        )
        self._make_counts()

    def _make_counts(self) -> None:
        """Make I(t), with the ROI that is shown over the others, and I(q)."""
        intensity, saxs = self.axes["intensity"], self.axes["saxs"]
        drawing.logarithmic(saxs, "xy")
        styles = {"others": (views.RAW, 0.6, 0.35), "I bars": (views.RECOMMENDED, 0.8, 0.5)}
        styles |= {"I": (views.RECOMMENDED, 1.2, 1.0), "total": (views.FIT, 0.8, 1.0)}
        for level, (name, (colour, width, opacity)) in enumerate(styles.items(), 1):
            (self._lines[name],) = intensity.plot(
                [], [], "--" if name == "total" else "-", color=colour, lw=width, alpha=opacity,
                zorder=level,
            )  # fmt: skip
        (self._lines["I(q)"],) = saxs.plot([], [], color=views.FIT, lw=1.0)
        self._lines["I(q) of ROIs"] = drawing.points(saxs, views.RAW, "o", 3.2, level=2)
        self._lines["I(q) of ROI"] = drawing.points(saxs, views.RECOMMENDED, "o", 5.0, level=3)
        for name, axes in (("intensity", intensity), ("saxs", saxs)):
            self._texts[name] = axes.text(
                0.985, 0.95, "", transform=axes.transAxes, va="top", ha="right",
                fontsize=SMALL - 0.5,
            )  # fmt: skip

    def _note(self, name: str) -> None:
        axes = self.axes[name]
        self._texts[name] = axes.text(
            0.5, 0.5, "", transform=axes.transAxes, ha="center", va="center", fontsize=LABEL_SIZE,
            color="black", bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 3},
        )  # fmt: skip

    def _add_bars(self, axes: Axes, name: str, colour: str, level: float) -> None:
        # One line with gaps is drawn several times faster than as many lines.
        (self._lines[name],) = axes.plot([], [], color=colour, lw=0.8, alpha=0.5, zorder=level)

    def _add_rates(self, name: str, colour: str, marker: str, size: float, level: float) -> None:
        axes = self.axes["gamma"]
        self._add_bars(axes, f"{name} bars", colour, level)
        for look in ("final", "provisional"):
            self._lines[f"{name} {look}"] = drawing.points(
                axes, colour, marker, size, level=level + 0.5, hollow=look == "provisional"
            )

    def _listen(self, step: Callable[[int], None], choose: Callable[[int], None]) -> None:
        def pressed(event: MouseEvent) -> None:
            if event.key in KEYS:
                step(KEYS[event.key])

        def clicked(event: MouseEvent) -> None:
            toolbar = getattr(self.figure.canvas, "toolbar", None)
            zooming = toolbar is not None and toolbar.mode
            if event.inaxes is self.axes["detector"] and not zooming and self.view is not None:
                shown = self.view.detector
                label = shown.label_at(event.xdata, event.ydata) if shown is not None else 0
                if label:
                    choose(label)

        self.figure.canvas.mpl_connect("key_press_event", pressed)
        self.figure.canvas.mpl_connect("button_press_event", clicked)

    # --- what changes --------------------------------------------------------------------------

    def _show_detector(self, view: views.DetectorView | None) -> None:
        axes, image, outline = (
            self.axes["detector"],
            self._images["detector"],
            self._images["outline"],
        )
        self._texts["detector"].set_text("" if view is not None else views.NO_IMAGE)
        for shown in (image, outline, self._bars["detector"]):
            shown.set_visible(view is not None)
        drawing.blank(axes, view is None)
        if view is None:
            drawing.write_title(axes, views.PANELS["detector"][0])
            return
        drawing.write_title(axes, view.title)
        cols, rows = view.size
        # Zero has no logarithm: it becomes the least colour, and only NaN stays unknown.
        image.set_data(np.where(view.mean <= 0, view.low / 2, view.mean))
        image.set_clim(view.low, view.high)
        outline.set_data(drawing.coloured(view.outline))
        for shown in (image, outline):
            shown.set_extent((0, cols, rows, 0))
        self._show_limits("detector", (0, cols), (rows, 0))

    def _show_two_time(self, view: views.TwoTimeView) -> None:
        end = view.edge_s or 1.0
        for name, values in (("c2_raw", view.raw), ("c2_denoised", view.denoised)):
            self._images[name].set_visible(values is not None and values.size > 0)
            if values is not None and values.size:
                self._images[name].set_data(values.T)
            self._images[name].set_extent((0, end, 0, end))
        self._show_strip(view.strip)
        series = (0, view.series_s or end)
        self._show_limits("c2_raw", series, series)
        self._show_limits(
            "c2_denoised",
            series,
            series if view.strip is None else (view.strip.low_s, view.strip.high_s),
        )
        self._images["c2_raw"].set_clim(view.low, view.high)
        for name, title in (("c2_raw", view.raw_title), ("c2_denoised", view.title)):
            drawing.write_title(self.axes[name], title)
        for name, note in (("c2_raw", view.empty), ("c2_denoised", view.note)):
            self._texts[name].set_text(wrapped(note, self.axes[name], LABEL_SIZE))
        to_come = view.series_s - view.edge_s > LEAST_AHEAD * view.series_s
        self._texts["ahead"].set_text("to come" if to_come and not view.empty else "")
        self._bars["c2"].set_visible(not view.empty)
        marks = view.marks or (np.nan, np.nan)
        for name, height in zip(("baseline", "top"), marks, strict=True):
            self._lines[name].set_ydata([height, height])

    def _show_strip(self, strip: views.C2Strip | None) -> None:
        """Show short lags against age in the place of the denoised map, or the map again."""
        axes, image = self.axes["c2_denoised"], self._images["c2_denoised"]
        of_lags = strip is not None
        if of_lags != (axes.get_aspect() == "auto"):  # the y axis is another one from now on
            self._limits.pop(("c2_denoised", "y"), None)
            axes.set_aspect("auto" if of_lags else "equal")
            drawing.show_times(axes.yaxis, 1.0)
        if strip is not None:
            image.set_visible(True)
            image.set_data(strip.values)
            image.set_extent((0, strip.end_s, strip.low_s, strip.high_s))

    def _zoom_together(self, changed: str) -> None:
        """Show in one map of C2 the rows that a user has chosen in the other."""
        other = {"c2_raw": "c2_denoised", "c2_denoised": "c2_raw"}[changed]
        both_maps = self.view is not None and self.view.two_time.strip is None
        limits = self.axes[changed].get_ylim()
        if both_maps and self.axes[other].get_ylim() != limits:
            self.axes[other].set_ylim(limits)

    def _show_g2(self, view: views.G2View) -> None:
        drawing.write_title(self.axes["g2"], view.title)
        for name, curve in (("raw", view.raw), ("denoised", view.denoised)):
            self._lines[f"g2 {name}"].set_data(curve.delay_s, curve.g2)
            self._lines[f"g2 {name} bars"].set_data(
                *drawing.bar_ends(curve.delay_s, curve.lower, curve.upper)
            )
            self._lines[f"g2 {name} fit"].set_data(curve.fit_delay_s, curve.fit_g2)
        names = [name for name in ("raw", "denoised") if getattr(view, name).g2.size]
        self._list_in("g2", [self._lines[f"g2 {name}"] for name in names], names)
        empty = not names
        self._texts["g2"].set_text(wrapped(view.note, self.axes["g2"]))
        self.axes["g2"].tick_params(axis="x", bottom=not empty)
        drawing.blank(self.axes["g2"], empty, names="y")
        drawing.blank(self.axes["heterogeneity"], empty, names="x")
        self._show_limits("g2", (view.first_s, view.last_s), (view.low, view.high))

    def _show_heterogeneity(self, view: views.HeterogeneityView) -> None:
        self._texts["chi"].set_text(wrapped(view.words, self.axes["heterogeneity"], SMALL - 0.5))
        drawing.blank(self.axes["heterogeneity"], not len(view.chi), names="y")
        self._lines["chi"].set_data(view.delay_s, view.chi)
        self._lines["chi bars"].set_data(*drawing.bar_ends(view.delay_s, view.lower, view.upper))
        high = view.high + HEADROOM * (view.high - view.low)
        self._show_limits("heterogeneity", None, (view.low, high))  # delays are those of g2

    def _show_gamma(self, view: views.GammaView) -> None:
        shown = {kind: points for kind, points in view.points.items() if kind != "doubtful"}
        doubtful = view.points["doubtful"]
        reasons = np.unique(doubtful.reason).tolist()
        for reason in reasons:
            if f"not: {reason} final" not in self._lines:
                marker = views.reason_marker(reason)
                self._add_rates(f"not: {reason}", views.DOUBTFUL, marker, SIZES["doubtful"], 3)
        for name, line in self._lines.items():
            if name.startswith("not: "):
                line.set_data([], [])
        for kind, points in shown.items():
            self._show_rates(kind, points, np.ones(len(points), np.bool_))
        for reason in reasons:
            self._show_rates(f"not: {reason}", doubtful, doubtful.reason == reason)
        self._texts["gamma"].set_text(wrapped(view.note, self.axes["gamma"], LABEL_SIZE))
        free = self._list([kind for kind in shown if len(shown[kind])], reasons, view.provisional)
        drawing.blank(self.axes["gamma"], bool(view.note), names="y")
        end = view.end_s or 1.0
        # Rates that count stand below the legend.
        below = view.low * (1.2 * view.highest / view.low) ** (1 / (1 - free))
        self._show_limits("gamma", (-0.02 * end, 1.02 * end), (view.low, max(view.high, below)))

    def _show_intensity(self, view: views.IntensityView | None) -> None:
        """Show I(t), at the ages of Gamma(t), unless nobody knows it."""
        self.axes["gamma"].tick_params(labelbottom=view is None)
        if view is None:
            return
        age_s, chosen = view.age_s, view.chosen
        others = np.delete(view.relative, chosen, axis=0)
        gap = np.full((len(others), 1), np.nan)
        lines = np.concatenate([others, gap], axis=1).ravel()
        self._lines["others"].set_data(np.tile(np.append(age_s, np.nan), len(others)), lines)
        self._lines["I"].set_data(age_s, view.relative[chosen])
        self._lines["I bars"].set_data(*drawing.bar_ends(age_s, view.lower, view.upper))
        self._lines["total"].set_data(age_s, view.total)
        words = f"{view.words} (- - {views.ALL_ROIS})"
        if "\n" in wrapped(words, self.axes["intensity"]):
            words = view.words
        self._texts["intensity"].set_text(words)
        high = view.high + HEADROOM * (view.high - view.low)
        self._show_limits("intensity", None, (view.low, high))

    def _show_saxs(self, view: views.SaxsView | None) -> None:
        """Show I(q), unless nobody knows where the beam is."""
        if view is None:
            return
        own = view.roi == view.chosen
        self._lines["I(q)"].set_data(view.x, view.counts)
        self._lines["I(q) of ROIs"].set_data(view.roi_x, view.roi_counts)
        self._lines["I(q) of ROI"].set_data(view.roi_x[own], view.roi_counts[own])
        self._texts["saxs"].set_text(views.PANELS["saxs"][0])
        ends = (view.x[0] / 1.1, view.x[-1] * 1.1)
        self._show_limits("saxs", ends, (view.low, view.high))

    def _show_rates(self, name: str, points: GammaTable, chosen: Array) -> None:
        for look, kept in (
            ("final", chosen & points.final),
            ("provisional", chosen & ~points.final),
        ):
            self._lines[f"{name} {look}"].set_data(points.age_s[kept], points.relaxation_rate[kept])
        ends = (end[chosen] for end in (points.age_s, *views.error_bars(points)))
        self._lines[f"{name} bars"].set_data(*drawing.bar_ends(*ends))

    def _list(self, kinds: list[str], reasons: list[str], provisional: bool) -> float:
        """List the kinds of points of Gamma(t); return which part of the height the list takes."""
        labels = [views.KINDS[kind][0] for kind in kinds]
        labels += [f"not: {views.reason_words(reason)}" for reason in reasons]
        handles = [self._lines[f"{kind} final"] for kind in kinds]
        handles += [self._lines[f"not: {reason} final"] for reason in reasons]
        if provisional:
            labels.append("provisional")
            handles.append(Line2D([], [], ls="", marker="o", ms=5, mfc="none", mec="black"))
        return self._list_in("gamma", handles, labels)

    def _list_in(self, name: str, handles: list[Line2D], labels: list[str]) -> float:
        """Make the legend of a panel anew when it, or its room, is another than before.

        It has two columns where there is room. Return which part of the panel's height it takes.
        """
        axes = self.axes[name]
        (width, height), place = self.figure.get_size_inches(), axes.get_position()
        lines = -(-len(labels) // 2)
        widths = [LEGEND_MARKER + width_of(label, SMALL) for label in labels]
        both = max(widths[:lines], default=0.0) + max(widths[lines:], default=0.0)
        columns = 2 if len(labels) > 2 and both < place.width * width else 1
        lines = lines if columns == 2 else len(labels)
        listed = [*labels, str(columns)]
        if listed != self._listed.get(name):
            self._listed[name] = listed
            axes.legend(
                handles, labels, loc="upper right", fontsize=SMALL, ncols=columns, frameon=True,
                framealpha=0.75, edgecolor="none", facecolor="white", labelcolor="black",
                handletextpad=0.2, handlelength=1.2, borderpad=0.2, labelspacing=0.3,
                columnspacing=0.6, borderaxespad=0.3,
            ).set_visible(bool(labels))  # fmt: skip
        return min(MOST_LEGEND, (lines * line_height(SMALL) + 0.1) / (place.height * height))

    def _show_power_law(self, view: views.PowerLawView, label: int) -> None:
        self._lines["typical"].set_data(view.q_squared, view.rate)
        own = view.label == label
        self._lines["chosen"].set_data(view.q_squared[own], view.rate[own])
        self._lines["typical bars"].set_data(
            *drawing.bar_ends(view.q_squared, *views.error_ends(view.rate, view.error))
        )
        many = len(view.rate) > MOST_LARGE
        self._lines["typical"].set_markersize(MANY_ROIS if many else FEW_ROIS)
        self._lines["law"].set_data(view.line_q_squared, view.line_rate)
        self._texts["law"].set_text(wrapped(view.words, self.axes["power_law"]))
        drawing.blank(self.axes["power_law"], not view.rate.size)
        if view.rate.size:
            x, y = view.q_squared, view.rate
            lower, upper = views.error_ends(y, view.error)
            ends = (x.min() / 1.6, x.max() * 1.6), (lower.min() / 1.8, upper.max() * 2.6)
            self._show_limits("power_law", *ends)

    def _show_limits(
        self, name: str, x: tuple[float, float] | None, y: tuple[float, float]
    ) -> None:
        """Set the limits of a panel, unless a user has chosen others."""
        axes = self.axes[name]
        if x is not None and self._limits.get((name, "x"), axes.get_xlim()) == axes.get_xlim():
            axes.set_xlim(x)
            self._limits[name, "x"] = axes.get_xlim()
        if self._limits.get((name, "y"), axes.get_ylim()) == axes.get_ylim():
            axes.set_ylim(y)
            self._limits[name, "y"] = axes.get_ylim()
