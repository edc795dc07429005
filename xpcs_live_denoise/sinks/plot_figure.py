"""The figure of the live window: its panels, its title lines and the choice of the ROI."""

# matplotlib's types are partly unknown.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .plot_curves import G2Panel, PowerLawPanel
from .plot_gamma import GammaPanel
from .plot_images import C2Panels, PicturePanel
from .plot_state import Snapshot
from .plot_style import DOUBTED, LABEL_SIZE, reword

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

SIZE_INCHES, DPI = (15.0, 9.0), 100
# Letters of the status that fit into the line at the bottom.
MESSAGE_LENGTH = 190
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
        # A detector wider than high fills its cell: its colour bar needs room beside it.
        place = cells[0].get_position()
        cells[0].set_position((place.x0, place.y0, 0.88 * place.width, place.height))
        self._picture = PicturePanel(figure, cells[0])
        self._panels = (
            self._picture,
            C2Panels(figure, cells[1], cells[2]),
            G2Panel(cells[3]),
            GammaPanel(cells[4]),
            PowerLawPanel(cells[5]),
        )
        # Texts of axes, unlike those of a figure, are in saved files also when they are animated.
        page = figure.add_axes((0.0, 0.0, 1.0, 1.0), zorder=-1)
        page.set_axis_off()
        page.set_navigate(False)
        self._title = page.text(0.012, 0.975, "", fontsize=13, weight="bold", va="top")
        self._numbers = page.text(0.012, 0.932, "", fontsize=11, va="top")
        self._message = page.text(0.012, 0.012, "", fontsize=LABEL_SIZE, color=DOUBTED)
        self._roi = page.text(0.862, 0.955, "", fontsize=11, ha="center", va="center")
        self._widgets: list[Any] = []
        if step is not None and choose is not None:
            self._listen(step, choose)

    def update(self, now: Snapshot) -> bool:
        """Show a snapshot; the caller draws.

        Returns
        -------
        bool
            Whether an axis has changed, so that `draw_moving` over what stands is not enough.
        """
        changed = [panel.update(now) for panel in self._panels]
        # What changes but a few times a run stands with the axes.
        changed.append(reword(self._title, title_line(now)))
        changed.append(reword(self._roi, _roi_words(now)))
        self._numbers.set_text(numbers_line(now))
        self._message.set_text(message_line(now))
        for artist in self._moving:
            artist.set_animated(True)  # left out when the figure is drawn, but for saving
        return any(changed)

    @property
    def words(self) -> str:
        """What the lines above and below the panels say."""
        lines = (self._title, self._numbers, self._roi, self._message)
        return "\n".join(text.get_text() for text in lines)

    def draw_moving(self) -> None:
        """Draw what changes between snapshots over a figure that has the rest."""
        from matplotlib.text import Text

        for artist in self._moving:
            if not (isinstance(artist, Text) and not artist.get_text()):
                (artist.axes or self.figure).draw_artist(artist)

    @property
    def _moving(self) -> list[Artist]:
        texts: list[Artist] = [self._numbers, self._message]
        return [artist for panel in self._panels for artist in panel.moving] + texts

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


def _roi_words(now: Snapshot) -> str:
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


def numbers_line(now: Snapshot) -> str:
    """Return frames, contrast, counts, dose, lag and skipped frames.

    The dose is what a pixel of the ROI has counted in all, frames times mean counts: the flux of
    the beam is not known here.
    """
    status = now.status
    expected = now.info.n_expected
    of = f" of {expected}" if expected else ""
    parts = [f"{now.n_frames}{of} frames"]
    contrast = status.contrast[now.roi] if now.roi < len(status.contrast) else math.nan
    parts.append(f"β {contrast:.3f}" if math.isfinite(contrast) else "β -")
    counts = counts_a_frame(now)
    if math.isfinite(counts):
        parts.append(f"{counts:.3g} counts/px/frame")
        parts.append(f"dose {counts * status.n_processed:.3g} counts/px")
    parts.append(f"{status.lag_s:.2f} s behind the detector")
    parts.append(f"{status.n_skipped} skipped")
    return "  ·  ".join(parts)


def message_line(now: Snapshot) -> str:
    """Return what a user should know, cut to one line."""
    reason = now.end.reason if now.end is not None else ""
    words = " ".join(dict.fromkeys(part for part in (reason, now.status.message) if part))
    return words if len(words) <= MESSAGE_LENGTH else words[: MESSAGE_LENGTH - 1] + "…"


def counts_a_frame(now: Snapshot) -> float:
    """Return the mean counts a pixel and frame in the chosen ROI; NaN before the first picture."""
    if now.picture is None:
        return math.nan
    inside = now.picture.mean[now.picture.labels == now.info.roi[now.roi]]
    inside = inside[np.isfinite(inside)]
    return float(inside.mean()) if inside.size else math.nan
