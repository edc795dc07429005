"""One open page, between a hub and a browser that are not there."""

import asyncio
import dataclasses
import json
import re
import time

import numpy as np
import pytest
from bokeh.document import Document

from xpcs_live_denoise import views
from xpcs_live_denoise.errors import ResultNotFoundError, TiledUnavailableError
from xpcs_live_denoise.page.page import DETECTOR_PERIOD_S, HERE, RETRY_S, Page
from xpcs_live_denoise.page.run_list import summary
from xpcs_live_denoise.page.run_state import RunState
from xpcs_live_denoise.records.run import Status

XPCS = {"roi": [1, 2], "q_inv_angstrom": [0.01, None], "frame_time_s": 0.5, "n_expected": 20}


class FakeFeed:
    def __init__(self, uid, *, started, live=True):
        self.state = RunState(uid)
        stop = {} if live else {"stop": {"exit_status": "success"}}
        start = {"xpcs": XPCS, "scan_id": uid, "time": started}
        self.state.set_metadata({"start": start, "n_frames": 10} | stop)
        c2 = 1 + np.random.default_rng(0).random((10, 10), np.float32)
        self.state.map_of(1).patch(c2, (0, 0))
        self.state.loaded = True

    def want(self, index):
        pass

    async def loaded(self, timeout_s):
        return True


class FakeHub:
    """Runs by uid, as a Hub has them; `troubles` are raised by the next openings."""

    def __init__(self, *feeds):
        self.feeds = {feed.state.uid: feed for feed in feeds}
        self.version, self.notice, self.remark = 0, "", ""
        self.troubles, self.open_feeds = [], []
        self.before_open = lambda: None

    @property
    def runs(self):
        now = time.time()
        runs = [summary(uid, feed.state.metadata, now=now) for uid, feed in self.feeds.items()]
        return sorted(runs, key=lambda run: run.time, reverse=True)

    def silent(self, now):
        return frozenset(u for u, f in self.feeds.items() if f.state.silent_since(now) is not None)

    async def find(self, word):
        return word, self.remark

    async def open(self, uid):
        self.before_open()
        if self.troubles:
            raise self.troubles.pop(0)
        self.open_feeds.append(self.feeds[uid])
        return self.feeds[uid]

    def release(self, feed):
        self.open_feeds.remove(feed)


class Opened:
    """A page with its document; what runs between two looks is called by hand."""

    def __init__(self, hub, wanted=""):
        self.document = Document()
        self.page = Page(self.document, hub, wanted)
        self.open()

    def open(self):
        asyncio.run(self.page.open())
        self._n_callbacks = len(self.document.session_callbacks)

    def update(self):
        self.page.update()

    @property
    def opens_another(self):
        """Whether a look has made it open a run."""
        return len(self.document.session_callbacks) > self._n_callbacks

    @property
    def texts(self):
        return json.loads(self.document.get_model_by_name("texts").data["json"][0])

    @property
    def listed(self):
        return json.loads(self.document.get_model_by_name("runs").data["json"][0])

    def title(self, plot):
        return self.document.get_model_by_name(plot).title.text.replace("\n", " ")

    def image(self, plot="detector"):
        return self.document.get_model_by_name(plot).renderers[0].data_source.data["image"]

    def choose(self, **data):
        self.document.get_model_by_name("choice").data = data


def names(hub):
    return [feed.state.uid for feed in hub.open_feeds]


def test_a_view_that_fails_is_logged_once_and_takes_no_other_with_it(caplog):
    feed = FakeFeed("a", started=time.time())
    page = Opened(FakeHub(feed))

    def broken(index):
        raise RuntimeError("a bug")

    feed.state.g2 = broken
    for n_frames in (8, 9, 11):
        feed.state.set_metadata(feed.state.metadata | {"n_frames": n_frames})
        page.update()
    assert [record.message for record in caplog.records] == ["Run a: g2 cannot be shown."]
    assert caplog.records[0].exc_info is not None
    assert page.title("g2") == "g₂ so far, ROI 2"
    assert page.image("c2_raw")[0].shape == (11, 11)
    assert page.texts["run"]["n_frames"] == 11
    del feed.state.g2
    feed.state.complete = True
    feed.state.set_metadata(feed.state.metadata | {"stop": {"exit_status": "success"}})
    page.update()
    assert page.title("g2") == "g₂ of 11 frames, ROI 2"


def test_a_page_that_is_closed_while_a_run_opens_gives_every_feed_back_once():
    old = FakeFeed("old", started=1.0, live=False)
    hub = FakeHub(old)
    page = Opened(hub)
    hub.open_feeds.append(old)  # another page shows it too
    hub.feeds["new"] = FakeFeed("new", started=time.time())
    hub.before_open = page.page.close
    page.open()
    assert names(hub) == ["old"]


def test_a_server_that_is_away_is_told_and_asked_again():
    hub = FakeHub(FakeFeed("a", started=time.time()))
    hub.troubles = [TiledUnavailableError("Tiled server: no answer.")]
    page = Opened(hub)
    assert page.texts["error"] == "Tiled server: no answer."
    assert not page.opens_another
    time.sleep(RETRY_S)
    page.update()
    assert page.opens_another
    page.open()
    assert page.texts["error"] == ""
    assert page.texts["run"]["title"] == "Scan a"


def test_a_run_that_is_not_there_is_not_asked_for_again_but_a_newer_one_is():
    hub = FakeHub(FakeFeed("a", started=1.0, live=False))
    hub.troubles = [ResultNotFoundError("Run a: nothing there.")]
    page = Opened(hub)
    page.update()
    assert page.texts["error"] == "Run a: nothing there."
    assert not page.opens_another
    hub.feeds["b"] = FakeFeed("b", started=time.time())
    hub.version += 1
    page.update()
    assert page.opens_another
    page.open()
    assert page.texts["error"] == ""
    assert names(hub) == ["b"]


def test_an_error_of_ours_leaves_no_page_that_loads_for_ever(caplog):
    hub = FakeHub(FakeFeed("a", started=1.0))
    hub.troubles = [RuntimeError("a bug")]
    page = Opened(hub)
    assert "cannot be opened" in page.texts["error"]
    assert "Run a cannot be opened." in caplog.text


def test_a_live_run_without_news_says_since_when_and_makes_room_for_another():
    started = time.time() - 3600
    hub = FakeHub(FakeFeed("dead", started=started))
    page = Opened(hub)
    run = page.texts["run"]
    assert (run["state"], run["silent_since"]) == ("live", started)
    assert [line["silent"] for line in page.listed["runs"]] == [True]
    hub.feeds["older"] = FakeFeed("older", started=started - 10)
    hub.feeds["older"].state.hear(time.time())
    page.update()
    page.open()
    assert names(hub) == ["older"]
    assert page.texts["run"]["silent_since"] is None
    page.update()
    assert not page.opens_another


def test_an_update_ends_the_silence(caplog):
    feed = FakeFeed("a", started=time.time() - 3600)
    page = Opened(FakeHub(feed))
    assert page.texts["run"]["silent_since"]
    feed.state.hear(time.time())
    page.update()
    assert page.texts["run"]["silent_since"] is None
    assert not caplog.records


def test_a_picture_that_comes_soon_after_the_last_is_drawn_later_without_another_update():
    feed = FakeFeed("a", started=time.time())
    page = Opened(FakeHub(feed))
    feed.state.data.picture = {"image": np.ones((4, 4))}
    feed.state.touch()
    page.update()
    assert page.image() == []
    time.sleep(DETECTOR_PERIOD_S)
    page.update()
    assert len(page.image()) == 1


def test_a_view_at_the_address_of_the_last_one_is_drawn():
    feed = FakeFeed("a", started=time.time())
    page = Opened(FakeHub(feed))
    view = feed.state.power_law()
    for number in range(50):  # each is freed at once: most get the address of the one before
        words = f"exponent {number}"
        feed.state.power_law = lambda words=words: dataclasses.replace(view, words=words)
        feed.state.touch()
        page.update()
        assert page.title("power_law") == words


@pytest.mark.parametrize("n_processed", [10, 0])
def test_counts_and_dose_stand_in_the_status_line(n_processed):
    feed = FakeFeed("a", started=time.time())
    page = Opened(FakeHub(feed))
    feed.state.data.picture = {"image": np.full((4, 4), 2.5), "roi_labels": np.full((4, 4), 2)}
    feed.state.data.status = Status(n_processed=n_processed)
    feed.state.touch()
    page.update()
    items = dict(page.texts["run"]["items"])
    assert items["counts"] == "2.5 /px/frame"
    assert items.get("dose") == ("25 counts/px" if n_processed else None)


@pytest.mark.parametrize("sent", [-1, 2, 0.5, float("nan"), "1", None, [1]])
def test_the_middle_roi_is_shown_until_one_that_exists_is_chosen(sent):
    page = Opened(FakeHub(FakeFeed("a", started=time.time())))
    assert page.texts["roi"] == 1
    page.choose(roi=[0], shown=["raw"])
    page.update()
    assert page.texts["roi"] == 0
    assert page.title("c2_raw").startswith("Raw C2, ROI 1")
    page.choose(roi=[sent], shown=[sent])
    page.update()
    assert page.texts["roi"] == (0 if sent == 0.5 else 1)


def test_the_model_is_shown_where_somebody_asks_for_it():
    page = Opened(FakeHub(FakeFeed("a", started=time.time())))
    assert page.title("c2_denoised").startswith("Denoised C2, ROI 2")
    page.choose(roi=[1], shown=["model"])
    page.update()
    assert page.title("c2_denoised") == f"{views.MODEL_TITLE}, ROI 2: no path"
    assert page.title("c2_raw") == "Raw C2, ROI 2"


def test_the_panels_stand_in_the_order_of_the_window():
    html = (HERE / "page.html").read_text("utf-8")
    assert tuple(re.findall(r"embed\(roots\.(\w+)\)", html))[: len(views.PANELS)] == tuple(
        views.PANELS
    )


def test_i_of_t_of_all_rois_and_i_of_q_have_panels_where_the_run_has_them():
    feed = FakeFeed("a", started=time.time())
    page = Opened(FakeHub(feed))
    assert page.texts["run"]["without"] == ["intensity", "saxs"]
    data = feed.state.data
    data.trace = views.IntensityTrace(2)
    data.trace.add(0, np.tile([3.0, 0.5], (10, 1)))
    radius = np.arange(1.0, 40)
    data.saxs = {"radius": radius, "q": 1e-3 * radius, "saxs": 9 / radius, "n_pixels": radius}
    feed.state.touch()
    page.update()
    assert page.texts["run"]["without"] == []
    assert page.title("intensity") == "I(t): 0.5 counts/px/frame"
    model = page.document.get_model_by_name
    assert model("intensity").x_range is model("gamma").x_range
    drawn = [renderer.data_source.data for renderer in model("intensity").renderers]
    lines = [len(data["ys"]) for data in drawn if "ys" in data]
    assert lines == [1, 1]  # the other ROI, and this one
    (points,) = model("saxs").select({"name": "saxs_points"})
    assert points.data_source.data["roi"] == [1]  # q of the other one is not known
    assert model("saxs").xaxis[0].axis_label == "q (Å⁻¹)"
    data.saxs = data.saxs | {"q": np.full(39, np.nan)}
    feed.state.touch()
    page.update()
    assert model("saxs").xaxis[0].axis_label == "radius (px)"


def test_a_page_can_be_sent_before_there_is_any_picture():
    Opened(FakeHub(FakeFeed("a", started=time.time()))).document.to_json()


def test_the_page_gives_a_line_of_python_and_what_ended_promises_nothing():
    page = Opened(FakeHub(FakeFeed("abcdef1234", started=1.0, live=False)))
    run = page.texts["run"]
    assert run["code"] == 'results(catalog, "abcdef12")'
    assert run["frames"] == "10 of 20 frames"
    titles = [page.title(name) for name in views.PANELS]
    assert not [title for title in titles if "yet" in title or "so far" in title]


def test_axes_and_tooltips_are_in_frames_where_nobody_knows_the_frame_period():
    feed = FakeFeed("a", started=1.0, live=False)
    feed.state.metadata["start"]["xpcs"] = XPCS | {"time_unit": "frame"}
    page = Opened(FakeHub(feed))
    model = page.document.get_model_by_name
    labels = {name: model(name).xaxis[0].axis_label for name in ("c2_raw", "heterogeneity")}
    assert labels == {"c2_raw": "t₁ (frames)", "heterogeneity": "delay (frames)"}
    assert model("gamma").yaxis[0].axis_label == "Γ (1/frame)"
    assert model("gamma").xaxis[0].axis_label == "age (frames)"
    assert page.texts["run"]["time_unit"] == "frame"
    tools = model("c2_raw").tools
    assert "$x{0} frames" in [tip[1] for tool in tools for tip in getattr(tool, "tooltips", ())]


def test_the_chosen_roi_is_marked_on_the_detector_and_only_colours_are_sent_for_it():
    feed = FakeFeed("a", started=1.0, live=False)
    labels = np.repeat([[1, 1, 0, 2]], 4, axis=0)
    feed.state.data.picture = {"image": np.ones((4, 4)), "roi_labels": labels}
    page = Opened(FakeHub(feed))
    rois = page.document.get_model_by_name("rois")
    before = rois.data
    assert before["index"][0].tolist() == labels.tolist()
    page.choose(roi=[0], shown=["both"])
    page.update()
    assert rois.data is before
    inside = page.document.get_model_by_name("detector").renderers[1].glyph.color_mapper.palette
    assert [colour.endswith("00") for colour in inside] == [True, False, True]
