"""The window of the live plot: created and drawn on the main thread, told by the worker's."""

# pyright: reportMissingTypeStubs=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from bluesky.callbacks.mpl_plotting import QtAwareCallback

from xpcs_live_denoise.views import PlotState

if TYPE_CHECKING:
    from .figure import LiveFigure

# matplotlib's and bluesky's types are partly unknown.


logger = logging.getLogger(__name__)

# Least time between two draws, s, and the share of the main thread that drawing may take.
LEAST_PERIOD_S, SHARE = 0.2, 0.25
# Between news and their drawing, s. The last frames are news at the moment when a plan ends: it
# must return to the prompt before they are drawn, not after.
PAUSE_S = 0.1
EDGE = 2  # px that Qt shows around what was drawn: it rounds where its pixels are not the figure's


class PlotWindow(QtAwareCallback):
    """Shows the newest state of the newest run; what came in between is skipped.

    A user may close the window at any time: it stays closed until the next run begins. `begin` and
    `changed` may be called by any thread and return at once; everything else happens on the main
    thread, where Qt runs while a plan does.

    Parameters
    ----------
    choice
        The ROI that is shown.

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
    """

    def __init__(self, choice: RoiChoice) -> None:
        super().__init__(use_teleporter=True)
        self.n_draws = 0
        self.manager: Any = None
        self._choice = choice
        self._state: PlotState | None = None
        self._told = False
        self._figure: LiveFigure | None = None
        self._timer: Any = None
        self._size: Any = None  # of the canvas, px, when the figure was drawn whole
        self._drawn: tuple[Any, ...] = ()
        self._broken = False
        self._began = self._cost_s = self._last = 0.0

    # --- any thread --------------------------------------------------------------------------

    def begin(self, state: PlotState) -> None:
        """Show this run from now on; open the window where it is closed."""
        self._state = state
        self("start", {})

    def changed(self, state: PlotState) -> None:
        """Say that there is news; one message at most is under way at a time."""
        if state is self._state and not self._told:
            self._told = True
            self("event", {})

    # --- the main thread ---------------------------------------------------------------------

    def start(self, doc: Any) -> None:  # noqa: ARG002 - the news is in the state
        """Begin a run. Called through the teleporter."""
        self._broken = False
        self._guarded(self._open)

    def event(self, doc: Any) -> Any:  # noqa: ARG002
        """Draw when it is time. Called through the teleporter."""
        self._told = False
        self._guarded(self._draw_when_due)

    def draw_now(self) -> None:
        """Draw the newest state and let Qt show it; for scripts without an event loop."""
        self._guarded(self._open)
        self._guarded(self._draw)
        if self.manager is not None:
            self.manager.canvas.draw()
            self.manager.canvas.flush_events()

    def close(self) -> None:
        """Close the window."""
        if self.manager is not None:
            self.manager.destroy()

    def _guarded(self, call: Any) -> None:
        """Call; an error must reach neither Qt nor, through it, the plan that runs."""
        if self._broken:
            return
        try:
            call()
        except Exception:
            self._broken = True
            logger.exception("The live plot stopped; the scan and the analysis go on.")

    def _open(self) -> None:
        """Make the window, without pyplot: a user's next plot must not land in it."""
        if self.manager is not None:
            return
        import matplotlib
        from matplotlib.backends.backend_qt import FigureManagerQT
        from matplotlib.backends.qt_compat import QtCore  # pyright: ignore[reportAttributeAccessIssue]
        from matplotlib.figure import Figure

        from .cells import LiveCanvas
        from .figure import DPI, SIZE_INCHES, LiveFigure

        canvas = LiveCanvas(Figure(figsize=SIZE_INCHES, dpi=DPI))
        with matplotlib.rc_context({"interactive": False, "figure.raise_window": False}):
            manager = FigureManagerQT(canvas, 0)
        manager.set_window_title("XPCS live")
        self._figure = LiveFigure(canvas.figure, step=self._step, choose=self._choose)
        canvas.mpl_connect("close_event", lambda _event: self._closed())
        canvas.mpl_connect("draw_event", lambda _event: self._guarded(self._was_drawn))
        # A person at work elsewhere keeps the keyboard.
        manager.window.setAttribute(QtCore.Qt.WidgetAttribute.WA_ShowWithoutActivating, True)
        manager.window.show()
        self.manager, self._drawn, self._size = manager, (), None

    def _closed(self) -> None:
        if self._timer is not None:
            self._timer.stop()
        self.manager = self._figure = self._timer = None

    def _draw_when_due(self) -> None:
        if self.manager is None or self._timer is not None:
            return
        period = max(LEAST_PERIOD_S, self._cost_s / SHARE)
        wait_s = max(PAUSE_S, self._last + period - time.monotonic())
        self._timer = self.manager.canvas.new_timer(interval=round(1000 * wait_s))
        self._timer.single_shot = True
        self._timer.add_callback(self._time_is_up)
        self._timer.start()

    def _time_is_up(self) -> None:
        self._timer = None
        self._guarded(self._draw)

    def _draw(self) -> None:
        state = self._state
        if state is None or self._figure is None:
            return
        roi = self._choice.index(state.info.roi)
        if self._drawn == (state, state.version, roi):
            return
        self._last = time.monotonic()
        self._began = time.thread_time()  # on a busy machine draws take longer, not more work
        now = state.snapshot(roi)
        self._figure.update(now)
        self._drawn = (state, now.version, roi)
        self.n_draws += 1
        canvas = self.manager.canvas
        if self._size != canvas.get_width_height(physical=True):
            canvas.draw_idle()
            return
        box = self._figure.draw_changes()
        if box is not None:
            canvas.blit(box.padded(EDGE))
        self._cost_s, self._began = time.thread_time() - self._began, 0.0

    def _was_drawn(self) -> None:
        """Keep what was drawn, for updates that change a part, and draw the rest over it."""
        if self.manager is None or self._figure is None:
            return
        canvas = self.manager.canvas
        if canvas.is_saving():
            return  # the toolbar's button: everything is in the file
        self._figure.keep()
        self._size = canvas.get_width_height(physical=True)
        if self._began:  # a resize or a zoom is no update
            self._cost_s = time.thread_time() - self._began
            self._began = 0.0

    def _step(self, by: int) -> None:
        if self._state is not None:
            self._choice.step(self._state.info.roi, by)
            self._guarded(self._draw)

    def _choose(self, label: int) -> None:
        self._choice.label = label
        self._guarded(self._draw)


class RoiChoice:
    """The label of the ROI that is shown.

    Parameters
    ----------
    label
        The first choice; None takes the middle ROI of each run until somebody chooses.

    Attributes
    ----------
    label
        The choice; a run without this ROI shows its middle one and leaves the choice alone.
    """

    def __init__(self, label: int | None = None) -> None:
        self.label = label

    def index(self, labels: tuple[int, ...]) -> int:
        """Return the index of the choice among the labels of a run."""
        return labels.index(self.label) if self.label in labels else len(labels) // 2

    def step(self, labels: tuple[int, ...], by: int) -> None:
        """Choose the ROI `by` places on; the first follows the last."""
        self.label = labels[(self.index(labels) + by) % len(labels)]
