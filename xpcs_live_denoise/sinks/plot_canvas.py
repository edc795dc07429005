"""The canvas of the live window: matplotlib's for Qt, which draws each text only once."""

from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg

from .plot_words import WordCanvas


class LiveCanvas(WordCanvas, FigureCanvasQTAgg):
    """A Qt widget that shows a figure."""
