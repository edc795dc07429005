"""The lines above and below the panels of the live window: which run, its numbers, a message."""

# matplotlib's types are partly unknown.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

from xpcs_live_denoise.analysis.detector_image import mean_counts

from .plot_cells import Cell, Place
from xpcs_live_denoise.views.state import Snapshot
from .plot_style import DOUBTED, LABEL_SIZE, reword

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.text import Text

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
