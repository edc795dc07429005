"""What is kept of frames that are read: the pixels of the ROIs, and some frames whole."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
from collections.abc import Generator, Sequence
from typing import Any, overload

import h5py
import numpy as np

from xpcs_live_denoise.errors import text_of
from xpcs_live_denoise.numerics import bslz4
from xpcs_live_denoise.numerics.rois import REAL_NUMBERS, RoiMap
from xpcs_live_denoise.numerics.threads import spread
from xpcs_live_denoise.records.frames import MissingFrames, RoiPixels, SparseFrames
from xpcs_live_denoise.records.types import Array, IntArray

from .reading_thread import read_ahead
from .sparse_frames import events_of, is_sparse
from .virtual import parts_of

# Of so many frames one is read whole, where that costs extra.
WHOLE_EVERY = 100
# Frames that are read at once where only blocks of them are decompressed.
MOST_AT_ONCE = 64
MOST_IN_CHUNK = 16  # frames of a chunk; of larger ones everything is decompressed at once
BITSHUFFLE, LZ4 = 32008, 2  # HDF5's number of the filter, and the filter's of the compression
PAGE = 4096  # bytes that a file system writes at once


class DamagedChunkError(OSError):
    """A chunk of a dataset that is in the file and cannot be decompressed.

    `n_frames` is how many of the wanted frames it holds, `may_come` whether it looks as if it was
    not written to its end yet.
    """

    def __init__(self, reason: str, *, n_frames: int, may_come: bool) -> None:
        super().__init__(reason)
        self.n_frames = n_frames
        self.may_come = may_come

    def sentence(self, subject: str, first: int) -> str:
        """Return what to say of the frames, of which the first one has that number."""
        last = first + self.n_frames - 1
        frames = f"frame {first}" if last == first else f"frames {first}-{last}"
        return (
            f"{subject}: {frames}: the chunk cannot be decompressed "
            f"({str(self)[:300].rstrip('.')}). These frames are gaps; copy the file anew, or check "
            "the disk."
        )


class RoiSelection:
    """The pixels of ROIs of the frames of one run, in the order in which they are read.

    Of frames in memory all stay whole beside their pixels. Of chunks compressed by bitshuffle and
    LZ4 only the blocks that hold ROI pixels are decompressed, and few frames are whole: it counts
    the frames to know which. Used by one thread at a time.

    `rois` are in the orientation of the frames.
    """

    def __init__(self, rois: RoiMap) -> None:
        self._rois = rois
        self._n_frames = 0
        # By number in the chunk, frames in it, dtype, and whether the frame is wanted whole.
        self._elements: dict[tuple[int, int, np.dtype[Any], bool], bslz4.WantedElements] = {}

    @property
    def frame_shape(self) -> tuple[int, int]:
        """The shape of a frame, (rows, cols)."""
        return self._rois.shape

    def of_frames(self, frames: Array | SparseFrames) -> RoiPixels:
        """Return the ROI pixels of frames (k, rows, cols); raises as `RoiMap.gather`."""
        self._n_frames += len(frames)
        if not isinstance(frames, SparseFrames):
            return RoiPixels(pixels=self._rois.gather(frames), whole=frames)
        if frames.frame_shape != self._rois.shape:
            self._rois.gather(np.zeros((0, *frames.frame_shape)))  # says so
        place = self._places[frames.pixels]
        inside = place >= 0
        pixels = np.zeros((len(frames), len(self._rois.pixels)), frames.counts.dtype)
        np.add.at(pixels, (frames.frame_numbers[inside], place[inside]), frames.counts[inside])
        return RoiPixels(pixels=pixels, whole=frames)

    def of_dataset(self, dataset: h5py.Dataset, frames: range, place: tuple[int, ...]) -> RoiPixels:
        """Return the ROI pixels of frames of a dataset, at least of the first one.

        `place` is the index behind that of the frame, where there is one. An OSError where the
        first frame cannot be decompressed; a FrameShapeError as `RoiMap.gather`.
        """
        if not self.takes_blocks(dataset):
            return self.of_frames(_whole(dataset, frames, place))
        shape, n_pixels = self._rois.shape, len(self._rois.pixels)
        is_whole = [_is_whole(self._n_frames + k) for k in range(len(frames))]
        n_whole = list(itertools.accumulate(is_whole, initial=0))  # before each frame
        pixels = np.empty((len(frames), n_pixels), dataset.dtype)
        whole = np.empty((n_whole[-1], *shape), dataset.dtype)

        def read(shared: Sequence[int]) -> Exception | None:
            """Read the frames of a chunk, by their places among all; return what was raised."""
            rows = [(pixels[k], whole[n_whole[k]] if is_whole[k] else None) for k in shared]
            try:
                self._read_chunk(dataset, [(frames[k], *place) for k in shared], rows)
            except (OSError, ValueError) as error:
                return error
            return None

        chunks = _by_chunk(dataset, frames)
        faults = zip(chunks, spread(read, chunks), strict=True)
        n_done, fault = next(
            ((shared[0], fault) for shared, fault in faults if fault), (len(frames), None)
        )
        if not n_done:
            raise OSError(str(fault)) from fault
        self._n_frames += n_done
        pixels, whole = pixels[:n_done], whole[: n_whole[n_done]]
        return RoiPixels(pixels=pixels, whole=whole if len(whole) else None)

    def takes_blocks(self, dataset: h5py.Dataset) -> bool:
        """Whether single blocks of the chunks of a dataset are decompressed."""
        return (
            _chunk(dataset)[-2:] == dataset.shape[-2:] == self._rois.shape
            and _frames_in_chunk(dataset) <= MOST_IN_CHUNK
            and dataset.dtype.kind in REAL_NUMBERS
            and dataset.dtype.itemsize in bslz4.ITEMSIZES
            and not dataset.is_virtual
            and _is_bslz4(dataset)
        )

    def frame_bytes(self, dataset: h5py.Dataset) -> int:
        """Return the bytes of a frame, on average, where it takes blocks."""
        rows, cols = self._rois.shape
        n_numbers = len(self._rois.pixels) + rows * cols / WHOLE_EVERY
        return math.ceil(n_numbers * dataset.dtype.itemsize)

    # --- the steps -------------------------------------------------------------------------

    @functools.cached_property
    def _places(self) -> IntArray:
        """Where each pixel of the detector stands among those of the ROIs, -1: in none."""
        places: IntArray = np.full(math.prod(self._rois.shape), -1, np.int64)
        places[self._rois.pixels] = np.arange(len(self._rois.pixels))
        return places

    def _read_chunk(
        self,
        dataset: h5py.Dataset,
        indices: Sequence[tuple[int, ...]],
        rows: Sequence[tuple[Array, Array | None]],
    ) -> None:
        """Read frames that share a chunk: ROI pixels and, where it is wanted, all of each."""
        sizes = _chunk(dataset)[:-2]
        at = tuple(i // size * size for i, size in zip(indices[0], sizes, strict=True))
        filters_left_out, chunk = dataset.id.read_direct_chunk((*at, 0, 0))
        for index, (pixels, whole) in zip(indices, rows, strict=True):
            if filters_left_out:
                frame = dataset[index]
                if whole is not None:
                    whole[:] = frame
            else:
                within = int(np.ravel_multi_index(np.subtract(index, at), sizes))
                wanted = self._wanted(dataset, within, whole=whole is not None)
                wanted.take_into(chunk, pixels if whole is None else whole.reshape(-1))
                frame = whole
            if frame is not None:
                np.take(frame, self._rois.pixels, out=pixels, mode="clip")

    def _wanted(self, dataset: h5py.Dataset, frame: int, *, whole: bool) -> bslz4.WantedElements:
        """Return the elements of a chunk that are wanted of its `frame`-th frame."""
        n_frames, n_pixels = _frames_in_chunk(dataset), math.prod(self._rois.shape)
        key = (frame, n_frames, dataset.dtype, whole)
        if key not in self._elements:
            first = frame * n_pixels
            wanted = range(first, first + n_pixels) if whole else self._rois.pixels + first
            self._elements[key] = bslz4.WantedElements(wanted, n_frames * n_pixels, dataset.dtype)
        return self._elements[key]


def _is_whole(number: int) -> bool:
    """Whether the frame of that number is read whole although it costs extra.

    That is one in WHOLE_EVERY, and those numbered 1, 4, 16, 64 ... for a picture soon.
    """
    of_four = number & (number - 1) == 0 and number.bit_length() % 2 == 1
    return number % WHOLE_EVERY == 0 or of_four


@overload
def read_frames(
    dataset: h5py.Dataset, frames: range, place: tuple[int, ...], selection: RoiSelection
) -> RoiPixels: ...


@overload
def read_frames(
    dataset: h5py.Dataset,
    frames: range,
    place: tuple[int, ...] = (),
    selection: RoiSelection | None = None,
) -> Array | RoiPixels: ...


def read_frames(
    dataset: h5py.Dataset,
    frames: range,
    place: tuple[int, ...] = (),
    selection: RoiSelection | None = None,
) -> Array | RoiPixels:
    """Return frames of a dataset, at least the first; without a selection whole.

    `place` is the index behind that of the frame, where there is one. A DamagedChunkError where the
    chunk of the first frame cannot be decompressed.
    """
    while True:
        try:
            if selection is None:
                return _whole(dataset, frames, place)
            return selection.of_dataset(dataset, frames, place)
        except OSError as error:
            if dataset.chunks is None or dataset.is_virtual:
                raise
            size = _chunk(dataset)[0]
            n_first = sum(frame // size == frames[0] // size for frame in frames)
            if len(frames) <= n_first:
                may_come = _has_holes(dataset, frames[0])
                raise DamagedChunkError(
                    str(error), n_frames=len(frames), may_come=may_come
                ) from error
        frames = frames[: max(n_first, len(frames) // 2)]  # what lies before it is good


def select_frames(
    frames: Any, max_bytes: int, selection: RoiSelection, place: tuple[int, ...] = ()
) -> Generator[RoiPixels | MissingFrames, None, None]:
    """Yield the ROI pixels of frames (n, rows, cols) that are there, in blocks.

    Of frames (n, thresholds, rows, cols) `place` is the index of the threshold.

    `frames` are an array, a sparse one (also (n, rows * cols)), a dataset of HDF5, or anything with
    `shape`, `dtype` and slices along its first axis. Whole frames of a block have at most
    `max_bytes`, but one. A dataset is read ahead; its damaged chunks are missing frames. Raises as
    `RoiMap.gather`.
    """
    if is_sparse(frames):
        events = events_of(frames, selection.frame_shape)
        for start in range(0, len(events), MOST_AT_ONCE):
            yield selection.of_frames(events[start : start + MOST_AT_ONCE])
        return
    if isinstance(frames, h5py.Dataset):
        yield from read_ahead(_select_of_dataset(frames, max_bytes, selection, place))
        return
    frame_bytes = math.prod(frames.shape[1:]) * frames.dtype.itemsize
    k = max(1, max_bytes // max(1, frame_bytes))
    for start in range(0, len(frames), k):
        yield selection.of_frames(np.asarray(frames[start : start + k])[:, *place])


def _select_of_dataset(
    dataset: h5py.Dataset, max_bytes: int, selection: RoiSelection, place: tuple[int, ...]
) -> Generator[RoiPixels | MissingFrames, None, None]:
    """Yield as `select_frames`, of a virtual dataset part by part."""
    parts = parts_of(dataset)
    for part in parts:
        here = range(part.start, part.stop)
        with contextlib.ExitStack() as stack:
            try:
                source, there = stack.enter_context(part.source(dataset, here))
            except (OSError, KeyError) as error:
                yield _missing(dataset, here, f"{part} cannot be read ({text_of(error, 200)})")
                continue
            held = range(there.start, max(there.start, min(there.stop, len(source))))
            yield from _select_of_plain(source, held, max_bytes, selection, place)
            if len(held) < len(here):
                why = f"{part} holds {len(source)} frames"
                yield _missing(dataset, here[len(held) :], why)
    if not parts:
        yield from _select_of_plain(dataset, range(len(dataset)), max_bytes, selection, place)


def _missing(dataset: h5py.Dataset, frames: range, why: str) -> MissingFrames:
    subject = f"{dataset.file.filename}, dataset {dataset.name!r}"
    reason = f"{subject}: frames [{frames.start}, {frames.stop}) are not there: {why}"
    return MissingFrames(n_frames=len(frames), reason=reason)


def _select_of_plain(
    dataset: h5py.Dataset,
    frames: range,
    max_bytes: int,
    selection: RoiSelection,
    place: tuple[int, ...],
) -> Generator[RoiPixels | MissingFrames, None, None]:
    start = frames.start
    while start < frames.stop:
        stop = block_end(dataset, start, frames.stop, max_bytes, selection)
        try:
            block = read_frames(dataset, range(start, stop), place, selection)
        except DamagedChunkError as error:
            reason = error.sentence(f"{dataset.file.filename}, dataset {dataset.name!r}", start)
            yield MissingFrames(n_frames=error.n_frames, reason=reason)
            start += error.n_frames
        else:
            start += len(block)
            yield block


def block_end(
    dataset: h5py.Dataset,
    position: int,
    stop: int,
    max_bytes: int,
    selection: RoiSelection | None = None,
) -> int:
    """Return where a block of at most `max_bytes` ends, if possible at the end of a chunk."""
    rows, cols = dataset.shape[-2:]
    n = max(1, max_bytes // max(1, rows * cols * dataset.dtype.itemsize))
    if selection is not None and selection.takes_blocks(dataset):
        n = max(n, min(MOST_AT_ONCE, max_bytes // selection.frame_bytes(dataset)))
    end = min(stop, position + n)
    frames_per_chunk = dataset.chunks[0] if dataset.chunks else 1
    aligned = end // frames_per_chunk * frames_per_chunk
    # A compressed chunk that is read in two parts is decompressed twice.
    return aligned if end < stop and aligned > position else end


def _whole(dataset: h5py.Dataset, frames: range, place: tuple[int, ...]) -> Array:
    return dataset[(slice(frames.start, frames.stop, frames.step), *place)]


def _by_chunk(dataset: h5py.Dataset, frames: range) -> list[list[int]]:
    """Return the places in `frames` of those that share a chunk."""
    size = _chunk(dataset)[0]
    places = itertools.groupby(range(len(frames)), lambda k: frames[k] // size)
    return [list(shared) for _, shared in places]


def _frames_in_chunk(dataset: h5py.Dataset) -> int:
    return math.prod(_chunk(dataset)[:-2])


def _chunk(dataset: h5py.Dataset) -> tuple[int, ...]:
    """Return the shape of a chunk, () where there are none."""
    return dataset.chunks or ()


def _is_bslz4(dataset: h5py.Dataset) -> bool:
    """Whether bitshuffle with LZ4 is the one filter of a dataset."""
    properties = dataset.id.get_create_plist()
    if properties.get_nfilters() != 1:
        return False
    number, _, values, _ = properties.get_filter(0)
    return number == BITSHUFFLE and len(values) > 4 and values[4] == LZ4


def _has_holes(dataset: h5py.Dataset, frame: int) -> bool:
    """Whether a chunk of a frame has a page of zeros, as a file that is not copied to its end."""
    sizes = _chunk(dataset)
    corners = (range(0, n, size) for n, size in zip(dataset.shape[1:], sizes[1:], strict=True))
    for corner in itertools.product((frame // sizes[0] * sizes[0],), *corners):
        raw = np.frombuffer(dataset.id.read_direct_chunk(corner)[1], np.uint8)
        page = min(PAGE, len(raw)) or 1
        if not raw[: len(raw) // page * page].reshape(-1, page).any(axis=1).all():
            return True
    return False
