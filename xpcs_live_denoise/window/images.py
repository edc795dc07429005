"""The image panels of the live window: the detector with its ROIs, and C2 raw and denoised."""

# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownParameterType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from xpcs_live_denoise.views import Snapshot

from .cells import Cell, Place, show_pixels
from .style import (
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
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from xpcs_live_denoise.records.results import Picture

# matplotlib's types are partly unknown.


# Colours of the picture span at most this factor.
PICTURE_RANGE = 1e3
# A colour scale stays while its ends are right to this share of it.
KEPT_COLOURS = 0.15


def _empty(axes: Axes, colours: str, norm: Any, origin: Literal["upper", "lower"]) -> Any:
    import matplotlib

    axes.set_facecolor(UNKNOWN)
    cmap = matplotlib.colormaps[colours].with_extremes(bad=UNKNOWN)
    return show_pixels(axes, np.full((1, 1), np.nan), cmap=cmap, norm=norm, origin=origin)


def _bar(figure: Figure, axes: Axes, image: Any, label: str) -> Any:
    """Add a colour bar beside axes, also where their picture does not fill their place."""
    from matplotlib.transforms import Bbox

    def beside(*_: Any) -> Bbox:
        place = axes.get_position()
        left, width = place.x1 + 0.03 * place.width, 0.045 * place.width
        return Bbox.from_bounds(left, place.y0, width, place.height)

    place = figure.add_axes((0.0, 0.0, 0.1, 0.1))
    place.set_axes_locator(beside)
    bar = figure.colorbar(image, cax=place)
    bar.set_label(label, fontsize=LABEL_SIZE)
    bar.ax.tick_params(labelsize=SMALL)
    return bar


class PicturePanel:
    """The mean of the detector, with the outlines of all ROIs; the chosen one stands out.

    Parameters
    ----------
    figure, axes
        Where to draw.
    place
        The part of the figure that belongs to this panel.
    """

    def __init__(self, figure: Figure, axes: Axes, place: Place) -> None:
        from matplotlib.colors import LogNorm

        self._title = dress(axes, "Detector", "column (px)", "row (px)")
        self._axes = axes
        self._image = _empty(axes, "cividis", LogNorm(0.1, 1.0), "upper")
        bar = _bar(figure, axes, self._image, "counts / pixel / frame")
        bar.locator, bar.formatter = logarithmic_ticks()
        bar.minorticks_off()
        self._lines = show_pixels(axes, np.zeros((1, 1, 4), np.uint8))
        self._limits = Limits(axes)
        self._picture: Picture | None = None
        self._drawn_roi = -1
        self._cell = Cell(figure, place, axes, bar.ax)
        self._cell.moving = [self._image, self._lines, self._title]

    @property
    def cells(self) -> list[Cell]:
        """The parts that are drawn by themselves."""
        return [self._cell]

    def update(self, now: Snapshot) -> None:
        """Show the newest picture."""
        picture, label = now.picture, now.info.roi[now.roi]
        if picture is None or (picture is self._picture and label == self._drawn_roi):
            return
        self._cell.renew()
        if picture is not self._picture:
            self._show(picture)
        before = self._picture
        same = before is not None and np.array_equal(before.labels, picture.labels)
        if not same or label != self._drawn_roi:
            self._lines.set_data(outlines(picture.labels, label))
        self._picture, self._drawn_roi = picture, label

    def label_at(self, event: Any) -> int:
        """Return the ROI under a mouse event, 0 for none."""
        if event.inaxes is not self._axes or self._picture is None:
            return 0
        labels = self._picture.labels
        row, col = (int(value // self._picture.binning) for value in (event.ydata, event.xdata))
        inside = 0 <= row < labels.shape[0] and 0 <= col < labels.shape[1]
        return int(labels[row, col]) if inside else 0

    def _show(self, picture: Picture) -> None:
        rows, cols = (edge * picture.binning for edge in picture.mean.shape)
        for image in (self._image, self._lines):
            image.set_extent((0, cols, rows, 0))
        self._cell.renew(axes=any(self._limits.show((0, cols), (rows, 0))))
        positive = picture.mean[picture.mean > 0]
        if positive.size:
            high = float(np.percentile(positive, 99.8))
            low = max(float(np.percentile(positive, 2)), high / PICTURE_RANGE)
            self._cell.renew(beside=_set_colours(self._image, low, max(high, 1.2 * low)))
        # Zero has no logarithm: it becomes the least colour, and only NaN stays unknown.
        least = self._image.norm.vmin / 2
        self._image.set_data(np.where(picture.mean <= 0, least, picture.mean))
        frames = "1 frame" if picture.n_frames == 1 else f"{picture.n_frames} frames"
        self._title.set_text(f"Detector, mean of {frames}")


def outlines(labels: NDArray[np.int64], chosen: int) -> NDArray[np.uint8]:
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
    return np.rint(255 * image).astype(np.uint8)


def _set_colours(image: Any, low: float, high: float) -> bool:
    """Set the range of a colour scale where another one fits much better; return whether."""
    norm = image.norm
    span = KEPT_COLOURS * (norm.vmax - norm.vmin)
    if abs(low - norm.vmin) < span and abs(high - norm.vmax) < span:
        return False
    image.set_clim(low, high)
    return True


class C2Panels:
    """Raw and denoised C2 of the chosen ROI on one colour scale.

    Parameters
    ----------
    figure, raw, denoised
        Where to draw.
    places
        The parts of the figure that belong to the two.
    """

    def __init__(
        self, figure: Figure, raw: Axes, denoised: Axes, places: tuple[Place, Place]
    ) -> None:
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
        self._raw = Cell(figure, places[0], raw)
        self._raw.moving = [self._images[0]]
        self._denoised = Cell(figure, places[1], denoised, bar.ax)
        self._denoised.moving = [self._images[1], self._note, *self._marks]

    @property
    def cells(self) -> list[Cell]:
        """The parts that are drawn by themselves."""
        return [self._raw, self._denoised]

    def update(self, now: Snapshot) -> None:
        """Show the newest C2, and grey what is not measured yet."""
        frame_time_s = now.info.frame_time_s
        edge = len(now.c2) * now.step * frame_time_s
        whole = max(edge, 0 if now.final else (now.info.n_expected or 0) * frame_time_s) or 1.0
        contrast, baseline = (
            values[now.roi] if now.roi < len(values) else np.nan
            for values in (now.status.contrast, now.status.baseline)
        )
        shown = (now.c2, now.c2_denoised)
        for image, limits, cell, c2 in zip(
            self._images, self._limits, self.cells, shown, strict=True
        ):
            if c2 is None or not c2.size:
                image.set_data(np.full((1, 1), np.nan))
            else:
                image.set_data(c2.T)
            image.set_extent((0, edge or 1.0, 0, edge or 1.0))
            cell.renew(axes=any(limits.show((0, whole), (0, whole))))
        self._note.set_text("" if now.c2_denoised is not None else _why_not(now))
        colours = colour_range(now.c2, contrast, baseline)
        self._denoised.renew(beside=_set_colours(self._images[1], *colours))
        known = np.isfinite(contrast) and np.isfinite(baseline)
        for mark, height in zip(self._marks, (baseline, baseline + contrast), strict=True):
            mark.set_ydata([height, height] if known else [np.nan, np.nan])


def _why_not(now: Snapshot) -> str:
    if now.final or now.n_frames >= now.info.window:
        return "not denoised"
    return f"denoised from {now.info.window} frames on"
