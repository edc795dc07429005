"""The path and the cuts on series whose Gamma changes in ways that neither was made for.

    python -m tests.benchmarks.changing_rates [--seeds 6] [--cases constant ...] [--c2-only]

The simulator is not the package's: the field of each mode has a prescribed correlation, made from
the eigenvectors of its matrix, so that any Gamma(t), mixtures and a still part can be asked for.
Truth is the rate of the interval between two frames. A row a case: RMS error of ln Gamma, share of
truths within one and two standard errors, share of ages that are recommended although wrong by more
than 3 errors and 30 %, share recommended, and the reasons of the others; for the path, then cuts.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from xpcs_live_denoise.config import Settings
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.offline import analyse, analyse_c2

N = 350
AGE = np.arange(N)


@dataclass(frozen=True, kw_only=True)
class Case:
    """How a series was measured; `still` is the share of the field that stands still."""

    alpha: float = 1.0
    n_pixel: int = 4000
    counts: float = 0.3
    n_mode: int = 5
    speckle_size: float = 1.0
    second_rate: float = 0.0  # of half of the field, in units of that of the other half
    still: float = 0.0
    n_frames: int = N


CASES: dict[str, tuple[str, Case]] = {
    "constant": ("constant", Case()),
    "ageing": ("ageing", Case()),
    "ageing, alpha 1.5": ("ageing", Case(alpha=1.5)),
    "jump": ("jump", Case()),
    "damage": ("damage", Case()),
    "period 200": ("period 200", Case()),
    "period 100": ("period 100", Case()),
    "period 40": ("period 40", Case()),
    "burst": ("burst", Case()),
    "avalanches": ("avalanches", Case()),
    "dim damage": ("damage", Case(n_pixel=1000, counts=0.1)),
    "dim slow": ("slow", Case(n_pixel=1000, counts=0.1)),
    "fast": ("fast", Case(n_pixel=1000, counts=0.2)),
    "bright constant": ("constant", Case(counts=5.0, speckle_size=3.0)),
    "bright ageing": ("ageing", Case(counts=5.0, speckle_size=3.0)),
    "bright period 40": ("period 40", Case(counts=5.0, speckle_size=3.0)),
    "1000 frames": ("ageing", Case(n_frames=1000)),
    "two rates": ("constant", Case(counts=3.0, second_rate=10.0)),
    "still 30 %": ("constant", Case(still=0.3)),
}


def rates(name: str, n: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Return Gamma per frame at every frame, (n,)."""
    age = np.arange(n)
    if name.startswith("period"):
        phase = rng.uniform(0, 2 * np.pi)
        return 0.05 * 2.2 ** np.sin(2 * np.pi * age / float(name.split()[1]) + phase)
    if name == "burst":
        first = rng.integers(60, n - 60)
        return np.where((age >= first) & (age < first + 10), 0.5, 0.03)
    if name == "avalanches":
        rate, at = np.full(n, 0.01), 0
        while (at := at + 3 + int(rng.exponential(40))) < n:
            rate[at : at + rng.integers(1, 4)] = rng.uniform(0.3, 1.0)
        return rate
    steady = {"constant": 0.05, "slow": 0.008, "fast": 0.2}
    if name in steady:
        return np.full(n, steady[name])
    if name == "ageing":
        return 0.2 * 0.1 ** (age / (n - 1))
    if name == "jump":
        return np.where(age < n // 2, 0.1, 0.02)
    return 0.02 * np.exp(2 * np.clip((age - 0.3 * n) / (0.7 * n), 0, 1))  # damage


def frames_of(case: Case, rate: np.ndarray[Any, Any], seed: int) -> np.ndarray[Any, Any]:
    """Return counts, (n_frames, rows, cols)."""
    rng = np.random.default_rng([seed, 11])
    passed = np.concatenate([[0.0], np.cumsum((rate[1:] + rate[:-1]) / 2)])
    decay = np.abs(passed[:, np.newaxis] - passed)
    matrix = np.exp(-(decay**case.alpha))
    if case.second_rate:
        matrix = (matrix + np.exp(-case.second_rate * decay)) / 2
    matrix = (1 - case.still) * matrix + case.still
    values, vectors = np.linalg.eigh(matrix)
    kept = values > 1e-6 * values.max()
    root = (vectors[:, kept] * np.sqrt(values[kept])).astype(np.float32)
    side = (case.n_pixel // 50, 50)
    intensity = np.zeros((len(rate), case.n_pixel), np.float32)
    for _ in range(2 * case.n_mode):  # real and imaginary parts
        noise = rng.standard_normal((root.shape[1], *side), dtype=np.float32)
        if case.speckle_size > 1:
            noise = ndimage.gaussian_filter(
                noise, (0, *[case.speckle_size / 2.355] * 2), mode="wrap"
            )
            noise /= noise.std()
        intensity += (root @ noise.reshape(len(noise), -1)) ** 2
    counts = rng.poisson(case.counts * intensity / (2 * case.n_mode))
    return counts.astype(np.uint16).reshape(-1, *side)


def truth(rate: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return ln Gamma at every frame: the mean of the intervals before and after it."""
    between = np.log((rate[1:] + rate[:-1]) / 2)
    return (np.append(between[:1], between) + np.append(between, between[-1:])) / 2


def measure(kind: str, case: Case, seed: int, *, c2_only: bool) -> dict[str, tuple[Any, ...]]:
    """Return scores by source of rows, and why rows are not recommended."""
    rate = rates(kind, case.n_frames, np.random.default_rng([seed, 5]))
    frames = frames_of(case, rate, seed)
    rois = RoiMap.from_labels(np.ones(frames.shape[1:], np.int64))
    settings = Settings(detector="cam", denoise=False, frame_time_s=1.0)
    result = analyse(frames, settings, rois=rois)
    if c2_only:
        result = analyse_c2(result.c2, settings=settings)
    scores: dict[str, tuple[Any, ...]] = {}
    for source in ("path", "bayes"):
        rows = result.gamma.select(result.gamma.source == source)
        error = np.log(rows.relaxation_rate) - truth(rate)[rows.age_frame.astype(int)]
        sd = rows.relaxation_rate_error / rows.relaxation_rate
        good = np.isin(rows.reason, ("", "path_is_better"))
        bad = good & (np.abs(error) > 3 * sd) & (np.abs(error) > np.log(1.3))
        scores[source] = (
            np.mean(error**2),
            np.mean(np.abs(error) < sd),
            np.mean(np.abs(error) < 2 * sd),
            bad.mean(),
            good.mean(),
            Counter(rows.reason[~good].tolist()),
        )
    return scores


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--first-seed", type=int, default=900)
    parser.add_argument("--cases", nargs="*", default=list(CASES))
    parser.add_argument("--c2-only", action="store_true")
    options = parser.parse_args(arguments)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    for name in options.cases:
        kind, case = CASES[name]
        found = [measure(kind, case, seed, c2_only=options.c2_only) for seed in seeds]
        line = f"{name:18s}"
        for source in ("path", "bayes"):
            table = np.array([one[source][:5] for one in found], float).mean(axis=0)
            why = sum((one[source][5] for one in found), Counter())
            line += (
                f" {source} RMS {np.sqrt(table[0]):.2f} within {100 * table[1]:.0f} / "
                f"{100 * table[2]:.0f} bad {100 * table[3]:.1f} recommended {100 * table[4]:.0f} %"
                f" {dict(why) or ''};"
            )
        print(line, flush=True)


if __name__ == "__main__":
    main()
