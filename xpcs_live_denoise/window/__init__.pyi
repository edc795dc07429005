"""Draws a run with matplotlib: in a Qt window, into a picture file, or as a figure."""

from .comparison import plot_curves as plot_curves
from .denoised import draw_denoised as draw_denoised
from .live_plot import LivePlot as LivePlot
from .pictures import plot_view as plot_view
from .run_view import MOST_EDGE as MOST_EDGE
from .run_view import RunView as RunView
from .run_view import view_of_result as view_of_result
