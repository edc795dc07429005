"""One open page, between a hub and a browser that are not there."""

import asyncio
import json
import time

import numpy as np
import pytest
from bokeh.document import Document

from xpcs_live_denoise.errors import ResultNotFoundError, TiledUnavailableError
from xpcs_live_denoise.page import page as page_module
from xpcs_live_denoise.page import views
from xpcs_live_denoise.page.hub import summary
from xpcs_live_denoise.page.page import Page
from xpcs_live_denoise.page.run_state import RunState

XPCS = {"roi": [1, 2], "q_inv_angstrom": [0.01, None], "frame_time_s": 0.5, "n_expected": 20}


class FakeFeed:
    def __init__(self, uid, *, started, live=True):
        self.state = RunState(uid)
        stop = {} if live else {"stop": {"exit_status": "success"}}
        start = {"xpcs": XPCS, "scan_id": uid, "time": started}
        self.state.set_metadata({"start": start, "n_frames": 10} | stop)
        c2 = 1 + np.random.default_rng(0).random((10, 10), np.float32)
        self.state.map_of(0, "c2").patch(c2, (0, 0))
        self.state.loaded = True

    def want(self, index):
        pass

    async def loaded(self, timeout_s):
        return True


class FakeHub:
    """Runs by uid, as a Hub has them; `troubles` are raised by the next openings."""

    def __init__(self, *feeds):
        self.feeds = {feed.state.uid: feed for feed in feeds}
        self.version, self.notice = 0, ""
        self.troubles, self.open_feeds = [], []
        self.before_open = lambda: None

    @property
    def runs(self):
        now = time.time()
        runs = [summary(uid, feed.state.metadata, now=now) for uid, feed in self.feeds.items()]
        return sorted(runs, key=lambda run: run.time, reverse=True)

    def silent(self, now):
        return frozenset(u for u, f in self.feeds.items() if f.state.silent_since(now) is not None)

    async def find(self, uid):
        return uid

    async def open(self, uid):
        self.before_open()
        if self.troubles:
            raise self.troubles.pop(0)
        self.open_feeds.append(self.feeds[uid])
        return self.feeds[uid]

    def release(self, feed):
        self.open_feeds.remove(feed)


def opened(hub, wanted=""):
    page = Page(Document(), hub, wanted)
    asyncio.run(page._open())
    return page


def told(page):
    return json.loads(page._news.data["json"][0])


def names(hub):
    return [feed.state.uid for feed in hub.open_feeds]


def test_a_view_that_fails_is_logged_once_and_takes_no_other_with_it(monkeypatch, caplog):
    feed = FakeFeed("a", started=time.time())
    page = opened(FakeHub(feed))
    before = page._g2.plot.title.text

    def broken(state, index):
        raise RuntimeError("a bug")

    monkeypatch.setattr(views, "one_time", broken)
    for n_frames in (8, 9, 10):
        feed.state.picture = {"image": np.ones((4, 4)) * n_frames}
        feed.state.touch()
        page._detector_time = -np.inf
        page._update()
    assert [record.message for record in caplog.records] == ["Run a: g2 cannot be shown."]
    assert caplog.records[0].exc_info is not None
    assert page._g2.plot.title.text == before == "g₂, ROI 1, so far"
    assert page._detector.image.data["image"][0][0, 0] == 10  # drawn after g2
    feed.state.set_metadata(feed.state.metadata | {"n_frames": 12})
    page._update()
    assert told(page)["run"]["n_frames"] == 12
    monkeypatch.undo()
    page._update()
    feed.state.set_metadata(feed.state.metadata | {"stop": {"exit_status": "success"}})
    page._update()
    assert page._g2.plot.title.text == "g₂, ROI 1"


def test_a_page_that_is_closed_while_a_run_opens_gives_every_feed_back_once():
    old = FakeFeed("old", started=1.0, live=False)
    hub = FakeHub(old)
    page = opened(hub)
    hub.open_feeds.append(old)  # another page shows it too
    hub.feeds["new"] = FakeFeed("new", started=time.time())
    hub.before_open = lambda: page._close(None)
    asyncio.run(page._open())
    assert names(hub) == ["old"]


def test_a_server_that_is_away_is_told_and_asked_again(monkeypatch):
    monkeypatch.setattr(page_module, "RETRY_S", 0.0)
    hub = FakeHub(FakeFeed("a", started=time.time()))
    hub.troubles = [TiledUnavailableError("Tiled server: no answer.")]
    page = opened(hub)
    assert told(page)["error"] == "Tiled server: no answer."
    assert page._opening  # again
    asyncio.run(page._open())
    assert told(page)["error"] == ""
    assert told(page)["run"]["title"] == "Scan a"


def test_a_run_that_is_not_there_is_not_asked_for_again_but_a_newer_one_is():
    hub = FakeHub(FakeFeed("a", started=1.0, live=False))
    hub.troubles = [ResultNotFoundError("Run a: nothing there.")]
    page = opened(hub)
    page._update()
    assert told(page)["error"] == "Run a: nothing there."
    assert not page._opening
    hub.feeds["b"] = FakeFeed("b", started=time.time())
    hub.version += 1
    page._update()
    assert page._opening
    asyncio.run(page._open())
    assert told(page)["error"] == ""
    assert names(hub) == ["b"]


def test_an_error_of_ours_leaves_no_page_that_loads_for_ever(caplog):
    hub = FakeHub(FakeFeed("a", started=1.0))
    hub.troubles = [RuntimeError("a bug")]
    page = opened(hub)
    assert "cannot be opened" in told(page)["error"]
    assert "Run a cannot be opened." in caplog.text


def test_a_live_run_without_news_says_since_when_and_makes_room_for_another():
    started = time.time() - 3600
    hub = FakeHub(FakeFeed("dead", started=started))
    page = opened(hub)
    run = told(page)["run"]
    assert (run["state"], run["silent_since"]) == ("live", started)
    assert [line["silent"] for line in told(page)["runs"]] == [True]
    hub.feeds["older"] = FakeFeed("older", started=started - 10)
    hub.feeds["older"].state.hear(time.time())
    page._update()
    asyncio.run(page._open())
    assert names(hub) == ["older"]
    assert told(page)["run"]["silent_since"] is None
    page._update()
    assert not page._opening


def test_news_end_the_silence(caplog):
    feed = FakeFeed("a", started=time.time() - 3600)
    page = opened(FakeHub(feed))
    assert told(page)["run"]["silent_since"]
    feed.state.hear(time.time())
    page._update()
    assert told(page)["run"]["silent_since"] is None
    assert not caplog.records


def test_a_picture_that_comes_soon_after_the_last_is_drawn_later_without_more_news():
    feed = FakeFeed("a", started=time.time())
    page = opened(FakeHub(feed))
    page._detector_time = time.monotonic() + 1000
    feed.state.picture = {"image": np.ones((4, 4))}
    feed.state.touch()
    page._update()
    assert page._detector.image.data["image"] == []
    page._detector_time = -np.inf
    page._update()
    assert len(page._detector.image.data["image"]) == 1


def test_a_view_at_the_address_of_the_last_one_is_drawn():
    page = opened(FakeHub(FakeFeed("a", started=time.time())))
    drawn = []
    for number in range(50):  # each is freed at once: most get the address of the one before
        page._once("x", lambda number=number: {"number": number}, lambda v: drawn.append(v.copy()))
    assert [view["number"] for view in drawn] == list(range(50))


@pytest.mark.parametrize("n_processed", [10, None])
def test_counts_and_dose_stand_in_the_status_line(n_processed):
    feed = FakeFeed("a", started=time.time())
    page = opened(FakeHub(feed))
    feed.state.picture = {"image": np.full((4, 4), 2.5), "roi_labels": np.ones((4, 4), int)}
    feed.state.status = {"seq_num": 1, "n_processed": n_processed}
    feed.state.touch()
    page._update()
    items = dict(told(page)["run"]["items"])
    assert items["counts"] == "2.5 /px/frame"
    assert items.get("dose") == ("25 counts/px" if n_processed else None)
