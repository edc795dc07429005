"""What is known of one run, merged from stored state and live updates; no input or output."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from xpcs_live_denoise.readers import without_superseded
from xpcs_live_denoise.records.results import GAMMA_COLUMNS

# A live run is silent when nothing new came for this long, s, and for this many frames.
SILENT_S, SILENT_FRAMES = 60.0, 10


class RunState:
    """The newest state of one run.

    Parameters
    ----------
    uid
        Of the derived run.

    Attributes
    ----------
    version
        Grows with every change.
    metadata
        Of the derived run: `start`, `stop` when it has ended, `n_frames`.
    maps
        (index of the ROI, "c2" or "c2_denoised") -> C2Map; only of ROIs that someone looks at.
    gamma
        The rows that count, None before the first.
    status
        The newest row of the status stream, None before the first.
    picture
        "image" and "roi_labels" -> array, where the run has them.
    picture_facts
        `binning` and `n_frames` of the image.
    g2
        "g2", "g2_error", "g2_denoised", "delay_s" -> array, after the end of the run.
    loaded
        Whether the stored state has been read.
    complete
        Whether it has been read after the end of the run: nothing is missing, nothing will change.
    gone
        Why the run can no longer be read, a sentence or two; empty if it can.
    news_time
        When the analysis last gave a sign of life, s since 1970.
    """

    def __init__(self, uid: str):
        self.uid = uid
        self.version = 0
        self.metadata: dict[str, Any] = {}
        self.maps: dict[tuple[int, str], C2Map] = {}
        self.gamma: Any = None
        self.status: dict[str, Any] | None = None
        self.picture: dict[str, np.ndarray] = {}
        self.picture_facts: dict[str, Any] = {}
        self.g2: dict[str, np.ndarray] = {}
        self.loaded = False
        self.complete = False
        self.gone = ""
        self.news_time = 0.0
        self._cache: dict[Any, Any] = {}

    @property
    def xpcs(self) -> Mapping[str, Any]:
        """How the run was analysed."""
        return (self.metadata.get("start") or {}).get("xpcs") or {}

    @property
    def labels(self) -> list[int]:
        """Labels of the ROIs."""
        return list(self.xpcs.get("roi") or ())

    @property
    def q_inv_angstrom(self) -> np.ndarray:
        """Wave vector of every ROI, shape (n_roi,), 1/Angstrom; NaN where unknown."""
        known = self.xpcs.get("q_inv_angstrom") or ()
        q = np.full(len(self.labels), np.nan)
        for index, value in enumerate(known[: len(q)]):
            q[index] = np.nan if value is None else value
        return q

    @property
    def n_frames(self) -> int:
        """Frames in C2."""
        return int(self.metadata.get("n_frames") or 0)

    @property
    def frame_time_s(self) -> float:
        """Frame period, s."""
        return float(self.xpcs.get("frame_time_s") or 1.0)

    @property
    def live(self) -> bool:
        """Whether the run has not ended, as far as can be read."""
        return "stop" not in self.metadata and not self.gone

    def silent_since(self, now: float) -> float | None:
        """Return since when a live run has given no sign of life; None if that is not long."""
        known = self.live and self.loaded
        silent = known and is_silent(now - self.news_time, self.frame_time_s)
        return self.news_time if silent else None

    def touch(self) -> None:
        """Tell that something has changed."""
        self.version += 1
        self._cache.clear()

    def cached(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return what `make` made of this state, made once for all pages that show it."""
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    def set_metadata(self, metadata: Mapping[str, Any]) -> None:
        """Take the run's metadata. An older one that comes late takes nothing back."""
        if "stop" in self.metadata and "stop" not in metadata:
            return
        if (metadata.get("n_frames") or 0) < self.n_frames and "stop" not in metadata:
            metadata = {**metadata, "n_frames": self.n_frames}
        self.metadata, self.gone = dict(metadata), ""
        self.hear((metadata.get("start") or {}).get("time") or 0.0)
        self.touch()

    def hear(self, at: float) -> None:
        """Take note of a sign of life, s since 1970."""
        self.news_time = max(self.news_time, float(at))

    def lose(self, why: str) -> None:
        """Take note that the run can no longer be read."""
        self.gone = why
        self.touch()

    def map_of(self, index: int, kind: str) -> C2Map:
        """Return the map of a ROI, made if there is none."""
        key = (index, kind)
        if key not in self.maps:
            made = C2Map(max(self.n_frames, self.xpcs.get("n_expected") or 0))
            # Maps of one run are compared, and a run of unknown length may have grown meanwhile.
            made.stride = next((other.stride for other in self.maps.values()), made.stride)
            self.maps[key] = made
        return self.maps[key]

    def patch(self, kind: str, values: np.ndarray, offset: tuple[int, int, int]) -> None:
        """Take a block of a two-time array, shape (n_roi, k, m), for the ROIs someone looks at."""
        for index, wanted in list(self.maps):
            at = index - offset[0]
            if wanted == kind and 0 <= at < len(values):
                self.maps[index, kind].patch(values[at], offset[1:])
        self.touch()

    def patch_picture(self, name: str, values: np.ndarray, offset: tuple[int, ...]) -> None:
        """Take a part of the image or of the labels."""
        whole = np.array(self.picture[name])
        box = tuple(slice(o, o + n) for o, n in zip(offset, values.shape, strict=True))
        whole[box] = values
        self.picture[name] = whole
        self.touch()

    def append(self, stream: str, rows: Any, *, afresh: bool = False) -> None:
        """Take rows of a table, a DataFrame; `afresh`: all that there are."""
        if stream == "gamma":
            self.gamma = merged(None if afresh else self.gamma, rows)
        elif len(rows):
            newest = rows.loc[rows["seq_num"].idxmax()].to_dict()
            for name in ("contrast", "baseline", "skipped"):
                newest[name] = _decoded(newest.get(name))
            if self.status is None or afresh or newest["seq_num"] >= self.status["seq_num"]:
                self.status = newest
                self.hear(newest.get("time") or 0.0)
        self.touch()


def is_silent(for_s: float, frame_time_s: float) -> bool:
    """Whether a live run without news for this long, s, may have lost its analysis."""
    return for_s > max(SILENT_S, SILENT_FRAMES * frame_time_s)


def _decoded(text: Any) -> list[Any]:
    try:
        value = json.loads(text)
    except (TypeError, ValueError):
        return []
    return value if isinstance(value, list) else []


MOST_ENTRIES = 2000  # along an edge; a longer series is thinned out before it is sent
SCREEN_EDGE = 320  # pixels: more would be sent than a panel of the page shows


def stride_for(n_frames: int) -> int:
    """Return which frames of a series are kept: every k-th."""
    return max(1, -(-n_frames // MOST_ENTRIES))


class C2Map:
    """A symmetric map (n, n), grown as frames come; NaN where nothing was measured.

    Parameters
    ----------
    n_frames
        Frames to expect; it may become more.

    Attributes
    ----------
    stride
        Every how many frames are kept.
    """

    def __init__(self, n_frames: int):
        self.stride = stride_for(n_frames)
        self._values = np.full((0, 0), np.nan, np.float32)

    def patch(self, values: np.ndarray, offset: tuple[int, int]) -> None:
        """Write a block, and its mirror image.

        Parameters
        ----------
        values
            Shape (k, m). Zeros stand for what was never written.
        offset
            Frames (t1, t2) of its first entry.
        """
        k = self.stride
        first = tuple(-(-o // k) for o in offset)  # index of the first entry that is kept
        skip = tuple(f * k - o for f, o in zip(first, offset, strict=True))
        self.place(values[skip[0] :: k, skip[1] :: k], (first[0], first[1]))

    def place(self, kept: np.ndarray, corner: tuple[int, int]) -> None:
        """Write a block whose entries are `stride` frames apart, at an index of the map."""
        rows, cols = kept.shape
        if not rows or not cols:
            return
        self._grow(max(corner[0] + rows, corner[1] + cols))
        t1 = np.arange(corner[0], corner[0] + rows)[:, np.newaxis]
        t2 = np.arange(corner[1], corner[1] + cols)[np.newaxis]
        # Rows above the diagonal need not have been written yet.
        below = (t1 >= t2) & (kept != 0)
        for target, mask, block in (
            (self._values[t1[0, 0] : t1[-1, 0] + 1, t2[0, 0] : t2[0, -1] + 1], below, kept),
            (self._values[t2[0, 0] : t2[0, -1] + 1, t1[0, 0] : t1[-1, 0] + 1], below.T, kept.T),
        ):
            np.copyto(target, block, where=mask)

    def full(self, n_frames: int) -> np.ndarray:
        """Return the map of the first `n_frames` frames, shape (n, n); a view or a larger copy."""
        n = -(-n_frames // self.stride)
        if n > len(self._values):
            self._grow(n)
        return self._values[:n, :n]

    def _grow(self, n: int) -> None:
        have = len(self._values)
        if n <= have:
            return
        grown = np.full((max(n, have * 3 // 2),) * 2, np.nan, np.float32)
        grown[:have, :have] = self._values
        self._values = grown


def for_screen(values: np.ndarray, most: int = SCREEN_EDGE) -> tuple[np.ndarray, int]:
    """Return the mean over squares of a map, at most `most` on an edge, and the squares' edge.

    NaN is left out, and so is the diagonal where squares are averaged: it is no correlation.
    """
    n = len(values)
    edge = max(1, -(-n // most))
    if edge == 1:
        return np.array(values, np.float32), 1
    size = -(-n // edge) * edge
    padded = np.full((size, size), np.nan, np.float32)
    padded[:n, :n] = values
    np.fill_diagonal(padded, np.nan)
    finite = np.isfinite(padded)
    padded[~finite] = 0
    squares = (size // edge, edge, size // edge, edge)
    total = padded.reshape(squares).sum(axis=(1, 3))
    count = finite.reshape(squares).sum(axis=(1, 3))
    mean = np.divide(total, count, where=count > 0, out=np.full_like(total, np.nan))
    return mean.astype(np.float32), edge


KEY = ["roi", "age_frame", "source", "width"]
COLUMNS = ["seq_num", *GAMMA_COLUMNS]


def merged(rows: Any | None, news: Any) -> Any:
    """Return the rows that count of those so far and new ones, DataFrames both.

    Per ROI, age, source and width the final row, else the newest; a better row of its age replaces
    one as in `XPCSResult.gamma_table`. Rows that come twice count once.
    """
    import pandas as pd

    news = news[COLUMNS]
    if rows is not None and len(rows):
        news = pd.concat([rows, news], ignore_index=True) if len(news) else rows
    news = news.sort_values(["final", "seq_num"], kind="stable")
    news = news.drop_duplicates(KEY, keep="last")
    return without_superseded(news).reset_index(drop=True)


def of_roi(rows: Any | None, roi: int) -> Any | None:
    """Return the converged rows of one ROI with an age, by age; None where there are none."""
    if rows is None or not len(rows):
        return None
    kept = rows[(rows["roi"] == roi) & rows["age_frame"].notna() & rows["converged"]]
    kept = kept[kept["relaxation_rate"] > 0]
    return kept.sort_values("age_frame", kind="stable") if len(kept) else None


def rates_by_roi(rows: Any | None, labels: Sequence[int]) -> np.ndarray:
    """Return the recommended rates, shape (n_roi, n_age), 1/s; NaN where there is none."""
    if rows is None or not len(rows):
        return np.full((len(labels), 0), np.nan)
    good = rows[rows["recommended"] & rows["converged"] & rows["age_frame"].notna()]
    table = good.pivot_table(index="roi", columns="age_frame", values="relaxation_rate")
    return table.reindex(list(labels)).to_numpy(float)
