"""A session with a real Qt window, run by test_plot_window.py; prints what it found as JSON.

Usage: python -m tests.support.window_session FOLDER
"""

import contextlib
import io
import json
import sys
import threading
import time
from pathlib import Path

import matplotlib as mpl

mpl.use("qtagg")

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import numpy as np
from bluesky.callbacks.best_effort import BestEffortCallback
from bluesky.run_engine import RunEngine
from matplotlib.backends.backend_qt import QtCore
from matplotlib.backends.qt_compat import QtWidgets

from tests.support.live_runs import Fake, series
from xpcs_live_denoise import LiveDenoise, LivePlot, RoiMap, Settings
from xpcs_live_denoise.records.frames import Geometry
from xpcs_live_denoise.simulation import SimulatedCamera, SimulatedEiger, fly_series, recorded
from xpcs_live_denoise.sinks.memory import MemorySink
from xpcs_live_denoise.views import RECOMMENDED

N_FRAMES = 120
LEAST_DRAWS, MOST_FRAMES = 3, 1500


class Session:
    """A RunEngine with LiveDenoise, its window and a best-effort callback."""

    def __init__(self, folder):
        self.sinks = []
        labels = np.zeros((30, 40), int)
        labels[1:9], labels[10:19], labels[20:29] = 1, 2, 3
        self.plot = LivePlot()
        self.window = self.plot.window
        self.live = LiveDenoise(
            Settings(detector="cam", publish_period_s=0.05),
            rois=RoiMap.from_labels(labels, q_inv_angstrom=[0.002, 0.003, 0.004]),
            sinks=[self._memory],
            plot=self.plot,
            ensemble=Fake(),
        )
        self.engine = RunEngine({}, context_managers=[])
        self.best_effort = BestEffortCallback()
        self.engine.subscribe(self.best_effort)
        self.engine.subscribe(self.live)
        self.detector = SimulatedEiger(
            recorded(series(N_FRAMES)),
            folder / "frames",
            n_frames=N_FRAMES,
            name="cam",
            frame_rate_hz=40,
            geometry=Geometry(),
        )
        self.drawn_on_main_thread = []

    def _memory(self, info):
        self.sinks.append(MemorySink(info))
        return self.sinks[-1]

    def run(self, plan=None):
        """Run a plan; return how often the window was drawn while it ran."""
        before = self.window.n_draws
        self.engine(plan or fly_series(self.detector, md={"sample": "silica", "scan_id": 77}))
        draws = self.window.n_draws - before
        assert self.live.wait(60)
        return draws

    def watch(self):
        """Note on which thread the open window is drawn from now on."""
        self.window.manager.canvas.mpl_connect(
            "draw_event",
            lambda _event: self.drawn_on_main_thread.append(
                threading.current_thread() is threading.main_thread()
            ),
        )

    def panel(self, name):
        return self.window.figure.axes[name]

    def roi_words(self):
        """What the window says of the ROI."""
        return self.window.figure.view.roi

    def key(self, name):
        """Press a key in the window, as Qt delivers it."""
        canvas = self.window.manager.canvas
        QtWidgets.QApplication.sendEvent(
            canvas, _key_event(QtCore.QEvent.Type.KeyPress, getattr(QtCore.Qt.Key, name))
        )
        canvas.flush_events()


def _key_event(kind, key):
    from matplotlib.backends.qt_compat import QtGui

    return QtGui.QKeyEvent(kind, key, QtCore.Qt.KeyboardModifier.NoModifier)


def first_run(session, folder):
    """The window ends with the final result."""
    session.run()
    session.window.draw_now()
    window = session.window.manager.window
    image = window.grab()
    image.save(str(folder / "window.png"))
    result = session.sinks[0].result
    gamma = session.panel("gamma")
    rows = result.gamma.select(
        (result.gamma.roi == 2) & result.gamma.recommended & np.isfinite(result.gamma.age_s)
    )
    points = sum(
        len(line.get_xydata())
        for line in gamma.lines
        if line.get_markeredgecolor() == RECOMMENDED and line.get_marker() != "None"
    )
    shown = session.panel("c2_raw").images[0].get_array()
    attribute = QtCore.Qt.WidgetAttribute.WA_ShowWithoutActivating
    return {
        "size": [image.width(), image.height()],
        "words": session.window.figure.words,
        "c2_is_right": bool(np.allclose(shown, result.c2[1].T, equal_nan=True)),
        "points": points,
        "rows": len(rows),
        "shown_without_activating": window.testAttribute(attribute),
        "raise_window": mpl.rcParams["figure.raise_window"],
    }


def choice_run(session):
    """The ROI that was chosen by keys is still the chosen one in the next run."""
    session.key("Key_Down")
    chosen = session.window.roi
    after_key = session.roi_words()
    session.panel("c2_raw").set_xlim(0.5, 1.0)
    session.panel("gamma").set_xlim(0.5, 1.0)
    session.run()
    session.window.draw_now()
    shown = session.panel("c2_raw").images[0].get_array()
    right = np.allclose(shown, session.sinks[-1].result.c2[2].T, equal_nan=True)
    return {
        "chosen": chosen,
        "after_key": after_key,
        "in_next_run": session.roi_words(),
        "c2_is_right": bool(right),
        "axes": [session.panel(name).get_xlim() for name in ("c2_raw", "c2_denoised", "gamma")],
    }


def hands_on(session, folder):
    """What a user does to the window: resize it, zoom, save it; updates go on."""
    canvas = session.window.manager.canvas
    size = canvas.get_width_height()
    session.window.manager.window.resize(1000, 700)
    settle(lambda: size != canvas.get_width_height())
    axes = session.panel("gamma")
    axes.set_xlim(0.5, 1.5)
    draws = session.window.n_draws
    session.key("Key_Up")
    settle(lambda: session.window.n_draws > draws)
    canvas.print_figure(folder / "saved.png", dpi=100)
    zoom = list(axes.get_xlim())
    session.window.manager.toolbar.home()
    return {
        "after_home": list(axes.get_xlim()),
        "sizes": [list(size), list(canvas.get_width_height())],
        "zoom": zoom,
        "roi": session.roi_words(),
        "inside": [
            bool(text.get_window_extent().x1 <= session.window.figure.figure.bbox.width)
            for text in session.window.figure.figure.texts
        ],
    }


def settle(done):
    """Let Qt work until something has happened."""
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline, "the window did not come to rest"
        QtWidgets.QApplication.processEvents()
        time.sleep(0.01)


def until_drawn(session):
    """Take frames inside events until the window was drawn anew LEAST_DRAWS times."""
    camera = SimulatedCamera(recorded(series(MOST_FRAMES)), name="cam")
    before = session.window.n_draws

    @bpp.stage_decorator([camera])
    @bpp.run_decorator(md={"detectors": ["cam"]})
    def plan():
        for _ in range(MOST_FRAMES):
            yield from bps.trigger_and_read([camera])
            yield from bps.sleep(0.02)
            if session.window.n_draws - before >= LEAST_DRAWS:
                break

    return plan()


def closing_run(session):
    """A window that is closed in the middle stays closed; the next run opens it again."""
    closed_at, before = [], session.window.figure.view.title

    def close():
        if session.window.figure.view.title == before:  # the run begins late: it opens the window
            QtCore.QTimer.singleShot(50, close)
            return
        closed_at.append(session.sinks[-1].publications[-1].n_frames)
        session.window.manager.window.close()

    QtCore.QTimer.singleShot(300, close)
    session.run()
    open_after = session.window.manager is not None
    sink = session.sinks[-1]
    draws = session.run(until_drawn(session))
    session.window.draw_now()
    return {
        "closed_at": closed_at[0],
        "open_after": open_after,
        "status": sink.end.analysis_exit_status,
        "n_frames": sink.result.c2.shape[-1],
        "draws_in_next_run": draws,
        "open_in_next_run": session.window.manager is not None,
        "failed": session.window.failed,
        "picture_of_inline_frames": session.sinks[-1].result.picture.n_frames,
    }


def main(folder):
    import matplotlib.pyplot as plt

    session = Session(folder)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        found = {
            "first": first_run(session, folder),
            "watch": session.watch(),
            "choice": choice_run(session),
            "hands_on": hands_on(session, folder),
            "closing": closing_run(session),
        }
    found["drawn_on_main_thread"] = session.drawn_on_main_thread
    found["n_faults"] = session.live.n_faults
    found["figures_of_pyplot"] = plt.get_fignums()
    found["best_effort_output"] = output.getvalue()
    assert session.live.close(20)
    session.plot.close()
    (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
