"""Time until a first row of Gamma(t) is visible to another process's Tiled client.

    python -m tests.benchmarks.first_row [--frames 300] [--runs 2] [--kind stream eiger]

Counted from the moment the frame that completes the first window is on disk. A real RunEngine
takes 512 x 512 frames at 100 a second with 10 ROIs (72,000 pixels), as stream documents every
0.25 s or as the files of a followed Eiger, 50 frames each; a real embedded server stores, and a
client of its own process looks for rows six times a second: its looks
take the server's time. The first run of a process also loads torch and the client of Tiled.
"""

from __future__ import annotations

import argparse
import functools
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import bluesky.plans as bp
import numpy as np
from bluesky.run_engine import RunEngine

from tests.benchmarks.two_time import ring_map
from xpcs_live_denoise import LiveDenoise, Settings
from xpcs_live_denoise.catalog.server import EmbeddedServer
from xpcs_live_denoise.simulation import SimulatedClassicEiger, SimulatedEiger, fly_series, recorded

WINDOW, IMAGES_PER_FILE, RATE_HZ = 50, 50, 100.0

# Prints the raw uid and the time of every run whose first row becomes visible.
WATCH = """
import os, sys, time
from tiled.client import from_uri
client = from_uri(sys.argv[1], api_key=os.environ["KEY"])
container, last = client["processed"], None
print("ready", flush=True)
while True:
    time.sleep(0.15)
    try:
        key = container.keys().last()
        address = f"{client.context.api_uri}metadata/processed/{key}/gamma/internal"
        if key == last or client.context.http_client.get(address).status_code != 200:
            continue
        if len(container[key]["gamma"].read()):
            now = time.monotonic()
            print(container[key].metadata["start"]["original_run_uid"], now, flush=True)
            last = key
    except (KeyError, IndexError):
        pass
"""


def frames_of(n_frames: int) -> np.ndarray[Any, Any]:
    """Return frames of a field that forgets itself slowly, 512 x 512, a few counts a pixel."""
    rng = np.random.default_rng(3)
    field = rng.normal(size=(2, 512, 512)).astype(np.float32)
    frames = np.empty((n_frames, 512, 512), np.uint16)
    for frame in frames:
        frame[:] = np.minimum(rng.poisson(0.5 * (field**2).sum(0)), 60000)
        field = 0.98 * field + 0.2 * rng.normal(size=field.shape).astype(np.float32)
    return frames


class Watch:
    """The other process; `seen` has the time at which each run's first row was visible."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WATCH, server.uri],
            env={"KEY": server.api_key, "PATH": "", "HOME": tempfile.gettempdir()},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == "ready"
        self.seen: dict[str, float] = {}
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            uid, moment = line.split()
            self.seen.setdefault(uid, float(moment))


def when(condition: Any) -> list[float]:
    """Note the time at which a condition comes true, from a thread; the list gets it."""
    noted: list[float] = []

    def look() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if condition():
                noted.append(time.monotonic())
                return
            time.sleep(0.002)

    threading.Thread(target=look, daemon=True).start()
    return noted


def _has_more(folder: Path, n_known: int) -> bool:
    return len([*folder.rglob("*_data_000001.h5")]) > n_known


def measure(
    kind: str, frames: Any, n_runs: int, folder: Path, *, period_s: float, prepare: bool
) -> dict[str, Any]:
    """Return the seconds of each run of one fresh process."""
    n_frames = len(frames)
    with EmbeddedServer(folder / "catalog", readable=folder) as server:
        watch = Watch(server)
        client = server.client()
        if kind == "stream":
            detector: Any = SimulatedEiger(
                recorded(frames), folder, n_frames=n_frames, name="eiger", frame_rate_hz=RATE_HZ
            )
        else:
            detector = SimulatedClassicEiger(
                recorded(frames),
                folder / "raw",
                n_frames=n_frames,
                name="eiger",
                frame_rate_hz=RATE_HZ,
                images_per_file=IMAGES_PER_FILE,
            )
        live = LiveDenoise(
            Settings(detector="eiger", publish_period_s=period_s),
            rois=ring_map(512, 10),
            catalog=client,
            device=detector if kind == "eiger" else None,
        )
        if prepare:
            live.prepare()
            time.sleep(20.0)  # torch and the weights
        engine = RunEngine({}, context_managers=[])
        engine.subscribe(live)
        waits = []
        for _ in range(n_runs):
            if kind == "stream":
                detector.n_written = 0
                ready = when(lambda: detector.n_written >= WINDOW)
                (uid,) = engine(fly_series(detector))
            else:
                n_known = len([*folder.rglob("*_data_000001.h5")])
                ready = when(functools.partial(_has_more, folder, n_known))
                (uid,) = engine(bp.count([detector]))
            ended = time.monotonic()
            live.wait(120)
            deadline = time.monotonic() + 30
            while uid not in watch.seen and time.monotonic() < deadline:
                time.sleep(0.05)
            waits.append(round(watch.seen[uid] - ready[0], 2))
            print(kind, f"{waits[-1]} s; before the end of the run: {watch.seen[uid] < ended}")
        watch.process.kill()
        watch.process.wait()
        live.close()
    return {"kind": kind, "seconds": waits}


def main(arguments: list[str] | None = None) -> None:
    """Measure each kind in a process of its own, so that each begins cold."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--period", type=float, default=0.5, help="publish_period_s")
    parser.add_argument("--prepare", action="store_true", help="call LiveDenoise.prepare() first")
    parser.add_argument("--kind", nargs="+", default=["stream", "eiger"])
    options = parser.parse_args(arguments)
    if len(options.kind) > 1:
        for kind in options.kind:
            command = [sys.executable, "-m", "tests.benchmarks.first_row", "--kind", kind]
            command += ["--frames", str(options.frames), "--runs", str(options.runs)]
            command += ["--period", str(options.period), *["--prepare"] * options.prepare]
            subprocess.run(command, check=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        found = measure(
            options.kind[0],
            frames_of(options.frames),
            options.runs,
            Path(folder),
            period_s=options.period,
            prepare=options.prepare,
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
