"""What the open window costs the RunEngine: time of a plan with it over time without it.

    python -m tests.benchmarks.plot_cost [--frames 400] [--repeats 5] [--kinds streamed counted]

Both are the same analysis in the same process, in turns, with a window that is open already; the
median of the ratios counts.
"streamed" is a detector that writes files at 50 frames/s, as for `series`; "counted" is a camera
whose frames are in the events of `count`, as fast as the RunEngine can take them, where every bit
of the interpreter that drawing takes is missing. Without a screen it starts Xvfb.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

# Most that the window may add, and for which kind the project promises it.
LIMIT, PROMISED = 0.02, "streamed"
KINDS = ("streamed", "counted")


def measure(
    kinds: Sequence[str], n_frames: int, rate_hz: float, repeats: int
) -> dict[str, list[list[float]]]:
    """Return for each kind times (s) without the window and with it, and how often it was drawn."""
    import matplotlib as mpl

    mpl.use("qtagg")
    import bluesky.plans as bp
    from bluesky.run_engine import RunEngine

    from xpcs_live_denoise import LiveDenoise, Settings
    from xpcs_live_denoise.demo_series import simulated_series
    from xpcs_live_denoise.pipeline import open_ensemble
    from xpcs_live_denoise.sinks.memory import MemorySink
    from xpcs_live_denoise.sinks.plot import LivePlot
    from xpcs_live_denoise.sources.simulated import (
        SimulatedCamera,
        SimulatedEiger,
        fly_series,
        recorded,
    )

    sample = simulated_series(n_frames, 5)
    frames = recorded(np.concatenate(list(sample.frames())))
    engine = RunEngine({}, context_managers=[])
    settings = Settings(detector="cam")
    ensemble = open_ensemble(settings)
    times: dict[str, list[list[float]]] = {kind: [[], [], []] for kind in kinds}
    with tempfile.TemporaryDirectory() as folder:

        def plan(kind: str):
            if kind == "counted":
                return bp.count([SimulatedCamera(frames, name="cam")], num=n_frames)
            options = {"n_frames": n_frames, "name": "cam", "frame_rate_hz": rate_hz}
            return fly_series(SimulatedEiger(frames, Path(folder), **options))

        window = LivePlot()

        def run(kind: str, plot: bool) -> tuple[float, int]:
            options = {"plot": window} if plot else {}
            live = LiveDenoise(settings, rois=sample.rois, sinks=[MemorySink], **options)
            live._ensemble = ensemble
            token = engine.subscribe(live)
            ticks = {}
            clock = engine.subscribe(lambda name, _doc: ticks.update({name: time.perf_counter()}))
            before = window.window.n_draws
            begin, work = time.perf_counter(), time.thread_time()
            engine(plan(kind))
            work = time.thread_time() - work
            seconds = time.perf_counter() - begin
            engine.unsubscribe(token)
            engine.unsubscribe(clock)
            print(
                f"  {kind}, {'window' if plot else 'none'}: {seconds:.3f} s, "
                f"{ticks['stop'] - ticks['start']:.3f} s from start to stop document, main thread "
                f"{work:.3f} s of CPU"
            )
            live.wait(120)
            live.close()
            draws = window.window.n_draws - before
            window.draw_now()
            return seconds, draws

        for kind in kinds:
            run(kind, True)  # imports, fonts, and the window opens
            for repeat in range(repeats):
                for plot in (False, True) if repeat % 2 else (True, False):
                    seconds, draws = run(kind, plot)
                    times[kind][int(plot)].append(seconds)
                    if plot:
                        times[kind][2].append(draws)
        window.close()
    return times


def report(times: dict[str, list[list[float]]]) -> bool:
    """Print the ratios; return whether the promise is kept."""
    kept = True
    for kind, (without, with_window, draws) in times.items():
        ratios = np.array(with_window) / np.array(without)
        print(
            f"{kind}: {np.median(without):.3f} s without, {np.median(with_window):.3f} s with the "
            f"window ({np.median(draws):.0f} draws); ratio {np.median(ratios):.4f} "
            f"({ratios.min():.4f} to {ratios.max():.4f})"
        )
        if kind == PROMISED:
            kept = bool(np.median(ratios) <= 1 + LIMIT)
            print(f"within {LIMIT:.0%}: {'yes' if kept else 'NO'}")
    return kept


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if the window costs more than it may, else 0."""
    parser = argparse.ArgumentParser(description="What the live window costs the RunEngine.")
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--rate", type=float, default=50.0, help="frames/s of the detector")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    options = parser.parse_args(arguments)
    if not os.environ.get("DISPLAY"):
        from tests.sinks.xvfb import virtual_screen

        again = [sys.executable, "-m", "tests.benchmarks.plot_cost", *(arguments or sys.argv[1:])]
        with virtual_screen() as environment:
            return subprocess.run(again, env=environment, check=False).returncode
    return 0 if report(measure(options.kinds, options.frames, options.rate, options.repeats)) else 1


if __name__ == "__main__":
    sys.exit(main())
