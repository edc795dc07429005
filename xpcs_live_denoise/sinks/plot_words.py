"""Words of a figure are drawn once and kept as images: text is most of what a draw costs."""

# matplotlib's types are partly unknown.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false, reportUnknownParameterType=false

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from numpy.typing import NDArray

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
