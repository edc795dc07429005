"""The whole analysis with publications, and its parts: estimator, the paper's fits, windows."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.optimize import curve_fit

from xpcs_live_denoise.analysis import Analysis, open_ensemble
from xpcs_live_denoise.config import Settings
from xpcs_live_denoise.errors import XpcsError, install_line
from xpcs_live_denoise.numerics.compiled import prepare
from xpcs_live_denoise.numerics.estimator.ages import BayesEstimator
from xpcs_live_denoise.numerics.estimator.path import PathEstimator
from xpcs_live_denoise.numerics.estimator.sums import AgeSums
from xpcs_live_denoise.numerics.kww import fit_kww, kww
from xpcs_live_denoise.numerics.two_time import TwoTimeAccumulator
from xpcs_live_denoise.numerics.windows import Denoiser
from xpcs_live_denoise.offline import analyse
from xpcs_live_denoise.records.types import Array

from .case import Case, FramePool
from .contest import Contestant, Numbers, Section
from .two_time import BLOCK, WARM_UP

OFFLINE_BLOCK = 50
RATE_HZ = 500.0  # of the detector
SETTINGS = Settings(detector="bench", frame_time_s=1 / RATE_HZ)
BETA, NOISE, N_LAGS = 0.3, 0.03, 50
WINDOWS, NEW_AGES, REFERENCE = 20, 50, 20


@contextlib.contextmanager
def whole_analysis(case: Case) -> Iterator[Section]:
    """Make the section of a series, pixels to Gamma(t), published every half second of data."""
    case = dataclasses.replace(case, n_frames=case.n_series)
    pool = FramePool(case)
    short = dataclasses.replace(case, n_series=min(WARM_UP, case.n_series))
    contestants = [
        Contestant(
            name="analysis",
            run=lambda: whole_series(pool, case, None),
            prepare=lambda: whole_series(pool, short, None),
            note="nothing denoised",
        ),
        Contestant(
            name="analysis, denoised",
            run=lambda: whole_series(pool, case, denoiser()),
            prepare=lambda: whole_series(pool, short, denoiser()),
            missing=why_not_denoised(),
        ),
        Contestant(
            name="analyse of blocks",
            run=lambda: blocks_analysed(pool, case),
            note="nothing denoised, nothing published",
        ),
    ]
    title = f"Whole analysis: {case.title}, a publication every {publish_frames()} frames"
    yield Section(title=title, contestants=contestants, repeats=1)


def why_not_denoised() -> str:
    """Return why windows cannot be denoised here and what to do; "" where they can."""
    if all(importlib.util.find_spec(name) for name in ("torch", "safetensors")):
        return ""
    return f"torch or safetensors is not installed. {install_line('torch')}."


@functools.cache
def denoiser() -> Denoiser:
    """Return the shipped ensemble."""
    ensemble, why_not = open_ensemble(SETTINGS)
    if ensemble is None:
        raise XpcsError(why_not)
    return ensemble


def publish_frames() -> int:
    """Return how many frames come between two publications."""
    return round(RATE_HZ / 2)


@contextlib.contextmanager
def publications(case: Case) -> Iterator[Section]:
    """Make the section of a series and its publications alone, nothing denoised."""
    pool = FramePool(case)
    one = Contestant(name="analysis", run=lambda: published(pool, case, None)[1], prepare=prepare)
    yield Section(title=f"Publications: {case.title}", contestants=[one], repeats=1)


def whole_series(pool: FramePool, case: Case, ensemble: Denoiser | None) -> Numbers:
    """Analyse a series as it comes, to the end, and return how fast that was."""
    analysis, found = published(pool, case, ensemble)
    begin = time.perf_counter()
    analysis.finish()
    return {**found, ("finish", "s"): time.perf_counter() - begin}


def blocks_analysed(pool: FramePool, case: Case) -> Numbers:
    """Give `analyse` a series of unknown length in blocks, and return how fast that was."""
    begin, taken = time.perf_counter(), 0

    def blocks() -> Iterator[Array]:
        nonlocal taken
        for block in pool.blocks(case.n_series, OFFLINE_BLOCK):
            if case.longest_s is not None and time.perf_counter() - begin > case.longest_s:
                return
            taken += len(block)
            yield block

    analyse(blocks(), SETTINGS.model_copy(update={"denoise": False}), rois=pool.rois)
    seconds = time.perf_counter() - begin
    return {
        ("frames analysed", "frames"): float(taken),
        ("series with its end", "frames/s"): taken / seconds,
    }


def published(pool: FramePool, case: Case, ensemble: Denoiser | None) -> tuple[Analysis, Numbers]:
    """Analyse a series as it comes; return the analysis and how fast that was."""
    analysis = Analysis(SETTINGS, pool.rois, frame_time_s=1 / RATE_HZ, ensemble=ensemble)
    begin = time.perf_counter()
    times, n_published = [(0, begin)], 0
    seconds: list[float] = []
    for block in pool.pixel_blocks(case.n_series, BLOCK):
        analysis.push_pixels(block)
        n = analysis.n_taken
        if n - times[-1][0] >= publish_frames() or n == case.n_series:
            before = time.perf_counter()
            n_published = analysis.publish(n_published).n_frames
            now = time.perf_counter()
            seconds.append(now - before)
            times.append((n, now))
            if case.longest_s is not None and now - begin > case.longest_s:
                break
    return analysis, {
        ("frames analysed", "frames"): float(times[-1][0]),
        **pace(times),
        ("publication", "ms"): 1e3 * float(np.median(seconds)),
        ("slowest publication", "ms"): 1e3 * max(seconds),
    }


def pace(published: Sequence[tuple[int, float]]) -> Numbers:
    """Return frames/s of a series from its publications, (frames so far, time), the first (0, t).

    Altogether, in the slowest tenth of the times between publications, and in the last quarter of
    the series over that in the second.
    """
    frames, times = np.array(published).T
    new, taken = np.diff(frames), np.diff(times)
    slowest = np.argsort(new / taken)[: max(1, len(new) // 10)]
    found = {
        ("whole series", "frames/s"): frames[-1] / (times[-1] - times[0]),
        ("slowest tenth", "frames/s"): new[slowest].sum() / taken[slowest].sum(),
    }
    if len(new) >= 4:
        at = np.interp(np.array([0.25, 0.5, 0.75, 1.0]) * frames[-1], frames, times)
        found["last quarter : second", "times"] = (at[1] - at[0]) / (at[3] - at[2])
    return {key: float(value) for key, value in found.items()}


@contextlib.contextmanager
def parts(case: Case) -> Iterator[Section]:
    """Make the section of estimator, paper's fits and windows, each by itself."""
    pool = FramePool(case)
    sums = _sums(pool, case.n_frames)
    g2 = curves(20 if case.quick else 1000)
    noise = np.random.default_rng(0).normal(1.5, 0.5, (WINDOWS, SETTINGS.window, SETTINGS.window))
    windows = ((noise + noise.transpose(0, 2, 1)) / 2).astype(np.float32)
    last = np.arange(max(0, case.n_frames - NEW_AGES), case.n_frames)

    def estimate() -> Numbers:
        estimators = [BayesEstimator(roi) for roi in range(case.n_rois)]
        return {
            ("rows of the estimator", "rows/s"): per_second(
                lambda: [one.estimate(sums, last) for one in estimators],
                case.n_rois * len(last),
            )
        }

    def path() -> Numbers:
        whole = BayesEstimator(0).estimate(sums, np.arange(sums.n_frames))
        known = np.isfinite(whole.fits.ln_rate)
        curve: Any = (whole.age[known], whole.fits.ln_rate[known])
        return {
            ("rows of a whole path", "rows/s"): per_second(
                lambda: PathEstimator(0).whole(sums, whole.series, curve), sums.n_frames
            )
        }

    def denoise() -> Numbers:
        ensemble = denoiser()
        return {("windows", "windows/s"): per_second(lambda: ensemble.denoise(windows), WINDOWS)}

    def fit() -> Numbers:
        return {("fits, 50 lags", "fits/s"): per_second(lambda: _fit(g2), len(g2))}

    def loop() -> Numbers:
        some = g2[:REFERENCE]
        return {("fits, 50 lags", "fits/s"): per_second(lambda: _fit_in_a_loop(some), len(some))}

    contestants = [
        Contestant(name="estimator", run=estimate, prepare=prepare, note=f"{len(last)} ages a ROI"),
        Contestant(name="path", run=path, prepare=prepare, note="the first ROI, every frame"),
        Contestant(name="ensemble", run=denoise, prepare=denoise, missing=why_not_denoised()),
        Contestant(name="the paper's fit", run=fit, prepare=fit, note="beta free"),
        Contestant(name="loop over scipy curve_fit", run=loop, peer=True, note="beta free"),
    ]
    yield Section(title=f"Parts: {case.title}", contestants=contestants, repeats=case.repeats)


def per_second(call: Any, count: int) -> float:
    """Return how many things a second a call does that does `count` of them."""
    begin = time.perf_counter()
    call()
    return count / (time.perf_counter() - begin)


def _sums(pool: FramePool, n_frames: int) -> AgeSums:
    accumulator = TwoTimeAccumulator(pool.rois, sums=True)
    for block in pool.pixel_blocks(n_frames, BLOCK):
        accumulator.append_pixels(block)
    return accumulator.age_sums


def curves(count: int) -> Array:
    """Return noisy g2, (count, N_LAGS), of rates that a series of that length tells."""
    rng = np.random.default_rng(0)
    rate = np.exp(rng.uniform(np.log(2.0 / N_LAGS), np.log(0.2), (count, 1)))
    alpha = rng.uniform(0.7, 1.8, (count, 1))
    g2 = kww(np.arange(1, N_LAGS + 1), rate, alpha, BETA, 1.0)
    return g2 + NOISE * rng.standard_normal(g2.shape)


def _fit(g2: Array) -> None:
    fit_kww(np.arange(1, N_LAGS + 1), g2, 1 / NOISE**2, beta=None)


def _fit_in_a_loop(g2: Array) -> None:
    """Fit one curve after another, with bounds and a good guess."""
    lags, errors = np.arange(1.0, N_LAGS + 1), np.full(N_LAGS, NOISE)
    start, bounds = [0.05, 1.0, 1.0, BETA], ([1e-3, 0.3, 0.5, 0.05], [1.0, 2.5, 1.5, 2.0])

    def model(lag: Any, rate: float, alpha: float, baseline: float, contrast: float) -> Any:
        return kww(lag, rate, alpha, contrast, baseline)

    for curve in g2:
        with contextlib.suppress(RuntimeError):  # too many evaluations: part of the cost
            curve_fit(model, lags, curve, start, sigma=errors, absolute_sigma=True, bounds=bounds)
