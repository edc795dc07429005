"""Axes, ticks, colour bars and points as a figure of this package draws them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from matplotlib.transforms import Bbox

from xpcs_live_denoise import views
from xpcs_live_denoise.records.types import Array, FloatArray

from .lettering import LABEL_SIZE, SMALL, TITLE_SIZE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from matplotlib.lines import Line2D

ColorBar: TypeAlias = Any  # of matplotlib, which has few types

EXPONENTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
PLAIN = (1e-3, 1e5)  # numbers between these are written without an exponent
LETTERS = 4.5  # that have the room which matplotlib gives a number of an x axis
BAR_GAP, BAR_WIDTH, BAR_HEIGHT = 0.09, 0.13, 1.25  # inches, the least height
BELOW = 0.09  # the top of a panel a bar ends: its highest number must not touch the title
# Steps between times that are round in s, min and h.
SIXTIES = [digits * 60.0**power for power in range(4) for digits in (1, 2, 5, 10, 15, 30)]
LOWER = ("heterogeneity", "intensity", "saxs")
ROI_OPACITY = 0.55
COVERED = 0.1  # share of the image that outlines may cover before they fade


def panels(figure: Figure) -> dict[str, Axes]:
    """Return the axes of each panel by its name, in their order; they have no place yet."""
    found: dict[str, Axes] = {}
    for name, (title, _, _) in views.PANELS.items():
        # Who looks closely at one C2 compares it with the other.
        shared = {"heterogeneity": "g2", "c2_denoised": "c2_raw", "intensity": "gamma"}
        axes = figure.add_axes(
            (0.1, 0.1, 0.1, 0.1),
            label=name,
            facecolor="white",
            sharex=found.get(shared.get(name, "")),
        )
        found[name] = axes
        if name not in LOWER:  # the words of these stand inside: another panel is above them
            write_title(axes, title)
        axes.grid(visible=False)
        axes.set_anchor("NW")
        for spine in axes.spines.values():
            spine.set(visible=True, edgecolor="black")
        axes.tick_params(labelsize=SMALL, color="black", labelcolor="black")
        axes.locator_params(nbins=4 if name in LOWER else 6)
        if name == "g2":  # is low in a small window
            axes.locator_params(axis="y", nbins="auto")
    found["g2"].tick_params(labelbottom=False)
    return found


def write_title(axes: Axes, title: str) -> None:
    """Write the title of a panel; with its height given matplotlib looks for no free one."""
    axes.set_title(title, fontsize=TITLE_SIZE, loc="left", pad=6, y=1.0)


def colour_bar(axes: Axes, image: AxesImage, label: str) -> ColorBar:
    """Add a colour bar beside the image of axes, as high as that, or as its label needs."""

    def beside(*_: object) -> Bbox:
        place, (wide, tall) = axes.get_position(), figure.get_size_inches()
        room = axes.get_position(original=True).height
        height = max(place.height, min(room, BAR_HEIGHT / tall))
        return Bbox.from_extents(
            place.x1 + BAR_GAP / wide,
            place.y1 - height,
            place.x1 + (BAR_GAP + BAR_WIDTH) / wide,
            place.y1 - BELOW / tall,
        )

    figure: Any = axes.figure
    place = figure.add_axes((0.0, 0.0, 0.1, 0.1))
    place.set_axes_locator(beside)
    bar = figure.colorbar(image, cax=place)
    bar.set_label(label, fontsize=LABEL_SIZE, color="black")
    bar.ax.tick_params(labelsize=SMALL, color="black", labelcolor="black")
    return bar


class Times(MaxNLocator):
    """Ticks of an axis of times in s: round numbers of minutes or hours on one in that unit."""

    def __init__(self, unit_s: float) -> None:
        super().__init__(6, steps=[1, 2, 2.5, 5, 10])
        self.unit_s = unit_s

    def tick_values(self, vmin: float, vmax: float) -> Any:
        """Return the places of the ticks between two values."""
        steps = (step for step in SIXTIES if abs(vmax - vmin) <= 6 * step)
        step = next(steps, 0.0)
        if self.unit_s == 1 or not step:
            return super().tick_values(vmin, vmax)
        first, last = (math.ceil(min(vmin, vmax) / step), math.floor(max(vmin, vmax) / step))
        return step * np.arange(first, last + 1)


def show_times(axis: Axis, unit_s: float) -> None:
    """Label an axis of times in s in a unit of so many s."""
    locator = axis.get_major_locator()
    if isinstance(locator, Times) and locator.unit_s == unit_s:
        return
    axis.set_major_locator(Times(unit_s))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / unit_s:.6g}"))


class Decades(LogLocator):
    """Ticks of a logarithmic axis: as many round numbers as there is room for, two at least."""

    def __init__(self) -> None:
        super().__init__(subs=(1.0,), numticks=9)

    def tick_values(self, vmin: float, vmax: float) -> Any:
        """Return the places of the ticks between two values."""
        low, high = sorted((vmin, vmax))
        candidates = [_decades(digits, low, high) for digits in ((1, 2, 5), (1,), range(1, 10))]
        candidates = [found for found in candidates if len(found) > 1]
        if not candidates:  # less than from one digit to the next: as good as linear
            candidates = [np.asarray(MaxNLocator(3).tick_values(low, high))]
        fitting = (found for found in candidates if self._fit(found, low, high))
        return next(fitting, candidates[0][[0, -1]])

    def _fit(self, found: Array, low: float, high: float) -> bool:
        """Whether there is room for the numbers at these places of an axis."""
        if self.axis is None:
            return True
        room = self.axis.get_tick_space()
        if getattr(self.axis, "axis_name", "x") == "y":
            return len(found) <= room
        places = LETTERS * room * np.log(found / low) / np.log(high / low)
        letters = np.array([len(number(value)) + 1 for value in found.tolist()])
        return bool((np.diff(places) >= (letters[1:] + letters[:-1]) / 2).all())


def _decades(digits: Sequence[int], low: float, high: float) -> Array:
    found = np.asarray(LogLocator(subs=tuple(digits), numticks=9).tick_values(low, high))
    return found[(found >= low) & (found <= high)]


def number(value: float, _position: int | None = None) -> str:
    """Return how a tick is labelled: a plain number, or one with a power of ten."""
    if not value or PLAIN[0] <= abs(value) < PLAIN[1]:
        return f"{value:.10g}"
    mantissa, exponent = f"{value:.3e}".split("e")
    factor = mantissa.rstrip("0").rstrip(".")
    power = f"10{str(int(exponent)).translate(EXPONENTS)}"
    return power if factor == "1" else f"{factor}×{power}"


def logarithmic(axes: Axes, names: str) -> None:
    """Make axes ("x", "y" or "xy") logarithmic, with few labels; each begins as one decade."""
    for name in names:
        axes.set(**{f"{name}scale": "log", f"{name}lim": (1.0, 10.0)})  # no data: no logarithm
        round_numbers(axes.xaxis if name == "x" else axes.yaxis)


def round_numbers(axis: Axis) -> None:
    """Label a logarithmic axis with few and round numbers."""
    axis.set_major_locator(Decades())
    axis.set_major_formatter(FuncFormatter(number))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def blank(axes: Axes, empty: bool, *, names: str = "xy") -> None:
    """Take the numbers from axes on which nothing is, or give them back."""
    if "x" in names:
        axes.tick_params(axis="x", bottom=not empty, labelbottom=not empty)
    if "y" in names:
        axes.tick_params(axis="y", left=not empty, labelleft=not empty)


def points(
    axes: Axes,
    colour: str,
    marker: str,
    size: float,
    *,
    level: float,
    hollow: bool = False,
    label: str | None = None,
) -> Line2D:
    """Add points, none at first."""
    (line,) = axes.plot(
        [], [], ls="", marker=marker, ms=size, mec=colour, mew=0.9, zorder=level,
        mfc="none" if hollow else colour, label=label,
    )  # fmt: skip
    return line


def bar_ends(x: FloatArray, lower: FloatArray, upper: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the ends of error bars with a gap after each, as one line."""
    known = upper > lower
    ends = np.stack([lower[known], upper[known], np.full(known.sum(), np.nan)], axis=1)
    return np.repeat(x[known], 3), ends.ravel()


def coloured(outline: Array) -> Array:
    """Return an RGBA image (rows, cols, 4): ROIs in thin white, the chosen one in its colour.

    The outlines of many narrow ROIs would hide what is under them: they are the fainter, the more
    of the image they cover.
    """
    covered = float(np.mean(outline == views.ROI_EDGE))
    colours = np.zeros((4, 4))
    colours[views.ROI_EDGE] = (1, 1, 1, ROI_OPACITY * min(1.0, COVERED / max(covered, 1e-9)))
    colours[views.CHOSEN_EDGE] = to_rgba(views.RECOMMENDED)
    colours[views.CHOSEN_INSIDE] = to_rgba(views.RECOMMENDED, 0.16)
    return np.rint(255 * colours).astype(np.uint8)[outline]
