"""The image panels of the live window: the detector with its ROIs, and C2 raw and denoised."""

# matplotlib's types are partly unknown.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false, reportUnknownParameterType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from .plot_state import Snapshot
from .plot_style import (
    LABEL_SIZE,
    SMALL,
    TRUSTED,
    UNKNOWN,
    Limits,
    colour_range,
    dress,
    logarithmic_ticks,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from xpcs_live_denoise.records import Picture

# Colours of the picture span at most this factor.
PICTURE_RANGE = 1e3
# A colour scale stays while its ends are right to this share of it.
KEPT_COLOURS = 0.15


def _empty(axes: Axes, colours: str, norm: Any, origin: Literal["upper", "lower"]) -> Any:
    import matplotlib

    axes.set_facecolor(UNKNOWN)
    return axes.imshow(
        np.full((1, 1), np.nan),
        cmap=matplotlib.colormaps[colours].with_extremes(bad=UNKNOWN),
        norm=norm,
        interpolation="nearest",
        aspect="equal",
        origin=origin,
    )


def _bar(figure: Figure, axes: Axes, image: Any, label: str) -> Any:
    bar = figure.colorbar(image, cax=axes.inset_axes((1.03, 0.0, 0.045, 1.0)))
    bar.set_label(label, fontsize=LABEL_SIZE)
    bar.ax.tick_params(labelsize=SMALL)
    return bar


class PicturePanel:
    """The mean of the detector, with the outlines of all ROIs; the chosen one stands out.

    Parameters
    ----------
    figure, axes
        Where to draw.
    """

    def __init__(self, figure: Figure, axes: Axes) -> None:
        from matplotlib.colors import LogNorm

        self._title = dress(axes, "Detector", "column (px)", "row (px)")
        self._axes = axes
        self._image = _empty(axes, "cividis", LogNorm(0.1, 1.0), "upper")
        bar = _bar(figure, axes, self._image, "counts / pixel / frame")
        bar.locator, bar.formatter = logarithmic_ticks()
        bar.minorticks_off()
        self._lines = axes.imshow(np.zeros((1, 1, 4)), interpolation="nearest", aspect="equal")
        self._limits = Limits(axes)
        self._picture: Picture | None = None
        self._drawn_roi = -1

    @property
    def moving(self) -> list[Artist]:
        """What changes from one snapshot to the next, in the order of drawing."""
        return [self._image, self._lines, self._title]

    def update(self, now: Snapshot) -> bool:
        """Show the newest picture; return whether an axis has changed."""
        picture, label = now.picture, now.info.roi[now.roi]
        if picture is None or (picture is self._picture and label == self._drawn_roi):
            return False
        moved = picture is not self._picture and self._show(picture)
        self._lines.set_data(outlines(picture.labels, label))
        self._picture, self._drawn_roi = picture, label
        return moved

    def label_at(self, event: Any) -> int:
        """Return the ROI under a mouse event, 0 for none."""
        if event.inaxes is not self._axes or self._picture is None:
            return 0
        labels = self._picture.labels
        row, col = (int(value // self._picture.binning) for value in (event.ydata, event.xdata))
        inside = 0 <= row < labels.shape[0] and 0 <= col < labels.shape[1]
        return int(labels[row, col]) if inside else 0

    def _show(self, picture: Picture) -> bool:
        rows, cols = (edge * picture.binning for edge in picture.mean.shape)
        for image in (self._image, self._lines):
            image.set_extent((0, cols, rows, 0))
        moved = self._limits.show((0, cols), (rows, 0))
        positive = picture.mean[picture.mean > 0]
        if positive.size:
            high = float(np.percentile(positive, 99.8))
            low = max(float(np.percentile(positive, 2)), high / PICTURE_RANGE)
            moved |= _set_colours(self._image.norm, low, max(high, 1.2 * low))
        # Zero has no logarithm: it becomes the least colour, and only NaN stays unknown.
        least = self._image.norm.vmin / 2
        self._image.set_data(np.where(picture.mean <= 0, least, picture.mean))
        frames = "1 frame" if picture.n_frames == 1 else f"{picture.n_frames} frames"
        self._title.set_text(f"Detector, mean of {frames}")
        return moved


def outlines(labels: NDArray[np.int64], chosen: int) -> NDArray[np.float64]:
    """Return an RGBA image (rows, cols, 4): ROIs in thin white, the chosen one in its colour."""
    from matplotlib.colors import to_rgba

    edge = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        for shift in (-1, 1):
            edge |= np.roll(labels, shift, axis) != labels
    image = np.zeros((*labels.shape, 4))
    image[edge & (labels > 0)] = (1, 1, 1, 0.55)
    image[labels == chosen] = to_rgba(TRUSTED, 0.16)
    image[edge & (labels == chosen)] = to_rgba(TRUSTED, 1.0)
    return image


def _set_colours(norm: Any, low: float, high: float) -> bool:
    """Set the range of a colour scale where another one fits much better; return whether."""
    span = KEPT_COLOURS * (norm.vmax - norm.vmin)
    if abs(low - norm.vmin) < span and abs(high - norm.vmax) < span:
        return False
    norm.vmin, norm.vmax = low, high
    return True


class C2Panels:
    """Raw and denoised C2 of the chosen ROI on one colour scale.

    Parameters
    ----------
    figure, raw, denoised
        Where to draw.
    """

    def __init__(self, figure: Figure, raw: Axes, denoised: Axes) -> None:
        from matplotlib.colors import Normalize

        self._norm = Normalize(0.9, 1.5)
        dress(raw, "C2, raw", "t1 (s)", "t2 (s)")
        dress(denoised, "C2, denoised", "t1 (s)", "")
        self._axes = (raw, denoised)
        self._images = [_empty(axes, "viridis", self._norm, "lower") for axes in self._axes]
        self._limits = [Limits(axes) for axes in self._axes]
        self._note = denoised.text(
            0.5, 0.5, "", transform=denoised.transAxes, ha="center", va="center", fontsize=SMALL
        )
        bar = _bar(figure, denoised, self._images[1], "C2")
        # Where the signal lies on the scale: the baseline, and the baseline plus the contrast.
        self._marks = [
            bar.ax.axhline(np.nan, color="white", linewidth=2.2),
            bar.ax.axhline(np.nan, color="white", linewidth=2.2),
        ]

    @property
    def moving(self) -> list[Artist]:
        """What changes from one snapshot to the next, in the order of drawing."""
        return [*self._images, self._note, *self._marks]

    def update(self, now: Snapshot) -> bool:
        """Show the newest C2, and grey what is not measured yet; return whether an axis moved."""
        moved = False
        frame_time_s = now.info.frame_time_s
        edge = len(now.c2) * now.step * frame_time_s
        whole = max(edge, 0 if now.final else (now.info.n_expected or 0) * frame_time_s) or 1.0
        contrast, baseline = (
            values[now.roi] if now.roi < len(values) else np.nan
            for values in (now.status.contrast, now.status.baseline)
        )
        shown = (now.c2, now.c2_denoised)
        for image, limits, c2 in zip(self._images, self._limits, shown, strict=True):
            if c2 is None or not c2.size:
                image.set_data(np.full((1, 1), np.nan))
            else:
                image.set_data(c2.T)
            image.set_extent((0, edge or 1.0, 0, edge or 1.0))
            moved |= limits.show((0, whole), (0, whole))
        self._note.set_text("" if now.c2_denoised is not None else _why_not(now))
        moved |= _set_colours(self._norm, *colour_range(now.c2, contrast, baseline))
        known = np.isfinite(contrast) and np.isfinite(baseline)
        for mark, height in zip(self._marks, (baseline, baseline + contrast), strict=True):
            mark.set_ydata([height, height] if known else [np.nan, np.nan])
        return moved


def _why_not(now: Snapshot) -> str:
    if now.final or now.n_frames >= now.info.window:
        return "not denoised"
    return f"denoised from {now.info.window} frames on"
