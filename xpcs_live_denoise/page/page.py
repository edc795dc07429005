"""One open page: joins the shared feed of a run to the figures of one browser."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2
from bokeh.document import Document
from bokeh.models import ColumnDataSource

from xpcs_live_denoise.views import mean_counts
from xpcs_live_denoise.errors import TiledUnavailableError, XpcsError
from xpcs_live_denoise.page import views

from .feed import RunFeed
from .figures import (
    C2Figures,
    DetectorFigure,
    DispersionFigure,
    G2Figure,
    GammaFigure,
)
from .hub import Hub, RunSummary, mapping, sample_of
from .run_state import RunState

logger = logging.getLogger(__name__)

PERIOD_MS = 200
LOAD_S, RETRY_S = 5.0, 2.0
DETECTOR_PERIOD_S = 1.0
SHOWN = ("both", "raw", "denoised")
HERE = Path(__file__).parent


def page_template() -> jinja2.Template:
    """Return the template of the page, with its style and its script inside."""
    # Bokeh's own templates are written for an environment that escapes nothing.
    environment = jinja2.Environment(  # noqa: S701
        loader=jinja2.PackageLoader("bokeh.core", "_templates")
    )
    # Ours; nothing of a run goes through it: that comes later, as text, over the WebSocket.
    source = (HERE / "page.html").read_text("utf-8")
    for name in ("page.css", "page.js"):
        source = source.replace(f"@{name}@", (HERE / name).read_text("utf-8"))
    return environment.from_string(source)


class Page:
    """One session of one browser.

    Parameters
    ----------
    document
        Bokeh's document of the session.
    hub
        What all sessions share.
    wanted
        The uid in the address, of a result or of a raw run; empty: the newest run.
    """

    def __init__(self, document: Document, hub: Hub, wanted: str):
        self._hub, self._wanted = hub, wanted
        self._feed: RunFeed | None = None
        self._document: Any = document
        self._error = ""
        self._tried, self._retry_at = "", math.inf
        self._opening = True
        self._closed = False
        self._seen: Any = None
        self._text = ""
        self._drawn: dict[str, Any] = {}
        self._failed: set[str] = set()
        self._detector_time, self._detector_late = 0.0, False
        self._c2, self._detector = C2Figures(), DetectorFigure()
        self._g2, self._gamma, self._dispersion = G2Figure(), GammaFigure(), DispersionFigure()
        self._news = ColumnDataSource({"json": ["{}"]}, name="news")
        self._choice = ColumnDataSource({"roi": [0], "shown": ["both"]}, name="choice")
        roots = (
            *self._c2.plots.values(),
            *(self._detector.plot, self._g2.plot, self._gamma.plot, self._dispersion.plot),
            *(self._news, self._choice),
        )
        with document.models.freeze():  # all at once: each root alone costs a look at all others
            for root in roots:
                document.add_root(root)
        document.title = "XPCS live"
        self._document.add_next_tick_callback(self._open)
        document.add_periodic_callback(self._update, PERIOD_MS)
        document.on_session_destroyed(self._close)

    async def _open(self) -> None:
        """Open the run of the address, or the newest instead of the one that is shown."""
        self._tried, self._retry_at = self._wanted or self._newest(), math.inf
        try:
            if self._tried:
                self._take(await self._hub.open(await self._hub.find(self._tried)))
            self._error = ""
        except TiledUnavailableError as error:
            self._error, self._retry_at = str(error), time.monotonic() + RETRY_S
        except XpcsError as error:
            self._error = str(error)
        except Exception:
            logger.exception("Run %s cannot be opened.", self._tried)
            self._error = "The run cannot be opened. The log of this page's server says why."
        self._opening = False
        self._update()
        if self._feed is not None and await self._feed.loaded(LOAD_S):
            self._update()  # at once, not with the next look

    def _take(self, feed: RunFeed) -> None:
        # Only now: the page may have been closed while it waited.
        before, self._feed = self._feed, feed
        self._failed.clear()
        if before is not None:
            self._hub.release(before)
        if self._closed:
            self._close(None)

    def _newest(self) -> str:
        runs, silent = self._hub.runs, self._hub.silent(time.time())
        live = [run for run in runs if run.state == "live" and run.uid not in silent]
        return (live or runs)[0].uid if runs else ""

    def _another_run(self) -> bool:
        """Whether a page that shows the newest run should show another one now."""
        state = None if self._feed is None else self._feed.state
        going_on = state is not None and state.live and state.silent_since(time.time()) is None
        if self._wanted or going_on:
            return False
        return self._newest() not in ("", self._tried)

    def _close(self, _context: Any) -> None:
        self._closed = True
        feed, self._feed = self._feed, None
        if feed is not None:
            self._hub.release(feed)

    # --- news ------------------------------------------------------------------------------

    def _update(self) -> None:
        """Send what has changed since the last look."""
        now = time.monotonic()
        if not self._opening and (now >= self._retry_at or self._another_run()):
            self._opening = True
            self._document.add_next_tick_callback(self._open)
        index, shown = self._chosen()
        state = None if self._feed is None else self._feed.state
        known = None
        if state is not None:
            known = (state.uid, state.version, state.silent_since(time.time()))
        hub = (self._hub.version, self._hub.silent(time.time()))
        seen = (known, hub, index, shown, self._error)
        late = self._detector_late and now - self._detector_time >= DETECTOR_PERIOD_S
        if seen == self._seen and not late:
            return
        self._seen = seen
        if self._feed is not None and state is not None and state.loaded:
            self._feed.want(index)
            self._draw(state, index, shown)
        self._attempt("text", lambda: self._tell(index))

    def _chosen(self) -> tuple[int, str]:
        """Return index of the ROI and the C2 to show; what a browser sends is not trusted."""
        data: Any = self._choice.data
        roi, shown = [*data.get("roi", ()), 0][0], [*data.get("shown", ()), "both"][0]
        n_roi = 1 if self._feed is None else len(self._feed.state.labels)
        valid = isinstance(roi, int | float) and math.isfinite(roi) and 0 <= roi < n_roi
        return (int(roi) if valid else 0), shown if shown in SHOWN else "both"

    def _draw(self, state: RunState, index: int, shown: str) -> None:
        if not state.labels:
            return
        roi = f"ROI {state.labels[index]}"
        self._once(
            "C2",
            lambda: views.two_time(state, index),
            lambda v: self._c2.show(v, shown, roi),
            shown,
        )
        self._once(
            "g2",
            lambda: views.one_time(state, index),
            lambda v: self._g2.show(v, roi, live=state.live),
        )
        self._once("Gamma", lambda: views.rates(state, index), lambda v: self._gamma.show(v, roi))
        self._once("Gamma(q)", lambda: views.dispersion(state), self._dispersion.show)
        now = time.monotonic()
        self._detector_late = state.live and now - self._detector_time < DETECTOR_PERIOD_S
        if not self._detector_late:
            self._detector_time = now
            self._once(
                "the detector",
                lambda: views.detector(state, index),
                lambda v: self._detector.show(v, live=state.live),
                state.live,
            )

    def _once(
        self, name: str, make: Callable[[], Any], show: Callable[[Any], None], *also: Any
    ) -> None:
        """Make a view, and show it unless it is what the browser already has."""

        def work() -> None:
            view = make()
            # The view itself, not its id: another one may be given the same.
            last, last_also = self._drawn.get(name, (self, ()))
            if last is not view or last_also != also:
                show(view)
                self._drawn[name] = (view, also)

        self._attempt(name, work)

    def _attempt(self, name: str, work: Callable[[], None]) -> None:
        """Do one part of the page; where that fails, it keeps what it shows and others go on."""
        try:
            work()
        except Exception:
            if name not in self._failed:
                self._failed.add(name)
                logger.exception("Run %s: %s cannot be shown.", self._tried, name)

    def _tell(self, index: int) -> None:
        text = json.dumps(self._message(index), allow_nan=False)
        if text != self._text:
            self._news.data = {"json": [text]}
            self._text = text

    def _message(self, index: int) -> dict[str, Any]:
        """Return everything on the page that is not a plot; the browser takes it as text only."""
        state = None if self._feed is None else self._feed.state
        uid = "" if state is None else state.uid
        runs, silent = self._hub.runs, self._hub.silent(time.time())
        message: dict[str, Any] = {
            "runs": [
                list_line(run, current=run.uid == uid, silent=run.uid in silent) for run in runs
            ],
            "notice": self._hub.notice,
            "error": self._error,
            "newest": not self._wanted,
            "roi": index,
        }
        if state is not None:
            detector = next((run.detector for run in runs if run.uid == uid), "")
            message["run"] = run_texts(
                state, index, detector=detector, silent_since=state.silent_since(time.time())
            )
        return message


STATES = {"live": "live", "success": "finished", "fail": "failed", "abort": "aborted"}


def list_line(run: RunSummary, *, current: bool, silent: bool) -> dict[str, Any]:
    """Return one line of the list of runs.

    Parameters
    ----------
    run
        The run.
    current
        The page shows it.
    silent
        It is live, but nothing has been heard of it for long.
    """
    frames = str(run.n_frames)
    if run.state == "live" and run.n_expected:
        frames += f" / {run.n_expected}"
    return {
        "uid": run.uid,
        "scan": run.scan_id or run.raw_uid[:8],
        "sample": run.sample,
        "detector": run.detector,
        "time": run.time,
        "frames": frames,
        "state": STATES.get(run.state, "ended"),
        "silent": silent,
        "current": current,
    }


def run_texts(
    state: RunState, index: int, *, detector: str, silent_since: float | None
) -> dict[str, Any]:
    """Return what the page says of a run and a ROI (its index).

    Parameters
    ----------
    state
        Of the run.
    index
        Of the ROI.
    detector
        Its name, empty where unknown.
    silent_since
        When a live run last gave a sign of life, s since 1970; None if that is not long ago.
    """
    stop = mapping(state.metadata.get("stop"))
    ended = "gone" if state.gone else STATES.get(stop.get("exit_status", ""), "ended")
    told = (state.gone, stop.get("reason"), (state.status or {}).get("message"))
    return {
        "title": title(mapping(state.metadata.get("start"))),
        "loaded": state.loaded or bool(state.gone),
        "state": "live" if state.live else ended,
        "silent_since": silent_since,
        "n_frames": state.n_frames,
        "n_expected": state.xpcs.get("n_expected"),
        "items": items(state, index, detector),
        "message": " ".join(str(text) for text in told if text),
        "rois": rois(state),
    }


def title(start: Mapping[str, Any]) -> str:
    """Return what a run is called, from its start document."""
    scan, sample = start.get("scan_id"), sample_of(start)
    return " · ".join(part for part in (f"Scan {scan}" if scan else "", sample) if part) or (
        f"Run {str(start.get('original_run_uid', ''))[:8]}"
    )


def items(state: RunState, index: int, detector: str) -> list[list[str]]:
    """Return the facts of the status line: (name, value) pairs.

    The dose is what a pixel of the ROI has counted in all, mean counts times frames: the flux of
    the beam is not known here.
    """
    status = state.status or {}
    contrast = status.get("contrast") or []
    found = []
    if state.live and math.isfinite(_number(status.get("lag_s"))):
        found.append(["behind the detector", f"{_number(status['lag_s']):.2f} s"])
    beta = _number(contrast[index]) if index < len(contrast) else math.nan
    found.append(["contrast β*", f"{beta:.3f}" if math.isfinite(beta) else "–"])
    counts = counts_a_frame(state, index)
    if math.isfinite(counts):
        found.append(["counts", f"{counts:.3g} /px/frame"])
        processed = _number(status.get("n_processed"))
        if math.isfinite(processed):
            found.append(["dose", f"{counts * processed:.3g} counts/px"])
    skipped = _number(status.get("n_skipped"))
    found.append(["skipped frames", f"{skipped:.0f}" if math.isfinite(skipped) else "0"])
    found.append(["frame time", f"{state.frame_time_s * 1e3:.4g} ms"])
    if detector:
        found.append(["detector", detector])
    return found


def rois(state: RunState) -> list[str]:
    """Return what every ROI is called."""
    return [
        f"ROI {label}" + (f", q = {q:.3g} 1/Å" if math.isfinite(q) else "")
        for label, q in zip(state.labels, state.q_inv_angstrom, strict=True)
    ]


def counts_a_frame(state: RunState, index: int) -> float:
    """Return the mean counts a pixel and frame in a ROI; NaN while they are not known."""
    return state.cached(("counts", index), lambda: _counts_a_frame(state, index))


def _counts_a_frame(state: RunState, index: int) -> float:
    image, labels = state.picture.get("image"), state.picture.get("roi_labels")
    if image is None or labels is None or image.shape != labels.shape:
        return math.nan
    if index >= len(state.labels):
        return math.nan
    return mean_counts(image, labels, state.labels[index])


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
