"""Reads C2 of a run from Tiled: its map in bins, its band, and what earlier versions stored."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence

import numpy as np

from xpcs_live_denoise import views
from xpcs_live_denoise.records.types import Document, Fields

from .run_state import BAND_FIELDS, RunState, number
from .tiled_http import TiledHttp

# While a map gets other bins: s between two looks, and in all.
REWRITTEN_S, PATIENCE_S = 0.2, 10.0


def c2_to_read(
    children: Collection[str], names: Sequence[str], *, live: bool, any_size: bool
) -> list[str]:
    """Return which arrays of C2 it takes to draw it, of the names that are wanted and there.

    `any_size`: long lags are denoised, too, in the end.
    """
    has_band = "c2_band" in children  # a result of an earlier version has none
    with_square = "c2" in names and "c2_denoised" in children and (any_size or not has_band)
    squares = ["c2_denoised"] if with_square else []
    if not has_band:
        return [*names, *squares]
    # Only a live g2 needs both: what no window reached is raw in the denoised one.
    both = live or "c2_band_denoised" not in children
    return [name for name in names if both or name != "c2_band"] + squares


def bins_of(metadata: Fields) -> tuple[int, int]:
    """Return the version of a map, odd while it is written over, and how many frames a bin has."""
    version, frames = (number(metadata.get(name), 0) for name in ("version", "frames_per_bin"))
    return int(version), max(1, int(frames))


class C2Node:
    """One array of the stream `two_time`, read into the state of its run.

    `attributes` are what Tiled says of the array: its structure and metadata.
    """

    def __init__(self, http: TiledHttp, path: str, attributes: Document, state: RunState) -> None:
        self._http, self._path, self._state = http, path, state
        self._name = path.rpartition("/")[2]
        self._field = BAND_FIELDS.get(self._name, "")
        self._structure: Fields = attributes["structure"]
        self._metadata: Fields = attributes.get("metadata") or {}

    async def read(self, indices: Sequence[int], first_frame: int = 0) -> None:
        """Read the rows of ROIs, by their indices, from a frame on."""
        if self._name == "c2":
            await self._read_map(indices, first_frame)
        for index in indices:
            if self._field:
                await self._read_band(index, first_frame)
            elif self._name == "c2_denoised":
                await self._read_square(self._state.square_of(index), index, first_frame)
        self._state.touch()

    async def _read_map(self, indices: Sequence[int], first_frame: int) -> None:
        """Read the map; again, where it got other bins meanwhile."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            version, frames_per_bin = bins_of(self._metadata)
            late = time.monotonic() > deadline
            if version % 2 == 0 or late:
                if self._state.data.set_bins(frames_per_bin):
                    first_frame = 0
                for index in indices:
                    await self._read_square(self._state.map_of(index), index, first_frame)
            if late or not self._state.live:
                return
            self._metadata = await self._http.metadata(self._path)
            if bins_of(self._metadata) == (version, frames_per_bin) and version % 2 == 0:
                return
            await asyncio.sleep(REWRITTEN_S)

    async def _read_square(self, square: views.C2Map, index: int, first_frame: int) -> None:
        while True:
            n_frames, k = self._state.n_frames, square.stride
            n_bins = min(-(-n_frames // square.frames_per_bin), self._structure["shape"][1])
            first = -(-(first_frame // square.frames_per_bin) // k)
            rows = slice(first * k, n_bins, k)
            # Raw rows reach back to the first frame; what is denoised lies near the diagonal.
            cols = slice(0, n_bins, k) if self._name == "c2" else rows
            if rows.start >= n_bins:
                return  # Tiled answers an empty slice with an error
            values = await self._http.array(self._path, self._structure, (index, rows, cols))
            if square.stride == k:  # the map was not thinned meanwhile
                break
        square.place(values, (first, first if cols == rows else 0))

    async def _read_band(self, index: int, first_frame: int) -> None:
        """Read rows of the band; of many frames some of all ages, and the newest."""
        band = self._state.band_of(index, self._structure["shape"][2])
        n_frames = min(self._state.n_frames, self._structure["shape"][1])
        for part in band.to_read(n_frames, first_frame):
            values = await self._http.array(self._path, self._structure, (index, part))
            rows = views.written(values)[np.newaxis]
            raw, denoised = (rows, None) if self._field == "raw" else (None, rows)
            band.add(part.start, raw, denoised, step=part.step)
