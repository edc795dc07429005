"""Pull the plug of a real Tiled server, or of the session, at every moment of a run."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from tiled.queries import Eq
from typer.testing import CliRunner

from tests.support.live_runs import ROIS, Fake, composed_run, offline, series
from tests.support.relay import Relay
from xpcs_live_denoise import LiveDenoise, Settings, results
from xpcs_live_denoise.analysis.series import Analysis
from xpcs_live_denoise.commands.cli import app
from xpcs_live_denoise.live import Timings
from xpcs_live_denoise.sinks.memory import MemorySink
from xpcs_live_denoise.sinks.spool import spooled_folders

pytestmark = pytest.mark.system

N = 90
# A server that only takes long, on a loaded machine, is not what these tests are about.
IMPATIENT = Timings(first_pause_s=0.1, longest_pause_s=0.2, slow_s=60.0)
ROW = ["roi", "age_frame", "source", "width", "final"]


@pytest.fixture
def server(outage_server):
    """A server that tests stop and start again, on the same port and folder."""
    return outage_server


@pytest.fixture
def settings(server, tmp_path, monkeypatch):
    """Fields of Settings for that server, in keywords and in tmp_path/xpcs.yml."""
    monkeypatch.setenv("TILED_API_KEY", server.api_key)
    fields = {
        "detector": "cam",
        "frame_time_s": 0.01,
        "publish_period_s": 0.05,
        "outliers": "off",
        "spool": str(tmp_path / "spool"),
        "tiled": {"uri": server.uri},
    }
    (tmp_path / "xpcs.yml").write_text(json.dumps(fields))  # JSON is YAML
    return fields


@pytest.fixture
def live(settings):
    live = LiveDenoise(Settings(**settings), rois=ROIS, ensemble=Fake(), timings=IMPATIENT)
    yield live
    live.close(0.1)


def until(condition, timeout=200):
    """Wait until something holds that must come."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


def derived(server, uid):
    """The derived runs of a run, as a fresh client sees them."""
    return list(server.client()["processed"].search(Eq("start.original_run_uid", uid)).values())


def stored_frames(server, uid):
    """Frames of which a reader sees C2 now; 0 while there is no derived run."""
    time.sleep(0.1)  # a fresh client each time costs the server something
    found = [run.metadata.get("n_frames", 0) for run in derived(server, uid)]
    assert len(found) < 2, "a second derived run"
    return found[0] if found else 0


def spooled_frames(tmp_path):
    """Frames of which the spool holds C2, without taking it from its session."""
    from xpcs_live_denoise.sinks import spool as spool_format

    news = sorted((tmp_path / "spool").glob("*/*-publication.npz"))
    return spool_format.read_record(news[-1]).n_frames if news else 0


def deliver(tmp_path, *, process=False):
    """Return exit status and output of the command; here, or in a process of its own."""
    arguments = ["deliver", f"--config={tmp_path}/xpcs.yml"]
    if not process:
        done = CliRunner().invoke(app, arguments)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output
    done = subprocess.run(
        [sys.executable, "-m", "xpcs_live_denoise", *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def the_result(server, uid):
    """The one derived run, after everything that may be doubled or missing was looked at."""
    assert len(derived(server, uid)) == 1
    result = results(server.client(), uid)
    for stream in ("gamma", "status"):
        table = result.base[stream].base["internal"].read()
        assert sorted(table["seq_num"]) == list(range(1, len(table) + 1))
        assert result.metadata["stop"]["num_events"][stream] == len(table)
    gamma = result.base["gamma"].base["internal"].read()
    assert not gamma.duplicated(ROW).any()
    assert result.validate(fix_errors=False, raise_on_error=True)
    documents = list(result.documents())
    assert sum(name == "event" for name, _ in documents) == sum(
        result.metadata["stop"]["num_events"][name] for name in ("gamma", "status")
    )
    assert os.environ["TILED_API_KEY"] not in str(documents)
    return result


def assert_complete(server, uid, frames):
    result, expected = the_result(server, uid), offline(frames)
    assert result.metadata["stop"]["exit_status"] == "success"
    np.testing.assert_allclose(result.c2(denoised=False), expected.c2, rtol=1e-5)
    np.testing.assert_allclose(result.c2(), expected.denoised.c2, rtol=1e-5)
    assert_same_gamma(result.gamma_table(), expected.gamma.to_pandas())
    return result


def assert_same_gamma(got, expected):
    assert got["final"].all()
    key = ["roi", "source", "width", "age_frame"]
    got, expected = (t.sort_values(key).reset_index(drop=True) for t in (got, expected))
    pd.testing.assert_frame_equal(got[key], expected[key], check_dtype=False)
    np.testing.assert_allclose(got["relaxation_rate"], expected["relaxation_rate"], rtol=2e-3)


def send_all(send, frames):
    for frame in frames:
        send(frame)


def test_down_at_the_start_and_back_before_the_end(server, settings, live, tmp_path):
    server.stop()
    frames = series(N)
    uid, send, stop = composed_run(live)
    send_all(send, frames[:70])
    until(lambda: spooled_frames(tmp_path) == 70)
    server.start()
    until(lambda: stored_frames(server, uid) == 70)
    until(lambda: not spooled_folders(tmp_path / "spool"))
    send_all(send, frames[70:])
    stop()
    assert live.wait(200)
    assert_complete(server, uid, frames)


def test_down_in_the_middle_of_a_run(server, settings, live, tmp_path, caplog):
    frames = series(N)
    uid, send, stop = composed_run(live)
    send_all(send, frames[:55])
    until(lambda: stored_frames(server, uid) == 55)
    assert not (tmp_path / "spool").exists(), "no disk write while Tiled answers"
    server.stop()
    for frame in frames[55:80]:
        send(frame)
        time.sleep(0.02)
    until(lambda: spooled_frames(tmp_path) == 80)
    assert "Not stored yet" in live.status[uid].message
    server.start()
    send_all(send, frames[80:])
    until(lambda: stored_frames(server, uid) == N)
    stop()
    assert live.wait(200)
    result = assert_complete(server, uid, frames)
    assert not spooled_folders(tmp_path / "spool")
    provisional = result.gamma_table(source="raw", final=False)
    provisional = provisional[~provisional["final"]]
    assert sorted(set(provisional["age_frame"])) == list(range(N - 24)), "an age was lost"
    assert caplog.text.count("results cannot be published") == 1
    assert caplog.text.count("publishing again, nothing was lost") == 1
    assert server.api_key not in caplog.text


@pytest.mark.soak
def test_down_at_the_stop_and_back_when_the_session_has_ended(
    server, settings, live, tmp_path, caplog
):
    frames = series(N)
    uid, send, stop = composed_run(live)
    send_all(send, frames[:60])
    until(lambda: stored_frames(server, uid) == 60)
    server.stop()
    send_all(send, frames[60:])
    stop()
    until(lambda: list((tmp_path / "spool").glob("*/*-end.npz")))
    assert not live.close(1)
    assert f"They are kept in {tmp_path / 'spool'}" in caplog.text
    assert f"Results of 1 run wait in {tmp_path / 'spool'}" in caplog.text
    status, away = deliver(tmp_path)
    assert status == 1
    assert "not delivered (TiledUnavailableError" in away
    server.start()
    status, done = deliver(tmp_path, process=True)
    assert status == 0, done
    assert f"Run {uid}: delivered as processed/" in done
    assert_complete(server, uid, frames)
    status, again = deliver(tmp_path)
    assert (status, again[:18]) == (0, "Nothing to deliver")
    assert server.api_key not in away + done + again


def longest_lag(live, frames):
    """Send a run and wait until it is computed; return uid, what sends its stop, and the lag, s."""
    uid, send, stop = composed_run(live)
    lags = []
    for frame in frames:
        send(frame)
        time.sleep(0.02)
        lags.append(live.status[uid].lag_s)
    until(lambda: live.status[uid].n_processed == len(frames), 30)
    return uid, stop, max(lags)


@pytest.mark.soak
def test_a_server_that_answers_slowly_does_not_slow_the_analysis(server, settings, tmp_path):
    frames = series(60)
    alone = LiveDenoise(Settings(**settings), rois=ROIS, ensemble=Fake(), sinks=[MemorySink])
    _, stop, usual = longest_lag(alone, frames)
    stop()
    assert alone.close(20)
    relay = Relay(server.uri)
    relay.delay_s = 1.0
    options = Settings(**{**settings, "tiled": {"uri": relay.uri}})
    timings = dataclasses.replace(IMPATIENT, slow_s=0.5)
    live = LiveDenoise(options, rois=ROIS, ensemble=Fake(), timings=timings)
    uid, stop, longest = longest_lag(live, frames)
    assert spooled_frames(tmp_path), "what waits is on disk"
    # A publication is a dozen requests of a second each; the machine itself may be busy.
    assert longest < usual + 3.0
    relay.delay_s = 0.0
    stop()
    assert live.wait(100)
    assert_complete(server, uid, frames)
    assert live.close(20)
    relay.close()


SESSION = """
import sys
from tests.support.live_runs import ROIS, Fake, composed_run, series
from xpcs_live_denoise import LiveDenoise, Settings
from xpcs_live_denoise.live import Timings

timings = Timings(first_pause_s=0.3, longest_pause_s=0.5)
live = LiveDenoise(Settings.load(sys.argv[1]), rois=ROIS, ensemble=Fake(), timings=timings)
frames = series(int(sys.argv[2]))
uid, send, stop = composed_run(live)
print(uid, flush=True)
sent = 0
for line in sys.stdin:
    if line == "stop\\n":
        stop()
        continue
    for frame in frames[sent : int(line)]:
        send(frame)
    sent = int(line)
"""


@pytest.fixture
def session(settings, tmp_path):
    """A session in a process of its own; it takes numbers of frames, and `stop`, line by line."""
    with subprocess.Popen(
        [sys.executable, "-c", SESSION, str(tmp_path / "xpcs.yml"), str(N)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        yield process
        process.kill()


@pytest.mark.parametrize(
    "moment", ["in the middle", pytest.param("after the stop", marks=pytest.mark.soak)]
)
def test_killed_while_the_server_is_away(server, session, tmp_path, moment):
    uid = session.stdout.readline().strip()
    session.stdin.write("60\n")
    until(lambda: stored_frames(server, uid) == 60)
    server.stop()
    session.stdin.write(f"{N}\n")
    until(lambda: spooled_frames(tmp_path) == N)
    if moment == "after the stop":
        session.stdin.write("stop\n")
        until(lambda: list((tmp_path / "spool").glob("*/*-end.npz")))
    status, busy = deliver(tmp_path)
    assert (status, "left to the process that has it" in busy) == (0, True)
    session.send_signal(signal.SIGKILL)
    session.wait()
    server.start()
    status, done = deliver(tmp_path)
    assert status == 0, done
    assert not list((tmp_path / "spool").iterdir())
    frames = series(N)
    if moment == "after the stop":
        assert_complete(server, uid, frames)
        return
    assert "its process died" in done
    result, expected = the_result(server, uid), offline(frames)
    stop = result.metadata["stop"]
    assert stop["exit_status"] == stop["analysis_exit_status"] == "abort"
    assert "xpcs-live-denoise replay" in stop["reason"]
    assert result.n_frames == N
    np.testing.assert_allclose(result.c2(denoised=False), expected.c2, rtol=1e-5)
    ages = result.gamma_table(source="raw")
    assert sorted(set(ages["age_frame"])) == list(range(N - 24))
    assert len(ages) == 2 * (N - 24)


@pytest.mark.soak
def test_an_analysis_that_raises_fails_its_derived_run_alone(server, settings, live, monkeypatch):
    push, frames = Analysis.push_pixels, series(N)

    def fault(self, pixels):
        if self.n_frames >= 60:
            raise ZeroDivisionError("a fault that was injected")
        push(self, pixels)

    monkeypatch.setattr(Analysis, "push_pixels", fault)
    uid, send, stop = composed_run(live)
    send_all(send, frames[:60])
    until(lambda: stored_frames(server, uid) == 60)
    send_all(send, frames[60:])
    stop()
    assert live.wait(200)
    assert live.n_faults == 0, "nothing reached the RunEngine's thread"
    result = the_result(server, uid)
    assert result.metadata["stop"]["exit_status"] == "fail"
    assert result.metadata["stop"]["raw_exit_status"] == "success"
    assert "a fault that was injected" in result.metadata["stop"]["reason"]
    assert "a fault that was injected" in result.status_table()["message"].iloc[-1]
    assert result.c2(denoised=False).shape == (2, 60, 60)
    monkeypatch.undo()
    os.environ["TILED_API_KEY"] = server.api_key
    uid, send, stop = composed_run(live)
    send_all(send, frames)
    stop()
    assert live.wait(200)
    assert_complete(server, uid, frames)
