"""The live chain at 500 frames/s: documents in, rows of Gamma in Tiled for another process."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from xpcs_live_denoise.catalog import EmbeddedServer
from xpcs_live_denoise.config import Settings
from xpcs_live_denoise.errors import MissingDependencyError
from xpcs_live_denoise.live import LiveDenoise
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.numerics.windows import WINDOW
from xpcs_live_denoise.records.types import Array

from .case import POOL_FRAMES, Case, speckle_pixels
from .contest import Contestant, Numbers, Section
from .reading import DATASET, write_frames
from .thread import begin_run, rings_in, stream_datums

SHAPE_1M = (1065, 1030)
RATE_HZ, ANNOUNCED_EACH_S = 500.0, 0.05
WAIT_S = 60.0
WARM_UP = 60  # frames of a first series
FILE, KEY = "frames.h5", "XPCS_BENCH_KEY"
NOTE = (
    "the file holds all frames before, compressed: a detector's own computer does that; analysis, "
    "server and client share the cores"
)
# Prints, for each line that it is sent, the raw uid and the time when the first row of a new run
# becomes visible. It looks no longer than that: each look costs the server 20 ms.
WATCH = """
import os, sys, time
from tiled.client import from_uri
client = from_uri(sys.argv[1], api_key=os.environ["XPCS_BENCH_KEY"])
container, seen = client["processed"], set()
print("ready", flush=True)
for _ in sys.stdin:
    waiting = True
    while waiting:
        time.sleep(0.1)
        try:
            key = container.keys().last()
            if key not in seen and len(container[key]["gamma"].read()):
                print(container[key].metadata["start"]["original_run_uid"], time.time(), flush=True)
                seen.add(key)
                waiting = False
        except (KeyError, IndexError):
            pass
"""


@contextlib.contextmanager
def live_chain(case: Case, shape: tuple[int, int] = SHAPE_1M) -> Iterator[Section]:
    """Make the section of a run whose documents announce frames that are in a file already.

    LiveDenoise reads, analyses, denoises and stores; an embedded server serves a client that is a
    process of its own.
    """
    n_frames = 100 if case.quick else 2000
    rois = rings_in(case.n_pixels, case.n_rois, shape)
    title = f"Live chain: {n_frames:,} frames of {shape[0]} x {shape[1]} at {RATE_HZ:g} a second, "
    title += f"{len(rois.pixels):,} ROI pixels, embedded Tiled"
    with tempfile.TemporaryDirectory(prefix="xpcs-bench-") as name, contextlib.ExitStack() as stack:
        folder, missing, run = Path(name), "", dict
        try:
            server = EmbeddedServer(
                folder / "catalog", readable=folder, log_path=folder / "tiled.log"
            )
            stack.enter_context(server)
        except MissingDependencyError as error:
            missing = str(error)
        else:
            write_frames(folder / FILE, n_frames, shape, speckle_frames(case, rois, n_frames))
            run = partial(_run, server, folder, rois, n_frames)
        yield Section(
            title=title,
            contestants=[Contestant(name="live", run=run, note=NOTE, missing=missing)],
            repeats=1,
        )


def speckle_frames(case: Case, rois: RoiMap, n_frames: int) -> Iterator[Array]:
    """Yield frames (rows, cols) that differ, as many as are repeated: speckle in the ROIs."""
    pixels = speckle_pixels(min(n_frames, POOL_FRAMES), len(rois.pixels), case.mean_counts)
    around = np.random.default_rng(5).poisson(case.mean_counts, rois.shape)
    for of_rois in pixels:
        frame = around.astype(np.uint32)
        frame.reshape(-1)[rois.pixels] = of_rois
        yield frame


def _run(server: EmbeddedServer, folder: Path, rois: RoiMap, n_frames: int) -> Numbers:
    """Take a short series first, as a session does, then the one that counts."""
    settings = Settings(
        detector="eiger", frame_time_s=1 / RATE_HZ, spool=folder / "spool"
    )  # not the user's
    live = LiveDenoise(settings, rois=rois, catalog=server.client(), report=None)
    try:
        with Watch(server) as watch:
            for n in (WARM_UP, n_frames):
                found = _take(live, rois.shape, folder / FILE, n, watch)
        return found
    finally:
        live.close()


def _take(
    live: LiveDenoise, shape: tuple[int, int], file: Path, n_frames: int, watch: Watch
) -> Numbers:
    """Send the documents of a series at the detector's rate and wait for its result."""
    run, stream = begin_run(live, shape, 1 / RATE_HZ, external="STREAM:")
    uid, each = run.start_doc["uid"], round(RATE_HZ * ANNOUNCED_EACH_S)
    documents = stream_datums(
        run, stream, n_frames, path=str(file), dataset=DATASET, frames_each=each
    )
    watch.look()
    begin = time.time()
    complete = begin + min(n_frames, WINDOW) / RATE_HZ
    for number, some in enumerate(documents, 1):
        time.sleep(max(0.0, begin + number * ANNOUNCED_EACH_S - time.time()))
        for name, doc in some:
            live(name, doc)
    live("stop", run.compose_stop())
    ended = time.time()
    stored = live.wait(WAIT_S)
    status = live.status[uid]
    found = {
        ("lag at the end", "s"): status.lag_s,
        ("frames lost", "frames"): float(status.n_skipped),
    }
    if stored:
        found["result stored after the end", "s"] = time.time() - ended
    if (seen := watch.seen(uid)) is not None:
        found["first row seen by a client", "s"] = seen - complete
    return found


class Watch:
    """Another process, a client of Tiled, that tells when it sees the first row of a run.

    A context. Its state is the process and the times that it has told.
    """

    def __init__(self, server: EmbeddedServer) -> None:
        self._process = subprocess.Popen(  # noqa: S603 (this Python, our text)
            [sys.executable, "-c", WATCH, server.uri],
            env={**os.environ, KEY: server.api_key},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._times: dict[str, float] = {}
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Watch:
        """Wait until it looks."""
        self._output.readline()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._thread.join()
        for stream in (self._input, self._output):
            stream.close()

    def look(self) -> None:
        """Let it look for the next run until its first row is there."""
        self._input.write("\n")
        self._input.flush()

    @property
    def _input(self) -> IO[str]:
        assert self._process.stdin is not None  # noqa: S101 (for the type checker)
        return self._process.stdin

    @property
    def _output(self) -> IO[str]:
        assert self._process.stdout is not None  # noqa: S101 (for the type checker)
        return self._process.stdout

    def _listen(self) -> None:
        for line in self._output:
            uid, moment = line.split()
            self._times[uid] = float(moment)

    def seen(self, uid: str, timeout_s: float = 5.0) -> float | None:
        """Return when the first row of a run was seen, s since the epoch; None: not in time."""
        deadline = time.monotonic() + timeout_s
        while uid not in self._times and time.monotonic() < deadline:
            time.sleep(0.05)
        return self._times.get(uid)
