"""Images of the live window: shown as they are, a pixel of the screen being one of the data."""

# matplotlib's types are partly unknown.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false, reportUnknownParameterType=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.image import AxesImage
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
