"""Reprocess: many stored runs again, each once, whatever happens to some of them."""

import csv
import functools
import json
import re
import subprocess
import sys
import threading
import time

import bluesky.plans as bp
import numpy as np
import pytest
from bluesky.run_engine import RunEngine
from bluesky_tiled_plugins import TiledWriter
from typer.testing import CliRunner

from tests.support.live_runs import LABELS, series
from tests.support.reprocessing import dask_scheduler, die_before_the_stop_once
from xpcs_live_denoise import RoiMap, Settings, analyse, results, save_rois
from xpcs_live_denoise.commands.cli import app
from xpcs_live_denoise.commands.dask_workers import do_tasks
from xpcs_live_denoise.commands.reprocess_report import write_report
from xpcs_live_denoise.commands.reprocess_run import Change, Outcome, State, Task, reprocess_run
from xpcs_live_denoise.simulation import SimulatedCamera, recorded
from xpcs_live_denoise.sinks import ClaimTimes

N = 40
FRAMES = series(N)
ROIS = RoiMap.from_labels(LABELS, q_inv_angstrom=[0.001, 0.002])
TIMES = ClaimTimes(beat_s=0.1, dead_s=1.0, settle_s=0.1)
BEAMTIME = 7_100_000  # scan_ids that no other test on this server has


@pytest.fixture(scope="module")
def raw_uids(tiled_server):
    """Three raw runs of one sample, which nobody has analysed."""
    client = tiled_server.client()
    engine = RunEngine({"scan_id": BEAMTIME}, context_managers=[])
    engine.subscribe(TiledWriter(client["raw"], batch_size=N))
    camera = SimulatedCamera(recorded(FRAMES), name="camera")
    uids = [engine(bp.count([camera], num=N), sample="gel 9")[0] for _ in range(3)]
    client.context.close()
    return uids


@pytest.fixture
def config(tiled_server, tmp_path, monkeypatch):
    """Return a function that writes settings and returns the file."""
    monkeypatch.setenv("TILED_API_KEY", tiled_server.api_key)
    save_rois(ROIS, tmp_path / "rois.npz")

    def config(**fields):
        fields = {
            "detector": "camera",
            "rois": "rois.npz",
            "denoise": False,
            "frame_time_s": 0.01,
            "tiled": {"uri": tiled_server.uri, "raw_path": "raw"},
            **fields,
        }
        path = tmp_path / "xpcs.yml"
        path.write_text(json.dumps(fields))
        return path

    return config


@pytest.fixture
def reprocess(config, tmp_path):
    """Return a function that runs the command: its exit status, what it printed, its two files."""

    def reprocess(*arguments, **fields):
        files = tmp_path / "status.json", tmp_path / "report.csv"
        options = [f"--config={config(**fields)}", f"--status={files[0]}", f"--report={files[1]}"]
        ended = CliRunner().invoke(app, ["reprocess", *map(str, arguments), *options])
        status = json.loads(files[0].read_text()) if files[0].exists() else {}
        lines = files[1].read_text().splitlines() if files[1].exists() else []
        rows = list(csv.DictReader(lines))
        return ended.exit_code, " ".join(ended.output.split()), status, rows

    return reprocess


def derived_from(client, uid):
    return [node for node in client["processed"].values() if node.start["original_run_uid"] == uid]


def task(settings, uid, **fields):
    fields = {"skip_done": False, "job_began": time.time(), "times": TIMES, **fields}
    return Task(uid=uid, scan_id="", settings=settings, **fields)


def test_a_beamtime_is_computed_once_and_again_only_with_other_settings(
    reprocess, raw_uids, tiled_client
):
    scans = f"--scan-ids={BEAMTIME + 1}-{BEAMTIME + 3}"
    today = f"--until={time.strftime('%Y-%m-%d')}"  # a day includes it, as for `runs`
    code, text, status, rows = reprocess(scans, "--sample=gel 9", today)
    assert (code, status["counts"]) == (0, {"done": 3}), text
    assert text.endswith("3 runs: 3 done.")
    assert [row["uid"] for row in rows] == [uid for uid in raw_uids for _ in ROIS.labels]
    assert {row["gamma_before"] for row in rows} == {""}
    first = results(tiled_client, raw_uids[0])
    assert (first.xpcs["analysed_by"], first.xpcs["supersedes"]) == ("reprocess", [])
    offline = analyse(
        FRAMES, Settings(detector="camera", denoise=False, frame_time_s=0.01), rois=ROIS
    )
    np.testing.assert_allclose(first.c2(denoised=False), offline.c2, rtol=1e-6)
    assert "claim" not in first.metadata

    code, text, status, rows = reprocess(scans, "--skip-done")
    assert (code, status["counts"]) == (0, {"skipped": 3}), text
    assert len(rows) == 6
    assert [len(derived_from(tiled_client, uid)) for uid in raw_uids] == [1, 1, 1]

    code, text, status, rows = reprocess(raw_uids[0], "--skip-done", outliers="off")
    assert (code, status["counts"]) == (0, {"done": 1}), text
    second = results(tiled_client, raw_uids[0])
    assert second.xpcs["supersedes"] == [first.start["uid"]]
    assert second.xpcs["settings_hash"] != first.xpcs["settings_hash"]
    assert rows[0]["superseded"] == first.start["uid"]
    assert rows[0]["gamma_after"] == rows[0]["gamma_before"] != ""
    assert rows[0]["n_after"] == rows[0]["n_before"] != "0"
    assert rows[0]["time_unit"] == "s"
    assert float(rows[0]["change_in_errors"]) == 0


@pytest.mark.deployment
def test_a_job_that_is_killed_repeats_nothing_when_it_goes_on(
    config, raw_uids, tiled_client, tmp_path
):
    path, status = config(seed=11), tmp_path / "status.json"
    before = [len(derived_from(tiled_client, uid)) for uid in raw_uids]
    words = ["reprocess", *raw_uids, f"--config={path}", f"--status={status}"]
    job = subprocess.Popen([sys.executable, "-m", "xpcs_live_denoise", *words])
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if status.exists() and json.loads(status.read_text())["counts"].get("done"):
            break
        time.sleep(0.02)
    job.kill()
    job.wait()
    done = [run for run in json.loads(status.read_text())["runs"] if run["state"] == "done"]
    assert 0 < len(done) < 3
    ended = CliRunner().invoke(app, [*words, "--skip-done"])
    assert ended.exit_code == 0, ended.output
    states = {run["uid"]: run for run in json.loads(status.read_text())["runs"]}
    for run in done:
        assert states[run["uid"]]["state"] == "skipped"
        assert states[run["uid"]]["derived"] == run["derived"]
    assert [run["state"] for run in states.values()].count("done") == 3 - len(done)
    after = [derived_from(tiled_client, uid) for uid in raw_uids]
    assert [len(results) for results in after] == [number + 1 for number in before]
    assert all("stop" in node.metadata for results in after for node in results)


@pytest.mark.deployment
def test_the_workers_of_a_dask_scheduler_do_it_and_runs_are_pending_when_it_goes(
    reprocess, raw_uids, tiled_client, tiled_server, monkeypatch
):
    monkeypatch.setenv("TILED_API_KEY", tiled_server.api_key)  # workers have the key
    with dask_scheduler() as (address, process):
        code, text, status, _ = reprocess(*raw_uids[:2], "--dask", address, seed=12)
        assert (code, status["counts"]) == (0, {"done": 2}), text
        result = results(tiled_client, raw_uids[0])
        assert result.start["uid"] == status["runs"][0]["derived"]
        known = len(tiled_client["processed"])

        def kill_when_the_first_run_is_begun():
            while len(tiled_client["processed"]) == known:
                time.sleep(0.05)
            process.kill()

        gone = threading.Thread(target=kill_when_the_first_run_is_begun, daemon=True)
        gone.start()
        code, text, status, _ = reprocess(*raw_uids, "--dask", address, seed=13)
        gone.join()
    assert code == 1
    assert status["counts"]["pending"] >= 1
    assert "The Dask scheduler went away before it was known to be done. Start the" in text
    code, text, status, _ = reprocess(*raw_uids, "--skip-done", seed=13)
    assert code == 0, text
    assert {run["state"] for run in status["runs"]} <= {"done", "skipped", "taken"}


def test_one_bad_run_stops_none_of_the_others_and_hides_no_earlier_result(
    reprocess, raw_uids, tiled_client
):
    code, text, status, rows = reprocess("nowhere", raw_uids[1], seed=1)
    assert (code, status["counts"]) == (1, {"failed": 1, "done": 1})
    assert "Run nowhere: failed. Run nowhere: not in /raw" in text
    assert [row["state"] for row in rows] == ["failed", "done", "done"]
    good = results(tiled_client, raw_uids[1]).start["uid"]

    code, text, status, _ = reprocess(raw_uids[1], orientation={"rotate": 90})
    assert (code, status["counts"]) == (1, {"failed": 1})
    assert "shape" in text
    assert "Nothing was stored" in status["runs"][0]["reason"]
    assert results(tiled_client, raw_uids[1]).start["uid"] == good


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected the names of runs, or some of --since"),
        (["77", "--sample=gel"], "got both"),
        (["--scan-ids=200-"], "expected a number, a range such as"),
        (["--since=yesterday"], "expected a day such as"),
        (["77", "--workers=2", "--dask=tcp://host:8786"], "not both"),
        (["77", "--config=nowhere.yml"], "Expected a YAML file"),
    ],
)
def test_a_mistake_in_the_command_ends_with_status_2(arguments, message):
    ended = CliRunner().invoke(app, ["reprocess", *arguments], env={"COLUMNS": "300"})
    assert ended.exit_code == 2
    assert message in " ".join(ended.output.replace("│", " ").split())


@pytest.mark.soak
def test_of_two_jobs_that_take_a_run_at_once_one_stores_it(config, raw_uids, tiled_client):
    settings = Settings.load(config(seed=2))
    before, outcomes = len(derived_from(tiled_client, raw_uids[2])), []
    one = task(settings, raw_uids[2])
    jobs = [threading.Thread(target=lambda: outcomes.append(reprocess_run(one))) for _ in range(2)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    states = {outcome.state for outcome in outcomes}
    assert State.DONE in states
    assert states <= {State.DONE, State.TAKEN, State.SKIPPED}, outcomes
    after = derived_from(tiled_client, raw_uids[2])
    assert len(after) == before + 1
    assert all("stop" in node.metadata for node in after)


@pytest.mark.soak
def test_a_run_whose_worker_is_killed_is_computed_again_and_stored_once(
    config, raw_uids, tiled_client, tmp_path
):
    settings = Settings.load(config(seed=3))
    before = [len(derived_from(tiled_client, uid)) for uid in raw_uids]
    function = functools.partial(die_before_the_stop_once, marker=str(tmp_path / "died"))
    tasks = [task(settings, uid) for uid in raw_uids]
    outcomes = [outcome for _, outcome in do_tasks(function, tasks, workers=2, scheduler=None)]
    assert (tmp_path / "died").exists()
    assert [outcome.state for outcome in outcomes] == [State.DONE] * 3, outcomes
    for uid, n_before in zip(raw_uids, before, strict=True):
        assert len(derived_from(tiled_client, uid)) == n_before + 1
        result = results(tiled_client, uid)
        assert result.metadata["stop"]["exit_status"] == "success"
        rows = result.gamma_table()
        assert not rows.duplicated(["roi", "age_frame", "source", "width"]).any()


def test_the_page_of_a_report_needs_nothing_beside_it_and_holds_every_run(tmp_path):
    rates = {"gamma_before": 1.0, "gamma_before_error": 0.1, "gamma_after_error": 0.1}
    changes = [
        Change(roi=roi, q_inv_angstrom=0.01, gamma_after=after, n_before=4, n_after=5, **rates)
        for roi, after in ((1, 1.05), (2, 2.0))
    ]
    new = Change(roi=1, q_inv_angstrom=0.01, gamma_after=3.0, time_unit="frame")
    outcomes = [
        Outcome(uid="aaaa", scan_id="7", state=State.DONE, changes=tuple(changes)),
        Outcome(uid="bbbb", scan_id="8", state=State.DONE, changes=(new,)),
        Outcome(uid="cccc", scan_id="9", state=State.FAILED, reason="<b>no</b> frames"),
    ]
    page = write_report(tmp_path / "report.csv", outcomes)
    assert page == tmp_path / "report.html"
    text = page.read_text()
    assert "3 runs; 2 ROIs with a rate before and after, of which 1 moved by more than 3" in text
    assert "before (1/s)" in text
    assert "after (1/frame)" in text
    assert "<b>no" not in text
    assert "1 of 2" in text
    assert not re.search(r'<(script|link)\s[^>]*(src|href)="http', text)
    rows = list(csv.DictReader((tmp_path / "report.csv").read_text().splitlines()))
    assert [row["n_after"] for row in rows] == ["5", "5", "0", ""]
    assert rows[-1]["reason"] == "<b>no</b> frames"


def test_a_change_of_gamma_is_told_in_errors():
    change = Change(
        roi=1,
        q_inv_angstrom=0.01,
        gamma_before=1.0,
        gamma_before_error=0.1,
        gamma_after=np.e,
        gamma_after_error=0.2 * np.e,
    )
    assert change.in_errors == pytest.approx(5.0)
    assert np.isnan(Change(roi=1, q_inv_angstrom=0.01).in_errors)
    assert "changes" not in Outcome(uid="a", scan_id="1", state=State.DONE).as_json()
