"""LivePlot: the measurement in a window while it runs, or in a picture file without a screen."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from xpcs_live_denoise import views
from xpcs_live_denoise.errors import InvalidInputError, MissingDependencyError, Once, install_line
from xpcs_live_denoise.records.run import RunInfo

from .run_view import Display, ShownRun

if TYPE_CHECKING:
    from .qt_window import PlotWindow

logger = logging.getLogger(__name__)


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
                f"{install_line('qt')}."
            ) from error
        self._roi = roi
        self.window: PlotWindow | None = None
        self._file: PlotFile | None = None
        self._once = Once()
        if file is None:
            self.window = self._open_window()
        else:
            self._file = PlotFile(_checked(Path(file)), roi)

    def __call__(self, info: RunInfo) -> ShownRun:
        """Make the sink of one run."""
        return ShownRun(info, self._display() if info.roi else None)

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

    def _display(self) -> Display | None:
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
            self._warn(f"matplotlib draws with {backend!r}")
            return None
        try:
            from bluesky.callbacks.mpl_plotting import initialize_qt_teleporter

            from .qt_window import PlotWindow

            initialize_qt_teleporter()
            return PlotWindow(self._roi)
        except ImportError as error:
            raise MissingDependencyError(
                f"LivePlot: Qt cannot be loaded ({error}). It comes with the extra `qt`: "
                f"{install_line('qt')}."
            ) from error
        except RuntimeError:
            self._warn("the plot was not made on the main thread")
            return None

    def _warn(self, reason: str) -> None:
        if self._once.is_news(reason):
            logger.warning(
                "LivePlot: no window, because %s. Run `%%matplotlib qt` before LiveDenoise is "
                "made, or write the plot into a file: plot='live.png'.",
                reason,
            )


def _checked(file: Path) -> Path:
    if file.suffix.lower() != ".png" or not file.parent.is_dir():
        raise InvalidInputError(
            f"Live plot {file}: expected the name of a .png file in a folder that exists."
        )
    return file


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
    """Draw the ROI with this index into a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from .figure import DPI, SIZE_INCHES, RunFigure

    figure = Figure(figsize=SIZE_INCHES, dpi=DPI)
    FigureCanvasAgg(figure)
    RunFigure(figure).update(run.view(roi))
    unfinished = path.with_name(f".{path.name}.part")
    figure.savefig(unfinished, format="png")
    unfinished.replace(path)
