"""The figure of the live window: its panels, its title lines and the choice of the ROI."""

# matplotlib's types are partly unknown.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .plot_curves import G2Panel, PowerLawPanel
from .plot_gamma import GammaPanel
from .plot_images import C2Panels, PicturePanel
from .plot_lines import Lines
from xpcs_live_denoise.views.state import Snapshot

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

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
