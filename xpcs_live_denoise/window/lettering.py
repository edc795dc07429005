"""Text that fits: how wide words are, lines of a width, names with their middle left out."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from matplotlib import font_manager
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text
from matplotlib.textpath import TextToPath

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Points. A figure of 1,000 pixels has the same as a wide one: smaller letters nobody reads.
HEAD_SIZE, TITLE_SIZE, LABEL_SIZE, SMALL = 12.5, 10.5, 9.5, 8.5
LINE = 1.35  # of the size, from line to line
SLACK = 1.03  # letters on a screen's pixels are somewhat wider than drawn ones

# Names of samples may be in any writing: the first fonts of these that are installed are used.
MAIN = "DejaVu Sans"  # comes with matplotlib
OTHERS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans CJK KR", "Source Han Sans", "IPAexGothic",
    "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback", "Microsoft YaHei",
    "Yu Gothic", "Malgun Gothic", "Hiragino Sans", "Apple SD Gothic Neo", "PingFang SC",
    "Noto Sans", "Arial Unicode MS", "Unifont",
)  # fmt: skip
NO_LETTER = "□"  # for what none of them has

_measure = TextToPath()


@functools.cache
def families() -> tuple[str, ...]:
    """Return the fonts to draw with, in the order in which they are asked for a letter."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return MAIN, *(name for name in OTHERS if name in installed)


@functools.cache
def _has(letter: str) -> bool:
    return any(
        font_manager.get_font(font_manager.findfont(family)).get_char_index(ord(letter))
        for family in families()
    )


def drawable(text: str) -> str:
    """Return the text on one line, with a box for each letter that no font has."""
    return "".join(one if _has(one) else NO_LETTER for one in " ".join(text.split()))


@functools.lru_cache(4096)
def width_of(text: str, size: float, weight: str = "normal") -> float:
    """Return how wide a text is, inches."""
    look = FontProperties(family=list(families()), size=size, weight=weight)
    width, _, _ = _measure.get_text_width_height_descent(text, look, ismath=False)
    return SLACK * float(width) / 72


def lines_of(text: str, width: float, size: float, *, between: str = " ") -> list[str]:
    """Return the text cut into lines of a width, inches, where `between` stands in it.

    A word that is wider than a line, a path for example, goes on in the next one.
    """
    found: list[str] = []
    line = ""
    for part in text.split(between):
        longer = f"{line}{between}{part}" if line else part
        if width_of(longer, size) <= width:
            line = longer
            continue
        if line:
            found.append(line)
        line = part
        while width_of(line, size) > width and len(line) > 1:
            kept = _letters(line, width, size)
            found.append(line[:kept])
            line = line[kept:]
    return [*found, line] if line else found


def _letters(text: str, width: float, size: float) -> int:
    """Return how many letters of a text fit into a width, one at least."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if width_of(text[:middle], size) <= width else (low, middle - 1)
    return low


def elided(text: str, width: float, size: float, weight: str = "normal") -> str:
    """Return a text that is no wider than so many inches: its middle is left out.

    Both ends of a name tell samples apart.
    """
    low, high = 0, len(text)
    if width_of(text, size, weight) <= width:
        return text
    while low < high:
        kept = (low + high + 1) // 2
        fits = width_of(_without_middle(text, kept), size, weight) <= width
        low, high = (kept, high) if fits else (low, kept - 1)
    return _without_middle(text, low)


def _without_middle(text: str, kept: int) -> str:
    tail = kept * 2 // 5
    return f"{text[: kept - tail]}…{text[len(text) - tail :]}"


def fitted_title(parts: str, width: float, size: float, weight: str = "normal") -> str:
    """Return a title "Scan 7 · uid · sample · finished" of a width: its longest part gives way."""
    if width_of(parts, size, weight) <= width:
        return parts
    named = parts.split(" · ")
    longest = max(range(len(named)), key=lambda k: len(named[k]))
    rest = width_of(" · ".join([*named[:longest], "", *named[longest + 1 :]]), size, weight)
    named[longest] = elided(named[longest], max(width - rest, 0), size, weight)
    return elided(" · ".join(named), width, size, weight)


def letter(figure: Figure) -> None:
    """Give every text of a figure our fonts, whatever a user's style says of others."""
    for text in figure.findobj(Text):
        if text.get_usetex() or text.get_fontfamily() != list(families()):
            text.set(fontfamily=list(families()), usetex=False)
