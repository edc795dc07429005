"""Frames/s of the two-time engines, and their ratio to scikit-beam measured in the same run.

    python -m tests.benchmarks.two_time [--frames 500] [--size 512] [--rings 10] [--block 10]

scikit-beam's cost grows with the square of the series, so it is measured over its first frames
and its total is extrapolated from the quadratic that they give; `--full` runs it to the end.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.numerics.two_time import TwoTimeAccumulator

# Least ratio to scikit-beam that the project promises, float32 in blocks of 10.
FLOOR = 40.0


def ring_map(size: int, n_rings: int) -> RoiMap:
    """Return `n_rings` touching rings; 10 of them hold 72,000 of 512 x 512 pixels."""
    outer = 0.2963 * size
    radii = np.linspace(0.02 * size, outer, n_rings + 1)
    edges = np.stack([radii[:-1], radii[1:]], axis=1)
    return RoiMap.rings((size, size), ((size - 1) / 2, (size - 1) / 2), edges)


def seconds_ours(
    frames: np.ndarray[Any, Any], rois: RoiMap, block: int, dtype: str, engine: str
) -> float:
    """Return the time to append the series in blocks, gather included; memory not reserved."""
    accumulator = TwoTimeAccumulator(rois, engine=engine, dtype=dtype)
    begin = time.perf_counter()
    for start in range(0, len(frames), block):
        accumulator.append(frames[start : start + block])
    return time.perf_counter() - begin


def seconds_skbeam(frames: np.ndarray[Any, Any], rois: RoiMap, n_measured: int) -> float:
    """Return the time scikit-beam's `lazy_two_time` needs for the series, maybe extrapolated.

    Frame i costs a + b i; the two are fitted to the frames that were run.
    """
    from skbeam.core.correlation import lazy_two_time

    n = len(frames)
    even = n + n % 2
    ticks = [time.perf_counter()]
    for _ in lazy_two_time(rois.label_array, frames[:n_measured], even, even):
        ticks.append(time.perf_counter())
    cost = np.diff(ticks)
    if n_measured >= n:
        return float(cost.sum())
    slope, offset = np.polyfit(np.arange(n_measured), cost, 1)
    return float(offset * n + slope * n * (n - 1) / 2)


def run(n_frames: int, size: int, n_rings: int, block: int, n_skbeam: int) -> dict[str, float]:
    """Return frames/s of every engine and the ratios to scikit-beam."""
    rois = ring_map(size, n_rings)
    frames = np.random.default_rng(1).poisson(1.0, (n_frames, size, size)).astype(np.uint16)
    rate = {"skbeam": n_frames / seconds_skbeam(frames, rois, min(n_skbeam, n_frames))}
    for dtype in ("float32", "float64"):
        seconds = min(seconds_ours(frames, rois, block, dtype, "dense") for _ in range(2))
        rate[f"dense {dtype}"] = n_frames / seconds
        rate[f"ratio {dtype}"] = rate[f"dense {dtype}"] / rate["skbeam"]
    rate["n_pixels"] = len(rois.pixels)
    return rate


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 if float32 is below the floor, else 0."""
    parser = argparse.ArgumentParser(description="Frames/s of the two-time engines.")
    parser.add_argument("--frames", type=int, default=500)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rings", type=int, default=10)
    parser.add_argument("--block", type=int, default=10)
    parser.add_argument("--floor", type=float, default=FLOOR, help="least ratio to scikit-beam")
    parser.add_argument("--full", action="store_true", help="run scikit-beam to the last frame")
    options = parser.parse_args(arguments)
    n_skbeam = options.frames if options.full else 60
    rate = run(options.frames, options.size, options.rings, options.block, n_skbeam)
    print(
        f"{options.frames} frames of {options.size} x {options.size}, {options.rings} rings, "
        f"{rate['n_pixels']:.0f} pixels, blocks of {options.block}"
    )
    print(f"scikit-beam lazy_two_time  {rate['skbeam']:8.1f} frames/s")
    for dtype in ("float32", "float64"):
        print(
            f"dense {dtype}              {rate[f'dense {dtype}']:8.1f} frames/s   "
            f"{rate[f'ratio {dtype}']:.1f} times scikit-beam"
        )
    reached = rate["ratio float32"] >= options.floor
    print(f"floor {options.floor:g} times: {'reached' if reached else 'NOT reached'}")
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
