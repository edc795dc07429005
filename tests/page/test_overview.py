"""The first screen, between a hub and a browser that are not there."""

import asyncio

import numpy as np
import pytest
from bokeh.document import Document

from xpcs_live_denoise.errors import TiledUnavailableError
from xpcs_live_denoise.page.overview import HINT, MOST_CURVES, Overview
from xpcs_live_denoise.page.run_state import RunState
from xpcs_live_denoise.readers import table_of

LABELS = (1, 2)


def document_of(scan, *, ended=True, **start):
    xpcs = {"roi": list(LABELS), "q_inv_angstrom": [0.1, 0.2], "raw_time": 1000.0 + scan}
    start = {"time": 2000.0 + scan, "scan_id": scan, "sample": "gel", "xpcs": xpcs, **start}
    summary = {"roi": list(LABELS), "relaxation_rate": [1.0 + scan, 2.0 + scan],
               "relaxation_rate_error": [0.1, 0.1]}  # fmt: skip
    stop = {"exit_status": "success", "xpcs": summary}
    return {"start": start, "stop": stop if ended else None, "n_frames": 5}


class FakeFeed:
    def __init__(self, uid, gamma, time_unit):
        self.state = RunState(uid)
        xpcs = {"roi": list(LABELS), "q_inv_angstrom": [0.1, 0.2], "frame_time_s": 0.5}
        xpcs["time_unit"] = time_unit
        stop = {"exit_status": "success"}
        self.state.set_metadata({"start": {"xpcs": xpcs}, "n_frames": 5, "stop": stop})
        rows = gamma.to_pandas()
        self.state.append("gamma", rows.assign(seq_num=range(1, len(rows) + 1)))
        self.state.loaded = True

    async def shown(self, index, timeout_s):
        return True


class FakeHub:
    def __init__(self, documents, gamma):
        self.read, self._gamma, self.open_feeds = table_of(documents), gamma, []
        self.time_unit = "s"

    async def table(self, *, every=False):
        if isinstance(self.read, Exception):
            raise self.read
        return self.every if every else self.read

    async def open(self, uid):
        self.open_feeds.append(uid)
        return FakeFeed(uid, self._gamma, self.time_unit)

    def release(self, feed):
        self.open_feeds.remove(feed.state.uid)


class Screen:
    def __init__(self, documents, synthetic):
        run = synthetic(n_frames=5)
        self.documents = documents
        self.hub = FakeHub(documents, run.gamma(range(5), source="path", final=True))
        self.document = Document()
        self.overview = Overview(self.document, self.hub)
        asyncio.run(self.overview.refresh())

    def model(self, name):
        return self.document.get_model_by_name(name)

    @property
    def rows(self):
        return self.model("overview_table").source

    def points(self, name):
        return self.model(name).renderers[0].data_source.data

    def choose(self, *indices):
        self.rows.selected.indices = list(indices)
        asyncio.run(self.overview.show_chosen())


@pytest.fixture
def screen(synthetic):
    temperatures = [20, 30, 40]
    documents = {
        f"r{scan}": document_of(scan, T_sample=t, comment="hot" if t > 35 else "")
        for scan, t in enumerate(temperatures)
    }
    documents["live"] = document_of(9, ended=False, sample="water")
    return Screen(documents, synthetic)


def test_all_runs_are_listed_and_the_filter_and_the_roi_leave_some(screen):
    assert screen.rows.data["scan_id"] == [9, 9, 2, 2, 1, 1, 0, 0]
    assert screen.rows.data["state"][:3] == ["live", "live", "finished"]
    screen.model("overview_roi").value = "2"
    assert screen.rows.data["relaxation_rate"][1:] == [4.0, 3.0, 2.0]
    screen.model("overview_filter").value_input = "GEL hot"
    assert screen.rows.data["scan_id"] == [2]
    screen.model("overview_filter").value_input = "nothing of it"
    assert screen.rows.data["scan_id"] == []


def test_gamma_is_drawn_against_the_temperature_with_the_arrhenius_slope(screen):
    assert screen.model("overview_key").value == "T_sample"
    assert sorted(set(screen.points("trend")["x"])) == [20, 30, 40]
    assert "kJ/mol\nT_sample taken as °C" in screen.model("trend").title.text
    assert len(screen.model("trend").renderers[1].data_source.data["x"])


def test_chosen_rows_are_laid_over_each_other_and_their_runs_given_back(screen):
    screen.choose(2, 5)
    points = screen.points("gammas")
    assert list(dict.fromkeys(points["name"])) == [
        "2 · gel · T_sample 40 · ROI 1",
        "1 · gel · T_sample 30 · ROI 2",
    ]
    assert len(points["x"]) == 10
    assert len(set(points["colour"])) == 2
    assert screen.hub.open_feeds == []
    screen.choose()
    assert len(screen.points("gammas")["x"]) == 0


def test_what_is_chosen_stays_when_a_run_comes(screen):
    screen.choose(2, 5)
    names = list(screen.points("gammas")["name"])
    screen.hub.read = table_of(screen.documents | {"new": document_of(10)})
    asyncio.run(screen.overview.refresh())
    assert screen.rows.data["scan_id"][:2] == [10, 10]
    assert screen.rows.selected.indices == [4, 7]
    asyncio.run(screen.overview.show_chosen())
    assert list(screen.points("gammas")["name"]) == names


def test_a_run_that_failed_before_its_rois_were_known_does_not_hide_those_of_others(screen):
    failed = document_of(10)
    failed["start"]["xpcs"] = failed["stop"]["xpcs"] = {}
    del failed["start"]["scan_id"]
    screen.hub.read = table_of(screen.documents | {"failed": failed})
    asyncio.run(screen.overview.refresh())
    screen.model("overview_roi").value = "2"
    assert len(screen.rows.data["scan_id"]) == 4
    screen.choose(1)
    assert set(screen.points("gammas")["name"]) == {"2 · gel · T_sample 40 · ROI 2"}


def test_more_rows_than_can_be_told_apart_are_said(synthetic):
    screen = Screen({f"r{scan}": document_of(scan) for scan in range(9)}, synthetic)
    screen.choose(*range(12))
    assert f"first {MOST_CURVES} of 12 rows" in screen.model("overview_words").text
    assert len(set(screen.points("gammas")["name"])) == MOST_CURVES
    assert "no start key holds numbers" in screen.model("trend").title.text


def test_all_results_of_a_run_are_listed_and_laid_over_each_other_by_name(screen):
    again = document_of(2, T_sample=40)
    screen.documents["r2"]["start"]["xpcs"] |= {"analysed_by": "live", "settings": {"window": 50}}
    again["start"]["time"] += 100
    again["start"]["xpcs"] |= {"analysed_by": "reprocess", "settings": {"window": 60}}
    for one in (again, screen.documents["r2"]):
        one["start"]["original_run_uid"] = "raw-2"
    documents = screen.documents | {"r2-again": again}
    screen.hub.read, screen.hub.every = table_of(documents), table_of(documents, every=True)
    screen.model("overview_every").active = True
    asyncio.run(screen.overview.refresh())
    names = ["reprocess, window 60"] * 2 + ["live"] * 2
    assert screen.rows.data["result"][2:6] == names
    screen.choose(2, 4)
    assert list(dict.fromkeys(screen.points("gammas")["name"])) == [
        "2 · gel · T_sample 40 · reprocess, window 60 · ROI 1",
        "2 · gel · T_sample 40 · live · ROI 1",
    ]


def test_rates_without_a_frame_time_are_labelled_and_not_drawn_among_others(screen):
    per_frame = document_of(12, T_sample=50)
    per_frame["start"]["xpcs"]["time_unit"] = "frame"
    screen.hub.read = table_of(screen.documents | {"new": per_frame})
    asyncio.run(screen.overview.refresh())
    assert screen.rows.data["per"][:3] == ["1/frame", "1/frame", "1/s"]
    assert screen.model("trend").yaxis.axis_label == "typical Γ (1/s)"
    assert "2 rates in another unit are not shown" in screen.model("trend").title.text
    assert 50 not in screen.points("trend")["x"]
    screen.model("overview_filter").value_input = "frame"
    assert screen.model("trend").yaxis.axis_label == "typical Γ (1/frame)"
    screen.hub.time_unit = "frame"
    screen.choose(0)
    assert screen.model("gammas").xaxis.axis_label == "age (frames)"
    assert screen.model("gammas").yaxis.axis_label == "Γ (1/frame)"
    assert set(screen.points("gammas")["name"]) == {"12 · gel · T_sample 50 · ROI 1 · per frame"}


def test_a_server_that_is_away_is_said_and_the_table_stays(screen):
    screen.hub.read = TiledUnavailableError("Tiled server: no answer.")
    asyncio.run(screen.overview.refresh())
    assert screen.model("overview_words").text == "Tiled server: no answer."
    assert len(screen.rows.data["scan_id"]) == 8
    assert np.isnan(screen.rows.data["relaxation_rate"][0])
    screen.hub.read = table_of(screen.documents)
    asyncio.run(screen.overview.refresh())
    assert screen.model("overview_words").text == HINT
