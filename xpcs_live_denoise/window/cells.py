"""Words of a figure are drawn once and kept as images: text is most of what a draw costs."""

# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownParameterType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
from matplotlib.image import AxesImage
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

# matplotlib's types are partly unknown.


# What a text is made of. Digits stand alone: the numbers of the next update have the same ones.
WORDS = re.compile(r"[0-9]| +|[^0-9 ]+")
MOST_WORDS = 1000  # that are kept, those of a figure are about a hundred
# Around a word, px: glyphs may reach beyond the size that is told.
MARGIN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Word:
    """Pixels (RGBA) of a word, where they are from its origin, and where the next begins, px."""

    image: NDArray[np.uint8]
    left: int
    below: int
    width: float


class WordRenderer(RendererAgg):
    """Draws as RendererAgg does, but each word only once; its image is used from then on.

    Words stand at whole pixels, as texts did before matplotlib 3.11.
    """

    def __init__(self, width: float, height: float, dpi: float) -> None:
        super().__init__(width, height, dpi)
        self._words: dict[Any, _Word] = {}

    def draw_text(  # noqa: PLR0917 - matplotlib calls it by position
        self,
        gc: Any,
        x: float,
        y: float,
        s: str,
        prop: Any,
        angle: float,
        ismath: Any = False,
        mtext: Any = None,
    ) -> None:
        """Draw a text whose origin is at x, y, px from the left and from the top."""
        style = (hash(prop), angle, ismath, gc.get_rgb(), gc.get_alpha())
        # An image has the colour and the alpha already; the clipping is that of the place.
        clipped = self.new_gc()
        clipped.copy_properties(gc)
        clipped.set_alpha(1.0)
        bottom = round(self.height) - round(y)
        for s_word in [s] if ismath or angle else WORDS.findall(s):
            word = self._words.get((s_word, style))
            if word is None:
                if len(self._words) >= MOST_WORDS:
                    self._words.clear()
                word = self._drawn(gc, s_word, prop, angle, ismath, mtext)
                self._words[s_word, style] = word
            if word.image.size:
                self.draw_image(
                    clipped, round(x) + word.left, bottom - word.below, word.image[::-1]
                )
            x += word.width
        clipped.restore()

    def _drawn(self, gc: Any, s: str, prop: Any, angle: float, *how: Any) -> _Word:
        """Draw one word, on a paper of its own."""
        width, is_formula = 0.0, how[0]
        if is_formula:
            reach = MARGIN + math.ceil(self.get_text_width_height_descent(s, prop, is_formula)[0])
        else:
            size = prop.get_size_in_points() * self.dpi / 72  # no letter is wider
            reach = MARGIN + math.ceil((1 + len(s)) * size)
            with_next, following = (
                self.get_text_width_height_descent(words, prop, False)[0]
                for words in (f"{s}x", "x")
            )
            width = with_next - following
        paper = RendererAgg(2 * reach, 2 * reach, self.dpi)
        free = paper.new_gc()
        free.copy_properties(gc)
        free.set_clip_rectangle(None)
        free.set_clip_path(None)
        paper.draw_text(free, reach, reach, s, prop, angle, *how)
        pixels = np.asarray(paper.buffer_rgba())
        rows, cols = (np.flatnonzero(pixels[..., 3].any(axis=axis)) for axis in (1, 0))
        if not rows.size:
            return _Word(image=np.empty((0, 0, 4), np.uint8), left=0, below=0, width=width)
        return _Word(
            image=pixels[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1].copy(),
            left=int(cols[0]) - reach,
            below=int(rows[-1]) + 1 - reach,
            width=width,
        )


class WordCanvas(FigureCanvasAgg):
    """A canvas, or the first base of one, that draws with WordRenderer."""

    def get_renderer(self) -> WordRenderer:
        """Return the renderer for the present size; another size begins without words."""
        renderer = super().get_renderer()
        if not isinstance(renderer, WordRenderer):
            renderer = WordRenderer(renderer.width, renderer.height, renderer.dpi)
            self.renderer = renderer
        return renderer


# matplotlib's types are partly unknown.


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


class LiveCanvas(WordCanvas, FigureCanvasQTAgg):
    """A Qt widget that shows a figure."""


# matplotlib's types are partly unknown.


class Pixels(AxesImage):
    """An image without interpolation on linear axes that are not turned.

    Its data become colours when they are set, not in every draw, and a draw picks from these.
    """

    _colours: NDArray[np.uint8] | None = None

    def set_data(self, A: Any) -> None:
        """Set the values, (rows, cols), or the colours, (rows, cols, 4)."""
        super().set_data(A)
        self._colours = None

    def changed(self) -> None:
        """Forget the colours: the scale is another one."""
        super().changed()
        self._colours = None

    def draw(self, renderer: Any) -> None:
        """Draw on a screen or into a PNG; as matplotlib does elsewhere."""
        if not isinstance(renderer, RendererAgg):
            super().draw(renderer)
            return
        if self._colours is None:
            self._colours = np.asarray(self.to_rgba(self.get_array(), bytes=True))  # pyright: ignore[reportArgumentType]
        left, right, lower, upper = self.get_extent()
        rows, cols = self._colours.shape[:2]
        (x0, y0), (x1, y1) = self.axes.transData.transform([(left, lower), (right, upper)])
        shown = self.axes.bbox
        first_x, col = _nearest(x0, x1, shown.x0, shown.x1, cols)
        first_y, row = _nearest(y0, y1, shown.y0, shown.y1, rows)
        if not (col.size and row.size):
            return
        if self.origin == "upper":
            row = rows - 1 - row
        gc = renderer.new_gc()
        gc.set_clip_rectangle(self.get_clip_box())  # that of the axes
        renderer.draw_image(gc, first_x, first_y, self._colours[row[:, np.newaxis], col])
        gc.restore()
        self.stale = False


def show_pixels(axes: Axes, values: Any, **options: Any) -> Pixels:
    """Add an image to axes, as imshow does; `options` are those of AxesImage."""
    image = Pixels(axes, interpolation="nearest", **options)
    image.set_data(values)
    axes.set_aspect("equal")
    image.set_clip_path(axes.patch)
    image.set_extent(image.get_extent())
    axes.add_image(image)
    return image


def _nearest(
    begin: float, end: float, least: float, most: float, n: int
) -> tuple[int, NDArray[np.int64]]:
    """Return which of n cells each pixel shows, and the first of these pixels.

    Parameters
    ----------
    begin, end
        Where the first cell begins and the last one ends, px; a mirrored image ends before it
        begins.
    least, most
        What is shown, px.
    n
        Number of cells.
    """
    first = int(np.floor(max(min(begin, end), least) + 0.5))
    last = int(np.floor(min(max(begin, end), most) + 0.5))
    middle = np.arange(first, last) + 0.5
    cell = np.floor((middle - begin) / (end - begin) * n).astype(np.int64)
    return first, np.clip(cell, 0, n - 1)
