"""The window of the live plot: drawn on the main thread when a sink's thread has something new."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from bluesky.callbacks.mpl_plotting import QtAwareCallback

from xpcs_live_denoise import views
from xpcs_live_denoise.records.types import Fields

from .run_view import ShownRun

if TYPE_CHECKING:
    from .figure import RunFigure

Manager: TypeAlias = Any  # of matplotlib and Qt, which have few types
Timer: TypeAlias = Any
MouseEvent: TypeAlias = Any

logger = logging.getLogger(__name__)

# Least time between two draws, s, and the share of the main thread that drawing may take.
LEAST_PERIOD_S, SHARE = 1.0, 0.25
# Between what is new and its drawing, s. The last frames are new at the moment when a plan ends: it
# must return to the prompt before they are drawn, not after.
PAUSE_S = 0.1
UNDONE = ("Subplots", "Customize")  # tools of matplotlib: an update would take back what they do
TITLE_BAR = 40  # px, that a screen needs above a window


class PlotWindow(QtAwareCallback):
    """Shows the newest state of the newest run; what came in between is skipped.

    A user may close the window at any time: it stays closed until the next run begins. `begin` and
    `changed` may be called by any thread and return at once; everything else happens on the main
    thread, where Qt runs while a plan does.

    Parameters
    ----------
    roi
        Label of the ROI to begin with; None: the middle one. Its user may choose another.

    Raises
    ------
    RuntimeError
        When made on another than the main thread before bluesky's teleporter was.

    Attributes
    ----------
    n_draws
        How often the figure was updated.
    manager
        matplotlib's manager of the window; None while there is none.
    figure
        What the window shows; None while there is none.
    roi
        Label of the ROI that was chosen. A run without it shows its middle one and leaves the
        choice alone.
    failed
        Whether drawing has failed: it is given up until the next run.
    """

    def __init__(self, roi: int | None = None) -> None:
        super().__init__(use_teleporter=True)
        self.n_draws = 0
        self.manager: Manager = None
        self.figure: RunFigure | None = None
        self.failed = False
        self.roi = roi
        self._newest: ShownRun | None = None  # the run that was begun last, and
        self._run: ShownRun | None = None  # the one that is shown: the same, a message later
        self._message_under_way = False
        self._timer: Timer = None
        self._drawn: tuple[ShownRun, int, int] | None = None  # run, version, index of the ROI
        self._began_s = self._due_s = 0.0  # the thread's time of a draw; when the next one is due

    # --- any thread --------------------------------------------------------------------------

    def begin(self, run: ShownRun) -> None:
        """Show this run from now on; open the window where it is closed."""
        self._newest = run
        self("start", {})

    def changed(self, run: ShownRun) -> None:
        """Take note that there is something new; one message at most is under way at a time."""
        if run is self._newest and not self._message_under_way:
            self._message_under_way = True
            self("event", {})

    # --- the main thread ---------------------------------------------------------------------

    def start(self, doc: Fields) -> None:  # noqa: ARG002 - what is new is in the run
        """Begin a run. Called through the teleporter.

        Only now it is shown: a window that a user closes as soon as the run appears stays closed.
        """
        self.failed = False
        self._run = self._newest
        self._guarded(self._open)
        self._guarded(self._forget)  # what a user has zoomed into was of the run before
        self._guarded(self._draw_when_due)

    def event(self, doc: Fields) -> None:  # noqa: ARG002  # pyright: ignore[reportIncompatibleMethodOverride]
        """Draw when it is time. Called through the teleporter."""
        self._message_under_way = False
        self._guarded(self._draw_when_due)

    def draw_now(self) -> None:
        """Draw the newest state and let Qt show it; for scripts without an event loop."""
        self._guarded(self._open)
        self._guarded(self._update)
        if self.manager is not None:
            for _ in range(2):  # what is drawn while events are handled is then painted
                self.manager.canvas.flush_events()

    def close(self) -> None:
        """Close the window."""
        if self.manager is not None:
            self.manager.destroy()

    def _guarded(self, call: Callable[[], None]) -> None:
        """Call; an error must reach neither Qt nor, through it, the plan that runs."""
        if self.failed:
            return
        try:
            call()
        except Exception:
            self.failed = True
            logger.exception("The live plot stopped; the scan and the analysis go on.")

    def _open(self) -> None:
        """Make the window, without pyplot: a user's next plot must not land in it."""
        if self.manager is not None:
            return
        import matplotlib
        from matplotlib.backends.backend_qt import FigureManagerQT, NavigationToolbar2QT
        from matplotlib.backends.backend_qtagg import FigureCanvasQTAgg
        from matplotlib.backends.qt_compat import QtCore  # pyright: ignore[reportAttributeAccessIssue]
        from matplotlib.figure import Figure

        from .figure import DPI, SIZE_INCHES, RunFigure

        window = self

        class Toolbar(NavigationToolbar2QT):
            """Without what the next update takes back; home shows all that there is now."""

            toolitems = tuple(
                item for item in NavigationToolbar2QT.toolitems if item[0] not in UNDONE
            )

            def home(self, *_args: object) -> None:
                window.show_all()

        class WithToolbar(FigureManagerQT):
            _toolbar2_class = Toolbar

        canvas = FigureCanvasQTAgg(Figure(figsize=SIZE_INCHES, dpi=DPI))
        with matplotlib.rc_context(
            {"interactive": False, "figure.raise_window": False, "toolbar": "toolbar2"}
        ):
            manager: Manager = WithToolbar(canvas, 0)
        manager.set_window_title("XPCS live")
        self.figure = RunFigure(canvas.figure, step=self._step, choose=self._choose)
        canvas.mpl_connect("close_event", lambda _event: self._closed())
        canvas.mpl_connect("draw_event", lambda _event: self._was_drawn())
        canvas.mpl_connect("motion_notify_event", self._explain)
        free = manager.window.screen().availableGeometry()
        manager.window.resize(
            min(manager.window.width(), free.width()),
            min(manager.window.height(), free.height() - TITLE_BAR),
        )
        # A person at work elsewhere keeps the keyboard.
        manager.window.setAttribute(QtCore.Qt.WidgetAttribute.WA_ShowWithoutActivating, True)
        manager.window.show()
        self.manager, self._drawn = manager, None

    def show_all(self) -> None:
        """Show all that there is, whatever a user has zoomed into."""
        self._guarded(self._forget)
        self._guarded(self._update)

    def _forget(self) -> None:
        """Forget what a user has zoomed into, and the views to go back to."""
        if self.figure is not None:
            self.manager.toolbar.update()
            self.figure.show_all()
            self._drawn = None

    def _explain(self, event: MouseEvent) -> None:
        """Tell the whole of a text that was shortened while the mouse is over it."""
        if self.figure is not None:
            self.manager.canvas.setToolTip(self.figure.layout.in_full(event.x, event.y))

    def _closed(self) -> None:
        if self._timer is not None:
            self._timer.stop()
        self.manager = self.figure = self._timer = None

    def _draw_when_due(self) -> None:
        if self.manager is None or self._timer is not None:
            return
        wait_s = max(PAUSE_S, self._due_s - time.monotonic())
        self._timer = self.manager.canvas.new_timer(interval=round(1000 * wait_s))
        self._timer.single_shot = True
        self._timer.add_callback(self._is_due)
        self._timer.start()

    def _is_due(self) -> None:
        self._timer = None
        self._guarded(self._update)

    def _update(self) -> None:
        """Show the newest state; Qt draws it once it is idle."""
        run = self._run
        if run is None or self.figure is None:
            return
        now = (run, run.version, views.default_roi(run.info.roi, self.roi))
        if self._drawn == now:
            return
        self._began_s = time.thread_time()  # on a busy machine draws take longer, not more work
        self._due_s = time.monotonic() + LEAST_PERIOD_S
        self.figure.update(run.view(now[2]))
        self._drawn = now
        self.n_draws += 1
        self.manager.canvas.draw_idle()

    def _was_drawn(self) -> None:
        """Let the next update wait so long that drawing keeps within its share."""
        if self._began_s:  # a resize or a zoom is no update
            cost_s = time.thread_time() - self._began_s
            self._began_s = 0.0
            self._due_s = time.monotonic() + max(LEAST_PERIOD_S, cost_s / SHARE)

    def _step(self, by: int) -> None:
        """Choose the ROI `by` places on; the first follows the last."""
        if self._run is not None:
            labels = self._run.info.roi
            self._choose(labels[(views.default_roi(labels, self.roi) + by) % len(labels)])

    def _choose(self, label: int) -> None:
        self.roi = label
        self._guarded(self._update)
