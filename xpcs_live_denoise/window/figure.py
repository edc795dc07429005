"""The figure of the live window: its panels, its title lines and the choice of the ROI."""

# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from xpcs_live_denoise.views import mean_counts
from xpcs_live_denoise.views import Snapshot

from .cells import Cell, Place
from .curves import G2Panel, GammaPanel, PowerLawPanel
from .images import C2Panels, PicturePanel
from .style import DOUBTED, LABEL_SIZE, reword

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

# matplotlib's types are partly unknown.


SIZE_INCHES, DPI = (15.0, 9.0), 100
# Edges of the panels with all that belongs to them, as shares of the figure: nothing crosses them.
ROWS = (0.905, 0.430, 0.030)
COLUMNS = ((0.0, 0.337, 0.645, 1.0), (0.0, 0.320, 0.6425, 1.0))
KEYS = {"up": -1, "pageup": -1, "down": 1, "pagedown": 1}


class LiveFigure:
    """Draws snapshots into a figure, by changing what is drawn already.

    Parameters
    ----------
    figure
        Empty; belongs to this object from now on.
    choose
        Called with +1 or -1 (next or previous ROI) or a label, when a user chooses by the buttons,
        by the keys up and down, or by a click into the detector's picture.
    """

    def __init__(
        self,
        figure: Figure,
        *,
        step: Callable[[int], None] | None = None,
        choose: Callable[[int], None] | None = None,
    ) -> None:
        self.figure = figure
        grid = figure.add_gridspec(
            2,
            3,
            left=0.05,
            right=0.945,
            top=0.865,
            bottom=0.09,
            hspace=0.27,
            wspace=0.29,
            height_ratios=(1.25, 1.0),
        )
        cells = [figure.add_subplot(grid[row, col]) for row in range(2) for col in range(3)]
        places = [
            (left, lower, right, upper)
            for (upper, lower), edges in zip(itertools.pairwise(ROWS), COLUMNS, strict=True)
            for left, right in itertools.pairwise(edges)
        ]
        # A detector wider than high fills its cell: its colour bar needs room beside it.
        place = cells[0].get_position()
        cells[0].set_position((place.x0, place.y0, 0.88 * place.width, place.height))
        self._picture = PicturePanel(figure, cells[0], places[0])
        self._lines = Lines(figure)
        self._panels = (
            self._picture,
            C2Panels(figure, cells[1], cells[2], (places[1], places[2])),
            G2Panel(figure, cells[3], places[3]),
            GammaPanel(figure, cells[4], places[4]),
            PowerLawPanel(figure, cells[5], places[5]),
            self._lines,
        )
        self._cells = [cell for panel in self._panels for cell in panel.cells]
        self._widgets: list[Any] = []
        if step is not None and choose is not None:
            self._listen(step, choose)

    def update(self, now: Snapshot) -> bool:
        """Show a snapshot; the caller draws.

        Returns
        -------
        bool
            Whether an axis has changed.
        """
        for panel in self._panels:
            panel.update(now)
        for cell in self._cells:
            for artist in cell.moving:
                artist.set_animated(True)  # left out when the figure is drawn, but for saving
        return any(cell.stale_axes for cell in self._cells)

    @property
    def words(self) -> str:
        """What the lines above and below the panels say."""
        return self._lines.words

    def keep(self) -> None:
        """Take what stands from the figure, which was drawn whole, and draw the rest over it."""
        for cell in self._cells:
            cell.keep(self.figure.canvas)

    def draw_changes(self) -> Bbox | None:
        """Draw what updates have changed since; return the rectangle (px) that holds it all."""
        from matplotlib.transforms import Bbox

        stale = [cell for cell in self._cells if cell.stale]
        for cell in stale:
            cell.draw(self.figure.canvas)
        return Bbox.union([cell.box for cell in stale]) if stale else None

    def _listen(self, step: Callable[[int], None], choose: Callable[[int], None]) -> None:
        from matplotlib.widgets import Button

        for left, words, by in ((0.735, "◀", -1), (0.958, "▶", 1)):
            button = Button(self.figure.add_axes((left, 0.935, 0.03, 0.04)), words)
            button.on_clicked(lambda _event, by=by: step(by))
            self._widgets.append(button)
        canvas = self.figure.canvas
        canvas.mpl_connect(
            "key_press_event",
            lambda event: step(KEYS[event.key]) if event.key in KEYS else None,  # pyright: ignore
        )
        canvas.mpl_connect("button_press_event", lambda event: self._clicked(event, choose))

    def _clicked(self, event: Any, choose: Callable[[int], None]) -> None:
        toolbar = self.figure.canvas.toolbar  # pyright: ignore[reportAttributeAccessIssue]
        if toolbar is not None and toolbar.mode:
            return  # the click zooms
        label = self._picture.label_at(event)
        if label:
            choose(label)


# matplotlib's types are partly unknown.


# Letters of the status that fit into the line at the bottom.
MESSAGE_LENGTH = 190
# In a narrower window, inches, numbers are smaller.
NUMBER_SIZE, FULL_WIDTH = 11, 14.5
# Left edges of frames, contrast, counts, dose, lag and skipped frames, and where they end. Each has
# its place: numbers that change do not push the others about, nor need they be drawn with them.
NUMBERS = (0.012, 0.137, 0.200, 0.332, 0.456, 0.618, 0.730)


class Lines:
    """The texts outside of the panels.

    Parameters
    ----------
    figure
        Where to draw.
    """

    def __init__(self, figure: Figure) -> None:
        self._figure = figure
        # Texts of axes, unlike those of a figure, are in saved files also when they are animated.
        self._page = figure.add_axes((0.0, 0.0, 1.0, 1.0), zorder=-1)
        self._page.set_axis_off()
        self._page.set_navigate(False)
        self.cells: list[Cell] = []
        title = {"fontsize": 13, "weight": "bold", "va": "top"}
        self._title = self._add((0.0, 0.945, 0.730, 1.0), (0.012, 0.975), **title)
        self._numbers = [
            self._add((left, 0.905, right, 0.945), (left, 0.932), fontsize=NUMBER_SIZE, va="top")
            for left, right in itertools.pairwise(NUMBERS)
        ]
        middle = {"fontsize": NUMBER_SIZE, "ha": "center", "va": "center"}
        self.roi = self._add((0.767, 0.930, 0.957, 0.980), (0.862, 0.955), **middle)
        small = {"fontsize": LABEL_SIZE, "color": DOUBTED}
        self._message = self._add((0.0, 0.0, 1.0, 0.030), (0.012, 0.012), **small)

    def _add(self, place: Place, at: tuple[float, float], **style: Any) -> Text:
        text = self._page.text(*at, "", **style)
        cell = Cell(self._figure, place)
        cell.moving = [text]
        self.cells.append(cell)
        return text

    @property
    def words(self) -> str:
        """What the lines say."""
        numbers = "  ·  ".join(text.get_text() for text in self._numbers if text.get_text())
        others = (self.roi.get_text(), self._message.get_text())
        return "\n".join((self._title.get_text(), numbers, *others))

    def update(self, now: Snapshot) -> None:
        """Say what is so at this moment."""
        self._fit()
        said = (title_line(now), *numbers(now), roi_words(now), message_line(now))
        texts = (self._title, *self._numbers, self.roi, self._message)
        for cell, text, words in zip(self.cells, texts, said, strict=True):
            if reword(text, words):
                cell.renew()

    def _fit(self) -> None:
        """Give texts that have their places a size that fits where the window is small."""
        size = NUMBER_SIZE * min(1.0, self._figure.get_figwidth() / FULL_WIDTH)
        if size != self.roi.get_fontsize():
            for text in (*self._numbers, self.roi):
                text.set_fontsize(size)


def roi_words(now: Snapshot) -> str:
    """Return which ROI is shown, which of how many it is, and its q."""
    q = now.info.q_inv_angstrom[now.roi]
    known = f"  q = {q:.4g} Å⁻¹" if math.isfinite(q) else ""
    return f"ROI {now.info.roi[now.roi]} ({now.roi + 1} of {len(now.info.roi)}){known}"


def title_line(now: Snapshot) -> str:
    """Return which run this is and how it stands."""
    start = now.info.start
    parts = [f"scan {start.get('scan_id', '-')}", now.info.uid[:8], now.info.detector]
    sample = start.get("sample") or start.get("sample_name")
    if isinstance(sample, dict):
        sample = sample.get("name")
    if sample:
        parts.append(str(sample)[:60])
    if now.end is not None:
        both = {now.end.raw_exit_status, now.end.analysis_exit_status}
        incomplete = "ended early" if now.final else "failed"
        parts.append("finished" if both == {"success"} else incomplete)
    return "  ·  ".join(parts)


def numbers(now: Snapshot) -> tuple[str, str, str, str, str, str]:
    """Return frames, contrast, counts, dose, lag and skipped frames; "" for what is not known.

    The dose is what a pixel of the ROI has counted in all, frames times mean counts: the flux of
    the beam is not known here.
    """
    status = now.status
    expected = now.info.n_expected
    of = f" of {expected}" if expected else ""
    contrast = status.contrast[now.roi] if now.roi < len(status.contrast) else math.nan
    counts = counts_a_frame(now)
    known = math.isfinite(counts)
    return (
        f"{now.n_frames}{of} frames",
        f"β {contrast:.3f}" if math.isfinite(contrast) else "β -",
        f"{counts:.3g} counts/px/frame" if known else "",
        f"dose {counts * status.n_processed:.3g} counts/px" if known else "",
        f"{status.lag_s:.2f} s behind the detector",
        f"{status.n_skipped} skipped",
    )


def message_line(now: Snapshot) -> str:
    """Return what a user should know, cut to one line."""
    reason = now.end.reason if now.end is not None else ""
    words = " ".join(dict.fromkeys(part for part in (reason, now.status.message) if part))
    return words if len(words) <= MESSAGE_LENGTH else words[: MESSAGE_LENGTH - 1] + "…"


def counts_a_frame(now: Snapshot) -> float:
    """Return the mean counts a pixel and frame in the chosen ROI; NaN before the first picture."""
    if now.picture is None:
        return math.nan
    return mean_counts(now.picture.mean, now.picture.labels, now.info.roi[now.roi])
