"""The figure of a run: its panels with title, facts and message, drawn by matplotlib."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from xpcs_live_denoise import views
from xpcs_live_denoise.errors import MissingDependencyError, install_line
from xpcs_live_denoise.records.results import GammaTable
from xpcs_live_denoise.records.types import Array, FloatArray

from .run_view import RunView

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from matplotlib.lines import Line2D
    from matplotlib.text import Text

MouseEvent: TypeAlias = Any  # of matplotlib: what it holds depends on where the mouse is
ColorBar: TypeAlias = Any

SIZE_INCHES, RESULT_INCHES, DPI = (15.0, 9.0), (14.0, 8.4), 100
LABEL_SIZE, TITLE_SIZE, SMALL = 9.5, 10.5, 8.5
KEYS = {"up": -1, "pageup": -1, "down": 1, "pagedown": 1}
MOST_LETTERS = 190  # of the message: one line
PAGE_SIZES = {"title": 13.0, "facts": 10.5, "roi": 11.0, "message": 9.5}
SIZES = {
    "raw": 3.0,
    "denoised": 2.8,
    "cuts": 2.4,
    "doubtful": 5.0,
    "recommended": 4.0,
}  # of markers
# Room for numbers, labels and colour bars, inches: left and right of the panels and between them.
LEFT, RIGHT, BETWEEN, LEAST_WIDTH, NARROW = 0.75, 0.83, 1.1, 5.0, 2.2
HEADROOM = 0.3  # of the range of chi: above it stand words
FULL_WIDTH = 14.5  # in a narrower figure, inches, the lines around the panels are smaller


class RunFigure:
    """Draws a RunView into a figure, by changing what is drawn already.

    Limits that a user has chosen (zoomed) stay; the toolbar's home button ends that.

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
        self.axes = _panels(figure)
        self._lines: dict[str, Line2D] = {}
        self._images: dict[str, AxesImage] = {}
        self._limits: dict[tuple[str, str], tuple[float, float]] = {}
        self._texts = _page_texts(figure, with_buttons=step is not None)
        self._listed: list[str] = []
        self._widgets: list[object] = []  # matplotlib keeps only weak references to them
        self._make_images()
        self._make_curves()
        if step is not None and choose is not None:
            self._listen(step, choose)

    def update(self, view: RunView) -> None:
        """Show a view; the caller draws."""
        self.view = view
        self._place_panels()
        narrow = min(1.0, self.figure.get_figwidth() / FULL_WIDTH)
        for name, size in PAGE_SIZES.items():
            self._texts[name].set_fontsize(size * narrow)
        self._texts["chi"].set_fontsize(SMALL * narrow**0.5)
        self._texts["title"].set_text(view.title)
        self._texts["facts"].set_text("  ·  ".join(" ".join(fact) for fact in view.facts))
        self._texts["roi"].set_text(view.roi)
        self._texts["message"].set_text(views.shortened(view.message, MOST_LETTERS))
        self._show_detector(view.detector)
        self._show_two_time(view.two_time)
        self._show_g2(view.g2)
        self._show_heterogeneity(view.heterogeneity)
        self._show_gamma(view.gamma)
        self._show_power_law(view.power_law, view.label)

    def _place_panels(self) -> None:
        """Leave as much room for numbers and labels as they need, whatever the figure's width."""
        width = max(self.figure.get_figwidth(), LEAST_WIDTH)
        panel = (width - LEFT - RIGHT - 2 * BETWEEN) / 3
        self.figure.subplots_adjust(
            left=LEFT / width, right=1 - RIGHT / width, wspace=BETWEEN / panel,
            top=0.865, bottom=0.09, hspace=0.3,
        )  # fmt: skip
        for name in ("g2", "power_law"):  # in a narrow panel only decades have room
            locator: Any = self.axes[name].xaxis.get_major_locator()
            locator.set_params(subs=(1.0, 2.0, 5.0) if panel > NARROW else (1.0,))
        # A detector wider than high fills its place: its colour bar needs room beside it.
        detector = self.axes["detector"]
        place = detector.get_position(original=True)
        detector.set_position((place.x0, place.y0, 0.88 * place.width, place.height))

    @property
    def words(self) -> str:
        """What the lines above and below the panels say."""
        return "\n".join(self._texts[name].get_text() for name in PAGE_SIZES)

    # --- what there is from the beginning ------------------------------------------------------

    def _make_images(self) -> None:
        import matplotlib
        from matplotlib.colors import LogNorm, Normalize

        c2_norm = Normalize(0.9, 1.5)  # one scale for both
        for name, colours, norm in (
            ("detector", views.DETECTOR_COLOURS, LogNorm(0.1, 1.0)),
            ("c2_raw", views.C2_COLOURS, c2_norm),
            ("c2_denoised", views.C2_COLOURS, c2_norm),
        ):
            axes = self.axes[name]
            axes.set_facecolor(views.UNKNOWN)
            self._images[name] = axes.imshow(
                np.full((1, 1), np.nan),
                cmap=matplotlib.colormaps[colours].with_extremes(bad=views.UNKNOWN),
                norm=norm,
                origin="upper" if name == "detector" else "lower",
                interpolation="nearest",
            )
            self._note(name)
        self._images["outline"] = self.axes["detector"].imshow(np.zeros((1, 1, 4), np.uint8))
        counts = _colour_bar(self.axes["detector"], self._images["detector"], "counts/px/frame")
        counts.locator, counts.formatter = _decade_ticks()
        counts.minorticks_off()
        values = _colour_bar(self.axes["c2_denoised"], self._images["c2_denoised"], "C2")
        # Where the signal lies on the scale: the baseline, and the baseline plus the contrast.
        for name in ("baseline", "top"):
            self._lines[name] = values.ax.axhline(np.nan, color="white", linewidth=2.2)

    def _make_curves(self) -> None:
        g2, gamma, law = (self.axes[name] for name in ("g2", "gamma", "power_law"))
        for axes, names in ((g2, "x"), (gamma, "y"), (law, "xy")):
            _logarithmic(axes, names)
        g2.ticklabel_format(axis="y", useOffset=False)
        for name, dashes in (("raw", "--"), ("denoised", "-")):
            _, colour, marker = views.KINDS[name]
            fit = views.FIT if name == "raw" else colour
            self._bars(g2, f"g2 {name} bars", colour, 1)
            self._lines[f"g2 {name}"] = _points(g2, colour, marker, 3.2, level=2, label=name)
            (self._lines[f"g2 {name} fit"],) = g2.plot(
                [], [], dashes, lw=1.3, color=fit, label=f"fit of {name}", zorder=3
            )
        points = [self._lines[f"g2 {name}"] for name in ("raw", "denoised")]  # fits are their lines
        g2.legend(handles=points, loc="upper right", fontsize=SMALL, frameon=False)
        heterogeneity = self.axes["heterogeneity"]
        heterogeneity.axhline(0, color=views.UNKNOWN, lw=1, zorder=0)
        self._bars(heterogeneity, "chi bars", views.FIT, 1)
        self._lines["chi"] = _points(heterogeneity, views.FIT, "o", 3.2, level=2)
        self._texts["chi"] = heterogeneity.text(
            0.98, 0.95, "", transform=heterogeneity.transAxes, va="top", ha="right", fontsize=SMALL
        )
        for level, (kind, (_, colour, marker)) in enumerate(views.KINDS.items(), 1):
            if kind != "doubtful":  # those have a marker for each reason
                self._add_rates(kind, colour, marker, SIZES[kind], level)
        self._note("gamma")
        (self._lines["law"],) = law.plot([], [], "--", lw=1.3, color=views.FIT)
        marker = views.KINDS["recommended"][2]
        self._lines["typical"] = _points(law, views.RECOMMENDED, marker, 6, level=2)
        self._lines["chosen"] = _points(law, views.RECOMMENDED, "o", 13, level=3, hollow=True)
        self._texts["law"] = law.text(
            0.03, 0.97, "", transform=law.transAxes, va="top", fontsize=LABEL_SIZE - 0.5
        )

    def _note(self, name: str) -> None:
        axes = self.axes[name]
        self._texts[name] = axes.text(
            0.5, 0.5, "", transform=axes.transAxes, ha="center", va="center", fontsize=LABEL_SIZE
        )

    def _bars(self, axes: Axes, name: str, colour: str, level: float) -> None:
        # One line with gaps is drawn several times faster than as many lines.
        (self._lines[name],) = axes.plot([], [], color=colour, lw=0.8, alpha=0.5, zorder=level)

    def _add_rates(self, name: str, colour: str, marker: str, size: float, level: float) -> None:
        axes = self.axes["gamma"]
        self._bars(axes, f"{name} bars", colour, level)
        for look in ("final", "provisional"):
            self._lines[f"{name} {look}"] = _points(
                axes, colour, marker, size, level=level + 0.5, hollow=look == "provisional"
            )

    def _listen(self, step: Callable[[int], None], choose: Callable[[int], None]) -> None:
        from matplotlib.widgets import Button

        for left, words, by in ((0.735, "◀", -1), (0.958, "▶", 1)):
            button = Button(self.figure.add_axes((left, 0.935, 0.03, 0.04)), words)
            button.on_clicked(lambda _event, by=by: step(by))
            self._widgets.append(button)

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
        self._texts["detector"].set_text("" if view is not None else "no image")
        if view is None:
            return
        axes.set_title(view.title, fontsize=TITLE_SIZE, loc="left", pad=6)
        cols, rows = view.size
        # Zero has no logarithm: it becomes the least colour, and only NaN stays unknown.
        image.set_data(np.where(view.mean <= 0, view.low / 2, view.mean))
        image.set_clim(view.low, view.high)
        outline.set_data(_coloured(view.outline))
        for shown in (image, outline):
            shown.set_extent((0, cols, rows, 0))
        self._show_limits("detector", (0, cols), (rows, 0))

    def _show_two_time(self, view: views.TwoTimeView) -> None:
        end = view.edge_s or 1.0
        for name, values in (("c2_raw", view.raw), ("c2_denoised", view.denoised)):
            shown = np.full((1, 1), np.nan)
            if values is not None and values.size:
                shown = values.T
            self._images[name].set_data(shown)
            self._images[name].set_extent((0, end, 0, end))
            self._show_limits(name, (0, view.series_s or end), (0, view.series_s or end))
        self._images["c2_raw"].set_clim(view.low, view.high)
        self._texts["c2_denoised"].set_text(view.note)
        self.axes["c2_denoised"].set_title(view.title, fontsize=TITLE_SIZE, loc="left", pad=6)
        marks = view.marks or (np.nan, np.nan)
        for name, height in zip(("baseline", "top"), marks, strict=True):
            self._lines[name].set_ydata([height, height])

    def _show_g2(self, view: views.G2View) -> None:
        self.axes["g2"].set_title(view.title, fontsize=TITLE_SIZE, loc="left", pad=6)
        for name, curve in (("raw", view.raw), ("denoised", view.denoised)):
            self._lines[f"g2 {name}"].set_data(curve.delay_s, curve.g2)
            self._lines[f"g2 {name} bars"].set_data(
                *_bar_ends(curve.delay_s, curve.lower, curve.upper)
            )
            self._lines[f"g2 {name} fit"].set_data(curve.fit_delay_s, curve.fit_g2)
        self._show_limits("g2", (view.first_s, view.last_s), (view.low, view.high))

    def _show_heterogeneity(self, view: views.HeterogeneityView) -> None:
        self._texts["chi"].set_text(view.words)
        self._lines["chi"].set_data(view.delay_s, view.chi)
        self._lines["chi bars"].set_data(*_bar_ends(view.delay_s, view.lower, view.upper))
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
        self._texts["gamma"].set_text(view.note)
        self.axes["gamma"].set_xlabel(view.age_label)
        self._list([kind for kind in shown if len(shown[kind])], reasons, view.provisional)
        end = view.end_s or 1.0
        self._show_limits("gamma", (-0.02 * end, 1.02 * end), (view.low, view.high))

    def _show_rates(self, name: str, points: GammaTable, chosen: Array) -> None:
        for look, kept in (
            ("final", chosen & points.final),
            ("provisional", chosen & ~points.final),
        ):
            self._lines[f"{name} {look}"].set_data(points.age_s[kept], points.relaxation_rate[kept])
        ends = (end[chosen] for end in (points.age_s, *views.error_bars(points)))
        self._lines[f"{name} bars"].set_data(*_bar_ends(*ends))

    def _list(self, kinds: list[str], reasons: list[str], provisional: bool) -> None:
        """Make the legend anew when other kinds of points are there than before."""
        from matplotlib.lines import Line2D

        listed = [*kinds, *reasons, str(provisional)]
        if listed == self._listed:
            return
        self._listed = listed
        handles = [self._lines[f"{kind} final"] for kind in kinds]
        handles += [self._lines[f"not: {reason} final"] for reason in reasons]
        labels = [views.KINDS[kind][0] for kind in kinds]
        labels += [f"not: {views.reason_words(reason)}" for reason in reasons]
        if provisional:
            handles.append(Line2D([], [], ls="", marker="o", ms=5, mfc="none", mec="black"))
            labels.append("hollow: provisional")
        legend = self.axes["gamma"].legend(
            handles, labels, loc="upper right", fontsize=SMALL, frameon=False,
            handletextpad=0.2, borderpad=0.3, labelspacing=0.3,
        )  # fmt: skip
        legend.set_zorder(0.2)  # behind the points: it hides none

    def _show_power_law(self, view: views.PowerLawView, label: int) -> None:
        self._lines["typical"].set_data(view.q_squared, view.rate)
        own = view.label == label
        self._lines["chosen"].set_data(view.q_squared[own], view.rate[own])
        self._lines["law"].set_data(view.line_q_squared, view.line_rate)
        self._texts["law"].set_text(view.words)
        if view.rate.size:
            x, y = view.q_squared, view.rate
            ends = (x.min() / 1.6, x.max() * 1.6), (y.min() / 2.2, y.max() * 2.8)
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


_numbers = itertools.count(1001)  # those of pyplot's own figures are lower
_open: set[Figure] = set()


def plot_view(view: RunView) -> Figure:
    """Return the figure; see `XPCSResult.plot`.

    Raises
    ------
    MissingDependencyError
        Without matplotlib.
    """
    try:
        import matplotlib
        import matplotlib.pyplot as plt
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "XPCSResult.plot: matplotlib is not installed. It comes with the extra `plot`: "
            f"{install_line('plot')}."
        ) from error
    # Not one of pyplot's figures: the next plot of a user would be drawn into its last panel.
    if not matplotlib.is_interactive():
        figure = Figure(figsize=RESULT_INCHES)
        RunFigure(figure).update(view)
        return figure
    manager = plt.new_figure_manager(next(_numbers), figsize=RESULT_INCHES)
    figure = manager.canvas.figure
    RunFigure(figure).update(view)
    manager.set_window_title(view.title)
    figure.show(warn=False)
    if manager.canvas.required_interactive_framework:  # its window lives as long as it does
        _open.add(figure)
        figure.canvas.mpl_connect("close_event", lambda _: _open.discard(figure))
    return figure


def _panels(figure: Figure) -> dict[str, Axes]:
    """Return the axes of each panel, in their order."""
    grid = figure.add_gridspec(2, 3, height_ratios=(1.25, 1.0))
    cells = [grid[row, column] for row in range(2) for column in range(3)]
    stacked = cells[3].subgridspec(2, 1, height_ratios=(1.5, 1.0), hspace=0.07)
    places = [*cells[:3], stacked[0], stacked[1], *cells[4:]]
    found: dict[str, Axes] = {}
    for place, (name, (title, x, y)) in zip(places, views.PANELS.items(), strict=True):
        delays = found["g2"] if name == "heterogeneity" else None
        axes = found[name] = figure.add_subplot(place, sharex=delays)
        if name != "heterogeneity":  # its words stand inside: g2 is above it
            axes.set_title(title, fontsize=TITLE_SIZE, loc="left", pad=6)
        axes.set_xlabel(x, fontsize=LABEL_SIZE, labelpad=3)
        axes.set_ylabel(y, fontsize=LABEL_SIZE, labelpad=3)
        axes.tick_params(labelsize=SMALL)
        axes.locator_params(nbins=6)
    found["g2"].tick_params(labelbottom=False)
    found["heterogeneity"].locator_params(nbins=4)
    return found


def _page_texts(figure: Figure, *, with_buttons: bool) -> dict[str, Text]:
    """Return the texts outside of the panels."""
    middle = {"x": 0.862, "ha": "center"} if with_buttons else {"x": 0.988, "ha": "right"}
    return {
        "title": figure.text(0.012, 0.975, "", weight="bold", va="top"),
        "facts": figure.text(0.012, 0.932, "", va="top"),
        "roi": figure.text(y=0.955, s="", va="center", **middle),
        "message": figure.text(0.012, 0.012, "", color=views.DOUBTFUL),
    }


def _colour_bar(axes: Axes, image: AxesImage, label: str) -> ColorBar:
    """Add a colour bar beside axes, also where their image does not fill their place."""
    from matplotlib.transforms import Bbox

    def beside(*_: object) -> Bbox:
        place = axes.get_position()
        left, width = place.x1 + 0.03 * place.width, 0.045 * place.width
        return Bbox.from_bounds(left, place.y0, width, place.height)

    figure: Any = axes.figure
    place = figure.add_axes((0.0, 0.0, 0.1, 0.1))
    place.set_axes_locator(beside)
    bar = figure.colorbar(image, cax=place)
    bar.set_label(label, fontsize=LABEL_SIZE)
    bar.ax.tick_params(labelsize=SMALL)
    return bar


def _decade_ticks() -> tuple[Any, Any]:
    """Return locator and formatter that label 1, 2 and 5 of each decade with plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    def plain(value: float, _position: int | None) -> str:
        return f"{value:.4g}".replace("e-0", "e-")

    return LogLocator(subs=(1.0, 2.0, 5.0), numticks=9), FuncFormatter(plain)


def _logarithmic(axes: Axes, names: str) -> None:
    """Make axes ("x", "y" or "xy") logarithmic, with few labels; each begins as one decade."""
    from matplotlib.ticker import NullFormatter, NullLocator

    for name in names:
        axes.set(**{f"{name}scale": "log", f"{name}lim": (1.0, 10.0)})  # no data: no logarithm
        axis = axes.xaxis if name == "x" else axes.yaxis
        locator, formatter = _decade_ticks()
        axis.set_major_locator(locator)
        axis.set_major_formatter(formatter)
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())


def _points(
    axes: Axes,
    colour: str,
    marker: str,
    size: float,
    *,
    level: float,
    hollow: bool = False,
    label: str | None = None,
) -> Line2D:
    (line,) = axes.plot(
        [], [], ls="", marker=marker, ms=size, mec=colour, mew=0.9, zorder=level,
        mfc="none" if hollow else colour, label=label,
    )  # fmt: skip
    return line


def _bar_ends(x: FloatArray, lower: FloatArray, upper: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the ends of error bars with a gap after each, as one line."""
    known = upper > lower
    ends = np.stack([lower[known], upper[known], np.full(known.sum(), np.nan)], axis=1)
    return np.repeat(x[known], 3), ends.ravel()


def _coloured(outline: Array) -> Array:
    """Return an RGBA image (rows, cols, 4): ROIs in thin white, the chosen one in its colour."""
    from matplotlib.colors import to_rgba

    colours = np.zeros((4, 4))
    colours[views.ROI_EDGE] = (1, 1, 1, 0.55)
    colours[views.CHOSEN_EDGE] = to_rgba(views.RECOMMENDED)
    colours[views.CHOSEN_INSIDE] = to_rgba(views.RECOMMENDED, 0.16)
    return np.rint(255 * colours).astype(np.uint8)[outline]
