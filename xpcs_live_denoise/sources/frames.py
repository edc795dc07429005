"""From references to frames to bounded blocks of pixels: who reads which reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import hdf5plugin  # noqa: F401 - registers the filters of compressed Eiger files
from numpy.typing import NDArray

from xpcs_live_denoise.errors import UnreadableFramesError
from xpcs_live_denoise.records.frames import (
    AssetFrames,
    EigerFrames,
    FrameReference,
    InlineFrames,
    MissingFrames,
    TiledFrames,
)

from .file_roots import FileRoots
from .handlers import AssetReader
from .hdf5 import HDF5Reader


class FrameReader:
    """Reads the frames behind references; a `records.FrameSource`.

    HDF5 files in SWMR mode stay open between reads (0.1 ms a read instead of 2.5 ms), and so do
    the handlers of legacy assets, until `close` or until others took their place. Used from one
    thread.

    Parameters
    ----------
    timeout_s
        How long to wait for announced frames that are not there yet, s. Counted anew after every
        frame that came. A file that has failed is not waited for again until it can be read.
    roots
        Where files that documents name may lie. Default: anywhere.
    tiled
        Reads `TiledFrames`: called with the reference and the most bytes of a block, returns
        blocks (k, rows, cols).

    Raises
    ------
    UnreadableFramesError
        From `read`; names the file, the dataset, what was got, what was expected, the remedy.
    """

    def __init__(
        self,
        *,
        timeout_s: float = 2.0,
        roots: FileRoots | None = None,
        tiled: Callable[[TiledFrames, int], Iterator[NDArray[Any]]] | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._roots = roots or FileRoots()
        self._tiled = tiled
        self._hdf5 = HDF5Reader(timeout_s=timeout_s, roots=self._roots)
        self._assets = AssetReader(timeout_s=timeout_s, roots=self._roots)

    def read(self, reference: FrameReference, max_bytes: int) -> Iterator[NDArray[Any]]:
        """Yield the frames of `reference` in order, as arrays (k, rows, cols).

        Parameters
        ----------
        reference
            Inline frames are yielded as views.
        max_bytes
            Most bytes of a block; a single frame may be larger.

        Raises
        ------
        UnreadableFramesError
            When frames cannot be read; those yielded before are good.
        """
        if isinstance(reference, InlineFrames):
            yield from _split(reference.frames, max_bytes)
        elif isinstance(reference, MissingFrames):
            raise UnreadableFramesError(reference.reason)
        elif isinstance(reference, EigerFrames):
            from xpcs_live_denoise.sources.eiger import read_eiger

            yield from read_eiger(
                reference, max_bytes, timeout_s=self._timeout_s, roots=self._roots
            )
        elif isinstance(reference, AssetFrames):
            yield from self._assets.read(reference, max_bytes)
        elif isinstance(reference, TiledFrames):
            yield from self._read_tiled(reference, max_bytes)
        else:
            yield from self._hdf5.read(reference, max_bytes)

    def close(self) -> None:
        """Close every file that is held open."""
        self._hdf5.close()
        self._assets.close()

    def _read_tiled(self, reference: TiledFrames, max_bytes: int) -> Iterator[NDArray[Any]]:
        if self._tiled is None:
            raise UnreadableFramesError(
                f"Array {reference.path!r} in Tiled: no client to read it with was given. Let "
                "`xpcs-live-denoise replay` or `serve` analyse runs whose frames are in Tiled."
            )
        yield from self._tiled(reference, max_bytes)


def _split(frames: NDArray[Any], max_bytes: int) -> Iterator[NDArray[Any]]:
    step = max(1, max_bytes // max(1, frames[:1].nbytes))
    for start in range(0, len(frames), step):
        yield frames[start : start + step]
