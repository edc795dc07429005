"""A series through `serve` with the Tiled server away in the middle, against the offline result.

    python -m tests.benchmarks.serve_outage [--frames 2000] [--rois 10] [--outage 30] [--rate 25]

Prints how many frames are missing, and by how much C2 and Gamma differ; 20,000 pixels.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path

from bluesky.run_engine import RunEngine

from tests.support.serving import (
    Serving,
    differences,
    speckle,
    stripes,
    wait_for_result,
    write_settings,
)
from xpcs_live_denoise.catalog.server import EmbeddedServer
from xpcs_live_denoise.simulation import SimulatedEiger, fly_series, recorded
from xpcs_live_denoise.sources.remote.publisher import document_publisher

SHAPE = (100, 200)


def main() -> int:
    """Run it; exit status 1 if a frame is missing or a result differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--rois", type=int, default=10)
    parser.add_argument("--outage", type=float, default=30.0, help="s")
    parser.add_argument("--rate", type=float, default=25.0, help="frames a second")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = measure(Path(name), options)
    good = not found["missing"] and found["c2"] < 1e-5 and found["gamma"] < 1e-2
    return 0 if good else 1


def measure(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Take the series and return the differences."""
    frames = speckle(options.frames, SHAPE)
    rois = stripes(SHAPE, options.rois)
    n_pixels = rois.n_pixels.sum()
    print(f"{len(frames)} frames, {len(rois.labels)} ROIs, {n_pixels} pixels, {options.rate:g} / s")
    with EmbeddedServer(folder / "catalog", log_path=folder / "tiled.log") as server:
        settings = write_settings(folder, rois, server.uri, frame_time_s=1 / options.rate)
        with Serving(folder / "xpcs.yml", server.api_key, folder / "state") as serving:
            publisher = document_publisher(serving.address)
            engine = RunEngine({}, context_managers=[])
            engine.subscribe(publisher)
            taken_s = options.frames / options.rate
            outage = threading.Thread(
                target=away, args=(server, max(1.0, (taken_s - options.outage) / 2), options.outage)
            )
            outage.start()
            detector = SimulatedEiger(
                recorded(frames),
                folder / "detector",
                n_frames=len(frames),
                name="eiger",
                frame_rate_hz=options.rate,
            )
            begin = time.monotonic()
            uid = engine(fly_series(detector))[0]
            print(f"series taken in {time.monotonic() - begin:.1f} s")
            outage.join()
            result = wait_for_result(server.client(), uid, timeout=900)
            print(f"result stored {time.monotonic() - begin:.1f} s after the begin")
            print(f"exit status {result.metadata['stop']['exit_status']}")
            print(f"documents sent {publisher.n_sent}, lost {publisher.n_lost}")
            publisher.close()
            print(f"serve ended with status {serving.terminate()}, and said:\n{serving.output}")
        found = differences(result, frames, settings)
    for what, value in found.items():
        print(f"{what}: {value:.3g}")
    return found


def away(server: EmbeddedServer, after_s: float, for_s: float) -> None:
    """Stop the server for a while."""
    time.sleep(after_s)
    server.stop()
    begin = time.monotonic()
    print(f"Tiled away, {after_s:.1f} s after the begin")
    time.sleep(for_s)
    server.start()
    print(f"Tiled back after {time.monotonic() - begin:.1f} s")


if __name__ == "__main__":
    sys.exit(main())
