"""Words that were drawn once: the same picture as matplotlib's own."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from xpcs_live_denoise.window import cells as plot_words
from xpcs_live_denoise.window.cells import WordCanvas, WordRenderer


@pytest.fixture(autouse=True)
def agg():
    mpl.use("Agg")


TEXTS = {
    "words": ("0.15 counts/px/frame, ROI 3 (3 of 5)", {}),
    "upright": ("counts / pixel / frame", {"rotation": 90}),
    "slanted": ("slanted 12", {"rotation": 30}),
    "formula": (r"$\Gamma \propto q^{2.0}$", {}),
    "centred": ("q = 0.002467 Å⁻¹", {"ha": "center", "va": "center"}),
    "two lines": ("recommended Γ in 1 of 5 ROIs;\nthree are needed", {}),
    "colour": ("message 42", {"color": "#8A4A83", "weight": "bold"}),
    "seen through": ("12 frames", {"alpha": 0.4}),
}


def draw(canvas_class, words, dpi=100, **style):
    """Return the canvas and its pixels, (300, 500, 3) at 100 dpi, 0 to 1."""
    figure = Figure(figsize=(5, 3), dpi=dpi)
    canvas = canvas_class(figure)
    figure.text(0.3, 0.4, words, fontsize=11, **style)
    canvas.draw()
    return canvas, np.asarray(canvas.buffer_rgba())[..., :3] / 255


def ink(pixels):
    """Return how much ink there is, a colour, and where it is on average (row, column)."""
    dark = 1 - pixels
    rows, cols = np.indices(dark.shape[:2])
    weight = dark.sum(axis=-1)
    place = np.array([np.average(rows, weights=weight), np.average(cols, weights=weight)])
    return dark.sum(axis=(0, 1)), place


@pytest.mark.parametrize(("words", "style"), TEXTS.values(), ids=TEXTS)
def test_a_text_looks_as_matplotlib_draws_it(words, style):
    _, expected = draw(FigureCanvasAgg, words, **style)
    _, got = draw(WordCanvas, words, **style)
    (amount, place), (expected_amount, expected_place) = ink(got), ink(expected)
    np.testing.assert_allclose(amount, expected_amount, rtol=0.03)
    np.testing.assert_allclose(place, expected_place, atol=0.8)


@pytest.mark.parametrize(("words", "style"), TEXTS.values(), ids=TEXTS)
def test_a_text_looks_the_same_when_it_is_drawn_again(words, style):
    canvas, first = draw(WordCanvas, words, **style)
    canvas.draw()
    np.testing.assert_array_equal(np.asarray(canvas.buffer_rgba())[..., :3] / 255, first)


def test_a_text_is_cut_where_it_is_clipped():
    figure = Figure(figsize=(5, 3), dpi=100)
    canvas = WordCanvas(figure)
    axes = figure.add_axes((0, 0, 0.5, 1))
    axes.set_axis_off()
    axes.text(0.9, 0.5, "a text that is too long", clip_on=True)
    for _ in range(2):  # drawn, and from what is kept
        canvas.draw()
        dark = np.asarray(canvas.buffer_rgba())[..., 0] < 200
        assert dark[:, :250].any()
        assert not dark[:, 251:].any()


def test_words_of_another_size_are_drawn_anew():
    canvas, _ = draw(WordCanvas, "frames 12")
    _, expected = draw(FigureCanvasAgg, "frames 12", dpi=200)
    canvas.figure.dpi = 200
    canvas.draw()
    large = np.asarray(canvas.buffer_rgba())[..., :3] / 255
    np.testing.assert_allclose(ink(large)[0], ink(expected)[0], rtol=0.03)


def test_the_digits_of_a_new_number_are_known_and_words_do_not_pile_up(monkeypatch):
    drawn = []
    plain = WordRenderer._drawn

    def watched(renderer, gc, word, *rest):
        drawn.append(word)
        return plain(renderer, gc, word, *rest)

    monkeypatch.setattr(WordRenderer, "_drawn", watched)
    monkeypatch.setattr(plot_words, "MOST_WORDS", 20)
    canvas, _ = draw(WordCanvas, "1234567890 frames")
    drawn.clear()
    (text,) = canvas.figure.texts
    text.set_text("8642 frames")
    canvas.draw()
    assert drawn == []
    for letter in "abcdefghijklmnopqrstuvwxyz":
        text.set_text(letter)
        canvas.draw()
    assert len(canvas.get_renderer()._words) <= 20
