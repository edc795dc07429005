"""Pictures of a run without a window: a file that follows it, or a figure of pyplot."""

from __future__ import annotations

import itertools
import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from xpcs_live_denoise import views
from xpcs_live_denoise.errors import MissingDependencyError, install_line

from .run_view import RunView, ShownRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

PERIOD_S = 5.0
"""Time between two pictures of a run, s."""
# The end of a run waits this long for its last picture.
PATIENCE_S = 60.0


class PlotFile:
    """Writes the newest state of a run into a .png file: every PERIOD_S, and when it has ended.

    The file is replaced as a whole, so that whoever reads it sees a complete picture.
    """

    def __init__(self, path: Path, roi: int | None = None) -> None:
        self._path = path
        self._roi = roi
        self._condition = threading.Condition()
        self._run: ShownRun | None = None
        self._ended: ShownRun | None = None
        self._thread: threading.Thread | None = None

    def begin(self, run: ShownRun) -> None:
        """Draw this run from now on."""
        self.end()
        self._run, self._ended = run, None
        self._thread = threading.Thread(
            target=self._keep_writing, args=(run,), name="xpcs-live-plot", daemon=True
        )
        self._thread.start()

    def changed(self, run: ShownRun) -> None:
        """Take note of what is new; once the run has ended, wait for its last picture."""
        if run is self._run and run.ended:
            self.end()

    def end(self) -> None:
        """Write what is newest and stop."""
        if self._thread is None:
            return
        with self._condition:
            self._ended = self._run
            self._condition.notify_all()
        self._thread.join(PATIENCE_S)
        self._thread = None

    def _keep_writing(self, run: ShownRun) -> None:
        drawn, ended = 0, False
        while not ended:
            with self._condition:
                self._condition.wait_for(lambda: self._ended is run, PERIOD_S)
                ended = self._ended is run
            if run.version == drawn:
                continue
            drawn = run.version
            try:
                save_figure(run, views.default_roi(run.info.roi, self._roi), self._path)
            except Exception:  # a full disk, for example; the analysis goes on
                logger.exception("The live plot cannot be written to %s.", self._path)
                return


def save_figure(run: ShownRun, roi: int, path: Path) -> None:
    """Draw the ROI with this index into a PNG file, which is as high as its message needs."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from .figure import DPI, SIZE_INCHES, RunFigure

    figure = Figure(figsize=SIZE_INCHES, dpi=DPI)
    FigureCanvasAgg(figure)
    RunFigure(figure).update(run.view(roi), grow=True)
    unfinished = path.with_name(f".{path.name}.part")
    figure.savefig(unfinished, format="png", dpi=DPI)
    unfinished.replace(path)


_numbers = itertools.count(1001)  # those of pyplot's own figures are lower
_open: set[Figure] = set()


def plot_view(view: RunView) -> Figure:
    """Return the figure; see `XPCSResult.plot`.

    Raises
    ------
    MissingDependencyError
        Without matplotlib.
    """
    try:
        import matplotlib
        import matplotlib.pyplot as plt
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "plot(): matplotlib is not installed. It comes with the extra `plot`: "
            f"{install_line('plot')}."
        ) from error
    from .figure import RESULT_INCHES, RunFigure

    # Not one of pyplot's figures: the next plot of a user would be drawn into its last panel.
    if not matplotlib.is_interactive():
        figure = Figure(figsize=RESULT_INCHES)
        RunFigure(figure).update(view, grow=True)
        return figure
    manager = plt.new_figure_manager(next(_numbers), figsize=RESULT_INCHES)
    figure = manager.canvas.figure
    RunFigure(figure).update(view, grow=True)
    manager.set_window_title(view.title)
    figure.show(warn=False)
    if manager.canvas.required_interactive_framework:  # its window lives as long as it does
        _open.add(figure)
        figure.canvas.mpl_connect("close_event", lambda _: _open.discard(figure))
    return figure
