"""What is measured: how many frames, pixels, ROIs and counts, and simulated frames of that kind."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from xpcs_live_denoise.errors import InvalidInputError
from xpcs_live_denoise.numerics.rois import RoiMap
from xpcs_live_denoise.records.types import Array, IntArray

# Share of a square detector that ROIs cover: ten rings around the beam.
COVERED = 0.2746
BEAM_STOP = 0.0675  # radius of the first ring, of that of the last
POOL_FRAMES = 300  # series that are longer repeat them
_FORGET = 0.02  # of the field, a frame: Gamma of the samples
_MODES = 2  # speckle patterns that are added: contrast 1/2


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Sizes of what is measured; `peers`: others, too; `quick`: a look, once and smaller.

    `n_series` are the frames of the whole analysis, which is stopped after `longest_s`, unless
    that is None.

    Raises
    ------
    InvalidInputError
        For sizes that cannot be.
    """

    n_frames: int = 500
    n_pixels: int = 72_000
    n_rois: int = 10
    mean_counts: float = 0.5
    n_series: int = 5000
    longest_s: float | None = 12.0
    peers: bool = False
    quick: bool = False

    def __post_init__(self) -> None:
        whole = {"--frames": self.n_frames, "--pixels": self.n_pixels, "--rois": self.n_rois}
        for option, value in whole.items():
            if value < 1:
                raise InvalidInputError(f"{option}: got {value}, expected 1 or more.")
        if self.n_rois > self.n_pixels:
            raise InvalidInputError(
                f"--rois: got {self.n_rois} ROIs for {self.n_pixels} pixels; expected at most one "
                "ROI a pixel. --pixels are those of all ROIs together."
            )
        if not 0 < self.mean_counts <= 1000:  # nor NaN
            raise InvalidInputError(
                f"--counts: got {self.mean_counts:g}; expected mean counts a pixel and frame, "
                "above 0 and at most 1000."
            )

    @property
    def repeats(self) -> int:
        """How often each contestant is run."""
        return 1 if self.quick else 3

    @property
    def title(self) -> str:
        """The sizes in words."""
        return (
            f"{self.n_frames:,} frames, {self.n_pixels:,} pixels, {self.n_rois} "
            f"ROI{'s' * (self.n_rois > 1)}, {self.mean_counts:g} counts"
        )


def ring_map(n_pixels: int, n_rois: int) -> RoiMap:
    """Return rings around the middle of a square detector with exactly so many pixels and ROIs."""
    edge = max(1, math.ceil(math.sqrt(n_pixels / COVERED)))
    middle = (edge - 1) / 2
    rows, cols = np.indices((edge, edge))
    order = np.argsort((rows - middle) ** 2 + (cols - middle) ** 2, axis=None, kind="stable")
    stop = min(round(BEAM_STOP**2 * n_pixels), edge * edge - n_pixels)
    labels = np.zeros(edge * edge, np.int64)
    labels[order[stop : stop + n_pixels]] = np.repeat(
        np.arange(1, n_rois + 1), np.diff(_ring_edges(n_pixels, n_rois))
    )
    return RoiMap.from_labels(labels.reshape(edge, edge))


def _ring_edges(n_pixels: int, n_rois: int) -> IntArray:
    """Return after how many pixels each ring ends: equally wide ones, at least a pixel each."""
    radius = np.linspace(BEAM_STOP, 1, n_rois + 1)
    share = (radius**2 - BEAM_STOP**2) / (1 - BEAM_STOP**2)
    number = np.arange(n_rois + 1)
    edges = np.maximum(np.round(share * n_pixels).astype(np.int64), number)
    return np.minimum(edges, n_pixels - number[::-1])


def speckle_pixels(n_frames: int, n_pixels: int, mean_counts: float, seed: int = 1) -> Array:
    """Return photon counts of a sample that relaxes, (n_frames, n_pixels), uint16.

    The field of each pixel forgets 2 % of itself a frame, and goes round in a circle: after the
    last frame the first may follow.
    """
    pixels = np.empty((n_frames, n_pixels), np.uint16)
    photons = np.random.default_rng([seed, 1])
    memory = 1 - _FORGET
    round_trip = memory**n_frames
    # So that the mean intensity is 1, the sum over modes and two components.
    variance = (1 - memory**2) * (1 - round_trip) / (1 + round_trip) / (2 * _MODES)
    new = np.float32(math.sqrt(variance))
    field = np.zeros((_MODES, 2, n_pixels), np.float32)
    for is_last_round in (False, True):
        noise = np.random.default_rng(seed)  # the same in both: the circle closes
        for frame in range(n_frames):
            field *= memory
            field += new * noise.standard_normal(field.shape, np.float32)
            if is_last_round:
                intensity = np.einsum("mcp,mcp->p", field, field) * mean_counts
                pixels[frame] = np.minimum(photons.poisson(intensity), 65533)
        field /= 1 - round_trip
    return pixels


class FramePool:
    """A series of a case, of which the first frames exist and are then repeated.

    Its state are the pixels, (n, n_pixels), and the frames they are in, made when first asked for.
    """

    def __init__(self, case: Case) -> None:
        self.rois = ring_map(case.n_pixels, case.n_rois)
        n = min(case.n_frames, POOL_FRAMES)
        self.pixels = speckle_pixels(n, case.n_pixels, case.mean_counts)
        self._frames: Array | None = None

    def frames(self, n_frames: int) -> Array:
        """Return the first frames, (n_frames, rows, cols)."""
        if self._frames is None:
            rows, cols = self.rois.shape
            self._frames = np.zeros((len(self.pixels), rows, cols), np.uint16)
            self._frames.reshape(len(self.pixels), -1)[:, self.rois.pixels] = self.pixels
        if n_frames <= len(self._frames):
            return self._frames[:n_frames]
        return self._frames[np.arange(n_frames) % len(self._frames)]

    def blocks(self, n_frames: int, size: int) -> Iterator[Array]:
        """Yield the series in blocks of frames, (at most `size`, rows, cols); no copies."""
        return _slices(self.frames(len(self.pixels)), n_frames, size)

    def pixel_blocks(self, n_frames: int, size: int) -> Iterator[Array]:
        """Yield the series in blocks of ROI pixels, (at most `size`, n_pixels); no copies."""
        return _slices(self.pixels, n_frames, size)


def _slices(pool: Array, n_frames: int, size: int) -> Iterator[Array]:
    done = 0
    while done < n_frames:
        first = done % len(pool)
        block = pool[first : first + min(size, n_frames - done)]
        yield block
        done += len(block)
