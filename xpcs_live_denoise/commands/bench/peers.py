"""Other software for two-time correlations, on the same frames: scikit-beam, ESRF's, scipy, numpy.

None is a dependency but scikit-beam and scipy; the extra `bench` installs the rest. What would take
minutes is run on fewer frames and extrapolated.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy import sparse

from xpcs_live_denoise.errors import install_line

from .case import Case, FramePool
from .contest import Contestant, Numbers, extrapolation_note, seconds_for

LAZY_FRAMES = 60
# Products of pixels that dense software is given to do, and events that sparse software is.
MOST_PRODUCTS, MOST_EVENTS, MOST_FRAMES = 5e10, 1.5e7, 2500
PLAIN, ESRF = "float32 X X^T, all at once", "xpcs-correlator"
# Computed in this process: no cluster.
HERE: dict[str, Any] = {"ttcf_format": "t1,t2", "extra_options": {"dask_cluster_type": None}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """Frames as the values that are not zero, and how long it took to find them, s.

    `by_frame` has rows of frames, `by_pixel` columns of pixels; both (n_frames, rows * cols).
    """

    by_frame: Any
    by_pixel: Any
    seconds: float

    @classmethod
    def of(cls, pool: FramePool, n_frames: int) -> Events:
        """Find them in the first frames."""
        blocks, seconds = [], 0.0
        for block in pool.blocks(n_frames, n_frames):
            begin = time.perf_counter()
            blocks.append(sparse.csr_array(block.reshape(len(block), -1)))
            seconds += time.perf_counter() - begin
        by_frame: Any = sparse.vstack(blocks, format="csr")
        return cls(by_frame=by_frame, by_pixel=by_frame.tocsc(), seconds=seconds)


def peers(case: Case, pool: FramePool) -> list[Contestant]:
    """Return the others, where they are asked for."""
    if not case.peers:
        return []
    dense = min(MOST_FRAMES, max(20, int(math.sqrt(MOST_PRODUCTS / case.n_pixels))))
    counted = case.n_pixels * -math.expm1(-case.mean_counts)  # pixels of a frame that are not 0
    of_events = min(MOST_FRAMES, max(20, int(MOST_EVENTS / counted)))
    return [
        _peer("scikit-beam lazy_two_time", case, min(LAZY_FRAMES, dense), _lazy(pool)),
        _peer(PLAIN, case, dense, _plain(pool)),
        _esrf("dense", "correlator_dense_chunked", case, dense, _esrf_dense(pool)),
        *_fed_events(case, pool, of_events),
    ]


def _peer(
    name: str,
    case: Case,
    most: int,
    seconds: Callable[[int], float],
    *,
    missing: str = "",
    prepare: Callable[[], object] = bool,
    note: str = "",
) -> Contestant:
    """Return somebody else's software that needs `seconds(n)` for the first n frames."""
    most = min(most, case.n_frames)

    def run() -> Numbers:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of frames without counts, for example
            return {("C2", "frames/s"): case.n_frames / seconds_for(seconds, case.n_frames, most)}

    notes = [note, extrapolation_note(case.n_frames, most)]
    return Contestant(
        name=name,
        run=run,
        prepare=prepare,
        peer=True,
        note="; ".join(filter(None, notes)),
        extrapolated=case.n_frames > most,
        missing=missing,
    )


def _lazy(pool: FramePool) -> Callable[[int], float]:
    def seconds(n_frames: int) -> float:
        correlation: Any = importlib.import_module("skbeam.core.correlation")
        even, frames = n_frames + n_frames % 2, pool.frames(n_frames)
        begin = time.perf_counter()
        for _ in correlation.lazy_two_time(pool.rois.label_array, frames, even, even):
            pass
        return time.perf_counter() - begin

    return seconds


def _plain(pool: FramePool) -> Callable[[int], float]:
    ends = np.cumsum(pool.rois.n_pixels)

    def seconds(n_frames: int) -> float:
        frames = pool.frames(n_frames)
        begin = time.perf_counter()
        pixels = pool.rois.gather(frames)
        for end, n_pixels in zip(ends, pool.rois.n_pixels, strict=True):
            of_roi = pixels[:, end - n_pixels : end].astype(np.float32)
            with np.errstate(divide="ignore", invalid="ignore"):
                of_roi /= of_roi.mean(axis=1, keepdims=True)
            np.divide(of_roi @ of_roi.T, n_pixels)
        return time.perf_counter() - begin

    return seconds


def why_no_esrf() -> str:
    """Return why ESRF's correlators cannot be run here and what to do; "" where they can."""
    if importlib.util.find_spec("xpcscorr") is not None:
        return ""
    return f"xpcs-correlator is not installed. {install_line('bench')}."


def _esrf(
    kind: str,
    function: str,
    case: Case,
    most: int,
    seconds: Callable[[Any, int], float],
    *,
    note: str = "",
) -> Contestant:
    """Return a correlator of xpcs-correlator, which compiles with its first call."""

    def correlator() -> Any:
        return getattr(importlib.import_module("xpcscorr"), function)

    def quiet(n_frames: int) -> float:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints
            return seconds(correlator(), n_frames)

    missing = why_no_esrf()
    first = partial(quiet, min(2, case.n_frames))
    name = f"{ESRF} {kind}"
    return _peer(name, case, most, quiet, missing=missing, prepare=first, note=note)


def _esrf_dense(pool: FramePool) -> Callable[[Any, int], float]:
    def seconds(correlate: Any, n_frames: int) -> float:
        frames = pool.frames(n_frames)
        begin = time.perf_counter()
        correlate(frames, pool.rois.label_array, **HERE)
        return time.perf_counter() - begin

    return seconds


def _fed_events(case: Case, pool: FramePool, most: int) -> Iterator[Contestant]:
    """Yield software for events: given them, and where it has to find them in frames itself."""
    known: dict[int, Events] = {}
    labels, fed = pool.rois.label_array, "fed events"

    def events(n_frames: int) -> Events:
        if n_frames not in known:
            known[n_frames] = Events.of(pool, n_frames)
        return known[n_frames]

    def correlated(which: str, correlate: Any, n_frames: int) -> float:
        given = getattr(events(n_frames), which)
        arrays = (given.data, given.indices, given.indptr)
        begin = time.perf_counter()
        correlate(*arrays, (n_frames, *labels.shape), labels, **HERE)
        return time.perf_counter() - begin

    def product(n_frames: int) -> float:
        columns = events(n_frames).by_pixel
        begin = time.perf_counter()
        for label in pool.rois.labels:
            rows = columns[:, np.flatnonzero(labels == label)].astype(np.float32).tocsr()
            (rows @ rows.T).toarray()
        return time.perf_counter() - begin

    def from_frames(n_frames: int) -> float:
        return Events.of(pool, n_frames).seconds + product(n_frames)

    for which in ("frame", "pixel"):
        function = f"correlator_sparse_{which}_chunked"
        seconds = partial(correlated, f"by_{which}")
        yield _esrf(f"sparse, by {which}", function, case, most, seconds, note=fed)
    yield _peer("scipy.sparse product", case, most, product, note=fed)
    yield _peer("scipy.sparse, from frames", case, most, from_frames, note="finds the events, too")
