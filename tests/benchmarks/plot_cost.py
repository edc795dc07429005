"""What the open window costs: a plan's time with it over that without it, and each update of it.

    python -m tests.benchmarks.plot_cost [--frames 400] [--repeats 5]
        [--kinds updates streamed counted]

"updates" draws the publications of a series one after the other: CPU of the main thread for each,
the least of the repeats, each with a new window; and how often that can be in the share of the main
thread that the window takes.

Of the other kinds both are the same analysis in the same process, in turns, with a window that is
open already; the median of the ratios counts.
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
KINDS = ("updates", "streamed", "counted")
# Every so many seconds there is something new to draw.
PERIOD_S = 0.1


def measure(
    kinds: Sequence[str], n_frames: int, rate_hz: float, repeats: int
) -> dict[str, list[list[float]]]:
    """Return for each kind times (s) without the window and with it, and how often it was drawn."""
    import matplotlib as mpl

    mpl.use("qtagg")
    import bluesky.plans as bp
    from bluesky.run_engine import RunEngine

    from xpcs_live_denoise import LiveDenoise, Settings
    from xpcs_live_denoise.analysis.series import open_ensemble
    from xpcs_live_denoise.simulation import (
        SimulatedCamera,
        SimulatedEiger,
        fly_series,
        recorded,
        simulated_series,
    )
    from xpcs_live_denoise.sinks.memory import MemorySink
    from xpcs_live_denoise.window.live_plot import LivePlot

    sample = simulated_series(n_frames, 5)
    frames = recorded(np.concatenate(list(sample.frames())))
    engine = RunEngine({}, context_managers=[])
    settings = Settings(detector="cam")
    ensemble, _ = open_ensemble(settings)
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
            live = LiveDenoise(
                settings, rois=sample.rois, sinks=[MemorySink], ensemble=ensemble, **options
            )
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


def measure_updates(n_frames: int, rate_hz: float, repeats: int) -> list[float]:
    """Return for each update its cost in s; print the live rate."""
    import matplotlib as mpl

    mpl.use("qtagg")
    from bluesky.run_engine import RunEngine

    from xpcs_live_denoise import LiveDenoise, Settings
    from xpcs_live_denoise.simulation import SimulatedEiger, fly_series, recorded, simulated_series
    from xpcs_live_denoise.sinks.memory import MemorySink
    from xpcs_live_denoise.window.live_plot import LivePlot

    sample = simulated_series(n_frames, 5)
    frames = recorded(np.concatenate(list(sample.frames())))
    engine, sinks, plot = RunEngine({}, context_managers=[]), [], LivePlot()

    def memory(info):
        sinks.append(MemorySink(info))
        return sinks[-1]

    live = LiveDenoise(
        Settings(detector="cam", publish_period_s=PERIOD_S),
        rois=sample.rois,
        sinks=[memory],
        plot=plot,
    )
    engine.subscribe(live)
    for _ in range(2):  # the first one loads the ensemble, imports, finds fonts, opens the window
        with tempfile.TemporaryDirectory() as folder:
            options = {"n_frames": n_frames, "name": "cam", "frame_rate_hz": rate_hz}
            before, begin = plot.window.n_draws, time.perf_counter()
            engine(fly_series(SimulatedEiger(frames, Path(folder), **options)))
            seconds, draws = time.perf_counter() - begin, plot.window.n_draws - before
            live.wait(120)
    live.close()
    plot.close()
    news = len(sinks[-1].publications)
    print(f"live: {draws} draws in {seconds:.1f} s, while {news} publications came")
    return replayed(sinks[-1], repeats)


def replayed(sink, repeats: int) -> list[float]:
    """Draw all records of a run, each as soon as it is there; return the cost (s) of each."""
    from matplotlib.backends.qt_compat import QtWidgets

    from xpcs_live_denoise.window.live_plot import LivePlot

    best: list[float] = []
    for _ in range(repeats):
        plot, costs = LivePlot(), []
        written = plot(sink.info)
        QtWidgets.QApplication.processEvents()
        for record in (*sink.publications, sink.result):
            written.write(record)
            begin = time.thread_time()
            plot.draw_now()
            costs.append(time.thread_time() - begin)
        plot.close()
        QtWidgets.QApplication.processEvents()
        best = [min(pair) for pair in zip(best, costs, strict=True)] if best else costs
    return best[1:]  # the first one finds fonts


def report_updates(costs: list[float]) -> None:
    """Print what updates cost and how often they can come."""
    from xpcs_live_denoise.window.qt_window import LEAST_PERIOD_S, SHARE

    cost = float(np.median(costs))
    print(
        f"an update: {1000 * cost:.1f} ms ({1000 * min(costs):.1f} to {1000 * max(costs):.1f}, "
        f"{len(costs)} updates), so one every {max(LEAST_PERIOD_S, cost / SHARE):.2f} s"
    )


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
        from tests.support.xvfb import virtual_screen

        again = [sys.executable, "-m", "tests.benchmarks.plot_cost", *(arguments or sys.argv[1:])]
        with virtual_screen() as environment:
            return subprocess.run(again, env=environment, check=False).returncode
    if "updates" in options.kinds:
        report_updates(measure_updates(options.frames, options.rate, options.repeats))
    plans = [kind for kind in options.kinds if kind != "updates"]
    return 0 if report(measure(plans, options.frames, options.rate, options.repeats)) else 1


if __name__ == "__main__":
    sys.exit(main())
