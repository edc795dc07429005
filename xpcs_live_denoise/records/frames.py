"""References to frames, and where pixels are."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from .types import Array, Fields, IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineFrames:
    """Frames that a document carried itself.

    Attributes
    ----------
    frames
        Shape (k, rows, cols), any real dtype. Shared with the document: whoever keeps it copies.
    """

    frames: Array

    @property
    def n_frames(self) -> int:
        """Number of frames behind this reference."""
        return self.frames.shape[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class HDF5Frames:
    """Frames that lie in an HDF5 dataset, possibly still being written (SWMR).

    Attributes
    ----------
    path, dataset
        Local path of the file and name of the dataset in it, whose shape is (n, rows, cols).
    start, stop
        Frames [start, stop) of the dataset.
    swmr
        Whether the writer still has the file open in SWMR mode.
    n_thresholds
        Of each frame there are so many, one for each threshold; None: one.
    """

    path: str
    dataset: str
    start: int
    stop: int
    swmr: bool = True
    n_thresholds: int | None = None

    @property
    def n_frames(self) -> int:
        """Number of frames behind this reference."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class EigerFrames:
    """Frames of one DECTRIS series: `<prefix>_<sequence_id>_master.h5` and its data files.

    Attributes
    ----------
    prefix
        Path of the files up to, without, "_<sequence_id>".
    sequence_id
        Number of the series, as the detector counts them.
    start, stop
        Frames [start, stop) of the series; stop None: as many as the files hold.
    images_per_file
        Frames of a full data file, where a document or the device tells.
    open_ended
        Whether the frames go on behind `stop` if the master file says so: where a series has
        several triggers, documents tell the frames of one.
    """

    prefix: str
    sequence_id: int
    start: int
    stop: int | None
    images_per_file: int | None = None
    open_ended: bool = False

    @property
    def series(self) -> str:
        """What names the series: path without "_master.h5"."""
        return f"{self.prefix}_{self.sequence_id}"

    @property
    def n_frames(self) -> int:
        """Number of frames behind this reference, as far as documents know."""
        return 0 if self.stop is None else self.stop - self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetFrames:
    """Frames of one legacy datum, read by the handler of its resource's spec.

    Attributes
    ----------
    resource, datum
        The two documents.
    n_frames
        Number of frames that the event should hold.
    n_thresholds
        Of each frame there are so many, one for each threshold; None: one.
    """

    resource: Fields
    datum: Fields
    n_frames: int
    n_thresholds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TiledFrames:
    """Frames of an array in Tiled.

    Attributes
    ----------
    path
        Keys from the client that reads them down to the array, "/" between them.
    start, stop
        Frames [start, stop).
    n_thresholds
        Of each frame there are so many, one for each threshold; None: one.
    """

    path: str
    start: int
    stop: int
    n_thresholds: int | None = None

    @property
    def n_frames(self) -> int:
        """Number of frames behind this reference."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingFrames:
    """Frames that were announced and cannot be had; they keep their place in the series.

    Attributes
    ----------
    n_frames
        How many.
    reason
        What was got, what was expected, and the remedy: one sentence.
    """

    n_frames: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseFrames:
    """Frames as their numbers other than 0. A slice of frames is one, too.

    Attributes
    ----------
    counts
        Shape (n,): what the pixels hold, frame by frame. A pixel that comes twice in a frame holds
        the sum.
    pixels
        Shape (n,): flat indices into the frame.
    starts
        Shape (k + 1,): frame j holds the events starts[j] to starts[j + 1] - 1.
    frame_shape
        (rows, cols).
    """

    counts: Array
    pixels: IntArray
    starts: IntArray
    frame_shape: tuple[int, int]

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.starts) - 1

    @property
    def nbytes(self) -> int:
        """Bytes that this holds on to."""
        return self.counts.nbytes + self.pixels.nbytes + self.starts.nbytes

    @property
    def frame_numbers(self) -> IntArray:
        """Shape (n,): the frame of each event, from 0."""
        return np.repeat(np.arange(len(self), dtype=np.int64), np.diff(self.starts))

    def __getitem__(self, which: slice) -> SparseFrames:
        first, stop, step = which.indices(len(self))
        stop = max(first, stop)
        low, high = int(self.starts[first]), int(self.starts[stop])
        counts, pixels = self.counts[low:high], self.pixels[low:high]
        starts = self.starts[first : stop + 1] - low
        if step > 1:
            lengths = np.diff(starts)
            wanted = np.arange(len(lengths)) % step == 0
            events = np.repeat(wanted, lengths)
            counts, pixels = counts[events], pixels[events]
            starts = np.concatenate([starts[:1], np.cumsum(lengths[wanted])])
        return dataclasses.replace(self, counts=counts, pixels=pixels, starts=starts)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoiPixels:
    """Frames that were read, as far as the analysis needs them.

    Attributes
    ----------
    pixels
        Shape (k, n_pixels): of every frame the pixels of the ROIs, as `RoiMap.gather` gives them.
    whole
        Shape (m, rows, cols): those of the frames that are there whole, for the picture of the
        detector; None where that gets its frames another way.
    """

    pixels: Array
    whole: Array | SparseFrames | None = None

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.pixels)

    @property
    def n_bytes(self) -> int:
        """Bytes that this holds on to."""
        return self.pixels.nbytes + (0 if self.whole is None else self.whole.nbytes)

    def after(self, n_frames: int) -> RoiPixels:
        """Return what follows the first frames; of the whole ones all."""
        return dataclasses.replace(self, pixels=self.pixels[n_frames:])


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOver:
    """What was read of a run so far is not of it; the references that follow are, from frame 0 on.

    Attributes
    ----------
    reason
        Which frames are left out and why: one sentence.
    """

    reason: str


FrameReference: TypeAlias = (
    InlineFrames | HDF5Frames | EigerFrames | AssetFrames | TiledFrames | MissingFrames
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """What is needed to give a pixel its q. A field that is unknown is None.

    Attributes
    ----------
    beam_center
        (row, col) in pixels.
    wavelength_angstrom, detector_distance_m, pixel_size_m
        X-ray wavelength, sample to detector, edge of a (square) pixel.
    """

    beam_center: tuple[float, float] | None = None
    wavelength_angstrom: float | None = None
    detector_distance_m: float | None = None
    pixel_size_m: float | None = None

    def completed(self, other: Geometry) -> Geometry:
        """Return this geometry, with what it does not tell taken from another."""
        mine = dataclasses.asdict(self)
        known = {name: value for name, value in mine.items() if value is not None}
        return dataclasses.replace(other, **known)
