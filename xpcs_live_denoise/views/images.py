"""The images of a run, small enough for a screen: C2 raw and denoised, and the detector."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpcs_live_denoise.numerics.mean_image import binned_mean, picked, screen_binning
from xpcs_live_denoise.records.results import Picture
from xpcs_live_denoise.records.run import Status
from xpcs_live_denoise.records.types import FloatArray, IntArray

from .band import C2Band
from .words import PANELS, SHORT_LAGS_TITLES, map_title, why_no_frames

MOST_ENTRIES = 2000  # along an edge of a map that is kept; a larger one is thinned
FEW = 60  # above so many entries a part of C2 tells its colours
MOST_COLUMNS = 512  # of a strip
C2_RANGE = (1, 99)  # percentiles
NO_RANGE = (0.9, 1.5)  # of colours, before anything is measured


class C2Map:
    """A symmetric map of the C2 of one ROI, grown as bins come; NaN where nothing was measured.

    It expects `n_bins`, which may become more, of `frames_per_bin` frames each, and keeps every
    `stride`-th, so that at most `most` entries lie along an edge.
    """

    def __init__(self, n_bins: int, most: int = MOST_ENTRIES, *, frames_per_bin: int = 1) -> None:
        self.most = most
        self.frames_per_bin = frames_per_bin
        self.stride = 1
        self._values = np.full((0, 0), np.nan, np.float32)
        self.make_room(n_bins)

    @property
    def entry_frames(self) -> int:
        """Frames from one entry to the next."""
        return self.stride * self.frames_per_bin

    def make_room(self, n_bins: int) -> None:
        """Double the stride until so many bins fit; what is kept already is thinned."""
        while -(-n_bins // self.stride) > self.most:
            self.stride *= 2
            self._values = self._values[::2, ::2].copy()

    def patch(
        self, values: FloatArray, offset: tuple[int, int], *, zero_is_gap: bool = True
    ) -> None:
        """Write a block (k, m), and its mirror image; `offset`: bins (t1, t2) of its first entry.

        `zero_is_gap`: zeros stand for what was never written, as Tiled reads them.
        """
        k = self.stride
        first = tuple(-(-o // k) for o in offset)  # index of the first entry that is kept
        skip = tuple(f * k - o for f, o in zip(first, offset, strict=True))
        kept = values[skip[0] :: k, skip[1] :: k]
        self.place(kept, (first[0], first[1]), zero_is_gap=zero_is_gap)

    def place(self, kept: FloatArray, corner: tuple[int, int], *, zero_is_gap: bool = True) -> None:
        """Write a block whose entries are `stride` bins apart, at an index of the map."""
        rows, cols = kept.shape
        if not rows or not cols:
            return
        self._grow(max(corner[0] + rows, corner[1] + cols))
        t1 = np.arange(corner[0], corner[0] + rows)[:, np.newaxis]
        t2 = np.arange(corner[1], corner[1] + cols)[np.newaxis]
        # Rows above the diagonal need not have been written yet.
        below = (t1 >= t2) & ((kept != 0) | (not zero_is_gap))
        for target, mask, block in (
            (self._values[t1[0, 0] : t1[-1, 0] + 1, t2[0, 0] : t2[0, -1] + 1], below, kept),
            (self._values[t2[0, 0] : t2[0, -1] + 1, t1[0, 0] : t1[-1, 0] + 1], below.T, kept.T),
        ):
            np.copyto(target, block, where=mask)

    def full(self, n_frames: int) -> FloatArray:
        """Return the map of the first `n_frames` frames, shape (n, n); a view or a larger copy."""
        n = -(-n_frames // self.entry_frames)
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


def thinned(values: FloatArray, most: int) -> tuple[FloatArray, int]:
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


def c2_range(
    c2: FloatArray, contrast: float, baseline: float, strip: FloatArray | None = None
) -> tuple[float, float]:
    """Return the range of colours of C2: percentiles of the raw values off the diagonal.

    Of a `strip` beside them, too: short lags may be far above what a bin of the map averages.
    Where the contrast is known, no more than from baseline - beta to baseline + 2 beta: noise far
    above the signal must not hide it.
    """
    square = c2[np.triu_indices(len(c2), 1)] if len(c2) < FEW else c2[1::3, ::3]
    ends: list[float] = []
    for values in (square, strip):
        known = np.empty(0) if values is None else values[np.isfinite(values)]
        if known.size:
            ends += np.percentile(known, C2_RANGE).tolist()
    if not ends:
        return NO_RANGE
    low, high = min(ends), max(ends)
    if np.isfinite(contrast) and contrast > 0:
        middle = baseline if np.isfinite(baseline) else 1.0
        low, high = max(low, middle - contrast), min(high, middle + 2 * contrast)
    return (low, high) if high > low else (low - 0.05, low + 0.05)


@dataclass(frozen=True, slots=True, kw_only=True)
class C2Strip:
    """C2 of one ROI at the lags of the band: what a map whose bins hold several frames hides.

    `values` (n_lag, n_age) go from age 0 to `end_s`, and over the lags `low_s` to `high_s`.
    """

    values: FloatArray
    end_s: float
    low_s: float
    high_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoTimeView:
    """C2 of one ROI.

    Attributes
    ----------
    raw, denoised
        Shape (m, m), [t1, t2], (0, 0) before the first frame. NaN where nothing was measured; raw
        values where no window reached; None where none has reached anything.
    strip
        In the place of `denoised` where a map of this series shows no lags as short as those of a
        window; else None.
    edge_s, series_s
        Time along an edge of the maps, and of the whole series as far as it is known, s.
    low, high
        The one range of colours of all.
    marks
        Baseline, and baseline plus contrast, where they are known: where the signal lies.
    note
        Why there is no second picture; empty where there is one.
    empty
        Why there is not even a raw C2; empty where there is one.
    raw_title, title
        What the first and the second picture are: raw, of how many frames a bin; the network's, the
        image of the path, or a strip.
    """

    raw: FloatArray
    denoised: FloatArray | None
    strip: C2Strip | None
    edge_s: float
    series_s: float
    low: float
    high: float
    marks: tuple[float, ...]
    note: str
    empty: str
    raw_title: str
    title: str


def strip_view(band: C2Band, roi: int, frame_time_s: float) -> tuple[C2Strip, str]:
    """Return what is drawn of the band of the ROI with an index in it, and what to call it."""
    values, is_denoised = band.strip(roi)
    n_lag, n_age = values.shape
    by = max(1, -(-n_age // MOST_COLUMNS))
    padded = np.full((n_lag, -(-n_age // by) * by), np.nan, np.float32)
    padded[:, :n_age] = values
    known = np.isfinite(padded)
    count = known.reshape(n_lag, -1, by).sum(axis=2)
    total = np.where(known, padded, 0).reshape(n_lag, -1, by).sum(axis=2)
    shown = np.divide(total, count, where=count > 0, out=np.full(total.shape, np.nan, np.float32))
    strip = C2Strip(
        values=shown,
        end_s=shown.shape[1] * by * band.frames_per_bin * frame_time_s,
        low_s=0.5 * frame_time_s,
        high_s=(n_lag + 0.5) * frame_time_s,
    )
    return strip, SHORT_LAGS_TITLES[is_denoised]


def two_time_view(
    raw: FloatArray,
    denoised: FloatArray | None,
    *,
    entry_s: float,
    most: int,
    series_s: float = 0.0,
    status: Status | None = None,
    roi: int = 0,
    note: str = "",
    final: bool = False,
    frames_per_bin: int = 1,
    strip: C2Strip | None = None,
    title: str = PANELS["c2_denoised"][0],
) -> TwoTimeView:
    """Return what is drawn of C2 of the ROI with the index `roi`.

    `raw` and `denoised` (n, n) are symmetric with `entry_s` between two rows, the denoised one NaN
    where no window reached; `strip` stands in its place. `most` is how many pixels along an edge a
    screen shows. `status` is the newest one; `note` is shown where there is no second picture,
    `final` says that nothing more will come. `title` says what the second picture is.
    """
    status = status or Status()
    contrast, baseline = (
        values[roi] if roi < len(values) else math.nan
        for values in (status.contrast, status.baseline)
    )
    shown, pixels = thinned(raw, most)
    over = None
    if strip is None and denoised is not None and denoised.shape == raw.shape:
        reached = np.isfinite(denoised)
        if reached.any():
            over = thinned(np.where(reached, denoised, raw), most)[0]
    low, high = c2_range(shown, contrast, baseline, None if strip is None else strip.values)
    known = math.isfinite(contrast) and math.isfinite(baseline)
    edge_s = len(shown) * pixels * entry_s
    return TwoTimeView(
        raw=shown,
        denoised=over,
        strip=strip,
        edge_s=edge_s,
        series_s=max(edge_s, series_s),
        low=low,
        high=high,
        marks=(baseline, baseline + contrast) if known else (),
        note=note if over is None and strip is None else "",
        empty="" if shown.size else why_no_frames(final=final),
        raw_title=map_title(frames_per_bin),
        title=title,
    )


def measured_view(
    c2_map: C2Map,
    band: C2Band | None,
    second: FloatArray | None = None,
    *,
    n_frames: int,
    frame_time_s: float,
    most: int,
    roi_of_band: int = 0,
    title: str = PANELS["c2_denoised"][0],
    **known: Any,
) -> TwoTimeView:
    """Return what is drawn of the map of a ROI, and of its band, whose index there is given.

    The band lies over the map while both have every frame, else it stands beside it. Without a band
    `second` is the other picture, with as many entries as the map. For the rest see
    `two_time_view`.
    """
    strip = None
    if band is not None and band.n_frames:
        if c2_map.frames_per_bin == 1 and band.is_whole:
            second = band.square(roi_of_band, n_frames, c2_map.stride)
        else:
            strip, title = strip_view(band, roi_of_band, frame_time_s)
    return two_time_view(
        c2_map.full(n_frames),
        second,
        entry_s=c2_map.entry_frames * frame_time_s,
        most=most,
        frames_per_bin=c2_map.frames_per_bin,
        strip=strip,
        title=title,
        **known,
    )


COUNTS_RANGE = (2, 99.8)  # percentiles of the counts above zero
MANY_FRAMES = 100_000  # a number of more digits does not fit into a title
MOST_DECADES = 3  # of the colours of the detector
NO_EDGE, ROI_EDGE, CHOSEN_EDGE, CHOSEN_INSIDE = range(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorView:
    """The mean image of the detector with the outlines of the ROIs.

    Attributes
    ----------
    mean
        Shape (rows, cols): counts a pixel and frame; NaN where nothing is known.
    outline, labels
        Same shape: NO_EDGE, ROI_EDGE, CHOSEN_EDGE or CHOSEN_INSIDE; the ROI, 0 for none.
    binning
        Pixels of the detector along an edge of one of the image.
    low, high
        The range of colours, on a logarithmic scale.
    title
        What the image is.
    """

    mean: FloatArray
    outline: IntArray
    labels: IntArray
    binning: int
    low: float
    high: float
    title: str

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows of the detector, px."""
        rows, cols = self.mean.shape
        return cols * self.binning, rows * self.binning

    def label_at(self, column: float, row: float) -> int:
        """Return the ROI at a place of the detector, px; 0 for none."""
        y, x = int(row // self.binning), int(column // self.binning)
        rows, cols = self.labels.shape
        return int(self.labels[y, x]) if 0 <= y < rows and 0 <= x < cols else 0


def for_screen(picture: Picture | None) -> Picture | None:
    """Return a picture with at most 512 pixels on an edge; the same one where it has no more."""
    if picture is None or (by := screen_binning(picture.mean.shape)) == 1:
        return picture
    known = np.isfinite(picture.mean)
    return Picture(
        denoised=_binned(picture.denoised, by),
        denoised_error=_binned(picture.denoised_error, by),
        mean=binned_mean(np.where(known, picture.mean, 0), known, by),
        labels=picked(picture.labels, by),
        binning=picture.binning * by,
        n_frames=picture.n_frames,
        saxs=picture.saxs,
    )


def _binned(values: FloatArray | None, by: int) -> FloatArray | None:
    if values is None:
        return None
    known = np.isfinite(values)
    return binned_mean(np.where(known, values, 0), known, by)


def detector_view(picture: Picture | None, label: int) -> DetectorView | None:
    """Return what is drawn of the detector with the ROI of a label; None without a picture.

    Labels of another shape than the mean give no outlines, 0 frames stand for an unknown number.
    """
    if picture is None:
        return None
    mean, labels, n_frames = picture.mean, picture.labels, picture.n_frames
    if labels.shape != mean.shape:
        labels = np.zeros(mean.shape, np.int64)
    positive = mean[np.isfinite(mean) & (mean > 0)]
    low, high = 0.1, 1.0
    if positive.size:
        low, high = (float(value) for value in np.percentile(positive, COUNTS_RANGE))
        low = max(low, high / 10**MOST_DECADES)
    title = "Detector"
    if n_frames:
        if n_frames < MANY_FRAMES:
            title += ", mean of 1 frame" if n_frames == 1 else f", mean of {n_frames} frames"
        else:
            title += f", {n_frames / 1000:.4g}k frames"
    outline, denoised = outlines(labels, label), picture.denoised
    if denoised is not None and denoised.shape == mean.shape:
        # Beside the measured one, a gap between them; ROIs are on the measured one alone.
        gap = np.full((len(mean), max(1, mean.shape[1] // 40)), np.nan, np.float32)
        nothing = np.zeros((len(mean), gap.shape[1] + mean.shape[1]), np.int64)
        mean = np.hstack([mean, gap, denoised.astype(np.float32)])
        outline = np.hstack([outline, nothing + NO_EDGE])
        labels = np.hstack([labels, nothing])
        title += f" | denoised{_trust(picture)}"
    return DetectorView(
        mean=mean,
        outline=outline,
        labels=labels,
        binning=picture.binning,
        low=low,
        high=max(high, 1.2 * low),
        title=title,
    )


def _trust(picture: Picture) -> str:
    """Return the error of a pixel of a denoised image, as a share of it."""
    made, error = picture.denoised, picture.denoised_error
    if made is None or error is None or made.shape != error.shape:
        return ""
    known = np.isfinite(made) & np.isfinite(error) & (made > 0)
    return f" ± {np.median(error[known] / made[known]):.0%}" if known.any() else ""


def outlines(labels: IntArray, chosen: int) -> IntArray:
    """Return where ROIs (rows, cols) touch others or the background, and where the chosen one is.

    Values are NO_EDGE, ROI_EDGE, CHOSEN_EDGE and CHOSEN_INSIDE.
    """
    padded = np.pad(labels, 1, mode="edge")
    edge = np.zeros(labels.shape, np.bool_)
    first = np.zeros(labels.shape, np.bool_)
    for near in (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]):
        edge |= near != labels
        first |= near < labels  # between two ROIs one line is enough
    own = labels == chosen
    marked = np.where(first, ROI_EDGE, NO_EDGE)
    return np.where(own & (labels > 0), np.where(edge, CHOSEN_EDGE, CHOSEN_INSIDE), marked)


def mean_counts(picture: Picture | None, label: int) -> float:
    """Return the mean counts a pixel and frame inside a ROI; NaN where no pixel of it is known."""
    if picture is None or picture.mean.shape != picture.labels.shape:
        return math.nan
    inside = picture.mean[picture.labels == label]
    inside = inside[np.isfinite(inside)]
    return float(inside.mean()) if inside.size else math.nan
