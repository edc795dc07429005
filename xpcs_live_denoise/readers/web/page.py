"""One open page: joins the shared feed of a run to the figures of one browser."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import jinja2
from bokeh.document import Document
from bokeh.models import ColumnDataSource

from xpcs_live_denoise.errors import XpcsError

from . import views
from .curves import DispersionFigure, G2Figure, GammaFigure
from .feed import RunFeed
from .hub import Hub, RunSummary
from .images import C2Figures, DetectorFigure

PERIOD_MS = 200
LOAD_S = 5.0
DETECTOR_PERIOD_S = 1.0
SHOWN = ("both", "raw", "denoised")
STATES = {"live": "live", "success": "finished", "fail": "failed", "abort": "aborted"}
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
        self._opening = True
        self._closed = False
        self._seen: Any = None
        self._text = ""
        self._drawn: dict[str, Any] = {}
        self._detector_time = 0.0
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
        before = self._feed
        try:
            uid = self._wanted or self._newest()
            if uid:
                self._feed = await self._hub.open(await self._hub.find(uid))
                if before is not None:
                    self._hub.release(before)
                if self._closed:
                    self._close(None)
        except XpcsError as error:
            self._error = str(error)
        self._opening = False
        self._update()
        if self._feed is not None and await self._feed.loaded(LOAD_S):
            self._update()  # at once, not with the next look

    def _newest(self) -> str:
        runs = self._hub.runs
        live = [run for run in runs if run.state == "live"]
        return (live or runs)[0].uid if runs else ""

    def _newer_run(self) -> bool:
        """Whether a page that shows the newest run should show another one now."""
        if self._wanted or self._error or (self._feed is not None and self._feed.state.live):
            return False
        newest = self._newest()
        return bool(newest) and (self._feed is None or newest != self._feed.state.uid)

    def _close(self, _context: Any) -> None:
        self._closed = True
        feed, self._feed = self._feed, None
        if feed is not None:
            self._hub.release(feed)

    # --- news ------------------------------------------------------------------------------

    def _update(self) -> None:
        """Send what has changed since the last look."""
        if self._newer_run() and not self._opening:
            self._opening = True
            self._document.add_next_tick_callback(self._open)
        index, shown = self._chosen()
        state = None if self._feed is None else self._feed.state
        version = None if state is None else state.version
        seen = (version, self._hub.version, index, shown, self._error)
        if seen == self._seen:
            return
        self._seen = seen
        if self._feed is not None and state is not None and state.loaded:
            self._feed.want(index)
            self._draw(index, shown)
        text = json.dumps(self._message(index))
        if text != self._text:
            self._text = text
            self._news.data = {"json": [text]}

    def _chosen(self) -> tuple[int, str]:
        """Return index of the ROI and the C2 to show; what a browser sends is not trusted."""
        data: Any = self._choice.data
        roi, shown = [*data.get("roi", ()), 0][0], [*data.get("shown", ()), "both"][0]
        n_roi = 1 if self._feed is None else len(self._feed.state.labels)
        valid = isinstance(roi, int | float) and math.isfinite(roi) and 0 <= roi < n_roi
        return (int(roi) if valid else 0), shown if shown in SHOWN else "both"

    def _draw(self, index: int, shown: str) -> None:
        assert self._feed is not None  # noqa: S101 - for the type checker
        state = self._feed.state
        if not state.labels:
            return
        roi = f"ROI {state.labels[index]}"
        self._once(
            "c2", views.two_time(state, index), lambda v: self._c2.show(v, shown, roi), shown
        )
        self._once(
            "g2", views.one_time(state, index), lambda v: self._g2.show(v, roi, live=state.live)
        )
        self._once("gamma", views.rates(state, index), lambda v: self._gamma.show(v, roi))
        self._once("q", views.dispersion(state), self._dispersion.show)
        now = time.monotonic()
        if now - self._detector_time >= DETECTOR_PERIOD_S or not state.live:
            self._detector_time = now
            picture = views.detector(state, index)
            self._once(
                "detector", picture, lambda v: self._detector.show(v, live=state.live), state.live
            )

    def _once(self, name: str, view: Any, show: Any, *also: Any) -> None:
        """Show a view unless it is what the browser already has."""
        if name not in self._drawn or self._drawn[name] != (id(view), also):
            show(view)
        self._drawn[name] = (id(view), also)

    # --- texts -----------------------------------------------------------------------------

    def _message(self, index: int) -> dict[str, Any]:
        """Return everything on the page that is not a plot; the browser takes it as text only."""
        feed = self._feed
        uid = "" if feed is None else feed.state.uid
        message: dict[str, Any] = {
            "runs": [_line(run, run.uid == uid) for run in self._hub.runs],
            "notice": self._hub.notice,
            "error": self._error,
            "newest": not self._wanted,
            "roi": index,
        }
        if feed is None:
            return message
        state = feed.state
        start = state.metadata.get("start", {})
        line = next((run for run in self._hub.runs if run.uid == uid), None)
        stop = state.metadata.get("stop") or {}
        message["run"] = {
            "title": _title(start),
            "loaded": state.loaded,
            "state": STATES.get("live" if state.live else stop.get("exit_status", ""), "ended"),
            "n_frames": state.n_frames,
            "n_expected": state.xpcs.get("n_expected"),
            "items": _items(state, index, line),
            "message": " ".join(
                str(text)
                for text in (stop.get("reason"), (state.status or {}).get("message"))
                if text
            ),
            "rois": _rois(state),
        }
        return message


def _title(start: Any) -> str:
    sample = start.get("sample") or start.get("sample_name") or ""
    if isinstance(sample, dict):
        sample = sample.get("name", "")
    scan = start.get("scan_id")
    return " · ".join(str(part) for part in (f"Scan {scan}" if scan else "", sample) if part) or (
        f"Run {str(start.get('original_run_uid', ''))[:8]}"
    )


def _line(run: RunSummary, current: bool) -> dict[str, Any]:
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
        "current": current,
    }


def _items(state: Any, index: int, line: RunSummary | None) -> list[list[str]]:
    """Return the facts of the status line: (name, value) pairs."""
    status = state.status or {}
    contrast = status.get("contrast") or []
    items = []
    if status and state.live:
        items.append(["behind the detector", f"{float(status['lag_s']):.2f} s"])
    value = contrast[index] if index < len(contrast) else None
    items.append(["contrast β*", "–" if value is None else f"{float(value):.3f}"])
    items.append(["skipped frames", str(int(status.get("n_skipped") or 0))])
    items.append(["frame time", f"{state.frame_time_s * 1e3:.4g} ms"])
    if line is not None and line.detector:
        items.append(["detector", line.detector])
    return items


def _rois(state: Any) -> list[str]:
    known = state.xpcs.get("q_inv_angstrom") or [None] * len(state.labels)
    return [
        f"ROI {label}" + ("" if q is None else f", q = {float(q):.3g} 1/Å")
        for label, q in zip(state.labels, known, strict=False)
    ]
