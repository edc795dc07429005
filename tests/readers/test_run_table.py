"""The table of runs: from stop documents alone, filtered as a person means it."""

import dataclasses
import datetime
import math

import numpy as np
import pytest
from tiled.queries import Eq
from tiled.structures.core import Spec

from tests.support import written
from xpcs_live_denoise import InvalidInputError, runs
from xpcs_live_denoise.catalog import RUN_SPECS
from xpcs_live_denoise.readers import run_table
from xpcs_live_denoise.readers.run_table import alike, is_any_of
from xpcs_live_denoise.records.run import RunEnd, Status
from xpcs_live_denoise.sinks.run import TiledSink

DAY = datetime.datetime(2026, 11, 20).timestamp()
Q = (0.002, 0.004, 0.008)


@pytest.fixture(scope="module")
def client(tiled_server):
    client = tiled_server.client()
    yield client
    client.context.close()


class Beamtime:
    """A container of results of its own on the shared server."""

    def __init__(self, client, synthetic, path):
        self.client, self.path, self._synthetic = client, path, synthetic

    def analyse(self, *, created, rate=1.0, end="success", rows=True, **start):
        """Store a result whose Gamma is rate * (q / q1)^2; without an end it is live."""
        run = self._synthetic(n_frames=4, n_roi=3, start=start)
        info = dataclasses.replace(run.info, q_inv_angstrom=Q)
        sink = TiledSink(info, client=self.client, path=self.path, created=created)
        news = run.publication(0, 4, c2=None, band=None)
        rates = rate * (np.array(Q)[news.gamma.roi - 1] / Q[0]) ** 2
        gamma = news.gamma.replace(
            q_inv_angstrom=np.array(Q)[news.gamma.roi - 1],
            relaxation_rate=rates,
            relaxation_rate_error=0.1 * rates,
            recommended=rows,
        )
        sink.write(dataclasses.replace(news, gamma=gamma))
        if end == "success":
            result = dataclasses.replace(run.result(denoised=False), gamma=gamma)
            written.end(sink, result)
        elif end:
            status = Status(n_processed=4, n_skipped=1, contrast=(0.2, math.nan, 0.3))
            sink.finish(
                RunEnd(
                    raw_exit_status="success",
                    analysis_exit_status=end,
                    reason="it broke",
                    status=status,
                )
            )
        return run.raw_uid


@pytest.fixture(scope="module")
def beamtime(client, synthetic):
    """Five runs of two days."""
    time = Beamtime(client, synthetic, "beamtime-of-runs")
    time.uids = [
        time.analyse(created=DAY + 10, time=DAY - 5, scan_id=1, sample="gel", T_sample=20),
        time.analyse(
            created=DAY + 20, time=DAY + 5, scan_id=2, sample={"name": "Gel", "phi": "0.1"},
            T_sample="25", rate=2.0, plan_name="count",
        ),
        time.analyse(created=DAY + 30, time=DAY + 15, scan_id=3, sample="silica", end=None),
        time.analyse(created=DAY + 40, time=DAY + 25, scan_id=4, sample="silica", end="fail"),
        time.analyse(
            created=DAY + 50, time=DAY + 86_399, scan_id=5, sample="", rows=False, alpha="x"
        ),
    ]  # fmt: skip
    time.container = client[time.path]
    return time


def test_a_row_is_a_run_and_a_roi_with_its_typical_rate_and_the_law_over_the_rois(beamtime):
    table = runs(beamtime.container)
    assert table["scan_id"].tolist() == [5] * 3 + [4] * 3 + [3] * 3 + [2] * 3 + [1] * 3
    assert table["roi"].tolist() == [1, 2, 3] * 5
    one = table[table["scan_id"] == 2]
    np.testing.assert_allclose(one["relaxation_rate"], [2.0, 8.0, 32.0], rtol=1e-9)
    np.testing.assert_allclose(one["relaxation_rate_error"] / one["relaxation_rate"], 0.1)
    np.testing.assert_allclose(one["diffusion"], 2.0 / Q[0] ** 2)
    np.testing.assert_allclose(one["exponent"], 2.0, rtol=1e-9)
    np.testing.assert_allclose(one[["alpha", "beta", "baseline"]], 0.5)
    assert one["state"].unique().tolist() == ["finished"]
    assert one["time"].iloc[0] == datetime.datetime(2026, 11, 20, 0, 0, 5)
    assert set(one["uid"]) == {beamtime.uids[1]}


def test_runs_without_a_final_result_show_what_is_known_of_them(beamtime):
    table = runs(beamtime.container).set_index("scan_id")
    live, failed, nothing = table.loc[3], table.loc[4], table.loc[5]
    assert set(live["state"]) == {"live"}
    assert live["relaxation_rate"].isna().all()
    assert live["q_inv_angstrom"].tolist() == list(Q)
    assert set(live["n_frames"]) == {4}
    assert set(failed["state"]) == {"failed"}
    np.testing.assert_allclose(failed["relaxation_rate"], [1.0, 4.0, 16.0])  # provisional
    assert set(failed["n_skipped"]) == {1}
    assert nothing["relaxation_rate"].isna().all()
    assert nothing["diffusion"].isna().all()
    assert set(nothing["start.alpha"]) == {"x"}  # a start key of a column's name


@pytest.mark.parametrize(
    ("asked", "scans"),
    [
        ({"sample": "gel"}, {1, 2}),
        ({"sample": ["silica", "none"]}, {3, 4}),
        ({"since": "2026-11-20"}, {2, 3, 4, 5}),
        ({"until": "2026-11-19"}, {1}),
        ({"until": datetime.date(2026, 11, 20)}, {1, 2, 3, 4, 5}),
        ({"since": DAY + 10, "until": datetime.datetime.fromtimestamp(DAY + 20)}, {3}),
        ({"since": "2026-11-20 00:00:10", "until": np.datetime64("2026-11-20")}, {3, 4, 5}),
        ({"scan_ids": 3}, {3}),
        ({"scan_ids": "2-3, 5"}, {2, 3, 5}),
        ({"scan_ids": range(2, 4)}, {2, 3}),
        ({"scan_ids": ["1-2", np.int64(4)]}, {1, 2, 4}),
        ({"plan": "count"}, {2}),
        ({"detector": "eiger_image", "T_sample": "20"}, {1}),
        ({"T_sample": (20.0, 25)}, {1, 2}),
        ({"sample.phi": 0.1}, {2}),
        ({"sample": "water"}, set()),
    ],
)
def test_runs_are_chosen_by_what_their_start_documents_say(beamtime, asked, scans):
    table = runs(beamtime.container, **asked)
    assert set(table["scan_id"]) == scans
    assert {"relaxation_rate", "state"} <= set(table.columns)


def test_values_that_a_person_reads_as_the_same_are_alike():
    assert alike("20", 20.0)
    assert alike(" Gel", "gel")
    assert alike(True, "true")
    assert not alike(None, "None")
    assert not alike("20 C", 20)
    assert is_any_of([1, 2], (1, 2))
    assert is_any_of(3, range(2, 5))
    assert not is_any_of("a", "abc")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"since": "20.11.2026"}, "since: got '20.11.2026'; expected a day such as"),
        ({"until": "2026-11-31"}, "until: got '2026-11-31'; expected a day"),
        ({"since": True}, "since: got True"),
        ({"since": 1.76e12}, "These are milliseconds"),
        ({"since": "2026-11-21", "until": "2026-11-19"}, "expected the earlier of the two"),
        ({"scan_ids": "1-b"}, "scan_ids: got '1-b'; expected a number, a range"),
        ({"scan_ids": 1.5}, "scan_ids: got 1.5"),
        ({"t_sampel": 20}, "'t_sampel': got no run with it.*Did you mean 'T_sample'"),
        ({"zzz": 20}, "They have: .*T_sample"),
    ],
)
def test_what_is_no_date_scan_id_or_start_key_is_said(beamtime, asked, words):
    with pytest.raises(InvalidInputError, match=words):
        runs(beamtime.container, **asked)


def test_a_search_of_the_users_own_is_kept_and_the_root_serves_as_well(beamtime, client):
    own = beamtime.container.search(Eq("start.scan_id", 2))
    assert set(runs(own)["scan_id"]) == {2}
    assert runs(own, since="2026-11-21").empty
    assert len(runs(client, path=beamtime.path)) == 15


def store(client, path, results):
    """Store results as another version may have left them: (uid, start, stop) each."""
    container = client.create_container(path)
    specs = [Spec(name, version) for name, version in RUN_SPECS]
    for uid, start, stop in results:
        metadata = {"start": start | {"uid": uid}} | ({"stop": stop} if stop else {})
        container.create_container(uid, metadata=metadata, specs=specs)
    return container


def test_of_several_results_of_a_run_the_newest_finished_one_is_shown(client):
    xpcs = {"roi": [1], "image_key": "eiger_image", "raw_time": 1.0}

    def result(time, rate):
        start = {"time": time, "original_run_uid": "raw-one", "xpcs": xpcs}
        summary = {"roi": [1], "relaxation_rate": [rate]}
        return f"r{time}", start, rate and {"exit_status": "success", "xpcs": summary}

    container = store(client, "beamtime-of-replays", [result(2, 3.0), result(1, 1.0), result(3, 0)])
    table = runs(container)
    assert table[["relaxation_rate", "n_results", "result_uid"]].values.tolist() == [[3.0, 3, "r2"]]


def test_many_runs_come_in_pages_and_results_of_earlier_versions_have_rows(client, monkeypatch):
    assert run_table.RUNS_A_REQUEST == 100
    monkeypatch.setattr(run_table, "RUNS_A_REQUEST", 5)
    xpcs = {"roi": [1, 2], "q_inv_angstrom": [0.1, None], "n_roi": 2, "settings": {}}
    stop = {"exit_status": "success", "time": 300.0}
    container = store(
        client,
        "beamtime-of-pages",
        [
            (f"a{scan}", {"time": 100.0 + scan, "scan_id": str(scan), "xpcs": xpcs}, stop)
            for scan in range(11)
        ],
    )
    answers = []
    hooks = client.context.http_client.event_hooks["response"]
    hooks.append(answers.append)
    table = runs(container, scan_ids="2-10")
    hooks.pop()
    assert len(answers) == 3
    assert len(table) == 18
    assert table["scan_id"].tolist()[:3] == [10, 10, 9]
    assert set(table["state"]) == {"finished"}
    assert table["relaxation_rate"].isna().all()
