"""The panel of Gamma(t): raw, denoised, recommended, and what is not to be trusted, and why."""

# matplotlib's types are partly unknown.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xpcs_live_denoise.records.results import GammaTable

from .plot_cells import Cell, Place
from xpcs_live_denoise.views.state import (BAYES, Snapshot)
from .plot_style import (
    DENOISED,
    DOUBTED,
    LABEL_SIZE,
    RAW,
    SMALL,
    TRUSTED,
    Limits,
    dress,
    few_logarithmic_ticks,
    reason_words,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN_RATES = (5, 95)  # percentiles: the scale is somewhat wider
# Points of one kind that are drawn, a little more at most: closer ones cannot be told apart.
MOST_POINTS = 200
BEHIND = 0.2  # the place in the order of drawing of what lies behind all points


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    label: str
    colour: str
    marker: str
    size: float
    level: int
    bar_alpha: float = 0.8


_RAW = _Look(label="raw", colour=RAW, marker="o", size=3, level=1, bar_alpha=0.4)
_DENOISED = _Look(label="denoised", colour=DENOISED, marker="o", size=3, level=2)
_TRUSTED = _Look(label="recommended", colour=TRUSTED, marker="o", size=4.4, level=5)


class _Points:
    """Points of one look: filled where they are final, hollow where they may still change."""

    def __init__(self, axes: Axes, look: _Look) -> None:
        style: dict[str, Any] = {
            "ls": "",
            "marker": look.marker,
            "ms": look.size,
            "mec": look.colour,
            "mew": 0.9,
            "zorder": look.level,
        }
        (self.filled,) = axes.plot([], [], mfc=look.colour, **style)
        (self.hollow,) = axes.plot([], [], mfc="none", **style)
        # One line with gaps is drawn several times faster than as many lines.
        bars: dict[str, Any] = {"solid_capstyle": "butt", "mec": "none", "mfc": "none"}
        (self.bars,) = axes.plot(
            [], [], color=look.colour, lw=0.8, alpha=look.bar_alpha, zorder=look.level - 0.5, **bars
        )
        self.filled.set_label(look.label)

    def show(self, rows: GammaTable) -> None:
        rows = rows.select(np.arange(0, len(rows), 1 + len(rows) // MOST_POINTS))
        for line, kept in ((self.filled, rows.final), (self.hollow, ~rows.final)):
            line.set_data(rows.age_s[kept], rows.relaxation_rate[kept])
        self.bars.set_data(*_bars(rows))


def _bars(rows: GammaTable) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of the error bars with a gap after each.

    What reaches below zero has no place on a logarithmic axis.
    """
    known = np.isfinite(rows.relaxation_rate_error)
    age, rate = rows.age_s[known], rows.relaxation_rate[known]
    error = rows.relaxation_rate_error[known]
    low = np.maximum(rate - error, 0.05 * rate)
    ends = np.stack([low, rate + error, np.full_like(rate, np.nan)], axis=1)
    return np.repeat(age, 3), ends.ravel()


class GammaPanel:
    """Gamma(t) of the chosen ROI.

    Parameters
    ----------
    figure, axes
        Where to draw.
    place
        The part of the figure that belongs to this panel.
    """

    def __init__(self, figure: Figure, axes: Axes, place: Place) -> None:
        dress(axes, "Γ(t)", "age (s)", "Γ (1/s)")
        axes.set_yscale("log")
        few_logarithmic_ticks(axes.yaxis)
        self._axes = axes
        self._limits = Limits(axes)
        self._points = {look.label: _Points(axes, look) for look in (_RAW, _DENOISED, _TRUSTED)}
        self._doubted: dict[str, _Points] = {}
        self._listed: tuple[str, ...] = ()
        self._note = axes.text(
            0.5, 0.5, "", transform=axes.transAxes, ha="center", va="center", fontsize=LABEL_SIZE
        )
        self._cell = Cell(figure, place, axes)

    @property
    def cells(self) -> list[Cell]:
        """The parts that are drawn by themselves."""
        return [self._cell]

    def update(self, now: Snapshot) -> None:
        """Show the rows that hold, but not fits of a whole series."""
        self._cell.renew()
        self._show(now)
        points = [*self._points.values(), *self._doubted.values()]
        drawn = [artist for one in points for artist in (one.bars, one.hollow, one.filled)]
        self._cell.moving = [*drawn, self._note]

    def _show(self, now: Snapshot) -> None:
        """Set points and scale."""
        table = now.gamma
        if table is not None:
            table = table.select(np.isfinite(table.age_s) & (table.relaxation_rate > 0))
        if table is None or not len(table):
            for points in (*self._points.values(), *self._doubted.values()):
                points.filled.set_data([], [])
                points.hollow.set_data([], [])
                points.bars.set_data([], [])
            self._note.set_text(
                "no fit converged" if now.final else f"from {now.info.window} frames on"
            )
            return
        self._note.set_text("")
        bayes = np.isin(table.source, BAYES)
        trusted = table.recommended & bayes
        self._points["raw"].show(table.select(table.source == "raw"))
        self._points["denoised"].show(table.select(table.source == "denoised"))
        self._points["recommended"].show(table.select(trusted))
        doubted = table.select(bayes & ~trusted)
        self._show_doubted(doubted)
        self._list(table, doubted)
        self._show_scale(now, table, bayes)

    def _show_doubted(self, rows: GammaTable) -> None:
        for reason in np.unique(rows.reason).tolist():
            if reason not in self._doubted:
                words, marker = reason_words(reason)
                look = _Look(label=words, colour=DOUBTED, marker=marker, size=5, level=4)
                self._doubted[reason] = _Points(self._axes, look)
        for reason, points in self._doubted.items():
            points.show(rows.select(rows.reason == reason))

    def _list(self, table: GammaTable, doubted: GammaTable) -> None:
        """Make the legend anew when other kinds of points are there than before."""
        from matplotlib.lines import Line2D

        present = [name for name in ("raw", "denoised") if (table.source == name).any()]
        present += ["recommended"] if table.recommended.any() else []
        reasons = [str(reason) for reason in np.unique(doubted.reason)]
        provisional = not table.final.all()
        listed = (*present, *reasons, str(provisional))
        if listed == self._listed:
            return
        self._listed = listed
        handles: list[Any] = [self._points[name].filled for name in present]
        labels = list(present)
        for reason in reasons:
            handles.append(self._doubted[reason].filled)
            labels.append(f"not: {reason_words(reason)[0]}")
        if provisional:
            handles.append(Line2D([], [], ls="", marker="o", ms=5, mfc="none", mec="black"))
            labels.append("hollow: provisional")
        legend = self._axes.legend(
            handles, labels, loc="upper right", fontsize=SMALL, frameon=False,
            handletextpad=0.2, borderpad=0.3, labelspacing=0.3,
        )  # fmt: skip
        # It stands with the axes, behind the points: it hides none, and is not drawn with them.
        legend.set_zorder(BEHIND)
        self._cell.renew(axes=True)

    def _show_scale(self, now: Snapshot, table: GammaTable, bayes: NDArray[np.bool_]) -> None:
        shown = table.relaxation_rate[bayes] if bayes.any() else table.relaxation_rate
        low, high = (float(value) for value in np.percentile(shown, SHOWN_RATES))
        n_frames = now.n_frames if now.final else max(now.n_frames, now.info.n_expected or 0)
        edge = n_frames * now.info.frame_time_s
        moved = self._limits.show((-0.02 * edge, 1.02 * edge), (low / 4, high * 6))
        self._cell.renew_limits(*moved)
