"""Twenty runs with a server that refuses, hangs, answers 500, is killed: nothing is lost."""

import os
import random
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from tiled.queries import Eq

from tests.support.live_runs import ROIS, Fake, composed_run, offline, series
from tests.support.relay import Relay
from xpcs_live_denoise import LiveDenoise, Settings, results
from xpcs_live_denoise.catalog.server import EmbeddedServer
from xpcs_live_denoise.live import Timings
from xpcs_live_denoise.sinks.spool import spooled_folders

pytestmark = [pytest.mark.system, pytest.mark.soak, pytest.mark.timeout(900)]

N_RUNS, N_FRAMES = 20, 60


class Faults:
    """Takes the server away in one of four ways, and gives it back."""

    def __init__(self, server, relay):
        self._server, self._relay = server, relay

    def begin(self, kind):
        if kind == "refuse":
            self._relay.close()
        elif kind == "hang":
            os.kill(self._pid, signal.SIGSTOP)
        elif kind == "500":
            self._relay.broken = True
        elif kind == "kill":
            os.kill(self._pid, signal.SIGKILL)
            self._server.stop()

    def end(self, kind):
        if kind == "refuse":
            self._relay.open()
        elif kind == "hang":
            os.kill(self._pid, signal.SIGCONT)
        elif kind == "500":
            self._relay.broken = False
        elif kind == "kill":
            self._server.start()

    @property
    def _pid(self):
        """The server's: the process that this one started last."""
        listings = Path("/proc/self/task").glob("*/children")
        processes = [pid for listing in listings for pid in listing.read_text().split()]
        return int(max(processes, key=started_at))


def started_at(pid):
    """Clock ticks from the start of the machine to that of a process, proc(5)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_twenty_runs_with_a_server_that_comes_and_goes(tmp_path, monkeypatch):
    rng, frames = random.Random(9), series(N_FRAMES)
    expected, uids, memory = offline(frames), [], []
    with EmbeddedServer(tmp_path / "catalog", readable=tmp_path) as server:
        monkeypatch.setenv("TILED_API_KEY", server.api_key)
        relay = Relay(server.uri)
        faults = Faults(server, relay)
        live = LiveDenoise(
            Settings(
                detector="cam",
                frame_time_s=0.01,
                publish_period_s=0.2,
                outliers="off",
                spool=tmp_path / "spool",
                tiled={"uri": relay.uri},
            ),
            rois=ROIS,
            ensemble=Fake(),
            timings=Timings(first_pause_s=0.1, longest_pause_s=0.3, slow_s=0.2, request_s=2.0),
        )
        for number in range(N_RUNS):
            kind = ["none", "refuse", "hang", "500", "kill"][number % 5]
            begin, end = sorted(rng.sample(range(N_FRAMES + 1), 2))
            uid, send, stop = composed_run(live)
            uids.append(uid)
            for index, frame in enumerate(frames):
                if index == begin:
                    faults.begin(kind)
                if index == end:
                    faults.end(kind)
                send(frame)
                time.sleep(0.01)
            stop()
            if end == N_FRAMES:
                faults.end(kind)
            memory.append(resident_bytes())
        assert live.wait(300)
        assert memory[-1] < memory[N_RUNS // 2] + 50 * 2**20
        assert not spooled_folders(tmp_path / "spool")
        client = server.client()
        for uid in uids:
            found = client["processed"].search(Eq("start.original_run_uid", uid))
            assert len(found) == 1
            result = results(client, uid)
            assert result.metadata["stop"]["exit_status"] == "success"
            np.testing.assert_allclose(result.c2(denoised=False), expected.c2, rtol=1e-5)
            gamma = result.base["gamma"].base["internal"].read()
            assert not gamma.duplicated(["roi", "age_frame", "source", "width", "final"]).any()
            assert int(gamma["final"].sum()) == len(expected.gamma)
        assert live.close(20)
        ours = [thread.name for thread in threading.enumerate() if "xpcs" in thread.name]
        # The pool that computes is one for the process, and stays.
        assert {name.rpartition("_")[0] for name in ours} <= {"xpcs-compute"}, ours
        relay.close()
