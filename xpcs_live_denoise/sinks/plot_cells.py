"""Parts of a figure that are drawn by themselves, so that an update costs what it changes."""

# matplotlib's types are partly unknown.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

# Between axes and the colour bar beside them, px; what a number at the end of an upright axis may
# reach beyond it, which is before the numbers of the other axis and the title; half the line around
# axes, and the ticks that begin there.
BESIDE, BEYOND, LINE, TICK = 3, 7, 2, 6

# Left, lower, right and upper edge, as shares of the figure.
Place = tuple[float, float, float, float]


class Cell:
    """A rectangle of the figure: what stands in it, and what moves, which is drawn over it.

    What stands is kept as pixels, and drawn anew only when it has changed. A cell may hold nothing
    but what moves.

    Parameters
    ----------
    figure
        Whose part this is.
    place
        The rectangle; those of different cells do not overlap.
    axes
        What stands here.
    beside
        A colour bar right of the axes, which changes more often than they do.

    Attributes
    ----------
    moving
        What changes from one snapshot to the next, in the order of drawing.
    """

    def __init__(
        self, figure: Figure, place: Place, axes: Axes | None = None, beside: Axes | None = None
    ) -> None:
        self._figure = figure
        self._place = place
        self._axes = axes
        self._beside = beside
        self.moving: list[Artist] = []
        self._standing: Any = None
        self._stale = self._stale_axes = self._stale_beside = self._stale_y = False

    @property
    def box(self) -> Bbox:
        """The rectangle, in whole pixels."""
        from matplotlib.transforms import Bbox

        width, height = self._figure.bbox.size
        left, lower, right, upper = self._place
        return Bbox(
            [
                [round(left * width), round(lower * height)],
                [round(right * width), round(upper * height)],
            ]
        )

    @property
    def stale(self) -> bool:
        """Whether the figure shows something else than what was set."""
        return self._stale

    @property
    def stale_axes(self) -> bool:
        """Whether an axis, or what else stands, has changed."""
        return self._stale_axes or self._stale_beside or self._stale_y

    def renew(self, *, axes: bool = False, beside: bool = False) -> None:
        """Say that what moves has changed; and whether the axes have, or the bar beside them."""
        self._stale = True
        self._stale_axes |= axes
        self._stale_beside |= beside

    def renew_limits(self, x: bool, y: bool) -> None:
        """Say which axes of the panel have moved; where it is the one at the left, little is drawn.

        Nothing that stands inside of the axes moves with them.
        """
        if self._axes is not None and not x:
            # What a power of ten or an offset says about numbers stands above the axes.
            x = bool(self._axes.yaxis.get_offset_text().get_text())
        self.renew(axes=x)
        self._stale_y |= y

    def keep(self, canvas: Any) -> None:
        """Take what stands from a figure that was drawn whole, and draw what moves over it."""
        self._standing = canvas.copy_from_bbox(self.box)
        self._finish(canvas)

    def draw(self, canvas: Any) -> None:
        """Draw what has changed since the figure was drawn whole."""
        canvas.restore_region(self._standing)
        if self.stale_axes and self._axes is not None:
            self._draw_standing(self._axes, canvas.get_renderer())
            self._standing = canvas.copy_from_bbox(self.box)
        self._finish(canvas)

    def _draw_standing(self, axes: Axes, renderer: Any) -> None:
        everything = self._stale_axes
        if everything:
            self._clear(renderer, self.box)
            axes.draw(renderer)
        elif self._stale_y:
            self._draw_left(axes, renderer)
        if self._beside is not None and (everything or self._stale_beside):
            if not everything:
                self._clear(renderer, self._box_beside(axes))
            self._beside.draw(renderer)

    def _finish(self, canvas: Any) -> None:
        renderer = canvas.get_renderer()
        for artist in self.moving:
            artist.draw(renderer)
        self._stale = self._stale_axes = self._stale_beside = self._stale_y = False

    def _draw_left(self, axes: Axes, renderer: Any) -> None:
        """Draw the axis at the left anew: its numbers, its ticks, and the line where these end."""
        from matplotlib.transforms import Bbox

        left, lower, upper = round(axes.bbox.x0), round(axes.bbox.y0), round(axes.bbox.y1)
        ticks = Bbox([[left - TICK, lower - LINE], [left + LINE, upper + LINE]])
        numbers = Bbox([[self.box.x0, lower - BEYOND], [ticks.x0, upper + BEYOND]])
        self._clear(renderer, numbers)
        self._clear(renderer, ticks)
        for spine in axes.spines.values():
            spine.set_clip_box(ticks)
            spine.draw(renderer)
            spine.set_clip_box(None)
        axes.yaxis.draw(renderer)

    def _box_beside(self, axes: Axes) -> Bbox:
        """Return where nothing is but the bar."""
        from matplotlib.transforms import Bbox

        left, lower = axes.bbox.x1 + BESIDE, axes.bbox.y0 - BEYOND
        return Bbox([[round(left), round(lower)], [self.box.x1, self.box.y1]])

    def _clear(self, renderer: Any, box: Bbox) -> None:
        from matplotlib.path import Path
        from matplotlib.transforms import Affine2D

        gc = renderer.new_gc()
        gc.set_linewidth(0)
        gc.set_antialiased(False)
        there = Affine2D().scale(box.width, box.height).translate(box.x0, box.y0)
        renderer.draw_path(gc, Path.unit_rectangle(), there, self._figure.get_facecolor())
        gc.restore()
