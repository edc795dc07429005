"""Draws a run with matplotlib: in a Qt window, into a picture file, or as a figure."""

from .figure import plot_result as plot_result
from .live_plot import LivePlot as LivePlot
