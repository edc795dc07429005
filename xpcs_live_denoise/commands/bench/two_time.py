"""C2: the engines, beside others on the same frames, and the products of matrices they are made of.

What is run on frames that arrive: blocks of ten, with the sums for the estimator and the map.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from xpcs_live_denoise.numerics.arrays import LEVEL_LAGS
from xpcs_live_denoise.numerics.two_time import (
    ENGINES,
    MAP_FRAMES,
    TwoTimeAccumulator,
)

from .case import Case, FramePool
from .contest import Contestant, Numbers, Section, extrapolation_note, seconds_for
from .peers import peers

BLOCK = 10  # frames that come together
WARM_UP = 120  # frames that are taken before, so that all is compiled
SKBEAM_FRAMES = 60  # most that the oracle is run on
SPARSE_FRAMES, SPARSE_COUNTS = 2000, 0.02
SGEMM_EDGE = 1536


@contextlib.contextmanager
def two_time(case: Case) -> Iterator[Section]:
    """Make the section of the engines on the case."""
    pool = FramePool(case)
    sgemm = Sgemm()
    found = [*engines(case, pool, sgemm), *peers(case, pool), sgemm.contestant()]
    yield Section(title=f"C2: {case.title}", contestants=found, repeats=case.repeats)


@contextlib.contextmanager
def sparse_two_time(case: Case) -> Iterator[Section]:
    """Make the section of the engines on photon-sparse frames."""
    n_frames = case.n_frames if case.quick else max(case.n_frames, SPARSE_FRAMES)
    sparse = dataclasses.replace(case, n_frames=n_frames, mean_counts=SPARSE_COUNTS)
    with two_time(sparse) as section:
        yield dataclasses.replace(
            section, title=section.title.replace("C2", "C2, photon-sparse", 1)
        )


def engines(case: Case, pool: FramePool, sgemm: Sgemm) -> Iterator[Contestant]:
    """Yield the engines, the fastest first."""
    for engine in ENGINES:
        most = SKBEAM_FRAMES if engine == "skbeam" else case.n_frames
        yield Contestant(
            name=f"engine {engine}",
            run=lambda engine=engine, most=most: _run_engine(engine, case, pool, most, sgemm),
            prepare=partial(engine_seconds, engine, pool, min(WARM_UP, most)),
            note=extrapolation_note(case.n_frames, most) or "blocks of 10, with sums and map",
            extrapolated=case.n_frames > most,
        )


def engine_seconds(engine: str, pool: FramePool, n_frames: int) -> float:
    """Return the time to take a series of frames and to have its map and its sums."""
    accumulator = TwoTimeAccumulator(pool.rois, engine=engine, sums=engine != "skbeam")
    begin = time.perf_counter()
    for block in pool.blocks(n_frames, BLOCK):
        accumulator.append(block)
    if engine != "skbeam":
        accumulator.map  # noqa: B018 (reading multiplies what waits)
        accumulator.age_sums  # noqa: B018
    return time.perf_counter() - begin


def _run_engine(engine: str, case: Case, pool: FramePool, most: int, sgemm: Sgemm) -> Numbers:
    seconds = seconds_for(lambda n: engine_seconds(engine, pool, n), case.n_frames, most)
    found = {("C2", "frames/s"): case.n_frames / seconds}
    if engine != "skbeam":
        flop = 2 * case.n_pixels * products_needed(case.n_frames)
        found["products needed, of sgemm", "%"] = 1e-7 * flop / seconds / sgemm.rate
    return found


def products_needed(
    n_frames: int, *, window: int = LEVEL_LAGS[1], map_frames: int = MAP_FRAMES
) -> float:
    """Return how many products of two frames band, levels and map of a series need.

    The band needs `window` a frame, a level half as many for each of its frames, of which there are
    half as many as one level below; the map one for each entry of a triangle, and when it is full
    half of its bins stay.
    """
    band = n_frames * min(window, n_frames)
    levels, n_level = 0.0, n_frames // 2
    while n_level > window // 2:
        levels += n_level * window / 2
        n_level //= 2
    if n_frames <= map_frames:
        return band + levels + n_frames**2 / 2
    merges = math.ceil(math.log2(n_frames / map_frames))
    bins, half = math.ceil(n_frames / 2**merges), map_frames / 2
    filled = map_frames**2 / 2 + (merges - 1) * (map_frames**2 - half**2) / 2
    return band + levels + filled + (bins**2 - half**2) / 2


class Sgemm:
    """The plain product of float32 matrices; `rate` is the best so far, GFLOP/s.

    Its state are two matrices and that rate.
    """

    def __init__(self, edge: int = SGEMM_EDGE) -> None:
        self._left, self._right = np.random.default_rng(0).random((2, edge, edge), np.float32)
        self._rate = 0.0

    @property
    def rate(self) -> float:
        """The best rate so far, GFLOP/s."""
        if not self._rate:
            self.run()
        return self._rate

    def run(self) -> Numbers:
        """Multiply once."""
        begin = time.perf_counter()
        np.matmul(self._left, self._right)
        rate = 2e-9 * len(self._left) ** 3 / (time.perf_counter() - begin)
        self._rate = max(self._rate, rate)
        return {("sgemm", "GFLOP/s"): rate}

    def contestant(self) -> Contestant:
        """Return it as a contestant."""
        prepare: Callable[[], object] = self.run
        return Contestant(name="numpy sgemm", run=self.run, prepare=prepare, note="all threads")
