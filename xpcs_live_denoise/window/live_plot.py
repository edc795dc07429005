"""LivePlot: the measurement in a window while it runs, or in a picture file without a screen."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from xpcs_live_denoise.errors import InvalidInputError, MissingDependencyError, Once, install_line
from xpcs_live_denoise.records.run import RunInfo

from .pictures import PlotFile
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
        return ShownRun(info, self._display())

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
