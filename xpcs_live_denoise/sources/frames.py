"""From references to frames to bounded blocks of pixels: who reads which reference."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, overload

import hdf5plugin  # noqa: F401 - registers the filters of compressed Eiger files

from xpcs_live_denoise.errors import UnreadableFramesError, short_repr, text_of
from xpcs_live_denoise.records.frames import (
    AssetFrames,
    EigerFrames,
    FrameReference,
    HDF5Frames,
    InlineFrames,
    MissingFrames,
    RoiPixels,
    SparseFrames,
    TiledFrames,
)
from xpcs_live_denoise.records.types import Array, BoolArray

from .eiger.files import MASTER, pixel_mask_beside, read_eiger
from .file_roots import FileRoots
from .handlers import AssetReader
from .hdf5 import HDF5Reader, Patience, ThresholdChoice
from .selection import RoiSelection
from .sparse_frames import dense, events_of, is_sparse

if TYPE_CHECKING:
    from xpcs_live_denoise.catalog import Node


class FrameReader:
    """Reads the frames behind references.

    HDF5 files in SWMR mode stay open between reads (0.1 ms a read instead of 2.5 ms), and so do
    the handlers of legacy assets, until `close` or until others took their place. Used by one
    thread at a time.

    Parameters
    ----------
    roots
        Where files that documents name may lie.
    timeout_s
        How long to wait for announced frames that are not there yet, s. Counted anew after every
        frame that came. A file that has failed is not waited for again until it can be read.
    threshold
        Which threshold to read where frames have several, from 1.
    tiled
        Reads `TiledFrames`, with the most bytes of a block.
    """

    def __init__(
        self,
        *,
        roots: FileRoots,
        timeout_s: float = 2.0,
        threshold: int | None = None,
        tiled: Callable[[TiledFrames, int], Iterator[Array | SparseFrames]] | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._roots = roots
        self._tiled = tiled
        self._threshold = choice = ThresholdChoice(threshold)
        self._hdf5 = HDF5Reader(timeout_s=timeout_s, roots=roots, threshold=choice)
        self._assets = AssetReader(timeout_s=timeout_s, roots=roots, threshold=choice)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of how frames were read."""
        return tuple(self._threshold.notes)

    def bad_pixels(self, reference: FrameReference) -> BoolArray | None:
        """Return which pixels the file of the frames marks as bad, (rows, cols), None if it cannot.

        That is `pixel_mask` of the master file of an Eiger, or of the file that the documents name,
        or of the master beside that.
        """
        if isinstance(reference, EigerFrames):
            path = reference.series + MASTER
        elif isinstance(reference, HDF5Frames):
            path = reference.path
        else:
            return None
        return pixel_mask_beside(path, self._roots, self._threshold.chosen or 1)

    @overload
    def read(self, reference: FrameReference, max_bytes: int) -> Iterator[Array]: ...

    @overload
    def read(
        self, reference: FrameReference, max_bytes: int, selection: RoiSelection
    ) -> Iterator[RoiPixels]: ...

    def read(
        self, reference: FrameReference, max_bytes: int, selection: RoiSelection | None = None
    ) -> Iterator[Array | RoiPixels]:
        """Yield the frames of `reference` in order, as arrays (k, rows, cols).

        With a selection as RoiPixels, which need fewer bytes of a file to be decompressed. A block
        has at most `max_bytes`, but one frame. Inline frames are yielded as views. Where frames
        cannot be read, an UnreadableFramesError; those yielded before are good. A FrameShapeError
        where they do not fit the selection.
        """
        if isinstance(reference, EigerFrames):
            yield from read_eiger(
                reference,
                max_bytes,
                timeout_s=self._timeout_s,
                roots=self._roots,
                threshold=self._threshold,
                selection=selection,
            )
        elif isinstance(reference, HDF5Frames):
            yield from self._hdf5.read(reference, max_bytes, selection)
        else:
            for frames in self._read_whole(reference, max_bytes):
                if selection is not None:
                    yield selection.of_frames(frames)
                else:
                    yield dense(frames) if isinstance(frames, SparseFrames) else frames

    def _read_whole(
        self, reference: InlineFrames | MissingFrames | AssetFrames | TiledFrames, max_bytes: int
    ) -> Iterator[Array | SparseFrames]:
        if isinstance(reference, InlineFrames):
            yield from _split(reference.frames, max_bytes)
        elif isinstance(reference, MissingFrames):
            raise UnreadableFramesError(reference.reason)
        elif isinstance(reference, AssetFrames):
            yield from self._assets.read(reference, max_bytes)
        elif self._tiled is not None:
            n = reference.n_thresholds or 1
            (place,) = self._threshold.place((0, n, 0, 0), f"Array {reference.path!r} in Tiled")
            flat = dataclasses.replace(
                reference, start=reference.start * n, stop=reference.stop * n, n_thresholds=None
            )
            yield from _every(n, self._tiled(flat, max_bytes), place)
        else:
            raise UnreadableFramesError(
                f"Array {reference.path!r} in Tiled: no client to read it with was given. Let "
                "`xpcs-live-denoise replay` or `serve` analyse runs whose frames are in Tiled."
            )

    def close(self) -> None:
        """Close every file that is held open."""
        self._hdf5.close()
        self._assets.close()


@overload
def read_with_gaps(
    source: FrameReader, reference: FrameReference, max_bytes: int, selection: RoiSelection
) -> Generator[RoiPixels | MissingFrames, None, None]: ...


@overload
def read_with_gaps(
    source: FrameReader, reference: FrameReference, max_bytes: int, selection: None
) -> Generator[Array | MissingFrames, None, None]: ...


def read_with_gaps(
    source: FrameReader,
    reference: FrameReference,
    max_bytes: int,
    selection: RoiSelection | None,
) -> Generator[Array | RoiPixels | MissingFrames, None, None]:
    """Yield the frames of `reference` in order, whole or their ROI pixels, gaps in their place.

    Reading goes on behind them where the source says that it can.
    """
    n_done = 0
    rest: FrameReference | None = reference
    while rest is not None:
        position = rest.start if isinstance(rest, EigerFrames | HDF5Frames) else 0
        try:
            read: Any = source.read  # whole frames, or what a selection takes of them
            for frames in read(rest, max_bytes, selection):
                n_done += len(frames)
                position += len(frames)
                yield frames
            if n_done < reference.n_frames:
                reason = f"A document announced {reference.n_frames} frames, {n_done} are there."
                yield MissingFrames(n_frames=reference.n_frames - n_done, reason=reason)
            return
        except UnreadableFramesError as error:
            until, reason = error.missing_until, str(error)
        if isinstance(rest, EigerFrames | HDF5Frames) and until is not None and until > position:
            n_done += until - position
            yield MissingFrames(n_frames=until - position, reason=reason)
            goes_on = isinstance(rest, EigerFrames) and rest.open_ended
            more = rest.stop is None or goes_on or until < rest.stop
            rest = dataclasses.replace(rest, start=until) if more else None
        else:
            yield MissingFrames(n_frames=max(0, reference.n_frames - n_done), reason=reason)
            return


def _every(
    step: int, blocks: Iterator[Array | SparseFrames], first: int
) -> Iterator[Array | SparseFrames]:
    """Yield, of frames that come in blocks, `first` and every `step`-th after it."""
    for frames in blocks:
        if first < len(frames):
            yield frames[first::step]
        first = (first - len(frames)) % step


def _split(frames: Array, max_bytes: int) -> Iterator[Array]:
    step = max(1, max_bytes // max(1, frames[:1].nbytes))
    for start in range(0, len(frames), step):
        yield frames[start : start + step]


def read_tiled(
    client: Node, reference: TiledFrames, max_bytes: int, *, below: str = "", timeout_s: float = 2.0
) -> Iterator[Array | SparseFrames]:
    """Yield the frames of a reference in order, as `FrameReader.read` does.

    The path leads down from the client, and must lead below `below`: documents come from outside.
    The reference counts along all axes of the array but the last two; a block may be larger than
    `max_bytes` where one step along the first axis is. Frames that are not there are waited for
    `timeout_s`, counted anew after every block.
    """
    keys = _keys(reference, below)
    position, array = reference.start, None
    patience = Patience(timeout_s, (0.1,))
    while position < reference.stop:
        try:
            array = client[keys] if array is None else array
            block = _read_block(array, reference, position, max_bytes)
        except UnreadableFramesError:
            raise
        except Exception as error:  # the network, the server, or its storage
            array = None  # its structure may be stale
            if patience.wait():
                continue
            raise UnreadableFramesError(
                f"Array {reference.path!r} in Tiled: frames [{position}, {reference.stop}) "
                f"cannot be read ({type(error).__name__}: {text_of(error, 300)}); expected "
                "them, since a document announced them. Check the server and its storage."
            ) from error
        position += len(block)
        yield block
        patience.restart()


def _keys(reference: TiledFrames, below: str) -> tuple[str, ...]:
    """Return the keys down to the array, none of which may lead elsewhere."""
    keys = tuple(key for key in reference.path.split("/") if key)
    allowed = tuple(key for key in below.split("/") if key)
    if keys[: len(allowed)] != allowed or len(keys) <= len(allowed) or {".", ".."} & {*keys}:
        raise UnreadableFramesError(
            f"Array {short_repr(reference.path)} in Tiled: not below {below!r}, where the raw runs "
            "are. Set tiled.raw_path to their container if it is another one."
        )
    return keys


# Of a sparse array, the bytes of a pixel that are expected; its structure does not tell.
SPARSE_ITEMSIZE = 0.25


def _read_block(
    array: Node, reference: TiledFrames, position: int, max_bytes: int
) -> Array | SparseFrames:
    """Return the next frames, at least one."""
    shape, dtype = getattr(array, "shape", ()), getattr(array, "dtype", None)
    sparse = getattr(array, "structure_family", None) == "sparse"
    itemsize = 0
    if sparse:
        itemsize = SPARSE_ITEMSIZE
    elif dtype is not None and dtype.kind in "buif":
        itemsize = dtype.itemsize
    if shape is None or len(shape) < 3 or not itemsize:
        raise UnreadableFramesError(
            f"Array {reference.path!r} in Tiled: got shape {shape} and dtype {dtype}; expected "
            "frames, real numbers of shape (n, rows, cols)."
        )
    *leading, rows, cols = shape
    per_index = math.prod(leading[1:])  # frames of one step along the first axis
    if position >= leading[0] * per_index:
        raise EOFError(f"the array holds {leading[0] * per_index} frames")
    step = max(1, int(max_bytes // max(1, per_index * rows * cols * itemsize)))
    first = position // per_index
    last = min(first + step, -(-reference.stop // per_index), leading[0])
    values = array[first:last]
    values = events_of(values) if is_sparse(values) else values.reshape(-1, rows, cols)
    block = values[position - first * per_index : reference.stop - first * per_index]
    if not len(block):
        raise EOFError("the server sent no frames")
    return block
