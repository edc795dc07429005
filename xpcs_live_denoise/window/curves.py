"""The curve panels of the live window: g2 with its fits, Gamma(t), and Gamma against q."""

# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xpcs_live_denoise.numerics.fits import fit_g2, fit_power_law
from xpcs_live_denoise.numerics.kww import kww
from xpcs_live_denoise.records.results import GammaTable
from xpcs_live_denoise.views import BAYES, Snapshot

from .cells import Cell, Place
from .style import (
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
    reword,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# matplotlib's types are partly unknown.


SHOWN_LAGS = 0.8  # of the series: what the scale of g2 is taken from
LEAST_LAGS = 10  # fewer are not fitted
MOST_POINTS = 120  # points of g2 that are drawn, evenly on the logarithmic axis


class G2Panel:
    """g2 of the chosen ROI so far, raw and denoised, each with its fit.

    Parameters
    ----------
    figure, axes
        Where to draw.
    place
        The part of the figure that belongs to this panel.
    """

    def __init__(self, figure: Figure, axes: Axes, place: Place) -> None:
        self._title = dress(axes, "g2 so far", "delay (s)", "g2")
        axes.set_xscale("log")
        few_logarithmic_ticks(axes.xaxis)
        axes.ticklabel_format(axis="y", useOffset=False)
        self._limits = Limits(axes)
        self._bars = axes.vlines([], [], [], color=RAW, linewidth=0.7)
        (self._raw,) = axes.plot([], [], "o", ms=3.2, color=RAW, label="raw")
        (self._raw_fit,) = axes.plot([], [], "--", lw=1.3, color="#404040", label="fit of raw")
        (self._denoised,) = axes.plot([], [], "o", ms=3.2, color=DENOISED, label="denoised")
        (self._denoised_fit,) = axes.plot([], [], lw=1.3, color=DENOISED, label="fit of denoised")
        axes.legend(loc="upper right", fontsize=SMALL, frameon=False)
        curves = [self._raw, self._denoised, self._raw_fit, self._denoised_fit]
        self._cell = Cell(figure, place, axes)
        self._cell.moving = [self._bars, *curves]

    @property
    def cells(self) -> list[Cell]:
        """The parts that are drawn by themselves."""
        return [self._cell]

    def update(self, now: Snapshot) -> None:
        """Show the newest g2, fitted here while the run is on."""
        self._cell.renew()
        time_s = now.info.frame_time_s
        kept = _evenly(len(now.g2))
        lag, g2 = (kept + 1).astype(np.float64), now.g2[kept]
        self._raw.set_data(lag * time_s, g2)
        error = None if now.g2_error is None else now.g2_error[kept]
        self._bars.set_segments(
            [] if error is None else _segments(lag * time_s, g2 - error, g2 + error)
        )
        denoised = now.g2_denoised
        near = np.empty(0, int) if denoised is None else _evenly(len(denoised))
        self._denoised.set_data(
            (near + 1) * time_s, np.empty(0) if denoised is None else denoised[near]
        )
        self._raw_fit.set_data(*_fitted(now.g2, now.g2_error, now, "series_raw"))
        self._denoised_fit.set_data(*_fitted(denoised, None, now, "series_denoised"))
        title = "g2 of the whole series" if now.final else "g2 so far"
        self._cell.renew(axes=reword(self._title, title))
        inner = g2[lag <= max(SHOWN_LAGS * len(now.g2), 2)]
        inner = inner[np.isfinite(inner)]
        if not inner.size:
            return
        low, high = float(inner.min()), float(inner.max())
        margin = 0.12 * (high - low) or 0.05
        longest = max(len(now.g2), 2, 0 if now.final else now.info.n_expected or 0) * time_s
        ends = (0.85 * time_s, 1.2 * longest), (low - margin, high + margin)
        self._cell.renew_limits(*self._limits.show(*ends))


def _evenly(n: int) -> NDArray[np.int64]:
    """Return at most MOST_POINTS of 0..n-1: all short lags, longer ones evenly in their ratio."""
    if n <= MOST_POINTS:
        return np.arange(n)
    return np.unique(np.rint(np.geomspace(1, n, MOST_POINTS)).astype(np.int64) - 1)


def _segments(
    x: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    good = np.isfinite(low) & np.isfinite(high)
    return list(np.stack([np.stack([x, low], 1), np.stack([x, high], 1)], 1)[good])


def _fitted(
    g2: NDArray[np.float64] | None,
    error: NDArray[np.float64] | None,
    now: Snapshot,
    source: str,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return delays and values of the fit: of the final row, else of one made now."""
    nothing = np.empty(0), np.empty(0)
    if g2 is None or np.isfinite(g2).sum() < LEAST_LAGS:
        return nothing
    row = None if now.gamma is None else now.gamma.select(now.gamma.source == source)
    if row is None or not len(row):
        n_averaged = now.n_frames - np.arange(1.0, len(g2) + 1)
        row = _fit_now(g2, error, np.maximum(n_averaged, 1.0), now.info.frame_time_s)
    if row is None:
        return nothing
    delay_s = np.geomspace(1, len(g2), 80) * now.info.frame_time_s
    values = kww(delay_s, row.relaxation_rate[0], row.alpha[0], row.beta[0], row.baseline[0])
    return delay_s, values


def _fit_now(
    g2: NDArray[np.float64],
    error: NDArray[np.float64] | None,
    weights: NDArray[np.float64],
    frame_time_s: float,
) -> GammaTable | None:
    how = {"weights": weights} if error is None else {"g2_error": error}
    row = fit_g2(g2, frame_time_s=frame_time_s, **how)
    return row if row.converged[0] else None


class PowerLawPanel:
    """Gamma of all ROIs against q^2, with the power law through them.

    Parameters
    ----------
    figure, axes
        Where to draw.
    place
        The part of the figure that belongs to this panel.
    """

    def __init__(self, figure: Figure, axes: Axes, place: Place) -> None:
        dress(axes, "Γ against q²", "q² (Å⁻²)", "typical Γ (1/s)")
        axes.set_xscale("log")
        axes.set_yscale("log")
        few_logarithmic_ticks(axes.xaxis)
        few_logarithmic_ticks(axes.yaxis)
        self._limits = Limits(axes)
        (self._all,) = axes.plot([], [], "o", ms=6, color=TRUSTED, ls="")
        (self._chosen,) = axes.plot([], [], "o", ms=12, mfc="none", mec=TRUSTED, mew=1.6, ls="")
        (self._line,) = axes.plot([], [], "--", lw=1.3, color="#404040")
        self._text = axes.text(
            0.04, 0.95, "", transform=axes.transAxes, va="top", fontsize=LABEL_SIZE
        )
        self._cell = Cell(figure, place, axes)
        self._cell.moving = [self._line, self._all, self._chosen, self._text]
        self._drawn: tuple[Any, ...] = ()

    @property
    def cells(self) -> list[Cell]:
        """The parts that are drawn by themselves."""
        return [self._cell]

    def update(self, now: Snapshot) -> None:
        """Show what is recommended so far, one rate a ROI."""
        drawn = (now.info, now.roi, now.typical_rates.tobytes())
        if drawn == self._drawn:
            return
        self._drawn = drawn
        self._cell.renew()
        q = np.array(now.info.q_inv_angstrom, float)
        rates = now.typical_rates
        good = np.isfinite(q) & (q > 0) & np.isfinite(rates)
        self._all.set_data(q[good] ** 2, rates[good])
        one = good & (np.arange(len(q)) == now.roi)
        self._chosen.set_data(q[one] ** 2, rates[one])
        law = fit_power_law(q, rates)
        if law is None:
            self._line.set_data([], [])
            self._text.set_text(_why_no_law(q, good))
        else:
            ends = np.array([q[good].min() / 1.1, q[good].max() * 1.1])
            self._line.set_data(ends**2, law.scale * ends**law.exponent)
            # A formula would take longer than all the rest of the panel.
            power = f"{law.exponent:.2f} ± {law.exponent_error:.2f}"
            self._text.set_text(f"Γ ∝ qⁿ,  n = {power}\nn = 2 for diffusion")
        if not good.any():
            return
        x, y = q[good] ** 2, rates[good]
        ends = (x.min() / 1.6, x.max() * 1.6), (y.min() / 2.2, y.max() * 2.8)
        self._cell.renew_limits(*self._limits.show(*ends))


def _why_no_law(q: NDArray[np.float64], good: NDArray[np.bool_]) -> str:
    if not np.isfinite(q).any():
        return "q is not known: no geometry"
    if len(q) < 3:
        return "needs three ROIs"
    return f"recommended Γ in {good.sum()} of {len(q)} ROIs;\nthree are needed"


# matplotlib's types are partly unknown.


SHOWN_RATES = (5, 95)  # percentiles: the scale is somewhat wider
# Points of one kind that are drawn, a little more at most: closer ones cannot be told apart.
MOST_ROWS = 200
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
        rows = rows.select(np.arange(0, len(rows), 1 + len(rows) // MOST_ROWS))
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
