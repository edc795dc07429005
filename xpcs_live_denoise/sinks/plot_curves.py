"""The curve panels of the live window: g2 with its fits, Gamma(t), and Gamma against q."""

# matplotlib's types are partly unknown.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xpcs_live_denoise.numerics.kww import kww
from xpcs_live_denoise.numerics.fits import fit_g2
from xpcs_live_denoise.numerics.fits import fit_power_law
from xpcs_live_denoise.records.results import GammaTable

from .plot_cells import Cell, Place
from xpcs_live_denoise.views.state import Snapshot
from .plot_style import (
    DENOISED,
    LABEL_SIZE,
    RAW,
    SMALL,
    TRUSTED,
    Limits,
    dress,
    few_logarithmic_ticks,
    reword,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
