"""Twelve minutes of a service: sixty series, with Tiled away, the analysis killed, files late."""

import contextlib
import os
import random
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import typer
from bluesky import plans as bp
from bluesky.run_engine import RunEngine
from bluesky_tiled_plugins import TiledWriter

from tests.support.relay import Relay
from tests.support.serving import Serving, speckle, stripes, wait_for_result, write_settings
from xpcs_live_denoise import ResultNotFoundError, analyse, results
from xpcs_live_denoise.catalog.server import EmbeddedServer
from xpcs_live_denoise.commands.deliver import deliver
from xpcs_live_denoise.commands.replay import replay_runs
from xpcs_live_denoise.simulation import (
    SimulatedClassicEiger,
    SimulatedEiger,
    fly_series,
    recorded,
)
from xpcs_live_denoise.sources.remote.publisher import document_publisher

pytestmark = [pytest.mark.system, pytest.mark.soak, pytest.mark.timeout(2400)]

N_SERIES, N_FRAMES, RATE_HZ = 60, 200, 20.0
# Kills come before: what memory and threads are compared with is the same process at the end.
STEADY_FROM, N_KILLS = 10, 3
SHAPE = (40, 50)
AWAY = ("refuse", "hang", "500")


class Faults:
    """What happens to one series, at a random time within it."""

    def __init__(self, relay, rng):
        self._relay, self._rng = relay, rng

    def during(self, kind, serving):
        """Return the started thread that brings a fault, and takes it away."""
        begin, lasts = self._rng.uniform(0.5, 7.0), self._rng.uniform(0.5, 6.0)

        def run():
            time.sleep(begin)
            if kind == "kill":
                serving.kill()
            elif kind == "refuse":
                self._relay.close()
                time.sleep(lasts)
                self._relay.open()
            elif kind in AWAY:
                self._relay.delay_s = lasts if kind == "hang" else 0.0
                self._relay.broken = kind == "500"
                time.sleep(lasts)
                self._relay.delay_s, self._relay.broken = 0.0, False

        thread = threading.Thread(target=run)
        thread.start()
        return thread


def resident_bytes(pid):
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def n_threads(pid):
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def series(engine, frames, folder, *, late):
    """Take a series, of a classic Eiger whose files come late, or by stream documents."""
    if not late:
        detector = SimulatedEiger(
            recorded(frames), folder, n_frames=N_FRAMES, name="eiger", frame_rate_hz=RATE_HZ
        )
        return engine(fly_series(detector))[0]
    detector = SimulatedClassicEiger(
        recorded(frames),
        folder,
        n_frames=N_FRAMES,
        images_per_file=50,
        name="eiger",
        frame_rate_hz=RATE_HZ,
        write_delay_s=1.0,
        copy_s=1.5,
    )
    return engine(bp.count([detector]))[0]


def is_complete(client, uid):
    try:
        result = results(client, uid)
    except ResultNotFoundError:
        return False
    return result.metadata.get("stop", {}).get("exit_status") == "success"


def test_twelve_minutes_of_a_service_lose_no_frame(tmp_path, monkeypatch):
    rng, frames = random.Random(15), speckle(N_FRAMES, SHAPE, seed=7)
    kinds = [rng.choice(("none", "late", *AWAY)) for _ in range(N_SERIES)]
    for number in rng.sample(range(1, STEADY_FROM - 1), N_KILLS):
        kinds[number] = "kill"
    uids, memory, threads, last_kill = [], {}, {}, -1
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(EmbeddedServer(tmp_path / "catalog", readable=tmp_path))
        relay = Relay(server.uri)
        stack.callback(relay.close)
        settings = write_settings(
            tmp_path, stripes(SHAPE, 2), relay.uri, frame_time_s=0.05, denoise=False
        )
        monkeypatch.setenv("TILED_API_KEY", server.api_key)
        expected = analyse(frames, settings)
        engine = RunEngine({}, context_managers=[])
        engine.subscribe(TiledWriter(server.client()["raw"], batch_size=1))
        faults = Faults(relay, rng)

        def serve(address="0"):
            options, state = ("--bind", "--documents", address), tmp_path / "state"
            process = Serving(tmp_path / "xpcs.yml", server.api_key, state, options)
            return stack.enter_context(process)

        serving = serve()
        address = serving.address
        publisher = document_publisher(address)
        stack.callback(publisher.close)
        engine.subscribe(publisher)
        for number, kind in enumerate(kinds):
            fault = faults.during(kind, serving)
            uids.append(series(engine, frames, tmp_path / "detector", late=kind == "late"))
            fault.join()
            if kind == "kill":
                serving, last_kill = serve(address), number
                time.sleep(2)  # until the publisher has found it
            elif number >= STEADY_FROM - 1:
                memory[number] = resident_bytes(serving.pid)
                threads[number] = n_threads(serving.pid)
        # The tenth series of the process that ran to the end: one that has just begun is smaller.
        tenth = max(STEADY_FROM, last_kill + STEADY_FROM)
        first, last = memory[tenth], memory[max(memory)]
        print(f"{len(uids)} series, MB: {[round(one / 1e6) for one in memory.values()]}")
        client = server.client()
        for uid in uids[last_kill + 1 :]:
            wait_for_result(client, uid)
        assert serving.terminate() == 0
        # Before the last kill some results wait in the spool, and some analyses were cut off.
        spool = tmp_path / "state" / "xpcs-live-denoise" / "spool"
        with contextlib.suppress(typer.Exit):  # the processes of these runs died
            deliver(tmp_path / "xpcs.yml", spool)
        killed = [uid for uid in uids[: last_kill + 1] if not is_complete(client, uid)]
        replay_runs(settings, killed)
        for uid in uids:
            result = wait_for_result(client, uid)
            assert result.metadata["stop"]["exit_status"] == "success", result.metadata["stop"]
            np.testing.assert_allclose(result.c2(denoised=False), expected.c2, atol=1e-5)
    assert last < 1.05 * first
    assert threads[max(threads)] <= threads[tenth]
