"""LivePlot: the measurement in a window while it runs, or in a picture file without a screen."""

# pyright: reportUnknownMemberType=false

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from xpcs_live_denoise.errors import InvalidInputError, MissingDependencyError
from xpcs_live_denoise.records.results import Publication, Result
from xpcs_live_denoise.records.run import RunEnd, RunInfo
from xpcs_live_denoise.views import PlotState

from .qt_window import RoiChoice

if TYPE_CHECKING:
    from .qt_window import PlotWindow

# matplotlib's types are partly unknown.


logger = logging.getLogger(__name__)


class _View(Protocol):
    def begin(self, state: PlotState) -> None: ...
    def changed(self, state: PlotState) -> None: ...


class LivePlot:
    """Shows runs live; a sink factory, for LiveDenoise's `plot` or among its `sinks`.

    Make it on the main thread, after the backend of matplotlib was chosen (``%matplotlib qt``).
    The window opens with the first run, takes no focus, and may be closed: it opens again with the
    next run.

    Parameters
    ----------
    file
        Write a .png here every few seconds and at the end of each run, instead of a window.
    roi
        Label of the ROI to begin with; default: the middle one.

    Raises
    ------
    InvalidInputError
        When `file` is no .png or its folder does not exist.
    MissingDependencyError
        Without matplotlib, or where its backend is Qt and Qt cannot be loaded.
    """

    def __init__(self, file: str | Path | None = None, *, roi: int | None = None) -> None:
        try:
            import matplotlib  # noqa: F401  # pyright: ignore[reportUnusedImport]
        except ImportError as error:
            raise MissingDependencyError(
                "LivePlot: matplotlib is not installed. It comes with the extra `qt`: "
                "pip install 'xpcs-live-denoise[qt]'."
            ) from error
        self.choice = RoiChoice(roi)
        self.window: PlotWindow | None = None
        self._file: PlotFile | None = None
        self._told = False
        if file is None:
            self.window = self._open_window()
        else:
            self._file = PlotFile(_checked(Path(file)), self.choice)

    def __call__(self, info: RunInfo) -> PlotSink:
        """Make the sink of one run."""
        return PlotSink(info, self._view() if info.roi else None)

    def draw_now(self) -> None:
        """Draw the newest state at once; for scripts, on the main thread."""
        if self.window is not None:
            self.window.draw_now()

    def close(self) -> None:
        """Close the window, or finish the file."""
        if self.window is not None:
            self.window.close()
        if self._file is not None:
            self._file.end()

    def _view(self) -> _View | None:
        if self._file is not None:
            return self._file
        if self.window is None:
            self.window = self._open_window()  # the backend may have been chosen since
        return self.window

    def _open_window(self) -> PlotWindow | None:
        """Return what draws the window; None, with a line in the log, where there is no Qt."""
        import matplotlib

        backend = matplotlib.get_backend()
        if "qt" not in backend.lower():
            self._tell(f"matplotlib draws with {backend!r}")
            return None
        try:
            from bluesky.callbacks.mpl_plotting import initialize_qt_teleporter

            from .qt_window import PlotWindow

            initialize_qt_teleporter()
            return PlotWindow(self.choice)
        except ImportError as error:
            raise MissingDependencyError(
                f"LivePlot: Qt cannot be loaded ({error}). It comes with the extra `qt`: "
                "pip install 'xpcs-live-denoise[qt]'."
            ) from error
        except RuntimeError:
            self._tell("the plot was not made on the main thread")
            return None

    def _tell(self, reason: str) -> None:
        if not self._told:
            self._told = True
            logger.warning(
                "LivePlot: no window, because %s. Run `%%matplotlib qt` before LiveDenoise is "
                "made, or write the plot into a file: plot='live.png'.",
                reason,
            )


class PlotSink:
    """Keeps the newest state of one run and says so to the window or the file. Never raises.

    Parameters
    ----------
    info
        The run.
    view
        What draws; None draws nothing.
    """

    def __init__(self, info: RunInfo, view: _View | None) -> None:
        self._view = view
        self._uid = info.uid
        self.state = PlotState(info)
        self._do(lambda view: view.begin(self.state))

    def write(self, record: Publication | Result) -> None:
        """Show it when there is time."""
        self._take(record)

    def finish(self, end: RunEnd) -> None:
        """Show how the run ended."""
        self._take(end)

    def _take(self, record: Publication | Result | RunEnd) -> None:
        if self._view is not None:
            self._do(lambda view: (self.state.add(record), view.changed(self.state)))

    def _do(self, call: Callable[[_View], object]) -> None:
        """Call with the view; a plot that fails is given up, nothing else suffers."""
        if self._view is None:
            return
        try:
            call(self._view)
        except Exception:
            self._view = None
            logger.exception("Run %s: the live plot stopped; the rest goes on.", self._uid)


def _checked(file: Path) -> Path:
    if file.suffix.lower() != ".png" or not file.parent.is_dir():
        raise InvalidInputError(
            f"Live plot {file}: expected the name of a .png file in a folder that exists."
        )
    return file


# matplotlib's types are partly unknown.


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

    from .figure import DPI, SIZE_INCHES, LiveFigure

    figure = Figure(figsize=SIZE_INCHES, dpi=DPI)
    FigureCanvasAgg(figure)
    LiveFigure(figure).update(state.snapshot(roi))
    unfinished = path.with_name(f".{path.name}.part")
    figure.savefig(unfinished, format="png")
    unfinished.replace(path)
