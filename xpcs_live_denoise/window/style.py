"""How the live window draws things: colours, signs, words, and axes that leave a user's zoom."""

# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.text import Text
    from matplotlib.ticker import Formatter, Locator

# matplotlib's types are partly unknown.


# Okabe and Ito's colours, which the colour-blind can tell apart.
RAW, DENOISED, TRUSTED, DOUBTED = "#8C8C8C", "#0072B2", "#D55E00", "#8A4A83"
UNKNOWN = "#E8E8E8"
LABEL_SIZE, TITLE_SIZE, SMALL = 9.5, 10.5, 8.5
MOST_TICKS = 6  # labels take most of the time of a draw

# Why a rate is not recommended: what to call it, and its marker. Limits point where the value is.
REASONS = {
    "prior": ("error of ln Γ above 0.5", "D"),
    "no_contrast": ("no contrast: lower limit", "^"),
    "too_slow": ("too slow: upper limit", "v"),
    "grid_edge": ("edge of the grid: a limit", "s"),
    "not_kww": ("another curve than KWW", "P"),
    "static_or_nonuniform": ("static or non-uniform", "X"),
}
OTHER_MARKER = "h"


def reason_words(reason: str) -> tuple[str, str]:
    """Return what a legend calls a reason, and its marker."""
    return REASONS.get(reason, (reason.replace("_", " "), OTHER_MARKER))


def dress(axes: Axes, title: str, x: str, y: str) -> Text:
    """Give axes their title, which is returned, and labels, in the sizes of the window."""
    # A title whose place is given costs no layout in every draw.
    heading = axes.set_title(title, fontsize=TITLE_SIZE, loc="left", y=1.0, pad=6)
    axes.set_xlabel(x, fontsize=LABEL_SIZE, labelpad=3)
    axes.set_ylabel(y, fontsize=LABEL_SIZE, labelpad=3)
    axes.tick_params(labelsize=SMALL)
    axes.locator_params(nbins=MOST_TICKS)
    return heading


def reword(text: Text, words: str) -> bool:
    """Set what a text says; return whether that is something else than before."""
    changed = text.get_text() != words
    text.set_text(words)
    return changed


def logarithmic_ticks() -> tuple[Locator, Formatter]:
    """Return what labels 1, 2 and 5 of each decade with plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    return LogLocator(subs=(1.0, 2.0, 5.0), numticks=9), FuncFormatter(_plain)


def _plain(value: float, _position: int | None) -> str:
    return f"{value:.4g}".replace("e-0", "e-")


def few_logarithmic_ticks(axis: Axis) -> None:
    """Label 1, 2 and 5 of each decade of an axis, nothing else; it begins as one decade."""
    from matplotlib.ticker import NullFormatter, NullLocator

    # Without data there is no logarithm.
    set_limits = axis.axes.set_xlim if axis is axis.axes.xaxis else axis.axes.set_ylim
    set_limits(1.0, 10.0)
    locator, formatter = logarithmic_ticks()
    axis.set_major_locator(locator)
    axis.set_major_formatter(formatter)
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


# An axis is drawn anew when its data would fill less than this share of it, or when what is wanted,
# margins included, goes farther beyond it than this share of it.
LEAST_FILL, SLACK = 0.6, 0.05


class Limits:
    """Keeps axes at the data until a user has zoomed; the toolbar's home button ends that.

    Limits that still fit stay as they are: an axis that moves is drawn anew, and reads badly.

    Parameters
    ----------
    axes
        Whose limits.
    """

    def __init__(self, axes: Axes) -> None:
        self._axes = axes
        self._set: tuple[tuple[float, float], tuple[float, float]] | None = None

    def show(self, x: tuple[float, float], y: tuple[float, float]) -> tuple[bool, bool]:
        """Set the limits, unless a user has chosen others; return whether x and y have moved."""
        axes = self._axes
        now = axes.get_xlim(), axes.get_ylim()
        move_x = move_y = True
        if self._set is not None:
            if self._set != now:
                return False, False
            move_x = not _fits(x, now[0], axes.get_xscale())
            move_y = not _fits(y, now[1], axes.get_yscale())
        if move_x:
            axes.set_xlim(x)
        if move_y:
            axes.set_ylim(y)
        self._set = (axes.get_xlim(), axes.get_ylim())
        return move_x, move_y


def _fits(wanted: tuple[float, float], shown: tuple[float, float], scale: str) -> bool:
    """Whether an axis that shows one range still suits another one."""
    if wanted == shown:
        return True
    ends = np.array([sorted(wanted), sorted(shown)])
    (low, high), (shown_low, shown_high) = np.log(ends) if scale == "log" else ends
    slack = SLACK * (shown_high - shown_low)
    inside = low >= shown_low - slack and high <= shown_high + slack
    return bool(inside and high - low > LEAST_FILL * (shown_high - shown_low))


# Above so many frames a part of C2 tells its colours; it holds nothing of the diagonal either.
FEW = 60


def colour_range(c2: NDArray[Any], contrast: float, baseline: float) -> tuple[float, float]:
    """Return the colours of C2: percentiles of the raw values off the diagonal.

    Where contrast is known, no more than from baseline - beta to baseline + 2 beta: noise far above
    the signal must not hide it.
    """
    values = c2[np.triu_indices(len(c2), 1)] if len(c2) < FEW else c2[1::3, ::3]
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.9, 1.5
    low, high = (float(value) for value in np.percentile(values, (1, 99)))
    if np.isfinite(contrast) and contrast > 0:
        middle = baseline if np.isfinite(baseline) else 1.0
        low, high = max(low, middle - contrast), min(high, middle + 2 * contrast)
    return (low, high) if high > low else (low - 0.05, low + 0.05)
