"""Static speckle told from white and smooth non-uniformity, by how the mean images correlate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xpcs_live_denoise.records.types import Array, FloatArray, IntArray

from .events import RoiEvents
from .newest_frames import FrameRing
from .rois import RoiMap

N_BLOCK = 8  # pixel blocks a ROI, for the jackknife
FAR = 6  # pixels beyond which no speckle reaches, and a smooth profile has not changed
BELOW_1 = "baseline_below_1"  # the caution where intensity drifts inside a ROI
_MOST_SEGMENTS = 20  # of the series, whose images are kept
_MOST_STATIC = 0.03  # share of the squared contrast that may stay, and
_STATIC_ERRORS = 2.0  # in standard errors
_LEAST_PEAK = 0.3  # below, speckle is smaller than 1.6 pixels and looks like white noise
_LEAST_FACTOR = 1.1  # of Gamma that is worth a word
_SHARE = 0.4  # of the series, whose mean image is compared with that of as much at the other end


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticTest:
    """What the mean images of a ROI say of intensity that stays, in units of squared intensity.

    S(d) = <(M1(x) - 1)(M2(x + d) - 1)>, with M1 and M2 the mean images of the first and the last
    40 % of the frames, divided by their mean, and d in pixels along a row; S(6) also along columns.

    Attributes
    ----------
    near, next_to, far
        S(0), S(1), S(6).
    peak
        How alike speckle is in neighbouring pixels: the excess of <I(x, t) I(x + 1, t + 1)> over
        S(1), divided by that of <I(x, t) I(x, t + 1)> over S(0).
    left_out
        Shape (8, 4): these four without each of 8 blocks of pixels.
    """

    near: float
    next_to: float
    far: float
    peak: float
    left_out: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticVerdict:
    """Whether a ROI is too static for its rates, and by which factor Gamma may be higher."""

    is_static: bool
    caution: str  # "" or a name, a colon and the factor


def judge(
    test: StaticTest,
    beta: float,
    remaining: float = 0.0,
    remaining_error: float = 0.0,
    *,
    baseline_is_high: bool = True,
) -> StaticVerdict:
    """Tell static speckle, which slows Gamma, from non-uniformity, which does not.

    In units of the contrast `beta`, the static part is p = (S(1) - S(6)) / peak / beta, a smooth
    one S(6) / beta, white noise of a flat field the rest of S(0) / beta. A part w of the field that
    stands still makes p = w^2 and lowers ln Gamma by 1.2 to 1.6 w in simulations. A ROI is static
    where p > 0.03 and p > 2 standard errors, and its baseline is high (`judge_baseline`), which
    static speckle always makes. Else Gamma may be higher by exp(1.5 sqrt(p)) with p two errors
    above its estimate, or that of white noise and static part together where those cannot be told
    apart.

    `remaining` is what the dynamics alone leave of the correlation between the two images, with its
    error: the mean of exp(-2 S^alpha) over their pairs of frames.
    """
    values = np.array([[test.near, test.next_to, test.far, test.peak], *test.left_out.tolist()])
    near, next_to, far, peak = values.T
    if not test.peak >= _LEAST_PEAK:
        both = (near - far) / beta - remaining
        error = np.hypot(_jackknife_error(both[1:]), remaining_error)
        caution = _caution("static_undecidable", max(both[0], 0.0) + 2 * error)
        return StaticVerdict(is_static=False, caution=caution)
    static = (next_to - far) / np.where(peak == 0, np.nan, peak) / beta - remaining
    error = np.hypot(_jackknife_error(static[1:]), remaining_error)
    if baseline_is_high and static[0] > max(_MOST_STATIC, _STATIC_ERRORS * error):
        return StaticVerdict(is_static=True, caution="")
    caution = _caution("static_not_excluded", max(static[0], 0.0) + 2 * error)
    return StaticVerdict(is_static=False, caution=caution)


def judge_baseline(baseline: float, baseline_error: float, beta: float) -> StaticVerdict:
    """Judge a ROI by its g2 alone, where no pixels are known: it can only be a caution.

    A baseline above 1 by more than 0.03 beta and 3 standard errors comes from static speckle or
    from non-uniformity, nobody can tell; one below 1 from intensity that drifts inside the ROI.
    """
    excess = (baseline - 1) / beta
    if not abs(excess) > max(_MOST_STATIC, 3 * baseline_error / beta):
        return StaticVerdict(is_static=False, caution="")
    caution = _caution("static_or_nonuniform", excess) if excess > 0 else BELOW_1
    return StaticVerdict(is_static=False, caution=caution)


def remaining_correlation(
    age: FloatArray, ln_rate: FloatArray, ln_rate_error: FloatArray, alpha: float, n_frames: int
) -> tuple[float, float]:
    """Return the mean of exp(-2 S^alpha) over frames of the two images, and its error.

    S is the integral of Gamma between two frames, from its logarithm (n,) at ages (n,), frames.
    """
    frame = np.arange(n_frames, dtype=np.float64)
    clock = np.concatenate([[0.0], np.cumsum(np.exp(np.interp(frame, age, ln_rate)))])
    n = max(1, int(_SHARE * n_frames))
    points = np.linspace(0, n - 1, 20).astype(np.int64)
    waited = clock[n_frames - 1 - points][:, np.newaxis] - clock[points]
    error = float(np.median(ln_rate_error))
    middle, slower = (
        float(np.exp(-2 * (factor * np.maximum(waited, 0)) ** alpha).mean())
        for factor in (1.0, np.exp(-error))
    )
    return middle, slower - middle


def _caution(name: str, static: float) -> str:
    factor = float(np.exp(1.5 * np.sqrt(max(static, 0.0))))
    return f"{name}:{factor:.2f}" if factor > _LEAST_FACTOR else ""


def _jackknife_error(left_out: FloatArray) -> float:
    n = len(left_out)
    return float(np.sqrt((n - 1) / n * ((left_out - left_out.mean()) ** 2).sum()))


class MeanImages:
    """Mean images of parts of a series, and products of neighbouring frames.

    State: up to 20 images of the ROI pixels, each the sum over as many frames, which double by
    adding images in pairs when all are full; and two sums a pixel. Reading consumes nothing.
    """

    def __init__(self, rois: RoiMap) -> None:
        n = len(rois.pixels)
        self._rois = rois
        self._length = 1  # frames in an image
        self._n_frames = 0
        self._images = np.zeros((_MOST_SEGMENTS, n), np.float32)
        self._n_measured = np.zeros((_MOST_SEGMENTS, rois.n_roi))
        # Of pixels in one frame with themselves and with those on their right in the next frame.
        self._products = np.zeros((2, n))
        self._n_pairs = np.zeros(rois.n_roi)
        # The newest frame, for its product with the next, and which ROIs have one; gaps end it.
        self._waiting = np.zeros(n, np.float32)
        self._is_waiting = np.zeros(rois.n_roi, np.bool_)
        self._neighbours: dict[int, list[tuple[IntArray, IntArray, IntArray]]] = {}

    def reserve(self, n_new: int) -> None:
        """Make room for new frames, before any of them is added."""
        while self._n_frames + n_new > _MOST_SEGMENTS * self._length:
            self._merge()

    def add(self, roi: int, scaled: FloatArray, measured: FloatArray) -> None:
        """Add frames of one ROI, (k, n_pixels), divided by its mean; `advance` after all ROIs.

        `measured` (k,) is 1, or 0 for a frame without counts, whose pixels are 0. How frames are
        split over calls changes nothing beyond rounding.
        """
        # Rows of a ring: the first frame of a call stands in the first one.
        rows = np.roll(scaled, self._n_frames % max(len(scaled), 1), axis=0)
        self._add_rows(roi, rows, measured, np.array([0, scaled.shape[1]]), scaled.shape[1])

    def add_newest(
        self, roi: int, ring: FrameRing, events: RoiEvents | None, weights: Array, n_new: int
    ) -> None:
        """Add the `n_new` rows of a ring that were filled last, as `add`.

        `events` are the same frames, which are read where the ring has no pixels.
        """
        from .event_kernels import add_event_images

        measured = ring.number[roi, ring.used : ring.used + n_new]
        if events is None or ring.has_pixels(roi):
            blocks = ring.blocks
            width = int(blocks.widths[roi])
            self._add_rows(roi, ring.pixels[roi], measured, blocks.edges[roi], width)
            return
        own = self._rois.slices[roi]
        add_event_images(
            events.counts,
            events.pixels,
            events.bounds,
            weights,
            ring.per_mean[roi],
            ring.used,
            self._pair(roi, measured),
            self._waiting[own],
            *self._products[:, own],
            self._images,
            own.start,
            self._n_frames,
            self._length,
        )
        self._count(roi, measured)

    def _add_rows(
        self, roi: int, rows: Array, measured: FloatArray, edges: IntArray, width: int
    ) -> None:
        """Add the next frames; each stands in the row of its index modulo the number of rows."""
        from .two_time_kernels import add_images

        own = self._rois.slices[roi]
        add_images(
            rows,
            self._n_frames,
            measured,
            edges,
            width,
            self._pair(roi, measured),
            self._waiting[own],
            *self._products[:, own],
            self._images,
            own.start,
            self._length,
        )
        self._count(roi, measured)

    def _pair(self, roi: int, measured: FloatArray) -> bool:
        """Count pairs of neighbouring frames; return whether the first of these has one before."""
        known = bool(self._is_waiting[roi])
        self._n_pairs[roi] += (measured[:-1] * measured[1:]).sum() + known * measured[0]
        self._is_waiting[roi] = measured[-1]
        return known

    def _count(self, roi: int, measured: FloatArray) -> None:
        segments = (self._n_frames + np.arange(len(measured))) // self._length
        np.add.at(self._n_measured[:, roi], segments, measured)

    def add_gap(self) -> None:
        """Say that the next frames, which `advance` counts, could not be had."""
        self._is_waiting[:] = False

    def advance(self, n_new: int) -> None:
        """Say that new frames were added to all ROIs, or are missing."""
        self._n_frames += n_new

    def test(self, roi: int) -> StaticTest | None:
        """Return what is known of the ROI with this index; None where that is nothing."""
        from .static_kernels import block_sums

        n_segment = -(-self._n_frames // self._length)
        n_half = int(_SHARE * n_segment)
        first, last = slice(0, n_half), slice(n_segment - n_half, n_segment)
        n_first, n_last = (self._n_measured[part, roi].sum() for part in (first, last))
        if not (n_first and n_last and self._n_pairs[roi]):
            return None
        one = self._rois.slices[roi]
        m1, m2 = (self._images[part, one].sum(axis=0, dtype=np.float64) for part in (first, last))
        m1, m2 = m1 / m1.mean() - 1, m2 / m2.mean() - 1
        same, right = self._products[:, one] / self._n_pairs[roi] - 1
        edges: IntArray = np.arange(N_BLOCK + 1, dtype=np.int64) * len(m1) // N_BLOCK
        sums = np.empty((6, 2, N_BLOCK))  # (quantity, sum and number, block)
        pairs = (values for known in self._pairs_of(roi) for values in known)
        block_sums(m1, m2, same, right, edges, *pairs, sums)
        total = sums.sum(axis=2, keepdims=True)
        found = _quantities(np.concatenate([total, total - sums], axis=2))
        near, next_to, far, peak = found[0].tolist()
        return StaticTest(near=near, next_to=next_to, far=far, peak=peak, left_out=found[1:])

    def _pairs_of(self, roi: int) -> list[tuple[IntArray, IntArray, IntArray]]:
        """Return pixels of a ROI and those next to them, FAR beside and FAR below, found once.

        Indices into its pixels, and the bounds of the pixel blocks among them, (N_BLOCK + 1,).
        """
        if roi not in self._neighbours:
            pixels = self._rois.pixels[self._rois.slices[roi]]
            edges = np.arange(N_BLOCK + 1) * len(pixels) // N_BLOCK
            found = self._neighbours[roi] = []
            for distance, axis in ((1, 1), (FAR, 1), (FAR, 0)):
                a, b = neighbours(pixels, self._rois.shape, distance, axis)
                bounds = np.searchsorted(a, edges).astype(np.int64)
                found.append((a.astype(np.int32), b.astype(np.int32), bounds))
        return self._neighbours[roi]

    def _merge(self) -> None:
        half = _MOST_SEGMENTS // 2
        for values in (self._images, self._n_measured):
            values[:half] = values[0::2] + values[1::2]
            values[half:] = 0
        self._length *= 2


def neighbours(
    pixels: IntArray, shape: tuple[int, int], distance: int, axis: int
) -> tuple[IntArray, IntArray]:
    """Return which of `pixels` lie `distance` apart along an axis of a frame of this shape.

    `pixels` are flat indices, ascending. Returns indices into them, (n_pair,) each: of the left or
    upper ones, and of their partners.
    """
    wanted = pixels + distance * (1 if axis else shape[1])
    at = np.minimum(np.searchsorted(pixels, wanted), len(pixels) - 1)
    found = pixels[at] == wanted
    if axis:
        found &= pixels // shape[1] == wanted // shape[1]
    return np.flatnonzero(found), at[found]


def _quantities(sums: FloatArray) -> FloatArray:
    """Return S(0), S(1), S(6) and the peak, (n, 4), from sums and numbers, (6, 2, n)."""
    number = sums[:, 1]
    near, next_to, far_row, far_column, same, right = sums[:, 0] / np.maximum(number, 1)
    # Both directions count alike where a ROI is so large in both.
    row, column = (number[2:4] > 0) + 1e-9
    far = (row * far_row + column * far_column) / (row + column)
    excess = same - near
    known = excess != 0
    peak = np.where(known, (right - next_to) / np.where(known, excess, 1.0), 0.0)
    return np.stack([near, next_to, far, peak], axis=1)
