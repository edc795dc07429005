"""Denoising a C2 of any size: the whole at once, or its band while it grows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from xpcs_live_denoise.records.results import DenoisedTwoTime
from xpcs_live_denoise.records.types import FloatArray

from .arrays import enlarged, next_capacity
from .band import band_of_c2

if TYPE_CHECKING:
    from .windows import WindowScaling

CHUNK = 100  # frames whose rows become final at once


@runtime_checkable
class RowDenoiser(Protocol):
    """What denoises C2 of any size: an any-size ensemble, or anything with these."""

    reach: int  # frames around a pair of frames on which its denoised value depends
    least_frames: int  # of a series

    def denoise_rows(self, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return mean and spread of C2(t, t - lag), (n, k, width); NaN stays NaN.

        The spread of one member alone is NaN.
        """
        ...


def rows_of_maps(maps: FloatArray) -> FloatArray:
    """Return C2(t, t - lag) at all lags, (n, m, m), of symmetric maps of that shape."""
    return band_of_c2(maps, 0, maps.shape[-1], maps.shape[-1])


def maps_of_rows(rows: FloatArray) -> FloatArray:
    """Return the symmetric maps, (n, m, m), of rows C2(t, t - lag) at all lags."""
    frame = np.arange(rows.shape[1], dtype=np.int64)
    late = np.maximum.outer(frame, frame)
    return rows[:, late, np.abs(np.subtract.outer(frame, frame))]


def denoise_whole(
    stack: FloatArray, ensemble: RowDenoiser, contrast: FloatArray, baseline: FloatArray
) -> DenoisedTwoTime:
    """Denoise whole C2, (n_roi, n, n), symmetric; contrast and baseline are only handed on.

    A series that is too short for the ensemble stays as it is.
    """
    if stack.shape[-1] < ensemble.least_frames:
        mean = spread = np.full_like(stack, np.nan)
    else:
        found = ensemble.denoise_rows(rows_of_maps(stack))
        mean, spread = (maps_of_rows(rows).astype(stack.dtype) for rows in found)
    return over_raw(stack, mean, spread, contrast, baseline)


def over_raw(
    raw: FloatArray,
    mean: FloatArray,
    spread: FloatArray,
    contrast: FloatArray,
    baseline: FloatArray,
) -> DenoisedTwoTime:
    """Return denoised C2, NaN where nothing was denoised, with raw values there."""
    reached = np.isfinite(mean)
    return DenoisedTwoTime(
        c2=np.where(reached, mean, raw),
        spread=spread if has_spread(mean, spread) else None,
        reached=reached,
        contrast=contrast,
        baseline=baseline,
    )


def has_spread(mean: FloatArray, spread: FloatArray) -> bool:
    """Return whether several members made these values: those of one have no spread."""
    return bool(np.isfinite(spread).any()) or not np.isfinite(mean).any()


class GrowingRows:
    """The denoised band of a series while it grows.

    Rows are final when as many frames have come after them as the denoiser looks at; they are made
    in chunks of `CHUNK`, each with the frames around it, so that it does not matter how the series
    was split. Those after them are denoised anew whenever frames come. Its state is the denoised
    rows from frame `start` on.
    """

    def __init__(self, ensemble: RowDenoiser, n_roi: int, window: int) -> None:
        self._ensemble = ensemble
        self._rows = np.full((2, n_roi, 0, window), np.nan)  # mean and spread
        self.start = 0
        self.has_spread = True  # until one member alone has denoised something
        self.n_frames = 0  # rows that are there end here
        self.n_final = 0

    @property
    def needs(self) -> int:
        """The first row of the band that is needed when the next frames come."""
        return max(0, self.n_final - self._ensemble.reach)

    @property
    def has_rows(self) -> bool:
        """Whether anything is denoised yet."""
        return self.n_frames > 0

    def advance(self, band: FloatArray, start: int, scaling: WindowScaling) -> int:  # noqa: ARG002
        """Denoise what is new; return the first row that changed.

        `band` are rows C2(t, t - lag), (n_roi, k, window), from frame `start` on, which is not
        after `needs`, up to the newest frame. This denoiser needs no scaling.
        """
        stop = start + band.shape[1]
        changed = self.n_final
        if stop == self.n_frames or stop < self._ensemble.least_frames:
            return stop
        self._reserve(stop)
        while stop - self.n_final >= CHUNK + self._ensemble.reach:
            end = self.n_final + CHUNK
            self._denoise(band, start, self.n_final, end, end + self._ensemble.reach)
            self.n_final = end
        self._denoise(band, start, self.n_final, stop, stop)
        self.n_frames = stop
        return changed

    def rows(self, below: FloatArray, start: int, quantity: int) -> FloatArray:
        """Return a copy of `below`, rows from frame `start` on, mean (0) or spread (1) over it."""
        result = below.copy()
        stop = min(start + below.shape[1], self.n_frames)
        if stop > start:
            some = self._rows[quantity, :, start - self.start : stop - self.start]
            np.copyto(result[:, : stop - start], some, where=np.isfinite(some), casting="same_kind")
        return result

    def release(self, before: int) -> None:
        """Forget the rows of frames before `before`."""
        if (drop := min(before, self.n_final) - self.start) > 0:
            self._rows = self._rows[:, :, drop:].copy()
            self.start += drop

    def _denoise(self, band: FloatArray, start: int, first: int, stop: int, until: int) -> None:
        """Denoise the rows [first, stop), seeing those before frame `until`."""
        since = max(start, first - self._ensemble.reach)
        found = self._ensemble.denoise_rows(band[:, since - start : until - start])
        self.has_spread = self.has_spread and has_spread(*found)
        for into, values in zip(self._rows, found, strict=True):
            into[:, first - self.start : stop - self.start] = values[
                :, first - since : stop - since
            ]

    def _reserve(self, stop: int) -> None:
        *before, capacity, width = self._rows.shape
        if (needed := stop - self.start) > capacity:
            shape = (*before, next_capacity(capacity, needed), width)
            self._rows = enlarged(self._rows, shape, np.nan)
