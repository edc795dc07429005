"""One open page: joins the shared feed of a run to the figures of one browser."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import jinja2
from bokeh.document import Document as BokehDocument
from bokeh.models import ColumnDataSource

from xpcs_live_denoise import views
from xpcs_live_denoise.errors import Once, TiledUnavailableError, XpcsError
from xpcs_live_denoise.readers import mapping, standing
from xpcs_live_denoise.records.types import Document

from .feed import RunFeed
from .figures import Columns, Figures, Rois, roi_colours
from .hub import Hub
from .run_list import (
    LISTED_RUNS,
    SHORT_UID,
    RunSummary,
    best_result,
    frames_words,
    list_line,
    others_of,
    replays,
)
from .run_state import RunState, number

T = TypeVar("T")
Model: TypeAlias = Any  # an object of Bokeh: its properties are made at run time

logger = logging.getLogger(__name__)

PERIOD_MS = 200
LOAD_S, RETRY_S = 5.0, 2.0
DETECTOR_PERIOD_S = LIST_PERIOD_S = 1.0
SHOWN = ("both", "raw", "denoised", "model")  # model: beside raw
HERE = Path(__file__).parent


def page_template(name: str = "page.html") -> jinja2.Template:
    """Return a template, with the head, the style and the script of the page inside."""
    # Bokeh's own templates are written for an environment that escapes nothing.
    environment = jinja2.Environment(  # noqa: S701
        loader=jinja2.PackageLoader("bokeh.core", "_templates")
    )
    # Ours; nothing of a run goes through it: that comes later, as text, over the WebSocket.
    source = (HERE / name).read_text("utf-8")
    for part in ("head.html", "page.css", "dark.js", "page.js", "overview.js"):
        source = source.replace(f"@{part}@", (HERE / part).read_text("utf-8"))
    return environment.from_string(source)


class Page:
    """One session of one browser: which run it shows.

    `wanted` is the word in the address, see `find_result`; empty: the newest run.
    """

    def __init__(self, document: BokehDocument, hub: Hub, wanted: str) -> None:
        self._hub, self._wanted = hub, wanted
        self._feed: RunFeed | None = None
        self._document: Model = document
        self._error = self._remark = ""
        self._tried, self._retry_at = "", math.inf
        self._opening = True
        self._closed = False
        self._seen: object = None
        self._names: tuple[object, dict[str, str]] = (None, {})  # of which results, and theirs
        self._listed: tuple[tuple[object, ...], float] = ((), -math.inf)
        self._screen = Screen(document)
        self._document.add_next_tick_callback(self.open)
        document.add_periodic_callback(self.update, PERIOD_MS)
        document.on_session_destroyed(lambda _context: self.close())

    async def open(self) -> None:
        """Open the run of the address, or the newest instead of the one that is shown."""
        self._tried, self._retry_at = self._wanted or self._newest(), math.inf
        try:
            self._remark = ""
            if self._tried:
                uid, self._remark = await self._hub.find(self._tried)
                self._take(await self._hub.open(uid))
            self._error = ""
        except TiledUnavailableError as error:
            self._error, self._retry_at = str(error), time.monotonic() + RETRY_S
        except XpcsError as error:
            self._error = str(error)
        except Exception:
            logger.exception("Run %s cannot be opened.", self._tried)
            self._error = "The run cannot be opened. The log of this page's server says why."
        self._opening = False
        self.update()
        if self._feed is not None and await self._feed.loaded(LOAD_S):
            self.update()  # at once, not with the next look

    def _take(self, feed: RunFeed) -> None:
        # Only now: the page may have been closed while it waited.
        before, self._feed = self._feed, feed
        self._screen.begin(self._tried)
        if before is not None:
            self._hub.release(before)
        if self._closed:
            self.close()

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

    def close(self) -> None:
        """Give the run back."""
        self._closed = True
        feed, self._feed = self._feed, None
        if feed is not None:
            self._hub.release(feed)

    def update(self) -> None:
        """Send what has changed since the last look."""
        now, clock = time.time(), time.monotonic()
        if not self._opening and (clock >= self._retry_at or self._another_run()):
            self._opening = True
            self._document.add_next_tick_callback(self.open)
        state = None if self._feed is None else self._feed.state
        index, shown = self._screen.chosen([] if state is None else state.labels)
        known = None
        if state is not None:
            known = (state.uid, state.version, state.silent_since(now))
        uid = "" if state is None else state.uid
        self._show_list(uid, now, clock)
        self._ask_for_names(uid)
        hub = (self._hub.version, self._hub.notice, self._hub.silent(now))
        seen = (known, hub, index, shown, self._error, self._names[0])
        if seen == self._seen and not self._screen.detector_is_late(clock):
            return
        self._seen = seen
        if self._feed is not None and state is not None and state.loaded:
            self._feed.want(index)
            if state.labels:
                self._screen.draw(state, index, shown)
        self._screen.say("texts", lambda: self._message(state, index, now))

    def _ask_for_names(self, uid: str) -> None:
        """Read what the results of the shown run are called, where there are several."""
        others = tuple(run.uid for run in others_of(uid, self._hub.runs))
        if others == self._names[0] or not others:
            return
        self._names = others, {}
        raw_uid = next(run.raw_uid for run in self._hub.runs if run.uid == uid)

        async def ask() -> None:
            try:
                names = await self._hub.result_names(raw_uid)
            except XpcsError:  # times tell them apart, too
                return
            if self._names[0] == others:
                self._names, self._seen = (others, names), None

        self._document.add_next_tick_callback(ask)

    def _show_list(self, uid: str, now: float, clock: float) -> None:
        """Send the list of runs where it has changed: at once a new choice, else now and then."""
        silent = self._hub.silent(now)
        key = (uid, self._hub.version, silent)
        last, sent_at = self._listed
        if key == last or (last and last[0] == uid and clock - sent_at < LIST_PERIOD_S):
            return
        self._listed = (key, clock)
        runs, again = self._hub.runs, replays(self._hub.runs)
        self._screen.say(
            "runs",
            lambda: {
                "runs": [
                    list_line(run, silent=run.uid in silent, replay=run.uid in again)
                    for run in runs
                ],
                "current": uid,
                "newest": not self._wanted,
                "most": LISTED_RUNS,
            },
        )

    def _message(self, state: RunState | None, index: int, now: float) -> Document:
        """Return everything of the run that is not a plot; the browser takes it as text only."""
        message: Document = {
            "notice": self._hub.notice or self._remark,
            "error": self._error,
            "none": not self._hub.runs,
            "roi": index,
        }
        if state is not None:
            texts = run_texts(state, index, runs=self._hub.runs, now=now)
            message["run"] = texts | {"result_names": self._names[1]}
        return message


class Screen:
    """What one browser shows, and what its user has chosen."""

    def __init__(self, document: BokehDocument) -> None:
        self._figures = Figures()
        # What is not drawn: of the run, and the list of all runs.
        self._said = {
            name: ColumnDataSource({"json": ["{}"]}, name=name) for name in ("texts", "runs")
        }
        # What the page's script writes; -1 until it does.
        self._choice = ColumnDataSource({"roi": [-1], "shown": ["both"]}, name="choice")
        self._drawn: dict[str, tuple[object, object]] = {}
        self._run, self._failures = "", Once()
        self._detector_time, self._detector_late = -math.inf, False
        self._detector_chosen: object = None
        with document.models.freeze():  # all at once: each root alone costs a look at all others
            for root in (*self._figures.plots.values(), *self._said.values(), self._choice):
                document.add_root(root)
        document.title = "XPCS live"

    def begin(self, run: str) -> None:
        """Begin to show a run, which messages of the log name."""
        self._run, self._failures = run, Once()

    def chosen(self, labels: list[int]) -> tuple[int, str]:
        """Return index of the ROI and the C2 to show; what a browser sends is not trusted."""
        data: Model = self._choice.data
        roi, shown = [*data.get("roi", ()), -1][0], [*data.get("shown", ()), "both"][0]
        valid = isinstance(roi, int | float) and math.isfinite(roi) and 0 <= roi < len(labels)
        index = int(roi) if valid else views.default_roi(labels)
        return index, shown if shown in SHOWN else "both"

    def detector_is_late(self, now: float) -> bool:
        """Whether it is time for an image that came too soon after the one before."""
        return self._detector_late and now - self._detector_time >= DETECTOR_PERIOD_S

    def draw(self, state: RunState, index: int, shown: str) -> None:
        """Draw what the browser does not have yet of a ROI (its index)."""
        figures, label, live = self._figures, state.labels[index], state.live
        roi, rois = f"ROI {label}", rois_of(state, index)
        figures.show_unit(state.time_unit, state.series_s)
        self._draw(
            "C2",
            lambda: state.two_time(index, model=shown == "model"),
            lambda view: figures.show_c2(view, shown, roi),
            (shown, live),
        )
        self._draw("g2", lambda: state.g2(index), lambda view: figures.show_g2(view, roi))
        self._draw(
            "the heterogeneity",
            lambda: state.heterogeneity(index),
            figures.show_heterogeneity,
        )
        self._draw("Gamma", lambda: state.gamma(index), lambda view: figures.show_gamma(view, roi))
        self._draw(
            "Gamma(q)",
            state.power_law,
            lambda view: figures.show_power_law(view, rois),
            rois,
        )
        now = time.monotonic()
        chosen = (self._run, rois)
        soon = live and now - self._detector_time < DETECTOR_PERIOD_S
        self._detector_late = soon and chosen == self._detector_chosen  # a choice is shown at once
        if not self._detector_late:
            self._detector_time, self._detector_chosen = now, chosen
            self._draw(
                "the detector",
                lambda: state.detector(index),
                lambda view: figures.show_detector(view, rois),
                rois,
            )

    def _draw(
        self, name: str, make: Callable[[], T], show: Callable[[T], None], also: object = None
    ) -> None:
        """Show a view unless it is, with `also`, what the browser already has."""

        def work() -> None:
            view = make()
            # The view itself, not its id: another one may be given the same.
            last, last_also = self._drawn.get(name, (self, None))
            if last is not view or last_also != also:
                show(view)
                self._drawn[name] = (view, also)

        self._attempt(name, work)

    def say(self, name: str, message: Callable[[], Document]) -> None:
        """Send the texts of a name, "texts" or "runs", unless the browser has them."""

        def work() -> None:
            text: Columns = {"json": [json.dumps(message(), allow_nan=False)]}
            if text != self._said[name].data:
                self._said[name].data = text

        self._attempt(name, work)

    def _attempt(self, name: str, work: Callable[[], None]) -> None:
        """Do one part of the page; where that fails, it keeps what it shows and others go on."""
        try:
            work()
        except Exception:
            if self._failures.is_news(name):
                logger.exception("Run %s: %s cannot be shown.", self._run, name)


def run_texts(state: RunState, index: int, *, runs: Sequence[RunSummary], now: float) -> Document:
    """Return what the page says of a run and a ROI (its index); `runs` are those of the list."""
    start, stop = mapping(state.metadata.get("start")), mapping(state.metadata.get("stop"))
    xpcs, raw_uid = mapping(start.get("xpcs")), str(start.get("original_run_uid") or "")
    ended = "gone" if state.gone else views.STATES.get(str(stop.get("exit_status")), "ended")
    gamma = state.gamma(index) if index < len(state.labels) else None
    status = state.data.status
    sentences = (
        state.gone,
        stop.get("reason") or "",
        status.message if status else "",
        gamma.caution if gamma else "",
    )
    items = [fact for fact in state.facts(index) if fact[0] != "frames"]
    if xpcs.get("detector"):
        items.append(("detector", str(xpcs["detector"])))
    others, again = others_of(state.uid, runs), replays(runs)
    # Code that gives this result: of several of a raw run its uid gives the best one.
    best = not others or best_result(others).uid == state.uid
    word = (raw_uid if best and raw_uid else state.uid)[:SHORT_UID]
    q = state.q_inv_angstrom
    return {
        "uid": state.uid,
        "raw_uid": raw_uid,
        "title": views.run_title(start, raw_uid),
        "code": f'results(catalog, "{word}")',
        "time": number(start.get("time"), 0),
        "taken": number(xpcs.get("raw_time"), 0),
        "replay": state.uid in again,
        "by": "replay" if state.uid in again else str(xpcs.get("analysed_by") or ""),
        "time_unit": state.time_unit,
        "others": [
            list_line(run, silent=run.silent(now), replay=run.uid in again) for run in others
        ],
        "loaded": state.loaded or bool(state.gone),
        "state": "live" if state.live else ended,
        "silent_since": state.silent_since(now),
        "n_frames": state.n_frames,
        "n_expected": state.n_expected,
        "frames": frames_words(state.n_frames, state.n_expected, live=state.live),
        "empty": state.empty,
        "provisional": gamma is not None and gamma.provisional,
        "items": items,
        "exportable": not state.gone and bool(stop) and standing(stop) > 1 and not state.empty,
        "message": views.message(*map(str, sentences)),
        "rois": state.roi_titles,
        "labels": state.labels,
        "colours": roi_colours(q),
    }


def rois_of(state: RunState, index: int) -> Rois:
    """Return how the ROIs of a run look while that with an index is shown."""
    q = state.q_inv_angstrom
    return Rois(
        labels=state.labels,
        names=state.roi_titles,
        colours=roi_colours(q),
        chosen=index,
    )
