"""The live plot as a picture file, for sessions without a screen."""

# matplotlib's types are partly unknown.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import logging
import threading
from pathlib import Path

from .plot_choice import RoiChoice
from xpcs_live_denoise.views.state import PlotState

logger = logging.getLogger(__name__)

PERIOD_S = 5.0
"""Time between two pictures of a run, s."""
# The end of a run waits this long for its last picture.
PATIENCE_S = 60.0


class PlotFile:
    """Writes the newest state of a run into a file: every PERIOD_S, and when the run has ended.

    The file is replaced as a whole, so that whoever reads it sees a complete picture.

    Parameters
    ----------
    path
        A .png file. Its folder must exist.
    choice
        The ROI that is shown.
    """

    def __init__(self, path: Path, choice: RoiChoice) -> None:
        self._path = path
        self._choice = choice
        self._news = threading.Condition()
        self._state: PlotState | None = None
        self._ended: PlotState | None = None
        self._thread: threading.Thread | None = None

    def begin(self, state: PlotState) -> None:
        """Draw this run from now on."""
        self.end()
        self._state, self._ended = state, None
        self._thread = threading.Thread(
            target=self._run, args=(state,), name="xpcs-live-plot", daemon=True
        )
        self._thread.start()

    def changed(self, state: PlotState) -> None:
        """Take note of news; once the run has ended, wait for its last picture."""
        if state is self._state and state.ended:
            self.end()

    def end(self) -> None:
        """Write what is newest and stop."""
        if self._thread is None:
            return
        with self._news:
            self._ended = self._state
            self._news.notify_all()
        self._thread.join(PATIENCE_S)
        self._thread = None

    def _run(self, state: PlotState) -> None:
        drawn, ended = 0, False
        while not ended:
            with self._news:
                self._news.wait_for(lambda: self._ended is state, PERIOD_S)
                ended = self._ended is state
            if state.version == drawn:
                continue
            drawn = state.version
            try:
                save_figure(state, self._choice.index(state.info.roi), self._path)
            except Exception:  # a full disk, for example; the analysis goes on
                logger.exception("The live plot cannot be written to %s.", self._path)
                return


def save_figure(state: PlotState, roi: int, path: Path) -> None:
    """Draw the state of the ROI with this index into a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from .plot_figure import DPI, SIZE_INCHES, LiveFigure

    figure = Figure(figsize=SIZE_INCHES, dpi=DPI)
    FigureCanvasAgg(figure)
    LiveFigure(figure).update(state.snapshot(roi))
    unfinished = path.with_name(f".{path.name}.part")
    figure.savefig(unfinished, format="png")
    unfinished.replace(path)
