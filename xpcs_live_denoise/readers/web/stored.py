"""Reads what a server has stored of a run into the run's state."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from xpcs_live_denoise.errors import XpcsError

from .run_state import RunState
from .tiled_http import TiledHttp

logger = logging.getLogger(__name__)

C2_KINDS = ("c2", "c2_denoised")
PICTURE = ("image", "roi_labels")
G2 = ("g2", "g2_error", "g2_denoised", "delay_s")
# stream -> what in it is followed; g2 comes with the end of the run, which is read as a whole.
FOLLOWED = {
    "two_time": C2_KINDS,
    "image": PICTURE,
    "gamma": ("internal",),
    "status": ("internal",),
}


class StoredRun:
    """What is stored of one run.

    Parameters
    ----------
    http
        The server.
    path
        Of the run.
    state
        What is read is written into it.

    Attributes
    ----------
    indices
        Of the ROIs whose C2 is read.
    n_frames
        Frames that the last `read` has read.
    """

    def __init__(self, http: TiledHttp, path: str, state: RunState):
        self._http, self._path, self._state = http, path, state
        self.indices = {0}
        self.n_frames = 0

    async def metadata(self) -> dict[str, Any]:
        """Return the metadata of the run."""
        return await self._http.metadata(self._path)

    async def streams(self) -> dict[str, dict[str, Any]]:
        """Return what is in the run."""
        return await self._http.children(self._path)

    async def children(self, stream: str) -> dict[str, dict[str, Any]]:
        """Return what is in a stream of the run."""
        return await self._http.children(f"{self._path}/{stream}")

    async def read(self, first_frame: int = 0) -> None:
        """Read everything, of C2 the rows from a frame on."""
        n_frames, wanted = self._state.n_frames, FOLLOWED | {"g2": G2}
        streams = [stream for stream in await self.streams() if stream in wanted]
        await asyncio.gather(
            *(self.read_stream(stream, wanted[stream], first_frame) for stream in streams)
        )
        self.n_frames = n_frames

    async def read_stream(self, stream: str, names: tuple[str, ...], first_frame: int = 0) -> None:
        """Read those nodes of a stream that are there."""
        children = await self.children(stream)
        known = [name for name in names if name in children]
        await asyncio.gather(
            *(self._read_node(stream, name, children[name], first_frame) for name in known)
        )

    async def read_c2(self, index: int) -> None:
        """Read C2 of one ROI."""
        children = await self.children("two_time")
        for name in C2_KINDS:
            if name in children:
                await self._read_c2(name, children[name]["structure"], index, 0)

    async def _read_node(
        self, stream: str, name: str, attributes: Mapping[str, Any], first_frame: int
    ) -> None:
        try:
            await self._read_values(stream, name, attributes, first_frame)
        except XpcsError:
            raise
        except Exception:  # what another version wrote, say: the page shows the rest
            logger.exception("Run %s: %s/%s cannot be used.", self._state.uid, stream, name)

    async def _read_values(
        self, stream: str, name: str, attributes: Mapping[str, Any], first_frame: int
    ) -> None:
        path, structure = f"{self._path}/{stream}/{name}", attributes["structure"]
        if name == "internal":
            self._state.append(stream, await self._http.table(path), afresh=True)
        elif stream == "two_time":
            for index in sorted(self.indices):
                await self._read_c2(name, structure, index, first_frame)
        else:
            values = await self._http.array(path, structure)
            if name == "image":
                self._state.picture_facts = attributes.get("metadata") or {}
            (self._state.picture if stream == "image" else self._state.g2)[name] = values
            self._state.touch()

    async def _read_c2(
        self, name: str, structure: Mapping[str, Any], index: int, first_frame: int
    ) -> None:
        c2 = self._state.map_of(index, name)
        n_frames = min(self._state.n_frames, structure["shape"][1])
        k, first = c2.stride, -(-first_frame // c2.stride)
        rows = slice(first * k, n_frames, k)
        # Raw rows reach back to the first frame; what is denoised lies near the diagonal.
        cols = slice(0, n_frames, k) if name == "c2" else rows
        if rows.start >= n_frames:
            return  # Tiled answers an empty slice with an error
        path = f"{self._path}/two_time/{name}"
        values = await self._http.array(path, structure, (index, rows, cols))
        c2.place(values, (first, first if cols == rows else 0))
        self._state.touch()
