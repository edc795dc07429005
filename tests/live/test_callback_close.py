"""The end of a session: what LiveDenoise says of results that are not stored."""

import threading
import time

import pytest

from tests.support.live_runs import (  # noqa: F401 - two of them are fixtures
    ROIS,
    Fake,
    assert_same_result,
    composed_run,
    engine,
    offline,
    series,
    subscribe,
)
from xpcs_live_denoise import LiveDenoise, Settings
from xpcs_live_denoise.errors import SpoolInUseError
from xpcs_live_denoise.live import Timings
from xpcs_live_denoise.sinks.memory import MemorySink
from xpcs_live_denoise.sinks.spool import Spool, spooled_folders


def until(condition, timeout=20):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


def is_free(folder):
    """Whether another process could deliver a run now."""
    try:
        Spool.open(folder).close()
    except SpoolInUseError:
        return False
    return True


@pytest.fixture
def live_without_server(tmp_path, monkeypatch):
    """A session whose Tiled server does not answer."""
    monkeypatch.setenv("TILED_API_KEY", "the-secret")
    settings = Settings(
        detector="cam",
        publish_period_s=0.02,
        spool=tmp_path / "spool",
        tiled={"uri": "http://127.0.0.1:9"},
    )
    live = LiveDenoise(settings, rois=ROIS, ensemble=Fake())
    yield live
    live.close(0)


def test_what_waits_on_disk_is_told_with_the_command_that_stores_it(
    live_without_server, tmp_path, caplog
):
    spool = tmp_path / "spool"
    for ends in (True, False):
        _, send, stop = composed_run(live_without_server)
        for frame in series(60):
            send(frame)
        if ends:
            stop()
    until(lambda: list(spool.glob("*/*-end.npz")) and len(spooled_folders(spool)) == 2)
    assert not live_without_server.close(0)
    lines = [line for line in caplog.messages if line.startswith("Results of ")]
    assert lines == [
        f"Results of 2 runs wait in {spool}: `xpcs-live-denoise deliver --config xpcs.yml --spool "
        f"{spool}` stores them when the server is back."
    ]
    assert "the-secret" not in caplog.text
    for folder in spooled_folders(spool):
        until(lambda folder=folder: is_free(folder))


def test_a_run_that_is_still_open_is_enough_to_be_told(live_without_server, tmp_path, caplog):
    _, send, _ = composed_run(live_without_server)
    for frame in series(60):
        send(frame)
    until(lambda: spooled_folders(tmp_path / "spool"))
    live_without_server.close(5)
    assert f"Results of 1 run wait in {tmp_path / 'spool'}" in caplog.text


def test_results_that_are_nowhere_are_told_with_the_uid_to_replay(caplog):
    asked, answer = threading.Event(), threading.Event()

    def silent(info):
        asked.set()
        assert answer.wait(60)
        return MemorySink(info)

    live = LiveDenoise(Settings(detector="cam"), rois=ROIS, sinks=[silent], ensemble=Fake())
    uid, send, stop = composed_run(live)
    send(series(1)[0])
    stop()
    assert asked.wait(60)
    assert not live.close(0)
    answer.set()
    assert (
        f"not on disk: 1 run(s). `xpcs-live-denoise replay {uid} --config xpcs.yml`" in caplog.text
    )
    assert live.close(60)
    assert live.status[uid].n_processed == 1


def test_a_session_whose_results_are_stored_ends_without_a_word(subscribe, caplog):
    live, sinks = subscribe()
    _, send, stop = composed_run(live, exposure=0.01)
    for frame in series(60):
        send(frame)
    stop()
    assert live.close(60)
    assert sinks[0].end is not None
    assert "xpcs-live-denoise" not in caplog.text


def test_a_factory_that_always_raises_costs_its_own_results_alone(caplog):
    sinks, attempts = [], []

    def broken(info):
        attempts.append(info)
        raise TypeError("no such thing as a sink")

    def good(info):
        sinks.append(MemorySink(info))
        return sinks[-1]

    settings = Settings(detector="cam", frame_time_s=0.01, publish_period_s=0.02)
    live = LiveDenoise(
        settings,
        rois=ROIS,
        sinks=[broken, good],
        ensemble=Fake(),
        timings=Timings(first_pause_s=0.05, give_up_s=0.3),
    )
    uid, send, stop = composed_run(live)
    frames = series(60)
    for frame in frames:
        send(frame)
    stop()
    assert live.wait(60)
    assert live.running == {}
    assert len(attempts) > 1
    assert caplog.text.count(f"Run {uid}: the final results could not be stored.") == 1
    assert "no such thing as a sink" in live.status[uid].message
    assert_same_result(sinks[0].result, offline(frames))
    assert live.close(60)
