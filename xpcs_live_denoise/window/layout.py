"""Where everything of a figure stands, in inches: lines of text around the panels, and the panels.

Letters keep their size; what is too wide goes on in the next line, and the panels take the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from matplotlib.widgets import Button

from xpcs_live_denoise import views

from .lettering import (
    HEAD_SIZE,
    LABEL_SIZE,
    LINE,
    SMALL,
    TITLE_SIZE,
    drawable,
    elided,
    families,
    fitted_title,
    lines_of,
    width_of,
)  # fmt: skip
from .run_view import RunView

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MouseEvent: TypeAlias = Any  # of matplotlib: what it holds depends on where the mouse is

PAD, GAP = 0.14, 0.25  # around everything; between title and the choice of the ROI
BUTTON, ROI_WIDTH = (0.32, 0.27), 1.5  # width and height of a button; least room between them
HEAD_HEIGHT = 0.31
# Room for numbers, labels and colour bars: left and right of the panels and between them.
LEFT, RIGHT, BETWEEN = 0.72, 0.86, 1.0
OVER, UNDER = 0.27, 0.44  # a panel: its title, its numbers with the axis' label
LEAST = 0.5  # a panel is drawn at least so wide and high, however small the window
IMAGES = ("detector", "c2_raw", "c2_denoised")  # in the upper row, square if its share allows it
LEAST_IMAGES, MOST_IMAGES = 0.45, 0.56  # of the height of both rows
COLUMNS = {
    "detector": 0, "c2_raw": 1, "c2_denoised": 2,
    "g2": 0, "heterogeneity": 0, "gamma": 1, "intensity": 1, "power_law": 2, "saxs": 2,
}  # fmt: skip
# Panels that share a place with one below: which, what part of it they have, and the gap, inches.
STACKED = {
    "g2": ("heterogeneity", 0.6, 0.06),
    "gamma": ("intensity", 0.68, 0.14),  # half a number above and below
    "power_law": ("saxs", 0.55, 0.25),  # with axes of their own
}
BESIDE_DETECTOR = 0.4  # one wider than high fills its place: part of its colour bar is in it
MESSAGE_SHARE = 0.25  # of the height that the message may take where nobody can make room
SIZES = {"title": HEAD_SIZE, "facts": LABEL_SIZE + 0.5, "roi": TITLE_SIZE, "message": LABEL_SIZE}
GIVEN_SHARE = 0.06  # that it has in any case, where somebody can
BETWEEN_FACTS = "  ·  "
IN_PARENTHESES = re.compile(r"\([^)]*\)")
CUT = "… (all of it: hold the mouse here)"


def line_height(size: float) -> float:
    """Return the height of a line, inches."""
    return size * LINE / 72


class Layout:
    """The lines of text around the panels of a figure, and the places of all.

    Parameters
    ----------
    figure, axes
        The figure, and its panels by name.
    step
        Called with +1 or -1 by the buttons for the next or the previous ROI; None: no buttons.
    """

    def __init__(
        self, figure: Figure, axes: Mapping[str, Axes], step: Callable[[int], None] | None
    ) -> None:
        self.figure = figure
        self._axes = axes
        self._full: dict[str, str] = {}  # what was shortened, by the name of its text
        self._texts = {
            name: figure.text(
                0, 0, "", fontsize=size, va="top", family=list(families()), parse_math=False,
                color=views.DOUBTFUL if name == "message" else "black",
                weight="bold" if name == "title" else "normal", linespacing=LINE / 1.2,
            )
            for name, size in SIZES.items()
        }  # fmt: skip
        self._texts["roi"].set(va="center")
        self._is_window = step is not None
        self._buttons: list[Button] = []  # matplotlib keeps only weak references to them
        if step is not None:
            for words, by in (("◀", -1), ("▶", 1)):
                button = Button(figure.add_axes((0, 0, 0.1, 0.1)), words)
                button.on_clicked(lambda _event, by=by, step=step: step(by))
                self._buttons.append(button)

    @property
    def words(self) -> str:
        """What the lines above and below the panels say."""
        return "\n".join(text.get_text() for text in self._texts.values())

    def in_full(self, x: float, y: float) -> str:
        """Return the whole of a shortened text at a place of the canvas, px; "" elsewhere."""
        for name, whole in self._full.items():
            if self._texts[name].get_window_extent().contains(x, y):
                return whole
        return ""

    def arrange(self, view: RunView, *, grow: bool = False) -> None:
        """Write the lines and place everything for the figure's size of now.

        With `grow` the figure gets as high as a long message needs. In a window the end of one that
        is longer than its share is left out, and told by `in_full`.
        """
        width, height = self.figure.get_size_inches().tolist()
        self._full = {}
        message = lines_of(drawable(view.message), width - 2 * PAD, SIZES["message"])
        step = line_height(SIZES["message"])
        if grow:
            most = max(2, int(GIVEN_SHARE * height / step))
            height += max(0, len(message) - most) * step
            self.figure.set_size_inches(width, height)
        elif self._is_window:
            most = max(2, int(MESSAGE_SHARE * height / step))
            message = self._shortened(message, most, width - 2 * PAD)
        self._texts["message"].set_text("\n".join(message))
        self._texts["message"].set_position((PAD / width, (PAD + len(message) * step) / height))
        top = self._write_head(view, width, height)
        self._place_panels(view, width, height, top, 1.5 * PAD + len(message) * step)

    def _shortened(self, message: list[str], most: int, width: float) -> list[str]:
        if len(message) <= most:
            return message
        self._full["message"] = " ".join(message)
        last = elided(message[most - 1], width - width_of(CUT, SIZES["message"]), SIZES["message"])
        return [*message[: most - 1], last.rstrip("…") + CUT]

    def _write_head(self, view: RunView, width: float, height: float) -> float:
        """Write title, facts and ROI; return how much height is left.

        The ROI stands on the right of the title, or of the facts where a long title needs the line.
        """
        title, roi = drawable(view.title), drawable(view.roi)
        free = width - 2 * PAD
        choice = self._width_of_choice(view, roi) + GAP
        beside_title = width_of(title, SIZES["title"], "bold") <= free - choice
        shown = title if beside_title else fitted_title(title, free, SIZES["title"], "bold")
        if shown != title:
            self._full["title"] = " ".join(view.title.split())
        self._texts["title"].set_text(shown)
        self._texts["title"].set_position((PAD / width, 1 - PAD / height))
        facts = lines_of(
            BETWEEN_FACTS.join(drawable(" ".join(fact)) for fact in view.facts),
            free if beside_title else free - choice,
            SIZES["facts"],
            between=BETWEEN_FACTS,
        )
        below = height - PAD - HEAD_HEIGHT
        self._texts["facts"].set_text("\n".join(facts))
        self._texts["facts"].set_position((PAD / width, below / height))
        high = len(facts) * line_height(SIZES["facts"])
        self._place_choice(view, roi, (height - PAD if beside_title else below), width, height)
        return below - (high if beside_title else max(high, BUTTON[1])) - 0.06

    def _width_of_choice(self, view: RunView, roi: str) -> float:
        """Return how wide the ROI is, with its buttons where there are others to choose."""
        wide = width_of(roi, SIZES["roi"])
        if self._is_window and view.n_roi > 1:
            return max(wide, ROI_WIDTH) + 0.22 + 2 * BUTTON[0]
        return wide

    def _place_choice(
        self, view: RunView, roi: str, top: float, width: float, height: float
    ) -> None:
        right, middle = width - PAD, top - 0.5 * BUTTON[1]
        several = self._is_window and view.n_roi > 1
        wide = self._width_of_choice(view, roi)
        lefts = right - wide, right - BUTTON[0]
        for button, left in zip(self._buttons, lefts, strict=False):
            button.ax.set_visible(several)
            place = (left, middle - BUTTON[1] / 2, *BUTTON)
            button.ax.set_position(_share(place, width, height))
        x = right - wide / 2 if several else right
        self._texts["roi"].set(
            text=roi, x=x / width, y=middle / height, ha="center" if several else "right"
        )

    def _place_panels(
        self, view: RunView, width: float, height: float, top: float, bottom: float
    ) -> None:
        """Place the panels between two heights, in two rows of three."""
        for name, shown in (("intensity", view.intensity), ("saxs", view.saxs)):
            self._axes[name].set_visible(shown is not None)
        panel = max(LEAST, (width - LEFT - RIGHT - 2 * BETWEEN) / 3)
        lines = self._write_labels(view, panel)
        bottom += (lines - 1) * line_height(LABEL_SIZE)
        free = max(2 * LEAST, top - bottom - 2 * (OVER + UNDER))
        images = min(max(panel, LEAST_IMAGES * free), MOST_IMAGES * free)
        curves = free - images
        rows = (bottom + UNDER + curves + OVER + UNDER, bottom + UNDER)
        for name, axes in self._axes.items():
            left = LEFT + COLUMNS[name] * (panel + BETWEEN)
            wide, y, tall = panel, rows[1], curves
            if name in IMAGES:
                y, tall = rows[0], images
                wide -= BESIDE_DETECTOR if name == "detector" else 0
            for upper, (lower, share, gap) in STACKED.items():
                if name == upper and self._axes[lower].get_visible():
                    y, tall = y + (1 - share) * curves, share * curves
                elif name == lower:
                    tall = max(0.1, (1 - share) * curves - gap)
            axes.set_position(_share((left, y, wide, tall), width, height))

    def _write_labels(self, view: RunView, panel: float) -> int:
        """Label the axes, on as many lines as they need; return how many that are below."""
        most = 1
        of_ages = {"c2_raw": (1, 1), "c2_denoised": (1, 1), "gamma": (1, 0), "intensity": (1, 0)}
        for name, axes in self._axes.items():
            x, y = x_label(name, view), views.PANELS[name][2]
            # Delays keep their unit; ages have one to suit the length of the series.
            x_end, y_end = of_ages.get(name, (0, 0))
            if name == "c2_denoised" and view.two_time.strip is not None:
                y, y_end = views.SHORT_LAGS_LABEL, 0
            x, y = (
                views.in_unit(label, view.time_unit, long * view.two_time.series_s)
                for label, long in ((x, x_end), (y, y_end))
            )
            lines = lines_of(x, panel, LABEL_SIZE)
            axes.set_xlabel("\n".join(lines), fontsize=LABEL_SIZE, labelpad=3, color="black")
            axes.set_ylabel(y, fontsize=LABEL_SIZE, labelpad=3, color="black")
            most = max(most, len(lines))
        return most


def x_label(name: str, view: RunView) -> str:
    """Return the label below a panel, for times in s; "" where another panel is below it."""
    if (name == "gamma" and view.intensity) or (name == "power_law" and view.saxs):
        return ""
    if name in ("gamma", "intensity"):
        return view.gamma.age_label
    if name == "saxs" and view.saxs is not None:
        return view.saxs.x_label
    return views.PANELS[name][1]


def _kept_together(found: re.Match[str]) -> str:
    return found[0].replace(" ", "\u00a0")


def _share(
    place: tuple[float, float, float, float], width: float, height: float
) -> tuple[float, float, float, float]:
    """Return a place in inches (left, bottom, width, height) as shares of a figure."""
    left, bottom, wide, tall = place
    return left / width, bottom / height, wide / width, tall / height


def wrapped(text: str, axes: Axes, size: float = SMALL) -> str:
    """Return a text cut into lines that fit into a panel, not within parentheses."""
    figure: Any = axes.figure
    width = axes.get_position().width * figure.get_size_inches()[0]
    together = IN_PARENTHESES.sub(_kept_together, drawable(text))
    return "\n".join(lines_of(together, 0.97 * width, size))
