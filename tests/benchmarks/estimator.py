"""Accuracy of the live estimator on simulated series whose Gamma(t) is known.

    python -m tests.benchmarks.estimator [--seeds 5] [--cases fast step ...]

A row a case and seed: RMS error of ln Gamma and share of ages recommended, final and as a live run
says them 25 and 12 frames behind; coverage of one and two standard errors; T; the reasons given.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpcs_live_denoise.numerics.estimator.ages import AgeEstimates, BayesEstimator, reasons
from xpcs_live_denoise.numerics.estimator.sums import AgeSums
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.numerics.simulate import simulate_speckle
from xpcs_live_denoise.numerics.two_time import TwoTimeAccumulator

N_FRAMES, SHAPE, CONTRAST = 350, (40, 50), 0.125


@dataclass(frozen=True, kw_only=True)
class Case:
    """Dynamics of a series and how it was measured; `kind` says what is added to the speckle."""

    rate: Any
    alpha: Any = 1.0
    counts: float = 0.3
    speckle_size: float = 1.0
    kind: str = "homodyne"
    shape: tuple[int, int] = SHAPE


def falling(first: float, last: float) -> np.ndarray[Any, Any]:
    """Return rates that fall exponentially."""
    return np.geomspace(first, last, N_FRAMES)


RISING_ALPHA = np.linspace(1.0, 1.5, N_FRAMES)
STEP = np.where(np.arange(N_FRAMES) < N_FRAMES // 2, 0.08, 0.016)
CASES = {
    "ageing": Case(rate=falling(0.2, 0.02), alpha=RISING_ALPHA),
    "fast": Case(rate=falling(0.3, 0.03), alpha=RISING_ALPHA),
    "step": Case(rate=STEP),
    "constant": Case(rate=0.05),
    "bright": Case(rate=falling(0.2, 0.02), alpha=RISING_ALPHA, counts=5.0, speckle_size=4.0),
    "heterodyne": Case(rate=0.05, counts=5.0, kind="heterodyne"),
    "heterodyne_dim": Case(rate=0.05, counts=1.0, kind="heterodyne"),
    "too_fast": Case(rate=2.0),
    "too_fast_bright": Case(rate=2.0, counts=5.0),
    "too_slow": Case(rate=3e-4),
    "too_slow_bright": Case(rate=3e-4, counts=5.0),
}


def frames_of(case: Case, seed: int) -> np.ndarray[Any, Any]:
    """Return the frames of a case, (N_FRAMES, rows, cols)."""
    if case.kind == "homodyne":
        return np.concatenate(
            list(
                simulate_speckle(
                    case.shape,
                    N_FRAMES,
                    relaxation_rate=case.rate,
                    alpha=case.alpha,
                    contrast=CONTRAST,
                    mean_counts=case.counts,
                    speckle_size=case.speckle_size,
                    seed=seed,
                )
            )
        )
    return _mixed(case, seed)


def _mixed(
    case: Case, seed: int, *, share: float = 0.3, turn: float = 0.15
) -> np.ndarray[Any, Any]:
    """Return frames of a field that fluctuates plus one that stands still.

    The still field turns its phase by `turn` a frame, so that g2 oscillates.
    """
    rng = np.random.default_rng([seed, 7])
    n_mode, memory = round(1 / CONTRAST), np.exp(-case.rate)
    size = (n_mode, *case.shape)

    def noise() -> np.ndarray[Any, Any]:
        return (rng.normal(size=size) + 1j * rng.normal(size=size)) / np.sqrt(2)

    still, field, frames = noise(), noise(), []
    for frame in range(N_FRAMES):
        if frame:
            field = memory * field + np.sqrt(1 - memory**2) * noise()
        phase = np.exp(1j * turn * frame)
        intensity = np.abs(np.sqrt(1 - share) * field + np.sqrt(share) * phase * still) ** 2
        frames.append(rng.poisson(case.counts * intensity.mean(axis=0)))
    return np.array(frames, np.uint16)


@dataclass(frozen=True, kw_only=True)
class Score:
    """What one set of estimates is worth."""

    rms: float
    recommended: float
    within_one: float
    within_two: float
    misfit: float
    reasons: dict[str, int]

    def __str__(self) -> str:
        return (
            f"rms {self.rms:.3f} recommended {self.recommended:.2f} coverage "
            f"{self.within_one:.2f} {self.within_two:.2f} T {self.misfit:.1f} {self.reasons}"
        )


def score(case: Case, parts: list[AgeEstimates]) -> Score:
    """Compare estimates with the truth at their ages."""
    row = np.concatenate([part.row for part in parts])
    estimate = np.concatenate([part.fits.ln_rate for part in parts])
    error = np.concatenate([part.ln_rate_error for part in parts])
    why = np.concatenate([reasons(part) for part in parts])
    truth = np.log(np.broadcast_to(case.rate, N_FRAMES))[row]
    good = why == ""
    deviation = (estimate - truth)[good]
    return Score(
        rms=float(np.sqrt(np.mean(deviation**2))) if good.any() else float("nan"),
        recommended=float(np.mean(good & (error <= 0.5))),
        within_one=float(np.mean(np.abs(deviation) < error[good])) if good.any() else float("nan"),
        within_two=float(np.mean(np.abs(deviation) < 2 * error[good]))
        if good.any()
        else float("nan"),
        misfit=parts[-1].misfit,
        reasons=dict(Counter(why.tolist())),
    )


def final(frames: np.ndarray[Any, Any]) -> AgeEstimates:
    """Estimate every age from the whole series."""
    return BayesEstimator(0).estimate(sums_of(frames), np.arange(len(frames)))


def sums_of(frames: np.ndarray[Any, Any]) -> AgeSums:
    """Return the sums of a whole series."""
    rois = RoiMap.from_labels(np.ones(frames.shape[1:], np.int64))
    accumulator = TwoTimeAccumulator(rois, sums=True)
    accumulator.append(frames)
    return accumulator.age_sums


def live(
    frames: np.ndarray[Any, Any], behind: Sequence[int] = (25, 12), step: int = 5
) -> dict[int, list[AgeEstimates]]:
    """Estimate the age that is so many frames behind, every `step` frames from frame 50 on."""
    rois = RoiMap.from_labels(np.ones(frames.shape[1:], np.int64))
    accumulator = TwoTimeAccumulator(rois, sums=True)
    estimators = {one: BayesEstimator(0) for one in behind}
    told: dict[int, list[AgeEstimates]] = {one: [] for one in behind}
    for start in range(0, len(frames), step):
        accumulator.append(frames[start : start + step])
        n = accumulator.n_frames
        if n < 50:
            continue
        for one, estimator in estimators.items():
            ages = np.arange(n - one - step + 1, n - one + 1)
            told[one].append(estimator.estimate(accumulator.age_sums, ages))
    return told


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Accuracy of the live estimator.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cases", nargs="*", default=list(CASES))
    parser.add_argument("--live", action="store_true")
    options = parser.parse_args(arguments)
    for name in options.cases:
        case = CASES[name]
        for seed in range(options.seeds):
            frames = frames_of(case, seed)
            begin = time.perf_counter()
            print(f"{name:16s} {seed} final {score(case, [final(frames)])}", end="")
            print(f" {time.perf_counter() - begin:.1f} s", flush=True)
            if options.live:
                for behind, parts in live(frames).items():
                    print(f"{name:16s} {seed} {behind:5d} {score(case, parts)}", flush=True)


if __name__ == "__main__":
    main()
