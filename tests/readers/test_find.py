"""Which result a name finds, and what is said where none or several fit."""

import dataclasses
import itertools
import uuid
import warnings

import httpx
import numpy as np
import pytest
from tiled.client.utils import ClientError
from tiled.structures.core import Spec

from xpcs_live_denoise.errors import InvalidInputError, ResultNotFoundError
from xpcs_live_denoise.readers import compare, find_raw_run, results, runs, select_raw_runs
from xpcs_live_denoise.records.run import RunEnd, Status
from xpcs_live_denoise.sinks.run import TiledSink

FAILED = RunEnd(
    raw_exit_status="success", analysis_exit_status="fail", reason="It broke.", status=Status()
)
END = RunEnd(raw_exit_status="success", analysis_exit_status="success", reason="", status=Status())


class Beamline:
    """Two containers of the shared server that no other test sees: raw runs and results."""

    def __init__(self, client, synthetic):
        self.client = client
        self.name = f"beamline-{uuid.uuid4()}"
        root = client.create_container(self.name)
        runs = [Spec("CatalogOfBlueskyRuns", "3.0")]
        self.raw, self.processed = (
            root.create_container(key, specs=runs) for key in ("raw", "processed")
        )
        self._synthetic = synthetic
        self._created = itertools.count(1)

    def take(self, uid=None, **start):
        """Store a raw run."""
        uid = uid or str(uuid.uuid4())
        start = {"uid": uid, "time": 1e9, "scan_id": 7, **start}
        spec = [Spec("BlueskyRun", "3.0")]
        self.raw.create_container(uid, metadata={"start": start}, specs=spec)
        return start

    def analyse(self, start, *, uid=None, ended=True, end=END, **info):
        """Store a result of a raw run; return its uid."""
        run = self._synthetic(n_frames=4, n_expected=4)
        info = dataclasses.replace(run.info, start=start, **info)
        sink = TiledSink(
            info,
            client=self.client,
            path=f"{self.name}/processed",
            raw_path=f"{self.name}/raw",
            uid=uid,
            created=2e9 + next(self._created),
        )
        if ended:
            sink.finish(end)
        else:
            sink.write(run.publication(0, 4, band=None, c2=None, gamma=None))
        return sink.uid

    def found(self, run, **options):
        """Uid of the result that a name finds."""
        return results(self.raw, run, **options).start["uid"]

    def raw_run(self, word):
        where = {"raw_path": f"{self.name}/raw", "path": f"{self.name}/processed"}
        return find_raw_run(self.client, word, **where)


@pytest.fixture
def beamline(tiled_client, synthetic):
    return Beamline(tiled_client, synthetic)


def test_a_raw_run_is_found_by_a_scan_id_that_was_stored_as_text(beamline):
    start = beamline.take(scan_id="81")
    assert beamline.raw_run("81")[0] == start["uid"]


def test_a_scan_id_of_text_that_is_a_number_is_stored_as_the_number(beamline):
    uid = beamline.analyse(beamline.take(scan_id="81"))
    start = results(beamline.raw, 81).start
    assert (start["uid"], start["scan_id"], start["xpcs"]["not_copied"]) == (uid, 81, [])


def test_a_scan_id_that_is_no_number_finds_run_and_result(beamline):
    start = beamline.take(scan_id="gel-12")
    uid = beamline.analyse(start)
    assert beamline.raw_run("gel-12")[0] == start["uid"]
    found = results(beamline.raw, "gel-12")
    assert found.start["uid"] == uid
    assert "scan_id" not in found.start
    assert found.validate()
    assert set(runs(beamline.processed)["scan_id"]) == {"gel-12"}
    with pytest.raises(ResultNotFoundError, match="the uid gel-13 or scan_id gel-13"):
        results(beamline.raw, "gel-13")


def test_a_newer_result_that_failed_hides_no_good_one_and_a_warning_says_so(beamline):
    start = beamline.take()
    good = beamline.analyse(start)
    bad = beamline.analyse(start, end=FAILED, analysed_by="reprocess")
    failed = rf"its newest result, {bad} \(analysed by: reprocess\), failed: It broke\."
    taken = rf"The one of before, {good} \(analysed by: live\), is taken; for the other one"
    with pytest.warns(UserWarning, match=f"{failed} {taken}"):
        assert beamline.found(start["uid"]) == good
    assert beamline.found(bad) == bad
    assert set(runs(beamline.processed)["result_uid"]) == {good}
    every = runs(beamline.processed, every_result=True)
    assert every["result"].unique().tolist() == ["live", "reprocess"]
    assert set(every["n_results"]) == {2}


def test_of_failed_results_alone_the_newest_is_taken_and_a_live_one_before_them(beamline):
    start = beamline.take()
    beamline.analyse(start, end=FAILED)
    newest = beamline.analyse(start, end=FAILED)
    assert beamline.found(start["uid"]) == newest
    live = beamline.analyse(start, ended=False)
    beamline.analyse(start, end=FAILED)
    with pytest.warns(UserWarning, match="failed"):
        assert beamline.found(start["uid"]) == live


def test_the_results_of_a_run_are_compared_side_by_side(beamline):
    start = beamline.take()
    settings = {"outliers": "mask", "window": 50}
    first = beamline.analyse(start, settings=settings)
    second = beamline.analyse(
        start, analysed_by="reprocess", settings=settings | {"outliers": "off"}
    )
    other = beamline.analyse(start, image_key="other_image")
    for run in (start["uid"][:8], 7, second):
        found = compare(beamline.raw, run, detector="eiger_image")
        uids = {name: one.start["uid"] for name, one in found.results.items()}
        assert uids == {"live": first, "reprocess, outliers off": second}
    assert other not in uids.values()
    assert found.settings().to_dict("index") == {
        "outliers": {"live": "mask", "reprocess, outliers off": "off"}
    }
    table = found.summary()
    assert table["roi"].tolist() == [1, 1, 2, 2]
    assert table["relaxation_rate"].isna().all()  # nothing was stored of either
    assert found.gamma_table().empty
    assert found.gamma_table().columns[0] == "result"


def test_a_result_is_found_by_every_name_that_a_screen_shows(beamline):
    start = beamline.take(scan_id=81)
    uid = beamline.analyse(start)
    raw = start["uid"]
    shown = (raw, raw[:8], raw[:6].upper(), uid, uid[:8], f"processed/{uid}", 81, np.int64(81))
    for name in (*shown, "81", "Scan 81", -1, "-1"):
        assert beamline.found(name) == uid, name
    for place in (beamline.processed, beamline.raw):
        assert results(place, raw[:8]).start["uid"] == uid
    root = beamline.client[beamline.name]
    assert results(root, 81).start["uid"] == uid


def test_of_several_results_the_uid_of_one_finds_that_one(beamline):
    start = beamline.take()
    first, second = beamline.analyse(start), beamline.analyse(start)
    live = beamline.analyse(start, ended=False)
    assert beamline.found(start["uid"][:8]) == second, "the newest finished one"
    assert beamline.found(first[:8]) == first
    assert beamline.found(live) == live


def test_letters_of_several_raw_runs_are_an_error_that_lists_them(beamline):
    starts = [beamline.take(f"abcdef{n}0-0000-4000-8000-00000000000{n}", scan_id=n) for n in (1, 2)]
    uids = [beamline.analyse(start) for start in starts]
    for find in (beamline.found, beamline.raw_run):
        with pytest.raises(ResultNotFoundError) as caught:
            find("abcdef")
        for start, n in zip(starts, (1, 2), strict=True):
            assert f"{start['uid']} (scan {n}, 2001-" in str(caught.value)
        assert "Give more letters." in str(caught.value)
    assert beamline.found("abcdef2") == uids[1]
    assert beamline.raw_run("abcdef2") == (starts[1]["uid"], "")


def test_the_newest_is_the_run_that_was_taken_last_whenever_it_was_analysed(beamline):
    old, new = (beamline.take(scan_id=n, time=time) for n, time in ((1, 1e9), (2, 1.5e9)))
    of_new, of_old = beamline.analyse(new), beamline.analyse(old)
    beamline.take(scan_id=3, time=1.8e9)  # nobody has analysed it
    assert beamline.found(-1) == of_new
    assert beamline.found(-2) == of_old
    with pytest.raises(ResultNotFoundError, match="Looked for the run that is number 3 from last"):
        beamline.found(-3)
    assert beamline.raw_run("-2")[0] == new["uid"]


def test_a_repeated_scan_id_is_the_newest_raw_run_with_a_warning(beamline):
    old, new = (beamline.take(time=time) for time in (1e9, 1.5e9))
    of_new, of_old = beamline.analyse(new), beamline.analyse(old)
    with pytest.warns(UserWarning, match=f"Scan 7: 2 runs .*{new['uid']}.*{old['uid']}.*newest"):
        assert beamline.found(7) == of_new
    uid, note = beamline.raw_run("7")
    assert uid == new["uid"]
    assert "2 runs have this scan_id" in note
    assert beamline.found(old["uid"]) == of_old


def test_the_result_of_an_older_run_does_not_stand_for_a_newer_one_with_its_scan_id(beamline):
    old = beamline.take(time=1e9)
    beamline.analyse(old)
    new = beamline.take(time=1.5e9)
    with pytest.raises(ResultNotFoundError) as caught:
        beamline.found(7)
    text = str(caught.value)
    assert f"the newest run with this scan_id, {new['uid']} (scan 7, 2017-" in text
    assert f"replay {new['uid']}" in text
    assert f"give its uid: {old['uid']}" in text


def test_an_error_says_what_was_looked_for_and_where_and_whether_the_raw_run_is_there(beamline):
    name = beamline.name
    places = f"/{name}/raw, /{name}/processed, /processed"
    with pytest.raises(ResultNotFoundError) as caught:
        beamline.found("ff4a97")
    text = str(caught.value)
    assert f"Run ff4a97: no result in {places}. Looked for a uid that begins with ff4a97." in text
    with pytest.raises(ResultNotFoundError, match=r"Looked for the uid 3f \(6 or more letters"):
        beamline.found("3f")
    start = beamline.take(scan_id=12)
    for run in (12, "12", start["uid"][:8]):
        with pytest.raises(ResultNotFoundError) as caught:
            beamline.found(run)
        text = str(caught.value)
        assert f"The raw run is in /{name}/raw: {start['uid']} (scan 12," in text
        assert f"`xpcs-live-denoise replay {start['uid']} --config xpcs.yml` analyses it." in text
    with pytest.raises(InvalidInputError, match="names no run"):
        beamline.found(None)


def test_of_two_detectors_one_is_chosen_by_name_and_both_are_named_without(beamline):
    start = beamline.take()
    big, small = (
        beamline.analyse(start, detector=name, image_key=f"{name}_image")
        for name in ("eiger4m", "eiger1m")
    )
    for detector, uid in (("eiger4m", big), ("eiger1m_image", small)):
        for run in (start["uid"], start["uid"][:8], 7, -1):
            assert beamline.found(run, detector=detector) == uid
    named = r"2 detectors, eiger1m \(eiger1m_image\) and eiger4m \(eiger4m_image\)"
    taken = r"That of eiger1m_image is taken \(analysed by: live\); give detect"
    with pytest.warns(UserWarning, match=f"{named}.* {taken}"):
        assert beamline.found(start["uid"]) == small
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert beamline.found(big[:8]) == big, "its uid names one result"
    with pytest.raises(
        ResultNotFoundError, match=r"no result of the detector 'eiger9m' .* eiger4m"
    ):
        beamline.found(start["uid"], detector="eiger9m")


def test_two_data_keys_of_one_detector_are_told_apart(beamline):
    start = beamline.take()
    first, second = (beamline.analyse(start, image_key=key) for key in ("eiger_low", "eiger_high"))
    with pytest.warns(UserWarning, match=r"eiger \(eiger_high\) and eiger \(eiger_low\)"):
        assert beamline.found(7) == second
    assert beamline.found(7, detector="eiger_low") == first


def test_on_a_command_line_both_meanings_of_digits_are_named_if_both_fit(beamline):
    by_scan_id = beamline.take(scan_id=123456)
    by_uid = beamline.take("12345678-0000-4000-8000-000000000000")
    uid, note = beamline.raw_run("123456")
    assert uid == by_scan_id["uid"]
    assert f"taken as scan_id 123456, {by_scan_id['uid']}" in note
    assert f"The uid {by_uid['uid']} begins so, too: give more letters" in note
    assert beamline.raw_run("12345678") == (by_uid["uid"], "")
    beamline.take("12345699-0000-4000-8000-000000000000", scan_id=12345699)
    assert beamline.raw_run("12345699")[1] == ""


def test_what_fits_no_raw_run_is_said_with_what_was_looked_for(beamline):
    uid = beamline.take("abcdef12-3456-7890-abcd-000000000000")["uid"]
    beamline.raw.create_container("a-folder")
    looked_for = {
        "404": "scan_id 404, or the uid 404 (6 or more letters of a uid are needed)",
        "-9": "the run that is number 9 from last",
        f"%{uid[1:9]}": f"the uid %{uid[1:9]}",
        "%%%%%": "the uid %%%%%",
        "a-folder": "the uid a-folder",
        f"{uid[:-1]}1": f"a uid that begins with {uid[:-1]}1",
    }
    for word, text in looked_for.items():
        with pytest.raises(ResultNotFoundError) as caught:
            beamline.raw_run(word)
        found = str(caught.value)
        assert f"Run {word}: not in /{beamline.name}/raw. Looked for {text}" in found
        assert "Expected the uid of a run, its first 6 or more letters, its scan_id" in found


class WithoutSearch:
    """A container of a server that cannot search, but knows its keys."""

    def __init__(self, node):
        self._node, self.path_parts = node, node.path_parts

    def __getitem__(self, key):
        return WithoutSearch(self._node[key]) if key == "raw" else self._node[key]

    def search(self, query):
        request = httpx.Request("GET", "http://server/api")
        raise ClientError("no", request, httpx.Response(400, request=request))


def test_a_server_that_cannot_search_is_asked_for_the_uid(beamline):
    uid = beamline.take()["uid"]
    client = WithoutSearch(beamline.client[beamline.name])
    assert find_raw_run(client, uid, raw_path="raw", path="nowhere") == (uid, "")
    with pytest.raises(ResultNotFoundError, match=r"Run nowhere: not in .*/raw\. Looked for"):
        find_raw_run(client, "nowhere", raw_path="raw", path="nowhere")


def test_a_command_takes_a_result_for_the_run_that_it_was_derived_from(beamline):
    start = beamline.take()
    uid = beamline.analyse(start)
    assert beamline.raw_run(uid[:8]) == (start["uid"], "")


@pytest.fixture(scope="module")
def night(module_client, synthetic):
    """Raw runs of a night: scan_ids as number and text, samples, detectors, times of 1000 s."""
    night = Beamline(module_client, synthetic)
    night.take(scan_id=101, time=1000.0, sample="gel", detectors=["eiger"])
    night.take(scan_id="102", time=2000.0, sample="gel")
    night.take(scan_id=103, time=3000.0, sample=7, detectors=["other"])
    night.take(scan_id=104, time=4000.0, sample=7)
    night.take(scan_id="105b", time=5000.0, sample="7")
    night.analyse(night.take(scan_id=106, time=6000.0, sample={"name": "water"}))
    return night


@pytest.mark.parametrize(
    ("asked", "scans"),
    [
        ({}, "101 102 104 105b 106"),
        ({"detector": "other"}, "102 103 104 105b 106"),
        ({"since": 2000.5}, "104 105b 106"),
        ({"until": 4000.0}, "101 102"),
        ({"since": 1500.0, "until": 4500.0, "sample": "gel"}, "102"),
        ({"sample": "7"}, "104 105b"),
        ({"scan_ids": [(101, 102), (104, 110)]}, "101 102 104 106"),
        ({"scan_ids": [(102, 10_000)], "since": 5500.0}, "106"),
        ({"scan_ids": [(1, 50)]}, ""),
        ({"sample": "nothing"}, ""),
    ],
)
def test_raw_runs_are_chosen_by_time_sample_and_scan_id_the_oldest_first(night, asked, scans):
    asked = {"detector": "eiger", **asked}
    found = select_raw_runs(night.client, raw_path=f"{night.name}/raw", **asked)
    assert " ".join(run.scan_id for run in found) == scans
